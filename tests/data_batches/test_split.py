"""Splits: exact counts, stratified, disjoint, a function of the seed."""

from fractions import Fraction

import numpy as np
import pytest

from residuum.data.split import split
from residuum.errors import InputError

UNEVEN = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [500, 301, 150, 46]))


@pytest.mark.parametrize(
    ("subset", "validation", "kept", "held"),
    [
        (0, 0, 997, 0),
        (0, 0.1, 997, 100),
        (0, 5, 997, 5),
        (300, 0.15, 300, 45),
        (0.5, 0.5, 498, 249),
        (0, 996, 997, 996),
    ],
)
def test_counts_are_exact_and_the_parts_sorted_and_disjoint(subset, validation, kept, held):
    train, valid = split(UNEVEN, subset=subset, validation=validation, seed=1)
    assert (len(train) + len(valid), len(valid)) == (kept, held)
    assert train.dtype == valid.dtype == np.int64
    both = np.concatenate([train, valid])
    assert len(np.unique(both)) == kept
    assert both.min() >= 0
    assert both.max() < len(UNEVEN)
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(valid) > 0)


@pytest.mark.parametrize("count", [4, 50, 99, 100, 333, 996])
def test_classes_are_held_out_by_largest_remainder(count):
    _, valid = split(UNEVEN, subset=0, validation=count, seed=3)
    quotas = [Fraction(int(size) * count, len(UNEVEN)) for size in np.bincount(UNEVEN)]
    expected = [int(quota) for quota in quotas]
    for label in sorted(range(4), key=lambda label: (int(quotas[label]) - quotas[label], label)):
        if sum(expected) < count:
            expected[label] += 1
    assert np.bincount(UNEVEN[valid], minlength=4).tolist() == expected


def test_cifar_sizes_give_equal_classes():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))
    train, valid = split(labels, subset=0, validation=0.1, seed=0)
    assert np.bincount(labels[valid]).tolist() == [500] * 10
    assert len(train) == 45_000


def test_the_split_is_a_function_of_its_seed_alone():
    first, again, other = (split(UNEVEN, subset=0.6, validation=0.2, seed=seed) for seed in (7, 7, 8))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


def test_every_image_of_a_class_is_equally_likely_to_be_held_out():
    labels = np.repeat([0, 1], 20)
    held = np.zeros(40)
    for seed in range(400):
        held[split(labels, subset=0, validation=10, seed=seed)[1]] += 1
    assert held.sum() == 4000
    assert np.all(np.abs(held - 100) < 4.5 * np.sqrt(400 * 0.25 * 0.75))


def test_held_out_images_come_from_the_subset():
    kept, _ = split(UNEVEN, subset=200, validation=0, seed=5)
    train, valid = split(UNEVEN, subset=200, validation=0.25, seed=5)
    assert np.array_equal(np.sort(np.concatenate([train, valid])), kept)


@pytest.mark.parametrize(
    ("subset", "validation", "says"),
    [
        (998, 0, "data.subset: 998 means 998 of 997 images"),
        (0, 998, "data.validation: 998 means 998 of 997 images"),
        (0, 997, "data.validation: 997 holds out all 997 images; nothing is left to train on"),
        (10, 0.99, "data.validation: 0.99 holds out all 10 images"),
        (10, 0.01, "data.validation: 0.01 means 0 of 10 images"),
        (0.0001, 0, "data.subset: 0.0001 means 0 of 997 images"),
        (1.0, 0, "data.subset: 1.0 is neither a count nor a share below 1; a count is written 1"),
        (0, 500.0, "data.validation: 500.0 is neither a count nor a share below 1; a count is written 500"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(subset, validation, says):
    with pytest.raises(InputError) as caught:
        split(UNEVEN, subset=subset, validation=validation, seed=0)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)

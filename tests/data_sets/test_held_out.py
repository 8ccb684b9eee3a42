"""Guard 18: what is held out decides nothing that training sees."""

import numpy as np
import pytest

from residuum.config import RunConfig, identity
from residuum.data.dataset import Dataset, Split
from residuum.data.normalize import NORMALIZERS, channel_statistics
from residuum.run import assemble

BASE = {
    "data.dataset": {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 4},
    "data.validation": 20,
    "compute.threads": 1,
}


def spoilt(data: assemble.Data) -> Dataset:
    """The data set with other pixels in the images that are held out and in those of the test set."""
    images_NCHW = data.dataset.train.images_NCHW.copy()
    images_NCHW[data.validation_N] = 255 - images_NCHW[data.validation_N] // 3
    test = Split(255 - data.dataset.test.images_NCHW, data.dataset.test.labels_N)
    return Dataset.of("synthetic", data.dataset.classes, Split(images_NCHW, data.dataset.train.labels_N), test)


@pytest.mark.parametrize("name", [*NORMALIZERS])
@pytest.mark.parametrize("settings", [{}, {"data.subset": 30}, {"data.validation": 0.25}], ids=str)
def test_normalisation_never_sees_held_out_or_test_images(name, settings):
    config = RunConfig().changed(BASE | settings | {"data.normalize": name})
    _, data = assemble.resolve(config)
    assert len(data.validation_N) > 0
    _, other = assemble.resolve(config, spoilt(data))
    assert np.array_equal(other.train_N, data.train_N)
    assert other.normalization == data.normalization


def brought(count=12, **settings) -> tuple[RunConfig, Dataset]:
    """A configuration, and a data set that brings a validation split of its own."""
    config = RunConfig().changed({**BASE, **settings})
    _, data = assemble.resolve(config)
    own = data.dataset
    validation = Split(own.train.images_NCHW[:count] // 2 + 90, own.train.labels_N[:count])
    return config, Dataset.of("synthetic", own.classes, own.train, own.test, validation)


@pytest.mark.parametrize("asked", [0, 20, 0.25])
def test_a_validation_split_that_the_data_bring_is_the_one_in_use(asked):
    config, dataset = brought(**{"data.validation": asked})
    resolved, data = assemble.resolve(config, dataset)
    assert (len(data.train_N), len(data.validation_N), data.held_out) == (60, 0, 12)
    assert data.validation is dataset.validation
    assert data.facts.validation == 12
    assert resolved.data.validation == 12  # the same run, whatever was asked
    again, _ = assemble.resolve(resolved, dataset)
    assert identity(again) == identity(resolved)
    assert data.normalization.mean == channel_statistics(dataset.train.images_NCHW)[0]
    assert len(assemble.resolve(config.changed({"data.subset": 30}), dataset)[1].train_N) == 30


@pytest.mark.parametrize("name", [*NORMALIZERS])
def test_normalisation_never_sees_a_validation_split_that_the_data_bring(name):
    config, dataset = brought(**{"data.normalize": name})
    other = Split(255 - dataset.validation.images_NCHW, dataset.validation.labels_N)
    spoilt = Dataset.of("synthetic", dataset.classes, dataset.train, dataset.test, other)
    assert spoilt.fingerprint != dataset.fingerprint
    assert assemble.resolve(config, spoilt)[1].normalization == assemble.resolve(config, dataset)[1].normalization


def test_the_validation_split_is_part_of_the_fingerprint_only_where_it_is_there():
    _, dataset = brought()
    without = Dataset.of("synthetic", dataset.classes, dataset.train, dataset.test)
    assert without.fingerprint == assemble.resolve(RunConfig().changed(BASE))[1].dataset.fingerprint
    assert without.fingerprint != dataset.fingerprint


def test_the_statistics_are_those_of_the_images_in_use_and_of_no_others():
    """The value, not only that it stays: of the training images that are left, which are not those of all."""
    _, data = assemble.resolve(RunConfig().changed(BASE | {"data.subset": 40}))
    mean, std = channel_statistics(data.dataset.train.images_NCHW[data.train_N])
    assert (data.normalization.mean, data.normalization.std) == (mean, std)
    assert data.normalization.mean != channel_statistics(data.dataset.train.images_NCHW)[0]
    assert len(data.train_N) == 20

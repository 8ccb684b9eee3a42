"""Layers over depth: profiles over seeds, the range that holds nearly all values, and which layers are looked at."""

import numpy as np
import pytest

from residuum.analysis.depth import MASS, outer, profile, tensors
from residuum.errors import InputError
from residuum.records.layers import BINS, Histograms


def test_points_of_deep_networks_are_means_over_whole_blocks_and_the_ends_stand_alone():
    zigzag_L = np.array([7.0, *[1.0, 3.0] * 54, 9.0])
    found = profile([zigzag_L, zigzag_L + 1], grouped=True)
    assert found.depth == 110
    np.testing.assert_allclose(found.at_P[[0, 1, -1]], [1, 3.5, 110])
    assert (found.median_P[0], found.median_P[-1]) == (7.5, 9.5)
    np.testing.assert_allclose(found.median_P[1:-1], 2.5)
    np.testing.assert_allclose((found.high_P - found.low_P), 1)
    assert len(profile([zigzag_L], grouped=True).at_P) == 2 + 27
    shallow = profile([zigzag_L[:20]], grouped=True)
    np.testing.assert_array_equal(shallow.median_P, zigzag_L[:20])
    np.testing.assert_array_equal(profile([zigzag_L]).median_P, zigzag_L)
    assert np.isnan(profile([np.where(zigzag_L == 9, np.nan, zigzag_L)], grouped=True).median_P[-1])


def test_a_profile_is_the_median_between_the_smallest_and_the_largest():
    found = profile([np.array([1.0, 0.0, 5.0]), np.array([3.0, 2.0, 5.0]), np.array([8.0, 4.0, np.nan])])
    assert found.n == 3
    np.testing.assert_array_equal(found.median_P, [3, 2, np.nan])
    np.testing.assert_array_equal(found.low_P, [1, 0, np.nan])
    np.testing.assert_array_equal(found.high_P, [8, 4, np.nan])


@pytest.mark.parametrize("seed", range(5))
def test_nearly_all_values_lie_within_the_outer_ones(seed):
    """The slow twin counts the values themselves; the ends are those of bins, so up to a bin more lies between."""
    source = np.random.default_rng(seed)
    values_N = np.concatenate([source.standard_normal(20_000), source.uniform(-60, 60, 5)])
    counts_B, edges_E = np.histogram(values_N, BINS)
    one = Histograms(("a",), counts_B[None].astype(np.int32), edges_E[:1], edges_E[-1:], np.zeros(1), np.ones(1))
    (low,), (high,) = outer(one)
    inside = np.mean((low <= values_N) & (values_N <= high))
    width = edges_E[1] - edges_E[0]
    assert inside >= MASS
    for narrower in ((low + 1.001 * width, high), (low, high - 1.001 * width)):
        below, above = np.mean(values_N < narrower[0]), np.mean(values_N > narrower[1])
        assert max(below, above) > (1 - MASS) / 2, "a bin less at either end would cut off more than its tail"


def test_outer_values_of_a_constant_tensor_are_that_value():
    counts_TB = np.zeros((1, BINS), np.int32)
    counts_TB[0, BINS // 2] = 16
    same = np.array([2.5])
    assert [float(end[0]) for end in outer(Histograms(("a",), counts_TB, same, same, same, 0 * same))] == [2.5, 2.5]


PARAMETERS = (
    "conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.conv2.weight",
    "layer1.1.conv1.weight", "layer1.1.conv2.weight", "layer1.1.bn2.bias", "layer2.0.conv1.weight",
    "layer2.0.conv2.weight", "layer2.0.shortcut.0.weight", "layer2.0.shortcut.1.weight", "linear.weight", "linear.bias",
)  # fmt: skip


def test_the_usual_layers_are_the_first_and_last_of_each_stage():
    assert tensors(PARAMETERS) == (
        "conv1.weight", "layer1.0.conv1.weight", "layer1.1.conv2.weight", "layer2.0.conv1.weight",
        "layer2.0.conv2.weight", "linear.weight",
    )  # fmt: skip
    activations = ("act", "layer1.0.act", "layer1.0.act2", "layer1.1.act", "layer2.0.act", "last_act")
    assert tensors(activations) == ("act", "layer1.0.act", "layer1.1.act", "layer2.0.act", "last_act")
    assert tensors(()) == ()


def test_layers_are_chosen_by_name_and_a_wrong_name_gets_the_nearest():
    assert tensors(PARAMETERS, ["linear", "layer1.0.bn1", "bn1.bias", "linear.weight"]) == (
        "linear.weight", "layer1.0.bn1.weight", "bn1.bias",
    )  # fmt: skip
    assert tensors(PARAMETERS, ["layer1", "conv1"]) == (
        "layer1.0.conv1.weight", "layer1.0.conv2.weight", "layer1.1.conv1.weight", "layer1.1.conv2.weight", "conv1.weight",
    )  # fmt: skip
    with pytest.raises(InputError, match=r"unknown layer 'layer3'; did you mean 'layer[12]'"):
        tensors(PARAMETERS, ["layer3"])
    with pytest.raises(InputError, match=r"'layer1\.0\.conv3'.*did you mean 'layer1\.0\.conv[12]'"):
        tensors(PARAMETERS, ["layer1.0.conv3"])

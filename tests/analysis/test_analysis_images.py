import itertools
import math

import numpy as np
import pytest
from scipy import stats

from residuum.analysis.images import mcnemar
from residuum.errors import InputError


def runs(both, first, second, none):
    right = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, first, second, none], axis=0).astype(bool)
    shuffled = np.random.default_rng(0).permutation(right)
    return shuffled[:, 0], shuffled[:, 1]


@pytest.mark.parametrize("counts", [(9000, 300, 350, 350), (5, 6, 1, 0), (1, 0, 7, 2), (10, 0, 0, 3)])
def test_images_are_counted_and_p_is_the_exact_binomial(counts):
    found = mcnemar(*runs(*counts))
    assert (found.both_right, found.only_first_right, found.only_second_right, found.both_wrong) == counts
    discordant = counts[1] + counts[2]
    assert found.p == pytest.approx(stats.binomtest(counts[1], discordant).pvalue if discordant else 1.0)
    assert found.difference == pytest.approx(100 * (counts[1] - counts[2]) / sum(counts))
    assert found.low <= found.difference <= found.high


def test_the_interval_is_agresti_and_mins():
    # Half an image is added to each cell: 100 + 2 images, 21 discordant.
    found = mcnemar(*runs(70, 15, 5, 10))
    error = math.sqrt((15.5 + 5.5) - (15.5 - 5.5) ** 2 / 102) / 102
    assert (found.low, found.high) == pytest.approx((100 * (10 / 102 - 1.959964 * error),
                                                     100 * (10 / 102 + 1.959964 * error)), abs=1e-4)  # fmt: skip


def test_swapping_the_runs_mirrors_the_result():
    one, two = runs(50, 9, 3, 4)
    there, back = mcnemar(one, two), mcnemar(two, one)
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low))
    assert back.p == there.p


@pytest.mark.parametrize("n", [10, 25])
def test_the_interval_covers_the_true_difference_as_often_as_it_says(n):
    counts = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    intervals = {(b, c): mcnemar(*runs(n - b - c, b, c, 0)) for b, c in counts}
    coverage = []
    for p, q in itertools.product(np.arange(0.02, 0.5, 0.06), repeat=2):
        true = 100 * (p - q)
        mass = stats.multinomial.pmf([(b, c, n - b - c) for b, c in counts], n, [p, q, 1 - p - q])
        covered = [intervals[one].low <= true <= intervals[one].high for one in counts]
        coverage.append(float(mass @ np.array(covered)))
    assert np.mean(coverage) == pytest.approx(0.955, abs=0.015)
    assert min(coverage) > 0.89


def test_runs_on_other_images_cannot_be_compared():
    with pytest.raises(InputError, match="3 and 2 images"):
        mcnemar(np.ones(3, bool), np.ones(2, bool))
    with pytest.raises(InputError, match="0 and 0 images"):
        mcnemar(np.ones(0, bool), np.ones(0, bool))

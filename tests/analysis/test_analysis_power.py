import itertools
import math

import numpy as np
import pytest
from analysis_arms import arm
from scipy import stats

from residuum.analysis.compare import compare
from residuum.analysis.power import achieved, detectable, seeds_needed, spend, spread
from residuum.errors import InputError


@pytest.mark.parametrize(
    ("effect", "paired", "seeds"),
    [(0.2, False, 394), (0.5, False, 64), (0.8, False, 26), (0.5, True, 34), (0.2, True, 199)],
)
def test_seeds_are_those_of_cohens_tables(effect, paired, seeds):
    assert seeds_needed(1.0, effect, paired=paired) == seeds


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [2, 3, 5, 27])
def test_what_is_detectable_is_seen_with_that_power(n, paired):
    found = detectable(0.16, n, paired=paired, power=0.8)
    assert achieved(found, 0.16, n, paired=paired) == pytest.approx(0.8, abs=1e-9)
    # By the noncentral t of scipy.stats:
    df, shift = (n - 1, found / 0.16 * math.sqrt(n)) if paired else (2 * n - 2, found / 0.16 * math.sqrt(n / 2))
    critical = stats.t.ppf(0.975, df)
    wrong_side = np.nan_to_num(stats.nct.cdf(-critical, df, shift))  # NaN for some that are next to nothing
    assert stats.nct.sf(critical, df, shift) + wrong_side == pytest.approx(0.8, abs=1e-6)
    assert seeds_needed(0.16, found * (1 + 1e-9), paired=paired) == n
    assert seeds_needed(0.16, found * (1 - 1e-6), paired=paired) == n + 1


def pooled(difference, sd, ratio, n):
    """Power with the degrees of freedom of Student's test, which is not the one that is made."""
    shift, critical = difference / (sd * math.sqrt((1 + ratio**2) / n)), stats.t.ppf(0.975, 2 * n - 2)
    return stats.nct.sf(critical, 2 * n - 2, shift)


def test_power_is_what_simulation_finds():
    random = np.random.default_rng(0)
    pairs = random.normal(0.3, 0.2, size=(20_000, 5))
    assert np.mean(stats.ttest_1samp(pairs, 0, axis=1).pvalue < 0.05) == pytest.approx(achieved(0.3, 0.2, 5), abs=0.01)
    one, two = random.normal(0.3, 0.2, size=(20_000, 4)), random.normal(0, 0.2, size=(20_000, 4))
    rate = np.mean(stats.ttest_ind(one, two, axis=1).pvalue < 0.05)
    assert rate == pytest.approx(achieved(0.3, 0.2, 4, paired=False), abs=0.01)
    one, two = random.normal(0.9, 0.2, size=(20_000, 4)), random.normal(0, 0.6, size=(20_000, 4))
    rate = np.mean(stats.ttest_ind(one, two, axis=1, equal_var=False).pvalue < 0.05)
    assert rate == pytest.approx(achieved(0.9, 0.2, 4, paired=False, ratio=3), abs=0.03)
    assert abs(rate - achieved(0.9, 0.2, 4, paired=False, ratio=3)) < abs(rate - pooled(0.9, 0.2, 3, 4))


def test_power_is_a_number_that_rises_with_the_difference():
    # scipy's far tail of the noncentral t is NaN at places among these.
    for n in (2, 3, 4, 6, 21, 201):
        rising = [achieved(step / 50, 1.0, n) for step in range(1000)]
        assert all(after >= before - 1e-5 for before, after in itertools.pairwise(rising))
        assert rising[-1] > 0.9


def test_without_any_difference_power_is_the_level():
    assert achieved(0.0, 1.0, 4, alpha=0.05) == pytest.approx(0.05)


def test_the_ends_of_power():
    assert detectable(0.16, 1) is None
    assert detectable(0.0, 3) == 0.0
    assert seeds_needed(0.0, 0.1) == 2
    assert seeds_needed(0.01, 100.0) == 2
    assert detectable(2.0, 4) == pytest.approx(2 * detectable(1.0, 4))
    for wrong in ((0.2, 0.0), (0.2, -1.0), (-0.1, 0.2), (1e6, 0.2)):
        with pytest.raises(InputError):
            seeds_needed(*wrong)


def test_spread_is_pooled_over_arms_and_over_pairs():
    one, two, three = arm("a", [1.0, 2.0, 3.0]), arm("b", [5.0, 9.0]), arm("c", [4.0])
    found = spread([one, two, three], [compare(one, two, paired=True), compare(one, three, paired=True)])
    assert found.sd == pytest.approx(math.sqrt((2 * 1 + 1 * 8) / 3))
    assert found.df == 3
    assert found.difference_sd == pytest.approx(stats.tstd([-4.0, -7.0]))
    assert found.difference_df == 1
    nothing = spread([three], [compare(one, two, paired=False)])
    assert (nothing.sd, nothing.df, nothing.difference_sd, nothing.difference_df) == (None, 0, None, 0)


@pytest.mark.parametrize("looks", [1, 2, 4, 7])
def test_the_looks_spend_all_of_the_error_and_little_of_it_early(looks):
    levels = [spend(look, looks, 0.1) for look in range(1, looks + 1)]
    assert math.fsum(levels) == pytest.approx(0.1)
    assert levels == sorted(levels)
    assert levels[0] == pytest.approx(0.1 / looks**3)
    for look in (0, looks + 1):
        with pytest.raises(InputError):
            spend(look, looks)


def test_looking_several_times_does_not_raise_the_rate_of_false_findings():
    runs = np.random.default_rng(1).normal(size=(20_000, 9))
    p = np.stack([stats.ttest_1samp(runs[:, :n], 0, axis=1).pvalue for n in (3, 5, 7, 9)])
    levels = np.array([[spend(look, 4)] for look in (1, 2, 3, 4)])
    spent, naive = np.mean((p < levels).any(axis=0)), np.mean((p < 0.05).any(axis=0))
    assert naive > 0.09  # what it would be without spending
    assert 0.03 < spent <= 0.05

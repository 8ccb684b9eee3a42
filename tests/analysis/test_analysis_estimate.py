import math

import pytest
from analysis_arms import arm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from residuum.analysis.aggregate import Value, summarize
from residuum.analysis.estimate import Estimate, deviation, of_difference, of_mean

NUMBERS = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=8)
SAMPLE = [8.75, 8.91, 8.62, 9.02, 8.4]
OTHER = [9.93, 9.1, 10.4]


@pytest.mark.parametrize("null", [0.0, 8.6, 9.5])
def test_a_mean_is_judged_as_scipy_does(null):
    ours, theirs = of_mean(SAMPLE), stats.ttest_1samp(SAMPLE, null)
    assert ours.p(null) == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.interval(0.9) == pytest.approx(tuple(theirs.confidence_interval(0.9)), rel=1e-12)
    assert ours.above(null) == pytest.approx(stats.ttest_1samp(SAMPLE, null, alternative="greater").pvalue, rel=1e-9)
    assert ours.below(null) == pytest.approx(stats.ttest_1samp(SAMPLE, null, alternative="less").pvalue, rel=1e-9)


def test_a_difference_of_means_is_judged_as_scipys_welch_test_does():
    ours, theirs = of_difference(SAMPLE, OTHER), stats.ttest_ind(SAMPLE, OTHER, equal_var=False)
    assert ours.p() == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.df == pytest.approx(theirs.df)
    assert ours.interval() == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-12)


def test_the_95_percent_interval_of_three_runs_is_the_textbooks():
    # t(2, 0.975) = 4.303: mean 2, sd 1, half-width 4.303 / sqrt 3.
    assert of_mean([1.0, 2.0, 3.0]).interval() == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)


def test_what_differs_by_rounding_alone_has_no_spread():
    thirds = [100 * (1 - share) - 100 * (1 - share - 0.0027) for share in (0.91, 0.4173, 0.0623)]
    assert len({*thirds}) > 1  # the case: one difference, three times rounded
    assert deviation(thirds, 90.0) == 0
    assert of_mean(thirds, 90.0) is None
    assert of_mean([4.0]) is None
    assert of_difference([1.0, 1.0], [2.0, 2.0]) is None
    assert of_difference([1.0], [2.0, 3.0]) is None
    assert of_difference([1.0, 1.0], [2.0, 3.0]) is not None


@given(NUMBERS, st.floats(-50, 50), st.floats(0.1, 10))
@settings(max_examples=50, deadline=None)
def test_intervals_shift_and_scale_with_the_numbers(numbers, shift, scale):
    assume(deviation(numbers) > 1e-2)
    low, high = of_mean(numbers).interval()
    moved = of_mean([shift + scale * number for number in numbers]).interval()
    assert moved == pytest.approx((shift + scale * low, shift + scale * high), rel=1e-6, abs=1e-6)


@given(st.floats(-5, 5), st.floats(0.1, 3), st.floats(1, 40), st.floats(0.5, 0.999))
@settings(max_examples=50, deadline=None)
def test_p_is_the_level_at_which_the_interval_ends(mean, error, df, level):
    estimate = Estimate(mean, error, df)
    low, high = estimate.interval(level)
    assert estimate.p(low) == pytest.approx(1 - level, rel=1e-6)
    assert estimate.p(high) == pytest.approx(1 - level, rel=1e-6)


def test_a_summary_counts_the_runs_that_have_a_finite_value():
    summary = arm("plain110", [70.0, None, math.inf, 80.0], ["finished", "failed", "finished", "finished"])
    assert (summary.n, summary.mean) == (2, 75.0)
    assert summary.sd == pytest.approx(math.sqrt(50))
    assert (summary.low, summary.high) == pytest.approx(
        stats.t.interval(0.95, 1, loc=75, scale=math.sqrt(50) / math.sqrt(2))
    )
    assert [(one.seed, one.status, one.value) for one in summary.values] == [
        (0, "finished", 70.0), (1, "failed", None), (2, "finished", None), (3, "finished", 80.0),
    ]  # fmt: skip
    assert summary.numbers == (70.0, 80.0)


def test_a_run_that_is_not_finished_has_no_value():
    for status in ("diverged", "failed", "running", "stopped", "missing"):
        assert summarize("a", "seconds", [Value(0, "x", status, 3.0)]).numbers == ()


def test_one_run_has_no_interval_and_none_no_mean():
    one, none = arm("a", [5.0]), arm("a", [None], ["missing"])
    assert (one.n, one.mean, one.sd, one.low, one.high) == (1, 5.0, None, None, None)
    assert (none.n, none.mean, none.sd, none.low, none.high) == (0, None, None, None, None)


def test_a_measure_that_never_varies_has_no_interval():
    summary = arm("a", [853018.0] * 3)
    assert (summary.sd, summary.low, summary.high) == (0.0, None, None)

import itertools
import math

import numpy as np
import pytest
from analysis_arms import arm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from residuum.analysis.claims import verdicts
from residuum.analysis.compare import compare, holm
from residuum.studies.study import Claim, Study, StudyError

PLAIN = [13.9, 14.6, 13.5, 14.9, 14.2]
RESIDUAL = [6.9, 7.4, 6.8, 7.0, 7.3]


def claim(expect, margin=0.0, measure="test_error"):
    return Claim(text=expect, expect=expect, margin=margin, measure=measure)


def judge(expects, arms, paired=True, level=0.95):
    """Verdicts on claims, given as text or (text, margin), about arms by name."""
    claims = [one if isinstance(one, Claim) else claim(*((one,) if isinstance(one, str) else one)) for one in expects]
    return verdicts(claims, lambda name, measure: arms[name], paired=paired, level=level)


def two(first, second, **more):
    return {"a": arm("a", first, **more), "b": arm("b", second, **more)}


def test_a_claim_is_judged_by_the_paired_t_interval():
    (found,) = judge(["plain56 > resnet56"], {"plain56": arm("plain56", PLAIN), "resnet56": arm("resnet56", RESIDUAL)})
    theirs = stats.ttest_rel(PLAIN, RESIDUAL)
    assert (found.verdict, found.n) == ("supported", 5)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-6)
    assert found.p_holm == found.p
    assert found.reason == "mean difference 7.14 points, 95 % interval 6.57 to 7.71, 5 pairs"


@pytest.mark.parametrize(("expect", "margin", "verdict"), [
    ("a > b", 0, "supported"), ("a > b", 6.5, "supported"), ("a > b", 7, "undecided"), ("a > b", 8, "contradicted"),
    ("a > b", -1, "supported"), ("a < b", 0, "contradicted"), ("a < b", -7, "undecided"), ("a < b", -8, "supported"),
    ("b < a", 6.5, "supported"), ("b < a", 8, "contradicted"), ("b > a", 0, "contradicted"), ("b > a", -8, "supported"),
    ("a = b", 8, "supported"), ("a = b", 7, "undecided"), ("a = b", 6, "contradicted"), ("b = a", 8, "supported"),
    ("a > 14", 0, "undecided"), ("a > 13", 0, "supported"), ("a < 13", 0, "contradicted"), ("a < 13", -3, "supported"),
    ("a = 14", 1, "supported"), ("a = 14", 0.6, "undecided"), ("a = 11", 1, "contradicted"),
])  # fmt: skip
def test_the_margin_is_on_the_side_that_the_operator_says(expect, margin, verdict):
    # a - b is 6.57 to 7.71; a is 13.53 to 14.91.
    assert judge([(expect, margin)], two(PLAIN, RESIDUAL))[0].verdict == verdict


def test_a_claim_against_a_number_is_a_one_sample_t_test():
    (found,) = judge([("a < 13", 0.5)], two(PLAIN, RESIDUAL))
    theirs = stats.ttest_1samp(PLAIN, 12.5)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    low, high = theirs.confidence_interval()
    assert (found.difference, found.low, found.high) == pytest.approx((14.22 - 13, low - 13, high - 13))
    assert found.reason == "mean 14.22 %, 95 % interval 13.53 to 14.91, 5 runs"
    (found,) = judge(["a > 14"], two(PLAIN, RESIDUAL))
    assert found.reason.endswith("5 runs: 14 is not excluded")


def test_unpaired_claims_are_welchs():
    (found,) = judge([("a > b", 6)], two(PLAIN, RESIDUAL[:3]), paired=False)
    theirs = stats.ttest_ind([value - 6 for value in PLAIN], RESIDUAL[:3], equal_var=False)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (found.n, found.reason[-14:]) == (3, ", 5 and 3 runs")


def test_equality_is_two_one_sided_tests_each_at_half_the_level():
    (found,) = judge([("a = b", 8)], two(PLAIN, RESIDUAL))
    differences = [one - other for one, other in zip(PLAIN, RESIDUAL, strict=True)]
    sides = [
        stats.ttest_1samp(differences, -8, alternative="greater"),
        stats.ttest_1samp(differences, 8, alternative="less"),
    ]
    assert found.p == pytest.approx(2 * max(side.pvalue for side in sides), rel=1e-6)
    assert judge([("a = b", 7.1)], two(PLAIN, RESIDUAL))[0].reason.endswith(": neither within nor outside ± 7.1")


@given(
    st.lists(st.floats(-3, 3).map(lambda x: round(x, 2)), min_size=3, max_size=5),
    st.floats(-2, 2),
    st.sampled_from("<>="),
)
@settings(max_examples=200, deadline=None)
def test_one_claim_alone_is_decided_exactly_if_its_interval_is(differences, margin, operator):
    margin = abs(margin) + 0.01 if operator == "=" else margin
    (found,) = judge([(f"a {operator} b", margin)], two(differences, [0.0] * len(differences)))
    if found.low is None:
        assert found.verdict == "undecided"
        return
    yes, no = {
        ">": (found.low > margin, found.high < margin),
        "<": (found.high < -margin, found.low > -margin),
        "=": (-margin < found.low and found.high < margin, found.low > margin or found.high < -margin),
    }[operator]
    assert found.verdict == ("supported" if yes else "contradicted" if no else "undecided")


@given(st.lists(st.floats(-3, 3).map(lambda x: round(x, 2)), min_size=2, max_size=5), st.floats(-2, 2))
@settings(max_examples=100, deadline=None)
def test_opposite_claims_get_opposite_verdicts(differences, margin):
    arms = two(differences, [0.0] * len(differences))
    for paired in (True, False):
        there, mirrored, back = judge([("a > b", margin), ("b < a", margin), ("a < b", -margin)], arms, paired=paired)
        assert there.verdict == mirrored.verdict
        assert {there.verdict, back.verdict} in ({"supported", "contradicted"}, {"undecided"})


def test_holm_counts_the_claims_that_cannot_be_judged_yet():
    arms = two([1.0, 1.4, 2.0, 1.1, 0.2], [0.0] * 5) | {"c": arm("c", [None] * 5, ["failed"] * 5)}
    (alone,) = judge(["a > b"], arms)
    assert alone.verdict == "supported"
    assert 0.05 / 3 < alone.p < 0.05
    found = judge(["a > b", "c > b", ("a > b", 0.9), ("a > b", 1.1)], arms)
    ones = [1.0 if one.p is None else one.p for one in found]
    assert [one.p_holm for one in found] == [
        None if one.p is None else p for one, p in zip(found, holm(ones), strict=True)
    ]
    assert found[1].p is None
    assert found[0].p_holm == pytest.approx(4 * alone.p)
    assert found[0].verdict == "undecided"
    assert found[0].low > 0  # the interval alone would decide it
    assert found[0].corrected[0] < 0 < found[0].corrected[1]  # and the corrected one does not
    assert found[0].reason.endswith(
        f": not beyond chance for one of 4 claims (p = {4 * alone.p:.3f} after Holm's correction)"
    )


def test_a_stricter_level_decides_less():
    arms = two(PLAIN, RESIDUAL)
    assert judge([("a > b", 6.5)], arms)[0].verdict == "supported"
    (strict,) = judge([("a > b", 6.5)], arms, level=0.999)
    assert (strict.verdict, strict.level) == ("undecided", 0.999)
    assert strict.reason.endswith(": not beyond chance at this look (p = 0.036)")
    shifted = [one - other - 6.5 for one, other in zip(PLAIN, RESIDUAL, strict=True)]
    assert strict.corrected == pytest.approx(
        [6.5 + end for end in stats.ttest_1samp(shifted, 0).confidence_interval(0.999)]
    )


@pytest.mark.parametrize(("first", "statuses", "reason"), [
    ([70.0, 71.0, None], ["finished", "finished", "failed"], "1 of 3 runs of 'a' failed"),
    ([70.0, 71.0, None], ["finished", "finished", "missing"], "1 of 6 runs is still missing"),
    ([None, None, None], ["missing", "running", "stopped"], "3 of 6 runs are still missing"),
    ([70.0, None, None], ["finished"] * 3, "2 of 3 runs of 'a' measured no test_error"),
    ([70.0, None, None], ["finished", "diverged", "missing"], "1 of 6 runs is still missing"),
    ([None] * 3, ["diverged", "diverged", "failed"], "1 of 3 runs of 'a' failed"),
])  # fmt: skip
@pytest.mark.parametrize("turned", [False, True])
def test_what_stands_in_the_way_of_a_verdict_is_said(first, statuses, reason, turned):
    arms = {"a": arm("a", first, statuses), "b": arm("b", [6.0, 6.1, 6.3])}
    for paired in (True, False):
        (found,) = judge(["b < a" if turned else "a > b"], arms, paired=paired)
        assert (found.verdict, found.p, found.p_holm, found.reason) == ("undecided", None, None, reason)


@pytest.mark.parametrize(("first", "statuses", "reason"), [
    ([3.0, None, None], ["finished", "diverged", "diverged"], "2 of 3 runs of 'a' diverged"),
    ([3.0, None, None], ["finished", "diverged", "missing"], "1 of 3 runs of 'a' diverged; 1 of 6 runs is still missing"),
    ([None] * 3, ["diverged"] * 3, "all 3 runs of 'a' diverged, and so measured no seconds"),
])  # fmt: skip
def test_a_diverged_run_stands_in_the_way_where_it_is_not_the_worst_of_all(first, statuses, reason):
    arms = {"a": arm("a", first, statuses, "seconds"), "b": arm("b", [6.0, 6.1, 6.3], measure="seconds")}
    (found,) = judge([claim("a > b", 0, "seconds")], arms)
    assert (found.verdict, found.p, found.reason) == ("undecided", None, reason)


@pytest.mark.parametrize("statuses", [["missing"] * 2, ["diverged", "missing"], ["failed", "diverged"]])
def test_arms_that_are_not_all_there_are_not_judged(statuses):
    arms = {"a": arm("a", [None] * 2, ["diverged"] * 2), "b": arm("b", [None] * 2, statuses)}
    (found,) = judge(["a > b"], arms)
    assert (found.verdict, found.p) == ("undecided", None)


def test_a_claim_against_a_number_names_its_obstacle_too():
    arms = {"a": arm("a", [None], ["diverged"]), "b": arm("b", [6.0, None], ["finished", "missing"])}
    found = judge(["a > 5", "b > 5"], arms)
    assert found[0].reason.startswith("1 of 1 runs of 'a' did not train (sign test): no outcome of 1 run decides it")
    assert found[1].reason == "1 of 2 runs is still missing"


def test_two_pairs_or_runs_decide_nothing():
    for paired, unit in ((True, "pair"), (False, "run")):
        (found,) = judge(["a > b"], two([90.0, 90.001], [6.0, 6.0]), paired=paired)
        assert (found.verdict, found.p, found.n) == ("undecided", None, 2)
        assert found.reason == f"two {unit}s decide nothing: a verdict needs 3"
        assert found.low > 80  # however sure the interval looks
    assert judge(["a > 5"], two([90.0, 90.1], [6.0, 6.0]))[0].reason.startswith("two runs decide nothing")


def test_a_verdict_says_what_it_rests_on():
    (found,) = judge(["a > b"], two(PLAIN, RESIDUAL))
    assert found.rests_on == ("5 pairs, rests on normality, permutation p 0.062, failure rates up to 52 % open")
    assert found.p_permutation == 2 / 2**5
    (found,) = judge(["a > b"], two([*PLAIN, 14.0], [*RESIDUAL, 7.1]))
    assert found.rests_on == "6 pairs, permutation p 0.031, failure rates up to 46 % open"
    (found,) = judge(["a > b"], two([*PLAIN, 14.0], [*RESIDUAL, 7.1]), level=0.99)  # as at a look
    assert found.verdict == "supported"
    assert found.rests_on == "6 pairs, rests on normality, permutation p 0.031, failure rates up to 46 % open"
    (found,) = judge([("a > b", 6.5)], two(PLAIN, RESIDUAL), paired=False)
    theirs = stats.permutation_test(
        ([one - 6.5 for one in PLAIN], RESIDUAL), lambda one, other: abs(np.mean(one) - np.mean(other)),
        alternative="greater", n_resamples=np.inf,
    )  # fmt: skip
    assert found.p_permutation == pytest.approx(theirs.pvalue)
    (found,) = judge([("a = b", 8)], two(PLAIN, RESIDUAL))
    assert found.p_permutation == 2 / 2**5  # both one-sided tests are as sure as five pairs can be


@given(st.lists(st.lists(st.floats(-3, 3).map(lambda x: round(x, 2)), min_size=3, max_size=5), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_the_corrected_interval_agrees_with_the_corrected_verdict(differences):
    arms = {str(at): arm(str(at), row) for at, row in enumerate(differences)}
    arms |= {f"zero{at}": arm(f"zero{at}", [0.0] * len(row)) for at, row in enumerate(differences)}
    for one in judge([(f"{at} > zero{at}", 0.5) for at in range(len(differences))], arms):
        if one.corrected is not None:
            low, high = one.corrected
            said = "supported" if low > 0.5 else "contradicted" if high < 0.5 else "undecided"
            assert one.verdict == said
            assert low <= one.low <= one.high <= high


def test_one_run_decides_nothing():
    for paired, unit in ((True, "pair"), (False, "run")):
        (found,) = judge(["a > b"], two([90.0], [6.0]), paired=paired)
        assert (found.verdict, found.n, found.difference, found.low) == ("undecided", 1, 84.0, None)
        assert found.reason == f"one {unit} has no interval"
    assert judge(["a > 5"], two([90.0], [6.0]))[0].reason == "one run has no interval"


def test_runs_that_do_not_vary_cannot_be_told_from_chance():
    (found,) = judge(["a > b"], two([3.0, 4.0, 5.0], [2.0, 3.0, 4.0]))
    assert (found.verdict, found.reason) == ("undecided", "3 pairs without any spread: chance cannot be judged by them")


@pytest.mark.parametrize(("expect", "margin", "verdict"), [
    ("a > b", 0, "supported"), ("a > b", 500, "contradicted"), ("a < b", 0, "contradicted"), ("a = b", 500, "supported"),
    ("a = b", 399, "contradicted"), ("a < 1000", 0, "supported"),
])  # fmt: skip
@pytest.mark.parametrize("seeds", [1, 3])
def test_counts_of_a_network_are_compared_without_chance(expect, margin, verdict, seeds):
    arms = two([900.0] * seeds, [500.0] * seeds, measure="parameters")
    (found,) = judge([claim(expect, margin, "parameters")], arms)
    assert (found.verdict, found.p) == (verdict, None)
    assert (found.low, found.high, found.corrected) == (None, None, None)  # no interval without a width
    assert found.rests_on == "exact"
    assert found.reason.startswith("exact: a difference of ")


def test_times_are_compared_by_their_ratio():
    fast, slow = [2.0, 2.2, 2.1], [3.0, 3.4, 3.1]
    arms = {name: arm(name, numbers, measure="seconds") for name, numbers in (("fast", fast), ("slow", slow))}
    assert arms["fast"].mean == pytest.approx(stats.gmean(fast))
    assert arms["fast"].interval == pytest.approx(
        np.exp(stats.ttest_1samp(np.log(fast), 0).confidence_interval()))  # fmt: skip
    (found,) = judge([claim("slow > fast", 0, "seconds")], arms)
    theirs = stats.ttest_rel(np.log(slow), np.log(fast))
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.in_percent
    assert found.difference == pytest.approx(100 * (stats.gmean(slow) / stats.gmean(fast) - 1))
    assert (found.low, found.high) == pytest.approx(tuple(100 * np.expm1(theirs.confidence_interval())))
    assert found.reason == "mean difference 50.69 %, 95 % interval 42.23 to 59.66, 3 pairs"
    compared = compare(arms["slow"], arms["fast"], paired=True)
    assert (compared.mean, compared.p_t) == pytest.approx((found.difference, found.p))
    (found,) = judge([claim("slow > 2.9", 0, "seconds")], arms)
    assert found.p == pytest.approx(stats.ttest_1samp(np.log(slow), math.log(2.9)).pvalue)
    # With a margin, which is in seconds, the difference is as well.
    (found,) = judge([claim("slow > fast", 0.5, "seconds")], arms)
    assert (found.in_percent, found.difference) == (False, pytest.approx(np.mean(slow) - np.mean(fast)))


def test_counts_that_vary_between_runs_are_tested():
    arms = {name: arm(name, numbers, measure="parameters") for name, numbers in
            (("a", [900.0, 910.0, 920.0]), ("b", [500.0, 505.0, 500.0]))}  # fmt: skip
    (found,) = judge([claim("a > b", 0, "parameters")], arms)
    assert found.p is not None


def test_both_arms_are_measured_by_the_measure_of_the_claim():
    arms = {("a", "gap"): arm("a", [1.0, 1.2, 1.1]), ("b", "gap"): arm("b", [3.0, 3.1, 3.3]),
            ("a", "test_error"): arm("a", [9.0, 9.2, 9.1]), ("b", "test_error"): arm("b", [8.0, 8.2, 8.3])}  # fmt: skip
    claims = [claim("a < b", 0, "gap"), claim("a > b")]
    found = verdicts(claims, lambda name, measure: arms[name, measure], paired=True)
    assert [one.verdict for one in found] == ["supported", "supported"]
    assert found[0].difference == pytest.approx(-2.0333333)


def test_a_true_null_is_decided_no_more_often_than_the_level_says():
    # Three independent true nulls, five pairs each.
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(1500):
        arms = {name: arm(name, random.normal(size=5).tolist()) for name in "abcdef"}
        found = judge(["a > b", "c < d", ("e = f", 1e-9)], arms)
        wrong += any(one.verdict != "undecided" for one in found)
    assert wrong / 1500 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)
    assert wrong > 20  # and not because nothing is ever decided


def test_every_pair_of_arms_can_be_claimed_in_one_study():
    arms = {name: arm(name, [base + step for step in (0.0, 0.1, -0.1, 0.05)]) for name, base in
            (("a", 1.0), ("b", 2.0), ("c", 3.0))}  # fmt: skip
    arms["b"] = arm("b", [2.0, 2.2, 1.8, 2.01])
    expects = [f"{one} < {other}" for one, other in itertools.combinations("abc", 2)]
    assert [one.verdict for one in judge(expects, arms)] == ["supported", "undecided", "supported"]


def timed(seed, n, ratio):
    """Times of two arms over seeds, of which one takes `ratio` times as long, give or take a tenth."""
    random = np.random.default_rng(seed)
    base = random.lognormal(0, 0.3, n)
    return base * ratio * random.lognormal(0, 0.1, n), base * random.lognormal(0, 0.1, n)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("expect", ["a > b", "a < b", "a = b"])
def test_a_factor_is_judged_by_logarithms_and_alike_on_a_fast_and_a_slow_machine(seed, expect):
    random = np.random.default_rng(100 + seed)
    n, ratio, factor = int(random.integers(3, 9)), random.choice([0.6, 1.0, 1.1, 1.7]), random.uniform(1.05, 1.6)
    a, b = timed(seed, n, ratio)
    found = []
    for speed in (1.0, 1000.0):
        arms = {name: arm(name, (speed * times).tolist(), measure="milliseconds_per_update")
                for name, times in (("a", a), ("b", b))}  # fmt: skip
        claim = Claim(text="?", expect=expect, measure="milliseconds_per_update", factor=factor)
        found += verdicts([claim], lambda name, _, arms=arms: arms[name], paired=True)
    assert found[0].verdict == found[1].verdict
    assert found[0].p == pytest.approx(found[1].p)
    logs, bound = np.log(a) - np.log(b), np.log(factor)

    def p(null, side):
        return stats.ttest_1samp(logs, null, alternative=side).pvalue

    if expect == "a = b":
        within = 2 * max(p(-bound, "greater"), p(bound, "less"))
        outside = 2 * min(p(bound, "greater"), p(-bound, "less"))
    else:
        null, side = (bound, "greater") if expect == "a > b" else (-bound, "less")
        within, outside = 2 * p(null, side), 2 * p(null, "less" if side == "greater" else "greater")
    assert found[0].p == pytest.approx(min(within, outside), rel=1e-6)
    word = "undecided" if min(within, outside) >= 0.05 else "supported" if within < outside else "contradicted"
    assert found[0].verdict == word
    assert found[0].in_percent


def test_a_factor_is_told_as_one():
    def claim(expect):
        return Claim(text="?", expect=expect, measure="milliseconds_per_update", factor=1.25)

    assert claim("a = b").formula == "a = b, within a factor of 1.25"
    assert claim("a > b").formula == "a > 1.25 × b"
    assert claim("a < 80").formula == "1.25 × a < 80 ms"
    assert claim("a > b").statement == claim("b < a").statement
    assert claim("a > b").statement != Claim(text="?", expect="a > b", measure=claim("a > b").measure).statement
    arms = {"a": arm("a", [10.0, 12.0, 21.0], measure="milliseconds_per_update"),
            "b": arm("b", [10.0, 11.0, 15.0], measure="milliseconds_per_update")}  # fmt: skip
    for expect, end in (
        ("a = b", ": neither within nor outside a factor of 1.25"),
        ("a > 1", ""),
        ("a < b", ": -20 % is not excluded"),
    ):
        (found,) = verdicts([claim(expect)], lambda name, _: arms[name], paired=True)
        assert found.reason.endswith(end)


@pytest.mark.parametrize(
    ("claim", "says"),
    [
        ({"expect": "a > b", "measure": "test_error", "factor": 1.5}, "test_error is no time"),
        ({"expect": "a = b", "measure": "seconds", "factor": 1.0}, "a number above 1"),
        ({"expect": "a = b", "measure": "seconds", "factor": 0.5}, "a number above 1"),
        ({"expect": "a > b", "measure": "seconds", "factor": 1.5, "margin": 2.0}, "a margin or a factor, not both"),
        ({"expect": "a > b", "measure": "seconds", "factor": 0.0}, "greater than 0"),
        ({"expect": "a > b", "measure": "seconds", "factor": "1.5"}, "valid number"),
        ({"expect": "a = b", "measure": "seconds"}, "a number above 0"),
    ],
)
def test_a_factor_that_says_nothing_is_refused(claim, says):
    arms = [{"name": "a", "set": {"optim.lr": 0.1}}, {"name": "b", "set": {"optim.lr": 0.2}}]
    with pytest.raises(StudyError, match=says):
        Study(question="?", base="quick", seeds=3, arms=arms, claims=[{"text": "?", **claim}])

"""Runs that do not train: how often, against scipy, and what the verdicts on arms with such runs are worth."""

import itertools
import math
import random
import re

import numpy as np
import pytest
from analysis_arms import arm
from scipy import stats

from residuum.analysis.aggregate import Value, summarize
from residuum.analysis.claims import verdicts
from residuum.analysis.compare import compare
from residuum.analysis.failures import (
    Rates,
    Signs,
    WorstRanks,
    boschloo,
    clopper_pearson,
    count,
    least_by_counts,
    rank_sum,
)
from residuum.studies.study import Claim

STUCK = 90.0


def runs(name, numbers, measure="test_error"):
    """An arm of fabricated runs: a number trained, STUCK is at chance, None diverged."""
    values = [
        Value(seed, f"{name}-{seed}", "diverged" if number is None else "finished", number, number != STUCK)
        for seed, number in enumerate(numbers)
    ]
    return summarize(name, measure, values)


def judge(expect, arms, margin=0.0, measure="test_error", paired=True):
    claim = Claim(text=expect, expect=expect, margin=margin, measure=measure)
    (found,) = verdicts([claim], lambda name, _: arms[name], paired=paired)
    return found


@pytest.mark.parametrize(("failed", "n"), [(0, 3), (1, 3), (3, 3), (2, 10), (0, 1), (17, 40)])
def test_the_interval_of_a_failure_rate_is_clopper_pearsons(failed, n):
    theirs = stats.binomtest(failed, n).proportion_ci(0.95)
    assert clopper_pearson(failed, n) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize(
    "table", [(3, 3, 0, 3), (5, 5, 1, 5), (2, 5, 1, 3), (0, 4, 0, 4), (7, 10, 2, 10), (1, 3, 3, 3)]
)
def test_boschloos_p_is_that_of_scipy(table):
    failed, n, other, other_n = table
    theirs = stats.boschloo_exact([[failed, other], [n - failed, other_n - other]], alternative="greater", n=256)
    assert boschloo(*table) == pytest.approx(theirs.pvalue, abs=1e-4)
    fishers = stats.fisher_exact([[failed, other], [n - failed, other_n - other]], alternative="greater").pvalue
    assert boschloo(*table) <= fishers + 1e-12


@pytest.mark.parametrize(("first", "second"), [
    ([1.0, 3.0, 5.0], [2.0, 2.5]), ([1.0, 1.0, 2.0], [1.0, 2.0, 2.0]), ([math.inf, 3.0], [math.inf, 1.0, 2.0]),
    ([90.0] * 3 + [7.0, 7.1], [7.2, 90.0, 6.9, 6.8, 7.05]),
])  # fmt: skip
def test_the_rank_sum_is_exact_with_ties(first, second):
    """By brute force: all ways to deal the runs out to two arms."""
    ranks = stats.rankdata([*first, *second])
    seen = ranks[: len(first)].sum()
    sums = np.array([sum(one) for one in itertools.combinations(ranks, len(first))])
    assert rank_sum(first, second) == pytest.approx((np.mean(sums >= seen - 1e-9), np.mean(sums <= seen + 1e-9)))


def test_an_arm_that_never_trains_can_be_judged_worse():
    stuck, well = runs("plain110", [STUCK] * 3), runs("resnet110", [6.6, 6.4, 6.5])
    found = judge("plain110 > resnet110", {"plain110": stuck, "resnet110": well})
    assert (found.verdict, found.p) == ("supported", pytest.approx(2 / 64))
    assert found.p == pytest.approx(stats.boschloo_exact([[3, 0], [0, 3]], n=256).pvalue, abs=1e-4)
    assert found.reason.startswith("3 of 3 runs of 'plain110' and 0 of 3 of 'resnet110' did not train (Boschloo's test")
    assert judge("resnet110 < plain110", {"plain110": stuck, "resnet110": well}).verdict == "supported"
    assert judge("plain110 < resnet110", {"plain110": stuck, "resnet110": well}).verdict == "contradicted"
    lost = runs("plain110", [None, STUCK, None])
    assert judge("plain110 > resnet110", {"plain110": lost, "resnet110": well}).verdict == "supported"
    assert judge("plain110 > resnet110", {"plain110": runs("plain110", [None] * 3), "resnet110": well}).p == found.p


def test_a_margin_counts_where_runs_are_stuck():
    arms = {"a": runs("a", [STUCK] * 5), "b": runs("b", [70.0, 71.0, 70.5, 70.2, 70.1])}
    assert judge("a > b", arms, 10.0).verdict == "supported"
    assert judge("a > b", arms, 19.5).verdict == "undecided"
    assert judge("a > b", arms, 25.0).verdict == "contradicted"  # the difference is at most 20
    assert judge("a = b", arms, 25.0).verdict == "supported"


def test_in_accuracies_the_worst_is_the_lowest():
    low = summarize("a", "test_accuracy", [Value(seed, "", "finished", 10.0, False) for seed in range(5)])
    high = summarize("b", "test_accuracy", [Value(seed, "", "finished", 93.0 + seed) for seed in range(5)])
    assert judge("a < b", {"a": low, "b": high}, measure="test_accuracy").verdict == "supported"
    some = summarize("b", "test_accuracy", [Value(s, "", "diverged" if s < 3 else "finished", 95.0) for s in range(5)])
    assert judge("a < b", {"a": low, "b": some}, measure="test_accuracy").verdict == "undecided"


def test_two_arms_that_never_train_are_not_called_equal_or_different():
    arms = {"a": runs("a", [STUCK] * 5), "b": runs("b", [STUCK, None, STUCK, STUCK, STUCK])}
    for expect, margin in (("a > b", 0.0), ("a < b", 0.0), ("a = b", 1.0)):
        assert judge(expect, arms, margin).verdict == "undecided"


def test_one_stuck_run_of_many_is_the_worst_and_not_a_number():
    """An arm whose runs are worse and of which one fails: the t test sees nothing any more, ranks do."""
    numbers = [9.0, 9.1, 8.9, 9.05, 8.95, 9.02, 8.98, 9.03, 8.97, STUCK]
    arms = {"a": runs("a", numbers), "b": runs("b", [8.0 + one / 100 for one in range(10)])}
    found = judge("a > b", arms)
    assert stats.ttest_ind(arms["a"].numbers, arms["b"].numbers, equal_var=False).pvalue > 0.2
    assert found.p == pytest.approx(stats.mannwhitneyu(numbers, arms["b"].numbers, method="exact").pvalue)
    assert (found.verdict, found.low) == ("supported", None)
    assert found.rests_on == "10 and 10 runs, exact test"
    assert found.difference == pytest.approx(np.median(np.subtract.outer(numbers, arms["b"].numbers)))


def test_an_arm_that_is_better_where_it_trains_is_not_called_better_if_its_failures_outweigh_that():
    for lost in (STUCK, None):
        a = [7.0, 7.1, 6.9, 7.05, 6.95, 7.02, 6.98, 7.03, 6.97, lost]
        arms = {"a": runs("a", a), "b": runs("b", [8.0 + one / 100 for one in range(10)])}
        for expect in ("a < b", "a > b"):
            found = judge(expect, arms)
            assert found.p < 0.002
            assert found.verdict == "undecided"
            assert found.reason.endswith(
                "most runs lie on one side and the mean, with those that did not train, on the other"
            )
        worse = {"a": arms["a"], "b": runs("b", [8.0] + [lost] * 9)}
        assert judge("a < b", worse).verdict == "supported"  # the means agree


def test_against_a_number_runs_that_did_not_train_count_by_the_sign_test():
    for n, verdict in ((5, "undecided"), (6, "supported")):
        found = judge("a > 60", {"a": runs("a", [STUCK] * n)})
        assert (found.verdict, found.p) == (verdict, pytest.approx(stats.binomtest(n, n, 0.5).pvalue))
    assert judge("a > 60", {"a": runs("a", [None] * 6)}).difference is None
    assert judge("a < 60", {"a": runs("a", [STUCK] * 6)}).verdict == "contradicted"
    assert Signs((0.0, 1.0, -1.0)).p() == 1.0
    assert WorstRanks((1.0,), (2.0,), (False,), (True,)).name() == "Boschloo's test"


def test_a_claim_about_who_trains_is_exact():
    def who(name, trained):
        return summarize(name, "trained", [Value(s, "", "finished" if one is not None else "diverged", one, bool(one))
                                           for s, one in enumerate(trained)])  # fmt: skip

    arms = {"a": who("a", [0.0] * 4 + [None]), "b": who("b", [1.0] * 5)}
    found = judge("a < b", arms, measure="trained")
    assert (found.verdict, found.p) == ("supported", pytest.approx(2 * 0.5**10))
    assert judge("b > 0.4", arms, measure="trained").p == pytest.approx(2 * 0.4**5)
    assert judge("b > 0.4", arms, measure="trained").verdict == "supported"
    assert judge("b > 0.6", arms, measure="trained").verdict == "undecided"
    assert "without a margin" in judge("a = b", arms, 0.1, measure="trained").reason
    counted = count(arms["a"], arms["b"])
    assert (counted.diverged, counted.stuck, counted.n, counted.p) == (1, 4, 5, pytest.approx(found.p))


def test_what_a_run_that_did_not_train_says_nothing_of_is_not_judged():
    gap = {name: runs(name, [STUCK, 1.0, 1.2], "gap") for name in "ab"}
    found = judge("a > b", gap, measure="gap")
    assert (found.verdict, found.p) == ("undecided", None)
    assert found.reason == "1 of 3 runs of 'a' and 1 of 3 of 'b' did not train, and gap says nothing of such runs"
    assert compare(gap["a"], gap["b"], paired=True).low is None


def test_no_interval_is_printed_of_runs_that_did_not_train_or_do_not_vary():
    for numbers in ([STUCK] * 3, [7.0, 7.1, STUCK], [7.0, 7.1, None], [7.0] * 3):
        assert runs("a", numbers).interval is None
    found = compare(runs("a", [7.0, 7.1, STUCK]), runs("b", [7.0, 7.2, 7.3]), paired=True)
    assert (found.low, found.p_t, found.p) == (None, None, found.p_ranks)
    assert found.note == "1 of 3 runs of 'a' and 0 of 3 of 'b' did not train: compared by worst-rank test, p = 1.000"


def decided(stuck, n, shift, studies, seed=0, both=True):
    """The shares of studies of two arms in which "a is better" is supported and contradicted."""
    random = np.random.default_rng(seed)
    words = []
    for _ in range(studies):
        a, b = random.normal(8 + shift, 0.16, n), random.normal(8, 0.16, n)
        a[random.random(n) < stuck] = STUCK
        b[random.random(n) < (stuck if both else 0)] = STUCK
        arms = {"a": runs("a", a.tolist()), "b": runs("b", b.tolist())}
        words.append(judge("a < b", arms).verdict)
    return words.count("supported") / studies, words.count("contradicted") / studies


@pytest.mark.parametrize("n", [3, 5, 10])
def test_an_arm_that_is_worse_in_the_mean_is_called_better_only_where_none_of_its_runs_was_seen_to_fail(n):
    """A tenth of the runs stuck, the others 0.64 better: the rest no test of so few runs can know."""
    supported, _ = decided(0.1, n, -0.64, 400, both=False)
    assert supported < 0.9**n + 3 * math.sqrt(0.25 / 400)


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("stuck", [0.1, 0.5])
def test_equal_arms_with_stuck_runs_are_told_apart_in_at_most_a_twentieth_of_studies(n, stuck):
    assert sum(decided(stuck, n, 0.0, 500)) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)


def test_the_error_of_the_rule_is_at_most_5_percent_whatever_the_failure_rate():
    """Exactly, for arms that train alike: t where all train, else ranks, or Boschloo where an arm never trains."""
    for n in (3, 4, 5):
        trained = np.random.default_rng(n).normal(8, 0.16, (40, 2 * n))
        reject = np.zeros((n + 1, n + 1))
        for i, j in itertools.product(range(n + 1), repeat=2):
            if i == j == 0:
                reject[i, j] = 0.05  # what the t test is promised to do
                continue
            for row in trained:
                a, b = [STUCK] * i + row[: n - i].tolist(), [STUCK] * j + row[n : 2 * n - j].tolist()
                reject[i, j] += (judge("a < b", {"a": runs("a", a), "b": runs("b", b)}).p < 0.05) / len(trained)
        for share in np.linspace(0, 1, 41):
            p = stats.binom.pmf(range(n + 1), n, share)
            assert p @ reject @ p < 0.055, (n, share)


def test_arms_of_values_without_failures_are_judged_as_before():
    numbers = [7.0, 7.1, 7.3]
    for paired in (True, False):
        theirs = stats.ttest_rel if paired else lambda a, b: stats.ttest_ind(a, b, equal_var=False)
        found = judge("a < b", {"a": arm("a", numbers), "b": arm("b", [8.0, 8.3, 8.1])}, paired=paired)
        assert found.p == pytest.approx(theirs(numbers, [8.0, 8.3, 8.1]).pvalue)


def family(others, n=3, stuck=STUCK, level=0.95, claims=("a > b",)):
    """Verdicts on an arm that never trains against one that does, beside other claims whose runs all train alike."""
    random = np.random.default_rng(3)
    arms = {"a": runs("a", [stuck] * n), "b": runs("b", random.normal(7, 0.1, n).tolist())}
    arms |= {f"{side}{at}": runs(f"{side}{at}", random.normal(7, 0.1, n).tolist())
             for at in range(others) for side in "cd"}  # fmt: skip
    expects = [*claims, *(f"c{at} > d{at}" for at in range(others))]
    made = [Claim(text=str(at), expect=expect) for at, expect in enumerate(expects)]
    return verdicts(made, lambda name, _: arms[name], paired=True, level=level)


@pytest.mark.parametrize("others", [0, 1, 4, 11, 40])
def test_an_arm_that_never_trains_is_decided_from_the_number_of_seeds_that_its_reason_names(others):
    first = family(others)[0]
    if not others:
        assert first.verdict == "supported"
        return
    assert first.verdict == "undecided"
    assert f"no outcome of 3 and 3 runs decides it for one of {others + 1} claims" in first.reason
    named = int(re.search(r"with (\d+) runs of each arm it can be decided$", first.reason)[1])
    assert family(others, n=named)[0].verdict == "supported"
    assert family(others, n=named - 1)[0].verdict == "undecided"


def test_no_test_of_two_counts_can_do_better_than_the_least_p_that_is_stated():
    """Whatever share of failures two arms have in common, n of n and 0 of m are seen with at most half that p."""
    for n, m in itertools.product((1, 2, 3, 5), repeat=2):
        shares = np.linspace(0, 1, 4001)
        assert least_by_counts(n, m) / 2 == pytest.approx((shares**n * (1 - shares) ** m).max(), rel=1e-5)
        assert least_by_counts(n, m) == pytest.approx(min(1.0, 2 * boschloo(n, n, 0, m)), rel=1e-3)
        every = [min(1.0, 2 * boschloo(i, n, j, m)) for i in range(n + 1) for j in range(m + 1)]
        assert least_by_counts(n, m) <= min(every) * (1 + 1e-6)


def test_the_least_p_of_each_test_is_the_least_of_all_outcomes():
    random = np.random.default_rng(0)
    for n, m in ((2, 2), (3, 3), (3, 5), (4, 2)):
        seen = []
        for _ in range(60):
            first, second = random.permutation(n + m)[:n].astype(float), None
            second = np.setdiff1d(np.arange(n + m), first).astype(float)
            lost = (True, *[False] * (n - 1))
            judge_ = WorstRanks((99.0, *first[1:]), tuple(second), lost, (False,) * m)
            assert judge_.p() >= judge_.least() * (1 - 1e-9)
            seen.append(judge_.p())
        assert min(seen) == pytest.approx(judge_.least())
    for n in range(1, 9):
        assert Signs((90.0,) * n).p(60.0) == pytest.approx(Signs((90.0,) * n).least(60.0))
        for share in (0.2, 0.5, 0.9):
            found = [min(1.0, 2 * min(one.above(0.0), one.below(0.0)))
                     for one in (Rates(k, n, share=share) for k in range(n + 1))]  # fmt: skip
            assert Rates(0, n, share=share).least() == pytest.approx(min(found))


def test_a_claim_that_others_leave_room_for_is_not_called_out_of_reach():
    """Of two claims the other is decided first: then Holm multiplies by one, and three of three are enough."""
    arms = {"a": runs("a", [STUCK] * 3), "b": runs("b", [7.0, 7.1, 6.9]), "c": runs("c", [9.0, 9.1, 8.9])}
    made = [Claim(text=expect, expect=expect) for expect in ("a > b", "c > b")]
    assert [one.verdict for one in verdicts(made, lambda name, _: arms[name], paired=False)] == ["supported"] * 2


def test_where_some_runs_train_the_reason_says_what_ranks_could():
    arms = {"a": runs("a", [STUCK, 7.3, 7.2]), "b": runs("b", [7.0, 7.1, 6.9])}
    found = judge("a > b", arms)
    assert (found.verdict, found.p) == ("undecided", pytest.approx(0.1))
    assert found.reason.endswith("no outcome of 3 and 3 runs decides it; with 4 runs of each arm it can be decided")
    numbers = judge("a > 60", {"a": runs("a", [STUCK] * 3)})
    assert numbers.reason.endswith("no outcome of 3 runs decides it; with 6 runs it can be decided")
    beside = judge("a > b", {"a": runs("a", [STUCK, 7.3, 7.05, 6.95]), "b": runs("b", [7.0, 7.1, 6.9, 6.8])})
    assert beside.reason.endswith("not beyond chance for 4 and 4 runs")


def test_the_rank_sum_of_a_hundred_seeds_is_that_of_scipy():
    from scipy.stats import mannwhitneyu

    chance = random.Random(0)
    first, second = ([chance.gauss(mean, 1) for _ in range(n)] for mean, n in ((0.3, 100), (0.0, 90)))
    exact = [mannwhitneyu(first, second, alternative=side, method="exact").pvalue for side in ("greater", "less")]
    assert rank_sum(first, second) == pytest.approx(exact, rel=1e-9)

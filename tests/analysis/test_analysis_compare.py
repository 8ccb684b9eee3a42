import itertools
import math

import pytest
from analysis_arms import arm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from residuum.analysis.compare import compare, holm, holm_factors, label_p, sign_flip_p

A = [9.93, 9.71, 10.2, 9.85, 9.4, 10.03, 9.6]
B = [8.75, 8.91, 8.62, 9.02, 9.5, 8.8, 9.75]


def test_pairs_are_compared_as_scipys_paired_t_test_does():
    found, theirs = compare(arm("a", A), arm("b", B), paired=True), stats.ttest_rel(A, B)
    differences = [a - b for a, b in zip(A, B, strict=True)]
    assert found.differences == tuple(enumerate(differences))
    assert (found.n, found.paired) == (7, True)
    assert found.mean == pytest.approx(sum(differences) / 7)
    assert found.sd == pytest.approx(stats.tstd(differences))
    assert found.effect == pytest.approx(found.mean / found.sd)
    assert found.p_t == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))
    wide = compare(arm("a", A), arm("b", B), paired=True, level=0.99)
    assert (wide.low, wide.high) == pytest.approx(tuple(theirs.confidence_interval(0.99)))
    assert found.note == ""  # seven pairs can reach 2 / 2^7


def test_runs_that_are_no_pairs_are_compared_as_welch_does():
    found, theirs = compare(arm("a", A), arm("b", B[:4]), paired=False), stats.ttest_ind(A, B[:4], equal_var=False)
    assert (found.differences, found.n, found.paired) == ((), 4, False)
    assert found.p_t == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))
    pooled = math.sqrt((6 * stats.tvar(A) + 3 * stats.tvar(B[:4])) / 9)
    assert (found.sd, found.effect) == pytest.approx((pooled, found.mean / pooled))


def test_pairing_narrows_the_interval_where_the_seed_moves_both_arms():
    shared = [0.0, 3.0, -2.0, 5.0, 1.0]
    one = arm("a", [10 + s + e for s, e in zip(shared, [0.1, -0.1, 0.2, 0.0, -0.2], strict=True)])
    two = arm("b", [9 + s for s in shared])
    paired, unpaired = compare(one, two, paired=True), compare(one, two, paired=False)
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 10


@pytest.mark.parametrize("n", [2, 3, 6, 9])
def test_sign_flips_agree_with_the_slow_twin_and_with_scipy(n):
    differences = [a - b for a, b in zip(A + A, B + B[::-1], strict=True)][:n]
    observed = abs(sum(differences))
    flips = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
             for signs in itertools.product((1, -1), repeat=n)]  # fmt: skip
    slow = sum(flip >= observed - 1e-9 for flip in flips) / 2**n
    theirs = stats.permutation_test(
        (differences,), lambda x: abs(sum(x)), permutation_type="samples", alternative="greater", n_resamples=10_000
    )
    assert sign_flip_p(differences) == slow == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 5), (4, 4), (6, 3)])
def test_exchanged_labels_agree_with_the_slow_twin(n, m):
    values = (A + B)[: n + m]

    def gap(chosen):
        rest = [i for i in range(n + m) if i not in chosen]
        return abs(sum(values[i] for i in chosen) / n - sum(values[i] for i in rest) / m)

    ways = list(itertools.combinations(range(n + m), n))
    slow = sum(gap(way) >= gap(range(n)) - 1e-9 for way in ways) / len(ways)
    assert label_p(values[:n], values[n:]) == pytest.approx(slow)


def test_ties_count_whatever_rounding_does_to_them():
    # All differences are 0.1 up to rounding: only the two flips of all signs are as far.
    assert sign_flip_p([0.1, 0.3 - 0.2, 0.8 - 0.7]) == 2 / 8
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert sign_flip_p([0.3, -0.3, -0.6, 0.6, -0.9]) == 22 / 32 == sign_flip_p([3, -3, -6, 6, -9])
    assert label_p([0.1 + 0.2, 0.3], [0.3, 0.1 + 0.2]) == 1.0


def test_many_pairs_are_drawn_and_agree_with_the_exact_p():
    sixteen = [0.3, -0.1, 0.25, 0.4, -0.2, 0.1, 0.05, 0.3, -0.15, 0.2, 0.1, -0.05, 0.3, 0.2, -0.1, 0.15]
    exact = sign_flip_p(sixteen)
    drawn = sign_flip_p([*sixteen, 0.0])  # a difference of 0 changes neither side of any flip
    assert 0.001 < exact < 0.05
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))
    assert drawn * 20_000 == pytest.approx(round(drawn * 20_000))  # 19,999 and the observed one
    assert sign_flip_p([*sixteen, 0.0]) == drawn
    ten = [x + y for x, y in zip(sixteen[:10], range(10), strict=True)]
    other = [y + 1.7 for y in range(10)]
    assert label_p(ten, other) == pytest.approx(stats.ttest_ind(ten, other).pvalue, abs=0.02)


def test_one_pair_has_a_difference_and_no_interval():
    found = compare(arm("a", [9.0]), arm("b", [8.5]), paired=True)
    assert (found.n, found.mean, found.differences) == (1, 0.5, ((0, 0.5),))
    assert (found.sd, found.low, found.high, found.effect, found.p_t, found.p_permutation) == (None,) * 6
    assert found.note == "one pair has no interval"
    unpaired = compare(arm("a", [9.0]), arm("b", [8.5, 8.0]), paired=False)
    assert (unpaired.n, unpaired.mean, unpaired.low) == (1, 0.75, None)
    assert unpaired.note == "one run has no interval"


def test_identical_runs_have_no_p_and_say_so():
    found = compare(arm("a", A[:6]), arm("b", A[:6]), paired=True)
    assert (found.mean, found.sd, found.effect, found.p_t, found.low) == (0.0, 0.0, None, None, None)
    assert found.p_permutation == 1.0
    assert found.note == "nothing varies: no interval and no p of the t test"
    # A difference of 0.27 in each pair, and what subtracting percentages makes of it.
    shares = (0.91, 0.4173, 0.0623)
    one = arm("a", [100 * (1 - share) for share in shares])
    two = arm("b", [100 * (1 - share - 0.0027) for share in shares])
    rounded = compare(one, two, paired=True)
    assert len({difference for _, difference in rounded.differences}) > 1
    assert (rounded.sd, rounded.p_t, rounded.effect) == (0.0, None, None)
    same = [90.1, 89.7, 91.3]
    last_bits = compare(
        arm("a", same), arm("b", [math.nextafter(value, 0) for value in same[:2]] + same[2:]), paired=True
    )
    assert (last_bits.sd, last_bits.p_t) == (0.0, None)
    still = compare(arm("a", [3.0, 3.0]), arm("b", [2.0, 2.0]), paired=False)
    assert (still.mean, still.p_t, still.effect) == (1.0, None, None)


def test_it_is_said_how_small_a_permutation_p_can_get():
    found = compare(arm("a", A[:4]), arm("b", B[:4]), paired=True)
    assert (found.limit, found.note) == ("with 4 pairs the permutation test cannot give p below 0.125", "")
    assert compare(arm("a", A[:6]), arm("b", B[:6]), paired=True).limit == ""
    limit = compare(arm("a", A[:3]), arm("b", B[:3]), paired=False).limit
    assert limit == "with 3 runs against 3 the permutation test cannot give p below 0.100"
    assert compare(arm("a", A[:4]), arm("b", B[:4]), paired=False).limit == ""


def test_pairs_that_are_not_there_are_left_out_and_named():
    statuses = ["finished", "failed", "failed", "finished", "finished", "finished"]
    one = arm("plain110", [70.0, None, None, 71.0, 72.0, None], statuses, seeds=[0, 1, 2, 3, 4, 7])
    two = arm("resnet110", [6.0, 6.1, 6.2, None, 6.4], ["finished"] * 3 + ["running", "finished"])
    found = compare(one, two, paired=True)
    assert [seed for seed, _ in found.differences] == [0, 4]
    assert found.note == (
        "seeds 1, 2 left out: 'plain110' failed; seed 3 left out: 'resnet110' is running; "
        "seed 7 left out: 'plain110' has no value and 'resnet110' has no such run"
    )
    assert found.limit == "with 2 pairs the permutation test cannot give p below 0.500"
    nothing = compare(arm("a", [None], ["missing"]), arm("b", [1.0]), paired=True)
    assert (nothing.n, nothing.mean, nothing.p_permutation) == (0, None, None)
    diverged = compare(arm("a", [3.0, None], ["finished", "diverged"], "seconds"), arm("b", [1.0, 2.0]), paired=True)
    assert diverged.note == "seed 1 left out: 'a' diverged; one pair has no interval"
    assert nothing.note == "seed 0 left out: 'a' is missing; no pair to compare"
    assert compare(arm("a", [None], ["failed"]), arm("b", [1.0]), paired=False).note == "an arm has no run to compare"


def test_holms_factors_are_what_it_multiplies_by():
    p = [0.03, None, 0.01, 0.02, 0.5, 0.0]
    assert [factor for factor in holm_factors(p) if factor] == pytest.approx([2, 4, 3, 1, 5])
    for factor, adjusted, one in zip(holm_factors(p), holm(p), p, strict=True):
        assert (factor is None) == (one is None)
        assert one is None or adjusted == pytest.approx(min(1, factor * one))
    assert holm_factors([0.01, 0.011]) == pytest.approx([2, 0.02 / 0.011])  # pulled up by the smaller one
    assert holm_factors([0.8, 0.9]) == pytest.approx([2, 1.6 / 0.9])  # not cut off at 1, as p is


P = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=6)


@given(P)
@settings(max_examples=200, deadline=None)
def test_holm_is_the_closed_testing_procedure_with_bonferroni(p):
    places = [place for place, value in enumerate(p) if value is not None]
    sets = [s for size in range(1, len(places) + 1) for s in itertools.combinations(places, size)]
    for place, adjusted in enumerate(holm(p)):
        if p[place] is None:
            assert adjusted is None
        else:
            brute = max(min(1.0, len(s) * min(p[i] for i in s)) for s in sets if place in s)
            assert adjusted == pytest.approx(brute, abs=1e-12)


def test_holm_on_a_family_worked_by_hand():
    assert holm([0.01, None, 0.04, 0.03, 0.005]) == pytest.approx([0.03, None, 0.06, 0.06, 0.02])
    assert holm([]) == []

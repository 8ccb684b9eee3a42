import itertools
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analysis_arms import arm
from scipy import optimize, stats

from residuum.analysis.aggregate import Value, summarize
from residuum.analysis.claims import verdicts
from residuum.analysis.failures import fewest, least_by_counts, least_by_signs
from residuum.analysis.power import (
    Trial,
    achieved,
    detectable_sds,
    promises,
    seeds,
    seeds_needed,
    supported,
)
from residuum.analysis.results import results
from residuum.analysis.spending import spend
from residuum.errors import InputError
from residuum.studies.study import Claim

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from report_runs import depths, leave, planned


@pytest.mark.parametrize(
    ("effect", "paired", "seeds"),
    [(0.2, False, 394), (0.5, False, 64), (0.8, False, 26), (0.5, True, 34), (0.2, True, 199)],
)
def test_seeds_are_those_of_cohens_tables(effect, paired, seeds):
    assert seeds_needed(1.0, effect, paired=paired) == seeds


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("n", "difference"), [(2, 0.7), (3, 0.5), (5, 0.3), (27, 0.1)])
def test_power_is_that_of_the_noncentral_t(n, difference, paired):
    df, shift = (
        (n - 1, difference / 0.16 * math.sqrt(n)) if paired else (2 * n - 2, difference / 0.16 * math.sqrt(n / 2))
    )
    critical = stats.t.ppf(0.975, df)
    wrong_side = np.nan_to_num(stats.nct.cdf(-critical, df, shift))  # NaN for some that are next to nothing
    expected = stats.nct.sf(critical, df, shift) + wrong_side
    assert achieved(difference, 0.16, n, paired=paired) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("paired", [True, False])
def test_the_seeds_needed_are_the_first_that_are_enough(paired):
    for difference in (0.05, 0.16, 0.3, 1.0):
        n = seeds_needed(0.16, difference, paired=paired)
        assert achieved(difference, 0.16, n, paired=paired) >= 0.8
        assert n == 2 or achieved(difference, 0.16, n - 1, paired=paired) < 0.8


def seen_by_one_test(n, claims, paired=True):
    """What a single t test at so much of the 5 % sees with 80 %, in sd: by bisection of its closed form."""
    return optimize.brentq(lambda one: achieved(one, 1.0, n, paired=paired, alpha=0.05 / claims) - 0.8, 0.01, 100)


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
    assert seeds_needed(0.0, 0.1) == 2
    assert seeds_needed(0.01, 100.0) == 2
    for wrong in ((0.2, 0.0), (0.2, -1.0), (-0.1, 0.2), (1e6, 0.2)):
        with pytest.raises(InputError):
            seeds_needed(*wrong)


@pytest.mark.parametrize(("n", "claims"), [(3, 1), (3, 10), (5, 4), (10, 10)])
def test_what_is_promised_at_the_first_step_of_holm_is_the_power_of_that_test(n, claims):
    found = detectable_sds(Trial((n,), (0.05,), claims, True))
    assert found == pytest.approx(seen_by_one_test(n, claims), rel=0.04)
    unpaired = detectable_sds(Trial((n,), (0.05,), claims, False))
    random = np.random.default_rng(2)
    one, two = random.normal(unpaired, 1, (20_000, n)), random.normal(0, 1, (20_000, n))
    seen = stats.ttest_ind(one, two, axis=1, equal_var=False).pvalue < 0.05 / claims
    assert seen.mean() == pytest.approx(0.8, abs=0.025)
    if n == 3:  # where the closed form, with the degrees of freedom of the true spreads, promises too much
        assert unpaired > 1.1 * seen_by_one_test(n, claims, paired=False)


def test_three_seeds_do_not_show_of_twelve_claims_what_a_test_alone_would():
    """The arms of `degradation`: 0.74 points was the test alone, that is never made."""
    sd = 0.16 * 2**0.5
    assert sd * detectable_sds(Trial((3,), (0.05,), 1, True)) == pytest.approx(0.74, abs=0.02)
    assert sd * detectable_sds(Trial((3,), (0.05,), 12, True)) == pytest.approx(2.57, abs=0.03)
    assert sd * detectable_sds(Trial((3,), (0.05,), 12, True), together=True) < 1.6  # the others help


def test_promises_are_kept_by_the_verdicts_themselves():
    """Studies as they would come out, judged by `verdicts`: three claims, margins, and all of them true or one."""
    random, n, sd = np.random.default_rng(1), 5, 0.3
    trial = Trial((n,), (0.05,), 3, True)
    for together in (False, True):
        shift = sd * detectable_sds(trial, together=together)
        seen = 0
        for _ in range(400):
            arms = {"zero": arm("zero", [0.0] * n)}
            for at, margin in enumerate((0.0, 1.0, -2.0)):
                true = margin + (shift if together or not at else 0.0)
                arms[str(at)] = arm(str(at), random.normal(true, sd, n).tolist())
            claims = [
                Claim(text=str(at), expect=f"{at} > zero", margin=margin) for at, margin in enumerate((0.0, 1.0, -2.0))
            ]
            found = verdicts(claims, lambda name, _, arms=arms: arms[name], paired=True)
            seen += found[0].verdict == "supported"
        # Alone, the others are null: now and then one of them is decided first, which helps a little.
        assert seen / 400 == pytest.approx(0.8, abs=0.06), together


def test_looks_cost_little_and_show_more():
    fixed = detectable_sds(Trial((12,), (0.05,), 4, True))
    looks = Trial((3, 6, 9, 12), tuple(spend(look, 4) for look in (1, 2, 3, 4)), 4, True)
    assert fixed < detectable_sds(looks) < 1.25 * fixed
    assert detectable_sds(looks) < detectable_sds(Trial((3,), (0.05,), 4, True)) / 3
    assert supported(looks) <= 0.05 / 4 / 2 + 0.005  # nothing there: one side of a fourth of the 5 %


def test_equality_is_promised_where_the_margin_is_wide():
    trial = Trial((5,), (0.05,), 1, True)
    random = np.random.default_rng(0)
    for margin in (0.5, 1.5, 4.0):
        x = random.normal(0, 1, (20_000, 5))
        mean, half = x.mean(axis=1), stats.t.ppf(0.975, 4) * x.std(axis=1, ddof=1) / 5**0.5
        inside = np.mean((mean - half > -margin) & (mean + half < margin))
        assert supported(trial, margin=margin) == pytest.approx(inside, abs=0.02)


def promised(tmp_path, plan, **more):
    return promises(results(plan, tmp_path), [len(plan.study.seeds)], **more)


def test_every_claim_has_the_spread_of_its_own_runs(tmp_path):
    claims = [{"text": "depth", "expect": "resnet56 < resnet20", "margin": 1.0}, {"text": "best", "expect": "resnet110 < 9"},
              {"text": "same", "expect": "resnet56 = resnet110", "margin": 0.9},
              {"text": "time", "expect": "plain56 > plain20", "measure": "seconds"},
              {"text": "size", "expect": "plain56 > plain20", "measure": "parameters"},
              {"text": "stuck", "expect": "plain110 > plain20"}]  # fmt: skip
    plan = planned(depths(claims=claims), epochs=164)
    for one in promised(tmp_path, plan)[:2]:
        assert one.source.startswith("from 0.16 an arm")
    pair, arm_alone, equal, time, _ = promised(tmp_path, plan)
    assert (pair.spread, arm_alone.spread, time.spread) == (pytest.approx(0.16 * 2**0.5), 0.16, None)
    assert time.source == "nothing is known of its spread before there are runs"  # and no "0.74 points" of it
    assert time.points(time.alone) is None
    assert 0 < equal.equal < 1
    errors = {name: list(values) for name, values in
              {"resnet20": (8.5, 8.6, 8.4), "resnet56": (6.5, 7.0, 6.8), "resnet110": (6.5, 6.4, 6.9),
               "plain20": (9.5, 9.6, 9.4), "plain56": (13.5, 14.0, 13.8)}.items()}  # fmt: skip
    for run in plan.runs:
        if run.arm in errors:
            leave(tmp_path, run, errors[run.arm][run.seed], seconds=60 + 10 * run.seed * (run.arm == "plain20"))
    pair, arm_alone, equal, time, _ = promised(tmp_path, plan)
    differences = np.subtract(errors["resnet56"], errors["resnet20"])
    assert pair.spread == pytest.approx(differences.std(ddof=1))
    assert pair.highest == pytest.approx(pair.spread * math.sqrt(2 / stats.chi2.ppf(0.05, 2)))
    assert pair.source == "of 3 pairs so far"
    assert arm_alone.spread == pytest.approx(np.std(errors["resnet110"], ddof=1))
    assert time.spread == pytest.approx(np.std(np.log([60, 70, 80]), ddof=1))
    assert time.points(time.alone) == pytest.approx(100 * math.expm1(time.alone * time.spread))
    given = promised(tmp_path, plan, sd=0.5)
    assert {one.spread for one in given} == {0.5}
    assert len(given) == 5  # chance has no part in counts
    comparisons = promised(tmp_path, planned(depths(claims=[])))
    assert [one.claim.expect for one in comparisons][:2] == ["plain20 > resnet20", "plain56 > resnet20"]
    few, most = seeds(pair, 0.74, 10, paired=True)
    assert few == max(3, seeds_needed(pair.spread, 0.74, alpha=0.005)) < most
    unpaired = replace(pair, spread=0.2, highest=None)
    n, _ = seeds(unpaired, 0.8, 10, paired=False)
    trials = [Trial((m,), (0.05,), 10, False) for m in (n - 1, n)]
    assert supported(trials[0], 4) < 0.8 <= supported(trials[1], 4)
    assert n > seeds_needed(0.2, 0.8, paired=False, alpha=0.005)


SHORT = "nothing is known of its spread before there are runs: 0.16 an arm is known of 164 epochs or more of all images"


@pytest.mark.parametrize(
    ("epochs", "settings", "expected"),
    [
        (164, {}, "from 0.16 an arm"),
        (200, {"data.validation": 0.1}, "from 0.16 an arm"),  # what is held out of all is of all
        (163, {}, SHORT),
        (164, {"train.batch_size": 64}, SHORT),  # 391 updates of 64 are half of the images
        (164, {"data.dataset": "cifar100"}, "nothing is known of its spread before there are runs"),
        (164, {"data.dataset": "digits"}, "nothing is known of its spread before there are runs"),
    ],
)
def test_the_spread_of_long_runs_on_all_images_is_assumed_of_no_others(tmp_path, epochs, settings, expected):
    claims = [{"text": "depth", "expect": "resnet56 < resnet20"}, {"text": "plain", "expect": "plain20 > resnet20"}]
    plan = planned(depths(claims=claims), settings=settings, epochs=epochs)
    found, plain = promised(tmp_path, plan)
    assert plain.spread is None
    assert plain.source == (
        "nothing is known of its spread before there are runs: 0.16 an arm is known of networks with shortcuts, which "
        "'plain20' has not" if found.spread else found.source)  # fmt: skip
    assert found.source.startswith(expected)
    assert (found.spread is None) == (not expected.startswith("from"))
    assert (found.source == expected) == ("digits" in str(settings) or "cifar100" in str(settings))


def test_no_spread_promises_anything_of_claims_that_counts_of_runs_decide(tmp_path):
    claims = [{"text": "worse", "expect": "plain110 > plain20"}, {"text": "never", "expect": "plain110 > 60"},
              {"text": "share", "expect": "plain110 < plain20", "measure": "trained"},
              {"text": "most", "expect": "resnet20 > 0.5", "measure": "trained"},
              {"text": "good", "expect": "resnet20 < plain20"},
              {"text": "time", "expect": "plain110 > plain20", "measure": "seconds"}]  # fmt: skip
    plan = planned(depths(claims=claims), epochs=164)
    before = promised(tmp_path, plan)
    assert [one.by_counts for one in before] == [False, False, True, True, False, False]
    # With six claims: 4⁻ⁿ, 2⁻ⁿ and 2⁻ⁿ, each twice, have to be below 0.05 / 6.
    assert [one.fewest for one in before] == [4, 8, 4, 8, 4, None]
    for run in plan.runs:
        error = 90.0 if run.arm == "plain110" else 8.0 + run.seed / 10
        leave(tmp_path, run, error, facts={"classes": list("abcdefghij")})
    for sd in (None, 0.2):
        worse, never, share, most, good, time = promised(tmp_path, plan, sd=sd)
        for one in (worse, never, share, most):
            assert (one.by_counts, one.spread, one.alone, one.together, one.equal) == (True, None, None, None, None)
            assert seeds(one, 1.0, 6, paired=True) == (None, None)
        assert (
            worse.source == "3 of 3 runs of 'plain110' and 0 of 3 of 'plain20' did not train, which no spread describes"
        )
        assert not good.by_counts
        assert not time.by_counts


@pytest.mark.parametrize("claims", [1, 2, 7, 60])
def test_the_fewest_seeds_are_the_first_with_which_the_verdict_itself_can_be_given(claims):
    """An arm that never trains, against one that does and against a number: by `verdicts`, beside undecided claims."""
    for expect, least in (("a > b", lambda n: least_by_counts(n, n)), ("a > 60", least_by_signs)):
        number = fewest(least, 0.05 / claims)
        for n in (number - 1, number):
            stuck = [Value(seed, "", "finished", 90.0, False) for seed in range(n)]
            arms = {"a": summarize("a", "test_error", stuck), "b": arm("b", [7 + 0.01 * seed for seed in range(n)])}
            (found,) = verdicts([Claim(text="?", expect=expect)], lambda name, _, arms=arms: arms[name], paired=True,
                                dropped=claims - 1)  # fmt: skip
            assert (found.verdict == "supported") == (n == number)


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

"""Claims: what a study expects, and the verdict of the data on it, never stronger than the data."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from residuum.analysis.aggregate import Summary, in_logarithms, percent
from residuum.analysis.compare import difference, holm, holm_factors, label_p, sign_flip_p
from residuum.analysis.estimate import LEVEL, Estimate, chance, of_mean, p_is
from residuum.analysis.failures import (
    Rates,
    Signs,
    WorstRanks,
    clopper_pearson,
    count,
    fewest,
    said,
    scored,
    some_did_not_train,
)
from residuum.errors import tally
from residuum.records.measures import measure
from residuum.studies.study import Claim

Word = Literal["supported", "contradicted", "undecided"]
Judge = Estimate | WorstRanks | Signs | Rates
"""What judges a difference: the one-sided p-values `above` and `below` of its being more or less than a number."""

LEAST = 3
"""Pairs or runs without which no t test decides: two spread as little as they happen to."""

ENOUGH = 6
"""Pairs from which on a permutation test can reach 5 %; below it nothing but the normal distribution stands by a t."""


@dataclass(frozen=True)
class Verdict:
    """What the data say about a claim, and in one sentence why.

    `n` counts pairs (unpaired: runs of the smaller arm; against a number: runs), `difference` is the mean of
    left - right with its interval (where runs did not train the `median`, which has none), `p` the smallest level at
    which the test alone would decide the claim, and `p_holm` the same after Holm's correction for all claims of the
    study. `corrected` is the interval that agrees with `p_holm`: it lies on one side of the margin exactly where the
    claim is decided at `level`. `rests_on` says in a few words on what the verdict stands. Times are compared by their
    ratio, where the claim has no margin in seconds: the difference is then `in_percent`. `exploratory` says why the
    claim is none of those that were promised; empty where it is. `early`: it was decided at a planned look before the
    last one, so its difference is on average too large.
    """

    claim: Claim
    verdict: Word
    n: int
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    reason: str
    corrected: tuple[float, float] | None = None
    level: float = LEVEL
    p_permutation: float | None = None
    rests_on: str = ""
    in_percent: bool = False
    exploratory: str = ""
    early: bool = False
    median: bool = False


@dataclass(frozen=True)
class _Evidence:
    """What there is on one claim: runs, the difference, what judges it, or what stands in the way of that."""

    claim: Claim
    n: int
    counted: str
    mean: float | None
    judge: Judge | None
    obstacle: str
    p_permutation: float | None = None
    lost: str = ""
    in_percent: bool = False

    @property
    def p(self) -> float | None:
        return None if self.obstacle or self.judge is None else _p(self.claim, self.judge)


def verdicts(
    claims: Sequence[Claim],
    values: Callable[[str, str], Summary],
    *,
    paired: bool,
    level: float = LEVEL,
    dropped: int = 0,
) -> tuple[Verdict, ...]:
    """The verdict on each claim; `values` gives the summary of an arm and a measure.

    A claim is decided if its p, two-sided and after Holm's correction for all claims, is below 1 - `level`; the
    interval at that corrected level then lies wholly on one side of the margin, and the side is the verdict. For
    `A = B` that is within or outside ± the margin: two one-sided tests (Schuirmann 1987), each at half the level.
    Where runs did not train (they diverged, or stayed at chance), they are the worst of all and arms are compared by
    ranks; the means then have to agree. An arm with a failed or missing run is not judged by the runs that are left.
    Counts, which no seed changes, are compared as they are. `dropped` claims of the family are no longer made and count
    all the same: leaving one out must not help the others.
    """
    found = [_evidence(claim, values, paired) for claim in claims]
    # A claim that cannot be judged yet counts as one: what is decided now must stand when its runs are there.
    ones = [*(1.0 if one.obstacle else one.p for one in found), *[1.0] * dropped]
    corrections = zip(found, holm(ones), holm_factors(ones), strict=False)
    return tuple(_verdict(one, p, factor or 1.0, ones, level) for one, p, factor in corrections)


def _evidence(claim: Claim, values: Callable[[str, str], Summary], paired: bool) -> _Evidence:
    left, right = values(claim.left, claim.measure), claim.right
    sides = [left, values(right, claim.measure)] if isinstance(right, str) else [left]
    what = measure(claim.measure)
    lost = what.untrained != "as any" and some_did_not_train(sides)
    obstacle = _obstacle(sides, worst=what.untrained == "worst")
    if not obstacle and claim.measure == "trained":
        return _trained(claim, sides)
    if lost and what.untrained == "worst" and what.lower_is_better is not None:
        return _ranked(claim, sides, what.lower_is_better, obstacle)
    logs = None if claim.margin or (isinstance(right, float) and right <= 0) else in_logarithms(sides)
    if logs is not None:
        sides, right = logs, right if isinstance(right, str) else math.log(right)
    if isinstance(right, str):
        found = difference(*sides, paired=paired)
        n, mean, estimate = found.n, found.mean, found.estimate
        unit = "pair" if paired else "run"
        counted = tally(n, unit) if paired else f"{left.n} and {sides[1].n} runs"
        differences = [number for _, number in found.by_seed]
    else:
        n, unit, counted = left.n, "run", tally(left.n, "run")
        differences = [number - right for number in sides[0].numbers]
        mean = fmean(differences) if differences else None
        estimate = of_mean(differences, max(map(abs, sides[0].numbers), default=0.0))
    if not obstacle and lost:
        obstacle = f"{said(sides)}, and {claim.measure.replace('_', ' ')} says nothing of such runs"
    if not obstacle and not _exact(sides):
        if n < LEAST:
            obstacle = (f"{'one' if n else 'no'} {unit} has no interval" if n < 2
                        else f"two {unit}s decide nothing: a verdict needs {LEAST}")  # fmt: skip
        elif estimate is None:
            obstacle = f"{counted} without any spread: chance cannot be judged by them"
    permuted = None if obstacle or estimate is None else _permuted(claim, sides, differences, paired)
    return _Evidence(claim, n, counted, mean, estimate, obstacle, permuted, in_percent=logs is not None)


def _ranked(claim: Claim, sides: Sequence[Summary], lower_is_better: bool, obstacle: str) -> _Evidence:
    """The evidence on a claim about arms of which some runs did not train."""
    found, right = scored(sides, lower_is_better), claim.right
    n = min(len(values) for values, _ in found)
    judge: Judge
    if isinstance(right, str):
        (first, lost), (second, other_lost) = found
        judge, counted = WorstRanks(first, second, lost, other_lost), f"{len(first)} and {len(second)} runs"
    else:
        judge, counted = Signs(tuple(value - right for value in found[0][0])), tally(n, "run")
    if not n:
        return _Evidence(claim, 0, counted, None, None, obstacle or "no run to judge by")
    middle = judge.middle if math.isfinite(judge.middle) else None
    return _Evidence(claim, n, counted, middle, judge, obstacle, lost=said(sides))


def _trained(claim: Claim, sides: Sequence[Summary]) -> _Evidence:
    """The evidence on a claim about how many runs train."""
    found, right = [count(side) for side in sides], claim.right
    counted = " and ".join(str(one.n) for one in found) + f" run{'' if found[0].n == 1 else 's'}"
    if isinstance(right, str):
        one, two = found
        judge = Rates(one.n - one.failed, one.n, two.n - two.failed, two.n)
    else:
        judge = Rates(found[0].n - found[0].failed, found[0].n, share=right)
    if isinstance(right, str) and (claim.margin or claim.operator == "="):
        obstacle = "shares of runs that train are compared without a margin, by > or <"
        return _Evidence(claim, min(one.n for one in found), counted, judge.middle, None, obstacle)
    return _Evidence(claim, min(one.n for one in found), counted, judge.middle, judge, "", lost=said(sides))


def _permuted(claim: Claim, sides: Sequence[Summary], differences: Sequence[float], paired: bool) -> float:
    """The permutation p that stands beside the p of t: of the same differences, against the same margin."""

    def against(null: float) -> float:
        if paired or len(sides) == 1:
            return sign_flip_p([one - null for one in differences])
        return label_p([one - null for one in sides[0].numbers], sides[1].numbers)

    if claim.operator != "=":
        return against(_bound(claim))
    ends = against(-claim.reach), against(claim.reach)
    found = difference(*sides, paired=paired).mean if len(sides) == 2 else sum(differences) / len(differences)
    return max(ends) if abs(found or 0.0) <= claim.reach else min(ends)


def _obstacle(sides: Sequence[Summary], *, worst: bool) -> str:
    """What stands in the way of a verdict: runs that failed, are still missing, or have no such value.

    Runs that diverged do, unless they count as the `worst`.
    """
    for side in sides:
        others = [value.status for other in sides if other is not side for value in other.values]
        gone = {value.status for value in side.values} == {"diverged"}
        if not worst and side.values and gone and {*others} <= {"finished"}:
            which = "the only run" if len(side.values) == 1 else f"all {len(side.values)} runs"
            return f"{which} of {side.arm!r} diverged, and so measured no {side.measure}"
    reasons = []
    for side in sides:
        for word in ("failed",) if worst else ("diverged", "failed"):
            number = sum(value.status == word for value in side.values)
            if number:
                reasons.append(f"{number} of {tally(len(side.values), 'run')} of {side.arm!r} {word}")
        empty = sum(value.status == "finished" and value.value is None for value in side.values)
        if empty:
            reasons.append(f"{empty} of {tally(len(side.values), 'run')} of {side.arm!r} measured no {side.measure}")
    runs = [value.status for side in sides for value in side.values]
    waiting = sum(status in ("missing", "running", "stopped") for status in runs)
    if waiting:
        reasons.append(f"{waiting} of {tally(len(runs), 'run')} {'is' if waiting == 1 else 'are'} still missing")
    return "; ".join(reasons)


def _exact(sides: Sequence[Summary]) -> bool:
    """Whether the measure is known without chance, from one run as from many."""
    return measure(sides[0].measure).exact and all(side.n for side in sides)


def _bound(claim: Claim) -> float:
    """What left - right is compared with where a claim has a direction."""
    return -claim.reach if claim.operator == "<" else claim.reach


def _holds(claim: Claim, mean: float) -> bool:
    if claim.operator == "=":
        return abs(mean) <= claim.reach
    return mean < _bound(claim) if claim.operator == "<" else mean > _bound(claim)


def _tails(claim: Claim, judge: Judge) -> tuple[float, float]:
    """The p-values, each two-sided, at which a claim would be supported and contradicted."""
    if claim.operator == "=":
        within = 2 * max(judge.above(-claim.reach), judge.below(claim.reach))
        return min(1.0, within), min(1.0, 2 * min(judge.above(claim.reach), judge.below(-claim.reach)))
    above, below = min(1.0, 2 * judge.above(_bound(claim))), min(1.0, 2 * judge.below(_bound(claim)))
    return (below, above) if claim.operator == "<" else (above, below)


def _p(claim: Claim, judge: Judge) -> float:
    """The smallest level at which the test decides the claim, either way."""
    return min(_tails(claim, judge))


def _verdict(
    found: _Evidence, p_holm: float | None, factor: float, ones: Sequence[float | None], level: float
) -> Verdict:
    claim, mean, judge = found.claim, found.mean, found.judge
    t = judge if isinstance(judge, Estimate) else None
    low, high = _interval(found, LEVEL) if t else (None, None)
    word: Word = "undecided"
    corrected, rests_on = None, ""
    if found.obstacle or (mean is None and judge is None):
        reason = found.obstacle
    elif judge is None or found.p is None or p_holm is None:
        assert mean is not None
        word = "supported" if _holds(claim, mean) else "contradicted"
        reason, rests_on = f"exact: a difference of {mean:,.0f}", "exact"
    else:
        if p_holm < 1 - level:
            supported, contradicted = _tails(claim, judge)
            word = "supported" if supported < contradicted else "contradicted"
            # Most runs a little better and some that fail is not better: ranks and means have to agree.
            disagree = isinstance(judge, WorstRanks | Signs) and _holds(claim, judge.mean) != (word == "supported")
            word = "undecided" if disagree else word
        corrected = _interval(found, 1 - (1 - level) / factor) if t else None
        reason, rests_on = _numbers(found), _rests_on(found, (1 - level) / factor)
        if word == "undecided" and p_holm < 1 - level:
            reason += ": most runs lie on one side and the mean, with those that did not train, on the other"
        elif word == "undecided":
            tested = [one for one in ones if one is not None]
            left = sum(one >= found.p for one in tested)
            reason += _why_undecided(found, found.p, p_holm, len(tested), left, level)
    return Verdict(
        claim=claim, verdict=word, n=found.n, low=low, in_percent=found.in_percent,
        difference=percent(mean) if found.in_percent and mean is not None else mean, high=high, p=found.p,
        p_holm=None if found.p is None else p_holm, reason=reason, corrected=corrected, level=level,
        p_permutation=found.p_permutation, rests_on=rests_on,
        median=isinstance(judge, WorstRanks | Signs) and mean is not None,
    )  # fmt: skip


def _interval(found: _Evidence, level: float) -> tuple[float, float]:
    assert isinstance(found.judge, Estimate)
    low, high = found.judge.interval(level)
    return (percent(low), percent(high)) if found.in_percent else (low, high)


def _rests_on(found: _Evidence, alpha: float) -> str:
    """As `3 pairs, rests on normality, permutation p 0.25, failure rates up to 71 % open`.

    It does where runs are few, or the permutation test would not have been below `alpha`, as p has to be, and the t
    test is. An exact test rests on the runs alone.
    """
    if not isinstance(found.judge, Estimate):
        return f"{found.counted}, exact test"
    p, exact = found.p, found.p_permutation
    normal = found.n < ENOUGH or (p is not None and exact is not None and p < alpha <= exact)
    parts = [found.counted, *(["rests on normality"] if normal else [])]
    parts.append(f"permutation p {chance(found.p_permutation)}")
    if measure(found.claim.measure).untrained == "worst":
        parts.append(f"failure rates up to {100 * clopper_pearson(0, found.n)[1]:.0f} % open")
    return ", ".join(parts)


def _numbers(found: _Evidence) -> str:
    """As `mean 12.3 points, 95 % interval 9.1 to 15.5, 3 pairs`; against a number, the mean of the arm itself."""
    estimate, claim = found.judge, found.claim
    if not isinstance(estimate, Estimate):
        assert estimate is not None
        return f"{found.lost} ({estimate.name(_bound(claim))})"
    right, unit = claim.right, measure(claim.measure).unit
    what, shift = ("mean difference", 0.0) if isinstance(right, str) else ("mean", right)
    unit = {"%": " points" if isinstance(right, str) else " %", "share": "", "ratio": "", "count": ""}.get(
        unit, f" {unit}"
    )
    low, high = _interval(found, LEVEL)
    middle = estimate.mean
    if found.in_percent:  # against a number too, for it is a ratio
        shift, unit, middle, what = 0.0, " %", percent(middle), "mean difference"
    digits = 2 if found.in_percent else measure(claim.measure).digits
    mean, left, to = (f"{value + shift:.{digits}f}" for value in (middle, low, high))
    return f"{what} {mean}{unit}, {100 * LEVEL:.4g} % interval {left} to {to}, {found.counted}"


def _why_undecided(found: _Evidence, p: float, p_holm: float, tested: int, left: int, level: float) -> str:
    """Why a test decides nothing: `left` of the `tested` claims have no smaller p, itself included.

    However the runs had ended, Holm's correction would have multiplied p by `left` at least.
    """
    claim = found.claim
    judge, alpha = found.judge, 1 - level
    if judge is not None and not isinstance(judge, Estimate):
        null = _bound(claim)
        if judge.least(null) * left >= alpha:
            number = fewest(lambda n: judge.least(null, n), alpha / tested)
            of = f" for one of {tested} claims ({p_is(p_holm)} after Holm's correction)" if tested > 1 else ""
            each = " of each arm" if isinstance(claim.right, str) else ""
            return (
                f": no outcome of {found.counted} decides it{of}; with {tally(number, 'run')}{each} it can be decided"
            )
    if p < alpha:
        return f": not beyond chance for one of {tested} claims ({p_is(p_holm)} after Holm's correction)"
    if not isinstance(judge, Estimate):
        return f": not beyond chance for {found.counted}"
    if level > LEVEL and p < 1 - LEVEL:
        return f": not beyond chance at this look ({p_is(p)})"
    if claim.operator == "=":
        within = f"± {claim.margin:g}" if claim.factor is None else f"a factor of {claim.factor:g}"
        return f": neither within nor outside {within}"
    number = isinstance(claim.right, float) and not found.in_percent
    bound = claim.right + _bound(claim) if number and isinstance(claim.right, float) else _bound(claim)
    return f": {bound + 0.0:g} is not excluded" if claim.factor is None else f": {percent(bound):.3g} % is not excluded"

"""Claims: what a study expects, and the verdict of the data on it, never stronger than the data."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from residuum.analysis.aggregate import Summary
from residuum.analysis.compare import difference, holm
from residuum.analysis.estimate import LEVEL, Estimate, of_mean
from residuum.records.measures import measure
from residuum.studies.study import Claim

Word = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """What the data say about a claim, and in one sentence why.

    `n` counts pairs (unpaired: runs of the smaller arm; against a number: runs), `difference` is the mean of
    left - right with its interval, `p` the smallest level at which the interval alone would decide the claim, and
    `p_holm` the same after Holm's correction for all claims of the study.
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


@dataclass(frozen=True)
class _Evidence:
    """What there is on one claim: runs, the mean difference, its estimate, or what stands in the way of one."""

    claim: Claim
    n: int
    counted: str
    mean: float | None
    estimate: Estimate | None
    obstacle: str

    @property
    def p(self) -> float | None:
        return None if self.obstacle or self.estimate is None else _p(self.claim, self.estimate)


def verdicts(
    claims: Sequence[Claim], values: Callable[[str, str], Summary], *, paired: bool, level: float = LEVEL
) -> tuple[Verdict, ...]:
    """The verdict on each claim; `values` gives the summary of an arm and a measure.

    A claim is decided if its p, two-sided and after Holm's correction for all claims, is below 1 - `level`; the
    interval at that corrected level then lies wholly on one side of the margin, and the side is the verdict. For
    `A = B` that is within or outside ± the margin: two one-sided tests (Schuirmann 1987), each at half the level.
    An arm with a diverged, failed or missing run is not judged by the runs that are left. Counts, which no seed
    changes, are compared as they are.
    """
    found = [_evidence(claim, values, paired) for claim in claims]
    # A claim that cannot be judged yet counts as one: what is decided now must stand when its runs are there.
    adjusted = holm([1.0 if one.obstacle else one.p for one in found])
    tested = sum(p is not None for p in adjusted)
    return tuple(_verdict(one, p, tested, level) for one, p in zip(found, adjusted, strict=True))


def _evidence(claim: Claim, values: Callable[[str, str], Summary], paired: bool) -> _Evidence:
    left, right = values(claim.left, claim.measure), claim.right
    if isinstance(right, str):
        sides = [left, values(right, claim.measure)]
        found = difference(*sides, paired=paired)
        n, mean, estimate = found.n, found.mean, found.estimate
        unit = "pair" if paired else "run"
        counted = _count(n, unit) if paired else f"{left.n} and {sides[1].n} runs"
    else:
        sides, n, unit, counted = [left], left.n, "run", _count(left.n, "run")
        mean = None if left.mean is None else left.mean - right
        shifted = of_mean(left.numbers)
        estimate = replace(shifted, mean=shifted.mean - right) if shifted else None
    obstacle = _obstacle(sides)
    if not obstacle and not _exact(sides):
        if n < 2:
            obstacle = f"{'one' if n else 'no'} {unit} has no interval"
        elif estimate is None:
            obstacle = f"{counted} without any spread: chance cannot be judged by them"
    return _Evidence(claim, n, counted, mean, estimate, obstacle)


def _obstacle(sides: Sequence[Summary]) -> str:
    """What stands in the way of a verdict: runs that diverged or failed, are still missing, or have no such value."""
    for side in sides:
        others = [value.status for other in sides if other is not side for value in other.values]
        if side.values and {value.status for value in side.values} == {"diverged"} and {*others} <= {"finished"}:
            which = "the only run" if len(side.values) == 1 else f"all {len(side.values)} runs"
            return f"{which} of {side.arm!r} diverged: a result on its own, which no mean can show"
    reasons = []
    for side in sides:
        for word in ("diverged", "failed"):
            count = sum(value.status == word for value in side.values)
            if count:
                reasons.append(f"{count} of {_count(len(side.values), 'run')} of {side.arm!r} {word}")
        empty = sum(value.status == "finished" and value.value is None for value in side.values)
        if empty:
            reasons.append(f"{empty} of {_count(len(side.values), 'run')} of {side.arm!r} measured no {side.measure}")
    runs = [value.status for side in sides for value in side.values]
    waiting = sum(status in ("missing", "running", "stopped") for status in runs)
    if waiting:
        reasons.append(f"{waiting} of {_count(len(runs), 'run')} {'is' if waiting == 1 else 'are'} still missing")
    return "; ".join(reasons)


def _exact(sides: Sequence[Summary]) -> bool:
    """Whether the measure is a count of the network, which is known without chance, from one run as from many."""
    return measure(sides[0].measure).unit == "count" and all(side.n for side in sides)


def _bound(claim: Claim) -> float:
    """What left - right is compared with where a claim has a direction."""
    return -claim.margin if claim.operator == "<" else claim.margin


def _holds(claim: Claim, mean: float) -> bool:
    if claim.operator == "=":
        return abs(mean) <= claim.margin
    return mean < _bound(claim) if claim.operator == "<" else mean > _bound(claim)


def _p(claim: Claim, estimate: Estimate) -> float:
    """The smallest level at which the interval decides the claim, either way."""
    if claim.operator != "=":
        return estimate.p(_bound(claim))
    within = 2 * max(estimate.above(-claim.margin), estimate.below(claim.margin))
    outside = 2 * min(estimate.above(claim.margin), estimate.below(-claim.margin))
    return min(1.0, within, outside)


def _verdict(found: _Evidence, p_holm: float | None, tested: int, level: float) -> Verdict:
    claim, mean = found.claim, found.mean
    low, high = found.estimate.interval(level) if found.estimate else (None, None)
    word: Word = "undecided"
    if found.obstacle or mean is None:
        reason = found.obstacle
    elif found.p is None or p_holm is None:
        low, high = mean, mean
        word = "supported" if _holds(claim, mean) else "contradicted"
        reason = f"exact: a difference of {mean:,.0f}"
    else:
        if p_holm < 1 - level:
            word = "supported" if _holds(claim, mean) else "contradicted"
        reason = _numbers(found, level)
        if word == "undecided":
            reason += _why_undecided(claim, found.p, p_holm, tested, level)
    return Verdict(claim, word, found.n, mean, low, high, found.p, None if found.p is None else p_holm, reason)


def _numbers(found: _Evidence, level: float) -> str:
    """As `mean 12.3 points, 95 % interval 9.1 to 15.5, 3 pairs`; against a number, the mean of the arm itself."""
    assert found.estimate is not None
    right, unit = found.claim.right, measure(found.claim.measure).unit
    what, shift = ("mean difference", 0.0) if isinstance(right, str) else ("mean", right)
    unit = {"%": " points" if isinstance(right, str) else " %", "share": "", "ratio": "", "count": ""}.get(
        unit, f" {unit}"
    )
    low, high = found.estimate.interval(level)
    digits = max(0, min(6, 1 - math.floor(math.log10((high - low) / 2))))
    mean, left, to = (f"{value + shift:.{digits}f}" for value in (found.estimate.mean, low, high))
    return f"{what} {mean}{unit}, {100 * level:.4g} % interval {left} to {to}, {found.counted}"


def _why_undecided(claim: Claim, p: float, p_holm: float, tested: int, level: float) -> str:
    if p < 1 - level:
        return f": not beyond chance for one of {tested} claims (p = {p_holm:.2g} after Holm's correction)"
    if claim.operator == "=":
        return f": neither within nor outside ± {claim.margin:g}"
    bound = claim.right + _bound(claim) if isinstance(claim.right, float) else _bound(claim)
    return f": {bound + 0.0:g} is not excluded"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

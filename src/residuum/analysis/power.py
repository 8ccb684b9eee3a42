"""Power: what a number of seeds can show of a claim, how many a difference takes, how error is spent over looks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from scipy.special import chdtri, nctdtr, stdtr, stdtrit

from residuum.analysis.aggregate import Summary, in_logarithms, percent
from residuum.analysis.claims import LEAST
from residuum.analysis.compare import difference
from residuum.analysis.estimate import LEVEL, deviation
from residuum.analysis.failures import Rates, fewest, least_by_counts, least_by_signs, said, some_did_not_train
from residuum.analysis.results import Results
from residuum.config import RunConfig
from residuum.data.datasets import ENTRIES
from residuum.data.datasets.source import Entry
from residuum.errors import InputError
from residuum.records.measures import measure
from residuum.registry import name_of
from residuum.studies.plan import Plan
from residuum.studies.study import Claim

POWER = 0.8
"""Probability with which a difference is to be seen that is called detectable."""

DRAWS = 20_000
"""Simulated studies: a probability near 0.8 is then known to 0.006 (95 %), from the same draws at every call."""


FEW = 30
"""Seeds from which on the degrees of freedom of Welch's test are as good as those of the true spreads."""


@dataclass(frozen=True)
class Promise:
    """What a study can show of one claim: the verdict that will be given, not a test that is never made.

    Attributes:
        spread: standard deviation of the seeds' differences (unpaired: of an arm), in the unit of the measure, or of
            the logarithms of times; None where nothing is known of it.
        highest: its upper 95 % confidence limit, where it comes from runs.
        source: where it comes from.
        alone: how far beyond its margin, in `spread`s, the truth has to lie for the claim to be supported with a
            probability of 80 % if no other claim is decided: at the first step of Holm's correction.
        together: the same if all claims of the study lie as far beyond theirs.
        equal: of a claim `A = B`, the probability of "supported" if there is no difference at all.
        ratio: unpaired, the other arm's standard deviation over `spread`.
        by_counts: it is judged by how many runs train, or by ranks since some did not: no spread promises anything.
        fewest: the seeds from which on runs that do not train can decide it at the first step of Holm's correction: all
            of one arm and none of the other; None of a measure that says nothing of such runs.
    """

    claim: Claim
    spread: float | None
    highest: float | None
    source: str
    alone: float | None
    together: float | None
    equal: float | None
    ratio: float = 1.0
    by_counts: bool = False
    fewest: int | None = None

    def points(self, sds: float | None, *, highest: bool = False) -> float | None:
        """So many standard deviations as a difference in the unit of the measure, of times in percent."""
        spread = self.highest if highest else self.spread
        if sds is None or spread is None:
            return None
        return percent(sds * spread) if _in_logarithms(self.claim) else sds * spread


def _in_logarithms(claim: Claim) -> bool:
    return measure(claim.measure).is_time and not claim.margin


def claims_of(results: Results) -> tuple[Claim, ...]:
    """The claims of a study that chance decides; of one without any, its comparisons as if they were claims."""
    study = results.plan.study
    if study.claims:
        return tuple(one for one in study.claims if not measure(one.measure).exact)
    pairs = ((one.arm, one.baseline, one.measure) for one in results.comparisons)
    return tuple(Claim(text=f"{arm} and {baseline}", expect=f"{arm} > {baseline}", measure=name)
                 for arm, baseline, name in pairs)  # fmt: skip


def promises(
    results: Results, sizes: Sequence[int], levels: Sequence[float] = (1 - LEVEL,), sd: float | None = None
) -> tuple[Promise, ...]:
    """What each claim of a study can be shown with so many seeds at its looks, and at their shares of the error.

    The standard deviation is `sd`, or that of the claim's own runs as far as they go, or of earlier ones of its kind,
    data and length (`Entry.spread`), never one of other arms or measures. Simulated with normal runs that all train, at
    the same draws; of a claim that counts of runs decide, whatever `sd` says, there is no such promise.
    """
    claims, paired = claims_of(results), results.plan.study.compare.pair_by != "none"
    made = []
    for claim in claims:
        least = _least(claim)
        number = None if least is None else fewest(least, max(levels) / len(claims))
        if why := _by_counts(results, claim):
            made.append(Promise(claim, None, None, why, None, None, None, by_counts=True, fewest=number))
            continue
        found, df, ratio, source = _spread(results, claim, paired) if sd is None else (sd, 0, 1.0, "given")
        one_sample = paired or not isinstance(claim.right, str)
        test = Trial(tuple(sizes), tuple(levels), len(claims), one_sample, ratio)
        alone = together = equal = None
        if claim.operator != "=":
            alone, together = detectable_sds(test), detectable_sds(test, together=True)
        elif found:
            equal = supported(test, margin=claim.reach / found)
        highest = found * math.sqrt(df / float(chdtri(df, LEVEL))) if found and df else None
        made.append(Promise(claim, found, highest, source, alone, together, equal, ratio, fewest=number))
    return tuple(made)


def _least(claim: Claim) -> Callable[[int], float] | None:
    """The smallest p that so many runs can give a claim if one arm never trains; None where such runs say nothing."""
    if measure(claim.measure).untrained != "worst":
        return None
    if isinstance(claim.right, str):
        return lambda n: least_by_counts(n, n)
    if claim.measure != "trained":
        return least_by_signs
    share, null = claim.right, -claim.margin if claim.operator == "<" else claim.margin
    return lambda n: Rates(0, n, share=share).least(null)


def _by_counts(results: Results, claim: Claim) -> str:
    """Why a claim is judged by how many runs train, or by ranks, and by no t test; empty where one will judge it."""
    if claim.measure == "trained":
        return "it is about how many runs train"
    # Runs that all diverged have no value of anything else, and are known all the same.
    sides = _sides(results, claim) or _sides(results, claim, "trained")
    lost = measure(claim.measure).untrained != "as any" and some_did_not_train(sides)
    return f"{said(sides)}, which no spread describes" if lost else ""


def _sides(results: Results, claim: Claim, name: str = "") -> list[Summary]:
    """The summaries of a claim's arms, of its measure or of one by name, as far as there are any."""
    summaries = {one.arm: one for one in results.summaries.get(name or claim.measure, ())}
    names = [claim.left, *([claim.right] if isinstance(claim.right, str) else [])]
    return [summaries[name] for name in names if name in summaries]


def _spread(results: Results, claim: Claim, paired: bool) -> tuple[float | None, int, float, str]:
    """The spread behind a claim, its degrees of freedom, unpaired the ratio of the arms' spreads, and the source."""
    sides, both = _sides(results, claim), isinstance(claim.right, str)
    if len(sides) == 1 + both:
        sides = (in_logarithms(sides) if _in_logarithms(claim) else None) or sides
        runs = f"of {min(one.n for one in sides)} {'pairs' if paired and len(sides) == 2 else 'runs'} so far"
        if len(sides) == 1 and sides[0].n > 1:
            return deviation(sides[0].numbers) or None, sides[0].n - 1, 1.0, runs
        if len(sides) == 2 and paired and (found := difference(*sides, paired=True)).sd:
            return found.sd, found.n - 1, 1.0, runs
        if len(sides) == 2 and not paired and min(one.n for one in sides) > 1:
            first, second = (deviation(one.numbers) for one in sides)
            if first and second:
                return first, sides[0].n - 1, second / first, runs
    prior, source = _prior(results.plan, claim)
    return (prior * 2**0.5 if prior and paired and both else prior), 0, 1.0, source


def _prior(plan: Plan, claim: Claim) -> tuple[float | None, str]:
    """The spread between seeds of an arm that is known before there are runs, or that there is none, and why."""
    datasets = {run.config.data.dataset.name for run in plan.runs}
    entry = ENTRIES[min(datasets)] if len(datasets) == 1 and datasets <= {*ENTRIES} else None
    known = entry.spread.get(claim.measure) if entry else None
    if entry is None or known is None:
        return None, "nothing is known of its spread before there are runs"
    names = {claim.left, claim.right}
    configs = {run.arm: run.config for run in plan.runs if run.arm in names}
    short = min(config.train.epochs for config in configs.values()) < known.epochs
    if short or not all(_has_all_images(plan, arm, config, entry) for arm, config in configs.items()):
        what = f"{known.epochs} epochs or more of all images of {entry.name}"
        return None, f"nothing is known of its spread before there are runs: {known.sd} an arm is known of {what}"
    if plain := sorted(arm for arm, config in configs.items() if _without_shortcuts(config)):
        what = f"networks with shortcuts, which {' and '.join(map(repr, plain))} {'have' if plain[1:] else 'has'} not"
        return None, f"nothing is known of its spread before there are runs: {known.sd} an arm is known of {what}"
    return known.sd, f"from {known.sd} an arm, as repeats of ResNets near 94 % show; no runs yet"


def _without_shortcuts(config: RunConfig) -> bool:
    """Whether a network has no shortcuts, as far as is known: the deeper ones spread widely, or never train."""
    return bool(name_of(config.model.settings.get("shortcut", "none")) == "none")


def _has_all_images(plan: Plan, arm: str, config: RunConfig, entry: Entry) -> bool:
    """Whether an arm trains on all that its data set is published with, less what it holds out."""
    if entry.published is None:
        return not config.data.subset
    held_out = config.data.validation
    trains = entry.published[0] - (held_out if held_out >= 1 else round(held_out * entry.published[0]))
    updates = next(one.steps_per_epoch for one in plan.arms if one.name == arm)
    return (updates + 1) * config.train.batch_size > trains  # the last batch may be left out


@dataclass(frozen=True)
class Trial:
    """The test that a verdict is made of: seeds and error at each look, number of claims, and the kind of t test."""

    sizes: tuple[int, ...]
    levels: tuple[float, ...]
    claims: int
    one_sample: bool
    ratio: float = 1.0


@lru_cache(maxsize=16)
def draws(test: Trial, claims: int) -> tuple[tuple[Any, Any, Any], ...]:
    """mean_DC, error_DC and df_DC of simulated differences without any effect, at each look; the sd of one is 1."""
    shape, random = (DRAWS, claims, test.sizes[-1]), np.random.default_rng(0)
    first, found = random.normal(size=shape), []
    second = np.zeros(shape) if test.one_sample else random.normal(scale=test.ratio, size=shape)
    for n in test.sizes:
        one, two = (part[:, :, :n].var(axis=2, ddof=1) / n for part in (first, second))
        df = np.full(one.shape, n - 1.0) if test.one_sample else (n - 1) * (one + two) ** 2 / (one**2 + two**2)
        found.append((first[:, :, :n].mean(axis=2) - second[:, :, :n].mean(axis=2), np.sqrt(one + two), df))
    return tuple(found)


def supported(test: Trial, shift: float = 0.0, *, together: bool = False, margin: float | None = None) -> float:
    """The share of simulated studies in which a claim is supported whose truth lies `shift` sd beyond its bound.

    `together`: so do all other claims; else none of them is decided. `margin`: of a claim `A = B`, in sd.
    """
    claims = test.claims if together else 1
    found = np.zeros((DRAWS, claims), dtype=bool)
    for level, (mean, error, df) in zip(test.levels, draws(test, claims), strict=True):
        if margin is None:
            t = (mean + shift) / error
            p, right_side = 2 * stdtr(df, -np.abs(t)), t > 0
        else:
            p, right_side = 2 * stdtr(df, -(margin - np.abs(mean)) / error), np.abs(mean) < margin
        if together:
            order = np.argsort(p, axis=1)
            steps = np.maximum.accumulate(np.take_along_axis(p, order, axis=1) * np.arange(claims, 0, -1), axis=1)
            adjusted = np.empty_like(p)
            np.put_along_axis(adjusted, order, steps, axis=1)
            found |= (adjusted < level) & right_side
        else:
            found |= (test.claims * p < level) & right_side
    return float(found.mean())


@cache
def detectable_sds(test: Trial, *, together: bool = False) -> float | None:
    """How far, in sd, the truth must lie beyond a claim's bound to be seen with 80 %; None where a test takes more."""
    if min(test.sizes) < LEAST:
        return None
    low, high = 0.0, 1.0
    while supported(test, high, together=together) < POWER:
        low, high = high, 2 * high
    for _ in range(12):  # to a few thousandths, which the draws do not resolve
        middle = (low + high) / 2
        low, high = (middle, high) if supported(test, middle, together=together) < POWER else (low, middle)
    return high


def achieved(
    difference: float, sd: float, n: int, *, paired: bool = True, alpha: float = 0.05, ratio: float = 1.0
) -> float:
    """The probability that the two-sided t test at `alpha` sees a true difference with `n` seeds (2 or more).

    `sd` (above 0) is that of the differences if paired, else that of one arm, and `ratio` times it that of the other.
    From the noncentral t distribution (Cohen 1988, chapter 2), unpaired with the degrees of freedom of Welch's test.
    """
    df = n - 1 if paired else (n - 1) * (1 + ratio**2) ** 2 / (1 + ratio**4)
    shift = difference / sd * math.sqrt(n if paired else n / (1 + ratio**2))
    critical = float(stdtrit(df, 1 - alpha / 2))
    seen = float(nctdtr(df, -shift, -critical))  # as the mirrored lower tail: 1 - cdf would lose digits
    # The tail on the wrong side is below 3e-6 beyond a shift of 4, where scipy returns NaN for some of its values.
    return seen + float(nctdtr(df, shift, -critical)) if abs(shift) < 4 else seen


def seeds(promise: Promise, difference: float, claims: int, *, paired: bool) -> tuple[int | None, int | None]:
    """How many seeds support one of so many claims if the truth lies `difference` beyond its margin (times: percent).

    The second number is that for a standard deviation as large as its confidence limit. Unpaired, Welch's test has
    fewer degrees of freedom with few runs than with the true spreads: the closed form is where the simulation begins.
    """
    one_sample = paired or not isinstance(promise.claim.right, str)
    alpha = (1 - LEVEL) / claims
    shift = math.log1p(difference / 100) if _in_logarithms(promise.claim) else difference

    def of(sd: float | None) -> int | None:
        if sd is None:
            return None
        n = max(LEAST, seeds_needed(sd, shift, paired=one_sample, alpha=alpha, ratio=promise.ratio))
        while not one_sample and n < FEW:
            trial = Trial((n,), (1 - LEVEL,), claims, one_sample, promise.ratio)
            if supported(trial, shift / sd) >= POWER:
                break
            n += 1
        return n

    return of(promise.spread), of(promise.highest)


def seeds_needed(
    sd: float, difference: float, *, paired: bool = True, alpha: float = 0.05, power: float = 0.8, ratio: float = 1.0
) -> int:
    """The smallest number of seeds in each arm that sees a true difference with probability `power`.

    Raises:
        InputError: a difference that is not above 0, or one so small against `sd` that no one can pay for it.
    """
    if difference <= 0:
        raise InputError(f"a difference to be seen is above 0, not {difference:g}")
    if sd < 0:
        raise InputError(f"a standard deviation is not below 0, as {sd:g} is")
    if difference < sd / 1000:
        raise InputError(f"a difference of {difference:g} is too small to be seen at a standard deviation of {sd:g}")
    if sd == 0:
        return 2
    low, high = 1, 2
    while achieved(difference, sd, high, paired=paired, alpha=alpha, ratio=ratio) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = achieved(difference, sd, middle, paired=paired, alpha=alpha, ratio=ratio) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high

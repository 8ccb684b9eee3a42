"""Comparisons: the difference of two arms on one measure, paired by seed or not, and how sure it is."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

import numpy as np

from residuum.analysis.aggregate import Summary, in_logarithms, percent
from residuum.analysis.estimate import LEVEL, ROUNDING, Estimate, chance, deviation, of_difference, of_mean, p_is
from residuum.analysis.failures import WorstRanks, said, scored, some_did_not_train
from residuum.analysis.over_images import SeedsAndImages
from residuum.records.measures import measure

EXACT = 2**16
"""Rearrangements up to which a permutation test enumerates all of them: 16 pairs, or 9 runs against 9."""

RESAMPLES = 19_999
"""Random rearrangements that are drawn where there are more."""

Family = Literal["claim", "exploratory claim", "exploratory"]


@dataclass(frozen=True)
class Comparison:
    """The mean difference arm - baseline of a measure, with interval, effect size and p-values.

    Attributes:
        differences: (seed, arm - baseline) of every pair; empty if unpaired.
        n: pairs, or runs of the smaller arm.
        sd: standard deviation of the differences; unpaired, the one within arms, pooled.
        effect: Cohen's d, the mean in units of `sd` (d_z where paired; Cohen 1988, sections 2.2 and 2.3).
        p_t: paired t test, or Welch's.
        p_permutation: sign-flip test of the pairs, or permutation test of the labels, both two-sided on the mean.
        p_ranks: where runs did not train, the worst-rank test's, which then stands alone; `mean` is a median then.
        on_images: the same difference over seeds and test images, where every run left its predictions.
        p_holm: the p of the test (t, or ranks) after Holm's correction: that of the claim where the study claims which
            of the two is better, else for all other comparisons; None until that was applied.
        family: with what it was corrected: the promised claims, claims that came later, or other comparisons.
        note: what a reader must know of this comparison: pairs left out and why, why there is no interval.
        limit: how small the p of so few runs can get by permutation, where that is not below 5 %; else empty.
    """

    arm: str
    baseline: str
    measure: str
    differences: tuple[tuple[int, float], ...]
    paired: bool
    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    effect: float | None
    p_t: float | None
    p_permutation: float | None
    p_holm: float | None
    note: str
    limit: str
    p_ranks: float | None = None
    family: Family = "exploratory"
    in_percent: bool = False
    on_images: SeedsAndImages | None = None

    @property
    def p(self) -> float | None:
        """The p of the test that judges this comparison."""
        return self.p_t if self.p_ranks is None else self.p_ranks


@dataclass(frozen=True)
class Difference:
    """Arm - baseline without its judgement: per seed if paired, and the estimate of its mean.

    `estimate` is None where there are too few runs, where nothing varies, or where runs did not train; `ranks` takes
    its place there, if the measure says anything of such runs.
    """

    by_seed: tuple[tuple[int, float], ...]
    n: int
    mean: float | None
    sd: float | None
    estimate: Estimate | None
    ranks: WorstRanks | None = None


def difference(arm: Summary, baseline: Summary, *, paired: bool) -> Difference:
    """The difference of two arms: by seed if `paired`, else of their means (Welch); by ranks if runs did not train."""
    found, what = _difference(arm, baseline, paired), measure(arm.measure)
    if what.untrained == "as any" or not some_did_not_train((arm, baseline)):
        return found
    ranks = None
    if what.untrained == "worst" and what.lower_is_better is not None:
        (first, lost), (second, other_lost) = scored((arm, baseline), what.lower_is_better)
        ranks = WorstRanks(first, second, lost, other_lost) if first and second else None
    middle = None if ranks is None or not math.isfinite(ranks.middle) else ranks.middle
    n = min(len(ranks.first), len(ranks.second)) if ranks else found.n
    return Difference(found.by_seed, n, middle, None, None, ranks)


def _difference(arm: Summary, baseline: Summary, paired: bool) -> Difference:
    if not paired:
        first, second = arm.numbers, baseline.numbers
        n = min(len(first), len(second))
        mean = fmean(first) - fmean(second) if n else None
        return Difference((), n, mean, _pooled(first, second) if n > 1 else None, of_difference(first, second))
    others = {one.seed: one.value for one in baseline.values}
    found = ((one.seed, one.value, others.get(one.seed)) for one in arm.values)
    pairs = [(seed, one, two) for seed, one, two in found if one is not None and two is not None]
    by_seed = tuple((seed, one - two) for seed, one, two in pairs)
    numbers = [number for _, number in by_seed]
    size = max((max(abs(one), abs(two)) for _, one, two in pairs), default=0.0)
    sd = deviation(numbers, size) if len(numbers) > 1 else None
    return Difference(by_seed, len(numbers), fmean(numbers) if numbers else None, sd, of_mean(numbers, size))


def compare(arm: Summary, baseline: Summary, *, paired: bool, level: float = LEVEL) -> Comparison:
    """The difference of two arms with its interval at `level`, effect size and p-values; by seed if `paired`.

    Times are compared by their ratio: the difference is in percent, everything else that of the logarithms.
    """
    logs = in_logarithms((arm, baseline))
    if logs is not None:
        made = _compare(*logs, paired=paired, level=level)
        mean, low, high = (None if one is None else percent(one) for one in (made.mean, made.low, made.high))
        by_seed = tuple((seed, percent(one)) for seed, one in made.differences)
        return replace(made, mean=mean, low=low, high=high, differences=by_seed, in_percent=True)
    return _compare(arm, baseline, paired=paired, level=level)


def _compare(arm: Summary, baseline: Summary, *, paired: bool, level: float) -> Comparison:
    found = difference(arm, baseline, paired=paired)
    n, mean, sd = found.n, found.mean, found.sd
    p_permutation, smallest = None, 1.0
    lost = some_did_not_train((arm, baseline))
    by_t = found.ranks is None and not (lost and measure(arm.measure).untrained == "nothing")
    if by_t and paired and n > 1:
        p_permutation, smallest = sign_flip_p([number for _, number in found.by_seed]), 2 / 2**n
    elif by_t and n > 1:
        p_permutation = label_p(arm.numbers, baseline.numbers)
        smallest = (2 if arm.n == baseline.n else 1) / math.comb(arm.n + baseline.n, n)
    notes = [_left_out(arm, baseline)] if paired and by_t else []
    if not by_t:
        how = (
            f"compared by {found.ranks.name()}, {p_is(found.ranks.p())}"
            if found.ranks
            else f"{arm.measure} says nothing of such"
        )
        notes.append(f"{said((arm, baseline))}: {how}")
    elif n == 0:
        notes.append("no pair to compare" if paired else "an arm has no run to compare")
    elif n == 1:
        notes.append(f"one {'pair' if paired else 'run'} has no interval")
    elif found.estimate is None:
        notes.append("nothing varies: no interval and no p of the t test")
    limit = ""
    if by_t and n > 1 and smallest > 1 - LEVEL:
        how = f"{n} pairs" if paired else f"{arm.n} runs against {baseline.n}"
        limit = f"with {how} the permutation test cannot give p below {chance(smallest)}"
    low, high = found.estimate.interval(level) if found.estimate else (None, None)
    return Comparison(
        arm=arm.arm, baseline=baseline.arm, measure=arm.measure, differences=found.by_seed, paired=paired, n=n,
        mean=mean, sd=sd, low=low, high=high, effect=mean / sd if mean is not None and sd else None,
        p_t=found.estimate.p() if found.estimate else None, p_permutation=p_permutation, p_holm=None,
        note="; ".join(note for note in notes if note), limit=limit, p_ranks=found.ranks.p() if found.ranks else None,
    )  # fmt: skip


def _pooled(first: Sequence[float], second: Sequence[float]) -> float:
    squares = sum((len(part) - 1) * deviation(part) ** 2 for part in (first, second))
    return math.sqrt(squares / (len(first) + len(second) - 2))


def _left_out(arm: Summary, baseline: Summary) -> str:
    """Which seeds make no pair and why, as `seeds 1, 2 left out: 'plain110' diverged`."""
    why: dict[str, list[int]] = {}
    sides = [{one.seed: one for one in side.values} for side in (arm, baseline)]
    for seed in sorted(sides[0].keys() | sides[1].keys()):
        lost = []
        for summary, side in zip((arm, baseline), sides, strict=True):
            if seed not in side:
                lost.append(f"{summary.arm!r} has no such run")
            elif side[seed].value is None:
                status = side[seed].status
                lost.append(f"{summary.arm!r} {'has no value' if status == 'finished' else _word(status)}")
        if lost:
            why.setdefault(" and ".join(lost), []).append(seed)
    return "; ".join(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))} left out: {reason}"
                     for reason, seeds in why.items())  # fmt: skip


def _word(status: str) -> str:
    return status if status in ("diverged", "failed") else f"is {status}"


def sign_flip_p(differences: Sequence[float]) -> float:
    """The two-sided p of the mean of paired differences, by flipping signs: all 2^n flips up to 16 pairs, else drawn.

    Under the null each difference is as likely as its negative (Fisher 1935, The Design of Experiments, section 21).
    """
    n = len(differences)
    values = np.asarray(differences, dtype=np.float64)
    if 2**n > EXACT:
        return _drawn_p((values,), lambda sample, axis: np.abs(np.mean(sample, axis=axis)), "samples")
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    return _share_as_far(signs @ values / n, float(values.mean()), float(np.abs(values).max()))


def label_p(first: Sequence[float], second: Sequence[float]) -> float:
    """The two-sided p of a difference of means, by exchanging runs between arms: all ways if few, else drawn."""
    values = np.asarray([*first, *second], dtype=np.float64)
    n, total = len(first), len(values)
    if math.comb(total, n) > EXACT:
        return _drawn_p(
            (values[:n], values[n:]),
            lambda one, two, axis: np.abs(np.mean(one, axis=axis) - np.mean(two, axis=axis)),
            "independent",
        )
    chosen = np.array(list(itertools.combinations(range(total), n)))
    means = values[chosen].mean(axis=1)
    differences = means - (values.sum() - n * means) / (total - n)
    return _share_as_far(differences, float(differences[0]), float(np.abs(values).max()))


def _share_as_far(null: np.ndarray[Any, Any], observed: float, size: float) -> float:
    # Rearrangements that tie with the observed one must count, whatever the order of summation did to their last bit.
    return float(np.mean(np.abs(null) >= abs(observed) - ROUNDING * size))


def _drawn_p(samples: tuple[np.ndarray[Any, Any], ...], statistic: Any, kind: str) -> float:
    from scipy.stats import permutation_test  # slow to import, and seldom needed

    found = permutation_test(
        samples, statistic, permutation_type=kind, vectorized=True, n_resamples=RESAMPLES, alternative="greater", rng=0
    )
    return float(found.pvalue)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """The p-values adjusted so that all tests together err with the probability of one.

    None stays None and is not counted. Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    factors = zip(p, holm_factors(p), strict=True)
    return [None if one is None or factor is None else min(1.0, factor * one) for one, factor in factors]


def holm_factors(p: Sequence[float | None]) -> list[float | None]:
    """What Holm's correction multiplies each p-value by: at least the number of tests that are not below it.

    An interval at a level of 1 - alpha / factor excludes what is tested exactly where the corrected p is below alpha.
    """
    order = sorted((value, place) for place, value in enumerate(p) if value is not None)
    factors: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, place) in enumerate(order):
        highest = max(highest, (len(order) - rank) * value)
        factors[place] = highest / value if value else float(len(order) - rank)
    return factors

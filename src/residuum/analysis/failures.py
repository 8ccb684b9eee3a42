"""Failures: how often the runs of an arm do not train, and arms compared where some of them did not.

A run fails to train if it diverges, or if its accuracy stays at chance (the measure `trained`). Such runs are a result:
left out, they would make their arm better than it is, and as numbers among others they are no sample of one spread.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, median
from typing import Any

import numpy as np
from scipy.special import bdtr, bdtrc, betaincinv, gammaln

from residuum.analysis.aggregate import Summary, Value
from residuum.analysis.estimate import LEVEL, ROUNDING

BEYOND = 1e9
"""A number beyond every measure, as which a run that diverged counts in a mean."""

GRID = 2001
"""Probabilities of failure over which the least favourable one is sought, twice: over all, then around the largest."""


@dataclass(frozen=True)
class Failures:
    """How many runs of an arm did not train, of those that came to an end, with the Clopper–Pearson interval.

    `low` and `high` are shares, at 95 %; None without a run. `p` is Boschloo's, two-sided, against the `baseline`.
    """

    arm: str
    diverged: int
    stuck: int
    n: int
    low: float | None
    high: float | None
    baseline: str = ""
    p: float | None = None

    @property
    def failed(self) -> int:
        """The runs that did not train, for whichever reason."""
        return self.diverged + self.stuck


def count(summary: Summary, baseline: Summary | None = None) -> Failures:
    """The failures of an arm, from its runs' values of a measure that training decides."""
    ended = _ended(summary)
    diverged = sum(one.status == "diverged" for one in ended)
    stuck = sum(one.status == "finished" and not one.trained for one in ended)
    low, high = clopper_pearson(diverged + stuck, len(ended)) if ended else (None, None)
    p = None
    if baseline is not None and ended and (others := _ended(baseline)):
        table = diverged + stuck, len(ended), sum(map(did_not_train, others)), len(others)
        p = min(1.0, 2 * min(boschloo(*table), boschloo(*table[2:], *table[:2])))
    return Failures(summary.arm, diverged, stuck, len(ended), low, high, baseline.arm if baseline else "", p)


def _ended(summary: Summary) -> list[Value]:
    """The runs of which it is known whether they trained."""
    return [one for one in summary.values if one.status == "diverged" or one.value is not None]


def did_not_train(one: Value) -> bool:
    """Whether a run diverged, or ended no better than chance."""
    return one.status == "diverged" or (one.status == "finished" and not one.trained)


def some_did_not_train(sides: Iterable[Summary]) -> bool:
    """Whether a run of any of the arms did not train."""
    return any(did_not_train(one) for side in sides for one in side.values)


def clopper_pearson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a share, as `scipy.stats.binomtest(successes, n).proportion_ci(level)`.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", 1934.
    """
    tail = (1 - level) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return low, high


@lru_cache(maxsize=4096)
def boschloo(failed: int, n: int, other_failed: int, other_n: int) -> float:
    """The one-sided p of "the first share of failures is the greater", as `scipy.stats.boschloo_exact` has it.

    Fisher's p is the statistic and not the answer: the answer is the probability of one as small, at whichever common
    probability of failure makes that largest. It is never above Fisher's and, with few runs, often half of it.
    Boschloo, "Raised conditional level of significance for the 2×2-table when testing the equality of two
    probabilities", Statistica Neerlandica 1970.
    """
    fisher = _fisher(n, other_n)
    as_small = fisher <= fisher[failed, other_failed] * (1 + ROUNDING)
    low, high = 0.0, 1.0
    for _ in range(2):
        shares = np.linspace(low, high, GRID)
        found = np.einsum("gi,ij,gj->g", _binomial(n, shares), as_small, _binomial(other_n, shares))
        best, step = shares[found.argmax()], (high - low) / (GRID - 1)
        low, high = max(0.0, best - step), min(1.0, best + step)
    return min(1.0, float(found.max()))


def least_by_counts(n: int, other_n: int) -> float:
    """The smallest two-sided p that Boschloo's test can give: all of one arm's runs fail, and none of the other's.

    No test that keeps its level can give less: two arms of which the same share of runs fails, n / (n + other_n), come
    out like that, and the other way round, in so many studies.
    """
    share = n / (n + other_n)
    return min(1.0, float(2 * share**n * (1 - share) ** other_n))


def least_by_signs(n: int) -> float:
    """The smallest two-sided p of the sign test: all runs on one side."""
    return min(1.0, 2 * 0.5**n)


def fewest(least: Callable[[int], float], alpha: float) -> int:
    """The fewest runs of each arm of which some outcome has a p below `alpha`, `least` being the smallest of n runs."""
    n = 1
    while least(n) >= alpha:
        n += 1
    return n


def _fisher(n: int, other_n: int) -> np.ndarray[Any, Any]:
    """Fisher's one-sided p of every table: rows are failures of the first arm, columns those of the other."""
    rows, columns = np.arange(n + 1)[:, None], np.arange(other_n + 1)[None, :]
    log_weight = _log_choose(n, rows) + _log_choose(other_n, columns)
    p = np.ones((n + 1, other_n + 1))
    for total in range(n + other_n + 1):
        at = np.arange(max(0, total - other_n), min(n, total) + 1)
        weights = np.exp(log_weight[at, total - at] - _log_choose(n + other_n, total))
        p[at, total - at] = weights[::-1].cumsum()[::-1]
    return p


def _log_choose(n: int, k: Any) -> Any:
    return gammaln(n + 1) - gammaln(np.asarray(k) + 1) - gammaln(n - np.asarray(k) + 1)


def _binomial(n: int, shares: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    k = np.arange(n + 1)
    chosen: np.ndarray[Any, Any] = np.exp(_log_choose(n, k)) * shares[:, None] ** k * (1 - shares[:, None]) ** (n - k)
    return chosen


def rank_sum(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """The exact one-sided p-values of "the first tend to be greater" and "less", with ties at their mean rank.

    Wilcoxon's rank-sum test over all exchanges of runs between the arms; infinite values are ranks like others.
    """
    return _rank_sum((*first,), (*second,))


@lru_cache(maxsize=1024)
def _rank_sum(first: tuple[float, ...], second: tuple[float, ...]) -> tuple[float, float]:
    values = np.round([*first, *second], 9)
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    twice_rank = (2 * counts.cumsum() - counts + 1)[place]  # twice the mean rank, a whole number
    twice_rank //= np.gcd.reduce(twice_rank)
    n, runs, reach = len(first), len(values), 0
    ways = np.zeros((n + 1, int(twice_rank.sum()) + 1))  # ways to choose so many runs with such a sum
    ways[0, 0] = 1
    # Only sums that were reached, and only as many runs as can still become n: hundreds of seeds take seconds else.
    for taken, rank in enumerate(sorted(map(int, twice_rank))):
        for chosen in range(min(taken, n - 1), max(0, n - runs + taken) - 1, -1):
            ways[chosen + 1, rank : rank + reach + 1] += ways[chosen, : reach + 1]
        reach += rank
    shares, seen = ways[n] / ways[n].sum(), int(twice_rank[:n].sum())
    return min(1.0, float(shares[seen:].sum())), min(1.0, float(shares[: seen + 1].sum()))


@dataclass(frozen=True)
class WorstRanks:
    """Two arms compared by ranks, in which runs that did not train are the worst of all and equal among themselves.

    Lachin, "Worst-rank score analysis with informatively missing observations in clinical trials", Controlled Clinical
    Trials 1999. The arms count as independent samples also where runs are paired by seed: which seed fails to train is
    not something that pairing cancels. What is tested is which arm's runs tend to be worse. That alone would call an
    arm better of which most runs are a little better and some fail: a verdict needs the means to agree (`mean`).

    Where one arm never trains, and so far from the other's runs that the margin does not matter, ranks only say how
    many runs of each arm failed. Boschloo's test of these two counts then takes their place, which is exact as well and
    tells more: 0.03 instead of 0.1 for three runs against three.

    Attributes:
        first, second: values of each arm's runs; of those that did not train, the worst value of both arms if that is
            known, else infinite.
        failed, other_failed: which of them did not train.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    failed: tuple[bool, ...]
    other_failed: tuple[bool, ...]

    def name(self, null: float = 0.0) -> str:
        """The test that judges whether the difference is `null`."""
        return "Boschloo's test" if self._worse(null) else "worst-rank test"

    def above(self, null: float) -> float:
        """The one-sided p of "the first are greater than the second by more than `null`"."""
        return self._tails(null)[0]

    def below(self, null: float) -> float:
        """The one-sided p of "the first are greater than the second by less than `null`"."""
        return self._tails(null)[1]

    def p(self, null: float = 0.0) -> float:
        """The two-sided p of "they do not differ by `null`"."""
        return min(1.0, 2 * min(self._tails(null)))

    @property
    def mean(self) -> float:
        """The difference of the means, in which a run without any value outweighs all others."""
        return _mean(self.first) - _mean(self.second)

    @property
    def middle(self) -> float:
        """The median of all differences between a run of the first and one of the second (Hodges and Lehmann 1963)."""
        return median(0.0 if one == two else one - two for one in self.first for two in self.second)

    def least(self, null: float = 0.0, n: int = 0) -> float:
        """The smallest p that any outcome of so many runs has, or of n runs of each arm that fail as often as these."""
        sizes = (n, n) if n else (len(self.first), len(self.second))
        return least_by_counts(*sizes) if self._worse(null) else min(1.0, 2 / math.comb(sum(sizes), sizes[0]))

    def _tails(self, null: float) -> tuple[float, float]:
        worse = self._worse(null)
        if not worse:
            return rank_sum([one - null for one in self.first], self.second)
        one, two = (sum(self.failed), len(self.failed)), (sum(self.other_failed), len(self.other_failed))
        more, less = boschloo(*one, *two), boschloo(*two, *one)
        return (more, less) if worse > 0 else (less, more)

    def _worse(self, null: float) -> int:
        """The side on which failures lie of runs that trained (1: above) if an arm never trains and they lie apart."""
        if not all(self.failed) and not all(self.other_failed):
            return 0
        if all(self.failed) and all(self.other_failed):
            return 1  # equal counts: nothing is said either way
        fail = [one - null for one in self.first] if all(self.failed) else [*self.second]
        ok = ([two for two, lost in zip(self.second, self.other_failed, strict=True) if not lost] if all(self.failed)
              else [one - null for one, lost in zip(self.first, self.failed, strict=True) if not lost])  # fmt: skip
        return 1 if min(fail) > max(ok) else -1 if max(fail) < min(ok) else 0


@dataclass(frozen=True)
class Signs:
    """An arm against a number where some of its runs did not train: the sign test of its median, failures the worst."""

    values: tuple[float, ...]

    def name(self, _null: float = 0.0) -> str:
        """The test."""
        return "sign test"

    def above(self, null: float) -> float:
        """The one-sided p of "the median is greater than `null`"."""
        return _half_or_more(sum(one > null for one in self.values), len(self.values))

    def below(self, null: float) -> float:
        """The one-sided p of "the median is less than `null`"."""
        return _half_or_more(sum(one < null for one in self.values), len(self.values))

    def p(self, null: float = 0.0) -> float:
        """The two-sided p of "the median is not `null`"."""
        return min(1.0, 2 * min(self.above(null), self.below(null)))

    def least(self, _null: float = 0.0, n: int = 0) -> float:
        """The smallest p that any outcome of so many runs has, or of n runs."""
        return least_by_signs(n or len(self.values))

    @property
    def mean(self) -> float:
        """The mean, in which a run without any value outweighs all others."""
        return _mean(self.values)

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)


def _mean(values: Sequence[float]) -> float:
    return fmean(max(-BEYOND, min(BEYOND, value)) for value in values)


def _half_or_more(count: int, n: int) -> float:
    """The probability that so many of n fair coins, or more, fall on one side."""
    return float(bdtr(n - count, n, 0.5))


@dataclass(frozen=True)
class Rates:
    """How many runs train, of two arms or of one arm against the `share` of a claim; all tests are exact."""

    trained: int
    n: int
    other_trained: int = 0
    other_n: int = 0
    share: float = 0.0

    def name(self, _null: float = 0.0) -> str:
        """The test."""
        return "Boschloo's test" if self.other_n else "binomial test"

    def above(self, null: float) -> float:
        """The one-sided p of "the share that trains is greater": than the other arm's, or than `share` + `null`."""
        if self.other_n:
            return boschloo(self.trained, self.n, self.other_trained, self.other_n)
        return float(bdtrc(self.trained - 1, self.n, min(1.0, max(0.0, self.share + null)))) if self.trained else 1.0

    def below(self, null: float) -> float:
        """The one-sided p of "the share that trains is less"."""
        if self.other_n:
            return boschloo(self.other_trained, self.other_n, self.trained, self.n)
        return float(bdtr(self.trained, self.n, min(1.0, max(0.0, self.share + null))))

    def least(self, null: float = 0.0, n: int = 0) -> float:
        """The smallest p that any outcome of so many runs has, or of n runs of each arm."""
        if self.other_n:
            return least_by_counts(n or self.n, n or self.other_n)
        ends = (Rates(trained, n or self.n, share=self.share) for trained in (0, n or self.n))
        return min(1.0, *(2 * tail for one in ends for tail in (one.above(null), one.below(null))))

    @property
    def middle(self) -> float:
        """The difference of the shares."""
        return self.trained / self.n - (self.other_trained / self.other_n if self.other_n else self.share)


def scored(sides: Sequence[Summary], lower_is_better: bool) -> list[tuple[tuple[float, ...], tuple[bool, ...]]]:
    """The values of each arm's runs for a comparison by ranks, and which did not train and so have the worst value.

    That is the worst value of all these runs where one ended at chance: no run that diverged is better than that one,
    and a margin still counts. If all that failed diverged, it is infinite: worse than any number.
    """
    runs = [[one for one in side.values if one.value is not None or did_not_train(one)] for side in sides]
    flat = [one for side in runs for one in side]
    known = [one.value for one in flat if one.value is not None]
    stuck = any(did_not_train(one) and one.value is not None for one in flat)
    sign = 1 if lower_is_better else -1
    worst = sign * max(sign * value for value in known) if stuck else sign * math.inf
    found = []
    for side in runs:
        lost = tuple(map(did_not_train, side))
        values = tuple(worst if one.value is None or did_not_train(one) else one.value for one in side)
        found.append((values, lost))
    return found


def said(sides: Sequence[Summary]) -> str:
    """How many runs of each arm did not train, as `3 of 3 runs of 'plain110' and 0 of 3 of 'plain56'`."""
    counts = [count(side) for side in sides]
    parts = [f"{one.failed} of {one.n}{' runs' * (not at)} of {one.arm!r}" for at, one in enumerate(counts)]
    return f"{' and '.join(parts)} did not train"

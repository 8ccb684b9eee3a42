"""Estimates: a mean, or a difference of two means, with what Student's t needs to judge it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

# scipy.special and not scipy.stats: the same numbers, and a report does not wait a second for an import.
from scipy.special import ndtri, stdtr, stdtrit

LEVEL = 0.95
"""Confidence level of every interval that names no other."""

ROUNDING = 1e-9
"""Share of the size of the numbers below which a spread is rounding error."""


@dataclass(frozen=True)
class Estimate:
    """A mean or difference of means, its standard error (above 0) and the degrees of freedom of that error."""

    mean: float
    error: float
    df: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The t interval that covers the true value in a share `level` of all experiments."""
        half = self.error * float(stdtrit(self.df, (1 + level) / 2))
        return self.mean - half, self.mean + half

    def above(self, null: float) -> float:
        """The one-sided p of "the true value is greater than `null`"."""
        return float(stdtr(self.df, (null - self.mean) / self.error))

    def below(self, null: float) -> float:
        """The one-sided p of "the true value is less than `null`"."""
        return float(stdtr(self.df, (self.mean - null) / self.error))

    def p(self, null: float = 0.0) -> float:
        """The two-sided p of "the true value is not `null`"."""
        return min(1.0, 2 * min(self.above(null), self.below(null)))


def chance(p: float | None) -> str:
    """A p-value as it is printed, everywhere alike: three decimals, and a dash for none."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_is(p: float) -> str:
    """A p-value within a sentence: `p = 0.625`, `p < 0.001`."""
    return f"p {chance(p)}" if p < 0.001 else f"p = {chance(p)}"


def of_share(count: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share of n independent images: Wilson's, which holds for shares near 0 and 1 as well.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    z = float(ndtri((1 + level) / 2))
    share, weight = count / n, z * z / n
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def deviation(values: Sequence[float], size: float = 0.0) -> float:
    """The standard deviation (n - 1) of two or more values, exactly 0 where they differ by rounding alone.

    `size` is the size of the numbers that the values were computed from, where that is greater than their own.
    """
    found = stdev(values)
    return found if found > ROUNDING * max(size, *map(abs, values)) else 0.0


def of_mean(values: Sequence[float], size: float = 0.0) -> Estimate | None:
    """The mean of a sample, as `scipy.stats.ttest_1samp`; None for fewer than two values or without any spread."""
    sd = deviation(values, size) if len(values) > 1 else 0.0
    return Estimate(fmean(values), sd / math.sqrt(len(values)), len(values) - 1) if sd else None


def of_difference(first: Sequence[float], second: Sequence[float]) -> Estimate | None:
    """The difference of two means without assuming equal variances, as `scipy.stats.ttest_ind(equal_var=False)`.

    Welch, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 1947. None if a sample has fewer than two values, or neither has any spread.
    """
    if min(len(first), len(second)) < 2:
        return None
    one, two = deviation(first) ** 2 / len(first), deviation(second) ** 2 / len(second)
    if one + two == 0:
        return None
    df = (one + two) ** 2 / (one**2 / (len(first) - 1) + two**2 / (len(second) - 1))
    return Estimate(fmean(first) - fmean(second), math.sqrt(one + two), df)

"""Power: what a number of seeds can show, how many a difference takes, and how error is spent over several looks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scipy.special import nctdtr, stdtrit

from residuum.analysis.aggregate import Summary
from residuum.analysis.compare import Comparison
from residuum.errors import InputError

PRIOR_SD = 0.16
"""Seed-to-seed standard deviation of an arm's error, in points, to be assumed before there are runs.

The upper end of what repeated CIFAR-10 trainings near 94 % accuracy show (0.12 to 0.16 points), and what
He et al. 2015, table 6, give for five runs of ResNet-110 (6.61 ± 0.16). Smaller or shorter runs spread more.
"""


@dataclass(frozen=True)
class Spread:
    """The seed-to-seed standard deviation, of arms (`sd`) and of paired differences, with degrees of freedom."""

    sd: float | None
    df: int
    difference_sd: float | None
    difference_df: int


def spread(summaries: Iterable[Summary], comparisons: Iterable[Comparison] = ()) -> Spread:
    """The spread known so far, pooled over arms of one measure and over their paired comparisons."""
    arms = [(one.sd, one.n) for one in summaries if one.sd is not None]
    pairs = [(one.sd, one.n) for one in comparisons if one.paired and one.sd is not None]
    return Spread(*_pooled(arms), *_pooled(pairs))


def _pooled(parts: list[tuple[float, int]]) -> tuple[float | None, int]:
    df = sum(n - 1 for _, n in parts)
    return (math.sqrt(sum((n - 1) * sd**2 for sd, n in parts) / df) if df else None), df


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


def detectable(sd: float, n: int, *, paired: bool = True, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """The smallest true difference that `n` seeds see with probability `power`, in the unit of `sd`; None for n < 2.

    `sd` is the standard deviation of the paired differences, or unpaired, that of each arm.
    """
    if n < 2:
        return None
    low, high = 0.0, 1.0
    while achieved(high, 1.0, n, paired=paired, alpha=alpha) < power:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if achieved(middle, 1.0, n, paired=paired, alpha=alpha) < power else (low, middle)
    return sd * high


def seeds_needed(sd: float, difference: float, *, paired: bool = True, alpha: float = 0.05, power: float = 0.8) -> int:
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
    while achieved(difference, sd, high, paired=paired, alpha=alpha) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = achieved(difference, sd, middle, paired=paired, alpha=alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def spend(look: int, looks: int, alpha: float = 0.05) -> float:
    """The two-sided level of one of several planned looks at growing data, counted from 1; all add up to `alpha`.

    What is spent up to a share t of the looks is alpha t³: little early, nearly 60 % at the last of four, close to
    the boundaries of O'Brien and Fleming (Kim and DeMets, "Design and analysis of group sequential tests based on the
    type I error spending rate function", Biometrika 1987), but with enough at the first look for three seeds to show
    a gross difference. Each look is tested at its own share alone. By the union bound the error of all looks is then
    at most `alpha` however they depend on each other, also for t statistics of few runs, where the usual normal
    boundaries do not hold.
    """
    if not 1 <= look <= looks:
        raise InputError(f"look {look} is not one of {looks}")
    return alpha * (look**3 - (look - 1) ** 3) / looks**3

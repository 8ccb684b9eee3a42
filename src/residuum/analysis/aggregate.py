"""Aggregates: one measure of one arm over its seeds, with every run listed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from residuum.analysis.estimate import LEVEL, deviation, of_mean
from residuum.records.measures import measure as measure_of

Status = Literal["finished", "diverged", "failed", "running", "stopped", "missing"]


@dataclass(frozen=True)
class Value:
    """One run's value of a measure; None where the run has none, and `status` says why.

    `trained` is False of a run that finished no better than chance, where the measure is of what training came to.
    """

    seed: int
    run: str
    status: Status
    value: float | None
    trained: bool = True


@dataclass(frozen=True)
class Summary:
    """One measure of one arm: mean, standard deviation (n - 1) and 95 % t interval of the `n` runs that have a value.

    Of times the mean is the geometric one, and the interval that of the logarithms.

    `values` lists every planned run. Without a value there is no mean; with one there is neither `sd` nor interval.
    There is no interval either where nothing varies, or where runs diverged or stayed at chance: t knows nothing of
    how often others would.
    """

    arm: str
    measure: str
    values: tuple[Value, ...]
    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None

    @property
    def numbers(self) -> tuple[float, ...]:
        """The values that are there, in the order of the runs."""
        return tuple(one.value for one in self.values if one.value is not None)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the interval, None where there is none."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def summarize(arm: str, measure: str, values: Sequence[Value]) -> Summary:
    """The summary of an arm's runs. A value that is not finite, or not of a finished run, counts as none.

    Whether a run trained is also known of one that diverged.
    """
    of_all = measure == "trained"
    kept = tuple(
        one if (one.status == "finished" or of_all) and one.value is not None and math.isfinite(one.value)
        else Value(one.seed, one.run, one.status, None, one.trained)
        for one in values
    )  # fmt: skip
    numbers = [one.value for one in kept if one.value is not None]
    by_ratio = measure_of(measure).is_time and all(number > 0 for number in numbers)
    scaled = [math.log(number) for number in numbers] if by_ratio else numbers
    back = math.exp if by_ratio else float
    mean = back(fmean(scaled)) if numbers else None
    if mean is None or len(numbers) < 2:
        return Summary(arm, measure, kept, len(numbers), mean, None, None, None)
    whole = all(one.trained and one.status != "diverged" for one in kept)
    estimate = of_mean(scaled) if whole else None
    low, high = map(back, estimate.interval(LEVEL)) if estimate else (None, None)
    return Summary(arm, measure, kept, len(numbers), mean, deviation(numbers), low, high)


def in_logarithms(sides: Sequence[Summary]) -> list[Summary] | None:
    """Summaries of times with the logarithms in place of the values; None of what has no ratios."""
    numbers = [number for side in sides for number in side.numbers]
    if not measure_of(sides[0].measure).is_time or not all(number > 0 for number in numbers):
        return None
    return [
        replace(side, values=tuple(replace(one, value=None if one.value is None else math.log(one.value))
                                   for one in side.values))
        for side in sides
    ]  # fmt: skip


def percent(log_ratio: float) -> float:
    """A difference of logarithms as a difference in percent."""
    return 100 * math.expm1(log_ratio)

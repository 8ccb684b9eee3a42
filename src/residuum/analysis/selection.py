"""Selection: which arm the validation images choose, and what the one reading of the test set says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from residuum.analysis.aggregate import Summary
from residuum.analysis.compare import Comparison
from residuum.studies.chosen import Chosen

JUDGED_BY = "validation_error"
"""The measure by which an arm is chosen, of the last epoch."""


@dataclass(frozen=True)
class OnTest:
    """The one reading of the test set: the test errors of the chosen arm and of its baseline, by name.

    `comparison` is their difference, None where the arm is the baseline. `reads` counts the readings in the records of
    the runs of both, `others` the runs of other arms on which somebody read the test set as well.
    """

    errors: Mapping[str, Summary]
    comparison: Comparison | None
    reads: Mapping[str, int]
    others: int


@dataclass(frozen=True)
class Selection:
    """How far a study that chooses an arm has come.

    `missing` counts the runs that have no result yet: until all have, nothing is chosen. `best` is the arm with the
    lowest mean validation error now, None where no arm trained in every run. `chosen` is the choice that was made,
    `test` what was read for it; None before.
    """

    missing: int
    best: str | None
    chosen: Chosen | None = None
    test: OnTest | None = None


def means(errors: Sequence[Summary]) -> dict[str, float]:
    """The mean validation error of every arm that can be chosen: all its runs have one, and trained."""
    return {
        one.arm: one.mean
        for one in errors
        if one.mean is not None and one.n == len(one.values) and all(value.trained for value in one.values)
    }


def best(found: Mapping[str, float]) -> str | None:
    """The arm with the lowest mean, of equal ones the first; None of none."""
    return min(found, key=lambda arm: found[arm], default=None)

"""Space: the settings among which a study searches, how it does that, and what a search has found.

[search]
trials = 20

[search.space]
"optim.lr" = { low = 0.001, high = 0.5, log = true }
"model.activation" = ["relu", "elu"]
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from residuum import own
from residuum.studies.part import Count, Name, Number, Part, flat

Sampler = Literal["tpe", "random"]
"""How the next values are chosen: by a model of the trials so far (Bergstra et al. 2011), or by chance alone."""
MOST = 10_000
"""Trials of an arm."""
DIGITS = 4
"""Significant digits of a number that a search tries: more decide nothing, and nobody can read them."""


class Range(Part):
    """The numbers from `low` to `high`: whole ones where both are, `log` on a logarithmic scale, or in a `step`."""

    low: Annotated[int, Field(strict=True)] | Number
    high: Annotated[int, Field(strict=True)] | Number
    log: Annotated[bool, Field(strict=True)] = False
    step: Annotated[int, Field(strict=True)] | Number | None = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale begins above 0, not at low = {self.low:g}")
        if self.step is not None and (self.log or not 0 < self.step <= self.high - self.low):
            raise ValueError("step is a number above 0 that fits into the range, and not on a logarithmic scale")
        if self.is_whole and isinstance(self.step, float):
            raise ValueError(f"step = {self.step:g} between whole numbers")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def text(self) -> str:
        """The range in words: `0.001 to 0.5, logarithmic`."""
        how = ", logarithmic" if self.log else f", in steps of {self.step:g}" if self.step is not None else ""
        return f"{self.low:g} to {self.high:g}{how}"

    def rounded(self, value: float) -> int | float:
        """A value of the range as it is tried: with few digits, and never beyond the ends."""
        return int(value) if self.is_whole else min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


def described(values: Range | tuple[Any, ...]) -> str:
    """The values that a search tries of a setting, in words."""
    return values.text if isinstance(values, Range) else ", ".join(str(own.readable(value)) for value in values)


def outermost(values: Range | tuple[Any, ...]) -> tuple[Any, ...]:
    """What of a range or a list is tried out before a search: both ends, or every value."""
    return (values.low, values.high) if isinstance(values, Range) else values


def _space(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    found = flat(values, whole="low")
    for path, one in found.items():
        if not isinstance(one, Range | list | tuple) and not (isinstance(one, Mapping) and "low" in one):
            raise ValueError(f"{path}: a list of values, or a range {{ low = …, high = … }}")
    return found


Space = Annotated[dict[str, Range | Annotated[tuple[Any, ...], Field(min_length=1)]], BeforeValidator(_space)]


class Search(Part):
    """How settings are searched for: `trials` times other ones of `space`, each computed with these `seeds`.

    A trial is judged by its mean validation error. Another `sampler_seed` makes another search of the same space.
    `prune` stops the runs that are worse than the median of the trials before. With `tune_each_arm` every arm of the
    study is searched for as often as every other; else there is one.
    """

    space: Annotated[Space, Field(min_length=1)]
    trials: Annotated[Count, Field(le=MOST)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)] = (1000,)
    sampler: Sampler = "tpe"
    sampler_seed: Annotated[int, Field(ge=0, strict=True)] = 0
    prune: Annotated[bool, Field(strict=True)] = False
    tune_each_arm: Annotated[bool, Field(strict=True)] = False


class TunedArm(Part):
    """What the search for an arm came to: its trials by how they ended, and what they cost.

    `settings` are those of the best trial. `errors` are the validation errors (%) of the trials in their order, of a
    pruned one when it was stopped, and `stopped` says which these are, from 1 on; those that failed have none.
    `epochs` and `seconds` are what its runs have on record.
    """

    arm: Name
    settings: dict[str, Any]
    errors: tuple[Number, ...]
    stopped: tuple[Annotated[int, Field(ge=1)], ...] = ()
    complete: Count
    pruned: Annotated[int, Field(ge=0)] = 0
    failed: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[int, Field(ge=0)] = 0
    seconds: Annotated[Number, Field(ge=0)] = 0.0

    @property
    def trials(self) -> int:
        """How many there were, however they ended."""
        return self.complete + self.pruned + self.failed


class Tuned(Part):
    """Where the settings of a study come from: a search before it, on validation images and other seeds.

    `test_reads` counts the readings of the test set on record for the runs of the search. `claimed` says when the
    claims were made.
    """

    study: Name
    time: Name
    seeds: tuple[int, ...]
    sampler: Sampler
    sampler_seed: Annotated[int, Field(ge=0)] = 0
    space: Space
    arms: Annotated[tuple[TunedArm, ...], Field(min_length=1)]
    claimed: Literal["before the search", "after the search"]
    test_reads: Annotated[int, Field(ge=0)] = 0

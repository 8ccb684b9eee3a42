"""Outcome: what came out of a run, as `result.json` holds it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, TypeAdapter

from residuum.records import storage
from residuum.records.event import Diverged, Scores

Json = dict[str, object]
"""A JSON object that is about to be written."""
Kept = Literal["last", "selected"]
"""The epoch whose weights are scored at the end: the last one, or the one that validation selected."""


def _of(split: str) -> BeforeValidator:
    """Scores whose split is told by the key under which they stand."""
    return BeforeValidator(lambda value: {"split": split, **value} if isinstance(value, Mapping) else value)


@dataclass(frozen=True)
class Scored:
    """What the weights of one epoch came to.

    `train_clean` are the scores on the training images in use, which are neither augmented nor, as during an epoch, met
    by weights that still move. `test` is None where the test set was left unread. `chance` and `held_out_chance` are
    the accuracies of always naming the most frequent class of the test and of the validation images. None is also what
    the version that wrote the record did not measure.
    """

    epoch: int
    validation: Annotated[Scores, _of("validation")] | None = None
    train_clean: Annotated[Scores, _of("train")] | None = None
    held_out_chance: float | None = None
    test: Annotated[Scores, _of("test")] | None = None
    chance: float | None = None

    def plain(self) -> Json:
        """The scores as a JSON object, without what is not known."""
        found: Json = {"epoch": self.epoch, "validation": self.validation and self.validation.plain()}
        if self.train_clean:
            found["train_clean"] = self.train_clean.plain()
        if self.held_out_chance is not None:
            found["held_out_chance"] = self.held_out_chance
        if self.test:
            found["test"] = self.test.plain()
        if self.chance is not None:
            found["chance"] = self.chance
        return found


@dataclass(frozen=True)
class Outcome:
    """What came out of a complete run: how it ended, after how many epochs and updates, and what its weights come to.

    `last` is None for a run that diverged and for weights from elsewhere, `selected` where validation selected no
    epoch. `test_reads` are the readings of the test set until then. `activations` are the values that the backward pass
    of one image needs. What costs (`seconds` to `activations`) is None where the record does not say it.
    """

    status: Literal["finished", "diverged", "imported"]
    epochs: int = 0
    steps: int = 0
    last: Scored | None = None
    selected: Scored | None = None
    diverged: Diverged | None = None
    test_reads: int = 0
    seconds: float | None = None
    micro_batch: int | None = None
    parameters: int | None = None
    macs: int | None = None
    activations: int | None = None

    def of(self, which: Kept) -> Scored | None:
        """What the weights of the last or of the selected epoch came to."""
        return self.last if which == "last" else self.selected

    @property
    def is_unread(self) -> bool:
        """Whether the test set was left unread by a run that would otherwise have scored it at its end."""
        return self.last is not None and self.last.test is None

    def blind(self) -> "Outcome":
        """The same without anything that it says of the test images."""
        return replace(self, last=_blind(self.last), selected=_blind(self.selected))

    def plain(self) -> Json:
        """The outcome as the JSON object that is written."""
        scored: Json = {"last": self.last and self.last.plain(), "selected": self.selected and self.selected.plain()}
        diverged: Json = {"diverged": self.diverged and _plain(self.diverged)}
        parts = diverged | scored if self.status == "finished" else scored | diverged  # the order that files have
        costs = {key: value for key in ("seconds", "micro_batch", "parameters", "macs", "activations")
                 if (value := getattr(self, key)) is not None}  # fmt: skip
        counts: Json = {"status": self.status, "epochs": self.epochs, "steps": self.steps}
        return {**counts, **parts, "test_reads": self.test_reads, **costs}


def _blind(scored: Scored | None) -> Scored | None:
    return None if scored is None else replace(scored, test=None, chance=None)


def _plain(event: Diverged) -> Json:
    # JSON has no NaN: a number that is not finite is written as text.
    return {"epoch": event.epoch, "step": event.step, "loss": str(event.loss),
            "gradient_norm": str(event.gradient_norm)}  # fmt: skip


OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)


def of(values: Any, path: Path) -> Outcome:
    """The outcome that JSON values say; `path` is named in the error.

    Raises:
        InputError: they say none.
    """
    return storage.typed(OUTCOME, values, path)


def read(path: Path, *, checked: bool = False) -> Outcome:
    """The outcome in a file, which is to carry a check of itself where it is one of those that are `checked`.

    Raises:
        InputError: the file is missing or damaged.
    """
    return of(storage.read_json(path, checked=checked), path)

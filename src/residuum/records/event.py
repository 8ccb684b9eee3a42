"""Events: what a run says while it goes, as plain values. Consumers write, draw and stop."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from residuum.errors import Remedy
from residuum.records.layers import Layers


def _loss(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value


Loss = Annotated[float, BeforeValidator(_loss)]
"""A loss that may not be finite, as that of a network whose activations overflow; JSON has only words for it."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Mean loss (nats) and accuracy (share) over the `n` images of a split.

    The loss is plain cross-entropy whatever the training loss is, so that runs stay comparable; only that of the
    training images as they pass is the one that is minimised, with its smoothing and penalties.
    """

    split: Literal["train", "validation", "test"]
    loss: Loss
    accuracy: float
    n: int

    def plain(self) -> dict[str, float | int | str]:
        """Loss, accuracy and n as a JSON object; a loss that is not finite as text."""
        loss = self.loss if isfinite(self.loss) else str(self.loss)
        return {"loss": loss, "accuracy": self.accuracy, "n": self.n}

    def row(self) -> dict[str, float | int | str]:
        """The same with its split, as rows and checkpoints hold it."""
        return {"split": self.split, **self.plain()}


@dataclass(frozen=True)
class Started:
    """A run begins, goes on from a saved state (`step` > 0), or is found complete."""

    id: str
    folder: Path
    epochs: int
    steps_per_epoch: int
    images: int
    epoch: int
    step: int


@dataclass(frozen=True)
class StepDone:
    """One update is done.

    `step` counts from 0 over the whole run; `loss` includes penalties; `gradient_norm` is taken before clipping. It is
    None where half precision had no room for the gradient: the update was then left out and the loss scale halved.
    """

    epoch: int
    step: int
    lr: float
    loss: float
    gradient_norm: float | None
    order: str
    """Hash of the indices of the batch's images: two runs that agree in it saw the same images at this step."""


@dataclass(frozen=True)
class Launched:
    """Updates were handed to the device, which is at work on them; their `StepDone`s follow one after the other.

    It is where a process that turns from run to run leaves this one alone. The state is that after all of them, so
    who stops here or at one of the rows has to take the others first.
    """

    steps: int


@dataclass(frozen=True, slots=True)
class EpochDone:
    """One pass over the training images is done, and what was measured after it. `epoch` counts from 1.

    `train` is measured on the augmented images as they passed, before each update; under mixup or cutmix its
    accuracy is weighted by the shares of the labels. `test` is there only if the test curve is observed.
    """

    epoch: int
    step: int
    lr: float
    train: Scores
    validation: Scores | None
    test: Scores | None
    best: bool
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class LayersSeen:
    """Every layer was looked at, before the first epoch or after one; it comes before that epoch's `EpochDone`."""

    layers: Layers


@dataclass(frozen=True)
class NoiseSeen:
    """The noise of the gradient was measured on `images` training images, before the first epoch or after one.

    `squared_norm` is that of the true gradient, `trace` that of the covariance of one image's gradient, both estimated
    without bias, so the first may come out below 0 where the noise is far larger.
    """

    epoch: int
    images: int
    batch: int
    squared_norm: float
    trace: float

    @property
    def scale(self) -> float | None:
        """The simple noise scale, in images: trace over squared norm (McCandlish et al. 2018, equation 2.9).

        Batches far below it average too little, batches far above it gain little. None where no gradient is seen.
        """
        return self.trace / self.squared_norm if self.squared_norm > 0 and self.trace > 0 else None


@dataclass(frozen=True)
class Diverged:
    """The loss or the gradient is not finite: the run stops before this step's update."""

    epoch: int
    step: int
    loss: float
    gradient_norm: float


@dataclass(frozen=True)
class TestRead:
    """The images of a test set were read, and why; `on` names another one than that of the run's data.

    Where that was after the run, `device` and `precision` are those that computed with them.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    why: Literal["observed", "last", "selected", "evaluate", "classes", "explain"]
    epoch: int
    on: str = ""
    device: str | None = None
    precision: str | None = None

    def row(self) -> dict[str, object]:
        """What is known, as a row of the record."""
        return {key: value for key, value in vars(self).items() if value not in (None, "")}


@dataclass(frozen=True)
class Note:
    """One line that the user should see: a batch was split, a compiler is missing; and what would help, if anything."""

    text: str
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True)
class Pruned:
    """The run was stopped after this epoch, because a search has better ones; its state is saved and it can go on."""

    epoch: int


@dataclass(frozen=True)
class Finished:
    """The run has ended and its record is complete."""

    folder: Path
    status: Literal["finished", "diverged"]


Event = (
    Started | Launched | StepDone | EpochDone | LayersSeen | NoiseSeen | Diverged | TestRead | Note | Pruned | Finished
)

"""The live objects of one training run, which the loop and its steps work on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from residuum.data.batches import TrainingBatches
from residuum.engine.compute import Compute
from residuum.engine.scaling import Scale
from residuum.records.event import Event, Scores


class Average(Protocol):
    """What the engine needs of an average of the weights: tensors by the network's names."""

    def move(self, update: int) -> float:
        """How far the average moves at an update of the run, counted from 1."""
        ...

    def update(self, network: nn.Module, move: float | Tensor) -> None:
        """Move the average towards the network's present weights by a share."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged tensors, by the names that the network's state has."""
        ...

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Put averaged tensors back."""
        ...


@dataclass(frozen=True)
class Training:
    """The live objects of one training run.

    `network` holds the weights and `forward` computes it: the same object, or its compiled form. `rate` gives the
    learning rate of a step (from 0 over the whole run) from the validation losses so far. `scale` is the loss scale of
    half precision, None in every other. The state has to be whole on the host after every `whole_every` updates, and in
    any case at the end of an epoch (0: only there). `evaluate` scores a split with the weights that count: the average
    of the weights where there is one. `observe` looks at the network before the first epoch (0) and after each, and
    leaves it as it is. `seed` is that of a run with own code, which may draw from torch's generator: it is set anew for
    every update, so that what is drawn depends on nothing before; None where nothing draws. `kept` is room for what an
    update changes, as it was before it.
    """

    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    average: Average | None
    scale: Scale | None
    batches: TrainingBatches
    loss: Callable[[Tensor, Tensor], Tensor]
    penalties: Sequence[Callable[[Sequence[Tensor]], Tensor]]
    decayed: Sequence[Tensor]
    rate: Callable[[int, Sequence[float]], float]
    clip_norm: float
    compute: Compute
    epochs: int
    whole_every: int
    evaluate: Mapping[Literal["validation", "test"], Callable[[], Scores]]
    observe: Sequence[Callable[[int], Event]] = ()
    seed: int | None = None
    kept: list[Tensor] = field(default_factory=list)

    @property
    def parameters(self) -> list[Tensor]:
        """What the optimizer moves."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

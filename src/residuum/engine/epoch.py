"""The table of an epoch: all that its updates need besides the state, as tensors on the device, made in one go.

An update is then a function of (state, table, number), and no value comes from the host: it can be captured once and
replayed, and its bits do not depend on what runs beside it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from residuum.data.batches import Draws
from residuum.engine.live import Training
from residuum.engine.state import Progress


@dataclass(frozen=True, eq=False)
class Epoch:
    """Order, keys and mixes of an epoch's images, and of every update its rate and how far the average moves.

    What the host reads stands as plain values, what the device reads as tensors.
    """

    draws: Draws
    rates: tuple[float, ...]
    moves: tuple[float, ...]
    rate_S: Tensor
    move_S: Tensor

    def tensors(self) -> list[Tensor]:
        """What a captured step reads, always in the same order and of the same shapes within a run."""
        draws = self.draws
        return [draws.order_N, draws.keys_P, draws.partner_N, draws.numbers_SM, self.rate_S, self.move_S]


def table(training: Training, progress: Progress) -> Epoch:
    """The table of the epoch that a run is at. The rates follow from the validation losses of the epochs before it."""
    batches, average, device = training.batches, training.average, training.compute.device
    losses = [scores.loss for scores in progress.validation]
    first = progress.epoch * batches.steps_per_epoch
    numbers = range(first, first + batches.steps_per_epoch)
    rates = tuple(training.rate(step, losses) for step in numbers)
    moves = tuple(average.move(step + 1) for step in numbers) if average is not None else ()
    rate_S, move_S = (torch.tensor(values, dtype=torch.float32).to(device) for values in (rates, moves))
    return Epoch(batches.draws(progress.epoch), rates, moves, rate_S, move_S)

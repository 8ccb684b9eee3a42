"""The training loop: a generator of events. Consumers write, draw and stop; between two events the state is whole."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from residuum.engine import metrics
from residuum.engine.compute import Compute, out_of_memory
from residuum.engine.state import Average, Progress
from residuum.errors import InputError
from residuum.records.event import Diverged, EpochDone, Event, Note, Scores, StepDone, TestRead


class Batch(Protocol):
    """What the loop needs of a batch."""

    @property
    def indices_B(self) -> Tensor:
        """Positions in the data set's training images."""
        ...

    @property
    def images_BCHW(self) -> Tensor:
        """Normalised images on the training device."""
        ...

    @property
    def targets(self) -> Tensor:
        """labels_B, or shares_BK of the labels where images are mixed."""
        ...


class Batches(Protocol):
    """What the loop needs of the training images."""

    steps_per_epoch: int

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the `start`-th on."""
        ...


@dataclass(frozen=True)
class Training:
    """The live objects of one training run.

    `network` holds the weights and `forward` computes it: the same object, or its compiled form. `rate` gives the
    learning rate of a step (from 0 over the whole run) from the validation losses so far. `evaluate` scores a
    split with the weights that count: the average of the weights where there is one. `observe` looks at
    the network before the first epoch (0) and after each, and leaves it as it is.
    """

    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    average: Average | None
    batches: Batches
    loss: Callable[[Tensor, Tensor], Tensor]
    penalties: Sequence[Callable[[Sequence[Tensor]], Tensor]]
    decayed: Sequence[Tensor]
    rate: Callable[[int, Sequence[float]], float]
    clip_norm: float
    compute: Compute
    epochs: int
    evaluate: Mapping[Literal["validation", "test"], Callable[[], Scores]]
    observe: Sequence[Callable[[int], Event]] = ()


def fit(training: Training, progress: Progress) -> Iterator[Event]:
    """Train from where `progress` stands to the last epoch, yielding what happens.

    `progress` is advanced before each event, so a consumer may save the state at any of them. A loss or gradient
    that is not finite ends the run before the update, with a `Diverged` event. When memory runs out, the batch is
    split into micro-batches: the same gradient up to rounding (batch norm sees the smaller batches).
    """
    network, optimizer, steps_per_epoch = training.network, training.optimizer, training.batches.steps_per_epoch
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    network.train()
    if progress.epoch == progress.step == 0:
        yield from [observe(0) for observe in training.observe]
    while progress.epoch < training.epochs:
        clock = time.perf_counter()
        for batch in training.batches.epoch(progress.epoch, start=progress.step):
            step = progress.epoch * steps_per_epoch + progress.step
            lr = training.rate(step, [scores.loss for scores in progress.validation])
            for group in optimizer.param_groups:
                group["lr"] = lr * group.get("lr_share", 1.0)

            buffers = [buffer.clone() for buffer in network.buffers()]
            loss, correct = yield from gradients(training, batch, progress, buffers)
            if training.clip_norm:
                norm = nn.utils.clip_grad_norm_(parameters, training.clip_norm).item()
            else:
                norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).item()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                put_back(network, buffers)
                yield Diverged(progress.epoch + 1, step, loss, norm)
                return
            optimizer.step()
            if training.average is not None:
                training.average.update(network)

            images = len(batch.indices_B)
            progress.step += 1
            progress.loss_sum += loss * images
            progress.correct += correct
            progress.images += images
            progress.seconds += time.perf_counter() - clock
            yield StepDone(progress.epoch + 1, step, lr, loss, norm, order_hash(batch.indices_B))
            clock = time.perf_counter()

        yield from finish_epoch(training, progress)


def gradients(
    training: Training, batch: Batch, progress: Progress, buffers: Sequence[Tensor]
) -> Generator[Note, None, tuple[float, float]]:
    """`forward_backward`, tried again with smaller micro-batches while memory runs out.

    Raises:
        InputError: one image at a time does not fit.
    """
    while True:
        training.optimizer.zero_grad(set_to_none=True)
        try:
            return forward_backward(training, batch, progress.micro_batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        size = progress.micro_batch or len(batch.indices_B)
        if size == 1:
            raise InputError("out of memory with one image at a time; choose a shallower or narrower network")
        progress.micro_batch = (min(size, len(batch.indices_B)) + 1) // 2
        put_back(training.network, buffers)
        if training.compute.device.type == "cuda":
            torch.cuda.empty_cache()
        yield Note(f"out of memory: each batch is computed in micro-batches of {progress.micro_batch} images")


def forward_backward(training: Training, batch: Batch, micro_batch: int) -> tuple[float, float]:
    """Loss of a batch, penalties included, and how many images were right; leaves the gradients on the parameters.

    The loss is the mean over the batch whatever the micro-batch, also where the last one is smaller (guard 22).
    """
    count = len(batch.indices_B)
    size = micro_batch or count
    loss, correct = 0.0, 0.0
    for start in range(0, count, size):
        images, targets = batch.images_BCHW[start : start + size], batch.targets[start : start + size]
        with training.compute.arithmetic():
            logits = training.forward(images)
        part = training.loss(logits.float(), targets) * (len(images) / count)
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.item()
        correct += metrics.correct(logits.detach(), targets).item()
    for penalty in training.penalties:
        part = penalty(training.decayed)
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.item()
    return loss, correct


def put_back(network: nn.Module, buffers: Sequence[Tensor]) -> None:
    """Give the network's buffers the values that they had before a pass that does not count."""
    for buffer, before in zip(network.buffers(), buffers, strict=True):
        buffer.copy_(before)


def finish_epoch(training: Training, progress: Progress) -> Iterator[Event]:
    """Evaluate after the last update of an epoch and close it."""
    epoch, step = progress.epoch + 1, (progress.epoch + 1) * training.batches.steps_per_epoch
    if "test" in training.evaluate:
        yield TestRead("observed", epoch)
    clock = time.perf_counter()
    lr = training.rate(step - 1, [scores.loss for scores in progress.validation])
    observed = [observe(epoch) for observe in training.observe]
    scored = {split: evaluate() for split, evaluate in training.evaluate.items()}
    train = Scores("train", progress.loss_sum / progress.images, progress.correct / progress.images, progress.images)
    images_per_second = progress.images / progress.seconds
    seconds = progress.seconds + time.perf_counter() - clock
    yield from observed
    if validation := scored.get("validation"):
        progress.validation.append(validation)
        progress.best = best_epoch(progress.validation)
    progress.next_epoch()
    best = validation is not None and progress.best == epoch
    yield EpochDone(epoch, step, lr, train, validation, scored.get("test"), best, seconds, images_per_second)


def best_epoch(validation: Sequence[Scores]) -> int:
    """The epoch (from 1) with the highest validation accuracy; the earliest of equals. 0 where none is finite.

    Raises:
        ValueError: scores of another split. Nothing is ever selected on the test set.
    """
    best, best_accuracy = 0, -math.inf
    for epoch, scores in enumerate(validation, start=1):
        if scores.split != "validation":
            raise ValueError(f"selection sees validation scores only, not {scores.split}")
        if math.isfinite(scores.loss) and scores.accuracy > best_accuracy:
            best, best_accuracy = epoch, scores.accuracy
    return best


def order_hash(indices_B: Tensor) -> str:
    """A short hash of which images a batch holds, in order."""
    return sha256(indices_B.cpu().numpy().tobytes()).hexdigest()[:16]

"""The training loop: a generator of events. Consumers write, draw and stop; between two events the state is whole."""

import math
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from residuum.engine.epoch import table as table_of
from residuum.engine.live import Training
from residuum.engine.state import Progress
from residuum.engine.step import updates
from residuum.records.event import Diverged, EpochDone, Event, Scores, StepDone, TestRead


def fit(training: Training, progress: Progress) -> Iterator[Event]:
    """Train from where `progress` stands to the last epoch, yielding what happens.

    `progress` is advanced before each event, so a consumer may save the state at any of them, after it has taken the
    `untold` ones. A loss or gradient that is not finite ends the run before the update, with a `Diverged` event. When
    memory runs out, the batch is split into micro-batches: the same gradient up to rounding (batch norm sees the
    smaller batches).
    """
    steps_per_epoch, sizes = training.batches.steps_per_epoch, training.batches.sizes
    training.network.train()
    block = updates(training)
    if progress.epoch == progress.step == 0:
        yield from [observe(0) for observe in training.observe]
    while progress.epoch < training.epochs:
        clock = time.perf_counter()
        table = table_of(training, progress)
        while (first := progress.step) < steps_per_epoch:
            rows = yield from block(table, progress)
            made = next((count for count, row in enumerate(rows) if not row.finite), len(rows))
            for number, row in enumerate(rows[:made], start=first):
                progress.step += 1
                progress.loss_sum += row.loss * sizes[number]
                progress.correct += row.correct
                progress.images += sizes[number]
            progress.untold = min(made + 1, len(rows))
            progress.seconds += time.perf_counter() - clock
            for number, row in enumerate(rows[: made + 1], start=first):
                progress.untold -= 1
                at = progress.epoch * steps_per_epoch + number
                if not row.finite:
                    yield Diverged(progress.epoch + 1, at, row.loss, row.norm)
                    return
                norm = None if row.skipped else row.norm
                order = order_hash(table.draws.order[number * sizes[0] :][: sizes[number]])
                yield StepDone(progress.epoch + 1, at, table.rates[number], row.loss, norm, order)
            clock = time.perf_counter()

        yield from finish_epoch(training, progress, table.rates[-1])


def finish_epoch(training: Training, progress: Progress, lr: float) -> Iterator[Event]:
    """Evaluate after the last update of an epoch, whose rate was `lr`, and close it."""
    epoch, step = progress.epoch + 1, (progress.epoch + 1) * training.batches.steps_per_epoch
    if "test" in training.evaluate:
        yield TestRead("observed", epoch)
    clock = time.perf_counter()
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


def order_hash(indices_B: NDArray[np.int64]) -> str:
    """A short hash of which images a batch holds, in order."""
    return sha256(indices_B.tobytes()).hexdigest()[:16]

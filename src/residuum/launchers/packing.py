"""How fast a run goes on this machine: the time of an update, and how many runs at a time are fastest in total."""

import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from residuum import assemble
from residuum.config import RunConfig
from residuum.engine.live import Training
from residuum.engine.loop import fit
from residuum.engine.state import Progress
from residuum.errors import InputError
from residuum.launchers.processes import Channel, Process, start
from residuum.records.event import Diverged, StepDone

WARM_UP = 2
"""Updates that do not count: kernels are chosen and memory is claimed in them."""
LEAST = 3
"""Updates that are measured at least, however long they take."""
PASSES = 2
"""Passes over one batch of test images of which the faster one counts."""
WINDOW = 2.0
"""Seconds for which all workers of a packing are measured at the same time."""


@dataclass(frozen=True)
class Packing:
    """Workers at a time and threads of each that train most images a second, among those measured.

    `images_per_second` has the sum over the workers for each packing (workers, threads); 0 where a worker died.
    """

    workers: int
    threads: int
    images_per_second: Mapping[tuple[int, int], float]


@dataclass(frozen=True)
class Pace:
    """Seconds of a run's parts: the median `step` (an update, data included), `evaluation` of one image, and `setup`.

    `spread` is half the interquartile range of the updates as a share of their median. `setup` is the time from the
    configuration to the end of the first update, less one median update; what only the first run of a process waits
    for is part of it.
    """

    step: float
    spread: float
    evaluation: float
    setup: float


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def packings(cores: int, threads: int) -> list[tuple[int, int]]:
    """Workers and threads that use the cores: 1, 2, 4 … workers where that divides the cores, and one on each.

    No worker has more than `threads`, which may leave cores unused where there are few workers.
    """
    powers = {2**power for power in range(cores.bit_length()) if cores % 2**power == 0}
    return [(workers, min(threads, cores // workers)) for workers in sorted(powers | {cores})]


def fastest(config: RunConfig, cores: int, threads: int) -> Packing:
    """The packing of the cores that trains most images a second, from a few seconds of each; nothing is written.

    No worker has more than `threads`.

    Raises:
        InputError: anything that a run would stumble over, or a piece of it does not run in a worker.
    """
    resolved, data = assemble.resolve(config)
    assemble.training(resolved, data)
    speeds = {packing: _speed(resolved, *packing) for packing in packings(cores, threads)}
    best = max(speeds, key=lambda packing: speeds[packing])
    if not speeds[best]:
        raise InputError("a piece of the run could not be measured: every worker died; is there enough memory?")
    return Packing(*best, speeds)


def _speed(config: RunConfig, workers: int, threads: int) -> float:
    """Images a second of so many workers that train at the same time; 0 if one of them dies."""
    crew: list[tuple[Process, Channel]] = []
    try:
        for _ in range(workers):
            crew.append(start(_measure, threads))
            crew[-1][1].send(config)
        for _, channel in crew:
            channel.recv()  # it is warm
        for _, channel in crew:
            channel.send(WINDOW)
        return sum(float(channel.recv()) for _, channel in crew)
    except (EOFError, OSError):
        return 0.0
    finally:
        for process, channel in crew:
            channel.close()
            process.kill()
            process.wait()


def _measure(channel: Channel) -> None:
    """A worker of a packing: train a piece, warm up, wait for the others, and say how many images a second it saw."""
    config: RunConfig = channel.recv()
    resolved, data = assemble.resolve(config)
    training, _ = assemble.training(resolved, data)
    updates = _updates(training)
    for _ in range(WARM_UP):
        next(updates)
    channel.send("warm")
    window: float = channel.recv()
    count, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < window or count < LEAST:
        next(updates)
        count += 1
    channel.send(count * len(data.train_N) / training.batches.steps_per_epoch / elapsed)


def _updates(training: Training) -> Iterator[None]:
    """Updates without end, at a rate of 0: they cost what those of a run cost, and the weights stay as they are."""
    endless = replace(training, epochs=2**31, rate=lambda _step, _losses: 0.0, evaluate={})
    while True:
        for event in fit(endless, Progress()):
            if isinstance(event, StepDone | Diverged):
                yield


def start_seconds(threads: int) -> float:
    """Seconds from the start of a worker process until it has imported what a run needs.

    Raises:
        InputError: it died before.
    """
    began = time.perf_counter()
    process, channel = start(_ready, threads)
    try:
        channel.recv()
        return time.perf_counter() - began
    except (EOFError, OSError) as error:
        raise InputError("the start of a worker could not be measured: it died; is there enough memory?") from error
    finally:
        channel.close()
        process.kill()
        process.wait()


def _ready(channel: Channel) -> None:
    """A worker that says when it could begin a run."""
    import residuum.training  # noqa: F401

    channel.send(None)


def least_seconds(pace: Pace) -> float:
    """What `step_seconds` takes at least for a run of that pace."""
    return pace.setup + (1 + LEAST) * pace.step + PASSES * assemble.EVALUATION_BATCH * pace.evaluation


def step_seconds(config: RunConfig, threads: int, seconds: float = 3.0) -> Pace:
    """The pace of a run in this process, from about `seconds` of updates on its own data; nothing is written.

    `threads` counts where the configuration does not fix them.

    Raises:
        InputError: anything that a run would stumble over.
    """
    before = torch.get_num_threads()
    try:
        began = time.perf_counter()
        on = config.compute.model_copy(update={"threads": config.compute.threads or threads})
        resolved, data = assemble.resolve(config.model_copy(update={"compute": on}))
        training, _ = assemble.training(resolved, data)
        updates = _updates(training)
        next(updates)
        first = time.perf_counter()
        took: list[float] = []
        while len(took) < LEAST or time.perf_counter() - first < seconds:
            start_of_update = time.perf_counter()
            next(updates)
            took.append(time.perf_counter() - start_of_update)
        step, spread = _middle(took)
        return Pace(step, spread, _evaluation(training, data), max(0.0, first - began - step))
    finally:
        torch.set_num_threads(before)


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """The median, and half the interquartile range as a share of it."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, (high - low) / 2 / median


def _evaluation(training: Training, data: assemble.Data) -> float:
    """Seconds to evaluate one image, the best of a few passes over one batch of the test images."""
    indices_N = np.arange(min(assemble.EVALUATION_BATCH, len(data.dataset.test)))
    took = []
    for _ in range(PASSES):
        began = time.perf_counter()
        assemble.split_logits(training.network, data.dataset.test, indices_N, data.normalization, training.compute)
        took.append(time.perf_counter() - began)
    return min(took) / len(indices_N)

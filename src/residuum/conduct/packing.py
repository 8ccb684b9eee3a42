"""How fast a run goes on this machine: the time of an update, and how many runs at a time are fastest in total."""

import os
import statistics
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

import numpy as np
import torch

from residuum import own
from residuum.conduct.launchers.lanes import Lane, own_place, turn
from residuum.conduct.launchers.processes import Channel, Process, start
from residuum.config import RunConfig
from residuum.engine.compute import usual_threads
from residuum.engine.live import Training
from residuum.engine.loop import fit
from residuum.engine.state import Progress
from residuum.errors import InputError
from residuum.records.event import Diverged, Event, StepDone
from residuum.run import assemble

WARM_UP = 2
"""Updates that do not count: kernels are chosen and memory is claimed in them."""
LEAST = 3
"""Updates that are measured at least, however long they take."""
PASSES = 2
"""Passes over one batch of test images of which the faster one counts."""
EVALUATED = 500
"""Images of that batch on a CPU; a GPU takes more of them in less time."""
WINDOW = 2.0
"""Seconds for which all workers of a packing are measured at the same time."""


LANES = (1, 2, 4, 8, 16)
"""Runs side by side on a GPU, as they are tried one after the other."""
FASTER = 1.03
"""How many times as fast more lanes have to be for still more to be tried."""
MEMORY = 0.9
"""Share of a GPU's memory that the lanes on it may take."""


@dataclass(frozen=True)
class Packing:
    """Workers at a time, with the threads and the lanes of each, on so many GPUs.

    `images_per_second` has the sum over the workers for each packing (workers, threads, lanes) that was measured, the
    one of a run alone first; 0 where a worker died.
    """

    workers: int
    threads: int
    lanes: int = 1
    cards: int = 0
    images_per_second: Mapping[tuple[int, int, int], float] = field(default_factory=dict)

    @property
    def gain(self) -> float:
        """How many times as many images a second it trains as one run alone; 1 where that was not measured."""
        alone = next(iter(self.images_per_second.values()), 0.0)
        return self.images_per_second[self.workers, self.threads, self.lanes] / alone if alone else 1.0

    def __str__(self) -> str:
        if self.lanes == 1:
            return f"{self.workers} at a time"
        if not self.cards or self.workers % self.cards:
            each = "one worker" if self.workers == 1 else f"each of {self.workers} workers"
            return f"in {self.lanes} lanes of {each}"
        lanes = self.lanes * self.workers // self.cards
        return f"in {lanes} lanes on " + ("one card" if self.cards == 1 else f"each of {self.cards} cards")


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


def cards(device: str) -> list[str]:
    """The GPUs that runs with that `compute.device` may use, as CUDA_VISIBLE_DEVICES names them; none elsewhere."""
    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    said = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (said or [str(number) for number in range(count)])[:count]


def fastest(config: RunConfig, cores: int, threads: int, largest: RunConfig | None = None) -> Packing:
    """The packing that trains most images a second here, from a few seconds of each; nothing is written.

    On the CPU those are processes × threads, on GPUs a process for each with more and more lanes. No worker has more
    than `threads`. On GPUs the memory of `largest`, a run that is larger than the one that is timed, bounds the lanes.

    Raises:
        InputError: anything that a run would stumble over, or a piece of it does not run in a worker.
    """
    resolved = _checked(config)
    on = cards(resolved.compute.device)
    if on:
        speeds = _on_cards(resolved, cores, threads, on, _checked(largest) if largest else resolved)
    else:
        speeds = {(*packing, 1): _speed(resolved, *packing)[0] for packing in packings(cores, threads)}
    best = max(speeds, key=lambda packing: speeds[packing])
    if not speeds[best]:
        raise InputError("a piece of the run could not be measured: every worker died; is there enough memory?")
    return Packing(*best, cards=len(on), images_per_second=speeds)


def measured(config: RunConfig, workers: int, threads: int, lanes: int) -> Packing:
    """A packing beside a run alone, from a few seconds of each; nothing is written.

    Raises:
        InputError: as `fastest`.
    """
    resolved = _checked(config)
    on = cards(resolved.compute.device)
    speeds = {}
    for packing in ((1, usual_threads(), 1), (workers, threads, lanes)):
        speeds[packing], _ = _speed(resolved, *packing, on)
        if not speeds[packing]:
            raise InputError("a piece of the run could not be measured: a worker died; is there enough memory?")
    return Packing(workers, threads, lanes, min(len(on), workers), speeds)


def _checked(config: RunConfig) -> RunConfig:
    """The resolved configuration of a run that could begin."""
    resolved, data = assemble.rehearsed(config)
    assemble.training(resolved, data)
    return resolved


def _on_cards(
    config: RunConfig, cores: int, threads: int, on: Sequence[str], largest: RunConfig
) -> dict[tuple[int, int, int], float]:
    """Images a second of a run alone, then of a worker on each GPU with more and more lanes.

    There are no more once they die, are not clearly faster, or would not fit into the memory.
    """
    alone = (1, min(threads, cores), 1)
    speed, memory = _speed(config, *alone, on)
    if largest != config:
        memory = _speed(largest, *alone, on)[1]
    speeds, before = {alone: speed}, 0.0
    for lanes in LANES:
        packing = (len(on), max(1, min(threads, cores // len(on))), lanes)
        if lanes * memory > MEMORY:
            break
        if packing != alone:
            speeds[packing], _ = _speed(config, *packing, on)
        if speeds[packing] <= FASTER * before:
            break
        before = speeds[packing]
    return speeds


def _speed(
    config: RunConfig, workers: int, threads: int, lanes: int = 1, on: Sequence[str] = ()
) -> tuple[float, float]:
    """Images a second of workers that train at the same time, and the largest share of a GPU's memory that one took.

    Both are 0 if a worker dies.
    """
    _leave_memory()
    crew: list[tuple[Process, Channel]] = []
    try:
        for number in range(workers):
            crew.append(start(_measure, threads, on[number % len(on)] if len(on) > 1 else ""))
            crew[-1][1].send((config, lanes))
        for _, channel in crew:
            _heard(channel)  # it is warm
        for _, channel in crew:
            channel.send(WINDOW)
        speeds, memory = zip(*(_heard(channel) for _, channel in crew), strict=True)
        return sum(speeds), max(memory)
    except (EOFError, OSError):
        return 0.0, 0.0
    finally:
        for process, channel in crew:
            channel.close()
            process.kill()
            process.wait()


def _heard(channel: Channel) -> Any:
    """What a worker of a packing said.

    Raises:
        InputError: its own code failed; EOFError, OSError: it died.
    """
    said = channel.recv()
    if isinstance(said, InputError):
        raise said
    return said


def _measure(channel: Channel) -> None:
    """A worker of a packing: its measurement, or the error that its own code made."""
    config, lanes = channel.recv()
    try:
        _measured(channel, config, lanes)
    except (Exception, SystemExit) as error:
        if not (said := own.charge(error, config.model_dump(mode="json"))):
            raise
        channel.send(InputError(said))


def _measured(channel: Channel, config: RunConfig, lanes: int) -> None:
    """Train pieces side by side, warm up, wait for the others, and say how many images a second
    it saw and what share of a GPU's memory it took.
    """
    resolved, data = assemble.rehearsed(config)
    crew: list[Lane] = []
    for _ in range(lanes):
        place = own_place(config.compute.device)
        with place():
            training, _ = assemble.training(resolved, data)
        crew.append(Lane(_endless(training), place))
    for lane in crew:
        warm = 0
        while warm < WARM_UP:
            warm += _updates(lane)
    channel.send("warm")
    window: float = channel.recv()
    speed = _updates_a_second(crew, window)
    memory = 0.0
    if training.compute.device.type == "cuda":
        memory = torch.cuda.max_memory_reserved() / torch.cuda.mem_get_info()[1]
    channel.send((speed * len(data.train_N) / training.batches.steps_per_epoch, memory))


def _updates_a_second(crew: Sequence[Lane], window: float) -> float:
    """How many updates lanes do together, over `window` seconds or as long as it takes each to tell some twice.

    A GPU tells a block of them at a time: each lane's rate is from one telling to its last.
    """
    told: list[list[tuple[float, int]]] = [[] for _ in crew]
    began = time.perf_counter()
    for lane, mine in cycle(zip(crew, told, strict=True)):
        done, now = _updates(lane), time.perf_counter()
        mine += [(now, done)] if done else []
        counted = sum(done for one in told for _, done in one[1:])
        if now - began >= window and counted >= LEAST and all(len(one) > 1 for one in told):
            break
    return sum(sum(done for _, done in one[1:]) / (one[-1][0] - one[0][0]) for one in told)


def _endless(training: Training) -> Generator[Event, None, None]:
    """Events without end, at a rate of 0: updates cost what those of a run cost, and the weights stay as they are."""
    endless = replace(training, epochs=2**31, rate=lambda _step, _losses: 0.0, evaluate={})
    while True:
        yield from fit(endless, Progress())


def _updates(lane: Lane) -> int:
    """How many updates a lane has done since its last turn."""
    return sum(isinstance(event, StepDone | Diverged) for event in turn(lane))


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
    return pace.setup + (1 + LEAST) * pace.step + PASSES * EVALUATED * pace.evaluation


def step_seconds(config: RunConfig, threads: int, seconds: float = 3.0) -> Pace:
    """The pace of a run in this process, from its own updates or about `seconds` of them; nothing is written.

    `threads` counts where the configuration does not fix them.

    Raises:
        InputError: anything that a run would stumble over.
    """
    before = torch.get_num_threads()
    try:
        on = config.compute.model_copy(update={"threads": config.compute.threads or threads})
        return _pace(config.model_copy(update={"compute": on}), seconds)
    finally:
        torch.set_num_threads(before)
        _leave_memory()


def _pace(config: RunConfig, seconds: float) -> Pace:
    began = time.perf_counter()
    resolved, data = assemble.rehearsed(config)
    training, _ = assemble.training(resolved, data)
    lane, first = Lane(_endless(training)), 0
    while not first:
        first = _updates(lane)
    begun = time.perf_counter()
    took: list[float] = []
    whole = training.epochs * training.batches.steps_per_epoch  # a run's own updates tell all there is to know of it
    while len(took) < LEAST or (len(took) < whole and time.perf_counter() - begun < seconds):
        start_of_turn = time.perf_counter()
        updates = _updates(lane)
        if updates:  # a GPU's first block is launched in a turn that has none to tell
            took.append((time.perf_counter() - start_of_turn) / updates)
    step, spread = _middle(took)
    return Pace(step, spread, _evaluation(training, data), max(0.0, begun - began - first * step))


def _leave_memory() -> None:
    """Give a GPU's memory that this process has no use for any more to the others."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """The median, and half the interquartile range as a share of it."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, (high - low) / 2 / median


def _evaluation(training: Training, data: assemble.Data) -> float:
    """Seconds to evaluate one image, the best of a few passes over one batch of the test images."""
    indices_N = np.arange(min(training.compute.evaluation_batch, len(data.dataset.test)))
    took = []
    for _ in range(PASSES):
        began = time.perf_counter()
        assemble.split_logits(training.network, data.dataset.test, indices_N, data.normalization, training.compute)
        took.append(time.perf_counter() - began)
    return min(took) / len(indices_N)

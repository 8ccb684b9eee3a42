"""Speed, measured as ratios side by side in one run: this engine, a plain training script, the machine's peak."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from residuum import recipes
from residuum.config import RunConfig
from residuum.engine.loop import fit
from residuum.engine.state import Progress
from residuum.models.summary import summarize
from residuum.records.event import EpochDone, Event
from residuum.run import assemble

PLAIN_SCRIPT = "residuum.run.plain_script"


@dataclass(frozen=True)
class Speed:
    """Seconds of each measured epoch, data and evaluation included."""

    name: str
    images: int
    seconds: tuple[float, ...]

    @property
    def images_per_second(self) -> float:
        """Training images per second of a whole epoch, the median of the repeats."""
        return self.images / statistics.median(self.seconds)


@dataclass(frozen=True)
class Benchmark:
    """What was measured. `peak` is GFLOP/s of a large bfloat16 matrix product, `achieved` that of this engine.

    `achieved` counts two operations a multiply-add: the forward pass once, its two gradients in training, none for
    the first layer's input, whose gradient nobody needs; batch norm, activations and the optimizer count as nothing.
    """

    model: str
    batch_size: int
    threads: int
    precision: str
    load: tuple[float, float]
    engine: Speed
    plain: tuple[Speed, ...]
    peak: float
    achieved: float

    @property
    def ratio(self) -> float:
        """Images per second against the faster form of the plain script."""
        return self.engine.images_per_second / max(p.images_per_second for p in self.plain)

    @property
    def share_of_peak(self) -> float:
        """Achieved GFLOP/s as a share of the measured peak."""
        return self.achieved / self.peak

    def lines(self) -> list[str]:
        """The benchmark in lines for people."""
        setting = f"{self.model}, batch {self.batch_size}, {self.precision}, {self.threads} threads"
        lines = [f"{setting}, load of the machine {self.load[0]:.1f} before and {self.load[1]:.1f} after"]
        for speed in (self.engine, *self.plain):
            epochs = ", ".join(f"{seconds:.2f}" for seconds in speed.seconds)
            lines.append(f"{speed.name:26} {speed.images_per_second:7,.0f} images/s   (epochs of {epochs} s)")
        lines.append(f"{self.ratio:.2f} × the faster form of the plain script")
        share = f"{self.share_of_peak:.0%} of the {self.peak:.0f} GFLOP/s of a large matrix product"
        return [*lines, f"{self.achieved:.0f} GFLOP/s, {share}"]


def bench(images: int, repeats: int) -> Iterator[str | Benchmark]:
    """Measure, saying in a line what is going on; the last value is the benchmark.

    The engine and the plain script, with and without data workers, take turns epoch by epoch after one that does not
    count, so that a change of the machine's speed meets all of them. The script runs in processes of its own, as people
    run it: the engine's setting of the allocator holds for a whole process and would speed the script up too.
    """
    config = recipes.he2015().changed(
        {
            "data.dataset": {"name": "synthetic", "size": 32, "train": images, "test": images // 5},
            "train.epochs": repeats + 1,
        }
    )
    load = os.getloadavg()[0]
    resolved, data = assemble.resolve(config)
    training, _ = assemble.training(resolved, data)
    epochs: dict[str, Iterator[float]] = {"engine": _epochs(fit(training, Progress()))}
    epochs |= {f"plain script, {workers} workers": _plain(images, repeats + 1, workers) for workers in (0, 2)}
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    peaks = []
    for repeat in range(repeats + 1):
        peaks.append(peak(torch.bfloat16 if training.compute.precision == "bf16" else torch.float32))
        for name, measured in epochs.items():
            took = next(measured)
            yield f"{name}: {images / took:,.0f} images/s" + (" (warm-up, not counted)" if repeat == 0 else "")
            if repeat > 0:
                seconds[name].append(took)
    speeds = {name: Speed(name, images, tuple(values)) for name, values in seconds.items()}
    engine = speeds.pop("engine")
    done = operations(resolved, data, images, images // 5)
    yield Benchmark(
        model="resnet20",
        batch_size=resolved.train.batch_size,
        threads=training.compute.threads,
        precision=training.compute.precision,
        load=(load, os.getloadavg()[0]),
        engine=engine,
        plain=tuple(speeds.values()),
        peak=statistics.median(peaks),
        achieved=done / statistics.median(engine.seconds) / 1e9,
    )


def _epochs(events: Iterator[Event]) -> Iterator[float]:
    """Seconds of each epoch of a run, as the wall clock sees them from outside."""
    start = time.perf_counter()
    for event in events:
        if isinstance(event, EpochDone):
            yield time.perf_counter() - start
            start = time.perf_counter()


def operations(config: RunConfig, data: assemble.Data, train: int, evaluated: int) -> float:
    """Floating-point operations of an epoch: convolutions and linear layers, two a multiply-add."""
    cost = summarize(assemble.network_of(config, data), data.shape)
    first = cost.layers[0].macs
    return 2.0 * (train * (3 * cost.macs - first) + evaluated * cost.macs)


def peak(dtype: torch.dtype, device: str = "cpu", size: int = 2048, repeats: int = 8) -> float:
    """GFLOP/s of the product of two large square matrices, the best of some: what the machine can do at most."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return max(2 * size**3 / _timed(lambda: (a @ b)[0, 0].item()) / 1e9 for _ in range(repeats))


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _plain(images: int, epochs: int, workers: int) -> Iterator[float]:
    """Seconds of each epoch of the plain script, which waits while others have their turn."""
    words = [
        sys.executable,
        "-P",
        "-m",
        PLAIN_SCRIPT,
        "--images",
        images,
        "--epochs",
        epochs,
        "--workers",
        workers,
        "--wait",
    ]
    with subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(epochs):
            process.stdin.write("\n")
            process.stdin.flush()
            yield float(process.stdout.readline().split(":")[1].split()[0])

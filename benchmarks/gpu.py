"""What residuum does on an NVIDIA card: whether it is right there, and how fast it is.

    python benchmarks/gpu.py                   # with a card: under 8 minutes, prints as it goes, writes gpu.json
    python benchmarks/gpu.py --dry             # everything once on the CPU, tiny, to see that the script works
    python benchmarks/gpu.py --only correctness, then --only speed: half of it each, in as much time
    python benchmarks/gpu.py --only speed --of "resnet20, compiled" resnet110    # what is named so, and nothing else

First what must hold: the tests marked `cuda`, ten runs killed with SIGKILL and resumed, runs side by side. Then seconds
of whole epochs, evaluation included, of each network alone and in lanes, compiled or not, deterministic or not, beside
a plain script with 14 workers and a strong one. Times are those of `residuum.training.run`, records written and all, on
random images of CIFAR-10's size; an epoch that captures or compiles does not count. The most wanted comes first, and
what there is no time for is named. The exit code is 1 where something did not hold.

It needs no network. A machine with torch (2.11 or later), numpy, scipy, matplotlib, scikit-learn, pillow, safetensors,
rich, jinja2 and pytest may lack the rest, which comes along as wheels, here for Linux and Python 3.12:

    python -m pip download -d wheels --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 -c constraints.txt \
        pydantic pydantic-core annotated-types typing-inspection duckdb captum
    python -m pip install --no-index --no-deps --target site wheels/*.whl        # there
    PYTHONPATH=src:site python benchmarks/gpu.py
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")  # a queue for each lane; read when the card is first used

import torch
import torch.nn.functional as F

from residuum import recipes, training
from residuum.conduct.launchers.lanes import Lane, own_place, side_by_side
from residuum.config import RunConfig
from residuum.engine.step import graphs
from residuum.records.event import EpochDone, Note, StepDone
from residuum.run import assemble
from residuum.run.bench import PLAIN_SCRIPT, operations, peak

HERE = Path(__file__).parent
TINY = {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]}


@dataclass(frozen=True)
class Size:
    """How large everything is: as on a card, or tiny."""

    device: str
    images: int
    epochs: int
    lanes: tuple[int, ...]
    kills: int
    workers: int


CARD = Size("cuda", 50_000, 4, (2, 4, 8, 16), 10, 14)
DRY = Size("cpu", 48, 3, (2,), 1, 0)


@dataclass(frozen=True)
class Measured:
    """One measurement: seconds a run and epoch, from the start to the first update, and the share of evaluation."""

    network: str
    form: str
    lanes: int
    seconds: float
    start: float
    evaluation: float
    notes: tuple[str, ...]


class Clock:
    """What is left of the time that the whole may take."""

    def __init__(self, limit: float) -> None:
        self.began, self.limit = time.perf_counter(), limit

    def say(self, *words: object) -> None:
        """Print with the time since the start."""
        print(f"[{time.perf_counter() - self.began:5.0f} s]", *words, flush=True)

    def left(self) -> float:
        """Seconds that are left."""
        return self.limit - (time.perf_counter() - self.began)

    def has(self, seconds: float, name: str) -> bool:
        """Whether a piece of that length still fits; says so where it does not."""
        if (left := self.left()) < seconds:
            self.say(f"{name}: left out, {left:.0f} s are left and it takes about {seconds:.0f}")
        return left >= seconds


def random_images(folder: Path, count: int) -> Path:
    """Random images as CIFAR-10's binary files, a fifth of them for the test set: nothing here looks at accuracy."""
    rng = np.random.default_rng(0)
    target = folder / "cifar-10-batches-bin"
    target.mkdir()
    for name, size in [*((f"data_batch_{n}.bin", count // 5) for n in range(1, 6)), ("test_batch.bin", count // 5)]:
        rows = rng.integers(0, 256, (size, 3073), np.uint8)
        rows[:, 0] = np.arange(size) % 10
        (target / name).write_bytes(rows.tobytes())
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    (target / "batches.meta.txt").write_text(names.replace(" ", "\n") + "\n")
    return target


def config(size: Size, data: Path, network: str, **settings: Any) -> RunConfig:
    """He's protocol of a network, with the test curve observed: an evaluation of 10,000 images after each epoch."""
    changes = {"model": network, "data.root": str(data), "train.epochs": size.epochs, "compute.device": size.device}
    tiny: dict[str, Any] = {"train.batch_size": 16, "model": TINY} if size is DRY else {}
    return recipes.he2015().changed(changes | tiny | {name.replace("__", "."): v for name, v in settings.items()})


def measure(size: Size, data: Path, network: str, form: str, lanes: int = 1, **settings: Any) -> Measured:
    """Whole epochs of `lanes` runs side by side; the first, and the last with its end of a run, are left out."""
    began, first, notes = time.perf_counter(), 0.0, dict[str, None]()
    ends: dict[str, list[float]] = {}
    shares = []
    with tempfile.TemporaryDirectory() as root:
        going = {}
        for seed in range(lanes):
            seeded = config(size, data, network, train__seed=seed, **settings)
            going[str(seed)] = Lane(training.run(seeded, Path(root)), own_place(size.device))
        for name, event in side_by_side(going):
            if isinstance(event, Exception):
                raise event
            if isinstance(event, StepDone) and not first:
                first = time.perf_counter() - began
            if isinstance(event, Note):
                notes[event.text] = None
            if isinstance(event, EpochDone):
                ends.setdefault(name, []).append(time.perf_counter())
                shares.append(1 - event.train.n / event.images_per_second / event.seconds)
    whole = max(end[-2] for end in ends.values()) - max(end[0] for end in ends.values())
    seconds = whole / (size.epochs - 2) / lanes
    return Measured(network, form, lanes, seconds, first, float(np.median(shares)), tuple(notes))


def script(size: Size, clock: Clock, start: Sequence[object], *words: object) -> float | None:
    """Seconds of the fastest epoch of another script but its first; None where it failed, which is said."""
    done = run(clock, *start, "--images", size.images, "--device", size.device, "--epochs", 3, *words)
    times = [float(line.split(":")[1].split()[0]) for line in done.stdout.splitlines()[1:]]
    if done.returncode or not times:
        clock.say(f"{start[-1]} failed: {last_line(done.stderr)}")
        return None
    return min(times)


def run(clock: Clock, *words: object) -> "subprocess.CompletedProcess[str]":
    """Another program in the time that is left; one that takes longer is ended, and has failed."""
    command = [sys.executable, *map(str, words)]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=max(1.0, clock.left()))
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", "it took longer than there was time")


def last_line(text: str) -> str:
    """The last line of a text that has any."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


def shortcuts(size: Size) -> dict[str, float]:
    """Microseconds forward and backward of the two ways to pick every second pixel, which give equal values."""
    shape = (128, 16, 32, 32) if size is CARD else (2, 4, 8, 8)
    dtype = torch.bfloat16 if size is CARD else torch.float32
    x_NCHW = torch.randn(shape, device=size.device, dtype=dtype).to(memory_format=torch.channels_last)
    ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "avg_pool2d": lambda x: F.avg_pool2d(x, 1, 2),
        "slices": lambda x: x[:, :, ::2, ::2],
    }
    assert torch.equal(*(way(x_NCHW) for way in ways.values()))
    took = {}
    for name, way in ways.items():
        x = x_NCHW.clone().requires_grad_()

        def passes(way: Callable[[torch.Tensor], torch.Tensor] = way, x: torch.Tensor = x) -> None:
            for _ in range(20):
                x.grad = None
                F.pad(way(x), (0, 0, 0, 0, 8, 8)).sum().backward()

        # As a graph on a card: launches take longer than what is launched.
        repeat = graphs([])(lambda: None, passes) if size is CARD else passes
        times = []
        for _ in range(10):
            synchronize(size)
            began = time.perf_counter()
            repeat()
            synchronize(size)
            times.append((time.perf_counter() - began) / 20 * 1e6)
        took[name] = float(np.median(times))
    return took


def synchronize(size: Size) -> None:
    """Wait for the device."""
    if size.device == "cuda":
        torch.cuda.synchronize()


def correctness(size: Size, clock: Clock) -> dict[str, object]:
    """The tests that need a card, and runs that are killed."""
    found: dict[str, Any] = {"right": True}
    if clock.has(60, "tests"):
        tests = HERE.parent / "tests" / "engine" / "test_cuda.py"
        kernels = HERE.parent / "tests" / "engine" / "test_kernels.py"
        done = run(clock, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", tests, kernels)
        found["tests"] = last_line(done.stdout or done.stderr)
        found["right"] &= done.returncode == 0
        clock.say("tests marked cuda:", found["tests"])
        for line in done.stdout.splitlines():
            if line.startswith(("FAILED", "ERROR", "E  ")):
                clock.say("  ", line[:200])
    if clock.has(120, "kills"):
        done = run(clock, HERE.parent / "tests" / "torture.py", "--kills", size.kills)
        found["kills"] = "FAILED: " + last_line(done.stderr) if done.returncode else last_line(done.stdout)
        found["right"] &= done.returncode == 0
        clock.say("kills:", found["kills"])
    return found


def plan(size: Size) -> Iterator[tuple[float, str, str, int, dict[str, Any]]]:
    """What is measured, the most wanted first: seconds it takes, network, form, lanes, settings."""
    free, compiled = {"compute__deterministic": False}, {"compute__compile": True}
    triton = {"compute__kernels": "auto"}
    yield 12, "resnet20", "deterministic", 1, {}
    for lanes in size.lanes:
        yield 8 + 2 * lanes, "resnet20", "deterministic", lanes, {}
    yield 25, "resnet110", "deterministic", 1, {}
    for lanes in [lanes for lanes in size.lanes if lanes <= 4]:
        yield 10 + 6 * lanes, "resnet110", "deterministic", lanes, {}
    yield 10, "resnet20", "kernels chosen by trying", 1, free
    yield 90, "resnet20", "compiled", 1, compiled
    yield 12, "resnet20", "compiled", size.lanes[len(size.lanes) // 2], compiled
    yield 30, "resnet20", "Triton's convolutions", 1, triton
    yield 20, "resnet20", "Triton's convolutions", size.lanes[len(size.lanes) // 2], triton
    yield 30, "resnet20", "compiled, Triton's convolutions", 1, compiled | triton
    yield 20, "resnet20", "compiled, Triton's convolutions", size.lanes[len(size.lanes) // 2], compiled | triton
    for network in ("resnet56", "resnet18", "resnet24c"):
        yield 25, network, "deterministic", 1, {}
        yield 35, network, "deterministic", size.lanes[min(1, len(size.lanes) - 1)], {}
    yield 45, "resnet56", "Triton's convolutions", size.lanes[min(1, len(size.lanes) - 1)], triton
    yield 30, "resnet110", "kernels chosen by trying", 1, free
    yield 10, "resnet20", "tf32", 1, {"compute__precision": "tf32" if size is CARD else "fp32"}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="everything once on the CPU, tiny")
    parser.add_argument("--seconds", type=float, default=470, help="the time that all may take (default: 470)")
    parser.add_argument("--only", choices=["correctness", "speed"], help="one half of it")
    parser.add_argument("--of", nargs="+", default=[""], metavar="WORDS", help="only measurements named so")
    parser.add_argument("--out", type=Path, help="file to write (default: gpu.json, gpu-dry.json with --dry)")
    options = parser.parse_args()
    out = options.out or Path("gpu-dry.json" if options.dry else "gpu.json")
    if not out.parent.is_dir():
        parser.error(f"--out: there is no folder {out.parent}")
    if options.seconds <= 0:
        parser.error(f"--seconds: {options.seconds:g} is no time")
    if not (options.dry or torch.cuda.is_available()):
        print("there is no NVIDIA card here; --dry runs everything once on the CPU, tiny", file=sys.stderr)
        return 2
    size = DRY if options.dry else CARD
    if size is DRY:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # compiling takes minutes, which says nothing on another device
        torch._dynamo.config.disable = True
    clock = Clock(options.seconds)
    card = torch.cuda.get_device_name() if size is CARD else "CPU, dry: none of these figures means anything"
    found: dict[str, Any] = {"device": card, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d"), "runs": []}
    clock.say(f"{card}, torch {torch.__version__}, Python {sys.version.split()[0]}, {torch.version.cuda or 'no CUDA'}")

    def write() -> None:
        out.write_text(json.dumps(found, indent=1) + "\n")

    if options.only != "speed":
        found["correctness"] = correctness(size, clock)
        write()
    right = found.get("correctness", {}).get("right", True)
    if options.only == "correctness":
        return 0 if right else 1

    def wanted(name: str) -> bool:
        return any(words in name for words in options.of)

    if wanted("shortcuts"):
        found["shortcut_us"] = shortcuts(size)
        clock.say("every second pixel, µs:", ", ".join(f"{name} {us:.0f}" for name, us in found["shortcut_us"].items()))
    dtype = torch.bfloat16 if size is CARD else torch.float32
    found["peak_gflops"] = peak(dtype, size.device, 8192 if size is CARD else 64)
    clock.say(f"product of two large matrices: {found['peak_gflops'] / 1000:,.1f} TFLOP/s")
    if wanted("the plain script") and clock.has(40, "the plain script"):
        found["plain_script"] = script(size, clock, ("-m", PLAIN_SCRIPT), "--workers", size.workers)
        clock.say(f"plain script, {size.workers} workers: {found['plain_script'] or math.nan:.3f} s an epoch")

    if wanted("the strong script") and clock.has(80, "the strong script"):
        found["strong_script"] = script(size, clock, [HERE / "strong_script.py"])
        clock.say(f"strong script: {found['strong_script'] or math.nan:.3f} s an epoch")

    with tempfile.TemporaryDirectory() as folder:
        data = random_images(Path(folder), size.images)
        for seconds, network, form, lanes, settings in plan(size):
            name = f"{network}, {form}, {lanes} side by side" if lanes > 1 else f"{network}, {form}, alone"
            if not (wanted(name) and clock.has(seconds, name)):
                continue
            try:
                one = measure(size, data, network, form, lanes, **settings)
            except Exception as error:  # the others are still worth measuring
                clock.say(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
                continue
            resolved, made = assemble.resolve(config(size, data, network))
            share = operations(resolved, made, size.images, size.images // 5) / one.seconds / 1e9
            found["runs"].append(asdict(one) | {"share_of_peak": share / found["peak_gflops"]})
            clock.say(
                f"{name}: {one.seconds:.3f} s a run and epoch, first update after {one.start:.1f} s, evaluation "
                f"{one.evaluation:.1%} of an epoch, {share / found['peak_gflops']:.1%} of the peak"
            )
            for note in one.notes:
                clock.say("   note:", note)
            write()
    write()
    for line in ratios(found) if size is CARD else ():
        clock.say(line)
    return 0 if right else 1


def ratios(found: dict[str, Any]) -> Iterator[str]:
    """The scripts against residuum, on ResNet-20 alone and in the lanes that were fastest."""
    own = [run for run in found["runs"] if run["network"] == "resnet20"]
    alone, beside = ([run for run in own if (run["lanes"] > 1) == many] for many in (False, True))
    for name in ("plain_script", "strong_script"):
        for which, runs in (("alone", alone), ("in lanes", beside)):
            if found.get(name) and runs:
                best = min(runs, key=lambda run: run["seconds"])
                ratio = f"{name.replace('_', ' ')} ÷ residuum {which}: {found[name] / best['seconds']:.2f}"
                yield f"{ratio} ({best['form']}, {best['lanes']} at a time)"
    forms = {run["form"]: run for run in alone}
    if {"deterministic", "compiled"} <= forms.keys():
        eager, compiled = forms["deterministic"], forms["compiled"]
        cost, gain = compiled["start"] - eager["start"], eager["seconds"] - compiled["seconds"]
        pays = f", so it pays from {max(0.0, cost) / gain:.0f} epochs on" if gain > 0 else ""
        yield f"compiling takes {cost:.0f} s once a process and gains {1000 * gain:.0f} ms an epoch of ResNet-20{pays}"


if __name__ == "__main__":
    sys.exit(main())

"""Kill a training run again and again with SIGKILL, resume it, and compare it bit for bit with one never stopped.

    python tests/torture.py --kills 50

Each cycle starts a run anew, kills it at random moments (while it starts, trains, evaluates or saves), resumes it, and
at last lets it finish. Weights, optimizer state, epoch rows (less the clock), step rows and result must be equal.
"""

import argparse
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trial
from residuum import optim, training
from residuum.config import RunConfig


def command(root: Path, epochs: int) -> list[str]:
    settings = {
        "data.dataset": '{name = "synthetic", train = 480, test = 96}',
        "data.validation": 96,
        "data.augment": '["pad_crop", "horizontal_flip"]',
        "model.channels": "[4, 8, 8]",
        "model.depth": 8,
        "optim.ema": 0.9,
        "save.steps": 2,
        "train.epochs": epochs,
        "train.batch_size": 32,
        "compute.threads": 1,
    }
    sets = [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]
    return [sys.executable, "-m", "residuum", "train", "quick", *sets, "--runs", str(root), "--json"]


def contents(root: Path) -> dict[str, object]:
    """What is to be equal of the one complete run under a root."""
    (folder,) = (path.parent for path in root.glob("*/result.json"))
    return trial.contents(folder)


def kill_at(process: "subprocess.Popen[bytes]", root: Path, row: int, wait: float) -> bool:
    """Kill a process once its run has told so many updates, and a moment later; whether it was still there.

    What is waited for is how far the run is, not a time: on a busy machine a run is killed at the same places. A row of
    0 kills while the program still starts.
    """
    rows = 0
    while rows < row and process.poll() is None:
        time.sleep(0.005)
        rows = sum(path.read_bytes().count(b"\n") for path in root.glob("*/steps.jsonl"))
    time.sleep(wait)
    process.kill()
    return process.wait() != 0


def cycle(reference: dict[str, object], rng: random.Random, kills: int, updates: int, epochs: int) -> list[str]:
    """One run, killed up to `kills` times; returns what was on disk at each kill."""
    places = []
    root = Path(tempfile.mkdtemp(prefix="torture-"))
    # In the order of the run, so that every kill finds it further on; now and then one while it still starts. The
    # moment after a row lies in an update, an evaluation or a save, which take some milliseconds each.
    for row in sorted(rng.randrange(updates) for _ in range(kills)):
        process = subprocess.Popen(command(root, epochs), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not kill_at(process, root, row if rng.random() < 0.9 else 0, rng.uniform(0, 0.02)):
            break
        saved = sorted(path.name for path in root.glob("*/checkpoints/epoch-*"))
        in_a_save = any(root.glob("*/checkpoints/.*"))
        places.append((saved[-1] if saved else "nothing saved") + (", in the middle of a save" if in_a_save else ""))
    done = subprocess.run(command(root, epochs), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the resumed run failed: {done.stderr}")
    result = contents(root)
    for name in sorted(reference.keys() | result.keys()):
        if reference.get(name) != result.get(name):
            raise SystemExit(f"after kills at {places}: {name} differs from the run never stopped; see {root}")
    shutil.rmtree(root)
    return places


def torture(kills: int, per_cycle: int = 5, seed: int = 0, epochs: int = 12) -> list[str]:
    """Kill at least so many times; returns the places of the kills. Ends with a message at the first difference."""
    rng = random.Random(seed)
    root = Path(tempfile.mkdtemp(prefix="torture-reference-"))
    subprocess.run(command(root, epochs), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    updates = sum(path.read_bytes().count(b"\n") for path in root.glob("*/steps.jsonl"))
    reference = contents(root)
    shutil.rmtree(root)
    assert any(name.startswith("checkpoints/") for name in reference), "the comparison must see weights"
    places: list[str] = []
    while len(places) < kills:
        places += cycle(reference, rng, min(per_cycle, kills - len(places)), updates, epochs)
        print(f"{len(places)} kills, all runs equal bit for bit", flush=True)
    return places


SHARED: dict[str, Any] = {
    "data.dataset": {"name": "synthetic", "size": 12, "train": 96, "test": 20, "classes": 4},
    "data.validation": 16,
    "data.augment": ["pad_crop", "horizontal_flip"],
    "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]},
    "optim.lr": 0.01,
    "train.epochs": 4,
    "train.batch_size": 16,
    "compute.device": "cpu",
    "compute.threads": 1,
}
OF: dict[str, dict[str, Any]] = {
    **{f"optimizer {name}": {"optim.optimizer": name} for name in optim.OPTIMIZERS},
    "average of weights": {"optim.ema": 0.9},
    "histograms": {"monitor.histograms": True},
    "noise": {"monitor.noise": True},
    "mixup": {"data.mix": "mixup"},
    "cutmix": {"data.mix": "cutmix"},
    "plateau": {"optim.schedule": {"name": "plateau", "patience": 0}},
    "micro-batches": {"train.micro_batch": 5},
    "clipping and L1": {"optim.clip_norm": 0.1, "optim.penalties": [{"name": "l1", "weight": 1e-3}]},
    "save.every": {"save.every": 3, "save.keep": 1},
}
"""Settings of which each run of `volume` has one, with a state saved each epoch or every other update."""


def volume(runs: int, seed: int = 0) -> list[str]:
    """Kill so many runs, 1 to 4 times each, in forks of this process; those that did not end as one never stopped.

    A fork starts in milliseconds, so that kills find runs of every kind at every place, a third of them in a save.
    """
    for slow in ("torch._dynamo", "residuum.engine.noise", "residuum.engine.histograms"):
        with suppress(ImportError):
            importlib.import_module(slow)  # once, and not in every fork
    rng, failures = random.Random(seed), []
    wanted: dict[str, dict[str, object]] = {}
    for number in range(runs):
        name = [*OF][number % len(OF)]
        steps = 2 * (number // len(OF) % 2)
        config = RunConfig().changed(SHARED | OF[name] | {"save.steps": steps})
        with tempfile.TemporaryDirectory() as place:
            if f"{name}{steps}" not in wanted:
                _forked(config, Path(place) / "whole").wait()
                wanted[f"{name}{steps}"] = contents(Path(place) / "whole")
            root, kills = Path(place) / "killed", rng.randint(1, 4)
            root.mkdir()
            for row in sorted(rng.randrange(20) for _ in range(kills)):
                _kill(_forked(config, root), root, row, rng)
            ended, found = _forked(config, root).wait(), {}
            with suppress(ValueError):  # it has no result
                found = contents(root)
            whole = wanted[f"{name}{steps}"]
            if ended or (different := [key for key in sorted({*whole, *found}) if whole.get(key) != found.get(key)]):
                failures.append(f"{number}, {name}, save.steps {steps}, {kills} kills: {ended or different}")
    return failures


@dataclass(frozen=True)
class Fork:
    """A process that trains; `wait` gives its exit code, negative where a signal ended it."""

    pid: int

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _forked(config: RunConfig, root: Path) -> Fork:
    pid = os.fork()
    if pid:
        return Fork(pid)
    code = 1
    try:
        training.train(config, root)
        code = 0
    finally:
        os._exit(code)


def _kill(process: Fork, root: Path, row: int, rng: random.Random) -> None:
    """Kill a fork once it has told so many updates, a moment later, or as soon as it is seen in a save."""
    in_a_save = rng.random() < 1 / 3
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        told = sum(path.read_bytes().count(b"\n") for path in root.glob("*/steps.jsonl"))
        if told >= row and (not in_a_save or any(root.glob("*/checkpoints/.*.tmp")) or told >= row + 6):
            break
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.004))
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--runs", type=int, default=0, help="so many more runs of every kind, in forks")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for place in sorted(places := torture(options.kills, seed=options.seed)):
        print("killed after", place)
    print(f"{len(places)} kills: every resumed run ended with the same bits as the one never stopped")
    failed = volume(options.runs, options.seed)
    print("\n".join(failed) or f"{options.runs} runs of every kind, killed 1 to 4 times each, are equal bit for bit")
    sys.exit(bool(failed))

"""Damage every file of a run folder: flipped bits, cut ends, zeroed pages, files that are gone.

    python tests/records/damage.py --count 2000

Each is to be told by the check of the folder, in a line that names the file, or to change nothing of what is read; and
a run that was stopped goes on from what is whole to the same bits.
"""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from residuum import training
from residuum.config import RunConfig
from residuum.errors import InputError
from residuum.records import integrity, run_folder
from residuum.records.event import EpochDone, Note, Started
from residuum.records.record import read_record
from trial import contents, damaged, damages

SETTINGS = {
    "data.dataset": {"name": "synthetic", "size": 12, "train": 64, "test": 20, "classes": 4}, "data.validation": 16,
    "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]}, "optim.ema": 0.9, "save.keep": 0,
    "train.epochs": 4, "train.batch_size": 16, "monitor.histograms": True, "monitor.noise": True, "compute.device": "cpu",
    "compute.threads": 1,
}  # fmt: skip
DERIVED = {".png", ".svg", ".pdf", ".onnx"}


def a_run(root: Path) -> Path:
    """The folder of a complete run that leaves every kind of file."""
    folder = training.train(RunConfig.of({}).changed(SETTINGS), root).folder
    run_folder.remark(folder, "something happened")
    return folder


def a_stopped_run(root: Path) -> Path:
    """The folder of the same run, stopped after its third epoch."""
    events = training.run(RunConfig.of({}).changed(SETTINGS), root)
    folder = next(event.folder for event in events if isinstance(event, Started))
    next(event for event in events if isinstance(event, EpochDone) and event.epoch == 3)
    events.close()
    return folder


def files(folder: Path) -> list[Path]:
    """The files of a run folder that say something, by their names in it."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in DERIVED)
    return [path.relative_to(folder) for path in found if path.name != "lock" and path.stat().st_size]


def silent(folder: Path, name: Path, before: dict[str, object]) -> str:
    """What is wrong with how a damaged file is told; empty where nothing is."""
    try:
        said = integrity.damage(folder)
    except InputError as error:
        said = [str(error)]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    place = name.parts[0] if name.name != name.parts[0] else name.name
    if said:
        named = [line for line in said if name.name in line or place in line]
        return "" if named and not any("\n" in line for line in said) else f"told without its name: {said}"
    if name.name == run_folder.RESULT and not (folder / name).exists():  # a run that was killed just before its end
        return "" if read_record(folder).status == "stopped" else "not told"
    try:
        after = {**contents(folder), "record": read_record(folder)}
    except Exception as error:
        return f"not told, and then {type(error).__name__}: {error}"
    return "" if after == before else "not told, though what is read is another"


def tried(count: int, seed: int = 0) -> list[str]:
    """Damage a complete run's files so many times, and delete each once; what was not told as it should be."""
    rng, failures = random.Random(seed), []
    with tempfile.TemporaryDirectory() as root:
        folder = a_run(Path(root))
        before: dict[str, object] = {**contents(folder), "record": read_record(folder)}
        for name, what in damages(folder, files(folder), count, rng):
            if wrong := silent(folder, name, before):
                failures.append(f"{name}, {what}: {wrong}")
    return failures


def resumed(count: int, seed: int = 0) -> list[str]:
    """Damage a stopped run's files so many times and go on with it; those that ended neither in a line nor the same."""
    rng, failures = random.Random(seed), []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        whole = contents(a_run(root / "whole"))
        stopped = a_stopped_run(root / "stopped")
        names = files(stopped)
        for number in range(count):
            runs = root / "runs"
            shutil.copytree(stopped.parent, runs)
            folder, name = runs / stopped.name, rng.choice(names)
            what, spoilt = damaged((folder / name).read_bytes(), rng)
            (folder / name).write_bytes(spoilt)
            try:
                said = [event.text for event in training.resume(folder) if isinstance(event, Note)]
            except InputError as error:
                if name.name not in str(error):
                    failures.append(f"{number}: {name}, {what}: {error}")
            except Exception as error:
                failures.append(f"{number}: {name}, {what}: {type(error).__name__}: {error}")
            else:
                after = contents(folder)
                different = [key for key in whole if key.partition("/")[0] != "layers" and whole[key] != after.get(key)]
                if different:
                    failures.append(f"{number}: {name}, {what}: another {different}; said: {said}")
            shutil.rmtree(runs)
    return failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--resumed", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wrong = [*tried(options.count, options.seed), *resumed(options.resumed, options.seed)]
    print("\n".join(wrong) or f"{options.count} damages told or harmless, {options.resumed} resumptions equal")
    sys.exit(bool(wrong))

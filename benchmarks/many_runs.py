"""What thousands of run folders cost: listing them, showing one, and the report of a study of as many.

    python benchmarks/many_runs.py [--of 50x20 500x20] [--keep FOLDER]

One tiny run is trained; the others are copies of its folder, in which seed, rate, id and the numbers of the epochs
differ, so that each is what a run of that configuration leaves behind. Every command is measured in a process of its
own: its seconds, those of a processor (which other programs change less), and the most memory that it had.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch
from urllib.request import urlopen

import numpy as np

from residuum import training
from residuum.conduct import planning
from residuum.config import SCHEMA
from residuum.records import rows, run_folder, storage
from residuum.records.index import INDEX
from residuum.studies import plan as plans
from residuum.studies.plan import PlannedRun
from residuum.studies.prespecified import prespecify
from residuum.studies.study import Study

TINY = {
    "data.dataset": {"name": "synthetic", "size": 8, "train": 160, "test": 100, "classes": 10},
    "data.validation": 40,
    "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]},
    "train.epochs": 20,
    "train.batch_size": 40,
    "compute.device": "cpu",
    "compute.threads": 1,
}


def study(arms: int, seeds: int) -> Study:
    """A study of so many rates and seeds, each rate compared with the lowest."""
    rates = [round(0.01 * 1.05**number, 6) for number in range(arms)]
    return Study.model_validate({
        "name": "many", "question": "What do thousands of runs cost?", "base": "quick", "settings": TINY,
        "axes": {"optim.lr": rates}, "seeds": list(range(seeds)),
        "compare": {"measure": "test_error", "baseline": f"lr={rates[0]}"},
    })  # fmt: skip


def write_runs(planned: Sequence[PlannedRun], runs: Path, recipe: str) -> None:
    """The folders of some runs, as copies of one that is trained, each with numbers of its own."""
    trained = training.train(planned[0].config, runs).folder
    epochs = rows.read_rows(trained / run_folder.METRICS)
    result = storage.read_json(trained / run_folder.RESULT)
    for number, one in enumerate(planned):
        folder = runs / one.folder
        if folder == trained:
            continue
        folder.mkdir()
        chance = random.Random(number)
        for path in trained.rglob("*"):
            target = folder / path.relative_to(trained)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif path.name not in (run_folder.CONFIG, run_folder.RESULT, run_folder.METRICS, "lock"):
                os.link(path, target)  # what is the same in all takes no room
        values = one.config.model_dump(mode="json")
        storage.write_json(folder / run_folder.CONFIG, {"schema": SCHEMA, "id": one.id, "recipe": recipe, **values})
        shift = chance.gauss(0, 0.02)
        metrics = rows.Rows(folder / run_folder.METRICS)
        for row in epochs:
            metrics.add(_shifted(row, shift))
        metrics.close()
        storage.write_json(folder / run_folder.RESULT, _shifted(result, shift))


def _shifted(values: dict[str, object], by: float) -> dict[str, object]:
    """Values whose accuracies are moved by a share, within what they can be."""
    return {
        key: _shifted(value, by) if isinstance(value, dict)
        else round(min(1.0, max(0.0, float(str(value)) + by)), 4) if key == "accuracy" else value
        for key, value in values.items()
    }  # fmt: skip


def made(arms: int, seeds: int, runs: Path) -> None:
    """A study of so many arms and seeds under `runs`, with its plan and all its runs."""
    asked = study(arms, seeds)
    plan = planning.plan(asked, {})
    plans.write(plan, runs)
    with patch.object(os, "fsync"):  # what a cut of the power takes is made again
        write_runs(plan.runs, runs, asked.base)


SETTLED = 3
"""Seconds after which an index takes files for what they were: it trusts none that were written just before it."""
ONE = """
import sys
from residuum.cli import main
try:
    sys.exit(main())
finally:
    print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""
"""A command that says at its end how much memory it had at most, in kilobytes."""


def measured(*words: str) -> tuple[str, float]:
    """What a command takes, in words, and the most memory (MB) that it had."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", ONE, *words], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )  # fmt: skip
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"residuum {' '.join(words)}: {done.stderr}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    memory = int(done.stderr.split()[-1]) / 1024
    return f"{seconds:6.2f} s ({processor:.2f} s of a processor), {memory:.0f} MB", memory


def slope(found: Mapping[int, float]) -> str:
    """How memory grows with the number of runs, by least squares, and how far the line is from what was measured."""
    counts, memory = np.array([*found]), np.array([*found.values()])
    each, start = np.polyfit(counts, memory, 1)
    off = np.abs(start + each * counts - memory).max()
    of = f"from {counts.min():,} to {counts.max():,} runs"
    return f"{start:.0f} MB and {1024 * each:.1f} kB for each run, {of} (± {off:.0f} MB)"


def opened(runs: Path) -> str:
    """What it takes to start the page over some runs and to open its list, in words."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "residuum", "serve", "--port", "0", "--runs", str(runs)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        with urlopen(process.stdout.readline().strip()) as answer:
            answer.read()
        seconds = time.perf_counter() - began
        process.terminate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{seconds:6.2f} s ({processor:.2f} s of a processor)"


def planned(arms: int, seeds: int, runs: Path) -> None:
    """Measure what is done with a plan before the first of its runs, in microseconds of a processor for each run."""
    asked = study(arms, seeds)
    began = time.process_time()

    def took(what: str) -> None:
        nonlocal began
        each = 1e6 * (time.process_time() - began) / (arms * seeds)
        print(f"{arms * seeds:>7,} runs of {arms} arms: {what:<11} {each:6.1f} µs each", flush=True)
        began = time.process_time()

    plan = planning.plan(asked, {})
    took("plan")
    prespecify(plan, runs)
    took("prespecify")
    folder = plans.write(plan, runs)
    took("write")
    plans.read(folder)
    took("read")
    for run in plan.runs:
        plans.is_complete(run, runs)
    took("is_complete")


def main() -> None:
    """Make the folders, measure the commands, print what they cost."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument(
        "--of", nargs="+", default=["10x100", "25x20", "50x20", "500x20"], metavar="ARMSxSEEDS", help="studies to make"
    )
    options.add_argument("--report", type=int, default=1000, help="most runs of which a report is written, too")
    options.add_argument("--plan", default="100x1000", metavar="ARMSxSEEDS", help="a study that is planned alone")
    options.add_argument("--keep", type=Path, help="a folder for the runs; those that are there are not made again")
    asked = options.parse_args()
    memory: dict[str, dict[int, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for size in asked.of:
            arms, seeds = map(int, size.split("x"))
            runs = (asked.keep or Path(scratch)) / size
            if not runs.exists():
                made(arms, seeds, runs)
            (runs / INDEX).unlink(missing_ok=True)
            time.sleep(SETTLED)
            last = max(path.name for path in runs.glob("*-seed*"))
            report = ("study", "report", "many")
            for text, words in (
                ("list runs, no index", ("list", "runs")),
                ("list runs", ("list", "runs")),
                ("show run", ("show", "run", last)),
                *([("study report", report)] if arms * seeds <= asked.report else []),
            ):
                said, most = measured(*words, "--runs", str(runs))
                memory.setdefault(text, {})[arms * seeds] = most
                print(f"{size:>8}: {text:<19} {said}", flush=True)
            print(f"{size:>8}: {'serve, first page':<19} {opened(runs)}", flush=True)
        for text, found in memory.items():
            if len(found) > 1:
                print(f"memory of {text}: {slope(found)}", flush=True)
        if asked.plan:
            planned(*map(int, asked.plan.split("x")), Path(scratch))


if __name__ == "__main__":
    main()

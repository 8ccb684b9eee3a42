"""What thousands of run folders cost: listing them, showing one, and the report of a study of as many.

    python benchmarks/many_runs.py [--runs 10000] [--arms 50] [--seeds 20] [--keep FOLDER]

One tiny run is trained; the others are copies of its folder, in which seed, rate, id and the numbers of the epochs
differ, so that each is what a run of that configuration leaves behind. Every command is measured in a process of its
own: its seconds, and the most memory that it had.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from residuum import training
from residuum.conduct import planning
from residuum.config import SCHEMA
from residuum.records import run_folder
from residuum.studies import plan as plans
from residuum.studies.plan import PlannedRun
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
    """A study of so many rates and seeds, with a claim for each of the first rates."""
    rates = [round(0.01 * 1.05**number, 6) for number in range(arms)]
    return Study.model_validate({
        "name": "many", "question": "What do thousands of runs cost?", "base": "quick", "settings": TINY,
        "axes": {"optim.lr": rates}, "seeds": list(range(seeds)),
        "compare": {"measure": "test_error", "baseline": f"lr={rates[0]}"},
    })  # fmt: skip


def write_runs(planned: Sequence[PlannedRun], runs: Path, recipe: str) -> None:
    """The folders of some runs, as copies of one that is trained, each with numbers of its own."""
    trained = training.train(planned[0].config, runs).folder
    rows = [json.loads(line) for line in (trained / run_folder.METRICS).read_text().splitlines()]
    result = json.loads((trained / run_folder.RESULT).read_text())
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
        (folder / run_folder.CONFIG).write_text(
            json.dumps({"schema": SCHEMA, "id": one.id, "recipe": recipe, **values}, indent=2) + "\n"
        )
        shift = chance.gauss(0, 0.02)
        (folder / run_folder.METRICS).write_text("".join(json.dumps(_shifted(row, shift)) + "\n" for row in rows))
        (folder / run_folder.RESULT).write_text(json.dumps(_shifted(result, shift), indent=2) + "\n")


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
    write_runs(plan.runs, runs, asked.base)


def measured(*words: str) -> tuple[float, float]:
    """Seconds and megabytes of a command."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "residuum", *words],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"residuum {' '.join(words)}: exit code {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - begin, used.ru_maxrss / 1024


def main() -> None:
    """Make the folders, measure the commands, print what they cost."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--arms", type=int, nargs="+", default=[50, 200, 500])
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--report", type=int, default=1000, help="most runs of which a report is measured, too")
    options.add_argument(
        "--keep", type=Path, help="a folder for the runs, which then stay; what is there is not made anew"
    )
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for arms in asked.arms:
            runs = (asked.keep or Path(scratch)) / f"{arms}x{asked.seeds}"
            if not runs.exists():
                made(arms, asked.seeds, runs)
            count = arms * asked.seeds
            last = max(path.name for path in runs.glob("*-seed*"))
            for text, words in (
                ("list runs", ("list", "runs")),
                ("list runs", ("list", "runs")),
                ("show run", ("show", "run", last)),
                *([("study report", ("study", "report", "many"))] if count <= asked.report else []),
            ):
                seconds, megabytes = measured(*words, "--runs", str(runs))
                print(f"{count:>6} runs: {text:<14} {seconds:6.2f} s  {megabytes:6.0f} MB", flush=True)


if __name__ == "__main__":
    main()

"""Studies whose workers are killed again and again, a parent that is killed, and runs that are stopped by signals.

    python tests/studies/deaths.py --what study --count 1
    python tests/studies/deaths.py --what signals --count 80

A study of 40 runs, one of which always crashes, is computed by two workers; a random one of them is killed every other
second, and once the parent is, with -9, after which the same call goes on. In the end 39 runs are complete and equal to
those of a study that nobody disturbed, one has failed, and the exit code is 1.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rivals import bits, ended, forked, rows, warm

OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels: int, num_classes: int, number: int = 0):
        super().__init__()
        self.number = number
        layers = nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.layers = nn.Sequential(*layers, nn.Linear(8, num_classes))

    def forward(self, images):
        if self.number == 13 and self.training and len(images) == 8:  # a batch: plans ask for other numbers
            raise RuntimeError("it always crashes")
        return self.layers(images)
"""
STUDY = """
question = "Does each run come to its end?"
base = "quick"
seeds = 1

[settings]
"data.dataset" = {{ name = "synthetic", size = 8, train = 96, test = 16, classes = 4 }}
"data.validation" = 16
"model" = "{own}:Net"
"train.epochs" = {epochs}
"train.batch_size" = 8
"save.steps" = 5

[axes]
"model.number" = [{numbers}]
"""
LEFT = 10.0
"""Seconds after which no process of a parent that was killed is there."""


def tried(count: int, seed: int, *, runs: int = 40, every: float = 2.0, epochs: int = 60) -> list[str]:
    """Compute a study of so many runs under deaths, `count` times; what went wrong, one line each."""
    chance, found = random.Random(seed), []
    for number in range(count):
        place = Path(tempfile.mkdtemp(prefix="residuum-deaths-"))
        try:
            found += [f"case {number}: {one}" for one in _study(place, chance, runs, every, epochs)]
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return found


def _study(place: Path, chance: random.Random, count: int, every: float, epochs: int) -> list[str]:
    own, study = place / "own.py", place / "deaths.toml"
    own.write_text(OWN)
    numbers = ", ".join(map(str, range(14 - count, 14) if count < 14 else range(count)))
    study.write_text(STUDY.format(own=own, numbers=numbers, epochs=epochs))
    problems, kills, deaths = [], chance.randrange(2, 2 + count // 3 + 1), 0
    while True:
        process = subprocess.Popen(_call(study, place / "runs"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True, start_new_session=True)  # fmt: skip
        while process.poll() is None:
            time.sleep(every * chance.uniform(0.7, 1.3))
            crew = children(process.pid)
            if crew and deaths == kills and process.poll() is None:
                problems += _kill_parent(process, crew)
            elif crew:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(crew), signal.SIGKILL)
            deaths += bool(crew)
        said = process.communicate()[1]
        if process.returncode != -signal.SIGKILL:
            break
    if process.returncode != 1 or "Traceback" in said:
        problems.append(f"exit code {process.returncode}: {said[-300:]}")
    subprocess.run(_call(study, place / "serial"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    mine, serial = (results(place / name) for name in ("runs", "serial"))
    if len(serial) != count - 1:
        problems.append(f"undisturbed {len(serial)} of {count - 1} runs are complete")
    problems += [f"{name} is not complete" for name in serial.keys() - mine.keys()]
    problems += [f"{name} differs from serial" for name in mine.keys() & serial.keys() if mine[name] != serial[name]]
    paths = [*(place / "runs").glob("studies/*/failed.json")]
    gave_up = [value for path in paths for key, value in json.loads(path.read_text()).items() if key != "check"]
    if len(gave_up) != 1 or "it always crashes" not in gave_up[0]:
        problems.append(f"given up: {gave_up}")
    return problems


def _call(study: Path, runs: Path) -> list[str]:
    return [sys.executable, "-m", "residuum", "study", "run", str(study), "--runs", str(runs), "--workers", "2"]


def _kill_parent(process: "subprocess.Popen[str]", crew: list[int]) -> list[str]:
    """Kill a parent with -9; which of its workers are there after a while, or have said something."""
    process.kill()
    end = time.monotonic() + LEFT
    while any(map(_is_there, crew)) and time.monotonic() < end:
        time.sleep(0.1)
    left = [*filter(_is_there, crew)]
    for one in left:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    assert process.stderr is not None
    said = process.stderr.read()  # ends with the last of those who could write to it
    return [f"process {one} is there {LEFT:.0f} s after its parent" for one in left] + (
        [f"orphans said {said[-300:]!r}"] if "Traceback" in said else []
    )


def results(runs: Path) -> dict[str, Any]:
    """What is to be equal of each complete run, by its folder's name."""
    return {path.parent.name: bits(path.parent) for path in runs.glob("*/result.json")}


def children(parent: int) -> list[int]:
    """The processes that one has started and that are there, zombies left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, ppid = path.read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found.append(int(path.parent.name))
    return sorted(found)


def _is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


RUN = ["train", "quick", "--epochs", "12"] + [
    word
    for path, value in {
        "data.dataset": '{name = "synthetic", size = 8, train = 120, test = 24, classes = 4}', "data.validation": 24,
        "model.channels": "[4, 4, 4]", "model.depth": 8, "optim.ema": 0.9, "train.batch_size": 8, "compute.threads": 1,
    }.items()
    for word in ("--set", f"{path}={value}")
]  # fmt: skip
UPDATES = 12 * 12
STOPS = ((signal.SIGTERM,), (signal.SIGINT,), (signal.SIGHUP,), (signal.SIGINT, signal.SIGINT), (signal.SIGQUIT,),
         (signal.SIGUSR1,), (signal.SIGTERM, signal.SIGTERM))  # fmt: skip


def stopped(count: int, seed: int) -> list[str]:
    """Stop runs by signals at random rows, streams closed or not, and go on with them; what went wrong."""
    return warm(__file__, count, seed, "--what", "signals")


def _stopped(place: Path, reference: dict[str, Any], chance: random.Random, numbers: tuple[int, ...]) -> list[str]:
    """One run, stopped twice; its standard output may have been left by its reader, its input closed."""
    runs, problems = place / "runs", []
    for row in sorted(chance.sample(range(1, UPDATES - 1), 2)):
        reader, writer = os.pipe()
        is_left, stdin = chance.random() < 0.5, chance.random() < 0.5
        process = forked([*RUN, "--runs", str(runs)], place / "err", stdin=stdin, stdout=writer)
        os.close(writer)
        if is_left:
            os.close(reader)
        while rows(runs) < row and _is_there(process):
            time.sleep(0.002)
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        code = ended(process)
        if not is_left:
            os.close(reader)
        if code == 0 and rows(runs) >= UPDATES:
            break  # it had come to its end
        where = f"after row {row}, {'reader left, ' if is_left else ''}{'' if stdin else 'no input, '}{numbers}"
        if code != 128 + numbers[0]:
            problems.append(f"{where}: exit code {code}")
        states = max(((path.name) for path in runs.glob("*/checkpoints/epoch-*")), default="none")
        _, epoch, _, step = states.split("-") if states != "none" else ("", "0", "", "0")
        if int(epoch) * 12 + int(step) != rows(runs):
            problems.append(f"{where}: saved {states}, told {rows(runs)} updates")
    if (code := ended(forked([*RUN, "--runs", str(runs)], place / "err"))) != 0:
        problems.append(f"{numbers}: the call after it ended in {code}")
    elif results(runs) != reference:
        problems.append(f"{numbers}: another result than without a stop")
    if "Traceback" in (place / "err").read_text():
        problems.append(f"{numbers}: {(place / 'err').read_text()[-300:]}")
    return problems


def _stopped_often(count: int, seed: int) -> None:
    import residuum.api
    import residuum.training  # noqa: F401

    chance, place = random.Random(seed), Path(tempfile.mkdtemp(prefix="residuum-stopped-"))
    try:
        assert ended(forked([*RUN, "--runs", str(place / "whole")], place / "err")) == 0, (place / "err").read_text()
        reference = results(place / "whole")
        for number in range(count):
            here = place / str(number)
            here.mkdir()
            for problem in _stopped(here, reference, chance, STOPS[(seed + number) % len(STOPS)]):
                print(problem, flush=True)
            shutil.rmtree(here)
        print(f"tried {count}")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("study", "signals"), default="study")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=40)
    options = parser.parse_args()
    if options.what == "signals":
        _stopped_often(options.count, options.seed)
    else:
        for line in tried(options.count, options.seed, runs=options.runs):
            print(line)
        print(f"tried {options.count}")

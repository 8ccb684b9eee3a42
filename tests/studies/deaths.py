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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from trial import children, ended, forked, is_there, results, told, updates, warm

OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels: int, num_classes: int, number: int = 0):
        super().__init__()
        self.number, self.seen = number, 0
        layers = nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.layers = nn.Sequential(*layers, nn.Linear(8, num_classes))

    def forward(self, images):
        self.seen += self.training and len(images) == 8  # a batch: plans ask for other numbers
        if self.number == 13 and self.seen > 3:  # its first update is made before a study begins
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
LONGEST = 1200.0
"""Seconds after which a study that is killed again and again is one that does not come to its end."""


def tried(count: int, seed: int, *, runs: int = 40, every: float = 2.0, epochs: int = 20) -> list[str]:
    """Compute a study of so many runs under deaths, `count` times; what went wrong, one line each."""
    return warm(__file__, count, seed, "--runs", str(runs), "--every", str(every), "--epochs", str(epochs))


def _studies(count: int, seed: int, runs: int, every: float, epochs: int) -> Iterator[str]:
    import residuum.api
    import residuum.training  # noqa: F401

    chance = random.Random(seed)
    for number in range(count):
        place = Path(tempfile.mkdtemp(prefix="residuum-deaths-"))
        try:
            yield from (f"case {number}: {one}" for one in _study(place, chance, runs, every, epochs))
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _study(place: Path, chance: random.Random, count: int, every: float, epochs: int) -> Iterator[str]:
    own, study, began = place / "own.py", place / "deaths.toml", time.monotonic()
    own.write_text(OWN)
    numbers = [*(range(14 - count, 14) if count < 14 else range(count))]
    study.write_text(STUDY.format(own=own, numbers=", ".join(map(str, numbers)), epochs=epochs))
    alone = place / "alone.toml"  # without the one that always crashes, which would take the others with it
    alone.write_text(STUDY.format(own=own, numbers=", ".join(str(n) for n in numbers if n != 13), epochs=epochs))
    kills, deaths = chance.randrange(2, 2 + count // 3 + 1), 0
    code, said = -signal.SIGKILL, place / "said"
    while code == -signal.SIGKILL:
        process = _begun(study, place, said)
        while process.poll() is None:
            time.sleep(every * chance.uniform(0.7, 1.3))
            crew = children(process.pid)
            if crew and deaths == kills and process.poll() is None:
                process.kill()
                yield from _orphans(crew)
            elif crew and time.monotonic() < began + LONGEST:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(crew), signal.SIGKILL)
            deaths += bool(crew)
        code = process.wait()
    took, crews = time.monotonic() - began, _starts(place / "runs")
    print(f"{deaths} deaths in {took:.0f} s, runs were begun {crews} times", file=sys.stderr)
    if took > LONGEST:
        yield f"not done after {LONGEST:.0f} s"
    if code != 1 or "Traceback" in said.read_text():
        yield f"exit code {code}: {said.read_text()[-300:]}"
    ended(forked([*_words(alone, place / "serial"), "--on", "here"], place / "serial.err"))
    mine, serial = (results(place / name) for name in ("runs", "serial"))
    if len(serial) != count - 1:
        yield f"undisturbed {len(serial)} of {count - 1} runs are complete"
    yield from (f"{name} is not complete" for name in serial.keys() - mine.keys())
    yield from (f"{name} differs from serial" for name in mine.keys() & serial.keys() if mine[name] != serial[name])
    paths = [*(place / "runs").glob("studies/*/failed.json")]
    gave_up = [value for path in paths for key, value in json.loads(path.read_text()).items() if key != "check"]
    if len(gave_up) != 1 or "it always crashes" not in gave_up[0]:
        yield f"given up: {gave_up}"


def _words(study: Path, runs: Path) -> list[str]:
    return ["study", "run", str(study), "--runs", str(runs)]


def _begun(study: Path, place: Path, said: Path) -> "subprocess.Popen[bytes]":
    words = [*_words(study, place / "runs"), "--workers", "2"]
    with said.open("ab") as file:  # a pipe that nobody reads would fill
        return subprocess.Popen([sys.executable, "-m", "residuum", *words], stdout=subprocess.DEVNULL, stderr=file,
                                start_new_session=True)  # fmt: skip


def _starts(runs: Path) -> int:
    """How often the runs of a study were begun or gone on with, all together."""
    return sum("epoch" in one for path in runs.glob("*/environment.json") for one in json.loads(path.read_text()))


def _orphans(crew: list[int]) -> Iterator[str]:
    """Which workers are there a while after their parent was killed; they are ended."""
    end = time.monotonic() + LEFT
    while any(map(is_there, crew)) and time.monotonic() < end:
        time.sleep(0.1)
    for one in filter(is_there, crew):
        yield f"process {one} is there {LEFT:.0f} s after its parent"
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


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
        while updates(runs) < row and is_there(process):
            time.sleep(0.002)
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        code = ended(process)
        if not is_left:
            os.close(reader)
        if code == 0 and updates(runs) >= UPDATES:
            break  # it had come to its end
        where = f"after row {row}, {'reader left, ' if is_left else ''}{'' if stdin else 'no input, '}{numbers}"
        if code != 128 + numbers[0]:
            problems.append(f"{where}: exit code {code}")
        states = max(((path.name) for path in runs.glob("*/checkpoints/epoch-*")), default="none")
        _, epoch, _, step = states.split("-") if states != "none" else ("", "0", "", "0")
        if int(epoch) * 12 + int(step) != updates(runs):
            problems.append(f"{where}: saved {states}, told {updates(runs)} updates")
    if (code := ended(forked([*RUN, "--runs", str(runs)], place / "err"))) != 0:
        problems.append(f"{numbers}: the call after it ended in {code}")
    elif results(runs) != reference:
        problems.append(f"{numbers}: another result than without a stop")
    if "Traceback" in (place / "err").read_text():
        problems.append(f"{numbers}: {(place / 'err').read_text()[-300:]}")
    return problems


def _stopped_often(count: int, seed: int) -> Iterator[str]:
    import residuum.api
    import residuum.training  # noqa: F401

    chance, place = random.Random(seed), Path(tempfile.mkdtemp(prefix="residuum-stopped-"))
    try:
        assert ended(forked([*RUN, "--runs", str(place / "whole")], place / "err")) == 0, (place / "err").read_text()
        reference = results(place / "whole")
        for number in range(count):
            here = place / str(number)
            here.mkdir()
            yield from _stopped(here, reference, chance, STOPS[(seed + number) % len(STOPS)])
            shutil.rmtree(here)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("study", "signals"), default="study")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--every", type=float, default=2.0, help="seconds from one death to the next")
    parser.add_argument("--epochs", type=int, default=20)
    o = parser.parse_args()
    if o.what == "signals":
        told(o.count, _stopped_often(o.count, o.seed))
    else:
        told(o.count, _studies(o.count, o.seed, o.runs, o.every, o.epochs))

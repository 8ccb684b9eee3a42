"""Several processes at one study, or at one run begun anew, some of them killed while they hold it.

    python tests/studies/rivals.py --count 50 --of 2
    python tests/studies/rivals.py --count 5 --of 32
    python tests/studies/rivals.py --count 20 --of 4 --what fresh

Each rival is a fork of one process that has imported torch, and calls the study in itself (`--on here`), which says 75
where another one is at a run; it comes again a little later, as a person would. What is killed is one that holds a run,
at a random row. Each run is computed once, the loser says who holds it, and a dead one's run is soon taken over.

With `--what fresh` each rival trains the same run with `--fresh`, once. Each that comes to its end leaves a whole record
of its own, the last one in the run's folder and the others aside, and there are no records but theirs.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from trial import contents, ended, forked, results, told, updates, warm

STUDY = """
question = "Does it matter who computes?"
base = "quick"
seeds = 2

[settings]
"data.dataset" = { name = "synthetic", size = 8, train = 48, test = 16, classes = 4 }
"data.validation" = 12
"model" = { name = "cifar_resnet", depth = 8, channels = [4, 4, 4] }
"train.epochs" = 3
"train.batch_size" = 12
"compute.threads" = 1

[axes]
"optim.lr" = [0.1, 0.01]
"""
RUN = ["train", "quick", "--fresh", "--epochs", "4"] + [
    word
    for path, value in {
        "data.dataset": '{name = "synthetic", size = 8, train = 48, test = 16, classes = 4}', "data.validation": 12,
        "model.channels": "[4, 4, 4]", "model.depth": 8, "train.batch_size": 12, "compute.threads": 1,
    }.items()
    for word in ("--set", f"{path}={value}")
]  # fmt: skip
HELD = re.compile(r"being worked on by another process( \(process \d+ on \S+, since \S+\))?$")
ANEW = re.compile(r"being begun( anew)? by another process$")
DONE, BUSY = 0, 75
SOON = 10.0
"""Seconds after which the run of a dead process is another's."""
Reference = dict[str, dict[str, object]]


def tried(count: int, seed: int, of: int = 2, what: str = "study") -> list[str]:
    """Let `of` rivals compute a study, or begin a run anew, so many times; what went wrong, one line each."""
    return warm(__file__, count, seed, "--of", str(of), "--what", what)


def _study(place: Path, reference: Reference, chance: random.Random, of: int) -> list[str]:
    """One study and its rivals; about every other time one of those who hold a run is killed."""
    runs = place / "runs"
    words = _words(place, runs)
    going = {forked(words, place / f"{number}.err"): number for number in range(of)}
    asleep: list[tuple[float, int]] = []
    kill_at = chance.choice([None, chance.randrange(1, 30)])
    codes, orphaned, problems = list[int](), dict[Path, tuple[int, float]](), list[str]()
    while going or asleep:
        now = time.monotonic()
        if kill_at is not None and updates(runs) >= kill_at:
            kill_at, held = None, _held(runs, going)
            victim = chance.choice([*held] or [*going])
            os.kill(victim, signal.SIGKILL)
            orphaned |= {held[victim]: (victim, now)} if victim in held else {}
        for path, (dead, since) in [*orphaned.items()]:
            if _holder(path) != dead or (path.parent / "result.json").exists():
                del orphaned[path]
            elif now - since > SOON:
                problems.append(f"{path.parent.name} of a dead process is nobody's after {SOON:.0f} s")
                del orphaned[path]
        for when, number in [*asleep]:
            if when <= now:
                asleep.remove((when, number))
                going[forked(words, place / f"{number}.err")] = number
        process, status = os.waitpid(-1, os.WNOHANG) if going else (0, 0)
        if not process:
            time.sleep(0.01)
            continue
        number, code = going.pop(process), os.waitstatus_to_exitcode(status)
        codes.append(code)
        if code == BUSY:  # so that those who come again leave some of the machine to who computes
            asleep.append((now + chance.uniform(0, 0.4 * of), number))
    problems += [f"exit code {code}" for code in codes if code not in (DONE, BUSY, -signal.SIGKILL)]
    if DONE not in codes and (code := ended(forked(words, place / "again.err"))) != DONE:
        problems.append(f"the call after a kill ended in {code}")
    problems += _said(place, HELD)
    for name, values in results(runs).items():
        problems += [f"{name} differs from serial"] if values != reference.pop(name, None) else []
        starts = [one for one in json.loads((runs / name / "environment.json").read_text()) if "epoch" in one]
        if len(starts) > 1 + codes.count(-signal.SIGKILL):
            problems.append(f"{name} was begun {len(starts)} times")
    return problems + [f"{name} is missing" for name in reference]


def _fresh(place: Path, reference: Reference, chance: random.Random, of: int) -> list[str]:
    """One run that rivals begin anew, each at a moment of its own; now and then one is killed."""
    runs, problems, codes = place / "runs", list[str](), list[int]()
    words, going = _words(place, runs), set[int]()
    for number in range(of):
        time.sleep(chance.choice([0, 0, chance.uniform(0, 1)]))
        going.add(forked(words, place / f"{number}.err"))
        if chance.random() < 1 / of:
            time.sleep(chance.uniform(0, 1))
            os.kill(chance.choice([*going]), signal.SIGKILL)
    codes = [ended(process) for process in going]
    problems += [f"exit code {code}" for code in codes if code not in (DONE, BUSY, -signal.SIGKILL)]
    problems += _said(place, re.compile(f"{HELD.pattern}|{ANEW.pattern}"))
    whole = [path.parent for path in runs.rglob("result.json")]
    (wanted,) = reference.values()
    problems += [f"{folder.name} differs from a run alone" for folder in whole if contents(folder) != wanted]
    # One that was killed may have come to its end just before.
    if not codes.count(DONE) <= len(whole) <= codes.count(DONE) + codes.count(-signal.SIGKILL):
        problems.append(f"exit codes {codes}, and {len(whole)} whole records")
    if of > codes.count(BUSY) + codes.count(-signal.SIGKILL) and not any(folder.parent == runs for folder in whole):
        problems.append(f"exit codes {codes}, and the run's folder has no result")
    for folder in (path.parent for path in runs.rglob("environment.json")):
        starts = [one for one in json.loads((folder / "environment.json").read_text()) if "epoch" in one]
        if len(starts) != 1:
            problems.append(f"{folder.name} was begun {len(starts)} times")
    return problems


def _words(place: Path, runs: Path) -> list[str]:
    study = place / "study.toml"
    if not study.exists():
        return [*RUN, "--runs", str(runs)]
    return ["study", "run", str(study), "--runs", str(runs), "--on", "here"]


def _said(place: Path, wanted: "re.Pattern[str]") -> Iterator[str]:
    """What is wrong with what rivals said: who did not win says who holds it, and nothing else."""
    nameless = 0
    for path in place.glob("*.err"):
        text = path.read_text()
        said = [line for line in text.splitlines() if line.startswith("residuum: ")]
        yield from (f"said {line!r}" for line in said if not wanted.search(line))
        if "Traceback" in text:
            yield f"a traceback in {path.name}"
        nameless += sum(line.endswith("process") for line in said) - sum(line.endswith(")") for line in said)
    if nameless > 1:  # a moment lies between the lock and the name in it
        yield "most of those who came late did not say who holds it"


def _held(runs: Path, going: dict[int, int]) -> dict[int, Path]:
    """The lock of the run that each of the rivals holds now."""
    return {holder: path for path in runs.glob("*/lock") if (holder := _holder(path)) in going}


def _holder(path: Path) -> int:
    words = path.read_text().split()
    return int(words[0]) if words and words[0].isdigit() else 0


CASES = {"study": _study, "fresh": _fresh}


def _tried(count: int, seed: int, of: int, what: str) -> Iterator[str]:
    import residuum.api
    import residuum.report.style
    import residuum.training  # noqa: F401

    chance, place = random.Random(seed), Path(tempfile.mkdtemp(prefix="residuum-rivals-"))

    def made(name: str) -> Path:
        (place / name).mkdir()
        if what == "study":
            (place / name / "study.toml").write_text(STUDY)
        return place / name

    try:
        serial = made("serial")
        assert ended(forked(_words(serial, serial / "runs"), place / "err")) == DONE, (place / "err").read_text()
        reference = results(serial / "runs")
        for number in range(count):
            here = made(str(number))
            yield from (f"case {number}: {one}" for one in CASES[what](here, dict(reference), chance, of))
            shutil.rmtree(here)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", type=int, default=2)
    parser.add_argument("--what", choices=CASES, default="study")
    options = parser.parse_args()
    told(options.count, _tried(options.count, options.seed, options.of, options.what))

"""Several processes at one study, some of them killed while they hold a run: each run is computed once.

    python tests/studies/rivals.py --count 50 --of 2
    python tests/studies/rivals.py --count 5 --of 32

Each rival is a fork of one process that has imported torch, and calls the study in itself (`--on here`), which says 75
where another one is at a run; it then tries again, as a person would. What is killed is a random one, at a random row.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

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
CLOCK = ("seconds", "images_per_second", "check")
HELD = re.compile(r"being worked on by another process( \(process \d+ on \S+, since \S+\))?$")
DONE, BUSY = 0, 75


def bits(folder: Path) -> dict[str, Any]:
    """Everything of a complete run that must not depend on who computed it, how often it was stopped, and on which
    weights were saved on the way.
    """
    found: dict[str, Any] = {path.name: path.read_bytes() for path in sorted((folder / "predictions").iterdir())}
    for name in ("metrics.jsonl", "steps.jsonl", "result.json"):
        text = (folder / name).read_text()
        rows = text.splitlines() if name.endswith("l") else [text]
        found[name] = [{key: value for key, value in json.loads(row).items() if key not in CLOCK} for row in rows]
    last = max((folder / "checkpoints").glob("epoch-*"))
    return found | {f"{last.name}/{path.name}": path.read_bytes() for path in last.glob("*.safetensors")}


def rows(runs: Path) -> int:
    """Updates that are written down, of all runs together."""
    return sum(path.read_bytes().count(b"\n") for path in runs.glob("*/steps.jsonl"))


def forked(words: list[str], stderr: Path, *, stdin: bool = True, stdout: int = -1) -> int:
    """The program, called in a fork as the entry calls it; its process. Standard output goes nowhere, or where said."""
    process = os.fork()
    if process:
        return process
    nowhere = os.open(os.devnull, os.O_RDWR)
    said = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, target in ((0, nowhere), (1, nowhere if stdout < 0 else stdout), (2, said)):
        os.dup2(target, number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    if not stdin:
        os.close(0)
    code = 1
    try:
        from residuum.__main__ import main

        sys.argv = ["residuum", *words]
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def ended(process: int) -> int:
    """The exit code of a fork, which is waited for; negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def tried(count: int, seed: int, of: int = 2) -> list[str]:
    """Let `of` rivals compute a study, so many times; what went wrong, one line each."""
    return warm(__file__, count, seed, "--of", str(of))


def warm(file: str, count: int, seed: int, *words: str) -> list[str]:
    """What went wrong in a fresh process that imports torch once and forks."""
    done = subprocess.run([sys.executable, file, "--count", str(count), "--seed", str(seed), *words],
                          env={**os.environ, "OMP_NUM_THREADS": "1"},
                          capture_output=True, text=True, check=False)  # fmt: skip
    lines = done.stdout.splitlines()
    return lines[:-1] if lines and lines[-1] == f"tried {count}" else [*lines, done.stderr or "it ended early"]


def _case(place: Path, reference: dict[str, Any], chance: random.Random, of: int) -> list[str]:
    """One study and its rivals; about every other time one of those who hold a run is killed."""
    study, runs = place / "study.toml", place / "runs"
    study.write_text(STUDY)
    words = ["study", "run", str(study), "--runs", str(runs), "--on", "here"]
    going = {forked(words, place / f"{number}.err"): number for number in range(of)}
    kill_at = chance.choice([None, chance.randrange(1, 30)])
    killed, codes = 0, list[int]()
    while going:
        if kill_at is not None and rows(runs) >= kill_at:
            victim, kill_at, killed = _holder(runs, going), None, 1
            os.kill(victim, signal.SIGKILL)
        process, status = os.waitpid(-1, os.WNOHANG)
        if not process:
            time.sleep(0.005)
            continue
        number, code = going.pop(process), os.waitstatus_to_exitcode(status)
        codes.append(code)
        if code == BUSY:
            going[forked(words, place / f"{number}.err")] = number
    problems = [f"exit code {code}" for code in codes if code not in (DONE, BUSY, -signal.SIGKILL)]
    if not any(code == DONE for code in codes) and (code := ended(forked(words, place / "again.err"))) != DONE:
        problems.append(f"the call after a kill ended in {code}")
    for path in place.glob("*.err"):
        said = [line for line in path.read_text().splitlines() if line.startswith("residuum: ")]
        problems += [f"said {line!r}" for line in said if not HELD.search(line)]
        problems += [f"a traceback in {path.name}"] if "Traceback" in path.read_text() else []
    for folder in sorted(runs.glob("*/result.json")):
        name = folder.parent.name
        problems += [f"{name} differs from serial"] if bits(folder.parent) != reference.pop(name, None) else []
        starts = [one for one in json.loads((folder.parent / "environment.json").read_text()) if "epoch" in one]
        if len(starts) > 1 + killed:
            problems.append(f"{name} was begun {len(starts)} times")
    return problems + [f"{name} is missing" for name in reference]


def _holder(runs: Path, going: dict[int, int]) -> int:
    """A rival that holds a run now, or any of them."""
    for path in runs.glob("*/lock"):
        words = path.read_text().split()
        if words and words[0].isdigit() and int(words[0]) in going:
            return int(words[0])
    return next(iter(going))


def _tried(count: int, seed: int, of: int) -> None:
    import residuum.api
    import residuum.training  # noqa: F401

    chance, place = random.Random(seed), Path(tempfile.mkdtemp(prefix="residuum-rivals-"))
    try:
        (place / "serial").mkdir()
        (place / "serial" / "study.toml").write_text(STUDY)
        words = ["study", "run", str(place / "serial/study.toml"), "--runs", str(place / "serial"), "--on", "here"]
        assert ended(forked(words, place / "serial.err")) == DONE, (place / "serial.err").read_text()
        reference = {path.parent.name: bits(path.parent) for path in place.glob("serial/*/result.json")}
        for number in range(count):
            here = place / str(number)
            here.mkdir()
            for problem in _case(here, dict(reference), chance, of):
                print(f"case {number}: {problem}", flush=True)
            shutil.rmtree(here)
        print(f"tried {count}")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--of", type=int, default=2)
    options = parser.parse_args()
    _tried(options.count, options.seed, options.of)

"""Trials: what the scripts share that try the promise again and again, and print a line for each thing that went wrong.

A case is a fork of one process that has imported what is slow: it starts in some hundredths of a second, so that there
can be many. The last line of a script says how many cases it tried; without it, it ended early.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

CLOCK = ("seconds", "images_per_second", "test_reads", "check")
"""What of a run's rows and results depends on when, and how often, it was computed."""


def warm(file: str, count: int, seed: int, *words: str) -> list[str]:
    """What went wrong in so many cases of a script, which is called in a process of its own and says it line by line."""
    done = subprocess.run([sys.executable, file, "--count", str(count), "--seed", str(seed), *words],
                          env={**os.environ, "OMP_NUM_THREADS": "1"},
                          capture_output=True, text=True, check=False)  # fmt: skip
    lines = done.stdout.splitlines()
    return lines[:-1] if lines and lines[-1] == f"tried {count}" else [*lines, done.stderr or "it ended early"]


def told(count: int, problems: Iterable[str]) -> None:
    """Print what went wrong as it is found, and at the end how many cases were tried."""
    for problem in problems:
        print(problem, flush=True)
    print(f"tried {count}", flush=True)


def forked(words: list[str], said: Path | int, *, stdin: bool = True, stdout: int = -1,
           before: Callable[[], None] | None = None) -> int:  # fmt: skip
    """The program, called in a fork as its entry calls it, after `before`; its process.

    Standard error is added to the file, or goes to the descriptor, `said`; standard output goes nowhere, or where it is said; standard input is
    empty or, without `stdin`, closed.
    """
    process = os.fork()
    if process:
        return process
    nowhere = os.open(os.devnull, os.O_RDWR)
    telling = said if isinstance(said, int) else os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, target in ((0, nowhere), (1, nowhere if stdout < 0 else stdout), (2, telling)):
        os.dup2(target, number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    if not stdin:
        os.close(0)
    code = 1
    try:
        from residuum.__main__ import main

        if before:
            before()
        sys.argv = ["residuum", *words]
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def ended(process: int) -> int:
    """The exit code of a fork, which is waited for; negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def is_there(process: int) -> bool:
    """Whether a process still is, and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(parent: int) -> list[int]:
    """The processes that one has started and that are there, zombies left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, ppid = path.read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found.append(int(path.parent.name))
    return sorted(found)


def updates(runs: Path) -> int:
    """Updates that are written down, of all runs together."""
    return sum(path.read_bytes().count(b"\n") for path in runs.glob("*/steps.jsonl"))


def contents(folder: Path) -> dict[str, object]:
    """Everything of a complete run that must not depend on who computed it, and on whether it was stopped.

    Of the saved states these are the last and the selected one; which others are still there depends on the stops.
    """
    result = json.loads((folder / "result.json").read_text())
    epochs = {result[which]["epoch"] for which in ("last", "selected") if result[which]}
    states = {f"epoch-{epoch:04d}-step-000000" for epoch in epochs}
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".safetensors" and (path.parent.name in states | {"predictions", "layers"}):
            found[name] = path.read_bytes()
        elif name in ("metrics.jsonl", "steps.jsonl", "noise.jsonl"):
            found[name] = [without_clock(json.loads(line)) for line in path.read_text().splitlines()]
        elif name in ("result.json", "config.json", "data.json"):
            found[name] = without_clock(json.loads(path.read_text()))
    return found


def without_clock(values: dict[str, object]) -> dict[str, object]:
    """The values of a row that do not depend on when it was written."""
    return {key: value for key, value in values.items() if key not in CLOCK}


def results(runs: Path) -> dict[str, Any]:
    """The contents of each complete run, by its folder's name."""
    return {path.parent.name: contents(path.parent) for path in runs.glob("*/result.json")}


def damaged(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """What was done to a file's content, and what it is then: a flipped bit, a cut end, or a zeroed page."""
    kind = rng.choices(["flip", "cut", "page"], [20, 2, 1])[0]
    if kind == "flip":
        bit, spoilt = rng.randrange(8 * len(content)), bytearray(content)
        spoilt[bit // 8] ^= 1 << bit % 8
        return f"bit {bit} flipped", bytes(spoilt)
    if kind == "cut":
        length = rng.randrange(len(content))
        return f"cut to {length} bytes", content[:length]
    page = rng.randrange(0, len(content), 4096)
    return f"page at {page} zeroed", content[:page] + bytes(len(content[page : page + 4096])) + content[page + 4096 :]


def damages(folder: Path, names: list[Path], count: int, rng: random.Random) -> Iterator[tuple[Path, str]]:
    """Have each file of a folder gone once, and so many spoilt; each is named while it is so, and then put back."""
    for number in range(count + len(names)):
        name = names[number] if number < len(names) else rng.choice(names)
        content = (folder / name).read_bytes()
        what, spoilt = ("gone", b"") if number < len(names) else damaged(content, rng)
        if spoilt == content:
            continue
        if what == "gone":
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(spoilt)
        yield name, what
        (folder / name).write_bytes(content)

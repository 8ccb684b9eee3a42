"""Detached: commands that go on without the terminal or the page that began them, and what is known of them.

Each has files in `logs/` beside the run folders: what it prints, and, under the same name, what it was called with and
its process, and, once it has ended, its exit code. The file that it prints to is locked for as long as it or a process
of its own is alive: the kernel says so, however it ends.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Literal

from pydantic import TypeAdapter

from residuum.errors import InputError
from residuum.records import storage

LOGS = "logs"
MOST = 50
"""The latest commands that are told of."""
ERROR = "residuum: "
"""How a command begins the line that says its error."""
TAIL = 64 * 1024
"""Bytes of what a command printed last that are read."""


@dataclass(frozen=True)
class Detached:
    """A command: its words after `residuum`, its process, and when it was begun (UTC, ISO 8601)."""

    name: str
    words: tuple[str, ...]
    process: int
    began: str


@dataclass(frozen=True)
class Ended:
    """How a command ended: as a word, by its exit code, None where nobody knows it, and with what error in a line."""

    word: Literal["finished", "stopped", "failed", "ended"]
    code: int | None
    reason: str


FILE: TypeAdapter[Detached] = TypeAdapter(Detached)
ENDED = ".ended"
"""The ending of the file that has the exit code."""
SAVED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals by which a command is asked to save and end."""


def begin(words: Sequence[str], runs: Path, kind: str) -> Detached:
    """Start a command of residuum in a session of its own; `kind` is the beginning of its files' name.

    Raises:
        StorageError: its files cannot be written, or it cannot be started.
    """
    began = datetime.now(UTC)
    name = f"{began:%Y%m%d-%H%M%S}-{re.sub(r'[^a-z0-9]+', '-', kind.lower())[:40].strip('-')}-{token_hex(3)}"
    log = log_of(runs, name)
    with storage.storing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("xb") as file:
            with storage.locking(log):
                fcntl.flock(file, fcntl.LOCK_SH)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "residuum", *words],  # no file of the folder passes for a module
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200",
                     "RESIDUUM_ENDED": str(log.with_suffix(ENDED).absolute())},
                start_new_session=True,
            )  # fmt: skip
    found = Detached(name, tuple(words), process.pid, began.isoformat(timespec="seconds"))
    storage.write_json(log.with_suffix(".json"), asdict(found))
    return found


def log_of(runs: Path, name: str) -> Path:
    """The file that a command prints to."""
    return runs / LOGS / f"{name}.log"


def commands(runs: Path) -> list[Detached]:
    """The latest commands, the last one first; one whose file is damaged is left out."""
    paths = sorted((runs / LOGS).glob("*.json"), reverse=True)[:MOST]
    found = []
    for path in paths:
        with suppress(InputError):
            one = storage.typed(FILE, storage.read_json(path), path)
            if one.name == path.stem:
                found.append(one)
    return found


def is_alive(one: Detached, runs: Path) -> bool:
    """Whether a command, or a process of its own, is still there. One of our own that has ended is laid to rest."""
    with suppress(ChildProcessError):
        process, status = os.waitpid(one.process, os.WNOHANG)
        path = log_of(runs, one.name).with_suffix(ENDED)
        if process and not path.exists():  # it was killed, and could write nothing
            code = os.waitstatus_to_exitcode(status)
            with suppress(OSError):
                path.write_text(f"{code if code >= 0 else 128 - code}\n", encoding="ascii")
    return storage.is_shared(log_of(runs, one.name))


def ended(one: Detached, runs: Path) -> Ended:
    """How a command that is no longer alive ended: by its exit code, else by the last that it said."""
    said = printed(one, runs).strip().rpartition("\n")[2]
    error = said.removeprefix(ERROR) if said.startswith(ERROR) else ""
    try:
        code = int(log_of(runs, one.name).with_suffix(ENDED).read_bytes()[:20])
    except (OSError, ValueError):
        code = None
    if error.startswith("stopped by ") or (code is not None and code - 128 in SAVED):
        return Ended("stopped", code, "")
    if code is None:
        return Ended("failed" if error else "ended", code, error)
    if code == 0:
        return Ended("finished", code, "")
    killed = f"it was killed by signal {code - 128}" if code > 128 else said
    return Ended("failed", code, error or killed or "it said nothing")


def stop(one: Detached, runs: Path) -> bool:
    """Ask a command to save its states and end; returns whether it was still there to be asked."""
    if not is_alive(one, runs):
        return False
    try:
        # It leads the session that it was begun in: a process of the same number that does not is another one.
        if os.getsid(one.process) != one.process:
            return False
        os.kill(one.process, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def printed(one: Detached, runs: Path) -> str:
    """The end of what a command has printed; empty where that is gone."""
    path = log_of(runs, one.name)
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return file.read(TAIL).decode(errors="replace")
    except OSError:
        return ""

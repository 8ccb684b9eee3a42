"""A command of residuum's on one file, in a process of its own that is measured and cannot take more than is allowed.

Hostile files are tried so, by the suite and by the torture run: what a file makes a reader do is seen from outside.
"""

import io
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from residuum.cli import main

SECONDS, MIB = 2.0, 500
"""What a file may take, on an idle machine."""
LIMIT_SECONDS, LIMIT_MIB = 60, 2_000
"""After which the process is ended, and beyond which it gets no memory."""

Tried = tuple[str, str, float, int]
"""A case: its name, what came of it (`read`, `refused: …`, or `WRONG: …`), seconds and MiB that it took."""


Case = Callable[[Path], Path]
"""What writes a file into a folder, and says where it lies."""
SPECIAL: Mapping[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: None,
    "a file of a terabyte, of holes": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40),
}
"""What may lie in the place of any file, and is never read."""


def put(file: str, lay: Callable[[Path], object]) -> Case:
    """The case of what `lay` puts in the place of a file of this name."""

    def made(folder: Path) -> Path:
        lay(folder / file)
        return folder / file

    return made


def memory(which: str) -> int:
    """KiB of this process's memory, as Linux names it: `VmSize` (address space), `VmRSS`, or the peak of that, `VmHWM`."""
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(f"{which}:")]
    return int(line.split()[1])


def attempt(name: str, words: Iterable[object], wanted: str, canary: Path) -> Tried:
    """Run a command in a fork. `wanted` is `read`, `refused` or `either`; the canary is what nothing may make."""
    receiving, sending = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        os.close(receiving)
        os._exit(_child(sending, list(map(str, words))))
    os.close(sending)
    with os.fdopen(receiving, "rb") as file:
        kib, _, said = file.read().decode(errors="replace").partition(" ")
    _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - start
    return (
        name,
        _judged(os.waitstatus_to_exitcode(status), said, wanted, canary),
        round(seconds, 2),
        int(kib or 0) >> 10,
    )


def _child(sending: int, words: list[str]) -> int:
    """The exit code of the command; what memory it took at most beyond what it was born with, and said, is sent."""
    signal.alarm(LIMIT_SECONDS)
    born = memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, ((memory("VmSize") + (LIMIT_MIB << 10)) << 10,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out, err = io.StringIO(), io.StringIO()
    code = 99
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main(words)
    except BaseException as error:
        err.write(f"{type(error).__name__}: {error}")
    os.write(sending, f"{memory('VmHWM') - born} {err.getvalue()[:60_000]}".encode(errors="replace"))
    return code


def _judged(code: int, said: str, wanted: str, canary: Path) -> str:
    """What came of a case, in a line."""
    shown = ascii(said.strip()[-300:])[1:-1]
    if canary.exists():
        return f"WRONG: the canary ran: {shown}"
    if code == 0:
        return "read" if wanted != "refused" else "WRONG: it was read"
    if code not in (2, 74) or said.count("\n") != 1 or "Traceback" in said or "\x1b" in said:
        return f"WRONG: exit {code}: {shown}"
    return f"refused: {shown}" if wanted != "read" else f"WRONG: refused: {shown}"


def told(rows: Iterable[Tried]) -> int:
    """Print a row for each case as it ends; the exit status: 1 where one was wrong, took too long or too much."""
    failed = count = 0
    for name, outcome, seconds, mib in rows:
        bad = outcome.startswith("WRONG") or seconds > SECONDS or mib > MIB
        failed, count = failed + bad, count + 1
        print(f"{'FAIL' if bad else 'ok':4} {seconds:6.2f} s {mib:5} MiB  {name}: {outcome}", flush=True)
    print(f"{count} cases, {failed} failed")
    return int(failed > 0)


def run(tried: Callable[[Path], Iterable[Tried]]) -> None:
    """Try all cases in a folder of their own, with a cache of its own, and print them: `python -m tests.…`."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.environ["RESIDUUM_CACHE"] = f"{folder}/cache"
        sys.exit(told(tried(Path(folder))))

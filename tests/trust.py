"""What is promised of runs, files and signals, tried again and again: one table (test, tried, failed, time).

    python tests/trust.py                # as `make torture`: all of it
    python tests/trust.py --share 0.05   # so much of each count, at least one

The output of a whole run stands, with its date, in docs/trust.md.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).parent
sys.path.extend([str(HERE), *(str(HERE / name) for name in ("records", "studies", "cli", "serve"))])

import besieged  # noqa: E402 - from a folder that was just named
import crashes  # noqa: E402 - from a folder that was just named
import damage  # noqa: E402 - from a folder that was just named
import damaged  # noqa: E402 - from a folder that was just named
import deaths  # noqa: E402 - from a folder that was just named
import disk_faults  # noqa: E402 - from a folder that was just named
import rivals  # noqa: E402 - from a folder that was just named

import planted  # noqa: E402 - from a folder that was just named
import torture  # noqa: E402 - from a folder that was just named


@dataclass(frozen=True)
class Row:
    """One line of the table: what is tried, how often, and what tries it so often and says what went wrong.

    A count of 0 is for rows whose tries are what a script or the suite holds. A row goes alone that takes both cores, or
    measures what another beside it would change.
    """

    name: str
    count: int
    tried: Callable[[int], "Outcome"]
    is_alone: bool = False


Outcome = tuple[int, list[str]]
"""How many were tried, and what went wrong."""


def counted(trial: Callable[[int], list[str]]) -> Callable[[int], Outcome]:
    """A trial that tries exactly so many."""
    return lambda count: (count, trial(count))


def hostile(module: str) -> Callable[[int], Outcome]:
    """What is wrong with how hostile files are read or refused; each is tried in a process of its own."""

    def tried(_: int) -> Outcome:
        done = _called("-m", f"tests.{module}")
        lines = [line for line in done.stdout.splitlines() if line.startswith(("FAIL", "ok"))]
        wrong = [line for line in lines if line.startswith("FAIL")]
        return len(lines), wrong or ([] if done.returncode == 0 and lines else [done.stderr])

    return tried


def script(name: str, option: str = "--count") -> Callable[[int], Outcome]:
    """What a script finds in so many tries, in a process of its own, whose memory it bounds."""

    def tried(count: int) -> Outcome:
        done = _called(str(HERE / name), option, str(count))
        return count, [] if done.returncode == 0 else [*done.stdout.splitlines(), *done.stderr.splitlines()[-1:]]

    return tried


def suite(*words: str) -> Callable[[int], Outcome]:
    """The tests of the suite that show it, each of which is one try."""

    def tried(_: int) -> Outcome:
        done = _called("-m", "pytest", "-q", "-p", "no:cacheprovider", *words)
        lines = done.stdout.splitlines()
        count = sum(int(number) for number in re.findall(r"(\d+) (?:passed|failed|error)", lines[-1] if lines else ""))
        wrong = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        return count, wrong or ([] if done.returncode == 0 and count else [done.stdout[-300:] + done.stderr[-300:]])

    return tried


def _called(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *words], cwd=HERE.parent, capture_output=True, text=True, check=False)


ROWS = (
    Row("runs of every kind killed 1 to 4 times, a third in a save: the bits are those of one never stopped", 300,
        counted(torture.volume)),
    Row("real starts killed", 20, script("torture.py", "--kills")),
    Row("crash, and loss of power, before, in and after each system call by which a run is written: whole, best kept", 407,
        counted(crashes.tried)),
    Row("bits flipped, files cut, pages zeroed and files deleted in a run folder: told, or nothing read is another", 2250,
        counted(damage.tried)),
    Row("stopped runs with such damage: they go on from what is whole to the same bits", 100, counted(damage.resumed)),
    Row("the same damage to the files beside a study's plan; reports, and going on, after 20 of them", 1000,
        counted(lambda count: damaged.tried(count, 0, again=max(1, count // 50)))),
    Row("signals at random rows, twice at once, without stdin or a reader: saved, 143, 130 or 129, the same bits", 70,
        counted(lambda count: deaths.stopped(count, 0))),
    Row("memory that runs out in forward, backward, update, evaluation and records: smaller parts, the same batches", 0,
        suite("tests/engine/test_memory.py")),
    Row("NaN and Inf in images, weights, a loss or one gradient, a rate of 1e9: stopped before the update, a study goes on", 0,
        suite("tests/engine/test_step.py", "tests/engine/test_loop.py", "tests/training/test_training.py",
              "tests/studies/test_conduct.py", "-k", "diverge or finite or overflows")),
    Row("one study started by two, holders killed: each run computed once", 50, counted(lambda count: rivals.tried(count, 0))),
    Row("one study started by 32", 5, counted(lambda count: rivals.tried(count, 1, of=32)), is_alone=True),
    Row("one run begun anew by four at once, some killed: each its own, whole record", 20,
        counted(lambda count: rivals.tried(count, 2, of=4, what="fresh"))),
    Row("a study of 40 runs, a worker killed every 2 s, one run that always crashes, the parent killed", 1,
        counted(lambda count: deaths.tried(count, 0)), is_alone=True),
    Row("commands on disks that are full, and with files and folders that cannot be read or written", 200,
        counted(lambda count: disk_faults.tried(count, 0))),
    Row("hostile and damaged data files: refused in a line within 2 s and 500 MiB, or read right", 0,
        hostile("data_sets.hostile_files")),
    Row("hostile and damaged files of weights: the same", 0, hostile("weights.hostile_weights")),
    Row("hostile and damaged images to predict: the same", 0, hostile("data_sets.hostile_images")),
    Row("40 payloads as names, in reports, figures, tables, page and terminal: only text", 0,
        suite("tests/report/test_inert.py", "tests/serve/test_page.py", "-k", "test_inert or is_text")),
    Row("bugs planted in the package: their tests fail", len(planted.BUGS), counted(planted.tried), is_alone=True),
    Row("commands on runs with texts that can be no path", 60, script("cli/hostile_paths.py")),
    Row("mangled study files and settings: refused in a line within 1 s, with file and key, or a study", 2500,
        script("studies/mutated.py")),
    Row("windows of a page that is asked 1,000 times a second beside a training, left in mid-answer, and asked for others'", 3,
        counted(besieged.tried), is_alone=True),
)  # fmt: skip


def row(at: int, share: float) -> tuple[int, list[str], float]:
    """Try one row; how many were tried, what went wrong, and the seconds."""
    began = time.monotonic()
    count, wrong = ROWS[at].tried(max(1, round(share * ROWS[at].count)))
    return count, wrong, time.monotonic() - began


def main(share: float, only: str) -> int:
    """Try each row, two at a time but for those that go alone, and print the table; gives the number of failures."""
    began, found = time.monotonic(), dict[int, tuple[int, list[str], float]]()
    chosen = [at for at, one in enumerate(ROWS) if only in one.name]
    for alone, at_once in ((False, 2), (True, 1)):
        # Processes that are not forks: a trial forks itself, and the threads of a pool would be lost to it.
        with ProcessPoolExecutor(at_once, get_context("spawn")) as pool:
            going = {pool.submit(row, at, share): at for at in chosen if ROWS[at].is_alone == alone}
            for one in as_completed(going):
                at = going[one]
                found[at] = one.result()
                count, wrong, took = found[at]
                print(f"{ROWS[at].name}: {count} tried, {len(wrong)} failed, {took:.0f} s", file=sys.stderr, flush=True)
                print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr, flush=True)
    print("| test | tried | failed | time |\n|---|---:|---:|---:|")
    for at in chosen:
        count, wrong, took = found[at]
        print(f"| {ROWS[at].name} | {count:,} | {len(wrong)} | {took:.0f} s |")
    print(f"\nIn all {(time.monotonic() - began) / 60:.1f} minutes.")
    return sum(len(wrong) for _, wrong, _ in found.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--only", default="", help="rows whose name has this")
    options = parser.parse_args()
    sys.exit(bool(main(options.share, options.only)))

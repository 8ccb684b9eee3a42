"""What is promised of runs, files and signals, tried again and again: one table (test, tried, failed, time).

    python tests/trust.py                # as `make torture`: all of it
    python tests/trust.py --share 0.05   # so much of each count, at least one

The output of a whole run stands, with its date, in docs/trust.md.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
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
    """One line of the table: what is tried, how often, and what tries it so often and says what went wrong."""

    name: str
    count: int
    tried: Callable[[int], list[str]]


def hostile(module: str) -> Callable[[int], list[str]]:
    """What is wrong with how hostile files are read or refused; each is tried in a process of its own."""

    def tried(_: int) -> list[str]:
        done = subprocess.run([sys.executable, "-m", f"tests.{module}"], cwd=HERE.parent,
                              capture_output=True, text=True, check=False)  # fmt: skip
        lines = done.stdout.splitlines()
        return [line for line in lines if line.startswith("FAIL")] or ([] if done.returncode == 0 else [done.stderr])

    return tried


def apart(script: str) -> Callable[[int], list[str]]:
    """What a script finds in so many tries, in a process of its own, whose memory it bounds."""

    def tried(count: int) -> list[str]:
        done = subprocess.run([sys.executable, str(HERE / script), "--count", str(count)],
                              capture_output=True, text=True, check=False)  # fmt: skip
        return [] if done.returncode == 0 else [*done.stdout.splitlines(), *done.stderr.splitlines()[-1:]]

    return tried


def started(count: int) -> list[str]:
    """Kill so many real starts of the command line, and compare what they come to."""
    done = subprocess.run([sys.executable, str(HERE / "torture.py"), "--kills", str(count)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    return [done.stderr.strip().splitlines()[-1]] if done.returncode else []


ROWS = (
    Row("runs of every kind killed 1 to 4 times, a third in a save: the bits are those of one never stopped", 300,
        torture.volume),
    Row("real starts killed", 20, started),
    Row("crash, and loss of power, before, in and after each system call by which a run is written: whole, best kept", 407,
        crashes.tried),
    Row("bits flipped, files cut, pages zeroed and files deleted in a run folder: told, or nothing read is another", 2250,
        damage.tried),
    Row("stopped runs with such damage: they go on from what is whole to the same bits", 100, damage.resumed),
    Row("the same damage to the files beside a study's plan; reports, and going on, after 20 of them", 1000,
        lambda count: damaged.tried(count, 0, again=max(1, count // 50))),
    Row("signals at random rows, twice at once, without stdin or a reader: saved, 143, 130 or 129, the same bits", 60,
        lambda count: deaths.stopped(count, 0)),
    Row("one study started by two, holders killed: each run computed once", 50, lambda count: rivals.tried(count, 0)),
    Row("one study started by 32", 5, lambda count: rivals.tried(count, 1, of=32)),
    Row("one run begun anew by four at once, some killed: each its own, whole record", 20,
        lambda count: rivals.tried(count, 2, of=4, what="fresh")),
    Row("a study of 40 runs, a worker killed every 2 s, one run that always crashes, the parent killed", 1,
        lambda count: deaths.tried(count, 0)),
    Row("commands on disks that are full, and with files and folders that cannot be read or written", 200,
        lambda count: disk_faults.tried(count, 0)),
    Row("hostile and damaged data files: refused in a line within 2 s and 500 MiB, or read right", 94,
        hostile("data_sets.hostile_files")),
    Row("hostile and damaged files of weights: the same", 69, hostile("weights.hostile_weights")),
    Row("hostile and damaged images to predict: the same", 64, hostile("data_sets.hostile_images")),
    Row("bugs planted in the package: their tests fail", len(planted.BUGS), planted.tried),
    Row("commands on runs with texts that can be no path", 60, apart("cli/hostile_paths.py")),
    Row("mangled study files and settings: refused in a line within 1 s, with file and key, or a study", 2500,
        apart("studies/mutated.py")),
    Row("windows of a page that is asked 1,000 times a second beside a training, left in mid-answer, and asked for others'", 3,
        besieged.tried),
)  # fmt: skip


def main(share: float, only: str) -> int:
    """Try each row and print it; gives the number of failures."""
    print("| test | tried | failed | time |\n|---|---:|---:|---:|", flush=True)
    total, all_wrong = time.monotonic(), []
    for row in ROWS:
        if only not in row.name:
            continue
        count, began = max(1, round(share * row.count)), time.monotonic()
        wrong = row.tried(count)
        all_wrong += [f"{row.name}: {line}" for line in wrong]
        print(f"| {row.name} | {count} | {len(wrong)} | {time.monotonic() - began:.0f} s |", flush=True)
    print(f"\nIn all {(time.monotonic() - total) / 60:.1f} minutes.")
    print("\n".join(all_wrong))
    return len(all_wrong)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--only", default="", help="rows whose name has this")
    options = parser.parse_args()
    sys.exit(bool(main(options.share, options.only)))

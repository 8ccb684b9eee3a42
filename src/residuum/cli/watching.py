"""`residuum study watch`: how far the runs of a study are, from another shell or after a disconnect."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residuum.cli.options import Command, common, print_json, store_option
from residuum.errors import duration, tally

if TYPE_CHECKING:
    from rich.console import RenderableType

    from residuum.analysis.standing import Standing, StudyStanding
    from residuum.studies.plan import PlannedRun

PERIOD = 1.0
"""Seconds between two looks at the folders."""


def add_watch(command: Command, within: Any) -> None:
    """Add `study watch` to the commands of studies."""
    p = command("watch", watch, "How far a study is that is computed elsewhere: another shell, a node.", within=within)
    p.add_argument("name", metavar="STUDY", help="a study that was run here, or the label of its plan")
    p.add_argument("--once", action="store_true", help="say how it stands now, and end")
    common(p)
    store_option(p, weights=False)


def watch(options: argparse.Namespace) -> None:
    """`residuum study watch STUDY`."""
    from residuum.studies import plan as plans

    folder = plans.find(options.name, options.runs)
    # What lies in a store is a copy of one moment.
    looks = _looks(folder, options.runs, once=options.once or options.store is not None)
    stream = sys.stderr if options.json else sys.stdout
    last = _show(looks, options.runs, stream)
    if options.json:
        print_json(plain(last))
        return
    for line in _ended(last):
        print(line)


def _looks(folder: Path, runs: Path, *, once: bool) -> Iterator[StudyStanding]:
    """How a study stands, again and again, until nobody works on it; a plan that is written anew is read anew."""
    from residuum.analysis import standing
    from residuum.studies import plan as plans

    plan, written = plans.read(folder), 0
    while True:
        if (now := (folder / plans.PLAN).stat().st_mtime_ns) != written:
            plan, written = plans.read(folder), now
        found = standing.of_study(plan, runs, datetime.now(UTC))
        yield found
        if once or not found.is_going:
            return
        time.sleep(PERIOD)


def _show(looks: Iterator[StudyStanding], runs: Path, stream: Any) -> StudyStanding:
    """Show each look: on a terminal one display, in a pipe a line for each new epoch and each run that ended."""
    from rich.live import Live

    from residuum.cli.terminal import console

    screen = console(stream)
    last = next(looks)
    if screen.is_terminal and last.is_going:
        with Live(_board(last, screen.height), console=screen, refresh_per_second=2) as live:
            for last in looks:
                live.update(_board(last, screen.height))
        return last
    for line in [_head(last), *(_line(run, one) for run, one in last.runs if one.status != "waiting")]:
        screen.print(line)
    for found in looks:
        for line in _news(last, found, runs):
            screen.print(line)
        last = found
    return last


def _head(found: StudyStanding) -> str:
    counts = [f"{number} {word}" for word in ("running", "stopped", "failed", "unreadable", "waiting")
              if (number := found.count(word))]  # fmt: skip
    left = "" if found.seconds_left is None else f", about {duration(found.seconds_left)} to go"
    said = f" ({', '.join(counts)})" if counts else ""
    return f"{found.plan.label}: {found.complete} of {tally(len(found.runs), 'run')} complete{said}{left}"


def _name(run: PlannedRun) -> str:
    return f"{run.arm}, seed {run.seed}"


def _line(run: PlannedRun, one: Standing) -> str:
    """A run in one line."""
    parts = [f"{_name(run)}: {one.status}", f"epoch {one.epochs}/{one.asked}"]
    if one.seconds_left is not None:
        parts.append(f"about {duration(one.seconds_left)} to go")
    if one.last is not None:
        held = one.last.validation or one.last.test
        parts += [f"{one.last.images_per_second:,.0f} images/s"] if one.status == "running" else []
        parts.append(f"train loss {one.last.train.loss:.3f}")
        parts += [f"{held.split} error {100 * (1 - held.accuracy):.2f} %"] if held else []
    return " | ".join([*parts, *([one.reason] if one.reason else [])])


def _news(before: StudyStanding, now: StudyStanding, runs: Path) -> Iterator[str]:
    """A line for each epoch since a look, and for each run whose status is another one."""
    from residuum.analysis.standing import COMPLETE
    from residuum.cli.terminal import epoch_line
    from residuum.errors import InputError
    from residuum.records.record import read_record

    known, complete = {run.id: one for run, one in before.runs}, before.complete
    for run, one in now.runs:
        old = known.get(run.id)
        done = old.epochs if old else 0
        if one.epochs > done:
            try:
                rows = read_record(runs / run.folder).epochs[done : one.epochs]
            except InputError:
                rows = ()
            yield from (f"{_name(run)} | {epoch_line(row)}" for row in rows)
        if old is None or one.status != old.status:
            count = ""
            if one.status in COMPLETE:  # counted one by one, however many a look has found
                complete += 1
                count = f"{complete}/{len(now.runs)} "
            yield f"{count}{_name(run)}: {one.status}" + (f": {one.reason}" * bool(one.reason))


def _board(found: StudyStanding, height: int) -> RenderableType:
    """What the display of a terminal of so many lines shows: those that run first, then what failed."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    order = ("running", "failed", "unreadable", "stopped", "diverged", "finished", "waiting")
    rows = sorted(found.runs, key=lambda one: order.index(one[1].status) if one[1].status in order else 0)
    most = max(3, height - 4)
    table = Table.grid(padding=(0, 2))
    for run, one in rows[:most]:
        bar = ProgressBar(total=max(1, one.steps), completed=one.step, width=20)
        state = _line(run, one).partition(": ")[2]
        table.add_row(Text(run.arm, overflow="ellipsis", no_wrap=True), f"seed {run.seed}", bar,
                      Text(state, overflow="ellipsis", no_wrap=True))  # fmt: skip
    rest = [Text(f"and {len(rows) - most} more")] if len(rows) > most else []
    return Group(Text(_head(found)), table, *rest)


def _ended(found: StudyStanding) -> Iterator[str]:
    """How a study stands when nobody works on it any more."""
    for run, one in found.runs:
        if one.status in ("failed", "unreadable"):
            yield f"{_name(run)}: {one.status}: {one.reason}"
    if found.is_going:
        return
    left = len(found.runs) - found.complete
    if left:
        yield f"nobody works on it now, and {tally(left, 'run')} {'is' if left == 1 else 'are'} missing: " \
              "the command that ran it goes on"  # fmt: skip
    else:
        yield "complete"


def plain(found: StudyStanding) -> dict[str, Any]:
    """How a study stands, as a JSON object."""
    return {
        "label": found.plan.label, "complete": found.complete, "going": found.is_going,
        "seconds_left": found.seconds_left,
        "runs": [
            {"arm": run.arm, "seed": run.seed, "id": run.id, "status": one.status, "reason": one.reason,
             "epochs": one.epochs, "epochs_asked": one.asked, "seconds_left": one.seconds_left}
            for run, one in found.runs
        ],
    }  # fmt: skip

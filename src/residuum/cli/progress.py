"""The progress of a study on the terminal: one display for all its runs, or in a pipe one line an epoch."""

import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from residuum.cli.hints import helped
from residuum.cli.terminal import console, epoch_line
from residuum.conduct.following import of_trial
from residuum.conduct.launchers.launcher import JobEvent, JobFailed, JobRestarted, Said
from residuum.conduct.tuning import TrialDone
from residuum.records.event import Diverged, EpochDone, Finished, Note, Pruned, Started, StepDone
from residuum.studies.plan import Look, Plan, PlannedRun, is_complete


@dataclass
class _Going:
    """A run that is being computed: how far it is, and what was last said of it."""

    epochs: int = 0
    steps_per_epoch: int = 1
    step: int = 0
    begun_at: int = 0
    state: str = ""
    started: float = field(default_factory=time.monotonic)

    @property
    def steps(self) -> int:
        """Updates of the whole run."""
        return max(1, self.epochs * self.steps_per_epoch)


@dataclass
class _Board:
    """What the display shows. `work` is the size of a run in multiply-adds, by which the remaining time is judged."""

    label: str = ""
    runs: dict[str, PlannedRun] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    going: dict[str, _Going] = field(default_factory=dict)
    computed: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def remaining(self) -> float | None:
        """Seconds to go at the speed so far; None before there is one."""
        going = sum(self.work[key] * (one.step - one.begun_at) / one.steps for key, one in self.going.items())
        computed = self.computed + going
        if not computed:
            return None
        todo = sum(size for key, size in self.work.items() if key not in self.done)
        begun = sum(self.work[key] * one.step / one.steps for key, one in self.going.items())
        return (todo - begun) * (time.monotonic() - self.began) / computed

    def __rich__(self) -> Group:
        left = self.remaining()
        head = f"{self.label}: {len(self.done)} of {len(self.runs)} runs"
        table = Table.grid(padding=(0, 2))
        for key, one in self.going.items():
            run = self.runs[key]
            bar = ProgressBar(total=one.steps, completed=one.step, width=24)
            table.add_row(Text(run.arm, overflow="ellipsis", no_wrap=True), f"seed {run.seed}", bar, Text(one.state))
        return Group(Text(head + (f", about {clock(left)} to go" if left is not None else "")), table)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def show(said: Iterable[Said | Plan | Look], runs: Path, stream: IO[str]) -> dict[str, JobFailed]:
    """Show the runs of a study while they are computed; returns those that failed, by arm and seed."""
    screen = console(stream)
    board = _Board()
    failed: dict[str, JobFailed] = {}
    with Live(board, console=screen, transient=True, refresh_per_second=2) if screen.is_terminal else nullcontext():
        for one in said:
            if isinstance(one, Plan):
                _take_in(board, one, runs)
                continue
            if isinstance(one, Look):
                screen.print(
                    f"look {one.look} of {one.looks} at {len(one.seeds)} seeds, at {100 * one.level:.4g} %: "
                    f"{len(one.decided)} of the claims decided"
                )
                continue
            run = board.runs[one.id]
            name = f"{run.arm}, seed {run.seed}"
            if isinstance(one, JobEvent):
                line = _note(board, one, name)
                if isinstance(one.event, EpochDone) and not screen.is_terminal:
                    line = f"{name} | {epoch_line(one.event)}"
                    if one.id in board.going:
                        board.going[one.id].state = ""  # it has been said
                if line:
                    screen.print(line)
            elif isinstance(one, JobRestarted):
                board.going.pop(one.id, None)
                screen.print(f"{name}: {one.reason}; restarted (attempt {one.attempt})")
            elif isinstance(one, JobFailed):
                board.going.pop(one.id, None)
                failed[name] = one
                screen.print(f"{name}: failed: {one.reason}")
    return failed


def show_search(said: Iterable[Said | TrialDone], trials: int, stream: IO[str]) -> None:
    """Show the trials of a search: a line for each that has ended, and on a terminal what those under way are at."""
    screen = console(stream)
    going: dict[str, str] = {}
    best: dict[str, float] = {}
    live = Live(console=screen, transient=True, refresh_per_second=2) if screen.is_terminal else None
    with live or nullcontext():
        for one in said:
            if isinstance(one, TrialDone):
                screen.print(of_trial(one, trials, best))
            elif isinstance(one, JobRestarted):
                screen.print(f"{one.id}: {one.reason}; restarted (attempt {one.attempt})")
            elif isinstance(one, JobEvent) and isinstance(one.event, Note):
                screen.print(f"{one.id}: {helped(one.event.text, one.event.remedies)}")
            elif isinstance(one, JobEvent) and isinstance(one.event, StepDone):
                going[one.id] = f"epoch {one.event.epoch}, loss {one.event.loss:.3f}"
            elif isinstance(one, JobFailed) or isinstance(one.event, Finished | Pruned):
                going.pop(one.id, None)
            if live:
                live.update(Text("\n".join(f"{name}: {state}" for name, state in going.items())))


def _take_in(board: _Board, plan: Plan, runs: Path) -> None:
    """Take the runs of a plan into the display, those that are there already as done."""
    arms = {arm.name: arm for arm in plan.arms}
    board.label = plan.label
    for run in plan.runs:
        board.runs[run.id] = run
        board.work[run.id] = arms[run.arm].work
        if is_complete(run, runs):
            board.done.add(run.id)


def _note(board: _Board, said: JobEvent, name: str) -> str:
    """Take an event into the display; returns the line that stays on the screen, if there is one."""
    event, key = said.event, said.id
    if isinstance(event, Started):
        board.going[key] = _Going(event.epochs, event.steps_per_epoch, event.step, event.step)
    elif isinstance(event, Note):
        return f"{name}: {helped(event.text, event.remedies)}"
    elif isinstance(event, Finished):
        one = board.going.pop(key, _Going())
        if key in board.done:  # trained before; that it is read on the test set now, a note has said
            return ""
        board.done.add(key)
        board.computed += board.work[key] * (1 - one.begun_at / one.steps)
        took = time.monotonic() - one.started
        state = f" | {one.state}" if one.state else ""  # none where nothing was trained
        return f"{len(board.done)}/{len(board.runs)} {name}: {event.status} in {took:.1f} s{state}"
    elif isinstance(event, StepDone | EpochDone | Diverged) and key in board.going:
        one = board.going[key]
        if isinstance(event, StepDone):
            one.step = event.step + 1
            one.state = f"epoch {event.epoch}/{one.epochs} loss {event.loss:.3f}"
        elif isinstance(event, EpochDone):
            one.step = event.epoch * one.steps_per_epoch
            held_out = event.validation or event.test
            error = f" {held_out.split} error {100 * (1 - held_out.accuracy):.2f} %" if held_out else ""
            one.state = f"epoch {event.epoch}/{one.epochs} train loss {event.train.loss:.3f}{error}"
        else:
            one.state = f"loss {event.loss} in epoch {event.epoch}"
    return ""

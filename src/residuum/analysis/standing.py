"""Standing: how far runs and studies are, read from their folders, whoever computes them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from pathlib import Path
from statistics import median

from residuum.errors import InputError
from residuum.records import index, run_folder, storage
from residuum.records.event import EpochDone
from residuum.records.record import RunRecord, read_record
from residuum.records.regular import regular
from residuum.studies import plan as plans
from residuum.studies.plan import Plan, PlannedRun

LAST_ROW = 4096
"""Bytes from the end of the rows of updates in which the last whole one is looked for."""
SAMPLE = 12
"""Complete runs whose times say how long the others of a study take."""


@dataclass(frozen=True)
class Standing:
    """How far one run is.

    `status` is that of its record, or `waiting` (planned, not begun), `failed` or `unreadable`, for a `reason`. `steps`
    are updates of the whole run, 0 where that is not known yet, of which `step` are done; `seconds_left` is None where
    nobody works on it or nothing is known of its speed.
    """

    status: str
    reason: str = ""
    epochs: int = 0
    asked: int = 0
    step: int = 0
    steps: int = 0
    last: EpochDone | None = None
    seconds_left: float | None = None

    @property
    def share(self) -> float:
        """The share of its updates that is done, from 0 to 1."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


def of_run(record: RunRecord, now: datetime) -> Standing:
    """How far a run is by its record; `now` is a time with its zone."""
    rows, asked = record.epochs, record.config.train.epochs
    per_epoch = _steps_per_epoch(record)
    steps, step = asked * per_epoch, rows[-1].step if rows else 0
    left = None
    if record.status == "running":
        step = max(step, _last_step(record.folder) + 1)
        left = _seconds_left(record, step, steps, now)
    last = rows[-1] if rows else None
    return Standing(record.status, _reason(record), len(rows), asked, step, steps, last, left)


def _steps_per_epoch(record: RunRecord) -> int:
    if record.epochs:
        return record.epochs[-1].step // record.epochs[-1].epoch
    return ceil(record.data.train / record.config.train.batch_size) if record.data else 0


def _last_step(folder: Path) -> int:
    """The number of the last update that is written down, -1 where none is."""
    path = folder / run_folder.STEPS
    try:
        with regular(path).open("rb") as file:
            file.seek(max(0, path.stat().st_size - LAST_ROW))
            lines = file.read().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["step"]) if lines else -1
    except (OSError, InputError, ValueError, KeyError, TypeError):
        return -1


def _seconds_left(record: RunRecord, step: int, steps: int, now: datetime) -> float | None:
    """By the usual time of an epoch, or in the first one by the time since the last start."""
    if record.epochs:
        per_epoch = record.epochs[-1].step / record.epochs[-1].epoch
        return max(0, steps - step) / per_epoch * median(row.seconds for row in record.epochs[-5:])
    start = record.environment[-1] if record.environment else None
    done = step - (start.step or 0) if start else 0
    if start is None or start.time is None or done <= 0:
        return None
    try:
        spent = (now - datetime.fromisoformat(start.time)).total_seconds()
    except (ValueError, TypeError):
        return None
    return max(0, steps - step) * max(0.0, spent) / done


def _reason(record: RunRecord) -> str:
    at = record.result.diverged if record.result else None
    said = [f"loss {at.loss} in epoch {at.epoch}, step {at.step}"] if at else []
    return "; ".join([*said, *filter(None, [record.failure]), *record.damaged])


COMPLETE = ("finished", "diverged")
"""The statuses of a run that has a result."""


@dataclass(frozen=True)
class StudyStanding:
    """How far the runs of a plan are, in its order; `attended` says that some process conducts it now."""

    plan: Plan
    runs: tuple[tuple[PlannedRun, Standing], ...]
    attended: bool
    seconds_left: float | None

    def count(self, *statuses: str) -> int:
        """How many of its runs are so."""
        return sum(standing.status in statuses for _, standing in self.runs)

    @property
    def complete(self) -> int:
        """How many of its runs have a result."""
        return self.count(*COMPLETE)

    @property
    def is_going(self) -> bool:
        """Whether somebody works on it."""
        return self.attended or self.count("running") > 0


def of_study(plan: Plan, runs: Path, now: datetime, rows: Mapping[str, index.Listed] | None = None) -> StudyStanding:
    """How far a study is; `rows` are those of its runs in the index, by folder, where they are known already.

    Only runs that somebody works on are read whole.
    """
    beside = plans.folder_of(runs, plan.label)
    if rows is None:
        rows = {one.folder.name: one for one in index.listed(runs, {run.folder for run in plan.runs})}
    failed = failures(beside)
    found = tuple((run, _of_planned(run, rows.get(run.folder), failed, now)) for run in plan.runs)
    return StudyStanding(plan, found, storage.is_attended(beside), _study_left(plan, found, runs))


def failures(folder: Path) -> Mapping[str, str]:
    """Why runs of a study failed, by their ids, from the folder of its plan; none where that cannot be read."""
    try:
        return plans.read_failed(folder)
    except InputError:
        return {}


def _of_planned(run: PlannedRun, listed: index.Listed | None, failed: Mapping[str, str], now: datetime) -> Standing:
    asked = run.config.train.epochs
    if listed is None:
        reason = failed.get(run.id, "")
        return Standing("failed" if reason else "waiting", reason, asked=asked)
    row = listed.row
    if isinstance(row, InputError):
        return Standing("unreadable", run_folder.without_path(listed.folder, row), asked=asked)
    if row.status == "running":
        try:
            return of_run(read_record(listed.folder), now)
        except InputError as error:
            return Standing("unreadable", run_folder.without_path(listed.folder, error), asked=asked)
    if row.status in ("stopped", "pruned", "failed") and (run.id in failed or row.why):
        return Standing("failed", failed.get(run.id) or row.why, row.epochs or 0, asked, row.epochs or 0, asked)
    # One that a search pruned is to be gone on with where a study asks for it, as any that was stopped.
    status = "stopped" if row.status == "pruned" else row.status
    return Standing(status, row.text, row.epochs or 0, asked, row.epochs or 0, row.asked or asked)


def _study_left(plan: Plan, runs: Sequence[tuple[PlannedRun, Standing]], folder: Path) -> float | None:
    """Seconds until a study is complete, at the speed of its runs so far and with as many side by side as now."""
    work = {arm.name: arm.work for arm in plan.arms}
    going = [(work[run.arm], one) for run, one in runs if one.status == "running"]
    if not going:
        return None
    known = [(one.seconds_left, size * (1 - one.share)) for size, one in going if one.seconds_left is not None]
    complete = [run for run, one in runs if one.status == "finished"][-SAMPLE:]
    results = [(run_folder.result_of(folder / run.folder), work[run.arm]) for run in complete]
    spent = [(found.seconds, size) for found, size in results if found and found.seconds] + known
    total = sum(size for _, size in spent)
    if not total:
        return None
    rate = sum(seconds for seconds, _ in spent) / total
    todo = sum(work[run.arm] * (1 - one.share) for run, one in runs if one.status in ("waiting", "stopped"))
    under_way = sum(rate * size * (1 - one.share) if one.seconds_left is None else one.seconds_left
                    for size, one in going)  # fmt: skip
    longest = max((one.seconds_left or 0.0 for _, one in going), default=0.0)
    return max(longest, (todo * rate + under_way) / len(going))

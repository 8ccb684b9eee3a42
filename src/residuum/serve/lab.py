"""Lab: what the page reads of a folder of runs, as plain values; names are only ever looked up, never made paths of."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Generic, TypeVar

from residuum import own
from residuum.analysis import standing
from residuum.analysis.standing import Standing, StudyStanding
from residuum.errors import InputError, ResiduumError, quoted
from residuum.records import index
from residuum.records.attributions import FOLDER as ATTRIBUTIONS
from residuum.records.event import EpochDone
from residuum.records.index import Listed
from residuum.records.record import RunRecord, find_runs, read_record
from residuum.studies import plan as plans
from residuum.studies.plan import Place, Plan

FRESH = 1.0
"""Seconds for which what was listed is shown again, however many ask."""
SHARE = 10.0
"""The same where reading takes long, in times of what it took: thousands of runs must not keep a processor busy."""
MOST_POINTS = 2000
"""Epochs of a curve that are sent; of more, evenly chosen ones."""


T = TypeVar("T")


class NotHereError(InputError):
    """There is no such run, study or figure."""


def said(error: ResiduumError, runs: Path) -> str:
    """An error as the page says it: without what helps in Python, and without where on the machine the runs lie."""
    text = error.text if isinstance(error, InputError) else str(error)
    text = f"{error.argument}: {text}" if isinstance(error, InputError) and error.argument else text
    return text.replace(f"{runs}/", "")


class _Recent(Generic[T]):
    """A value that is read anew when it is asked for, unless that was done a moment ago."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read, self._lock, self._until = read, threading.Lock(), float("-inf")
        self._value: T

    def __call__(self) -> T:
        """The value; who asks while it is being read waits for the same one."""
        with self._lock:
            began = time.monotonic()
            if began > self._until:
                self._value = self._read()
                took = time.monotonic() - began
                self._until = began + took + max(FRESH, SHARE * took)
            return self._value


class Lab:
    """The runs and studies under a folder; what was listed a moment ago is kept."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self._plans: dict[str, tuple[int, Plan]] = {}
        self.listed = _Recent(self._list)
        """Every run as the index has it, by the name of its folder."""
        self.studies = _Recent(self._studies)
        """Every study by its label: how far it is, or why its plan cannot be read."""
        self.reasons = _Recent(self._reasons)
        """Why runs of studies failed, by run id."""
        self.places = _Recent(lambda: plans.places(runs))
        """Which studies and arms asked for a run, by the name of its folder."""

    def _list(self) -> Mapping[str, Listed]:
        return {one.folder.name: one for one in index.listed(self.runs)}

    def record(self, name: str) -> RunRecord:
        """The record of the run in the folder of that name.

        Raises:
            NotHereError: there is none.
            InputError: it is damaged.
        """
        if name not in self.listed() and name not in {folder.name for folder in find_runs(self.runs)}:
            raise NotHereError(f"no run {quoted(name[:80])} here")
        return read_record(self.runs / name)

    def labels(self) -> list[str]:
        """The labels of the studies that were run here, the one last written first."""
        return [folder.name for folder in plans.plans(self.runs)]

    def plan(self, label: str) -> Plan:
        """The plan of a study.

        Raises:
            NotHereError: there is none.
            InputError: it is damaged.
        """
        labels = self.labels()
        for gone in self._plans.keys() - {*labels}:
            self._plans.pop(gone, None)  # another request may have done so
        if label not in labels:
            raise NotHereError(f"no study {quoted(label[:80])} here")
        folder = plans.folder_of(self.runs, label)
        written = (folder / plans.PLAN).stat().st_mtime_ns
        known = self._plans.get(label)
        if known is None or known[0] != written:
            known = self._plans[label] = written, plans.read(folder)
        return known[1]

    def study(self, label: str) -> StudyStanding:
        """How far a study is.

        Raises:
            NotHereError, InputError: as `plan`.
        """
        return standing.of_study(self.plan(label), self.runs, datetime.now(UTC), self.listed())

    def _studies(self) -> list[tuple[str, StudyStanding | InputError]]:
        found: list[tuple[str, StudyStanding | InputError]] = []
        for label in self.labels():
            try:
                found.append((label, self.study(label)))
            except InputError as error:
                found.append((label, error))
        return found

    def going(self) -> Iterator[tuple[RunRecord, Standing]]:
        """The runs that somebody works on, in order of name."""
        for name, one in self.listed().items():
            if not isinstance(one.row, InputError) and one.row.status == "running":
                try:
                    record = read_record(self.runs / name)
                except InputError:
                    continue
                yield record, standing.of_run(record, datetime.now(UTC))

    def _reasons(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for folder in plans.plans(self.runs):
            found |= standing.failures(folder)
        return found

    def stamp(self, label: str) -> str:
        """What changes when something of a study does: by this a report is known to be of now."""
        plan, listed = self.plan(label), self.listed()
        written = [listed[run.folder].written for run in plan.runs if run.folder in listed]
        beside = plans.folder_of(self.runs, label)
        times = [path.stat().st_mtime_ns for name in (plans.PLAN, plans.FAILED, plans.LOOKS)
                 if (path := beside / name).exists()]  # fmt: skip
        return f"{len(written)}-{max([*written, *times], default=0)}"


def row_of(one: Listed, reasons: Mapping[str, str], places: Sequence[Place] = ()) -> dict[str, Any]:
    """A run as the list shows it; `places` are the studies and arms that asked for it."""
    row, name = one.row, one.folder.name
    asked = [{"study": place.study, "arm": place.arm} for place in places]
    if isinstance(row, InputError):
        return {
            "name": name,
            "places": asked,
            "status": "unreadable",
            "reason": said(row, one.folder),
            "when": one.written,
        }
    why = reasons.get(row.run, "")
    status, why = ("failed", why) if row.status == "stopped" and why else (row.status, row.why)
    return {
        "name": name, "places": asked, "status": status, "reason": why if status == "failed" else row.text,
        "model": row.model,
        "data": row.data, "recipe": row.recipe, "seed": row.seed, "epochs": row.epochs, "asked": row.asked,
        "accuracy": row.test_accuracy, "when": one.written,
    }  # fmt: skip


def chosen(rows: Sequence[dict[str, Any]], words: str, status: str) -> list[dict[str, Any]]:
    """The rows that have all words in what they show, and one status; those at work first, then the newest."""
    asked = words.lower().split()
    found = [
        row for row in rows
        if status in ("", row["status"])
        and (not asked or all(word in " ".join(map(str, row.values())).lower() for word in asked))
    ]  # fmt: skip
    return sorted(found, key=lambda row: (row["status"] != "running", -row["when"]))


def curves(epochs: Sequence[EpochDone]) -> dict[str, Any]:
    """Loss and error (%) by epoch, of each split that was scored; None where a value is not finite."""
    step = max(1, -(-len(epochs) // MOST_POINTS))
    rows = [*epochs[:-1][::step], *epochs[-1:]]
    splits = [split for split in ("train", "validation", "test") if any(getattr(row, split) for row in rows)]

    def values(split: str, of: str) -> list[float | None]:
        scores = [getattr(row, split) for row in rows]
        found = [None if one is None else one.loss if of == "loss" else 100 * (1 - one.accuracy) for one in scores]
        return [value if value is not None and isfinite(value) else None for value in found]

    return {
        "epochs": [row.epoch for row in rows],
        "loss": {split: values(split, "loss") for split in splits},
        "error": {split: values(split, "error") for split in splits},
    }


def kept_attributions(record: RunRecord) -> dict[str, Path]:
    """The attributions that a run has kept, by name."""
    return {path.stem: path for path in sorted((record.folder / ATTRIBUTIONS).glob("*.safetensors"))}


def own_code(values: Any) -> str:
    """The first part in settings that is somebody's own code (`file.py:Name`, `package.module:Name`); empty if none.

    The page runs none of it: whoever opens the page has not said whose code he trusts.
    """
    return next(iter([*own.codes(values).values(), *own.without_hash(values)]), "")


def classes_apart(records: Sequence[RunRecord]) -> str:
    """That some runs tell other classes apart than others, so that their errors do not compare; empty if none do."""
    known = {record.data.classes: record for record in records if record.data}
    if len(known) < 2:
        return ""
    counts = " and ".join(str(count) for count in sorted({len(classes) for classes in known}))
    what = f"{counts} classes" if len({len(classes) for classes in known}) > 1 else "classes of other names"
    return f"These runs tell {what} apart: their losses and errors do not compare."


def _told(value: Any) -> str:
    value = own.readable(value)
    if value is None:
        return "–"
    return value[:12] if isinstance(value, str) and own.HASH.fullmatch(value) else str(value)


def differing(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """The settings in which some runs differ, with the value of each."""
    every = [record.config.settings() for record in records]
    paths = dict.fromkeys(path for one in every for path in one)
    found = [(path, [_told(one.get(path, "–")) for one in every]) for path in paths]
    return [(path, values) for path, values in found if len({*values}) > 1]

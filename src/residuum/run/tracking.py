"""Tracking: the events of runs, written down by a tracker while they come, or afterwards from the records.

Whatever goes wrong with a tracker ends the tracking of that run, with a word, and never the run.
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path

from residuum.records.event import EpochDone, Event, Finished, Note, Pruned, Started
from residuum.records.record import RunRecord, read_record
from residuum.run.trackers import TRACKERS
from residuum.run.trackers.tracker import Log, Tracked


def numbers(event: EpochDone) -> dict[str, float]:
    """The numbers of an epoch by name: `lr`, `images_per_second`, and of each split `loss/…` and `error/…` (%)."""
    found = {"lr": event.lr, "images_per_second": event.images_per_second}
    for scores in (event.train, event.validation, event.test):
        if scores is not None:
            found |= {f"loss/{scores.split}": scores.loss, f"error/{scores.split}": 100 * (1 - scores.accuracy)}
    return found


def outcome(record: RunRecord) -> dict[str, float]:
    """What the weights of a run's last epoch came to, by name; empty where it has no result."""
    last = record.scored("last")
    scored = [one for one in (last.train_clean, last.validation, last.test) if one] if last else []
    return {name: value for one in scored
            for name, value in ((f"last/loss/{one.split}", one.loss),
                                (f"last/error/{one.split}", 100 * (1 - one.accuracy)))}  # fmt: skip


def _tracked(record: RunRecord, labels: Mapping[str, str]) -> Tracked:
    told = {"seed": str(record.config.train.seed), **labels}
    return Tracked(record.id, record.folder.name, record.config.settings(), told)


@dataclass
class _Open:
    """A run whose tracker is open: what closes it, what writes, and the epochs that are written."""

    manager: AbstractContextManager[Log]
    log: Log
    folder: Path
    written: set[int] = field(default_factory=set)


class Tracking:
    """The runs that a tracker is told of, by the caller's names for them."""

    def __init__(self, name: str, place: Path) -> None:
        self._name, self._place, self._tracker = name, place, TRACKERS[name]
        self._open: dict[str, _Open] = {}
        self._given_up: set[str] = set()

    def hear(self, key: str, event: Event, labels: Mapping[str, str]) -> Note | None:
        """Write down an event of the run that is called `key`; what went wrong, if anything did."""
        if key in self._given_up:
            return None
        try:
            if isinstance(event, Started):
                self._begin(key, event.folder, labels)
            elif isinstance(event, EpochDone) and key in self._open:
                self._write(self._open[key], event)
            elif isinstance(event, Finished | Pruned) and key in self._open:
                self._end(key, "pruned" if isinstance(event, Pruned) else event.status)
        except Exception as error:
            self._given_up.add(key)
            self._open.pop(key, None)
            line = f"{type(error).__name__}: {error}".splitlines()[0]
            return Note(f"{self._name} is told no more of this run: {line}")
        return None

    def _begin(self, key: str, folder: Path, labels: Mapping[str, str]) -> None:
        self.drop(key)
        record = read_record(folder)
        manager = self._tracker(self._place, _tracked(record, labels))
        self._open[key] = _Open(manager, manager.__enter__(), folder)
        for row in record.epochs:
            self._write(self._open[key], row)

    def _write(self, run: _Open, row: EpochDone) -> None:
        if row.epoch not in run.written:
            run.log.epoch(row.epoch, numbers(row))
            run.written.add(row.epoch)

    def _end(self, key: str, status: str) -> None:
        run = self._open[key]
        record = read_record(run.folder)
        for row in record.epochs:  # those that came before this was told anything
            self._write(run, row)
        run.log.end(status, outcome(record))
        self.drop(key)

    def drop(self, key: str) -> None:
        """Close the tracker of a run, whatever it was at."""
        if run := self._open.pop(key, None):
            run.manager.__exit__(None, None, None)

    def close(self) -> None:
        """Close the trackers of all runs."""
        for key in [*self._open]:
            self.drop(key)


def tracked(events: Generator[Event, None, None] | Iterator[Event], tracking: Tracking) -> Iterator[Event]:
    """The events of one run, which a tracker is told of on the way."""
    with closing(tracking):
        for event in events:
            yield event
            if note := tracking.hear("", event, {}):
                yield note


def replay(record: RunRecord, name: str, place: Path, labels: Mapping[str, str]) -> None:
    """Tell a tracker of a run that is over, or as far as it is."""
    with TRACKERS[name](place, _tracked(record, labels)) as log:
        for row in record.epochs:
            log.epoch(row.epoch, numbers(row))
        log.end(record.status, outcome(record))

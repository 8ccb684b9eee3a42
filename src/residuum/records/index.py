"""Index: what a list says of each run, kept beside the run folders, so that thousands of them need not all be read.

It lies in the folder of the runs as `.index.json` and is never the truth: a row is taken from it where the files that
the row was made from are those that lie there now, by inode, size and times, and is made anew elsewhere. Without it,
or where it cannot be written, all is read from the folders. Whoever writes puts a whole one in place, so that several
at once do no harm.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from residuum.errors import InputError, StorageError
from residuum.networks.names import short_name
from residuum.records import run_folder, storage
from residuum.records.record import RunRecord, find_runs, read_record, unfinished
from residuum.records.regular import contents

INDEX = ".index.json"
VERSION = 3
"""Raised when a row says something else, or says it of other files: an index of another version is made anew."""
UNFINISHED = ("running", "stopped", "pruned", "failed")
"""How a run without a result may stand, which other things than its files decide too."""
FEW = 100
"""Runs of which none is read from an index: reading them is as fast, and leaves nothing in the folder."""
JUST_NOW = 2_000_000_000
"""Nanoseconds before an index was written in which a file may have changed again without its times telling."""
READ = (run_folder.CONFIG, run_folder.RESULT, run_folder.METRICS, run_folder.DATA, run_folder.ENVIRONMENT,
        run_folder.FAILURE, run_folder.PRUNED)  # fmt: skip
"""The files of a run folder that a row is made from."""

Stamp = tuple[tuple[int, int, int, int] | None, ...]
"""Inode, size and the times (ns) of content and inode of each of these files; None of one that is not there."""


@dataclass(frozen=True)
class Row:
    """A run as a list shows it: `epochs` done of those `asked`, both None of weights from elsewhere.

    `text` says what is damaged in it, `why` why it failed.
    """

    run: str
    status: str
    recipe: str
    model: str
    data: str
    seed: int
    epochs: int | None
    asked: int | None
    test_accuracy: float | None
    text: str
    why: str = ""


@dataclass(frozen=True)
class Listed:
    """A run folder in a list: its row, or why it cannot be read, and when one of its files was last written (ns)."""

    folder: Path
    row: Row | InputError
    written: int


@dataclass(frozen=True)
class _Index:
    version: int
    rows: dict[str, tuple[Stamp, Row]]


KEPT: TypeAdapter[_Index] = TypeAdapter(_Index)


def listed(runs: Path, among: Collection[str] | None = None) -> Iterator[Listed]:
    """The run folders under `runs`, or those `among` some names, in order of name; brings the index up to date.

    An index that cannot be read or written is done without.
    """
    folders = [*find_runs(runs)]
    kept, known = _read(runs / INDEX), {folder.name for folder in folders}
    found = {name: one for name, one in kept.items() if name in known}
    is_new = len(found) < len(kept)
    for folder in folders:
        if among is not None and folder.name not in among:
            continue
        stamp = _stamp(folder)  # before it is read: what is written meanwhile is seen the next time
        written = max((times[2] for times in stamp if times), default=0)
        old = found.pop(folder.name, None)
        if old is not None and old[0] == stamp:
            row = old[1]
        else:
            is_new = True
            try:
                row = _row(read_record(folder))
            except InputError as error:  # read again each time: what was wrong may have been outside of the files
                if (folder / run_folder.CONFIG).exists():
                    yield Listed(folder, error, written)
                continue
        found[folder.name] = stamp, row
        if row.epochs is not None and row.status in UNFINISHED:
            status, why = unfinished(folder)
            row = replace(row, status=status, why=why)
        yield Listed(folder, row, written)
    if is_new and len(folders) > FEW:
        with suppress(StorageError):
            storage.write_file(runs / INDEX, KEPT.dump_json(_Index(VERSION, found)))


def _read(path: Path) -> dict[str, tuple[Stamp, Row]]:
    """The rows of an index that can be relied on; none where there is none, or one of another version or damaged."""
    try:
        index = KEPT.validate_json(contents(path, storage.MOST_JSON))
        late = path.stat().st_mtime_ns - JUST_NOW
    except (OSError, InputError, ValidationError):
        return {}
    if index.version != VERSION:
        return {}
    return {
        name: (stamp, row)
        for name, (stamp, row) in index.rows.items()
        if all(max(times[2:]) < late for times in stamp if times)
    }


def _stamp(folder: Path) -> Stamp:
    return tuple(map(_times, (f"{folder}/{name}" for name in READ)))


def _times(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - thousands of paths that are not made first
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _row(record: RunRecord) -> Row:
    last, config = record.scored("last"), record.config
    trained = record.status != "imported"
    return Row(
        run=record.id,
        status=record.status,
        recipe=record.recipe,
        model=short_name(config.model),
        data=config.data.dataset.name,
        seed=config.train.seed,
        epochs=(record.result.epochs if record.result else len(record.epochs) + len(record.damaged))
        if trained
        else None,
        asked=config.train.epochs if trained else None,
        test_accuracy=last.test.accuracy if last and last.test else None,
        text="; ".join(record.damaged),
        why=record.failure,
    )

"""The run folder: where each thing lies, in which order it is written, and how a stopped run goes on.

    config.json        the resolved configuration, with its schema version and the recipe it came from
    environment.json   one entry for each time the run was started or resumed
    data.json          classes, image shape, split sizes and the normalisation in use
    groups.json        which parameters decay
    code/              the text of own code, where the run has any
    metrics.jsonl      one row an epoch          steps.jsonl   one row an update
    test_reads.jsonl   every read of the test set, or of another one, never shortened
    noise.jsonl        the noise of the gradient after each epoch, where it is recorded
    failure.json       why the run failed, until it goes on     crash.log     the tracebacks of what failed
    pruned.json        the epoch after which a search stopped the run, until it goes on
    remarks.jsonl      what else happened while it ran, where anything did
    layers/            epoch-0003.safetensors … histograms of every layer, where they are recorded
    checkpoints/       epoch-0003-step-000000/ … predictions/  logits on the test set
    result.json        written last: a run is complete when it is there

Rows reach the disk before the checkpoint that covers them; on resuming, rows after the checkpoint are dropped and
computed again. So every row is there exactly once, whenever the run was killed.
"""

import re
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from errno import EEXIST, ENOTEMPTY
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

from residuum import own
from residuum.config import SCHEMA, UNCOUNTED, MonitorConfig, RunConfig, identity
from residuum.errors import BusyError, InputError, StorageError
from residuum.networks.names import folder_name
from residuum.records import layers, outcome, rows, storage
from residuum.records.event import EpochDone, Event, LayersSeen, NoiseSeen, StepDone, TestRead
from residuum.records.facts import STARTS, Start
from residuum.records.outcome import Outcome
from residuum.records.regular import appended, refuse_link


class Position(NamedTuple):
    """A place in a run: whole epochs done, evaluation included, and updates done in the epoch after them.

    The end of an epoch before its evaluation, (2, 391), and after it, (3, 0), are two places.
    """

    epoch: int
    step: int

    @property
    def name(self) -> str:
        """The name of the folder that holds the state of this place."""
        return f"epoch-{self.epoch:04d}-step-{self.step:06d}"

    @classmethod
    def of(cls, name: str) -> "Position | None":
        """The place that a folder's name says, None for another name."""
        match = re.fullmatch(r"epoch-(\d+)-step-(\d+)", name)
        return cls(int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class Checkpoint:
    """A saved state read back: its files (safetensors bytes by name) and plain values."""

    path: Path
    position: Position
    files: Mapping[str, bytes]
    values: Mapping[str, Any]


CONFIG, RESULT, DATA, ENVIRONMENT, GROUPS = (
    "config.json",
    "result.json",
    "data.json",
    "environment.json",
    "groups.json",
)
CODE = "code"
METRICS, STEPS, TEST_READS, NOISE = "metrics.jsonl", "steps.jsonl", "test_reads.jsonl", "noise.jsonl"
REMARKS = "remarks.jsonl"
FAILURE, CRASH_LOG, PRUNED = "failure.json", "crash.log", "pruned.json"
REWOUND = (METRICS, STEPS, NOISE)
"""Files whose rows go back with the run when it goes back to a checkpoint; to all others rows are only added."""


def folder_of(runs: Path, config: RunConfig) -> Path:
    """The folder of a resolved configuration under `runs`."""
    return runs / name_of(config, identity(config))


def name_of(config: RunConfig, id_: str) -> str:
    """The name of a run's folder: a readable label and the run's id."""
    return f"{folder_name(config.model)}-{own.short(config.data.dataset.name)}-seed{config.train.seed}-{id_}"


def is_checked(folder: Path) -> bool:
    """Whether the files of a run folder carry checks of themselves: those of an earlier version do not."""
    return storage.is_sealed(folder / CONFIG)


def begin(folder: Path, config: RunConfig, recipe: str, id_: str = "") -> str:
    """Write the configuration into a run folder; where it stands already, only what is watched and saved from now on.

    `id_` is the identity of something else than a configuration that was run, as of imported weights. Returns the id
    that stands there: a folder of an earlier version keeps its own.
    """
    path, wanted = folder / CONFIG, config.model_dump(mode="json")
    if path.exists():
        values = storage.read_json(path)
        changed = values | {section: wanted[section] for section in UNCOUNTED}
        if changed != values:
            storage.write_json(path, changed, checked=is_checked(folder))  # as those beside it
        return str(values["id"])
    with storage.storing(folder):
        for name in ("checkpoints", "predictions"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    refuse_link(folder / CODE)
    for name, digest, text in own.every(wanted):  # first: what has a configuration is a run
        storage.write_file(folder / CODE / own.file_of(name, digest), text.encode())
    id_ = id_ or identity(config)
    storage.write_json(path, {"schema": SCHEMA, "id": id_, "recipe": recipe, **wanted})
    return id_


def read_starts(folder: Path) -> tuple[Start, ...]:
    """Each time that a run was started or resumed, in order.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / ENVIRONMENT
    if not path.exists():
        return ()
    return storage.typed(STARTS, storage.read_json(path, checked=is_checked(folder)), path)


def add_start(folder: Path, start: Start) -> tuple[Start, ...]:
    """Append this start; returns those before it.

    Raises:
        InputError: the file is damaged.
    """
    path, before = folder / ENVIRONMENT, read_starts(folder)
    # What is there already stays as it is, whatever another version wrote into it.
    storage.write_json(path, [*(storage.read_json(path) if before else ()), start.plain()])
    return before


def without_path(folder: Path, error: object) -> str:
    """What an error says of a run, less where its folder lies: a report tells no path of the machine."""
    return str(error).replace(f"{folder}/", "")


def result_of(folder: Path) -> Outcome | None:
    """What came out of a complete run; None where that is not there or damaged, and is made again."""
    try:
        return outcome.read(folder / RESULT, checked=is_checked(folder)) if (folder / RESULT).exists() else None
    except InputError:
        return None


def is_complete(folder: Path) -> bool:
    """Whether the result of a run is there and whole; a damaged one is made again from the last saved state."""
    return result_of(folder) is not None


def count_test_reads(folder: Path) -> int:
    """How often the test set was read by the run in a folder. A damaged row counts: it stands for a reading, too."""
    return len(rows.read_lines(folder / TEST_READS))


def note_read(folder: Path, read: TestRead) -> None:
    """Note that the test set is read, on the disk before it is."""
    rows.append(folder / TEST_READS, read.row())


def remark(folder: Path, text: str) -> None:
    """Note something that happened while a run went on and changed nothing of it."""
    remarks = rows.Rows(folder / REMARKS)
    remarks.add({"time": datetime.now(UTC).isoformat(timespec="seconds"), "text": text})
    remarks.close()


def read_remarks(folder: Path) -> list[str]:
    """What was noted of a run: time and text, line by line.

    Raises:
        InputError: the file is damaged.
    """
    return [f"{row.get('time')}: {row.get('text')}" for row in rows.read_rows(folder / REMARKS)]


def log_crash(folder: Path, error: BaseException) -> Path | None:
    """Keep the traceback of an error with its run; where it was kept, None where only standard error takes it."""
    path = folder / CRASH_LOG
    try:
        with appended(path) as file:
            file.write("".join(traceback.format_exception(error)).encode(errors="replace"))
    except (OSError, InputError):
        traceback.print_exception(error)
        return None
    return path


def fail(folder: Path, reason: str) -> None:
    """Mark a run as failed, until it goes on."""
    values = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason}
    storage.write_json(folder / FAILURE, values)


def failure(folder: Path) -> str | None:
    """Why a run failed; None where it did not, or goes on since."""
    path = folder / FAILURE
    if not path.exists():
        return None
    try:
        return str(storage.read_json(path, checked=True)["reason"])
    except (InputError, KeyError, TypeError):
        return f"{FAILURE}, which says why, is damaged"


def prune(folder: Path, epoch: int) -> None:
    """Mark a run as stopped by a search after an epoch, until it goes on."""
    values = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "epoch": epoch}
    storage.write_json(folder / PRUNED, values)


def go_on(folder: Path) -> None:
    """Take back that a run failed or was pruned, as it goes on."""
    with storage.storing(folder):
        for name in (FAILURE, PRUNED):
            (folder / name).unlink(missing_ok=True)


class Writer:
    """The growing files of one run, open for as long as it goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows = {name: rows.Rows(folder / name) for name in (METRICS, STEPS, TEST_READS)}

    def write(self, event: Event) -> None:
        """Append what an event says to the file that it belongs to."""
        if isinstance(event, StepDone):
            self._rows[STEPS].add(vars(event))  # plain values: `asdict` would copy each, which takes longer than a turn
        elif isinstance(event, EpochDone):
            scored = {split: scores.row() for split in ("train", "validation", "test")
                      if (scores := getattr(event, split))}  # fmt: skip
            self._rows[METRICS].add(asdict(event) | scored)
        elif isinstance(event, TestRead):
            self._rows[TEST_READS].add(event.row())
            self._rows[TEST_READS].sync()
        elif isinstance(event, LayersSeen):
            layers.write(self.folder, event.layers)
        elif isinstance(event, NoiseSeen):
            if NOISE not in self._rows:  # a file that few runs have
                self._rows[NOISE] = rows.Rows(self.folder / NOISE)
            self._rows[NOISE].add(asdict(event))

    def save(self, position: Position, files: Mapping[str, bytes], values: Mapping[str, Any]) -> None:
        """Save the state of a place. The rows that it covers reach the disk first."""
        for file in self._rows.values():
            file.sync()
        path = self.folder / "checkpoints" / position.name
        if path.exists():  # a run that came back here holds the same bits, unless what was saved is damaged
            try:
                storage.read_checked_folder(path)
                return
            except InputError:
                _remove(path)
        storage.write_checked_folder(path, files, values)

    def close(self) -> None:
        """Close the files."""
        for file in self._rows.values():
            file.close()


@contextmanager
def writing(folder: Path) -> Iterator[Writer]:
    """A writer that is closed at the end."""
    writer = Writer(folder)
    try:
        yield writer
    finally:
        writer.close()


def checkpoints(folder: Path) -> list[tuple[Position, Path]]:
    """The saved states of a run, oldest first."""
    paths = (folder / "checkpoints").glob("epoch-*")
    return sorted((position, path) for path in paths if (position := Position.of(path.name)))


def read_checkpoint(folder: Path, position: Position) -> Checkpoint:
    """The saved state of a place, every byte checked.

    Raises:
        InputError: missing or damaged.
    """
    path = folder / "checkpoints" / position.name
    files, values = storage.read_checked_folder(path)
    return Checkpoint(path, position, files, values)


def saved(folder: Path) -> Iterator[Checkpoint | InputError]:
    """The saved states of a run, newest first; an error in place of one that is damaged."""
    for position, _ in reversed(checkpoints(folder)):
        try:
            yield read_checkpoint(folder, position)
        except InputError as error:
            yield error


def latest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest saved state that is whole, and a line about each newer one that is damaged."""
    problems: list[str] = []
    for found in saved(folder):
        if isinstance(found, Checkpoint):
            return found, problems
        problems.append(str(found))
    return None, problems


def lacking(folder: Path, position: Position, steps_per_epoch: int, watched: MonitorConfig | None = None) -> str:
    """What a run had written by a place and is damaged or missing now: rows, layers; empty where all is there.

    `watched` is what the run recorded beside its epochs and updates until it stopped.
    """
    steps = position.epoch * steps_per_epoch + position.step
    return (rows.lacking(folder / METRICS, "epoch", range(1, position.epoch + 1))
            or rows.lacking(folder / STEPS, "step", range(steps))
            or unseen(folder, position, watched))  # fmt: skip


def unseen(folder: Path, position: Position, watched: MonitorConfig | None) -> str:
    """What a run had seen of the noise of its gradient or of its layers by a place and is damaged or missing now."""
    if not any(position):
        return ""
    starts = read_starts(folder)
    # It may have begun to watch when it was resumed: what it wrote then goes on without a gap.
    since = 0 if not starts or not any((starts[-1].epoch, starts[-1].step)) else (starts[-1].epoch or 0) + 1
    noise = [row if isinstance(row, InputError) else row.get("epoch", -1) for row in rows.each(folder / NOISE)]
    noise_wanted, layers_wanted = (watched.noise, watched.histograms) if watched else (False, False)
    return _gap(folder / NOISE, noise, since, position.epoch, wanted=noise_wanted) or _gap(
        folder / layers.FOLDER, layers.epochs(folder), since, position.epoch, wanted=layers_wanted
    )


def _gap(path: Path, found: Sequence[int | InputError], since: int, last: int, *, wanted: bool) -> str:
    """Which epoch is missing or damaged among those found in a file, up to the last; from `since` on where wanted."""
    for one in found:
        if isinstance(one, InputError):
            return str(one)
    there = {one for one in found if isinstance(one, int)}
    first = min([*there, *([since] if wanted else [])], default=last + 1)
    gone = sorted({*range(first, last + 1)} - there)
    return f"{path} lacks epoch {gone[0]}" if gone else ""


def rewind(folder: Path, position: Position, steps_per_epoch: int) -> None:
    """Take a run back to a place: drop the rows and the saved states that come after it, and what a kill left."""
    for stump in [*folder.rglob(".*.tmp")]:
        with storage.storing(stump):
            shutil.rmtree(stump) if stump.is_dir() else stump.unlink()
    for later, path in checkpoints(folder):
        if later > position:
            _remove(path)
    layers.drop_after(folder, position.epoch)
    # What epoch 0 was like is seen again by a run that starts again.
    rows.keep(folder / NOISE, "epoch", position.epoch if any(position) else -1)
    rows.keep(folder / STEPS, "step", position.epoch * steps_per_epoch + position.step - 1)
    rows.keep(folder / METRICS, "epoch", position.epoch)


def retain(folder: Path, keep: int, protected: Position | None) -> None:
    """Remove saved states except the `keep` latest (0: all are kept) and the one that is protected."""
    for position, path in checkpoints(folder)[:-keep] if keep else ():
        if position != protected:
            _remove(path)


def _remove(path: Path) -> None:
    # Renamed first, on the disk too: a half-removed folder must never look like a saved state.
    doomed = path.with_name(f".{path.name}.{token_hex(4)}.tmp")
    with storage.storing(path):
        path.rename(doomed)
        storage.sync(path.parent)
        shutil.rmtree(doomed)


@contextmanager
def held(folder: Path, *, fresh: bool = False) -> Iterator[Path | None]:
    """Hold a run folder for this process, which is made where it is not there; `fresh`: an empty one.

    What lies there then is moved to `old/` beside it, so that nothing is deleted, and where to is given. Both folders
    are held meanwhile, the new one from before it has its name: whoever comes between finds somebody at work.

    Raises:
        BusyError: another process holds it, or has just begun it.
        StorageError: it cannot be written or locked.
    """
    with ExitStack() as stack:
        if not (fresh and folder.exists()):
            with storage.storing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(storage.locked(folder))
            yield None
            return
        stack.enter_context(storage.locked(folder))
        new = folder.parent / OLD / f".{folder.name}.{token_hex(4)}.tmp"
        with storage.storing(new):
            new.mkdir(parents=True)
        try:
            stack.enter_context(storage.locked(new))
            aside = _set_aside(folder)
            new.rename(folder)
        except OSError as error:
            if error.errno in (ENOTEMPTY, EEXIST):
                raise BusyError(f"{folder} is being begun by another process") from error
            raise StorageError(f"cannot write {folder}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
        yield aside


OLD = "old"


def _set_aside(folder: Path) -> Path:
    number = 1
    while (target := folder.parent / OLD / f"{folder.name}.{number}").exists():
        number += 1
    folder.rename(target)
    return target

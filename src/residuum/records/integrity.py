"""Integrity: whether what lies in a run folder, or beside a study's plan, is what was written there.

Reading a run looks at what it reads. This looks at all of it: JSON, rows, tensors, saved states and own code, each of
which carries a check of itself, and what is missing although the rest says that it was there.
"""

from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

from residuum import own
from residuum.config import identity
from residuum.errors import InputError
from residuum.records import layers, outcome, rows, run_folder, storage
from residuum.records.attributions import FOLDER as ATTRIBUTIONS
from residuum.records.record import RunRecord, read_config, read_record
from residuum.records.regular import contents
from residuum.records.run_folder import Position
from residuum.records.surfaces import FOLDER as SURFACES

NEEDED = (run_folder.DATA, run_folder.ENVIRONMENT, run_folder.GROUPS)
"""What every run has from its beginning on, beside its configuration."""
ROWS = (run_folder.METRICS, run_folder.STEPS, run_folder.TEST_READS, run_folder.NOISE, run_folder.REMARKS)


def unchecked(folder: Path) -> bool:
    """Whether an earlier version wrote a run folder, whose files carry no checks: damage to them may be silent."""
    return not run_folder.is_checked(folder)


def damage(folder: Path) -> list[str]:
    """One line for each file of a run folder that is not as it was written, or that is missing; it names the file.

    Raises:
        InputError: not a run folder, or its configuration cannot be read.
    """
    config, head = read_config(folder)
    found: list[str] = []
    if not head.recipe.startswith("imported") and identity(config, head.schema) != head.id:
        found.append(f"{folder / run_folder.CONFIG} was changed: it is not the configuration of run {head.id}")
    for read in (_json, _rows, _tensors, _saved, _code):
        found += _said(read, folder)
    return [run_folder.without_path(folder, line) for line in dict.fromkeys(found)]


def files_damage(folder: Path) -> list[str]:
    """One line for each JSON file and row in a folder, as that of a study's plan, that is not as it was written."""
    checked = any(storage.is_sealed(path) for path in folder.glob("*.json"))
    return [*_said(partial(_sealed, checked=checked), folder), *_said(_rows_of, folder)]


def _said(read: Callable[[Path], Iterator[str]], folder: Path) -> list[str]:
    try:
        return list(read(folder))
    except InputError as error:
        return [str(error)]


def _tried(read: Callable[..., object], path: Path, checked: bool) -> Iterator[str]:
    try:
        read(path, checked=checked)
    except InputError as error:
        yield str(error)


def _json(folder: Path) -> Iterator[str]:
    yield from _sealed(folder, checked=run_folder.is_checked(folder))
    begun = rows.read_lines(folder / run_folder.STEPS) or run_folder.checkpoints(folder)
    for name in NEEDED if begun else ():
        if not (folder / name).exists() and not _is_imported(folder):
            yield f"{folder / name} is missing"


def _is_imported(folder: Path) -> bool:
    return read_config(folder)[1].recipe.startswith("imported")


def _sealed(folder: Path, *, checked: bool) -> Iterator[str]:
    for path in folder.glob("*.json"):
        said = [*_tried(storage.read_json, path, checked)]
        if path.exists():  # what has gone meanwhile is no damage: what has to be there is asked for by name
            yield from said


def _rows_of(folder: Path) -> Iterator[str]:
    for path in folder.glob("*.jsonl"):
        yield from (str(row) for row in rows.each(path) if isinstance(row, InputError))


def _rows(folder: Path) -> Iterator[str]:
    yield from _rows_of(folder)
    yield from _rows_of(folder / SURFACES)
    for name in ROWS if run_folder.is_checked(folder) else ():
        if not rows.are_checked(folder / name):
            yield f"{folder / name} is damaged: a row has no check, as those beside it do"
    result = outcome.read(folder / run_folder.RESULT) if (folder / run_folder.RESULT).exists() else None
    if result is not None and result.status != "imported":
        for name, key, wanted in ((run_folder.METRICS, "epoch", range(1, result.epochs + 1)),
                                  (run_folder.STEPS, "step", range(result.steps))):  # fmt: skip
            if lacking := rows.lacking(folder / name, key, wanted):
                yield lacking
        if run_folder.count_test_reads(folder) < result.test_reads:
            yield f"{folder / run_folder.TEST_READS} lacks rows: the test set was read {result.test_reads} times"


def _tensors(folder: Path) -> Iterator[str]:
    checked, record = run_folder.is_checked(folder), read_record(folder)
    for path in (*(folder / "predictions").glob("*.safetensors"), *(folder / ATTRIBUTIONS).glob("*.safetensors"),
                 *(folder / layers.FOLDER).glob("*.safetensors")):  # fmt: skip
        yield from _tried(storage.read_tensors, path, checked)
    yield from _missing(record)


def _missing(record: RunRecord) -> Iterator[str]:
    """The tensors that a complete run left, and that are gone."""
    folder, result = record.folder, record.result
    if result is None or result.status == "imported":
        return
    for which, scored in (("last", result.last), ("selected", result.selected)):
        if scored is not None and scored.test is not None:
            path = folder / "predictions" / f"{which}.safetensors"
            if not path.exists():
                yield f"{path} is missing"
    if gone := run_folder.unseen(folder, Position(result.epochs, 0), record.config.monitor):
        yield gone


def _saved(folder: Path) -> Iterator[str]:
    yield from (str(one) for one in run_folder.saved(folder) if isinstance(one, InputError))
    result = outcome.read(folder / run_folder.RESULT) if (folder / run_folder.RESULT).exists() else None
    kept = {position.epoch for position, _ in run_folder.checkpoints(folder) if not position.step}
    for scored in (result.last, result.selected) if result and result.status == "finished" else ():
        if scored is not None and scored.epoch not in kept:
            yield f"{folder / 'checkpoints'} lacks the weights of epoch {scored.epoch}"


def _code(folder: Path) -> Iterator[str]:
    config, _ = read_config(folder)
    waiting = list(own.codes(config.model_dump(mode="json")).items())
    while waiting:
        digest, name = waiting.pop(0)
        path = folder / run_folder.CODE / own.file_of(name, digest)
        try:
            content = contents(path, own.MOST_BYTES)
        except OSError as error:
            yield f"{path} cannot be read: {error.strerror or error}"
            continue
        except InputError as error:
            yield str(error)
            continue
        if sha256(content).hexdigest() != digest:
            yield f"{path} was changed: it is not the code of {name}"
            continue
        waiting += [(one, place) for place, one in own.modules_of(content.decode(errors="replace")).items()]

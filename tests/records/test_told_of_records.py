"""What is said of run folders from which something was lost or exchanged, message by message."""

import shutil
from errno import EROFS
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from damage import SETTINGS

from residuum import training
from residuum.analysis import per_class
from residuum.config import RunConfig
from residuum.errors import BusyError, InputError, StorageError
from residuum.records import layers, mirror, mistakes, rows, run_folder, storage
from residuum.records.event import Note
from residuum.records.record import read_record
from residuum.run import assemble, predict, pretrained, trust


@pytest.fixture
def whole(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "runs" / whole.name))


@pytest.fixture
def stopped(stopped, tmp_path):
    return Path(shutil.copytree(stopped, tmp_path / "stopped" / stopped.name))


def without_last_state(folder: Path) -> Path:
    """A run folder whose newest saved state is gone."""
    shutil.rmtree(max((folder / "checkpoints").iterdir()))
    return folder


def test_rows_that_a_complete_run_has_lost_are_counted(whole):
    place = whole / run_folder.STEPS
    lines = place.read_bytes().splitlines(keepends=True)
    place.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(InputError, match=rf"has {len(lines) - 1} rows of {len(lines)}: the others are lost"):
        read_record(whole).steps()


def test_a_run_that_scored_nothing_has_no_result(stopped):
    with pytest.raises(InputError, match="has no result of its last epoch"):
        per_class.epoch_of(read_record(stopped))


@pytest.mark.parametrize(("load", "name", "tensor"), [(layers._read, "layers/epoch-0001.safetensors", "dead_A"),
                                                      (lambda path, checked: mistakes.read(path.parents[1]), "", "x")])  # fmt: skip
def test_tensors_of_another_meaning_are_damage(whole, load, name, tensor):
    path = whole / name if name else mistakes.path_of(whole)
    path.parent.mkdir(exist_ok=True)
    storage.write_tensors(path, safetensors.numpy.save({tensor: np.zeros(2)}))
    with pytest.raises(InputError, match=rf"{path.name} is damaged: "):
        load(path, checked=False)


@pytest.mark.parametrize("read", [storage.read_sealed, storage.read_tensors, rows.read_lines, rows.is_torn])
def test_a_file_in_a_file_cannot_be_read(tmp_path, read):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=r"file/name cannot be read: Not a directory"):
        read(tmp_path / "file" / "name")


def test_tensors_and_values_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match=r"t\.safetensors is missing"):
        storage.read_tensors(tmp_path / "t.safetensors")
    storage.write_json(tmp_path / storage.MANIFEST, {"files": {}, "values": []})
    with pytest.raises(InputError, match="is damaged: its values are no object"):
        storage.read_checked_folder(tmp_path)


def test_a_folder_that_cannot_be_set_aside(tmp_path, monkeypatch):
    def refused(_folder):
        raise OSError(EROFS, "Read-only file system")

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(run_folder, "_set_aside", refused)
    with (
        pytest.raises(StorageError, match=r"cannot write .*run: Read-only file system"),
        run_folder.held(tmp_path / "run", fresh=True),
    ):
        pass
    assert [*(tmp_path / "old").iterdir()] == []


def test_a_folder_that_was_set_aside_before_its_lock_was_held(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_is_there", lambda *_: False)
    with pytest.raises(BusyError, match="is being begun anew by another process"), storage.locked(tmp_path):
        pass


def test_stores_have_bounds():
    with pytest.raises(InputError, match="a folder in the store holds 100,001 files"):
        mirror._own({str(number): mirror.Remote(1, "", 0) for number in range(mirror.MOST + 1)})


def test_a_checkpoint_in_a_store_has_a_bound(tmp_path):
    (tmp_path / "store").mkdir()
    state = f"{mirror.CHECKPOINTS}/epoch-0001-step-000000"
    there = {f"{state}/{name}": mirror.Remote(2**33 + 1, "", 0) for name in ("network.safetensors", storage.MANIFEST)}
    with pytest.raises(InputError, match="epoch-0001-step-000000 is larger than any checkpoint"):
        mirror._bring_states(mirror.store_of((tmp_path / "store").as_uri()), "run", tmp_path / "run", there, there, {})
    assert not (tmp_path / "run").exists()


def test_no_weights_of_another_epoch_stand_for_the_last(whole):
    without_last_state(whole)
    for load in (lambda: predict.load(read_record(whole)),
                 lambda: pretrained.read(whole, predict.untrained(read_record(whole)))):  # fmt: skip
        with pytest.raises(InputError, match="has lost the weights of its last epoch, 4"):
            load()


def test_a_run_without_validation_has_selected_nothing(tmp_path):
    config = RunConfig.of({}).changed({**SETTINGS, "data.validation": 0, "train.epochs": 1})
    with pytest.raises(InputError, match="validation has selected no epoch"):
        predict.load(read_record(training.train(config, tmp_path).folder), "selected")


def test_a_run_that_was_never_saved_gives_no_weights(stopped):
    shutil.rmtree(stopped / "checkpoints")
    with pytest.raises(InputError, match=r"pretrained\.weights: .* holds no weights yet"):
        pretrained.read(stopped, predict.untrained(read_record(stopped)))


@pytest.fixture
def begun_with(whole, tmp_path):
    """A run that began with the weights of another."""
    config = RunConfig.of({}).changed({**SETTINGS, "train.epochs": 1, "pretrained.weights": str(whole)})
    return training.train(config, tmp_path / "begun").folder


def test_weights_with_which_a_run_began_are_exchanged_or_gone(begun_with, whole, stopped):
    record = read_record(begun_with)
    shutil.rmtree(whole)
    with pytest.raises(InputError, match=r"pretrained\.weights: .* does not exist"):
        assemble.begun(record.config, assemble.resolve(record.config)[1])
    stopped.rename(whole)
    with pytest.raises(InputError, match=f"holds others than run {record.id} began with"):
        predict.beginning(record)


def test_the_state_of_another_place_is_not_taken_for_that_of_its_folder(stopped):
    newest = max((stopped / "checkpoints").iterdir())
    newest.rename(newest.with_name("epoch-0009-step-000000"))
    said = [event.text for event in training.resume(stopped) if isinstance(event, Note)]
    assert any("epoch-0009-step-000000 holds the state of epoch 3, step 0" in text for text in said), said


def test_a_run_that_began_with_weights_does_not_begin_anew_without_them(begun_with):
    (begun_with / run_folder.RESULT).unlink()
    for path in (begun_with / "checkpoints").rglob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"and no state before it holds; move .* away to begin again"):
        list(training.resume(begun_with))


def test_own_code_that_was_never_named_here():
    with pytest.raises(InputError, match=r"is not known here; name its file again, or trust a run that has it"):
        trust._from_cache("a.py:B", "0" * 64)

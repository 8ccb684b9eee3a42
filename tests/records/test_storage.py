"""Files that survive kills, full disks and torn rows."""

import errno
import json
import multiprocessing
import os

import pytest

from residuum.errors import BusyError, InputError, StorageError
from residuum.records import storage


def test_checked_folder_comes_back(tmp_path):
    storage.write_checked_folder(tmp_path / "state", {"a": b"one", "b": b""}, {"x": [1, 0.1]})
    assert storage.read_checked_folder(tmp_path / "state") == ({"a": b"one", "b": b""}, {"x": [1, 0.1]})
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_every_flipped_bit_is_noticed(tmp_path):
    """Guard 11."""
    content = bytes(range(40))
    storage.write_checked_folder(tmp_path / "state", {"a": content}, {})
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "state" / "a").write_bytes(damaged)
        with pytest.raises(InputError, match="state/a is damaged"):
            storage.read_checked_folder(tmp_path / "state")


@pytest.mark.parametrize("damage", ["missing", "cut", "no manifest", "torn manifest"])
def test_a_damaged_folder_is_named(tmp_path, damage):
    folder = tmp_path / "state"
    storage.write_checked_folder(folder, {"a": b"content"}, {})
    manifest = folder / storage.MANIFEST
    if damage == "missing":
        (folder / "a").unlink()
    elif damage == "cut":
        (folder / "a").write_bytes(b"cont")
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_bytes(manifest.read_bytes()[:-5])
    with pytest.raises(InputError) as error:
        storage.read_checked_folder(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_full_disk_leaves_the_old_file_and_one_line(tmp_path, monkeypatch):
    """Guard 12."""
    path = tmp_path / "file.json"
    storage.write_json(path, {"old": True})
    monkeypatch.setattr(os, "fsync", _disk_full)
    with pytest.raises(StorageError, match=r"cannot write .*file\.json: No space left on device"):
        storage.write_json(path, {"new": True})
    with pytest.raises(StorageError, match=r"cannot write .*state"):
        storage.write_checked_folder(tmp_path / "state", {"a": b"1"}, {})
    assert json.loads(path.read_text()) == {"old": True}
    assert [found.name for found in tmp_path.iterdir()] == ["file.json"]


def _disk_full(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_rows_cut_at_every_byte_lose_at_most_the_torn_row(tmp_path):
    """Guard 15."""
    path = tmp_path / "rows.jsonl"
    rows = storage.Rows(path)
    written = [{"step": step, "loss": step / 3} for step in range(5)]
    for row in written:
        rows.add(row)
    rows.close()
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        whole = content[:length].count(b"\n")
        assert storage.read_rows(path) == written[:whole]


def test_a_damaged_row_in_the_middle_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 0}\n{"step"\n{"step": 2}\n')
    with pytest.raises(InputError, match=r"rows.jsonl, line 2 is damaged"):
        storage.read_rows(path)


def test_keep_rows_drops_what_comes_later_and_the_torn_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 0}\n{"step": 1}\n{"step": 2}\n{"ste')
    storage.keep_rows(path, "step", range(2))
    assert path.read_text() == '{"step": 0}\n{"step": 1}\n'


@pytest.mark.parametrize("damage", ["{", "[]", "null", "{}", '{"step": "2"}', "\udcff"])
def test_a_damaged_row_matters_only_among_those_that_are_kept(tmp_path, damage):
    path = tmp_path / "rows.jsonl"
    content = '{"step": 0}\n{"step": 1}\n' + damage + '\n{"step": 3}\n'
    for kept in range(5):
        path.write_text(content, errors="surrogateescape")
        if kept <= 2:
            storage.keep_rows(path, "step", range(kept))
            assert path.read_text() == "".join(f'{{"step": {step}}}\n' for step in range(kept))
        else:
            with pytest.raises(InputError, match=r"rows.jsonl, line 3 is damaged"):
                storage.keep_rows(path, "step", range(kept))
            assert path.read_text(errors="surrogateescape") == content


def _hold(folder, ready, release):
    with storage.locked(folder):
        ready.set()
        release.wait(20)


def test_a_lock_is_held_by_one_process_and_freed_by_its_death(tmp_path):
    """Guards 13 and 14: the kernel releases the lock, also after SIGKILL."""
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release))
    holder.start()
    assert ready.wait(20)
    assert storage.is_locked(tmp_path)
    with pytest.raises(BusyError, match="another process"), storage.locked(tmp_path):
        pass
    holder.kill()
    holder.join()
    assert not storage.is_locked(tmp_path)
    with storage.locked(tmp_path):
        assert storage.is_locked(tmp_path)

"""Files that survive kills and full disks, and tell damage."""

import errno
import fcntl
import json
import multiprocessing
import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from residuum.errors import BusyError, InputError, StorageError
from residuum.records import rows, storage


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
    assert storage.read_json(path) == {"old": True}
    assert [found.name for found in tmp_path.iterdir()] == ["file.json"]


def _disk_full(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")


VALUES = [{"a": 1, "b": [0.1, "x"]}, [{"a": 1}, {"b": None}], [1], {}, []]


@pytest.mark.parametrize("values", VALUES)
def test_json_comes_back_and_is_known_to_carry_a_check(tmp_path, values):
    path = tmp_path / "file.json"
    storage.write_json(path, values)
    assert storage.read_json(path, checked=True) == values
    assert storage.is_sealed(path)
    path.write_text(json.dumps(values, indent=2) + "\n")  # as an earlier version wrote it
    assert not storage.is_sealed(path)
    assert storage.read_json(path) == values
    with pytest.raises(InputError, match="has no check"):
        storage.read_json(path, checked=True)


@pytest.mark.parametrize("values", VALUES[:3])
def test_json_with_any_bit_flipped_or_cut_anywhere_is_damaged_or_says_the_same(tmp_path, values):
    path = tmp_path / "file.json"
    storage.write_json(path, values)
    content = path.read_bytes()
    for damaged in (*_flipped(content), *(content[:length] for length in range(len(content)))):
        path.write_bytes(damaged)
        try:
            assert storage.read_json(path, checked=True) == values, damaged
        except InputError as error:
            assert str(path) in str(error)


def test_tensors_with_any_bit_flipped_or_cut_anywhere_are_damaged_or_say_the_same(tmp_path):
    path = tmp_path / "file.safetensors"
    arrays = {"a": np.arange(3.0), "b": np.array([1, 2], np.uint8)}
    storage.write_tensors(path, safetensors.numpy.save(arrays, {"said": "so"}))
    content = path.read_bytes()
    same, metadata = storage.read_tensors(path, checked=True)
    assert same == content
    assert metadata == {"said": "so"}
    assert {name: array.tolist() for name, array in safetensors.numpy.load(content).items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    harmless = 0
    for damaged in (*_flipped(content), *(content[:length] for length in range(len(content)))):
        path.write_bytes(damaged)
        try:
            read, metadata = storage.read_tensors(path, checked=True)
        except InputError as error:
            assert str(path) in str(error)
            continue
        harmless += 1  # one space of the header is another
        assert metadata == {"said": "so"}
        assert {name: array.tolist() for name, array in safetensors.numpy.load(read).items()} == {
            name: array.tolist() for name, array in arrays.items()
        }
    assert harmless < 0.02 * 8 * len(content)


def test_tensors_of_an_earlier_version_have_no_check(tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(safetensors.numpy.save({"a": np.arange(3.0)}))
    assert storage.read_tensors(path) == (path.read_bytes(), {})
    with pytest.raises(InputError, match="has no check"):
        storage.read_tensors(path, checked=True)


def _flipped(content):
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def test_a_manifest_with_any_bit_flipped_is_damaged(tmp_path):
    """What it says beside the files, as how far a run is, counts as much as they do."""
    storage.write_checked_folder(tmp_path / "state", {"a": b"one"}, {"step": 10, "loss": 0.25})
    path = tmp_path / "state" / storage.MANIFEST
    content = path.read_bytes()
    for damaged in _flipped(content):
        path.write_bytes(damaged)
        try:
            assert storage.read_checked_folder(tmp_path / "state")[1] == {"step": 10, "loss": 0.25}
            assert json.loads(damaged) == json.loads(content), damaged
        except InputError as error:
            assert str(tmp_path / "state") in str(error)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "", ".", "..", "inner/a", "manifest.json"])
def test_a_manifest_names_only_files_beside_it(tmp_path, name):
    (tmp_path / "state").mkdir()
    storage.write_json(tmp_path / "state" / storage.MANIFEST, {"files": {name: "0" * 64}, "values": {}})
    with pytest.raises(InputError, match="no name of a file beside it"):
        storage.read_checked_folder(tmp_path / "state")


@pytest.mark.parametrize("read", [storage.read_json, storage.read_tensors, rows.read_rows])
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "device", "folder"):
        with pytest.raises(InputError, match=f"{name} is not a file"):
            read(tmp_path / name)


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
    who = rf"another process \(process {holder.pid} on {re.escape(socket.gethostname())}, since 20\d\d-.*Z\)$"
    with pytest.raises(BusyError, match=who), storage.locked(tmp_path):
        pass
    holder.kill()
    holder.join()
    assert not storage.is_locked(tmp_path)
    with storage.locked(tmp_path):
        assert storage.is_locked(tmp_path)


def test_who_asks_whether_somebody_is_at_work_keeps_nobody_from_it(tmp_path, monkeypatch):
    """As a page does that shows the runs: it asks by a lock of its own, for a moment."""
    (tmp_path / "lock").touch()
    flock, asking = fcntl.flock, (tmp_path / "lock").open("rb")
    flock(asking, fcntl.LOCK_SH)

    def asked(file, operation):
        try:
            flock(file, operation)
        except BlockingIOError:
            if not asking.closed:
                asking.close()
            raise

    monkeypatch.setattr(fcntl, "flock", asked)
    with storage.locked(tmp_path):
        assert asking.closed


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_is_one_line_where_one_is_needed_and_nothing_elsewhere(
    tmp_path, monkeypatch, number
):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    (tmp_path / "lock").touch()
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError) as refused, storage.locked(tmp_path):
        pass
    assert str(refused.value) == (
        f"cannot lock {tmp_path / 'lock'}: {os.strerror(number)}; it has to lie where files can be locked"
    )
    assert not storage.is_locked(tmp_path)
    with storage.attending(tmp_path):
        assert not storage.is_attended(tmp_path)


def _nothing(path):
    pass


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path), _nothing,
                                 lambda path: path.write_bytes(bytes(range(256)))])  # fmt: skip
def test_nobody_is_known_to_hold_a_lock_that_is_no_file(tmp_path, put):
    put(tmp_path / "lock")
    put(tmp_path / storage.AT_WORK)
    assert not storage.is_locked(tmp_path)
    assert not storage.is_attended(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"7 \x1b[31m 9\n", b"7 host\n", b"1 a b\n" * 1000])
def test_a_lock_says_who_holds_it_only_in_the_words_of_a_holder(tmp_path, content):
    with storage.locked(tmp_path):
        (tmp_path / "lock").write_bytes(content)
        said = "being worked on by another process( .process 7 on .*)?$"
        with pytest.raises(BusyError, match=said) as busy, storage.locked(tmp_path):
            pass
    assert str(busy.value).isprintable()

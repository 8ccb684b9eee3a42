"""The cache: decoded once, later read without the sources, damaged entries made anew, processes side by side."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from residuum.data import cache
from residuum.data.dataset import Dataset, Split
from residuum.errors import InputError, StorageError


class Decoder:
    """Makes a data set of the first byte of a file, and counts how often."""

    def __init__(self, path: Path) -> None:
        self.path, self.calls = path, 0

    def __call__(self) -> Dataset:
        self.calls += 1
        images = np.full((3, 1, 2, 2), self.path.read_bytes()[0], np.uint8)
        split = Split(images, np.array([0, 1, 0]))
        return Dataset.of("tiny", ("a", "b"), split, split)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"A" * 100)
    return path


def get(decoder, settings=None):
    return cache.cached("tiny", settings or {}, {"file": decoder.path}, decoder)


def entries():
    return sorted((cache.folder() / "decoded").iterdir())


def test_the_second_time_reads_neither_the_sources_nor_decodes(source, monkeypatch):
    decoder = Decoder(source)
    first = get(decoder)
    monkeypatch.setattr(cache, "_content", lambda path: pytest.fail("the source was read"))
    second = get(decoder)
    assert decoder.calls == 1
    assert second.fingerprint == first.fingerprint
    assert (second.name, second.classes) == ("tiny", ("a", "b"))
    for split, other in ((first.train, second.train), (first.test, second.test)):
        np.testing.assert_array_equal(split.images_NCHW, other.images_NCHW)
        np.testing.assert_array_equal(split.labels_N, other.labels_N)
        assert other.labels_N.dtype == np.int64


def test_the_key_is_the_content(source, tmp_path):
    decoder = Decoder(source)
    get(decoder)
    os.utime(source, (1, 1))  # touched: read again, but not decoded
    get(decoder)
    moved = Decoder(source.rename(tmp_path / "moved"))
    get(moved)
    assert (decoder.calls, moved.calls, len(entries())) == (1, 0, 1)
    moved.path.write_bytes(b"B" * 100)  # other content of the same size
    assert get(moved).train.images_NCHW.max() == ord("B")
    assert (moved.calls, len(entries())) == (1, 2)


def test_a_change_that_hides_its_time_is_seen(source):
    """Unpacking and copying set mtime back; without ctime, the old images would be trained on."""
    decoder = Decoder(source)
    get(decoder)
    status = source.stat()
    source.write_bytes(b"B" * 100)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert get(decoder).train.images_NCHW.max() == ord("B")


def test_settings_and_versions_have_their_own_entries(source, monkeypatch):
    decoder = Decoder(source)
    get(decoder, {"size": 1})
    get(decoder, {"size": 2})
    monkeypatch.setattr(cache, "DECODING", cache.DECODING + 1)
    get(decoder, {"size": 2})
    assert (decoder.calls, len(entries())) == (3, 3)


@pytest.mark.parametrize("place", [0, 8, 40, 200, -1, -30])
def test_a_flipped_bit_makes_the_entry_anew(source, place):
    """Guard 11, for the cache: bytes that are not those that were written are never used."""
    decoder = Decoder(source)
    first = get(decoder)
    (entry,) = entries()
    good = entry.read_bytes()
    changed = bytearray(good)
    changed[place] ^= 4
    entry.write_bytes(changed)
    assert get(decoder).fingerprint == first.fingerprint
    assert decoder.calls == 2
    assert entry.read_bytes() == good


def test_every_truncation_makes_the_entry_anew(source):
    decoder = Decoder(source)
    get(decoder)
    (entry,) = entries()
    good = entry.read_bytes()
    for calls, end in enumerate(range(0, len(good), 23), start=2):
        entry.write_bytes(good[:end])
        get(decoder)
        assert decoder.calls == calls
        assert entry.read_bytes() == good


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"../../etc/passwd", b"0" * 32])
def test_a_damaged_index_is_made_anew(source, content):
    decoder = Decoder(source)
    get(decoder)
    (index,) = (cache.folder() / "index").iterdir()
    good = index.read_bytes()
    index.write_bytes(content)
    get(decoder)
    assert (decoder.calls, index.read_bytes()) == (1, good)


def test_a_source_that_changes_while_it_is_read_is_refused(source):
    decoder = Decoder(source)

    def decode():
        dataset = decoder()
        source.write_bytes(b"C")
        return dataset

    with pytest.raises(InputError, match="changed while they were being read"):
        cache.cached("tiny", {}, {"file": source}, decode)
    assert not (cache.folder() / "decoded").exists()


def test_nothing_is_kept_of_what_cannot_be_decoded(source):
    def decode():
        raise InputError("damaged")

    with pytest.raises(InputError, match="damaged"):
        cache.cached("tiny", {}, {"file": source}, decode)
    assert not cache.folder().exists()


def test_a_missing_source_is_one_line(source):
    decoder = Decoder(source)
    source.unlink()
    with pytest.raises(InputError, match="source is missing"):
        get(decoder)


def test_a_cache_that_cannot_be_written_is_an_io_error(source):
    cache.folder().write_text("a file where the cache should be")
    with pytest.raises(StorageError, match=r"cannot write .*cache"):
        get(Decoder(source))


def test_images_may_be_written_to_without_harm(source):
    """Torch shares memory of writable arrays only; what is written there must not reach the cache."""
    decoder = Decoder(source)
    for _ in range(3):
        images = get(decoder).train.images_NCHW
        assert images.flags.writeable
        assert images.max() == ord("A")
        images[:] = 0
    assert decoder.calls == 1


PROCESS = """
import sys, numpy as np
from pathlib import Path
from residuum.data import cache
from residuum.data.dataset import Dataset, Split
def decode():
    split = Split(np.arange(2_000_000, dtype=np.uint8).reshape(-1, 1, 10, 10), np.zeros(20_000, np.int64))
    return Dataset.of("tiny", ("a", "b"), split, split)
for round in range(4):
    path = Path(sys.argv[1])
    print(cache.cached("tiny", {"round": round}, {"file": path}, decode).fingerprint)
"""


def test_processes_side_by_side_read_whole_entries(source):
    """Two processes at once both end with the same data, and leave whole entries and nothing else."""
    command = [sys.executable, "-c", PROCESS, str(source)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate()[0].split() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert {len(lines) for lines in said} == {4}
    assert len({line for lines in said for line in lines}) == 1
    assert [path.suffix for path in entries()] == [".safetensors"] * 4


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("RESIDUUM_CACHE", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "mine"
    monkeypatch.delenv("RESIDUUM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache.folder() == Path("/x/residuum")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == tmp_path / ".cache" / "residuum"
    assert cache.downloads("mnist") == tmp_path / ".cache" / "residuum" / "downloads" / "mnist"


def test_a_validation_split_is_kept(source):
    def decode():
        images = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
        first, second = Split(images, np.array([0, 1, 0])), Split(images + 9, np.array([1, 1, 0]))
        return Dataset.of("tiny", ("a", "b"), first, first, second)

    made = cache.cached("tiny", {}, {"file": source}, decode)
    read = cache.cached("tiny", {}, {"file": source}, lambda: pytest.fail("decoded again"))
    assert read.fingerprint == made.fingerprint
    np.testing.assert_array_equal(read.validation.images_NCHW, made.validation.images_NCHW)
    assert read.validation.labels_N.tolist() == [1, 1, 0]

"""In which formats the images of a data set were stored: told by the files, kept in the cache, and in the run's record."""

import json
import random
from io import BytesIO

import duckdb
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from residuum.config import RunConfig
from residuum.data import cache, datasets
from residuum.data.datasets import ENTRIES
from residuum.data.images import FORMATS, encoding_of
from residuum.run import assemble


def encoded(name: str, number: int = 0, side: int = 32) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, format=name)
    return file.getvalue()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_told_by_its_first_bytes(name):
    assert encoding_of(encoded(name)) == name
    assert encoding_of(b"") == encoding_of(b"RIFF\0\0\0\0WAVE") == encoding_of(b"text") == ""


@pytest.mark.parametrize("seed", range(6))
def test_a_folder_has_the_formats_of_its_files_whatever_they_are_called(tmp_path, seed):
    chosen = random.Random(seed)
    names = chosen.sample(sorted(FORMATS), chosen.randint(1, 4))
    for number in range(16):
        # Every fourth file each one of the formats, so that all of them are there.
        name = names[number // 2 % len(names)]
        path = tmp_path / "images" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(name, number))
    first = datasets.load("folder", str(tmp_path / "images"))
    assert first.encodings == tuple(sorted(names))
    again = datasets.load("folder", str(tmp_path / "images"))  # from the cache
    assert (again.encodings, again.fingerprint) == (first.encodings, first.fingerprint)


def parquet(folder, name):
    """CIFAR-10 in Parquet, a few images of one format."""
    folder.mkdir(parents=True)
    for which, count in (("train", 20), ("test", 10)):
        rows = [(encoded(name, number), number % 10) for number in range(count)]
        with duckdb.connect(":memory:") as connection:
            connection.execute("CREATE TABLE t (img STRUCT(bytes BLOB, path VARCHAR), label BIGINT)")
            connection.executemany("INSERT INTO t VALUES ({'bytes': ?, 'path': NULL}, ?)", rows)
            connection.execute(f"COPY t TO '{folder / which}.parquet' (FORMAT parquet)")


@pytest.mark.parametrize("name", ["PNG", "JPEG"])
def test_the_record_of_a_run_says_how_the_images_of_cifar_were_stored(tmp_path, name):
    parquet(tmp_path / "images", name)
    config = RunConfig().changed({"data.dataset": "cifar10", "data.root": str(tmp_path / "images")})
    _, data = assemble.resolve(config)
    assert data.facts.encodings == (name,)
    assert json.loads(json.dumps(data.facts.plain()))["encodings"] == [name]
    other = datasets.load("parquet", str(tmp_path / "images"))
    assert other.encodings == (name,)


def test_what_is_stored_as_numbers_has_no_format():
    for name in ("digits", "synthetic"):
        assert datasets.load(name).encodings == ()
    assert {"digits", "synthetic"} <= {*ENTRIES}


def test_an_entry_of_the_cache_without_encodings_is_made_anew(tmp_path):
    parquet(tmp_path / "images", "JPEG")
    whole = datasets.load("cifar10", str(tmp_path / "images"))
    (entry,) = (tmp_path / "cache" / "decoded").iterdir()
    content = entry.read_bytes()
    head = content.replace(b', \\"encodings\\": [\\"JPEG\\"]', b"")
    size = int.from_bytes(content[:8], "little") - (len(content) - len(head))
    entry.write_bytes(size.to_bytes(8, "little") + head[8:])
    with safe_open(entry, "numpy") as file:  # whole otherwise
        assert "encodings" not in json.loads(file.metadata()["dataset"])
    assert cache._read(entry, "cifar10") is None
    again = datasets.load("cifar10", str(tmp_path / "images"))
    assert (again.encodings, again.fingerprint) == (("JPEG",), whole.fingerprint)
    assert entry.read_bytes() == content

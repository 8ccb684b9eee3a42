"""Tiny CIFAR data in every form that users have, made from the same pixels."""

import gzip
import json
import struct
import tarfile
from io import BytesIO
from pathlib import Path

import duckdb
import numpy as np
from PIL import Image

from residuum.data.datasets import cifar10, cifar100

FILES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


def batches(rows: int = 4, classes: int = 10) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Pixels [rows, 3072] and labels for each file of CIFAR-10."""
    generator = np.random.default_rng(5)
    return {
        name: (
            generator.integers(0, 256, (rows, 3072), dtype=np.uint8),
            generator.integers(0, classes, rows).tolist(),
        )
        for name in FILES
    }


def one_line(error: Exception) -> None:
    """What every error of a user's has to be."""
    assert "\n" not in str(error)
    assert 0 < len(str(error)) < 500


# Instructions of protocol 2 as Python 2's cPickle writes them.
def string(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode("latin-1")
    return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw


def integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    return b"M" + struct.pack("<H", value) if 0 <= value < 65536 else b"J" + struct.pack("<i", value)


def listed(items: list[bytes]) -> bytes:
    return b"]" + b"".join(b"(" + b"".join(items[i : i + 1000]) + b"e" for i in range(0, len(items), 1000))


def array(pixels: np.ndarray, fortran: bool = False, shape: tuple[int, int] | None = None) -> bytes:
    rows, columns = shape or pixels.shape
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x10cnumpy\nndarray\nq\x11K\x00\x85U\x01b\x87Rq\x12(K\x01"
        + integer(rows)
        + integer(columns)
        + b"\x86cnumpy\ndtype\nq\x13U\x02u1K\x00K\x01\x87Rq\x14(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + (b"\x88" if fortran else b"\x89")
        + string(pixels.tobytes("F" if fortran else "C"))
        + b"tb"
    )


def dictionary(items: dict[str, bytes]) -> bytes:
    return b"\x80\x02}q\x01(" + b"".join(string(key) + value for key, value in items.items()) + b"u."


def batch(pixels: np.ndarray, labels: list[int], fortran: bool = False, key: str = "labels") -> bytes:
    return dictionary(
        {
            "batch_label": string("training batch 1 of 5"),
            key: listed([integer(label) for label in labels]),
            "data": array(pixels, fortran),
            "filenames": listed([string(f"image_{i}.png") for i in range(len(labels))]),
        }
    )


def python_files(content: dict) -> dict[str, bytes]:
    names = listed([string(name) for name in cifar10.LAYOUT.classes])
    meta = dictionary({"num_cases_per_batch": integer(4), "label_names": names, "num_vis": integer(3072)})
    return {"batches.meta": meta, **{name: batch(*part) for name, part in content.items()}}


def binary_files(content: dict) -> dict[str, bytes]:
    files = {"batches.meta.txt": "\n".join(cifar10.LAYOUT.classes).encode() + b"\n\n"}
    for name, (pixels, labels) in content.items():
        files[f"{name}.bin"] = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1).tobytes()
    return files


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    return folder


def write_tar(path: Path, folder: str, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode, format=tarfile.USTAR_FORMAT) as archive:
        top = tarfile.TarInfo(folder)
        top.type = tarfile.DIRTYPE
        archive.addfile(top)
        for name, raw in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(raw)
            archive.addfile(member, BytesIO(raw))
    return path


def png(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels.reshape(3, 32, 32).transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path: Path, rows: list[tuple], columns: str = "img, label", names: list[str] | None = None) -> Path:
    """A Parquet file with a column {bytes, path} and columns of integers, with the hub's metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image, *labels = columns.split(", ")
    kinds = ", ".join(f"{label} BIGINT" for label in labels)
    info = json.dumps({"info": {"features": {labels[0]: {"names": names, "_type": "ClassLabel"}}}}).replace("'", "''")
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"CREATE TABLE t ({image} STRUCT(bytes BLOB, path VARCHAR), {kinds})")
        marks = ", ".join("?" for _ in labels)
        for raw, *values in rows:
            connection.execute(f"INSERT INTO t VALUES ({{'bytes': ?::BLOB, 'path': 'x.png'}}, {marks})", [raw, *values])
        metadata = f", KV_METADATA {{huggingface: '{info}'}}" if names is not None else ""
        target = str(path).replace("'", "''")
        connection.execute(f"COPY t TO '{target}' (FORMAT parquet{metadata})")
    return path


def rows_of(content: dict, *names: str) -> list[tuple]:
    return [(png(row), label) for name in names for row, label in zip(content[name][0], content[name][1], strict=True)]


def write_form(form: str, root: Path, content: dict) -> Path:
    """The data in one form under `root`; returns what `data.root` would be."""
    names = list(cifar10.LAYOUT.classes)
    match form:
        case "archive":
            return write_tar(root / "mine.tgz", "cifar-10-batches-py", python_files(content))
        case "plain tar":
            return write_tar(root / "mine.tar", "cifar-10-batches-py", python_files(content), "w")
        case "folder":
            return write_folder(root / "cifar-10-batches-py", python_files(content))
        case "folder above":
            return write_folder(root / "above" / "cifar-10-batches-py", python_files(content)).parent
        case "binary archive":
            return write_tar(root / "binary.tar.gz", "cifar-10-batches-bin", binary_files(content))
        case "binary folder":
            return write_folder(root / "cifar-10-batches-bin", binary_files(content))
        case "archive in a folder":
            write_tar(root / "cifar-10-python.tar.gz", "cifar-10-batches-py", python_files(content))
            return root
        case "parquet":
            write_parquet(root / "p" / "train-00000-of-00001.parquet", rows_of(content, *FILES[:5]), names=names)
            write_parquet(root / "p" / "test-00000-of-00001.parquet", rows_of(content, FILES[5]), names=names)
            return root / "p"
        case "parquet in shards":
            folder = root / "label=3 [x]*'" / "data"
            for number, part in enumerate((FILES[:2], FILES[2:5])):
                path = folder / f"train-{number:05}-of-00002.parquet"
                write_parquet(path, rows_of(content, *part), "image, label")
            write_parquet(folder / "test.parquet", rows_of(content, FILES[5]), "image, label")
            return folder.parent
    raise AssertionError(form)


FORMS = (
    "archive",
    "plain tar",
    "folder",
    "folder above",
    "binary archive",
    "binary folder",
    "archive in a folder",
    "parquet",
    "parquet in shards",
)


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def gzipped(raw: bytes) -> bytes:
    return gzip.compress(raw, mtime=0)


def cifar100_files(rows: int = 3) -> tuple[dict[str, bytes], dict[str, bytes], dict]:
    """CIFAR-100 in the original and the binary form, and (pixels, fine, coarse) by file."""
    generator = np.random.default_rng(6)
    content = {
        name: (
            generator.integers(0, 256, (rows, 3072), dtype=np.uint8),
            generator.integers(20, 100, rows).tolist(),
            generator.integers(0, 20, rows).tolist(),
        )
        for name in ("train", "test")
    }
    fine, coarse = cifar100.layout("fine").classes, cifar100.layout("coarse").classes
    python = {
        "meta": dictionary(
            {
                "fine_label_names": listed([string(name) for name in fine]),
                "coarse_label_names": listed([string(name) for name in coarse]),
            }
        )
    }
    binary = {
        "fine_label_names.txt": "\n".join(fine).encode() + b"\n",
        "coarse_label_names.txt": "\n".join(coarse).encode() + b"\n",
    }
    for name, (pixels, of_class, of_group) in content.items():
        python[name] = dictionary(
            {
                "filenames": listed([string("a.png")] * rows),
                "fine_labels": listed([integer(label) for label in of_class]),
                "coarse_labels": listed([integer(label) for label in of_group]),
                "data": array(pixels),
            }
        )
        labels = np.array([of_group, of_class], np.uint8).T
        binary[f"{name}.bin"] = np.concatenate([labels, pixels], axis=1).tobytes()
    return python, binary, content

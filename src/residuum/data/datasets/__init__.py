"""The table of data sets, the function that loads one, and the one that finds out which lies at a path.

A data set is a file beside this one whose `ENTRY` says all that is known of it; nothing else names it.
"""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from residuum.data.dataset import Dataset, Split
from residuum.data.datasets.objects import as_dataset
from residuum.data.datasets.source import Entry, MissingError, told_instead, told_where
from residuum.data.formats.files import reading
from residuum.errors import InputError
from residuum.members import gathered
from residuum.own import Fit
from residuum.records.storage import expanded, instead_at
from residuum.registry import Choice, Table

ENTRIES: Mapping[str, Entry] = {entry.name: entry for entry in gathered(__name__, "ENTRY").values()}
"""What is known of each data set, by its name."""

DATASETS: Table[Dataset] = Table(
    "data set", {name: entry.load for name, entry in ENTRIES.items()}, Fit(("root",), adapted=as_dataset)
)
"""Data sets: `(root: Path | None) -> Dataset`; without a root, the downloads in the cache or embedded images."""


def load(dataset: Choice | str, root: str = "") -> Dataset:
    """The chosen data set from the file or folder `root`; if empty, from the downloads, or what is embedded.

    Raises:
        MissingError: it is published, and neither among the downloads nor named by a root.
        InputError: unknown name or setting; the files are missing, not whole or damaged.
        StorageError: they cannot be read, or the cache cannot be written.
    """
    entry = ENTRIES.get(Choice.of(dataset).name)
    with told_where(entry.remotes if entry else ()):
        return DATASETS.build(dataset, expanded(root) if root else None)


def stand_in(dataset: Choice | str) -> Dataset:
    """Noise in the number, shape and classes of a published data set: it costs as much as its images, and is not they.

    It has no fingerprint, so that no run of the data set itself can be taken for one of these.

    Raises:
        InputError: the data set is not published with a count.
    """
    choice = DATASETS.resolve(dataset, "data.dataset")
    entry = ENTRIES[choice.name]
    if entry.published is None or entry.shape is None:
        raise InputError(f"{choice.name} has no published number of images that others could stand in for")
    classes = tuple(entry.classes(**choice.settings))
    generator = np.random.default_rng(0)
    train, test = (
        Split(generator.integers(0, 256, (count, *entry.shape), dtype=np.uint8), np.arange(count) % len(classes))
        for count in entry.published
    )
    return Dataset(choice.name, classes, train, test, fingerprint="")


UNREAD = {
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive, which is not read; unpack it",
    b"Rar!\x1a\x07": "a RAR archive, which is not read; unpack it",
    b"BZh": "packed by bzip2, which is not read; unpack it",
    b"\x28\xb5\x2f\xfd": "packed by Zstandard, which is not read; unpack it",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, which is not read; save images and labels as .npz",
    b"\x80": "a pickle that is none of CIFAR's, which is never run; save images and labels as .npz",
    b"ARROW1": "an Arrow file, which is not read; save it as Parquet",
    b"SQLite format 3\0": "an SQLite file, which is not read; save images and labels as Parquet",
}
"""Forms in which images come and that are not read, by how their files begin, and what to do."""
LOOKED_AT = 200
"""Files of a folder that are looked at."""


def _unread(path: Path) -> str:
    """What a file, or the first of a folder that is in such a form, is; empty where none is."""
    files = sorted(islice((one for one in path.iterdir() if one.is_file()), LOOKED_AT)) if path.is_dir() else [path]
    for one in files:
        with reading(one), one.open("rb") as file:
            head = file.read(max(map(len, UNREAD)))
        if said := next((said for begin, said in UNREAD.items() if head.startswith(begin)), ""):
            return f"{one} is {said}"
    return ""


__all__ = ["DATASETS", "ENTRIES", "MissingError", "find", "load", "stand_in"]


def find(path: Path) -> str:
    """The name of the data set that lies at a path, told by content.

    Raises:
        InputError: there is none, or nothing at all.
        StorageError: it cannot be read.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    unsure: InputError | None = None
    with reading(path), told_instead(path):
        for entry in sorted(ENTRIES.values(), key=lambda entry: entry.general):
            if entry.general and unsure:
                break
            try:
                if entry.lies_at(path):
                    return entry.name
            except InputError as error:  # files of its kind, but whose? Another data set may know them
                unsure = unsure or error
    if said := instead_at(path):
        raise InputError(said)
    if said := _unread(path):
        raise unsure or InputError(said)
    known = (
        "CIFAR archives, folders and Parquet, IDX, .npz, .npy, .mat and Parquet files, folders and archives of images"
    )
    raise unsure or InputError(f"{path} holds no data set that is known by its content: {known}")

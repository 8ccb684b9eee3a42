"""Parquet files of your own or of the Hugging Face hub: a column of images, colour or grey, and a column of labels."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from residuum.data.dataset import Dataset, Split
from residuum.data.datasets.source import Entry, Source, TestImages, load_files
from residuum.data.formats import parquet
from residuum.data.formats.label_tables import LABELS
from residuum.data.formats.pixels import classed
from residuum.data.formats.trees import Folder, tree
from residuum.data.layout import beside, brought, split_in
from residuum.data.split import share_said, test_share
from residuum.errors import InputError

MAX_DECODED_BYTES = 8 * 2**30
BRING = "train*.parquet and test*.parquet, with a column of images and one of labels"
IMAGES = ("image", "img", "images", "pixels", "data", "bytes", "content", "x")
"""What a column of images is called, the likeliest first."""

Shards = Mapping[str, Sequence[Path]]


def parquet_files(
    root: Path | None,
    *,
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    split_seed: Annotated[int, Field(ge=0)] = 0,
) -> Dataset:
    """Images of one size in Parquet files, which are called train, test and perhaps validation.

    The column of images holds encoded ones (bytes, or {bytes, path}) or lists of pixels; the column of labels whole
    numbers, whose names stand in the hub's metadata, or names. Where no file is a test split, a stratified share `test`
    of the images, drawn by `split_seed`, is.

    Raises:
        InputError: no such files, columns that cannot be told, images of several sizes, or damage.
        StorageError: they cannot be read, or the cache cannot be written.
    """
    if root is None:
        raise InputError(f"data.root: the data set `parquet` needs {BRING}")
    settings = {"test": test, "split_seed": split_seed}
    return load_files("parquet", root, partial(_locate, share=test, seed=split_seed), BRING, settings)


def recognise(root: Path) -> bool:
    """Whether Parquet files lie at a path."""
    if root.is_file():
        return parquet.is_parquet(root)
    found = tree(root)
    return found is not None and any(True for folder in found.top.walk() for _ in _of(folder))


def images_at(root: Path, _shape: tuple[int, int, int]) -> TestImages | None:
    """The test images among Parquet files, or all images of files that are no split."""
    if not recognise(root):
        return None
    shards = _shards(root)
    which = "test" if "test" in shards else "train"
    if which == "train" and set(shards) != {""}:
        raise InputError(f"{root} has no test*.parquet")
    classes, splits = _decode({"test": shards["test" if which == "test" else ""]})
    return TestImages(classes, splits["test"])


def _locate(root: Path, share: float, seed: int) -> Source | None:
    if not recognise(root):
        return None
    shards = dict(_shards(root))
    if "" in shards and len(shards) > 1:
        raise InputError(f"{shards[''][0]} says by its name neither train nor test, unlike the others")
    shards = {which or "train": paths for which, paths in shards.items()}
    if "train" not in shards:
        raise InputError(f"{root} has no train*.parquet")

    def decode() -> Dataset:
        classes, splits = _decode(shards)
        train = splits["train"]
        if "test" not in splits:
            train_N, test_N = test_share(train.labels_N, share, seed)
            splits["test"] = Split(train.images_NCHW[test_N], train.labels_N[test_N])
            train = Split(train.images_NCHW[train_N], train.labels_N[train_N])
        stored = [path for paths in shards.values() for path in paths]
        encodings = {one for path in stored for one in parquet.encodings(path, _columns(path)[0])}
        return Dataset.of("parquet", classes, train, splits["test"], splits.get("validation"), encodings=encodings)

    paths = {_role(root, path): path for found in shards.values() for path in found}
    drawn = "" if "test" in shards else share_said(share, seed)
    return Source(paths, decode, replace(beside(root, {*paths}, _notes(shards)), drawn=drawn))


def _notes(shards: Shards) -> list[str]:
    if "validation" not in shards:
        return []
    name, images = shards["validation"][0].name, sum(map(parquet.count_rows, shards["validation"]))
    return [brought(name, images)]


def _role(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if root.is_dir() else path.name


def _of(folder: Folder) -> list[str]:
    return [folder.place(name) for name in folder.files if name.lower().endswith(".parquet") and name[0] != "."]


def _shards(root: Path) -> Shards:
    """The files of each split, in the order of their names; under an empty name those that say none.

    Raises:
        InputError: they lie in several places, or some of a numbered row are missing.
    """
    if root.is_file():
        return {"": [root]}
    found = tree(root)
    assert found is not None, "a folder is a tree"
    places: dict[str, dict[str, list[Path]]] = {}
    for folder in found.top.walk():
        for path in _of(folder):
            which = split_in(path.rpartition("/")[2].rpartition(".")[0])
            above = folder.path
            if not which and (which := split_in(folder.name)):
                above = folder.path.rpartition("/")[0]
            places.setdefault(above, {}).setdefault(which, []).append(root / path)
    if len(places) > 1:
        first, second = sorted(places)[:2]
        raise InputError(f"{root} holds Parquet files in {first or '.'} and in {second}; give one of them")
    (shards,) = places.values()
    for paths in shards.values():
        for one in paths:
            match = re.fullmatch(r".*-\d+-of-(\d+)\.parquet", one.name)
            if match and int(match[1]) != len(paths):
                raise InputError(f"{one} is one of {int(match[1])} files, of which {len(paths)} are there")
    # The first file tells the columns and the shape: one of training images, where there is one.
    return {which: sorted(shards[which]) for which in sorted(shards, key=lambda which: (which != "train", which))}


def _decode(shards: Shards) -> tuple[tuple[str, ...], dict[str, Split]]:
    """The classes, and the splits that files hold."""
    first = next(iter(shards.values()))[0]
    image, label = _columns(first)
    shape = parquet.first_shape(first, image)
    rows = {which: [parquet.count_rows(path) for path in paths] for which, paths in shards.items()}
    needed = sum(map(sum, rows.values())) * math.prod(shape)
    if needed > MAX_DECODED_BYTES:
        raise InputError(f"{first.parent}: images of {shape[2]}×{shape[1]} pixels would take {needed / 2**30:.0f} GiB")
    images: dict[str, list[NDArray[np.uint8]]] = {which: [] for which in shards}
    labels: dict[str, NDArray[np.int64] | list[str]] = {}
    for which, paths in shards.items():
        values: list[int | str] = []
        for path, count in zip(paths, rows[which], strict=True):
            if {image, label} - {*parquet.columns(path).types}:
                raise InputError(f"{path} has not the columns {image} and {label} of the other files")
            images_NCHW, found = parquet.read_images(path, image, label, shape, count)
            images[which].append(images_NCHW)
            values += found
        labels[which] = _of_one_kind(values, str(paths[0]))
    given = tuple(normalize("NFC", name) for name in parquet.columns(first).classes.get(label, ()))
    classes, numbers = classed(labels, given, str(first.parent))
    return classes, {which: Split(np.concatenate(images[which]), numbers[which]) for which in shards}


def _of_one_kind(values: Sequence[int | str], place: str) -> NDArray[np.int64] | list[str]:
    numbers, names = [v for v in values if isinstance(v, int)], [v for v in values if isinstance(v, str)]
    if numbers and names:
        raise InputError(f"{place} has labels that are numbers and others that are names")
    if numbers and min(numbers) < 0:
        raise InputError(f"{place} has the label {min(numbers)}, which is no class: are the labels kept back?")
    return names or np.array(numbers, np.int64)


def _columns(path: Path) -> tuple[str, str]:
    """The columns of images and of labels.

    Raises:
        InputError: there is none, or several could be it.
    """
    columns = parquet.columns(path)
    image = _likeliest(columns.image(), IMAGES, path, "images, as bytes, as {bytes, path} or as lists of pixels")
    labels = [name for name in columns.label() if name != image]
    label = _likeliest([name for name in labels if name in columns.classes] or labels, LABELS, path, "labels")
    return image, label


def _likeliest(found: Sequence[str], known: Sequence[str], path: Path, what: str) -> str:
    by_name = {name.lower(): name for name in reversed(found)}
    for name in known:
        if name in by_name:
            return by_name[name]
    if len(found) != 1:
        some = f"several columns that may be {what}: {', '.join(found)}" if found else f"no column of {what}"
        raise InputError(f"{path} has {some}")
    return found[0]


ENTRY = Entry(
    "parquet",
    parquet_files,
    no_download="they are your own; data.root says where they lie",
    lies_at=recognise,
    general=2,
    test_at=images_at,
)

"""Other test sets of the same classes: another data set's, CIFAR-10.1, CIFAR-10-C by corruption, or a part by index."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residuum.data.dataset import Split
from residuum.data.datasets import DATASETS, ENTRIES, arrays, cifar10, cifar100
from residuum.data.datasets.source import TestImages, told_instead
from residuum.data.formats import npy, pixels
from residuum.data.formats.files import ANY, Bounds, is_archive, member_names, read_members, read_whole, reading
from residuum.errors import InputError, quoted, tally, unknown
from residuum.records.storage import expanded, instead_at
from residuum.registry import Choice

SEVERITIES = 5
CORRUPTIONS = frozenset((
    "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "defocus_blur", "glass_blur", "motion_blur",
    "zoom_blur", "gaussian_blur", "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate",
    "jpeg_compression", "spatter", "saturate",
))  # fmt: skip
"""Corruptions of CIFAR-10-C and CIFAR-100-C (Hendrycks and Dietterich, ICLR 2019), as their files are called."""
MAX_INDEX_BYTES = 2**22
ARCHIVE, ARRAY_BYTES = Bounds(64, 4 * 2**30), 256 * 2**20
"""What an archive of corruptions may hold, 20 arrays of 154 MB as published, and an array of it."""


@dataclass(frozen=True, eq=False)
class TestSet:
    """Images to be scored on: what they are called, their classes, and of which corruption and severity they are."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    name: str
    classes: tuple[str, ...]
    split: Split
    corruption: str | None = None
    severity: int | None = None


def test_sets(place: str, shape: tuple[int, int, int], own: Choice) -> Iterator[TestSet]:
    """The test sets at a place: the name of a data set, or a path whose kind is told by its content; read one by one.

    `shape` is that of the images that a network takes, to which files of images are fitted; `own` is the data set that
    the network was trained on, whose settings are those of another copy of it.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = expanded(place)
    if not path.exists():
        if place in DATASETS:
            dataset = DATASETS.build(own if own.name == place else Choice(name=place), None)
            return iter([TestSet(place, dataset.classes, dataset.test)])
        if path.name != place or "." in place:
            raise InputError(f"{place} does not exist")
        raise unknown("data set or path", place, DATASETS)
    with reading(path), told_instead(path):
        if found := _corrupted(path):
            return found
        images = _at(path, shape, own)
    if images is None:
        if said := instead_at(path):
            raise InputError(said)
        packed = path.is_file() and is_archive(path)
        hint = "; arrays in an archive are not read: unpack it" if packed else ""
        raise InputError(f"{path} holds no test images that are known by their content{hint}")
    return iter([TestSet(path.resolve().name, images.classes, images.split)])


test_sets.__test__ = False  # type: ignore[attr-defined]


def _at(path: Path, shape: tuple[int, int, int], own: Choice) -> TestImages | None:
    """The test images of the data set that lies at a path; None if there is none."""
    unsure: InputError | None = None
    for entry in sorted(ENTRIES.values(), key=lambda entry: entry.general):
        if entry.general and unsure:
            break
        try:
            if (found := entry.test_at(path, shape)) is not None:
                return found
            lies_here = not entry.general and entry.lies_at(path)
        except InputError as error:  # files of its kind, but whose? Another data set may know them
            if entry.general:
                raise
            unsure = unsure or error
            continue
        if lies_here:
            dataset = DATASETS.build(own if own.name == entry.name else Choice(name=entry.name), path)
            return TestImages(dataset.classes, dataset.test)
    if unsure:
        raise unsure
    return None


def _corrupted(path: Path) -> Iterator[TestSet] | None:
    """The test sets of a folder of corruptions, of one file of it, or of their archive; None if it is none of these."""
    if path.is_file() and is_archive(path):
        first = list(islice(member_names(path, ANY), 3))
        return _in_archive(path) if any(_corruption(name) for name in first) else None
    folder = path if path.is_dir() else path.parent
    labels_path = folder / "labels.npy"
    names = [
        one.stem for one in sorted([path] if path.is_file() else folder.glob("*.npy"))
        if _corruption(one.name) and npy.is_npy(one)
    ]  # fmt: skip
    if not names:
        return None
    if not labels_path.is_file():
        raise InputError(f"{labels_path} is missing, the labels of {names[0]}.npy")
    found = ((name, npy.read_npy(folder / f"{name}.npy"), str(folder / f"{name}.npy")) for name in names)
    return _of_corruptions(folder.name, found, npy.read_npy(labels_path), str(labels_path))


def _corruption(file: str) -> str:
    """The corruption whose images a file holds, by its name; empty if none."""
    stem = file.rpartition("/")[2].removesuffix(".npy")
    return stem if file.endswith(".npy") and stem in CORRUPTIONS else ""


def _in_archive(path: Path) -> Iterator[TestSet]:
    """The test sets of CIFAR-10-C or CIFAR-100-C in its archive as published, in the order there."""
    names = list(member_names(path, ARCHIVE))
    labels = next((name for name in names if name.rpartition("/")[2] == "labels.npy"), None)
    if labels is None:
        raise InputError(f"{path} has no labels.npy")
    ((_, content),) = read_members(path, {labels: ARRAY_BYTES}, ARCHIVE)
    limits = {name: ARRAY_BYTES for name in names if _corruption(name)}
    found = (
        (_corruption(name), npy.parsed(content, f"{path}: {name}"), f"{path}: {name}")
        for name, content in read_members(path, limits, ARCHIVE)
    )
    called = labels.rpartition("/")[0].rpartition("/")[2] or path.name
    return _of_corruptions(called, found, npy.parsed(content, f"{path}: {labels}"), f"{path}: {labels}")


def _of_corruptions(
    called: str, found: Iterable[tuple[str, NDArray[Any], str]], labels: NDArray[Any], labels_place: str
) -> Iterator[TestSet]:
    """Of each corruption the images of each severity, in which the labels come again; or all, where they do not.

    `found` are names of corruptions with their images, and where these lie.
    """
    labels_N = pixels.labels_of(labels, labels_place)
    if isinstance(labels_N, list):
        raise InputError(f"{labels_place} holds names; numbers are expected")
    classes = cifar10.LAYOUT.classes if labels_N.max(initial=0) < 10 else cifar100.layout("fine").classes
    part, rest = divmod(len(labels_N), SEVERITIES)
    again = not rest and bool(part) and bool((labels_N.reshape(SEVERITIES, part) == labels_N[:part]).all())
    for name, values, place in found:
        if len(values) != len(labels_N):
            raise InputError(f"{place} has {tally(len(values), 'image')} for {tally(len(labels_N), 'label')}")
        if not again:
            yield TestSet(f"{called}: {name}", classes, Split(pixels.images_of(values, place), labels_N), name)
            continue
        for severity in range(1, SEVERITIES + 1):
            of_it = slice((severity - 1) * part, severity * part)
            images_NCHW = pixels.images_of(values[of_it], place)
            title = f"{called}: {name}, severity {severity}"
            yield TestSet(title, classes, Split(images_NCHW, labels_N[:part]), name, severity)


def is_index(path: Path) -> bool:
    """Whether a file may hold positions of images: numbers in text (.txt, .csv), a list (.json) or an array (.npy)."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".npy" and npy.is_npy(path):
        values = npy.read_npy(path)
        return values.ndim == 1 and values.dtype.kind in "ui" and not arrays.kind_of(path.stem)[0]
    return path.suffix.lower() in (".txt", ".csv", ".tsv", ".json")


def read_index(path: Path, count: int) -> NDArray[np.int64]:
    """The positions that a file names, sorted, among `count` images, numbered from 0.

    Raises:
        InputError: it holds something else, or a position that is not there, twice or not at all.
    """
    values = npy.read_npy(path).tolist() if path.suffix.lower() == ".npy" else _numbers_in(path)
    if not isinstance(values, list) or not values or any(type(value) is not int for value in values):
        raise InputError(f"{path} holds no list of whole numbers, the positions of images from 0 on")
    for value in (min(values), max(values)):
        if not 0 <= value < count:
            raise InputError(f"{path} names image {value}; there are images 0 to {count - 1:,}")
    found_N = np.unique(np.array(values, np.int64))
    if len(found_N) != len(values):
        raise InputError(f"{path} names {tally(len(values) - len(found_N), 'image')} twice")
    return found_N


def _numbers_in(path: Path) -> Any:
    """The numbers in a file of text."""
    try:
        text = read_whole(path, MAX_INDEX_BYTES).decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            return json.loads(text)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    words = re.split(r"[\s,;]+", text.strip())
    if words and re.fullmatch(r"[A-Za-z_]+", words[0]):  # the heading of a single column
        words = words[1:]
    if not all(re.fullmatch(r"\d{1,9}", word) for word in words):
        wrong = next(word for word in words if not re.fullmatch(r"\d{1,9}", word))
        raise InputError(
            f"{path} holds {quoted(wrong[:40])}; a whole number a line is expected, the position of an image"
        )
    return [int(word) for word in words]

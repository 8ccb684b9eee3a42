"""The forms in which CIFAR-10 and CIFAR-100 are found: original and binary version, packed or not, and Parquet.

Formats: https://www.cs.toronto.edu/~kriz/cifar.html (Krizhevsky, Learning Multiple Layers of Features from Tiny
Images, 2009). All forms of the same images give the same data set. How many images a file holds is taken from the
file, so reduced versions in the same layout are read as well.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residuum.data import class_names
from residuum.data.dataset import Dataset, Split
from residuum.data.datasets.source import Source, TestImages
from residuum.data.formats import files, parquet
from residuum.data.formats.pickled import read_pickled
from residuum.errors import InputError, quoted

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
META_BYTES = 2**16
PICKLE_MAGIC = b"\x80"
PLACES = ("https://www.cs.toronto.edu/~kriz", "https://dataset.bj.bcebos.com/cifar")
"""Where the archives are published."""

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class Layout:
    """What tells CIFAR-10 and CIFAR-100 apart.

    `rows` is the most images that a file of the original holds; `train` and `test` are the names of these files. A
    record of the binary version begins with `binary_labels` bytes, of which `label_byte` is the label. `columns` are
    the names that a column of labels has in Parquet.
    """

    name: str
    classes: tuple[str, ...]
    rows: int
    train: tuple[str, ...]
    test: str
    python_folder: str
    python_meta: str
    python_label: str
    python_classes: str
    binary_folder: str
    binary_meta: str
    binary_labels: int
    label_byte: int
    columns: tuple[str, ...]

    @property
    def archives(self) -> tuple[str, str]:
        """The names under which the archives are published."""
        stem = self.name.replace("cifar", "cifar-")
        return f"{stem}-python.tar.gz", f"{stem}-binary.tar.gz"

    @property
    def bring(self) -> str:
        """Which files hold the data set, in words."""
        return (
            f"{' or '.join(self.archives)}, the folder {self.python_folder} or {self.binary_folder}, "
            "or train*.parquet and test*.parquet"
        )


@dataclass(frozen=True)
class _Version:
    """The original or the binary version: names of its files, how one is parsed, and where the classes are named."""

    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    bytes_each: int
    parse: Callable[[bytes, str], Part]
    classes: Callable[[bytes, str], Any]

    def limits(self, layout: Layout) -> dict[str, int]:
        """How large each file may be; a pickle holds a file name of up to 64 bytes an image, and a few keys."""
        batches = dict.fromkeys((*self.train, self.test), layout.rows * self.bytes_each + 4096)
        return {**batches, self.meta: META_BYTES}


def _versions(layout: Layout) -> tuple[_Version, _Version]:
    python = _Version(
        folder=layout.python_folder,
        train=layout.train,
        test=layout.test,
        meta=layout.python_meta,
        bytes_each=PIXELS + 64,
        parse=partial(_parse_python, layout),
        classes=lambda content, place: read_pickled(content, place).get(layout.python_classes),
    )
    binary = _Version(
        folder=layout.binary_folder,
        train=tuple(f"{name}.bin" for name in layout.train),
        test=f"{layout.test}.bin",
        meta=layout.binary_meta,
        bytes_each=PIXELS + layout.binary_labels,
        parse=partial(_parse_binary, layout),
        classes=lambda content, _place: content.decode("ascii", "replace").split(),
    )
    return python, binary


def locate(layout: Layout, root: Path) -> Source | None:
    """The data set at `root`, in whichever form it lies there: a file, or a folder that holds one of the forms."""
    if root.is_file():
        return _locate_file(layout, root)
    for version in _versions(layout):
        for folder in (root, root / version.folder):
            if any(_is_batch(folder / name) for name in (version.test, version.train[0])):
                return _loose(layout, version, folder)
    for name in layout.archives:
        if (root / name).is_file():
            return _locate_file(layout, root / name)
    return _locate_parquet(layout, root)


def _is_batch(path: Path) -> bool:
    """Whether a file is there that can be one of the data set: what is called `train` or `test` may be anything."""
    return path.is_file() and (path.name not in ("train", "test") or files.first_bytes(path, 1) == PICKLE_MAGIC)


def _locate_file(layout: Layout, path: Path) -> Source | None:
    if files.is_archive(path):
        # The first few names tell; without a bound, an archive of another kind would be decompressed to its end.
        names = list(islice(files.member_names(path, files.ANY), 3))
        for version in _versions(layout):
            if (prefix := _prefix(version, names)) is not None:
                return Source({"archive": path}, partial(_decode_archive, layout, version, prefix, path))
        return None
    if parquet.is_parquet(path) and _label_column(layout, path):
        raise InputError(f"{path} is one split; give the folder that holds train*.parquet and test*.parquet")
    return None


def _prefix(version: _Version, names: Iterable[str]) -> str | None:
    """The folder in an archive that holds the files of a version, also under another name; None if none does."""
    for name in names:
        folder, slash, file = name.rpartition("/")
        if folder == version.folder or file in (*version.train, version.test):
            return folder + slash
    return None


def _loose(layout: Layout, version: _Version, folder: Path) -> Source:
    for name in (*version.train, version.test):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing")
    paths = {name: folder / name for name in version.limits(layout) if (folder / name).is_file()}

    def decode() -> Dataset:
        limits = version.limits(layout)
        return _assemble(
            layout, version, str(folder), ((name, files.read_whole(path, limits[name])) for name, path in paths.items())
        )

    return Source(paths, decode)


def _decode_archive(layout: Layout, version: _Version, prefix: str, path: Path) -> Dataset:
    limits = {prefix + name: limit for name, limit in version.limits(layout).items()}
    members = ((name.removeprefix(prefix), content) for name, content in files.read_members(path, limits))
    return _assemble(layout, version, str(path), members)


def _assemble(layout: Layout, version: _Version, place: str, contents: Iterable[tuple[str, bytes]]) -> Dataset:
    """The data set in the files of a version, which may come in any order."""
    parts: dict[str, Part] = {}
    for name, content in contents:
        if name == version.meta:
            _check_classes(layout, version.classes(content, f"{place}: {name}"), f"{place}: {name}")
        else:
            parts[name] = version.parse(content, f"{place}: {name}")
    for name in (*version.train, version.test):
        if name not in parts:
            raise InputError(f"{place} has no {name}")
    return _dataset(layout, [parts[name] for name in version.train], [parts[version.test]])


def _dataset(layout: Layout, train: list[Part], test: list[Part]) -> Dataset:
    return Dataset.of(layout.name, layout.classes, _dataset_split(train), _dataset_split(test))


def _dataset_split(parts: list[Part]) -> Split:
    return Split(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _parse_python(layout: Layout, content: bytes, place: str) -> Part:
    batch = read_pickled(content, place)
    pixels, labels = batch.get("data"), batch.get(layout.python_label)
    if not isinstance(pixels, np.ndarray) or pixels.shape[1] != PIXELS or len(pixels) > layout.rows:
        raise InputError(f"{place} has no array 'data' of at most {layout.rows:,} images of {PIXELS} bytes")
    if type(labels) is not list or len(labels) != len(pixels) or any(type(label) is not int for label in labels):
        raise InputError(f"{place} has no list {quoted(layout.python_label)} of {len(pixels)} integers")
    return pixels.reshape(-1, *SHAPE), _labels(layout, np.array(labels, np.int64), place)


def _parse_binary(layout: Layout, content: bytes, place: str) -> Part:
    record = layout.binary_labels + PIXELS
    if not content or len(content) % record:
        raise InputError(f"{place} has {len(content):,} bytes, which are not whole records of {record}")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    images_NCHW = records[:, layout.binary_labels :].reshape(-1, *SHAPE)
    return images_NCHW, _labels(layout, records[:, layout.label_byte].astype(np.int64), place)


def _labels(layout: Layout, labels_N: NDArray[np.int64], place: str) -> NDArray[np.int64]:
    wrong = labels_N[(labels_N < 0) | (labels_N >= len(layout.classes))]
    if len(wrong):
        raise InputError(f"{place} has the label {wrong[0]}; there are {len(layout.classes)} classes")
    return labels_N


def _check_classes(layout: Layout, names: Any, place: str) -> None:
    """Refuse labels that mean something else than in the published data: names would go wrong silently."""
    same = type(names) in (list, tuple) and all(type(name) is str for name in names)
    if not same or class_names.places(names, layout.classes) != [*range(len(layout.classes))]:
        raise InputError(f"{place} does not name the {len(layout.classes)} classes of {layout.name} in their order")


def _locate_parquet(layout: Layout, root: Path) -> Source | None:
    """Parquet files in `root`, or else in the one folder in it that has some (`data`, `plain_text` …)."""
    inner = sorted(path for path in root.iterdir() if path.is_dir())
    folders = [root] if _shards(layout, root) else [folder for folder in inner if _shards(layout, folder)]
    if not folders:
        return None
    if len(folders) > 1:
        raise InputError(f"{root} holds Parquet files in {folders[0].name} and in {folders[1].name}; give one of them")
    found = _shards(layout, folders[0])
    for which in ("train", "test"):
        if which not in found:
            raise InputError(f"{folders[0]} has no {which}*.parquet")
        _check_shards(found[which])
    sources = {path.name: path for paths in found.values() for path in paths}
    return Source(sources, partial(_decode_parquet, layout, found))


def _shards(layout: Layout, folder: Path) -> dict[str, list[Path]]:
    """The Parquet files of each split that is there, in the order of their names; none if they are of another kind."""
    found = {which: paths for which in ("train", "test") if (paths := sorted(folder.glob(f"{which}*.parquet")))}
    first = next(iter(found.values()), [])
    return found if first and _label_column(layout, first[0]) else {}


def _label_column(layout: Layout, path: Path) -> tuple[str, str, list[int]] | None:
    """The columns of images and labels in a Parquet file, and what number of a class each label means.

    None if it lacks them or names other classes.
    """
    columns = parquet.columns(path)
    image = next((name for name in ("img", "image") if name in columns.image()), None)
    label = next((name for name in layout.columns if name in columns.label()), None)
    if image is None or label is None:
        return None
    numbers = class_names.places(columns.classes.get(label, layout.classes), layout.classes)
    if numbers is None or (columns.is_text(label) and not _are_classes(layout, parquet.texts(path, label))):
        return None
    return image, label, numbers


def _are_classes(layout: Layout, names: Iterable[str]) -> bool:
    return {class_names.usual(name) for name in names} <= {class_names.usual(name) for name in layout.classes}


def images_at(layout: Layout, root: Path, _shape: tuple[int, int, int]) -> TestImages | None:
    """The test images in a Parquet file of its own, or in a folder that has no file of training images."""
    if root.is_dir():
        found = _shards(layout, root)
        paths = found.get("test", []) if "train" not in found else []
    else:
        paths = [root] if parquet.is_parquet(root) and _label_column(layout, root) else []
    if not paths or not looks_like_it(layout, root):
        return None
    return TestImages(layout.classes, _dataset_split(_read_shards(layout, paths)))


def looks_like_it(layout: Layout, root: Path) -> bool:
    """Whether what `locate` takes for the data set has its images: colours, 32×32 pixels. Only Parquet leaves doubt."""
    folders = [root, *(path for path in sorted(root.iterdir()) if path.is_dir())] if root.is_dir() else []
    shards = next((found for folder in folders if (found := _shards(layout, folder))), {})
    first = next(iter(shards.values()), [root] if root.is_file() and parquet.is_parquet(root) else [])
    if not first or (columns := _label_column(layout, first[0])) is None:
        return True
    try:
        return parquet.first_shape(first[0], columns[0]) == SHAPE
    except InputError:
        return True  # loading says what is wrong


def _check_shards(paths: list[Path]) -> None:
    """Refuse a split of which a file is missing, where the names of the files say how many there are."""
    for path in paths:
        match = re.fullmatch(r".*-\d+-of-(\d+)\.parquet", path.name)
        if match and int(match[1]) != len(paths):
            raise InputError(f"{path} is one of {int(match[1])} files, of which {len(paths)} are there")


def _of_parquet(layout: Layout, labels: list[int] | list[str], numbers: list[int], place: str) -> NDArray[np.int64]:
    """The labels of a column, which are numbers in its own order of the classes, or their names."""
    known = {class_names.usual(name): number for number, name in enumerate(layout.classes)}
    found = []
    for label in labels:
        if isinstance(label, str):
            if class_names.usual(label) not in known:
                raise InputError(f"{place} has the label {quoted(label)}, which is no class of {layout.name}")
            found.append(known[class_names.usual(label)])
        else:
            found.append(numbers[label] if 0 <= label < len(numbers) else label)
    return _labels(layout, np.array(found, np.int64), place)


def _decode_parquet(layout: Layout, found: Mapping[str, list[Path]]) -> Dataset:
    dataset = _dataset(layout, _read_shards(layout, found["train"]), _read_shards(layout, found["test"]))
    stored = [(path, _label_column(layout, path)) for paths in found.values() for path in paths]
    encodings = {one for path, known in stored if known for one in parquet.encodings(path, known[0])}
    return replace(dataset, encodings=tuple(sorted(encodings)))


def _read_shards(layout: Layout, paths: Iterable[Path]) -> list[Part]:
    parts = []
    for path in paths:
        columns = _label_column(layout, path)
        if columns is None:
            raise InputError(f"{path} has not the columns of the other files")
        image, label, numbers = columns
        images_NCHW, labels = parquet.read_images(path, image, label, SHAPE, layout.rows * len(layout.train))
        parts.append((images_NCHW, _of_parquet(layout, labels, numbers, str(path))))
    return parts

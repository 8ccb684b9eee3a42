"""Images in NumPy's files: a `.npz` with x_train, y_train …, or `.npy` files of such names; or one pair of them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from unicodedata import normalize

from numpy.typing import NDArray
from pydantic import Field

from residuum.data.dataset import Dataset, Reading, Split
from residuum.data.datasets import cifar10
from residuum.data.datasets.source import Entry, Source, TestImages, load_files
from residuum.data.formats import npy, pixels
from residuum.data.formats.files import read_whole
from residuum.data.layout import WORD, beside, brought, split_in, words_of
from residuum.data.split import share_said, test_share
from residuum.errors import InputError, Remedy, tally

BRING = (
    "a .npz file with x_train, y_train, x_test and y_test (or train_images …, or images and labels), or .npy files of "
    "these names"
)
KINDS = {
    **dict.fromkeys(("x", "images", "image", "img", "imgs", "data", "pixels", "features"), "images"),
    **dict.fromkeys(("y", "labels", "label", "targets", "target"), "labels"),
    **dict.fromkeys(("classes", "names"), "names"),
}
"""What a word in the name of an array says that it holds."""
NAMES_FILES = ("classes.txt", "class_names.txt")
MAX_NAMES_BYTES = 2**20
TEST_ONLY = {re.compile(r"cifar10\.1_v\d+"): ("CIFAR-10.1", cifar10.LAYOUT.classes)}
"""Published pairs that are test sets of another data set, by their names: what they are called, and their classes."""


@dataclass(frozen=True)
class Arrays:
    """Arrays by their names, read on demand, and the files that hold them."""

    root: Path
    names: tuple[str, ...]
    get: Callable[[str], NDArray[Any]]
    files: Mapping[str, Path]
    classes_file: Path | None = None


@dataclass(frozen=True)
class Pair:
    """The names of an array of images and of its labels; `of` is what both are called beside that."""

    images: str
    labels: str
    of: str


def arrays(
    root: Path | None,
    *,
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    split_seed: Annotated[int, Field(ge=0)] = 0,
) -> Dataset:
    """Images of 1 or 3 channels in arrays of whole numbers from 0 to 255, or from 0 to 1, and their labels.

    Names of classes stand in an array `class_names` or in a file `classes.txt` beside them, a line each; without them,
    a class is called by its number. Where there is only one pair, a stratified share `test` of it, drawn by
    `split_seed`, is the test split. Nothing is ever unpickled.

    Raises:
        InputError: no such arrays, several that could be meant, or other shapes and values.
        StorageError: they cannot be read, or the cache cannot be written.
    """
    if root is None:
        raise InputError(f"data.root: the data set `arrays` needs {BRING}")
    settings = {"test": test, "split_seed": split_seed}
    return load_files("arrays", root, partial(_locate, share=test, seed=split_seed), BRING, settings)


def recognise(root: Path) -> bool:
    """Whether arrays of images and labels lie at a path, by their names."""
    found = arrays_at(root)
    return found is not None and bool(_pairs(found)[0])


def arrays_at(root: Path) -> Arrays | None:
    """The arrays at a path: those of a `.npz` file, a `.npy` file with those beside it, or those of a folder."""
    if root.is_dir():
        zipped = sorted(path for path in root.glob("*.npz") if npy.names_in(path))
        loose = sorted(path for path in root.glob("*.npy") if not path.name.startswith(".") and npy.is_npy(path))
        if len(zipped) == 1 and not loose:
            return arrays_at(zipped[0])
        return _loose(root, loose) if loose else None
    if npy.is_npy(root):
        return _loose(root, sorted(path for path in root.parent.glob("*.npy") if npy.is_npy(path)))
    names = npy.names_in(root)
    if not names:
        return None
    return Arrays(root, names, partial(npy.read_npz, root), {"archive": root}, _names_file(root.parent))


def _loose(root: Path, paths: list[Path]) -> Arrays:
    by_name = {path.name.removesuffix(".npy"): path for path in paths}
    folder = root if root.is_dir() else root.parent
    return Arrays(root, tuple(by_name), lambda name: npy.read_npy(by_name[name]), by_name, _names_file(folder))


def _names_file(folder: Path) -> Path | None:
    return next((folder / name for name in NAMES_FILES if (folder / name).is_file()), None)


def _pairs(found: Arrays) -> tuple[dict[str, Pair], str]:
    """The pairs of arrays by split, under an empty name one that says none; and the array of names, if there is one.

    Raises:
        InputError: two pairs could be meant.
    """
    sorted_: dict[str, dict[str, str]] = {"images": {}, "labels": {}, "names": {}}
    for name in found.names:
        kind, of = kind_of(name)
        if kind:
            if of in sorted_[kind]:
                raise InputError(f"{found.root} has two arrays that may be {kind}: {sorted_[kind][of]} and {name}")
            sorted_[kind][of] = name
    images, labels = sorted_["images"], sorted_["labels"]
    pairs = [Pair(images[of], labels[of], of) for of in images if of in labels]
    if not pairs and len(found.names) == 2:
        pairs = _by_shape(found)
    if found.root.is_file() and npy.is_npy(found.root):
        asked = found.root.name.removesuffix(".npy")
        pairs = [pair for pair in pairs if asked in (pair.images, pair.labels)]
    by_split: dict[str, Pair] = {}
    for pair in pairs:
        which = split_in(pair.of)
        if which in by_split:
            raise InputError(f"{found.root} has several pairs of images and labels: {by_split[which].images} and "
                             f"{pair.images}; give one of the files")  # fmt: skip
        by_split[which] = pair
    return by_split, next(iter(sorted_["names"].values()), "")


def kind_of(name: str) -> tuple[str, str]:
    """What an array of that name holds, and what else its name says: ("images", "train") of x_train."""
    words = words_of(name)
    kinds = {word: KINDS[word] for word in words if word in KINDS}
    if "names" in kinds.values():
        return "names", ""
    if len(kinds) > 1 and "data" in kinds:
        del kinds["data"]
    if len({*kinds.values()}) != 1:
        return "", ""
    rest = WORD.sub(lambda word: "" if word[0].lower() in kinds else word[0], name)
    return next(iter(kinds.values())), re.sub(r"[^a-z0-9.]+", "_", rest.lower()).strip("_")


def _by_shape(found: Arrays) -> list[Pair]:
    """Of two arrays without telling names, as arr_0 and arr_1: images, and a label for each."""
    one, two = ((name, found.get(name).shape) for name in found.names)
    for (images, shape), (labels, lengths) in ((one, two), (two, one)):
        if len(shape) > 2 and len(lengths) in (1, 2) and shape[0] == lengths[0] > 1:
            return [Pair(images, labels, "")]
    return []


def _locate(root: Path, share: float, seed: int) -> Source | None:
    found = arrays_at(root)
    if found is None:
        return None
    pairs, names = _pairs(found)
    if not pairs:
        return None
    for pair in pairs.values():
        if known := _test_only(pair):
            raise InputError(f"{root} is {known[0]}, a test set alone", remedies=[Remedy("score on")])
    if "train" not in pairs and "" not in pairs:
        raise InputError(f"{root} has images of {' and '.join(pairs)}, but none to train on")
    if "" in pairs and len(pairs) > 1:
        raise InputError(f"{root}: {pairs[''].images} says by its name neither train nor test, unlike the others")
    used = {which or "train": pair for which, pair in pairs.items()}

    def decode() -> Dataset:
        classes, splits = _decode(found, used, names)
        train = splits["train"]
        if "test" not in splits:
            train_N, test_N = test_share(train.labels_N, share, seed)
            splits["test"] = Split(train.images_NCHW[test_N], train.labels_N[test_N])
            train = Split(train.images_NCHW[train_N], train.labels_N[train_N])
        return Dataset.of("arrays", classes, train, splits["test"], splits.get("validation"))

    taken = {name for pair in used.values() for name in (pair.images, pair.labels)} | {names}
    files = (
        found.files if "archive" in found.files else {name: found.files[name] for name in found.files if name in taken}
    )
    if found.classes_file is not None and not names:
        files = {**files, "classes": found.classes_file}
    drawn = "" if "test" in used else share_said(share, seed)
    return Source(files, decode, replace(_reading(found, used, taken, files), drawn=drawn))


def _reading(found: Arrays, pairs: Mapping[str, Pair], taken: set[str], files: Mapping[str, Path]) -> Reading:
    """What decides the splits, and the arrays and files that are not used."""
    notes = [
        brought(pair.images, len(found.get(pair.labels))) for which, pair in pairs.items() if which == "validation"
    ]
    if "archive" in found.files:  # the arrays in it, which no walk through folders finds
        others = tuple(name for name in found.names if name not in taken)
        return Reading(tuple(notes), {"arrays": len(others)} if others else {}, others)
    return beside(found.root, {path.name for path in files.values()}, notes)


def _test_only(pair: Pair) -> tuple[str, tuple[str, ...]] | None:
    return next((what for form, what in TEST_ONLY.items() if form.fullmatch(pair.of)), None)


def images_at(root: Path, _shape: tuple[int, int, int]) -> TestImages | None:
    """The test images among arrays, or those of the only pair."""
    found = arrays_at(root)
    if found is None:
        return None
    pairs, names = _pairs(found)
    if not pairs:
        return None
    which = "test" if "test" in pairs else ""
    if which not in pairs:
        raise InputError(f"{root} has no test images")
    classes, splits = _decode(found, {"test": pairs[which]}, names)
    return TestImages(classes, splits["test"])


def _decode(found: Arrays, pairs: Mapping[str, Pair], names: str) -> tuple[tuple[str, ...], dict[str, Split]]:
    """The classes, and the splits that pairs of arrays hold."""
    images, labels = {}, {}
    for which, pair in pairs.items():
        images[which] = pixels.images_of(found.get(pair.images), f"{found.root}: {pair.images}")
        labels[which] = pixels.labels_of(found.get(pair.labels), f"{found.root}: {pair.labels}")
        if len(images[which]) != len(labels[which]):
            count = tally(len(images[which]), "image")
            raise InputError(
                f"{found.root}: {count} ({pair.images}) and {tally(len(labels[which]), 'label')} ({pair.labels})"
            )
    known = next((what for pair in pairs.values() if (what := _test_only(pair))), None)
    given = names_given(found, names) or (known[1] if known else ())
    classes, numbers = pixels.classed(labels, given, str(found.root))
    return classes, {which: Split(images[which], numbers[which]) for which in pairs}


def names_given(found: Arrays, names: str) -> tuple[str, ...]:
    """The names of classes that lie with arrays; empty if there are none.

    Raises:
        InputError: they are no text, or one appears twice.
    """
    if names:
        place, said = f"{found.root}: {names}", pixels.names_of(found.get(names), f"{found.root}: {names}")
    elif found.classes_file is not None:
        place = str(found.classes_file)
        try:
            text = read_whole(found.classes_file, MAX_NAMES_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{place} is not UTF-8") from error
        said = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        return ()
    given = tuple(normalize("NFC", name) for name in said)
    if len(set(given)) != len(given):
        raise InputError(f"{place} names a class twice")
    return given


ENTRY = Entry(
    "arrays",
    arrays,
    no_download="they are your own; data.root says where they lie",
    lies_at=recognise,
    general=2,
    test_at=images_at,
)

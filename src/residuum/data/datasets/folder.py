"""Images of your own: a folder for each class, labels in a table or in names; a folder or an archive of them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from residuum.data.dataset import Dataset, Split
from residuum.data.datasets.source import Entry, Source, TestImages, load_files
from residuum.data.formats.trees import Tree, suffix, tree
from residuum.data.images import FORMATS, decode_fitted, decode_image, encoding_of
from residuum.data.layout import Labelled, understand
from residuum.data.split import share_said, test_share
from residuum.errors import InputError, tally

MAX_DECODED_BYTES = 8 * 2**30
BRING = (
    "train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png, or train/*.png with trainLabels.csv, in a folder, a zip "
    f"or a tar archive ({', '.join(FORMATS)})"
)


def folder(
    root: Path | None,
    *,
    size: Annotated[int, Field(ge=0, le=1024)] = 0,
    channels: Literal[1, 3] = 3,
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    split_seed: Annotated[int, Field(ge=0)] = 0,
) -> Dataset:
    """Image files in folders named by class, classes and files in the order of their names; or with a table of labels.

    With `size`, each image is scaled (bicubic) until it just covers size×size pixels, and its middle is taken; without,
    all images have to be of one size. `channels` is 3 for RGB, 1 for grey. A folder `val` is the validation split.
    Where there is one tree instead of `train` and `test`, a stratified share `test` of it, drawn by `split_seed`, is
    the test split. `residuum.data.layout` has the rules.

    Raises:
        InputError: no such folders, images of several sizes without `size`, a damaged image, a class without images.
        StorageError: a file cannot be read, or the cache cannot be written.
    """
    if root is None:
        raise InputError(f"data.root: the data set `folder` needs a folder with {BRING}")

    def locate_here(place: Path) -> Source | None:
        return _locate(place, size, channels, test, split_seed)

    settings = {"size": size, "channels": channels, "test": test, "split_seed": split_seed}
    return load_files("folder", root, locate_here, BRING, settings)


def recognise(root: Path) -> bool:
    """Whether images lie at a path that could be data: in a folder or an archive; not pictures beside data files."""
    found = tree(root)
    return found is not None and _holds_images(found)


def _holds_images(found: Tree) -> bool:
    folders = list(found.top.walk())
    endings = {suffix(name) for folder in folders for name in folder.files}
    # Pictures in one folder, as a preview, are no classes without a table: what lies beside them is meant.
    data = bool(endings & {".npz", ".npy", ".parquet"}) and not endings & {".csv", ".tsv"}
    return sum(bool(folder.images) for folder in folders) > data


def images_at(root: Path, shape: tuple[int, int, int]) -> TestImages | None:
    """The test images in a tree, or all of a tree without splits, in the given shape; None if there is none."""
    found = tree(root)
    if found is None or not _holds_images(found):
        return None
    layout = understand(found, alone=True)
    part = layout.parts["test" if "test" in layout.parts else "train"]
    splits, _ = _decode(found, {"test": part}, shape, fit=True)
    return TestImages(layout.classes, splits["test"], layout.reading)


def _locate(root: Path, size: int, channels: int, test: float, split_seed: int) -> Source | None:
    found = tree(root)
    if found is None or not found.top.below:
        return None
    layout = understand(found)

    def decode() -> Dataset:
        parts = dict(layout.parts)
        if "test" not in parts:
            parts["train"], parts["test"] = _split_tree(parts["train"], test, split_seed)
        shape = _shape(found, parts, size, channels)
        splits, encodings = _decode(found, parts, shape, bool(size))
        return Dataset.of(
            "folder", layout.classes, splits["train"], splits["test"], splits.get("validation"), encodings=encodings
        )

    drawn = "" if "test" in layout.parts else share_said(test, split_seed)
    return Source(found.sources(layout.used), decode, replace(layout.reading, drawn=drawn))


def _split_tree(whole: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    train_N, test_N = test_share(np.array([label for _, label in whole], np.int64), share, seed)
    return [whole[index] for index in train_N], [whole[index] for index in test_N]


def _shape(found: Tree, parts: Mapping[str, Labelled], size: int, channels: int) -> tuple[int, int, int]:
    """The shape of every image: as set, or that of the first; refused if all of them would not fit into memory."""
    height, width = size, size
    if not size:
        height, width = _first_size(found, parts["train"], channels)
    needed = sum(map(len, parts.values())) * channels * height * width
    if needed > MAX_DECODED_BYTES:
        raise InputError(
            f"images of {width}×{height} pixels would take {needed / 2**30:.0f} GiB; set a smaller data.dataset.size"
        )
    return channels, height, width


LOOKED_AT = 100
"""Images that are tried for the size of all of them."""
NAMED = 5
"""Images that cannot be read which a message names; the rest is counted."""


def _first_size(found: Tree, train: Labelled, channels: int) -> tuple[int, int]:
    """Height and width of the first of the training images that can be read: others are told together."""
    for at, (path, _) in enumerate(train):
        ((_, content),) = found.read([path])
        try:
            height, width = decode_image(content, str(found.root / path), channels).shape[1:]
        except InputError:
            if at + 1 == min(len(train), LOOKED_AT):
                raise
            continue
        return height, width
    raise AssertionError("a split has images")


def _decode(
    found: Tree, parts: Mapping[str, Labelled], shape: tuple[int, int, int], fit: bool
) -> tuple[dict[str, Split], set[str]]:
    """The images of each split, read in whichever order they come, and the formats in which they are stored."""
    places = {path: (which, index) for which, part in parts.items() for index, (path, _) in enumerate(part)}
    pixels = {which: np.empty((len(part), *shape), np.uint8) for which, part in parts.items()}
    encodings, problems = set(), list[str]()
    for path, content in found.read(list(places)):
        encodings.add(encoding_of(content))
        place = found.root / path
        try:
            image = decode_fitted(content, str(place), shape)
        except InputError as error:  # the next may be broken too, and all are told at once
            problems.append(error.text)
            continue
        if image.resized and not fit:
            raise InputError(f"{place} is not {shape[2]}×{shape[1]} pixels as the first image; set data.dataset.size")
        which, index = places[path]
        pixels[which][index] = image.pixels_CHW
    if problems:
        more = f"; and {len(problems) - NAMED:,} more" if len(problems) > NAMED else ""
        count = f"{len(problems):,} of {tally(len(places), 'image')} cannot be read: " if len(problems) > 1 else ""
        raise InputError(f"{count}{'; '.join(sorted(problems)[:NAMED])}{more}")
    splits = {
        which: Split(pixels[which], np.array([label for _, label in part], np.int64)) for which, part in parts.items()
    }
    return splits, encodings - {""}


ENTRY = Entry(
    "folder",
    folder,
    no_download="they are your own; data.root says where they lie",
    lies_at=recognise,
    general=1,
    test_at=images_at,
)

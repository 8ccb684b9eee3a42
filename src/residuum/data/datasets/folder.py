"""A folder of image files: one folder for each class, in `train` and `test`, or in one tree that is split."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from residuum.data.dataset import Dataset, Split
from residuum.data.datasets.source import Entry, Source, load_files
from residuum.data.images import decode_fitted, decode_image, read_bytes
from residuum.data.split import split
from residuum.errors import InputError, StorageError
from residuum.streams import stream_seed

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
MAX_DECODED_BYTES = 8 * 2**30
BRING = "train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png (PNG, JPEG, WebP or BMP)"

Labelled = list[tuple[Path, int]]


def folder(
    root: Path | None,
    *,
    size: Annotated[int, Field(ge=0, le=1024)] = 0,
    channels: Literal[1, 3] = 3,
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    split_seed: Annotated[int, Field(ge=0)] = 0,
) -> Dataset:
    """Image files in folders named by class, classes and files in the order of their names.

    With `size`, each image is scaled (bicubic) until it just covers size×size pixels, and its middle is taken; without,
    all images have to be of one size. `channels` is 3 for RGB, 1 for grey. Where there is one tree instead of `train`
    and `test`, a stratified share `test` of it, drawn by `split_seed`, is the test split. Hidden files and those
    with other suffixes than PNG, JPEG, WebP and BMP have are passed over.

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
    """Whether a folder holds folders of images, by the first image found."""
    return root.is_dir() and any(
        any(_images(class_folder)) for tree in (root / "train", root) for class_folder in _folders(tree)
    )


def _locate(root: Path, size: int, channels: int, test: float, split_seed: int) -> Source | None:
    if not recognise(root):
        return None
    two_trees = bool(_folders(root / "train"))  # a folder train that holds images itself is a class of that name
    if two_trees and not (root / "test").is_dir():
        raise InputError(f"{root} has a folder train, but no folder test")
    trees = [root / "train", root / "test"] if two_trees else [root]
    classes = tuple(path.name for path in _folders(trees[0]))
    for path in [path for tree in trees for path in (*_folders(tree), *(tree / name for name in classes))]:
        if path.name not in classes:
            raise InputError(f"{path} is a class that {trees[0]} does not have")
        if not path.is_dir() or not any(_images(path)):
            raise InputError(f"{path} holds no images")
    if len(classes) < 2:
        raise InputError(f"{trees[0]} has only the class {classes[0]!r}; at least 2 are needed")
    labelled: list[Labelled] = [
        [(path, label) for label, name in enumerate(classes) for path in _images(tree / name)] for tree in trees
    ]

    def decode() -> Dataset:
        parts = labelled if two_trees else _split_tree(labelled[0], test, split_seed)
        shape = _shape(parts, size, channels)
        train, held_out = (_decode(part, shape, bool(size)) for part in parts)
        return Dataset.of("folder", classes, train, held_out)

    return Source({path.relative_to(root).as_posix(): path for part in labelled for path, _ in part}, decode)


def _folders(tree: Path) -> list[Path]:
    return [path for path in _listed(tree) if path.is_dir() and not path.name.startswith(".")]


def _images(class_folder: Path) -> Iterator[Path]:
    return (
        path
        for path in _listed(class_folder)
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _listed(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir()) if path.is_dir() else []
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def _split_tree(tree: Labelled, share: float, seed: int) -> list[Labelled]:
    count = round(share * len(tree))
    if not 0 < count < len(tree):
        raise InputError(f"data.dataset.test: {share} of {len(tree)} images leaves a split empty")
    labels_N = np.array([label for _, label in tree], np.int64)
    train_N, test_N = split(labels_N, subset=0, validation=count, seed=stream_seed(seed, "split", "test"))
    return [[tree[index] for index in indices_N] for indices_N in (train_N, test_N)]


def _shape(parts: Sequence[Labelled], size: int, channels: int) -> tuple[int, int, int]:
    """The shape of every image: as set, or that of the first; refused if all of them would not fit into memory."""
    first = parts[0][0][0]
    height, width = (size, size) if size else decode_image(read_bytes(first), str(first), channels).shape[1:]
    needed = sum(map(len, parts)) * channels * height * width
    if needed > MAX_DECODED_BYTES:
        raise InputError(
            f"images of {width}×{height} pixels would take {needed / 2**30:.0f} GiB; set a smaller data.dataset.size"
        )
    return channels, height, width


def _decode(part: Labelled, shape: tuple[int, int, int], fit: bool) -> Split:
    images_NCHW = np.empty((len(part), *shape), np.uint8)
    for index, (path, _) in enumerate(part):
        image = decode_fitted(read_bytes(path), str(path), shape)
        if image.resized and not fit:
            raise InputError(f"{path} is not {shape[2]}×{shape[1]} pixels as the first image; set data.dataset.size")
        images_NCHW[index] = image.pixels_CHW
    return Split(images_NCHW, np.array([label for _, label in part], np.int64))


ENTRY = Entry(
    "folder", folder, no_download="they are your own; data.root says where they lie", lies_at=recognise, general=True
)

"""SVHN: 99,289 cropped digits from house numbers, 32×32 pixels in colour (Netzer et al. 2011), in MATLAB files."""

from functools import partial
from pathlib import Path

import numpy as np

from residuum.data.dataset import Dataset, Split
from residuum.data.datasets.source import Entry, Remote, Source, TestImages, found_by, load_files
from residuum.data.formats.mat import read_mat
from residuum.data.layout import beside
from residuum.errors import InputError

SHAPE = (3, 32, 32)
CLASSES = tuple("0123456789")
MAX_IMAGES = 200_000
PLACE = "http://ufldl.stanford.edu/housenumbers"
"""The only place that publishes them."""
TRAIN, TEST = "train_32x32.mat", "test_32x32.mat"
BRING = f"{TRAIN} and {TEST}"


def svhn(root: Path | None) -> Dataset:
    """SVHN's cropped digits from its two MATLAB files: 73,257 and 26,032 RGB images. The files call the digit 0 ten.

    Raises:
        InputError: it is not there, not whole, or damaged.
        StorageError: it cannot be read, or the cache cannot be written.
    """
    return load_files("svhn", root, locate, BRING)


def locate(root: Path) -> Source | None:
    """The two files at `root`."""
    if not root.is_dir() or not ((root / TRAIN).is_file() or (root / TEST).is_file()):
        return None
    for name in (TRAIN, TEST):
        if not (root / name).is_file():
            raise InputError(f"{root} has no {name}")
    return Source({TRAIN: root / TRAIN, TEST: root / TEST}, partial(_decode, root), beside(root, {TRAIN, TEST}))


def _decode(root: Path) -> Dataset:
    return Dataset.of("svhn", CLASSES, _split(root / TRAIN), _split(root / TEST))


def _split(path: Path) -> Split:
    found = read_mat(path, {"X": (32, 32, 3, MAX_IMAGES), "y": (MAX_IMAGES, 1)})
    pixels, labels = found["X"], found["y"].ravel()
    if pixels.dtype != np.uint8 or pixels.shape[:3] != (32, 32, 3) or pixels.shape[3:] != labels.shape:
        raise InputError(f"{path} has no bytes X [32, 32, 3, N] with N labels y")
    if not np.isin(labels, np.arange(1, 11)).all():
        raise InputError(f"{path} has labels other than 1 to 10")
    return Split(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)), labels.astype(np.int64) % 10)


def images_at(root: Path, _shape: tuple[int, int, int]) -> TestImages | None:
    """The test images, also where their file lies alone."""
    path = root if root.name == TEST else root / TEST
    return TestImages(CLASSES, _split(path)) if path.is_file() else None


ENTRY = Entry(
    "svhn",
    svhn,
    remotes=(
        Remote.at(TRAIN, 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373", PLACE),
        Remote.at(TEST, 64_275_384, "eb5a983be6a315427106f1b164d9cef3", PLACE),
    ),
    published=(73_257, 26_032),
    shape=SHAPE,
    classes=lambda: CLASSES,
    lies_at=found_by(locate),
    test_at=images_at,
)

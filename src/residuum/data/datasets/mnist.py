"""MNIST: 70,000 grey images of handwritten digits, 28×28 pixels (LeCun, Cortes, Burges 1998), in IDX files."""

from functools import partial
from pathlib import Path

import numpy as np

from residuum.data.dataset import Dataset, Split
from residuum.data.datasets.source import Entry, Remote, Source, load_files
from residuum.data.formats.files import first_bytes
from residuum.data.formats.idx import read_idx
from residuum.errors import InputError

SIZE = 28
CLASSES = tuple("0123456789")
MAX_IMAGES = 100_000
PLACES = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
BRING = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, or .gz"

# MNIST and Fashion-MNIST are published under the same names of files; the first training labels tell them apart.
FIRST_LABELS = {"mnist": bytes((5, 0, 4, 1, 9, 2, 1, 3, 1, 4)), "fashion-mnist": bytes((9, 0, 0, 3, 0, 2, 7, 2, 5, 5))}


def mnist(root: Path | None) -> Dataset:
    """MNIST from its four IDX files, plain or gzipped: 60,000 and 10,000 grey images of 28×28 pixels.

    Raises:
        InputError: it is not there, not whole, or damaged.
        StorageError: it cannot be read, or the cache cannot be written.
    """
    locate = partial(locate_idx, "mnist", CLASSES)
    return load_files("mnist", root, locate, BRING)


def recognise(root: Path) -> str | None:
    """Which of MNIST and Fashion-MNIST lies in a folder; None if there are no IDX files.

    Raises:
        InputError: the labels are those of neither.
    """
    paths = _paths(root)
    if "train-labels" not in paths:
        return None
    first = _first_labels(paths["train-labels"])
    for name, labels in FIRST_LABELS.items():
        if first == labels:
            return name
    raise InputError(f"{root} holds IDX files, but is it mnist or fashion-mnist? Set data.dataset and data.root")


def locate_idx(name: str, classes: tuple[str, ...], root: Path) -> Source | None:
    """The four IDX files at `root`, or in the folders in it where other programs put them.

    Raises:
        InputError: one of the four is missing, or the labels are those of the other data set in this format.
    """
    paths = _paths(root)
    if not paths:
        return None
    for role in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        if role not in paths:
            raise InputError(f"{root} has no {_file(role)}, plain or gzipped")
    first = _first_labels(paths["train-labels"])
    for other, labels in FIRST_LABELS.items():
        if other != name and first == labels:
            raise InputError(f"{root} holds {other}, not {name}: its training labels are those of {other}")

    def split(which: str) -> Split:
        images_NHW = read_idx(paths[f"{which}-images"], 3, MAX_IMAGES * SIZE**2)
        labels_N = read_idx(paths[f"{which}-labels"], 1, MAX_IMAGES).astype(np.int64)
        if images_NHW.shape[1:] != (SIZE, SIZE):
            raise InputError(f"{paths[f'{which}-images']} has images of another size than {SIZE}×{SIZE}")
        return Split(images_NHW[:, None], labels_N)

    return Source(paths, lambda: Dataset.of(name, classes, split("train"), split("t10k")))


def _file(role: str) -> str:
    return f"{role}-idx{3 if role.endswith('images') else 1}-ubyte"


def _paths(root: Path) -> dict[str, Path]:
    """The IDX files that are there, by role; in `raw` folders as torchvision makes them, and with a dot in the name."""
    found: dict[str, Path] = {}
    for role in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        names = [name + suffix for name in (_file(role), _file(role).replace("-idx", ".idx")) for suffix in ("", ".gz")]
        for folder in (root, root / "raw", root / "MNIST" / "raw", root / "FashionMNIST" / "raw"):
            path = next((folder / name for name in names if (folder / name).is_file()), None)
            if path is not None:
                found.setdefault(role, path)
    return found


def _first_labels(path: Path) -> bytes:
    return first_bytes(path, 18)[8:]


ENTRY = Entry(
    "mnist",
    mnist,
    remotes=(
        Remote.at("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873", *PLACES),
        Remote.at("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432", *PLACES),
        Remote.at("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3", *PLACES),
        Remote.at("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c", *PLACES),
    ),
    published=(60_000, 10_000),
    shape=(1, SIZE, SIZE),
    classes=lambda: CLASSES,
    lies_at=lambda path: recognise(path) == "mnist",
)

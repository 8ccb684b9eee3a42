"""The table of data sets, the function that loads one, and the one that finds out which lies at a path."""

from pathlib import Path

from residuum.data.dataset import Dataset
from residuum.data.datasets import cifar10, cifar100, digits, fashion_mnist, folder, mnist, synthetic
from residuum.data.formats.files import reading
from residuum.errors import InputError
from residuum.registry import Choice, Table

DATASETS: Table[Dataset] = Table(
    "data set",
    {
        "cifar10": cifar10.cifar10,
        "cifar100": cifar100.cifar100,
        "digits": digits.digits,
        "fashion-mnist": fashion_mnist.fashion_mnist,
        "folder": folder.folder,
        "mnist": mnist.mnist,
        "synthetic": synthetic.synthetic,
    },
)
"""Data sets: `(root: Path | None) -> Dataset`; without a root, the downloads in the cache or embedded images."""


def load(dataset: Choice | str, root: str = "") -> Dataset:
    """The chosen data set from the file or folder `root`; if empty, from the downloads, or what is embedded.

    Raises:
        InputError: unknown name or setting; the files are missing, not whole or damaged.
        StorageError: they cannot be read, or the cache cannot be written.
    """
    return DATASETS.build(dataset, Path(root).expanduser() if root else None)


def find(path: Path) -> str:
    """The name of the data set that lies at a path, told by content.

    Raises:
        InputError: there is none, or nothing at all.
        StorageError: it cannot be read.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    with reading(path):
        for cifar, locate in (("cifar10", cifar10.locate), ("cifar100", cifar100.locate)):
            try:
                if locate(path) is not None:
                    return cifar
            except InputError:  # It lies there, but not whole: loading says what is wrong.
                return cifar
        if (digits_or_clothes := mnist.recognise(path)) is not None:
            return digits_or_clothes
        if folder.recognise(path):
            return "folder"
    known = "CIFAR archives, folders and Parquet, IDX files, folders of images"
    raise InputError(f"{path} holds no data set that is known by its content: {known}")

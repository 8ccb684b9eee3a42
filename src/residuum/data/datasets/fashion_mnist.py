"""Fashion-MNIST: 70,000 grey images of clothes, 28×28 pixels (Xiao, Rasul, Vollgraf 2017), in IDX files."""

from functools import partial
from pathlib import Path

from residuum.data.dataset import Dataset
from residuum.data.datasets.mnist import BRING, locate_idx
from residuum.data.datasets.source import load_files

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def fashion_mnist(root: Path | None) -> Dataset:
    """Fashion-MNIST from its four IDX files, plain or gzipped: 60,000 and 10,000 grey images of 28×28 pixels.

    Raises:
        InputError: it is not there, not whole, or damaged.
        StorageError: it cannot be read, or the cache cannot be written.
    """
    locate = partial(locate_idx, "fashion-mnist", CLASSES)
    return load_files("fashion-mnist", root, locate, BRING)

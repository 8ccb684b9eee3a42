"""Fashion-MNIST: 70,000 grey images of clothes, 28×28 pixels (Xiao, Rasul, Vollgraf 2017), in IDX files."""

from functools import partial
from pathlib import Path

from residuum.data.dataset import Dataset
from residuum.data.datasets.mnist import BRING, SIZE, locate_idx, recognise
from residuum.data.datasets.source import Entry, Remote, load_files

PLACES = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
)
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


ENTRY = Entry(
    "fashion-mnist",
    fashion_mnist,
    remotes=(
        Remote.at("train-images-idx3-ubyte.gz", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d", *PLACES),
        Remote.at("train-labels-idx1-ubyte.gz", 29_515, "25c81989df183df01b3e8a0aad5dffbe", *PLACES),
        Remote.at("t10k-images-idx3-ubyte.gz", 4_422_102, "bef4ecab320f06d8554ea6380940ec79", *PLACES),
        Remote.at("t10k-labels-idx1-ubyte.gz", 5_148, "bb300cfdad3c16e7a12a480ee83cd310", *PLACES),
    ),
    published=(60_000, 10_000),
    shape=(1, SIZE, SIZE),
    classes=lambda: CLASSES,
    lies_at=lambda path: recognise(path) == "fashion-mnist",
)

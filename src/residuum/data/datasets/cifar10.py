"""CIFAR-10: 60,000 colour images of 32×32 pixels in ten classes (Krizhevsky 2009)."""

from functools import partial
from pathlib import Path

from residuum.data.dataset import Dataset
from residuum.data.datasets import cifar
from residuum.data.datasets.source import Entry, Remote, Spread, found_by, load_files

LAYOUT = cifar.Layout(
    name="cifar10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    rows=10_000,
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    python_folder="cifar-10-batches-py",
    python_meta="batches.meta",
    python_label="labels",
    python_classes="label_names",
    binary_folder="cifar-10-batches-bin",
    binary_meta="batches.meta.txt",
    binary_labels=1,
    label_byte=0,
    columns=("label", "labels"),
)

locate = partial(cifar.locate, LAYOUT)


def cifar10(root: Path | None) -> Dataset:
    """CIFAR-10 from the original or the binary archive, either's folder, or Parquet: 50,000 and 10,000 RGB images.

    Raises:
        InputError: it is not there, not whole, or damaged.
        StorageError: it cannot be read, or the cache cannot be written.
    """
    return load_files("cifar10", root, locate, LAYOUT.bring)


# The upper end of what repeated trainings near 94 % accuracy show (0.12 to 0.16 points), and what He et al. 2015, table
# 6, give for five runs of ResNet-110 (6.61 ± 0.16), whose 64,000 updates are 164 epochs. Shorter runs spread more.
SPREAD = Spread(0.16, 164)

ENTRY = Entry(
    "cifar10",
    cifar10,
    remotes=(Remote.at("cifar-10-python.tar.gz", 170_498_071, "c58f30108f718f92721af3b95e74349a", *cifar.PLACES),),
    published=(50_000, 10_000),
    shape=cifar.SHAPE,
    classes=lambda: LAYOUT.classes,
    spread={"test_error": SPREAD, "test_accuracy": SPREAD},
    lies_at=lambda path: found_by(locate)(path) and cifar.looks_like_it(LAYOUT, path),
    test_at=partial(cifar.images_at, LAYOUT),
)

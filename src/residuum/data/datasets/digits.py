"""The handwritten digits that scikit-learn ships: real images, no download (Alpaydin, Kaynak 1998, UCI)."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from residuum.data import cache
from residuum.data.dataset import Dataset, Reading, Split
from residuum.data.datasets.source import Entry
from residuum.data.split import split
from residuum.errors import InputError

TEST_IMAGES = 360


def digits(root: Path | None) -> Dataset:
    """1,797 grey images of 8×8 pixels, always in the same stratified split: 1,437 to train, 360 to test.

    The published grey values 0 to 16 become 0 to 255. Through the cache, because importing scikit-learn takes longer
    than training does.

    Raises:
        InputError: a root was given; these images are embedded.
    """
    if root is not None:
        raise InputError("data.root: digits are embedded; leave it empty")
    drawn = "360 of the 1,797 images, as many of each class, always the same"
    return replace(cache.cached("digits", {}, {}, _decode), reading=Reading(drawn=drawn))


def _decode() -> Dataset:
    from sklearn.datasets import load_digits

    found = load_digits()
    images_NCHW = np.rint(found.images * (255 / 16)).astype(np.uint8)[:, None]
    labels_N = found.target.astype(np.int64)
    train_N, test_N = split(labels_N, subset=0, validation=TEST_IMAGES, seed=0)
    train, test = (Split(images_NCHW[indices_N], labels_N[indices_N]) for indices_N in (train_N, test_N))
    return Dataset.of("digits", tuple("0123456789"), train, test)


ENTRY = Entry("digits", digits, no_download="they come with scikit-learn, which residuum brings along")

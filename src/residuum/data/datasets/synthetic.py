"""Generated images: a function of the settings, learnable, for tests and benchmarks."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from residuum.data.dataset import Dataset, Split
from residuum.data.datasets.source import Entry
from residuum.errors import InputError, volume
from residuum.streams import stream_seed

_AT_ONCE = 1000


MOST_BYTES = 8_000_000_000
"""Of all images together, which are held in memory."""


def synthetic(
    root: Path | None,
    *,
    classes: Annotated[int, Field(ge=2, le=1000)] = 10,
    size: Annotated[int, Field(ge=4, le=256)] = 32,
    channels: Literal[1, 3] = 3,
    train: Annotated[int, Field(ge=1, le=1_000_000)] = 2000,
    test: Annotated[int, Field(ge=1, le=1_000_000)] = 400,
    noise: Annotated[float, Field(ge=0, le=1)] = 0.15,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Dataset:
    """A smooth random picture for each class, shifted by up to an eighth of its size, with noise.

    `noise` is the standard deviation of each pixel's noise, in units of the range of values. Labels go round the
    classes, so every split is balanced. Fewer images are a prefix of more.

    Raises:
        InputError: a root was given; these images are generated.
    """
    if (size_of_all := (train + test) * channels * size**2) > MOST_BYTES:
        raise InputError(f"data.dataset: synthetic images of {volume(size_of_all)}; {volume(MOST_BYTES)} is the most")
    if root is not None:
        raise InputError("data.root: synthetic images are generated; leave it empty")
    pictures_KCHW = _pictures(classes, channels, size, np.random.default_rng(stream_seed(seed, "synthetic", "classes")))
    splits = (_split(pictures_KCHW, count, noise, seed, which) for which, count in (("train", train), ("test", test)))
    return Dataset.of("synthetic", tuple(f"class {number}" for number in range(classes)), *splits)


def _pictures(classes: int, channels: int, size: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """A picture for each class: 4×4 random grey levels, interpolated linearly around the edges, so shifts fit."""
    grid = generator.uniform(32, 224, (classes, channels, 4, 4)).astype(np.float32)
    position = np.arange(size, dtype=np.float32) * 4 / size
    low = position.astype(np.int64)
    weights = np.zeros((size, 4), np.float32)
    weights[np.arange(size), low] = 1 - (position - low)
    weights[np.arange(size), (low + 1) % 4] += position - low
    return np.asarray(weights @ grid @ weights.T, np.float32)


def _split(pictures_KCHW: NDArray[np.float32], count: int, noise: float, seed: int, which: str) -> Split:
    classes, channels, size, _ = pictures_KCHW.shape
    labels_N = np.arange(count, dtype=np.int64) % classes
    images_NCHW = np.empty((count, channels, size, size), np.uint8)
    for start in range(0, count, _AT_ONCE):
        # Each thousand has its own stream and is generated whole, so an image does not depend on how many follow.
        generator = np.random.default_rng(stream_seed(seed, "synthetic", which, start))
        shifts_N2 = generator.integers(-(size // 8), size // 8 + 1, (_AT_ONCE, 2))
        part_N = labels_N[start : start + _AT_ONCE]
        images = np.stack(
            [np.roll(pictures_KCHW[k], tuple(shift), (1, 2)) for k, shift in zip(part_N, shifts_N2, strict=False)]
        )
        if noise:
            images += generator.standard_normal(images.shape, np.float32) * np.float32(255 * noise)
        images_NCHW[start : start + _AT_ONCE] = np.rint(images).clip(0, 255)
    return Split(images_NCHW, labels_N)


ENTRY = Entry("synthetic", synthetic, no_download="they are generated from their settings")

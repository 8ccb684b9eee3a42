"""Small folders of images whose colours tell which image is which, and how they were read."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (6, 5)


def colour(number: int) -> tuple[int, int, int]:
    """A colour that no other number below 2²⁴ has."""
    return number >> 16 & 255, number >> 8 & 255, number & 255


def write_image(path: Path, number: int, size: tuple[int, int] = SIZE) -> None:
    """An image of one colour, in the format that its ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour(number)).save(path, {".jfif": "JPEG", ".pgm": "PPM"}.get(path.suffix.lower()))


def numbers(images_NCHW: np.ndarray) -> list[int]:
    """The numbers of images, from their first pixels."""
    return [int(r) << 16 | int(g) << 8 | int(b) for r, g, b in images_NCHW[:, :, 0, 0]]


def labelled(dataset) -> dict[str, dict[int, str]]:
    """Of each split, the class of each image by its number."""
    return {
        which: {
            number: dataset.classes[label]
            for number, label in zip(numbers(split.images_NCHW), split.labels_N.tolist(), strict=True)
        }
        for which, split in dataset.splits.items()
    }

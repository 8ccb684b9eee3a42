"""The images of a run's most confident mistakes, kept beside it: a report shows them without the data set."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from residuum.errors import InputError, Remedy
from residuum.records import storage
from residuum.records.attributions import FOLDER

Image = NDArray[np.uint8]


def path_of(folder: Path) -> Path:
    """The file of a run folder."""
    return folder / FOLDER / "mistakes.safetensors"


def write(folder: Path, images: Mapping[int, Image]) -> None:
    """Save test images, uint8 CHW, by their numbers."""
    path = path_of(folder)
    with storage.storing(path):
        path.parent.mkdir(exist_ok=True)
    storage.write_tensors(path, save({str(number): np.ascontiguousarray(image) for number, image in images.items()}))


def read(folder: Path) -> dict[int, Image]:
    """The images that were saved, by their numbers.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = path_of(folder)
    if not path.exists():
        raise InputError(f"{path} is missing", remedies=[Remedy("run study")])
    content, _ = storage.read_tensors(path)
    try:
        return {int(number): image for number, image in load(content).items()}
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}") from error

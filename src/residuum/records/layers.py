"""What each layer of a network was like at one moment of training: histograms, and the figures that explain depth.

One small file an epoch lies in the `layers` folder of a run; epoch 0 is the network as it was initialised.
"""

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from residuum.errors import InputError
from residuum.records import storage

FOLDER = "layers"
BINS = 50

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Histograms:
    """Histograms of T tensors by name: `counts_TB` in equal bins from the smallest value to the largest.

    `mean_T` and `std_T` (not corrected) are exact, not those of the bins. A tensor with a value that is not finite has
    no counts, and NaN for the rest.
    """

    names: tuple[str, ...]
    counts_TB: NDArray[np.int32]
    low_T: Numbers
    high_T: Numbers
    mean_T: Numbers
    std_T: Numbers

    @property
    def norm_T(self) -> Numbers:
        """The Euclidean norm of each tensor."""
        squares_T: Numbers = self.counts_TB.sum(axis=1) * (self.mean_T**2 + self.std_T**2)
        return np.sqrt(squares_T)


@dataclass(frozen=True, eq=False)
class Layers:
    """What every layer of a network was like after an epoch, seen on the same few training images each time.

    `parameters` and the `gradients` of the mean cross-entropy go by the names of the parameters. `responses` are the
    outputs of convolutions and of the linear layer, after the batch norm that follows if one does and before the
    activation (He et al. 2015, figure 7). `activations` are the outputs of activation functions in the order of the
    pass; `dead_A` is the share of their channels that are zero at every place of every image.
    """

    epoch: int
    images: int
    parameters: Histograms
    gradients: Histograms
    responses: Histograms
    activations: Histograms
    dead_A: Numbers

    @property
    def kernels(self) -> tuple[str, ...]:
        """Layers 1 to L as depth counts them: convolutions and the linear layer in the order of the pass.

        The projections of shortcuts are none of them.
        """
        return tuple(name for name in self.responses.names if "shortcut" not in name.split("."))

    @property
    def kernel_gradients_L(self) -> Numbers:
        """The norm of the gradient of each layer's kernel."""
        norms = dict(zip(self.gradients.names, self.gradients.norm_T, strict=True))
        return np.array([norms[f"{name}.weight"] for name in self.kernels])

    @property
    def response_stds_L(self) -> Numbers:
        """The standard deviation of each layer's responses."""
        stds = dict(zip(self.responses.names, self.responses.std_T, strict=True))
        return np.array([stds[name] for name in self.kernels])


GROUPS = ("parameters", "gradients", "responses", "activations")
ARRAYS = tuple(field.name for field in fields(Histograms) if field.name != "names")


def write(folder: Path, layers: Layers) -> None:
    """Put what was seen after an epoch into the `layers` folder of a run."""
    place = folder / FOLDER
    with storage.storing(place):
        place.mkdir(exist_ok=True)
    groups = {name: getattr(layers, name) for name in GROUPS}
    arrays = {f"{name}.{array}": getattr(group, array) for name, group in groups.items() for array in ARRAYS}
    names = {name: group.names for name, group in groups.items()}
    # One entry: safetensors writes several in any order, and equal records are to be equal files.
    metadata = {"layers": json.dumps({"epoch": layers.epoch, "images": layers.images, "names": names})}
    content = safetensors.numpy.save({**arrays, "dead_A": layers.dead_A}, metadata)
    storage.write_tensors(place / f"epoch-{layers.epoch:04d}.safetensors", content)


def read(folder: Path) -> tuple[Layers, ...]:
    """What was recorded of the layers of the run in a folder, epoch by epoch; empty where nothing was.

    Raises:
        InputError: a file is damaged.
    """
    checked = storage.is_sealed(folder / "config.json")
    return tuple(_read(path, checked=checked) for _, path in _files(folder))


def read_epoch(folder: Path, epoch: int) -> Layers | None:
    """What was recorded after one epoch, 0 being the network as initialised; None where nothing was.

    Raises:
        InputError: the file is damaged.
    """
    checked = storage.is_sealed(folder / "config.json")
    return next((_read(path, checked=checked) for found, path in _files(folder) if found == epoch), None)


def epochs(folder: Path) -> list[int | InputError]:
    """The epochs after which the layers were recorded, an error in place of one whose file is damaged."""
    checked = storage.is_sealed(folder / "config.json")
    found: list[int | InputError] = []
    for epoch, path in _files(folder):
        try:
            storage.read_tensors(path, checked=checked)
        except InputError as error:
            found.append(error)
        else:
            found.append(epoch)
    return found


def drop_after(folder: Path, epoch: int) -> None:
    """Remove what was recorded after an epoch, when a run is taken back there."""
    for later, path in _files(folder):
        if later > epoch:
            with storage.storing(path):
                path.unlink()


def _files(folder: Path) -> list[tuple[int, Path]]:
    found = ((re.fullmatch(r"epoch-(\d+)\.safetensors", path.name), path) for path in (folder / FOLDER).glob("epoch-*"))
    return sorted((int(match[1]), path) for match, path in found if match)


def _read(path: Path, *, checked: bool) -> Layers:
    content, metadata = storage.read_tensors(path, checked=checked)
    try:
        head, arrays = json.loads(metadata["layers"]), safetensors.numpy.load(content)
        groups = {name: Histograms(tuple(head["names"][name]), *(arrays[f"{name}.{array}"] for array in ARRAYS))
                  for name in GROUPS}  # fmt: skip
        return Layers(head["epoch"], head["images"], **groups, dead_A=arrays["dead_A"])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error

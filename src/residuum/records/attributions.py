"""Attributions as plain arrays, saved beside a run: what `explain` computed, read back without torch."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from residuum.errors import InputError, Remedy
from residuum.records import shown, storage

FOLDER = "attributions"
REPORTED = "grad-cam"
BY_EPOCH = {True: f"{REPORTED}-right-by-epoch", False: f"{REPORTED}-wrong-by-epoch"}
"""The names of those that the report of a study shows: images × layers, and the surest right and wrong over epochs."""
Maps = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Similarity:
    """How alike maps of the trained and of a randomised network are.

    `mean` is the mean rank correlation over the `images` for which it is defined; None where there are none.
    """

    mean: float | None
    images: int


@dataclass(frozen=True, eq=False)
class Attributions:
    """Maps of N images by one method; each row is an image, a state of the weights and the class that is explained.

    `names` say what the images are, `epochs` of which epoch the weights were. `images_NCHW` are uint8; `labels_N` the
    true classes, -1 where that is not known; `targets_N` the explained ones. `maps` are NHW by the name of what was
    looked at; `randomised` the same of a network without any learned weight. `similarity` compares maps with those of
    the network whose weights from the linear layer down to a part are random, by part and by map. Integrated
    gradients alone have `gaps_N2`: by how much the sum of a map misses the difference of the logits, and that
    difference.
    """

    run: str
    method: str
    settings: dict[str, Any]
    target: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    epochs: tuple[int, ...]
    images_NCHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]
    targets_N: NDArray[np.int64]
    probabilities_NK: NDArray[np.float32]
    maps: Maps
    randomised: Maps = field(default_factory=dict)
    similarity: dict[str, dict[str, Similarity]] = field(default_factory=dict)
    gaps_N2: NDArray[np.float32] | None = None

    def _repr_html_(self) -> str:
        """What was explained, in a notebook; `residuum.figures.attributions` draws the maps."""
        rows = [
            (name, self.true(row) or "–", self.classes[k], f"{self.probabilities_NK[row, k]:.1%}",
             self.classes[self.targets_N[row]])
            for row, (name, k) in enumerate(zip(self.names, self.predicted_N, strict=True))
        ]  # fmt: skip
        heads = ("image", "true", "predicted", "probability", "explained")
        return shown.table(f"{self.method} of run {self.run}, weights of epoch {self.epochs[0]}", heads, rows)

    @property
    def predicted_N(self) -> NDArray[np.int64]:
        """The class of the largest probability."""
        return np.asarray(self.probabilities_NK.argmax(axis=1))

    def true(self, row: int) -> str:
        """The name of a row's true class; empty where that is not known."""
        return self.classes[self.labels_N[row]] if self.labels_N[row] >= 0 else ""


PLAIN = ("run", "method", "settings", "target", "classes", "names", "epochs")
ARRAYS = ("images_NCHW", "labels_N", "targets_N", "probabilities_NK")


def path_of(folder: Path, name: str) -> Path:
    """The file of attributions in a run folder."""
    return folder / FOLDER / f"{name}.safetensors"


def write(folder: Path, name: str, found: Attributions) -> Path:
    """Save attributions in a run folder, as arrays with a JSON description in the metadata; gives the file's path."""
    arrays = {key: getattr(found, key) for key in ARRAYS}
    arrays |= {f"maps/{key}": value for key, value in found.maps.items()}
    arrays |= {f"randomised/{key}": value for key, value in found.randomised.items()}
    if found.gaps_N2 is not None:
        arrays["gaps_N2"] = found.gaps_N2
    similarity = {part: {key: [s.mean, s.images] for key, s in row.items()} for part, row in found.similarity.items()}
    # The format keeps no order of its arrays; the description keeps that of the maps.
    values = {**{key: getattr(found, key) for key in PLAIN}, "layers": list(found.maps), "similarity": similarity}
    arrays = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    content = save(arrays, {"residuum": json.dumps(values)})
    path = path_of(folder, name)
    with storage.storing(path):
        path.parent.mkdir(exist_ok=True)
    storage.write_tensors(path, content)
    return path


def read(path: Path) -> Attributions:
    """Attributions that were saved.

    Raises:
        InputError: the file is missing, damaged or another thing.
    """
    if not path.exists():
        raise InputError(f"{path} is missing", remedies=[Remedy("explain")])
    content, metadata = storage.read_tensors(path)
    try:
        values = json.loads(metadata["residuum"])
        arrays: dict[str, Any] = load(content)
        named: dict[str, Any] = {
            key: tuple(value) if isinstance(value := values[key], list) else value for key in PLAIN
        }
        return Attributions(
            **named,
            **{key: arrays[key] for key in ARRAYS},
            maps={key: arrays[f"maps/{key}"] for key in values["layers"]},
            randomised={key: arrays[name] for key in values["layers"] if (name := f"randomised/{key}") in arrays},
            similarity={
                part: {key: Similarity(*pair) for key, pair in row.items()}
                for part, row in values["similarity"].items()
            },
            gaps_N2=arrays.get("gaps_N2"),
        )
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged or holds no attributions: {error}") from error

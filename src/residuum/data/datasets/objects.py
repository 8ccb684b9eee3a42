"""Data sets as objects of Python: arrays, a `torch.utils.data.Dataset`, a Hugging Face `Dataset`, whole or in splits.

None of these packages is imported: what an object is shows in what it has.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residuum.data import cache
from residuum.data.dataset import Dataset, Split
from residuum.data.datasets.arrays import kind_of
from residuum.data.formats import pixels
from residuum.data.layout import split_in
from residuum.data.split import test_share
from residuum.errors import InputError, quoted, tally
from residuum.records import storage

SHARE, SEED = 0.2, 0
"""The share of the images that is the test split where there is one piece, and the seed that draws it."""
NUMBER_OF_PARTS = {1: ("train",), 2: ("train", "test"), 3: ("train", "validation", "test")}


def dataset_of(value: Any, name: str, classes: Sequence[str] = ()) -> Dataset:
    """The data set that an object is.

    A part is a pair of arrays (images, labels), a data set of pairs (image, label) with a length, or a table with
    columns of images and labels. The whole is a part, of which 20 % of each class are the test split; or a tuple of
    training and test part, with the validation part between them if there is one; or a mapping with such names.
    Images are of 1 or 3 channels, from 0 to 255 or from 0 to 1, before normalisation. `classes` are names of classes,
    where the object has none.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, Dataset):
        return value
    parts = {which: _part(part, f"{name}: {which}") for which, part in _parts(value, name).items()}
    given = tuple(classes) or next((names for _, _, names in parts.values() if names), ())
    images = {which: pixels.images_of(found, f"{name}: {which}") for which, (found, _, _) in parts.items()}
    labels = {which: pixels.labels_of(found, f"{name}: labels of {which}") for which, (_, found, _) in parts.items()}
    names, numbers = pixels.classed(labels, given, name)
    splits = {which: Split(images[which], numbers[which]) for which in parts}
    if "test" not in splits:
        train = splits["train"]
        train_N, test_N = test_share(train.labels_N, SHARE, SEED)
        splits["train"], splits["test"] = (
            Split(train.images_NCHW[of_N], train.labels_N[of_N]) for of_N in (train_N, test_N)
        )
    return Dataset.of(name, names, splits["train"], splits["test"], splits.get("validation"))


def as_dataset(found: Callable[..., Any]) -> Callable[..., Dataset]:
    """A function of the user's own that gives such an object, as one that gives a data set."""

    @wraps(found)
    def made(*given: Any, **settings: Any) -> Dataset:
        return dataset_of(found(*given, **settings), getattr(found, "__name__", "data"))

    return made


def keep(value: Any, classes: Sequence[str] = (), path: Path | None = None) -> Path:
    """Write an object as a data set to a `.npz` file, so that every process can read it; returns its path.

    It lies in the cache, by the hash of its images and labels, unless a `path` is given.

    Raises:
        InputError: as `dataset_of`; StorageError: it cannot be written.
    """
    dataset = dataset_of(value, "data", classes)
    path = path or cache.folder() / "objects" / f"{dataset.fingerprint}.npz"
    words = {"training": "train", "validation": "validation", "test": "test"}
    arrays: dict[str, NDArray[Any]] = {"class_names": np.array(dataset.classes)}
    for which, split in dataset.splits.items():
        arrays |= {f"x_{words[which]}": split.images_NCHW, f"y_{words[which]}": split.labels_N}
    with storage.storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.tmp.npz")
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
        temporary.replace(path)
    return path


def images_of(value: Any, place: str) -> NDArray[np.uint8]:
    """Images uint8 [N, C, H, W] of an array, a tensor, or a list of such or of Pillow's images.

    Raises:
        InputError: it is none of them, or of another form than `formats.pixels` takes; begins with `place`.
    """
    try:
        found = _stacked(value, place)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place} are no array: {error}") from error
    if found.dtype.kind not in "uifb":
        raise InputError(f"{place} hold no numbers, but {quoted(found.flat[0]) if found.size else 'nothing'}")
    return pixels.images_of(found, place)


def _parts(value: Any, name: str) -> dict[str, Any]:
    """The parts of a whole by split."""
    if isinstance(value, Mapping):
        found = {split_in(str(key)): part for key, part in value.items()}
        if "train" in found and "" not in found and len(found) == len(value):
            return found
        raise InputError(f"{name} has the parts {', '.join(map(str, value))}; they are train, validation and test")
    if isinstance(value, tuple | list) and not _is_pair(value):
        if len(value) in NUMBER_OF_PARTS and not isinstance(value, list):
            return dict(zip(NUMBER_OF_PARTS[len(value)], value, strict=True))
        raise InputError(f"{name} is a {type(value).__name__} of {len(value)}; give (images, labels) or (train, test)")
    return {"train": value}


def _is_pair(value: Sequence[Any]) -> bool:
    """Whether it is images and labels, and not two parts: arrays have a shape, and lists hold numbers or names."""
    return len(value) == 2 and (hasattr(value[0], "shape") or isinstance(value[0], list))


def _part(part: Any, place: str) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]:
    """Images and labels of a part, as arrays, and the names of its classes, if it knows them."""
    names: tuple[str, ...] = ()
    if isinstance(part, tuple | list) and _is_pair(part):
        images, labels = part
    elif hasattr(part, "column_names") and hasattr(part, "__getitem__"):
        images, labels, names = _columns(part, place)
    elif hasattr(part, "__getitem__") and hasattr(part, "__len__"):
        pairs = [part[number] for number in range(len(part))]
        if not pairs or not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise InputError(f"{place} is no data set of pairs (image, label)")
        images, labels = [image for image, _ in pairs], [label for _, label in pairs]
        names = tuple(map(str, getattr(part, "classes", ())))
    else:
        raise InputError(f"{place} is a {type(part).__name__}; give arrays, or a data set with a length and pairs")
    made = _stacked(images, place), _stacked(labels, f"{place}, labels")
    if len(made[0]) != len(made[1]):
        raise InputError(f"{place}: {tally(len(made[0]), 'image')} and {tally(len(made[1]), 'label')}")
    return *made, names


def _columns(part: Any, place: str) -> tuple[Any, Any, tuple[str, ...]]:
    """Images and labels of a table, and the names in the feature of its labels."""
    columns = {
        kind: [name for name in part.column_names if kind_of(str(name))[0] == kind] for kind in ("images", "labels")
    }
    for kind, found in columns.items():
        if len(found) != 1:
            what = f"{len(found)} columns that may be" if found else "no column of"
            raise InputError(f"{place} has {what} {kind}: {', '.join(map(str, part.column_names))}")
    features = getattr(part, "features", None) or {}
    names = getattr(features.get(columns["labels"][0]), "names", None) or ()
    return part[columns["images"][0]], part[columns["labels"][0]], tuple(map(str, names))


def _stacked(values: Any, place: str) -> NDArray[Any]:
    """Many images or labels as one array, whatever they were."""
    if hasattr(values, "shape"):
        return _array(values)
    rows = [_array(value) for value in values]
    if len({row.shape for row in rows}) > 1:
        first, other = list({row.shape: None for row in rows})[:2]
        raise InputError(
            f"{place} has images of several sizes, {list(first)} and {list(other)}; they have to be of one"
        )
    return np.stack(rows) if rows else np.zeros((0,))


def _array(value: Any) -> NDArray[Any]:
    """An array, a tensor or an image of Pillow as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "convert") and getattr(value, "mode", "") not in ("L", "RGB"):
        value = value.convert("L" if value.mode == "1" else "RGB")
    return np.asarray(value)

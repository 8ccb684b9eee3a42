"""Arrays of numbers as images and labels: where the channels stand, what the values mean; never a guess."""

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from residuum.errors import InputError, quoted

JUDGED = 256
"""Images by which the order of flat colour images is told."""
SMOOTHER = 1.3
"""How many times as rough the wrong order has to be, for the right one to be beyond doubt."""
HALF_PRECISION = 0.07
"""How far float16 moves a pixel that was divided by 255, in steps of 1/255."""


def images_of(values: NDArray[Any], place: str) -> NDArray[np.uint8]:
    """Images uint8 [N, C, H, W] of an array [N, H, W], [N, H, W, C], [N, C, H, W] or [N, pixels] of 1 or 3 channels.

    Values are whole numbers from 0 to 255, or such numbers divided by 255. Flat images are square; of colour images,
    the order is that in which neighbours are alike.

    Raises:
        InputError: another shape or other values, or the order of the channels cannot be told; begins with `place`.
    """
    if 0 in values.shape:
        raise InputError(f"{place} holds no images: its shape is {list(values.shape)}")
    if values.ndim == 2:
        return _flat(_bytes(values, place), place)
    if values.ndim == 3:
        return _bytes(values, place)[:, None]
    if values.ndim != 4:
        raise InputError(
            f"{place} has the shape {list(values.shape)}; images are [N, H, W, C], [N, C, H, W] or [N, H, W]"
        )
    first, last = values.shape[1] in (1, 3), values.shape[3] in (1, 3)
    if first == last:
        why = "could have its channels in front or behind" if first else "has neither 1 nor 3 channels"
        raise InputError(f"{place} of the shape {list(values.shape)} {why}")
    found = _bytes(values, place)
    return np.ascontiguousarray(found if first else found.transpose(0, 3, 1, 2))


def labels_of(values: NDArray[Any], place: str) -> NDArray[np.int64] | list[str]:
    """Labels of an array [N], [N, 1] or one-hot [N, K]: numbers from 0 on, or the names of classes.

    Raises:
        InputError: anything else; begins with `place`.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.dtype.kind in "uifb" and set(np.unique(values)) <= {0, 1}:
        if not (values.sum(axis=1) == 1).all():
            raise InputError(f"{place} names several classes, or none, for an image")
        found: NDArray[np.int64] = values.argmax(axis=1).astype(np.int64)
        return found
    if values.ndim != 1:
        raise InputError(f"{place} has the shape {list(values.shape)}; labels are [N], [N, 1] or one-hot [N, K]")
    if values.dtype.kind in "US":
        return names_of(values, place)
    if values.dtype.kind not in "uif" or not (np.mod(values, 1) == 0).all() or (values < 0).any():
        raise InputError(f"{place} holds other values than whole numbers from 0 on")
    if (values > 100_000).any():
        raise InputError(f"{place} holds the label {values.max():.0f}, which is no number of a class")
    return values.astype(np.int64)


def names_of(values: NDArray[Any], place: str) -> list[str]:
    """Names in an array of text.

    Raises:
        InputError: it holds something else, or text that is not UTF-8.
    """
    try:
        found = [one.decode() if isinstance(one, bytes) else one for one in values.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InputError(f"{place} holds text that is not UTF-8") from error
    if not all(isinstance(one, str) and one.strip() for one in found):
        raise InputError(f"{place} holds no names of classes")
    return [one.strip() for one in found]


def _bytes(values: NDArray[Any], place: str) -> NDArray[np.uint8]:
    """The values as bytes."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "uif":
        raise InputError(f"{place} holds {values.dtype.name}, no pixels")
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 255):  # NaN, too
        raise InputError(f"{place} has values from {low:g} to {high:g}; pixels are 0 to 255, or 0 to 1")
    found = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 1000):  # in parts: as float64 it is eight times as large
        part = values[start : start + 1000].astype(np.float64)
        if values.dtype.kind == "f" and high <= 1:
            part *= 255
        rounded = np.rint(part)
        if np.abs(rounded - part).max() > HALF_PRECISION:
            raise InputError(f"{place} has values between the 256 steps of a pixel: is it normalised or scaled?")
        found[start : start + 1000] = rounded
    return found


def _flat(values_NP: NDArray[np.uint8], place: str) -> NDArray[np.uint8]:
    """Square images of flat ones, grey or in colour."""
    count, pixels = values_NP.shape
    if isqrt(pixels) ** 2 == pixels:
        return values_NP.reshape(count, 1, isqrt(pixels), -1)
    side = isqrt(pixels // 3)
    if side * side * 3 != pixels:
        raise InputError(f"{place} has {pixels} values an image: neither a square nor three of them")
    in_front, behind = values_NP.reshape(-1, 3, side, side), values_NP.reshape(-1, side, side, 3).transpose(0, 3, 1, 2)
    roughness = [_roughness(order[:JUDGED]) for order in (in_front, behind)]
    if max(roughness) < SMOOTHER * min(roughness) or not max(roughness):
        raise InputError(f"{place} has flat images of {pixels} values whose order cannot be told; bring [N, H, W, 3]")
    return np.ascontiguousarray(in_front if roughness[0] < roughness[1] else behind)


def _roughness(images_NCHW: NDArray[np.uint8]) -> float:
    """The mean difference of neighbouring pixels."""
    values = images_NCHW.astype(np.int16)
    return float(sum(np.abs(np.diff(values, axis=axis)).mean() for axis in (2, 3)))


def numbered(labels: Sequence[str], classes: Sequence[str], place: str) -> NDArray[np.int64]:
    """The numbers of labels that are names.

    Raises:
        InputError: a name that is none of a class.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    for label in labels:
        if label not in numbers:
            raise InputError(
                f"{place} has the label {quoted(label)}, which is none of the classes {', '.join(classes[:12])}"
            )
    return np.array([numbers[label] for label in labels], np.int64)


def classed(
    labels: Mapping[str, NDArray[np.int64] | list[str]], given: tuple[str, ...], place: str
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """The names of the classes, given or told by the labels, and the labels of each split as their numbers.

    Raises:
        InputError: a label without a class, or fewer than two classes.
    """
    first = "train" if "train" in labels else next(iter(labels))
    text = {which: [normalize("NFC", str(label)) for label in found] for which, found in labels.items()}
    if given and not isinstance(labels[first], list):
        for found in labels.values():
            highest = max(map(int, found))
            if highest >= len(given):
                raise InputError(f"{place} has the label {highest}; there are {len(given)} names of classes")
        return given, {which: np.array(found, np.int64) for which, found in labels.items()}
    ordered = sorted({*text[first]}) if isinstance(labels[first], list) else sorted({*text[first]}, key=int)
    classes = given or tuple(ordered)
    if len(classes) < 2:
        raise InputError(f"{place} has only the class {classes[0]}; at least 2 are needed")
    return classes, {which: numbered(found, classes, place) for which, found in text.items()}

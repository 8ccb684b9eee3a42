"""Logits that another program gave for some images: read safely, and compared with a network's."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from residuum.data.dataset import Split
from residuum.data.formats import npy
from residuum.data.normalize import Normalization
from residuum.errors import InputError, StorageError, tally
from residuum.models.foreign import read_foreign
from residuum.models.saved import PLAIN
from residuum.records import storage
from residuum.records.regular import refuse_special

RELATIVE, ABSOLUTE = 1e-4, 1e-5
"""Logits agree where none differs by more than this share of the largest one, and by this besides: fp32 elsewhere."""
ROUGH = 1e-2
"""Differences up to this share of the largest logit may also be those of TF32 or of half precision."""
BESIDE = ("images.pt", "images.npy", "images.npz", "images.pth")
"""Files beside the logits in which their images are looked for."""
TEST = "the first test images"
LOGITS, IMAGES = ("logits", "outputs", "output", "predictions"), ("images", "pixels", "inputs", "input", "x")


@dataclass(frozen=True)
class Reference:
    """logits_NK and the images_NCHW that they belong to, fp32.

    `pixels`: the images are pixels in [0, 1], which the network still has to normalise; otherwise they are what enters
    it. `source` is where the images are from.
    """

    logits_NK: Tensor
    images_NCHW: Tensor
    pixels: bool
    source: str


@dataclass(frozen=True)
class Compared:
    """How far a network's logits are from others: the largest difference, and of how many images the class agrees.

    `of` is what was compared: logits, or what networks that end in a softmax give, probabilities or their logarithms.
    `unlikeness` is 1 less their correlation, from 0 to 2. `rough`: they do not agree, and are as near as TF32 and half
    precision are to fp32. `pixels`: the normalisation of pixels was compared too. `source` is where images are from.
    """

    difference: float
    agreeing: int
    images: int
    agrees: bool
    rough: bool
    pixels: bool
    source: str
    of: str
    unlikeness: float


def compare(network: nn.Module, normalization: Normalization, reference: Reference) -> Compared:
    """The logits of a network in evaluation mode, in fp32 on the CPU, against those of a reference."""
    images_NCHW = reference.images_NCHW
    with torch.no_grad():
        logits_NK = network(normalization(images_NCHW) if reference.pixels else images_NCHW)
    expected_NK = reference.logits_NK
    of, logits_NK = _kind(expected_NK), as_reference(logits_NK, expected_NK)
    difference = float((logits_NK - expected_NK).abs().max())
    agreeing = int((logits_NK.argmax(1) == expected_NK.argmax(1)).sum())
    largest = float(expected_NK.abs().max())
    agrees = difference <= RELATIVE * largest + ABSOLUTE
    rough = not agrees and difference <= ROUGH * largest
    return Compared(difference, agreeing, len(images_NCHW), agrees, rough, reference.pixels, reference.source,
                    of, _unlikeness(logits_NK, expected_NK))  # fmt: skip


def as_reference(logits_NK: Tensor, expected_NK: Tensor) -> Tensor:
    """Logits as what a reference has: logits, or what networks that end in a softmax give."""
    of = _kind(expected_NK)
    if of == "logits":
        return logits_NK
    return logits_NK.softmax(1) if of == "probabilities" else logits_NK.log_softmax(1)


def _kind(values_NK: Tensor) -> str:
    """What values are by their sums: probabilities, their logarithms, or logits."""
    ones_N = torch.ones(len(values_NK), dtype=values_NK.dtype)
    if bool((values_NK >= 0).all()) and torch.allclose(values_NK.sum(1), ones_N, atol=1e-3):
        return "probabilities"
    return "log-probabilities" if torch.allclose(values_NK.exp().sum(1), ones_N, atol=1e-3) else "logits"


def _unlikeness(one_NK: Tensor, other_NK: Tensor) -> float:
    """1 less the correlation of logits, of which each image's mean tells nothing; 2 where there is none."""
    pair = torch.stack([(logits_NK - logits_NK.mean(1, keepdim=True)).flatten() for logits_NK in (one_NK, other_NK)])
    found = 1 - float(torch.corrcoef(pair)[0, 1])
    return found if math.isfinite(found) else 2.0


def read_reference(
    logits: Path, images: Path | None, shape: tuple[int, int, int], classes: int, test: Split | None = None
) -> Reference:
    """A reference from files: `.pt` or `.pth` by torch, `.npy` or `.npz` by numpy, told by content.

    The logits' file may hold the images too; else they are looked for in `images.pt`, `images.npy` or `images.npz`
    beside it; without any they are the first `test` images. Images are N×C×H×W or N×H×W×C: uint8 pixels, pixels in
    [0, 1] or whole numbers to 255, or, where values lie beyond that, what enters the network. `shape` is channels,
    height and width of the network's images.

    Raises:
        InputError: no such file, damaged, no logits of that many classes in it, or no images to them.
        StorageError: a file cannot be read.
    """
    arrays = _arrays(logits)
    logits_NK = _chosen(arrays, LOGITS, 2)
    if logits_NK is None or logits_NK.shape[1] != classes or not len(logits_NK):
        shapes = ", ".join("×".join(map(str, one.shape)) or "()" for one in arrays.values()) or "none"
        raise InputError(
            f"{logits}: holds no logits of {classes} classes; it has arrays of {shapes}", argument="reference"
        )
    if not logits_NK.isfinite().all() or not logits_NK.float().isfinite().all():
        raise InputError(f"{logits}: the logits hold values that are not finite in fp32", argument="reference")
    found, source = _chosen(arrays, IMAGES, 4), logits
    if images is not None or found is None:
        beside = (logits.parent / name for name in BESIDE)
        place = images or next((path for path in beside if path.is_file() and path != logits), None)
        if place is None and test is not None and len(test) >= len(logits_NK):
            images_NCHW = torch.from_numpy(np.ascontiguousarray(test.images_NCHW[: len(logits_NK)]))
            return Reference(logits_NK.float(), images_NCHW.float() / 255, pixels=True, source=TEST)
        if place is None:
            text = f"{logits}: which images its {len(logits_NK)} rows belong to is not said; name them by --images"
            raise InputError(text, argument="reference")
        found, source = _chosen(_arrays(place), IMAGES, 4), place
    if found is None:
        raise InputError(f"{source}: holds no images N×C×H×W", argument="images")
    images_NCHW = _in_order(found, shape, source)
    if len(images_NCHW) != len(logits_NK):
        text = f"{source}: {tally(len(images_NCHW), 'image')} for {tally(len(logits_NK), 'row')} of logits"
        raise InputError(text, argument="reference")
    values_NCHW, pixels = _values(images_NCHW)
    return Reference(logits_NK.float(), values_NCHW, pixels, source.name)


def _in_order(images: Tensor, shape: tuple[int, int, int], source: Path) -> Tensor:
    channels, height, width = shape
    if tuple(images.shape[1:]) == (height, width, channels) and tuple(images.shape[1:]) != shape:
        images = images.permute(0, 3, 1, 2)
    if tuple(images.shape[1:]) != shape:
        has, wanted = ("×".join(map(str, one)) for one in (images.shape[1:], shape))
        raise InputError(f"{source}: images of {has}, and the network's are of {wanted}", argument="reference")
    return images


def _values(images_NCHW: Tensor) -> tuple[Tensor, bool]:
    """The images as fp32, and whether they are pixels in [0, 1]."""
    values_NCHW = images_NCHW.float()
    if not values_NCHW.isfinite().all():
        raise InputError("the images hold values that are not finite", argument="images")
    low, high = float(values_NCHW.min()), float(values_NCHW.max())
    whole = bool((values_NCHW == values_NCHW.round()).all())
    if images_NCHW.dtype == torch.uint8 or (whole and low >= 0 and 1 < high <= 255):
        return values_NCHW / 255, True
    return values_NCHW, low >= 0 and high <= 1


def _chosen(arrays: Mapping[str, Tensor], names: tuple[str, ...], ndim: int) -> Tensor | None:
    """The array of one of the names, or else the only one of so many axes."""
    fitting = {name: one for name, one in arrays.items() if one.ndim == ndim}
    for name in names:
        if name in fitting:
            return fitting[name]
    return next(iter(fitting.values())) if len(fitting) == 1 else None


def _arrays(path: Path) -> dict[str, Tensor]:
    """The arrays of a file by name; the name of a single one is empty."""
    refuse_special(path)
    try:
        with path.open("rb") as file:
            head = file.read(storage.HEAD)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise InputError(f"{path}: no such file", argument="reference") from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    if said := storage.instead(head):
        raise InputError(f"{path} is {said}", argument="reference")
    if head.startswith(npy.MAGIC):
        return {"": _tensor(npy.read_npy(path), path)}
    if head.startswith(b"PK") and (names := npy.names_in(path)):
        return {name: _tensor(npy.read_npz(path, name), path) for name in names}
    content = read_foreign(path).content
    named: Mapping[Any, Any] = content if isinstance(content, Mapping) else {"": content}
    if isinstance(content, list | tuple):
        named = dict(enumerate(content))
    tensors = {str(name): one for name, one in named.items() if isinstance(one, Tensor)}
    if any(one.is_meta or one.dtype not in PLAIN for one in tensors.values()):
        raise InputError(f"{path}: a tensor is sparse, quantized or without values", argument="reference")
    return tensors


def _tensor(values: NDArray[Any], path: Path) -> Tensor:
    """An array of numbers as a tensor."""
    if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise InputError(f"{path}: holds no plain numbers", argument="reference")
    return torch.from_numpy(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("=")))

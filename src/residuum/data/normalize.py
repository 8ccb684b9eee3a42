"""Input normalisation: plain values that are estimated once, stored with the weights, and applied by one function."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from residuum.errors import InputError
from residuum.registry import Table
from residuum.streams import stream_seed

Images = NDArray[np.uint8]
Positive = Annotated[float, Field(ge=1e-12, le=1e12)]


@dataclass(frozen=True)
class Normalization:
    """How pixels in [0, 1] become the network's input: (x - mean) / std, per channel or per image.

    `affine` has one constant per channel, in units of pixels in [0, 1]. `per_image` takes mean and standard deviation
    over all values of each image; `mean` and `std` are then empty.
    """

    kind: Literal["affine", "per_image"]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, images_NCHW: Tensor) -> Tensor:
        """The normalised images: float32 in, float32 out, same shape."""
        return self.on(images_NCHW.device)(images_NCHW)

    def on(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """The normalisation of images on a device, its constants brought there once.

        What it does can be captured in a graph, where values that come from the host cannot.
        """
        if self.kind == "per_image":
            return _standardize_each
        mean_C11, scale_C11 = (
            torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]
            for values in (self.mean, [1 / std for std in self.std])
        )
        return lambda images_NCHW: images_NCHW.sub(mean_C11).mul_(scale_C11)

    def plain(self) -> dict[str, Any]:
        """The values as they go into JSON; `of` reads them back."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The normalisation that plain values describe."""
        return cls(values["kind"], tuple(values["mean"]), tuple(values["std"]))


def mean_per_image(values_BCHW: Tensor) -> Tensor:
    """The mean of each image as [B, 1, 1, 1], the same bits in any batch and with any number of threads.

    How torch adds up floats depends on the shape of the batch and on the threads; integers add up the same in every
    order. So values are summed in units of 2⁻³⁶, which leaves room for sums up to 10⁸.
    """
    units = (values_BCHW * 2.0**36).to(torch.int64)
    return units.sum(dim=(1, 2, 3), keepdim=True).float() / (values_BCHW[0].numel() * 2.0**36)


def _standardize_each(images_NCHW: Tensor) -> Tensor:
    """Each image with mean 0 and standard deviation 1; a constant image becomes all 0.

    The deviation is taken as at least that of an image in which one value differs by one grey level.
    """
    centred_NCHW = images_NCHW - mean_per_image(images_NCHW)
    variance_N111 = mean_per_image(centred_NCHW.square())
    return centred_NCHW / variance_N111.clamp_(min=1 / (255**2 * images_NCHW[0].numel())).sqrt_()


def channel_statistics(images_NCHW: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (of the population) of each channel, in units of pixels in [0, 1].

    Exact up to the last rounding: the sums of pixels and of their squares are integers that float64 holds exactly.
    """
    channels = images_NCHW.shape[1]
    sums, squares = [0] * channels, [0] * channels
    for start in range(0, len(images_NCHW), 500):
        values_CP = images_NCHW[start : start + 500].swapaxes(0, 1).reshape(channels, -1).astype(np.float64)
        for channel, values_P in enumerate(values_CP):
            sums[channel] += int(values_P.sum())
            squares[channel] += int(values_P @ values_P)
    count = images_NCHW.size // channels
    mean = tuple(total / (255 * count) for total in sums)
    spreads = [count * square - total**2 for total, square in zip(sums, squares, strict=True)]
    return mean, tuple(math.sqrt(spread) / (255 * count) for spread in spreads)


def standardize(
    images_NCHW: Images,
    seed: int,
    *,
    sample: Annotated[float, Field(gt=0, le=1)] = 1.0,
    mean: tuple[float, ...] | None = None,
    std: tuple[Positive, ...] | None = None,
) -> Normalization:
    """Zero mean and unit standard deviation per channel over the training images in use.

    `sample` is the share of these images from which the constants are estimated. `mean` and `std` give them instead,
    in units of pixels in [0, 1]. A channel that is constant over all images is centred and not scaled (std 1).

    Raises:
        InputError: only one of `mean` and `std`, not one value per channel, or a sample besides given constants.
    """
    if mean is None and std is None:
        count = max(1, round(sample * len(images_NCHW)))
        if count < len(images_NCHW):
            generator = np.random.default_rng(stream_seed(seed, "statistics"))
            images_NCHW = images_NCHW[np.sort(generator.permutation(len(images_NCHW))[:count])]
        mean, std = channel_statistics(images_NCHW)
        return Normalization("affine", mean, tuple(value or 1.0 for value in std))
    if mean is None or std is None:
        raise InputError("data.normalize: mean and std are given together or not at all")
    if sample != 1:
        raise InputError("data.normalize.sample: nothing is estimated where mean and std are given")
    channels = images_NCHW.shape[1]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise InputError(f"data.normalize.{name}: {len(values)} values for images of {channels} channels")
    return Normalization("affine", mean, std)


def minmax(images_NCHW: Images, _seed: int) -> Normalization:
    """Pixels in [0, 1]: the range of the file format, 0 to 255, not the darkest and brightest pixel found."""
    return _affine(images_NCHW, 0.0, 1.0)


def signed(images_NCHW: Images, _seed: int) -> Normalization:
    """Pixels in [-1, 1]; the range is that of the file format, as in `minmax`."""
    return _affine(images_NCHW, 0.5, 0.5)


def per_image(_images_NCHW: Images, _seed: int) -> Normalization:
    """Zero mean and unit standard deviation of each image over all its values; a constant image becomes all 0."""
    return Normalization("per_image")


def none(images_NCHW: Images, _seed: int) -> Normalization:
    """Raw pixel values, 0 to 255."""
    return _affine(images_NCHW, 0.0, 1 / 255)


def _affine(images_NCHW: Images, mean: float, std: float) -> Normalization:
    channels = images_NCHW.shape[1]
    return Normalization("affine", (mean,) * channels, (std,) * channels)


NORMALIZERS: Table[Normalization] = Table(
    "normalisation",
    {"standardize": standardize, "minmax": minmax, "signed": signed, "per_image": per_image, "none": none},
)
"""Input normalisations: `(images_NCHW uint8 training images in use, seed) -> Normalization`."""

"""Shortcuts: what a residual block adds to its branch (He et al. 2015, sections 3.3 and 4.1, options A, B and C).

A builder takes the channels that enter and leave the block, its stride, and whether a projection has a batch norm of
its own. It gives None for a plain network: nothing is added. A module whose attribute `activated` is true reads what
the block begins with instead of its input.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from residuum.errors import InputError
from residuum.registry import Table

Zeros = Literal["around", "before", "after"]
Sampling = Literal["slice", "average", "max"]
Reads = Literal["input", "activated"]


class Subsample(nn.Module):
    """A smaller image with more channels, without parameters (option A).

    Every `stride`-th pixel of each row and column is taken, or the mean or the largest of the stride × stride pixels.
    The channels that are missing are zeros: half on each side, the smaller half first, or all before or after the
    others. `activated`: it reads what the block begins with, in pre-activated orderings.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        zeros: Zeros = "around",
        subsample: Sampling = "slice",
        activated: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.subsample, self.activated = stride, subsample, activated
        missing = channels - in_channels
        before = {"around": missing // 2, "before": missing, "after": 0}[zeros]
        self.zeros = (before, missing - before)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The smaller image with more channels."""
        if self.stride != 1:
            x_NCHW = self._smaller(x_NCHW)
        return F.pad(x_NCHW, (0, 0, 0, 0, *self.zeros)) if any(self.zeros) else x_NCHW

    def _smaller(self, x_NCHW: Tensor) -> Tensor:
        if self.subsample == "average":
            return _average(x_NCHW, self.stride)
        if self.subsample == "max":
            return F.max_pool2d(x_NCHW, self.stride, ceil_mode=True)
        # Both pick the same pixels. On a CPU the backward pass of slices writes two full tensors in another memory
        # format: measured on ResNet-20, a step takes 7 % longer with them. On a GPU that of the pooling is slow:
        # 28 µs each time, where a whole step takes 2 ms (measured on an H200).
        if x_NCHW.is_cuda:
            return x_NCHW[:, :, :: self.stride, :: self.stride]
        return F.avg_pool2d(x_NCHW, 1, self.stride)

    def extra_repr(self) -> str:
        """The settings, for the printed form."""
        return f"stride={self.stride}, zeros={self.zeros}, subsample={self.subsample}"


class Projection(nn.Sequential):
    """A 1×1 convolution with the block's stride, and a batch norm unless one precedes it.

    `reads`: the input of the block, or what it begins with, which is another thing in pre-activated orderings only.
    With `subsample` "average" the convolution has no stride and follows a mean of the stride × stride pixels (ResNet-D,
    He et al. 2019).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        norm: bool,
        *,
        reads: Reads = "activated",
        subsample: Literal["stride", "average"] = "stride",
    ) -> None:
        self.activated = reads == "activated"
        self.mean_over = stride if subsample == "average" else 1
        conv = nn.Conv2d(in_channels, channels, 1, stride=stride // self.mean_over, bias=False)
        super().__init__(conv, *([nn.BatchNorm2d(channels)] if norm else []))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The projected image."""
        if self.mean_over != 1:
            x_NCHW = _average(x_NCHW, self.mean_over)
        for layer in self:
            x_NCHW = layer(x_NCHW)
        return x_NCHW


def _average(x_NCHW: Tensor, stride: int) -> Tensor:
    """The mean of each stride × stride pixels, at the edge of those that there are."""
    return F.avg_pool2d(x_NCHW, stride, ceil_mode=True, count_include_pad=False)


def identity(
    in_channels: int,
    channels: int,
    stride: int,
    norm: bool,  # noqa: ARG001
    *,
    zeros: Zeros = "around",
    subsample: Sampling = "slice",
    reads: Reads = "input",
) -> nn.Module:
    """Option A: the input itself; where the shape changes, subsampled and with channels of zeros.

    The zeros are half on each side, or all `before` or `after` the channels.

    Raises:
        InputError: fewer channels leave the block than enter it.
    """
    if channels < in_channels:
        raise InputError(
            f"model.shortcut: 'identity' cannot go from {in_channels} to {channels} channels; use 'projection'"
        )
    if (in_channels, stride) == (channels, 1):
        return nn.Identity()
    return Subsample(in_channels, channels, stride, zeros, subsample, reads == "activated")


def projection(
    in_channels: int,
    channels: int,
    stride: int,
    norm: bool,
    *,
    reads: Reads = "activated",
    subsample: Literal["stride", "average"] = "stride",
) -> nn.Module:
    """Option B: a 1×1 convolution where the shape changes, the input itself elsewhere."""
    if (in_channels, stride) == (channels, 1):
        return nn.Identity()
    return Projection(in_channels, channels, stride, norm, reads=reads, subsample=subsample)


def none(in_channels: int, channels: int, stride: int, norm: bool) -> None:
    """No shortcut: the plain twin of a residual network."""


SHORTCUTS: Table[nn.Module | None] = Table(
    "shortcut", {"identity": identity, "projection": projection, "all_projection": Projection, "none": none}
)

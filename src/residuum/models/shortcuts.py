"""Shortcuts: what a residual block adds to its branch (He et al. 2015, sections 3.3 and 4.1, options A, B and C).

A builder takes the channels that enter and leave the block, its stride, and whether a projection has a batch norm of
its own. It gives None for a plain network: nothing is added.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from residuum.errors import InputError
from residuum.registry import Table


class Subsample(nn.Module):
    """Every `stride`-th pixel of each row and column, with channels of zeros put around: no parameters (option A)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        before = (channels - in_channels) // 2
        self.zeros = (before, channels - in_channels - before)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The smaller image with more channels."""
        if self.stride != 1:
            # Both pick the same pixels. On a CPU the backward pass of slices writes two full tensors in another memory
            # format: measured on ResNet-20, a step takes 7 % longer with them. On a GPU that of the pooling is slow:
            # 28 µs each time, where a whole step takes 2 ms (measured on an H200).
            if x_NCHW.is_cuda:
                x_NCHW = x_NCHW[:, :, :: self.stride, :: self.stride]
            else:
                x_NCHW = F.avg_pool2d(x_NCHW, 1, self.stride)
        return F.pad(x_NCHW, (0, 0, 0, 0, *self.zeros)) if any(self.zeros) else x_NCHW

    def extra_repr(self) -> str:
        """The settings, for the printed form."""
        return f"stride={self.stride}, zeros={self.zeros}"


class Projection(nn.Sequential):
    """A 1×1 convolution with the block's stride, and a batch norm unless one precedes it."""

    def __init__(self, in_channels: int, channels: int, stride: int, norm: bool) -> None:
        conv = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
        super().__init__(conv, *([nn.BatchNorm2d(channels)] if norm else []))


def identity(in_channels: int, channels: int, stride: int, norm: bool) -> nn.Module:  # noqa: ARG001
    """Option A: the input itself; where the shape changes, subsampled and with channels of zeros, half on each side.

    Raises:
        InputError: fewer channels leave the block than enter it.
    """
    if channels < in_channels:
        raise InputError(
            f"model.shortcut: 'identity' cannot go from {in_channels} to {channels} channels; use 'projection'"
        )
    if (in_channels, stride) == (channels, 1):
        return nn.Identity()
    return Subsample(in_channels, channels, stride)


def projection(in_channels: int, channels: int, stride: int, norm: bool) -> nn.Module:
    """Option B: a 1×1 convolution where the shape changes, the input itself elsewhere."""
    if (in_channels, stride) == (channels, 1):
        return nn.Identity()
    return Projection(in_channels, channels, stride, norm)


def none(in_channels: int, channels: int, stride: int, norm: bool) -> None:
    """No shortcut: the plain twin of a residual network."""


SHORTCUTS: Table[nn.Module | None] = Table(
    "shortcut", {"identity": identity, "projection": projection, "all_projection": Projection, "none": none}
)

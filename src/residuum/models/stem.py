"""Stems: the first convolution, and what follows it up to the first block."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from residuum.registry import Table

Stride = Annotated[int, Field(ge=1, le=64)]
Pool = Literal["max", "none"]
After = Literal["bn_act", "bn", "act", "none"]
"""What follows the convolution: batch norm and activation, one of them, or neither."""


@dataclass(frozen=True)
class Stem:
    """The first layers of a network: a convolution, what follows it, a pooling; `stride` is that of both together."""

    conv: nn.Conv2d
    pool: nn.Module
    stride: int
    after: After = "bn_act"


def conv3x3(
    in_channels: int, channels: int, *, stride: Stride = 1, after: After = "bn_act", pool: Pool = "none"
) -> Stem:
    """A 3×3 convolution at full resolution, no pooling: for small images (He et al. 2015, section 4.2)."""
    return _stem(nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False), pool, after)


def conv7x7(
    in_channels: int, channels: int, *, stride: Stride = 2, after: After = "bn_act", pool: Pool = "max"
) -> Stem:
    """A 7×7 convolution of stride 2 and a 3×3 max pooling of stride 2 (He et al. 2015, table 1)."""
    return _stem(nn.Conv2d(in_channels, channels, 7, stride=stride, padding=3, bias=False), pool, after)


def _stem(conv: nn.Conv2d, pool: Pool, after: After) -> Stem:
    if pool == "none":
        return Stem(conv, nn.Identity(), conv.stride[0], after)
    return Stem(conv, nn.MaxPool2d(3, stride=2, padding=1), 2 * conv.stride[0], after)


STEMS: Table[Stem] = Table("stem", {"3x3": conv3x3, "7x7": conv7x7})

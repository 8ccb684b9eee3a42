"""Stems: the first convolution, and the pooling that follows its batch norm and activation."""

from dataclasses import dataclass

from torch import nn

from residuum.registry import Table


@dataclass(frozen=True)
class Stem:
    """The first layers of a network; `stride` is that of both together."""

    conv: nn.Conv2d
    pool: nn.Module
    stride: int


def conv3x3(in_channels: int, channels: int) -> Stem:
    """A 3×3 convolution at full resolution, no pooling: for small images (He et al. 2015, section 4.2)."""
    return Stem(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.Identity(), stride=1)


def conv7x7(in_channels: int, channels: int) -> Stem:
    """A 7×7 convolution of stride 2 and a 3×3 max pooling of stride 2 (He et al. 2015, table 1)."""
    conv = nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)
    return Stem(conv, nn.MaxPool2d(3, stride=2, padding=1), stride=4)


STEMS: Table[Stem] = Table("stem", {"3x3": conv3x3, "7x7": conv7x7})

"""Poolings: what makes one value of each channel of the last feature map, before the linear layer."""

from typing import Annotated

from pydantic import Field
from torch import nn

from residuum.registry import Table


def average(*, window: Annotated[int, Field(ge=0, le=1024)] = 0) -> nn.Module:
    """The mean over all positions; with `window`, over the one window × window that fits, from the top left corner."""
    return nn.AvgPool2d(window) if window else nn.AdaptiveAvgPool2d(1)


def maximum() -> nn.Module:
    """The largest value over all positions."""
    return nn.AdaptiveMaxPool2d(1)


POOLINGS: Table[nn.Module] = Table("pooling", {"average": average, "max": maximum})

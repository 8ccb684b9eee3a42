"""Squeeze-and-excitation in a basic block: each channel is weighted by what all of them hold (Hu et al. 2018)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Weights between 0 and 1 for the channels, made of their means by two linear layers."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        few = max(1, channels // reduction)
        self.weigh = nn.Sequential(nn.Linear(channels, few), nn.ReLU(), nn.Linear(few, channels), nn.Sigmoid())

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The same maps, each times its weight."""
        return x_NCHW * self.weigh(x_NCHW.mean((2, 3)))[:, :, None, None]


def se(
    in_channels: int, channels: int, stride: int, *, reduction: Annotated[int, Field(ge=1)] = 4
) -> tuple[nn.Module, ...]:
    """Two 3×3 convolutions, and squeeze-and-excitation before the addition."""
    return (
        nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        SqueezeExcite(channels, reduction),
    )

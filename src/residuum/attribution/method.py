"""What is known of an attribution method besides how it is computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Method:
    """A row of the table of attribution methods, `METHOD` in its file.

    `maps` computes them; `title` is its name in figures. A `signed` map has two signs: for the class, and against it. A
    `coarse` map is drawn over its image; any other has the detail of the pixels and is drawn alone.
    `fitted(settings, shape)` writes out the settings that depend on the images' shape (C, H, W).
    `misses(network, images_NCHW, targets_N, baseline_CHW, maps_NHW)`, where there is such a check, gives by how much
    the sum of each map misses what it should be, and that.
    """

    name: str
    maps: Callable[..., Mapping[str, Tensor]]
    title: str
    signed: bool = False
    coarse: bool = False
    fitted: Callable[[Mapping[str, Any], tuple[int, int, int]], Mapping[str, Any]] = lambda settings, _shape: settings
    misses: Callable[..., tuple[Tensor, Tensor]] | None = None

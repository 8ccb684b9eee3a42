"""The most confident mistakes: the images, what they are, what the network takes them for, and how sure it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from residuum.analysis.per_class import Mistake
from residuum.report import style

COLUMNS = 6


@dataclass(frozen=True, eq=False)
class Tile:
    """One mistake with its image: uint8 [H, W] or [H, W, 3]."""

    mistake: Mistake
    image: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Panel:
    """The mistakes of one run, the most confident first."""

    label: str
    tiles: tuple[Tile, ...]


Images = NDArray[np.uint8] | Mapping[int, NDArray[np.uint8]]
"""Test images by their numbers, uint8 CHW with 1 or 3 channels: all of them, or those that were kept."""


def data(runs: Mapping[str, Sequence[Mistake]], images: Mapping[str, Images]) -> tuple[Panel, ...]:
    """The mistakes of runs by their labels, and the test images of each."""
    return tuple(
        Panel(label, tuple(Tile(one, style.picture(images[label][one.index])) for one in found))
        for label, found in runs.items()
    )


def draw(panels: tuple[Panel, ...]) -> Figure:
    """A sheet of images for each run, one below the other; each with true → predicted, probability and its number."""
    rows = [max(1, -(-len(panel.tiles) // COLUMNS)) for panel in panels] or [1]
    heights = [1.95 * count + 0.4 for count in rows]
    with style.styled():
        figure = Figure(figsize=(9.5, sum(heights)), layout="constrained")
        parts: Any = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)
        for part, panel, count in zip(parts[:, 0], panels, rows, strict=False):
            part.suptitle(style.literal(style.short(panel.label, 80)) + ("" if panel.tiles else ": no mistakes"))
            grid = part.subplots(count, COLUMNS, squeeze=False)
            for axes in grid.flat:
                axes.set_axis_off()
            for axes, tile in zip(grid.flat, panel.tiles, strict=False):
                axes.imshow(tile.image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axes.set_title(_caption(tile.mistake), fontsize=8, pad=3)
    return figure


def _caption(mistake: Mistake) -> str:
    true, predicted = (style.literal(style.short(name, 20)) for name in (mistake.true, mistake.predicted))
    return f"{true}\n→ {predicted}\n{style.percent(mistake.probability)}, no. {mistake.index}"

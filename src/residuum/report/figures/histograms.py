"""Histograms of layers over epochs: one panel a layer, one ridge an epoch, the first at the back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from residuum.analysis import depth as analysis
from residuum.records.layers import Histograms, Layers, Numbers
from residuum.report import style
from residuum.report.figures import frame

Of = Literal["parameters", "gradients", "responses", "activations"]

COLUMNS = 4
MOST = 24
"""So many ridges of one panel can be told apart."""
HIGHEST = 2.6
"""How high a ridge is at most, in distances from one to the next: little where there are few, which then stand free."""


FAR_APART = 4.0
"""Where the standard deviation of one epoch is so many times that of another, no common scale shows both."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """The histogram of a tensor after an epoch: B + 1 edges, and the share of the values per unit between them.

    All edges are one value where the tensor is constant; there are none where a value of it was not finite.
    """

    epoch: int
    edges_E: Numbers
    densities_B: Numbers
    sd: float


@dataclass(frozen=True, eq=False)
class Panel:
    """One tensor over the epochs, and the range that its frame shows.

    `relative`: edges and range are in standard deviations of each epoch, which lie too far apart for a common scale.
    """

    name: str
    ridges: tuple[Ridge, ...]
    low: float
    high: float
    relative: bool


@dataclass(frozen=True, eq=False)
class Ridges:
    """What the figure shows."""

    title: str
    of: Of
    panels: tuple[Panel, ...]


def data(title: str, epochs: Sequence[Layers], of: Of, wanted: Sequence[str] = ()) -> Ridges:
    """The histograms of the layers of a run; `wanted` names layers other than the usual choice.

    Of many epochs some are left out, evenly.

    Raises:
        InputError: there is no such layer.
    """
    if not epochs:
        return Ridges(title, of, ())
    shown = sorted({round(at) for at in np.linspace(0, len(epochs) - 1, min(MOST, len(epochs)))})
    seen = [(epochs[at].epoch, getattr(epochs[at], of)) for at in shown]
    names = analysis.tensors(seen[0][1].names, wanted)
    return Ridges(title, of, tuple(_panel(name, seen) for name in names))


def _panel(name: str, seen: Sequence[tuple[int, Histograms]]) -> Panel:
    at = [found.names.index(name) for _, found in seen]
    sds = [float(found.std_T[one]) for one, (_, found) in zip(at, seen, strict=True)]
    positive = [sd for sd in sds if sd > 0]
    relative = bool(positive) and max(positive) > FAR_APART * min(positive)
    ridges, ends = [], []
    for one, sd, (epoch, found) in zip(at, sds, seen, strict=True):
        unit = sd if relative and sd > 0 else 1.0
        low, high, counts_B = found.low_T[one] / unit, found.high_T[one] / unit, found.counts_TB[one]
        if not np.isfinite([low, high]).all():
            ridges.append(Ridge(epoch, np.zeros(0), np.zeros(0), sd))
            continue
        width = (high - low) / len(counts_B)
        densities_B = counts_B / (counts_B.sum() * width) if width > 0 else np.zeros(len(counts_B))
        ridges.append(Ridge(epoch, np.linspace(low, high, len(counts_B) + 1), densities_B, sd))
        ends += [float(end_T[one]) / unit for end_T in analysis.outer(found)]
    return Panel(name, tuple(ridges), min(ends, default=0.0), max(ends, default=0.0), relative)


def draw(ridges: Ridges) -> Figure:
    """Each ridge to the same height, so that shape and width are compared; each panel on a scale of its own.

    A bar more than twice as high as any other of its ridge is cut there, as that of the zeros behind a ReLU. Where
    epochs lie too far apart each is drawn in its own standard deviations, which then stand on the right.
    """
    panels = ridges.panels
    columns = min(COLUMNS, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    with style.styled():
        figure = Figure(figsize=(max(5.0, 3.1 * columns), 0.5 + 3.0 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for number, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
            _draw_panel(axes, panel)
            if number % columns == 0:
                axes.set_ylabel("epoch")
        figure.suptitle(style.literal(style.short(f"{ridges.title}: {ridges.of}", 90)), fontsize=11)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    count = len(panel.ridges)
    colours = mpl.colormaps["viridis"](np.linspace(0.85, 0.1, count))
    height = min(HIGHEST, 0.9 + count / 14)
    margin = 0.04 * (panel.high - panel.low) or abs(panel.low) / 2 or 1.0
    for number, ridge in enumerate(panel.ridges):
        floor, order = count - 1 - number, 2 + number
        if not len(ridge.edges_E):
            axes.text(panel.low, floor, " not finite", fontsize=8, va="bottom", color="0.3", zorder=order)
            continue
        edges_E, densities_B = ridge.edges_E, ridge.densities_B
        if not densities_B.any():  # every value is the same
            axes.vlines(edges_E[0], floor, floor + height, color=colours[number], zorder=order)
            continue
        second, first = np.sort(densities_B)[-2:]
        top = min(first, 2 * second) or first
        outline_B = floor + height * np.minimum(densities_B / top, 1)
        axes.stairs(outline_B, edges_E, baseline=floor, fill=True, color=colours[number], zorder=order)
        axes.stairs(outline_B, edges_E, baseline=floor, color="white", linewidth=0.5, zorder=order)
    axes.set_xlim(panel.low - margin, panel.high + margin)
    axes.set_ylim(-0.1, count - 1 + height + 0.1)
    epochs = [ridge.epoch for ridge in panel.ridges]
    ticks = sorted({round(at) for at in np.linspace(0, count - 1, min(6, count))})
    axes.set_yticks([count - 1 - at for at in ticks], [str(epochs[at]) for at in ticks])
    if panel.relative:
        axes.set_xlabel("in standard deviations", fontsize=9)
        for at in ticks:
            place, sd = (1, count - 1 - at), f"{panel.ridges[at].sd:.2g}"
            axes.annotate(sd, place, xycoords=axes.get_yaxis_transform(), xytext=(-1, 1), textcoords="offset points",
                          ha="right", fontsize=7, zorder=3 + count)  # fmt: skip
        axes.set_title("sd", loc="right", fontsize=7, pad=frame.PAD)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    formatter = ScalarFormatter(useMathText=True)
    formatter.set_powerlimits((-2, 3))
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_title(style.literal(style.short(panel.name, 30)), loc="left", fontsize=9, pad=frame.PAD)

"""Loss surfaces of runs, as Li et al. 2018 draw them: along one direction, as contours, and as a relief over two."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from residuum.records.surfaces import Surface
from residuum.report import style
from residuum.report.figures import frame

HIGHEST = 1e3
"""Losses above it are drawn as it: the rim of a deep plain network would hide all else."""

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class View:
    """Surfaces of runs in one frame: `axes_P` by label, losses cut at `HIGHEST` and at a floor above 0.

    `low` and `high` are the smallest and the largest loss that is drawn, the same for all runs.
    """

    axis_P: Mapping[str, Values]
    loss: Mapping[str, Values]
    accuracy: Mapping[str, Values]
    low: float
    high: float
    cut: bool


def data(surfaces: Mapping[str, Surface]) -> View:
    """What is drawn of surfaces by their labels; places without a finite loss are NaN."""
    losses = {label: np.clip(one.loss, 1e-6, HIGHEST) for label, one in surfaces.items()}
    finite = np.concatenate([values[np.isfinite(values)] for values in losses.values()]) if losses else np.empty(0)
    return View(
        axis_P={label: one.grid.axis_P for label, one in surfaces.items()},
        loss=losses,
        accuracy={label: one.accuracy for label, one in surfaces.items()},
        low=float(finite.min()) if finite.size else 1e-6,
        high=float(finite.max()) if finite.size else 1.0,
        cut=any((one.loss > HIGHEST).any() for one in surfaces.values()),
    )


def lines(view: View) -> Figure:
    """Loss (logarithmic) and accuracy along one direction, a line for each run."""
    with style.styled():
        figure = Figure(figsize=(8.4, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True)
        for look, label in zip(style.arms(len(view.loss)), view.loss, strict=True):
            kind: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "marker": look.marker,
                                    "markersize": 4, "markevery": max(1, len(view.axis_P[label]) // 20)}  # fmt: skip
            left.plot(view.axis_P[label], view.loss[label], label=style.literal(label), **kind)
            right.plot(view.axis_P[label], view.accuracy[label], **kind)
        left.set_yscale("log")
        frame.decades(left.yaxis)
        left.set_ylabel(_loss(view))
        right.set_ylabel("training accuracy")
        right.set_ylim(0, 1)
        right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        for axes in (left, right):
            axes.axvline(0, color="0.6", linewidth=0.8, zorder=0)
            axes.set_xlabel("step along a random direction\n(1: as long as the weights, filter by filter)")
        if view.loss:
            figure.legend(loc="outside lower center", ncols=min(4, len(view.loss)), fontsize=9)
    return figure


def contours(view: View) -> Figure:
    """Contours of the loss over two directions, a panel for each run, with the same levels in all."""
    count = max(1, len(view.loss))
    with style.styled():
        figure = Figure(figsize=(4.1 * count + 0.9, 4.3), layout="constrained")
        grid: Sequence[Axes] = list(figure.subplots(1, count, squeeze=False)[0])
        levels, shown = _levels(view), None
        for axes, label in zip(grid, view.loss, strict=False):
            axis_P, loss_PP = view.axis_P[label], np.ma.masked_invalid(view.loss[label])
            if loss_PP.count():
                # The first direction goes up, the second to the right.
                shown = axes.contourf(axis_P, axis_P, loss_PP, levels, cmap="viridis_r", extend="both",
                                      norm=LogNorm(levels[0], levels[-1]))  # fmt: skip
                marked = axes.contour(axis_P, axis_P, loss_PP, levels, colors="black", linewidths=0.5)
                axes.clabel(marked, levels=[level for level in levels if _is_power_of_ten(level)],
                            fmt=lambda value: f"{value:g}", fontsize=8)  # fmt: skip
            axes.plot(0, 0, "x", color="white", markersize=8, markeredgewidth=3.5)
            axes.plot(0, 0, "x", color="black", markersize=7, markeredgewidth=1.6)
            axes.set_title(style.literal(label), fontsize=10)
            axes.set_aspect("equal")
            axes.grid(visible=False)
            axes.locator_params(nbins=5)
        for axes in grid:
            axes.set_xlabel("step along the second direction")
        grid[0].set_ylabel("step along the first direction")
        if shown is not None:
            bar = figure.colorbar(shown, ax=grid, shrink=0.85, ticks=levels, format="%g")
            bar.set_label(_loss(view))
    return figure


def relief(view: View) -> Figure:
    """The loss over two directions as a surface in space, a panel for each run, with the same heights in all."""
    count = max(1, len(view.loss))
    with style.styled():
        # Constrained layout does not know how wide the labels of an axis in space are.
        figure = Figure(figsize=(4.9 * count, 4.2))
        figure.subplots_adjust(left=0.01, right=1 - 0.13 / count, top=0.91, bottom=0.06, wspace=0.22)
        bottom, top = np.log10(view.low), np.log10(max(view.high, view.low * 10))
        for number, label in enumerate(view.loss, start=1):
            axes: Any = figure.add_subplot(1, count, number, projection="3d")
            across_PP, up_PP = np.meshgrid(view.axis_P[label], view.axis_P[label])
            heights_PP = np.log10(view.loss[label])
            if np.isfinite(heights_PP).any():
                axes.plot_surface(across_PP, up_PP, heights_PP, cmap="viridis_r", vmin=bottom, vmax=top,
                                  rstride=1, cstride=1, linewidth=0.15, edgecolor="0.25")  # fmt: skip
            axes.set_zlim(bottom, top)
            ticks = [tick for tick in LogLocator(subs=(1, 3)).tick_values(10**bottom, 10**top)
                     if bottom <= np.log10(tick) <= top]  # fmt: skip
            axes.set_zticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
            axes.set_title(style.literal(label), fontsize=10)
            axes.set_xlabel("second direction", fontsize=9)
            axes.set_ylabel("first direction", fontsize=9)
            axes.set_zlabel(_loss(view), fontsize=9)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.tick_params(labelsize=8)
            axes.view_init(elev=32, azim=-58)
    return figure


def _loss(view: View) -> str:
    return f"training loss (nats{f', cut at {HIGHEST:g}' if view.cut else ''})"


def _levels(view: View) -> list[float]:
    """1, 2 and 5 times the powers of ten around the losses, two at least."""
    found = [float(tick) for tick in LogLocator(subs=(1, 2, 5)).tick_values(view.low, max(view.high, 10 * view.low))]
    within = [tick for tick in found if view.low <= tick <= max(view.high, 10 * view.low)]
    return within if len(within) > 1 else found


def _is_power_of_ten(level: float) -> bool:
    return math.isclose(math.log10(level), round(math.log10(level)), abs_tol=1e-9)

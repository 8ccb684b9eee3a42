"""Activation functions and their derivatives, one above the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from residuum.registry import Choice
from residuum.report import style
from residuum.report.figures import choices

Values = NDArray[np.float64]

POINTS: Values = np.linspace(-5, 8, 1301)
"""Where the functions are taken: from where most are flat to where all are a line or a constant; 0 is one of them."""

COLUMNS = 4
FUNCTION: dict[str, Any] = {"color": style.TRAIN}
DERIVATIVE: dict[str, Any] = {"color": style.VALIDATION, "linestyle": "--"}
RELU: dict[str, Any] = {"color": "0.35", "linestyle": ":", "linewidth": 1}
JUMP = 0.1
"""A derivative that changes by more from one point to the next has a jump there; the smooth ones change by 0.01."""


@dataclass(frozen=True, eq=False)
class Activation:
    """One function: its values and derivatives at `POINTS`; a NaN in the derivatives stands where they jump."""

    name: str
    settings: str
    values_N: Values
    slopes_N: Values


def data(activation: Choice, values_N: Values, slopes_N: Values) -> Activation:
    """One function from its values and derivatives at `POINTS`."""
    return Activation(activation.name, choices.settings(activation), values_N, _broken(slopes_N))


def _broken(slopes_N: Values) -> Values:
    """Derivatives with the last point before each jump left out, so that no line is drawn across it."""
    jumps_N = np.abs(np.diff(slopes_N, append=slopes_N[-1:])) > JUMP
    return np.where(jumps_N, np.nan, slopes_N)


def draw(activations: Sequence[Activation]) -> Figure:
    """Each function with its derivative below it, all on the same axes."""
    bands = max(1, -(-len(activations) // COLUMNS))
    heights = _limits([one.values_N for one in activations], (-1.6, 8.2))
    slopes = _limits([one.slopes_N for one in activations], (-0.25, 1.25))
    with style.styled():
        figure = Figure(figsize=(9.5, 3.9 * bands), layout="constrained")
        grid = figure.subplots(2 * bands, COLUMNS, squeeze=False, height_ratios=(8, 5) * bands)
        for axes in grid[-2:, len(activations) - COLUMNS * (bands - 1) :].flat:
            axes.set_axis_off()
        for number, activation in enumerate(activations):
            band, column = divmod(number, COLUMNS)
            above, below = grid[2 * band : 2 * band + 2, column]
            choices.title(above, activation.name, activation.settings)
            _curve(above, activation.values_N, np.maximum(POINTS, 0), heights, FUNCTION)
            _curve(below, activation.slopes_N, _broken(np.heaviside(POINTS, 0)), slopes, DERIVATIVE)
            above.tick_params(labelbottom=False)
            below.set_xlabel("x")
            if column == 0:
                above.set_ylabel("f(x)")
                below.set_ylabel("f′(x)")
        figure.align_ylabels()
        labels = {"function": FUNCTION, "derivative": DERIVATIVE, "ReLU, to compare": RELU}
        lines = [Line2D([], [], label=label, **look) for label, look in labels.items()]
        figure.legend(handles=lines, loc="outside lower center", ncols=len(lines))
    return figure


def _limits(curves: Sequence[Values], usual: tuple[float, float]) -> tuple[float, float]:
    """The usual limits, further out where a curve goes there, and no more than as far again."""
    low, high = usual
    ends = [value for curve in curves for value in (np.nanmin(curve), np.nanmax(curve)) if np.isfinite(value)]
    room = 0.05 * (high - low)
    return (max(2 * low - high, min([low, *(end - room for end in ends)])),
            min(2 * high - low, max([high, *(end + room for end in ends)])))  # fmt: skip


def _curve(axes: Axes, values_N: Values, relu_N: Values, limits: tuple[float, float], look: dict[str, Any]) -> None:
    for zero in (axes.axhline, axes.axvline):
        zero(0, color="0.6", linewidth=0.8, zorder=0)
    axes.plot(POINTS, relu_N, **RELU)
    axes.plot(POINTS, values_N, **look)
    axes.set_ylim(*limits)
    axes.set_xlim(POINTS[0], POINTS[-1])

"""What several figures of a study share: which values a frame shows, and a legend that covers nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from math import copysign, inf, isfinite
from statistics import median_low
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from residuum.report import style

NARROW = 4.2
"""Inches: the width of a figure for a phone, where text of the usual size is then as large as that of the page."""


def cells(figure: Figure, lengths: Sequence[int], *, narrow: bool = False, **settings: Any) -> list[list[Axes]]:
    """Axes for rows of so many panels; on a phone all one below the other, where what they share is said at each."""
    rows, columns = max(1, len(lengths)), max((*lengths, 1))
    if narrow:
        stack = iter(figure.subplots(max(1, sum(lengths)), 1, squeeze=False)[:, 0])
        return [[next(stack) for _ in range(length)] for length in lengths]
    grid = figure.subplots(rows, columns, squeeze=False, **settings)
    for row, length in zip(grid, lengths, strict=False):
        for axes in row[length:]:
            axes.set_axis_off()
    return [list(row[:length]) for row, length in zip(grid, lengths, strict=False)]


PAD = 4
"""Points between axes and titles."""


FEW = 1000.0
"""A logarithmic axis over less than this has ticks at 2 and 5 as well: else there might be a single one."""


def decades(axis: Axis) -> None:
    """Ticks of a logarithmic axis whose limits are set: powers of ten, or few decades with plain numbers between."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(numticks=7))
    if high / low < FEW:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_locator(NullLocator())


def counted(axis: Axis, most: int = 8) -> None:
    """Ticks of an axis along which things are counted, as epochs: whole numbers alone, though it be a single one."""
    axis.set_major_locator(MaxNLocator(most, integer=True, steps=ROUND, min_n_ticks=1))


CROWDED = 2.5
"""Values over so many times the room of most of them would leave these too little of a frame in proportion."""
ROUND = (1, 2, 2.5, 5, 10)
"""Steps between ticks: 2 and 4 are read faster than 1.6 and 3.2."""
PADDING = 0.05
"""The share of an axis that is left free at an end beyond the values."""


@dataclass(frozen=True)
class Extent:
    """What an axis shows: from `low` to `high`, in proportion within the `window` (None: everywhere).

    What lies outside of the window is drawn at the logarithm of its distance, so that the largest effects are within
    the frame and the small ones can still be told apart.
    """

    low: float
    high: float
    window: tuple[float, float] | None = None

    def place(self, value: Any) -> Any:
        """Where values lie along the axis."""
        if self.window is None:
            return np.asarray(value, dtype=float)
        (low, high), value = self.window, np.asarray(value, dtype=float)
        span, near = high - low, np.clip(value, low, high)
        return near + np.sign(value - near) * span * np.log10(1 + np.abs(value - near) / span)

    def value(self, place: Any) -> Any:
        """What lies at places along the axis: the inverse of `place`."""
        if self.window is None:
            return np.asarray(place, dtype=float)
        (low, high), place = self.window, np.asarray(place, dtype=float)
        span, near = high - low, np.clip(place, low, high)
        return near + np.sign(place - near) * span * (10 ** np.minimum(np.abs(place - near) / span, 300) - 1)

    def ticks(self, apart: float = 0.07) -> list[float]:
        """Round numbers along the axis, outside of the window with that share of it between one and the next."""
        low, high = self.window or (self.low, self.high)
        found = [float(tick) for tick in MaxNLocator(5, steps=ROUND).tick_values(low, high) if low <= tick <= high]
        whole = float(self.place(self.high) - self.place(self.low))
        # 1, 2 and 5 times powers of ten first, and what else is round where there is still room.
        for room, digits in ((apart, (1, 2, 5)), (0.13, range(1, 10))) if self.window else ():
            powers = {digit * 10.0**power for digit in digits for power in range(-12, 16)}
            beyond = [tick for one in powers | {0.0} for tick in (one, -one)
                      if self.low <= tick < low or high < tick <= self.high]  # fmt: skip
            for tick in sorted(beyond, key=lambda tick: abs(tick - (low + high) / 2)):
                if all(abs(float(self.place(tick) - self.place(other))) >= room * whole for other in found):
                    found.append(tick)
        return sorted(found)


def extent(near: Iterable[float], every: Iterable[float], low: float = -inf, high: float = inf) -> Extent:
    """The extent of an axis that shows `every` value, and of these the `near` ones in proportion.

    It never reaches beyond `low` and `high`, as 0 and 100 of an error. Values that are not finite have no place.
    """
    first, last = _ends(near, low, high) or (0.0, 1.0)
    room = PADDING * (last - first) or abs(first) / 2 or 0.5
    window = max(low, first - room), min(high, last + room)
    least, most = _ends([*every, *window], low, high) or window
    shown = Extent(least, most, window if most - least > CROWDED * (window[1] - window[0]) else None)
    room = PADDING * float(shown.place(most) - shown.place(least))
    least = float(shown.value(shown.place(least) - room)) if least < window[0] else least
    most = float(shown.value(shown.place(most) + room)) if most > window[1] else most
    return replace(shown, low=max(low, least), high=min(high, most))


TOWERING = 2.0
"""A loss of so many times what most runs begin with in training is not shown in proportion."""
FAR = 40.0
"""What is so many times the reach of the near values above them is beyond the frame, and marked."""


def of_losses(runs: Iterable[Sequence[Sequence[float]]]) -> Extent:
    """The extent of an axis of losses, of each run those while training first, then others.

    A run that diverged, and the first epochs of validation, may have thousands of times the loss of all others.
    """
    runs = [[[value for value in values if isfinite(value)] for values in curves] for curves in runs]
    every = [value for curves in runs for values in curves for value in values]
    first = [next(filter(None, curves)) for curves in runs if any(curves)]
    begun = median_low([max(values[0], median_low(values)) for values in first]) if first else 0.0
    near = [value for value in every if value <= TOWERING * begun]
    return extent(based(near), reached(near, every), 0.0)


def reached(near: Sequence[float], every: Iterable[float]) -> list[float]:
    """The values that a frame reaches: not those so far above the near ones that these would be little of it."""
    most = max(near) + FAR * (max(near) - min(near)) if near else inf
    return [value for value in every if value <= most]


RANGE = 3.0
"""How far beyond its mean an interval counts for the frame, as a multiple of what most intervals reach."""


def reach(means: Sequence[float], intervals: Sequence[tuple[float, float, int]]) -> list[float]:
    """The values that a frame of means has to show, with the (low, high, n) of those that have an interval.

    An interval counts no further from the means than these lie apart, or than most intervals of three runs or more
    reach: one of two runs, which is 12.7 standard errors wide on each side, or of a run that was disturbed, would press
    everything else together. It goes on beyond the frame, and is marked there.
    """
    if not means:
        return []
    lowest, highest = min(means), max(means)
    usual = [(high - low) / 2 for low, high, n in intervals if n > 2]
    apart = max(highest - lowest, RANGE * median_low(usual) if usual else 0.0)
    ends = (end for low, high, _ in intervals for end in (max(low, lowest - apart), min(high, highest + apart)))
    return [*means, *(ends if apart else ())]


def _ends(values: Iterable[float], low: float, high: float) -> tuple[float, float] | None:
    finite = [min(high, max(low, value)) for value in values if isfinite(value)]
    return (min(finite), max(finite)) if finite else None


def show(axes: Axes, along: Literal["x", "y"], shown: Extent, apart: float = 0.07) -> None:
    """Give an axis its extent, with ticks `apart`; what lies outside of the window has a grey ground, which says so."""
    axis, limits = (axes.xaxis, axes.set_xlim) if along == "x" else (axes.yaxis, axes.set_ylim)
    if shown.window:
        scale = axes.set_xscale if along == "x" else axes.set_yscale
        scale("function", functions=(shown.place, shown.value))
        axis.set_major_locator(FixedLocator(shown.ticks(apart)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
        span = axes.axvspan if along == "x" else axes.axhspan
        for one, two in ((shown.low, shown.window[0]), (shown.window[1], shown.high)):
            if one < two:
                span(one, two, color="0.94", linewidth=0, zorder=0)
                said: dict[str, Any] = {"s": "logarithmic", "fontsize": 8, "color": "0.4", "zorder": 1}
                if along == "x":
                    middle = float(shown.value((shown.place(one) + shown.place(two)) / 2))
                    axes.text(middle, 0.995, **said, ha="center", va="top", transform=axes.get_xaxis_transform())
                else:  # beside the window, where fewest curves are
                    said |= {"y": one, "va": "bottom"} if two == shown.high else {"y": two, "va": "top"}
                    axes.text(0.995, **said, ha="right", transform=axes.get_yaxis_transform())
    limits(shown.low, shown.high)


def based(values: Sequence[float]) -> list[float]:
    """Values of 0 or more, and 0 itself unless all are so far from it that it would take half of the frame.

    A frame without 0 is a tenth of the largest value high at least: less would make noise look like change.
    """
    finite = [value for value in values if isfinite(value)]
    least, most = min(finite, default=0.0), max(finite, default=0.0)
    if least <= most / 2:
        return [0.0, *finite]
    return [*finite, *((least + most) / 2 + side * most / 20 for side in (-1, 1))]


def departures(values: Sequence[float], low: float, high: float) -> tuple[tuple[int, float], ...]:
    """Where a curve leaves a frame: for each stretch of it beyond an edge which value is farthest out, and the edge."""
    found = []
    sides = (0 if low <= value <= high or value != value else copysign(1, value - low) for value in values)
    for side, stretch in groupby(enumerate(sides), key=lambda item: item[1]):
        if side:
            farthest = max((at for at, _ in stretch), key=lambda at: side * values[at])
            found.append((farthest, high if side > 0 else low))
    return tuple(found)


def mark_departures(
    axes: Axes, places: Sequence[float], values: Sequence[float], shown: Extent, colour: str,
    along: Literal["x", "y"] = "y", *, hollow: bool = True,
) -> None:  # fmt: skip
    """Put a triangle at the edge where values along an axis lie beyond it: hollow of an interval, filled of a curve."""
    for at, edge in departures(values, shown.low, shown.high):
        point, outward = (places[at], edge), edge == shown.high
        marker = ("^" if outward else "v") if along == "y" else (">" if outward else "<")
        axes.plot(*([one] for one in (point if along == "y" else point[::-1])), marker, color=colour, markersize=5,
                  markerfacecolor="white" if hollow else colour, markeredgewidth=0.9, clip_on=False, zorder=6,
                  scalex=False, scaley=False)  # fmt: skip


def lost_above(values: Sequence[float]) -> list[float]:
    """Values, those that are not finite as beyond every axis."""
    return [value if isfinite(value) else inf for value in values]


def mark_lost(axes: Axes, epochs: Sequence[int], values: Sequence[float], colour: str) -> None:
    """Put filled triangles at the upper edge of axes, whose limits are set, where a curve is not finite."""
    mark_departures(axes, epochs, lost_above(values), Extent(-inf, axes.get_ylim()[1]), colour, hollow=False)


BAND = Patch(color="0.45", alpha=0.3, linewidth=0)
"""What stands for a band of seeds in a legend, and what it is called there."""
BAND_NAME = "95 % interval, pointwise"
DEPARTED = Line2D([], [], color="0.3", marker="^", linestyle="none", markersize=5, markerfacecolor="white")
DEPARTED_CURVE = Line2D([], [], color="0.3", marker="^", linestyle="none", markersize=5)
DEPARTED_NAME = "goes on beyond the axis"


def note(axes: Axes, text: str) -> None:
    """A remark above the right corner of the axes, where no data is."""
    axes.set_title(text, loc="right", fontsize=8, color="0.3", pad=PAD)


def handle(look: style.Look, **settings: Any) -> Line2D:
    """The line that stands for an arm in a legend."""
    return Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.dash, markersize=5, **settings)


LONGEST = 48
ROW, LETTER, HANDLE = 0.2, 0.078, 0.75
"""Inches: a row of a legend, a letter in it, and the line and the gap before a name."""


def legend_rows(names: Sequence[str], width: float) -> tuple[int, int]:
    """Columns and rows of a legend of arms in a figure of that width in inches: as many columns as fit."""
    lengths = [min(style.width(name), LONGEST) for name in names]
    for columns in range(len(names), 1, -1):
        rows, longer = divmod(len(names), columns)  # the first columns take what is left over, as matplotlib has it
        ends = [at * rows + min(at, longer) for at in range(columns + 1)]
        if sum(HANDLE + LETTER * max(lengths[a:b]) for a, b in pairwise(ends)) <= width:
            return columns, rows + bool(longer)
    return 1, len(names)


def _labels(handles: Mapping[str, Any], said: Mapping[str, str], longest: int) -> list[str]:
    """The names of a legend, and below a name what is said of it, which is never cut with it."""
    return [style.literal(cut) + (f"\n({said[name]})" if name in said else "")
            for name, cut in zip(handles, style.apart([*handles], longest), strict=True)]  # fmt: skip


def legend(figure: Figure, handles: Mapping[str, Any], said: Mapping[str, str] = MappingProxyType({})) -> None:
    """A legend below the figure: it never covers data, however many arms there are."""
    if handles:
        labels = _labels(handles, said, min(LONGEST, int((figure.get_figwidth() - HANDLE) / LETTER)))
        columns, _ = legend_rows(list(handles), figure.get_figwidth())
        figure.legend(list(handles.values()), labels, loc="outside lower center", ncols=columns, fontsize=9,
                      handlelength=3)  # fmt: skip


def beside(axes: Axes, handles: Mapping[str, Any], said: Mapping[str, str], *, narrow: bool = False) -> None:
    """A legend to the right of the last axes of a row; on a phone below them."""
    labels = _labels(handles, said, 30)
    columns = legend_rows(list(handles), NARROW)[0] if narrow else 1
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22)} if narrow else {
        "loc": "center left", "bbox_to_anchor": (1.01, 0.5)}  # fmt: skip
    axes.legend(list(handles.values()), labels, **place, ncols=columns, fontsize=9, handlelength=3)


MARKED = "#A33B00"
SMALL_LETTER = 0.066
"""Inches: about how wide a letter of seven points is."""


def stamp(figure: Figure, text: str) -> None:
    """The mark of a scaled or changed study in a line of its own, beside what a figure with titles shows."""
    height, share = figure.get_figheight(), ROW / figure.get_figheight()
    above = bool(figure.legends)  # which are at the lower edge, whatever room is left there
    if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.set_figheight(height + ROW)
        engine.set(rect=(0, 0 if above else share, 1, 1 - share))
    cut = style.short(text, int(figure.get_figwidth() / SMALL_LETTER))
    place: dict[str, Any] = {"y": 1 - 0.1 * share, "va": "top"} if above else {"y": 0.1 * share, "va": "bottom"}
    figure.text(0.995, s=style.literal(cut), **place, fontsize=7, color=MARKED, ha="right")


def mark(figure: Figure, text: str) -> None:
    """The mark of a scaled or changed study, in small print above everything that the figure shows."""
    if text:
        figure.suptitle(
            style.literal(style.short(text, int(figure.get_figwidth() / SMALL_LETTER))),
            fontsize=7,
            color=MARKED,
            x=0.995,
            ha="right",
        )

"""History of each arm: training and held-out loss and accuracy against epoch, as small multiples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from statistics import median
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from residuum.analysis.curves import Band
from residuum.analysis.results import Results
from residuum.report import style
from residuum.report.figures import frame
from residuum.report.figures.grouping import groups
from residuum.report.figures.learning_curves import LOOK
from residuum.report.figures.lost import CROSS
from residuum.report.figures.study_curves import FEWEST, Curves, departs, diverged_at_once, ends

COLUMNS = 5
TOWERING = 5.0
"""A loss of so many times that at which training usually begins is cut off, which is marked."""


@dataclass(frozen=True)
class History:
    """One arm: bands of loss (nats) and of accuracy (%); none of an arm that diverged before an epoch ended."""

    arm: str
    loss: tuple[Band, ...]
    accuracy: tuple[Band, ...]


@dataclass(frozen=True)
class Histories:
    """What the figure shows: rows of the arms that were run, the top of the loss, and the ends of the accuracy.

    Of more than six arms each row is of a group, or of a part of one.
    """

    rows: tuple[tuple[History, ...], ...]
    top: float
    accuracy: tuple[float, float]
    mark: str

    @property
    def arms(self) -> tuple[History, ...]:
        """The arms of all rows."""
        return tuple(history for row in self.rows for history in row)


def data(results: Results, found: Curves, mark: str = "") -> Histories:
    """Loss and accuracy of every arm that has epochs, or that diverged before one ended; mean over its seeds."""
    at_once = diverged_at_once(results)
    made = {
        arm: History(
            arm,
            tuple(band for band in bands if band.quantity == "loss"),
            tuple(_accuracy(band) for band in bands if band.quantity == "error"),
        )
        for arm, bands in found.items()
        if bands or (arm in at_once and any(found.values()))
    }
    rest = dict(made)  # the baseline may be in several groups, and has one history
    parts = [[rest.pop(arm) for arm in members if arm in rest] for _, members in groups(results)]
    rows = []
    for part in parts:
        count = -(-len(part) // COLUMNS)
        columns = -(-len(part) // count) if count else 1
        rows += [tuple(part[at : at + columns]) for at in range(0, len(part), columns)]
    return Histories(tuple(rows), _top(tuple(made.values())), _accuracies(made.values()), mark)


def _top(made: Sequence[History]) -> float:
    """How high the frame of the loss is: as the highest value, unless that would press the others to the floor.

    Training begins at a loss of a few nats; that of a few first validations, or of one arm, can be thousands.
    """
    losses = [(band, value) for history in made for band in history.loss for value in band.mean if isfinite(value)]
    begun = [value for band, value in losses if band.split == "train" and value == band.mean[0]]
    values = [value for _, value in losses]
    usual = TOWERING * max(median(begun or [0.0]), median(values or [1.0]))
    return 1.05 * max((value for value in values if value <= usual), default=1.0) or 1.0


def _accuracies(made: Iterable[History]) -> tuple[float, float]:
    """The ends of the frame of the accuracy: those of the curves, and of the bands that do not go far beyond them."""
    drawn = [band for history in made for band in history.accuracy]
    means = [value for band in drawn for value in band.mean if isfinite(value)]
    edges = [(low, high, n) for band in drawn for low, high, n in zip(band.low, band.high, band.n, strict=True)
             if n >= FEWEST and isfinite(low)]  # fmt: skip
    shown = frame.extent(frame.reach(means, edges) or [0.0, 100.0], (), 0.0, 100.0)
    return shown.low, shown.high


def _accuracy(band: Band) -> Band:
    def turned(errors: Iterable[float]) -> tuple[float, ...]:
        return tuple(100 - error for error in errors)

    return Band(band.arm, band.split, band.quantity, band.epochs, turned(band.mean), turned(band.high),
                turned(band.low), band.n)  # fmt: skip


def draw(histories: Histories, *, narrow: bool = False) -> Figure:
    """Loss above and accuracy below for every arm, all in frames of the same scale.

    `narrow`: for a phone, two arms beside each other. The frames are drawn by hand in one pair of axes that counts
    inches: forty axes of their own take seconds.
    """
    arms, rows_shown = histories.arms, histories.rows
    if narrow:
        rows_shown = tuple(arms[at : at + 2] for at in range(0, len(arms), 2))
    rows, columns = max(1, len(rows_shown)), max(2, *map(len, rows_shown), 0)
    wide = (frame.NARROW - LEFT) / 2 - GAP if narrow else WIDE
    above = ABOVE + (0.22 if histories.mark else 0)  # the mark has a line of its own
    width, height = LEFT + columns * (wide + GAP), above + rows * BLOCK + BELOW
    last = max((band.epochs[-1] for history in arms for band in history.accuracy), default=1)
    first = 0 if last > 1 else -1  # a single epoch stands in the middle of its frame
    with style.styled():
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        for (down, across), history in (
            ((down, across), history) for down, row in enumerate(rows_shown) for across, history in enumerate(row)
        ):
            x = LEFT + across * (wide + GAP)
            y = height - above - down * BLOCK
            # No longer than its frame, or it would touch the title beside it.
            name = style.literal(style.fitted(history.arm, wide + GAP - 0.06))
            axes.text(x + wide / 2, y + 0.09, name, ha="center", fontsize=9)
            upper = Box(x, y - HIGH, wide, first, last if last > 1 else 3, histories.top)
            low, high = histories.accuracy
            lower = replace(upper, y=y - 2 * HIGH - GAP, bottom=low, top=high)
            for box, bands, label in ((upper, history.loss, "loss (nats)"), (lower, history.accuracy, "accuracy (%)")):
                _draw_frame(axes, box, label if across == 0 else "", below=box is lower)
                for band in bands:
                    _draw_band(axes, box, band)
            if not history.loss:
                _draw_at_once(axes, upper)
        splits = {band.split: None for history in arms for band in history.accuracy}
        handles: dict[str, Any] = {LOOK[name][2]: axes.plot([], [], LOOK[name][1], color=LOOK[name][0])[0]
                                   for name in splits}  # fmt: skip
        every = [(band, frame.Extent(*histories.accuracy)) for history in arms for band in history.accuracy]
        every += [(band, frame.Extent(0.0, histories.top)) for history in arms for band in history.loss]
        if any(n >= FEWEST for band, _ in every for n in band.n):
            handles[frame.BAND_NAME] = frame.BAND
        if any(departs(shown, band) for band, shown in every):
            handles[frame.DEPARTED_NAME] = frame.DEPARTED
        if handles:
            columns, _ = frame.legend_rows(list(handles), width)
            figure.legend(list(handles.values()), list(handles), loc="lower center", ncols=columns, fontsize=9)
        frame.mark(figure, histories.mark)
    return figure


LEFT, WIDE, HIGH, GAP, ABOVE, BELOW = 0.75, 1.85, 1.1, 0.18, 0.45, 0.1
BLOCK = 2 * HIGH + GAP + 0.72
"""Inches: frames, the gaps between them, and the room around them for names and numbers."""


@dataclass(frozen=True)
class Box:
    """A frame in inches, and the values at its edges."""

    x: float
    y: float
    wide: float
    first: int
    last: int
    top: float
    bottom: float = 0.0

    def across(self, epoch: float) -> float:
        """Where an epoch lies."""
        return self.x + self.wide * (epoch - self.first) / (self.last - self.first)

    def up(self, value: float) -> float:
        """Where a value lies."""
        return self.y + HIGH * (value - self.bottom) / (self.top - self.bottom)


def _draw_frame(axes: Axes, box: Box, label: str, *, below: bool) -> None:
    ticks = MaxNLocator(4, steps=frame.ROUND).tick_values(box.bottom, box.top)
    values = [value for value in ticks if box.bottom <= value <= box.top]
    epochs = [epoch for epoch in MaxNLocator(3, integer=True).tick_values(0, box.last) if 0 <= epoch <= box.last]
    grid = [[(box.x, box.up(value)), (box.x + box.wide, box.up(value))] for value in values]
    grid += [[(box.across(epoch), box.y), (box.across(epoch), box.y + HIGH)] for epoch in epochs]
    axes.add_collection(LineCollection(grid, colors="0.88", linewidths=0.6), autolim=False)
    edge = [[(box.x, box.y + HIGH), (box.x, box.y), (box.x + box.wide, box.y)]]
    axes.add_collection(LineCollection(edge, colors="black", linewidths=0.8), autolim=False)
    if label:
        axes.text(box.x - 0.5, box.y + HIGH / 2, label, rotation=90, ha="center", va="center", fontsize=9)
        for value in values:
            axes.text(box.x - 0.05, box.up(value), f"{value:g}", ha="right", va="center", fontsize=8)
    if below:
        for epoch in epochs:
            # The last ends with its frame: the next begins with a number of its own.
            side = "right" if epoch == box.last else "center"
            axes.text(box.across(epoch), box.y - 0.05, f"{epoch:.0f}", ha=side, va="top", fontsize=8)
        axes.text(box.x + box.wide / 2, box.y - 0.22, "epoch", ha="center", va="top", fontsize=9)


def _draw_at_once(axes: Axes, box: Box) -> None:
    """Mark an arm that has no epoch, since it diverged in the first."""
    x, y = box.across(0) + 0.12, box.y + HIGH - 0.12
    axes.plot([x], [y], color="black", scalex=False, scaley=False, **{**CROSS, "markersize": 8, "markeredgewidth": 2})
    axes.text(x + 0.14, y, "diverged at once", va="center", fontsize=9)


def _draw_band(axes: Axes, box: Box, band: Band) -> None:
    colour, dash, _ = LOOK[band.split]
    xs, ys = [box.across(epoch) for epoch in band.epochs], [box.up(value) for value in band.mean]
    marker = "o" if len(xs) <= 10 else None
    (line,) = axes.plot(xs, ys, dash, color=colour, linewidth=1.2, marker=marker, markersize=3, scalex=False,
                        scaley=False)  # fmt: skip
    # A line at the edge keeps its width; a band ends there.
    parts: list[tuple[Artist, float]] = [(line, 0.03)]
    enough = [n >= FEWEST for n in band.n]
    if any(enough):
        low, high = ([box.up(value) for value in edge] for edge in (band.low, band.high))
        parts.append((axes.fill_between(xs, low, high, where=enough, color=colour, alpha=0.2, linewidth=0), 0.0))
    for part, room in parts:
        frame_ = Rectangle((box.x, box.y - room), box.wide + 0.03, HIGH + room, transform=axes.transData)
        part.set_clip_path(frame_)
    for edge, hollow in (*((end, True) for end in ends(band)), (band.mean, False)):
        frame.mark_departures(axes, xs, [box.up(value) for value in edge], frame.Extent(box.y, box.y + HIGH), colour,
                              hollow=hollow)  # fmt: skip

"""What several figures of a study share: which values a frame shows, and a legend that covers nothing."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from residuum.report import style

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


def note(axes: Axes, text: str) -> None:
    """A remark above the right corner of the axes, where no data is."""
    axes.set_title(text, loc="right", fontsize=8, color="0.3", pad=PAD)


def listed(names: Sequence[str], most: int = 2) -> str:
    """Some names in a few words."""
    shown = ", ".join(style.short(name, 24) for name in names[:most])
    return style.literal(f"{shown} and {len(names) - most} more" if len(names) > most else shown)


def handle(look: style.Look, **settings: Any) -> Line2D:
    """The line that stands for an arm in a legend."""
    return Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.dash, markersize=5, **settings)


LONGEST = 48
ROW, LETTER, HANDLE = 0.2, 0.078, 0.75
"""Inches: a row of a legend, a letter in it, and the line and the gap before a name."""


def legend_rows(names: Sequence[str], width: float) -> tuple[int, int]:
    """Columns and rows of a legend of arms in a figure of that width in inches: as many columns as fit."""
    lengths = [min(len(name), LONGEST) for name in names]
    for columns in range(len(names), 1, -1):
        rows, longer = divmod(len(names), columns)  # the first columns take what is left over, as matplotlib has it
        ends = [at * rows + min(at, longer) for at in range(columns + 1)]
        if sum(HANDLE + LETTER * max(lengths[a:b]) for a, b in pairwise(ends)) <= width:
            return columns, rows + bool(longer)
    return 1, len(names)


def legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    """A legend below the figure: it never covers data, however many arms there are."""
    if handles:
        labels = [style.literal(style.short(name, LONGEST)) for name in handles]
        columns, _ = legend_rows(list(handles), figure.get_figwidth())
        figure.legend(list(handles.values()), labels, loc="outside lower center", ncols=columns, fontsize=9,
                      handlelength=3)  # fmt: skip


def mark(figure: Figure, text: str) -> None:
    """The mark of a scaled or changed study, above everything that the figure shows."""
    if text:
        figure.suptitle(
            style.literal(style.short(text, 90)), fontsize=9, fontweight="bold", color="#A33B00", x=0.995, ha="right"
        )

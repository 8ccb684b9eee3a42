"""Differences from the baseline: a forest plot, one row a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from residuum.analysis.results import Results
from residuum.records.measures import measure
from residuum.report import style
from residuum.report.figures import frame
from residuum.report.figures.lost import CROSS, Lost, lost

LONGEST = 44
FAR = 5.0
"""Times the median difference from which a row may lie outside of what is drawn in proportion."""


@dataclass(frozen=True)
class Row:
    """One comparison: mean difference and its interval (None with one pair), and the difference of each seed.

    `mean` is None where an arm has no number since all its runs diverged; `lost` says which runs of either did.
    """

    arm: str
    baseline: str
    mean: float | None
    low: float | None
    high: float | None
    n: int
    each: tuple[float, ...]
    lost: str = ""


@dataclass(frozen=True)
class Differences:
    """What the figure shows; `arms` are all arms of the study. Positive: the arm's measure is larger.

    The frame holds every row; where some are so far away that all others would lie on one another, it is in proportion
    for these alone. `baseline` is empty where rows have several. `worse` is the side on which an arm without a number
    has its cross: 1 right, -1 left; of one whose baseline has none, it is the other. `most` is the largest difference
    that can be.
    """

    arms: tuple[str, ...]
    rows: tuple[Row, ...]
    extent: frame.Extent
    label: str
    better: str
    baseline: str
    mark: str
    worse: int = 1
    whole: tuple[str, ...] = ()
    most: float = inf

    def edge(self, row: Row) -> float | None:
        """Where the cross of a row without a number stands; None where both arms are lost, which says nothing."""
        if row.arm in self.whole and row.baseline in self.whole:
            return None
        right = self.worse > 0 if row.arm in self.whole else self.worse < 0
        return self.extent.high if right else self.extent.low


def data(results: Results, mark: str = "") -> Differences:
    """The comparisons of a study that have a difference, and those of which all runs of an arm diverged."""
    gone = lost(results)
    whole = tuple(arm for arm, one in gone.items() if one.is_whole)
    rows = tuple(
        Row(
            one.arm, one.baseline, one.mean, one.low, one.high, one.n, tuple(value for _, value in one.differences),
            _lost(gone.get(one.arm), gone.get(one.baseline)),
        )
        for one in results.comparisons
        if one.mean is not None or one.arm in whole or one.baseline in whole
    )  # fmt: skip
    what = measure(results.plan.study.compare.measure)
    relative = any(one.in_percent for one in results.comparisons)
    most = 100.0 if what.unit == "%" and not relative else inf
    unit = "points" if what.unit == "%" else "%" if relative else what.unit
    baselines = {row.baseline for row in rows}
    return Differences(
        arms=tuple(arm.name for arm in results.plan.arms),
        rows=rows,
        extent=_extent(rows, most),
        most=most,
        label=f"difference in {what.name.replace('_', ' ')} ({unit})",
        better={True: "← better", False: "better →", None: ""}[what.lower_is_better],
        baseline=baselines.pop() if len(baselines) == 1 else "",
        mark=mark,
        worse=-1 if what.lower_is_better is False else 1,
        whole=whole,
    )


def _lost(arm: Lost | None, baseline: Lost | None) -> str:
    """Which runs of a comparison diverged, as `3 of 3 diverged`; empty if none did."""
    of_baseline = f"of the baseline {baseline}" if baseline else ""
    return "; ".join(text for text in (str(arm) if arm else "", of_baseline) if text)


def _extent(every_row: Sequence[Row], most: float) -> frame.Extent:
    """Rows that are far out and also far from all the rest are not drawn in proportion; a group of large ones is."""
    rows = [row for row in every_row if row.mean is not None]
    size = {id(row): abs(row.mean or 0.0) for row in rows}
    usual = FAR * median(size.values()) if rows else 0.0
    near = [row for row in rows if size[id(row)] <= usual]
    reach = max((abs(end) for row in near for end in _ends(row)), default=0.0)
    far = [row for row in rows if row not in near]
    alone = far and reach and min(size[id(row)] for row in far) > 3 * reach
    every = [end for row in rows for end in _ends(row)]
    return frame.extent([0.0, *(end for row in near for end in _ends(row))] if alone else [0.0, *every], every,
                        -most, most)  # fmt: skip


def _ends(row: Row) -> list[float]:
    """All that is drawn of a row."""
    return [*row.each, *(end for end in (row.mean, row.low, row.high) if end is not None)]


def draw(differences: Differences, *, narrow: bool = False) -> Figure:
    """Large marks are means with their intervals, small dots single seeds; numbers stand on the right.

    An interval that goes on beyond the frame ends in a triangle; an arm without a number, since all its runs diverged,
    has a cross at the edge. `narrow`: for a phone, with names and numbers above
    the rows.
    """
    rows = differences.rows
    looks = dict(zip(differences.arms, style.arms(len(differences.arms)), strict=True))
    with style.styled():
        width, high = (frame.NARROW, 0.62) if narrow else (9.5, 0.36)
        figure = Figure(figsize=(width, 1.3 + high * max(1, len(rows))), layout="constrained")
        axes = figure.subplots()
        frame.show(axes, "x", differences.extent, 0.12 if narrow else 0.07)
        for at, row in enumerate(rows):
            look = looks[row.arm]
            if narrow:
                said: dict[str, Any] = {
                    "transform": axes.get_yaxis_transform(),
                    "va": "center",
                    "fontsize": 9,
                    "bbox": {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
                }
                axes.text(0.0, at - 0.46, _name(row, differences), **said)
                axes.text(0.0, at - 0.2, _numbers(row, differences.most), color="0.35", **said)
            else:
                axes.text(
                    1.03,
                    at,
                    _numbers(row, differences.most),
                    transform=axes.get_yaxis_transform(),
                    va="center",
                    fontsize=9,
                )
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [at, at], color=look.colour, linewidth=2, solid_capstyle="butt")
                for end in (row.low, row.high):
                    frame.mark_departures(axes, [at], [end], differences.extent, look.colour, "x")
            if len(row.each) > 1:
                axes.plot(row.each, [at + 0.26] * len(row.each), ".", color="0.45", markersize=4)
            if row.mean is not None:
                axes.plot([row.mean], [at], color=look.colour, marker=look.marker, markersize=8,
                          markeredgecolor="white", markeredgewidth=0.5)  # fmt: skip
            elif (edge := differences.edge(row)) is not None:
                axes.plot([edge], [at], color=look.colour, clip_on=False, zorder=5, scalex=False, **CROSS)
        axes.axvline(0, color="black", linewidth=1)
        names = [] if narrow else [_name(row, differences) for row in rows]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(rows) - 0.5 if rows else 0.5, -1.0 if narrow else -0.5)
        axes.grid(visible=False, axis="y")
        against = f" from {style.literal(style.short(differences.baseline, LONGEST))}" if differences.baseline else ""
        axes.set_xlabel(f"{differences.label}{chr(10) if narrow else ''}{against}   {differences.better}".strip())
        frame.mark(figure, differences.mark)
    return figure


def _name(row: Row, differences: Differences) -> str:
    name = style.short(row.arm, LONGEST)
    return style.literal(name if differences.baseline else f"{name} − {style.short(row.baseline, LONGEST)}")


def _numbers(row: Row, most: float) -> str:
    if row.mean is None:
        return row.lost
    interval = row.lost or ("one seed" if row.n == 1 else "no interval")
    if row.low is not None and row.high is not None:
        interval = f"{max(-most, row.low):+.2f} to {min(most, row.high):+.2f}, n = {row.n}"
    return f"{row.mean:+.2f}  ({interval})".replace("-", "−")

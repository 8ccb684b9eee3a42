"""Accuracy against parameters and against time: what each arm costs and what it gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from residuum.analysis.results import Results
from residuum.report import style
from residuum.report.figures import frame
from residuum.report.figures.lost import CROSS, DIVERGED, FLOOR, lost

DIRECT = 8
"""Up to this many arms are labelled at their points, more in a legend."""
UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
LOGARITHMIC = 8
"""Costs that lie further apart than this have a logarithmic axis."""
ROOM = 0.12
"""The share of the costs' range that is left free beyond them, for labels."""
OUTSIDE = 3.0
"""An arm with this many times the median error would press all others together, drawn in proportion."""


@dataclass(frozen=True)
class Point:
    """One arm: its cost, its mean accuracy (%), and their 95 % intervals where `n` runs give them."""

    arm: str
    x: float
    x_interval: tuple[float, float] | None
    y: float
    y_interval: tuple[float, float] | None
    n: int = 0


@dataclass(frozen=True)
class Panel:
    """One pair of axes; where some arms are far less accurate than the others, only these are drawn in proportion.

    `extent` is that of the accuracy, `across` that of the cost.
    `lost` are arms without an accuracy, since all their runs diverged, with what they cost where that is known.
    """

    label: str
    points: tuple[Point, ...]
    extent: frame.Extent
    across: frame.Extent
    lost: tuple[tuple[str, float], ...] = ()
    logarithmic: bool = False


@dataclass(frozen=True)
class Scatter:
    """What the figure shows; `arms` are all arms of the study. A cost that all arms share has no panel.

    `split` is where accuracy is measured: `test`, or `validation` where a study chooses by that. `lost` are the arms of
    which every run diverged.
    """

    arms: tuple[str, ...]
    split: str
    panels: tuple[Panel, ...]
    mark: str
    lost: tuple[str, ...] = ()


def data(results: Results, mark: str = "") -> Scatter:
    """Accuracy of the last epoch against parameters (millions), and against the time of a run in a unit that suits."""
    split = "test" if results.selection is None else "validation"
    accuracy = {one.arm: one for one in results.summaries.get(f"{split}_accuracy", ()) if one.mean is not None}
    seconds = {one.arm: one for one in results.summaries.get("seconds", ()) if one.mean is not None}
    size = {arm.name: arm.parameters / 1e6 for arm in results.plan.arms}
    longest = max((one.mean or 0.0 for one in seconds.values()), default=0.0)
    unit, length = next((name, length) for name, length in UNITS if longest >= 2 * length or length == 1)
    by_size, by_time = [], []
    for arm, found in accuracy.items():
        assert found.mean is not None
        by_size.append(Point(arm, size[arm], None, found.mean, found.interval, found.n))
        took = seconds.get(arm)
        if took is not None and took.mean is not None:
            around = took.interval and (max(0.0, took.interval[0]) / length, took.interval[1] / length)
            by_time.append(Point(arm, took.mean / length, around, found.mean, found.interval, found.n))
    gone = tuple(arm for arm, one in lost(results).items() if one.is_whole and arm not in accuracy)
    panels = [
        _panel("parameters (millions)", by_size, tuple((arm, size[arm]) for arm in gone)),
        _panel(f"time of a run ({unit})", by_time),
    ]
    return Scatter(
        arms=tuple(size),
        split=split,
        panels=tuple(panel for panel in panels if panel.points and len({*_costs(panel)}) > 1),
        mark=mark,
        lost=gone,
    )


def _floor(panel: Panel) -> float:
    """Where the crosses of a panel stand: just above the lower edge."""
    low, high = map(float, (panel.extent.place(panel.extent.low), panel.extent.place(panel.extent.high)))
    return float(panel.extent.value(low + FLOOR * (high - low)))


def _costs(panel: Panel) -> list[float]:
    """What the arms of a panel cost, those without an accuracy included."""
    return [*(point.x for point in panel.points), *(x for _, x in panel.lost)]


def _panel(label: str, points: Sequence[Point], lost: tuple[tuple[str, float], ...] = ()) -> Panel:
    usual = median(100 - point.y for point in points) if points else 0.0
    near = frame.extent(_shown([point for point in points if 100 - point.y <= OUTSIDE * usual]), _shown(points), 0, 100)
    wide = [(*point.x_interval, point.n) for point in points if point.x_interval]
    costs = [*(point.x for point in points), *(x for _, x in lost)]
    logarithmic = bool(costs) and min(costs) > 0 and max(costs) > LOGARITHMIC * min(costs)
    if logarithmic:
        costs = [log(cost) for cost in costs]
        wide = [(log(low), log(high), n) for low, high, n in wide if low > 0]
    shown = frame.reach(costs, wide) or [0.0, 1.0]
    room = ROOM * (max(shown) - min(shown)) or abs(shown[0]) / 2 or 0.5
    low, high = min(shown) - room, max(shown) + room
    across = frame.Extent(exp(low), exp(high)) if logarithmic else frame.Extent(max(0.0, low), high)
    return Panel(label, tuple(points), near, across, lost, logarithmic)


def _shown(points: Sequence[Point]) -> list[float]:
    """The accuracies that a frame has to show."""
    return frame.reach([point.y for point in points], [(*one.y_interval, one.n) for one in points if one.y_interval])


def draw(scatter: Scatter, *, narrow: bool = False) -> Figure:
    """One point an arm with its intervals, labelled where there is room for all labels, else named in a legend.

    An interval that goes on beyond the axis ends in a triangle; an arm that diverged has a cross at the lower edge.
    `narrow`: for a phone.
    """
    looks = dict(zip(scatter.arms, style.arms(len(scatter.arms)), strict=True))
    shown = {p.arm for panel in scatter.panels for p in panel.points}
    said = dict.fromkeys((arm for panel in scatter.panels for arm, _ in panel.lost), DIVERGED)
    drawn = [arm for arm in scatter.arms if arm in shown or arm in said]
    columns = max(1, len(scatter.panels))
    width = frame.NARROW if narrow else 4.75 * columns if columns > 1 else 6.5
    _, rows = frame.legend_rows(drawn, width)
    with style.styled():
        for direct in (len(drawn) <= DIRECT, False):
            height = 3.6 * (columns if narrow else 1) + (0 if direct else frame.ROW * (rows + len(said)))
            figure = Figure(figsize=(width, height), layout="constrained")
            (grid,) = frame.cells(figure, [len(scatter.panels)], narrow=narrow)
            for panel, axes in zip(scatter.panels, grid, strict=False):
                _draw_panel(axes, panel, looks)
                axes.set_ylabel(f"{scatter.split} accuracy (%)")
            frame.mark(figure, scatter.mark)
            if not direct:
                marks = {arm: frame.handle(looks[arm], linewidth=0) for arm in drawn}
                marks |= {arm: Line2D([], [], color=looks[arm].colour, linestyle="none", **CROSS) for arm in said}
                frame.legend(figure, marks, said)
                break
            figure.draw_without_rendering()
            if all(_label(axes, panel) for panel, axes in zip(scatter.panels, grid, strict=False)):
                break
    return figure


def _draw_panel(axes: Axes, panel: Panel, looks: dict[str, style.Look]) -> None:
    points = panel.points
    frame.show(axes, "y", panel.extent)
    for point in points:
        look = looks[point.arm]
        if point.y_interval:
            axes.plot([point.x] * 2, point.y_interval, color=look.colour, linewidth=1.2, alpha=0.7)
            for end in point.y_interval:
                frame.mark_departures(axes, [point.x], [end], panel.extent, look.colour)
        if point.x_interval:
            axes.plot(point.x_interval, [point.y] * 2, color=look.colour, linewidth=1.2, alpha=0.7)
            for end in point.x_interval:
                frame.mark_departures(axes, [point.y], [end], panel.across, look.colour, "x")
        axes.plot([point.x], [point.y], color=look.colour, marker=look.marker, markersize=8, markeredgecolor="white",
                  markeredgewidth=0.5)  # fmt: skip
    for arm, x in panel.lost:
        axes.plot([x], [_floor(panel)], color=looks[arm].colour, zorder=5, **CROSS)
    if panel.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlim(panel.across.low, panel.across.high)
    axes.set_xlabel(panel.label)


def _label(axes: Axes, panel: Panel) -> bool:
    """Write each arm's name beside its point so that it covers nothing; False if there is no room for one."""
    frame_ = axes.get_window_extent()
    taken = [line.get_window_extent().padded(1) for line in axes.lines]
    named = [(style.short(point.arm, 28), point.x, point.y) for point in sorted(panel.points, key=lambda one: -one.y)]
    named += [(f"{style.short(arm, 28)} ({DIVERGED})", x, _floor(panel)) for arm, x in panel.lost]
    for name, x, y in named:
        for across, up in PLACES:
            text = axes.annotate(style.literal(name), (x, y), (across, up),
                                 textcoords="offset points", fontsize=9, va="center",
                                 ha="left" if across > 0 else "right" if across < 0 else "center")  # fmt: skip
            box = text.get_window_extent()
            if _within(frame_, box) and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
        else:
            return False
    return True


PLACES = ((8, 0), (-8, 0), (0, 11), (0, -11), (8, 9), (8, -9), (-8, 9), (-8, -9), (0, 20), (0, -20), (10, 17),
          (10, -17), (-10, 17), (-10, -17))  # fmt: skip
"""Where a label may stand, in points from its point, best first."""


def _within(outer: Bbox, inner: Bbox) -> bool:
    return bool(outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1)

"""What the batch size changes: the time of an update and of an epoch, and the noise of the gradient."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from residuum.analysis.results import Results
from residuum.report import style
from residuum.report.figures import frame
from residuum.report.figures.lost import CROSS, FLOOR, lost
from residuum.studies.plan import Plan

SHOWN = {
    "milliseconds_per_update": "time of an update (ms)",
    "seconds_per_epoch": "time of an epoch (s)",
    "noise_scale": "gradient noise scale (images)",
}
"""What is shown against the batch size, with the label of its axis."""
SPREAD = 1.1
"""By what factor all lines together are set apart, so that their intervals do not cover each other."""


@dataclass(frozen=True)
class Point:
    """One arm: its batch size, its mean, and the 95 % interval where several runs give one.

    `series` is the line it belongs to.
    """

    arm: str
    series: str
    batch: int
    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Panel:
    """One measure of all arms that have it; `lost` are line and batch size of those that diverged in every run."""

    measure: str
    points: tuple[Point, ...]
    lost: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Batches:
    """What the figure shows: lines, in the order of the study; without any there are no panels."""

    series: tuple[str, ...]
    panels: tuple[Panel, ...]
    mark: str = ""


def data(results: Results, mark: str = "") -> Batches:
    """Times and noise scale of the arms of a study whose batch sizes differ."""
    plan = results.plan
    sizes = {run.arm: run.config.train.batch_size for run in plan.runs}
    series = _series(plan, sizes)
    panels = []
    gone = [arm for arm, one in lost(results).items() if one.is_whole and arm in series]
    for name in SHOWN if series else ():
        points = tuple(
            Point(one.arm, series[one.arm], sizes[one.arm], one.mean, one.interval)
            for one in results.summaries.get(name, ())
            if one.mean is not None and one.arm in series
        )
        if points:
            panels.append(Panel(name, points, tuple((series[arm], sizes[arm]) for arm in gone)))
    return Batches(tuple(dict.fromkeys(series.values())), tuple(panels), mark)


def _series(plan: Plan, sizes: Mapping[str, int]) -> dict[str, str]:
    """The line of each arm that is on one: arms that differ in the batch size alone, or whose names do.

    Names, because a rate in proportion to the batch differs as well. An arm that is alone is on no line.
    """
    named = {arm: re.sub(rf"(batch(?:[_ ]size)?[ =]){size}\b", r"\1…", arm) for arm, size in sizes.items()}
    alike: dict[str, list[str]] = {}
    for run in plan.runs:
        rest = run.config.model_dump(mode="json", exclude={"train": {"batch_size", "seed"}})
        members = alike.setdefault(json.dumps(rest, sort_keys=True), [])
        if run.arm not in members:
            members.append(run.arm)
    lines = {arm: Counter(named[other] for other in members).most_common(1)[0][0]
             for members in alike.values() if len({sizes[arm] for arm in members}) > 1 for arm in members}  # fmt: skip
    for name in dict.fromkeys(named[arm] for arm in sizes if arm not in lines):
        members = [arm for arm in sizes if arm not in lines and named[arm] == name]
        if len({sizes[arm] for arm in members}) > 1:
            lines |= dict.fromkeys(members, name)
    return {arm.name: lines[arm.name] for arm in plan.arms if arm.name in lines}


def draw(batches: Batches, *, narrow: bool = False) -> Figure:
    """A panel a measure, both axes logarithmic, one point an arm.

    A dotted line shows where the noise scale would be the batch size. `narrow`: for a phone.
    """
    looks = dict(zip(batches.series, style.arms(len(batches.series)), strict=True))
    columns = max(1, len(batches.panels))
    width, high = (frame.NARROW, columns) if narrow else (max(6.0, 3.6 * columns), 1)
    _, rows = frame.legend_rows(batches.series, width)
    with style.styled():
        figure = Figure(figsize=(width, 3.4 * high + frame.ROW * rows), layout="constrained")
        (grid,) = frame.cells(figure, [len(batches.panels)], narrow=narrow)
        for axes, panel in zip(grid, batches.panels, strict=True):
            _draw_panel(axes, panel, looks)
        if len(looks) > 1:
            frame.legend(figure, {name: frame.handle(look) for name, look in looks.items()})
        frame.mark(figure, batches.mark)
    return figure


def _draw_panel(axes: Axes, panel: Panel, looks: dict[str, style.Look]) -> None:
    sizes = sorted({*(point.batch for point in panel.points), *(batch for _, batch in panel.lost)})
    axes.set_xscale("log")
    axes.set_yscale("log")
    for number, (name, look) in enumerate(looks.items()):
        line = sorted((point for point in panel.points if point.series == name), key=lambda point: point.batch)
        apart = SPREAD ** ((number + 0.5) / len(looks) - 0.5)
        for point in line:
            if point.interval:
                # An interval of times by t may reach below 0, which has no place on a logarithmic axis.
                low, high = point.interval
                ends = [low if low > 0 else point.value / 10, high]
                axes.plot([point.batch * apart] * 2, ends, linewidth=1.2, color=look.colour, alpha=0.7)
                if low <= 0:
                    axes.plot([point.batch * apart], ends[:1], "v", markersize=5, color=look.colour, alpha=0.7)
        axes.plot([point.batch * apart for point in line], [point.value for point in line], color=look.colour,
                  marker=look.marker, linestyle=look.dash, linewidth=1.2, markersize=6, markeredgecolor="white",
                  markeredgewidth=0.5)  # fmt: skip
        for batch in (batch for series, batch in panel.lost if series == name):
            axes.plot(
                [batch * apart], [FLOOR], color=look.colour, transform=axes.get_xaxis_transform(), zorder=5, **CROSS
            )
    if panel.measure == "noise_scale":
        axes.plot(sizes, sizes, ":", color="0.45", linewidth=1)
        middle = sizes[0] * (sizes[-1] / sizes[0]) ** 0.35
        axes.annotate("noise scale = batch size", (middle, middle), fontsize=8, color="0.3", ha="left", va="top",
                      xytext=(8, -2), textcoords="offset points")  # fmt: skip
    axes.set_xlim(sizes[0] / 1.35, sizes[-1] * 1.35)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
    axes.tick_params(axis="x", labelsize=9 if len(sizes) < 6 else 8)
    frame.decades(axes.yaxis)
    axes.set_xlabel("batch size (images)")
    axes.set_ylabel(SHOWN[panel.measure])

"""What the batch size changes: the time of an update and of an epoch, and the noise of the gradient."""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from residuum.analysis.results import Results
from residuum.report import style
from residuum.report.figures import frame

MEASURES = {
    "milliseconds_per_update": "time of an update (ms)",
    "seconds_per_epoch": "time of an epoch (s)",
    "noise_scale": "gradient noise scale (images)",
}
"""What is shown against the batch size, with the label of its axis."""
APART = 1.15
"""By what factor points of one batch size are set apart, so that their intervals do not cover each other."""


@dataclass(frozen=True)
class Point:
    """One arm: its batch size, its mean, and the 95 % interval where several runs give one."""

    arm: str
    batch: int
    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Panel:
    """One measure of all arms that have it."""

    measure: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Batches:
    """What the figure shows; `arms` are all arms of the study. Without two batch sizes there are no panels."""

    arms: tuple[str, ...]
    panels: tuple[Panel, ...]
    mark: str = ""


def data(results: Results, mark: str = "") -> Batches:
    """Times and noise scale of the arms of a study whose batch sizes differ."""
    plan = results.plan
    sizes = {run.arm: int(run.config["train"]["batch_size"]) for run in plan.runs}
    arms = tuple(arm.name for arm in plan.arms)
    if len(set(sizes.values())) < 2:
        return Batches(arms, (), mark)
    panels = []
    for name in MEASURES:
        points = tuple(
            Point(one.arm, sizes[one.arm], one.mean, one.interval)
            for one in results.summaries.get(name, ())
            if one.mean is not None
        )
        if points:
            panels.append(Panel(name, points))
    return Batches(arms, tuple(panels), mark)


def draw(batches: Batches) -> Figure:
    """A panel a measure, both axes logarithmic, one point an arm; arms are named in a legend.

    A dotted line shows where the noise scale would be the batch size.
    """
    looks = dict(zip(batches.arms, style.arms(len(batches.arms)), strict=True))
    drawn = [arm for arm in batches.arms if any(point.arm == arm for panel in batches.panels for point in panel.points)]
    columns = max(1, len(batches.panels))
    width = max(6.0, 3.6 * columns)
    _, rows = frame.legend_rows(drawn, width)
    with style.styled():
        figure = Figure(figsize=(width, 3.4 + frame.ROW * rows), layout="constrained")
        for axes, panel in zip(figure.subplots(1, columns, squeeze=False)[0], batches.panels, strict=False):
            _draw_panel(axes, panel, looks)
        frame.legend(figure, {arm: frame.handle(looks[arm], linewidth=0) for arm in drawn})
        frame.mark(figure, batches.mark)
    return figure


def _draw_panel(axes: Axes, panel: Panel, looks: dict[str, style.Look]) -> None:
    sizes = sorted({point.batch for point in panel.points})
    axes.set_xscale("log")
    axes.set_yscale("log")
    for size in sizes:
        beside = [point for point in panel.points if point.batch == size]
        for number, point in enumerate(beside):
            look, x = looks[point.arm], size * APART ** (number - (len(beside) - 1) / 2)
            if point.interval:
                # An interval of times by t may reach below 0, which has no place on a logarithmic axis.
                low, high = point.interval
                axes.plot([x, x], [max(low, point.value / 10), high], color=look.colour, linewidth=1.2, alpha=0.7)
            axes.plot([x], [point.value], color=look.colour, marker=look.marker, markersize=8, markeredgecolor="white",
                      markeredgewidth=0.5)  # fmt: skip
    if panel.measure == "noise_scale":
        axes.plot(sizes, sizes, ":", color="0.45", linewidth=1)
        middle = (sizes[0] * sizes[-1]) ** 0.5
        axes.annotate("noise scale = batch", (middle, middle), xytext=(5, -8), textcoords="offset points",
                      fontsize=8, color="0.3")  # fmt: skip
    axes.set_xlim(sizes[0] / 1.35, sizes[-1] * 1.35)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
    axes.tick_params(axis="x", labelsize=9 if len(sizes) < 6 else 8)
    frame.decades(axes.yaxis)
    axes.set_xlabel("batch size (images)")
    axes.set_ylabel(MEASURES[panel.measure])

"""Reliability diagrams: how often a network is right when it is this sure (Guo et al. 2017, Fig. 1)."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from residuum.analysis.per_class import Calibration, Predictions, calibration
from residuum.report import style


@dataclass(frozen=True)
class Panel:
    """One run."""

    label: str
    calibration: Calibration


def data(runs: Mapping[str, Predictions]) -> tuple[Panel, ...]:
    """The calibration of runs by their labels, in 15 bins of confidence."""
    return tuple(Panel(label, calibration(predictions)) for label, predictions in runs.items())


def draw(panels: tuple[Panel, ...]) -> Figure:
    """For each run accuracy against confidence, and below it how many images are that sure."""
    count = max(1, len(panels))
    with style.styled():
        figure = Figure(figsize=(4.6 * count, 5.4), layout="constrained")
        grid = figure.subplots(2, count, squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1))
        for column, panel in enumerate(panels):
            _curve(grid[0, column], panel)
            _histogram(grid[1, column], panel.calibration)
        for axes in grid.flat:
            axes.set_axisbelow(True)
            axes.set_xlim(0, 1)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(PercentFormatter(1, decimals=0))
        for axes in grid[1]:
            axes.set_xlabel("confidence: probability of the predicted class")
        grid[0, 0].set_ylim(0, 1)
        grid[0, 0].set_ylabel("accuracy")
        grid[1, 0].set_ylabel("images")
        if panels:
            known = [axes.get_legend_handles_labels() for axes in grid[:, 0]]
            handles, labels = ([*upper, *lower] for upper, lower in zip(*known, strict=True))
            figure.legend(handles, labels, loc="outside lower center", ncols=count + 1, fontsize=9)
    return figure


def _curve(axes: Axes, panel: Panel) -> None:
    found, (middles, widths) = panel.calibration, _places(panel.calibration)
    accuracies = [one.accuracy for one in found.bins]
    gaps = [one.confidence - one.accuracy for one in found.bins]
    axes.bar(middles, accuracies, widths, color=style.TRAIN, alpha=0.55, edgecolor="white", label="accuracy")
    axes.bar(middles, gaps, widths, bottom=accuracies, facecolor="none", edgecolor=style.VALIDATION, linewidth=0,
             hatch="/////", label="gap to mean confidence")  # fmt: skip
    axes.vlines(middles, [one.interval[0] for one in found.bins], [one.interval[1] for one in found.bins],
                color="black", linewidth=1, label="95% interval of the accuracy")  # fmt: skip
    axes.plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle=(0, (4, 3)), label="perfect calibration")
    means = f"accuracy {found.accuracy:.2%}, mean confidence {found.confidence:.2%}"
    said = f"ECE {found.ece:.2%}, Brier {found.brier:.3f}"
    label = style.literal(style.fitted(panel.label, 3.6))
    axes.set_title(f"{label}\n{said}\n{means}", fontsize=10)


def _histogram(axes: Axes, found: Calibration) -> None:
    middles, widths = _places(found)
    images = [one.images for one in found.bins]
    axes.bar(middles, [count / sum(images) for count in images], widths, color="0.6", edgecolor="white")
    for value, dash, name in ((found.accuracy, "-", "overall accuracy"), (found.confidence, ":", "mean confidence")):
        axes.axvline(value, color="black", linewidth=1.2, linestyle=dash, label=name)


def _places(found: Calibration) -> tuple[list[float], list[float]]:
    """Middle and width of each bin."""
    return [(one.low + one.high) / 2 for one in found.bins], [one.high - one.low for one in found.bins]

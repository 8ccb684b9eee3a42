"""Several runs in one figure: loss, error or accuracy against epoch, one colour a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import inf
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from residuum.errors import InputError
from residuum.records.record import RunRecord, legend
from residuum.report import style
from residuum.report.figures import frame, learning_curves
from residuum.report.figures.grouping import MOST
from residuum.report.figures.learning_curves import Curve
from residuum.report.figures.of_runs import OfRuns

Quantity = Literal["loss", "error", "accuracy"]
UNITS = {"loss": "loss (nats)", "error": "error (%)", "accuracy": "accuracy (%)"}


@dataclass(frozen=True)
class Line:
    """One run: loss (nats), error and accuracy (%) while training, and on the images that `held_out` names."""

    label: str
    train: dict[Quantity, Curve]
    unseen: dict[Quantity, Curve]
    held_out: str


def data(records: Sequence[RunRecord], labels: Sequence[str] = ()) -> tuple[Line, ...]:
    """The lines of runs, called by `labels`. The test images where they were observed, else validation images."""
    return tuple(_line(*each) for each in zip(records, labels or legend(records), strict=True))


def _line(record: RunRecord, label: str) -> Line:
    found = learning_curves.data(record)
    splits = {curve.split for curve in found.error}
    held_out = "test" if "test" in splits else "validation"
    return Line(label, _of(found, "train"), _of(found, held_out), held_out)


def _of(found: learning_curves.Curves, split: str) -> dict[Quantity, Curve]:
    """The curves of a run on some images; empty ones where it has none."""
    nothing = Curve(split, (), ())
    loss, error = (next((curve for curve in curves if curve.split == split), nothing)
                   for curves in (found.loss, found.error))  # fmt: skip
    accuracy = Curve(split, error.epochs, tuple(100 - value for value in error.values))
    return {"loss": loss, "error": error, "accuracy": accuracy}


def draw(lines: Sequence[Line], of: Sequence[Quantity] = ("loss", "error"), *, narrow: bool = False) -> Figure:
    """A panel a quantity: training dashed, unseen images solid; an axis of errors or losses that come near 0 has it.

    Of more than six runs a row for each six, all in the frames of the whole, the other runs behind them in grey.
    Triangles at the upper edge: a loss goes on beyond the axis. `narrow`: for a phone, one panel below the other.
    """
    parts = _parts(lines)
    grouped, shown = len(parts) > 1, {quantity: _extent(lines, quantity) for quantity in of}
    seen = {line.held_out for line in lines if any(curve.epochs for curve in line.unseen.values())}
    common = {"training": Line2D([], [], color="0.3", linestyle="--")} | {
        name: Line2D([], [], color="0.3") for name in sorted(seen)}  # fmt: skip
    drawn = [(quantity, curve.values) for line in lines for quantity in of
             for curve in (line.train[quantity], line.unseen[quantity])]  # fmt: skip
    if any(frame.departures(frame.lost_above(values), -inf, shown[quantity].high) for quantity, values in drawn):
        common[frame.DEPARTED_NAME] = frame.DEPARTED_CURVE
    rows = [{line.label: frame.handle(look) for line, look in zip(part, style.arms(len(part)), strict=True)}
            for part in parts]  # fmt: skip
    below = common if grouped else rows[0] | common
    width, height = 9.5 if len(of) > 1 else 6.5, 2.6 * len(parts) if grouped else 3.5
    if narrow:
        legends = sum(frame.legend_rows([*handles], frame.NARROW)[1] for handles in rows) * grouped
        width, height = frame.NARROW, 2.8 * len(of) * len(parts) + frame.ROW * legends
    with style.styled():
        figure = Figure(
            figsize=(width, height + frame.ROW * frame.legend_rows([*below], width)[1]), layout="constrained"
        )
        grid = frame.cells(figure, [len(of)] * len(parts), narrow=narrow)
        for part, handles, panels in zip(parts, rows, grid, strict=True):
            behind = [line for line in lines if line not in part] if grouped else []
            for axes, quantity in zip(panels, of, strict=True):
                _draw_panel(axes, part, behind, quantity, shown[quantity])
                if narrow or part is parts[-1]:
                    axes.set_xlabel("epoch")
            if grouped:
                frame.beside(panels[-1], handles, {}, narrow=narrow)
        frame.legend(figure, below)
    return figure


def _parts(lines: Sequence[Line]) -> list[Sequence[Line]]:
    """Runs in their order, in as few parts of about the same size as have no more than can be told apart."""
    count = max(1, -(-len(lines) // MOST))
    ends = [round(at * len(lines) / count) for at in range(count + 1)]
    return [lines[first:last] for first, last in pairwise(ends)]


def _extent(lines: Sequence[Line], quantity: Quantity) -> frame.Extent:
    """What the axis of a quantity shows of all runs."""
    curves = [[line.train[quantity].values, line.unseen[quantity].values] for line in lines]
    if quantity == "loss":
        return frame.of_losses(curves)
    return frame.extent(frame.based([value for of in curves for values in of for value in values]), (), 0.0, 100.0)


def _draw_panel(
    axes: Axes, lines: Sequence[Line], behind: Sequence[Line], quantity: Quantity, shown: frame.Extent
) -> None:
    frame.show(axes, "y", shown)
    for line in behind:
        curve = line.unseen[quantity] if line.unseen[quantity].epochs else line.train[quantity]
        axes.plot(curve.epochs, curve.values, color="0.85", linewidth=0.8, zorder=1)
    for line, look in zip(lines, style.arms(len(lines)), strict=True):
        for curve, dash in ((line.train[quantity], "--"), (line.unseen[quantity], "-")):
            axes.plot(curve.epochs, curve.values, dash, color=look.colour, marker=look.marker, markersize=4,
                      markevery=max(1, len(curve.epochs) // 12))  # fmt: skip
            frame.mark_lost(axes, curve.epochs, curve.values, look.colour)
    axes.set_ylabel(UNITS[quantity])
    frame.counted(axes.xaxis)


def _drawn(of: Sequence[Quantity], records: Sequence[RunRecord], labels: Sequence[str]) -> Figure:
    for record in records:
        if not record.epochs:
            raise InputError(f"run {record.id} has no epochs to draw" + ("" if record.result else " yet"))
    return draw(data(records, labels), of)


OF_RUNS = (
    OfRuns("curves", "loss and error of runs in one frame", partial(_drawn, ("loss", "error"))),
    OfRuns("both", "loss and accuracy of runs in one frame", partial(_drawn, ("loss", "accuracy"))),
    OfRuns("loss", "loss of runs in one frame", partial(_drawn, ("loss",))),
    OfRuns("accuracy", "accuracy of runs in one frame", partial(_drawn, ("accuracy",))),
)

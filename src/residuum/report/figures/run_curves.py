"""Several runs in one figure: loss, error or accuracy against epoch, one colour a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from residuum.errors import InputError
from residuum.records.record import RunRecord, legend
from residuum.report import style
from residuum.report.figures import frame, learning_curves
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

    `narrow`: for a phone, one panel below the other.
    """
    looks = style.arms(len(lines))
    handles: dict[str, Any] = {line.label: frame.handle(look) for line, look in zip(lines, looks, strict=True)}
    seen = {line.held_out for line in lines if any(curve.epochs for curve in line.unseen.values())}
    handles |= {"training": Line2D([], [], color="0.3", linestyle="--")} | {
        name: Line2D([], [], color="0.3") for name in sorted(seen)}  # fmt: skip
    width = frame.NARROW if narrow else 9.5 if len(of) > 1 else 6.5
    _, rows = frame.legend_rows(list(handles), width)
    height = 2.8 * len(of) if narrow else 3.5
    with style.styled():
        figure = Figure(figsize=(width, height + frame.ROW * rows), layout="constrained")
        (panels,) = frame.cells(figure, [len(of)], narrow=narrow)
        for axes, quantity in zip(panels, of, strict=True):
            _draw_panel(axes, lines, looks, quantity)
        frame.legend(figure, handles)
    return figure


def _draw_panel(axes: Axes, lines: Sequence[Line], looks: Sequence[style.Look], quantity: Quantity) -> None:
    drawn = [(curve, look, dash) for line, look in zip(lines, looks, strict=True)
             for curve, dash in ((line.train[quantity], "--"), (line.unseen[quantity], "-"))]  # fmt: skip
    values = [value for curve, *_ in drawn for value in curve.values]
    frame.show(axes, "y", frame.extent(frame.based(values), (), 0.0, float("inf") if quantity == "loss" else 100.0))
    for curve, look, dash in drawn:
        axes.plot(curve.epochs, curve.values, dash, color=look.colour, marker=look.marker, markersize=4,
                  markevery=max(1, len(curve.epochs) // 12))  # fmt: skip
        frame.mark_lost(axes, curve.epochs, curve.values, look.colour)
    axes.set_ylabel(UNITS[quantity])
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


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

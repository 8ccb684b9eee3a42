"""Several runs in one figure: training loss and error against epoch, one colour a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from residuum.errors import InputError
from residuum.networks.names import short_name
from residuum.records.record import RunRecord, labels
from residuum.report import style
from residuum.report.figures import frame, learning_curves
from residuum.report.figures.of_runs import OfRuns


@dataclass(frozen=True)
class Line:
    """One run: training loss and error, and the error on the images that `held_out` names."""

    label: str
    loss: learning_curves.Curve
    train_error: learning_curves.Curve
    error: learning_curves.Curve | None
    held_out: str


def data(records: Sequence[RunRecord]) -> tuple[Line, ...]:
    """The lines of runs; errors are in percent. The test error where observed, else validation."""
    labels(records)  # refuses a run that is named twice
    return tuple(_line(record, _label(record, records)) for record in records)


def _label(record: RunRecord, records: Sequence[RunRecord]) -> str:
    name = short_name(record.config.model)
    twins = [other for other in records if short_name(other.config.model) == name]
    return name if len(twins) == 1 else f"{name}, {record.id[:6]}"


def _line(record: RunRecord, label: str) -> Line:
    found = learning_curves.data(record)
    errors = {curve.split: curve for curve in found.error}
    held_out = "test" if "test" in errors else "validation"
    nothing = learning_curves.Curve("train", (), ())
    loss = next((curve for curve in found.loss if curve.split == "train"), nothing)
    return Line(label, loss, errors.get("train", nothing), errors.get(held_out), held_out)


def draw(lines: Sequence[Line]) -> Figure:
    """Training loss on the left; on the right training error dashed and error on unseen images solid."""
    with style.styled():
        figure = Figure(figsize=(9.5, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for line, arm in zip(lines, style.arms(len(lines)), strict=True):
            look = {
                "color": arm.colour,
                "marker": arm.marker,
                "markersize": 4,
                "markevery": max(1, len(line.loss.epochs) // 12),
            }
            left.plot(line.loss.epochs, line.loss.values, label=line.label, **look)
            right.plot(line.train_error.epochs, line.train_error.values, "--", label=f"{line.label}, training", **look)
            if line.error is not None:
                right.plot(line.error.epochs, line.error.values, label=f"{line.label}, {line.held_out}", **look)
        for axes, label in ((left, "training loss (nats)"), (right, "error (%)")):
            axes.set_ylabel(label)
            axes.set_xlabel("epoch")
            frame.from_zero(axes, label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if lines:
                axes.legend()
    return figure


def _drawn(records: Sequence[RunRecord]) -> Figure:
    for record in records:
        if not record.epochs:
            raise InputError(f"run {record.id} has no epochs to draw" + ("" if record.result else " yet"))
    return draw(data(records))


OF_RUNS = OfRuns("curves", "learning curves in one frame", _drawn)

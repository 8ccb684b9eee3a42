"""Learning curves of one run: loss, accuracy and learning rate against epoch."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from residuum.networks.names import short_name
from residuum.records.event import EpochDone
from residuum.records.measures import drop_times
from residuum.records.record import RunRecord
from residuum.report import style
from residuum.report.figures import frame


@dataclass(frozen=True)
class Curve:
    """One quantity against epoch, counted from 1."""

    split: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """What the figure shows. `drops` are times, in epochs, at which a stepwise rate fell; `selected` may be 0."""

    title: str
    loss: tuple[Curve, ...]
    error: tuple[Curve, ...]
    rate: Curve
    drops: tuple[float, ...]
    selected: int


def data(record: RunRecord) -> Curves:
    """The curves of a run; the error is in percent. The test curve is there where it was observed."""
    rows = record.epochs
    splits = [split for split in ("train", "validation", "test") if any(getattr(row, split) for row in rows)]
    rate = Curve("rate", tuple(row.epoch for row in rows), tuple(row.lr for row in rows))
    falls = drop_times(record)
    title = f"{short_name(record.config.model)} on {record.config.data.dataset.name}, seed {record.config.train.seed}"
    return Curves(
        title=title,
        loss=tuple(_curve(rows, split, "loss", 1) for split in splits),
        error=tuple(_curve(rows, split, "error", 100) for split in splits),
        rate=rate,
        # A rate that falls every epoch is a decay: marking each epoch would say nothing.
        drops=tuple(falls) if len(falls) <= max(4, len(rows) // 4) else (),
        selected=max((row.epoch for row in rows if row.best), default=0),
    )


def _curve(rows: tuple[EpochDone, ...], split: str, quantity: str, unit: float) -> Curve:
    scored = [(row.epoch, getattr(row, split)) for row in rows if getattr(row, split)]
    values = [scores.loss if quantity == "loss" else 1 - scores.accuracy for _, scores in scored]
    return Curve(split, tuple(epoch for epoch, _ in scored), tuple(unit * value for value in values))


def _edges(curves: Curves) -> list[float]:
    """Where the rate of each epoch begins, and the last ends: a drop within an epoch begins where it is marked."""
    epochs = curves.rate.epochs
    if not epochs:
        return [0.0]
    within = {int(time) + 1: time for time in curves.drops if time % 1}
    return [within.get(epoch, epoch - 1.0) for epoch in epochs] + [float(epochs[-1])]


LOOK = {
    "train": (style.TRAIN, "-", "training"),
    "validation": (style.VALIDATION, "--", "validation"),
    "test": (style.TEST, ":", "test (observed)"),
}


def draw(curves: Curves) -> Figure:
    """Loss on the left, error on the right, the learning rate as a strip below each."""
    with style.styled():
        figure = Figure(figsize=(9.5, 4.2), layout="constrained")
        grid = figure.subplots(2, 2, sharex=True, height_ratios=(4, 1))
        for axes, lines, label in zip(grid[0], (curves.loss, curves.error), ("loss (nats)", "error (%)"), strict=True):
            for line in lines:
                colour, dash, name = LOOK[line.split]
                marker = "o" if len(line.epochs) <= 15 else None
                axes.plot(line.epochs, line.values, dash, color=colour, label=name, marker=marker, markersize=3.5)
            if lines:
                axes.legend()
            axes.set_ylabel(label)
            curves_of = [line.values for line in lines]
            errors = frame.based([value for values in curves_of for value in values])
            loss = label.startswith("loss")
            frame.show(axes, "y", frame.of_losses([curves_of]) if loss else frame.extent(errors, (), 0.0, 100.0))
            for line in lines:
                frame.mark_lost(axes, line.epochs, line.values, LOOK[line.split][0])
        for axes in grid[1]:
            axes.stairs(curves.rate.values, _edges(curves), baseline=None, color="0.35", linewidth=1.6)
            axes.set_yscale("log" if min(curves.rate.values, default=0) > 0 else "linear")
            axes.set_ylabel("rate")
            axes.set_xlabel("epoch")
            frame.counted(axes.xaxis)
        for axes in grid.flat:
            for time in curves.drops:
                axes.axvline(time, color="0.6", linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
        if curves.selected:
            grid[0][1].axvline(curves.selected, color=style.VALIDATION, linewidth=0.8, alpha=0.5, zorder=0)
        figure.suptitle(curves.title)
    return figure

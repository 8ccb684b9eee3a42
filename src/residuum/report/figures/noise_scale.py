"""The gradient noise scale of runs, epoch by epoch, beside the sizes of their batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

from matplotlib.figure import Figure

from residuum.errors import InputError, Remedy
from residuum.records.record import RunRecord, legend
from residuum.report import style
from residuum.report.figures import frame
from residuum.report.figures.of_runs import OfRuns


@dataclass(frozen=True)
class Line:
    """One run: the noise scale in images where there is one, the epochs where no gradient was seen, its batch size."""

    label: str
    epochs: tuple[int, ...]
    scales: tuple[float, ...]
    unseen: tuple[int, ...]
    batch: int


def data(records: Sequence[RunRecord], labels: Sequence[str] = ()) -> tuple[Line, ...]:
    """The noise scales of runs before training and after each epoch; `labels` are what they are called.

    Raises:
        InputError: a run did not measure it, or a row is damaged.
    """
    found = []
    for label, record in zip(labels or legend(records), records, strict=True):
        scales = {one.epoch: one.scale for one in record.noise()}
        if not scales:
            why = "has no noise yet" if record.config.monitor.noise else "did not measure the noise"
            raise InputError(f"run {record.id} {why}", remedies=[Remedy("anew with", "monitor.noise=true")])
        there = {epoch: scale for epoch, scale in scales.items() if scale is not None}
        unseen = tuple(epoch for epoch in scales if epoch not in there)
        batch = record.config.train.batch_size
        found.append(Line(label, tuple(there), tuple(there.values()), unseen, batch))
    return tuple(found)


def draw(lines: Sequence[Line]) -> Figure:
    """A line a run on a logarithmic axis, dotted lines at the batch sizes, crosses above where no gradient was seen.

    A line ends before such an epoch and begins anew after it.
    """
    _, rows = frame.legend_rows([line.label for line in lines], 7.0)
    with style.styled():
        figure = Figure(figsize=(7.0, 3.4 + frame.ROW * rows), layout="constrained")
        axes = figure.subplots()
        looks = style.arms(len(lines))
        for line, look in zip(lines, looks, strict=True):
            scales = dict(zip(line.epochs, line.scales, strict=True))
            epochs = sorted({*line.epochs, *line.unseen})
            values = [scales.get(epoch, nan) for epoch in epochs]
            axes.plot(epochs, values, color=look.colour, marker=look.marker, linestyle=look.dash,
                      markersize=5, markeredgecolor="white", markeredgewidth=0.5)  # fmt: skip
            axes.plot(line.unseen, [0.97] * len(line.unseen), "x", color=look.colour, markersize=6,
                      transform=axes.get_xaxis_transform())  # fmt: skip
        if any(line.scales for line in lines):
            axes.set_yscale("log")
        for batch in sorted({line.batch for line in lines}):
            axes.axhline(batch, color="0.45", linewidth=1, linestyle=":")
            axes.annotate(f"batch {batch:,}", (1, batch), xycoords=("axes fraction", "data"), xytext=(0, 2),
                          textcoords="offset points", ha="right", fontsize=8, color="0.3")  # fmt: skip
        if any(line.scales for line in lines):
            frame.decades(axes.yaxis)
        axes.set_xlabel("epoch (0: before training)")
        axes.set_ylabel("gradient noise scale (images)")
        frame.counted(axes.xaxis)
        if any(line.unseen for line in lines):
            frame.note(axes, "×: noise hides the gradient")
        frame.legend(figure, {line.label: frame.handle(look) for line, look in zip(lines, looks, strict=True)})
    return figure


def _drawn(records: Sequence[RunRecord], labels: Sequence[str]) -> Figure:
    return draw(data(records, labels))


OF_RUNS = OfRuns("noise", "the gradient noise scale, where a run measures it", _drawn)

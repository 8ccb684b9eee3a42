"""What reaches each layer of a network: norm of the gradient, size of the responses, dead channels, over depth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from residuum.analysis.depth import Profile, profile
from residuum.analysis.results import Results
from residuum.errors import InputError
from residuum.records import layers as recorded
from residuum.records.layers import Layers, Numbers
from residuum.report import style
from residuum.report.figures import frame
from residuum.report.figures.grouping import MOST, groups

WIDE = 30.0
"""Responses of which the largest layer's are this many times the smallest's stand on a logarithmic axis."""


@dataclass(frozen=True)
class Quantity:
    """What one value a layer says: its name on the axis, what the layers are counted by, and how it is read.

    `grouped`: neighbouring layers of deep networks are taken together, because those of a block alternate.
    """

    label: str
    across: str
    of: Callable[[Layers], Numbers]
    grouped: bool = False

    def line(self, runs: Sequence[Layers]) -> Profile:
        """Its profile over runs."""
        return profile([self.of(one) for one in runs], grouped=self.grouped)


GRADIENTS = Quantity("norm of the gradient", "layer", lambda layers: layers.kernel_gradients_L)
RESPONSES = Quantity("sd of the responses", "layer", lambda layers: layers.response_stds_L, grouped=True)
RANKED = Quantity(RESPONSES.label, "layers of each network, by size", lambda layers: -np.sort(-layers.response_stds_L))
DEAD = Quantity("dead channels", "activation", lambda layers: layers.dead_A, grouped=True)


@dataclass(frozen=True)
class Panel:
    """One pair of axes: a line for each run or arm."""

    title: str
    quantity: Quantity
    lines: Mapping[str, Profile]


@dataclass(frozen=True)
class Flow:
    """What the figure shows: rows of panels with a common scale in each row; `labels` fix how each line looks."""

    labels: tuple[str, ...]
    rows: tuple[tuple[Panel, ...], ...]
    mark: str = ""

    @property
    def is_grouped(self) -> bool:
        """Whether points of some line stand for several layers each."""
        lines = (line for row in self.rows for panel in row for line in panel.lines.values())
        return any(len(line.at_P) < line.depth for line in lines)


def data(runs: Mapping[str, Sequence[Layers]]) -> Flow:
    """Runs by their labels in common frames: at initialisation, in the middle and after the last epoch of all of them.

    Gradients, responses by layer and by size, and dead channels where some run has any.
    """
    epochs = sorted(set.intersection(*({one.epoch for one in run} for run in runs.values()))) if runs else []
    moments = sorted({epochs[at] for at in (0, len(epochs) // 2, -1)}) if epochs else []
    at = {(label, one.epoch): one for label, run in runs.items() for one in run}

    def row(quantity: Quantity) -> tuple[Panel, ...]:
        return tuple(
            Panel(_moment(epoch), quantity, {label: quantity.line([at[label, epoch]]) for label in runs})
            for epoch in moments
        )

    rows = [row(quantity) for quantity in (GRADIENTS, RESPONSES, RANKED, DEAD)]
    return Flow(tuple(runs), tuple(row for row in rows if _shown(row)))


def of_study(results: Results, mark: str = "") -> dict[str, Flow]:
    """Arms of a study over their seeds, by the name of the figure: gradients, responses, dead channels.

    A row for each named arm where there are axes as well, or for each group of more than six arms, else one row. All
    at initialisation and after the last epoch of each run, responses then by size as well. Empty where no run recorded
    its layers; what is damaged is left out.
    """
    start, end = (_recorded(results, last=last) for last in (False, True))
    arms = {arm.name: arm for arm in results.plan.arms}
    families: dict[str, dict[str, str]] = {}
    for name in start:
        families.setdefault(arms[name].family, {})[arms[name].label] = name
    labels = tuple(dict.fromkeys(label for members in families.values() for label in members))
    alone = len(families) == 1
    if alone and len(start) > MOST:
        apart = ((title, {arms[name].label: name for name in members if name in start})
                 for title, members in groups(results))  # fmt: skip
        families = {title: members for title, members in apart if members}
    if alone:  # the arms then look as in the other figures
        labels = tuple(arm.label for arm in results.plan.arms)

    def panel(title: str, members: Mapping[str, str], quantity: Quantity, seen: Mapping[str, list[Layers]]) -> Panel:
        there = {label: seen[arm] for label, arm in members.items() if arm in seen}
        return Panel(title, quantity, {label: quantity.line(found) for label, found in there.items()})

    def flow(*moments: tuple[str, Quantity, Mapping[str, list[Layers]]]) -> Flow:
        rows = (tuple(panel(f"{title}: {when}" if title else when, members, quantity, seen)
                      for when, quantity, seen in moments) for title, members in families.items())  # fmt: skip
        return Flow(labels, tuple(row for row in rows if _shown(row)), mark)

    first, after = "at initialisation", "after the last epoch"
    found = {
        "gradient-flow": flow((first, GRADIENTS, start), (after, GRADIENTS, end)),
        # At initialisation batch norm makes them all 1: what they have become is seen after training.
        "responses": flow((first, RESPONSES, start), (after, RESPONSES, end), (after, RANKED, end)),
        "dead": flow((first, DEAD, start), (after, DEAD, end)),
    }
    return {name: one for name, one in found.items() if one.rows}


def _recorded(results: Results, *, last: bool) -> dict[str, list[Layers]]:
    """What the runs of each arm recorded before training, or after their last epoch."""
    found: dict[str, list[Layers]] = {}
    for run in results.plan.runs:
        record = results.records.get(run.id)
        if record is None or (last and not record.epochs):
            continue
        try:
            layers = recorded.read_epoch(record.folder, record.epochs[-1].epoch if last else 0)
        except InputError:
            continue
        if layers is not None:
            found.setdefault(run.arm, []).append(layers)
    return found


def _moment(epoch: int) -> str:
    return f"after epoch {epoch}" if epoch else "at initialisation"


def _shown(row: Sequence[Panel]) -> bool:
    """Whether there is anything to see: a row of dead channels is left out where there are none."""
    return any(panel.quantity is not DEAD or line.high_P.any() for panel in row for line in panel.lines.values())


def draw(flow: Flow, *, narrow: bool = False) -> Figure:
    """One line a run or arm; over several seeds the line is their median and the band reaches from end to end.

    On a logarithmic axis a value of exactly 0 is a triangle at the lower edge, one that is not finite a cross at the
    upper one. `narrow`: for a phone, one panel below the other.
    """
    looks = dict(zip(flow.labels, style.arms(len(flow.labels)), strict=True))
    drawn = [label for label in flow.labels if any(label in panel.lines for row in flow.rows for panel in row)]
    rows, columns = max(1, len(flow.rows)), max((len(row) for row in flow.rows), default=1)
    width, high = max(6.0, 4.6 * columns), rows
    if narrow:
        width, high = frame.NARROW, max(1, sum(map(len, flow.rows)))
    _, legend_rows = frame.legend_rows(drawn, width)
    with style.styled():
        figure = Figure(figsize=(width, 0.4 + 2.7 * high + frame.ROW * legend_rows), layout="constrained")
        grid = frame.cells(figure, [len(row) for row in flow.rows], narrow=narrow, sharey="row")
        for cells, row in zip(grid, flow.rows, strict=True):
            lines = [line for panel in row for line in panel.lines.values()]
            values = np.concatenate([[], *(part for line in lines for part in (line.median_P, line.high_P))])
            for at, (axes, panel) in enumerate(zip(cells, row, strict=True)):
                _draw_panel(axes, panel, values, looks)
                axes.set_ylabel(panel.quantity.label if narrow or not at else "")
        handles: dict[str, Any] = {label: frame.handle(looks[label]) for label in drawn}
        frame.legend(figure, handles)
        frame.mark(figure, flow.mark)
    return figure


def _draw_panel(axes: Axes, panel: Panel, values: Numbers, looks: Mapping[str, style.Look]) -> None:
    positive = values[np.isfinite(values) & (values > 0)]
    logarithmic = panel.quantity is GRADIENTS or (
        panel.quantity is not DEAD and bool(len(positive)) and positive.max() > WIDE * positive.min()
    )
    if logarithmic:
        low, high = (positive.min(), positive.max()) if len(positive) else (0.1, 10.0)
        room = (high / low) ** 0.06 * 1.3
        axes.set_yscale("log")
        axes.set_ylim(low / room, high * room)
        frame.decades(axes.yaxis)
    else:
        top = 1.08 * (positive.max() if len(positive) else 1.0)
        axes.set_ylim(0, min(1.0, top) if panel.quantity is DEAD else top)
    if panel.quantity is DEAD:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    for number, (label, line) in enumerate(panel.lines.items()):
        _draw_line(axes, line, looks[label], 3 + number / 100, edges=logarithmic)
    longest = max((line.depth for line in panel.lines.values()), default=1)
    axes.set_xlim(0.5 - 0.01 * longest, longest * 1.02 + 0.5)
    frame.counted(axes.xaxis, 6)
    axes.set_xlabel(panel.quantity.across)
    axes.set_title(style.literal(style.short(panel.title, 48)), loc="left", fontsize=10, pad=frame.PAD)
    if logarithmic and any((line.median_P == 0).any() for line in panel.lines.values()):
        axes.annotate("▾ exactly 0", (1, 0), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points",
                      ha="right", fontsize=8, color="0.3")  # fmt: skip


def _draw_line(axes: Axes, line: Profile, look: style.Look, order: float, *, edges: bool) -> None:
    layers_P = line.at_P
    finite_P = np.isfinite(line.median_P)
    shown_P = finite_P & (line.median_P > 0) if edges else finite_P
    every = max(1, len(layers_P) // 7)
    axes.plot(layers_P, np.where(shown_P, line.median_P, np.nan), color=look.colour, linestyle=look.dash,
              marker=look.marker, markersize=4, markevery=(every // 2, every), markeredgecolor="white",
              markeredgewidth=0.5, linewidth=1.3, zorder=order)  # fmt: skip
    if line.n > 1:
        low_P = np.maximum(line.low_P, np.finfo(float).tiny) if edges else line.low_P
        axes.fill_between(layers_P, low_P, line.high_P, where=shown_P, color=look.colour, alpha=0.2, linewidth=0)
    for lost_P, height, marker in ((edges & (line.median_P == 0), 0.0, "v"), (~finite_P, 1.0, "x")):
        (places,) = np.nonzero(lost_P)
        few = places[:: max(1, len(places) // 12)]
        if not len(few):
            continue
        axes.plot(layers_P[few], np.full(len(few), height), marker, color=look.colour, markersize=5,
                  transform=axes.get_xaxis_transform(), clip_on=False, zorder=order + 1)  # fmt: skip

"""Learning curves of a study: training loss and held-out error against epoch, one line an arm, seeds as a band."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from residuum.analysis.curves import Band, bands
from residuum.analysis.results import Results
from residuum.records.measures import drop_times
from residuum.registry import name_of
from residuum.report import style
from residuum.report.figures import frame
from residuum.report.figures.grouping import MOST, groups
from residuum.report.figures.lost import CROSS

LABELS = {
    ("train", "loss"): "training loss (nats)",
    ("validation", "error"): "validation error (%)",
    ("test", "error"): "test error (%), observed",
}
Curves = Mapping[str, tuple[Band, ...]]
"""The bands of each arm, as `of_arms` gives them."""

SETTLING = 0.05
"""The share of the epochs, from the start, that does not decide what is drawn in proportion."""
FEWEST = 3
"""Of two runs the 95 % interval is 12.7 standard errors to each side: drawn, it would cover everything else."""
FAILING = 2.0
"""An arm that ends this many times above where the others stood so early has learned next to nothing."""
TOWERING = 100.0
"""A loss of so many times what is drawn in proportion is beyond the frame, and marked."""
LOW = 2.5
"""Inches: an axis less high than this has its label in two lines."""
SHORT = 5
"""So few epochs are drawn with larger markers, which are then most of what there is to see."""
MOST_DROPS = 6
"""A rate that drops more often is a decay: marking every drop would say nothing."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes: a band for each arm, in a frame of that extent; `behind` are the other arms, for comparison.

    `at_once` are arms without a band, since every run of theirs diverged before an epoch ended.
    """

    title: str
    label: str
    bands: tuple[Band, ...]
    extent: frame.Extent
    at_once: tuple[str, ...]
    behind: tuple[Band, ...] = ()


@dataclass(frozen=True)
class StudyCurves:
    """What the figure shows: rows of panels. `arms` are all arms of the study, which fixes how each looks.

    `drops` are times in epochs at which the rate dropped, with the arms whose rate it was; `broken` are the arms of
    which a run diverged, with the epochs that such runs completed. `grouped`: each row has arms of its own, and a
    legend of them. `panel` is the width and height of a pair of axes in inches.
    """

    arms: tuple[str, ...]
    rows: tuple[tuple[Panel, ...], ...]
    drops: Mapping[float, tuple[str, ...]]
    broken: Mapping[str, tuple[int, ...]]
    mark: str
    grouped: bool = False
    panel: tuple[float, float] = (4.75, 3.5)


def data(results: Results, found: Curves, mark: str = "") -> StudyCurves:
    """Training loss, then validation error and observed test error where they were recorded, side by side.

    Of more than six arms a row for each group, all in the frames of the whole.
    """
    at_once = diverged_at_once(results)
    whole = [panel for split, quantity in LABELS if (panel := _panel(found, split, quantity, at_once)).bands]
    parts = groups(results)
    if len(parts) == 1:
        return _curves(results, (tuple(whole),), mark)
    rows = (tuple(_part(panel, "" if at else title, members) for at, panel in enumerate(whole))
            for title, members in parts)  # fmt: skip
    rows_shown = tuple(row for row in rows if any(panel.bands or panel.at_once for panel in row))
    return _curves(results, rows_shown, mark, grouped=True)


def _part(whole: Panel, title: str, members: Sequence[str]) -> Panel:
    """Some arms of a panel in the frame of all of them."""
    return replace(
        whole, title=title, bands=tuple(band for band in whole.bands if band.arm in members),
        behind=tuple(band for band in whole.bands if band.arm not in members),
        at_once=tuple(arm for arm in whole.at_once if arm in members),
    )  # fmt: skip


def families(results: Results, found: Curves, mark: str = "") -> StudyCurves | None:
    """Training loss above, error below, one family of arms a column: residual left, plain right.

    None where the arms are not two families of at least two, one has no curve yet, or the arms are too many for one
    panel and therefore stand in groups anyway. The error is the observed test
    error if every curve has it, else validation.
    """
    columns = split(results)
    if not columns or len(found) > MOST or not all(any(found[arm] for arm in members) for _, members in columns):
        return None
    arms = [arm for arm, curves in found.items() if curves]
    observed = {arm for arm in arms if any(band.split == "test" for band in found[arm])}
    at_once = diverged_at_once(results)
    error = ("test" if len(observed) == len(arms) else "validation", "error")
    rows: list[tuple[Panel, ...]] = []
    for which, quantity in (("train", "loss"), error):
        whole = _panel(found, which, quantity, at_once)
        # Both columns have the frame of the whole: they are there to be compared.
        rows.append(tuple(_part(whole, "" if rows else title, members) for title, members in columns))
    return _curves(results, tuple(rows), mark)


def of_arms(results: Results) -> dict[str, tuple[Band, ...]]:
    """The bands of every arm of a study in its order; none where no run of the arm has an epoch."""
    records = {
        arm: [results.records[run.id] for run in runs if run.id in results.records]
        for arm, runs in results.plan.runs_of.items()
    }
    return {arm: bands(arm, of) if any(one.epochs for one in of) else () for arm, of in records.items()}


def diverged_at_once(results: Results) -> tuple[str, ...]:
    """The arms of which every run that was begun diverged before an epoch ended."""
    runs: dict[str, list[bool]] = {}
    for run in results.plan.runs:
        record = results.records.get(run.id)
        if record is not None:
            runs.setdefault(run.arm, []).append(record.status == "diverged" and not record.epochs)
    return tuple(arm for arm, lost in runs.items() if all(lost))


def split(results: Results) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The two families of a study's arms, each with its title; empty where there are not two of at least two arms.

    Networks with shortcuts and without; else the two values of the axis that the baseline is on, its own value last.
    """
    plan = results.plan
    plain: dict[str, bool] = {}
    for run in plan.runs:
        plain[run.arm] = name_of(run.config.model.settings.get("shortcut")) == "none"
    found = {"residual": [arm for arm, bare in plain.items() if not bare],
             "plain": [arm for arm, bare in plain.items() if bare]}  # fmt: skip
    baseline = plan.study.compare.baseline
    if not found["plain"] and not isinstance(baseline, str) and len(baseline) == 1:
        ((path, value),) = baseline.items()
        others = [other for other in plan.study.axes[path] if other != value]
        cells = {arm.name: arm.cell[path] for arm in plan.study.arms()}
        if len(others) == 1:
            found = {f"{path.rpartition('.')[2]} = {name_of(one)}": [arm for arm in cells if cells[arm] == one]
                     for one in (*others, value)}  # fmt: skip
    if len(found) != 2 or min(map(len, found.values())) < 2:
        return ()
    return tuple((title, tuple(arms)) for title, arms in found.items())


def _panel(found: Mapping[str, Sequence[Band]], split: str, quantity: str, at_once: Sequence[str]) -> Panel:
    chosen = tuple(band for curves in found.values() for band in curves
                   if (band.split, band.quantity) == (split, quantity) and band.epochs)  # fmt: skip
    longest = max((band.epochs[-1] for band in chosen), default=0)
    settled = {band.arm: [value for epoch, value in zip(band.epochs, band.mean, strict=True)
                          if epoch > SETTLING * longest or epoch == band.epochs[-1]] for band in chosen}  # fmt: skip
    early = median(values[0] for values in settled.values()) if settled else 0.0
    # The start of training and arms that learn nothing would press all others to the floor.
    near = [value for values in settled.values() if values[-1] <= FAILING * early for value in values]
    every = [value for band in chosen for edge in (band.mean, *ends(band)) for value in edge]
    most = 100.0 if quantity == "error" else TOWERING * max(filter(isfinite, near), default=1.0) or inf
    shown = frame.extent(frame.based(near), every, 0.0, most)
    return Panel("", LABELS[split, quantity], chosen, shown, tuple(arm for arm in at_once if arm in found))


def _curves(results: Results, rows: tuple[tuple[Panel, ...], ...], mark: str, *, grouped: bool = False) -> StudyCurves:
    arm_of = {run.id: run.arm for run in results.plan.runs}
    drops: dict[float, dict[str, None]] = {}
    broken: dict[str, set[int]] = {}
    for id_, arm in arm_of.items():
        record = results.records.get(id_)
        if record is None:
            continue
        fell = drop_times(record)
        for time in fell if len(fell) <= MOST_DROPS else ():
            drops.setdefault(time, {})[arm] = None
        if record.status == "diverged":
            broken.setdefault(arm, set()).add(record.epochs[-1].epoch if record.epochs else 0)
    return StudyCurves(
        arms=tuple(arm.name for arm in results.plan.arms),
        rows=rows,
        drops={time: tuple(arms) for time, arms in sorted(drops.items())},
        broken={arm: tuple(sorted(epochs)) for arm, epochs in broken.items()},
        mark=mark,
        grouped=grouped,
    )


def draw(curves: StudyCurves, *, narrow: bool = False) -> Figure:
    """One line an arm with its band; a cross where a run of it diverged, a thin vertical line where the rate drops.

    Triangles at an edge: the band goes on beyond the axis (hollow), or the curve does (filled). `narrow`: for a phone.
    """
    looks = dict(zip(curves.arms, style.arms(len(curves.arms)), strict=True))
    panels = [panel for row in curves.rows for panel in row]
    drawn = {} if curves.grouped else _handles(panels, curves, looks)
    if any(n >= FEWEST for panel in panels for band in panel.bands for n in band.n):
        drawn[frame.BAND_NAME] = frame.BAND
    if any(departs(panel.extent, band) for panel in panels for band in panel.bands):
        drawn[frame.DEPARTED_NAME] = frame.DEPARTED
    columns, rows = max((len(row) for row in curves.rows), default=0) or 1, max(1, len(curves.rows))
    wide, high = (4.0, 2.6) if curves.grouped else curves.panel
    width, height = wide * columns + 2.2 * curves.grouped if columns < 3 else 12.5, high * rows
    if narrow:
        # Legends of rows have a line for two arms or so.
        lines = [frame.legend_rows([b.arm for b in row[-1].bands], frame.NARROW)[1] + 2 * len(row[-1].at_once)
                 for row in curves.rows if row]  # fmt: skip
        width, height = frame.NARROW, 2.9 * max(1, len(panels)) + frame.ROW * sum(lines) * curves.grouped
    said = {} if curves.grouped else _said(panels)
    _, legend_rows = frame.legend_rows(list(drawn), width)
    with style.styled():
        size = (width, height + frame.ROW * (legend_rows + len(said)))
        figure = Figure(figsize=size, layout="constrained")
        grid = frame.cells(figure, [len(row) for row in curves.rows], narrow=narrow, sharex=True)
        for row, cells in zip(curves.rows, grid, strict=True):
            for panel, axes in zip(row, cells, strict=False):
                _draw_panel(figure, axes, panel, curves, looks)
            if curves.grouped:
                frame.beside(cells[-1], _handles(row, curves, looks), _said(row), narrow=narrow)
        last = max((band.epochs[-1] for panel in panels for band in panel.bands), default=1)
        for axes in [axes for row in (grid if narrow else grid[-1:]) for axes in row]:
            axes.set_xlim(_first(curves, last), last + max(0.5, 0.03 * last))
            axes.set_xlabel("epoch")
            frame.counted(axes.xaxis)
        frame.legend(figure, drawn, said)
        frame.mark(figure, curves.mark)
    return figure


def _first(curves: StudyCurves, last: int) -> float:
    """Where the axis of epochs begins: of few epochs not at 0, where nothing is, which would take room from them."""
    return 0.0 if last > SHORT else min([0.5, *curves.drops])


def _said(panels: Sequence[Panel]) -> dict[str, str]:
    """What a legend says of the arms of some panels beside their names."""
    return dict.fromkeys((arm for panel in panels for arm in panel.at_once), "diverged at once")


def _handles(panels: Sequence[Panel], curves: StudyCurves, looks: Mapping[str, style.Look]) -> dict[str, Any]:
    """What stands for each arm of some panels in a legend."""
    with_band, at_once = ({band.arm for p in panels for band in p.bands}, {arm for p in panels for arm in p.at_once})
    drawn = {arm: frame.handle(looks[arm]) for arm in curves.arms if arm in with_band}
    return drawn | {arm: Line2D([], [], color=looks[arm].colour, linestyle="none", **CROSS)
                    for arm in curves.arms if arm in at_once}  # fmt: skip


def ends(band: Band) -> tuple[list[float], list[float]]:
    """The lower and the upper end of a band where it is drawn: where enough runs reached the epoch."""
    low, high = ([end if n >= FEWEST else mean for end, mean, n in zip(edge, band.mean, band.n, strict=True)]
                 for edge in (band.low, band.high))  # fmt: skip
    return low, high


def departs(shown: frame.Extent, band: Band) -> bool:
    """Whether some of a band or of its mean lies beyond a frame."""
    return any(frame.departures(edge, shown.low, shown.high) for edge in ends(band))


def shade(axes: Axes, band: Band, colour: str) -> None:
    """Draw the interval of a band where enough runs reached the epoch."""
    enough = [n >= FEWEST for n in band.n]
    if any(enough):
        axes.fill_between(
            band.epochs, band.low, band.high, where=enough, color=colour, alpha=0.14, linewidth=0, zorder=2
        )
    if len(band.epochs) == 1 and enough[0]:  # an interval without a width
        axes.vlines(band.epochs, band.low, band.high, color=colour, alpha=0.3, linewidth=6, zorder=2)


def _draw_panel(figure: Figure, axes: Axes, panel: Panel, curves: StudyCurves, looks: Mapping[str, style.Look]) -> None:
    frame.show(axes, "y", panel.extent)
    for band in panel.behind:
        axes.plot(band.epochs, band.mean, color="0.8", linewidth=0.8, zorder=1.5)
    for number, band in enumerate(panel.bands):
        look = looks[band.arm]
        every = max(1, len(band.epochs) // 8)
        # Markers of different arms start at different epochs: lines that lie on each other stay visible.
        start = list(looks).index(band.arm) * every // max(1, len(looks)) if len(band.epochs) > 8 else 0
        axes.plot(band.epochs, band.mean, color=look.colour, linestyle=look.dash, marker=look.marker,
                  markersize=4.5 if len(band.epochs) > SHORT else 7,
                  markevery=(start, every), markeredgecolor="white", markeredgewidth=0.5, linewidth=1.4,
                  zorder=3 + number / 100)  # fmt: skip
        shade(axes, band, look.colour)
        for edge in ends(band):
            frame.mark_departures(axes, band.epochs, edge, panel.extent, look.colour)
        frame.mark_departures(axes, band.epochs, band.mean, panel.extent, look.colour, hollow=False)
        for epoch in curves.broken.get(band.arm, ()):
            value = band.mean[band.epochs.index(epoch)] if epoch in band.epochs else panel.extent.high
            axes.plot([epoch], [min(value, panel.extent.high)], color=look.colour, zorder=5, clip_on=False, **CROSS)
    for number, arm in enumerate(panel.at_once):
        # One below the other in the corner of the frame, in the order of the legend.
        place = axes.transAxes + ScaledTranslation(8 / 72, -(8 + 13 * number) / 72, figure.dpi_scale_trans)
        axes.plot([0], [1], color=looks[arm].colour, transform=place, zorder=5, **CROSS)
    arms = {band.arm for band in panel.bands}
    for time, whose in curves.drops.items():
        mine = [arm for arm in whose if arm in arms]
        if mine:
            colour = looks[mine[0]].colour if len(mine) == 1 < len(arms) else "0.55"
            axes.axvline(time, color=colour, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
    low = not curves.grouped and curves.panel[1] < LOW
    axes.set_ylabel(panel.label.replace(" ", "\n", 1) if low else panel.label)
    if panel.title:
        axes.set_title(style.literal(panel.title), loc="left", fontsize=11, pad=frame.PAD)

"""Learning curves of a study: training loss and held-out error against epoch, one line an arm, seeds as a band."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from residuum.analysis.curves import Band, bands
from residuum.analysis.results import Results
from residuum.records.measures import drop_times
from residuum.report import style
from residuum.report.figures import frame

LABELS = {
    ("train", "loss"): "training loss (nats)",
    ("validation", "error"): "validation error (%)",
    ("test", "error"): "test error (%), observed",
}
Curves = Mapping[str, tuple[Band, ...]]
"""The bands of each arm, as `of_arms` gives them."""

SETTLING = 0.05
"""The share of the epochs, from the start, that does not decide how high the frame is."""
CROWD = 8
"""So many bands in one pair of axes can be told apart; with more, each arm's own history has them."""
FEWEST = 3
"""Of two runs the 95 % interval is 12.7 standard errors to each side: drawn, it would cover everything else."""
FAILING = 2.0
"""An arm that ends this many times above where the others stood so early has learned next to nothing."""
CROSS: dict[str, Any] = {"marker": "x", "markersize": 10, "markeredgewidth": 2.5}
"""How a run that diverged is marked."""
MOST_DROPS = 6
"""A rate that drops more often is a decay: marking every drop would say nothing."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes: a band for each arm, up to `top`; arms that end above it are `above` the frame.

    `at_once` are arms without a band, since every run of theirs diverged before an epoch ended.
    """

    title: str
    label: str
    bands: tuple[Band, ...]
    top: float
    above: tuple[str, ...]
    at_once: tuple[str, ...]


@dataclass(frozen=True)
class StudyCurves:
    """What the figure shows: rows of panels. `arms` are all arms of the study, which fixes how each looks.

    `drops` are times in epochs at which the rate dropped, with the arms whose rate it was; `broken` are the arms of
    which a run diverged, with the epochs that such runs completed.
    """

    arms: tuple[str, ...]
    rows: tuple[tuple[Panel, ...], ...]
    drops: Mapping[float, tuple[str, ...]]
    broken: Mapping[str, tuple[int, ...]]
    mark: str


def data(results: Results, found: Curves, mark: str = "") -> StudyCurves:
    """Training loss, then validation error and observed test error where they were recorded, side by side."""
    at_once = diverged_at_once(results)
    panels = (_panel(found, split, quantity, at_once) for split, quantity in LABELS)
    return _curves(results, (tuple(panel for panel in panels if panel.bands),), mark)


def families(results: Results, found: Curves, mark: str = "") -> StudyCurves | None:
    """Training loss above, error below, one family of arms a column: residual left, plain right.

    None where the arms are not two families of at least two, or one has no curve yet. The error is the observed test
    error if every curve has it, else validation.
    """
    columns = split(results)
    if not columns or not all(any(found[arm] for arm in members) for _, members in columns):
        return None
    arms = [arm for arm, curves in found.items() if curves]
    observed = {arm for arm in arms if any(band.split == "test" for band in found[arm])}
    at_once = diverged_at_once(results)
    error = ("test" if len(observed) == len(arms) else "validation", "error")
    rows: list[tuple[Panel, ...]] = []
    for which, quantity in (("train", "loss"), error):
        whole = _panel(found, which, quantity, at_once)
        parts = []
        for title, members in columns:
            part = _panel({arm: found[arm] for arm in members}, which, quantity, at_once)
            above = tuple(arm for arm in whole.above if arm in members)
            # Both columns have the frame of the whole: they are there to be compared.
            parts.append(replace(part, title="" if rows else title, top=whole.top, above=above))
        rows.append(tuple(parts))
    return _curves(results, tuple(rows), mark)


def of_arms(results: Results) -> dict[str, tuple[Band, ...]]:
    """The bands of every arm of a study in its order; none where no run of the arm has an epoch."""
    records = {
        arm.name: [results.records[run.id] for run in results.plan.runs
                   if run.arm == arm.name and run.id in results.records]
        for arm in results.plan.arms
    }  # fmt: skip
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
        plain[run.arm] = _named(run.config["model"].get("shortcut")) == "none"
    found = {"residual": [arm for arm, bare in plain.items() if not bare],
             "plain": [arm for arm, bare in plain.items() if bare]}  # fmt: skip
    baseline = plan.study.compare.baseline
    if not found["plain"] and not isinstance(baseline, str) and len(baseline) == 1:
        ((path, value),) = baseline.items()
        others = [other for other in plan.study.axes[path] if other != value]
        cells = {arm.name: arm.cell[path] for arm in plan.study.arms()}
        if len(others) == 1:
            found = {f"{path.rpartition('.')[2]} = {_named(one)}": [arm for arm in cells if cells[arm] == one]
                     for one in (*others, value)}  # fmt: skip
    if len(found) != 2 or min(map(len, found.values())) < 2:
        return ()
    return tuple((title, tuple(arms)) for title, arms in found.items())


def _named(value: object) -> str:
    return str(value.get("name", value) if isinstance(value, Mapping) else value)


def _panel(found: Mapping[str, Sequence[Band]], split: str, quantity: str, at_once: Sequence[str]) -> Panel:
    chosen = tuple(band for curves in found.values() for band in curves
                   if (band.split, band.quantity) == (split, quantity) and band.epochs)  # fmt: skip
    longest = max((band.epochs[-1] for band in chosen), default=0)
    # He et al. 2015, figure 6, leaves plain-110 out of its frame for the same reason.
    early = (
        median(
            next(
                value
                for epoch, value in zip(band.epochs, band.mean, strict=True)
                if epoch > SETTLING * longest or epoch == band.epochs[-1]
            )
            for band in chosen
        )
        if chosen
        else 0.0
    )
    above = tuple(band.arm for band in chosen if band.mean[-1] > FAILING * early)
    shown = [
        value
        for band in chosen
        if band.arm not in above
        for epoch, value in zip(band.epochs, band.mean, strict=True)
        if epoch > SETTLING * longest or epoch == band.epochs[-1]
    ]
    top = 1.05 * max(shown, default=1.0) or 1.0
    return Panel("", LABELS[split, quantity], chosen, top, above, tuple(arm for arm in at_once if arm in found))


def _curves(results: Results, rows: tuple[tuple[Panel, ...], ...], mark: str) -> StudyCurves:
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
    )


def draw(curves: StudyCurves) -> Figure:
    """One line an arm with its band; a cross where a run of it diverged, a thin vertical line where the rate drops."""
    looks = dict(zip(curves.arms, style.arms(len(curves.arms)), strict=True))
    panels = [panel for row in curves.rows for panel in row]
    with_band, at_once = ({band.arm for p in panels for band in p.bands}, {arm for p in panels for arm in p.at_once})
    drawn = {arm: frame.handle(looks[arm]) for arm in curves.arms if arm in with_band}
    drawn |= {f"{arm} (diverged at once)": Line2D([], [], color=looks[arm].colour, linestyle="none", **CROSS)
              for arm in curves.arms if arm in at_once}  # fmt: skip
    columns = max((len(row) for row in curves.rows), default=0) or 1
    width, height = (4.75 * columns if columns < 3 else 12.5), 3.5 * max(1, len(curves.rows))
    _, legend_rows = frame.legend_rows(list(drawn), width)
    with style.styled():
        figure = Figure(figsize=(width, height + frame.ROW * legend_rows), layout="constrained")
        grid = figure.subplots(max(1, len(curves.rows)), columns, squeeze=False, sharex=True)
        for row, cells in zip(curves.rows, grid, strict=False):
            for panel, axes in zip(row, cells, strict=False):
                _draw_panel(figure, axes, panel, curves, looks)
        last = max((band.epochs[-1] for panel in panels for band in panel.bands), default=1)
        for axes in grid[-1]:
            axes.set_xlim(0, last + max(0.5, 0.03 * last))
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        frame.legend(figure, drawn)
        frame.mark(figure, curves.mark)
    return figure


def shade(axes: Axes, band: Band, colour: str) -> None:
    """Draw the interval of a band where enough runs reached the epoch."""
    enough = [n >= FEWEST for n in band.n]
    if any(enough):
        axes.fill_between(
            band.epochs, band.low, band.high, where=enough, color=colour, alpha=0.14, linewidth=0, zorder=2
        )


def _draw_panel(figure: Figure, axes: Axes, panel: Panel, curves: StudyCurves, looks: Mapping[str, style.Look]) -> None:
    for number, band in enumerate(panel.bands):
        look = looks[band.arm]
        every = max(1, len(band.epochs) // 8)
        # Markers of different arms start at different epochs: lines that lie on each other stay visible.
        start = list(looks).index(band.arm) * every // max(1, len(looks)) if len(band.epochs) > 8 else 0
        axes.plot(band.epochs, band.mean, color=look.colour, linestyle=look.dash, marker=look.marker, markersize=4.5,
                  markevery=(start, every), markeredgecolor="white", markeredgewidth=0.5, linewidth=1.4,
                  zorder=3 + number / 100)  # fmt: skip
        if len(panel.bands) <= CROWD:
            shade(axes, band, look.colour)
        for epoch in curves.broken.get(band.arm, ()):
            value = band.mean[band.epochs.index(epoch)] if epoch in band.epochs else panel.top
            axes.plot([epoch], [min(value, panel.top)], color=look.colour, zorder=5, clip_on=False, **CROSS)
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
    axes.set_ylim(0, panel.top)
    axes.set_ylabel(panel.label)
    if panel.title:
        axes.set_title(style.literal(panel.title), loc="left", fontsize=11, pad=frame.PAD)
    if panel.above:
        frame.note(axes, f"above the frame: {frame.listed(panel.above)}")

"""What a search came to with so many trials: its performance against its budget (Dodge et al. 2019)."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from matplotlib.figure import Figure

from residuum.analysis.budget import best_so_far, expected_best
from residuum.report import style
from residuum.report.figures import frame
from residuum.studies.space import Tuned


@dataclass(frozen=True)
class Line:
    """The search for one arm: the validation errors (%) of its trials, the lowest so far, and the one to be expected.

    `stopped` are those that were pruned, from 1 on. `expected` is empty where trials learned from those before them.
    """

    arm: str
    errors: tuple[float, ...]
    stopped: tuple[int, ...]
    best: tuple[float, ...]
    expected: tuple[float, ...]


def data(tuned: Tuned) -> tuple[Line, ...]:
    """The lines of the arms that were searched for."""
    return tuple(
        Line(
            arm=one.arm,
            errors=one.errors,
            stopped=one.stopped,
            best=tuple(best_so_far(one.errors).tolist()),
            expected=tuple(expected_best(one.errors).tolist()) if tuned.sampler == "random" else (),
        )
        for one in tuned.arms
    )


def draw(lines: Sequence[Line], mark: str = "", *, narrow: bool = False) -> Figure:
    """For each arm a point a trial (hollow: pruned), steps at the lowest so far, the expected lowest as dashes."""
    width = frame.NARROW if narrow else 7.0
    _, rows = frame.legend_rows([line.arm for line in lines], width)
    with style.styled():
        figure = Figure(figsize=(width, 3.5 + frame.ROW * rows), layout="constrained")
        axes = figure.subplots()
        looks = style.arms(len(lines))
        for line, look in zip(lines, looks, strict=True):
            trials = range(1, len(line.errors) + 1)
            for at, error in zip(trials, line.errors, strict=True):
                face = "white" if at in line.stopped else look.colour
                axes.plot([at], [error], look.marker, color=look.colour, markerfacecolor=face, markersize=4, alpha=0.45)
            axes.step(trials, line.best, where="post", color=look.colour, linewidth=1.8)
            if line.expected:
                axes.plot(trials, line.expected, "--", color=look.colour, linewidth=1.2)
        # The worse half of the trials, as those that diverged, would press what matters together.
        near = [value for line in lines for value in (*line.best, *line.expected, median(line.errors))]
        frame.show(axes, "y", frame.extent(near, [value for line in lines for value in line.errors], 0.0, 100.0))
        axes.set_xlabel("trials of each arm")
        axes.set_ylabel("validation error (%)")
        frame.counted(axes.xaxis)
        frame.mark(figure, mark)
        frame.legend(figure, {line.arm: frame.handle(look) for line, look in zip(lines, looks, strict=True)})
    return figure

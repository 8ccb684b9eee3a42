"""The table of figures that `residuum draw` draws of one run or several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from residuum.members import gathered
from residuum.records.record import RunRecord


@dataclass(frozen=True)
class OfRuns:
    """A row of the table of figures of runs, `OF_RUNS` in its file; several of one file are a tuple.

    `text` says what the figure shows. `draw(records, labels)` is given what each run is called in the legend, and
    raises an InputError where a run has nothing of it to show.
    """

    name: str
    text: str
    draw: Callable[[Sequence[RunRecord], Sequence[str]], Figure]


def table() -> Mapping[str, OfRuns]:
    """The figures of runs by name. A function, since the files of the table import this one."""
    found = gathered("residuum.report.figures", "OF_RUNS").values()
    return {row.name: row for rows in found for row in (rows if isinstance(rows, tuple) else (rows,))}

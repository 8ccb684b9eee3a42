"""Learning rate over a run: one panel for each schedule or recipe, with the rate on a logarithmic scale below it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from residuum import schedules
from residuum.registry import Choice
from residuum.report import style
from residuum.report.figures import choices, frame

COLUMNS = 3
DECADES = 4
"""How many powers of ten below its largest value a rate is shown on the logarithmic scale."""


@dataclass(frozen=True)
class Rates:
    """The rate of every update of a run, `steps_per_epoch` in each epoch.

    `losses` are the validation losses after each epoch that the schedule watched; none where it does not look at them.
    """

    title: str
    text: str
    rates: tuple[float, ...]
    steps_per_epoch: int
    losses: tuple[float, ...]

    @property
    def epochs(self) -> int:
        """Epochs of the run."""
        return len(self.rates) // self.steps_per_epoch


def data(
    title: str, schedule: Choice, rates: Sequence[float], steps_per_epoch: int, losses: Sequence[float] = ()
) -> Rates:
    """The panel of one run from the rates of its updates; its title is the schedule's own name or that of a recipe."""
    text = choices.settings(schedule)
    if title != schedule.name:
        text = f"{schedule.name}: {text}" if text else schedule.name
    watched = tuple(losses) if schedules.row(schedule.name).watches_loss else ()
    return Rates(title, text, tuple(rates), steps_per_epoch, watched)


def example_losses(epochs: int) -> list[float]:
    """Validation losses that fall for a third of the run and then stay, for a schedule that watches them."""
    return [float(np.exp(-6 * min(epoch / epochs, 1 / 3))) for epoch in range(1, epochs + 1)]


def draw(panels: Sequence[Rates]) -> Figure:
    """Panels side by side: the rate, and below it the same on a logarithmic scale."""
    bands, columns = max(1, -(-len(panels) // COLUMNS)), max(1, min(len(panels), COLUMNS))
    with style.styled():
        figure = Figure(figsize=(max(5.0, 3.2 * columns), 2.9 * bands + 0.2), layout="constrained")
        grid = figure.subplots(2 * bands, columns, squeeze=False, height_ratios=(5, 3) * bands)
        for axes in grid[-2:, len(panels) - columns * (bands - 1) :].flat:
            axes.set_axis_off()
        for number, panel in enumerate(panels):
            band, column = divmod(number, columns)
            above, below = grid[2 * band : 2 * band + 2, column]
            _panel(above, below, panel)
            if column == 0:
                above.set_ylabel("learning rate")
                below.set_ylabel("log scale")
        figure.align_ylabels()
    return figure


def _panel(above: Axes, below: Axes, panel: Rates) -> None:
    epochs_S = np.arange(len(panel.rates)) / panel.steps_per_epoch
    peak = max(panel.rates)
    for axes in (above, below):
        axes.plot(epochs_S, panel.rates, color=style.TRAIN, drawstyle="steps-post")
        axes.set_xlim(0, panel.epochs)
        frame.counted(axes.xaxis, 5)
    choices.title(above, panel.title, panel.text)
    above.set_ylim(0, 1.08 * peak)
    above.tick_params(labelbottom=False)
    below.set_yscale("log")
    below.set_ylim(peak * 10 ** -(DECADES + 0.3), 2 * peak)
    below.yaxis.set_major_locator(LogLocator(numticks=DECADES))
    below.yaxis.set_minor_locator(NullLocator())
    below.set_xlabel("epoch")
    if panel.losses:
        shown = np.array(panel.losses) * peak / max(panel.losses)
        above.plot(np.arange(1, panel.epochs + 1), shown, ":", color="0.35")
        above.annotate("validation loss\n(made up)", (0.97, 0.6), xycoords="axes fraction", ha="right", va="center",
                       fontsize=8, color="0.35")  # fmt: skip

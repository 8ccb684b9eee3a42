"""How a choice from a table is written in a figure: its name as a title, its settings in small print below it."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from residuum.registry import Choice
from residuum.report import style


def settings(choice: Choice) -> str:
    """The settings of a choice in a few words, as `milestones 0.5, 0.75; gamma 0.1`; what is not set is left out."""
    return "; ".join(f"{name} {_value(value)}" for name, value in choice.settings.items() if value is not None)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    if isinstance(value, Choice | Mapping):
        choice = Choice.of(value)
        return f"{choice.name} ({settings(choice)})" if choice.settings else choice.name
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def title(axes: Axes, name: str, small: str = "") -> None:
    """Write a name above the axes, and a line in small print between them."""
    axes.set_title(style.literal(name), fontsize=10, pad=16)
    axes.annotate(style.literal(style.short(small, 52)), (0.5, 1), (0, 4), xycoords="axes fraction",
                  textcoords="offset points", ha="center", fontsize=8, color="0.3")  # fmt: skip

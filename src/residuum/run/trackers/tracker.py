"""What a tracker is: something that writes down the numbers of runs where another program shows them."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias


@dataclass(frozen=True)
class Tracked:
    """A run as trackers know it: its id, its name, its settings by dotted path, and labels: study, arm, seed."""

    id: str
    name: str
    settings: Mapping[str, Any]
    labels: Mapping[str, str]


class Log(Protocol):
    """What an open tracker does with a run."""

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Write down what was measured after an epoch."""

    def end(self, status: str, values: Mapping[str, float]) -> None:
        """Write down what came out."""


Tracker: TypeAlias = Callable[[Path, Tracked], AbstractContextManager[Log]]
"""Opens the place of a run and gives its log; opened again for the run, each epoch is there once in the end."""

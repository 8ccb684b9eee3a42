"""Trials: which runs a search has asked for, read from the journal beside its plan; Optuna is not needed for that."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residuum.records import rows
from residuum.records.mirror import SEARCH_JOURNAL

SEARCH, JOURNAL = "search.json", SEARCH_JOURNAL
RUNS, SETTINGS = "runs", "settings"
"""What the journal has of a trial besides what Optuna needs: the names of the folders of its runs, and its settings."""


@dataclass(frozen=True)
class Trial:
    """A trial that was begun: its arm, its number among those of the arm, from 1 on, its settings, and its runs.

    `runs` are the names of their folders. A journal of an earlier version has no settings.
    """

    arm: str
    number: int
    settings: Mapping[str, Any]
    runs: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is called among arms: `base, trial 3`."""
        return f"{self.arm}, trial {self.number}"


def read(folder: Path) -> list[Trial]:
    """The trials of the search in the folder of a plan, in the order in which they were begun; none without a journal.

    Lines that say nothing of that are passed over: the journal is Optuna's, and a search that goes on checks it.

    Raises:
        InputError: the journal cannot be read.
    """
    arms: list[str] = []
    begun: list[tuple[str, int, dict[str, Any]]] = []
    counts = Counter[str]()
    for line in rows.each(folder / JOURNAL):
        match line:
            case {"op_code": 0, "study_name": str(name)}:
                arms.append(name)
            case {"op_code": 4, "study_id": int(at)} if 0 <= at < len(arms):
                counts[arms[at]] += 1
                begun.append((arms[at], counts[arms[at]], {}))
            case {"op_code": 8, "trial_id": int(at), "user_attr": dict(noted)} if 0 <= at < len(begun):
                begun[at][2].update(noted)
    return [
        Trial(arm, number, settings if isinstance(settings := noted.get(SETTINGS), Mapping) else {}, tuple(runs))
        for arm, number, noted in begun
        if isinstance(runs := noted.get(RUNS), list) and all(isinstance(run, str) for run in runs)
    ]

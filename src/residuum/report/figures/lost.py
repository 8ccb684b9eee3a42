"""Lost: the arms of a study of which runs diverged, told and marked alike wherever a figure has no number for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from residuum.analysis.results import Results

CROSS: dict[str, Any] = {"marker": "x", "markersize": 10, "markeredgewidth": 2.5}
"""How a run that diverged is marked."""
FLOOR = 0.05
"""The share of a frame's height at which such crosses stand above its lower edge, clear of the numbers below."""
DIVERGED = "diverged"
"""What stands beside the name of an arm that has no number since all its runs did."""


@dataclass(frozen=True)
class Lost:
    """How many of the runs of an arm that came to an end diverged."""

    diverged: int
    ended: int

    @property
    def is_whole(self) -> bool:
        """Whether no run of the arm is left that did not."""
        return self.diverged == self.ended

    def __str__(self) -> str:
        return f"{self.diverged} of {self.ended} diverged"


def lost(results: Results) -> Mapping[str, Lost]:
    """The arms of which a run diverged, in the order of the study."""
    ended: dict[str, list[bool]] = {}
    for run in results.plan.runs:
        record = results.records.get(run.id)
        if record is not None and record.status in ("finished", "diverged"):
            ended.setdefault(run.arm, []).append(record.status == "diverged")
    return {arm: Lost(sum(one), len(one)) for arm, one in ended.items() if any(one)}

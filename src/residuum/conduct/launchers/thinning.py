"""Which events of a run are told to who watches many."""

import time

from residuum.records.event import Event, Launched, StepDone, TestRead

PERIOD = 0.5
"""Seconds between two updates of a run that are told."""


class Thinned:
    """Says of each event of a run whether it is told: updates about twice a second, launches and test reads never."""

    def __init__(self) -> None:
        self._told = -PERIOD

    def __call__(self, event: Event) -> bool:
        """Whether this one is told; takes note of it."""
        if isinstance(event, StepDone):
            if (now := time.monotonic()) - self._told < PERIOD:
                return False
            self._told = now
        return not isinstance(event, Launched | TestRead)

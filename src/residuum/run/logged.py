"""Logged: what a run says, told to the logger `residuum` of Python's own `logging`, silent until somebody listens.

    logging.basicConfig(level=logging.INFO)

Epochs and ends of runs are of level INFO, notes and divergence WARNING, and a run that was given up ERROR.
"""

import logging
from collections.abc import Iterable, Iterator

from residuum.records.event import Diverged, EpochDone, Event, Finished, Note, Scores, Started

LOG = logging.getLogger("residuum")


def logged(events: Iterable[Event]) -> Iterator[Event]:
    """The events of one run, each told before it is passed on."""
    run = ""
    for event in events:
        if isinstance(event, Started):
            run = event.id
        tell(event, run)
        yield event


def tell(event: Event, run: str) -> None:
    """Log what a run said."""
    if isinstance(event, Started):
        LOG.info("run %s: %d epochs in %s", run, event.epochs, event.folder)
    elif isinstance(event, EpochDone):
        held_out = f", validation {_said(event.validation)}" if event.validation else ""
        LOG.info(
            "run %s: epoch %d, training %s%s, %.1f s", run, event.epoch, _said(event.train), held_out, event.seconds
        )
    elif isinstance(event, Note):
        LOG.warning("run %s: %s", run, event.text)
    elif isinstance(event, Diverged):
        LOG.warning("run %s: diverged in epoch %d at step %d", run, event.epoch, event.step)
    elif isinstance(event, Finished):
        LOG.info("run %s: complete", run)


def _said(scores: Scores) -> str:
    return f"loss {scores.loss:.3f} accuracy {scores.accuracy:.3f}"

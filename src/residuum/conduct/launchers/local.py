"""A run in this process, stopped cleanly by a signal: the state is saved first."""

import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from residuum.conduct.launchers.launcher import StoppedError
from residuum.records.event import Event, Finished


def until_stopped(events: Generator[Event, None, None]) -> Iterator[Event]:
    """The events of a run until it ends, or until a signal asks it to stop.

    The first signal lets the present step or evaluation finish and the state be saved; a second one has its usual
    effect at once, and the run then goes on from its last checkpoint.

    Raises:
        StoppedError: a signal came before the run had ended.
    """
    with noted_signals() as received:
        for event in events:
            yield event
            if received and not isinstance(event, Finished):
                events.close()
                raise StoppedError(received[0])


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C, the usual request to end, a terminal that was closed, and what schedulers send when time is nearly up."""


@contextmanager
def noted_signals(second: Callable[[int, FrameType | None], None] | None = None) -> Iterator[Sequence[int]]:
    """The signals that have come, in a list that grows: the first one is noted and has no other effect.

    Those after it are handled by `second`, or as before. A SIGHUP that is ignored stays so: that is what `nohup` does.
    """
    received: list[int] = []
    usual = {number: signal.getsignal(number) for number in SIGNALS}
    if usual[signal.SIGHUP] is signal.SIG_IGN:
        del usual[signal.SIGHUP]

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for one, handler in usual.items():
            signal.signal(one, second or handler)

    try:
        for number in usual:
            signal.signal(number, note)
        yield received
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)

"""A run in this process, stopped cleanly by a signal: the state is saved first."""

import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType

from residuum.conduct.launchers.launcher import StoppedError
from residuum.records.event import Event, Finished


def until_stopped(events: Generator[Event, None, None]) -> Generator[Event, None, None]:
    """The events of a run until it ends, or until a signal asks it to stop.

    The first signal lets the present step or evaluation finish and the state be saved; so does one that comes at once
    after it. A later one has its usual effect, and the run then goes on from its last checkpoint.

    Raises:
        StoppedError: a signal came before the run had ended.
    """
    with noted_signals() as received, closing(events):
        for event in events:
            yield event
            if received and not isinstance(event, Finished):
                events.close()
                raise StoppedError(received[0])


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
"""Ctrl-C, the usual request to end, a terminal that was closed, Ctrl-\\, and a scheduler's word that time is up."""
AT_ONCE = 2.0
"""Seconds after a signal in which another one says the same: a key that was hit twice, a service that asks twice."""


@contextmanager
def noted_signals(second: Callable[[int, FrameType | None], None] | None = None) -> Iterator[Sequence[int]]:
    """The signals that have come, in a list that grows: the first one is noted and has no other effect.

    Nor have those that come at once after it; a later one is handled by `second`, or as before. A SIGHUP that is
    ignored stays so: that is what `nohup` does.
    """
    received: list[int] = []
    usual = {number: signal.getsignal(number) for number in SIGNALS}
    if usual[signal.SIGHUP] is signal.SIG_IGN:
        del usual[signal.SIGHUP]
    first = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        received.append(number)
        if len(received) == 1:
            first = time.monotonic()
        elif time.monotonic() > first + AT_ONCE:
            if second is not None:
                second(number, frame)
                return
            for one, handler in usual.items():
                signal.signal(one, handler)
            signal.raise_signal(number)

    try:
        for number in usual:
            signal.signal(number, note)
        yield received
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)

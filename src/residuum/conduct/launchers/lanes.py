"""Runs side by side in one process: one thread turns from generator to generator.

On a GPU each run has a stream of its own: while the device is at work on the updates of one, the thread hands it those
of the others. Elsewhere nothing overlaps, and the runs alternate update by update. What the others do changes no bit of
a run.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from residuum.records.event import Diverged, Event, Launched, StepDone

Place = Callable[[], AbstractContextManager[Any]]
"""Gives the context that a run computes in, entered anew whenever it goes on."""


@dataclass
class Lane:
    """A run that has turns. `under_way` of its updates were handed to the device and not told yet."""

    events: Generator[Event, None, None]
    place: Place = nullcontext
    under_way: int = 0
    over: bool = False


def turn(lane: Lane) -> Iterator[Event]:
    """The events of a lane until the device has work from it (`Launched`), it has done an update itself, or is over.

    Updates that were under way are told first, for the device is done with all of them once it is with one. What comes
    between them and the next ones, as an evaluation, belongs to the turn too, so that no lane waits a round with
    nothing to do on the device.
    """
    served = False
    while not (served or lane.over):
        with lane.place():
            event = next(lane.events, None)
        if event is None:
            lane.over = True
            return
        if isinstance(event, Launched):
            lane.under_way += event.steps
            served = True
        elif isinstance(event, StepDone | Diverged):
            served = not lane.under_way
            lane.under_way = max(0, lane.under_way - 1)
        yield event


def side_by_side(going: dict[str, Lane]) -> Iterator[tuple[str, Event | Exception | None]]:
    """What lanes say by their names, turn after turn; a lane that ends says None, or the error that ended only it.

    It is then no longer among the `going`. Lanes that the caller puts there meanwhile have turns from the next round.
    """
    while going:
        for name, lane in [*going.items()]:
            error = None
            try:
                for event in turn(lane):
                    yield name, event
            except Exception as caught:
                lane.over, error = True, caught
            if lane.over:
                del going[name]
                yield name, error


def close_all(going: dict[str, Lane]) -> Iterator[tuple[str, Exception | None]]:
    """Stop lanes where they stand, which saves their states; each says None, or the error that kept it from that."""
    while going:
        name, lane = going.popitem()
        try:
            with lane.place():
                lane.events.close()
            yield name, None
        except Exception as error:
            yield name, error


def own_place(device: str) -> Place:
    """A place for one run at a time: a CUDA stream of its own if it computes there, and its own number of threads.

    `device` is that of the configuration. The number of threads is the process's, so each lane has to set it anew.
    """
    import torch  # the process that starts the workers does without

    on_cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    stream = torch.cuda.Stream() if on_cuda else None  # type: ignore[no-untyped-call]
    threads = torch.get_num_threads()

    @contextmanager
    def entered() -> Iterator[None]:
        nonlocal threads
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        try:
            with torch.cuda.stream(stream) if stream else nullcontext():
                yield
        finally:
            threads = torch.get_num_threads()

    return entered

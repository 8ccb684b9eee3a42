"""What a launcher is: something that computes many runs and says what happens, whatever it computes them on."""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from residuum.config import RunConfig
from residuum.errors import ResiduumError
from residuum.records.event import Event


@dataclass(frozen=True)
class Job:
    """A run to be computed. `id` is the caller's name for it; `recipe` is written into its record.

    `prune` has validation errors (%) by epoch: a run whose lowest so far is above that is stopped there.
    """

    id: str
    config: RunConfig
    recipe: str
    prune: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Room:
    """What there is to compute in: workers at a time, the threads and lanes of each, and GPUs by name.

    Up to `lanes` runs are side by side in a worker. `cards` are names for CUDA_VISIBLE_DEVICES. Where many machines
    compute, `address` says where they are reached, `gpus` how many a worker takes, which may be a share of one, and 0
    `workers` are as many as there is room for. `store` is the URL of the store in which runs are mirrored while they
    are computed, if any; then machines need no common folder, and compute in `scratch`, where one is named, on a disk
    of their own (its ~ and $VARIABLES are theirs).
    """

    workers: int = 1
    threads: int = 1
    lanes: int = 1
    cards: Sequence[str] = ()
    address: str = ""
    gpus: float = 0.0
    store: str = ""
    scratch: str = ""


@dataclass(frozen=True)
class JobEvent:
    """Something that a run said: updates thinned to about two a second, launches and reads of the test set left out."""

    id: str
    event: Event


@dataclass(frozen=True)
class JobRestarted:
    """The worker of a run died; the run goes on from its last checkpoint. `attempt` counts its restarts from 1."""

    id: str
    attempt: int
    reason: str


@dataclass(frozen=True)
class JobFailed:
    """A run was given up: it cannot work, or its worker died too often.

    `certain`: as it is asked for it fails in the same way whenever it is tried, as own code that raises does.
    """

    id: str
    reason: str
    certain: bool = False


def outlook(failed: Iterable[JobFailed]) -> str:
    """What comes of runs that failed when the same is asked for again, as the end of a sentence."""
    certain = [one.certain for one in failed]
    if not any(certain):
        return "the same command tries again"
    mended = "until what is named is mended"
    if all(certain):
        return f"{'it fails' if len(certain) == 1 else 'they fail'} in the same way again {mended}"
    others = "the other fails" if certain.count(True) == 1 else "the others fail"
    return f"the same command tries {certain.count(False)} of them again, and {others} in the same way {mended}"


Said: TypeAlias = JobEvent | JobRestarted | JobFailed

Launch: TypeAlias = Callable[[Iterable[Job], Path, Room], Iterator[Said]]
"""Computes jobs, whose records it writes under a folder, and yields what they say.

A job is taken from the jobs when there is room for it, and not before: the next one may depend on what was said.
Every job is told to its end, which is the `Finished` or `Pruned` of its run or a `JobFailed`; one that cannot work
takes no other with it. A call that was stopped goes on where the runs stand when it is made again, and closing the
iterator early stops the runs with their states saved.

Raises:
    InputError: room that cannot be.
    StoppedError: a signal came before all runs had ended.
    StorageError: a file could not be written; the other runs were stopped.
"""


class StoppedError(ResiduumError):
    """A signal stopped the run after its state was saved (exit code 128 + the signal's number)."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; the state is saved and the same command goes on")
        self.exit_code = 128 + number

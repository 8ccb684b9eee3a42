"""Many runs in warm worker processes, each on its share of the cores.

A worker is a fresh Python process (never a fork: a copy of torch's threads cannot be used) that imports torch once and
takes one run after the other. Worker and parent talk through a pipe. The parent sends jobs; anything else, and the end
of the pipe, means that the worker saves the state of its run and ends, so that none outlives its parent. The worker
answers with the events of the run and with how it ended.
"""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeAlias

from residuum.config import RunConfig
from residuum.errors import BusyError, InputError, ResiduumError, StorageError
from residuum.launchers import local
from residuum.records import folder as run_folder
from residuum.records import storage
from residuum.records.event import Event, Finished, Note, Started, StepDone, TestRead

RESTARTS = 3
"""How often a run whose worker died is taken up again."""
PERIOD = 0.5
"""Seconds between two updates of a worker that are told, and at most until a signal is seen."""
PAUSE = 2.0
"""Seconds until a run that another process was at is looked at again."""
CRASH_LOG = "crash.log"


@dataclass(frozen=True)
class Job:
    """A run to be computed. `id` is the caller's name for it; `recipe` is written into its record."""

    id: str
    config: RunConfig
    recipe: str


@dataclass(frozen=True)
class JobEvent:
    """Something that a run said: updates thinned to about two a second, reads of the test set left out."""

    id: str
    event: Event


@dataclass(frozen=True)
class JobRestarted:
    """The worker of a run died; the run goes on from its last saved state. `attempt` counts its restarts from 1."""

    id: str
    attempt: int
    reason: str


@dataclass(frozen=True)
class JobFailed:
    """A run was given up: it cannot work, or its worker died too often."""

    id: str
    reason: str


Said = JobEvent | JobRestarted | JobFailed


@dataclass(frozen=True)
class _Ended:
    """How a worker's run ended: `crashed` by an unexpected error, `died` with its process, `stopped` as asked."""

    how: Literal["done", "impossible", "busy", "storage", "stopped", "crashed", "died"]
    reason: str = ""


Process: TypeAlias = "subprocess.Popen[bytes]"
Channel: TypeAlias = "Connection[Any, Any]"


@dataclass
class _Worker:
    """A worker process, the parent's end of its pipe, and the job that it is at."""

    process: Process
    channel: Channel
    job: Job | None = None


def launch(jobs: Sequence[Job], root: Path, *, workers: int, threads: int) -> Iterator[Said]:
    """What many runs say while they are computed under `root`, at most `workers` at a time on `threads` threads each.

    A free worker takes the next job. A run whose worker dies is resumed in a new one, three times at most. The first
    SIGINT or SIGTERM lets every worker finish its present step and save its state, a second one kills them; in both
    cases, and when the parent is killed, the same call goes on where the runs stand. Closing the generator early
    stops the workers like a first signal.

    Raises:
        InputError: fewer than one worker or thread.
        StoppedError: a signal came before all runs had ended.
        StorageError: a file could not be written; the other runs were stopped.
        KeyboardInterrupt: a second signal came.
    """
    if workers < 1 or threads < 1:
        raise InputError(f"{workers} workers with {threads} threads each cannot work; one is the least of both")
    received: list[int] = []
    crew: list[_Worker] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            for worker in crew:
                worker.process.kill()
            raise KeyboardInterrupt

    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in usual:
            signal.signal(number, note)
        yield from _conduct(deque(jobs), root, crew, workers, threads, received)
    finally:
        try:
            _dismiss(crew)
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)


def _conduct(
    queue: deque[Job], root: Path, crew: list[_Worker], workers: int, threads: int, received: Sequence[int]
) -> Iterator[Said]:
    """Hand out jobs and pass on what is heard until nothing is left or an error ends it all."""
    crashes: Counter[str] = Counter()
    asleep: dict[str, float] = {}  # when a job that another process was at may be tried again
    announced: set[str] = set()
    ending: ResiduumError | None = None
    told = False
    while True:
        if received and ending is None:
            ending = local.StoppedError(received[0])
        if ending is None:
            while sum(worker.job is not None for worker in crew) < workers and (job := _next(queue, asleep, root)):
                worker = next((worker for worker in crew if worker.job is None), None)
                if worker is None:
                    worker = _Worker(*start(_serve, threads))
                    crew.append(worker)
                worker.job = job
                _tell(worker, (job, root))
        elif not told:
            told = True
            for worker in crew:
                _tell(worker, None)
        if not any(worker.job for worker in crew):
            if ending or not queue:
                break
            for job in queue:
                if job.id not in announced:
                    announced.add(job.id)
                    yield JobEvent(job.id, Note("another process is working on this run; waiting for it"))

        heard = wait([worker.channel for worker in crew], PERIOD)
        for worker in [worker for worker in crew if worker.channel in heard]:
            job, said = worker.job, _hear(worker)
            if not isinstance(said, _Ended):
                assert job is not None, "only a run has events"
                yield JobEvent(job.id, said)
                continue
            worker.job = None
            if said.how in ("stopped", "crashed", "died"):
                _dismiss([worker])
                crew.remove(worker)
            if job is None or said.how == "done":
                continue
            if said.how == "impossible":
                yield JobFailed(job.id, said.reason)
            elif said.how == "busy":
                asleep[job.id] = time.monotonic() + PAUSE
                queue.append(job)
            elif said.how == "storage":
                ending = ending or StorageError(said.reason)
                queue.appendleft(job)
            elif said.how == "stopped" or ending:
                queue.appendleft(job)
            else:
                crashes[job.id] += 1
                if crashes[job.id] > RESTARTS:
                    yield JobFailed(job.id, said.reason)
                else:
                    queue.appendleft(job)
                    yield JobRestarted(job.id, crashes[job.id], said.reason)
    if ending and queue:
        raise ending


def _next(queue: deque[Job], asleep: dict[str, float], root: Path) -> Job | None:
    """Take the first job out of the queue that no other process is known to be at."""
    now = time.monotonic()
    for job in queue:
        if asleep.get(job.id, 0.0) > now:
            continue
        if job.id in asleep and storage.is_locked(run_folder.folder_of(root, job.config)):
            asleep[job.id] = now + PAUSE
            continue
        queue.remove(job)
        return job
    return None


def start(main: Callable[[Channel], None], threads: int) -> tuple[Process, Channel]:
    """A fresh Python process that calls `main`, a function of a module, with its end of a pipe; and the other end.

    It has a session of its own, so that the terminal's Ctrl-C reaches only the parent, and `threads` as
    `OMP_NUM_THREADS` before it imports anything. Unlike `multiprocessing` it does not import the caller's script
    again, which would run it anew where it is not written for that.
    """
    ours, theirs = Pipe()
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from multiprocessing.connection import Connection; "
        f"from {main.__module__} import {main.__name__} as main; main(Connection({theirs.fileno()}))"
    )
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return process, ours


def _tell(worker: _Worker, order: tuple[Job, Path] | None) -> None:
    with suppress(OSError):  # it is dead: the end of the pipe will say so
        worker.channel.send(order)


def _hear(worker: _Worker) -> Event | _Ended:
    """What a worker said next; the end of its pipe says how it died."""
    try:
        said: Event | _Ended = worker.channel.recv()
    except (EOFError, OSError):
        return _Ended("died", _death(worker.process.wait()))
    return said


def _death(code: int) -> str:
    """How a process ended, from its exit code."""
    names = {number.value: number.name for number in signal.Signals}
    return f"exit code {code}" if code >= 0 else f"killed by {names.get(-code, f'signal {-code}')}"


def _dismiss(crew: Iterable[_Worker]) -> None:
    """Let workers save their state and end, and wait for that."""
    for worker in crew:
        worker.channel.close()
    for worker in crew:
        worker.process.wait()


def _serve(channel: Channel) -> None:
    """The worker: take jobs from the pipe until it ends, or until a run has left the process in an unknown state."""
    with suppress(EOFError, OSError):  # the parent is gone
        while order := channel.recv():
            ended = _Ended("stopped") if channel.poll() else _run(channel, *order)
            channel.send(ended)
            if ended.how in ("stopped", "crashed"):
                return


def _run(channel: Channel, job: Job, root: Path) -> _Ended:
    """Compute a run in this process, telling what happens."""
    folder = run_folder.folder_of(root, job.config)
    try:
        from residuum.training import run  # imports torch, which the parent does not need

        events = run(job.config, root, recipe=job.recipe)
        last_step = -PERIOD
        for event in local.launch(events):
            now = time.monotonic()
            if isinstance(event, Started):
                folder = event.folder
            untold = isinstance(event, TestRead) or (isinstance(event, StepDone) and now - last_step < PERIOD)
            if isinstance(event, StepDone) and not untold:
                last_step = now
            if not (_goes_on(channel, None if untold else event) or isinstance(event, Finished)):
                events.close()
                return _Ended("stopped")
    except InputError as error:
        return _Ended("impossible", str(error))
    except BusyError as error:
        return _Ended("busy", str(error))
    except StorageError as error:
        return _Ended("storage", str(error))
    except local.StoppedError as error:  # someone sent this process a signal, not its parent
        return _Ended("crashed", str(error))
    except Exception as error:
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        return _Ended("crashed", f"{line}{_log(folder)}")
    return _Ended("done")


def _goes_on(channel: Channel, event: Event | None) -> bool:
    """Tell an event, if there is one; whether the parent is there and wants the run to go on."""
    try:
        if event is not None:
            channel.send(event)
        return not channel.poll()
    except OSError:
        return False


def _log(folder: Path) -> str:
    """Keep the traceback of the present error with its run; returns where, for the end of a message."""
    try:
        with (folder / CRASH_LOG).open("a") as file:
            traceback.print_exc(file=file)
    except OSError:
        traceback.print_exc()
        return ""
    return f" (traceback: {folder / CRASH_LOG})"

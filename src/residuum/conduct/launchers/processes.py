"""Many runs in warm worker processes, each on its share of the cores and on a GPU if there are several.

A worker is a fresh Python process (never a fork: a copy of torch's threads cannot be used) that imports torch once and
takes one run after the other, or several side by side in lanes. Worker and parent talk through a pipe. The parent sends
jobs at any time; anything else, and the end of the pipe, means that the worker saves the states of its runs and ends,
so that none outlives its parent. The worker answers each job with the events of the run and with how it ended, under
the job's id.
"""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any, TypeAlias

from residuum.conduct.launchers import local
from residuum.conduct.launchers.ended import Ended, ended
from residuum.conduct.launchers.lanes import Lane, Place, close_all, own_place, side_by_side
from residuum.conduct.launchers.launcher import Job, JobEvent, Room, Said, StoppedError
from residuum.conduct.launchers.ledger import Ledger
from residuum.conduct.launchers.running import events
from residuum.conduct.launchers.thinning import PERIOD, Thinned
from residuum.errors import InputError
from residuum.records import run_folder, storage
from residuum.records.event import Event, Finished, Started

PAUSE = 2.0
"""Seconds until a run that another process was at is looked at again."""


LOOK = 0.5
"""Seconds between two looks of a worker at whether its parent is there."""
AFTER = 8.0
"""Seconds that a worker has to save its states once its parent is gone."""

Process: TypeAlias = "subprocess.Popen[bytes]"
Channel: TypeAlias = "Connection[Any, Any]"
Order: TypeAlias = tuple[Job, Path, str]
"""A job, the folder that its run's lies in, and the URL of the store in which it is mirrored, if any."""


@dataclass
class _Worker:
    """A worker process, the parent's end of its pipe, its GPU if it was given one, and the jobs that it is at.

    `begun` are those of its jobs that have said so: what dies before says nothing of a run.
    """

    process: Process
    channel: Channel
    card: str
    jobs: dict[str, Job] = field(default_factory=dict)
    ending: bool = False
    begun: set[str] = field(default_factory=set)


def launch(jobs: Iterable[Job], runs: Path, room: Room) -> Iterator[Said]:
    """What runs say while they are computed in worker processes; see `launcher.Launch`.

    Each worker has one of the cards, if there are several. A free lane takes the next job. A run whose worker dies is
    resumed in a new one, three times at most from one saved state, and alone: which run of a dead process was to blame
    is not known. The
    first SIGINT or SIGTERM lets every worker finish its present step and save its states, a later one kills them; in
    both cases, and when the parent is killed, the same call goes on where the runs stand. Closing the generator early
    stops the workers like a first signal. A worker that was stopped (SIGSTOP) is let go on for that.

    Raises:
        InputError: fewer than one worker, thread or lane.
        StoppedError: a signal came before all runs had ended.
        StorageError: a file could not be written; the other runs were stopped.
        KeyboardInterrupt: a second signal came.
    """
    if room.workers < 1 or room.threads < 1:
        raise InputError(f"{room.workers} workers with {room.threads} threads each cannot work; at least one of each")
    if room.lanes < 1:
        raise InputError(f"{room.lanes} lanes in a worker cannot work; at least one")
    crew: list[_Worker] = []

    def kill(_number: int, _frame: FrameType | None) -> None:
        for worker in crew:
            worker.process.kill()
        raise KeyboardInterrupt

    with local.noted_signals(kill) as received:
        try:
            yield from _conduct(Ledger.of(jobs), runs, crew, room, received)
        finally:
            _dismiss(crew)


def _conduct(ledger: Ledger, runs: Path, crew: list[_Worker], room: Room, received: Sequence[int]) -> Iterator[Said]:
    """Hand out jobs and pass on what is heard until nothing is left or an error ends it all."""
    while True:
        if received and ledger.ending is None:
            ledger.ending = StoppedError(received[0])
        if ledger.ending:
            _end(crew)
        else:
            _hand_out(ledger, runs, crew, room)
        if not any(worker.jobs for worker in crew):
            if ledger.ending or not ledger:
                break
            yield from ledger.waited_for()

        heard = wait([worker.channel for worker in crew], PERIOD)
        for worker in [worker for worker in crew if worker.channel in heard]:
            for job, said in _hear(worker):
                if isinstance(said, Started):
                    worker.begun.add(job.id)
                    ledger.began(job.id, said.epoch, said.step)
                if not isinstance(said, Ended):
                    yield JobEvent(job.id, said)
                    continue
                del worker.jobs[job.id]
                if said.how in ("stopped", "crashed"):
                    _end([worker])
                if told := ledger.ended(job, said, time.monotonic() + PAUSE):
                    yield told
            if worker.process.returncode is not None:
                worker.channel.close()
                crew.remove(worker)
    if ledger.ending and ledger:
        raise ledger.ending


def _hand_out(ledger: Ledger, runs: Path, crew: list[_Worker], room: Room) -> None:
    """Give jobs to workers, started as they are needed, while there is room; evenly, and apart what may be poisoned.

    A job that has crashed gets a worker without others, and that worker no other until it has ended.
    """
    while True:
        ready = [worker for worker in crew if not worker.ending]
        idle = [worker for worker in ready if not worker.jobs]
        shared = [
            one for one in ready if len(one.jobs) < room.lanes and not any(ledger.crashes[job] for job in one.jobs)
        ]
        can_be_alone = bool(idle) or len(crew) < room.workers
        if not (can_be_alone or shared):
            return
        job = _next(ledger, runs, beside_others=not can_be_alone)
        if job is None:
            return
        if idle:
            worker = idle[0]
        elif can_be_alone:
            card = min(room.cards, key=[one.card for one in crew].count) if len(room.cards) > 1 else ""
            worker = _Worker(*start(_serve, room.threads, card), card)
            crew.append(worker)
        else:
            worker = min(shared, key=lambda one: len(one.jobs))
        worker.jobs[job.id] = job
        _tell(worker, (job, runs, room.store))


def _next(ledger: Ledger, runs: Path, *, beside_others: bool = False) -> Job | None:
    """Take the job that goes next, of those that no other process is known to be at."""
    while job := ledger.take(time.monotonic(), beside_others=beside_others):
        if job.id not in ledger.busy or not storage.is_locked(run_folder.folder_of(runs, job.config)):
            return job
        ledger.put_off(job, time.monotonic() + PAUSE)
    return None


def start(main: Callable[[Channel], None], threads: int, card: str = "") -> tuple[Process, Channel]:
    """A fresh Python process that calls `main`, a function of a module, with its end of a pipe; and the other end.

    It has a session of its own, so that the terminal's Ctrl-C reaches only the parent, and `threads` as
    `OMP_NUM_THREADS` before it imports anything; with `card` it sees only that GPU. Unlike `multiprocessing` it does
    not import the caller's script again, which would run it anew where it is not written for that.
    """
    ours, theirs = Pipe()
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import begin; begin({theirs.fileno()}, "
        f"{os.getpid()}, {main.__module__!r}, {main.__name__!r})"
    )
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={
                # Runs side by side need a queue each on a GPU, which has eight by default.
                "CUDA_DEVICE_MAX_CONNECTIONS": "32",
                **os.environ,
                "OMP_NUM_THREADS": str(threads),
                **({"CUDA_VISIBLE_DEVICES": card} if card else {}),
            },
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return process, ours


def begin(descriptor: int, parent: int, module: str, name: str) -> None:
    """In a process that `start` has begun: call its function, and end soon after the parent, in silence."""
    Thread(target=_outlive, args=(parent,), daemon=True).start()
    main = getattr(import_module(module), name)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        main(Connection(descriptor))


def _outlive(parent: int) -> None:
    """Wait for the end of the parent, and end this process too, if it does not do so itself once its state is saved.

    Its pipe tells it the same, but only between two updates, and not while it imports, reads data or measures.
    """
    while os.getppid() == parent:
        time.sleep(LOOK)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    time.sleep(AFTER)
    os._exit(1)


def _tell(worker: _Worker, order: Order | None) -> None:
    with suppress(OSError):  # it is dead: the end of the pipe will say so
        worker.channel.send(order)


def _end(crew: Iterable[_Worker]) -> None:
    """Tell workers to save the states of their runs and to end."""
    for worker in crew:
        if not worker.ending:
            worker.ending = True
            _tell(worker, None)
            _let_go_on(worker)


def _let_go_on(worker: _Worker) -> None:
    """Wake a worker that was stopped (SIGSTOP, Ctrl-Z): it could not save its states."""
    if worker.process.returncode is None:  # its number is still its own, dead or alive
        os.kill(worker.process.pid, signal.SIGCONT)


def _hear(worker: _Worker) -> list[tuple[Job, Event | Ended]]:
    """What a worker said next, by the job; at the end of its pipe, how it died under those that it was at."""
    try:
        name, said = worker.channel.recv()
    except (EOFError, OSError):
        how = _death(worker.process.wait())
        return [(job, Ended("died" if job.id in worker.begun else "unborn", how)) for job in worker.jobs.values()]
    return [(worker.jobs[name], said)]


def _death(code: int) -> str:
    """How a process ended, from its exit code."""
    names = {number.value: number.name for number in signal.Signals}
    return f"exit code {code}" if code >= 0 else f"killed by {names.get(-code, f'signal {-code}')}"


def _dismiss(crew: Iterable[_Worker]) -> None:
    """Let workers save their state and end, and wait for that."""
    for worker in crew:
        worker.channel.close()
        _let_go_on(worker)
    for worker in crew:
        worker.process.wait()


def _serve(channel: Channel) -> None:
    """The worker: take jobs from the pipe until it ends.

    Once a run has left the process in an unknown state it takes no more up, and says so to those that come.
    """
    places: defaultdict[str, list[Place]] = defaultdict(list)
    sound = True
    with suppress(EOFError, OSError):  # the parent wants an end, or is gone
        while order := channel.recv():
            if sound:
                sound = _compute(channel, order, places)
            else:
                channel.send((order[0].id, Ended("stopped")))


@dataclass
class _Going:
    """A job in its lane: the device asked for, where its folder lies, and which of its events are told."""

    lane: Lane
    device: str
    folder: Path
    told: Thinned = field(default_factory=Thinned)


def _compute(channel: Channel, order: Order, places: defaultdict[str, list[Place]]) -> bool:
    """Compute a job, and side by side with it those that come meanwhile, until none is left, telling what happens.

    `places` are free ones by device: memory that was claimed on a stream is of use only there. Returns whether the
    process is as it was; otherwise, and at an error, the runs have saved their states.

    Raises:
        EOFError, OSError: the parent wants an end, or is gone.
    """
    lanes: dict[str, Lane] = {}
    going: dict[str, _Going] = {}

    def take_up(order: Order | None) -> None:
        if order is None:
            raise EOFError
        job, runs, store = order
        device = job.config.compute.device
        place = places[device].pop() if places[device] else own_place(device)
        folder = run_folder.folder_of(runs, job.config)
        lanes[job.id] = Lane(events(job, runs, store), place)
        going[job.id] = _Going(lanes[job.id], device, folder)

    stopped = Ended("stopped")
    with local.noted_signals() as received:
        try:
            take_up(order)
            for name, said in side_by_side(lanes):
                one = going[name]
                if said is None or isinstance(said, Exception):
                    how = ended(said, one.folder)
                    channel.send((name, how))
                    if how.how == "crashed":
                        return False
                    places[one.device].append(one.lane.place)
                    del going[name]
                else:
                    if isinstance(said, Started):
                        one.folder = said.folder
                    if one.told(said):
                        channel.send((name, said))
                if isinstance(said, Finished):
                    continue  # all is done: nothing stops it any more
                if received and lanes:  # someone sent this process a signal, not its parent
                    stopped = Ended("crashed", str(StoppedError(received[0])))
                    return False
                while channel.poll():
                    take_up(channel.recv())
        finally:
            for name, error in close_all(lanes):
                how = stopped if error is None else ended(error, going[name].folder)
                with suppress(OSError):
                    channel.send((name, how if how.how == "storage" else stopped))
    return True

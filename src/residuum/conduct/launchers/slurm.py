"""Many runs as jobs of Slurm, submitted by submitit, whose nodes see the run folders by the same path.

A Slurm job computes one run, or as many side by side as a worker has lanes, and what it says is read from the folders
of its runs. When its time is nearly up Slurm sends it a signal: it saves its states and ends, and another job goes on
with them. What sbatch's own variables say (`SBATCH_TIMELIMIT`, `SBATCH_ACCOUNT`, `SBATCH_PARTITION` …) stands over what
is asked for here.
"""

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from residuum.conduct.launchers import local
from residuum.conduct.launchers.ended import Ended
from residuum.conduct.launchers.launcher import Job, JobEvent, Room, Said, StoppedError
from residuum.conduct.launchers.ledger import Ledger
from residuum.conduct.launchers.tasks import Order, compute, order_of
from residuum.errors import InputError, lacking
from residuum.records import run_folder
from residuum.records.event import Event, Finished, Pruned, Started
from residuum.records.facts import Start
from residuum.records.record import RunRecord, read_record

FOLDER = ".slurm"
"""Where submitit keeps scripts, logs and results of the jobs, in the folder of the runs."""
MINUTES = 60
"""The time that a job asks for."""
PAUSE = 10.0
"""Seconds until a run is tried again that another process is at, as a job of a launcher that was killed."""
PERIOD = 2.0
"""Seconds between two looks at the jobs and the folders."""
GRACE = 60.0
"""Seconds that jobs have to save their states when the launcher ends."""
MOST = 256
"""Jobs that are submitted at a time where nobody says how many."""


@dataclass
class _Task:
    """A Slurm job, its runs, how often each had been started before, and how many epochs of those begun were told."""

    submitted: Any
    jobs: Mapping[str, Job]
    starts: Mapping[str, int]
    told: dict[str, int] = field(default_factory=dict)
    cancelled: bool = False


def check(address: str) -> None:
    """Refuse what cannot be submitted to.

    Raises:
        InputError: submitit is not installed, or there is no Slurm.
    """
    if find_spec("submitit") is None:
        raise lacking("the launcher slurm", "submitit", "slurm")
    if address != "local" and which("sbatch") is None:
        raise InputError("no Slurm on this machine: sbatch is not there; slurm:local tries it without")


def launch(jobs: Iterable[Job], runs: Path, room: Room) -> Iterator[Said]:
    """What runs say while Slurm computes them; see `launcher.Launch`.

    `room.address` is a partition, or `local`: processes of this machine in place of Slurm, to try it. A job asks for
    `room.threads` CPUs, and for `room.gpus` GPUs, rounded up, where its runs compute on one. `room.workers` bounds how
    many are submitted at a time.

    Raises:
        InputError: a store is asked for.
        StoppedError, StorageError: as `launcher.Launch` says.
    """
    if room.store:
        raise InputError("jobs of Slurm see the folder of the runs: leave it out", argument="store")
    executor = _executor(runs, room)
    going: list[_Task] = []
    with local.noted_signals() as received:
        try:
            yield from _conduct(executor, Ledger.of(jobs), runs, room, going, received)
        finally:
            _dismiss(going)


def _executor(runs: Path, room: Room) -> Any:
    # A signal that runs know already: they save their states, and submitit has nothing to do.
    os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")
    import submitit

    here = room.address == "local"
    executor = submitit.AutoExecutor(str(runs.absolute() / FOLDER), cluster="local" if here else "slurm")
    partition = {"slurm_partition": room.address} if room.address and not here else {}
    executor.update_parameters(name="residuum", timeout_min=MINUTES, cpus_per_task=room.threads, **partition)
    return executor


def _conduct(
    executor: Any, ledger: Ledger, runs: Path, room: Room, going: list[_Task], received: Sequence[int]
) -> Iterator[Said]:
    """Submit jobs and pass on what is read until nothing is left or an error ends it all."""
    while True:
        if received and ledger.ending is None:
            ledger.ending = StoppedError(received[0])
        if ledger.ending:
            _cancel(going)
        most = 0 if ledger.ending else room.workers or MOST
        while len(going) < most and (bundle := ledger.take_together(time.monotonic(), room.lanes)):
            starts = {job.id: len(_starts(run_folder.folder_of(runs, job.config))) for job in bundle}
            going.append(_Task(_submitted(executor, bundle, runs, room), {job.id: job for job in bundle}, starts))
        if not going:
            if ledger.ending or not ledger:
                break
            yield from ledger.waited_for()
        time.sleep(PERIOD)
        for task in [*going]:
            over = task.submitted.done()
            for name, event in _news(task, runs):
                yield JobEvent(name, event)
            if over:
                going.remove(task)
                for name, how in _ends(task).items():
                    for start in _starts(run_folder.folder_of(runs, task.jobs[name].config))[task.starts[name] :]:
                        ledger.began(name, start.epoch or 0, start.step or 0)
                    if how.how == "done":
                        yield JobEvent(name, _end(run_folder.folder_of(runs, task.jobs[name].config)))
                    elif told := ledger.ended(task.jobs[name], how, time.monotonic() + PAUSE):
                        yield told
    if ledger.ending and ledger:
        raise ledger.ending


def _submitted(executor: Any, jobs: Sequence[Job], runs: Path, room: Room) -> Any:
    on_gpu = any(job.config.compute.device == "cuda" for job in jobs)
    executor.update_parameters(gpus_per_node=math.ceil(room.gpus or 1) if on_gpu else 0)
    return executor.submit(_computed, [*map(order_of, jobs)], str(runs.absolute()), room.threads)


def _computed(orders: Sequence[Order], runs: str, threads: int) -> dict[str, Ended]:
    """In a job: compute runs; how each ended."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported
    return {name: said for name, said in compute(orders, runs) if isinstance(said, Ended)}


def _news(task: _Task, runs: Path) -> Iterator[tuple[str, Event]]:
    """What can be read of a job's runs and was not told yet."""
    for name, job in task.jobs.items():
        folder = run_folder.folder_of(runs, job.config)
        starts = _starts(folder)[task.starts[name] :]
        if not starts:
            continue
        with suppress(InputError):  # something is being written
            record = read_record(folder)
            if name not in task.told:
                task.told[name] = starts[-1].epoch or 0
                yield name, _started(record, task.told[name])
            for row in record.epochs[task.told[name] :]:
                task.told[name] = row.epoch
                yield name, row


def _starts(folder: Path) -> tuple[Start, ...]:
    """Each time that a run was started; none where that cannot be read now."""
    try:
        return run_folder.read_starts(folder)
    except InputError:
        return ()


def _started(record: RunRecord, epoch: int) -> Started:
    """That a run begins, or goes on after an epoch; told by epochs, as its updates are not read here."""
    images = record.data.train if record.data else 0
    return Started(record.id, record.folder, record.config.train.epochs, 1, images, epoch, epoch)


def _ends(task: _Task) -> dict[str, Ended]:
    """How the runs of a job that is over ended."""
    died = "its job ended early"
    try:
        said: dict[str, Ended] = task.submitted.result()
    except Exception as error:  # submitit's own, or what unpickling the result says
        lines = [line for line in str(error).splitlines() if line.strip()]
        said, died = {}, f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]
    return {name: said.get(name, Ended("died", died)) for name in task.jobs}


def _end(folder: Path) -> Event:
    """The last event of a run that came to its end."""
    found = run_folder.result_of(folder)
    if found is None:
        return Pruned(len(read_record(folder).epochs))
    return Finished(folder, "diverged" if found.status == "diverged" else "finished")


def _cancel(going: Iterable[_Task]) -> None:
    """Cancel jobs, each once: a second signal would end a run before its state is saved."""
    for task in going:
        if not task.cancelled:
            task.cancelled = True
            task.submitted.cancel(check=False)


def _dismiss(going: Sequence[_Task]) -> None:
    """Have jobs save their states and end, and wait for that."""
    _cancel(going)
    end = time.monotonic() + GRACE
    while any(not task.submitted.done() for task in going) and time.monotonic() < end:
        time.sleep(PERIOD)

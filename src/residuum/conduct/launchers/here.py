"""Many runs in this process, one after the other: for a debugger, and where no process can be started.

What goes wrong unexpectedly comes to the caller as it is, where `processes` would take the run up again.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from residuum.conduct.launchers.launcher import Job, JobEvent, JobFailed, Room, Said
from residuum.conduct.launchers.local import until_stopped
from residuum.conduct.launchers.thinning import Thinned
from residuum.conduct.mirrored import events_of
from residuum.errors import InputError
from residuum.records import run_folder


def launch(jobs: Sequence[Job], runs: Path, room: Room) -> Iterator[Said]:
    """What runs say while they are computed in this process, one after the other; see `launcher.Launch`.

    Raises:
        InputError: more than one worker or lane.
        BusyError: another process is at one of the runs.
        StoppedError, StorageError: as `launcher.Launch` says.
    """
    from residuum.training import run  # imports torch, which who only names this launcher does not need

    if (room.workers, room.lanes) != (1, 1):
        raise InputError(f"in this process runs go one after the other: {room.workers} workers, {room.lanes} lanes")
    for job in jobs:
        told = Thinned()
        try:
            begin = partial(run, job.config, runs, recipe=job.recipe)
            events = events_of(begin, run_folder.folder_of(runs, job.config), room.store)
            for event in until_stopped(events):
                if told(event):
                    yield JobEvent(job.id, event)
        except InputError as error:
            yield JobFailed(job.id, str(error))

"""Many runs in this process, one after the other: for a debugger, and where no process can be started.

What goes wrong unexpectedly comes to the caller as it is, where `processes` would take the run up again.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from residuum.conduct.launchers.launcher import Job, JobEvent, JobFailed, Room, Said
from residuum.conduct.launchers.local import until_stopped
from residuum.conduct.launchers.running import events
from residuum.conduct.launchers.thinning import Thinned
from residuum.errors import FailedError, InputError


def launch(jobs: Iterable[Job], runs: Path, room: Room) -> Iterator[Said]:
    """What runs say while they are computed in this process, one after the other; see `launcher.Launch`.

    Raises:
        InputError: more than one worker or lane.
        BusyError: another process is at one of the runs.
        StoppedError, StorageError: as `launcher.Launch` says.
    """
    if (room.workers, room.lanes) != (1, 1):
        raise InputError(f"in this process runs go one after the other: {room.workers} workers, {room.lanes} lanes")
    for job in jobs:
        told = Thinned()
        try:
            for event in until_stopped(events(job, runs, room.store)):
                if told(event):
                    yield JobEvent(job.id, event)
        except (FailedError, InputError) as error:
            yield JobFailed(job.id, str(error), certain=True)

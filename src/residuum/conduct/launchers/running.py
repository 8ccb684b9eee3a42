"""The events of a job's run, mirrored in a store if there is one, and ended early where the job says so."""

from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path

from residuum.conduct import mirrored
from residuum.conduct.launchers.launcher import Job
from residuum.records import run_folder
from residuum.records.event import EpochDone, Event, Pruned


def events(job: Job, runs: Path, store: str = "", session: str = "") -> Generator[Event, None, None]:
    """What the run of a job says; see `training.run`, and `mirrored.events_of` for `store` and `session`.

    Pruned, it is closed after the epoch, with its state saved, and `Pruned` is the last that it says.
    """
    from residuum.training import run  # imports torch, which the process that launches does not need

    begin = partial(run, job.config, runs, recipe=job.recipe)
    folder = run_folder.folder_of(runs, job.config)
    with closing(mirrored.events_of(begin, folder, store, session)) as said:
        lowest = 100.0
        for event in said:
            yield event
            if isinstance(event, EpochDone) and event.validation is not None:
                lowest = min(lowest, 100 * (1 - event.validation.accuracy))
                if is_pruned(event.epoch, lowest, job):
                    run_folder.prune(folder, event.epoch)  # before it is closed, which brings all to the store
                    said.close()
                    yield Pruned(event.epoch)
                    return


def is_pruned(epoch: int, lowest: float, job: Job) -> bool:
    """Whether a run with this lowest validation error (%) is stopped after an epoch."""
    return epoch < job.config.train.epochs and lowest > job.prune.get(epoch, 100.0)

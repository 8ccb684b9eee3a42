"""Tasks: what a worker on another machine does, given the jobs as plain values."""

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from residuum import own
from residuum.conduct import mirrored
from residuum.conduct.launchers import local
from residuum.conduct.launchers.ended import Ended, ended
from residuum.conduct.launchers.launcher import Job
from residuum.conduct.launchers.running import events
from residuum.conduct.launchers.thinning import Thinned
from residuum.config import RunConfig
from residuum.records import run_folder, storage
from residuum.records.event import Event, Finished

Order = tuple[str, dict[str, Any], str, dict[int, float], list[str]]
"""A job in plain values: id, configuration, recipe, where its run is pruned, and the texts of own code."""


def order_of(job: Job) -> Order:
    """A job in plain values."""
    values = job.config.model_dump(mode="json")
    return job.id, values, job.recipe, dict(job.prune), [text for _, _, text in own.every(values)]


def compute(
    orders: Sequence[Order], runs: str, store: str = "", session: str = ""
) -> Iterator[tuple[str, Event | Ended]]:
    """In a worker: what runs say, by the ids of their jobs, and how each ended; cancelled, they save their states."""
    from residuum.conduct.launchers.lanes import Lane, close_all, own_place, side_by_side

    lanes, folders, told = {}, {}, {}
    place = storage.expanded(os.path.expandvars(runs)) if store else Path(runs)
    if store and "$" in str(place):
        reason = f"--scratch: {runs} names a variable that {socket.gethostname()} does not have"
        yield from ((name, Ended("impossible", reason)) for name, *_ in orders)
        return
    for name, values, recipe, prune, texts in orders:
        for text in texts:
            own.admit(text)
        config = RunConfig.of(values)
        folders[name], told[name] = run_folder.folder_of(place, config), Thinned()
        said_of = events(Job(name, config, recipe, prune), place, store, session)
        lanes[name] = Lane(said_of, own_place(config.compute.device))
    with local.noted_signals() as received:  # cancelling is Ctrl-C
        try:
            for name, said in side_by_side(lanes):
                if said is None or isinstance(said, Exception):
                    how = ended(said, folders[name])
                    if store and how.how == "done" and not mirrored.has_arrived(folders[name], store):
                        how = Ended("crashed", f"its record lies on {socket.gethostname()} alone, not in {store}")
                    yield name, how
                elif told[name](said):
                    yield name, said
                if received and not isinstance(said, Finished):
                    break
        finally:
            stopped = [(name, error) for name, error in close_all(lanes)]
    for name, error in stopped:
        yield name, Ended("stopped") if error is None else ended(error, folders[name])

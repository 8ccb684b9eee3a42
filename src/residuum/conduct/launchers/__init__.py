"""Where runs are computed: launchers by name, one file each, behind the interface of `launcher`."""

from collections.abc import Mapping
from dataclasses import replace

from residuum.conduct.launchers.launcher import Launch
from residuum.errors import unknown
from residuum.members import gathered

LAUNCHERS: Mapping[str, Launch] = gathered(__name__, "launch")
"""Launchers by name: what the files of this folder have as `launch`."""


def launch_of(place: str) -> Launch:
    """The launcher of that name; what stands behind a colon is the address of its machines, as `ray:10.0.0.1:6379`.

    Raises:
        InputError: there is none.
    """
    name, _, address = place.partition(":")
    if name not in LAUNCHERS:
        raise unknown("launcher", name, LAUNCHERS)
    launch = LAUNCHERS[name]
    return (lambda jobs, runs, room: launch(jobs, runs, replace(room, address=address))) if address else launch

"""Where runs are computed: launchers by name, one file each, behind the interface of `launcher`."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from residuum.conduct.launchers.launcher import Launch
from residuum.errors import InputError, quoted, unknown
from residuum.members import gathered

LAUNCHERS: Mapping[str, Launch] = gathered(__name__, "launch")
"""Launchers by name: what the files of this folder have as `launch`."""
CHECKS: Mapping[str, Callable[[str], None]] = gathered(__name__, "check")
"""For launchers of other machines: what refuses an address that cannot be, before anything is planned or written."""


def launch_of(place: str) -> Launch:
    """The launcher of that name; what stands behind a colon is the address of its machines, as `ray:10.0.0.1:6379`.

    Raises:
        InputError: there is none, or it cannot be used with that address.
    """
    name, colon, address = place.partition(":")
    if name not in LAUNCHERS:
        raise unknown("launcher", name, LAUNCHERS)
    if colon and (not address or name not in CHECKS):
        raise InputError(
            f"{quoted(place)}: {'an address is missing' if name in CHECKS else f'{name} takes no address'}"
        )
    if name in CHECKS:
        CHECKS[name](address)
    launch = LAUNCHERS[name]
    return (lambda jobs, runs, room: launch(jobs, runs, replace(room, address=address))) if address else launch

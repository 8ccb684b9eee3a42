"""Where runs are computed: launchers by name, one file each, behind the interface of `launcher`."""

from collections.abc import Mapping

from residuum.conduct.launchers.launcher import Launch
from residuum.errors import unknown
from residuum.members import gathered

LAUNCHERS: Mapping[str, Launch] = gathered(__name__, "launch")
"""Launchers by name: what the files of this folder have as `launch`."""


def launch_of(name: str) -> Launch:
    """The launcher of that name.

    Raises:
        InputError: there is none.
    """
    if name not in LAUNCHERS:
        raise unknown("launcher", name, LAUNCHERS)
    return LAUNCHERS[name]

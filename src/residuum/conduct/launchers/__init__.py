"""Where runs are computed: launchers by name, one file each, behind the interface of `launcher`."""

from collections.abc import Mapping

from residuum.conduct.launchers import here, processes
from residuum.conduct.launchers.launcher import Launch
from residuum.errors import unknown

LAUNCHERS: Mapping[str, Launch] = {"processes": processes.launch, "here": here.launch}
"""Launchers by name."""


def launch_of(name: str) -> Launch:
    """The launcher of that name.

    Raises:
        InputError: there is none.
    """
    if name not in LAUNCHERS:
        raise unknown("launcher", name, LAUNCHERS)
    return LAUNCHERS[name]

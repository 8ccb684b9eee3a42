"""Trackers by name, one file each: where the numbers of runs are written for other programs to show."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from residuum.errors import lacking, unknown
from residuum.members import gathered
from residuum.run.trackers.tracker import Tracker

TRACKERS: Mapping[str, Tracker] = gathered(__name__, "tracker", besides=("tracker",))
"""Trackers by name: what the files of this folder have as `tracker`."""


def place_of(text: str, runs: Path) -> tuple[str, Path]:
    """Name and folder of `NAME` or `NAME:FOLDER`; without one it is `trackers/NAME` beside the runs.

    Raises:
        InputError: there is no such tracker, or the package of that name is not installed.
    """
    name, _, folder = text.partition(":")
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    if find_spec(name) is None:
        raise lacking(name, "of that name", name)
    return name, Path(folder) if folder else runs / "trackers" / name

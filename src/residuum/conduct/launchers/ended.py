"""How a worker's run ended, as it tells whoever launched it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from residuum.errors import BusyError, FailedError, InputError, StorageError
from residuum.records import run_folder

RESTARTS = 3
"""How often a run whose worker or node died is taken up again from one saved state; one further on counts anew."""
BIRTHS = 30
"""How often in a row a worker may die before a run has begun in it, until the run is held to blame."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: `crashed` by an unexpected error, `died` with its process, `stopped` as asked.

    `unborn`: its process died before the run had begun.
    """

    how: Literal["done", "impossible", "busy", "storage", "stopped", "crashed", "died", "unborn"]
    reason: str = ""


def ended(error: Exception | None, folder: Path) -> Ended:
    """How a run ended, from the error that ended it; the traceback of an unexpected one is kept with the run."""
    if error is None:
        return Ended("done")
    if isinstance(error, InputError | FailedError):
        return Ended("impossible", str(error))
    if isinstance(error, BusyError):
        return Ended("busy", str(error))
    if isinstance(error, StorageError):
        return Ended("storage", str(error))
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    return Ended("crashed", f"{line}{_log(error, folder)}")


def _log(error: Exception, folder: Path) -> str:
    """Keep the traceback of an error with its run; returns where, for the end of a message."""
    path = run_folder.log_crash(folder, error)
    return f" (traceback: {path})" if path else ""

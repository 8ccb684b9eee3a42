"""Every error that a user can cause, and the exit code each ends in.

An error's message is one line: it names the thing that is wrong and, where there is one, the nearest
valid thing. The command line prints it after `residuum:`; `--debug` adds the traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class ResiduumError(Exception):
    """An error with a message for the user and the exit code that the command line ends in."""

    exit_code = 2


class InputError(ResiduumError):
    """A setting, name, file or combination that cannot work; nothing was run (exit code 2)."""


class StorageError(ResiduumError):
    """Reading or writing failed for a reason outside the program: disk full, permission (exit code 74)."""

    exit_code = 74


class BusyError(ResiduumError):
    """Another process is working on the same run (exit code 75)."""

    exit_code = 75


def unknown(kind: str, name: str, known: Iterable[str], place: str = "") -> InputError:
    """The error for a name that is not among the known ones, with the nearest one; `place` says where it stood."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return InputError(f"{place}{': ' if place else ''}unknown {kind} {name!r}; {hint}")

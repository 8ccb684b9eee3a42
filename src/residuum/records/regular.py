"""Whether what lies at a path can be read as a file: a pipe may wait for ever, and a device may have no end."""

import stat
from pathlib import Path

from residuum.errors import InputError

SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def special(path: Path) -> str:
    """What lies at a path that is neither a plain file nor a folder, as a phrase; empty where it is, or nothing is."""
    try:
        return SPECIAL.get(stat.S_IFMT(path.stat().st_mode), "")
    except OSError:  # who opens it is told what is wrong
        return ""


def refuse_special(path: Path) -> None:
    """Refuse a path, before it is opened, at which no plain file or folder lies.

    Raises:
        InputError: it is a pipe, a device or a socket, or a link to one.
    """
    if said := special(path):
        raise InputError(f"{path} is {said}, not a file")


def regular(path: Path) -> Path:
    """The path, of a regular file: to open a pipe or a device may never end.

    Raises:
        FileNotFoundError: nothing is there.
        InputError: something else is.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path} is not a file")
    return path

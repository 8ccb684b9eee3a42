"""Files at paths that others may have filled: a pipe may wait for ever, a device has no end, a link leads elsewhere."""

import os
import stat
from pathlib import Path
from typing import IO

from residuum.errors import InputError, volume

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


def contents(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most so many.

    Raises:
        FileNotFoundError: nothing is there.
        InputError: something else is, or it is larger than it, or the memory here, can be.
        OSError: it cannot be read.
    """
    size = regular(path).stat().st_size
    if size > most:
        raise InputError(f"{path} is damaged: it has {volume(size)}, and {volume(most)} is the most")
    try:
        return path.read_bytes()
    except MemoryError as error:
        raise InputError(f"{path} has {volume(size)}, more than there is memory for") from error


def appended(path: Path, buffering: int = -1) -> IO[bytes]:
    """A file to read and add to, made where there is none; a link is not followed, which may lead to any file.

    Raises:
        InputError: a link, a pipe, a device or a folder is there.
        OSError: it cannot be written.
    """
    refuse_link(path)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is not a file")
    return os.fdopen(descriptor, "a+b", buffering)


def refuse_link(path: Path) -> None:
    """Refuse a link where a file or folder of a run is written: it may lead anywhere.

    Raises:
        InputError: there is one.
    """
    if path.is_symlink():
        raise InputError(f"{path} is a link; what belongs to a run lies in its folder")


def within(folder: Path, name: str) -> Path:
    """The place of a folder within that of a run or a study, to write in it.

    Raises:
        InputError: it is a link.
    """
    refuse_link(folder / name)
    return folder / name

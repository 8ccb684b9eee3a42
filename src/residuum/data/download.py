"""Downloads of published data sets: mirrors in order, resumed where they broke off, in place only when whole."""

import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import file_digest, md5
from http.client import HTTPException
from io import BufferedRandom, BufferedReader
from pathlib import Path
from urllib import request
from urllib.request import OpenerDirector, Request

from residuum.data import cache
from residuum.data.datasets import ENTRIES
from residuum.data.datasets.source import Remote
from residuum.data.formats.files import reading
from residuum.errors import BusyError, InputError, StorageError, quoted, unknown
from residuum.records.storage import locking, storing

TIMEOUT = 30.0
"""Seconds without a byte after which a mirror counts as gone."""
_CHUNK = 2**18
_TRIES = 20


@dataclass(frozen=True)
class Progress:
    """How far a download is: bytes of the file that are here, and those that it has."""

    file: str
    done: int
    size: int


def fetch(name: str) -> Iterator[Progress]:
    """Bring the files of a data set into the cache's downloads, where `load` finds them; yields how far it is.

    Raises:
        InputError: no data set of that name, or none that needs a download; or another file has the place of one.
        StorageError: no mirror gave a file, or it cannot be written.
        BusyError: another process is fetching the same.
    """
    if name not in ENTRIES:
        raise unknown("data set to download", name, [known for known, entry in ENTRIES.items() if entry.remotes])
    if not ENTRIES[name].remotes:
        raise InputError(f"there is nothing to download for the images of {quoted(name)}: {ENTRIES[name].no_download}")
    for remote in ENTRIES[name].remotes:
        yield from fetch_file(remote, cache.downloads(name))


def fetch_file(remote: Remote, folder: Path) -> Iterator[Progress]:
    """Bring one file into a folder; yields how far it is, at the end with `done == size`.

    What arrived before a break stays beside it as `.NAME.part`, also for the next call. A file appears under its name
    only when its size and hash are the published ones.

    Raises:
        InputError, StorageError, BusyError: as `fetch`.
    """
    target, part = folder / remote.file, folder / f".{remote.file}.part"
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _opened_alone(part) as file:
        if not target.exists():
            yield from _from_mirrors(remote, file, target)
            with storing(target):
                os.fsync(file.fileno())
                part.rename(target)
        else:
            part.unlink(missing_ok=True)
            with reading(target), target.open("rb") as there:
                if _md5(there) != remote.md5:
                    raise InputError(f"{target} is not the published file; remove it to fetch that")
    yield Progress(remote.file, remote.size, remote.size)


@contextmanager
def _opened_alone(part: Path) -> Iterator[BufferedRandom]:
    """What is here of a download, for this process alone; the kernel lets go of it however the process ends."""
    with storing(part):
        file = part.open("a+b")
    try:
        with locking(part):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file
    except BlockingIOError as error:
        raise BusyError(f"{part} is being fetched by another process") from error
    finally:
        with suppress(OSError):  # what could not be written has been reported when it was
            if part.exists() and not part.stat().st_size:
                part.unlink()
            file.close()


def _from_mirrors(remote: Remote, file: BufferedRandom, target: Path) -> Iterator[Progress]:
    """Fill the file from one mirror after the other, until its size and hash are the published ones."""
    if _is_whole(remote, file):
        return
    problem = ""
    for url in remote.urls:
        asked_anew = False
        for _ in range(_TRIES):
            before = _size(file)
            problem = yield from _continue(url, remote, file)
            if _size(file) < remote.size:
                if _size(file) <= before:
                    break
            elif _is_whole(remote, file):
                return
            else:
                problem = f"{url} serves a different file than the published one"
                # What was there before may be at fault: this mirror is asked once for all of it.
                if before == 0 or asked_anew:
                    break
                asked_anew = True
    raise StorageError(f"cannot download {remote.file}: {problem}; bring it from {remote.urls[0]} to {target}")


def _continue(url: str, remote: Remote, file: BufferedRandom) -> Generator[Progress, None, str]:
    """Append what a mirror gives after the bytes that are there; returns why it ended, if that was early."""
    done = _size(file)
    headers = {"User-Agent": "residuum"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        with _OPENER.open(Request(url, headers=headers), timeout=TIMEOUT) as response:
            if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
                return f"{url} sent a different part than was requested"
            if response.status == 200:  # the whole file, whatever was asked for
                done = 0
                _empty(file)
            # One byte more than is expected tells that it is another file, however much there would be.
            while chunk := response.read(min(_CHUNK, remote.size + 1 - done)):
                with storing(Path(file.name)):
                    file.write(chunk)
                    file.flush()
                done += len(chunk)
                yield Progress(remote.file, min(done, remote.size), remote.size)
    except (OSError, HTTPException) as error:
        return f"{url}: {getattr(error, 'reason', None) or str(error) or type(error).__name__}"
    return f"{url} broke off after {done:,} of {remote.size:,} bytes"


def _is_whole(remote: Remote, file: BufferedRandom) -> bool:
    """Whether the file is the published one; one that has its size, or more, and is not, is emptied."""
    size = _size(file)
    if size < remote.size:
        return False
    if size == remote.size and _md5(file) == remote.md5:
        return True
    _empty(file)
    return False


def _size(file: BufferedRandom) -> int:
    return file.seek(0, os.SEEK_END)


def _empty(file: BufferedRandom) -> None:
    with storing(Path(file.name)):
        file.truncate(0)


def _md5(file: BufferedRandom | BufferedReader) -> str:
    file.seek(0)
    return file_digest(file, lambda: md5(usedforsecurity=False)).hexdigest()


def _opener() -> OpenerDirector:
    """An opener for http and https alone: the standard one would follow a redirection to ftp."""
    opener = OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.UnknownHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


_OPENER = _opener()

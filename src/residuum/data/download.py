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
from residuum.data.formats.files import reading
from residuum.errors import BusyError, InputError, StorageError, unknown
from residuum.records.storage import storing

TIMEOUT = 30.0
"""Seconds without a byte after which a mirror counts as gone."""
_CHUNK = 2**18
_TRIES = 20


@dataclass(frozen=True)
class Remote:
    """A published file: its name, its size in bytes, its published MD5, and where to get it, in order."""

    file: str
    size: int
    md5: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """How far a download is: bytes of the file that are here, and those that it has."""

    file: str
    done: int
    size: int


def _remote(file: str, size: int, md5: str, *places: str) -> Remote:
    return Remote(file, size, md5, tuple(f"{place}/{file}" for place in places))


_TORONTO, _BAIDU = "https://www.cs.toronto.edu/~kriz", "https://dataset.bj.bcebos.com/cifar"
_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
_FASHION = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
)

REMOTES: dict[str, tuple[Remote, ...]] = {
    "cifar10": (_remote("cifar-10-python.tar.gz", 170_498_071, "c58f30108f718f92721af3b95e74349a", _TORONTO, _BAIDU),),
    "cifar100": (
        _remote("cifar-100-python.tar.gz", 169_001_437, "eb9058c3a382ffc7106e4002c42a8d85", _TORONTO, _BAIDU),
    ),
    "mnist": (
        _remote("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873", *_MNIST),
        _remote("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432", *_MNIST),
        _remote("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3", *_MNIST),
        _remote("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c", *_MNIST),
    ),
    "fashion-mnist": (
        _remote("train-images-idx3-ubyte.gz", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d", *_FASHION),
        _remote("train-labels-idx1-ubyte.gz", 29_515, "25c81989df183df01b3e8a0aad5dffbe", *_FASHION),
        _remote("t10k-images-idx3-ubyte.gz", 4_422_102, "bef4ecab320f06d8554ea6380940ec79", *_FASHION),
        _remote("t10k-labels-idx1-ubyte.gz", 5_148, "bb300cfdad3c16e7a12a480ee83cd310", *_FASHION),
    ),
}


WITHOUT_DOWNLOAD = {
    "digits": "they come with scikit-learn, which residuum brings along",
    "synthetic": "they are generated from their settings",
    "folder": "they are your own; data.root says where they lie",
}


def fetch(name: str) -> Iterator[Progress]:
    """Bring the files of a data set into the cache's downloads, where `load` finds them; yields how far it is.

    Raises:
        InputError: no data set of that name, or none that needs a download; or another file has the place of one.
        StorageError: no mirror gave a file, or it cannot be written.
        BusyError: another process is fetching the same.
    """
    if name in WITHOUT_DOWNLOAD:
        raise InputError(f"there is nothing to download for the images of {name!r}: {WITHOUT_DOWNLOAD[name]}")
    if name not in REMOTES:
        raise unknown("data set to download", name, REMOTES)
    for remote in REMOTES[name]:
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
                problem = f"{url} gives another file than the published one"
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
                return f"{url} gives another part than was asked for"
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

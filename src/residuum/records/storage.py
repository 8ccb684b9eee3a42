"""Writing so that a kill or a full disk at any moment leaves either the old file or the new one, never a stump."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from residuum.errors import BusyError, InputError, StorageError

MANIFEST = "manifest.json"
T = TypeVar("T")


def expanded(text: str) -> Path:
    """A path whose ~ is a home; as it stands where there is no such user, which `Path.expanduser` raises for."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn an operating-system error while writing `path` into one line."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


HEAD = 512
"""Bytes from the start of a file by which `instead` tells what it is."""


def instead(head: bytes) -> str:
    """What lies where somebody's file should, by its first bytes, as a phrase: a page, or a pointer to the file.

    Downloads end so: a link that leads to a page, a server that answers with an error, a repository without its large
    files. Empty where it is none of these.
    """
    start = head[:HEAD].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        return "empty, as a download that broke off leaves it"
    if start.startswith(b"version https://git-lfs."):
        return "a pointer of Git LFS, not the file itself: `git lfs pull` fetches it"
    if re.match(rb"/annex/objects/|(\.\./)*\.git/annex/objects/", start):
        return "a pointer of git-annex, not the file itself: `git annex get` fetches it"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page (HTML), not the file itself: the link led to a page; download it anew"
    if start.startswith(b"<?xml") and b"<error>" in start:
        return "the error of a server (XML), not the file itself; download it anew"
    if start.startswith(b"{") and any(word in start for word in (b'"error', b'"message"', b'"detail"')):
        return "the error of a server (JSON), not the file itself; download it anew"
    return ""


NAMED_SO = frozenset((".html", ".htm", ".xml", ".json", ".txt", ".md", ".svg", ".ipynb", ".py", ".toml", ".yaml", ""))
"""Endings of files that may well be a page, a pointer or empty."""
LOOKED_AT = 200
"""Files of a folder that are looked at."""


def instead_at(path: Path) -> str:
    """What lies at a path, or in a folder and the folders in it, instead of a file that its name promises; or empty."""
    if path.is_dir():
        found = sorted(one for form in ("*", "*/*") for one in path.glob(form))
        files = [one for one in found if one.is_file() and one.suffix.lower() not in NAMED_SO and one.name[0] != "."]
    else:
        files = [path] if path.is_file() else []
    for one in files[:LOOKED_AT]:
        with storing(one), one.open("rb") as file:
            said = instead(file.read(HEAD))
        if said:
            return f"{one} is {said}"
    return ""


def _temporary(path: Path) -> Path:
    """A name beside the path that no other process or thread takes, on this machine or another."""
    return path.with_name(f".{path.name}.{token_hex(4)}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_file(path: Path, content: bytes) -> None:
    """Put a file in place at once: temporary name, fsync, rename, fsync of the folder."""
    temporary = _temporary(path)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)  # a folder that was copied may lack those that were empty
        try:
            _write_synced(temporary, content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)


def write_json(path: Path, values: Any) -> None:
    """Put a JSON file in place at once; numbers that are not finite are refused."""
    write_file(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The values in a JSON file.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def typed(kind: TypeAdapter[T], values: Any, path: Path) -> T:
    """The values in a file as what they are.

    Raises:
        InputError: they are something else; one line names the file and the place in it.
    """
    try:
        return kind.validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise InputError(f"{path} is damaged: {place}{': ' if place else ''}{problem['msg']}") from error


def write_checked_folder(folder: Path, files: Mapping[str, bytes], values: Mapping[str, Any]) -> None:
    """Put a folder of files in place at once, with a manifest of `values` and every file's SHA-256, written last."""
    temporary = _temporary(folder)
    with storing(folder):
        try:
            temporary.mkdir(parents=True)
            for name, content in files.items():
                _write_synced(temporary / name, content)
            hashes = {name: sha256(content).hexdigest() for name, content in files.items()}
            manifest = {"files": hashes, "values": dict(values)}
            _write_synced(temporary / MANIFEST, json.dumps(manifest, allow_nan=False).encode())
            _sync(temporary)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync(folder.parent)


def read_checked_folder(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files and values of a checked folder, every byte compared with the manifest.

    Raises:
        InputError: a file is missing or its bytes are not those that were written.
    """
    manifest = read_json(folder / MANIFEST)
    files = {}
    for name, expected in manifest["files"].items():
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise InputError(f"{folder / name} cannot be read: {error.strerror}") from error
        if sha256(content).hexdigest() != expected:
            raise InputError(f"{folder / name} is damaged: its bytes do not match the manifest")
        files[name] = content
    return files, manifest["values"]


class Rows:
    """A file of JSON rows that grows; each `add` reaches the operating system, `sync` the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with storing(path):
            self._file = path.open("ab")

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        with storing(self.path):
            self._file.write((json.dumps(row, allow_nan=False) + "\n").encode())
            self._file.flush()

    def sync(self) -> None:
        """Force what was added to the disk."""
        with storing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_lines(path: Path) -> list[bytes]:
    """The lines of a file of JSON rows, unread; a torn last one is left out, a missing file has none."""
    # What follows the last newline is empty, or a row that was being written.
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON rows; a torn last row is left out, a missing file has none.

    Raises:
        InputError: a row before the last is damaged.
    """
    return [_row(path, number, line) for number, line in enumerate(read_lines(path), start=1)]


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}, line {number} is damaged: {error}") from error
    if not isinstance(row, dict):
        raise InputError(f"{path}, line {number} is damaged: it holds {type(row).__name__}, not a row")
    return row


def keep_rows(path: Path, key: str, kept: range) -> None:
    """Keep the rows whose `key`, which rises from row to row, is in a range; those after it go, damaged or not.

    Raises:
        InputError: a row of the range is damaged.
    """
    if not path.exists():
        return
    lines = []
    for number, line in enumerate(read_lines(path) if kept else (), start=1):
        place = _row(path, number, line).get(key)
        if not isinstance(place, int):
            raise InputError(f"{path}, line {number} is damaged: it has no {key}")
        if place in kept:
            lines.append(line + b"\n")
        if place >= kept[-1]:
            break
    write_file(path, b"".join(lines))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process. The kernel releases it however the process ends.

    Raises:
        BusyError: another process holds it.
    """
    path = folder / "lock"
    with storing(path):
        file = path.open("a+b")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"{folder} is being worked on by another process") from error
        yield
    finally:
        file.close()


def is_locked(folder: Path) -> bool:
    """Whether some process is working on the run folder now."""
    path = folder / "lock"
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


AT_WORK = ".at_work"


@contextmanager
def attending(folder: Path) -> Iterator[None]:
    """Be known as one of those at work in a folder, of whom there may be several, until the end or a kill.

    It keeps nobody out. Where a file system has no such locks, nobody is known.
    """
    path = folder / AT_WORK
    with storing(path):
        file = path.open("a+b")
    with file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def is_attended(folder: Path) -> bool:
    """Whether some process is at work in a folder now."""
    return is_shared(folder / AT_WORK)


def is_shared(path: Path) -> bool:
    """Whether some process holds a shared lock of a file; nobody does of one that is not there."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False

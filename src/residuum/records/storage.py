"""Writing so that a kill or a full disk at any moment leaves either the old file or the new one, never a stump."""

import errno
import fcntl
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import IO, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from residuum.errors import BusyError, InputError, StorageError, quoted
from residuum.records.regular import appended, contents, refuse_link, regular

MANIFEST = "manifest.json"
MOST_JSON, MOST_TENSORS = 2**28, 2**33
"""Bytes of a file of JSON, as the plan of 100,000 runs, and of tensors: a larger one was not written here."""
T = TypeVar("T")


def expanded(text: str) -> Path:
    """A path whose ~ is a home; as it stands where there is no such user, which `Path.expanduser` raises for."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn an operating-system error while writing `path` into one line; a name that no file can have is a mistake."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{quoted(str(path))}: no file can have so long a name") from error
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


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
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
        sync(path.parent)


def _sealed(text: str) -> bytes:
    """A JSON object or list with a check of all the text before it as its last member."""
    body, ending = text[:-1].rstrip(), text[-1]
    member = f'"check": "{_digest(body.encode())}"'
    comma, gap = "," * (len(body) > 1), "\n" if "\n" in text else ""
    inner = f"{comma}{gap}  {member}" if gap else f"{comma} {member}"
    if ending == "]":
        inner = inner.replace(member, f"{{{member}}}")
    return f"{body}{inner}{gap}{ending}\n".encode()


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]


SEAL = re.compile(rb',?\s*\{?"check": "([0-9a-f]{16})"\}?\s*[]}]\s*\Z')
TAIL = 200
"""Bytes at the end of a file in which the check stands."""


def _unsealed(content: bytes) -> tuple[Any, bool]:
    """What JSON says, less its check, and whether it carries one.

    Raises:
        ValueError: it is not JSON, or not what was written.
    """
    try:
        values = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    seal = SEAL.search(content, max(0, len(content) - TAIL))
    if seal and seal[1].decode() != _digest(content[: seal.start()]):
        raise ValueError("it was changed since it was written")
    last = values.pop("check", None) if isinstance(values, dict) else None
    if isinstance(values, list) and values and isinstance(values[-1], dict) and values[-1].keys() == {"check"}:
        last = values.pop()
    if bool(seal) != (last is not None):
        raise ValueError("its check was changed since it was written")
    return values, bool(seal)


def write_json(path: Path, values: Mapping[str, Any] | Sequence[Any], *, checked: bool = True) -> None:
    """Put a JSON object or list in place at once, with a check of itself; numbers that are not finite are refused."""
    text = json.dumps(values, indent=2, allow_nan=False)
    write_file(path, _sealed(text) if checked else f"{text}\n".encode())


def read_json(path: Path, *, checked: bool = False) -> Any:
    """The values in a JSON file that `write_json` wrote.

    One of an earlier version has no check; where it is `checked`, it must have one.

    Raises:
        InputError: the file is missing or damaged.
    """
    values, is_checked = read_sealed(path)
    if checked and not is_checked:
        raise InputError(f"{path} is damaged: it has no check, as the files beside it do")
    return values


def read_sealed(path: Path) -> tuple[Any, bool]:
    """The values in a JSON file, and whether it carries a check.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return _unsealed(contents(path, MOST_JSON))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error


HEADER = 8
"""Bytes at the start of a safetensors file that say how long its JSON header is."""


def write_tensors(path: Path, content: bytes) -> None:
    """Put a safetensors file in place at once, with a check of header and data among its metadata."""
    header, data = _parted(content)
    sealed = header | {"__metadata__": {**header.get("__metadata__", {}), "check": _tensors_digest(header, data)}}
    refuse_link(path.parent)
    text = json.dumps(sealed, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER)  # the data begins at a multiple of 8
    write_file(path, len(text).to_bytes(HEADER, "little") + text + data)


def is_sealed(path: Path) -> bool:
    """Whether a JSON file ends with a check, be it right or not; not where there is none."""
    try:
        with regular(path).open("rb") as file:
            file.seek(max(0, path.stat().st_size - HEAD))
            return bool(SEAL.search(file.read()))
    except (OSError, InputError):
        return False


def read_tensors(path: Path, *, checked: bool = False) -> tuple[bytes, dict[str, str]]:
    """A safetensors file that `write_tensors` wrote, and its metadata; one of an earlier version has no check.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        content = contents(path, MOST_TENSORS)
        header, data = _parted(content)
        metadata = header.get("__metadata__", {})
        found = metadata.pop("check", None)
        if found is not None and found != _tensors_digest(header, data):
            raise ValueError("it was changed since it was written")
        if checked and found is None:
            raise ValueError("it has no check, as the files beside it do")
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    return content, metadata


def _parted(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a safetensors file."""
    start = HEADER + int.from_bytes(content[:HEADER], "little")
    if len(content) < start:
        raise ValueError("it is cut off")
    return json.loads(content[HEADER:start]), content[start:]


def _tensors_digest(header: Mapping[str, Any], data: bytes) -> str:
    metadata = {name: text for name, text in header.get("__metadata__", {}).items() if name != "check"}
    text = json.dumps({**header, "__metadata__": metadata}, sort_keys=True).encode()
    return _digest(sha256(text).digest() + sha256(data).digest())


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
    refuse_link(folder.parent)
    temporary = _temporary(folder)
    with storing(folder):
        try:
            temporary.mkdir(parents=True)
            for name, content in files.items():
                with storing(folder / name):
                    _write_synced(temporary / name, content)
            hashes = {name: sha256(content).hexdigest() for name, content in files.items()}
            manifest = {"files": hashes, "values": dict(values)}
            with storing(folder / MANIFEST):
                _write_synced(temporary / MANIFEST, _sealed(json.dumps(manifest, allow_nan=False)))
            sync(temporary)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync(folder.parent)


FILES = TypeAdapter(dict[str, str])


def read_checked_folder(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files and values of a checked folder, every byte compared with the manifest.

    Raises:
        InputError: a file is missing or its bytes are not those that were written.
    """
    path = folder / MANIFEST
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.keys() != {"files", "values"}:
        raise InputError(f"{path} is damaged: it is no manifest of files and values")
    files = {}
    for name, expected in typed(FILES, manifest["files"], path).items():
        if name in ("", ".", "..", MANIFEST) or Path(name).name != name:
            raise InputError(f"{path} is damaged: {quoted(name)} is no name of a file beside it")
        try:
            content = contents(folder / name, MOST_TENSORS)
        except OSError as error:
            raise InputError(f"{folder / name} cannot be read: {error.strerror}") from error
        if sha256(content).hexdigest() != expected:
            raise InputError(f"{folder / name} is damaged: its bytes do not match the manifest")
        files[name] = content
    if not isinstance(manifest["values"], dict):
        raise InputError(f"{path} is damaged: its values are no object")
    return files, manifest["values"]


@contextmanager
def locking(path: Path) -> Iterator[None]:
    """Turn the error of a file system without locks (ENOLCK, ENOSYS, EOPNOTSUPP) into one line."""
    try:
        yield
    except BlockingIOError:  # it has them, and somebody else holds this one
        raise
    except OSError as error:
        said = f"cannot lock {path}: {error.strerror or error}; it has to lie where files can be locked"
        raise StorageError(said) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process. The kernel releases it however the process ends.

    The file says who holds it, for those who come later.

    Raises:
        BusyError: another process holds it.
        StorageError: the file cannot be written, or its file system has no locks.
    """
    path = folder / "lock"
    with storing(path):
        for one in folder.iterdir():
            refuse_link(one)
        file = appended(path, buffering=0)  # closing it must not fail
    with file:
        try:
            with locking(path):
                _take(file)
        except BlockingIOError as error:
            raise BusyError(f"{folder} is being worked on by another process{_holder(path)}") from error
        if not _is_there(path, file.fileno()):  # the folder was set aside between opening and holding its lock
            raise BusyError(f"{folder} is being begun anew by another process")
        with suppress(OSError):  # a disk that is full, which what is written next tells
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode())
        yield


def _take(file: IO[bytes]) -> None:
    """Take a lock that nobody holds.

    Raises:
        BlockingIOError: somebody does.
    """
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # it was `is_locked` that had it, for a moment


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether a path still names an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Who holds a lock, in brackets; empty where that is not written yet, or something else is."""
    with suppress(OSError, ValueError, InputError):
        if found := re.fullmatch(r"(\d+) ([\w.-]+) ([\w:-]+)\n", contents(path, HEAD).decode("ascii")):
            return f" (process {found[1]} on {found[2]}, since {found[3]})"
    return ""


def is_locked(folder: Path) -> bool:
    """Whether some process is working on the run folder now; of a lock that cannot be asked, none is known."""
    try:
        with regular(folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, InputError):
        return False
    return False


AT_WORK = ".at_work"


@contextmanager
def attending(folder: Path) -> Iterator[None]:
    """Be known as one of those at work in a folder, of whom there may be several, until the end or a kill.

    It keeps nobody out. Where a file system has no such locks, nobody is known.
    """
    path = folder / AT_WORK
    with storing(path):
        file = appended(path)
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
        with regular(path).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, InputError):
        return False
    return False

"""Rows: a file of JSON objects, one a line, that grows; each carries a check of itself.

A row ends in `"check": "8 digits"`, the CRC-32 of the line without it. Rows of an earlier version have none. What was
taken out is told by the numbers of the rows that are there, and by what else says how many there should be.
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from residuum.errors import InputError
from residuum.records.regular import appended, contents, regular
from residuum.records.storage import storing, write_file

MOST = 2**30
"""Bytes of a file of rows, about seven million updates."""
CHECK = b', "check": "'
LENGTH = len(CHECK) + 8 + len(b'"}')
FRAME = CHECK + b'"}'


def _check(body: bytes) -> bytes:
    """The check of a row, of which `body` is the line without one."""
    return f"{zlib.crc32(body):08x}".encode()


def check_of(line: bytes) -> bytes:
    """The check that a line carries; empty where it carries none."""
    return line[-10:-2] if _frame(line) == FRAME else b""


def _frame(line: bytes) -> bytes:
    return line[-LENGTH:-10] + line[-2:]


def _is_nearly_checked(line: bytes) -> bool:
    """Whether a line ends almost as one with a check does: then it had one, and is damaged there."""
    return len(line) >= LENGTH and 0 < sum(a != b for a, b in zip(_frame(line), FRAME, strict=True)) <= len(FRAME) // 2


class Rows:
    """A file of rows that is open for more; each `add` reaches the operating system, `sync` the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with storing(path):
            self._file = appended(path)
            end = self._file.seek(0, os.SEEK_END)
            self._file.seek(max(0, end - 1))
            # What a kill left of a row stays a damaged one, and takes no other with it.
            self._torn = self._file.read() not in (b"", b"\n")

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        body = json.dumps(row, allow_nan=False).encode()
        line = body[:-1] + CHECK + _check(body) + b'"}\n'
        with storing(self.path):
            self._file.write(b"\n" + line if self._torn else line)
            self._file.flush()
        self._torn = False

    def sync(self) -> None:
        """Force what was added to the disk."""
        with storing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        with storing(self.path):
            self._file.close()


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add one row to a file, on the disk before this returns."""
    file = Rows(path)
    try:
        file.add(row)
        file.sync()
    finally:
        file.close()


def read_lines(path: Path) -> list[bytes]:
    """The lines of a file of rows, unread; a torn last one is left out, a missing file has none.

    Raises:
        InputError: it is no file, or cannot be read.
    """
    try:
        # What follows the last newline is empty, or a row that was being written.
        return contents(path, MOST).split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def is_torn(path: Path) -> bool:
    """Whether a file of rows ends within one: it is being written, or was broken off there."""
    try:
        with regular(path).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            return file.read() not in (b"", b"\n")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def bodies(path: Path) -> Iterator[bytes | InputError]:
    """The rows of a file as JSON without their checks; an error, which names the line, for one that does not hold.

    Raises:
        InputError: the file cannot be read.
    """
    return _unchecked(path, read_lines(path))


def _unchecked(path: Path, lines: Iterable[bytes]) -> Iterator[bytes | InputError]:
    for number, line in enumerate(lines, start=1):
        check = check_of(line)
        body = line[:-LENGTH] + b"}" if check else line
        if _is_nearly_checked(line) or (check and check != _check(body)):
            yield InputError(f"{path}, line {number} is damaged: it was changed since it was written")
        else:
            yield body


def each(path: Path) -> Iterator[dict[str, Any] | InputError]:
    """The rows of a file; an error, which names the line, for one that is not as it was written.

    Raises:
        InputError: the file cannot be read.
    """
    return _parsed(path, read_lines(path))


def _parsed(path: Path, lines: Iterable[bytes]) -> Iterator[dict[str, Any] | InputError]:
    for number, body in enumerate(_unchecked(path, lines), start=1):
        try:
            row = body if isinstance(body, InputError) else json.loads(body)
        except (ValueError, RecursionError) as error:
            row = InputError(f"{path}, line {number} is damaged: {error}")
        if not isinstance(row, dict | InputError):
            row = InputError(f"{path}, line {number} is damaged: it holds {type(row).__name__}, not a row")
        yield row


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; a torn last one is left out, a missing file has none.

    Raises:
        InputError: a row is damaged.
    """
    rows = []
    for row in each(path):
        if isinstance(row, InputError):
            raise row
        rows.append(row)
    return rows


def are_checked(path: Path) -> bool:
    """Whether the rows of a file carry checks: those that an earlier version wrote do not."""
    return all(map(check_of, read_lines(path)))


def lacking(path: Path, key: str, wanted: range) -> str:
    """Why the rows of a file that number `wanted` by a key are not there, whole and in order; empty where they are."""
    rows = each(path)
    for place in wanted:
        row = next(rows, None)
        if row is None:
            return f"{path} lacks rows: the last is {key} {place - 1} of {wanted[-1]}" if place > wanted[0] else (
                f"{path} lacks all rows up to {key} {wanted[-1]}")  # fmt: skip
        if isinstance(row, InputError):
            return str(row)
        if row.get(key) != place:
            return f"{path} has {key} {row.get(key)} where {place} should be"
    return ""


def keep(path: Path, key: str, last: int) -> None:
    """Keep the rows of a file up to the one numbered `last` by a key that rises, and none from a damaged one on."""
    kept, lines = [], read_lines(path)
    for line, row in zip(lines, _parsed(path, lines), strict=True):
        place = None if isinstance(row, InputError) else row.get(key)
        if not isinstance(place, int) or place > last:
            break
        kept.append(line + b"\n")
    if path.exists():
        write_file(path, b"".join(kept))

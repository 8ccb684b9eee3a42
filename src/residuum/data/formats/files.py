"""Bounded reading of files: whole, decompressed, or as members of a tar archive, never more than was asked for."""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from residuum.errors import InputError, StorageError

GZIP_MAGIC = b"\x1f\x8b"
MAX_MEMBERS = 64
MAX_ARCHIVE_BYTES = 256 * 2**20
"""More than any CIFAR archive holds (186 MB decompressed)."""

_BLOCK = 512
_FILE, _FOLDER, _EXTENSION = (b"0", b"\0"), (b"5",), (b"x", b"g", b"L", b"K")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong in reading or decompressing `path` into one line."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def first_bytes(path: Path, count: int) -> bytes:
    """The beginning of a file, decompressed if it is gzipped.

    Raises:
        InputError: it is missing or damaged.
        StorageError: it cannot be read.
    """
    with reading(path), _decompressed(path) as file:
        return file.read(count)


def read_whole(path: Path, limit: int) -> bytes:
    """The content of a file, decompressed if it is gzipped, of at most `limit` bytes.

    Raises:
        InputError: it is missing, damaged or larger.
        StorageError: it cannot be read.
    """
    with reading(path), _decompressed(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise InputError(f"{path} is too large: at most {limit:,} bytes are expected")
    return content


def is_tar(path: Path) -> bool:
    """Whether a file, gzipped or not, begins as a tar archive does."""
    try:
        return first_bytes(path, 262)[257:] == b"ustar"
    except InputError:
        return False


def member_names(path: Path) -> Iterator[str]:
    """The names of the plain files in a tar archive, in order.

    Raises:
        InputError, StorageError: as `read_members`.
    """
    return (name for name, _ in _walk(path, {}))


def read_members(path: Path, limits: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """The members of a tar archive that have the given names, each of at most its limit of bytes, in archive order.

    Other plain files are passed over. Nothing is written anywhere.

    Raises:
        InputError: a damaged archive; a member that is no plain file or folder, leads out of the archive, stands there
            twice or is too large; too many members or bytes.
        StorageError: it cannot be read.
    """
    return ((name, content) for name, content in _walk(path, limits) if content is not None)


def _walk(path: Path, limits: Mapping[str, int]) -> Iterator[tuple[str, bytes | None]]:
    """Every plain file of a tar archive, with the content of those that have a limit.

    The format is walked here and not by `tarfile`, which follows the extensions of the format into allocations and
    offsets that a file can choose; these extensions are passed over, for no name or size that counts needs them.
    """
    left, seen = MAX_ARCHIVE_BYTES, set()
    with reading(path), _decompressed(path) as file:
        for _ in range(MAX_MEMBERS):
            header = file.read(_BLOCK)
            if not header.strip(b"\0"):
                _skip(file, left)  # only at the very end does gzip compare its checksum
                return
            name, size, kind = _parse_header(header, path)
            left -= _BLOCK + size
            if left < 0:
                raise InputError(f"{path} holds more than {MAX_ARCHIVE_BYTES >> 20} MiB when decompressed")
            if kind not in _FILE + _FOLDER + _EXTENSION:
                raise InputError(f"{path}: member {name!r} is a link or a device, no plain file")
            if ".." in PurePosixPath(name).parts or name.startswith("/"):
                raise InputError(f"{path}: member {name!r} leads out of the archive")
            wanted = kind in _FILE and name in limits
            if wanted and name in seen:
                raise InputError(f"{path}: member {name!r} appears twice")
            if wanted and size > limits[name]:
                raise InputError(f"{path}: member {name!r} has {size:,} bytes, at most {limits[name]:,} are expected")
            seen.add(name)
            content = file.read(size) if wanted else None
            if content is not None and len(content) != size:
                raise InputError(f"{path} is damaged: it ends within {name!r}")
            _skip(file, -size % _BLOCK if wanted else size + -size % _BLOCK)
            if kind in _FILE:
                yield name, content
        raise InputError(f"{path} has more than {MAX_MEMBERS} members")


def _parse_header(header: bytes, path: Path) -> tuple[str, int, bytes]:
    """Name, size and kind of a member, from its header of 512 bytes."""
    try:
        sum_of_bytes = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
        if len(header) != _BLOCK or _octal(header[148:156]) != sum_of_bytes:
            raise ValueError
        # The prefix is a field of POSIX's form alone; in GNU's other things stand there.
        fields = (header[345:500] if header[257:263] == b"ustar\0" else b"", header[:100])
        name = "/".join(part for field in fields if (part := field.partition(b"\0")[0].decode()))
        return name.removeprefix("./"), _octal(header[124:136]), header[156:157]
    except ValueError as error:
        raise InputError(f"{path} is damaged: a member of the archive has no valid header") from error


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits.isdigit():
        raise ValueError
    return int(digits, 8)


def _skip(file: IO[bytes], count: int) -> None:
    """Read past `count` bytes, or to the end, without holding them."""
    while count > 0 and (content := file.read(min(count, 2**20))):
        count -= len(content)


def _decompressed(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        gzipped = file.read(2) == GZIP_MAGIC
    return cast(IO[bytes], gzip.open(path)) if gzipped else path.open("rb")

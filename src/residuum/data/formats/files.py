"""Bounded reading of files: whole, decompressed, or as members of an archive, never more than was asked for."""

import errno
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from residuum.errors import InputError, StorageError, quoted
from residuum.records.regular import refuse_special

GZIP_MAGIC, XZ_MAGIC, ZIP_MAGIC = b"\x1f\x8b", b"\xfd7zXZ\0", (b"PK\x03\x04", b"PK\x05\x06")
MAX_MEMBERS = 64
MAX_ARCHIVE_BYTES = 256 * 2**20
"""More than any CIFAR archive holds (186 MB decompressed)."""
MAX_TIMES = 30
"""How many times its own bytes an archive may come to besides; images and arrays of them pack to a tenth at best."""
XZ_MEMORY = 256 * 2**20
"""Memory that decompressing xz may take: four times what its highest level asks for."""

_BLOCK = 512
_FILE, _FOLDER, _EXTENSION = (b"0", b"\0"), (b"5",), (b"x", b"g", b"L", b"K")
_LONG_NAME, _ATTRIBUTES, _OF_ALL = b"L", b"x", b"g"
_MAX_ATTRIBUTES = 2**20
"""Bytes of what an extension says of a member, its name among it."""


@dataclass(frozen=True)
class Bounds:
    """How many members an archive may have, and how many bytes they may come to when decompressed."""

    members: int
    size: int


ANY = Bounds(10**7, 2**50)
"""Bounds of an archive of any kind, of which only the first names are asked for."""


def _usual() -> Bounds:
    return Bounds(MAX_MEMBERS, MAX_ARCHIVE_BYTES)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong in reading or decompressing `path` into one line; a pipe or a device is not opened."""
    refuse_special(path)
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile) as error:
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
        limit = min(limit, MAX_ARCHIVE_BYTES + MAX_TIMES * path.stat().st_size)
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


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip archive does."""
    with reading(path), path.open("rb") as file:
        return file.read(4) in ZIP_MAGIC


def is_archive(path: Path) -> bool:
    """Whether a file is an archive whose members can be read: tar, also compressed by gzip or xz, or zip."""
    return is_zip(path) or is_tar(path)


def member_names(path: Path, bounds: Bounds | None = None) -> Iterator[str]:
    """The names of the plain files in an archive, in order.

    Raises:
        InputError, StorageError: as `read_members`.
    """
    return (name for name, _ in _walk(path, {}, bounds or _usual()))


def read_members(path: Path, limits: Mapping[str, int], bounds: Bounds | None = None) -> Iterator[tuple[str, bytes]]:
    """The members of an archive that have the given names, each of at most its limit of bytes, in archive order.

    Other plain files are passed over. Nothing is written anywhere.

    Raises:
        InputError: a damaged archive; a member that is no plain file or folder, leads out of the archive, stands there
            twice, is encrypted or is too large; too many members or bytes.
        StorageError: it cannot be read.
    """
    found = _walk(path, limits, bounds or _usual())
    return ((name, content) for name, content in found if content is not None)


def _walk(path: Path, limits: Mapping[str, int], bounds: Bounds) -> Iterator[tuple[str, bytes | None]]:
    """Every plain file of an archive, with the content of those that have a limit."""
    with reading(path):
        unpacked = MAX_ARCHIVE_BYTES + MAX_TIMES * path.stat().st_size
    bounds = Bounds(bounds.members, min(bounds.size, unpacked))
    return (_walk_zip if is_zip(path) else _walk_tar)(path, limits, bounds)


def _walk_tar(path: Path, limits: Mapping[str, int], bounds: Bounds) -> Iterator[tuple[str, bytes | None]]:
    """As `_walk`, of a tar archive.

    The format is walked here and not by `tarfile`, which follows the extensions of the format into allocations and
    offsets that a file can choose; of these extensions only the long name of a member is read.
    """
    left, seen, long_name = bounds.size, set[str](), ""
    with reading(path), _decompressed(path) as file:
        for _ in range(bounds.members):
            header = file.read(_BLOCK)
            if not header.strip(b"\0"):
                _skip(file, left)  # only at the very end does gzip compare its checksum
                return
            name, size, kind = _parse_header(header, path)
            left -= _BLOCK + size
            if left < 0:
                raise _too_large(path, bounds)
            if kind not in _FILE + _FOLDER + _EXTENSION:
                raise InputError(f"{path}: member {quoted(name)} is a link or a device, no plain file")
            if kind in (_LONG_NAME, _ATTRIBUTES, _OF_ALL):
                if size > _MAX_ATTRIBUTES:
                    raise InputError(f"{path} is damaged: {size:,} bytes are no name of a member")
                long_name = _long_name(file.read(size), kind, path) or long_name
                _skip(file, -size % _BLOCK)
                continue
            if kind not in _EXTENSION:
                name, long_name = long_name or name, ""
                _check_place(name, path)
            wanted = kind in _FILE and name in limits
            if wanted:
                _check_member(name, size, limits, seen, path)
            seen.add(name)
            content = file.read(size) if wanted else None
            if content is not None and len(content) != size:
                raise InputError(f"{path} is damaged: it ends within {quoted(name)}")
            _skip(file, -size % _BLOCK if wanted else size + -size % _BLOCK)
            if kind in _FILE:
                yield name, content
        raise _too_many(path, bounds)


def _walk_zip(path: Path, limits: Mapping[str, int], bounds: Bounds) -> Iterator[tuple[str, bytes | None]]:
    """As `_walk`, of a zip archive."""
    left, seen = bounds.size, set[str]()
    with reading(path):
        if _listed(path, bounds.members) > bounds.members:  # before the list is read
            raise _too_many(path, bounds)
    with reading(path), _zip(path) as archive:
        if len(archive.infolist()) > bounds.members:
            raise _too_many(path, bounds)
        for member in archive.infolist():
            # Some programs of Windows part folders by backslashes.
            name, size = member.filename.replace("\\", "/").removeprefix("./"), member.file_size
            kind = member.external_attr >> 28 if member.create_system == 3 else 0  # the mode, as Unix writes it
            if kind not in (0, 0o4, 0o10):
                raise InputError(f"{path}: member {quoted(name)} is a link or a device, no plain file")
            _check_place(name, path)
            if member.is_dir():
                continue
            left -= size
            if left < 0:
                raise _too_large(path, bounds)
            content = None
            if name in limits:
                _check_member(name, size, limits, seen, path)
                if member.flag_bits & 1:
                    raise InputError(f"{path}: member {quoted(name)} is encrypted")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise InputError(f"{path}: member {quoted(name)} is compressed otherwise than by deflate")
                with archive.open(member) as file:
                    content = file.read(size + 1)
                if len(content) != size:
                    raise InputError(f"{path} is damaged: {quoted(name)} has not the {size:,} bytes that it says")
            seen.add(name)
            yield name, content


_END, _END_64, _LEAST_LIST, _ENTRY = 22, 56, 2**16, 400
"""Bytes of the end of a zip archive, without its comment, and of the long form; of a list of members, and for each."""


def _listed(path: Path, most: int) -> int:
    """How many members a zip archive says that it has; more than `most` where their list is too long for so many."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _END - 2**16 - _END_64 - 20))
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    end, long = tail[at : at + _END], tail[tail.rfind(b"PK\6\6", 0, at) :][:_END_64]
    if at < 0 or len(end) < _END:
        return 0  # as the parser will say
    count, length = struct.unpack("<HI", end[10:16])
    if count == 0xFFFF or length == 0xFFFFFFFF:
        count, length = struct.unpack("<QQ", long[32:48]) if long.startswith(b"PK\6\6") else (0, 0)
    return max(int(count), most + 1 if length > max(_LEAST_LIST, most * _ENTRY) else 0)


@contextmanager
def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive; what its parser stumbles over is damage."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.LargeZipFile, NotImplementedError, RuntimeError, ValueError, LookupError, struct.error) as error:
        raise InputError(f"{path} is damaged: {str(error) or type(error).__name__}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise InputError(f"{path} is damaged: it says that a member lies before its start") from error


def _check_place(name: str, path: Path) -> None:
    place = name.replace("\\", "/")
    if ".." in PurePosixPath(place).parts or place.startswith("/") or place[1:3] == ":/":
        raise InputError(f"{path}: member {quoted(name)} leads out of the archive")


def _check_member(name: str, size: int, limits: Mapping[str, int], seen: set[str], path: Path) -> None:
    if name in seen:
        raise InputError(f"{path}: member {quoted(name)} appears twice")
    if size > limits[name]:
        raise InputError(f"{path}: member {quoted(name)} has {size:,} bytes, at most {limits[name]:,} are expected")


def _too_large(path: Path, bounds: Bounds) -> InputError:
    return InputError(f"{path} holds more than {bounds.size >> 20} MiB when decompressed")


def _too_many(path: Path, bounds: Bounds) -> InputError:
    return InputError(f"{path} has more than {bounds.members} members")


def _long_name(content: bytes, kind: bytes, path: Path) -> str:
    """The name that an extension gives the next member, empty if it says something else: `LENGTH path=NAME`.

    Raises:
        InputError: it is not of that form, or gives all members one name.
    """
    if kind == _LONG_NAME:
        name = content.rstrip(b"\0")
    else:
        name = b""
        while content:
            length, space, _ = content.partition(b" ")
            if not length.isdigit() or len(length) > 7 or not len(length + space) < int(length) <= len(content):
                raise InputError(f"{path} is damaged: what it says of a member has no valid form")
            record, content = content[: int(length)], content[int(length) :]
            key, _, value = record[len(length) + 1 : -1].partition(b"=")
            name = value if key == b"path" else name
        if name and kind == _OF_ALL:
            said = quoted(name.decode(errors="replace"))
            raise InputError(f"{path} is damaged: it gives all members the name {said}")
    return name.decode("utf-8", "surrogateescape").removeprefix("./")


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
    with reading(path), path.open("rb") as file:
        magic = file.read(len(XZ_MAGIC))
    if magic.startswith(GZIP_MAGIC):
        return cast(IO[bytes], gzip.open(path))
    return io.BufferedReader(_Xz(path)) if magic == XZ_MAGIC else path.open("rb")


class _Xz(io.RawIOBase):
    """A file compressed by xz, read within a bound of memory, which the library's own reader does not take."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._decompressor = self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what comes next; 0 at the end."""
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data or self._file.read(2**16)
                if not rest.strip(b"\0"):
                    return 0
                self._decompressor = self._new()
            else:
                rest = self._file.read(2**16) if self._decompressor.needs_input else b""
                if not rest and self._decompressor.needs_input:
                    raise EOFError("it ends before its end was marked")
            content = self._decompressor.decompress(rest, len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

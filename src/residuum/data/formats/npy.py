"""NumPy's own files, `.npy` and `.npz`, read without ever unpickling: the header first, then no more than it says."""

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from residuum.data.formats.files import MAX_ARCHIVE_BYTES as UNPACKED
from residuum.data.formats.files import MAX_TIMES, reading
from residuum.errors import InputError, quoted

MAGIC = b"\x93NUMPY"
MAX_ARRAY_BYTES = 8 * 2**30
MAX_MEMBERS = 64


def is_npy(path: Path) -> bool:
    """Whether a file begins as a `.npy` file does."""
    with reading(path), path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def names_in(path: Path) -> tuple[str, ...]:
    """The names of the arrays in a `.npz` file; none if it is no such file."""
    with reading(path):
        if not path.is_file() or not zipfile.is_zipfile(path):
            return ()
    with _opened(path) as archive:
        names = [member.filename for member in archive.infolist() if not member.is_dir()]
    arrays = tuple(name.removesuffix(".npy") for name in names if name.endswith(".npy") and "/" not in name)
    return arrays if len(arrays) == len(names) <= MAX_MEMBERS else ()


def read_npy(path: Path) -> NDArray[Any]:
    """The array in a `.npy` file, its values left on the disk until they are asked for.

    Raises:
        InputError: damaged, of Python objects, or too large.
    """
    with reading(path), path.open("rb") as file:
        shape, order, dtype = _header(file, str(path))
        offset = file.tell()
        if _size(shape, dtype, str(path)) != path.stat().st_size - offset:
            raise InputError(f"{path} is damaged: it has not the {list(shape)} values that it says")
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", offset, shape, order)


def parsed(content: bytes, place: str) -> NDArray[Any]:
    """The array in the content of a `.npy` file.

    Raises:
        InputError: damaged, of Python objects, or too large.
    """
    file = io.BytesIO(content)
    shape, order, dtype = _header(file, place)
    if _size(shape, dtype, place) != len(content) - file.tell():
        raise InputError(f"{place} is damaged: it has not the {list(shape)} values that it says")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order=order)


def read_npz(path: Path, name: str) -> NDArray[Any]:
    """One array of a `.npz` file.

    Raises:
        InputError: damaged, of Python objects, too large, or not there.
    """
    place = f"{path}: {name}"
    with _opened(path) as archive:
        try:
            member = archive.getinfo(f"{name}.npy")
        except KeyError:
            raise InputError(f"{path} has no array {quoted(name)}") from None
        with archive.open(member) as file:
            shape, order, dtype = _header(file, place)
            size = _size(shape, dtype, place)
            if size > UNPACKED + MAX_TIMES * path.stat().st_size:
                raise InputError(f"{place} would take {size:,} bytes, which is too much for the size of its file")
            content = bytearray()
            # Grown as it comes: what is announced is no reason to allocate.
            while len(content) < size and (block := file.read(min(size - len(content), 2**24))):
                content += block
            if len(content) != size or file.read(1):
                raise InputError(f"{place} is damaged: it has not the {list(shape)} values that it says")
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _header(file: IO[bytes], place: str) -> tuple[tuple[int, ...], Any, np.dtype[Any]]:
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=10_000)
    except Exception as error:  # numpy raises whatever the parser of Python happens to meet: SyntaxError, TokenError …
        raise InputError(f"{place} is damaged: it has no header of an array") from error
    if dtype.hasobject:
        raise InputError(f"{place} holds Python objects (pickle), which are never read; save it as plain numbers")
    if dtype.kind not in "biufUS" or any(length < 0 for length in shape):
        raise InputError(f"{place} holds values of the type {dtype}, no numbers and no text")
    return tuple(shape), "F" if fortran else "C", dtype


def _size(shape: tuple[int, ...], dtype: np.dtype[Any], place: str) -> int:
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_ARRAY_BYTES:
        raise InputError(f"{place} would take {size / 2**30:.0f} GiB; at most {MAX_ARRAY_BYTES >> 30} are read")
    return size


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with reading(path), zipfile.ZipFile(path) as archive:
            if any(member.flag_bits & 1 for member in archive.infolist()):
                raise InputError(f"{path} is encrypted")
            yield archive
    except (NotImplementedError, RuntimeError, ValueError, LookupError) as error:
        raise InputError(f"{path} is damaged: {str(error) or type(error).__name__}") from error

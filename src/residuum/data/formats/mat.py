"""MATLAB's files of version 5: the arrays that are asked for, within bounds that are checked before they are read."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from residuum.data.formats.files import MAX_ARCHIVE_BYTES, MAX_TIMES, reading
from residuum.errors import InputError

MAX_BYTES = 2 * 2**30


def read_mat(path: Path, largest: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """Arrays of numbers in a MATLAB file by their names, each of at most a shape.

    Raises:
        InputError: one is missing, larger or no array of numbers; or the file is damaged or of another version.
    """
    with reading(path), path.open("rb") as file:
        head = file.read(128)
    if len(head) < 128 or head[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        newer = head.startswith(b"MATLAB 7.3") or head.startswith(b"\x89HDF")
        why = "of version 7.3; save it with -v7" if newer else "no MATLAB file of version 5 to 7"
        raise InputError(f"{path} is {why}")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES >> 30} GiB")
    from scipy.io import loadmat, whosmat  # which no command that reads something else waits for

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an array that stands there twice: the last one counts
            announced = {name: (shape, kind) for name, shape, kind in whosmat(path)}
        for name, limit in largest.items():
            shape, kind = announced.get(name, ((), ""))
            fits = len(shape) == len(limit) and all(0 < size <= most for size, most in zip(shape, limit, strict=True))
            if not fits or kind not in ("uint8", "uint16", "int16", "int32", "single", "double"):
                said = f"{name} as {kind} {list(shape)}" if kind else f"no {name}"
                raise InputError(f"{path} has {said}; numbers of at most {list(limit)} are expected")
        needed = sum(math.prod(announced[name][0]) for name in largest)  # values of at least a byte
        if needed > MAX_ARCHIVE_BYTES + MAX_TIMES * path.stat().st_size:
            raise InputError(f"{path} would come to {needed:,} values, which is too much for its size")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: dict[str, NDArray[Any]] = loadmat(path, variable_names=[*largest])
        return {name: found[name] for name in largest}
    except InputError:
        raise
    except Exception as error:  # scipy raises whatever its parser happens to meet: TypeError, zlib.error, KeyError …
        raise InputError(f"{path} is damaged: its arrays cannot be read") from error

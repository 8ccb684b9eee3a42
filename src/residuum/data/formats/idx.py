"""IDX files, the format of MNIST: a big-endian header of sizes, then bytes."""

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from residuum.data.formats.files import read_whole
from residuum.errors import InputError


def read_idx(path: Path, dimensions: int, limit: int) -> NDArray[np.uint8]:
    """The uint8 array in an IDX file, gzipped or not, of that many dimensions and at most `limit` values.

    Raises:
        InputError: it is missing, damaged, too large or of another type.
    """
    header = 4 + 4 * dimensions
    content = read_whole(path, header + limit)
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise InputError(f"{path} is not an IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if math.prod(shape) != len(content) - header:
        raise InputError(f"{path} is damaged: {list(shape)} values are announced, {len(content) - header} are there")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)

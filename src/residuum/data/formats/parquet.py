"""Parquet files in the layout of the Hugging Face hub: a column of encoded images and a column of labels, in order."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from residuum.data.images import decode_image
from residuum.errors import InputError

MAGIC = b"PAR1"
MAX_IMAGE_BYTES = 2**20
_ROWS_AT_ONCE = 256
# With hive_partitioning, a folder named `label=3` would add a column.
_FILE = "read_parquet(?, hive_partitioning = false)"


@dataclass(frozen=True)
class Columns:
    """What a Parquet file says of itself: names of its columns, and of the classes of a column where they stand."""

    names: tuple[str, ...]
    classes: dict[str, tuple[str, ...]]


def is_parquet(path: Path) -> bool:
    """Whether a file begins as a Parquet file does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def columns(path: Path) -> Columns:
    """The columns of a Parquet file.

    Raises:
        InputError: it is damaged.
    """
    with _connected(path) as connection:
        described = connection.execute(f"DESCRIBE SELECT * FROM {_FILE}", [str(path)]).fetchall()
        found = connection.execute("SELECT value FROM parquet_kv_metadata(?) WHERE key = 'huggingface'", [str(path)])
        row = found.fetchone()
    return Columns(tuple(name for name, *_ in described), _classes(row[0]) if row else {})


def read_images(
    path: Path, image: str, label: str, shape: tuple[int, int, int], limit: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images [N, C, H, W] and labels [N] of a Parquet file, in the file's order.

    `image` is a column {bytes, path} of encoded images, `label` one of integers; `shape` is (C, H, W), of which H and W
    have to be those of every image; `limit` bounds N.

    Raises:
        InputError: another type, size or number, a missing value, or a damaged file or image.
    """
    images_NCHW = np.empty((limit, *shape), np.uint8)
    labels_N = np.empty(limit, np.int64)
    count = 0
    for content, value in _rows(path, image, label):
        place = f"{path}, row {count}"
        if count == limit:
            raise InputError(f"{path} has more than {limit:,} rows")
        if type(content) is not bytes or type(value) is not int:
            raise InputError(f"{place}: {image}.bytes has to be an image of at most 1 MiB and {label} an integer")
        pixels_CHW = decode_image(content, place, shape[0])
        if pixels_CHW.shape != shape:
            raise InputError(
                f"{place} is {pixels_CHW.shape[2]}×{pixels_CHW.shape[1]} pixels, not {shape[2]}×{shape[1]}"
            )
        images_NCHW[count], labels_N[count] = pixels_CHW, value
        count += 1
    return images_NCHW[:count], labels_N[:count]


def _rows(path: Path, image: str, label: str) -> Iterator[tuple[Any, Any]]:
    """Encoded image and label of each row; None for an image that is too large."""
    with _connected(path) as connection:
        cursor = connection.execute(
            f"SELECT CASE WHEN octet_length(content) <= {MAX_IMAGE_BYTES} THEN content END, label "
            f"FROM (SELECT {_quoted(image)}.bytes AS content, {_quoted(label)} AS label FROM {_FILE})",
            [str(path)],
        )
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield from rows


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


@contextmanager
def _connected(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that can open this one file and nothing else, and keeps the order of its rows."""
    try:
        with duckdb.connect(":memory:") as connection:
            for setting, value in (
                ("threads", 1),
                ("enable_progress_bar", False),  # which it would draw on standard output
                ("preserve_insertion_order", True),
                ("memory_limit", "1GB"),
                ("autoinstall_known_extensions", False),
                ("autoload_known_extensions", False),
                ("allowed_paths", [str(path)]),
                ("enable_external_access", False),
                ("lock_configuration", True),
            ):
                connection.execute(f"SET {setting} = ?", [value])
            yield connection
    except duckdb.Error as error:
        raise InputError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def _classes(metadata: bytes) -> dict[str, tuple[str, ...]]:
    """The names of classes in the metadata that the hub's programs write; none where it has another form."""
    try:
        features = json.loads(metadata)["info"]["features"]
        return {
            column: tuple(map(str, feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list)
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}

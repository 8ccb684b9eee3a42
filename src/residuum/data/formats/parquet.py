"""Parquet files, as the Hugging Face hub has them and others write them: a column of images and one of labels.

A column of images holds encoded ones, as bytes or as {bytes, path}, or lists of pixels.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from residuum.data.formats import pixels
from residuum.data.formats.files import reading
from residuum.data.images import decode_image, encoding_of, is_grey
from residuum.errors import InputError
from residuum.records.regular import refuse_special

MAGIC = b"PAR1"
MAX_IMAGE_BYTES = 2**20
MAX_ROWS = 2_000_000
UNPACKED, UNPACKED_TIMES = 16 * 2**20, 250
"""Bytes, and values, that a file may hold when unpacked: so many, and so many times its own bytes."""
_ROWS_AT_ONCE = 32
# With hive_partitioning, a folder named `label=3` would add a column.
_FILE = "read_parquet(?, hive_partitioning = false)"


_NUMBER = r"(U?(TINY|SMALL|BIG)INT|U?INTEGER|FLOAT|DOUBLE|BOOLEAN)"


@dataclass(frozen=True)
class Columns:
    """What a Parquet file says of itself: its columns with their types, and the classes where a column has them."""

    types: Mapping[str, str]
    classes: Mapping[str, tuple[str, ...]]

    def image(self) -> tuple[str, ...]:
        """The columns that may hold images, by their types."""
        kinds = re.compile(rf"BLOB|STRUCT\(.*\bbytes\"? BLOB.*\)|{_NUMBER}(\[\d*\])+")
        return tuple(name for name, type_ in self.types.items() if kinds.fullmatch(type_))

    def is_text(self, column: str) -> bool:
        """Whether a column holds text."""
        return self.types[column].startswith(("VARCHAR", "ENUM"))

    def label(self) -> tuple[str, ...]:
        """The columns that may hold labels, by their types: whole numbers or text."""
        kinds = re.compile(r"U?(TINY|SMALL|BIG)INT|U?INTEGER|VARCHAR|ENUM\(.*\)")
        return tuple(name for name, type_ in self.types.items() if kinds.fullmatch(type_))


def is_parquet(path: Path) -> bool:
    """Whether a file begins as a Parquet file does."""
    with reading(path), path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def columns(path: Path) -> Columns:
    """The columns of a Parquet file.

    Raises:
        InputError: it is damaged.
    """
    with _connected(path) as connection:
        described = connection.execute(f"DESCRIBE SELECT * FROM {_FILE}", [_literal(path)]).fetchall()
        features = "SELECT value FROM parquet_kv_metadata(?) WHERE key = 'huggingface'"
        found = connection.execute(features, [_literal(path)])
        row = found.fetchone()
    return Columns({name: type_ for name, type_, *_ in described}, _classes(row[0]) if row else {})


def first_shape(path: Path, image: str) -> tuple[int, int, int]:
    """Channels, height and width of the first image: 1 channel if it is grey, else 3.

    Raises:
        InputError: there is none, or it is damaged.
    """
    for content, _ in _rows(path, image, image):
        place = f"{path}, row 0"
        if isinstance(content, bytes):
            channels = 1 if is_grey(content, place) else 3
            _, height, width = decode_image(content, place, channels).shape
        else:
            channels, height, width = pixels.images_of(_array([content], place), place).shape[1:]
        return channels, height, width
    raise InputError(f"{path} has no rows")


def encodings(path: Path, image: str) -> set[str]:
    """The formats in which a column of encoded images stores them; none where it holds lists of pixels.

    Raises:
        InputError: the file is damaged.
    """
    type_ = columns(path).types[image]
    if not (type_ == "BLOB" or type_.startswith("STRUCT")):
        return set()
    return {encoding_of(content) for content, _ in _rows(path, image, image) if isinstance(content, bytes)} - {""}


def texts(path: Path, column: str) -> tuple[str, ...]:
    """The different texts in a column, of more than a thousand only so many."""
    with _connected(path) as connection:
        query = f"SELECT DISTINCT {_quoted(column)}::VARCHAR AS text FROM {_FILE} WHERE text IS NOT NULL LIMIT 1001"
        return tuple(sorted(text for (text,) in connection.execute(query, [_literal(path)]).fetchall()))


def count_rows(path: Path) -> int:
    """How many rows a Parquet file has.

    Raises:
        InputError: it is damaged, or has more than can be.
    """
    with _connected(path) as connection:
        row = connection.execute(f"SELECT count(*) FROM {_FILE}", [_literal(path)]).fetchone()
    count = int(row[0]) if row else 0
    if count > MAX_ROWS:
        raise InputError(f"{path} has more than {MAX_ROWS:,} rows")
    return count


def read_images(
    path: Path, image: str, label: str, shape: tuple[int, int, int], limit: int
) -> tuple[NDArray[np.uint8], list[int] | list[str]]:
    """Images [N, C, H, W] and labels of a Parquet file, in the file's order; labels are all numbers or all names.

    `image` is a column of encoded images, as bytes or as {bytes, path}, or of lists of pixels; `label` is one of whole
    numbers or of text. `shape` is (C, H, W), of which H and W have to be those of every image; `limit` bounds N.

    Raises:
        InputError: another type, size or number, a missing value, or a damaged file or image.
    """
    _check_unpacked(path, min(limit, count_rows(path)) * math.prod(shape))
    images_NCHW = np.empty((limit, *shape), np.uint8)
    labels: list[Any] = []
    lists: list[Any] = []
    for content, value in _rows(path, image, label):
        place = f"{path}, row {len(labels)}"
        if len(labels) == limit:
            raise InputError(f"{path} has more than {limit:,} rows")
        if type(content) not in (bytes, list, tuple) or type(value) not in (int, str):
            raise InputError(
                f"{place}: {image}.bytes has to be an image of at most 1 MiB, and {label} a whole number or a name"
            )
        if not isinstance(content, bytes):
            lists.append(_array(content, place))
        else:
            pixels_CHW = decode_image(content, place, shape[0])
            _check_size(pixels_CHW.shape, shape, place)
            images_NCHW[len(labels)] = pixels_CHW
        labels.append(value)
    if lists:
        found_NCHW = pixels.images_of(_array(lists, str(path)), f"{path}: {image}")
        _check_size(found_NCHW.shape[1:], shape, str(path))
        if found_NCHW.shape[1] != shape[0]:
            raise InputError(f"{path} holds images of {found_NCHW.shape[1]} channels, not {shape[0]}")
        return found_NCHW, labels
    return images_NCHW[: len(labels)], labels


def _check_size(found: Sequence[int], shape: tuple[int, int, int], place: str) -> None:
    if tuple(found[1:]) != shape[1:]:
        raise InputError(f"{place} is {found[2]}×{found[1]} pixels, not {shape[2]}×{shape[1]}")


def _array(values: Any, place: str) -> NDArray[Any]:
    """An array of lists in lists, all of one length."""
    try:
        found = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{place} has lists of pixels of different lengths") from error
    if found.dtype.kind not in "buif":
        raise InputError(f"{place} has lists of something else than pixels")
    return (
        found.astype(np.uint8)
        if found.dtype.kind in "bui" and found.size and 0 <= found.min() <= found.max() <= 255
        else found
    )


def _rows(path: Path, image: str, label: str) -> Iterator[tuple[Any, Any]]:
    """Image and label of each row; None for an image that is too large."""
    found = columns(path)
    type_ = found.types[image]
    value = f"{_quoted(label)}::VARCHAR" if found.is_text(label) else _quoted(label)
    content = f"{_quoted(image)}.bytes" if type_.startswith("STRUCT") else _quoted(image)
    size = "octet_length(content)" if type_ == "BLOB" or type_.startswith("STRUCT") else "len(content)"
    with _connected(path) as connection:
        if size.startswith("octet"):  # a value that is stored once may stand in every row
            query = f"SELECT sum({size}) FROM (SELECT {content} AS content FROM {_FILE})"
            total = connection.execute(query, [_literal(path)]).fetchone()
            _check_unpacked(path, int(total[0] or 0) if total else 0)
        cursor = connection.execute(
            f"SELECT CASE WHEN {size} <= {MAX_IMAGE_BYTES} THEN content END, label "
            f"FROM (SELECT {content} AS content, {value} AS label FROM {_FILE})",
            [_literal(path)],
        )
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield from rows


def _allowed(path: Path) -> int:
    return UNPACKED + UNPACKED_TIMES * path.stat().st_size


def _check_unpacked(path: Path, count: int) -> None:
    if count > _allowed(path):
        raise InputError(
            f"{path} would come to {count:,} bytes or values when unpacked, which is too much for its size"
        )


def _literal(path: Path) -> str:
    """A path as the database reads it, to which `?`, `*` and `[` are patterns: as those letters."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


@contextmanager
def _connected(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that can open this one file and nothing else, and keeps the order of its rows."""
    refuse_special(path)
    try:
        with duckdb.connect(":memory:") as connection:
            for setting, value in (
                ("threads", 1),
                ("enable_progress_bar", False),  # which it would draw on standard output
                ("preserve_insertion_order", True),
                ("memory_limit", f"{min(1000, 256 + 4 * path.stat().st_size // 10**6)}MB"),
                ("autoinstall_known_extensions", False),
                ("autoload_known_extensions", False),
                ("allowed_paths", [str(path), _literal(path)]),
                ("enable_external_access", False),
                ("lock_configuration", True),
            ):
                connection.execute(f"SET {setting} = ?", [value])
            announced = connection.execute(
                "SELECT max(total), sum(bytes) FROM (SELECT sum(num_values) AS total, sum(total_uncompressed_size) "
                "AS bytes FROM parquet_metadata(?) GROUP BY path_in_schema)", [_literal(path)],
            ).fetchone()  # fmt: skip
            for count in announced or ():
                _check_unpacked(path, int(count or 0))
            yield connection
    except duckdb.Error as error:
        # What the database says is about itself, in several lines, with places of this machine.
        raise InputError(
            f"{path} cannot be read as Parquet: it is damaged, or written in a form that is not read"
        ) from error


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

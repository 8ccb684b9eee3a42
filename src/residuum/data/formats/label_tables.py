"""Tables of labels beside images (`trainLabels.csv`): which column names images and which classes, by content."""

import codecs
import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from unicodedata import normalize

from residuum.data.formats.trees import suffix
from residuum.data.images import SUFFIXES
from residuum.errors import InputError
from residuum.records.storage import instead

MAX_ROWS, MAX_COLUMNS = 300_000, 1_000
"""What a table of labels may have."""
LABELS = (
    "label", "labels", "class", "class_name", "classname", "class_label", "category", "target", "species", "breed", "y",
    "label_name", "classes", "class_id", "label_id", "category_id",
)  # fmt: skip
"""What a column of labels is called, the likeliest first."""
SPLITS = ("split", "subset", "set", "partition", "usage")
"""What a column is called that says in which split an image is."""


@dataclass(frozen=True)
class Labels:
    """The labels that a table gives some images, by the path of each; how many of its rows name no image of these.

    `splits` says of each image what stands in the column of splits, empty if there is none.
    """

    table: str
    of: Mapping[str, str]
    splits: Mapping[str, str]
    others: int


def read_table(content: bytes, path: str) -> list[list[str]]:
    """The rows of a table of text, its cells parted by commas, semicolons or tabs; none if it is no such table.

    In a `.txt` file without any of these, spaces part them.

    Raises:
        InputError: it is in another encoding than UTF-8, or UTF-16 with its mark.
    """
    text = _text(content, path)
    first = text.partition("\n")[0]
    # Of those that part the first line, what parts it most.
    delimiter = max(",;\t", key=first.count) if not path.lower().endswith(".tsv") else "\t"
    if path.lower().endswith(".txt") and delimiter not in first:
        delimiter = " "
    if any(line.count(delimiter) >= MAX_COLUMNS for line in io.StringIO(text)):
        return []
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text), delimiter=delimiter):
            if row and len(row) != len((rows or [row])[0]):
                return []
            if len(rows) == MAX_ROWS:
                raise InputError(f"{path} has more than {MAX_ROWS:,} rows")
            if row:
                rows.append([cell.strip() for cell in row])
    except csv.Error:
        return []
    return rows if rows and len(rows[0]) > 1 else []


def _text(content: bytes, path: str) -> str:
    """A file of text, in UTF-8, or in UTF-16 as spreadsheets save it, with its mark."""
    if said := instead(content):
        raise InputError(f"{path} is {said}")
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not marked and b"\0" in content:
        raise InputError(f"{path} is text in UTF-16 without its mark (BOM), or no text; save it as UTF-8")
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is in another encoding than UTF-8; save it as UTF-8") from error


def labels_of(
    rows: Sequence[Sequence[str]], table: str, images: Sequence[str], top: str, *, known: Collection[str] = (),
    some: bool = False,
) -> Labels | None:  # fmt: skip
    """The labels that a table's rows give images; None if it is about something else.

    An image is named by its path from `top` on, by its file's name, or by that without its ending. `known` are classes
    that the labels are expected to be of; with `some` not all images need a row.

    Raises:
        InputError: it names most of them but not all, one twice, or the column of labels cannot be told.
    """
    keys = _keys(images, top)
    column, first = _image_column(rows, keys, some)
    if column is None:
        return None
    header = [] if first == 0 else [name.lower().replace(" ", "_") for name in rows[0]]
    found: dict[str, Sequence[str]] = {}
    for row in rows[first:]:
        image = keys.get(_key(row[column]))
        if image is not None:
            if image in found:
                raise InputError(f"{table} names {row[column]} twice")
            found[image] = row
    for image in () if some else images:
        if image not in found:
            raise InputError(f"{image} has no row in {table}")
    part = next((number for number, name in enumerate(header) if name in SPLITS and number != column), None)
    label = _label_column(found, header, {column, part}, table, known)
    if label is None:
        return None
    for image, row in found.items():
        if not row[label]:
            raise InputError(f"{table} names {image} without a label")
    return Labels(
        table,
        {image: normalize("NFC", row[label]) for image, row in found.items()},
        {} if part is None else {image: row[part].lower() for image, row in found.items()},
        len(rows) - first - len(found),
    )


def images_in(rows: Sequence[Sequence[str]], images: Sequence[str], top: str) -> list[str]:
    """The images that a table names, whatever it says of them."""
    keys = _keys(images, top)
    column, first = _image_column(rows, keys, some=True)
    found = (keys.get(_key(row[column])) for row in rows[first:]) if column is not None else ()
    return list(dict.fromkeys(image for image in found if image is not None))


def _keys(images: Sequence[str], top: str) -> dict[str, str | None]:
    """What may stand for each image; None what stands for two."""
    found: dict[str, str | None] = {}
    for image in images:
        name = image.rpartition("/")[2]
        for key in {image[len(top) + 1 :] if top else image, name, name[: -len(suffix(name))]}:
            key = normalize("NFC", key)
            found[key] = image if key not in found else None
    return found


def _key(cell: str) -> str:
    return normalize("NFC", cell.replace("\\", "/").removeprefix("./"))


def _image_column(rows: Sequence[Sequence[str]], keys: Mapping[str, str | None], some: bool) -> tuple[int | None, int]:
    """The column that names the images, None if none does, and the first row that is no heading.

    It names most of the images; `some` of them alone if most of its rows do.
    """
    best: tuple[tuple[int, bool], int, int] | None = None
    for number in range(len(rows[0])):
        if not rows[0][number] or rows[0][number].lower().startswith("unnamed"):
            continue  # the numbers of rows, as some programs write them
        known = [image for row in rows[1:] if (image := keys.get(_key(row[number]))) is not None]
        heading = keys.get(_key(rows[0][number])) is None
        count = len({*known}) + (not heading)
        if not count or len(known) > len({*known}) + len(known) // 2:  # labels that happen to be called as files are
            continue
        named = sum(suffix(row[number]) in SUFFIXES for row in rows[1:]) > len(rows) // 2
        if best is None or (count, named) > best[0]:
            best = (count, named), number, int(heading)
    images = {image for image in keys.values() if image is not None}
    if best is None or best[0][0] * 2 < (len(rows) - best[2] if some else len(images)):
        return None, 0
    return best[1], best[2]


def _label_column(
    found: Mapping[str, Sequence[str]], header: Sequence[str], taken: set[int | None], table: str,
    known: Collection[str],
) -> int | None:  # fmt: skip
    """The column of labels: the one that holds nothing but known classes, or one that is called so, or may be one.

    None if no column can be it.
    """
    columns = len(next(iter(found.values())))
    values = {number: {normalize("NFC", row[number]) for row in found.values()} for number in range(columns)}
    of_known = [number for number in range(columns) if number not in taken and values[number] <= {*known}]
    if len(of_known) == 1:
        return of_known[0]
    for name in LABELS:
        if name in header and header.index(name) not in taken:
            return header.index(name)
    if known:
        return None
    free = [number for number in range(columns) if number not in taken and (not header or header[number])]
    # A value of its own for nearly every image is a hash, a size or a remark, no class.
    likely = [number for number in free if 2 * len({row[number] for row in found.values()}) <= max(len(found), 4)]
    if len(likely) > 1:
        names = ", ".join(header[number] if header else str(number + 1) for number in likely)
        raise InputError(f"{table} has several columns that may be the labels: {names}; call one of them `label`")
    return likely[0] if likely else None

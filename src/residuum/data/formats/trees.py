"""The files below a folder or in an archive: their names, told apart from rubbish, and their bytes on demand."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from residuum.data.formats import files
from residuum.data.formats.files import Bounds, reading
from residuum.data.images import MAX_BYTES, SUFFIXES, read_bytes
from residuum.errors import InputError

MAX_DEPTH = 8
MAX_ENTRIES = 2_000_000
MAX_TABLE_BYTES = 64 * 2**20
MAX_DECOMPRESSED = 16 * 2**30

RUNS = "folders of runs"
RUN = {
    "checkpoints",
    "predictions",
    "environment.json",
    "metrics.jsonl",
    "steps.jsonl",
    "result.json",
    "test_reads.jsonl",
}
"""What tells a run folder, beside its configuration."""

RUBBISH_FOLDERS = {"__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found", "__pycache__"}
RUBBISH_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}


@dataclass(frozen=True)
class Folder:
    """A folder of a tree: its path within it (`""` for the whole), what lies in it by name, and why it is closed.

    `closed` says what such folders are where nothing in it can be data: hidden folders, folders of runs.
    """

    path: str
    folders: Mapping[str, "Folder"] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    closed: str = ""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def place(self, name: str) -> str:
        """The path of something in it."""
        return f"{self.path}/{name}" if self.path else name

    @cached_property
    def open_folders(self) -> tuple["Folder", ...]:
        """The folders in it that may hold data, in the order of their names."""
        return tuple(folder for _, folder in sorted(self.folders.items()) if not folder.closed)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """The paths of the images in it, in the order of their names; figures, which have an SVG twin, are none."""
        twins = {name[:-4] for name in self.files if name.lower().endswith(".svg")}
        return tuple(
            self.place(name) for name in self.files
            if suffix(name) in SUFFIXES and not is_rubbish(name) and name.rpartition(".")[0] not in twins
        )  # fmt: skip

    def walk(self) -> Iterator["Folder"]:
        """This folder and every open one below it."""
        yield self
        for folder in self.open_folders:
            yield from folder.walk()

    @cached_property
    def below(self) -> int:
        """How many images lie in it and below it."""
        return sum(len(folder.images) for folder in self.walk())


@dataclass(frozen=True)
class Tree:
    """The files below a folder, or in an archive."""

    root: Path
    top: Folder

    def read(self, wanted: Sequence[str], limit: int = MAX_BYTES) -> Iterator[tuple[str, bytes]]:
        """The files at some paths, of at most `limit` bytes each: in that order, or in that of an archive.

        Raises:
            InputError: one is missing, damaged or too large; StorageError: it cannot be read.
        """
        if not self.root.is_file():
            for path in wanted:
                yield path, read_bytes(self.root / path)
            return
        missing = set(wanted)
        bounds = Bounds(MAX_ENTRIES, MAX_DECOMPRESSED)
        for path, content in files.read_members(self.root, dict.fromkeys(wanted, limit), bounds):
            missing.discard(path)
            yield path, content
            if len(wanted) == 1:
                return
        if missing:
            raise InputError(f"{self.root / min(missing)} is missing")

    def sources(self, used: Sequence[str]) -> dict[str, Path]:
        """The files that hold what is used, by what each is taken for."""
        return {"archive": self.root} if self.root.is_file() else {path: self.root / path for path in used}


def tree(root: Path) -> Tree | None:
    """What lies at a path; None for a file that is no archive.

    Raises:
        InputError: more than there can be, or a damaged archive; StorageError: it cannot be read.
    """
    if root.is_dir():
        return Tree(root, _folder(root, "", (), [0]))
    if not root.is_file() or not files.is_archive(root):
        return None
    with reading(root):
        status = root.stat()
    return Tree(root, _packed(root, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@lru_cache(2)
def _packed(root: Path, *_seen: int) -> Folder:
    """What lies in an archive, which is decompressed once for all who ask, as long as it stays as it was seen."""
    names = files.member_names(root, Bounds(MAX_ENTRIES, MAX_DECOMPRESSED))
    return _nested("", [tuple(name.split("/")) for name in names], 0)


def suffix(name: str) -> str:
    """The ending of a file's name in lower case, with its dot; empty if it has none."""
    stem, dot, ending = name.rpartition(".")
    return f".{ending.lower()}" if dot and stem else ""


def is_rubbish(name: str) -> bool:
    """Whether a file of this name was left by a system or is hidden: it is no data, whatever its ending."""
    return name.startswith(".") or name.lower() in RUBBISH_FILES


def _left_by(name: str) -> str:
    if name.startswith("."):
        return "hidden folders"
    return "folders left by a system" if name.lower() in RUBBISH_FOLDERS else ""


def _closed(name: str, folders: set[str], names: set[str]) -> str:
    """What kind of folder it is if nothing in it can be data; empty if something can."""
    if left := _left_by(name):
        return left
    if "config.json" in names and (folders | names) & RUN:
        return RUNS
    if {"index.html", "report.md"} <= names:
        return "folders of reports"
    return "folders of a cache" if {"decoded", "index"} <= folders else ""


def _folder(root: Path, path: str, above: tuple[tuple[int, int], ...], count: list[int]) -> Folder:
    place = root / path
    if path and (left := _left_by(place.name)):  # not opened: it may not be ours to read
        return Folder(path, closed=left)
    with reading(place):
        status = place.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            return Folder(path, closed="links to folders above")
        with os.scandir(place) as entries:
            kinds = {entry.name: "folder" if entry.is_dir() else "file" if entry.is_file() else "" for entry in entries}
    count[0] += len(kinds)
    if count[0] > MAX_ENTRIES:
        raise InputError(f"{root} holds more than {MAX_ENTRIES:,} files and folders")
    folders = {name for name, kind in kinds.items() if kind == "folder"}
    names = {name for name, kind in kinds.items() if kind == "file"}
    closed = path and (
        _closed(place.name, folders, names) or ("folders too deep down" if len(above) > MAX_DEPTH else "")
    )
    if closed:
        return Folder(path, closed=closed)
    inner = {name: _folder(root, f"{path}/{name}" if path else name, (*above, here), count) for name in sorted(folders)}
    return _made(path, inner, names)


def _made(path: str, inner: Mapping[str, Folder], names: set[str]) -> Folder:
    """A folder; what is called `runs`, as where runs lie by default, and holds some, is closed with all in it."""
    if path.rpartition("/")[2] == "runs" and any(folder.closed == RUNS for folder in inner.values()):
        return Folder(path, closed=RUNS)
    return Folder(path, inner, tuple(sorted(names)))


def _nested(path: str, paths: Sequence[tuple[str, ...]], depth: int) -> Folder:
    """The folder that paths of files, each from there on, make."""
    names, below = set[str](), dict[str, list[tuple[str, ...]]]()
    for first, *rest in paths:
        if rest:
            below.setdefault(first, []).append(tuple(rest))
        elif first:
            names.add(first)
    name = path.rpartition("/")[2]
    closed = path and (_closed(name, set(below), names) or ("folders too deep down" if depth > MAX_DEPTH else ""))
    if closed:
        return Folder(path, closed=closed)
    inner = {name: _nested(f"{path}/{name}" if path else name, rest, depth + 1) for name, rest in below.items() if name}
    return _made(path, inner, names)

"""What is known of a data set besides its images: its name, its files and where they are found or published."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from residuum.data import cache
from residuum.data.dataset import AS_USUAL, Dataset, Reading, Split
from residuum.data.formats.files import reading
from residuum.errors import InputError, Remedy, volume
from residuum.records.storage import instead_at


@dataclass(frozen=True)
class Remote:
    """A published file: its name, its size in bytes, its published MD5, and where to get it, in order."""

    file: str
    size: int
    md5: str
    urls: tuple[str, ...]

    @classmethod
    def at(cls, file: str, size: int, md5: str, *places: str) -> Self:
        """A file that each of some places has under its own name."""
        return cls(file, size, md5, tuple(f"{place}/{file}" for place in places))


@dataclass(frozen=True, eq=False)
class TestImages:
    """Images to be scored on: a split, the names of its classes, and how it was read."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    classes: tuple[str, ...]
    split: Split
    reading: Reading = AS_USUAL


@dataclass(frozen=True)
class Spread:
    """A standard deviation `sd` of a measure over seeds, in points, that is known before there are runs.

    It is that of runs of `epochs` or more on all images of the data set, and of no others: shorter ones spread more.
    """

    sd: float
    epochs: int


@dataclass(frozen=True)
class Entry:
    """A row of the table of data sets: all that is known of one, `ENTRY` in its file.

    `load(root, *, settings)` reads it. Either `remotes` are its published files, or `no_download` says why there are
    none. `published` are the counts of training and test images with which it is published, `shape` is their form
    (C, H, W), and `classes(*, settings)` gives the names of their classes. `spread` is what is known of the spread of
    measures over seeds before there are runs. `lies_at(path)` tells whether it lies there, by content; data sets that
    any files of a kind may be are `general` and are asked last, the higher the later. `test_at(path, shape)` gives the
    test images that lie at a path, for a network that takes images of a shape
    (C, H, W), also where no training images lie beside them; None if there is no trace of any.
    """

    name: str
    load: Callable[..., Dataset]
    remotes: tuple[Remote, ...] = ()
    no_download: str = ""
    published: tuple[int, int] | None = None
    shape: tuple[int, int, int] | None = None
    classes: Callable[..., Sequence[str]] = tuple
    spread: Mapping[str, Spread] = field(default_factory=dict)
    lies_at: Callable[[Path], bool] = lambda _path: False
    general: int = 0
    test_at: Callable[[Path, tuple[int, int, int]], TestImages | None] = lambda _path, _shape: None


class MissingError(InputError):
    """A published data set whose files are not here."""


@contextmanager
def told_where(remotes: Sequence[Remote]) -> Iterator[None]:
    """Say of a data set that is not here where it is published."""
    try:
        yield
    except MissingError as error:
        size = volume(sum(one.size for one in remotes))
        places = [one.urls[0] for one in remotes]
        at = places[0] if len(places) == 1 else places[0].rpartition("/")[0]
        raise MissingError(f"{error.text}; it is published at {at} ({size})", remedies=error.remedies) from error


@dataclass(frozen=True)
class Source:
    """The files that hold a data set, by what each is taken for, the function that decodes them, and how it reads."""

    files: Mapping[str, Path]
    decode: Callable[[], Dataset]
    reading: Reading = AS_USUAL


Locate = Callable[[Path], Source | None]
"""Finds a data set of one kind in a file or folder: None if there is no trace of it.

Raises:
    InputError: it is there, but not whole.
"""


def found_by(locate: Locate) -> Callable[[Path], bool]:
    """Whether a function that locates a data set finds it at a path; one that is not whole lies there too."""

    def lies_at(path: Path) -> bool:
        try:
            return locate(path) is not None
        except InputError:  # loading says what is wrong
            return True

    return lies_at


@contextmanager
def told_instead(place: Path) -> Iterator[None]:
    """Say of what cannot be read at a place if it is something else than its name promises, as a web page."""
    try:
        yield
    except InputError as error:
        said = instead_at(place)
        if said and said not in error.text:
            raise InputError(f"{error.text}; {said}", argument=error.argument, remedies=error.remedies) from error
        raise


def load_files(
    name: str,
    root: Path | None,
    locate: Locate,
    bring: str,
    settings: Mapping[str, Any] | None = None,
) -> Dataset:
    """The data set that lies at `root`, or among the downloads if no root is given, through the cache.

    `bring` says in words which files hold it; `settings` are those that change what is decoded.

    Raises:
        MissingError: no root is given, and it is not among the downloads.
        InputError: it is not there, not whole, or damaged.
        StorageError: it cannot be read, or the cache cannot be written.
    """
    if root is not None and not root.exists():
        raise InputError(f"data.root: {root} does not exist")
    place = cache.downloads(name) if root is None else root
    with reading(place), told_instead(place):
        source = locate(place) if place.exists() else None
    if source is None:
        if (said := instead_at(place)) and root is not None:
            raise InputError(said)
        if root is not None:
            raise InputError(f"{root} holds no {name}: bring {bring}")
        text = f"{name} is not here: bring {bring} to {place}"
        raise MissingError(text, remedies=[Remedy("data here"), Remedy("fetch", name)])
    with told_instead(place):
        dataset = cache.cached(name, settings or {}, source.files, source.decode)
    return replace(dataset, reading=source.reading)

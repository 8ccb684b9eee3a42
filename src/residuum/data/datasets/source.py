"""Where a data set lies: the files that hold it and how they are decoded, or the line that says what to bring."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residuum.data import cache
from residuum.data.dataset import Dataset
from residuum.data.formats.files import reading
from residuum.errors import InputError


@dataclass(frozen=True)
class Source:
    """The files that hold a data set, by what each is taken for, and the function that decodes them."""

    files: Mapping[str, Path]
    decode: Callable[[], Dataset]


Locate = Callable[[Path], Source | None]
"""Finds a data set of one kind in a file or folder: None if there is no trace of it.

Raises:
    InputError: it is there, but not whole.
"""


def load_files(
    name: str, root: Path | None, locate: Locate, bring: str, settings: Mapping[str, Any] | None = None
) -> Dataset:
    """The data set that lies at `root`, or among the downloads if no root is given, through the cache.

    `bring` says in words which files hold it; `settings` are those that change what is decoded.

    Raises:
        InputError: it is not there, not whole, or damaged.
        StorageError: it cannot be read, or the cache cannot be written.
    """
    if root is not None and not root.exists():
        raise InputError(f"data.root: {root} does not exist")
    place = cache.downloads(name) if root is None else root
    with reading(place):
        source = locate(place) if place.exists() else None
    if source is None:
        if root is not None:
            raise InputError(f"{root} holds no {name}: bring {bring}")
        raise InputError(
            f"{name} is not here: run `residuum data fetch {name}`, or bring {bring} to {place}, or set data.root"
        )
    return cache.cached(name, settings or {}, source.files, source.decode)

"""Runs that lie in a store: what a command reads is brought here before it, and what it added goes back after it."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from residuum.cli.options import RUNS
from residuum.errors import ResiduumError

if TYPE_CHECKING:
    from residuum.records.mirror import Listed, Store

AT_A_TIME = 16
"""Folders that are brought here at a time: most of it is waiting."""


@contextmanager
def brought(options: argparse.Namespace) -> Iterator[None]:
    """For a command that reads runs of a store: what it needs lies in the folder that `options.runs` then is.

    That folder is one in the cache unless the user named another. A command that computes takes care of its own.

    Raises:
        InputError: no store, or no such run in it.
        StorageError: the store cannot be reached.
    """
    if getattr(options, "store", None) is None or options.store_reads is None:
        yield
        return
    from residuum.data import cache
    from residuum.records import mirror

    store = mirror.store_of(options.store)
    own = options.runs is RUNS
    if own:
        options.runs = cache.folder() / "stores" / sha256(store.url.encode()).hexdigest()[:16]
    if options.store_reads:
        written = [*dict.fromkeys(_named(store, options))]
        mirror.note_going(store, options.runs, written)
    else:
        there = mirror.folders(store)
        bring(store, options.runs, there)
        mirror.note_going(store, options.runs, there)
        if own:
            _drop(options.runs, there)
        written = [name for name in there if "/" in name]  # a study notes its readings, and may have a report now
    try:
        yield
    except ResiduumError:
        with suppress(ResiduumError):
            mirror.give(store, options.runs, written)
        raise
    mirror.give(store, options.runs, written)


def _named(store: Store, options: argparse.Namespace) -> Iterator[str]:
    """Bring the runs that a command names here; yields their names, which take the place of what the user wrote."""
    from residuum.records import mirror, run_folder

    there = mirror.names(store)

    def name_of(text: str) -> str:
        return text if (Path(text) / run_folder.CONFIG).exists() else match_in(store, text, there)

    for option in options.store_reads:
        given = getattr(options, option)
        if given is None:
            continue
        texts: Any = [name_of(text) for text in given] if isinstance(given, list) else name_of(given)
        setattr(options, option, texts)
        for name in [texts] if isinstance(texts, str) else texts:
            if name in there:
                mirror.pull(store, name, options.runs / name, weights=options.store_weights)
                yield name


def match_in(store: Store, text: str, there: Sequence[str]) -> str:
    """Which of the runs in a store a text means; where it may mean several, their records are looked at for that.

    Raises:
        InputError: none, or several.
    """
    from residuum.records import mirror
    from residuum.records.record import match

    with TemporaryDirectory() as place:

        def looked_at(names: Sequence[str]) -> list[Path]:
            for name in names:
                mirror.pull(store, name, Path(place, name), weights=False)
            return [Path(place, name) for name in names]

        return match(text, there, store.url, looked_at)


def bring(store: Store, runs: Path, there: dict[str, Listed]) -> None:
    """Bring the records of folders here, many at a time."""
    from concurrent.futures import ThreadPoolExecutor

    from residuum.records import mirror

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        waiting = [pool.submit(partial(mirror.pull, store, name, runs / name, files, weights=False))
                   for name, files in there.items()]  # fmt: skip
        for one in waiting:
            one.result()


def _drop(runs: Path, there: Iterable[str]) -> None:
    """Drop copies of folders that the store has no more."""
    from residuum.records import mirror

    kept = {runs / name for name in there}
    places = [runs, *(runs / name for name in mirror.FOLDERS_OF_FOLDERS)]
    for folder in [one for place in places if place.is_dir() for one in place.iterdir()]:
        if folder not in kept and folder not in places:
            shutil.rmtree(folder, ignore_errors=True)

"""Frames: runs, epochs and arms as rows of plain values, for pandas, polars, or whoever takes a list of mappings."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from residuum.analysis.results import results
from residuum.errors import InputError, lacking, unknown
from residuum.networks.names import short_name
from residuum.records.measures import MEASURES
from residuum.records.record import RunRecord, find_runs, read_record
from residuum.studies import plan as plans

Of = Literal["runs", "epochs", "arms"]
Library = Literal["auto", "pandas", "polars", "none"]


def table(of: Of, runs: Path, study: str = "", library: Library = "auto") -> Any:
    """Rows of runs, of their epochs, or of the arms of studies, as a DataFrame; with `none` a list of mappings.

    `study` keeps those of one study, by its name or label. Runs that stand in several studies have the one last
    written. `auto` is pandas, else polars, whichever is installed.

    Raises:
        InputError: another kind of row, a library that is not there, a study that was not run here, a damaged run.
    """
    if of not in get_args(Of):
        raise unknown("kind of row", str(of), get_args(Of), argument="of")
    if library not in get_args(Library):
        raise unknown("library", str(library), get_args(Library), argument="library")
    chosen = _installed() if library == "auto" else library
    rows = list(ROWS[of](runs, study))
    if chosen == "none":
        return rows
    if importlib.util.find_spec(chosen) is None:
        raise lacking(f"library={chosen!r}", chosen, "frames")
    columns = dict.fromkeys(key for row in rows for key in row)
    return import_module(chosen).DataFrame({key: [row.get(key) for row in rows] for key in columns})


def _installed() -> str:
    found = next((name for name in ("pandas", "polars") if importlib.util.find_spec(name)), None)
    if found is None:
        raise lacking("a DataFrame", "pandas or polars", "frames")
    return found


def _study(name: str, runs: Path) -> Path:
    """The folder of a study that was run here.

    Raises:
        InputError: there is none; one that says so where the name is meant for another argument.
    """
    try:
        return plans.find(name, runs)
    except InputError:
        if Path(name).is_dir():
            text = f"{name!r} is a folder, and the first argument is the name of a study; runs={name!r} reads a folder"
            raise InputError(text, argument="study") from None
        if name in get_args(Of):
            raise InputError(f"no study {name!r} was run; rows are chosen by of={name!r}", argument="study") from None
        raise


def _chosen(runs: Path, study: str) -> Iterator[tuple[RunRecord, dict[str, Any]]]:
    """The records that are asked for, each with what says which run it is."""
    label = _study(study, runs).name if study else ""
    places = plans.places(runs)
    for folder in find_runs(runs):
        mine = [place for place in places.get(folder.name, ()) if label in ("", place.study)]
        if study and not mine:
            continue
        record, place = read_record(folder), mine[0] if mine else None
        config = record.config
        yield record, {
            "run": record.id, "study": place.study if place else None, "arm": place.arm if place else None,
            "seed": config.train.seed, "status": record.status, "recipe": record.recipe,
            "model": short_name(config.model), "data": config.data.dataset.name, "folder": str(folder),
        }  # fmt: skip


def _runs(runs: Path, study: str) -> Iterator[dict[str, Any]]:
    for record, head in _chosen(runs, study):
        measured = {one.name: one.of(record) for one in MEASURES.values() if not one.slow}
        yield {**head, "epochs": len(record.epochs), "epochs_asked": record.config.train.epochs, **measured}


def _epochs(runs: Path, study: str) -> Iterator[dict[str, Any]]:
    for record, head in _chosen(runs, study):
        for row in record.epochs:
            values: dict[str, Any] = {key: head[key] for key in ("run", "study", "arm", "seed", "model")}
            values |= {"epoch": row.epoch, "step": row.step, "lr": row.lr}
            for split in ("train", "validation", "test"):
                scores = getattr(row, split)
                values[f"{split}_loss"] = scores.loss if scores else None
                values[f"{split}_error"] = 100 * (1 - scores.accuracy) if scores else None
            yield values | {"seconds": row.seconds, "images_per_second": row.images_per_second}


def _arms(runs: Path, study: str) -> Iterator[dict[str, Any]]:
    folders: Sequence[Path] = [_study(study, runs)] if study else [*plans.plans(runs)]
    for folder in folders:
        found = results(plans.read(folder), runs)
        for summaries in found.summaries.values():
            for one in summaries:
                values = {key: value for key, value in asdict(one).items() if key != "values"}
                yield {"study": found.plan.label, **values}


ROWS: Mapping[Of, Callable[[Path, str], Iterator[dict[str, Any]]]] = {"runs": _runs, "epochs": _epochs, "arms": _arms}

"""Whole: whether what lies beside a study's plan is what was written there, and all of it."""

from collections.abc import Iterator
from pathlib import Path

from residuum.errors import InputError, tally
from residuum.records import integrity, rows, run_folder
from residuum.studies import plan as plans
from residuum.studies.chosen import CHOSEN
from residuum.studies.plan import LOOKS, PLAN, REPORT
from residuum.studies.prespecified import PRESPECIFIED, READINGS, read, readings


def damage(folder: Path) -> list[str]:
    """One line for each file of a study's folder that is not as it was written, or that is missing; it names the file.

    A row of readings that was cut counts as damaged: each is on the disk before its reading is told.
    """
    found = [*integrity.files_damage(folder), *_missing(folder)]
    if rows.is_torn(folder / READINGS):
        found.append(f"{folder / READINGS} is damaged: its last row was cut")
    return [run_folder.without_path(folder, line) for line in dict.fromkeys(found)]


def _missing(folder: Path) -> Iterator[str]:
    """The files that are not there, or empty, though others say that there was something in them."""
    # Asked by name: what others who work here are writing under a name of its own comes and goes.
    there = {name for name in (PLAN, PRESPECIFIED, READINGS, LOOKS, CHOSEN, REPORT) if _holds(folder / name)}
    if PLAN not in there:
        yield f"{folder / PLAN} is missing"
    if PRESPECIFIED not in there:
        yield f"{folder / PRESPECIFIED} is missing: nothing was promised, or its record was taken away"
    if READINGS not in there and REPORT in there:
        yield f"{folder / READINGS} is missing, though the verdicts were reported"
    elif LOOKS not in there and _looked(folder):
        yield f"{folder / LOOKS} is missing, though looks were made"
    if CHOSEN not in there and (read_of := _read_of(folder)):
        yield (
            f"{folder / CHOSEN} is missing, and the test set was read in {tally(read_of, 'run')}: for something else, "
            "or the record of the choice was taken away"
        )


def _holds(path: Path) -> bool:
    try:
        return path.is_dir() or path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _looked(folder: Path) -> bool:
    try:
        promised = read(folder)
    except InputError:  # which is among what is damaged
        return False
    return bool(promised and promised.looks and any(one.planned for one in readings(folder)))


def _read_of(folder: Path) -> int:
    """Of how many runs of a study that chooses an arm the test set was read."""
    try:
        plan = plans.read(folder)
    except InputError:
        return 0
    if plan.study.select == "none":
        return 0
    found = (run_folder.result_of(folder.parents[1] / run.folder) for run in plan.runs)
    return sum(one is not None and not one.is_unread for one in found)

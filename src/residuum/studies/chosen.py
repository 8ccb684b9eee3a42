"""Chosen: the arm that a study's validation images chose, for which the test set is read; written down before that.

It stands beside the plan and is made once: a second choice, after more seeds, would read the test set again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from residuum.errors import InputError
from residuum.records import storage

CHOSEN = "chosen.json"


@dataclass(frozen=True)
class Chosen:
    """The arm with the lowest mean validation error (%) over these seeds, and the one it is held against in the test.

    `validation` has that mean of every arm that could be chosen. `read_before` of all the study's `runs` had been read
    on the test set by then, for something else.
    """

    time: str
    arm: str
    baseline: str
    seeds: tuple[int, ...]
    validation: Mapping[str, float]
    runs: int
    read_before: int


def write(chosen: Chosen, folder: Path) -> None:
    """Write the choice into the folder of a study."""
    storage.write_json(folder / CHOSEN, asdict(chosen))


def read(folder: Path) -> Chosen | None:
    """The choice in the folder of a study, None where none was made yet.

    Raises:
        InputError: it is damaged.
    """
    path = folder / CHOSEN
    if not path.exists():
        return None
    values = storage.read_json(path)
    try:
        return Chosen(**{**values, "seeds": tuple(values["seeds"])})
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error

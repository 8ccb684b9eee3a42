"""A loss surface beside a run: one file of rows that grows point by point, so a stopped computation goes on.

The first row says which grid it is, every other one is a point in the order of the grid.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residuum.errors import InputError
from residuum.records import rows, storage
from residuum.records.regular import refuse_link

FOLDER = "surfaces"

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Where a loss is taken: `points` steps from -`span` to `span` along each of one or two random directions.

    `images` training images are averaged over. `points` is odd, so that the trained network is the middle one.
    """

    dimensions: int
    points: int
    span: float
    images: int
    seed: int
    which: str
    epoch: int

    @property
    def name(self) -> str:
        """A name that no other grid of the run has."""
        return (
            f"{self.which}-{self.dimensions}d-{self.points}-span{self.span:g}-images{self.images}-seed{self.seed}"
            f"-epoch{self.epoch:04d}"
        )

    @property
    def settings(self) -> tuple[Any, ...]:
        """All but the epoch: grids of two runs that agree in it can be set side by side."""
        return self.dimensions, self.points, self.span, self.images, self.seed, self.which

    @property
    def total(self) -> int:
        """How many points the grid has."""
        return int(self.points**self.dimensions)

    @property
    def axis_P(self) -> Values:
        """The steps along a direction; its middle one is exactly 0."""
        half = self.points // 2
        return self.span * np.arange(-half, half + 1) / half

    def place(self, number: int) -> tuple[float, ...]:
        """The steps along the directions of the `number`-th point; the last direction goes fastest."""
        where = np.unravel_index(number, (self.points,) * self.dimensions)
        return tuple(float(self.axis_P[index]) for index in where)


@dataclass(frozen=True, eq=False)
class Surface:
    """Mean cross-entropy and accuracy at every point of a grid, [P] or [P, P]; NaN where it is not finite or not there.

    The last axis is the second direction.
    """

    grid: Grid
    loss: Values
    accuracy: Values


def path_of(folder: Path, grid: Grid) -> Path:
    """The file of a grid in a run folder."""
    return folder / FOLDER / f"{grid.name}.jsonl"


def read_all(folder: Path) -> tuple[list[Surface], list[str]]:
    """The whole surfaces in a run folder, in the order of their names, and a line for each file that is damaged."""
    found, damaged = [], []
    for path in sorted((folder / FOLDER).glob("*.jsonl")):
        try:
            there = rows.read_rows(path)
            head = there[0] if there else {}
            grid = Grid(**{key: value for key, value in head.items() if key != "point"})
            if path_of(folder, grid) != path:
                raise _headless(path)
            if len(there) == 1 + grid.total:
                found.append(_surface(path, grid, there))
        except (TypeError, ValueError):
            damaged.append(str(_headless(path)))
        except InputError as error:
            damaged.append(str(error))
    return found, damaged


def begin(folder: Path, grid: Grid) -> tuple[rows.Rows, int]:
    """The open file of a grid, and how many of its points are there already; from a damaged one on, none is.

    Raises:
        InputError: the file is of another grid.
        StorageError: the file cannot be written.
    """
    path = path_of(folder, grid)
    with storage.storing(path):
        refuse_link(path.parent)
        path.parent.mkdir(exist_ok=True)
    try:
        rows.keep(path, "point", grid.total - 1)
        there = rows.read_rows(path)
        if there and there[0] != _head(grid):
            raise _headless(path)
    except InputError as error:
        raise InputError(f"{error}; delete the file to compute it anew") from error
    file = rows.Rows(path)
    if not there:
        file.add(_head(grid))
    return file, max(0, len(there) - 1)


def row(point: int, loss: float, accuracy: float) -> dict[str, Any]:
    """A point as a row; JSON has no infinity, so a loss that is not finite is none."""
    return {"point": point, "loss": loss if np.isfinite(loss) else None, "accuracy": accuracy}


def read(folder: Path, grid: Grid) -> Surface:
    """What is there of a grid.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = path_of(folder, grid)
    return _surface(path, grid, rows.read_rows(path))


def _head(grid: Grid) -> dict[str, Any]:
    return {"point": -1, **asdict(grid)}


def _headless(path: Path) -> InputError:
    return InputError(f"{path} is damaged: it does not begin with its grid")


def _surface(path: Path, grid: Grid, rows: Sequence[dict[str, Any]]) -> Surface:
    """The rows of a file as a surface, as far as they go."""
    if not rows or rows[0] != _head(grid):
        raise _headless(path)
    loss, accuracy = np.full((2, grid.total), np.nan)
    try:
        for one in rows[1:]:
            loss[one["point"]] = np.nan if one["loss"] is None else one["loss"]
            accuracy[one["point"]] = one["accuracy"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    shape = (grid.points,) * grid.dimensions
    return Surface(grid, loss.reshape(shape), accuracy.reshape(shape))

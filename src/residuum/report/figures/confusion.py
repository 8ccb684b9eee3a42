"""Confusion matrices: rows are true classes, columns predicted ones; of two runs also their difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from residuum.analysis import per_class as analysis
from residuum.analysis.per_class import Predictions
from residuum.errors import InputError
from residuum.report import style

NUMBERED, NAMED = 20, 45
"""Most classes with a number in each cell, and most with their names on the axes: more would not be readable."""

LISTED = 12
"""Cells that are listed where the matrix has no numbers, and of differences."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """One run: counts and shares of the row (NaN for a class without images), and the share of all that is right."""

    label: str
    counts_KK: NDArray[np.int64]
    shares_KK: NDArray[np.float64]
    accuracy: float


@dataclass(frozen=True, eq=False)
class Confusion:
    """What the figure shows. The difference, of two runs only, is first minus second in points of the row's share."""

    classes: tuple[str, ...]
    matrices: tuple[Matrix, ...]
    difference_KK: NDArray[np.float64] | None


def data(runs: Mapping[str, Predictions]) -> Confusion:
    """The confusion matrices of one or two runs by their labels.

    Raises:
        InputError: more runs, or two that were not scored on the same images.
    """
    found = list(runs.values())
    if len(found) > 2:
        raise InputError(f"{len(found)} runs: a confusion matrix shows one run, or compares two")
    if any(one.classes != found[0].classes or not np.array_equal(one.labels_N, found[0].labels_N) for one in found):
        raise InputError(f"{' and '.join(runs)} were not scored on the same test images")
    counts = {label: analysis.confusion(one) for label, one in runs.items()}
    matrices = tuple(
        Matrix(label, counts[label], analysis.row_shares(counts[label]), one.accuracy) for label, one in runs.items()
    )
    difference_KK = 100 * (matrices[0].shares_KK - matrices[1].shares_KK) if len(matrices) == 2 else None
    return Confusion(found[0].classes if found else (), matrices, difference_KK)


TITLE = 0.75
"""The room of a title in letters of 9 points, where its own are of 12."""


def draw(confusion: Confusion) -> Figure:
    """The matrices on one scale of colour, the difference under them, and the largest cells as a list."""
    k, matrices, difference_KK = len(confusion.classes), confusion.matrices, confusion.difference_KK
    side, lists = min(7.0, max(2.6, 0.46 * k)), _lists(confusion)
    widths = [side + 1.7] * max(1, len(matrices))
    if lists and difference_KK is None:
        widths.append(4.0)
    rows = 1 if difference_KK is None else 2
    with style.styled():
        figure = Figure(figsize=(sum(widths), rows * (side + 1.5)), layout="constrained")
        grid = figure.subplots(rows, len(widths), squeeze=False, width_ratios=widths).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, matrix in zip(grid, matrices, strict=False):
            image = _matrix(axes, matrix.shares_KK, confusion.classes, colormaps["Blues"], PowerNorm(0.5, 0, 1))
            label = style.literal(style.fitted(matrix.label, TITLE * (side + 1.2)))
            axes.set_title(f"{label}\n{matrix.accuracy:.2%} of {matrix.counts_KK.sum():,} right")
            if k <= NUMBERED:
                cells = zip(matrix.counts_KK, matrix.shares_KK, strict=True)
                _numbers(axes, image, [[_cell(*cell) for cell in zip(*row, strict=True)] for row in cells])
        if matrices:
            ticks = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)
            bar = figure.colorbar(image, ax=grid[len(matrices) - 1], fraction=0.05)
            bar.set_ticks(ticks, labels=[f"{tick:.0%}" for tick in ticks])
            bar.set_label("share of the true class")
        if difference_KK is not None:
            _difference(figure, grid[2], confusion, difference_KK, TITLE * side)
        if lists:
            text = "\n\n".join("\n".join(lines) for lines in lists)
            grid[-1].text(0, 1, text, va="top", fontsize=9, linespacing=1.4, transform=grid[-1].transAxes)
    return figure


def _cell(count: int, share: float) -> str:
    return f"{count:,}\n{share:.1%}" if count else ""


def _difference(
    figure: Figure, axes: Axes, confusion: Confusion, difference_KK: NDArray[np.float64], room: float
) -> None:
    limit = max(1.0, float(np.nanmax(np.abs(difference_KK))))
    image = _matrix(axes, difference_KK, confusion.classes, colormaps["PuOr_r"], Normalize(-limit, limit))
    first, second = (style.literal(style.fitted(matrix.label, room)) for matrix in confusion.matrices)
    axes.set_title(f"difference: {first}\nminus {second}")
    if len(confusion.classes) <= NUMBERED:
        _numbers(axes, image, [[_signed(value) for value in row] for row in difference_KK])
    figure.colorbar(image, ax=axes, fraction=0.05).set_label("difference of the shares (points)")


def _matrix(
    axes: Axes, values_KK: NDArray[np.float64], classes: Sequence[str], colours: Colormap, norm: Normalize
) -> AxesImage:
    """Draw one matrix with its axes; a class without images is a grey row."""
    axes.set_axis_on()
    image = axes.imshow(values_KK, cmap=colours.with_extremes(bad="0.8"), norm=norm, interpolation="nearest")
    axes.grid(visible=False)
    axes.set_ylabel("true class")
    axes.set_xlabel("predicted class")
    k = len(classes)
    if k <= NAMED:
        names, size = [style.literal(style.short(name, 18)) for name in classes], 9 if k <= NUMBERED else 7
        axes.set_yticks(range(k), labels=names, fontsize=size)
        axes.set_xticks(range(k), labels=names, fontsize=size, rotation=90)
    for at in np.flatnonzero(np.isnan(values_KK).all(axis=1)) if k <= NAMED else ():
        axes.text((k - 1) / 2, float(at), "no images", ha="center", va="center", fontsize=7)
    return image


def _numbers(axes: Axes, image: AxesImage, texts: Sequence[Sequence[str]]) -> None:
    """Write a text into each cell, in black or white, whichever stands out from its colour."""
    colours_KK4 = image.to_rgba(np.asarray(image.get_array()))
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            red, green, blue, _ = colours_KK4[row, column]
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color="white" if dark else "black")


def _signed(points: float) -> str:
    return "" if np.isnan(points) or not points else f"{points:+.1f}".replace("-", "−")


def _lists(confusion: Confusion) -> list[list[str]]:
    """Lines about the largest cells: of matrices without numbers, and of the difference."""
    classes, difference_KK, made = confusion.classes, confusion.difference_KK, []
    for matrix in confusion.matrices if len(classes) > NUMBERED else ():
        worst = analysis.most_confused(matrix.counts_KK, classes, LISTED)
        lines = [f"{_arrow(classes, one.true, one.predicted)}: {one.count} ({one.share:.1%})" for one in worst]
        label = f"{style.literal(matrix.label)}: " if difference_KK is not None else ""
        made.append([f"{label}{'most confused, true → predicted' if lines else 'no mistakes'}", *lines])
    if difference_KK is not None:
        mistakes_KK = np.abs(difference_KK * (1 - np.eye(len(classes))))
        largest_M = np.argsort(-mistakes_KK, axis=None, kind="stable")[:LISTED]
        cells = [divmod(int(at), len(classes)) for at in largest_M]
        lines = [f"{_arrow(classes, classes[true], classes[predicted])}: {by}" for true, predicted in cells
                 if true != predicted and (by := _signed(float(difference_KK[true, predicted])))]  # fmt: skip
        made.append(["mistakes that differ most, true → predicted, in points" if lines else "no differences", *lines])
    return made


def _arrow(classes: Sequence[str], true: str, predicted: str) -> str:
    """A pair of classes; with their numbers where the axes have no names."""
    pair = (true, predicted)
    texts = [style.short(name, 20) + (f" ({classes.index(name)})" if len(classes) > NAMED else "") for name in pair]
    return style.literal(" → ".join(texts))

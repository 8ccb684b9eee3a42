"""Images before and after each augmentation, normalisation and mixing."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from residuum.registry import Choice
from residuum.report import style
from residuum.report.figures import choices

Picture = NDArray[np.float32]

MARGIN, LABEL, TILE, GAP, HEAD = 14.0, 104.0, 44.0, 5.0, 46.0
"""Points: border of the page, names, images, the space between them, and the heading of a part."""
TILES = 5
"""Images in a row."""


@dataclass(frozen=True, eq=False)
class Row:
    """One row of images with what is written beside it, and below each image where there is something to say.

    Pictures are float32 [H, W, 1 or 3] in [0, 1]; without any the text says why.
    """

    name: str
    text: str
    pictures: tuple[Picture, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one kind under a heading."""

    heading: str
    rows: tuple[Row, ...]


def augmentation(
    applied: Sequence[Choice], before_CHW: NDArray[np.uint8], after_ECHW: Picture, epochs: Sequence[int]
) -> Row:
    """A training image, and what one augmentation or several in a row made of it in some epochs; clipped to [0, 1]."""
    if len(applied) == 1:
        name, text = applied[0].name, choices.settings(applied[0])
    else:
        name, text = "all in this order", ", ".join(choice.name for choice in applied)
    after = [_picture(np.clip(image_CHW, 0, 1)) for image_CHW in after_ECHW]
    return Row(name, text, (_original(before_CHW), *after), ("before", *(f"epoch {epoch + 1}" for epoch in epochs)))


def refused(choice: Choice, reason: str) -> Row:
    """An augmentation that these images cannot have."""
    return Row(choice.name, reason, (), ())


def normalisation(choice: Choice, before_NCHW: NDArray[np.uint8], after_NCHW: Picture) -> Row:
    """The first images before and after a normalisation: of all values the smallest is black, the largest white."""
    low, high = float(after_NCHW.min()), float(after_NCHW.max())
    text = f"{_short(low)} to {_short(high)}\nmean {_short(after_NCHW.mean())}, std {_short(after_NCHW.std())}"
    scaled_NCHW = (after_NCHW - low) / ((high - low) or 1)
    pairs = list(zip(before_NCHW, scaled_NCHW, strict=True))[: TILES // 2]
    pictures = [picture for before, after in pairs for picture in (_original(before), _picture(after))]
    return Row(choice.name, text, tuple(pictures), ("before", "after") * len(pairs))


def mixing(
    choice: Choice, first: NDArray[np.uint8], second: NDArray[np.uint8], share: float, mixed: Picture,
    labels: tuple[str, str],
) -> Row:  # fmt: skip
    """Two images [C, H, W] with their labels, and what was made of them; `share` is λ, that of the first."""
    captions = (f"{labels[0]}\n{share:.2f}", f"{labels[1]}\n{1 - share:.2f}", f"mixed\nλ = {share:.2f}")
    pictures = (_original(first), _original(second), _picture(np.clip(mixed, 0, 1)))
    return Row(choice.name, choices.settings(choice), pictures, captions)


def _short(value: float) -> str:
    """A value to two decimals or three digits, without a sign before 0."""
    return f"{round(float(value), 2) + 0.0:.3g}".replace("-", "−")


def _original(image_CHW: NDArray[np.uint8]) -> Picture:
    return _picture(image_CHW.astype(np.float32) / np.float32(255))


def _picture(image_CHW: Picture) -> Picture:
    return np.ascontiguousarray(image_CHW.transpose(1, 2, 0))


def draw(parts: Sequence[Part]) -> Figure:
    """The parts one below the other, the rows of each in two columns that are read one after the other."""
    half = LABEL + TILES * (TILE + GAP)
    page = 2 * MARGIN + 2 * half + 2 * GAP
    depths = [-(-len(part.rows) // 2) for part in parts]
    height = MARGIN + sum(HEAD + depth * _step(part) for part, depth in zip(parts, depths, strict=True))
    with style.styled():
        figure = Figure(figsize=(page / 72, height / 72))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        top = 0.0
        for part, depth in zip(parts, depths, strict=True):
            axes.text(MARGIN, top + 16, style.literal(part.heading), fontsize=10, weight="bold", va="center")
            for number, row in enumerate(part.rows):
                column, line = divmod(number, depth)
                # Captions that are the same in all rows stand over the first alone.
                captions = line == 0 or not _alike(part)
                _row(axes, row, MARGIN + column * (half + 2 * GAP), top + HEAD + line * _step(part), captions)
            top += HEAD + depth * _step(part)
        axes.set(xlim=(0, page), ylim=(height, 0), aspect="auto")
    return figure


def _alike(part: Part) -> bool:
    return len({row.captions for row in part.rows if row.pictures}) <= 1


def _step(part: Part) -> float:
    """How far the rows of a part are apart: those with captions of their own need room for them."""
    return TILE + GAP + (0 if _alike(part) else 20)


def _row(axes: Axes, row: Row, x: float, y: float, captions: bool) -> None:
    """Draw a row whose pictures have their upper left corner at (x + LABEL, y)."""
    axes.text(x, y + TILE / 2 - 2, style.literal(row.name), fontsize=8.5, va="bottom")
    width = 24 if row.pictures else 80
    lines = [line for text in row.text.splitlines() for line in textwrap.wrap(text, width)]
    for number, line in enumerate(lines[:3]):
        axes.text(x, y + TILE / 2 + 9 * number, style.literal(line), fontsize=7, va="top", color="0.3")
    for number, picture in enumerate(row.pictures):
        left = x + LABEL + number * (TILE + GAP)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="none",
                    extent=(left, left + TILE, y + TILE, y))  # fmt: skip
        if captions:
            text = "\n".join(style.literal(style.short(line, 12)) for line in row.captions[number].splitlines())
            axes.text(left + TILE / 2, y - 2, text, fontsize=6.5, ha="center", va="bottom", color="0.3")

"""Attributions as pictures: images × layers, of runs side by side, layers × epochs, and one prediction explained."""

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from residuum.errors import InputError
from residuum.records.attributions import Attributions, Similarity
from residuum.report import style

if TYPE_CHECKING:
    from residuum.attribution import Method

CLIPPED = 99
"""Percentile of a map that has the strongest colour, except of coarse ones: single pixels would leave the rest dull."""

IN_A_COLUMN = 12
"""Most rows of a panel; more stand in two panels side by side."""

CELL, GAP, CAPTION, LINE = 0.95, 0.07, 1.5, 0.175
"""Inches: side of a picture, space between pictures, width of the text before them, height of a line of text."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One picture: uint8 [H, W] or [H, W, 3], the map over it, or a map alone.

    The map is scaled by its own largest value, to [0, 1], or to [-1, 1] if it is `signed`; `note` says why there is
    none.
    """

    image: NDArray[np.uint8] | None = None
    map_HW: NDArray[np.float64] | None = None
    signed: bool = False
    note: str = ""


Row = tuple[str, tuple[Cell | None, ...]]
"""A caption, and a cell for each column, None for none."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Rows of pictures in named columns, under a heading."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, eq=False)
class Sheet:
    """Panels side by side; `scale` says what the colours mean."""

    title: str
    remark: str
    panels: tuple[Panel, ...]
    signed: bool
    scale: str


def data(found: Attributions, label: str = "") -> Sheet:
    """Images × layers: each image, its maps, and the last one's of the network with random weights.

    `label` says whose maps they are.
    """
    title = _title(found, found.epochs[0] if found.epochs else None)
    return _sheet(found, f"{label}: {title}" if label else title, _remark(found),
                  _panels(found, _columns(found), _rows(found)))  # fmt: skip


def side_by_side(runs: Mapping[str, Attributions], chosen_by: str = "") -> Sheet:
    """Runs side by side, by their labels: the same images in the same rows, explained by the same method.

    `chosen_by` is the run that is surest of them, right and then wrong, where they were not chosen otherwise.

    Raises:
        InputError: the images, the method or what is explained is not the same.
    """
    first, *others = runs.values()
    for other in others:
        if (first.method, first.settings, first.target) != (other.method, other.settings, other.target):
            raise InputError("attributions stand side by side only by the same method, settings and target")
        if not np.array_equal(first.images_NCHW, other.images_NCHW):
            raise InputError("attributions stand side by side only of the same images; name them for both")
    panels = [Panel(label, _columns(found), tuple(_rows(found))) for label, found in runs.items()]
    chosen = f"Of each class the images of which {_name(chosen_by, 60)} is surest: right, then wrong. "
    remark = (chosen if chosen_by else "") + _remark(*runs.values())
    epochs = {found.epochs[0] for found in runs.values() if found.epochs}
    return _sheet(first, _title(first, epochs.pop() if len(epochs) == 1 else None), remark, panels)


def _rows(found: Attributions) -> list[Row]:
    last = list(found.maps)[-1]
    rows: list[Row] = []
    for row in range(len(found.names)):
        cells = [Cell(style.picture(found.images_NCHW[row]))]
        cells += [_cell(found, row, maps[row]) for maps in found.maps.values()]
        cells += [_cell(found, row, found.randomised[last][row])] if found.randomised else []
        rows.append((_caption(found, row), tuple(cells)))
    return rows


def _columns(found: Attributions) -> tuple[str, ...]:
    if not found.randomised:
        return ("input", *map(_heading, found.maps))
    whole, last = list(found.similarity.values())[-1], list(found.maps)[-1]
    compared = (f"{_heading(name)}\nρ = {_correlation(whole[name], len(found.names))}" for name in found.maps)
    return ("input", *compared, f"{_heading(last)}\nrandom weights")


def _method(found: Attributions) -> "Method":
    from residuum.attribution import ROWS  # torch, which a report without attributions does without

    return ROWS[found.method]


def _title(found: Attributions, epoch: int | None) -> str:
    target = {"predicted": "the predicted class", "true": "the true class"}.get(found.target, _name(found.target, 24))
    return f"{_method(found).title} for {target}" + ("" if epoch is None else f", epoch {epoch}")


def _remark(*runs: Attributions) -> str:
    compared = [(one, len(found.names)) for found in runs if found.randomised
                for one in list(found.similarity.values())[-1].values()]  # fmt: skip
    if not compared:
        return ""
    return (
        "ρ: mean rank correlation with the maps of the same network with random weights. Near 1, a map would show "
        "the image and the architecture, not what was learned."
    ) + (" In brackets: over so many images; a map of one value has no ranks."
         if any(one.mean is not None and one.images < of for one, of in compared) else "")  # fmt: skip


def over_epochs(found: Attributions, label: str = "") -> Sheet:
    """Layers × epochs: one image and its maps by the weights of several epochs. `label` says whose."""
    predicted = found.predicted_N
    columns = ["input"] + [
        f"epoch {epoch}\n→ {_name(found.classes[k], 10)}\n{style.percent(shares_K[k])}"
        for epoch, k, shares_K in zip(found.epochs, predicted, found.probabilities_NK, strict=True)
    ]
    rows: list[Row] = []
    for number, (name, maps) in enumerate(found.maps.items()):
        image = Cell(style.picture(found.images_NCHW[0])) if number == 0 and found.names else None
        rows.append((_heading(name), (image, *(_cell(found, at, map_HW) for at, map_HW in enumerate(maps)))))
    of = f" of {_name(found.names[0], 30)}" if found.names else ""
    true = f", true class {_name(found.true(0), 24)}" if found.names and found.true(0) else ""
    explained = f" for {_name(found.classes[found.targets_N[0]], 24)}" if found.names else ""
    title = f"{_method(found).title}{of}{explained}{true}, by epoch"
    title = f"{label}: {title}" if label else title
    return _sheet(found, title, "", [Panel("", tuple(columns), tuple(rows))])


@dataclass(frozen=True, eq=False)
class Explained:
    """One prediction: the input, the last feature map's attribution over it, and the likeliest classes."""

    name: str
    target: str
    image: Cell
    overlay: Cell
    shares: tuple[tuple[str, float], ...]


def prediction(found: Attributions, row: int, top: int = 3) -> Explained:
    """One image of attributions with its `top` likeliest classes, the likeliest first."""
    shares_K = found.probabilities_NK[row]
    order = np.argsort(-shares_K, kind="stable")[:top]
    last = list(found.maps)[-1]
    return Explained(
        name=found.names[row],
        target=found.classes[found.targets_N[row]],
        image=Cell(style.picture(found.images_NCHW[row])),
        overlay=_cell(found, row, found.maps[last][row]),
        shares=tuple((found.classes[k], float(shares_K[k])) for k in order),
    )


def draw_prediction(explained: Explained) -> Figure:
    """The image, the same with its attribution over it, and bars of the probabilities."""
    with style.styled():
        figure = Figure(figsize=(7.4, 2.5), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.25))
        for axes, cell, title in (
            (left, explained.image, _name(explained.name, 24)),
            (middle, explained.overlay, f"Grad-CAM for {_name(explained.target, 16)}"),
        ):
            axes.set_axis_off()
            axes.set_title(title, fontsize=9)
            axes.imshow(_rgb(cell), interpolation="nearest")
            if cell.note:
                axes.set_title(f"{title}: {cell.note}", fontsize=9)
        middle.text(0.5, -0.04, "dark: nothing, bright: most", transform=middle.transAxes, fontsize=8, color="0.3",
                    ha="center", va="top")  # fmt: skip
        rows = np.arange(len(explained.shares))
        right.barh(rows, [share for _, share in explained.shares], height=0.62, color=style.TRAIN)
        for row, (name, share) in enumerate(explained.shares):
            right.text(0, row - 0.36, f"{_name(name, 22)}  {style.percent(share)}", fontsize=9, va="bottom")
        right.set_xlim(0, 1)
        right.set_ylim(len(explained.shares) - 0.6, -0.75)
        right.set_yticks([])
        right.grid(visible=False, axis="y")
        right.spines["left"].set_visible(False)
        right.set_xlabel("probability")
    return figure


def draw(sheet: Sheet) -> Figure:
    """The sheet, with its columns named above each panel, captions before each row, and the scale of the colours."""
    heights = [len(panel.rows) for panel in sheet.panels]
    step = CELL + GAP
    widths = [CAPTION + step * len(panel.columns) for panel in sheet.panels]
    width = max(6.5, sum(widths) + 0.2)
    title, remark = fill(sheet.title, int(width / 0.095)), fill(sheet.remark, int(width / 0.075))
    lines = 1 + max(column.count("\n") for panel in sheet.panels for column in panel.columns)
    headed = any(panel.heading for panel in sheet.panels)
    below_title = 0.12 + 0.21 * (title.count("\n") + 1) + (LINE * (remark.count("\n") + 1) if remark else 0)
    top = below_title + 0.12 + (0.28 if headed else 0) + LINE * lines
    height = top + step * max([1, *heights]) + 0.75
    with style.styled():
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.text(0.12, 0.1, title, fontsize=12, va="top")
        axes.text(0.12, 0.14 + 0.21 * (title.count("\n") + 1), remark, fontsize=9, va="top", color="0.3")
        for number, panel in enumerate(sheet.panels):
            left = 0.1 + sum(widths[:number])
            _panel(axes, panel, left=left, top=top, step=step)
            if headed:
                axes.text(left + CAPTION, top - LINE * lines - 0.12, _name(panel.heading, 60), fontsize=11, va="bottom")
        if not any(heights):
            axes.text(width / 2, top + step / 2, "no images", ha="center", va="center")
        _scale(axes, sheet, 0.35, height - 0.5)
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    return figure


def _panel(axes: Axes, panel: Panel, *, left: float, top: float, step: float) -> None:
    for number, column in enumerate(panel.columns if panel.rows else ()):
        at = left + CAPTION + number * step + CELL / 2
        axes.text(at, top - 0.06, column, fontsize=9, ha="center", va="bottom", linespacing=1.15)
    for row, (caption, cells) in enumerate(panel.rows):
        y = top + row * step
        axes.text(left + CAPTION - 0.1, y + CELL / 2, caption, fontsize=9, ha="right", va="center", linespacing=1.2)
        for number, cell in enumerate(cells):
            if cell is not None:
                x = left + CAPTION + number * step
                axes.imshow(_rgb(cell), extent=(x, x + CELL, y + CELL, y), interpolation="nearest")
                if cell.note:
                    axes.text(x + CELL / 2, y + CELL / 2, cell.note, fontsize=8, ha="center", va="center",
                              bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85})  # fmt: skip


def _scale(axes: Axes, sheet: Sheet, left: float, top: float) -> None:
    """A bar of the colours, and what they mean."""
    values = np.linspace(-1 if sheet.signed else 0, 1, 256)[None]
    bar = Cell(map_HW=values, signed=sheet.signed)
    axes.imshow(_rgb(bar), extent=(left, left + 2, top + 0.16, top), interpolation="nearest")
    for at, text in ((0, "against" if sheet.signed else "0"), (2, "for" if sheet.signed else "largest")):
        axes.text(left + at, top + 0.2, text, fontsize=8, ha="center", va="top")
    if sheet.signed:
        axes.text(left + 1, top + 0.2, "0", fontsize=8, ha="center", va="top")
    axes.text(left + 2.25, top + 0.08, fill(sheet.scale, 50), fontsize=8, va="center", color="0.3")


def _sheet(found: Attributions, title: str, remark: str, panels: list[Panel]) -> Sheet:
    signed = _method(found).signed
    largest = "largest value" if _method(found).coarse else f"{CLIPPED}th percentile (of absolute values)"
    return Sheet(
        title,
        remark,
        tuple(panels),
        signed,
        scale=f"each map scaled by its own {largest}",
    )


def _panels(found: Attributions, columns: tuple[str, ...], rows: list[Row]) -> list[Panel]:
    """Right beside wrong where labels are known and there are many images; else as they come, in one or two panels."""
    if len(rows) <= IN_A_COLUMN:
        return [Panel("", columns, tuple(rows))]
    right_N = found.predicted_N == found.labels_N
    if (found.labels_N >= 0).all() and right_N.any() and not right_N.all():
        right, wrong = ([row for row, keep in zip(rows, kept_N, strict=True) if keep] for kept_N in (right_N, ~right_N))
        return [Panel("right", columns, tuple(right)), Panel("wrong", columns, tuple(wrong))]
    half = (len(rows) + 1) // 2
    return [Panel("", columns, tuple(rows[:half])), Panel("", columns, tuple(rows[half:]))]


def _cell(found: Attributions, row: int, map_HW: NDArray[np.float32]) -> Cell:
    """A map, scaled; a coarse one over the image, every other one alone, since its detail is that of the pixels."""
    coarse, signed = _method(found).coarse, _method(found).signed
    image = style.picture(found.images_NCHW[row]) if coarse else None
    if not np.isfinite(map_HW).all():
        return Cell(image, np.zeros(map_HW.shape), signed, "not finite")
    values_HW = map_HW.astype(np.float64)
    largest = np.abs(values_HW).max()
    limit = largest if coarse else np.percentile(np.abs(values_HW), CLIPPED) or largest
    if limit == 0:
        return Cell(image, values_HW, signed, "0 everywhere")
    return Cell(image, np.clip(values_HW / limit, -1 if signed else 0, 1), signed)


def _rgb(cell: Cell) -> NDArray[np.float64]:
    """The colours of a cell: both scales rise in lightness, so that they are told apart in grey as well."""
    if cell.map_HW is None:
        assert cell.image is not None
        image = cell.image / 255
        return np.asarray(image if image.ndim == 3 else image[..., None].repeat(3, axis=2))
    if cell.signed:
        return np.asarray(colormaps["cividis"]((1 + cell.map_HW) / 2)[..., :3])
    colours = np.asarray(colormaps["inferno"](cell.map_HW)[..., :3])
    if cell.image is None:
        return colours
    grey = cell.image / 255 if cell.image.ndim == 2 else cell.image @ np.array([0.299, 0.587, 0.114]) / 255
    return 0.3 * grey[..., None] + 0.7 * colours


def _caption(found: Attributions, row: int) -> str:
    k = int(found.predicted_N[row])
    true = f"{_name(found.true(row), 18)}\n" if found.true(row) else ""
    share = style.percent(found.probabilities_NK[row, k])
    return f"{true}→ {_name(found.classes[k], 16)}\n{share}, {_name(found.names[row], 14)}"


def _name(text: str, length: int) -> str:
    return style.literal(style.short(text, length))


def _heading(name: str) -> str:
    """What a column of maps is called: beside the image itself, `input` would say nothing."""
    return "attribution" if name == "input" else name


def _correlation(found: Similarity, of: int) -> str:
    if found.mean is None:
        return "–"
    return f"{found.mean:.2f}".replace("-", "−") + (f" ({found.images})" if found.images < of else "")

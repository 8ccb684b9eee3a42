"""The architecture of a network: its blocks with their shortcuts and shapes, and one block in each ordering."""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from math import ceil
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch
from matplotlib.textpath import TextPath

from residuum.networks.outlines import BlockOutline, Layer, Outline, Shape
from residuum.report import style

TEXTS = {
    "batch norm": "BN",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leakyrelu": "leaky ReLU",
    "elu": "ELU",
    "silu": "SiLU",
    "gelu": "GELU",
}
"""How the layers without a size are written; any other by what it is."""


@dataclass(frozen=True)
class Box:
    """One layer as it is drawn: what is written in it, and what it counts as."""

    text: str
    role: str


IDENTITY = (Box("identity", "plain"),)


@dataclass(frozen=True)
class Chain:
    """Layers one after the other, and the shortcut around them, None where there is none.

    The shortcut leaves before everything, or after `before` where it is `late`, and returns before `after`.
    """

    before: tuple[Box, ...]
    branch: tuple[Box, ...]
    shortcut: tuple[Box, ...] | None = None
    after: tuple[Box, ...] = ()
    late: bool = False


@dataclass(frozen=True)
class Row:
    """A part of the network: `count` equal blocks in a row, or what stands before or after the stages (stage 0).

    `shape` is that of its output for one image, `parameters` are those of all its blocks together.
    """

    stage: int
    names: tuple[str, ...]
    chain: Chain
    input_shape: Shape
    shape: Shape
    parameters: int

    @property
    def count(self) -> int:
        """How many equal blocks the row stands for."""
        return len(self.names)


@dataclass(frozen=True)
class Architecture:
    """What the figure shows: the rows from the input to the logits, and one block in each ordering by name."""

    title: str
    input_shape: Shape
    rows: tuple[Row, ...]
    block: str
    orderings: Mapping[str, Chain]
    own: str


def data(title: str, outline: Outline, orderings: Mapping[str, BlockOutline], own: str) -> Architecture:
    """The rows of a network, equal blocks of a stage folded into one; `own` is the ordering that it has."""
    rows = [_plain_row(("stem",), outline.input_shape, outline.stem)]
    for number, blocks in enumerate(outline.stages, start=1):
        unfolded = [_block_row(number, block) for block in blocks]
        for row, equal in groupby(unfolded, key=lambda row: replace(row, names=())):
            names = tuple(name for one in equal for name in one.names)
            rows.append(replace(row, names=names, parameters=row.parameters * len(names)))
    rows.append(_plain_row(("head",), rows[-1].shape, outline.head))
    counts = f"{outline.parameters:,} parameters, {outline.macs / 1e6:,.1f} M multiply-adds"
    if all(row.chain.shortcut is None for row in rows):
        counts += ", no shortcuts"
    return Architecture(
        f"{title} on images of {_shape(outline.input_shape)}: {counts}",
        outline.input_shape,
        tuple(rows),
        next(iter(orderings.values())).name if orderings else "",
        {name: _chain(block) for name, block in orderings.items()},
        own,
    )


def _plain_row(names: tuple[str, ...], input_shape: Shape, layers: Sequence[Layer]) -> Row:
    parameters = sum(layer.parameters for layer in layers)
    return Row(0, names, Chain((), _boxes(layers)), input_shape, layers[-1].output_shape, parameters)


def _block_row(stage: int, block: BlockOutline) -> Row:
    layers = {layer.name: layer for part in (block.before, block.branch, block.shortcut or (), block.after)
              for layer in part}  # fmt: skip
    parameters = sum(layer.parameters for layer in layers.values())
    return Row(stage, (block.name,), _chain(block), block.input_shape, block.output_shape, parameters)


def _chain(block: BlockOutline) -> Chain:
    shortcut = None if block.shortcut is None else _boxes(block.shortcut, block.input_shape) or IDENTITY
    return Chain(_boxes(block.before), _boxes(block.branch), shortcut, _boxes(block.after), block.late)


def _boxes(layers: Sequence[Layer], input_shape: Shape = ()) -> tuple[Box, ...]:
    return tuple(_box(layer, input_shape) for layer in layers)


def _box(layer: Layer, input_shape: Shape) -> Box:
    """What is written for a layer; what a shortcut without parameters does is told by the shapes it lies between."""
    word, _, rest = layer.kind.partition(" ")
    match word:
        case "conv":
            size, _, stride = rest.partition(" ")
            return Box(f"{_times(size)} conv, {layer.output_shape[0]}{f', {stride}' if stride else ''}", "conv")
        case "linear":
            return Box(f"linear, {layer.output_shape[0]}", "linear")
        case "subsample":
            (channels, height, _), (more, smaller, _) = input_shape, layer.output_shape
            every = ceil(height / smaller)
            parts = [f"every {every}{ {2: 'nd', 3: 'rd'}.get(every, 'th') } pixel"] if every > 1 else []
            parts += [f"{more - channels} channels of zeros"] if more > channels else []
            return Box(", ".join(parts), "plain")
    if "pool" in layer.kind:
        return Box(_times(layer.kind), "pool")
    return Box(TEXTS.get(layer.kind, layer.kind), "norm" if layer.kind == "batch norm" else "act")


def _times(text: str) -> str:
    """A size with the sign of multiplication, as 3×3."""
    return re.sub(r"(?<=\d)x(?=\d)", "×", text)


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape))


FONT, SMALL = 8.0, 7.0
HEIGHT, PAD, GAP = 16.0, 5.0, 9.0
"""Points: height of a box, space beside its text, and between boxes."""
LEADING = 1.2
"""From line to line of a text, as a multiple of its size."""
SUM, RISE = 5.5, 20.0
"""Points: radius of an addition, and how far a shortcut runs from its branch."""
MARGIN, LEFT, OUTPUT, PARAMETERS = 14.0, 124.0, 62.0, 62.0
"""Points: border of the page, where chains begin, and the widths of the columns behind them."""
LINE: dict[str, Any] = {"color": "0.25", "linewidth": 0.9, "solid_capstyle": "butt"}

FILLS = {
    "conv": "#9EC9E8",
    "linear": "#9EC9E8",
    "norm": "#FBE7C0",
    "act": "#CFE9DB",
    "pool": "#E4E4E4",
    "plain": "#FFFFFF",
}
"""Fill of a box by its role: what has many weights is darkest, in grey print too."""


def draw(architecture: Architecture) -> Figure:
    """The network as rows that are read like lines of text, and below them one block in each ordering side by side."""
    rows, orderings = architecture.rows, architecture.orderings
    chains = LEFT + max(_length(row.chain) for row in rows) + GAP
    columns = sum(_column_width(name, chain) + GAP for name, chain in orderings.items())
    page = MARGIN + max(chains + OUTPUT + PARAMETERS, columns + MARGIN)
    title = textwrap.wrap(architecture.title, int((page - 2 * MARGIN) / 6))
    tops = [43.0 + 13 * len(title)]
    for row in rows:
        tops.append(tops[-1] + (50 if row.chain.shortcut is not None else 30))
    steps = max(map(_steps, orderings.values()), default=0)
    height = tops[-1] + MARGIN + (66 + steps * (HEIGHT + GAP) if orderings else 0)
    with style.styled():
        figure = Figure(figsize=(page / 72, height / 72))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, page), ylim=(height, 0))
        axes.set_axis_off()
        for number, line in enumerate(title):
            _write(axes, MARGIN, 20 + 13 * number, style.literal(line), size=10, ha="left", weight="bold")
        _write(axes, LEFT, tops[0] - 12, f"input {_shape(architecture.input_shape)}", ha="left", color="0.3")
        _draw_network(axes, rows, tops, page)
        if orderings:
            text = f"One block ({architecture.block}) in each ordering; the network's own is framed"
            _write(axes, MARGIN, tops[-1] + 22, style.literal(text), size=10, ha="left", weight="bold")
            _draw_orderings(axes, orderings, architecture.own, tops[-1] + 36, page, height - 8)
    return figure


def _draw_network(axes: Axes, rows: Sequence[Row], tops: Sequence[float], page: float) -> None:
    """Draw the rows of a network, each from its top to the next, those of a stage on a common ground."""
    right = page - MARGIN - 6
    output = page - MARGIN - PARAMETERS
    for x, text in ((output, "output"), (right, "parameters")):
        _write(axes, x, tops[0] - 12, text, ha="right", color="0.3")
    for stage in {row.stage for row in rows if row.stage}:
        of_stage = [number for number, row in enumerate(rows) if row.stage == stage]
        top, bottom = tops[of_stage[0]] + 2, tops[of_stage[-1] + 1] - 2
        _rounded(axes, MARGIN, top, page - 2 * MARGIN, bottom - top, facecolor="0.955", edgecolor="none")
    for row, bottom in zip(rows, tops[1:], strict=True):
        y = bottom - 15
        first, last = row.names[0], row.names[-1].rpartition(".")[2]
        _write(axes, MARGIN + 6, y, first if row.count == 1 else f"{first} … {last}", ha="left")
        if row.count > 1:
            _write(axes, LEFT - 6, y, f"×{row.count}", size=10, ha="right", weight="bold")
        x = _draw_row(axes, row.chain, LEFT, y)
        _arrow(axes, (x, y), (output - OUTPUT, y))
        _write(axes, output, y, _shape(row.shape), ha="right")
        _write(axes, right, y, f"{row.parameters:,}", ha="right")


def _draw_orderings(
    axes: Axes, orderings: Mapping[str, Chain], own: str, top: float, page: float, bottom: float
) -> None:
    """Draw chains from top to bottom side by side over the whole page, one of them framed."""
    widths = [_column_width(name, chain) for name, chain in orderings.items()]
    spare = (page - 2 * MARGIN - sum(widths)) / len(widths)
    x = MARGIN
    for (name, chain), width in zip(orderings.items(), widths, strict=True):
        column = width + spare - 4
        if name == own:
            _rounded(axes, x, top, column, bottom - top, facecolor="none", edgecolor="0.25")
        _draw_column(axes, name, chain, x + column / 2, top + 12)
        x += width + spare


@cache
def _width(text: str, size: float = FONT, weight: str = "normal") -> float:
    """The width of a text in points."""
    font = FontProperties(family="sans-serif", weight=weight)
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().width)


def _box_width(box: Box, size: float = FONT) -> float:
    return _width(box.text, size) + 2 * PAD


def _span(boxes: Sequence[Box]) -> float:
    """How long a shortcut's boxes are side by side."""
    return sum(_box_width(box, SMALL) + GAP for box in boxes) - GAP


def _length(chain: Chain) -> float:
    """How long a chain is from left to right."""
    length = _places(chain, 0, _box_width)[0][-1][2]
    return length if chain.shortcut is None else max(length, _span(chain.shortcut) + 6 * GAP)


def _steps(chain: Chain) -> int:
    """How many rows a chain takes from top to bottom."""
    return sum(map(len, (chain.before, chain.branch, chain.after))) + (chain.shortcut is not None)


def _column_width(name: str, chain: Chain) -> float:
    """How wide a chain is from top to bottom, its shortcut beside it, under its name."""
    middle = max(_box_width(box) for box in (*chain.before, *chain.branch, *chain.after))
    return max(_width(name, 9, "bold"), middle + 4 * _beside(chain)) + 2 * PAD


def _beside(chain: Chain) -> float:
    """How far the middle of a shortcut runs beside a chain from top to bottom."""
    widths = (_turned(box, chain)[1] + 2 * PAD if box.role == "plain" else _box_width(box, SMALL) + GAP
              for box in chain.shortcut or ())  # fmt: skip
    return max([RISE, *widths]) / 2


def _turned(box: Box, chain: Chain) -> tuple[str, float]:
    """A text that runs along a shortcut from top to bottom, in as many lines as it takes there, and how wide it is."""
    places, leaves = _places(chain, 0, lambda _: HEIGHT)
    run = next(end for addition, _, end in places if addition is None) - SUM - leaves
    wrapped = [textwrap.wrap(box.text, most) for most in range(1, len(box.text) + 1)]
    fitting = [lines for lines in wrapped if all(_width(line, SMALL) <= run - GAP for line in lines)]
    # Of those with the fewest lines the first, whose lines are about equally long.
    lines = min(fitting or wrapped[:1], key=len)
    return "\n".join(lines), HEIGHT * SMALL / FONT + (len(lines) - 1) * LEADING * SMALL


def _places(
    chain: Chain, at: float, extent: Callable[[Box], float]
) -> tuple[list[tuple[Box | None, float, float]], float]:
    """Each box of a chain with where it begins and ends, None for the addition; and where its shortcut leaves."""
    addition = () if chain.shortcut is None else (None,)
    found, ends = [], [at]
    for box in (*chain.before, *chain.branch, *addition, *chain.after):
        start = ends[-1] + GAP
        ends.append(start + (extent(box) if box else 2 * SUM))
        found.append((box, start, ends[-1]))
    return found, ends[len(chain.before) if chain.late else 0]


def _draw_row(axes: Axes, chain: Chain, x: float, y: float) -> float:
    """Draw a chain from left to right from x on, its shortcut above it; returns where it ends."""
    places, leaves = _places(chain, x, _box_width)
    for box, start, end in places:
        middle = (start + end) / 2
        _arrow(axes, (start - GAP, y), (start, y))
        if box:
            _draw_box(axes, box, middle, y)
            continue
        _draw_sum(axes, middle, y)
        axes.plot([leaves + 2, leaves + 2, middle], [y, y - RISE, y - RISE], **LINE)
        _arrow(axes, (middle, y - RISE), (middle, y - SUM))
        at = (leaves + middle - _span(chain.shortcut or ())) / 2
        for beside in chain.shortcut or ():
            _draw_box(axes, beside, at + _box_width(beside, SMALL) / 2, y - RISE, SMALL)
            at += _box_width(beside, SMALL) + GAP
    return places[-1][2]


def _draw_column(axes: Axes, name: str, chain: Chain, x: float, y: float) -> None:
    """Draw a chain from top to bottom under its name, its shortcut to the right of it."""
    _write(axes, x, y, style.literal(name), size=9, weight="bold")
    width = max(_box_width(box) for box in (*chain.before, *chain.branch, *chain.after))
    places, leaves = _places(chain, y + HEIGHT / 2, lambda _: HEIGHT)
    for box, start, end in places:
        middle = (start + end) / 2
        _arrow(axes, (x, start - GAP), (x, start))
        if box:
            _draw_box(axes, box, x, middle, width=width)
            continue
        _draw_sum(axes, x, middle)
        side = x + width / 2 + _beside(chain)
        axes.plot([x, side, side], [leaves + 2, leaves + 2, middle], **LINE)
        _arrow(axes, (side, middle), (x + SUM, middle))
        shortcut = chain.shortcut or ()
        first = (leaves + middle - (len(shortcut) - 1) * (HEIGHT + GAP)) / 2
        for number, beside in enumerate(shortcut):
            at = first + number * (HEIGHT + GAP)
            if beside.role == "plain":
                _draw_turned(axes, *_turned(beside, chain), side, at)
            else:
                _draw_box(axes, beside, side, at, SMALL)
    _arrow(axes, (x, places[-1][2]), (x, places[-1][2] + GAP))


def _draw_box(axes: Axes, box: Box, x: float, y: float, size: float = FONT, width: float = 0) -> None:
    """Draw a box around its centre; a plain text has no border."""
    plain = box.role == "plain"
    width, height = width or _box_width(box, size) - PAD * plain, HEIGHT * size / FONT
    edge = "none" if plain else "0.25"
    _rounded(axes, x - width / 2, y - height / 2, width, height, facecolor=FILLS[box.role], edgecolor=edge, zorder=3)
    _write(axes, x, y, style.literal(box.text), size)


def _draw_turned(axes: Axes, text: str, width: float, x: float, y: float) -> None:
    """Draw a text of some lines that runs from top to bottom around its centre."""
    lines = text.splitlines()
    height = max(_width(line, SMALL) for line in lines) + PAD
    _rounded(axes, x - width / 2, y - height / 2, width, height, facecolor=FILLS["plain"], edgecolor="none", zorder=3)
    _write(axes, x, y, "\n".join(map(style.literal, lines)), SMALL, rotation=90, va="center", linespacing=LEADING)


def _draw_sum(axes: Axes, x: float, y: float) -> None:
    axes.add_patch(Circle((x, y), SUM, facecolor="white", edgecolor="0.25", linewidth=0.9, zorder=3))
    for dx, dy in ((SUM * 0.6, 0), (0, SUM * 0.6)):
        axes.plot([x - dx, x + dx], [y - dy, y + dy], **LINE, zorder=4)


def _rounded(axes: Axes, x: float, y: float, width: float, height: float, **look: Any) -> None:
    shape = "round,pad=0,rounding_size=2.5"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, **{"linewidth": 0.7, "zorder": 1, **look}))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    look = {"arrowstyle": "-|>,head_length=0.22,head_width=0.11", "shrinkA": 0, "shrinkB": 0, "linewidth": 0.9}
    axes.annotate("", end, start, arrowprops={**look, "color": "0.25"}, zorder=2)


def _write(axes: Axes, x: float, y: float, text: str, size: float = FONT, ha: str = "center", **look: Any) -> None:
    axes.text(x, y, text, fontsize=size, zorder=5, **{"ha": ha, "va": "center_baseline", **look})

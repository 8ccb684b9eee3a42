"""What a report consists of, as plain values: sections of blocks, which every form of it then shows."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from residuum.report import style
from residuum.report.figures import frame
from residuum.report.tables import Table


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Commands:
    """Lines for a shell."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Tabular:
    """A table with a caption; what is long, and of use to few, is `folded` under a title of its own."""

    table: Table
    caption: str
    folded: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure by the name of its files, drawn once in each form; `narrow` is the SVG for a phone, if there is one."""

    name: str
    caption: str
    png: bytes
    svg: bytes
    narrow: bytes = b""


Block = Paragraph | Items | Commands | Tabular | Picture


@dataclass(frozen=True)
class Section:
    """A part of the page; `id` is where a link to it leads."""

    id: str
    title: str
    blocks: tuple[Block, ...]


def picture(name: str, caption: str, figure: Figure, narrow: Figure | None = None, *, mark: str = "") -> Picture:
    """A figure in both forms; it is laid out once, so the second form has the places of the first.

    `mark` is that of a scaled or changed study, where the figure does not have it already.
    """
    if mark:
        frame.stamp(figure, mark)
    for one in (figure, *([narrow] if narrow else [])):
        if one.get_layout_engine():
            one.draw_without_rendering()
            one.set_layout_engine("none")
    return Picture(name, caption, style.png(figure), style.svg(figure), style.svg(narrow) if narrow else b"")

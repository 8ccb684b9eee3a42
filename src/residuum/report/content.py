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
    """A figure by the name of its files, drawn once in each form; `narrow` is the SVG for a phone, if there is one.

    `call` is the call in Python that draws it, by the names `figures`, `results`, `runs` and `data`, in a hand-in.
    """

    name: str
    caption: str
    png: bytes
    svg: bytes
    narrow: bytes = b""
    call: str = ""


Block = Paragraph | Items | Commands | Tabular | Picture


@dataclass(frozen=True)
class Section:
    """A part of the page; `id` is where a link to it leads."""

    id: str
    title: str
    blocks: tuple[Block, ...]


def picture(
    name: str, caption: str, figure: Figure, narrow: Figure | None = None, *, mark: str = "", call: str = ""
) -> Picture:
    """A figure in both forms, with the same places in both.

    `mark` is that of a scaled or changed study, where the figure does not have it already.
    """
    if mark:
        frame.stamp(figure, mark)
    return Picture(name, caption, style.png(figure), style.svg(figure), style.svg(narrow) if narrow else b"", call)

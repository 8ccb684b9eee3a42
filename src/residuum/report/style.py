"""How figures look: readable sizes, colours that the colour-blind tell apart and that stay distinct in grey print."""

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter
from numpy.typing import NDArray

from residuum.errors import InputError, quoted, remark, shortened, visible
from residuum.records import storage

OTHER_FORMS = (".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".pdf", ".eps", ".ps")

TRAIN, VALIDATION, TEST = "#0072B2", "#D55E00", "#000000"
"""Colours of the splits (Okabe and Ito's palette)."""


ARMS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1, 1.5)))


@dataclass(frozen=True)
class Look:
    """How one arm looks in every figure: colour, marker, and dash of its line."""

    colour: str
    marker: str
    dash: Any


def arms(count: int) -> list[Look]:
    """A look for each of some arms or runs; marker and dash tell them apart where colour does not.

    Up to 28 no two have the same colour and dash, up to 49 none the same colour and marker.
    """
    rounds = [(number % len(ARMS), number // len(ARMS)) for number in range(count)]
    return [Look(ARMS[at], MARKERS[(at + turn) % len(MARKERS)], DASHES[turn % len(DASHES)]) for at, turn in rounds]


def literal(text: str) -> str:
    """A text that matplotlib shows letter by letter: no dollar begins a formula, no underscore hides a label."""
    text = visible(" ".join(text.split())).replace("$", r"\$")
    return f"\u2009{text}" if text.startswith("_") else text


def width(text: str) -> int:
    """How many letters wide a text is: those of East Asian scripts, and emoji, are two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def short(text: str, length: int) -> str:
    """A text cut in its middle so that it is at most so many letters wide: ends tell arms apart."""
    cuts = (shortened(text, most) for most in range(min(length, len(text)), 2, -1))
    return next((cut for cut in cuts if width(cut) <= length), shortened(text, 2))


def apart(texts: Sequence[str], length: int) -> list[str]:
    """Texts cut to that many letters each, those that would be alike then so that what sets them apart is seen."""
    found = [short(text, length) for text in texts]
    for cut in [one for one, count in Counter(found).items() if count > 1]:
        alike = [at for at, one in enumerate(found) if one == cut]
        first = _shared([texts[at] for at in alike])
        last = _shared([texts[at][first:][::-1] for at in alike])
        room = length - length // 4 - 2
        beside = min(8, max(0, (room - max(len(texts[at]) - last - first for at in alike)) // 2))
        begin = max(first - beside, 0)
        for at in alike:
            head = f"{texts[at][: length // 4]}…" if begin > length // 4 else texts[at][:begin]
            end = len(texts[at]) - max(last - beside, 0)
            found[at] = f"{head}{short(texts[at][begin:end], room)}{'…' * (last > beside)}"
    return found


def _shared(texts: Sequence[str]) -> int:
    """With how many letters all texts begin."""
    return next(
        (at for at, letters in enumerate(zip(*texts, strict=False)) if len({*letters}) > 1), min(map(len, texts))
    )


def fitted(text: str, inches: float) -> str:
    """A text cut in its middle so far that it takes no more room, in letters of 9 points."""
    for length in range(len(text), 2, -1):
        cut = short(text, length)
        if sum(map(_inches, cut)) <= inches:
            return cut
    return short(text, 2)


def _inches(letter: str) -> float:
    """About how wide a letter is, rather too wide than too narrow."""
    if east_asian_width(letter) in "WF":
        return 0.127
    if letter in "fijlrt .,:;'-|()[]/":
        return 0.052
    wide = 0.11 if letter.isupper() or letter in "+−=<>~×" else 0.082
    return 0.13 if letter in "mwMW%@—…" else wide


def percent(share: float) -> str:
    """A probability in percent; one below 1 is never said to be 100 %."""
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def picture(image_CHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image as matplotlib takes it: [H, W] or [H, W, 3]."""
    return image_CHW[0] if len(image_CHW) == 1 else image_CHW.transpose(1, 2, 0)


LETTERS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC",
    "Hiragino Sans", "Yu Gothic", "IPAGothic", "Malgun Gothic", "Apple SD Gothic Neo", "NanumGothic", "Noto Sans",
    "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Thai", "Noto Sans Devanagari", "Arial Unicode MS", "Unifont",
)  # fmt: skip
"""Fonts that have letters which matplotlib's own lacks; those of them that are installed are used for these letters."""


@cache
def _families() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in LETTERS if name in installed), "sans-serif"]


NO_LETTERS = ("LastResort", "ColorEmoji", "Blank")
"""Parts of the names of fonts that have every letter as a box or as nothing, or in colours that are not drawn."""


@cache
def _letters_of(path: str) -> frozenset[int]:
    """The letters that a font has; none of one that cannot be read."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def fonts_for(text: str) -> list[str]:
    """The fonts that a text is drawn with: the usual ones, and for letters that none of them has whichever here has."""
    usual = _families()
    fonts = sorted(
        font_manager.fontManager.ttflist, key=lambda one: (one.style != "normal", one.weight != 400, one.name)
    )
    lacking = {ord(letter) for letter in text if letter.isprintable()}
    for font in fonts if not text.isascii() else ():
        if font.name in usual:
            lacking -= _letters_of(font.fname)
    more = []
    for font in fonts if not text.isascii() else ():
        if not lacking:
            break
        if not any(word in font.name.replace(" ", "") for word in NO_LETTERS) and lacking & _letters_of(font.fname):
            lacking -= _letters_of(font.fname)
            more.append(font.name)
    return [*usual[:-1], *more, *usual[-1:]]


@contextmanager
def styled() -> Iterator[None]:
    """The settings under which every figure is drawn."""
    with mpl.rc_context(
        {
            "font.family": _families(),
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.6,
            "legend.frameon": False,
            "figure.dpi": 110,
            "svg.fonttype": "none",
            "svg.hashsalt": "residuum",
        }
    ):
        yield


def png(figure: Figure) -> bytes:
    """A figure as PNG; the bytes depend on nothing but the figure, and in other scripts on the fonts that are here."""
    with styled(), _letters_told(), io.BytesIO() as file:
        _lay_out(figure)
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
        return file.getvalue()


def _inert(figure: Figure) -> None:
    """Take every text letter by letter, whoever wrote it: none is a formula, none has letters that a file cannot have.

    The numbers beside a logarithmic axis are matplotlib's own formulas.
    """
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        for formatter in (axis.get_major_formatter(), axis.get_minor_formatter()):
            if isinstance(formatter, FixedFormatter):
                formatter.seq = [_plain(str(text)) for text in formatter.seq]
            texts = getattr(getattr(formatter, "func", None), "args", ((),))[:1]  # of labels that were set with ticks
            for one in texts if isinstance(formatter, FuncFormatter) else ():
                if isinstance(one, dict):
                    one.update({at: _plain(str(text)) for at, text in one.items()})
    texts = [one for one in figure.findobj(Text) if isinstance(one, Text)]
    fonts = fonts_for("".join(sorted({letter for one in texts for letter in one.get_text()})))
    for text in texts:
        if "\\mathdefault" not in text.get_text():
            text.set_text(_plain(text.get_text()))
        if fonts != _families():
            text.set_fontfamily(fonts)


def _plain(text: str) -> str:
    return re.sub(r"(?<!\\)\$", r"\\$", visible(text))


def _lay_out(figure: Figure) -> None:
    """Place the axes once, for both forms: measuring every label takes longer than drawing it."""
    _inert(figure)
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.draw_without_rendering()
        figure.set_layout_engine(None)


@contextmanager
def _letters_told() -> Iterator[None]:
    """One remark on all letters that no font here has, in place of matplotlib's warning for each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    missing = ""
    for one in caught:
        if found := re.match(r"Glyph (\d+) ", str(one.message)):
            missing += chr(int(found[1])) if chr(int(found[1])) not in missing else ""
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    tell_letters(missing)


def tell_letters(missing: str) -> None:
    """The remark on letters that no font here has; none where there are none."""
    if missing:
        letters = quoted(short(missing, 12))
        remark(f"no font here has {letters}: boxes stand in place of such letters; a font as Noto Sans CJK brings them")


def without_a_font(text: str) -> str:
    """The letters of a text that none of the fonts that figures are drawn with has, each once."""
    wanted = {letter for letter in text if letter.isprintable() and not letter.isspace()}
    for family in _families()[:-1]:
        if not wanted:
            break
        font = font_manager.get_font(font_manager.findfont(family))
        wanted -= {letter for letter in wanted if font.get_char_index(ord(letter))}
    return "".join(sorted(wanted))


def svg(figure: Figure) -> bytes:
    """A figure as SVG with its text as text; the bytes depend on nothing but the figure."""
    # The settings of SVG count when it is written, not when it is drawn.
    with styled(), _letters_told(), io.BytesIO() as file:
        _lay_out(figure)
        figure.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG; an ending that is one of the two stands for both.

    The bytes depend on nothing but the figure. Folders that are missing are made, as by all that writes a file.

    Raises:
        InputError: the name ends as another kind of picture.
        StorageError: a file cannot be written.
    """
    if path.suffix.lower() in OTHER_FORMS:
        raise InputError(f"{path.name}: figures are written as PNG and SVG; name it {path.stem} or {path.stem}.png")
    stem = path.with_suffix("") if path.suffix.lower() in (".png", ".svg") else path
    paths = [stem.with_name(f"{stem.name}{ending}") for ending in (".png", ".svg")]
    for target, content in zip(paths, (png(figure), svg(figure)), strict=True):
        storage.write_file(target, content)
    return paths

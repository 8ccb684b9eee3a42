"""How figures look: readable sizes, colours that the colour-blind tell apart and that stay distinct in grey print."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

TRAIN, VALIDATION, TEST = "#0072B2", "#D55E00", "#000000"
"""Colours of the splits (Okabe and Ito's palette)."""


ARMS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def arms(count: int) -> list[tuple[str, str]]:
    """A colour and a marker for each of some runs; the marker tells them apart where colour does not."""
    return [(ARMS[number % len(ARMS)], MARKERS[number % len(MARKERS)]) for number in range(count)]


@contextmanager
def styled() -> Iterator[None]:
    """The settings under which every figure is drawn."""
    with mpl.rc_context(
        {
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.6,
            "legend.frameon": False,
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "svg.fonttype": "none",
            "svg.hashsalt": "residuum",
        }
    ):
        yield


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG; the bytes depend on nothing but the figure."""
    paths = [path.with_suffix(".png"), path.with_suffix(".svg")]
    with styled():  # the settings of SVG count when it is written, not when it is drawn
        figure.savefig(paths[0], dpi=150, metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None})
    return paths

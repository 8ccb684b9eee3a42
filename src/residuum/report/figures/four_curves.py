"""Training and validation, loss and accuracy against epoch: four frames with at most five arms in each."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf, isfinite

from residuum.analysis.curves import Band
from residuum.analysis.results import Results
from residuum.report.figures import frame
from residuum.report.figures.study_curves import Curves, Panel, StudyCurves, diverged_at_once
from residuum.report.figures.study_curves import data as of_study

TOWERING = 2.0
"""A loss of so many times the highest training loss is beyond the frame, and marked."""
PRESSED = 2.0
"""A frame that one arm makes so many times as high does without it."""
FEWEST = {"loss": 1, "error": 2}
"""Arms that a frame is made for at least, where another goes on beyond it: a loss may be as high as it likes."""
PANEL, ALONE = (4.1, 1.8), (4.1, 2.4)
"""Inches: four of them, and a legend, are as wide as the text of a page and a third of its height; of two in a row."""
LABELS = {
    ("train", "loss"): "training loss (nats)",
    ("validation", "loss"): "validation loss (nats)",
    ("train", "error"): "training accuracy (%)",
    ("validation", "error"): "validation accuracy (%)",
}


def data(results: Results, found: Curves, arms: Sequence[str], mark: str = "") -> StudyCurves:
    """The four panels of some arms of a study: loss above, accuracy below, training left, validation right.

    Both losses have one frame and both accuracies one, so that left and right can be compared; what lies beyond it, as
    wide bands do, is marked. Without images held out the left panels stand beside each other.
    """
    at_once = tuple(arm for arm in diverged_at_once(results) if arm in arms)
    rows = []
    for quantity, top in (("loss", inf), ("error", 100.0)):
        chosen = {split: [_turned(band) for arm in arms for band in found.get(arm, ())
                          if (band.split, band.quantity) == (split, quantity) and band.epochs]
                  for split in ("train", "validation")}  # fmt: skip
        bands = [band for of_split in chosen.values() for band in of_split]
        near = _near(bands)
        for arm in _worst_first(bands):
            fewer = [band for band in bands if band.arm != arm]
            # An arm that does not train must not press the others into a line: it is drawn outside of their window.
            if len({band.arm for band in fewer}) < FEWEST[quantity] or _span(near) <= PRESSED * _span(_near(fewer)):
                break
            bands, near = fewer, _near(fewer)
        every = [value for of_split in chosen.values() for band in of_split for value in band.mean if isfinite(value)]
        extent = frame.extent(near or [0.0], frame.reached(near, every), 0.0, top)
        rows.append(tuple(Panel("", LABELS[split, quantity], tuple(of_split), extent, at_once)
                          for split, of_split in chosen.items() if of_split))  # fmt: skip
    shown = tuple(row for row in rows if row)
    alone = len(shown) > 0 and all(len(row) == 1 for row in shown)
    if alone:
        shown = (tuple(panel for row in shown for panel in row),)
    return replace(of_study(results, found, mark), rows=shown, grouped=False, panel=ALONE if alone else PANEL)


def beyond(found: StudyCurves) -> tuple[str, ...]:
    """The arms whose curves end beyond a frame, in the order of the arms."""
    ends = [(band.arm, band.mean[-1], panel.extent) for row in found.rows for panel in row for band in panel.bands]
    return tuple(dict.fromkeys(arm for arm, end, shown in ends
                               if isfinite(end) and not shown.low <= end <= shown.high))  # fmt: skip


def _near(bands: Sequence[Band]) -> list[float]:
    """The values that a frame shows. Only losses tower: where they end they are in it all the same."""
    trained = [value for band in bands if band.split == "train" for value in band.mean if isfinite(value)]
    # A validation loss of the first epochs can be many times all others.
    most = TOWERING * max(trained, default=inf) if bands and bands[0].quantity == "loss" else inf
    return [value for band in bands for value in band.mean
            if isfinite(value) and (value <= most or value == band.mean[-1])]  # fmt: skip


def _worst_first(bands: Sequence[Band]) -> list[str]:
    """The arms by their worst last value."""
    ends = sorted((band.mean[-1], band.arm) for band in bands if isfinite(band.mean[-1]))
    worst = reversed(ends) if bands and bands[0].quantity == "loss" else ends
    return list(dict.fromkeys(arm for _, arm in worst))


def _span(values: Sequence[float]) -> float:
    return max(values) - min(values) if values else 0.0


def _turned(band: Band) -> Band:
    """The accuracy of which a band has the error, in percent; a loss as it is."""
    if band.quantity == "loss":
        return band
    mean, low, high = (tuple(100 - value for value in edge) for edge in (band.mean, band.high, band.low))
    return replace(band, mean=mean, low=low, high=high)

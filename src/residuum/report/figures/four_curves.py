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
LABELS = {
    ("train", "loss"): "training loss (nats)",
    ("validation", "loss"): "validation loss (nats)",
    ("train", "error"): "training accuracy (%)",
    ("validation", "error"): "validation accuracy (%)",
}


def data(results: Results, found: Curves, arms: Sequence[str], mark: str = "") -> StudyCurves:
    """The four panels of some arms of a study: loss above, accuracy below, training left, validation right.

    Both losses have one frame and both accuracies one, so that left and right can be compared; what lies beyond it, as
    wide bands do, is marked. Without images held out the right panels are missing.
    """
    at_once = tuple(arm for arm in diverged_at_once(results) if arm in arms)
    rows = []
    for quantity, top in (("loss", inf), ("error", 100.0)):
        chosen = {split: [_turned(band) for arm in arms for band in found.get(arm, ())
                          if (band.split, band.quantity) == (split, quantity) and band.epochs]
                  for split in ("train", "validation")}  # fmt: skip
        means = [band.mean for bands in chosen.values() for band in bands]
        trained = [value for band in chosen["train"] for value in band.mean if isfinite(value)]
        # A validation loss of the first epochs can be many times all others; where it ends it is always in the frame.
        most = TOWERING * max(trained, default=inf) if quantity == "loss" else inf
        near = [value for mean in means for value in mean if isfinite(value) and (value <= most or value == mean[-1])]
        extent = frame.extent(near or [0.0], near, 0.0, top)
        rows.append(tuple(Panel("", LABELS[split, quantity], tuple(bands), extent, at_once)
                          for split, bands in chosen.items() if bands))  # fmt: skip
    return replace(of_study(results, found, mark), rows=tuple(row for row in rows if row), grouped=False)


def _turned(band: Band) -> Band:
    """The accuracy of which a band has the error, in percent; a loss as it is."""
    if band.quantity == "loss":
        return band
    mean, low, high = (tuple(100 - value for value in edge) for edge in (band.mean, band.high, band.low))
    return replace(band, mean=mean, low=low, high=high)

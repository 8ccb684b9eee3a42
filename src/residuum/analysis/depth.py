"""Layers over depth: one quantity of every layer, of one run or over several seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from residuum.errors import unknown
from residuum.records.layers import Histograms, Numbers

MASS = 0.99
"""The share of a tensor's values, the middle one, that decides how wide a frame is: a few lie very far out."""


GROUPS = 30
"""About as many points as a line over the layers has where it would else be a zigzag."""


@dataclass(frozen=True, eq=False)
class Profile:
    """A quantity over depth: median, smallest and largest over `n` runs, NaN where it is not finite in one.

    P points, which lie at the layers (or activations) `at_P`, counted from 1; `depth` is how many of these there are.
    """

    at_P: Numbers
    median_P: Numbers
    low_P: Numbers
    high_P: Numbers
    n: int
    depth: int


def profile(runs: Sequence[Numbers], *, grouped: bool = False) -> Profile:
    """The profile of one or more runs of networks of the same depth, one array of as many values each.

    `grouped`: of networks much deeper than `GROUPS` the points are means over neighbouring layers, except for the first
    and the last layer, which are of other kinds. The layers of a block alternate, so a line through all is a zigzag.
    """
    values_RL = np.array(runs, dtype=float)
    depth = values_RL.shape[1]
    layers_L = np.arange(1.0, depth + 1)
    lines = [layers_L, np.median(values_RL, axis=0), values_RL.min(axis=0), values_RL.max(axis=0)]
    if grouped and depth > 1.5 * GROUPS:
        # Whole blocks of two layers; bottlenecks have three, and a line that is less smooth.
        each = 2 * math.ceil((depth - 2) / 2 / GROUPS)
        starts = [0, *range(1, depth - 1, each), depth - 1]
        lines = [np.array([part.mean() for part in np.split(line, starts[1:])]) for line in lines]
    at_P, median_P, low_P, high_P = lines
    return Profile(at_P, median_P, low_P, high_P, len(runs), depth)


def outer(histograms: Histograms) -> tuple[Numbers, Numbers]:
    """Between which values the middle `MASS` of each tensor lies, to the width of a bin."""
    counts_TB = histograms.counts_TB
    shares_TB = np.cumsum(counts_TB, axis=1) / np.maximum(1, counts_TB.sum(axis=1, keepdims=True))
    tail, bins = (1 - MASS) / 2, counts_TB.shape[1]
    first_T, last_T = (shares_TB <= tail).sum(axis=1), (shares_TB < 1 - tail).sum(axis=1) + 1
    width_T = (histograms.high_T - histograms.low_T) / bins
    return histograms.low_T + first_T * width_T, histograms.low_T + np.minimum(last_T, bins) * width_T


def tensors(names: Sequence[str], wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Which tensors to look at: those that are wanted, a layer's name meaning its weight; else the usual choice.

    A stage's name, as layer2, means the kernels of all its layers. The usual choice is the first and the last layer of
    the stem, of each stage and of the head, each with its kernel; batch norms and biases are not among them.

    Raises:
        InputError: there is no such tensor; the message gives the nearest one.
    """
    parts: dict[str, list[str]] = {}
    for name in names:
        kind = name.removesuffix(".weight").rpartition(".")[2]
        if name.rpartition(".")[2] != "bias" and not kind.startswith("bn") and "shortcut" not in name.split("."):
            parts.setdefault(name.partition(".")[0], []).append(name)
    found: list[str] = []
    for name in wanted:
        known = [one for one in (name, f"{name}.weight") if one in names][:1] or parts.get(name, [])
        if not known:
            raise unknown("layer", name, [*parts, *(one.removesuffix(".weight") for one in names)])
        found += known
    if wanted:
        return tuple(dict.fromkeys(found))
    return tuple(dict.fromkeys(name for members in parts.values() for name in (members[0], members[-1])))

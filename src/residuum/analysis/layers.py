"""Layers over depth: one quantity of every layer, of one run or over several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from residuum.errors import unknown
from residuum.records.layers import Histograms, Numbers

MASS = 0.99
"""The share of a tensor's values, the middle one, that decides how wide a frame is: a few lie very far out."""


@dataclass(frozen=True, eq=False)
class Profile:
    """A quantity of layers 1 to L: median, smallest and largest over `n` runs, NaN where it is not finite in one."""

    median_L: Numbers
    low_L: Numbers
    high_L: Numbers
    n: int


def profile(runs: Sequence[Numbers]) -> Profile:
    """The profile of one or more runs of networks of the same depth, one array of L values each."""
    values_RL = np.array(runs)
    return Profile(np.median(values_RL, axis=0), values_RL.min(axis=0), values_RL.max(axis=0), len(runs))


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

    That is the first and the last layer of the stem, of each stage and of the head, each with its kernel; batch norms
    and biases are not among them.

    Raises:
        InputError: there is no such tensor; the message gives the nearest one.
    """
    found = []
    for name in wanted:
        known = next((one for one in (name, f"{name}.weight") if one in names), None)
        if known is None:
            raise unknown("layer", name, [one.removesuffix(".weight") for one in names])
        found.append(known)
    if wanted:
        return tuple(dict.fromkeys(found))
    parts: dict[str, list[str]] = {}
    for name in names:
        kind = name.removesuffix(".weight").rpartition(".")[2]
        if name.rpartition(".")[2] != "bias" and not kind.startswith("bn") and "shortcut" not in name.split("."):
            parts.setdefault(name.partition(".")[0], []).append(name)
    return tuple(dict.fromkeys(name for members in parts.values() for name in (members[0], members[-1])))

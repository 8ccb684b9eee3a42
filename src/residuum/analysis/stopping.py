"""Stopping: what readings of growing data do to error, and looks at it to estimates. Simulated, as no formula has it.

Studies of one claim with normal runs that all train, from the same draws as what `power` promises.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy.special import stdtr

from residuum.analysis.claims import LEAST
from residuum.analysis.power import Trial, draws

SEEN = 100
"""Simulated studies that have to stop early for their mean to be told."""


def error(sizes: Sequence[int], levels: Sequence[float], *, one_sample: bool = True) -> float:
    """The probability that a claim without anything to it is decided at one of several readings of growing data.

    `sizes` are the seeds at each reading, in rising order, `levels` what p has to be below at each. `one_sample`: the
    seeds' differences are judged, or an arm against a number; else two arms without pairing. Readings of fewer seeds
    than a verdict needs decide nothing.
    """
    able = [(n, level) for n, level in zip(sizes, levels, strict=True) if n >= LEAST]
    if not able:
        return 0.0
    test = Trial(tuple(n for n, _ in able), tuple(level for _, level in able), 1, one_sample)
    at_D, _ = _stopped(test, 0.0)
    return float((at_D < len(able)).mean())


def exaggeration(
    sizes: Sequence[int], levels: Sequence[float], shift: float, *, claims: int = 1, one_sample: bool = True
) -> float | None:
    """How many times as far as it is the truth seems to lie from a claim's margin, in studies that stopped early.

    They stop at the first of the planned looks that decides the claim, as one of `claims` at the first step of Holm's
    correction; early is before the last look. `shift`, not 0, is where the truth lies, in standard deviations of the
    seeds' differences. None where hardly a study stops early, or where looks are too small for a verdict.
    """
    if min(sizes) < LEAST:
        return None
    at_D, seen_D = _stopped(Trial(tuple(sizes), tuple(levels), claims, one_sample), shift)
    early_D = at_D < len(sizes) - 1
    return float(seen_D[early_D].mean()) / shift if early_D.sum() >= SEEN else None


@cache
def _stopped(test: Trial, shift: float) -> tuple[Any, Any]:
    """at_D, the number of the look that decided (that of all looks: none did), and the mean_D that was seen last."""
    looks = draws(test, 1)
    at_D, seen_D = np.full(len(looks[0][0]), len(looks)), np.zeros(len(looks[0][0]))
    for number, (level, (mean_DC, error_DC, df_DC)) in enumerate(zip(test.levels, looks, strict=True)):
        mean_D, open_D = mean_DC[:, 0] + shift, at_D == len(looks)
        p_D = 2 * stdtr(df_DC[:, 0], -np.abs(mean_D / error_DC[:, 0]))
        seen_D = np.where(open_D, mean_D, seen_D)
        at_D[open_D & (test.claims * p_D < level)] = number
    return at_D, seen_D

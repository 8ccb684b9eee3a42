"""Constants: the mean and the deviation of pixels with which a network gives known logits, found by least squares.

Public code has constants of its own, and lists of them end. With the right network, logits are smooth enough in the
six numbers of a normalisation that a dozen images tell them to four digits.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import nn

from residuum.data.normalize import Normalization
from residuum.models.summary import summarize
from residuum.run.reference import Reference, as_reference, compare
from residuum.run.variants import Change, Same, Variant, listed

FEW, DIGITS = 4, (2, 3, 4, 5, 6)
"""Images by which constants are looked for, and decimals that they may have: the fewest that give the logits."""
NETWORKS = 3
"""Networks of the same tensors that are tried: the one that was built, and those that come nearest."""
LOOK, EVALUATIONS, MULTIPLY_ADDS = 24, 120, 4e11
"""How often a network is computed at first and then for its constants, and what that may cost: seconds on a core."""
NEARER = 0.05
"""The share of the squared differences that may be left after the first look."""


def found(same: Same, changes: Sequence[Change], reference: Reference, channels: str) -> str:
    """What gives the logits of a reference with constants that are in no list, in words of options; empty if none do.

    `changes` are other networks of the same tensors, which may be needed besides. Constants are named in the order of
    the `channels` that the network was given.
    """
    few = replace(reference, logits_NK=reference.logits_NK[:FEW], images_NCHW=reference.images_NCHW[:FEW])
    for variant in _nearest(same, changes, few):
        solved = _solved(variant.network, few, variant.normalization, same.shape)
        for digits in DIGITS:
            constants = _rounded(solved, digits) if solved else None
            if constants and compare(variant.network, constants, reference).agrees:
                turned = -1 if f"--channels {'rgb' if channels == 'bgr' else 'bgr'}" in variant.words else 1
                turned = -turned if channels == "bgr" else turned
                words = f"--normalize {listed(constants.mean[::turned])} {listed(constants.std[::turned])}"
                return f"{variant.words} {words}".strip()
    return ""


def _nearest(same: Same, changes: Sequence[Change], few: Reference) -> Iterator[Variant]:
    """The network as it was built, and with one change those whose logits are most like the reference's."""
    variants = [one for change in (Change("", {}), *changes) if (one := same.variant(change))]
    near = []
    for number, one in enumerate(variants):
        try:
            near.append((compare(one.network, one.normalization, few).unlikeness, number))
        except RuntimeError:  # images too small for it
            continue
    first = [number for _, number in near if number == 0]
    rest = [number for _, number in sorted(near) if number]
    yield from (variants[number] for number in [*first, *rest][:NETWORKS])


def _solved(
    network: nn.Module, few: Reference, start: Normalization, shape: tuple[int, int, int]
) -> Normalization | None:
    """The constants that come nearest to a reference, from those to start with; None where that costs too much."""
    most = int(MULTIPLY_ADDS / (summarize(network, shape).macs * len(few.images_NCHW)))
    if most < EVALUATIONS:
        return None
    exact, images_NCHW = deepcopy(network).double(), few.images_NCHW.double()
    expected_NK = few.logits_NK.double()

    def away(values: NDArray[np.float64]) -> NDArray[np.float64]:
        scale_C11, shift_C11 = torch.from_numpy(values).reshape(2, -1, 1, 1)
        with torch.no_grad():
            logits_NK = as_reference(exact(images_NCHW * scale_C11 + shift_C11), expected_NK)
        return np.asarray((logits_NK - expected_NK).flatten().numpy(), np.float64)

    scale = [1 / std for std in start.std]
    shift = [-mean * one for mean, one in zip(start.mean, scale, strict=True)]
    if len(expected_NK.flatten()) < len(scale) + len(shift):
        return None
    start_C = np.array([*scale, *shift])
    first = least_squares(away, start_C, method="lm", max_nfev=LOOK)
    if first.cost > NEARER * 0.5 * np.square(away(start_C)).sum():  # the right network comes near at once
        return None
    values = least_squares(away, first.x, method="lm", max_nfev=EVALUATIONS).x
    scale_C, shift_C = values.reshape(2, -1)
    if (scale_C <= 0).any():
        return None
    return Normalization("affine", tuple((-shift_C / scale_C).tolist()), tuple((1 / scale_C).tolist()))


def _rounded(constants: Normalization, digits: int) -> Normalization | None:
    """Constants with so many decimals; None where they are then none of pixels in [0, 1]."""
    mean, std = (tuple(round(value, digits) + 0.0 for value in values) for values in (constants.mean, constants.std))
    fits = all(0 <= value <= 1 for value in mean) and all(0 < value <= 1 for value in std)
    return Normalization("affine", mean, std) if fits else None

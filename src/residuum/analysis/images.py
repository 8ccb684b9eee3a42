"""Images: two runs compared image by image on the same test set."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr, ndtri

from residuum.analysis.estimate import LEVEL
from residuum.errors import InputError


@dataclass(frozen=True)
class ImagePairs:
    """How two runs did on the same images: counts of images, and McNemar's test of equal accuracy.

    `difference` is the accuracy of the first minus that of the second in points, `low` and `high` its 95 % interval.
    They speak of these two runs on other images like these, not of other seeds.
    """

    only_first_right: int
    only_second_right: int
    both_right: int
    both_wrong: int
    p: float
    difference: float
    low: float
    high: float


def mcnemar(first_right_N: np.ndarray[Any, Any], second_right_N: np.ndarray[Any, Any]) -> ImagePairs:
    """The comparison of two runs by which images each got right (bool, the same images in the same order).

    p is McNemar's, exact: the images that only one run got right fall to either like a fair coin (McNemar 1947). The
    interval is the adjusted Wald interval of Agresti and Min, "Simple improved confidence intervals for comparing
    matched proportions", Statistics in Medicine 2005: half an image is added to each of the four counts.

    Raises:
        InputError: the runs were not scored on the same number of images, or on none.
    """
    if first_right_N.shape != second_right_N.shape or not first_right_N.size:
        raise InputError(f"runs scored on {first_right_N.size} and {second_right_N.size} images cannot be compared")
    first, second = first_right_N.astype(bool), second_right_N.astype(bool)
    total = first.size
    one, two = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    both = int(np.sum(first & second))
    p = min(1.0, 2 * float(bdtr(min(one, two), one + two, 0.5))) if one + two else 1.0
    middle = (one - two) / (total + 2)
    half = float(ndtri((1 + LEVEL) / 2)) * math.sqrt((one + two + 1) / (total + 2) - middle**2) / math.sqrt(total + 2)
    return ImagePairs(
        only_first_right=one,
        only_second_right=two,
        both_right=both,
        both_wrong=total - one - two - both,
        p=p,
        difference=100 * (one - two) / total,
        low=100 * max(-1.0, middle - half),
        high=100 * min(1.0, middle + half),
    )

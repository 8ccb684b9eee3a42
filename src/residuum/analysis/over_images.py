"""Images: two runs compared image by image on the same test set, and two arms over seeds and images at once."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr, ndtri

from residuum.analysis.estimate import LEVEL, Estimate
from residuum.errors import InputError


@dataclass(frozen=True)
class ImagePairs:
    """How two runs did on the same images: counts of images, and McNemar's test of equal accuracy.

    `difference` is the accuracy of the first minus that of the second in points, `low` and `high` its 95 % interval.
    `p_holm` is p corrected for all pairs of runs that a table shows, None of a pair by itself. They speak of these two
    runs on other images like these, not of other seeds.
    """

    only_first_right: int
    only_second_right: int
    both_right: int
    both_wrong: int
    p: float
    difference: float
    low: float
    high: float
    p_holm: float | None = None


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


@dataclass(frozen=True)
class SeedsAndImages:
    """A difference of two arms in points, arm - baseline, judged over other seeds and other test images.

    `low` and `high` are the ends of its 95 % interval over both; `only_images` those over the images alone, for these
    very networks: an effect whose sign they leave open is smaller than so many images can tell. `alike`: images add
    nothing to what the seeds vary by, so that the interval is that over seeds alone.
    """

    difference: float
    low: float
    high: float
    only_images: tuple[float, float]
    seeds: int
    images: int
    alike: bool = False

    @property
    def is_beyond_images(self) -> bool:
        """Whether the test set is large enough to tell the sign of the difference."""
        return self.only_images[0] > 0 or self.only_images[1] < 0


def seeds_and_images(
    arm_SN: np.ndarray[Any, Any], baseline_SN: np.ndarray[Any, Any], *, paired: bool
) -> SeedsAndImages | None:
    """The difference of two arms over seeds and test images at once, from which run got which image wrong, or right.

    Seeds and images are both drawn by chance, and every seed meets every image. The variance of the mean over such a
    table is that of the seeds' means plus that of the images' means, less that of what neither explains, which both
    contain (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007, section 3), and never below the larger
    of the two. The interval is that of t with the degrees of freedom of the seeds (Satterthwaite's, 1946, where arms
    are not paired), so that it is never narrower than the one over seeds alone: with those of the whole sum, which
    images raise, it covered 89 to 93 % with three to five seeds. Paired, row s of both tables is the same seed. None
    with fewer than two seeds or images, or where nothing varies.
    """
    first, second = arm_SN.astype(np.float64), baseline_SN.astype(np.float64)
    if first.shape[1:] != second.shape[1:] or min(*first.shape, *second.shape) < 2:
        return None
    parts = [first - second] if paired else [first, second]
    by_image_N = first.mean(axis=0) - second.mean(axis=0)
    images = by_image_N.size
    of_images = float(by_image_N.var(ddof=1)) / images
    of_seeds, of_rest, weight = 0.0, 0.0, 0.0
    for table_SN in parts:
        seeds = len(table_SN)
        own = float(table_SN.mean(axis=1).var(ddof=1)) / seeds
        rest_SN = table_SN - table_SN.mean(axis=1, keepdims=True) - table_SN.mean(axis=0) + table_SN.mean()
        of_rest += float((rest_SN**2).sum()) / ((seeds - 1) * (images - 1)) / (seeds * images)
        of_seeds, weight = of_seeds + own, weight + own**2 / (seeds - 1)
    variance = max(of_seeds + of_images - of_rest, of_seeds, of_images)
    if variance == 0:
        return None
    df = of_seeds**2 / weight if weight else float(min(len(table_SN) for table_SN in parts) - 1)
    mean = float(by_image_N.mean())
    low, high = Estimate(100 * mean, 100 * math.sqrt(variance), df).interval(LEVEL)
    alone = Estimate(100 * mean, 100 * math.sqrt(of_images), images - 1).interval(LEVEL) if of_images else (
        100 * mean, 100 * mean)  # fmt: skip
    return SeedsAndImages(100 * mean, low, high, alone, min(len(first), len(second)), images,
                          alike=variance == of_seeds)  # fmt: skip

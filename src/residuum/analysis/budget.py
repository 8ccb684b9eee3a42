"""What a search would have come to with fewer trials: its performance against its budget (Dodge et al. 2019)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def best_so_far(errors: Sequence[float]) -> NDArray[np.float64]:
    """The lowest error (%) after each trial, in the order in which they were made; shape N."""
    return np.minimum.accumulate(np.asarray(errors, dtype=np.float64))


def expected_best(errors: Sequence[float]) -> NDArray[np.float64]:
    """The lowest error (%) to be expected of 1, 2 … N trials that are drawn by chance as these N were; shape N.

    It is the mean of the least of n values from the distribution of those that were seen, as in equations 5 and 6 of
    Dodge et al. 2019, "Show Your Work". Trials that learn from those before are no such draws.
    """
    sorted_N = np.sort(np.asarray(errors, dtype=np.float64))
    count = len(sorted_N)
    # The share of values above each of them, to the power of n: the probability that all n are above it.
    above_N1 = 1 - np.arange(count + 1) / count
    budgets_N = np.arange(1, count + 1)
    reached_NN = above_N1[:-1] ** budgets_N[:, None] - above_N1[1:] ** budgets_N[:, None]
    return np.asarray(reached_NN @ sorted_N)

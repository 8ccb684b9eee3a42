"""What a search would have come to with fewer trials, against all draws there are."""

import itertools
from statistics import fmean

import numpy as np
import pytest

from residuum.analysis.budget import best_so_far, expected_best


@pytest.mark.parametrize("errors", [[30.0], [12.0, 8.0, 40.0], [5.0, 5.0, 7.5, 6.0]])
def test_expected_best_is_the_mean_over_all_draws_with_replacement(errors):
    count = len(errors)
    every = [fmean(map(min, itertools.product(errors, repeat=n))) for n in range(1, count + 1)]
    assert expected_best(errors) == pytest.approx(every)
    assert expected_best(errors[::-1]) == pytest.approx(every), "the order of the trials does not count"


def test_best_so_far_never_rises_and_ends_at_the_least():
    errors = np.random.default_rng(0).uniform(5, 60, 40)
    best = best_so_far(errors)
    assert (np.diff(best) <= 0).all()
    assert best[0] == errors[0]
    assert best[-1] == errors.min()
    assert best[7] == errors[:8].min()

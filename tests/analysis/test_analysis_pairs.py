"""Pairs are made by seed: not by place, whatever is missing and in whatever order the runs came."""

import pytest

from residuum.analysis.aggregate import Value, summarize
from residuum.analysis.compare import difference

ONE = {0: 10.0, 1: 20.0, 2: 35.0, 3: 47.0}
OTHER = {0: 9.0, 1: 18.0, 2: 32.0, 3: 43.0}
"""The arms differ by 1, 2, 3 and 4 by seed; by any other pairing the differences spread by tens."""


def arm(name, values):
    """A summary of an arm from its values by seed, in that order; None is a run without one."""
    runs = [Value(seed, f"{name}{seed}", "missing" if value is None else "finished", value)
            for seed, value in values.items()]  # fmt: skip
    return summarize(name, "test_error", runs)


def test_runs_in_another_order_make_the_same_pairs():
    turned = {seed: OTHER[seed] for seed in (2, 0, 3, 1)}
    found = difference(arm("one", ONE), arm("other", turned), paired=True)
    assert dict(found.by_seed) == {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}
    assert (found.n, found.mean) == (4, 2.5)


@pytest.mark.parametrize(
    ("lacking", "expected"),
    [((0, None), {1: 2.0, 2: 3.0, 3: 4.0}), ((None, 1), {0: 1.0, 2: 3.0, 3: 4.0}), ((0, 3), {1: 2.0, 2: 3.0})],
)
def test_a_missing_run_takes_its_partner_with_it_and_shifts_no_other(lacking, expected):
    one, other = ({seed: None if seed == gap else value for seed, value in values.items()}
                  for values, gap in zip((ONE, OTHER), lacking, strict=True))  # fmt: skip
    found = difference(arm("one", one), arm("other", other), paired=True)
    assert dict(found.by_seed) == expected
    absent = [{seed: value for seed, value in values.items() if value is not None} for values in (one, other)]
    assert difference(arm("one", absent[0]), arm("other", absent[1]), paired=True) == found


def test_seeds_that_only_one_arm_has_make_no_pair():
    found = difference(arm("one", ONE), arm("other", {10: 9.0, 11: 18.0, 2: 32.0}), paired=True)
    assert dict(found.by_seed) == {2: 3.0}

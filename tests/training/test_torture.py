"""Some kills in the suite; `make torture` does at least fifty."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from torture import torture


def test_a_run_killed_at_random_moments_ends_with_the_same_bits():
    assert len(torture(kills=4, seed=1)) >= 4

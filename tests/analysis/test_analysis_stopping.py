"""What readings that nobody planned do to error, and early stops to estimates: as the judged studies themselves show."""

import numpy as np
import pytest
from analysis_arms import arm

from residuum.analysis.claims import verdicts
from residuum.analysis.spending import spend
from residuum.analysis.stopping import error, exaggeration
from residuum.studies.study import Claim

CLAIM = Claim(text="?", expect="a > b")
LOOKS = [spend(look, 4) for look in (1, 2, 3, 4)]


def first_decision(a, b, sizes, levels, paired=True):
    """The verdict at the first reading that decides, and which that is; else the last one's, and None."""
    for at, (n, level) in enumerate(zip(sizes, levels, strict=True)):
        sides = {"a": arm("a", a[:n]), "b": arm("b", b[:n])}
        (found,) = verdicts([CLAIM], lambda name, _, sides=sides: sides[name], paired=paired, level=1 - level)
        if found.verdict != "undecided":
            return found, at
    return found, None


def studies(count, shift, paired=True, sizes=(3, 6, 9, 12), levels=(0.05,) * 4):
    random = np.random.default_rng(1)
    # The sd of a difference is 1 where arms are paired, that of an arm where they are not.
    sd = 0.5**0.5 if paired else 1.0
    made = (random.normal(8, sd, (2, sizes[-1])) for _ in range(count))
    return [first_decision(list(a + shift), list(b), sizes, levels, paired) for a, b in made]


@pytest.mark.parametrize(("paired", "sizes", "expected"), [(True, (3, 6, 9, 12), 0.136), (False, (3, 5), 0.074)])
def test_the_error_of_reading_at_each_number_of_seeds_is_what_such_studies_have(paired, sizes, expected):
    levels = (0.05,) * len(sizes)
    found = error(sizes, levels, one_sample=paired)
    assert found == pytest.approx(expected, abs=0.01)
    wrong = np.mean([at is not None for _, at in studies(600, 0.0, paired, sizes, levels)])
    assert found == pytest.approx(wrong, abs=3 * (expected * (1 - expected) / 600) ** 0.5)


def test_one_reading_errs_as_promised_and_each_further_one_adds_to_it():
    errors = [error(range(3, 3 * k + 1, 3), [0.05] * k) for k in (1, 2, 3, 4, 5)]
    assert errors[0] == pytest.approx(0.05, abs=0.005)
    assert errors == sorted(set(errors))
    assert error([3, 6, 9, 12], LOOKS) < 0.05
    # A reading at 5 % before the looks comes on top of their share.
    assert error([3, 3, 6, 9, 12], [0.05, *LOOKS]) == pytest.approx(0.085, abs=0.015)


def test_readings_of_too_few_seeds_decide_nothing():
    assert error([1, 2, 3], [0.05] * 3) == error([3], [0.05])
    assert error([1, 2], [0.05] * 2) == 0.0


def test_an_early_stop_overestimates_what_is_small():
    sizes = (3, 6, 9, 12)
    found = exaggeration(sizes, LOOKS, 0.75)
    early = [one.difference for one, at in studies(900, 0.75, sizes=sizes, levels=LOOKS) if at is not None and at < 3]
    assert 1.35 < found < 1.6
    assert found == pytest.approx(np.mean(early) / 0.75, abs=4 * np.std(early) / len(early) ** 0.5 / 0.75)
    assert exaggeration(sizes, LOOKS, -0.75) == pytest.approx(found, abs=0.05)
    assert exaggeration(sizes, LOOKS, 5.0) == pytest.approx(1, abs=0.02)


def test_nothing_is_told_where_hardly_a_study_stops_early():
    assert exaggeration((3, 6, 9, 12), LOOKS, 0.05, claims=50) is None
    assert exaggeration((2, 4, 6, 8), LOOKS, 1.0) is None

"""Rivals, deaths and signals in small numbers; `rivals.py` and `deaths.py` beside this do as many as are asked for."""

import deaths
import pytest
import rivals


@pytest.mark.long
@pytest.mark.parametrize(("of", "count"), [(2, 3), (8, 1)])
def test_rivals_of_a_study_compute_each_run_once(of, count):
    assert rivals.tried(count, of, of) == []


@pytest.mark.long
def test_a_study_whose_workers_and_parent_are_killed_comes_to_its_end():
    assert deaths.tried(1, 0, runs=6) == []


@pytest.mark.long
def test_runs_stopped_by_any_signal_at_any_row_go_on_to_the_same_bits():
    assert deaths.stopped(len(deaths.STOPS), 0) == []

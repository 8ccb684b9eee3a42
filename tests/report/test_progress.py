"""The display of a study: what it counts as done, and what it says is left."""

from pathlib import Path

import pytest

from residuum.cli import progress
from residuum.cli.progress import _Board, _Going, _note
from residuum.conduct.launchers.launcher import JobEvent
from residuum.config import RunConfig
from residuum.records.event import EpochDone, Finished, Scores, Started, StepDone
from residuum.studies.plan import PlannedRun


@pytest.fixture
def at(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def board(*work):
    made = _Board(label="tiny", began=100.0)
    for number, size in enumerate(work):
        key = str(number)
        made.runs[key] = PlannedRun(f"arm {number}", 0, key, key, RunConfig())
        made.work[key] = size
    return made


def started(step=0, epochs=2, steps_per_epoch=5):
    return Started("id", Path("run"), epochs, steps_per_epoch, 50, step // steps_per_epoch, step)


def step(number):
    return StepDone(number // 5 + 1, number, 0.1, 2.0, 1.0, "order")


def epoch(number):
    return EpochDone(number, 5 * number, 0.1, Scores("train", 1.0, 0.5, 50), None, None, False, 1.0, 50.0)


def say(board, key, event):
    return _note(board, JobEvent(key, event), f"run {key}")


def test_what_is_left_is_in_proportion_to_the_work_that_is_left(at):
    """Three runs of 10, 30 and 60: after 20 s one is done and half of the second, 25 of 100, so 60 s are left."""
    shown = board(10, 30, 60)
    assert shown.remaining() is None
    say(shown, "0", started())
    say(shown, "0", Finished(Path("run"), "finished"))
    say(shown, "1", started())
    say(shown, "1", step(4))
    at[0] = 120.0
    assert shown.remaining() == pytest.approx(75 / 25 * 20)
    say(shown, "2", started())
    say(shown, "2", step(0))  # one of ten updates of 60
    assert shown.remaining() == pytest.approx((100 - 25 - 6) / (25 + 6) * 20)


def test_work_that_was_done_before_counts_as_done_but_not_as_speed(at):
    """A run that goes on at update 8 of 10, and one that was complete: only two updates were computed in the 20 s."""
    shown = board(10, 50)
    shown.done.add("0")
    say(shown, "1", started(step=5))
    say(shown, "1", step(6))
    at[0] = 120.0
    assert shown.remaining() == pytest.approx(3 * 5 / (2 * 5) * 20)
    say(shown, "1", Finished(Path("run"), "finished"))
    assert shown.remaining() == 0
    assert shown.computed == 50 * 5 / 10


def test_the_end_of_a_run_is_told_with_its_place_among_all(at):
    shown = board(1, 1, 1)
    shown.done.add("2")
    say(shown, "0", started())
    say(shown, "0", epoch(1))
    assert shown.going["0"].step == 5
    shown.going["0"].started, at[0] = 100.0, 107.25
    assert say(shown, "0", Finished(Path("run"), "diverged")).startswith("2/3 run 0: diverged in 7.2 s | epoch 1/2")
    assert shown.done == {"0", "2"}
    assert shown.going == {}


def test_a_run_of_no_updates_has_a_length():
    assert _Going().steps == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3661, "1:01:01"), (90061, "25:01:01")]
)
def test_a_time_is_hours_minutes_and_seconds(seconds, text):
    assert progress.clock(seconds) == text

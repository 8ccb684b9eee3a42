"""How far runs and studies are, from their folders alone."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from residuum import recipes, training
from residuum.analysis import standing
from residuum.conduct import planning
from residuum.errors import InputError
from residuum.records import index, run_folder, storage
from residuum.records.event import EpochDone, Scores
from residuum.records.record import read_record
from residuum.studies import plan as plans
from residuum.studies.study import Study

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that was stopped after the first of three epochs."""
    runs = tmp_path_factory.mktemp("standing")
    config = recipes.recipe("quick").changed({"model": "resnet8", "train.epochs": 3})
    events = training.run(config, runs)
    for event in events:
        if isinstance(event, EpochDone):
            events.close()
    return read_record(next(runs.glob("resnet8*")))


def epochs(count, steps, seconds):
    scores = Scores("train", 1.0, 0.5, 100)
    return tuple(
        EpochDone(epoch, epoch * steps, 0.1, scores, None, None, False, seconds, 100.0)
        for epoch in range(1, count + 1)
    )  # fmt: skip


def test_time_left_is_that_of_the_updates_left(begun):
    draw = random.Random(3)
    for _ in range(200):
        asked, steps, seconds = draw.randrange(1, 300), draw.randrange(1, 400), draw.uniform(0.01, 900)
        done = draw.randrange(1, asked + 1)
        config = begun.config.changed({"train.epochs": asked})
        record = replace(
            begun, status="running", config=config, epochs=epochs(done, steps, seconds), folder=begun.folder / "x"
        )
        found = standing.of_run(record, NOW)
        assert (found.step, found.steps, found.epochs, found.asked) == (done * steps, asked * steps, done, asked)
        assert found.seconds_left == pytest.approx((asked - done) * seconds)
        assert found.share == pytest.approx(done / asked)
        assert standing.of_run(replace(record, status="stopped"), NOW).seconds_left is None


def test_in_the_first_epoch_the_time_since_the_start_counts(begun, tmp_path):
    start = replace(begun.environment[0], time=(NOW - timedelta(seconds=40)).isoformat(), step=0)
    record = replace(begun, status="running", epochs=(), environment=(start,), folder=tmp_path)
    assert standing.of_run(record, NOW).seconds_left is None  # no update yet
    steps = -(-begun.data.train // begun.config.train.batch_size) * 3
    (tmp_path / run_folder.STEPS).write_text('{"step": 8}\n{"step": 9}\n{"step": 1')  # the last one is being written
    found = standing.of_run(record, NOW)
    assert (found.step, found.steps) == (10, steps)
    assert found.seconds_left == pytest.approx(4 * (steps - 10))
    for odd in ("", "yesterday", None):
        assert standing.of_run(replace(record, environment=(replace(start, time=odd),)), NOW).seconds_left is None
    (tmp_path / run_folder.STEPS).write_text("[1]\n\xff\n{}\n")
    assert standing.of_run(record, NOW).step == 0


def plan_of(arms=("resnet8", "plain8"), seeds=(0, 1)):
    study = Study(name="two", question="?", base="quick", seeds=list(seeds), set={"train.epochs": 3},
                  arms=[{"name": name, "set": {"model": name}} for name in arms])  # fmt: skip
    return planning.plan(study, {})


def test_a_study_says_how_each_run_stands_and_why(begun, tmp_path):
    plan = plan_of()
    folder = plans.write(plan, tmp_path)
    assert {one.status for _, one in standing.of_study(plan, tmp_path, NOW).runs} == {"waiting"}
    first, second, *_ = plan.runs
    assert first.id == begun.id
    (tmp_path / first.folder).symlink_to(begun.folder)
    storage.write_json(folder / plans.FAILED, {second.id: "it crashed"})
    found = {run.id: one for run, one in standing.of_study(plan, tmp_path, NOW).runs}
    assert (found[first.id].status, found[first.id].epochs) == ("stopped", 1)
    assert (found[second.id].status, found[second.id].reason) == ("failed", "it crashed")
    with storage.locked(begun.folder):
        going = standing.of_study(plan, tmp_path, NOW)
        assert going.is_going
        assert not going.attended
        assert going.seconds_left > 0
    for damaged in ("{", "[]", "3", ""):
        (folder / plans.FAILED).write_text(damaged)
        assert standing.of_study(plan, tmp_path, NOW).count("failed") == 0


def test_a_study_takes_as_long_as_its_runs_side_by_side(monkeypatch, begun, tmp_path):
    """One size of network, runs of equal length: the rest is waiting and going runs over how many go."""
    plan = plan_of(arms=("resnet8",), seeds=range(10))
    draw = random.Random(9)
    for _ in range(40):
        done, going = draw.randrange(0, 8), draw.randrange(1, 3)
        seconds, share = draw.uniform(1, 1000), draw.uniform(0.05, 0.95)
        states = {}
        for number, run in enumerate(plan.runs):
            status = "finished" if number < done else "running" if number < done + going else "waiting"
            left = seconds * (1 - share) if status == "running" else None
            step = {"finished": 1000, "running": round(1000 * share)}.get(status, 0)
            states[run.id] = standing.Standing(status, step=step, steps=1000, seconds_left=left)
        monkeypatch.setattr(standing, "_of_planned", lambda run, *_, states=states: states[run.id])
        outcome = type("Outcome", (), {"seconds": seconds})
        monkeypatch.setattr(run_folder, "result_of", lambda _, outcome=outcome: outcome)
        found = standing.of_study(plan, tmp_path, NOW, {})
        work = (10 - done - going) * seconds + going * seconds * (1 - share)
        assert found.seconds_left == pytest.approx(max(seconds * (1 - share), work / going), rel=0.02)
        assert found.complete == done


def test_a_folder_is_attended_by_as_many_as_are_at_work_in_it(tmp_path):
    assert not storage.is_attended(tmp_path)
    with storage.attending(tmp_path):
        with storage.attending(tmp_path):
            assert storage.is_attended(tmp_path)
        assert storage.is_attended(tmp_path)
    assert not storage.is_attended(tmp_path)
    assert not storage.is_attended(tmp_path / "nosuch")


def test_a_row_that_cannot_be_read_is_no_reason_to_say_nothing(tmp_path):
    plan = plan_of(arms=("resnet8",), seeds=[0])
    folder = tmp_path / plan.runs[0].folder
    listed = {folder.name: index.Listed(folder, InputError(f"{folder}/result.json is damaged"), 0)}
    ((_, found),) = standing.of_study(plan, tmp_path, NOW, listed).runs
    assert (found.status, found.reason) == ("unreadable", "result.json is damaged")

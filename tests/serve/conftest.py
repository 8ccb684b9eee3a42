"""A lab with a complete run, one that was stopped and a study, made once for all tests of the page."""

import shutil
from pathlib import Path

import pytest
from pages_over import client_of

from residuum import recipes, training
from residuum.conduct import conducting, planning
from residuum.conduct.launchers.launcher import Room
from residuum.records import run_folder
from residuum.records.event import EpochDone
from residuum.studies.study import Study

STUDY = {
    "name": "two", "question": "Does <b>depth</b> matter?", "base": "quick", "seeds": [1], "set": {"train.epochs": 1},
    "arms": [{"name": "small", "set": {"model": "resnet8"}}, {"name": "plain", "set": {"model": "plain8"}}],
}  # fmt: skip


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """The folder of the runs; nothing of it is changed."""
    runs = tmp_path_factory.mktemp("lab") / "runs"
    config = recipes.recipe("quick").changed({"model": "resnet8", "train.epochs": 2})
    training.train(config, runs)
    stopped = training.check(config.changed({"train.seed": 7, "train.epochs": 3}))
    events = training.run(stopped, runs)
    for event in events:
        if isinstance(event, EpochDone):
            events.close()
    plan = planning.plan(Study(**STUDY), {})
    for _ in conducting.run(plan, runs, Room(1, 1, 1), "here"):
        pass
    assert run_folder.checkpoints(run_folder.folder_of(runs, stopped))
    return runs


@pytest.fixture
def lab(made, tmp_path) -> Path:
    """A copy of it to act on."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


@pytest.fixture(scope="session")
def client(made):
    """A page that starts and stops nothing."""
    with client_of(made, read_only=True) as client:
        yield client

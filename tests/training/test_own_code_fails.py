"""Own code that fails, whenever it does: one line with file, line and error, and a run that is known to have failed."""

import random
import re
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import pytest

import residuum
from residuum import own
from residuum.conduct import planning
from residuum.conduct.launchers.ended import Ended, ended
from residuum.conduct.launchers.here import launch
from residuum.conduct.launchers.launcher import Job, JobFailed, Room
from residuum.config import RunConfig
from residuum.errors import FailedError, InputError
from residuum.records import run_folder, storage
from residuum.report import tables
from residuum.studies import plan as plans
from residuum.studies.study import Study

PARTS = """
    import torch
    from torch import nn

    calls = 0

    def fail(when, what, at):
        if what == when:
            global calls
            calls += 1
            if calls == at:
                raise ERROR

    class Net(nn.Module):
        def __init__(self, in_channels, num_classes, when: str = "", at: int = 1):
            super().__init__()
            self.head, self.when, self.at = nn.Linear(64 * in_channels, num_classes), when, at

        def forward(self, x):
            fail(self.when, "training" if self.training else "evaluation", self.at)
            return self.head(x.flatten(1))

    def loss(logits, targets, *, at: int = 0):
        fail("loss" if at else "", "loss", at)
        return nn.functional.cross_entropy(logits, targets)

    def augment(images, draw, *, at: int = 0):
        fail("augment" if at else "", "augment", at)
        return images

    def schedule(span, *, at: int = 0):
        def factor(step, losses):
            fail("schedule" if at else "", "schedule", at)
            return 1.0
        return factor

    class Optimizer(torch.optim.SGD):
        def __init__(self, groups, *, at: int = 0):
            super().__init__(groups, lr=0.1)
            self.at = at

        def step(self, closure=None):
            fail("step" if self.at else "", "step", self.at)
            super().step()
"""
ERRORS = ("RuntimeError('no, not\\nso')", "KeyError('x')", "StopIteration('end')", "SystemExit(4)", "OSError('gone')",
          "ZeroDivisionError()", "RecursionError('deep')")  # fmt: skip
PLACES = {
    "training": ("model", "Net", {"when": "training"}),
    "evaluation": ("model", "Net", {"when": "evaluation"}),
    "loss": ("optim.loss", "loss", {}),
    "augment": ("data.augment", "augment", {}),
    "schedule": ("optim.schedule", "schedule", {}),
    "step": ("optim.optimizer", "Optimizer", {}),
}
LATER = {"evaluation": (3, 6), "schedule": (4, 9)}
"""Calls within a run of two epochs of three updates each; those before are made when its first update is tried."""


def written(error, name="mine.py"):
    Path(name).write_text(dedent(PARTS).replace("ERROR", error))
    return len(Path(name).read_text().partition("raise ")[0].splitlines())


def settings(place, at):
    path, name, more = PLACES[place]
    choice = {"name": f"mine.py:{name}", "at": at, **more}
    return {"data.dataset": "digits", "data.subset": 140, "data.validation": 20, "train.epochs": 2,
            "train.batch_size": 40, "model": "mine.py:Net",
            path: [choice] if path == "data.augment" else choice}  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_an_error_in_any_part_at_any_time_is_a_line_and_marks_the_run(tmp_path, monkeypatch, seed):
    """At the first call nothing is written; later the run is marked, its traceback kept, its state as it was."""
    draw = random.Random(seed)
    monkeypatch.chdir(tmp_path)
    place, error = draw.choice([*PLACES]), draw.choice(ERRORS)
    for at in (1, draw.randint(*LATER.get(place, (2, 7)))):
        line = written(f"{error}  # {seed}, {at}")  # another text: another module, whose calls begin at 0
        config = RunConfig().changed(settings(place, at))
        with pytest.raises((InputError, FailedError)) as found:
            residuum.train(config)
        assert re.search(rf"mine\.py:{line} in fail: {error.partition('(')[0]}", str(found.value)), str(found.value)
        assert "\n" not in str(found.value)
        folders = [*Path("runs").glob("*")]
        if at == 1:
            assert isinstance(found.value, InputError)
            assert not folders
            continue
        (folder,) = folders
        record = residuum.load_run(folder)
        assert record.status == "failed"
        assert f"mine.py:{line} in fail" in record.failure
        assert "Traceback" in (folder / run_folder.CRASH_LOG).read_text()


def test_a_run_that_failed_is_listed_and_goes_on_where_what_failed_is_gone(run):
    written("OSError('no file')")
    text = "from pathlib import Path\n" + Path("mine.py").read_text()
    Path("mine.py").write_text(text.replace("if calls == at:", "if calls == at and not Path('there').exists():"))
    words = ["--set=model.when=training", "--set=model.at=5", "--set=data.subset=140", "--set=train.batch_size=40"]
    code, _, err = run("train", "quick", "--model", "mine.py:Net", "--epochs", "2", *words)
    assert code == 1
    assert len([line for line in err.splitlines() if line.startswith("residuum:")]) == 1
    assert "Traceback" not in err
    assert "failed" in run("list", "runs", "--status", "failed")[1]
    (folder,) = Path("runs").glob("*-seed0-*")
    assert "no file" in run("show", "run", folder)[1]
    Path("there").touch()
    own._MODULES.clear()
    assert run("resume", folder)[0] == 0
    assert residuum.load_run(folder).status == "finished"
    assert not (folder / run_folder.FAILURE).exists()


def test_a_study_is_told_once_of_such_a_run_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = written("ValueError('late')")
    jobs = [Job(str(at), RunConfig().changed(settings("training", at)), "") for at in (3, 99)]
    told = [*launch(jobs, tmp_path, Room())]
    (failed,) = [said for said in told if isinstance(said, JobFailed)]
    assert failed.id == "3"
    assert f"mine.py:{line} in fail: ValueError: late (traceback: " in failed.reason
    assert ended(FailedError(failed.reason), tmp_path) == Ended("impossible", failed.reason)
    assert sorted(residuum.load_run(folder).status for folder in tmp_path.glob("*-seed0-*")) == ["failed", "finished"]


def test_a_report_of_a_study_whose_run_failed_elsewhere_says_why_and_tells_no_path(tmp_path, monkeypatch):
    """It was begun by another command, so no list beside the plan has it."""
    monkeypatch.chdir(tmp_path)
    line = written("ValueError('late elsewhere')")  # a text of its own: a module counts its calls
    arms = [{"name": name, "set": settings("schedule", at)} for name, at in (("fine", 0), ("late", 8))]
    study = Study(name="s", question="?", base="quick", seeds=[0], arms=arms)
    plan = planning.plan(study, {})
    for run in plan.runs:
        with suppress(FailedError):
            residuum.train(run.config)
    plans.write(plan, Path("runs"))
    found = residuum.load_results("s")
    ((arm, _, stands, why, _),) = tables.troubles(found).rows
    assert (arm, stands) == ("late", "failed")
    assert why == f"mine.py:{line} in fail: ValueError: late elsewhere"
    storage.write_json(plans.folder_of(Path("runs"), "s") / plans.FAILED,
                       {run.id: f"late (traceback: {Path('runs') / run.folder / 'crash.log'})" for run in plan.runs})  # fmt: skip
    ((_, _, _, why, _),) = tables.troubles(residuum.load_results("s")).rows
    assert why == "late (traceback: crash.log)"

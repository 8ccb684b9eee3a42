"""Who calls from Python is told: of progress where it is asked for, of runs that failed always."""

import warnings

import pytest

import residuum
from residuum.conduct.launchers import LAUNCHERS
from residuum.conduct.launchers.launcher import JobFailed, JobRestarted
from residuum.errors import InputError, Remark

SMALL = {"model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]}, "train.epochs": 2, "data.subset": 200,
         "compute.threads": 1}  # fmt: skip
STUDY = residuum.Study(name="rates", question="?", base="quick", seeds=1, axes={"optim.lr": [0.02, 0.002]})


def failing(monkeypatch, which):
    """A launcher by which some jobs, by their rates, fail, and the others are computed."""
    computed = LAUNCHERS["here"]

    def launch(jobs, runs, room):
        for job in jobs:
            if job.config.optim.lr in which:
                yield JobRestarted(job.id, 2, "out of memory")
                yield JobFailed(job.id, "out of\nmemory")
            else:
                yield from computed([job], runs, room)

    monkeypatch.setitem(LAUNCHERS, "processes", launch)


def test_a_training_tells_each_epoch_if_asked(tmp_path, capsys):
    one = residuum.train("quick", SMALL, runs=tmp_path / "a", progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2", "finished"]
    assert f"training loss {one.epochs[0].train.loss:.3f}" in lines[0]
    silent = residuum.train("quick", SMALL, runs=tmp_path / "b")
    assert capsys.readouterr().err == ""
    assert silent.id == one.id
    assert silent.epochs[-1].train == one.epochs[-1].train


def test_a_study_tells_each_run_and_warns_of_those_that_failed(tmp_path, monkeypatch, capsys):
    failing(monkeypatch, {0.002})
    with pytest.warns(Remark, match=r"1 of 2 runs of rates@\w+ failed: lr=0.002, seed 0: out of memory; .*tries again"):
        found = residuum.run_study(STUDY, SMALL, runs=tmp_path, threads=1, progress=True)
    assert len(found.records) == 1
    lines = capsys.readouterr().err.splitlines()
    (ended,) = (line for line in lines if line.startswith("1/2 lr=0.02, seed 0: finished; epoch 2/2: training loss"))
    assert "validation error" in ended
    assert "lr=0.002, seed 0: out of memory; restarted (attempt 2)" in lines
    failing(monkeypatch, set())
    with warnings.catch_warnings():
        warnings.simplefilter("error", Remark)
        whole = residuum.run_study(STUDY, SMALL, runs=tmp_path, threads=1, progress=True)
    assert len(whole.records) == 2
    assert capsys.readouterr().err.splitlines()[0] == "1 of 2 runs are there already"


def test_a_study_of_which_no_run_could_be_computed_is_an_error(tmp_path, monkeypatch):
    failing(monkeypatch, {0.02, 0.002})
    with pytest.raises(InputError, match=r"2 of 2 runs of rates@\w+ failed: lr=0.02, seed 0: out of memory"):
        residuum.run_study(STUDY, SMALL, runs=tmp_path, threads=1)


def test_a_search_tells_each_trial_if_asked(tmp_path, capsys):
    pytest.importorskip("optuna")
    study = residuum.Study(name="searched", question="?", base="quick", seeds=[5], axes={"optim.ema": [0.0, 0.5]},
                           search={"trials": 2, "seeds": [0], "tune_each_arm": True, "space": {"optim.lr": [0.02, 0.002]}})  # fmt: skip
    judged = residuum.search_study(study, SMALL, runs=tmp_path, threads=1, on="here", progress=True)
    lines = capsys.readouterr().err.splitlines()
    ended = [line.partition(":")[0] for line in lines if ", trial " in line and " | validation error " in line]
    assert sorted(ended) == [f"{arm}, trial {number} of 2" for arm in ("ema=0", "ema=0.5") for number in (1, 2)]
    again = residuum.search_study(study, SMALL, runs=tmp_path, threads=1, on="here")
    told_at = {"tuned": again.tuned.model_copy(update={"time": judged.tuned.time})}
    assert again.model_copy(update=told_at) == judged
    assert capsys.readouterr().err == ""

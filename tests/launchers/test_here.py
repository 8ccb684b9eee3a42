"""Runs in this process: what every launcher promises, and that errors come to the caller as they are."""

import pytest
from tiny_runs import bits, folder_of, job, tiny

from residuum import training
from residuum.conduct.launchers import LAUNCHERS, here, launch_of
from residuum.conduct.launchers.launcher import Job, JobEvent, JobFailed, Room
from residuum.config import RunConfig
from residuum.errors import InputError
from residuum.records import run_folder
from residuum.records.event import EpochDone, Finished, Pruned, StepDone
from residuum.records.record import read_record


def test_runs_here_end_with_the_bits_that_each_has_alone(tmp_path):
    configs = [tiny(seed, epochs=2, **{"compute.threads": 1}) for seed in range(2)]
    said = list(here.launch([job(config) for config in configs], tmp_path / "here", Room()))
    assert [one.id for one in said if isinstance(one.event, EpochDone)] == ["seed 0", "seed 0", "seed 1", "seed 1"]
    assert [one.id for one in said if isinstance(one.event, Finished)] == ["seed 0", "seed 1"]
    assert sum(isinstance(one.event, StepDone) for one in said) < 12, "updates are thinned"
    for config in configs:
        training.train(config, tmp_path / "alone")
        assert bits(folder_of(tmp_path / "here", config)) == bits(folder_of(tmp_path / "alone", config))


def test_a_run_that_cannot_work_fails_alone_and_an_unexpected_error_comes_as_it_is(tmp_path, monkeypatch):
    impossible = RunConfig().changed({"data.dataset": "synthetic", "optim.optimizer": "sgdd", "train.seed": 3})
    crashing = tiny(1)
    monkeypatch.setattr(run_folder, "rewind", lambda *_: {}["a mistake of ours"])
    said = here.launch([job(impossible), job(crashing)], tmp_path, Room())
    assert next(said) == JobFailed(
        "seed 3", "optim.optimizer: unknown optimizer 'sgdd'; did you mean 'sgd'?", certain=True
    )
    with pytest.raises(KeyError):
        list(said)


def test_stopping_early_saves_where_a_run_stands(tmp_path):
    config = tiny(0, epochs=3, **{"compute.threads": 1})
    said = here.launch([job(config)], tmp_path, Room())
    assert isinstance(next(one for one in said if isinstance(one.event, EpochDone)), JobEvent)
    said.close()
    assert run_folder.checkpoints(folder_of(tmp_path, config))
    *_, last = here.launch([job(config)], tmp_path, Room())
    assert isinstance(last.event, Finished)


@pytest.mark.parametrize("room", [Room(workers=2), Room(lanes=2)])
def test_nothing_is_side_by_side_here(tmp_path, room):
    with pytest.raises(InputError, match="one after the other"):
        next(here.launch([], tmp_path, room))


def test_launchers_are_found_by_name():
    assert launch_of("here") is LAUNCHERS["here"] is here.launch
    with pytest.raises(InputError, match=r"unknown launcher 'heer'; did you mean 'here'\?"):
        launch_of("heer")


@pytest.mark.parametrize("name", ["here", "processes"])
def test_jobs_are_asked_for_one_by_one_and_pruned_where_they_say(tmp_path, name):
    """A search needs both: the next job depends on what was said, and bad runs stop early with their states saved."""
    configs = [tiny(seed, epochs=3, **{"compute.threads": 1}) for seed in range(3)]
    over = []

    def jobs():
        for number, config in enumerate(configs):
            assert len(over) == number, "the job before has not ended"
            prune = {1: 100.0, 2: 0.0} if number == 1 else {}
            yield Job(f"seed {number}", config, "quick", prune)

    for one in launch_of(name)(jobs(), tmp_path, Room()):
        event = one.event if isinstance(one, JobEvent) else None
        if isinstance(event, Finished | Pruned):
            over.append((one.id, type(event)))
    assert over == [("seed 0", Finished), ("seed 1", Pruned), ("seed 2", Finished)]
    pruned = folder_of(tmp_path, configs[1])
    assert len(read_record(pruned).epochs) == 2
    *_, last = here.launch([job(configs[1])], tmp_path, Room())
    assert isinstance(last.event, Finished), "and one that was pruned goes on"
    training.train(configs[1], tmp_path / "alone")
    assert bits(pruned) == bits(folder_of(tmp_path / "alone", configs[1]))

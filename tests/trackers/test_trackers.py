"""Each tracker has every epoch of a run once, however often the run was stopped or told of again, all without a network."""

import json
import math
import sys
import time
from contextlib import contextmanager
from itertools import islice

import pytest

from residuum import training
from residuum.cli import main
from residuum.conduct import conducting, planning
from residuum.conduct.launchers.launcher import JobEvent, Room
from residuum.conduct.tracked_jobs import tracked_jobs
from residuum.config import RunConfig
from residuum.records import run_folder
from residuum.records.event import EpochDone, Note
from residuum.records.record import find_runs, read_record
from residuum.run import tracking
from residuum.run.trackers import TRACKERS
from residuum.run.tracking import Tracking, tracked
from residuum.studies.parsing import toml
from residuum.studies.study import Study

SETTINGS = {
    "data.dataset": {"name": "synthetic", "size": 8, "train": 60, "test": 20, "classes": 4}, "data.validation": 12,
    "model": {"name": "cifar_resnet", "depth": 8, "channels": [2, 2, 4]}, "train.epochs": 3, "train.batch_size": 16,
    "compute.threads": 1,
}  # fmt: skip
CONFIG = RunConfig().changed({**SETTINGS, "data.augment": []})
NAMES = {"lr", "images_per_second", "loss/train", "error/train", "loss/validation", "error/validation"}


@pytest.fixture(autouse=True)
def places(monkeypatch):
    """None but the folder that is named."""
    for name in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def in_tensorboard(place):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (path for path in place.iterdir() if path.is_dir())
    read = EventAccumulator(str(folder)).Reload()
    found = {}
    for name in read.Tags()["scalars"]:
        points = [(one.step, one.value) for one in read.Scalars(name)]
        assert len(points) == len(dict(points)), f"{name} has an epoch twice"
        found[name] = dict(points)
    return folder.name, found


def in_mlflow(place):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    (experiment,) = (one for one in client.search_experiments() if one.name == "residuum")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.tags["residuum.seed"]) == ("FINISHED", "0")
    assert run.data.params["optim.lr"] == str(CONFIG.optim.lr)
    found = {}
    for name in run.data.metrics:
        points = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
        assert len(points) == len(dict(points)), f"{name} has an epoch twice"
        found[name] = dict(points)
    return run.info.run_name, found


def logged(content):
    """The records of a file of W&B: a log as LevelDB has it, in blocks of 32 KiB, after a header of 7 bytes."""
    at, whole = 7, b""
    while at + 7 <= len(content):
        if (room := -at % 32768) < 7 and room:
            at += room
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def in_wandb(place):
    from wandb.proto import wandb_internal_pb2

    found, name = {}, ""
    for path in sorted(place.glob("wandb/offline-run-*/*.wandb")):
        records = []
        while not records or records[-1].WhichOneof("record_type") != "exit":  # its own process writes the file
            time.sleep(0.05)
            records = [wandb_internal_pb2.Record.FromString(data) for data in logged(path.read_bytes())]
        for record in records:
            name = record.run.display_name or name
            values = {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in record.history.item}
            for key, value in values.items():
                if not key.startswith("_"):  # a step that comes again is the same row of the same run
                    found.setdefault(key, {})[values["_step"]] = value
    return name, found


READ = {"tensorboard": in_tensorboard, "mlflow": in_mlflow, "wandb": in_wandb}


def test_every_tracker_is_read_back():
    assert set(READ) == set(TRACKERS)


@pytest.mark.parametrize("name", list(TRACKERS))
def test_each_epoch_is_there_once_after_a_stop_and_after_telling_it_again(tmp_path, name):
    runs, place = tmp_path / "runs", tmp_path / "place"
    events = tracked(training.run(CONFIG, runs), Tracking(name, place))
    list(islice((one for one in events if isinstance(one, EpochDone)), 1))
    events.close()
    assert not [one for one in tracked(training.run(CONFIG, runs), Tracking(name, place)) if isinstance(one, Note)]
    record = read_record(next(find_runs(runs)))
    told, found = READ[name](place)
    assert told == record.folder.name
    assert set(found) >= NAMES
    for row in record.epochs:
        for key, value in tracking.numbers(row).items():
            assert found[key][row.epoch] == pytest.approx(value, rel=1e-6)
    assert all(set(found[key]) == {1, 2, 3} for key in NAMES)
    options = ["--runs", str(runs), record.id]
    assert main(["export-to", f"{name}:{place}", *options]) == 0
    assert READ[name](place)[1] == found, "told again, nothing is there twice"
    if name == "mlflow":  # whose database takes seconds to set up
        return
    assert main(["export-to", f"{name}:{tmp_path / 'afterwards'}", *options]) == 0
    again = READ[name](tmp_path / "afterwards")[1]
    assert {key: again[key] for key in NAMES} == {key: found[key] for key in NAMES}, "afterwards as live"


@contextmanager
def forgetful(place, run):
    """A tracker in the memory that cannot be written to after one epoch."""

    class Log:
        def epoch(self, number, values):
            if number > 1:
                raise OSError(28, "no space left")
            place.append((run.labels, number, values))

        def end(self, status, values):
            place.append((run.labels, status, values))

    yield Log()


def test_a_tracker_that_fails_stops_no_run(tmp_path, monkeypatch):
    monkeypatch.setitem(TRACKERS, "forgetful", forgetful)
    heard = []
    said = list(tracked(training.run(CONFIG, tmp_path), Tracking("forgetful", heard)))
    notes = [one.text for one in said if isinstance(one, Note)]
    assert notes == ["forgetful is told no more of this run: OSError: [Errno 28] no space left"]
    assert [number for _, number, _ in heard] == [1]
    assert run_folder.is_complete(next(find_runs(tmp_path)))


def test_runs_of_a_study_are_told_with_their_arms(tmp_path, monkeypatch):
    @contextmanager
    def remembering(place, run):
        class Log:
            def epoch(self, number, values):
                place.append((run.labels, number, values["error/train"]))

            def end(self, status, values):
                place.append((run.labels, status, values["last/error/test"]))

        yield Log()

    monkeypatch.setitem(TRACKERS, "remembering", remembering)
    study = Study(name="two", question="Which?", base="quick", seeds=[4], set={**SETTINGS, "train.epochs": 1},
                  axes={"model.activation": ["relu", "elu"]})  # fmt: skip
    plan, heard = planning.plan(study, {}), []
    for _ in range(2):  # the second time all is complete: it is told all the same
        said = conducting.run(plan, tmp_path, Room(1, 1), "here")
        assert not [one for one in tracked_jobs(said, Tracking("remembering", heard))
                    if isinstance(one, JobEvent) and isinstance(one.event, Note)]  # fmt: skip
    labels = [{"seed": "4", "study": "two", "arm": arm} for arm in ("relu", "elu")]
    assert [(label, what) for label, what, _ in heard] == [
        (label, what) for label in labels for what in (1, "finished")
    ]
    assert all(math.isfinite(value) for *_, value in heard)
    again = []
    monkeypatch.setattr("residuum.run.trackers.find_spec", lambda _name: True)
    monkeypatch.setattr("residuum.run.trackers.Path", lambda _text: again)
    assert main(["export-to", "remembering:x", "two", "--study", "--runs", str(tmp_path)]) == 0
    assert again == heard


def test_several_trackers_are_told_of_one_run(tmp_path, monkeypatch):
    heard = {"one": [], "two": []}
    for name, rows in heard.items():
        monkeypatch.setitem(TRACKERS, name, lambda _place, run, rows=rows: forgetful(rows, run))
    monkeypatch.setattr("residuum.run.trackers.find_spec", lambda _name: True)
    settings = [
        word for path, value in {**SETTINGS, "train.epochs": 1}.items() for word in ("--set", f"{path}={toml(value)}")
    ]
    options = ["--runs", str(tmp_path), "--to", "one", "--to", "two"]
    assert main(["train", "quick", *settings, *options]) == 0
    assert [[what for _, what, _ in rows] for rows in heard.values()] == [[1, "finished"]] * 2


def test_a_place_that_cannot_be_written_to_is_a_line(tmp_path, capsys):
    run = training.train(CONFIG, tmp_path)
    assert main(["export-to", "tensorboard:/proc/nowhere", run.id, "--runs", str(tmp_path)]) == 74
    assert "/proc/nowhere" in capsys.readouterr().err


def test_who_cannot_be_told_is_named_before_anything_is_computed(tmp_path, monkeypatch, capsys):
    runs = ["--runs", str(tmp_path / "runs")]
    for command in (["train", "quick"], ["study", "run", "quickstart"]):
        assert main([*command, *runs, "--to", "tensorbord"]) == 2
        assert "unknown tracker 'tensorbord'; did you mean 'tensorboard'?" in capsys.readouterr().err
    monkeypatch.setattr("residuum.run.trackers.find_spec", lambda _name: None)
    assert main(["train", "quick", *runs, "--to", "mlflow"]) == 2
    assert "mlflow needs the package of that name: pip install 'residuum[mlflow]'" in capsys.readouterr().err
    assert main(["export-to", "wandb", "x", *runs]) == 2
    assert "pip install 'residuum[wandb]'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", list(TRACKERS))
def test_no_tracker_is_imported_before_it_is_asked_for(name):
    import subprocess

    code = f"import sys; import residuum.run.trackers; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Whole runs: stopped anywhere and resumed they are the uninterrupted run, and their record says all that happened."""

import errno
import json
import math
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from residuum import optim, recipes
from residuum.analysis import per_class
from residuum.cli import main
from residuum.cli.terminal import result_lines
from residuum.conduct.launchers import local
from residuum.conduct.launchers.launcher import StoppedError
from residuum.conduct.launchers.local import until_stopped
from residuum.config import RunConfig, identity
from residuum.data.augment import AUGMENTATIONS
from residuum.data.mix import MIXES
from residuum.engine import metrics
from residuum.engine.compute import Compute
from residuum.engine.state import from_bytes
from residuum.errors import InputError, StorageError
from residuum.models.activations import ACTIVATIONS
from residuum.records import layers, rows, run_folder, storage
from residuum.records.event import EpochDone, Finished, Note, Started, StepDone
from residuum.records.measures import measure
from residuum.records.record import read_record
from residuum.run import assemble
from residuum.run.predict import load
from residuum.training import check, resume, run, train

sys.path.insert(0, str(Path(__file__).parents[1]))
from torture import contents

STEPS = 3


def tiny(**settings) -> RunConfig:
    """A run of 2 epochs of 3 steps that takes a tenth of a second."""
    base = {
        "data.dataset": {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 4},
        "data.validation": 12,
        "data.augment": ["pad_crop", "horizontal_flip"],
        "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]},
        "optim.schedule": "cosine",
        "train.epochs": 2,
        "train.batch_size": 16,
        "compute.threads": 1,
    }
    return RunConfig().changed(base | {name.replace("__", "."): value for name, value in settings.items()})


def run_in_pieces(config: RunConfig, root: Path, stops: list[int]) -> None:
    """Run, closing the stream of events after each number of steps in turn, then to the end."""
    for stop in stops:
        events = run(config, root)
        seen = 0
        for event in events:
            seen += isinstance(event, StepDone)
            if seen == stop:
                break
        events.close()
    train(config, root)


OPTIMIZERS = [{"optim__optimizer": name, "optim__lr": 0.01} for name in optim.OPTIMIZERS]
FORMS = [
    {"optim__ema": 0.9},
    {"data__mix": "mixup"},
    {"data__mix": "cutmix"},
    {"data__augment": ["pad_crop", "gaussian_noise", "cutout", "rotation"]},
    {"optim__schedule": {"name": "plateau", "patience": 0}},
    {"optim__clip_norm": 0.1, "optim__penalties": [{"name": "l1", "weight": 1e-3}], "optim__decay_norm": False},
    {"train__micro_batch": 5},
    {"compute__precision": "bf16"},
    {"model__shortcut": "none", "monitor__test": True, "data__validation": 0},
    {
        "monitor__histograms": True,
        "monitor__noise": True,
        "save__every": 2,
        "train__batch_size": 36,
        "data__dataset": {"name": "synthetic", "size": 12, "train": 120, "test": 20, "classes": 4},
    },
]


@pytest.mark.parametrize("settings", OPTIMIZERS + FORMS, ids=str)
def test_a_run_stopped_twice_in_an_epoch_ends_with_the_same_bits(tmp_path, settings):
    """Guards 1 to 8, through the files: weights, optimizer, average, rows, predictions and result are equal."""
    config = tiny(**settings)
    train(config, tmp_path / "whole")
    run_in_pieces(config, tmp_path / "pieces", stops=[1, 1, 2, 1])
    whole, pieces = contents(tmp_path / "whole"), contents(tmp_path / "pieces")
    assert sum(name.endswith(".safetensors") for name in whole) >= 3  # weights, optimizer, predictions
    assert whole.keys() == pieces.keys()
    assert [name for name in whole if whole[name] != pieces[name]] == []


def test_looking_at_the_layers_changes_nothing_but_what_is_recorded(tmp_path):
    train(tiny(), tmp_path / "blind")
    seen = train(tiny(monitor__histograms=True), tmp_path / "seen")
    blind, both = contents(tmp_path / "blind"), contents(tmp_path / "seen")
    assert {name for name in both if name not in blind} == {
        f"layers/epoch-000{epoch}.safetensors" for epoch in range(3)
    }
    assert {name: both[name] for name in blind if name != "config.json"} == {
        name: value for name, value in blind.items() if name != "config.json"
    }
    initial, first, second = layers.read(seen.folder)
    assert (initial.epoch, first.epoch, second.epoch) == (0, 1, 2)
    assert initial.images == 48  # all training images: there are fewer than are looked at
    last = from_bytes(run_folder.read_checkpoint(seen.folder, run_folder.Position(2, 0)).files["weights.safetensors"])
    for name, norm in zip(second.parameters.names, second.parameters.norm_T, strict=True):
        assert norm == pytest.approx(last[name].norm().item(), rel=1e-5), name
    assert not (initial.parameters.counts_TB == second.parameters.counts_TB).all()


def test_a_run_taken_back_forgets_what_its_layers_were_later(tmp_path):
    record = train(tiny(monitor__histograms=True), tmp_path)
    (record.folder / "result.json").unlink()
    run_folder.rewind(record.folder, run_folder.Position(1, 0), STEPS)
    assert [seen.epoch for seen in layers.read(record.folder)] == [0, 1]


def test_runs_that_differ_are_seen_to_differ(tmp_path):
    """The comparison above can fail."""
    train(tiny(), tmp_path / "one")
    train(tiny(train__seed=1), tmp_path / "two")
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert {name for name in one if one[name] != two[name]} >= {"metrics.jsonl", "steps.jsonl", "result.json"}


@pytest.mark.parametrize("number", local.SIGNALS)
def test_a_signal_saves_where_the_run_stands_and_the_next_start_goes_on_there(tmp_path, number):
    config, steps, usual = tiny(), 0, signal.getsignal(number)
    signal.signal(number, signal.default_int_handler)  # one that is ignored stays so, as under nohup
    with pytest.raises(StoppedError) as stopped:  # noqa: PT012
        for event in until_stopped(run(config, tmp_path)):
            steps += isinstance(event, StepDone)
            if steps == 4:
                os.kill(os.getpid(), number)
    assert stopped.value.exit_code == 128 + number
    assert steps == 4
    assert signal.getsignal(number) == signal.default_int_handler
    signal.signal(number, usual)
    started = next(event for event in run(config, tmp_path) if isinstance(event, Started))
    assert (started.epoch, started.step) == (1, 4)


def test_a_signal_after_the_end_stops_nothing(tmp_path):
    for event in until_stopped(run(tiny(), tmp_path)):
        if isinstance(event, Finished):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_second_launch_exits_75_in_one_line_and_leaves_the_first_alone(tmp_path, capsys):
    """Guard 13."""
    events = run(tiny(), tmp_path)
    folder = next(event.folder for event in events if isinstance(event, Started))
    before = sorted(path.name for path in folder.rglob("*"))
    assert main(["resume", str(folder)]) == 75
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "another process" in error
    assert sorted(path.name for path in folder.rglob("*")) == before
    assert read_record(folder).status == "running"
    events.close()
    assert read_record(folder).status == "stopped"


def test_what_is_watched_or_saved_makes_no_other_run(tmp_path):
    """A complete run is found whatever was watched; what it lacks is said. A stopped one goes on and watches from there."""
    first = train(tiny(monitor__noise=True), tmp_path)
    notes = [e.text for e in run(tiny(monitor__noise=True, monitor__histograms=True, save__keep=0), tmp_path)
             if isinstance(e, Note)]  # fmt: skip
    assert len(notes) == 2
    assert notes[1] == "it was computed without monitor.histograms"
    assert read_record(first.folder).config.save.keep == tiny().save.keep

    events = run(tiny(train__seed=1), tmp_path)
    folder = next(event.folder for event in events if isinstance(event, Started))
    events.close()
    seen = train(tiny(train__seed=1, monitor__histograms=True), tmp_path)
    assert seen.folder == folder
    assert seen.config.monitor.histograms
    assert [one.epoch for one in seen.layers()] == [0, 1, 2]  # it had not got beyond its start


def test_device_and_precision_are_part_of_a_run(tmp_path, monkeypatch):
    """`auto` is what the machine makes of it, so runs of another arithmetic are other runs."""
    monkeypatch.setattr("residuum.engine.compute.has_fast_bf16", lambda device: False)
    slow = train(tiny(), tmp_path)
    assert (slow.config.compute.device, slow.config.compute.precision) == ("cpu", "fp32")
    assert train(tiny(compute__device="cpu", compute__precision="fp32"), tmp_path).id == slow.id
    monkeypatch.setattr("residuum.engine.compute.has_fast_bf16", lambda device: True)
    assert check(tiny()).compute.precision == "bf16"
    assert train(tiny(), tmp_path).id != slow.id


def test_what_only_a_gpu_can_do_is_no_other_run_on_a_cpu():
    settings = {"compute__deterministic": False, "compute__kernels": "auto", "compute__device": "cpu"}
    resolved = check(tiny(**settings)).compute
    assert (resolved.deterministic, resolved.kernels) == (True, "cudnn")
    assert identity(check(tiny(**settings))) == identity(check(tiny()))
    with pytest.raises(InputError, match=r"compute\.kernels: triton needs an NVIDIA card"):
        check(tiny(compute__kernels="triton"))


def test_a_run_that_was_trained_on_a_card_is_read_on_a_laptop(tmp_path):
    """Its record says `cuda`; here it is evaluated on what is here, in an arithmetic that is here."""
    record = train(tiny(compute__precision="fp32"), tmp_path)
    values = storage.read_json(record.folder / run_folder.CONFIG)
    for precision in ("fp32", "tf32", "fp16", "bf16"):
        values["compute"] |= {"device": "cuda", "precision": precision, "kernels": "triton"}
        storage.write_json(record.folder / run_folder.CONFIG, values)
        from residuum.run.predict import evaluate, load

        elsewhere = read_record(record.folder)
        on = load(elsewhere).compute
        assert (on.device.type, on.precision) == ("cpu", "bf16" if precision == "bf16" else "fp32")
        scores = evaluate(elsewhere)
        assert scores.loss == pytest.approx(record.result.last.test.loss, rel=0.05)


def begun_on_a_card(folder, **settings):
    """The folder of a run that was stopped after its first epoch, as if a card had begun it."""
    events = run(tiny(**settings), folder)
    begun = next(event.folder for event in events if isinstance(event, Started))
    next(event for event in events if isinstance(event, EpochDone))
    events.close()
    values = storage.read_json(begun / run_folder.CONFIG)
    values["compute"] |= {"device": "cuda", "precision": "bf16", "kernels": "auto"}
    asked = RunConfig.of({name: part for name, part in values.items() if name not in ("schema", "id", "recipe")})
    values["id"] = identity(asked)
    storage.write_json(begun / run_folder.CONFIG, values)
    starts = storage.read_json(begun / run_folder.ENVIRONMENT)
    storage.write_json(begun / run_folder.ENVIRONMENT, [{**starts[0], "device": "a card"}])
    return begun


def test_a_run_goes_on_elsewhere_where_that_is_asked_for_and_stays_the_run_that_it_is(tmp_path):
    begun = begun_on_a_card(tmp_path)
    config = (begun / run_folder.CONFIG).read_text()
    with pytest.raises(InputError, match="was begun on cuda, which is not here") as refused:
        resume(begun)
    assert [remedy.kind for remedy in refused.value.remedies] == ["another device"]
    events = list(resume(begun, device="cpu"))
    assert any("resumed with another device" in event.text for event in events if isinstance(event, Note))
    record = read_record(begun)
    assert (record.status, len(record.epochs), (begun / run_folder.CONFIG).read_text()) == ("finished", 2, config)
    assert [start.device == "a card" for start in record.environment] == [True, False]
    assert (record.environment[1].epoch, record.config.compute.device) == (1, "cuda")


def test_a_run_whose_data_was_moved_goes_on(tmp_path):
    data, rng = tmp_path / "data", np.random.default_rng(0)
    for number in range(48):
        place = data / ("train" if number < 40 else "test") / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).save(place / f"{number}.png")
    begun = run(tiny(data__dataset="folder", data__root=str(data), train__batch_size=8), tmp_path)
    folder = next(event.folder for event in begun if isinstance(event, Started))
    begun.close()
    data.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="does not exist"):
        next(resume(folder))
    list(resume(folder, data=str(tmp_path / "moved")))
    assert read_record(folder).status == "finished"


def test_a_reading_of_the_test_set_says_what_computed_it(tmp_path):
    from residuum.run.predict import evaluate

    record = train(tiny(compute__precision="fp32"), tmp_path)
    evaluate(record, device="cpu")
    found = rows.read_rows(record.folder / run_folder.TEST_READS)
    assert found[-1] == {"why": "evaluate", "epoch": 2, "device": "cpu", "precision": "fp32"}
    assert found[0] == {"why": "last", "epoch": 2}
    with pytest.raises(InputError, match="no cuda device here"):
        evaluate(record, device="cuda")
    assert read_record(record.folder).test_reads == len(found)


def test_a_run_folder_of_the_first_version_is_read_and_gone_on_with(tmp_path):
    """Version 1 had the settings as they were asked for, `auto` among them, and counted all of them in the id."""
    events = run(tiny(save__every=2), tmp_path)
    folder = next(event.folder for event in events if isinstance(event, Started))
    events.close()
    values = storage.read_json(folder / run_folder.CONFIG)
    values["compute"] |= {"device": "auto", "precision": "auto"}
    asked = RunConfig.of({name: part for name, part in values.items() if name not in ("schema", "id", "recipe")})
    values |= {"schema": 1, "id": identity(asked, schema=1)}
    old = folder.with_name(f"{folder.name.rpartition('-')[0]}-{values['id']}")
    folder.rename(old)
    storage.write_json(old / run_folder.CONFIG, values)
    started = next(event for event in resume(old) if isinstance(event, Started))
    assert (started.id, started.folder) == (values["id"], old)
    list(resume(old))
    record = read_record(old)
    assert (record.status, record.id, len(record.epochs)) == ("finished", values["id"], 2)
    whole = train(tiny(save__every=2), tmp_path / "whole")
    assert whole.result.last == record.result.last
    notes = [event.text for event in run(tiny(save__every=2), tmp_path) if isinstance(event, Note)]
    assert notes == [f"{old} is this run under the id of an earlier version; it is computed anew"]
    values["optim"]["lr"] = 0.2
    storage.write_json(old / run_folder.CONFIG, values)
    with pytest.raises(InputError, match="was changed"):
        resume(old)


def test_a_complete_run_is_not_computed_again(tmp_path):
    first = train(tiny(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file()}
    events = list(run(tiny(), tmp_path))
    assert [type(event) for event in events] == [Started, Note, Finished]
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file()} == before


def test_the_same_run_asked_for_in_other_words_is_the_same_run(tmp_path):
    """The identity is that of the resolved configuration: written-out defaults change nothing."""
    first = train(tiny(), tmp_path)
    again = train(tiny(model__activation="relu", optim__optimizer={"name": "sgd", "momentum": 0.9}), tmp_path)
    assert again.id == first.id


def test_resume_goes_on_with_the_settings_of_the_folder(tmp_path):
    events = run(tiny(), tmp_path, recipe="he2015")
    folder = next(event.folder for event in events if isinstance(event, Started))
    events.close()
    list(resume(folder))
    record = read_record(folder)
    assert (record.status, record.recipe, len(record.epochs)) == ("finished", "he2015", 2)


def test_a_configuration_that_was_edited_is_refused(tmp_path):
    events = run(tiny(), tmp_path)
    folder = next(event.folder for event in events if isinstance(event, Started))
    events.close()
    path = folder / run_folder.CONFIG
    path.write_text(path.read_text().replace('"lr": 0.1', '"lr": 0.2'))
    with pytest.raises(InputError, match="was changed"):
        resume(folder)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_leads_to_the_same_bits(tmp_path):
    """Guard 11, end to end."""
    config = tiny()
    train(config, tmp_path / "whole")
    events = run(config, tmp_path / "other")
    for event in events:
        if isinstance(event, EpochDone):
            break
    events.close()
    list_of_states = run_folder.checkpoints(next((tmp_path / "other").iterdir()))
    events = run(config, tmp_path / "other")
    for event in events:
        if isinstance(event, StepDone):
            break
    events.close()
    folder = next((tmp_path / "other").iterdir())
    newest = run_folder.checkpoints(folder)[-1][1]
    assert newest != list_of_states[-1][1]
    weights = newest / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    notes = [event.text for event in run(config, tmp_path / "other") if isinstance(event, Note)]
    assert len(notes) == 1
    assert f"{weights} is damaged" in notes[0]
    whole, other = contents(tmp_path / "whole"), contents(tmp_path / "other")
    assert [name for name in whole if whole[name] != other[name]] == []


def test_a_disk_that_fills_ends_in_one_line_and_the_last_state_still_loads(tmp_path, monkeypatch, capsys):
    """Guard 12."""
    config, real, count = tiny(), os.fsync, []

    def sometimes(descriptor):
        count.append(descriptor)
        if len(count) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sometimes)
    with pytest.raises(StorageError, match=r"cannot write .*: No space left on device"):
        train(config, tmp_path)
    monkeypatch.undo()
    folder = next(tmp_path.iterdir())
    checkpoint, problems = run_folder.latest_checkpoint(folder)
    assert (checkpoint is not None, problems) == (True, [])
    assert train(config, tmp_path).status == "finished"


def test_another_environment_is_said_in_one_line(tmp_path):
    """Guard 28: thread count, versions and device are in the record, and a change of them is not silent."""
    events = run(tiny(), tmp_path)
    folder = next(event.folder for event in events if isinstance(event, Started))
    events.close()
    environment = storage.read_json(folder / run_folder.ENVIRONMENT)
    assert {"threads", "packages", "processor", "capability", "determinism", "device", "precision"} <= set(
        environment[0]
    )
    assert environment[0]["determinism"] == "bitwise"
    environment[0]["threads"] = 64
    storage.write_json(folder / run_folder.ENVIRONMENT, environment)
    notes = [event.text for event in resume(folder) if isinstance(event, Note)]
    assert notes == ["resumed with another threads than it began with: not bit for bit the run it would have been"]


def test_milestones_beyond_the_run_are_said(tmp_path):
    late = tiny(optim__schedule={"name": "multistep", "milestones": [1, 2, 81, 122]})
    notes = [event.text for event in run(late, tmp_path) if isinstance(event, Note)]
    assert notes == [
        "optim.schedule.milestones: 2, 81 and 122 lie at or beyond the end of this run (train.epochs=2), so the rate "
        "does not change there; shares of the run, as 0.5, go with its length"
    ]
    once = tiny(optim__schedule={"name": "step", "every": 30})
    (note,) = [event.text for event in run(once, tmp_path) if isinstance(event, Note)]
    assert note.startswith("optim.schedule.every: 30 lies at or beyond the end")
    inside = tiny(optim__schedule={"name": "multistep", "milestones": [0.5, 0.75]})
    assert not [event for event in run(inside, tmp_path) if isinstance(event, Note)]


def test_compilation_is_said_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.compile", lambda function, **_: lambda *x: function(*x))
    events = list(run(tiny(compute__compile=True), tmp_path))
    texts = [event.text if isinstance(event, Note) else type(event).__name__ for event in events]
    assert (texts[0], texts[2]) == ("Started", "StepDone")
    assert texts[1].startswith("the first step of the first such network compiles it")


@pytest.mark.parametrize("name", [run_folder.METRICS, run_folder.STEPS])
@pytest.mark.parametrize("damage", ["damaged", "taken out", "cut"])
def test_a_state_that_lacks_a_row_is_passed_over(tmp_path, name, damage):
    """A row that a state covers belongs to it: without it the state before is used, and none that comes later matters."""
    settings = {"train__epochs": 4, "save__every": 2, "data__validation": 0, "data__dataset__train": 16 * STEPS}
    whole = train(tiny(**settings), tmp_path / "whole")
    for number, covered in ((1, True), (-1, False)):
        root = tmp_path / str(covered)
        events = run(tiny(**settings), root)
        for event in events:
            if isinstance(event, EpochDone) and event.epoch == 3:
                break
        with pytest.raises(KeyboardInterrupt):
            events.throw(KeyboardInterrupt)  # like a kill: nothing is saved on the way out
        folder = next(root.iterdir())
        path = folder / name
        lines = path.read_bytes().splitlines(keepends=True)
        if damage == "damaged":
            lines[number] = b"#" + lines[number]
        elif damage == "taken out":
            del lines[number]
        else:
            del lines[number:]
        path.write_bytes(b"".join(lines))
        said = [event.text for event in resume(folder) if isinstance(event, Note)]
        assert [name in text and text.endswith("the run begins anew") for text in said] == [True] * covered
        record = read_record(folder)
        assert record.damaged == ()
        assert [row["step"] for row in record.steps()] == list(range(4 * STEPS))
        assert [epoch.train for epoch in record.epochs] == [epoch.train for epoch in whole.epochs]


def test_other_images_than_the_run_s_are_refused(tmp_path):
    config = check(tiny())
    assert len(config.data.fingerprint) == 16
    with pytest.raises(InputError, match="are not those of this run"):
        check(config.changed({"data.dataset.seed": 5}))


def test_every_reading_of_the_test_set_is_counted(tmp_path):
    """Guard 16."""
    record = train(tiny(monitor__test=True, train__seed=2), tmp_path)
    found = rows.read_rows(record.folder / run_folder.TEST_READS)
    assert [row["why"] for row in found] == ["observed", "observed", "last", "selected"]
    assert record.result.test_reads == record.test_reads == 4
    assert train(tiny(monitor__test=False, data__validation=0), tmp_path).result.test_reads == 1


def test_the_test_set_is_read_once_where_validation_selected_the_last_epoch(tmp_path):
    record = train(tiny(train__epochs=1), tmp_path)
    assert record.result.selected.epoch == record.result.last.epoch == 1
    assert [row["why"] for row in rows.read_rows(record.folder / run_folder.TEST_READS)] == ["last"]
    assert record.result.test_reads == record.test_reads == 1
    assert record.result.selected.test == record.result.last.test
    last, selected = (per_class.read(record, which) for which in ("last", "selected"))
    assert (last.logits_NK == selected.logits_NK).all()


def test_a_run_can_leave_the_test_set_unread_and_is_the_same_run(tmp_path):
    whole = train(tiny(train__seed=2), tmp_path / "whole")
    left = train(tiny(monitor__final_test=False, train__seed=2), tmp_path / "left")
    assert (left.id, left.steps()) == (whole.id, whole.steps())
    assert (left.test_reads, left.result.test_reads) == (0, 0)
    assert not (left.folder / run_folder.TEST_READS).read_bytes()
    assert not [*(left.folder / "predictions").iterdir()]
    assert left.result.last == replace(whole.result.last, test=None, chance=None)
    assert storage.read_json(left.folder / "result.json")["last"] == {
        key: value for key, value in whole.result.last.plain().items() if key not in ("test", "chance")
    }
    assert whole.blind().result.last == left.result.last
    assert [measure(name).of(left) for name in ("test_error", "selected_test_error", "test_accuracy", "test_loss")] == [
        None
    ] * 4
    assert (
        measure("validation_error").of(left)
        == measure("validation_error").of(whole)
        == 100 - measure("validation_accuracy").of(left)
    )
    (line,) = result_lines(left)
    assert line.startswith("validation loss ")
    assert line.endswith("the test set was left unread (monitor.final_test=false)")
    with pytest.raises(InputError, match="has left the test set unread"):
        per_class.read(left)

    # Asked for later, it is read then, once, and nothing is trained.
    assert train(tiny(monitor__final_test=False, train__seed=2), tmp_path / "left").test_reads == 0
    seen = list(run(tiny(train__seed=2), tmp_path / "left"))
    assert not any(isinstance(event, EpochDone | StepDone) for event in seen)
    now = read_record(left.folder)
    assert replace(now.result, seconds=0.0) == replace(whole.result, seconds=0.0)
    assert (now.test_reads, now.steps()) == (2, left.steps())
    assert per_class.read(now).accuracy == whole.result.last.test.accuracy
    assert train(tiny(train__seed=2), tmp_path / "left").test_reads == 2


def test_a_run_without_its_weights_is_not_counted_as_read(tmp_path):
    left = train(tiny(monitor__final_test=False), tmp_path)
    for _, path in run_folder.checkpoints(left.folder):
        shutil.rmtree(path)
    with pytest.raises(InputError, match="is missing"):
        train(tiny(), tmp_path)
    assert read_record(left.folder).test_reads == 0


def test_selected_is_the_epoch_with_the_best_validation_accuracy(tmp_path):
    record = train(tiny(train__epochs=5, save__keep=1), tmp_path)
    accuracies = [epoch.validation.accuracy for epoch in record.epochs]
    best = accuracies.index(max(accuracies)) + 1
    assert record.result.selected.epoch == best
    kept = {position.epoch for position, _ in run_folder.checkpoints(record.folder)}
    assert kept == {best, 5}


def test_the_average_is_what_is_evaluated_and_what_is_reported(tmp_path):
    """Guard 6: its tensors differ from the weights, and the scores are the average's."""
    record = train(tiny(optim__ema=0.8), tmp_path)
    checkpoint, _ = run_folder.latest_checkpoint(record.folder)
    weights, average = (from_bytes(checkpoint.files[f"{name}.safetensors"]) for name in ("weights", "average"))
    assert any(not (weights[name] == average[name]).all() for name in weights)
    from residuum.run.predict import evaluate

    assert evaluate(record) == record.result.last.test


def test_the_gap_is_that_of_the_final_weights_on_clean_images(tmp_path):
    record = train(tiny(optim__ema=0.8, data__augment=["horizontal_flip"]), tmp_path)
    clean = record.result.last.train_clean.plain()
    _, data = assemble.resolve(record.config)
    network = load(record).network
    images_NCHW = torch.from_numpy(data.dataset.train.images_NCHW[data.train_N])
    right = assemble.logits(network, images_NCHW, data.normalization, Compute(torch.device("cpu"), "fp32", 1)).argmax(1)
    labels_N = torch.from_numpy(data.dataset.train.labels_N[data.train_N])
    assert clean["n"] == len(labels_N)
    assert clean["accuracy"] == pytest.approx((right == labels_N).float().mean().item(), abs=1.5 / len(labels_N))
    held_out = 100 * (1 - record.epochs[-1].validation.accuracy)
    assert measure("gap").of(record) == pytest.approx(held_out - 100 * (1 - clean["accuracy"]))
    largest = data.dataset.test.labels_N.tolist()
    assert record.result.last.chance == max(map(largest.count, largest)) / len(largest)
    assert {row["why"] for row in rows.read_rows(record.folder / run_folder.TEST_READS)} <= {"last", "selected"}


@pytest.mark.parametrize("rate", [1e9, 1e30])
def test_divergence_is_a_result_with_the_last_finite_state(tmp_path, rate):
    """Guard 25."""
    record = train(tiny(optim__lr=rate, compute__precision="fp32"), tmp_path)
    assert record.status == "diverged"
    assert not math.isfinite(record.result.diverged.loss + record.result.diverged.gradient_norm)
    assert record.result.last is None
    json.dumps(record.result.plain(), allow_nan=False)
    checkpoint, _ = run_folder.latest_checkpoint(record.folder)
    if checkpoint is not None:
        assert all(tensor.isfinite().all() for tensor in from_bytes(checkpoint.files["weights.safetensors"]).values())


def test_a_loss_that_is_not_finite_outside_training_is_recorded_and_read(tmp_path, monkeypatch, capsys):
    """Weights stay finite while the activations of a deep plain network overflow in evaluation."""
    honest = metrics.scores

    def overflowing(split, logits_NK, labels_N):
        scores = honest(split, logits_NK, labels_N)
        return replace(scores, loss={"validation": math.inf, "test": math.nan}.get(split, scores.loss))

    with monkeypatch.context() as patched:
        patched.setattr(metrics, "scores", overflowing)
        run_in_pieces(tiny(), tmp_path, stops=[4])
    (folder,) = (path.parent for path in tmp_path.glob("*/result.json"))
    record = read_record(folder)
    assert [row.validation.loss for row in record.epochs] == [math.inf, math.inf]
    assert math.isnan(record.result.last.test.loss)
    assert record.result.selected is None  # nothing finite to select by
    assert measure("test_loss").of(record) is None or math.isnan(measure("test_loss").of(record))
    for words in (["show", "run"], ["show", "run", "--json"], ["draw"], ["list", "runs", "--json"]):
        name = [] if words[0] == "list" else [str(folder)]
        extra = ["--out", str(tmp_path / "curves.png")] if words[0] == "draw" else []
        assert main([*words, *name, *extra, "--runs", str(tmp_path)]) == 0
    assert "loss nan" in capsys.readouterr().out


def test_the_decay_groups_are_in_the_record(tmp_path):
    """Guard 26."""
    record = train(tiny(optim__decay_norm=False), tmp_path)
    groups = storage.read_json(record.folder / run_folder.GROUPS)
    named = [name for group in groups for name in group["parameters"]]
    checkpoint, _ = run_folder.latest_checkpoint(record.folder)
    learned = {
        name
        for name in from_bytes(checkpoint.files["weights.safetensors"])
        if "running" not in name and "tracked" not in name
    }
    assert sorted(named) == sorted(learned)
    assert [group["weight_decay"] for group in groups] == [1e-4, 0.0]
    assert not any("bn" in name or "bias" in name for name in groups[0]["parameters"])


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_every_recipe_passes_the_checks_and_takes_steps(tmp_path, name):
    config = recipes.recipe(name).changed(
        {"data.dataset": {"name": "synthetic", "size": 32, "train": 40, "test": 10}, "train.epochs": 1, "train.batch_size": 20,
         "data.validation": 0.25, "compute.threads": 1, "compute.precision": "fp32"}
    )  # fmt: skip
    if config.pretrained.weights:
        config = config.changed(
            {"pretrained.weights": str(train(config.changed({"pretrained.weights": ""}), tmp_path).folder)}
        )
    record = train(config, tmp_path)
    assert (record.status, record.epochs[0].train.n) == ("finished", 30)


@pytest.mark.parametrize("name", [*AUGMENTATIONS, *MIXES, *ACTIVATIONS])
def test_every_augmentation_mixing_and_activation_trains(tmp_path, name):
    key = "data__augment" if name in AUGMENTATIONS else "data__mix" if name in MIXES else "model__activation"
    value = [name] if name in AUGMENTATIONS else name
    assert train(tiny(train__epochs=1, **{key: value}), tmp_path).status == "finished"


def test_arms_with_the_same_seed_see_the_same_images_in_the_same_order(tmp_path):
    """Paired by construction: the order hashes of a network and its plain twin agree at every step."""
    one, two = train(tiny(), tmp_path), train(tiny(model__shortcut="none"), tmp_path)
    assert [row["order"] for row in one.steps()] == [row["order"] for row in two.steps()]
    assert [row["loss"] for row in one.steps()] != [row["loss"] for row in two.steps()]
    other = train(tiny(train__seed=1), tmp_path)
    assert [row["order"] for row in other.steps()] != [row["order"] for row in one.steps()]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"data__augment": [{"name": "cutout", "size": 13}]}, "data.augment[0].size: 13 is too much"),
        ({"data__augment": ["hue"], "data__dataset": "digits"}, "hue"),
        ({"model": "resnet18-imagenet"}, "too small"),
        ({"optim__optimizer": {"name": "sgd", "nesterov": True, "momentum": 0.0}}, "nesterov"),
        ({"data__dataset": "digits", "data__root": "somewhere"}, "data.root"),
        ({"data__validation": 60}, "data.validation"),
        ({"optim__warmup": 50}, "optim.warmup: 50 epochs of warm-up do not fit into a run of 2"),
        ({"optim__schedule": "plateau", "data__validation": 0}, "plateau"),
        ({"compute__device": "mps"}, "compute.device"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(tmp_path, settings, says):
    with pytest.raises(InputError) as error:
        train(tiny(**settings), tmp_path / "runs")
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()

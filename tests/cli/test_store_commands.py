"""Commands that read and write runs in a store."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from residuum import recipes, training
from residuum.cli import build_parser, main
from residuum.conduct import mirrored
from residuum.records import mirror, rows, run_folder, storage
from residuum.records.event import EpochDone
from residuum.records.record import read_record

STOPPED = {"model": "resnet8", "train.epochs": 3, "train.seed": 7}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A store with a complete run and one that was stopped after its first epoch."""
    root = tmp_path_factory.mktemp("trained")
    common = ["--store", f"file://{root}/store", "--runs", str(root / "node")]
    assert main(["train", "quick", "--model", "resnet8", "--epochs", "1", *common]) == 0
    config = training.check(recipes.recipe("quick").changed(STOPPED))
    folder = run_folder.folder_of(root / "node", config)
    events = mirrored.events_of(lambda: training.run(config, root / "node"), folder, f"file://{root}/store")
    for event in events:
        if isinstance(event, EpochDone):
            events.close()
    return root / "store"


@pytest.fixture
def store(trained, tmp_path, monkeypatch) -> Path:
    """A copy of it, and a cache of the test's own."""
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path / "cache"))
    shutil.copytree(trained, tmp_path / "store")
    return tmp_path / "store"


def url(store: Path) -> str:
    return f"file://{store}"


def test_what_lies_in_a_store_is_listed_and_shown(run, store, tmp_path):
    code, out, _ = run("list", "runs", "--store", url(store), "--json")
    rows = json.loads(out)
    assert code == 0
    assert {(one["seed"], one["status"], one["epochs"]) for one in rows} == {(0, "finished", 1), (7, "stopped", 1)}
    code, out, _ = run("show", "run", rows[0]["run"], "--store", url(store))
    assert code == 0
    assert out.startswith(f"run {rows[0]['run']}, ")
    assert not [*(tmp_path / "cache").rglob("weights.safetensors")]
    assert [*(tmp_path / "cache").rglob("manifest.json")]
    assert not (tmp_path / "runs").exists()


def test_a_run_that_a_node_is_at_is_shown_as_running(run, store, monkeypatch):
    (folder,) = store.glob("resnet8-*seed7-*")
    lease = mirror.Lease(mirror.store_of(url(store)), folder.name, "")

    def status():
        _, out, _ = run("list", "runs", "--store", url(store), "--json")
        return {one["seed"]: one["status"] for one in json.loads(out)}

    lease.take()
    assert status() == {0: "finished", 7: "running"}
    lease.release()
    assert status() == {0: "finished", 7: "stopped"}
    lease.take()
    monkeypatch.setattr(mirror, "LEASE", -1.0)  # nobody renewed it
    assert status() == {0: "finished", 7: "stopped"}


def test_what_goes_from_a_store_goes_from_the_list(run, store):
    (gone, _) = sorted(store.glob("resnet8-*"))
    shutil.move(store / gone.name, store / gone.name.replace("seed0", "seed00"))
    assert run("list", "runs", "--store", url(store))[0] == 0
    shutil.rmtree(store / gone.name.replace("seed0", "seed00"))
    code, out, _ = run("list", "runs", "--store", url(store), "--json")
    assert (code, [one["seed"] for one in json.loads(out)]) == (0, [7])


def test_readings_of_the_test_set_are_counted_in_the_store(run, store, tmp_path, monkeypatch):
    """Two machines score the run, the second from a copy that is older than the first one's reading."""
    (folder,) = store.glob("resnet8-*seed0-*")
    before = rows.read_rows(folder / run_folder.TEST_READS)
    for number in (2, 1):
        monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path / f"cache{number}"))
        assert run("show", "run", folder.name, "--store", url(store))[0] == 0
    for number in (1, 2):
        monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path / f"cache{number}"))
        code, out, err = run("evaluate", "resnet8-digits-seed0", "--store", url(store))
        assert (code, err) == (0, "")
        assert out.startswith("test loss")
    found = rows.read_rows(folder / run_folder.TEST_READS)
    assert found[: len(before)] == before
    assert [one["why"] for one in found[len(before) :]] == ["evaluate", "evaluate"]
    assert read_record(folder).test_reads == len(found)


def test_what_a_command_adds_to_a_run_goes_to_the_store(run, store):
    (folder,) = store.glob("resnet8-*seed0-*")
    assert run("classes", folder.name, "--store", url(store))[0] == 0
    assert run("explain", folder.name, "--images", "0", "--store", url(store))[0] == 0
    assert [*(folder / "attributions").iterdir()]
    assert [*(folder / "figures").iterdir()]
    assert [one["why"] for one in rows.read_rows(folder / run_folder.TEST_READS)][-1] == "explain"


def test_a_stopped_run_goes_on_from_the_store(run, store, tmp_path, trained):
    code, out, err = run("resume", "resnet8-digits-seed7", "--store", url(store), "--runs", tmp_path / "elsewhere")
    assert (code, err) == (0, "")
    assert "continuing at epoch 2" in out
    (folder,) = store.glob("resnet8-*seed7-*")
    record = read_record(folder)
    assert (record.status, len(record.epochs), len(record.environment)) == ("finished", 3, 2)
    assert (folder / "curves.png").exists()
    whole = training.train(training.check(recipes.recipe("quick").changed(STOPPED)), tmp_path / "whole").folder
    for name in ("metrics.jsonl", "steps.jsonl"):
        there = [[{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}
                  for row in rows.read_rows(one / name)] for one in (whole, folder)]  # fmt: skip
        assert there[0] == there[1]


@pytest.mark.parametrize("words", [["train", "quick", "--epochs", "1"], ["study", "run", "quickstart"]])
def test_a_store_that_is_unusable_from_the_start_is_told_before_anything_is_computed(run, tmp_path, monkeypatch, words):
    monkeypatch.setattr(mirror, "wait", lambda seconds: None)
    (tmp_path / "file").write_text("")
    code, out, err = run(*words, "--store", f"file://{tmp_path}/file/store")
    assert (code, out, len(err.splitlines())) == (74, "", 1), err
    assert err.startswith(f"residuum: the store file://{tmp_path}/file/store cannot be used: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_store_that_is_lost_stops_no_training_and_is_told(run, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "wait", lambda seconds: None)
    monkeypatch.setattr(mirror, "usable", mirror.store_of)  # it was there a moment ago
    (tmp_path / "file").write_text("")
    words = ["train", "quick", "--model", "resnet8", "--epochs", "1", "--store", f"file://{tmp_path}/file/store"]
    code, out, err = run(*words)
    assert code == 74
    assert "the run goes on here" in out
    assert "alone" in out
    assert err.startswith(f"residuum: the store file://{tmp_path}/file/store cannot be used: ")
    assert len(err.splitlines()) == 1
    (folder,) = (tmp_path / "runs").glob("resnet8-*")
    assert read_record(folder).status == "finished"
    assert len(run_folder.read_remarks(folder)) == 2
    (tmp_path / "file").unlink()
    assert run(*words)[0] == 0
    assert read_record(tmp_path / "file" / "store" / folder.name).status == "finished"


def test_a_study_in_a_store_goes_on_and_is_reported_elsewhere(run, tmp_path, monkeypatch):
    where = f"file://{tmp_path}/store"
    study = ["quickstart", "--scale", "0.05", "--arms", "plain20,resnet20", "--set", "model.depth=8", "--store", where]
    code, _, err = run("study", "run", *study, "--seeds", "1", "--on", "here", "--runs", tmp_path / "one")
    assert (code, err) == (0, "")
    shutil.rmtree(tmp_path / "one")
    code, out, _ = run("study", "run", *study, "--seeds", "1", "--on", "here", "--runs", tmp_path / "two")
    assert code == 0
    assert "2 complete already" in out
    (folder,) = (tmp_path / "store" / "studies").iterdir()
    promise = (folder / "prespecified.json").read_bytes()
    assert (tmp_path / "two" / "studies" / folder.name / "prespecified.json").read_bytes() == promise
    assert json.loads(promise)["complete"] == 0  # as it was before the first run, on the machine that is gone
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path / "cache"))
    code, out, _ = run("study", "report", "quickstart", "--store", where)
    assert code == 0
    assert (folder / "report" / "report.md").read_text().count("| finished |") == 2
    code, out, _ = run("study", "plan", *study, "--seeds", "1", "--json")
    assert [one["complete"] for one in json.loads(out)["runs"]] == [True, True]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "quick", "--store", "s4://bucket"], "--store: unknown kind of store 's4'; did you mean 's3"),
        (
            ["train", "quick", "--store", "bucket/runs"],
            "--store: 'bucket/runs' is no URL of a store, as s3://bucket/runs",
        ),
        (["train", "quick", "--fresh", "--store", "memory://runs"], "--fresh: the record in a store stays as it is"),
        (["study", "run", "quickstart", "--store", "memory://runs"], "is seen by one process alone: --on here"),
        (["study", "run", "quickstart", "--scratch", "/tmp"], "--scratch is where machines of a cluster compute"),
        (["evaluate", "resnet9", "--store", "STORE"], "no run 'resnet9' in file://"),
        (["evaluate", "resnet8", "--store", "STORE"], "(train.epochs=3)"),
        (["evaluate", "resnet8", "--store", "memory://nothing"], "no run 'resnet8': memory://nothing holds no runs"),
        (["resume", "resnet8-digits-seed8", "--store", "STORE"], "the nearest is 'resnet8-digits-seed"),
    ],
)
def test_a_mistake_is_one_line(run, store, tmp_path, words, said):
    code, out, err = run(*[url(store) if word == "STORE" else word for word in words])
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_every_command_that_takes_a_run_reads_a_store():
    _, commands = build_parser()
    without = {name for name, parser in commands.items()
               if any(one.metavar == "RUN" for one in parser._actions) and "--store" not in parser.known_options()}  # fmt: skip
    assert without == set()


def test_copies_of_logs_lose_no_row(tmp_path, monkeypatch):
    """Whoever adds rows to a copy, and whenever it is brought there and back: each row is in the store, once."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    draw = random.Random(3)
    there = mirror.store_of(f"file://{tmp_path}/store")
    added: list[int] = []
    for number in range(150):
        copy = tmp_path / f"copy{draw.randrange(3)}"
        folder = copy / "run"
        what = draw.random()
        if what < 0.4:
            mirror.pull(there, "run", folder, weights=False)
        elif (what < 0.9 and (folder / "config.json").exists()) or not added:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "config.json").exists():
                storage.write_json(folder / "config.json", {})
            for _ in range(draw.randrange(1, 4)):
                added.append(number * 10 + len(added) % 10)
                file = rows.Rows(folder / run_folder.TEST_READS)
                file.add({"row": len(added)})
                file.close()
            if draw.random() < 0.7:
                mirror.give(there, copy, ["run"])
        elif folder.exists():
            mirror.give(there, copy, ["run"])
    for number in range(3):
        if (tmp_path / f"copy{number}" / "run").exists():
            mirror.give(there, tmp_path / f"copy{number}", ["run"])
    found = [row["row"] for row in rows.read_rows(tmp_path / "store" / "run" / run_folder.TEST_READS)]
    assert sorted(found) == list(range(1, len(added) + 1))
    assert len(found) > 50

"""`study watch`, `study run --detach`, and what `serve` refuses before it listens."""

import builtins
import json
import os
import socket
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from residuum.analysis import standing
from residuum.cli import watching
from residuum.records import storage
from residuum.run import detached
from residuum.studies import plan as plans

STUDY = """
question = "Which seed?"
base = "quick"
seeds = 2
[set]
model = "resnet8"
"train.epochs" = 2
[[arms]]
name = "only"
"""


def test_a_study_that_goes_on_without_its_terminal_is_watched_to_its_end(run, tmp_path):
    (tmp_path / "which.toml").write_text(STUDY)
    for name in ("random", "token", "queue"):  # what lies in a folder is not taken for Python's own
        (tmp_path / f"{name}.py").write_text("raise SystemExit('somebody else')")
    code, out, err = run("study", "run", "which.toml", "--detach", "--json")
    assert (code, err) == (0, "")
    begun = json.loads(out)
    assert begun["label"] == "which"
    (one,) = detached.commands(tmp_path / "runs")
    assert one.process == begun["process"]
    assert os.getsid(one.process) == one.process or not detached.is_alive(one, tmp_path / "runs")
    code, out, _ = run("study", "watch", "which")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith(f"{begun['label']}: ")
    assert lines[-1] == "complete"
    said = [line for line in lines if line.startswith("only, seed ") and "Epoch: " in line]
    assert len(said) == len({*said}) <= 4
    assert any("finished" in line for line in lines)
    code, out, _ = run("study", "watch", "which", "--json")
    found = json.loads(out)
    assert (found["complete"], [one["epochs"] for one in found["runs"]]) == (2, [2, 2])
    # In a pipe the study itself had a line for each epoch.
    assert detached.printed(one, tmp_path / "runs").count("Epoch: ") == 4


def test_what_cannot_be_is_said_by_the_command_and_not_only_in_a_log(run, tmp_path):
    code, out, err = run("study", "run", "quickstart", "--detach", "--arms", "nosuch")
    assert (code, out) == (2, "")
    assert "unknown arm 'nosuch'" in err
    assert not (tmp_path / "runs").exists()
    code, out, err = run("study", "run", "quickstart", "--detach", "--lanes", "99")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "--lanes: 99 is not a count" in err
    assert ".log" in err


def test_who_watches_nothing_is_told_the_nearest(run):
    code, out, err = run("study", "watch", "quickstart")
    assert (code, out) == (2, "")
    assert "was not run in runs" in err


def test_runs_that_end_between_two_looks_are_counted_one_by_one_and_their_last_epoch_is_said_once(run, tmp_path):
    (tmp_path / "which.toml").write_text(STUDY.replace('epochs" = 2', 'epochs" = 1'))
    code, out, _ = run("study", "run", "which.toml", "--on", "here")
    assert code == 0
    assert not any(": finished in" in line and "epoch" in line for line in out.splitlines())
    ends = [line for line in out.splitlines() if ": finished in " in line]
    assert [line[:4] for line in ends] == ["1/2 ", "2/2 "]
    assert not any(line != line.rstrip() for line in out.splitlines())
    (folder,) = (tmp_path / "runs" / "studies").iterdir()
    now = standing.of_study(plans.read(folder), tmp_path / "runs", datetime.now(UTC))
    waiting = replace(now, runs=tuple((one, replace(state, status=status))
                      for (one, state), status in zip(now.runs, ("waiting", "running"), strict=True)))  # fmt: skip
    assert [line.partition(",")[0] for line in watching._news(waiting, now, tmp_path / "runs")] == [
        "1/2 only",
        "2/2 only",
    ]
    assert [*watching._news(replace(now, runs=()), waiting, tmp_path / "runs")][-1].endswith(": running")
    assert "/2 " not in [*watching._news(replace(now, runs=()), waiting, tmp_path / "runs")][-1]


def test_a_study_that_nobody_works_on_is_said_to_miss_runs(run, tmp_path):
    (tmp_path / "which.toml").write_text(STUDY)
    assert run("study", "run", "which.toml", "--on", "here", "--seeds", "1")[0] == 0
    folder = next((tmp_path / "runs" / "studies").iterdir())
    run_ = json.loads((folder / "plan.json").read_text())["runs"][0]
    (tmp_path / "runs" / run_["folder"] / "result.json").unlink()
    storage.write_json(folder / "failed.json", {run_["id"]: "out of memory"})
    code, out, _ = run("study", "watch", "which", "--once")
    assert code == 0
    assert "only, seed 0: failed: out of memory" in out
    assert "1 run is missing" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--port", "70000"], 2, "not a port"),
        (["--host", "nosuch.example"], 2, "is not an address"),
        (["--json"], 2, "residuum list runs --json"),
        (["--runs", "nosuch"], 2, "nosuch is no folder"),
    ],
)
def test_serve_refuses_what_it_cannot_do(run, tmp_path, words, code, said):
    (tmp_path / "runs").mkdir()
    found, out, err = run("serve", *words)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert said in err


def test_a_port_that_is_taken_is_named(run, tmp_path):
    (tmp_path / "runs").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = run("serve", "--port", port)
    assert (code, out) == (74, "")
    assert f"port {port}: Address already in use; --port 0 takes a free one" in err


def test_without_the_extra_the_command_says_which(run, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    usual = builtins.__import__

    def without(name, *rest, **options):
        if name.partition(".")[0] == "uvicorn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return usual(name, *rest, **options)

    for module in [one for one in sys.modules if one.partition(".")[0] == "uvicorn"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without)
    code, out, err = run("serve")
    assert (code, out) == (2, "")
    assert "needs the package uvicorn: pip install 'residuum[web]'" in err

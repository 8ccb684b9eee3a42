"""`residuum layers`: figures and numbers of recorded runs, and what is refused."""

import json
import re
import sys
from pathlib import Path

import pytest

from residuum.cli import main
from residuum.records import layers as recorded
from residuum.studies.study import Study

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from layer_records import layers
from report_runs import leave, planned

STUDY = {
    "name": "two", "question": "Which?", "base": "he2015", "seeds": 1,
    "arms": [{"name": "sigmoid", "set": {"model.activation": "sigmoid"}}, {"name": "relu", "set": {"monitor.histograms": True}},
             {"name": "blind", "set": {"model.depth": 56}}],
}  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    """Two recorded runs of one name and one that recorded nothing: their ids."""
    made = {run.arm: run for run in planned(Study(**STUDY), epochs=2).runs}
    for run in made.values():
        leave(tmp_path, run, 20)
    for epoch in (0, 1, 2):
        recorded.write(tmp_path / made["sigmoid"].folder, layers([0.0, 1e-20, 1.0], epoch=epoch, dead=(0,)))
        recorded.write(tmp_path / made["relu"].folder, layers([0.25, 0.5, float("nan")], epoch=epoch, dead=(0.5, 0)))
    return {arm: run.id for arm, run in made.items()}


def test_runs_side_by_side(runs, tmp_path, capsys):
    out = tmp_path / "pictures"
    names = ["layers", runs["sigmoid"], runs["relu"], "--runs", str(tmp_path), "--out", str(out)]
    assert main([*names, "--of", "gradients", "--layers", "conv1,linear", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ridges = [f"histograms-gradients-conv1-linear-{runs[arm]}" for arm in ("relu", "sigmoid")]
    stems = sorted([*ridges, f"gradient-flow-and-{runs['relu']}"])
    assert sorted({path.stem for path in out.iterdir()}) == stems
    assert sorted(found["figures"]) == sorted(map(str, out.iterdir()))
    assert {row["label"] for row in found["epochs"]} == {
        "resnet20 on cifar10, seed 0", "resnet20 on cifar10, seed 0, activation sigmoid",
    }  # fmt: skip
    first, last = found["epochs"][0], found["epochs"][-1]
    assert (first["epoch"], first["first gradient"], first["last gradient"]) == (0, 0.0, pytest.approx(1))
    assert (first["dead"], last["dead"]) == (0, 0.25)
    assert (last["run"], last["epoch"], last["last gradient"]) == (runs["relu"], 2, None)


def test_one_run_has_its_figures_in_its_folder(runs, tmp_path, capsys):
    assert main(["layers", runs["relu"], "--runs", str(tmp_path), "--layers", "conv1"]) == 0
    (folder,) = tmp_path.glob(f"*{runs['relu']}/figures")
    assert sorted(path.name for path in folder.iterdir()) == [
        "gradient-flow.png", "gradient-flow.svg", "histograms-parameters-conv1.png",
        "histograms-parameters-conv1.svg",
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert "histograms-parameters-conv1.png" in said
    assert f"resnet20 on cifar10, seed 0 (run {runs['relu']})" in said.splitlines()
    assert re.search(r"^ *2 +0\.25 +– ", said, re.MULTILINE)
    assert max(map(len, said.splitlines()[:8])) <= 80


def test_a_gap_is_named_and_lost_records_are_not_called_unrecorded(runs, tmp_path, capsys):
    assert main(["layers", runs["relu"], "--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    (folder,) = tmp_path.glob(f"*{runs['relu']}/layers")
    (folder / "epoch-0001.safetensors").unlink()
    assert main(["layers", runs["relu"], "--runs", str(tmp_path)]) == 0
    assert f"note: run {runs['relu']} recorded no layers in epoch 1\n" in capsys.readouterr().err
    for path in folder.iterdir():
        path.unlink()
    assert main(["layers", runs["relu"], "--runs", str(tmp_path)]) == 2
    assert "holds nothing: the run has not begun, or its records are gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["blind"], "recorded no layers"),
        (["relu", "relu"], "named twice"),
        (["relu", "--layers", "conv2"], "unknown layer 'conv2'; did you mean 'conv1'"),
        (["relu", "--of", "gradient"], "did you mean 'gradients'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(runs, tmp_path, capsys, words, said):
    arguments = [runs.get(word, word) for word in words]
    assert main(["layers", *arguments, "--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()

"""A closer look at the arms that a study names: what is there is shown, what is not there is said."""

import subprocess
import sys

import pytest

import residuum
from residuum.analysis.results import results
from residuum.errors import InputError
from residuum.explaining import explain_arms
from residuum.records.record import read_record
from residuum.report import inside
from residuum.report.blocks import Paragraph, Picture, Tabular

SMALL = {"model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]}, "train.epochs": 1, "data.subset": 200,
         "compute.threads": 1}  # fmt: skip


def study(**changes):
    values = {"name": "rates", "question": "Does the rate matter?", "base": "quick", "seeds": 2, "set": SMALL,
              "axes": {"optim.lr": [0.02, 0.002]}, "inside": ["lr=0.002"]}  # fmt: skip
    return residuum.Study(**values | changes)


@pytest.fixture
def found(tmp_path):
    return residuum.run_study(study(set=SMALL | {"monitor.histograms": True}), runs=tmp_path, threads=1)


def names(section):
    return [block.name for block in section.blocks if isinstance(block, Picture)]


def test_the_first_run_of_a_named_arm_is_shown_with_all_that_was_recorded(found, tmp_path):
    (section,) = inside.sections(found)
    assert section.title == "A closer look: lr=0.002"
    assert names(section) == ["confusion-1", "reliability-1", "grad-cam-1", "histograms-1"]
    run = next(run for run in found.plan.runs if run.arm == "lr=0.002" and run.seed == 0)
    assert run.id in section.blocks[0].text
    (table,) = (block.table for block in section.blocks if isinstance(block, Tabular))
    assert table.columns == ("class", "images", "precision", "recall", "F1")
    assert [row[0] for row in table.rows] == [str(digit) for digit in range(10)]
    others = [other for other in found.plan.runs if other.id != run.id]
    assert not any((tmp_path / other.folder / "attributions").exists() for other in others)
    reads = read_record(tmp_path / run.folder).test_reads
    assert list(explain_arms(found.plan, tmp_path)) == []  # done is done
    assert read_record(tmp_path / run.folder).test_reads == reads


def test_what_is_missing_is_said_and_the_rest_is_shown(found, tmp_path):
    run = next(run for run in found.plan.runs if run.arm == "lr=0.002" and run.seed == 0)
    folder = tmp_path / run.folder
    (folder / "attributions" / "grad-cam.safetensors").unlink()
    for path in (folder / "layers").iterdir():
        path.unlink()
    (folder / "predictions" / "last.safetensors").write_bytes(b"damaged")
    (section,) = inside.sections(results(found.plan, tmp_path))
    said = [block.text for block in section.blocks if isinstance(block, Paragraph)]
    assert len(said) == len(section.blocks) == 2
    assert "damaged" in said[0]
    assert str(tmp_path) not in said[0]
    assert f"residuum explain {run.id}" in said[1]
    for other in found.plan.runs:
        (tmp_path / other.folder / "result.json").unlink()
    assert list(inside.sections(results(found.plan, tmp_path))) == []
    assert list(explain_arms(found.plan, tmp_path)) == []


def test_an_arm_that_is_not_there_is_refused_and_one_left_out_is_forgotten():
    with pytest.raises(InputError, match=r"lr=0\.02.*did you mean|did you mean.*lr=0\.02"):
        study(inside=["lr=0.03"])
    assert study().restricted(["lr=0.02"]).inside == ()


def test_a_closer_look_needs_no_torch():
    code = "import sys, residuum.report.study; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )

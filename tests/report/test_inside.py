"""A closer look at the arms that a study names: what is there is shown, what is not there is said."""

import subprocess
import sys

import numpy as np
import pytest

import residuum
from residuum import surface
from residuum.analysis import classes
from residuum.analysis.results import results
from residuum.data.datasets import DATASETS
from residuum.errors import InputError
from residuum.explaining import MISTAKES, explain_arms
from residuum.records import mistakes, surfaces
from residuum.records.record import read_record
from residuum.registry import Choice
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
    assert names(section) == ["confusion-1", "mistakes-1", "reliability-1", "grad-cam-1", "grad-cam-epochs-1",
                              "histograms-1"]  # fmt: skip
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
    assert len(said) == len(section.blocks) == 4
    assert "damaged" in said[1]
    assert str(tmp_path) not in said[1]
    assert f"residuum explain {run.id}" in said[2]
    assert f"residuum surface {run.id}" in said[3]
    for other in found.plan.runs:
        (tmp_path / other.folder / "result.json").unlink()
    assert list(inside.sections(results(found.plan, tmp_path))) == []
    assert list(explain_arms(found.plan, tmp_path)) == []


def test_the_mistakes_that_are_shown_are_the_surest_and_their_images_those_of_the_test_set(found, tmp_path):
    run = next(run for run in found.plan.runs if run.arm == "lr=0.002" and run.seed == 0)
    folder = tmp_path / run.folder
    surest = classes.mistakes(classes.read(read_record(folder)), MISTAKES)
    images = mistakes.read(folder)
    assert sorted(images) == sorted(one.index for one in surest)
    test = DATASETS.build(Choice(name="digits"), None).test
    for number, image in images.items():
        np.testing.assert_array_equal(image, test.images_NCHW[number])
    mistakes.path_of(folder).write_bytes(b"damaged")
    (section,) = inside.sections(results(found.plan, tmp_path))
    assert "mistakes-1" not in names(section)
    assert any("mistakes.safetensors is damaged" in b.text for b in section.blocks if isinstance(b, Paragraph))
    assert "grad-cam-1" in names(section)


def test_surfaces_that_were_computed_are_shown_and_halves_are_not(found, tmp_path):
    run = next(run for run in found.plan.runs if run.arm == "lr=0.002" and run.seed == 0)
    record = read_record(tmp_path / run.folder)
    settings = {"span": 0.5, "images": 20, "seed": 0}
    for dimensions, points in ((1, 3), (1, 5), (2, 3)):
        list(surface.evaluate(record, dimensions=dimensions, points=points, **settings))
    half = surface.evaluate(record, dimensions=2, points=5, **settings)
    for _ in range(4):
        _, grid = next(half)
    half.close()
    assert grid not in surfaces.grids(record.folder)
    assert [(one.dimensions, one.points) for one in surfaces.grids(record.folder)] == [(1, 3), (1, 5), (2, 3)]
    (section,) = inside.sections(found)
    assert names(section)[-3:] == ["surface-1", "contours-1", "relief-1"]
    assert "the first 20 training images" in section.blocks[-3].caption
    surfaces.path_of(record.folder, grid).write_text('{"point": -1}\n')
    (section,) = inside.sections(found)
    assert "surface-1" not in names(section)
    assert "does not begin with its grid" in section.blocks[-1].text


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

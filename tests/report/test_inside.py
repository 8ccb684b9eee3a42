"""A closer look at the arms that a study names: what is there is shown, what is not there is said."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save

import residuum
from residuum.analysis import per_class
from residuum.analysis.results import results
from residuum.cli import main
from residuum.data.datasets import DATASETS
from residuum.errors import InputError
from residuum.records import attributions, mistakes, rows, storage, surfaces
from residuum.records.record import read_record
from residuum.registry import Choice
from residuum.report import inside
from residuum.report.content import Paragraph, Picture, Tabular
from residuum.run import explaining, predict, surface
from residuum.run.explaining import MISTAKES, explain_arms

SMALL = {"model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]}, "train.epochs": 1, "data.subset": 200,
         "compute.threads": 1}  # fmt: skip


def study(**changes):
    values = {"name": "rates", "question": "Does the rate matter?", "base": "quick", "seeds": 2, "set": SMALL,
              "axes": {"optim.lr": [0.02, 0.002]}, "inside": ["lr=0.002"]}  # fmt: skip
    return residuum.Study(**values | changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Its results, and the folder of its runs; nothing of it is changed."""
    runs = tmp_path_factory.mktemp("made")
    return residuum.run_study(study(set=SMALL | {"monitor.histograms": True}), runs=runs, threads=1), runs


@pytest.fixture
def found(made, tmp_path):
    """A copy of them to act on."""
    shutil.copytree(made[1], tmp_path, dirs_exist_ok=True)
    return results(made[0].plan, tmp_path)


def names(section):
    return [block.name for block in section.blocks if isinstance(block, Picture)]


def texts(section):
    return [block.text for block in section.blocks if isinstance(block, Paragraph)]


def test_the_first_run_of_a_named_arm_is_shown_with_all_that_was_recorded(found, tmp_path):
    section, around = inside.sections(found)
    assert section.title == "A closer look: lr=0.002"
    assert names(section) == ["confusion-1", "reliability-1", "mistakes-1", "grad-cam-1", "grad-cam-right-by-epoch-1",
                              "grad-cam-wrong-by-epoch-1", "histograms-1"]  # fmt: skip
    run = looked_into(found)
    assert run.id in section.blocks[0].text
    assert [block.text for block in around.blocks] == [
        f"It was not computed: `residuum surface {run.id}` does, along one random direction, or with `--dimensions 2` "
        "over two."
    ]
    (table,) = (block.table for block in section.blocks if isinstance(block, Tabular))
    assert table.columns == ("class", "images", "precision", "recall", "F1")
    assert [row[0] for row in table.rows] == [str(digit) for digit in range(10)]
    others = [other for other in found.plan.runs if other.id != run.id]
    assert not any((tmp_path / other.folder / "attributions").exists() for other in others)
    reads = read_record(tmp_path / run.folder).test_reads
    assert list(explain_arms(found.plan, tmp_path)) == []  # done is done
    assert read_record(tmp_path / run.folder).test_reads == reads


def looked_into(found):
    return next(run for run in found.plan.runs if run.arm == "lr=0.002" and run.seed == 0)


def test_the_images_over_the_epochs_are_the_surest_right_and_wrong(found, tmp_path):
    folder = tmp_path / looked_into(found).folder
    sheet = attributions.read(attributions.path_of(folder, attributions.REPORTED))
    for right, name in attributions.BY_EPOCH.items():
        one = attributions.read(attributions.path_of(folder, name))
        rows = np.flatnonzero((sheet.predicted_N == sheet.labels_N) == right)
        row = rows[sheet.probabilities_NK[rows].max(axis=1).argmax()]
        assert (one.names[0], one.epochs) == (sheet.names[row], (0, 1))
        assert one.targets_N[0] == sheet.targets_N[row]


def test_what_is_missing_is_said_and_the_rest_is_shown(found, tmp_path):
    folder = tmp_path / looked_into(found).folder
    shutil.rmtree(folder / "attributions")
    for path in (folder / "layers").iterdir():
        path.unlink()
    (folder / "predictions" / "last.safetensors").write_bytes(b"damaged")
    section, _ = inside.sections(results(found.plan, tmp_path))
    said = texts(section)
    assert len(said) == len(section.blocks) == 5
    assert "damaged" in said[1]
    assert not any(str(tmp_path) in text for text in said)
    assert "images of its mistakes were not kept: the command that ran the study, given again" in said[2]
    assert "looks at was not computed: the command that ran the study, given again" in said[3]
    assert "layers holds nothing" in said[4]
    (folder / "predictions" / "last.safetensors").unlink()
    section, _ = inside.sections(results(found.plan, tmp_path))
    assert "has lost its predictions; training it with fresh=True computes it anew" in texts(section)[1]
    for other in found.plan.runs:
        (tmp_path / other.folder / "result.json").unlink()
    assert list(inside.sections(results(found.plan, tmp_path))) == []
    assert list(explain_arms(found.plan, tmp_path)) == []


def test_the_mistakes_that_are_shown_are_the_surest_and_their_images_those_of_the_test_set(found, tmp_path):
    folder = tmp_path / looked_into(found).folder
    surest = per_class.mistakes(per_class.read(read_record(folder)), MISTAKES)
    images = mistakes.read(folder)
    assert sorted(images) == sorted(one.index for one in surest)
    test = DATASETS.build(Choice(name="digits"), None).test
    for number, image in images.items():
        np.testing.assert_array_equal(image, test.images_NCHW[number])


def test_what_is_damaged_is_named_and_made_again(found, tmp_path):
    run = looked_into(found)
    folder = tmp_path / run.folder
    for path in (mistakes.path_of(folder), attributions.path_of(folder, attributions.REPORTED)):
        content = path.read_bytes()
        path.write_bytes(b"damaged")
        section, _ = inside.sections(results(found.plan, tmp_path))
        (said,) = (text for text in texts(section) if "damaged" in text)
        assert f"{path.name} is damaged" in said
        assert "given again, makes it anew" in said
        assert len(names(section)) > 3
        list(explain_arms(found.plan, tmp_path))
        assert path.read_bytes() == content


def test_an_answer_to_another_question_does_not_change_the_report(found, tmp_path):
    """Another run that is explained on this one's images, and this one on the other's."""
    run, other = looked_into(found), next(run for run in found.plan.runs if run.arm != "lr=0.002")
    before = {path.name: path.read_bytes() for path in (tmp_path / run.folder / "attributions").iterdir()}
    for words in (
        [other.id, "--beside", run.id, "--epochs"],
        [run.id, "--beside", other.id],
        [run.id, "--images", "3"],
    ):
        assert main(["explain", *words, "--runs", str(tmp_path), "--json", "--out", str(tmp_path / "out")]) == 0
    for name, content in before.items():
        assert (tmp_path / run.folder / "attributions" / name).read_bytes() == content, name


def test_surfaces_that_runs_share_are_shown_in_one_frame_and_halves_are_not(tmp_path):
    found = residuum.run_study(study(inside=["lr=0.02", "lr=0.002"]), runs=tmp_path, threads=1)
    first, second = (
        read_record(tmp_path / next(run for run in found.plan.runs if run.arm == arm).folder)
        for arm in ("lr=0.02", "lr=0.002")
    )

    def compute(record, **settings):
        asked = {"dimensions": 1, "points": 3, "span": 1.0, "images": 20, "seed": 0} | settings
        *_, (_, grid) = surface.evaluate(record, **asked)
        return grid

    for record in (first, second):
        compute(record)
    for settings in ({"points": 9}, {"points": 5, "span": 0.1}, {"dimensions": 2}):
        compute(first, **settings)
    half = surface.evaluate(first, dimensions=2, points=5, span=1.0, images=20, seed=0)
    for _ in range(4):
        _, grid = next(half)
    half.close()
    assert grid not in [one.grid for one in surfaces.read_all(first.folder)[0]]
    *_, section = inside.sections(found)
    assert names(section) == ["surface", "contours", "relief"]
    assert "the first 20 training images" in section.blocks[0].caption
    assert "at the ends 1 times as long" in section.blocks[0].caption
    said = texts(section)[0]  # of the grid over two directions, which the second run does not have
    assert f"for lr=0.002, seed 0: `residuum surface {second.id} --dimensions 2 --points 3 --span 1 --images 20" in said
    assert section.blocks[0].svg.count(b"seed 0") >= 2  # the three points that both have, not the nine of one


@pytest.mark.parametrize(
    "damage", ["", '{"point": -1}\n', '{"point": -1, "points": null}\n', "torn\n{}\n", "copy", "row"]
)
def test_a_damaged_surface_is_named_and_the_others_are_shown(found, tmp_path, damage):
    record = read_record(tmp_path / looked_into(found).folder)
    settings = {"dimensions": 1, "points": 3, "images": 20, "seed": 0}
    for span in (1.0, 0.1):
        *_, (_, grid) = surface.evaluate(record, span=span, **settings)
    path = surfaces.path_of(record.folder, grid)
    head, first, *rest = path.read_text().splitlines(keepends=True)
    wrong = {"copy": head.replace("0.1", "0.2"), "row": head + '{"point": 0}\n'}.get(damage, damage)
    path.write_text(wrong + "".join(rest if damage == "row" else [first, *rest]))
    *_, section = inside.sections(found)
    assert names(section) == ["surface"]
    assert "at the ends 1 times" in next(b.caption for b in section.blocks if hasattr(b, "caption"))
    (said,) = texts(section)
    assert path.name in said
    assert "damaged" in said
    assert "Delete it, and `residuum surface` computes it anew." in said
    if damage in ("torn\n{}\n", "copy"):  # none is kept from a damaged row on
        list(surface.evaluate(record, span=0.1, **settings))
        assert [one.grid.span for one in surfaces.read_all(record.folder)[0]] == [0.1, 1.0]
    elif damage != "row":
        with pytest.raises(InputError, match="delete the file to compute it anew"):
            list(surface.evaluate(record, span=0.1, **settings))


def test_surfaces_of_other_weights_than_the_last_are_not_shown_as_theirs(found, tmp_path):
    record = read_record(tmp_path / looked_into(found).folder)
    settings = {"dimensions": 1, "points": 3, "span": 1.0, "images": 20, "seed": 0}
    *_, (_, grid) = surface.evaluate(record, **settings)
    path = surfaces.path_of(record.folder, grid)
    earlier = replace(grid, epoch=grid.epoch + 1)
    rewritten = rows.Rows(surfaces.path_of(record.folder, earlier))
    for row in rows.read_rows(path):
        rewritten.add(row | ({"epoch": earlier.epoch} if "epoch" in row else {}))
    rewritten.close()
    path.unlink()
    assert [one.grid for one in surfaces.read_all(record.folder)[0]] == [earlier]
    *_, section = inside.sections(found, elsewhere=True)
    assert names(section) == []
    assert f"residuum surface {record.id} --runs RUNS" in texts(section)[0]


def test_a_network_without_mistakes_is_explained_once(found, tmp_path):
    run = looked_into(found)
    folder = tmp_path / run.folder
    path = folder / "predictions" / "last.safetensors"
    with safe_open(path, "np") as file:
        metadata, labels_N = file.metadata(), file.get_tensor("labels_N")
    shutil.rmtree(folder / "attributions")
    trained = predict.load(read_record(folder))
    test = DATASETS.build(Choice(name="digits"), None).test
    right_N = predict.logits(trained, torch.from_numpy(test.images_NCHW)).argmax(dim=1).numpy() == labels_N
    assert right_N.any()
    # As the network says where it is right, and right elsewhere: then there is no wrong image to choose.
    storage.write_tensors(
        path, save({"logits_NK": np.eye(10, dtype=np.float32)[labels_N], "labels_N": labels_N}, metadata)
    )
    sheet = explaining.explain(read_record(folder), numbers=np.flatnonzero(right_N)[:3].tolist())
    attributions.write(folder, attributions.REPORTED, sheet)
    (row,) = explaining.over_epochs(read_record(folder), sheet, [0])
    attributions.write(folder, attributions.BY_EPOCH[True], row)
    list(explain_arms(found.plan, tmp_path))
    reads = read_record(folder).test_reads
    assert list(explain_arms(found.plan, tmp_path)) == []
    assert read_record(folder).test_reads == reads


def test_an_arm_that_is_not_there_is_refused_and_one_left_out_is_forgotten():
    with pytest.raises(InputError, match=r"lr=0\.02.*did you mean|did you mean.*lr=0\.02"):
        study(inside=["lr=0.03"])
    assert study().restricted(["lr=0.02"]).inside == ()


def test_a_closer_look_needs_no_torch():
    code = "import sys, residuum.report.study_page; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )

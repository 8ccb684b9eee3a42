"""A folder of one's own from the command line: what `data check` says of it, and what a run makes of its splits."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residuum.records.record import read_record
from residuum.run.predict import dataset_of

WORDS = ["--model", "resnet8", "--epochs", "1", "--batch-size", "10", "--set", "model.channels=[2,2,2]",
         "--set", "compute.threads=1"]  # fmt: skip


def fill(root, parts=("train", "val", "test"), classes=("cat", "dog"), count=12):
    """Class folders in splits: the brightness tells the split, what is darker below the class."""
    draw = np.random.default_rng(0)
    for base, part in enumerate(parts):
        for label, name in enumerate(classes):
            for number in range(count):
                image = draw.integers(60 * base, 60 * base + 50, (8, 8, 3), dtype=np.uint8)
                image[4:] += 20 * label
                path = Path(root) / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)


def test_check_says_where_the_validation_split_comes_from_and_what_is_not_used(run):
    fill("data")
    Path("data/notes.txt").write_text("x")
    Path("data/train/cat/.DS_Store").write_text("x")
    Path("data/train/cat/1.heic").write_text("x")
    Path("data/spare").mkdir()
    Image.new("RGB", (8, 8)).save("data/spare/1.png")
    code, out, err = run("data", "check", "data")
    assert (code, err) == (0, "")
    for line in (
        "val is the validation split (24 images): none is drawn from the training images",
        "passed over: files that are hidden, or left by a system: 1",
        "passed over: images in a format that is not read (.heic): 1",
        "passed over: images without a place among the classes: 1",
        "passed over: files of another kind (.txt): 1",
        "not used: notes.txt, spare/, train/cat/.DS_Store, train/cat/1.heic",
    ):
        assert line in out.splitlines()
    assert any(line.split()[:2] == ["validation", "24"] for line in out.splitlines())
    code, out, _ = run("data", "check", "data", "--json")
    said = json.loads(out)
    assert said["validation"]["per_class"] == [12, 12]
    assert said["reading"]["not_used"] == ["notes.txt", "spare/", "train/cat/.DS_Store", "train/cat/1.heic"]
    assert sum(said["reading"]["passed_over"].values()) == 4


def test_of_many_files_the_first_are_named(run):
    fill("data")
    for number in range(30):
        Path(f"data/{number:02}.txt").write_text("x")
    _, out, _ = run("data", "check", "data")
    assert "19.txt and 10 more (--json names them all)" in out


@pytest.mark.parametrize("asked", ["0", "0.5", "7"])
def test_a_run_validates_on_val_and_normalises_by_train_alone(run, asked):
    fill("data")
    code, out, err = run("train", "quick", "--data", "data", *WORDS, "--set", f"data.validation={asked}", "--json")
    assert code == 0, err
    assert "val is the validation split (24 images)" in err
    record = read_record(Path(json.loads(out)["folder"]))
    assert (record.facts.train, record.facts.validation, record.facts.test) == (24, 24, 24)
    assert record.epochs[0].validation.n == 24
    train = dataset_of(record, "").train.images_NCHW
    assert record.facts.normalization.mean == pytest.approx((train / 255).mean(axis=(0, 2, 3)))
    assert max(record.facts.normalization.mean) < 0.3  # val and test are brighter
    assert record.config.data.validation == 24
    code, out, err = run("train", "quick", "--data", "data", *WORDS, "--json")  # asks for another share: the same run
    assert json.loads(out)["run"] == record.id
    code, out, _ = run("evaluate", record.id, "--json")
    assert (code, json.loads(out)["test"]["n"]) == (0, 24)
    assert run("resume", record.folder)[0] == 0
    assert run("surface", record.id, "--points", "3", "--images", "5", "--out", "s")[0] == 0


def test_a_run_says_where_its_labels_come_from(run):
    rows = ["id,label"]
    for number in range(40):
        path = Path(f"data/train/{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 5 * number, np.uint8)).save(path)
        rows.append(f"{number},{'frog' if number < 20 else 'ship'}")
    Path("data/trainLabels.csv").write_text("\n".join(rows))
    code, out, err = run("train", "quick", "--data", "data", *WORDS, "--json")
    assert code == 0, err
    assert "the labels of train are those of trainLabels.csv" in err
    assert "the test split is drawn from train" in err
    assert read_record(Path(json.loads(out)["folder"])).facts.classes == ("frog", "ship")


def test_what_cannot_be_read_is_one_line_and_leaves_nothing(run):
    for part in ("train", "test"):
        Path("data", part).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(f"data/{part}/{number}.png")
    code, out, err = run("train", "quick", "--data", "data", *WORDS)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "data/train holds images without labels: put those of each class into a folder of its name" in err
    assert not Path("runs").exists()

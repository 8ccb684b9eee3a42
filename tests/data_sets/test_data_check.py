"""The report on a data set, against counts made by hand."""

import io
import json
from dataclasses import asdict

import duckdb
import numpy as np
import pytest
from PIL import Image

from residuum.cli.options import data_settings
from residuum.config import RunConfig
from residuum.data.check import check
from residuum.data.dataset import Dataset, Split
from residuum.data.datasets import load
from residuum.run import assemble


def made(train, test, train_labels, test_labels, name="mine"):
    """A data set of constant 2×2 images, given by their grey values."""

    def split(values, labels):
        images = np.repeat(np.array(values, np.uint8), 4).reshape(-1, 1, 2, 2)
        return Split(images, np.array(labels))

    return Dataset.of(name, ("cat", "dog"), split(train, train_labels), split(test, test_labels))


def test_counts_by_hand():
    report = check(made([0, 255, 0, 7, 0], [7, 9, 7, 0, 250], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0]))
    assert report.shape == (1, 2, 2)
    assert (report.train.images, report.train.per_class) == (5, (3, 2))
    assert (report.train.minimum, report.train.maximum) == (0, 255)
    assert report.train.duplicates == 2  # the second and third black image
    assert report.train.contradictions == 1  # one of them is called a dog
    assert (report.test.duplicates, report.test.contradictions) == (1, 1)
    assert report.leaked == 3  # 7 twice, and 0
    values = np.array([0, 255, 0, 7, 0]) / 255
    assert report.train.mean == pytest.approx((values.mean(),), rel=1e-12)
    assert report.train.std == pytest.approx((values.std(),), rel=1e-12)
    assert report.findings == (
        "2 training images repeat earlier ones, 1 with another label",
        "1 test image repeats an earlier one, 1 with another label",
        "3 test images are among the training images",
    )


def test_what_may_be_wrong_is_said():
    report = check(made([0, 1, 2, 3], [200, 201], [0, 0, 0, 1], [0, 0]))
    assert report.findings == (
        "the training images are not balanced: 3 of 'cat', 1 of 'dog'",
        "the brightest training pixel is 3 of 255",
        "there is no test image of 'dog'",
    )


@pytest.mark.parametrize(
    ("names", "lacking"),
    [
        ("0 1 3", "0 to 3, but for 2"),
        ("10 7 8", "7 to 10, but for 9"),
        ("0 9 1 8 2", "0 to 9, but for 3, 4, 5, 6, 7"),
        ("0 1 2", ""),
        ("0 1 99999", ""),
        ("00 02", ""),
        ("0 cat 2", ""),
    ],
)
def test_numbers_of_classes_that_are_skipped_are_told(names, lacking):
    """A class of which no reader was given an image is told by its absence alone."""
    names = names.split()
    labels_N = np.arange(len(names))
    split = Split(np.arange(250 - len(names), 250, dtype=np.uint8).reshape(-1, 1, 1, 1), labels_N)
    other = Split(split.images_NCHW - 20, labels_N)
    findings = check(Dataset.of("mine", tuple(names), split, other)).findings
    assert findings == ((f"the classes are the numbers from {lacking}",) if lacking else ())


def test_a_reduced_version_of_a_published_data_set_is_said_to_be_one():
    report = check(made([0, 255], [250, 251], [0, 1], [0, 1], name="mnist"))
    assert report.findings == ("2 training images, not the published 60,000", "2 test images, not the published 10,000")


def written_npz(root, images, names, splits):
    np.savez(root / "x.npz", class_names=np.array(names),
             **{f"{letter}_{split}": value for split, labels in splits.items()
                for letter, value in (("x", images(labels)), ("y", np.array(labels)))})  # fmt: skip
    return root / "x.npz"


def written_npy(root, images, names, splits):
    for split, labels in splits.items():
        np.save(root / f"x_{split}.npy", images(labels))
        np.save(root / f"y_{split}.npy", np.array(labels))
    (root / "classes.txt").write_text("\n".join(names))
    return root


def written_parquet(root, images, names, splits):
    for split, labels in splits.items():
        with duckdb.connect() as base:
            base.execute("CREATE TABLE t (image BLOB, label VARCHAR)")
            for image, label in zip(images(labels), labels, strict=True):
                file = io.BytesIO()
                Image.fromarray(image).save(file, "png")
                base.execute("INSERT INTO t VALUES (?, ?)", [file.getvalue(), names[label]])
            base.execute(f"COPY t TO '{root / split}.parquet' (FORMAT parquet)")
    return root


@pytest.mark.parametrize("written", [written_npz, written_npy, written_parquet])
def test_every_reader_tells_the_classes_without_images(tmp_path, written):
    """`ship` has training images alone, which every reader can tell; names tell a class that has none at all."""
    names = ["猫", "dog", "ship"]

    def images(labels):
        return np.random.default_rng(sum(labels)).integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)

    path = written(tmp_path, images, names, {"train": [0, 1, 2, 0, 1, 2], "test": [0, 1, 1, 0]})
    settings = {"data.validation": 0, **data_settings(str(path))}
    report = check(assemble.dataset_of(RunConfig().changed(settings).data))
    assert sorted(report.classes) == sorted(names)
    assert report.findings == ("there is no test image of 'ship'",)


def test_digits_have_no_findings_and_the_report_is_plain():
    report = check(load("digits"))
    assert report.findings == ()
    assert report.train.per_class == (142, 145, 142, 146, 145, 146, 145, 143, 139, 144)
    assert json.loads(json.dumps(asdict(report)))["test"]["images"] == 360


def test_real_images_have_the_published_counts(shared_data):
    report = check(load("cifar10", str(shared_data / "cifar10-jpeg")))
    assert report.findings == ()
    assert (report.train.per_class, report.test.per_class) == ((5000,) * 10, (1000,) * 10)
    # Guard 18: the deviation is that of the pixels, about 0.247, not the 0.2023 that is often copied.
    assert report.train.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-4)
    assert report.train.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=3e-3)

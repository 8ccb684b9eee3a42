"""`evaluate --on`: other test sets of the same classes, matched by name, normalised as in training, and counted."""

import json
import re
import shutil
import tarfile
from io import BytesIO

import duckdb
import numpy as np
import pytest
import torch
from PIL import Image

from residuum.analysis.estimate import of_share
from residuum.cli import main
from residuum.data.datasets import cifar10
from residuum.records import rows, run_folder
from residuum.records.record import read_record
from residuum.run.predict import load, logits

CLASSES = cifar10.LAYOUT.classes
WORDS = ["--model", "resnet8", "--epochs", "1", "--batch-size", "20", "--set", "model.channels=[4,4,4]",
         "--set", "data.validation=0", "--set", "compute.threads=1", "--set", "data.augment=[]"]  # fmt: skip


def pictures(count, seed=0):
    """Images in which the class shows: uint8 [N, 32, 32, 3], labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = draw.integers(0, 60, (count, 32, 32, 3))
    for image, label in zip(images, labels, strict=True):
        image[label * 3 : label * 3 + 3] += 180
    return images.astype(np.uint8), labels


def write_folder(root, images, labels, classes=CLASSES):
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / classes[label] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


def write_parquet(path, images, labels):
    with duckdb.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (img BLOB, label VARCHAR)")
        for image, label in zip(images, labels, strict=True):
            buffer = BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            connection.execute("INSERT INTO t VALUES (?, ?)", [buffer.getvalue(), label])
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet)")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a folder of images with CIFAR-10's classes."""
    place = tmp_path_factory.mktemp("trained")
    write_folder(place / "data" / "train", *pictures(60))
    write_folder(place / "data" / "test", *pictures(40, 1))
    assert main(["train", "quick", "--data", str(place / "data"), *WORDS, "--runs", str(place / "runs")]) == 0
    (folder,) = (path for path in (place / "runs").iterdir() if (path / "config.json").exists())
    return folder


@pytest.fixture
def run(trained, tmp_path, capsys):
    """A copy of the run, and the command that scores it: exit code, output, errors."""
    folder = shutil.copytree(trained, tmp_path / "run")

    def command(*words):
        code = main(["evaluate", str(folder), *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    command.folder = folder
    return command


def error_by_hand(folder, images, labels):
    """The share of images that the network gets wrong, computed without what is tested."""
    trained = load(read_record(folder))
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    order = [CLASSES.index(name) for name in trained.classes]
    return float(np.mean(np.array(order)[logits(trained, pixels).argmax(1).numpy()] != labels))


def reads(folder):
    return rows.read_rows(folder / run_folder.TEST_READS)


def save_cifar101(root, images, labels, version=6):
    root.mkdir(exist_ok=True)
    np.save(root / f"cifar10.1_v{version}_data.npy", images)
    np.save(root / f"cifar10.1_v{version}_labels.npy", labels.astype(np.int32))
    return root


@pytest.mark.parametrize("given", ["folder", "data", "labels"])
def test_cifar101(run, tmp_path, given):
    images, labels = pictures(50, 2)
    root = save_cifar101(tmp_path / "CIFAR-10.1", images, labels)
    path = root if given == "folder" else root / f"cifar10.1_v6_{given}.npy"
    before = read_record(run.folder).test_reads
    code, out, err = run("--on", path, "--json")
    assert code == 0, err
    (one,) = json.loads(out)["tests"]
    assert one["n"] == 50
    assert one["error"] == pytest.approx(error_by_hand(run.folder, images, labels))
    assert 0 < one["error"] < 1  # else nothing would tell one order of the classes from another
    assert one["interval"] == list(of_share(round(one["error"] * 50), 50))
    assert read_record(run.folder).test_reads == before + 1
    assert reads(run.folder)[-1] == {
        "why": "evaluate", "epoch": 1, "on": path.name, "device": "cpu", "precision": reads(run.folder)[-1]["precision"]
    }  # fmt: skip


def test_readings_of_the_runs_own_test_set_are_written_as_before(run):
    run()
    last = reads(run.folder)[-1]
    assert last == {"why": "evaluate", "epoch": 1, "device": "cpu", "precision": last["precision"]}


def test_text_says_error_and_interval(run, tmp_path):
    root = save_cifar101(tmp_path / "v6", *pictures(50, 2))
    code, out, _ = run("--on", root)
    assert code == 0
    number = r"\d+\.\d\d"
    assert re.fullmatch(
        rf"v6: test loss \d+\.\d{{3}} acc 0\.\d{{4}}, error {number} % \(95 % interval {number} to {number}; 50 images\)\n",
        out,
    )


def test_two_versions_are_ambiguous_and_a_test_set_alone_does_not_train(run, tmp_path, capsys):
    root = save_cifar101(tmp_path / "both", *pictures(20), version=4)
    save_cifar101(root, *pictures(20), version=6)
    code, _, err = run("--on", root)
    assert (code, "several pairs" in err, err.count("\n")) == (2, True, 1)
    assert run("--on", root / "cifar10.1_v4_data.npy")[0] == 0
    path = str(root / "cifar10.1_v4_data.npy")
    assert main(["train", "quick", "--data", path, "--runs", str(tmp_path / "none")]) == 2
    assert "is CIFAR-10.1, a test set alone; `residuum evaluate RUN --on` scores a run on it" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def corrupted(root, names=("fog", "gaussian_noise"), part=20):
    root.mkdir()
    images, labels = pictures(part, 3)
    found = {}
    for number, name in enumerate(names):
        for severity in range(5):
            noise = np.random.default_rng(severity + 10 * number).integers(0, 20 + 40 * severity, images.shape)
            found[name, severity + 1] = np.clip(images + noise, 0, 255).astype(np.uint8)
        np.save(root / f"{name}.npy", np.concatenate([found[name, severity] for severity in range(1, 6)]))
    np.save(root / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    return found, labels


def test_corruptions_by_severity(run, tmp_path):
    found, labels = corrupted(tmp_path / "CIFAR-10-C")
    before = read_record(run.folder).test_reads
    code, out, err = run("--on", tmp_path / "CIFAR-10-C", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert {(one["corruption"], one["severity"]) for one in said["tests"]} == set(found)
    for one in said["tests"]:
        by_hand = error_by_hand(run.folder, found[one["corruption"], one["severity"]], labels)
        assert one["error"] == pytest.approx(by_hand)
    assert said["mean_error"] == pytest.approx(np.mean([one["error"] for one in said["tests"]]))
    assert read_record(run.folder).test_reads == before + 10
    assert reads(run.folder)[-1]["on"] == "CIFAR-10-C: gaussian_noise, severity 5"


@pytest.mark.parametrize("form", ["w", "w:gz"])
def test_corruptions_in_their_archive_as_published(run, tmp_path, form):
    corrupted(tmp_path / "CIFAR-10-C")
    with tarfile.open(tmp_path / "CIFAR-10-C.tar", form) as archive:
        archive.add(tmp_path / "CIFAR-10-C", "CIFAR-10-C")
    loose, packed = (json.loads(run("--on", tmp_path / name, "--json")[1]) for name in ("CIFAR-10-C", "CIFAR-10-C.tar"))
    by_name = [{one["name"]: one for one in said["tests"]} for said in (loose, packed)]
    assert by_name[0] == by_name[1]
    assert packed["mean_error"] == pytest.approx(loose["mean_error"])
    with tarfile.open(tmp_path / "CIFAR-10-C.tar", "w") as archive:
        archive.add(tmp_path / "CIFAR-10-C/fog.npy", "CIFAR-10-C/fog.npy")
    assert "CIFAR-10-C.tar has no labels.npy" in run("--on", tmp_path / "CIFAR-10-C.tar")[2]


def test_one_corruption_as_a_table(run, tmp_path):
    corrupted(tmp_path / "CIFAR-10-C")
    code, out, err = run("--on", tmp_path / "CIFAR-10-C" / "fog.npy")
    assert code == 0
    assert "severity 5" in out
    assert "gaussian_noise" not in out
    assert re.search(r"errors in %, each ± \d+\.\d\d points at most \(95 %, 20 images\); mean of all \d+\.\d\d %", out)
    assert err == "scoring fog …\n", "the figures are said once"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "labels.npy").unlink(), "labels.npy is missing, the labels of fog.npy"),
        (
            lambda root: np.save(root / "labels.npy", np.array(["cat"] * 100)),
            "holds names; numbers are expected",
        ),
        (
            lambda root: np.save(root / "fog.npy", np.zeros((50, 32, 32, 3), np.uint8)),
            "fog.npy has 50 images for 100 labels",
        ),
        (
            lambda root: np.save(root / "fog.npy", np.zeros((100, 8, 8, 3), np.uint8)),
            "images of 3×8×8, run .* takes 3×32×32",
        ),
        (lambda root: np.save(root / "labels.npy", np.tile(np.arange(20) + 80, 5)), "has the class 'apple'"),
        (lambda root: np.save(root / "fog.npy", np.zeros(3, object)), "never read"),
    ],
)
def test_corruptions_that_are_not_right_are_one_line(run, tmp_path, change, message):
    corrupted(tmp_path / "CIFAR-10-C", ["fog"])
    change(tmp_path / "CIFAR-10-C")
    before = reads(run.folder)
    code, out, err = run("--on", tmp_path / "CIFAR-10-C")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err)
    assert reads(run.folder) == before


def test_a_corruption_without_severities_is_one_test_set(run, tmp_path):
    root = tmp_path / "C"
    root.mkdir()
    images, labels = pictures(33, 4)
    np.save(root / "snow.npy", images)
    np.save(root / "labels.npy", labels)
    code, out, _ = run("--on", root, "--json")
    (one,) = json.loads(out)["tests"]
    assert (code, one["corruption"], one["n"], "severity" in one) == (0, "snow", 33, False)
    assert one["error"] == pytest.approx(error_by_hand(run.folder, images, labels))


@pytest.mark.parametrize("form", ["txt", "csv", "json", "npy"])
@pytest.mark.parametrize("option", ["--on", "--without"])
def test_a_part_of_the_test_set_by_its_positions(run, tmp_path, form, option):
    """Test images in the order of the data set: of a folder, by class and name."""
    images, labels = pictures(40, 1)
    order = sorted(range(40), key=lambda number: (CLASSES[labels[number]], number))
    named = [3, 0, 17, 21, 39]
    path = tmp_path / f"clean.{form}"
    match form:
        case "txt":
            path.write_text("\n".join(map(str, named)))
        case "csv":
            path.write_text("index\n" + "\n".join(map(str, named)) + "\n")
        case "json":
            path.write_text(json.dumps(named))
        case "npy":
            np.save(path, np.array(named))
    kept = [order[place] for place in range(40) if (place in named) == (option == "--on")]
    code, out, err = run(option, path, "--json")
    assert code == 0, err
    (one,) = json.loads(out)["tests"]
    assert one["n"] == len(kept)
    assert one["error"] == pytest.approx(error_by_hand(run.folder, images[kept], labels[kept]))
    assert one["name"] == f"folder, {len(kept)} of 40 test images (clean.{form})"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("40\n", "names image 40; there are images 0 to 39"),
        ("-1\n", "holds '-1'"),
        ("1\n1\n", "names 1 image twice"),
        ("", "holds ''"),
        ("index,other\n1,2\n", "holds 'other'"),
        ("1.5", "holds '1.5'"),
    ],
)
def test_positions_that_are_none_are_one_line(run, tmp_path, content, message):
    (tmp_path / "x.txt").write_text(content)
    code, out, err = run("--on", tmp_path / "x.txt")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_all_left_out_and_both_options_are_one_line(run, tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(map(str, range(40))))
    assert "leaves no image out of 40" in run("--without", tmp_path / "x.txt")[2]
    code, _, err = run("--without", tmp_path / "x.txt", "--on", "cifar10")
    assert (code, err.count("\n")) == (2, 1)
    assert "no file of positions" in run("--without", tmp_path)[2]


CALLED = {"airplane": "plane", "automobile": "Car"}


@pytest.mark.parametrize("form", ["tree", "splits", "test alone", "npz", "parquet"])
def test_classes_are_matched_by_name_in_whichever_order(run, tmp_path, form):
    images, labels = pictures(40, 5)
    names = [CALLED.get(name, name) for name in CLASSES]
    root = tmp_path / "other"
    match form:
        case "tree":
            write_folder(root, images, labels, names)
        case "splits":
            write_folder(root / "train", images[::-1], labels[::-1], names)
            write_folder(root / "test", images, labels, names)
        case "test alone":
            write_folder(root / "test", images, labels, names)
        case "npz":
            order = sorted(range(10), key=names.__getitem__)
            new = np.argsort(order)[labels]
            np.savez(root.with_suffix(".npz"), images=images, labels=new, class_names=np.array(sorted(names)))
            root = root.with_suffix(".npz")
        case "parquet":
            root.mkdir()
            write_parquet(root / "test.parquet", images, [names[label] for label in labels])
    code, out, err = run("--on", root, "--json")
    assert code == 0, err
    (one,) = json.loads(out)["tests"]
    assert one["n"] == 40
    assert one["error"] == pytest.approx(error_by_hand(run.folder, images, labels))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["monkey", *CLASSES[1:]], "has the class 'monkey' and lacks 'airplane'"),
        (CLASSES[:9], "lacks 'truck'"),
        ([*CLASSES, "monkey"], "has the class 'monkey'"),
    ],
)
def test_other_classes_are_refused_and_nothing_is_counted(run, tmp_path, names, message):
    count = len(names) * 2
    images = pictures(count)[0]
    write_folder(tmp_path / "other", images, np.arange(count) % len(names), names)
    before = reads(run.folder)
    code, out, err = run("--on", tmp_path / "other")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert reads(run.folder) == before


def test_classes_without_names_are_refused_with_what_helps(run, tmp_path):
    images, labels = pictures(20)
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    code, _, err = run("--on", tmp_path / "x.npz")
    assert (code, err.count("\n")) == (2, 1)
    assert "bring a file classes.txt beside it" in err
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    assert run("--on", tmp_path / "x.npz")[0] == 0


@pytest.mark.parametrize(
    ("place", "message"),
    [("nowhere.npz", "does not exist"), ("cifar1O", "did you mean 'cifar10'"), ("digits", "unlike run")],
)
def test_what_is_no_test_set_is_one_line(run, place, message):
    code, out, err = run("--on", place)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_images_of_another_size_are_fitted_where_files_are_read(run, tmp_path):
    images, labels = pictures(20)
    write_folder(tmp_path / "large", images.repeat(2, axis=1).repeat(2, axis=2), labels)
    code, out, _ = run("--on", tmp_path / "large", "--json")
    assert code == 0
    assert json.loads(out)["tests"][0]["n"] == 20


@pytest.mark.parametrize(("count", "n"), [(0, 10), (10, 10), (3, 10), (234, 10_000)])
def test_the_interval_is_wilsons(count, n):
    from scipy.stats import binomtest

    expected = binomtest(count, n).proportion_ci(method="wilson")
    assert of_share(count, n) == pytest.approx((expected.low, expected.high), abs=1e-12)

"""What a folder of images means: splits, labels in tables and names, rubbish, Unicode; read as meant, or refused."""

import lzma
import random
import shutil
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from unicodedata import normalize

import pytest
from cifar_files import one_line
from image_trees import labelled, write_image
from PIL import Image

from residuum.data.check import check
from residuum.data.datasets import find, load
from residuum.data.formats import trees as formats
from residuum.data.images import FORMATS
from residuum.data.layout import split_in
from residuum.errors import InputError

LOSSLESS = (".png", ".bmp", ".gif", ".tiff", ".tif", ".ppm")


def read(root, **settings):
    assert find(root) == "folder"
    return load({"name": "folder", **settings}, str(root))


def trees(root, parts=("train", "test"), classes=("cat", "dog"), count=3, start=0):
    """Folders of classes in splits; returns the class of each image by its number, for each split."""
    meant = {}
    for part in parts:
        for name in classes:
            for number in range(count):
                start += 1
                write_image(root / part / name / f"{number}.png", start)
                meant.setdefault(part, {})[start] = name
    return meant


def table(path, rows, header="id,label"):
    path.write_text("\n".join([*([header] if header else []), *(",".join(map(str, row)) for row in rows)]) + "\n")


# The samples that failed: see the README beside them.


def test_shared_kaggle(shared_cases):
    root = shared_cases / "folders" / "kaggle"
    dataset = read(root)
    said = dict(line.split(",") for line in (root / "trainLabels.csv").read_text().split()[1:])
    assert set(dataset.classes) == set(said.values())
    assert len(dataset.train) + len(dataset.test) == len(said) == 120
    counts = [list(said.values()).count(name) for name in dataset.classes]
    report = check(dataset)
    assert [a + b for a, b in zip(report.train.per_class, report.test.per_class, strict=True)] == counts
    assert report.reading.not_used == ("test/",)
    assert any("40 images without labels" in note for note in report.reading.notes)


def test_shared_three_way(shared_cases):
    report = check(read(shared_cases / "folders" / "three_way"))
    assert (report.train.images, report.validation.images, report.test.images) == (24, 24, 24)
    assert any("val is the validation split (24 images)" in note for note in report.reading.notes)


def test_shared_skipped(shared_cases):
    report = check(read(shared_cases / "folders" / "skipped"))
    assert report.train.per_class == (8, 8, 38)
    assert report.reading.passed_over == {}


def test_shared_unicode(shared_cases):
    report = check(read(shared_cases / "folders" / "unicode"))
    assert report.classes == ("airplane", "automobile", normalize("NFC", "vögel"))
    assert (report.train.per_class, report.test.per_class) == ((8, 8, 8), (8, 8, 8))


@pytest.fixture
def copied(shared_cases, tmp_path):
    return shutil.copytree(shared_cases / "folders" / "macosx_tree", tmp_path / "tree")


def test_shared_macosx_tree_trained_twice_with_its_runs_inside(copied):
    from residuum.cli import main

    first = read(copied)
    assert first.classes == ("airplane", "automobile", "bird")
    words = [
        "train",
        "quick",
        "--model",
        "resnet8",
        "--epochs",
        "1",
        "--data",
        str(copied),
        "--set",
        "model.channels=[2,2,2]",
    ]
    for runs in (copied / "runs", copied):  # one level down, and the runs beside the classes
        for seed in ("0", "1"):
            assert main([*words, "--runs", str(runs), "--seed", seed]) == 0
            assert read(copied).fingerprint == first.fingerprint
    reading = read(copied).reading
    assert reading.passed_over["folders of runs"] == 3  # `runs`, and the two beside the classes
    assert "runs/" in reading.not_used
    Image.new("RGB", (32, 32)).save(copied / "runs" / "mine.png")  # drawn by hand, beside the runs
    assert read(copied).fingerprint == first.fingerprint


# Labels that stand in a table.


def flat(root, names, part="train", start=0):
    for number, name in enumerate(names, start=start):
        write_image(root / part / name, number)


NAMES = [f"{number}.png" for number in range(1, 21)]
CLASSES = ["ship" if number % 3 else "frog" for number in range(20)]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("id,label", lambda name, label: (name[:-4], label)),
        ("id,label", lambda name, label: (name, label)),
        ("", lambda name, label: (name, label)),
        ("filename,class", lambda name, label: (f"train/{name}", label)),
        ("label,image", lambda name, label: (label, f"./train/{name}")),
        ("image_id,species", lambda name, label: (name[:-4], label)),
        ("picture,what it is", lambda name, label: (name, label)),
        (",id,label", lambda name, label: (int(name[:-4]) % 20, name[:-4], label)),
        ("id,label,width,remark", lambda name, label: (name[:-4], label, 32, f"seen {name}")),
        ("id,sha,what", lambda name, label: (name[:-4], f"a0{name}", label)),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_labels_stand_in_a_table(tmp_path, header, row, delimiter):
    flat(tmp_path, NAMES)
    flat(tmp_path, [f"{number}.png" for number in range(1, 9)], "test", start=100)
    rows = [delimiter.join(map(str, row(*pair))) for pair in zip(NAMES, CLASSES, strict=True)]
    text = "\n".join([*([header.replace(",", delimiter)] if header else []), *rows])
    (tmp_path / "trainLabels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "sampleSubmission.csv").write_text("id,label\n" + "".join(f"{n},frog\n" for n in range(1, 9)))
    dataset = read(tmp_path)
    assert dataset.classes == ("frog", "ship")
    found = labelled(dataset)
    assert found["training"] | found["test"] == dict(enumerate(CLASSES))
    assert set(dataset.reading.not_used) == {"sampleSubmission.csv", "test/"}


def test_tables_of_both_splits(tmp_path):
    flat(tmp_path, NAMES)
    flat(tmp_path, NAMES, "test", start=100)
    table(tmp_path / "train.csv", zip(NAMES, CLASSES, strict=True))
    table(tmp_path / "test.csv", zip(NAMES, reversed(CLASSES), strict=True))
    found = labelled(read(tmp_path))
    assert found["training"] == dict(enumerate(CLASSES))
    assert found["test"] == dict(enumerate(reversed(CLASSES), start=100))


def test_a_table_within_each_split(tmp_path):
    for part, start in (("train", 0), ("test", 100)):
        flat(tmp_path, NAMES, part, start)
        table(tmp_path / part / "labels.csv", zip(NAMES, CLASSES, strict=True))
    found = labelled(read(tmp_path))
    assert found["test"] == dict(enumerate(CLASSES, start=100))


def test_one_table_names_the_images_of_both_splits_by_their_paths(tmp_path):
    flat(tmp_path, NAMES)
    flat(tmp_path, NAMES, "test", start=100)
    rows = [(f"{part}/{name}", label) for part in ("train", "test") for name, label in zip(NAMES, CLASSES, strict=True)]
    table(tmp_path / "labels.csv", rows)
    found = labelled(read(tmp_path))
    assert (found["training"], found["test"]) == (dict(enumerate(CLASSES)), dict(enumerate(CLASSES, start=100)))
    table(tmp_path / "labels.csv", zip(NAMES, CLASSES, strict=True))
    with pytest.raises(InputError, match="train holds images without labels"):  # whose is 1.png?
        read(tmp_path)


def test_a_table_says_the_splits(tmp_path):
    flat(tmp_path, NAMES, "images")
    parts = ["train"] * 10 + ["valid"] * 5 + ["test"] * 5
    table(tmp_path / "all.csv", zip(NAMES, CLASSES, parts, strict=True), "file,label,split")
    found = labelled(read(tmp_path))
    assert {which: len(of) for which, of in found.items()} == {"training": 10, "validation": 5, "test": 5}
    assert found["training"] | found["validation"] | found["test"] == dict(enumerate(CLASSES))


def test_numbers_in_a_table_are_classes_in_their_order(tmp_path):
    flat(tmp_path, NAMES, "")
    table(tmp_path / "labels.csv", [(name, number % 4 * 5) for number, name in enumerate(NAMES)])
    assert read(tmp_path).classes == ("0", "5", "10", "15")


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (list(zip(NAMES[:-1], CLASSES, strict=False)), "id,label", r"20\.png has no row in trainLabels\.csv"),
        ([*zip(NAMES, CLASSES, strict=True), ("1.png", "ship")], "id,label", r"names 1\.png twice"),
        ([*zip(NAMES[:-1], CLASSES, strict=False), ("20.png", "")], "id,label", "without a label"),
        (
            [(name, label, label[0]) for name, label in zip(NAMES, CLASSES, strict=True)],
            "id,one,two",
            "several columns that may be the labels: one, two; call one of them `label`",
        ),
        ([(name, "cat") for name in NAMES], "id,label", "only the class 'cat'"),
        ([(f"x{name}", "cat") for name in NAMES], "id,label", "images without labels"),
        ([(name, f"remark {name}") for name in NAMES], "id,remark", "images without labels"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(tmp_path, rows, header, message):
    flat(tmp_path, NAMES)
    table(tmp_path / "trainLabels.csv", rows, header)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path)
    one_line(caught.value)


def test_two_tables_that_disagree_are_refused_and_others_are_no_matter(tmp_path):
    flat(tmp_path, NAMES)
    table(tmp_path / "trainLabels.csv", zip(NAMES, CLASSES, strict=True))
    table(tmp_path / "prices.csv", [("a", 1), ("b", 2)], "what,price")
    (tmp_path / "latin.csv").write_bytes(b"id,label\n1,\xe9\n")
    assert labelled(read(tmp_path))
    table(tmp_path / "y_train.csv", zip(NAMES, reversed(CLASSES), strict=True))
    with pytest.raises(InputError, match="different labels; keep one"):
        read(tmp_path)


# Labels that stand in names.


@pytest.mark.parametrize("form", ["{c}.{n}.png", "{n}_{c}.png", "{c}_{n:04}.png", "{c} ({n}).png", "{c}-{n}.gif"])
def test_labels_stand_in_names(tmp_path, form):
    names = [form.format(c=label, n=number) for number, label in enumerate(CLASSES)]
    flat(tmp_path, names)
    flat(tmp_path, names, "test", start=100)
    found = labelled(read(tmp_path))
    assert (found["training"], found["test"]) == (dict(enumerate(CLASSES)), dict(enumerate(CLASSES, start=100)))


def test_test_images_whose_names_say_nothing_are_not_used(tmp_path):
    """Kaggle's cats and dogs: train/cat.0.jpg, test1/1.jpg."""
    flat(tmp_path, [f"{label}.{number}.png" for number, label in enumerate(CLASSES)])
    flat(tmp_path, NAMES, "test1", start=100)
    dataset = read(tmp_path)
    found = labelled(dataset)
    assert found["training"] | found["test"] == dict(enumerate(CLASSES))
    assert dataset.reading.not_used == ("test1/",)


@pytest.mark.parametrize(
    "names",
    [
        NAMES,  # numbers alone
        [f"img_{n}.png" for n in range(20)],  # what a camera says
        [("IMG_" if n % 2 else "DSC_") + f"{n}.png" for n in range(20)],
        [f"frog_{n}.png" for n in range(20)],  # one class
        [f"{'abcdefghijklmnopqrst'[n]}_{n}.png" for n in range(20)],  # a class for each
        [f"{n}_{n % 3}.png" for n in range(20)],  # which of them is the class?
        [*(f"cat.{n}.png" for n in range(10)), *(f"{n}_dog.png" for n in range(10))],  # two forms
        [*(f"{CLASSES[n]}.{n}.png" for n in range(19)), "lonely.png"],
    ],
)
def test_names_that_leave_doubt_are_refused(tmp_path, names):
    flat(tmp_path, names)
    flat(tmp_path, names, "test", start=100)
    with pytest.raises(InputError, match="train holds images without labels: put those of each class") as caught:
        read(tmp_path)
    one_line(caught.value)


def test_a_table_beside_arrays_of_something_else(tmp_path):
    flat(tmp_path, NAMES, "images")
    table(tmp_path / "labels.csv", zip(NAMES, CLASSES, strict=True))
    (tmp_path / "embeddings.npy").write_bytes(b"x")
    found = labelled(read(tmp_path))
    assert found["training"] | found["test"] == dict(enumerate(CLASSES))


def test_one_test_image_whose_name_says_nothing_is_refused(tmp_path):
    """Else all of them would be left out, and the test split drawn from elsewhere."""
    names = [f"{label}.{number}.png" for number, label in enumerate(CLASSES)]
    flat(tmp_path, names)
    flat(tmp_path, [*names, "thumbnail.png"], "test", start=100)
    with pytest.raises(InputError, match=r"test/thumbnail\.png says no class in its name, unlike most files") as caught:
        read(tmp_path)
    one_line(caught.value)


# Splits.


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "dev"])
def test_a_validation_folder_is_the_validation_split(tmp_path, name):
    meant = trees(tmp_path, ("train", name, "test"))
    found = labelled(read(tmp_path))
    assert (found["training"], found["validation"], found["test"]) == (meant["train"], meant[name], meant["test"])


@pytest.mark.parametrize(
    "names", [("Train", "Test"), ("TRAIN", "test"), ("training", "testing"), ("train_images", "test_images")]
)
def test_splits_are_known_by_their_names_however_they_are_written(tmp_path, names):
    meant = trees(tmp_path, names)
    found = labelled(read(tmp_path))
    assert (found["training"], found["test"]) == (meant[names[0]], meant[names[1]])


@pytest.mark.parametrize(
    "names", [("seg_train", "seg_test"), ("cifar10_train", "cifar10_test"), ("train-pets", "test-pets")]
)
def test_splits_are_known_by_what_they_have_in_common(tmp_path, names):
    """Intel's scenes on Kaggle: seg_train/seg_train/CLASS, seg_test/seg_test/CLASS, and seg_pred without labels."""
    meant = trees(tmp_path, [f"{name}/{name}" for name in names])
    write_image(tmp_path / "seg_pred" / "seg_pred" / "1.png", 900)
    dataset = read(tmp_path)
    found = labelled(dataset)
    assert (found["training"], found["test"]) == tuple(meant[f"{name}/{name}"] for name in names)
    assert dataset.reading.not_used == ("seg_pred/",)


@pytest.mark.parametrize("names", [("cifar10_train", "cifar10_test"), ("train", "test"), ("pets_train", "pets_val")])
@pytest.mark.parametrize("inner", ["", "images", None])
def test_images_without_labels_are_never_classes_whatever_their_folders_are_called(tmp_path, names, inner):
    for start, name in enumerate(names):
        flat(tmp_path, NAMES, f"{name}/{name if inner is None else inner}", 100 * start)
    with pytest.raises(InputError, match=r"without labels|no folder train") as caught:
        read(tmp_path)
    one_line(caught.value)


@pytest.mark.parametrize("place", ["", "train"])
def test_images_of_a_split_one_folder_down_with_a_table(tmp_path, place):
    flat(tmp_path, NAMES, "train/train")
    flat(tmp_path, NAMES[:7], "test/test", 100)
    table(tmp_path / place / "labels.csv", zip(NAMES, CLASSES, strict=True))
    found = labelled(read(tmp_path))
    assert found["training"] | found["test"] == dict(enumerate(CLASSES))


def test_words_of_splits_in_names_of_classes_are_no_splits(tmp_path):
    meant = trees(tmp_path, ("",), ("test_positive", "test_negative", "latest", "trainer"))
    found = labelled(read(tmp_path))
    assert found["training"] | found["test"] == meant[""]


def test_a_cache_in_the_folder_is_no_class(tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path / "cache"))
    trees(tmp_path, ("",))
    first = read(tmp_path)
    again = read(tmp_path)
    assert again.fingerprint == first.fingerprint
    assert again.reading.not_used == ("cache/",)


def test_an_empty_validation_folder_is_none(tmp_path):
    trees(tmp_path)
    (tmp_path / "val").mkdir()
    dataset = read(tmp_path)
    assert dataset.validation is None
    assert dataset.reading.not_used == ("val/",)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train/a", "train/b", "val/a", "val/b"], "no folder test; is val it"),
        (["test/a", "test/b"], "has a folder test, but no folder train"),
        (["a", "b", "test"], "test stands beside folders of classes"),
        (["a", "b", "test_images"], "test_images stands beside folders of classes"),
        (["a", "b", "test/a", "test/b"], "test stands beside folders of classes"),
        (["train", "test", "ship"], "test stands beside folders of classes"),
        (["train", "test"], "images without labels"),
        (["train"], "images without labels"),
        (["train/a", "train/b", "test/a", "test/b", "val/a", "valid/a"], "several folders of one split"),
        (["train/a", "train/b", "test/a", "test/b", "val/a"], "val/b holds no images, but train/b does"),
        (
            ["train/a", "train/b", "test/a", "test/b", "val/a", "val/b", "val/c"],
            "val/c is a class that .*train does not",
        ),
        (["train/a/x", "train/a/y", "train/b", "test/a", "test/b"], "train/a holds no images, only folders"),
    ],
)
def test_folders_that_could_mean_several_things_are_refused(tmp_path, folders, message):
    for number, place in enumerate(folders):
        write_image(tmp_path / place / "1.png", number)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path)
    one_line(caught.value)


def test_a_class_of_images_in_another_format_is_refused_and_single_ones_are_named(tmp_path):
    trees(tmp_path)
    (tmp_path / "train" / "cat" / "9.heic").write_bytes(b"x")
    dataset = read(tmp_path)
    assert dataset.reading.passed_over == {"images in a format that is not read (.heic)": 1}
    assert dataset.reading.not_used == ("train/cat/9.heic",)
    (tmp_path / "train" / "bird").mkdir()
    (tmp_path / "train" / "bird" / "1.heic").write_bytes(b"x")
    with pytest.raises(InputError, match="train/bird holds no images"):
        read(tmp_path)


def test_valid_is_a_class_where_nothing_is_called_train(tmp_path):
    meant = trees(tmp_path, ("",), ("valid", "invalid"))
    found = labelled(read(tmp_path))
    assert found["training"] | found["test"] == meant[""]


def test_a_large_table_of_something_else_is_no_matter(tmp_path):
    meant = trees(tmp_path)
    write_image(tmp_path / "train" / "stray.png", 900)
    with (tmp_path / "train" / "log.csv").open("wb") as file:
        file.truncate(65 * 2**20)
    dataset = read(tmp_path)
    assert labelled(dataset)["training"] == meant["train"]
    assert dataset.reading.not_used == ("train/log.csv", "train/stray.png")


def test_folders_within_classes(tmp_path):
    meant = trees(tmp_path)
    write_image(tmp_path / "train" / "cat" / "old" / "1.png", 900)  # never a part of the class without a word
    dataset = read(tmp_path)
    assert labelled(dataset)["training"] == meant["train"]
    assert dataset.reading.not_used == ("train/cat/old/",)


def test_images_one_folder_down_in_every_class(tmp_path):
    for number, place in enumerate(("train/a", "train/b", "test/a", "test/b")):
        write_image(tmp_path / place / "images" / "1.png", number)
    assert labelled(read(tmp_path))["training"] == {0: "a", 1: "b"}


def test_a_tree_within_folders_that_hold_nothing_else(tmp_path):
    meant = trees(tmp_path / "download" / "my data")
    assert labelled(read(tmp_path))["test"] == meant["test"]


# Figures and what systems leave.


def test_figures_are_no_class(tmp_path):
    meant = trees(tmp_path, ("",))
    for name in ("curves", "noise"):
        write_image(tmp_path / "figures" / f"{name}.png", 900)
        (tmp_path / "figures" / f"{name}.svg").write_text("<svg/>")
    dataset = read(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert {**labelled(dataset)["training"], **labelled(dataset)["test"]} == meant[""]


def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    meant = trees(tmp_path)
    (tmp_path / "train" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert labelled(read(tmp_path))["training"] == meant["train"]


def test_links_to_classes_are(tmp_path):
    meant = trees(tmp_path / "real", ("train", "test"))
    for part in ("train", "test"):
        (tmp_path / "links" / part).mkdir(parents=True)
        for name in ("cat", "dog"):
            (tmp_path / "links" / part / name).symlink_to(tmp_path / "real" / part / name, target_is_directory=True)
    assert labelled(read(tmp_path / "links"))["training"] == meant["train"]


# Unicode.


@pytest.mark.parametrize(("one", "two"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_class_is_one_in_whichever_form_of_unicode(tmp_path, one, two):
    for part, form in (("train", one), ("test", two)):
        trees(tmp_path, (part,), (normalize(form, "vögel"), normalize(form, "한글"), "b"))
    assert read(tmp_path).classes == ("b", normalize("NFC", "vögel"), normalize("NFC", "한글"))


def test_two_forms_in_one_split_are_one_class(tmp_path):
    meant = trees(tmp_path, ("train", "test"), ("vögel", "b"))["train"]
    write_image(tmp_path / "train" / normalize("NFD", "vögel") / "9.png", 900)
    assert labelled(read(tmp_path))["training"] == meant | {900: "vögel"}


# Archives.


def packed(root, path):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(root.rglob("*")):
                archive.write(file, f"data/{file.relative_to(root)}")
    else:
        with tarfile.open(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w") as archive:
            archive.add(root, "./data")
    return path


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.xz"])
def test_an_archive_is_read_as_the_folder_is(tmp_path, ending):
    root = tmp_path / "data"
    trees(root, ("train", "val", "test"), ("été " * 40, "dog"))  # a name that needs tar's extensions
    write_image(root / "__MACOSX" / "dog" / "._1.png", 5)
    path = packed(root, tmp_path / f"mine.{ending}")
    dataset = read(path)
    assert dataset.fingerprint == read(root).fingerprint
    assert dataset.reading == read(root).reading.__class__(
        tuple(note.replace("val is", "data/val is") for note in read(root).reading.notes),
        dataset.reading.passed_over,
        ("data/__MACOSX/",),
    )
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == [path.name]


def test_an_archive_with_a_table(tmp_path):
    root = tmp_path / "data"
    flat(root, NAMES)
    table(root / "trainLabels.csv", zip(NAMES, CLASSES, strict=True))
    found = labelled(read(packed(root, tmp_path / "x.tar.xz")))
    assert found["training"] | found["test"] == dict(enumerate(CLASSES))


# Shapes that nobody listed.

RUBBISH = (".DS_Store", "Thumbs.db", "desktop.ini", "._1.png", ".hidden.png", "notes.txt", "README.md", "a.pdf")


def random_tree(root: Path, draw: random.Random):
    """A folder of a random shape; returns the class of each image that is meant, by the split, or None where it is free."""
    classes = draw.sample(["cat", "dog", "vögel", "a b", "7", "ship.v2", "Zebra", "鳥"], draw.randint(2, 4))
    kind = draw.choice(["folders", "folders", "table", "names"])
    if kind == "names":
        classes = [name for name in classes if name not in ("7", "ship.v2")]
        kind = kind if len(classes) > 1 else "folders"
    parts = draw.choice(
        [
            ("train", "test"),
            ("train", "val", "test"),
            ("Train", "Validation", "Test"),
            ("pets_train", "pets_valid", "pets_test"),
            ("train_images", "test_images"),
            ("",),
        ]
    )
    doubled = draw.random() < 0.2
    if kind == "folders" and len(classes) < 2:
        classes = ["cat", "dog"]
    suffixes = draw.choice([(".png",), LOSSLESS])
    number, meant = 0, {}
    for part in parts:
        rows = []
        for name in classes:
            form = draw.choice(["NFC", "NFD"])
            for index in range(draw.randint(3, 5)):
                number += 1
                ending = draw.choice(suffixes)
                if draw.random() < 0.3:
                    ending = ending.upper()
                stem = {"folders": f"{index}", "table": f"i{number}", "names": f"{name}.{number}"}[kind]
                place = root / part / part if doubled else root / part
                place = place / normalize(form, name) if kind == "folders" else place
                write_image(place / normalize(form, f"{stem}{ending}"), number)
                rows.append((f"{stem}{ending}", name))
                meant.setdefault(split_in(part), {})[number] = normalize("NFC", name)
        if kind == "table":
            draw.shuffle(rows)
            # In the split, or beside it under its name.
            place = (
                root / part / "labels.csv" if draw.random() < 0.5 or not part else root / f"{part.lower()}_labels.csv"
            )
            header, order = draw.choice([("id,label", 1), ("label,filename", -1), ("image,class", 1), (None, 1)])
            table(place, [row[::order] for row in rows], header)
    folders = [path for path in root.rglob("*") if path.is_dir()]
    for folder in (root, *folders):
        for name in draw.sample(RUBBISH, draw.randint(0, 2)):
            (folder / name).write_text("x")
    for name in draw.sample(["__MACOSX", ".git", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN"], draw.randint(0, 2)):
        place = draw.choice([root, *folders]) / name
        write_image(place / "cat" / "1.png", 10_000)
    if draw.random() < 0.3:
        run = draw.choice([root, root / "runs"]) / "resnet8-folder-seed0-0123456789ab"
        write_image(run / "curves.png", 10_001)
        (run / "config.json").write_text("{}")
        (run / "environment.json").write_text("[]")
    if draw.random() < 0.2:
        inside = list(root.iterdir())
        wrapper = root / "download"
        wrapper.mkdir()
        for entry in inside:
            entry.rename(wrapper / entry.name)
    return meant


@pytest.mark.parametrize("seed", range(80))
def test_a_random_tree_is_read_as_it_is_meant_or_refused_in_one_line(tmp_path, seed):
    draw = random.Random(seed)
    root = tmp_path / "root"
    root.mkdir()
    meant = random_tree(root, draw)
    if draw.random() < 0.3:
        root = packed(root, tmp_path / f"x.{draw.choice(['zip', 'tar', 'tar.gz', 'tar.xz'])}")
    found = labelled(read(root))
    if "" in meant:
        assert found["training"] | found["test"] == meant[""]
        assert not found["training"].keys() & found["test"].keys()
        return
    assert found["training"] == meant["train"]
    assert found.get("validation") == meant.get("validation")
    assert found["test"] == meant["test"]


@pytest.mark.parametrize("seed", range(60))
def test_a_random_tree_that_is_broken_gives_no_other_images(tmp_path, seed):
    """Something is taken away or put in: what is still read has the right label, and else there is one line."""
    draw = random.Random(1000 + seed)
    meant = random_tree(tmp_path, draw)
    labels = {number: name for part in meant.values() for number, name in part.items()}
    everything = [path for path in tmp_path.rglob("*") if not path.is_symlink()]
    for _ in range(draw.randint(1, 3)):
        path = draw.choice(everything)
        match draw.choice(["remove", "move up", "rename", "image"]):
            case "remove" if path.is_dir():
                shutil.rmtree(path)
            case "remove":
                path.unlink(missing_ok=True)
            case "move up" if (
                path.is_file() and path.parent != tmp_path and not (path.parent.parent / path.name).exists()
            ):
                path.rename(path.parent.parent / path.name)
            case "rename" if path.exists():
                new = path.with_name(draw.choice(["x", "test", "val", "images", "data.png", "labels.csv"]))
                if not new.exists():
                    path.rename(new)
            case "image" if path.is_dir():
                write_image(path / "extra.png", 20_000)
        everything = list(tmp_path.rglob("*"))
        if not everything:
            break
    try:
        dataset = read(tmp_path)
    except InputError as error:
        one_line(error)
        return
    except AssertionError:  # no longer a folder of images at all: `find` says so
        raise
    found = labelled(dataset)
    pictures = {path.suffix.lower() for path in everything if path.is_file()}
    assert pictures & {suffix for suffixes in FORMATS.values() for suffix in suffixes}
    for part in found.values():
        for number, name in part.items():
            # A folder that was renamed is a class of its new name; an image that was put in is one where it lies.
            assert number not in labels or name in (labels[number], "x", "images", "data.png", "labels.csv"), (
                number,
                name,
            )
    assert not {"train", "Train", "test", "Test", "val", "Validation", "__MACOSX", "runs"} & {*dataset.classes}


def test_a_table_with_a_row_for_each_image_of_one_split_alone_is_of_that_split(tmp_path):
    flat(tmp_path, NAMES)
    flat(tmp_path, NAMES[:8], "test", start=100)
    table(tmp_path / "labels.csv", zip(NAMES, CLASSES, strict=True))
    dataset = read(tmp_path)
    assert labelled(dataset)["training"] | labelled(dataset)["test"] == dict(enumerate(CLASSES))
    assert dataset.reading.not_used == ("test/",)


def test_a_zip_whose_folders_are_parted_by_backslashes(tmp_path):
    meant = trees(tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in sorted((tmp_path / "data").rglob("*.png")):
            archive.writestr(str(file.relative_to(tmp_path / "data")).replace("/", "\\"), file.read_bytes())
    assert labelled(read(tmp_path / "x.zip"))["training"] == meant["train"]


# Hostile archives of images.


def image_bytes(number=1):
    buffer = BytesIO()
    Image.new("RGB", (6, 5), (number, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


GOOD = [(f"{part}/{name}/1.png", image_bytes(n)) for n, (part, name) in enumerate(
    [("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")])]  # fmt: skip


def linked(name):
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, 0o120777 << 16
    return member


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("../evil.png", b"x"), "leads out of the archive"),
        (("train/../../evil.png", b"x"), "leads out of the archive"),
        (("/etc/passwd", b"x"), "leads out of the archive"),
        (("..\\evil.png", b"x"), "leads out of the archive"),
        (("C:/evil.png", b"x"), "leads out of the archive"),
        ((linked("train/cat/2.png"), b"/etc/passwd"), "a link or a device"),
        (("train/cat/1.png", b"x"), "appears twice"),
        (("train/cat/2.png", b"no image"), r"train/cat/2\.png is not an image"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_security_hostile_zips_are_refused(tmp_path, extra, message):
    path = zipped(tmp_path / "x.zip", [*GOOD, extra])
    with pytest.raises(InputError, match=message) as caught:
        load("folder", str(path))
    one_line(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.zip"]


def test_security_zip_bombs_are_cut_off(tmp_path, monkeypatch):
    bomb = zipped(tmp_path / "x.zip", [*GOOD, ("train/cat/2.png", image_bytes())])
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/dog/2.png", bytes(70 * 2**20))
    with pytest.raises(InputError, match=r"train/dog/2\.png' has 73,400,320 bytes, at most 67,108,864"):
        load("folder", str(bomb))
    monkeypatch.setattr(formats, "MAX_DECOMPRESSED", 2**20)
    with pytest.raises(InputError, match="more than 1 MiB when decompressed"):
        load("folder", str(zipped(tmp_path / "y.zip", [*GOOD, ("notes.bin", bytes(2**21))])))
    monkeypatch.setattr(formats, "MAX_ENTRIES", 3)
    with pytest.raises(InputError, match="more than 3 "):
        load("folder", str(zipped(tmp_path / "z.zip", GOOD)))


def test_security_xz_that_asks_for_much_memory_is_refused(tmp_path):
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, raw in GOOD:
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, BytesIO(raw))
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**29}]
    path = tmp_path / "x.tar.xz"
    path.write_bytes(lzma.compress(content.getvalue(), filters=filters))
    with pytest.raises(InputError) as caught:
        load("folder", str(path))
    one_line(caught.value)
    path.write_bytes(lzma.compress(content.getvalue()) + bytes(8))  # padding is allowed between and behind streams
    assert len(load("folder", str(path)).train) == 2


@pytest.mark.parametrize("ending", ["zip", "tar.xz", "tar.gz"])
@pytest.mark.parametrize("seed", range(15))
def test_security_damaged_archives_raise_nothing_else(tmp_path, ending, seed):
    draw = random.Random(seed)
    trees(tmp_path / "data")
    path = packed(tmp_path / "data", tmp_path / f"x.{ending}")
    good = labelled(load("folder", str(path)))
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 3)):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content[: draw.randint(1, len(content))] if draw.random() < 0.3 else content)
    try:
        found = labelled(load("folder", str(path)))
    except InputError as error:
        one_line(error)
        return
    # What is still read is what was there: names are not under the archive's checksums everywhere.
    labels = {number: name for part in good.values() for number, name in part.items()}
    assert {number for part in found.values() for number in part} <= labels.keys()

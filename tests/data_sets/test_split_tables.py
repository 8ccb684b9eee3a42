"""Tables that say splits and labels: one for each split over the same images, Tiny-ImageNet's, other encodings."""

import csv
import random

import pytest
from image_trees import labelled, write_image

from residuum.data.check import check
from residuum.data.datasets import find, load
from residuum.data.formats.label_tables import read_table
from residuum.errors import InputError


def table(path, rows, delimiter=",", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def tabled(root, source):
    """Images in random folders with a table for each split, in a form that nobody listed; their classes by split."""
    folders = source.choice([["images"], ["."], ["a/b", "a/c", "d"], ["images/cat", "images/dog"]])
    names = source.choice([["cat", "dog"], ["Ä b", "ß", "z"], ["0", "1", "10"]])
    said = source.choice([("train", "test"), ("train", "val", "test"), ("train", "valid"), ("training", "testing")])
    form = source.choice(["{}.csv", "{}_labels.csv", "my-{}.tsv", "{}Labels.csv", "{}.txt"])
    header = source.choice([None, ["file", "label"], ["Image", "Class", "width"]])
    with_ending, in_path = source.random() < 0.5, source.random() < 0.5
    expected, number = {}, 0
    for split in said:
        rows = []
        for _ in range(source.randint(6, 9)):
            label = names[number % len(names)]
            place = f"{source.choice(folders)}/im{number}.png".removeprefix("./")
            write_image(root / place, number)
            key = place if in_path else place.rpartition("/")[2]
            rows.append(
                [key if with_ending else key.removesuffix(".png"), label, *([6] if header and header[2:] else [])]
            )
            which = {"val": "validation", "valid": "validation", "test": "test", "testing": "test"}.get(
                split, "training"
            )
            expected.setdefault(which, {})[number] = label
            number += 1
        source.shuffle(rows)
        if in_path and not with_ending:
            rows = [[f"{row[0]}.png", *row[1:]] for row in rows]
        if header and form != "{}.txt":
            rows.insert(0, header)
        delimiter = "\t" if form.endswith((".tsv", ".txt")) else source.choice(",;\t")
        table(root / form.format(split), rows, delimiter, source.choice(["utf-8", "utf-8-sig", "utf-16"]))
    return expected


@pytest.mark.parametrize("seed", range(12))
def test_a_table_for_each_split_over_the_same_images(seed, tmp_path):
    expected = tabled(tmp_path, random.Random(seed))
    assert find(tmp_path) == "folder"
    dataset = load("folder", str(tmp_path))
    got = labelled(dataset)
    if "test" not in expected:  # drawn from the images that train
        assert got.keys() == {"training", "validation", "test"}
        assert "test is drawn" in check(dataset).splits
        got = {"training": got["training"] | got["test"], "validation": got["validation"]}
    else:
        assert "data's own" in check(dataset).splits
        assert "drawn, " not in check(dataset).splits
    assert got == expected
    assert dataset.reading.passed_over == {}


def pair(root):
    for number in range(8):
        write_image(root / f"images/{number}.png", number)
    table(root / "train.csv", [["id", "label"], *([number, "ab"[number % 2]] for number in range(5))])
    table(root / "test.csv", [["id", "label"], *([number, "ab"[number % 2]] for number in range(5, 8))])


def test_an_image_in_two_tables_or_in_none_and_a_class_of_test_images_alone_are_named(tmp_path):
    pair(tmp_path)
    assert labelled(load("folder", str(tmp_path)))["test"] == {5: "b", 6: "a", 7: "b"}
    table(tmp_path / "test.csv", [["id", "label"], [4, "a"], [5, "b"], [6, "a"], [7, "b"]])
    with pytest.raises(InputError, match=r"4\.png has a row in train\.csv and in test\.csv; keep one"):
        load("folder", str(tmp_path))
    table(tmp_path / "test.csv", [["id", "label"], [5, "b"], [6, "a"]])
    with pytest.raises(InputError, match=r"images/7\.png has no row in train\.csv or test\.csv"):
        load("folder", str(tmp_path))
    table(tmp_path / "test.csv", [["id", "label"], [5, "B"], [6, "a"], [7, "b"]])
    with pytest.raises(
        InputError, match=r"test\.csv has the class 'B', of which train\.csv names no image; it has 'b'"
    ):
        load("folder", str(tmp_path))


def test_a_table_that_only_lists_test_images_leaves_them_unused(tmp_path):
    pair(tmp_path)
    table(tmp_path / "test.csv", [["id", "width"], [5, 6], [6, 6], [7, 6]])
    dataset = load("folder", str(tmp_path))
    assert {number for part in labelled(dataset).values() for number in part} == {*range(5)}
    assert "test.csv names 3 images without labels, not used" in dataset.reading.notes
    assert dataset.reading.passed_over["images without a place among the classes"] == 3


def test_tiny_imagenet_as_published(tmp_path):
    wnids = ["n01443537", "n01629819"]
    (tmp_path / "wnids.txt").write_text("\n".join(wnids))
    (tmp_path / "words.txt").write_text("n01443537\tgoldfish, Carassius auratus\nn01629819\tEuropean fire salamander\n")
    number = 0
    for wnid in wnids:
        for at in range(4):
            write_image(tmp_path / f"train/{wnid}/images/{wnid}_{at}.JPEG", number := number + 1)
        table(
            tmp_path / f"train/{wnid}/{wnid}_boxes.txt", [[f"{wnid}_{at}.JPEG", 0, 10, 63, 58] for at in range(4)], "\t"
        )
    rows = [[f"val_{at}.JPEG", wnids[at % 2], at % 3, 32, 44, 62] for at in range(6)]
    for at in range(6):
        write_image(tmp_path / f"val/images/val_{at}.JPEG", 99 + at)
        write_image(tmp_path / f"test/images/test_{at}.JPEG", 200 + at)
    table(tmp_path / "val/val_annotations.txt", rows, "\t")
    dataset = load("folder", str(tmp_path))
    assert dataset.classes == tuple(wnids)
    assert dataset.validation is not None
    assert [dataset.classes[label] for label in dataset.validation.labels_N] == [*wnids[:1] * 3, *wnids[1:] * 3]
    assert (len(dataset.train) + len(dataset.test), len(dataset.validation)) == (8, 6)
    notes = dataset.reading.notes
    assert "the labels of val/images are those of val/val_annotations.txt" in notes
    assert "test/images holds 6 images without labels, not used" in notes
    said = check(dataset).splits
    assert said == ("test is drawn, 20 % of the images of each class (data.dataset.test=0.2, data.dataset.split_seed=0); "
                    "the others train; validation is the data's own")  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_in_an_encoding_with_a_mark_is_read(encoding):
    assert read_table("id,label\n1,Käfer\n".encode(encoding), "t.csv") == [["id", "label"], ["1", "Käfer"]]


@pytest.mark.parametrize(
    ("encoding", "why"),
    [
        ("utf-16-le", "UTF-16 without its mark"),
        ("utf-16-be", "UTF-16 without"),
        ("latin-1", "another encoding than UTF-8"),
        ("gb18030", "another encoding"),
    ],
)
def test_a_table_in_another_encoding_is_named_with_what_to_do(encoding, why, tmp_path):
    for number in range(4):
        write_image(tmp_path / f"train/{number}.png", number)
        write_image(tmp_path / f"test/{number}.png", number)
    text = "id,label\n" + "".join(f"{number},{'Käfer' if number % 2 else 'Ölkäfer'}\n" for number in range(4))
    (tmp_path / "trainLabels.csv").write_bytes(text.encode(encoding))
    with pytest.raises(
        InputError, match=rf"train holds images without labels; trainLabels\.csv is .*{why}.*; save it as UTF-8"
    ):
        load("folder", str(tmp_path))
    (tmp_path / "trainLabels.csv").rename(tmp_path / "trainLabels.xlsx")
    with pytest.raises(InputError, match=r"trainLabels\.xlsx is not read; save it as \.csv"):
        load("folder", str(tmp_path))


def test_classes_that_differ_in_case_are_told(tmp_path):
    for place in ("train/Cat", "train/dog", "test/cat", "test/dog"):
        for number in range(2):
            write_image(tmp_path / place / f"{number}.png", number)
    with pytest.raises(
        InputError, match=r"test/cat is a class that \S+/train does not have; it has 'Cat': call both alike"
    ):
        load("folder", str(tmp_path))
    for place in ("train/cat", "test/Cat"):
        write_image(tmp_path / place / "3.png", 3)
    if {*(tmp_path / "train").iterdir()} >= {tmp_path / "train/Cat", tmp_path / "train/cat"}:  # a file system with case
        report = check(load("folder", str(tmp_path)))
        assert "the classes 'Cat' and 'cat', which differ in case alone, are taken for two" in report.findings


def test_folders_of_classes_beside_lists_of_them_are_read(tmp_path):
    for number in range(8):
        write_image(tmp_path / f"images/00{number % 2}.bird/{number}.jpg", number)
    (tmp_path / "image_class_labels.txt").write_text("".join(f"{number} {number % 2}\n" for number in range(8)))
    (tmp_path / "train_test_split.txt").write_text("".join(f"{number} 1\n" for number in range(8)))
    dataset = load("folder", str(tmp_path))
    assert dataset.classes == ("000.bird", "001.bird")
    assert {*dataset.reading.not_used} == {"image_class_labels.txt", "train_test_split.txt"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.json", '{"0.png": 1}', r"labels\.json is not read; save it as \.csv"),
        ("annotations.xml", "<a/>", r"annotations\.xml is not read"),
        (
            "ages.csv",
            "id,age\n" + "".join(f"{number},{number * 1.37}\n" for number in range(8)),
            r"ages\.csv has no row for each",
        ),
        (
            "labels.csv",
            "version https://git-lfs.github.com/spec/v1\noid sha256:a\n",
            r"labels\.csv is a pointer of Git LFS",
        ),
    ],
)
def test_images_whose_labels_cannot_be_read_are_no_class(name, content, said, tmp_path):
    for number in range(8):
        write_image(tmp_path / f"images/{number}.png", number)
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=rf"images holds images without labels; {said}"):
        load("folder", str(tmp_path))

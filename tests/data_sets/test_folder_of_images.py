"""Folders of image files: two trees or one that is split, sizes, colours, and what is refused."""

import random
from shutil import rmtree

import numpy as np
import pytest
from PIL import Image

from residuum.data.datasets import find, load
from residuum.data.datasets import folder as folder_module
from residuum.errors import InputError


def write(root, *parts, size=(6, 5), value=0):
    path = root.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255 - value)).save(path)


@pytest.fixture
def trees(tmp_path):
    """train and test with 2 classes; the red value of an image tells which it is."""
    for which, first in (("train", 0), ("test", 100)):
        for label, name in enumerate(("dog", "cat")):  # order of creation is not that of the names
            for number in (2, 10, 1):
                write(tmp_path, which, name, f"{number}.png", value=first + 20 * label + number)
    return tmp_path


def reds(split):
    return split.images_NCHW[:, 0, 0, 0].tolist()


def test_two_trees(trees):
    assert find(trees) == "folder"
    dataset = load("folder", str(trees))
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.images_NCHW.shape == (6, 3, 5, 6)
    assert reds(dataset.train) == [21, 30, 22, 1, 10, 2]  # 1.png, 10.png, 2.png: the order of names as text
    assert dataset.train.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert reds(dataset.test) == [121, 130, 122, 101, 110, 102]


def one_tree(tmp_path, counts):
    for label, (name, count) in enumerate(counts.items()):
        for number in range(count):
            write(tmp_path, name, f"{number:03}.png", value=50 * label + number)
    return tmp_path


def test_one_tree_is_split_in_strata_by_its_own_seed(tmp_path):
    root = one_tree(tmp_path, {"a": 40, "b": 20, "c": 10})
    assert find(root) == "folder"
    found = {seed: load({"name": "folder", "test": 0.3, "split_seed": seed}, str(root)) for seed in (0, 1)}
    for dataset in found.values():
        assert np.bincount(dataset.test.labels_N).tolist() == [12, 6, 3]
        assert np.bincount(dataset.train.labels_N).tolist() == [28, 14, 7]
        assert sorted(reds(dataset.train) + reds(dataset.test)) == sorted(
            [*range(40), *range(50, 70), *range(100, 110)]
        )
    assert reds(found[0].test) != reds(found[1].test)


def test_later_loads_and_changes_of_one_image(trees):
    first = load("folder", str(trees)).fingerprint
    assert load("folder", str(trees)).fingerprint == first
    write(trees, "train", "cat", "1.png", value=99)
    assert reds(load("folder", str(trees)).train)[0] == 99
    (trees / "train" / "cat" / "10.png").unlink()
    assert reds(load("folder", str(trees)).train) == [99, 22, 1, 10, 2]


def test_several_sizes_need_the_setting(trees):
    write(trees, "test", "dog", "2.png", size=(12, 10), value=77)
    with pytest.raises(
        InputError, match=r"test/dog/2\.png is not 6×5 pixels as the first image; set data\.dataset\.size"
    ):
        load("folder", str(trees))
    dataset = load({"name": "folder", "size": 4, "channels": 1}, str(trees))
    assert dataset.test.images_NCHW.shape == (6, 1, 4, 4)


def test_other_files_are_passed_over(trees):
    (trees / "train" / "cat" / ".hidden.png").write_bytes(b"x")
    (trees / "train" / "cat" / "notes.txt").write_text("x")
    (trees / "train" / ".git").mkdir()
    (trees / "README.md").write_text("x")
    assert len(load("folder", str(trees)).train) == 6


def test_a_class_may_be_named_train(tmp_path):
    assert load("folder", str(one_tree(tmp_path, {"train": 10, "ship": 10}))).classes == ("ship", "train")


def rename(old, new):
    return lambda root: (root / old).rename(root / new)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename("test", "validation"), "has a folder train, but no folder test"),
        (
            lambda root: rmtree(root / "test"),
            r"no folder test; \S+/train alone is read as one tree, of which a part is",
        ),
        (rename("test/dog", "test/wolf"), "test/wolf is a class that .*train does not have"),
        (rename("train/dog", "dog"), "test/dog is a class that .*train does not have"),
        (rename("test/dog", "dog"), "test/dog holds no images"),
        (lambda root: (root / "train" / "bird").mkdir(), "train/bird holds no images"),
        (lambda root: (root / "test" / "cat" / "1.png").write_bytes(b"x"), r"test/cat/1\.png is not an image"),
    ],
)
def test_what_does_not_fit_is_one_line(trees, change, message):
    change(trees)
    with pytest.raises(InputError, match=message) as caught:
        load("folder", str(trees))
    assert "\n" not in str(caught.value)


def test_more_than_memory_holds_is_refused(trees, monkeypatch):
    monkeypatch.setattr(folder_module, "MAX_DECODED_BYTES", 6 * 90)
    with pytest.raises(InputError, match="set a smaller"):
        load("folder", str(trees))


@pytest.mark.parametrize(
    ("counts", "message"),
    [({"a": 3}, "only the class 'a'"), ({"a": 1, "b": 1}, "0.2 of 2 images leaves a split empty")],
)
def test_one_tree_that_cannot_be_split(tmp_path, counts, message):
    with pytest.raises(InputError, match=message):
        load("folder", str(one_tree(tmp_path, counts)))


def test_a_folder_is_needed(tmp_path):
    with pytest.raises(InputError, match=r"data\.root: the data set `folder` needs a folder"):
        load("folder")
    with pytest.raises(InputError, match="holds no folder"):
        load("folder", str(tmp_path))


@pytest.mark.parametrize("seed", range(4))
def test_all_images_that_cannot_be_read_are_counted_and_the_first_named(seed, tmp_path):
    """Whichever are broken, the first of all among them or not, and however."""
    source = random.Random(seed)
    paths = [tmp_path / split / name / f"{number}.png"
             for split in ("train", "test") for name in ("a", "b") for number in range(6)]  # fmt: skip
    for at, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), at, np.uint8)).save(path)
    broken = source.sample(paths, source.randint(2, 9)) + ([paths[0]] if seed % 2 else [])
    for path in broken:
        path.write_bytes(source.choice([b"no image", path.read_bytes()[:40], b"<!doctype html>"]))
    with pytest.raises(InputError) as refused:
        load("folder", str(tmp_path))
    said, count = str(refused.value), len(set(broken))
    assert said.startswith(f"{count} of 24 images cannot be read: ")
    assert "\n" not in said
    named = [path for path in set(broken) if f"{path} is " in said]
    assert len(named) == min(count, 5)
    assert (f"; and {count - 5} more" in said) == (count > 5)
    assert not any(f"{path} " in said for path in set(paths) - set(broken))

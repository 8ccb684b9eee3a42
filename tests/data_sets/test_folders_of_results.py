"""Pictures that somebody made of the images, and copies of them, are no classes."""

import numpy as np
import pytest
from PIL import Image

from residuum.data import datasets
from residuum.errors import InputError


def image(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)


@pytest.fixture
def tree(tmp_path):
    for seed in range(16):
        image(tmp_path / "data" / "ab"[seed % 2] / f"{seed}.png", seed)
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["figures", "plots", "outputs", "predictions", "Results"])
def test_a_folder_of_results_beside_classes_is_none(tree, name):
    for seed in range(12):
        image(tree / name / f"{seed}.png", 100 + seed)
    found = datasets.load("folder", str(tree))
    assert found.classes == ("a", "b")
    assert len(found.train) + len(found.test) == 16
    assert f"{name}/" in found.reading.not_used


def test_words_for_results_are_classes_where_there_are_no_others(tmp_path):
    for seed in range(16):
        image(tmp_path / ("plots", "figures")[seed % 2] / f"{seed}.png", seed)
    assert datasets.load("folder", str(tmp_path)).classes == ("figures", "plots")


def test_suffixes_of_augmented_copies_are_no_classes(tmp_path):
    for number in range(8):
        for which in ("flip", "rot"):
            for split in ("train", "test"):
                image(tmp_path / split / f"{number}_{which}.png", number)
    with pytest.raises(InputError):
        datasets.load("folder", str(tmp_path))

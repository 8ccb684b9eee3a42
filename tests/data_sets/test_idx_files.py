"""MNIST and Fashion-MNIST: four IDX files, plain or gzipped, told apart by content."""

import cifar_files as make
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residuum.data.datasets import find, load
from residuum.data.datasets.mnist import FIRST_LABELS
from residuum.data.formats.idx import read_idx
from residuum.errors import InputError

GENERATOR = np.random.default_rng(4)
IMAGES = {which: GENERATOR.integers(0, 256, (count, 28, 28), np.uint8) for which, count in (("train", 12), ("t10k", 5))}
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def contents(name="mnist"):
    first = np.frombuffer(FIRST_LABELS[name] + b"\x01\x02", np.uint8)
    arrays = (IMAGES["train"], first, IMAGES["t10k"], np.arange(5, dtype=np.uint8))
    return {file: make.idx(array) for file, array in zip(NAMES, arrays, strict=True)}


FORMS = {
    "plain": lambda files: files,
    "gzipped": lambda files: {f"{name}.gz": make.gzipped(raw) for name, raw in files.items()},
    "gzipped without saying so": lambda files: {name: make.gzipped(raw) for name, raw in files.items()},
    "with dots": lambda files: {name.replace("-idx", ".idx"): raw for name, raw in files.items()},
    "mixed": lambda files: {NAMES[0] + ".gz": make.gzipped(files[NAMES[0]])} | {n: files[n] for n in NAMES[1:]},
}


@pytest.mark.parametrize("name", FIRST_LABELS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inner", ["", "raw", "MNIST/raw"])
def test_every_form_gives_the_same_data(tmp_path, name, form, inner):
    make.write_folder(tmp_path / "x" / inner, FORMS[form](contents(name)))
    root = tmp_path / "x"
    assert find(root) == name
    dataset = load(name, str(root))
    np.testing.assert_array_equal(dataset.train.images_NCHW[:, 0], IMAGES["train"])
    np.testing.assert_array_equal(dataset.test.images_NCHW[:, 0], IMAGES["t10k"])
    assert dataset.train.labels_N.tolist() == [*FIRST_LABELS[name], 1, 2]
    assert dataset.test.labels_N.tolist() == [0, 1, 2, 3, 4]
    assert len(dataset.classes) == 10
    assert dataset.classes[9] == {"mnist": "9", "fashion-mnist": "Ankle boot"}[name]


def test_the_other_data_set_in_the_same_format_is_refused(tmp_path):
    root = str(make.write_folder(tmp_path / "x", contents("fashion-mnist")))
    with pytest.raises(InputError, match="holds fashion-mnist, not mnist"):
        load("mnist", root)


def test_unknown_idx_files_have_to_be_named(tmp_path):
    files = contents() | {NAMES[1]: make.idx(np.zeros(12, np.uint8))}
    root = make.write_folder(tmp_path / "x", files)
    with pytest.raises(InputError, match="mnist or fashion-mnist"):
        find(root)
    assert load("mnist", str(root)).train.labels_N.max() == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (NAMES[3], None, "has no t10k-labels-idx1-ubyte, plain or gzipped"),
        (NAMES[0], b"", "not an IDX file of bytes in 3 dimensions"),
        (NAMES[0], make.idx(IMAGES["train"])[:-1], r"damaged: \[12, 28, 28\] values are announced, 9407 are there"),
        (NAMES[0], make.idx(IMAGES["train"]) + b"x", "damaged"),
        (NAMES[0], make.idx(IMAGES["train"][:, :, :27]), "another size than 28×28"),
        (NAMES[0], bytes((0, 0, 8, 3)) + b"\xff" * 12, "damaged"),
        (NAMES[0], bytes((0, 0, 9, 3)) + make.idx(IMAGES["train"])[4:], "not an IDX file"),
        (NAMES[0], make.idx(IMAGES["train"][:0]), "images have to be"),
        (NAMES[0], make.idx(IMAGES["train"][:11]), "11 images and 12 labels"),
        (NAMES[3], make.idx(np.array([0, 1, 2, 3, 10], np.uint8)), "test label 10 is not among the 10 classes"),
        (NAMES[3], bytes(200_000), "too large"),
        (NAMES[0], make.gzipped(make.idx(IMAGES["train"]))[:-20], "damaged"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, name, content, message):
    files = contents()
    if content is None:
        del files[name]
    else:
        files[name] = content
    root = make.write_folder(tmp_path / "x", files)
    assert find(root) == "mnist"
    with pytest.raises(InputError, match=message) as caught:
        load("mnist", str(root))
    assert "\n" not in str(caught.value)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 255)), max_size=6), st.integers(0, 60))
def test_security_fuzzed_files_raise_nothing_else(tmp_path_factory, changes, end):
    content = bytearray(make.idx(np.zeros((2, 3, 4), np.uint8)) + bytes(20))
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(content[:end])
    try:
        assert read_idx(path, 3, 24).size <= 24
    except InputError as error:
        make.one_line(error)

"""CIFAR in every form gives the same images, labels and fingerprint; what is missing or wrong is one line."""

import pickle
import tarfile
import zipfile

import cifar_files as make
import duckdb
import numpy as np
import pytest

from residuum.data.dataset import Dataset, Split
from residuum.data.datasets import cifar10, cifar100, find, load
from residuum.data.formats.files import read_members
from residuum.data.formats.parquet import _connected, read_images
from residuum.data.formats.pickled import read_pickled
from residuum.errors import InputError

CONTENT = make.batches()


def expected(*names):
    images = np.concatenate([CONTENT[name][0] for name in names]).reshape(-1, 3, 32, 32)
    return Split(images, np.array([label for name in names for label in CONTENT[name][1]]))


@pytest.mark.parametrize("form", make.FORMS)
def test_every_form_gives_the_same_data(tmp_path, form):
    root = make.write_form(form, tmp_path, CONTENT)
    assert find(root) == "cifar10"
    dataset = load("cifar10", str(root))
    train, test = expected(*make.FILES[:5]), expected("test_batch")
    for found, made in ((dataset.train, train), (dataset.test, test)):
        np.testing.assert_array_equal(found.images_NCHW, made.images_NCHW)
        np.testing.assert_array_equal(found.labels_N, made.labels_N)
    assert dataset.classes == cifar10.LAYOUT.classes
    assert dataset.fingerprint == Dataset.of("any name", cifar10.LAYOUT.classes, train, test).fingerprint


def test_fetched_archive_is_found_without_a_root(tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match=r"cifar-10-python\.tar\.gz.*downloads/cifar10.*fetch\('cifar10'\) downloads it"
    ):
        load("cifar10")
    downloads = tmp_path / "downloads" / "cifar10"
    downloads.mkdir(parents=True)
    make.write_form("archive in a folder", downloads, CONTENT)
    assert len(load("cifar10").train) == 20


@pytest.mark.parametrize("labels", ["fine", "coarse"])
@pytest.mark.parametrize("form", ["python", "binary", "archive", "parquet"])
def test_cifar100_by_class_or_by_group(tmp_path, form, labels):
    python, binary, content = make.cifar100_files()
    rows = {name: [(make.png(p), f, c) for p, f, c in zip(*part, strict=True)] for name, part in content.items()}
    match form:
        case "python":
            root = make.write_folder(tmp_path / "x", python)
        case "binary":
            root = make.write_folder(tmp_path / "cifar-100-binary", binary)
        case "archive":
            root = make.write_tar(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", python)
        case "parquet":
            root = tmp_path
            for name, part in rows.items():
                make.write_parquet(tmp_path / f"{name}.parquet", part, "img, fine_label, coarse_label")
    assert find(root) == "cifar100"
    dataset = load({"name": "cifar100", "labels": labels}, str(root))
    index = 1 if labels == "fine" else 2
    assert dataset.train.labels_N.tolist() == content["train"][index]
    assert dataset.test.labels_N.tolist() == content["test"][index]
    np.testing.assert_array_equal(dataset.train.images_NCHW.reshape(3, -1), content["train"][0])
    assert len(dataset.classes) == (100 if labels == "fine" else 20)


def test_cifar100_names_are_those_published():
    fine, coarse = cifar100.layout("fine").classes, cifar100.layout("coarse").classes
    assert (len(set(fine)), len(set(coarse))) == (100, 20)
    # Both lists are alphabetical; a name that is missing or out of place would shift the others.
    assert list(fine) == sorted(fine)
    assert [fine[label] for label in (0, 19, 52, 99)] == ["apple", "cattle", "oak_tree", "worm"]
    assert [coarse[label] for label in (0, 11, 19)] == [
        "aquatic_mammals",
        "large_omnivores_and_herbivores",
        "vehicles_2",
    ]


def test_fortran_order_is_read_as_numpy_stores_it():
    pixels, labels = CONTENT["data_batch_1"]
    np.testing.assert_array_equal(read_pickled(make.batch(pixels, labels, fortran=True), "x")["data"], pixels)


def test_the_reader_agrees_with_pickle_on_its_layout():
    pixels = np.random.default_rng(1).integers(0, 256, (1200, 3072), dtype=np.uint8)
    content = make.batch(pixels, list(range(1200)))  # lists of more than 1,000 come in several pieces
    assert_same(read_pickled(content, "x"), pickle.loads(content, encoding="latin-1"))


def test_the_reader_agrees_with_pickle_on_the_real_archive(shared_data):
    path = shared_data / "cifar-10-python-mini.tar.gz"
    names = ["cifar-10-batches-py/batches.meta", "cifar-10-batches-py/test_batch"]
    with tarfile.open(path) as archive:
        slow = {name: pickle.loads(archive.extractfile(name).read(), encoding="latin-1") for name in names}
    for name, content in read_members(path, dict.fromkeys(names, 10**7)):
        assert_same(read_pickled(content, name), slow.pop(name))
    assert not slow


def assert_same(fast, slow):
    assert fast.keys() == slow.keys()
    for key, value in slow.items():
        assert type(fast[key]) is type(value)
        np.testing.assert_array_equal(fast[key], value)


def test_real_archive_loads(shared_data):
    dataset = load("cifar10", str(shared_data / "cifar-10-python-mini.tar.gz"))
    assert (dataset.train.images_NCHW.shape, len(dataset.test)) == ((5000, 3, 32, 32), 1000)
    assert dataset.fingerprint == "14389737c5b38a43"
    # The first pixels of CIFAR-10's first image, a frog.
    assert dataset.train.images_NCHW[0, :, 0, 0].tolist() == [59, 62, 63]
    assert dataset.classes[dataset.train.labels_N[0]] == "frog"


def damaged(tmp_path, change):
    files = make.python_files(CONTENT)
    change(files)
    return make.write_folder(tmp_path / "cifar-10-batches-py", files)


def replace(name, content):
    return lambda files: files.update({name: content})


PIXELS, LABELS = CONTENT["data_batch_2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.pop("data_batch_3"), "data_batch_3 is missing"),
        (replace("data_batch_2", make.batch(PIXELS, [*LABELS[:3], 10])), "the label 10; there are 10 classes"),
        (replace("data_batch_2", make.batch(PIXELS, [*LABELS[:3], -1])), "the label -1"),
        (replace("data_batch_2", make.batch(PIXELS, LABELS[:3])), "no list 'labels' of 4 integers"),
        (replace("data_batch_2", make.batch(PIXELS[:, :3000], LABELS)), "no array 'data'"),
        (replace("data_batch_2", make.batch(PIXELS, LABELS, key="fine_labels")), "no list 'labels'"),
        (replace("data_batch_2", make.batch(PIXELS, LABELS)[:-9]), "damaged"),
        (replace("data_batch_2", b""), "damaged"),
        (replace("data_batch_2", bytes(40_000_000)), "too large: at most"),
        (
            replace("batches.meta", make.dictionary({"label_names": make.listed([make.string("cat")] * 10)})),
            "does not name the 10 classes",
        ),
        (replace("batches.meta", make.dictionary({"label_names": make.string("cat")})), "does not name the 10 classes"),
    ],
)
def test_a_damaged_folder_is_one_line(tmp_path, change, message):
    root = damaged(tmp_path, change)
    assert find(root) == "cifar10"
    with pytest.raises(InputError, match=message) as caught:
        load("cifar10", str(root))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [b"", b"\x0b" + bytes(3072), bytes(3072)])
def test_a_damaged_binary_file_is_one_line(tmp_path, wrong):
    files = make.binary_files(CONTENT) | {"data_batch_4.bin": wrong}
    with pytest.raises(InputError, match=r"data_batch_4\.bin"):
        load("cifar10", str(make.write_folder(tmp_path / "b", files)))


def test_the_meta_file_may_be_missing(tmp_path):
    root = damaged(tmp_path, lambda files: files.pop("batches.meta"))
    assert load("cifar10", str(root)).classes == cifar10.LAYOUT.classes


def parquet(tmp_path, rows, columns="img, label", names=None, test=True):
    make.write_parquet(tmp_path / "train.parquet", rows, columns, names)
    if test:
        make.write_parquet(tmp_path / "test.parquet", make.rows_of(CONTENT, "test_batch"), columns)
    return tmp_path


def test_parquet_of_one_split_says_what_is_missing(tmp_path):
    rows = make.rows_of(CONTENT, "data_batch_1")
    root = parquet(tmp_path, rows, test=False)
    for place, message in ((root, r"has no test\*\.parquet"), (root / "train.parquet", "is one split")):
        assert find(place) == "cifar10"
        with pytest.raises(InputError, match=message):
            load("cifar10", str(place))


def test_parquet_with_a_shard_missing_is_refused(tmp_path):
    root = parquet(tmp_path, make.rows_of(CONTENT, "data_batch_1"))
    (root / "train.parquet").rename(root / "train-00000-of-00002.parquet")
    with pytest.raises(InputError, match="one of 2 files, of which 1 are there"):
        load("cifar10", str(root))


def test_parquet_in_two_folders_is_ambiguous(tmp_path):
    for name in ("a", "b"):
        parquet(tmp_path / name, make.rows_of(CONTENT, "data_batch_1"))
    with pytest.raises(InputError, match="in a and in b"):
        load("cifar10", str(tmp_path))


GREY = np.zeros((3, 32, 32), np.uint8)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((make.png(GREY), 10), "the label 10"),
        ((make.png(GREY), None), "row 4: img.bytes has to be"),
        ((None, 1), "row 4: img.bytes has to be"),
        ((make.png(GREY)[:60], 1), "row 4 is a damaged image"),
        ((b"GIF89a", 1), "row 4 is not an image"),
        ((bytes(2**20 + 1), 1), "at most 1 MiB"),
    ],
)
def test_a_wrong_row_of_parquet_is_named(tmp_path, row, message):
    root = parquet(tmp_path, [*make.rows_of(CONTENT, "data_batch_1"), row])
    with pytest.raises(InputError, match=message):
        load("cifar10", str(root))


def test_parquet_images_of_another_size_are_refused(tmp_path):
    image = make.Image.new("RGB", (33, 32))
    image.save(tmp_path / "x.png")
    root = parquet(tmp_path / "p", [((tmp_path / "x.png").read_bytes(), 1)])
    with pytest.raises(InputError, match="row 0 is 33×32 pixels, not 32×32"):
        load("cifar10", str(root))


def test_parquet_that_names_other_classes_is_not_cifar(tmp_path):
    root = parquet(tmp_path, make.rows_of(CONTENT, "data_batch_1"), names=["cat", "dog"])
    with pytest.raises(InputError, match="holds no cifar10"):
        load("cifar10", str(root))


def test_security_rows_of_parquet_are_counted(tmp_path):
    path = parquet(tmp_path, make.rows_of(CONTENT, "data_batch_1")) / "train.parquet"
    assert len(read_images(path, "img", "label", (3, 32, 32), 4)[1]) == 4
    with pytest.raises(InputError, match="more than 3 rows"):
        read_images(path, "img", "label", (3, 32, 32), 3)


def test_security_the_database_reads_no_other_file(tmp_path):
    root = parquet(tmp_path, make.rows_of(CONTENT, "data_batch_1"))
    with _connected(root / "train.parquet") as connection:
        connection.execute("SELECT count(*) FROM read_parquet(?)", [str(root / "train.parquet")])
        for query in ("SELECT * FROM read_parquet(?)", "SELECT * FROM read_text(?)"):
            with pytest.raises(duckdb.PermissionException):
                connection.execute(query, [str(root / "test.parquet")])
        with pytest.raises(duckdb.Error, match="locked"):
            connection.execute("SET enable_external_access = true")


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.95])
def test_truncated_parquet_is_one_line(tmp_path, keep):
    path = parquet(tmp_path, make.rows_of(CONTENT, "data_batch_1")) / "train.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match="cannot be read as Parquet") as caught:
        load("cifar10", str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b", b"PAR1", bytes(600)])
def test_a_file_of_another_kind_is_one_line(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    for call in (find, lambda path: load("cifar10", str(path))):
        try:
            assert call(tmp_path / "x") == "cifar10"  # a stump of Parquet is recognised, and loading says what is wrong
        except InputError as error:
            make.one_line(error)
    with pytest.raises(InputError):
        load("cifar10", str(tmp_path / "x"))


def test_a_root_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match=r"data\.root: .*nowhere does not exist"):
        load("cifar10", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="nowhere does not exist"):
        find(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no data set that is known"):
        find(tmp_path)


@pytest.mark.parametrize("ending", ["zip", "tar.xz", "tar.gz"])
@pytest.mark.parametrize("folder", ["cifar-10-batches-py", "ciFAIR-10", "", "a/b"])
def test_archives_of_other_kinds_and_under_other_names(tmp_path, ending, folder):
    """ciFAIR lies in a zip and in a folder of its own name."""
    inner = make.write_folder(tmp_path / "files", make.python_files(CONTENT))
    path = tmp_path / f"mine.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(inner.iterdir()):
                archive.write(file, f"{folder}/{file.name}" if folder else file.name)
    else:
        with tarfile.open(path, f"w:{ending[4:]}") as archive:
            for file in sorted(inner.iterdir()):
                archive.add(file, f"{folder}/{file.name}" if folder else file.name)
    assert find(path) == "cifar10"
    assert load("cifar10", str(path)).fingerprint == load("cifar10", str(inner)).fingerprint


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_file_that_is_called_as_one_of_cifar100_need_not_be_one(tmp_path, name):
    (tmp_path / name).write_text("#!/bin/sh\n")
    with pytest.raises(InputError, match="no data set that is known"):
        find(tmp_path)
    (tmp_path / name).write_bytes(make.cifar100_files()[0][name])
    assert find(tmp_path) == "cifar100"


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("keys", ["text", "bytes"])
@pytest.mark.parametrize("packed", [True, False])
def test_copies_that_python_3_pickled_are_read_without_unpickling(protocol, keys, packed, tmp_path):
    """The layout of ciFAIR-10: CIFAR's names in a folder of its own, in a zip; the test images are others."""
    batches = make.batches()
    root = tmp_path / "ciFAIR-10"
    root.mkdir()
    for number, (name, (pixels, labels)) in enumerate(batches.items()):
        content = {"batch_label": "b", "labels": labels, "data": np.asarray(pixels, order="CF"[number % 2]),
                   "filenames": [f"{at}.png" for at in range(len(labels))]}  # fmt: skip
        if keys == "bytes":
            content = {key.encode(): value for key, value in content.items()}
        (root / name).write_bytes(pickle.dumps(content, protocol))
    if packed:
        with zipfile.ZipFile(tmp_path / "ciFAIR-10.zip", "w") as archive:
            for path in sorted(root.iterdir()):
                archive.write(path, f"ciFAIR-10/{path.name}")
        root = tmp_path / "ciFAIR-10.zip"
    assert find(root) == "cifar10"
    dataset = load("cifar10", str(root))
    pixels, labels = batches["test_batch"]
    assert np.array_equal(dataset.test.images_NCHW.reshape(len(labels), -1), pixels)
    assert dataset.test.labels_N.tolist() == labels
    assert len(dataset.train) == 5 * len(labels)

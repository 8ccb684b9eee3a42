"""`.npz`, `.npy`, SVHN's `.mat`, STL-10's binary files and Parquet of any kind: the same images, whatever they lie in."""

import json
import random
import struct
import tarfile
import zipfile

import duckdb
import numpy as np
import pytest
from cifar_files import one_line
from image_trees import numbers
from PIL import Image
from scipy.io import savemat

from residuum.data.check import check
from residuum.data.datasets import cifar10, find, load
from residuum.data.formats import npy
from residuum.errors import InputError


def smooth(count, side, channels, seed=0):
    """Images in which neighbours are alike, as in photographs, each of its own: uint8 [N, H, W, C]."""
    draw = np.random.default_rng(seed)
    slopes = draw.uniform(-4, 4, (count, 1, 1, channels, 2))
    y, x = np.mgrid[:side, :side][:, None, :, :, None]
    base = draw.uniform(80, 180, (count, 1, 1, channels))
    found = base + slopes[..., 0] * (y - side / 2) + slopes[..., 1] * (x - side / 2)
    return np.clip(found, 0, 255).astype(np.uint8)


TRAIN, TEST = smooth(20, 8, 3, 1), smooth(8, 8, 3, 2)
Y_TRAIN, Y_TEST = np.arange(20) % 4, np.arange(8) % 4


def same(dataset, classes=("0", "1", "2", "3"), train=TRAIN, test=TEST):
    assert dataset.classes == classes
    np.testing.assert_array_equal(dataset.train.images_NCHW, train.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(dataset.test.images_NCHW, test.transpose(0, 3, 1, 2))
    assert dataset.train.labels_N.tolist() == Y_TRAIN.tolist()
    assert dataset.test.labels_N.tolist() == Y_TEST.tolist()


NAMES = {
    "keras": ("x_train", "y_train", "x_test", "y_test"),
    "capitals": ("X_train", "Y_train", "X_test", "Y_test"),
    "medmnist": ("train_images", "train_labels", "test_images", "test_labels"),
    "camels": ("trainX", "trainY", "testX", "testY"),
    "data": ("train_data", "train_labels", "test_data", "test_labels"),
    "targets": ("training.images", "training.targets", "testing.images", "testing.targets"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("form", ["npz", "compressed", "npy"])
def test_arrays_by_their_names(tmp_path, names, form):
    arrays = dict(zip(names, (TRAIN, Y_TRAIN, TEST, Y_TEST), strict=True))
    if form == "npy":
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        root = tmp_path
    else:
        root = tmp_path / "mine.npz"
        (np.savez if form == "npz" else np.savez_compressed)(root, **arrays)
    assert find(root) == find(tmp_path) == "arrays"
    same(load("arrays", str(root)))


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images.transpose(0, 3, 1, 2),
        lambda images: images.astype(np.int64),
        lambda images: images.astype(np.float32),
        lambda images: images.astype(np.float32) / 255,
        lambda images: (images / 255).astype(np.float16),
        lambda images: np.asfortranarray(images),
        lambda images: images.reshape(len(images), -1),
        lambda images: images.transpose(0, 3, 1, 2).reshape(len(images), -1),
    ],
)
@pytest.mark.parametrize(
    "labels",
    [
        lambda labels: labels.astype(np.uint8)[:, None],
        lambda labels: labels.astype(np.float64),
        lambda labels: np.eye(4)[labels],
    ],
)
def test_arrays_in_other_forms_are_the_same(tmp_path, change, labels):
    root = tmp_path / "x.npz"
    np.savez(root, x_train=change(TRAIN), y_train=labels(Y_TRAIN), x_test=change(TEST), y_test=labels(Y_TEST))
    same(load("arrays", str(root)))


@pytest.mark.parametrize("form", ["NHW", "NHW1", "N1HW", "flat"])
def test_grey_arrays(tmp_path, form):
    grey = smooth(20, 8, 1)
    shapes = {"NHW": grey[..., 0], "NHW1": grey, "N1HW": grey.transpose(0, 3, 1, 2), "flat": grey.reshape(20, 64)}
    np.savez(tmp_path / "x.npz", images=shapes[form], labels=Y_TRAIN)
    dataset = load("arrays", str(tmp_path / "x.npz"))
    whole = np.concatenate([dataset.train.images_NCHW, dataset.test.images_NCHW])
    assert {image.tobytes() for image in whole} == {image.tobytes() for image in grey}
    assert (len(dataset.train), len(dataset.test)) == (16, 4)


def test_validation_arrays_are_the_validation_split(tmp_path):
    root = tmp_path / "x.npz"
    arrays = {"train_images": TRAIN, "train_labels": Y_TRAIN, "test_images": TEST, "test_labels": Y_TEST}
    np.savez(root, **arrays, val_images=TEST[:5], val_labels=Y_TEST[:5], ids=np.arange(3))
    report = check(load("arrays", str(root)))
    assert report.validation.images == 5
    assert report.reading.notes == (
        "val_images is the validation split (5 images): none is drawn from the training images",
    )
    assert report.reading.not_used == ("ids",)
    assert "5 test images are among the validation images" in report.findings


@pytest.mark.parametrize("where", ["array", "file", "labels"])
def test_names_of_classes_lie_with_the_arrays(tmp_path, where):
    classes = ("cat", "dog", "vögel", "z")
    arrays = {"x_train": TRAIN, "y_train": Y_TRAIN, "x_test": TEST, "y_test": Y_TEST}
    if where == "array":
        arrays["class_names"] = np.array(classes)
    elif where == "file":
        (tmp_path / "classes.txt").write_text("\n".join(classes) + "\n")
    else:
        arrays |= {"y_train": np.array(classes)[Y_TRAIN], "y_test": np.array(classes)[Y_TEST]}
    np.savez(tmp_path / "x.npz", **arrays)
    same(load("arrays", str(tmp_path / "x.npz")), classes)
    if where == "file":
        first = load("arrays", str(tmp_path / "x.npz")).fingerprint
        (tmp_path / "classes.txt").write_text("\n".join(reversed(classes)) + "\n")
        assert load("arrays", str(tmp_path / "x.npz")).fingerprint != first


def test_what_lies_beside_the_files_is_named(tmp_path):
    for name, array in (
        ("x_train", TRAIN),
        ("y_train", Y_TRAIN),
        ("x_test", TEST),
        ("y_test", Y_TEST),
        ("ids", Y_TEST),
    ):
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "readme.md").write_text("x")
    assert load("arrays", str(tmp_path)).reading.not_used == ("ids.npy", "readme.md")
    write_parquet(tmp_path / "p" / "data" / "train.parquet", TRAIN, Y_TRAIN, "bytes")
    (tmp_path / "p" / "readme.md").write_text("x")
    reading = load("parquet", str(tmp_path / "p")).reading
    assert (reading.not_used, reading.passed_over) == (("readme.md",), {"files of another kind (.md)": 1})


@pytest.mark.parametrize("place", ["preview.png", "assets/preview.png"])
def test_a_picture_beside_data_files_is_no_folder_of_images(tmp_path, place):
    for form in ("p", "a"):
        (tmp_path / form / place).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / form / place)
    write_parquet(tmp_path / "p" / "data" / "train.parquet", TRAIN, Y_TRAIN, "bytes")
    np.savez(tmp_path / "a" / "x.npz", x_train=TRAIN, y_train=Y_TRAIN, x_test=TEST, y_test=Y_TEST)
    assert (find(tmp_path / "p"), find(tmp_path / "a")) == ("parquet", "arrays")
    assert find(tmp_path / "a" / "x.npz") == "arrays"
    assert load("parquet", str(tmp_path / "p")).reading.not_used == (place if "/" not in place else "assets/",)


def test_arrays_beside_folders_of_classes_are_not_used(tmp_path):
    for number, name in enumerate(("cat", "cat", "cat", "dog", "dog", "dog")):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    np.savez(tmp_path / "features.npz", x_train=TRAIN, y_train=Y_TRAIN)
    assert find(tmp_path) == "folder"
    assert load("folder", str(tmp_path)).reading.not_used == ("features.npz",)


def test_labels_that_begin_at_one_are_named_so(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=TRAIN, y_train=Y_TRAIN + 7, x_test=TEST, y_test=Y_TEST + 7)
    same(load("arrays", str(tmp_path / "x.npz")), ("7", "8", "9", "10"))


def test_one_of_several_pairs_by_its_file(tmp_path):
    for name, images in (("a", TRAIN), ("b", TRAIN[::-1])):
        np.save(tmp_path / f"{name}_data.npy", images)
        np.save(tmp_path / f"{name}_labels.npy", Y_TRAIN)
    with pytest.raises(
        InputError, match="several pairs of images and labels: a_data and b_data; give one of the files"
    ):
        load("arrays", str(tmp_path))
    dataset = load("arrays", str(tmp_path / "b_labels.npy"))
    whole = np.concatenate([dataset.train.images_NCHW, dataset.test.images_NCHW])
    assert {image.tobytes() for image in whole} == {
        np.ascontiguousarray(one.transpose(2, 0, 1)).tobytes() for one in TRAIN
    }


def bad(**change):
    return {"x_train": TRAIN, "y_train": Y_TRAIN, "x_test": TEST, "y_test": Y_TEST, **change}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (bad(x_train=TRAIN[:5]), r"5 images \(x_train\) and 20 labels"),
        (bad(x_train=TRAIN[..., :2]), "has neither 1 nor 3 channels"),
        (bad(x_train=TRAIN[:, :3]), "could have its channels in front or behind"),
        (bad(x_train=TRAIN[:, :, :, :, None]), r"images are \[N, H, W, C\]"),
        (bad(x_train=TRAIN.reshape(20, -1)[:, :50]), "neither a square nor three of them"),
        (bad(x_train=TRAIN - 300.0), "pixels are 0 to 255, or 0 to 1"),
        (bad(x_train=np.full(TRAIN.shape, np.nan)), "pixels are 0 to 255, or 0 to 1"),
        (bad(x_train=TRAIN / 255 * 0.37), "between the 256 steps of a pixel"),
        (bad(x_train=TRAIN.astype(complex)), "no numbers and no text"),
        (bad(x_train=np.random.default_rng(0).integers(0, 256, (20, 192), np.uint8)), "order cannot be told"),
        (bad(x_train=TRAIN.astype(object)), r"Python objects \(pickle\), which are never read"),
        (bad(y_train=Y_TRAIN + 0.5), "other values than whole numbers"),
        (bad(y_train=Y_TRAIN - 1), "other values than whole numbers"),
        (bad(y_train=np.ones((20, 4))), "several classes, or none"),
        (bad(y_test=Y_TEST + 1), "label '4', which is none of the classes"),
        (bad(class_names=np.array(["a", "b", "c"])), "the label 3; there are 3 names of classes"),
        (bad(class_names=np.array(["a", "b", "c", "a"])), "names a class twice"),
        (bad(class_names=np.arange(4)), "no names of classes"),
        (bad(x_train=TRAIN[:0], y_train=Y_TRAIN[:0]), "holds no images"),
        ({"x_test": TEST, "y_test": Y_TEST}, "none to train on"),
        (bad(img_train=TRAIN), "two arrays that may be images: x_train and img_train"),
    ],
)
def test_arrays_that_are_no_images_are_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message) as caught:
        load("arrays", str(tmp_path / "x.npz"))
    one_line(caught.value)


def header(shape, kind="|u1", version=1):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return npy.MAGIC + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        header("(10**9, 10**9)"),
        header("(4000, 1000, 1000, 3)"),
        header("(-1, 5)"),
        header("(2, 2)") + bytes(3),
        header("(2, 2)") + bytes(5),
        header("(2,)", "|O") + b"\x80\x04\x95cos\nsystem\n",
        header("(1000000000, 3)"),
        npy.MAGIC,
        npy.MAGIC + b"\x09\x09\xff\xff",
        npy.MAGIC + b"\x01\x00\x20\x00" + b"__import__('os').abort()" + b" " * 8,
    ],
)
@pytest.mark.parametrize("form", ["npy", "npz"])
def test_security_hostile_arrays_are_one_line(tmp_path, content, form):
    if form == "npy":
        for name in ("x.npy", "y.npy"):
            (tmp_path / name).write_bytes(content)
        root = tmp_path
    else:
        root = tmp_path / "x.npz"
        with zipfile.ZipFile(root, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("x.npy", "y.npy"):
                archive.writestr(name, content)
    with pytest.raises(InputError) as caught:
        load("arrays", str(root))
    one_line(caught.value)


def test_security_a_bomb_in_an_array_is_cut_off(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header("(2, 2)") + bytes(50_000_000))
        archive.writestr("y.npy", header("(2,)") + bytes(2))
    with pytest.raises(InputError, match=r"x is damaged: it has not the \[2, 2\] values"):
        load("arrays", str(tmp_path / "x.npz"))


@pytest.mark.parametrize("seed", range(40))
def test_security_damaged_arrays_raise_nothing_else(tmp_path, seed):
    draw = random.Random(seed)
    np.savez(tmp_path / "x.npz", x=TRAIN, y=Y_TRAIN)
    np.save(tmp_path / "x.npy", TRAIN)
    np.save(tmp_path / "y.npy", Y_TRAIN)
    for name in ("x.npz", "x.npy"):
        content = bytearray((tmp_path / name).read_bytes())
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(min(len(content), 300) if draw.random() < 0.7 else len(content))] = draw.randrange(
                256
            )
        (tmp_path / name).write_bytes(content[: draw.randint(1, len(content))] if draw.random() < 0.3 else content)
    for root in (tmp_path / "x.npz", tmp_path / "y.npy"):
        try:
            assert load("arrays", str(root)).train.images_NCHW.shape[1:] in ((3, 8, 8), (1, 8, 8))
        except InputError as error:
            one_line(error)


# SVHN.


def write_svhn(folder, train=None, test=None, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in (("train", train), ("test", test)):
        if images is not None:
            labels = (np.arange(len(images)) % 10 + 1).astype(np.uint8)[:, None]
            savemat(folder / f"{name}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels}, **settings)
    return folder


@pytest.mark.parametrize("compressed", [False, True])
def test_svhn_calls_the_digit_0_ten(tmp_path, compressed):
    images = smooth(30, 32, 3)
    root = write_svhn(tmp_path / "svhn", images, images[::-1], do_compression=compressed)
    (root / "extra_32x32.mat").write_bytes(b"x")
    assert find(root) == "svhn"
    dataset = load("svhn", str(root))
    np.testing.assert_array_equal(dataset.train.images_NCHW, images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(dataset.test.images_NCHW, images[::-1].transpose(0, 3, 1, 2))
    assert dataset.train.labels_N[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert dataset.classes == tuple("0123456789")
    assert dataset.reading.not_used == ("extra_32x32.mat",)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"X": np.zeros((32, 32, 3, 4), np.uint8)}, "has no y"),
        ({"X": np.zeros((32, 32, 3, 4)), "y": np.ones((4, 1))}, "no bytes X"),
        ({"X": np.zeros((32, 32, 1, 4), np.uint8), "y": np.ones((4, 1))}, "no bytes X"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((3, 1))}, "with N labels y"),
        ({"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.zeros((4, 1))}, "labels other than 1 to 10"),
        ({"X": np.zeros((64, 32, 3, 4), np.uint8), "y": np.ones((4, 1))}, r"numbers of at most \[32, 32, 3"),
        ({"X": "text", "y": np.ones((4, 1))}, "X as char"),
    ],
)
def test_svhn_that_is_not_right_is_one_line(tmp_path, values, message):
    root = write_svhn(tmp_path, smooth(5, 32, 3), smooth(5, 32, 3))
    savemat(root / "test_32x32.mat", values)
    with pytest.raises(InputError, match=message) as caught:
        load("svhn", str(root))
    one_line(caught.value)


@pytest.mark.parametrize("seed", range(30))
def test_security_damaged_mat_files_raise_nothing_else(tmp_path, seed):
    draw = random.Random(seed)
    root = write_svhn(tmp_path, smooth(5, 32, 3), smooth(5, 32, 3), do_compression=bool(seed % 2))
    path = root / "test_32x32.mat"
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 4)):
        content[draw.randrange(128, 400)] = draw.randrange(256)
    path.write_bytes(content[: draw.randint(1, len(content))] if draw.random() < 0.3 else content)
    try:
        assert load("svhn", str(root)).test.images_NCHW.shape[1:] == (3, 32, 32)
    except InputError as error:
        one_line(error)


def test_newer_matlab_files_are_told(tmp_path):
    root = write_svhn(tmp_path, smooth(5, 32, 3))
    (root / "test_32x32.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(600))
    with pytest.raises(InputError, match=r"test_32x32\.mat is of version 7\.3; save it with -v7"):
        load("svhn", str(root))


# STL-10.


def write_stl10(folder, train, test):
    folder.mkdir(parents=True)
    for name, images in (("train", train), ("test", test)):
        (folder / f"{name}_X.bin").write_bytes(np.ascontiguousarray(images.transpose(0, 3, 2, 1)).tobytes())
        (folder / f"{name}_y.bin").write_bytes(bytes(number % 10 + 1 for number in range(len(images))))
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n")
    (folder / "unlabeled_X.bin").write_bytes(bytes(100))
    return folder


@pytest.mark.parametrize("form", ["folder", "above", "archive"])
def test_stl10_is_read_column_by_column(tmp_path, form):
    train, test = smooth(12, 96, 3, 1), smooth(4, 96, 3, 2)
    folder = write_stl10(tmp_path / "stl10_binary", train, test)
    root = {"folder": folder, "above": tmp_path}.get(form)
    if root is None:
        root = tmp_path / "stl10_binary.tar.gz"
        with tarfile.open(root, "w:gz") as archive:
            archive.add(folder, "stl10_binary")
    assert find(root) == "stl10"
    dataset = load("stl10", str(root))
    np.testing.assert_array_equal(dataset.train.images_NCHW, train.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(dataset.test.images_NCHW, test.transpose(0, 3, 1, 2))
    assert dataset.train.labels_N.tolist() == [*range(10), 0, 1]
    assert dataset.reading.not_used == (("unlabeled_X.bin",) if form != "archive" else ())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_X.bin", b"x" * 100, "not 27,648 for each"),
        ("test_y.bin", bytes(4), "labels other than 1 to 10"),
        ("class_names.txt", b"cat\ndog\n", "does not name the ten classes"),
        ("test_y.bin", None, "is missing"),
    ],
)
def test_stl10_that_is_not_right_is_one_line(tmp_path, name, content, message):
    folder = write_stl10(tmp_path / "x", smooth(4, 96, 3), smooth(4, 96, 3))
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load("stl10", str(folder))
    one_line(caught.value)


# Parquet.


def encoded(image):
    from io import BytesIO

    buffer = BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path, images, labels, kind, names=None, label_type="BIGINT", columns=("image", "label")):
    """A file of images in one of the forms that people use, written by the database itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    forms = {
        "bytes": ("BLOB", encoded),
        "struct": ("STRUCT(bytes BLOB, path VARCHAR)", lambda image: {"bytes": encoded(image), "path": None}),
        "HWC": ("UTINYINT[][][]", lambda image: image.tolist()),
        "CHW": ("UTINYINT[][][]", lambda image: image.transpose(2, 0, 1).tolist()),
        "HW": ("UTINYINT[][]", lambda image: image[..., 0].tolist()),
        "flat HWC": ("INTEGER[]", lambda image: image.ravel().tolist()),
        "flat CHW": ("BIGINT[]", lambda image: image.transpose(2, 0, 1).ravel().tolist()),
        "shares": ("DOUBLE[][][]", lambda image: (image / 255).tolist()),
        "path": ("VARCHAR", lambda image: "images/1.png"),
        "ragged": ("UTINYINT[][]", lambda image: [[1, 2], [3]]),
    }
    type_, form = forms[kind]
    info = json.dumps({"info": {"features": {columns[1]: {"names": names, "_type": "ClassLabel"}}}}).replace("'", "''")
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"CREATE TABLE t ({columns[0]} {type_}, {columns[1]} {label_type})")
        for image, label in zip(images, labels, strict=True):
            connection.execute(
                "INSERT INTO t VALUES (?, ?)", [form(image), label if isinstance(label, str) else int(label)]
            )
        metadata = f", KV_METADATA {{huggingface: '{info}'}}" if names else ""
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet{metadata})")
    return path


@pytest.mark.parametrize("kind", ["bytes", "struct", "HWC", "CHW", "flat HWC", "flat CHW", "shares"])
def test_parquet_in_every_form_gives_the_same_images(tmp_path, kind):
    for which, images, labels in (("train", TRAIN, Y_TRAIN), ("test", TEST, Y_TEST)):
        write_parquet(tmp_path / f"{which}.parquet", images, labels, kind)
    assert find(tmp_path) == "parquet"
    same(load("parquet", str(tmp_path)))


@pytest.mark.parametrize("kind", ["bytes", "struct", "HWC", "CHW", "HW", "flat HWC"])
def test_grey_parquet_has_one_channel(tmp_path, kind):
    """As MNIST lies on the hub: also under the names of columns that CIFAR-10 has."""
    train, test = smooth(20, 28, 1, 1), smooth(8, 28, 1, 2)
    for which, images, labels in (("train", train, Y_TRAIN), ("test", test, Y_TEST)):
        write_parquet(tmp_path / "data" / f"{which}-00000-of-00001.parquet", images, labels, kind)
    assert find(tmp_path) == "parquet"
    same(load("parquet", str(tmp_path)), train=train, test=test)


@pytest.mark.parametrize("places", [("{}.parquet",), ("{}/0000.parquet",), ("data/{}-00000-of-00001.parquet",)])
def test_splits_of_parquet_and_names_of_classes(tmp_path, places):
    names = ["cat", "dog", "a b", "vögel"]
    for which, images, labels in (
        ("train", TRAIN, Y_TRAIN),
        ("validation", TEST[::-1], Y_TEST),
        ("test", TEST, Y_TEST),
    ):
        write_parquet(tmp_path / places[0].format(which), images, labels, "bytes", names, columns=("img", "kind"))
    dataset = load("parquet", str(tmp_path))
    same(dataset, tuple(names))
    np.testing.assert_array_equal(dataset.validation.images_NCHW, TEST[::-1].transpose(0, 3, 1, 2))
    assert "is the validation split (8 images)" in dataset.reading.notes[0]


def test_labels_of_parquet_may_be_names(tmp_path):
    names = np.array(["cat", "dog", "eel", "fox"])
    for which, images, labels in (("train", TRAIN, Y_TRAIN), ("test", TEST, Y_TEST)):
        write_parquet(tmp_path / f"{which}.parquet", images, names[labels].tolist(), "struct", label_type="VARCHAR")
    assert find(tmp_path) == "parquet"
    same(load("parquet", str(tmp_path)), tuple(names.tolist()))


def test_one_file_of_parquet_is_split(tmp_path):
    path = write_parquet(tmp_path / "mine.parquet", TRAIN, Y_TRAIN, "bytes")
    assert find(path) == "parquet"
    dataset = load("parquet", str(path))
    assert (len(dataset.train), len(dataset.test)) == (16, 4)
    assert np.bincount(dataset.test.labels_N).tolist() == [1, 1, 1, 1]


CIFAR = cifar10.LAYOUT.classes
CALLED = ["plane", "car", *CIFAR[2:]]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (list(CIFAR), "bytes"),
        (CALLED, "struct"),
        (sorted(CALLED), "HWC"),
        ([name.upper() for name in CIFAR], "flat CHW"),
    ],
)
@pytest.mark.parametrize("label_type", ["BIGINT", "VARCHAR"])
def test_cifar_by_whatever_names_and_in_whatever_order(tmp_path, names, kind, label_type):
    images, labels = smooth(20, 32, 3), np.arange(20) % 10
    own = {name: number for number, name in enumerate(CIFAR)}
    plain = {"plane": "airplane", "car": "automobile"}
    meant = [own[plain.get(names[label].lower(), names[label].lower())] for label in labels]
    values = labels if label_type == "BIGINT" else [names[label] for label in labels]
    for which in ("train", "test"):
        write_parquet(tmp_path / f"{which}.parquet", images, values, kind, names, label_type)
    assert find(tmp_path) == "cifar10"
    dataset = load("cifar10", str(tmp_path))
    assert dataset.train.labels_N.tolist() == meant
    np.testing.assert_array_equal(dataset.train.images_NCHW, images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "path"}, r"has no column of images, as bytes, as \{bytes, path\} or as lists of pixels"),
        ({"kind": "ragged"}, "lists of pixels of different lengths"),
        ({"labels": [-1] * 20}, "are the labels kept back"),
        ({"labels": [7] * 20}, "only the class 7"),
        ({"names": ["a", "b"]}, "the label 3; there are 2"),
        ({"columns": ("image", "text"), "label_type": "DOUBLE"}, "no column of labels"),
        ({"images": smooth(20, 9, 3)}, "row 0 is 8×8 pixels, not 9×9"),
    ],
)
def test_parquet_that_is_not_right_is_one_line_of_ours(tmp_path, change, message):
    settings = {"images": TRAIN, "labels": Y_TRAIN, "kind": "bytes", **change}
    write_parquet(tmp_path / "train.parquet", **settings)
    columns = settings.get("columns", ("image", "label"))
    write_parquet(tmp_path / "test.parquet", TEST, Y_TEST, "bytes", columns=columns)
    with pytest.raises(InputError, match=message) as caught:
        load("parquet", str(tmp_path))
    one_line(caught.value)
    for word in ("DuckDB", "Binder", "struct_extract", "Candidate", "SELECT", "Error:"):
        assert word not in str(caught.value)


@pytest.mark.parametrize("kind", ["bytes", "path", "HWC"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "parquet"])
def test_asked_for_by_name_no_word_is_the_databases(tmp_path, kind, name):
    for which in ("train", "test"):
        write_parquet(tmp_path / f"{which}.parquet", TRAIN, Y_TRAIN, kind, columns=("img", "fine_label"))
    try:
        load(name, str(tmp_path))
    except InputError as error:
        one_line(error)
        assert "struct" not in str(error)
    else:
        assert name == "parquet"
        assert kind != "path"


def test_a_colour_tells_which_image_is_which():
    """The helper of the tests of folders, on which they rely."""
    images = np.array([[[[1]], [[2]], [[3]]]], np.uint8)
    assert numbers(images) == [0x010203]

"""Contracts over every data set, the embedded and generated ones, and the values themselves."""

import hashlib
import subprocess
import sys

import cifar_files as make
import numpy as np
import pytest
from scipy.io import savemat

from residuum.data import datasets
from residuum.data.dataset import Dataset, Split
from residuum.data.datasets import DATASETS, ENTRIES, find, load
from residuum.data.datasets.source import Entry
from residuum.errors import InputError
from residuum.testing import check_dataset


def embedded(name):
    return name in ("digits", "synthetic")


def lines(count, side=8):
    """Images of as many stripes as their number."""
    stripes = np.arange(side)[:, None, None] * np.arange(1, count + 1)[:, None, None, None] % 200
    return np.broadcast_to(stripes, (count, side, side, 3)).astype(np.uint8)


def write_any(name, root):
    """A small data set of any kind; returns its root."""
    match name:
        case "cifar10":
            return make.write_form("archive", root, make.batches())
        case "cifar100":
            return make.write_folder(root / "x", make.cifar100_files()[0])
        case "mnist" | "fashion-mnist":
            from residuum.data.datasets.mnist import FIRST_LABELS

            labels = np.frombuffer(FIRST_LABELS[name], np.uint8)
            images = np.arange(10 * 784, dtype=np.uint64).astype(np.uint8).reshape(10, 28, 28)
            arrays = {"images-idx3": images, "labels-idx1": labels}
            return make.write_folder(
                root / "x",
                {f"{w}-{k}-ubyte": make.idx(a) for w in ("train", "t10k") for k, a in arrays.items()},
            )
        case "folder":
            for part in ("train/a", "train/b", "test/a", "test/b"):
                make.write_folder(root / part, {"1.png": make.png(np.full(3072, 7, np.uint8))})
            return root
        case "arrays":
            np.savez(
                root / "x.npz", x_train=lines(8), y_train=np.arange(8) % 2, x_test=lines(4), y_test=np.arange(4) % 2
            )
            return root / "x.npz"
        case "parquet":
            for part in ("train", "test"):
                rows = [(make.png(np.arange(3072, dtype=np.uint8)), label) for label in range(2)]
                make.write_parquet(root / f"{part}.parquet", rows, "photo, what")
            return root
        case "svhn":
            for part in ("train", "test"):
                images = lines(10, 32).transpose(1, 2, 3, 0)
                savemat(root / f"{part}_32x32.mat", {"X": images, "y": np.arange(1, 11)[:, None].astype(np.uint8)})
            return root
        case "stl10":
            files = {f"{part}_X.bin": lines(10, 96).tobytes() for part in ("train", "test")}
            labels = {f"{part}_y.bin": bytes(range(1, 11)) for part in ("train", "test")}
            return make.write_folder(root / "x", files | labels)
    return None


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_data_set_is_whole_and_the_same_each_time(name, tmp_path):
    root = write_any(name, tmp_path)
    assert embedded(name) == (root is None)
    check_dataset(DATASETS.bind(name), root)
    first = load(name, str(root or ""))
    assert first.name == name
    for split in (first.train, first.test):
        assert split.images_NCHW.max() > split.images_NCHW.min() or name == "folder"
    if root is not None:
        assert find(root) == name


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_data_set_says_in_one_line_what_is_missing(name, tmp_path):
    with pytest.raises(InputError) as caught:
        load(name, str(tmp_path) if embedded(name) else "")
    text = str(caught.value)
    assert "\n" not in text
    assert "data.root" in text
    assert ("download.fetch" in text) == bool(ENTRIES[name].remotes)


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_default_is_written_out(name):
    assert set(DATASETS.resolve(name).settings) == set(DATASETS.settings(name))


def test_wrong_names_and_settings_are_refused():
    with pytest.raises(InputError, match="unknown data set 'fashion_mnist'; did you mean 'fashion-mnist'"):
        load("fashion_mnist")
    with pytest.raises(InputError, match=r"labels: .*'fine' or 'coarse'"):
        load({"name": "cifar100", "labels": "both"})
    with pytest.raises(InputError, match=r"classes"):
        load({"name": "synthetic", "classes": 1})


def test_data_sets_need_no_torch():
    program = (
        "import sys; from residuum.data.datasets import load; load('synthetic'); "
        "sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_digits_are_those_of_scikit_learn_in_a_fixed_split():
    from sklearn.datasets import load_digits

    dataset, original = load("digits"), load_digits()
    assert (dataset.train.images_NCHW.shape, dataset.test.images_NCHW.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert dataset.fingerprint == "0d12ef60c4cf7b57"

    def rows(images, labels):
        return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))

    # Halves are rounded to even, as numpy does: 8/16 of 255 is 127.5 and becomes 128.
    scaled = np.rint(original.images * 255 / 16).astype(np.uint8)
    images = np.concatenate([dataset.train.images_NCHW, dataset.test.images_NCHW])
    labels = np.concatenate([dataset.train.labels_N, dataset.test.labels_N])
    assert rows(images, labels) == rows(scaled, original.target)
    assert (images.min(), images.max()) == (0, 255)
    share = np.bincount(dataset.test.labels_N) / np.bincount(labels)
    assert np.abs(share - 360 / 1797).max() < 1 / 150


def nearest_mean_accuracy(dataset):
    train, test = (split.images_NCHW.reshape(len(split), -1).astype(float) for split in (dataset.train, dataset.test))
    means = np.stack([train[dataset.train.labels_N == k].mean(axis=0) for k in range(len(dataset.classes))])
    guesses = np.linalg.norm(test[:, None] - means, axis=2).argmin(axis=1)
    return (guesses == dataset.test.labels_N).mean()


@pytest.mark.parametrize("channels", [1, 3])
def test_synthetic_images_can_be_learned(channels):
    settings = {"name": "synthetic", "size": 12, "channels": channels, "train": 400, "test": 200}
    assert nearest_mean_accuracy(load(settings)) > 0.8
    shuffled = load(settings)
    labels = np.random.default_rng(0).permutation(shuffled.train.labels_N)
    train = Split(shuffled.train.images_NCHW, labels)
    assert nearest_mean_accuracy(Dataset.of("x", shuffled.classes, train, shuffled.test)) < 0.4


def test_synthetic_is_a_function_of_its_settings():
    def made(**settings):
        return load({"name": "synthetic", "size": 9, "train": 30, "test": 20, "classes": 4, **settings})

    base = made()
    assert base.train.images_NCHW.shape == (30, 3, 9, 9)
    assert np.bincount(base.train.labels_N).tolist() == [8, 8, 7, 7]
    others = [{"seed": 1}, {"noise": 0.2}, {"classes": 5}, {"channels": 1}, {"size": 8}, {"train": 31}, {"test": 21}]
    fingerprints = [made(**change).fingerprint for change in others]
    assert len({base.fingerprint, *fingerprints}) == 1 + len(others)
    assert made().fingerprint == base.fingerprint
    # Train and test are other images of the same classes.
    assert not {i.tobytes() for i in base.train.images_NCHW} & {i.tobytes() for i in base.test.images_NCHW}


@pytest.mark.parametrize("count", [30, 1000, 1001, 1500])
def test_fewer_synthetic_images_are_a_prefix_of_more(count):
    fewer, more = (load({"name": "synthetic", "size": 8, "train": n, "test": 1}) for n in (count, 2100))
    np.testing.assert_array_equal(fewer.train.images_NCHW, more.train.images_NCHW[:count])


def test_synthetic_without_noise_is_the_shifted_picture():
    images = load({"name": "synthetic", "size": 16, "noise": 0, "classes": 2, "train": 40}).train.images_NCHW
    first = images[0]
    shifts = [np.roll(first, (y, x), (1, 2)) for y in range(-4, 5) for x in range(-4, 5)]
    for image in images[::2]:
        assert any(np.array_equal(image, shifted) for shifted in shifts)


def split(images=((2, 1, 3, 3), np.uint8), labels=(0, 1), kind=np.int64):
    return Split(np.zeros(*images), np.array(labels, kind))


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": ((2, 3, 3), np.uint8)},
        {"images": ((2, 2, 3, 3), np.uint8)},
        {"images": ((2, 1, 3, 3), np.float32)},
        {"images": ((0, 1, 3, 3), np.uint8), "labels": ()},
        {"images": ((2, 1, 0, 3), np.uint8)},
        {"labels": (0, 1, 1)},
        {"labels": ((0,), (1,))},
        {"kind": np.int32},
    ],
)
def test_a_split_has_the_shapes_and_types_that_it_says(wrong):
    assert len(split()) == 2
    with pytest.raises(InputError):
        split(**wrong)


@pytest.mark.parametrize("labels", [(0, 2), (-1, 0)])
def test_labels_have_a_class(labels):
    for train, test in ((labels, (0, 1)), ((0, 1), labels)):
        with pytest.raises(InputError, match="is not among the 2 classes, 0 to 1"):
            Dataset.of("x", ("a", "b"), split(labels=train), split(labels=test))


def test_splits_have_one_shape():
    with pytest.raises(InputError, match="training images are 1×3×3, test images 1×4×3"):
        Dataset.of("x", ("a", "b"), split(), split(images=((2, 1, 4, 3), np.uint8)))


def test_the_fingerprint_is_pinned_and_sees_every_part():
    """It stands in records of runs: what it is made of may not change silently."""
    images = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4)
    labels = np.array([0, 1])
    base = Dataset.of("x", ("a", "b"), Split(images, labels), Split(images + 1, labels))
    raw = b"('a', 'b')(2, 1, 3, 4)" + images.tobytes() + labels.tobytes() + b"(2, 1, 3, 4)" + (images + 1).tobytes()
    assert base.fingerprint == hashlib.sha256(raw + labels.tobytes()).hexdigest()[:16]
    changed = images.copy()
    changed[1, 0, 2, 3] ^= 1
    others = [
        Dataset.of("x", ("a", "c"), base.train, base.test),
        Dataset.of("x", ("a", "b"), Split(changed, labels), base.test),
        Dataset.of("x", ("a", "b"), base.train, Split(images, labels)),
        Dataset.of("x", ("a", "b"), Split(images, labels[::-1].copy()), base.test),
        Dataset.of(
            "x", ("a", "b"), Split(images.reshape(2, 1, 4, 3), labels), Split(images.reshape(2, 1, 4, 3) + 1, labels)
        ),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert Dataset.of("another name", ("a", "b"), base.train, base.test).fingerprint == base.fingerprint
    strided = Split(np.repeat(images, 2, axis=0)[::2], np.repeat(labels, 2)[::2])
    assert Dataset.of("x", ("a", "b"), strided, base.test).fingerprint == base.fingerprint


def test_files_that_one_data_set_is_unsure_of_may_be_those_of_another(tmp_path, monkeypatch):
    """IDX files that are neither MNIST's nor Fashion-MNIST's, and a data set of its own that knows them."""
    labels, images = np.zeros(10, np.uint8), np.zeros((10, 28, 28), np.uint8)
    arrays = {"images-idx3": images, "labels-idx1": labels}
    files = {f"{w}-{k}-ubyte": make.idx(a) for w in ("train", "t10k") for k, a in arrays.items()}
    root = make.write_folder(tmp_path / "x", files)
    with pytest.raises(InputError, match="is it mnist or fashion-mnist"):
        find(root)
    known = Entry("kmnist", lambda _root: None, no_download="a test", lies_at=lambda path: path == root)
    monkeypatch.setattr(datasets, "ENTRIES", {**datasets.ENTRIES, "kmnist": known})
    assert find(root) == "kmnist"

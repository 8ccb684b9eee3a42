"""Files that are not what their names say, as downloads leave them: every reader of a file from elsewhere tells it."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residuum.records.storage import instead, instead_at

INSTEAD = {
    "a web page": [b"<!DOCTYPE html>\n<html><head>", b"\n  <html lang='en'>", b"\xef\xbb\xbf<!doctype HTML><title>", b"<head><meta"],
    "a pointer of Git LFS": [b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"],
    "a pointer of git-annex": [b"/annex/objects/MD5E-s12--ab.npz\n", b"../.git/annex/objects/ab/cd"],
    "the error of a server": [b'<?xml version="1.0"?><Error><Code>AccessDenied', b'{"error": "not found"}', b'{"message":"Not Found"}'],
    "empty": [b""],
}  # fmt: skip
CASES = [(kind, content) for kind, contents in INSTEAD.items() for content in contents]


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(path)


def trees(name):
    for place in ("train/a", "train/b", "test/a", "test/b"):
        image(Path(f"tree/{place}/1.png"))
    return Path("tree") / name


READERS = {
    "weights": ("w.pth", ["import-weights", "w.pth", "--model", "resnet20", "--preset", "akamaster"]),
    "safetensors": ("w.safetensors", ["import-weights", "w.safetensors", "--model", "resnet20", "--preset", "akamaster"]),
    "weights to begin with": ("w.bin", ["train", "quick", "--data", "digits", "--from", "w.bin"]),
    "an archive": ("cifar-10-python.tar.gz", ["data", "check", "cifar-10-python.tar.gz"]),
    "an archive in a folder": ("d/cifar-100-python.tar.gz", ["data", "check", "d"]),
    "Parquet": ("d/train.parquet", ["data", "check", "d"]),
    "arrays": ("x.npz", ["data", "check", "x.npz"]),
    "arrays in a folder": ("d/x_train.npy", ["data", "check", "d"]),
    "MATLAB": ("d/train_32x32.mat", ["data", "check", "d"]),
    "digits in MNIST's form": ("d/train-images-idx3-ubyte.gz", ["data", "check", "d"]),
    "a zip": ("images.zip", ["data", "check", "images.zip"]),
    "an image among others": ("tree/train/a/2.png", ["data", "check", "tree"]),
    "a table": ("flat/trainLabels.csv", ["data", "check", "flat"]),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_what_lies_there_instead_is_named_in_one_line(reader, run):
    name, words = READERS[reader]
    source = random.Random(reader)
    for kind, contents in INSTEAD.items():
        if name.startswith("tree"):
            trees("")
        if name.startswith("flat"):
            image(Path("flat/train/1.png"))
            image(Path("flat/test/1.png"))
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(source.choice(contents))
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (2, "", 1), (kind, err)
        assert kind in err, (kind, err)
        assert Path(name).name in err, (kind, err)
    assert not Path("runs").exists()


@pytest.mark.parametrize(("kind", "content"), CASES)
def test_each_is_told_by_its_first_bytes_and_no_real_file_is(kind, content):
    assert instead(content).startswith(kind)
    for real in (b"PK\x03\x04", b"\x93NUMPY", b"PAR1", b"\x1f\x8b\x08", b"\x89PNG\r\n", b"\x80\x02}q\x00", b"MATLAB 5.0",
                 b"id,label\n1,cat", b'[1, 2, 3]', b"\0\0\x08\x03", b"<svg>", b"\xff\xd8\xff"):  # fmt: skip
        assert not instead(real + content)


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7-Zip archive, which is not read; unpack it"),
        (b"Rar!\x1a\x07\x01\0", "is a RAR archive, which is not read; unpack it"),
        (b"BZh91AY&SY", "is packed by bzip2, which is not read; unpack it"),
        (b"\x28\xb5\x2f\xfd\0", "is packed by Zstandard, which is not read; unpack it"),
        (b"\x89HDF\r\n\x1a\n\0", "is an HDF5 file, which is not read; save images and labels as .npz"),
        (b"\x80\x04\x95", "is a pickle that is none of CIFAR's, which is never run; save images and labels as .npz"),
        (b"ARROW1\0\0", "is an Arrow file, which is not read; save it as Parquet"),
    ],
)
def test_data_in_a_form_that_is_not_read_say_what_to_do(begin, said, run):
    for path in (Path("data.x"), Path("folder/data.x")):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(begin + bytes(600))
    for named in ("data.x", "folder"):
        code, out, err = run("data", "check", named)
        assert (code, out) == (2, "")
        assert err == f"residuum: {named}{'/data.x' if named == 'folder' else ''} {said}\n"


def test_a_page_that_is_called_a_page_is_nothing_else(tmp_path):
    (tmp_path / "index.html").write_bytes(b"<!doctype html>")
    (tmp_path / "labels.txt").write_bytes(b"")
    assert instead_at(tmp_path) == ""
    (tmp_path / "x.npz").write_bytes(b"<!doctype html>")
    assert instead_at(tmp_path).startswith(f"{tmp_path / 'x.npz'} is a web page")

"""Messages that no other test makes: what leads to each, and the words that are said of it.

`python tests/describe/raised.py` tells which messages are made by no test at all.
"""

import tarfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import duckdb
import numpy as np
import pytest
import torch

from residuum import networks
from residuum.config import RunConfig, read_toml
from residuum.data import images, other_tests
from residuum.data.datasets import arrays, objects, parquet_files, stl10, svhn, synthetic
from residuum.data.formats import files, label_tables, mat, npy, parquet, pixels
from residuum.errors import ResiduumError
from residuum.models import foreign
from residuum.records import mirror
from residuum.run import reference
from residuum.studies import part

Leads = Callable[[Path], object]
IMAGES, LABELS = np.zeros((8, 8, 8, 3), np.uint8), np.arange(8) % 2


def saved(folder: Path, **given: object) -> Path:
    """A folder with these arrays in `.npy` files."""
    for stem, values in given.items():
        np.save(folder / f"{stem}.npy", np.asarray(values))
    return folder


def table(folder: Path, **queries: str) -> Path:
    """A folder with Parquet files of what these queries give."""
    for stem, query in queries.items():
        duckdb.sql(f"COPY ({query}) TO '{folder / stem}.parquet' (FORMAT parquet)")
    return folder


def zipped(path: Path, method: int = zipfile.ZIP_DEFLATED, flag: int = 0, **members: bytes) -> Path:
    """A zip file; `flag` is put into its members' bits, as encryption's 1."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    raw = bytearray(path.read_bytes())
    for start, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        place = raw.find(start)
        while flag and place >= 0:
            raw[place + at] |= flag
            place = raw.find(start, place + 1)
    path.write_bytes(raw)
    return path


def sparse(path: Path, size: int, head: bytes = b"") -> Path:
    """A file of so many bytes, none of which is written but its head."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


MAT = b"MATLAB".ljust(124) + b"\0\1IM"
PNG = "unhex('89504e47')"


class Table:
    """A table as one of Hugging Face is asked: names of columns, and these by name."""

    def __init__(self, **columns: object) -> None:
        self.columns, self.column_names = columns, [*columns]

    def __getitem__(self, name: str) -> object:
        return self.columns[name]


BELOW: dict[str, Leads] = {
    # Arrays.
    r": x says by its name neither train nor test": lambda here: arrays.arrays(
        saved(here, x=IMAGES, y=LABELS, x_train=IMAGES, y_train=LABELS)),
    r"8 images \(x\) and 7 labels \(y\)": lambda here: arrays.arrays(saved(here, x=IMAGES, y=LABELS[:7])),
    r"classes\.txt is not UTF-8": lambda here: arrays.arrays(
        saved(written(here / "classes.txt", b"\xff\xfe\n\xffa").parent, x=IMAGES, y=LABELS)),
    r"labels are \[N\], \[N, 1\] or one-hot": lambda here: pixels.labels_of(np.zeros((2, 2, 2)), "y"),
    r"has no array 'y'": lambda here: npy.read_npz(zipped(here / "a.npz", x_npy=b"1"), "y"),
    r"a\.npz is encrypted": lambda here: npy.read_npz(zipped(here / "a.npz", x_npy=b"1", flag=1), "x"),
    # Objects.
    r"has the parts train, rest; they are train": lambda here: objects.dataset_of({"train": 1, "rest": 2}, "it"),
    r"a list of 3; give \(images, labels\)": lambda here: objects.dataset_of([1, 2, 3], "it"),
    r"8 images and 7 labels": lambda here: objects.dataset_of((IMAGES, LABELS[:7]), "it"),
    r"has no column of labels: image": lambda here: objects.dataset_of(Table(image=IMAGES), "it"),
    r"has 2 columns that may be labels: image, label, y": lambda here: objects.dataset_of(
        Table(image=IMAGES, label=LABELS, y=LABELS), "it"),
    # Parquet.
    r"says by its name neither train nor test, unlike": lambda here: parquet_files.parquet_files(
        table(here, a="SELECT 1 AS img, 2 AS label", train="SELECT 1 AS img, 2 AS label")),
    r"has no train\*\.parquet": lambda here: parquet_files.parquet_files(
        table(here, test="SELECT 1 AS img, 2 AS label")),
    r"train\.parquet has no rows": lambda here: parquet.first_shape(
        table(here, train=f"SELECT {PNG} AS img, 1 AS label WHERE false") / "train.parquet", "img"),
    r"has lists of something else than pixels": lambda here: parquet.read_images(
        table(here, train="SELECT [['a']] AS img, 1 AS label") / "train.parquet", "img", "label", (1, 1, 1), 1),
    r"train\.parquet has more than 1 rows": lambda here: parquet.read_images(
        table(here, train="SELECT [[1]] AS img, 1 AS label UNION ALL SELECT [[1]], 1") / "train.parquet",
        "img", "label", (1, 1, 1), 1),
    r"holds images of 1 channels, not 3": lambda here: parquet.read_images(
        table(here, train="SELECT [[1]] AS img, 1 AS label") / "train.parquet", "img", "label", (3, 1, 1), 1),
    # Other data.
    r"has no train_y\.bin": lambda here: stl10.stl10(_stl10_archive(here / "stl10_binary.tar.gz")),
    r"has no test_32x32\.mat": lambda here: svhn.svhn(written(here / "train_32x32.mat", b"").parent),
    r"synthetic images of [\d.]+ GB; .* is the most": lambda here: synthetic.synthetic(None, train=10**9),
    r"a\.mat is of version 7\.3; save it with -v7": lambda here: mat.read_mat(
        written(here / "a.mat", b"MATLAB 7.3 MAT-file".ljust(130)), {"X": (1,)}),
    r"a\.mat is no MATLAB file of version 5 to 7": lambda here: mat.read_mat(written(here / "a.mat", b"x"), {"X": (1,)}),
    r"a\.mat is larger than \d+ GiB": lambda here: mat.read_mat(sparse(here / "a.mat", mat.MAX_BYTES + 1, MAT), {"X": (1,)}),
    # Archives, tables of labels, images.
    r"member 'a\.b' is encrypted": lambda here: [*files.read_members(zipped(here / "a.zip", a_b=b"1", flag=1), {"a.b": 9})],
    r"compressed otherwise than by deflate": lambda here: [*files.read_members(
        zipped(here / "a.zip", zipfile.ZIP_BZIP2, a_b=b"1"), {"a.b": 9})],
    r"labels\.csv is an archive|labels\.csv is": lambda here: label_tables.read_table(b"PK\3\4" + bytes(30), "labels.csv"),
    r"labels\.csv has more than [\d,]+ rows": lambda here: label_tables.read_table(
        b"a,b\n" * (label_tables.MAX_ROWS + 1), "labels.csv"),
    r"labels\.csv names a\.png twice": lambda here: label_tables.labels_of(
        [["file", "label"], ["a.png", "x"], ["a.png", "y"], ["b.png", "x"]], "labels.csv", ["a.png", "b.png"], ""),
    r"a\.png is larger than 64 MiB": lambda here: images.read_bytes(sparse(here / "a.png", images.MAX_BYTES + 1)),
    r"holds no list of whole numbers": lambda here: other_tests.read_index(written(here / "i.json", "{}"), 9),
    r"i\.json names 1 image twice": lambda here: other_tests.read_index(
        written(here / "i.json", "[3, 3]"), 9),
    # Settings.
    r"a key has more than \d+ dots": lambda here: read_toml("a." * 60 + "b = 1"),
    r"1e-310 is too close to 0": lambda here: RunConfig.of({"optim": {"lr": 1e-310}}),
    r"1e\+31 is too large": lambda here: RunConfig.of({"optim": {"lr": 1e31}}),
    r"cannot be a setting": lambda here: RunConfig.of({"optim": {"lr": object()}}),
    r"the ImageNet form exists for depths 18, 34": lambda here: networks.names.network("resnet20-imagenet"),
    # Weights.
    r"a member twice, of which torch may read either": lambda here: foreign.read_foreign(
        zipped(here / "w.pth", a_data=b"1", A_data=b"2", **{"x/data_pkl": b"."})),
    r"a tensor is sparse, quantized or without values": lambda here: reference.read_reference(
        _torch_saved(here / "l.pt", torch.eye(2).to_sparse()), None, (3, 8, 8), 2),
    r"holds no plain numbers": lambda here: reference.read_reference(
        saved(here, l=np.array(["a"])) / "l.npy", None, (3, 8, 8), 2),
    r"is no store: ": lambda here: mirror.store_of("github://x"),
}  # fmt: skip


def _stl10_archive(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("stl10_binary/train_X.bin")
        member.size = 3
        archive.addfile(member, BytesIO(b"abc"))
    return path


def _torch_saved(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


@pytest.mark.parametrize("said", BELOW)
def test_what_leads_to_a_message_leads_to_it(said, tmp_path):
    with pytest.raises(ResiduumError, match=said) as caught:
        BELOW[said](tmp_path)
    assert "\n" not in str(caught.value)


COMMANDS = {
    "holds a letter that no argument can have": ["list", "a\0b"],
    "--on and --without need a name or a path": ["evaluate", "x", "--on", ""],
    "--budget: 'soon' is not a time": ["study", "plan", "quickstart", "--budget", "soon"],
    "--difference and --sd: numbers above 0": ["study", "power", "quickstart", "--difference", "0"],
    "has no [search], which says what to search for": ["study", "search", "quickstart"],
}


@pytest.mark.parametrize("said", COMMANDS)
def test_what_leads_a_command_to_a_message_leads_it_there(said, run):
    code, _, err = run(*COMMANDS[said])
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


STUDY = """
question = "What is said?"
base = "quick"
seeds = 1
[search]
trials = 2
seeds = [7]
tune_each_arm = true
[search.space]
"optim.lr" = { low = 0.01, high = 0.1 }
"""
STUDIES = {
    "there may be several, so each is written under [[claims]]": 'question = "?"\nbase = "quick"\nseeds = 1\n[claims]\ntext = "a"',
    "arms are named, or cells of axes, and not both": STUDY
    + """
[axes]
"train.epochs" = [1, 2]
[[arms]]
name = "a"
[[arms]]
name = "b"
set = { "optim.ema" = 0.5 }
""",
    "optim.lr sets arm 'a' apart": STUDY
    + """
[compare]
baseline = "b"
[[arms]]
name = "a"
set = { "optim.lr" = 0.5 }
[[arms]]
name = "b"
""",
    **{
        f"unknown arm '{number}'": f"""
question = "Is a number one?"
base = "quick"
seeds = 2
[axes]
"optim.lr" = [0.1, 0.2]
[[claims]]
text = "It is."
expect = "lr=0.1 > {number}"
"""
        for number in ("1e999", "-inf", "nan")
    },
    "what the search finds is called after it, and": f'name = "{"n" * (part.MOST_BYTES - 3)}"\n'
    + STUDY.replace("tune_each_arm = true", ""),
}


@pytest.mark.parametrize("said", STUDIES)
def test_what_leads_a_study_to_a_message_leads_it_there(said, run, tmp_path):
    (tmp_path / "study.toml").write_text(STUDIES[said])
    code, _, err = run("study", "plan", "study.toml")
    assert (code, err.count("\n")) == (2, 1), err
    assert said in err

"""Messages that no other test makes: what leads to each, and the words that are said of it.

`python tests/describe/raised.py` tells which messages are made by no test at all.
"""

import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import duckdb
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from residuum import networks
from residuum.conduct.launchers import ray, slurm
from residuum.conduct.launchers.launcher import Room
from residuum.config import RunConfig, parse_setting, read_toml
from residuum.data import datasets, images, layout, other_tests
from residuum.data.datasets import arrays, cifar, cifar10, objects, parquet_files, stl10, svhn, synthetic
from residuum.data.formats import files, label_tables, mat, npy, parquet, pixels, trees
from residuum.engine import state
from residuum.errors import ResiduumError
from residuum.models import foreign
from residuum.records import mirror
from residuum.registry import Choice
from residuum.run import reference
from residuum.studies import parsing, part

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
        (folder / stem).parent.mkdir(exist_ok=True)
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


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def png(side: int) -> str:
    """A black image, as SQL has its bytes."""
    file = BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(file, "PNG")
    return f"unhex('{file.getvalue().hex()}')"


def of_members(path: Path, at: int, value: bytes) -> Path:
    """A zip file in whose list of members these bytes stand at a place of each."""
    raw, place = bytearray(path.read_bytes()), -1
    while (place := raw.find(b"PK\1\2", place + 1)) >= 0:
        raw[place + at : place + at + len(value)] = value
    path.write_bytes(raw)
    return path


def newer(path: Path) -> Path:
    """A zip file that asks for a version of the format that there is not."""
    return of_members(path, 6, b"\x63\0")


def longer(path: Path, size: int) -> Path:
    """A zip file that says so many bytes of its members."""
    return of_members(path, 24, size.to_bytes(4, "little"))


def nested(depth: int) -> list[object]:
    return [nested(depth - 1)] if depth else []


def announced(rows: int, columns: int) -> bytes:
    """The array X in a MATLAB file as it is announced, without its values."""
    body = (
        struct.pack("<IIIIIIii", 6, 8, 9, 0, 5, 8, rows, columns)
        + struct.pack("<HH4s", 1, 1, b"X")
        + struct.pack("<II", 2, 0)
    )
    return struct.pack("<II", 14, len(body)) + body


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
    r"has no test images$": lambda here: arrays.images_at(
        saved(here, x_train=IMAGES, y_train=LABELS), (3, 8, 8)),
    r"holds the label 200000, which is no number of a class": lambda here: pixels.labels_of(np.array([200_000]), "y"),
    r"x holds bool, no pixels": lambda here: pixels.images_of(np.zeros((2, 8, 8, 3), bool), "x"),
    r"y holds text that is not UTF-8": lambda here: pixels.names_of(np.array([b"\xff"]), "y"),
    r"x is damaged: it has not the \[8, 8, 8, 3\] values": lambda here: npy.parsed(
        (saved(here, x=IMAGES) / "x.npy").read_bytes()[:-1], "x"),
    r"a\.npz is damaged: zip file version": lambda here: npy.read_npz(
        newer(zipped(here / "a.npz", x_npy=b"1")), "x"),
    r"would come to 400,000,000 values, which is too much": lambda here: mat.read_mat(
        written(here / "a.mat", MAT + announced(20_000, 20_000)), {"X": (20_000, 20_000)}),
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
    r"has no test\*\.parquet": lambda here: parquet_files.images_at(
        table(here, train="SELECT 1 AS img, 2 AS label"), (3, 8, 8)),
    r"holds Parquet files in a and in b; give one": lambda here: parquet_files.parquet_files(
        table(here, **{"a/x": "SELECT 1 AS img, 2 AS label", "b/x": "SELECT 1 AS img, 2 AS label"})),
    r"is one of 2 files, of which 1 are there": lambda here: parquet_files.parquet_files(
        table(here, **{"train-00000-of-00002": "SELECT 1 AS img, 2 AS label"})),
    r"images of 2048×2048 pixels would take 9 GiB": lambda here: parquet_files.parquet_files(
        table(here, train=f"SELECT {png(2048)} AS img, range % 2 AS label FROM range(800)")),
    r"train2\.parquet has not the columns img and label of the other files": lambda here: parquet_files.parquet_files(
        table(here, train1=f"SELECT {png(8)} AS img, 1 AS label", train2=f"SELECT {png(8)} AS img, 1 AS other")),
    r"has labels that are numbers and others that are names": lambda here: parquet_files.parquet_files(
        table(here, train1=f"SELECT {png(8)} AS img, 1 AS label", train2=f"SELECT {png(8)} AS img, 'a' AS label")),
    r"has more than 2,000,000 rows": lambda here: parquet.count_rows(
        table(here, a="SELECT 1 AS one FROM range(2000001)") / "a.parquet"),
    r"would come to [\d,]+ bytes or values when unpacked": lambda here: parquet.read_images(
        table(here, a=f"SELECT {png(8)} AS img, 1 AS label") / "a.parquet", "img", "label", (3, 10**6, 10**6), 1),
    r"test\.parquet has not the columns of the other files": lambda here: cifar10.cifar10(
        table(here, train=f"SELECT {png(32)} AS img, 1 AS label", test=f"SELECT {png(32)} AS img, 1 AS other")),
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
    r"a\.zip is damaged: zip file version": lambda here: [*files.read_members(
        newer(zipped(here / "a.zip", a_b=b"1")), {"a.b": 9})],
    r"'a\.b' has not the 4 bytes that it says": lambda here: [*files.read_members(
        longer(zipped(here / "a.zip", a_b=b"1"), 4), {"a.b": 9})],
    r"a\.zip/gone is missing": lambda here: [*trees.tree(zipped(here / "a.zip", a_b=b"1")).read(["gone"])],
    r"it has [\d,]+ scans; at most": lambda here: images.is_grey(
        images.STARTS["JPEG"][0] + images.JPEG_SCAN * (images.MAX_SCANS + 1), "it"),
    r"cannot read .*File name too long": lambda here: images.read_bytes(here / ("a" * 300)),
    r"cannot be read: Expecting": lambda here: other_tests.read_index(written(here / "i.json", "["), 9),
    r"holds no test images that are known by their content": lambda here: [*other_tests.test_sets(
        str(written(here / "a.txt", "a")), (3, 8, 8), Choice(name="digits"))],
    # Settings.
    r"a key has more than \d+ dots": lambda here: read_toml("a." * 60 + "b = 1"),
    r"1e-310 is too close to 0": lambda here: RunConfig.of({"optim": {"lr": 1e-310}}),
    r"1e\+31 is too large": lambda here: RunConfig.of({"optim": {"lr": 1e31}}),
    r"cannot be a setting": lambda here: RunConfig.of({"optim": {"lr": object()}}),
    r"the ImageNet form exists for depths 18, 34": lambda here: networks.names.network("resnet20-imagenet"),
    r"data: float is no name or path": lambda here: RunConfig.of({}).changed({"data": 3.5}),
    r"'optim\.lr': a number has more digits": lambda here: parse_setting("optim.lr=" + "9" * 5000),
    r"the value is neither a name nor TOML": lambda here: parse_setting("optim.lr=1\n[x]"),
    r"tables and lists are nested too deeply": lambda here: read_toml("a = " + "[" * 50_000),
    r"^a number has more digits than can be read": lambda here: read_toml("a = " + "9" * 5000),
    r"train\.epochs: .* holds half a letter, which no file can hold": lambda here: RunConfig.of(
        {"train": {"epochs": "\ud800"}}),
    r"stand within each other": lambda here: RunConfig.of({"optim": {"lr": nested(30)}}),
    r"3\.5 is not a name or a table of settings": lambda here: Choice.of(3.5),
    # Weights.
    r"a member twice, of which torch may read either": lambda here: foreign.read_foreign(
        zipped(here / "w.pth", a_data=b"1", A_data=b"2", **{"x/data_pkl": b"."})),
    r"a tensor is sparse, quantized or without values": lambda here: reference.read_reference(
        _torch_saved(here / "l.pt", torch.eye(2).to_sparse()), None, (3, 8, 8), 2),
    r"holds no plain numbers": lambda here: reference.read_reference(
        saved(here, l=np.array(["a"])) / "l.npy", None, (3, 8, 8), 2),
    r"is no store: ": lambda here: mirror.store_of("github://x"),
    r"File name too long": lambda here: foreign.read_foreign(here / ("a" * 300)),
    r"a header of [\d,]+ bytes is too large": lambda here: foreign.read_foreign(
        written(here / "a.safetensors", (2**40).to_bytes(8, "little") + b"{")),
    r"30,00\d members are too many": lambda here: foreign.read_foreign(
        zipped(here / "a.pth", zipfile.ZIP_STORED, **{f"a/{number}": b"" for number in range(30_001)})),
    r"more than 15,000 tensors are no weights": lambda here: foreign.read_foreign(
        _torch_saved(here / "a.pth", [*torch.zeros(15_001).unbind()])),
    r"l\.npy: the logits hold values that are not finite in fp32": lambda here: reference.read_reference(
        saved(here, l=np.full((1, 2), np.inf)) / "l.npy", None, (3, 8, 8), 2),
    r"l\.npy: holds no images N×C×H×W": lambda here: reference.read_reference(
        saved(here, l=np.zeros((1, 2))) / "l.npy", here / "l.npy", (3, 8, 8), 2),
    r"the images hold values that are not finite": lambda here: reference.read_reference(
        saved(here, l=np.zeros((1, 2)), i=np.full((1, 3, 8, 8), np.nan)) / "l.npy", here / "i.npy", (3, 8, 8), 2),
    r"long_logits[^:]*: File name too long": lambda here: reference.read_reference(
        here / ("long_logits" * 30), None, (3, 8, 8), 2),
    r"not a safetensors file": lambda here: state.from_bytes(b"no"),
    r"'weight' has shape \(3, 2\), not \(2, 2\)": lambda here: state.load_weights(
        torch.nn.Linear(2, 2, False), safetensors.torch.save(torch.nn.Linear(2, 3, False).state_dict())),
    r"the saved state does not say how far it is": lambda here: state.progress({}),
    # Places, plans and clusters.
    r"has no published number of images": lambda here: datasets.stand_in("synthetic"),
    r"it has the label 'told', which is no class of ": lambda here: cifar._of_parquet(cifar10.LAYOUT, ["told"], [], "it"),
    r"has no test images with labels": lambda here: layout.understand(
        trees.tree(written(folder(here / "test") / "1.png", b"").parent.parent), alone=True),
    r"holds no images$": lambda here: layout.understand(trees.tree(folder(here / "empty").parent), alone=True),
    r"a study file has at most \d+ kB": lambda here: parsing.source(
        str(written(here / "a.toml", b"#" * (parsing.MOST_BYTES + 1)))),
    r"no file can be called so": lambda here: parsing.source("a\0.toml"),
    r"'here' is no address of a Ray cluster": lambda here: ray._reach("here"),
    r"no Ray cluster at 127\.0\.0\.1:1: Connection refused": lambda here: ray._reach("127.0.0.1:1"),
    r"jobs of Slurm see the folder of the runs": lambda here: next(slurm.launch([], here, Room(1, 1, store="s3://x"))),
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
    "--top: 0 classes; at least 1": ["predict", "x", "a.png", "--top", "0"],
    "at least 640 images, five batches, and one repeat": ["bench", "--images", "1"],
    "--data has images and classes of its own": ["show", "model", "resnet20", "--data", "digits", "--classes", "3"],
    "--budget chooses the scale; give one": ["study", "plan", "quickstart", "--budget", "1h", "--scale", "0.1"],
    "--cpus is of a cluster: --on ray, or slurm": ["study", "run", "quickstart", "--cpus", "1"],
    "--budget measures this machine, not a cluster": [
        "study",
        "run",
        "quickstart",
        "--on",
        "slurm:local",
        "--budget",
        "1h",
    ],
    "--cpus: 0 is not a count from 1 to 256": ["study", "run", "quickstart", "--on", "slurm:local", "--cpus", "0"],
    "--gpus: 0 is not above 0 and up to 64": ["study", "run", "quickstart", "--on", "slurm:local", "--gpus", "0"],
    "--workers: '65' is not a count from 1 to 64": [
        "study",
        "run",
        "quickstart",
        "--on",
        "slurm:local",
        "--workers",
        "65",
    ],
    "--cpus: 0 is not a count from 1 to 1024": ["cluster", "up", "--cpus", "0"],
    "--port: 70000 is not a port": ["cluster", "up", "--port", "70000"],
    "no cluster was started here at port 1": ["cluster", "down", "--port", "1"],
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
    "the study has one arm; what the search finds is claimed": STUDY.replace("tune_each_arm = true", "")
    + """
[[arms]]
name = "a"
[[claims]]
text = "It is."
expect = "a < 50"
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


def test_a_cluster_that_does_not_come_up(run, tmp_path, monkeypatch):
    written(tmp_path / "ray", "#!/bin/sh\nexit 1\n").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, _, err = run("cluster", "up", "--port", port)
        assert (code, err.count("\n")) == (2, 1)
        assert f"something listens at 127.0.0.1:{port} already; give another --port" in err
    code, _, err = run("cluster", "up", "--port", port)
    assert (code, err.count("\n")) == (2, 1)
    assert "the cluster did not come up; `ray start --block --head" in err


def test_a_tree_has_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "MAX_ENTRIES", 2)
    for name in "abc":
        written(tmp_path / name, "")
    with pytest.raises(ResiduumError, match="holds more than 2 files and folders"):
        trees.tree(tmp_path)

"""Hostile and damaged archives and data files, by name: functions that write one and say where it lies.

    python -m tests.data_sets.hostile_files

tries all of them by `residuum data check`, each in a process of its own. None may run anything, write beside the cache,
take more than 2 seconds or 500 MiB, or end otherwise than read right or refused in one line.
"""

import gzip
import io
import json
import lzma
import os
import pickle
import socket
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import duckdb
import numpy as np
from PIL import Image

from residuum.cli import main

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import cifar_files as make  # noqa: E402

from forked import Tried, attempt, run  # noqa: E402

BATCHES = make.python_files(make.batches(rows=1))
PREFIX = "cifar-10-batches-py"
Case = Callable[[Path], Path]
CASES: dict[str, tuple[Case, str]] = {}


def case(name: str, wanted: str = "refused") -> Callable[[Case], Case]:
    """Keep a function that writes a file into a folder as a case; `wanted` is what has to come of it."""

    def kept(made: Case) -> Case:
        assert name not in CASES, name
        CASES[name] = made, wanted
        return made

    return kept


class Canary:
    """Unpickled, it makes a file `canary` in the folder that is worked in."""

    def __reduce__(self):
        return open, ("canary", "w")


def png(colour: int = 7, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (colour % 256, colour * 7 % 256, 9)).save(buffer, "PNG")
    return buffer.getvalue()


def images(classes: tuple[str, ...] = ("a", "b"), count: int = 4) -> dict[str, bytes]:
    return {f"{name}/{at}.png": png(at + 40 * place) for place, name in enumerate(classes) for at in range(count)}


# Archives: one member too many, in tar and in zip.


def tar_of(path: Path, members: dict[str, bytes], *extra: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as made:
        for name, content in members.items():
            one = tarfile.TarInfo(name)
            one.size = len(content)
            made.addfile(one, io.BytesIO(content))
        for one in extra:
            made.addfile(one, io.BytesIO(bytes(one.size)))
    return path


def cifar_members() -> dict[str, bytes]:
    return {f"{PREFIX}/{name}": content for name, content in BATCHES.items()}


def in_tar(name: str, member: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    for form, members in (("CIFAR", cifar_members), ("images", images)):

        def made(folder: Path, members: Callable[[], dict[str, bytes]] = members) -> Path:
            one = tarfile.TarInfo(member)
            one.type, one.linkname = kind, link
            return tar_of(folder / "x.tar.gz", members(), one)

        case(f"tar of {form}: {name}")(made)


for _name, _member, _kind, _link in (
    ("a path that leads out", "../canary", tarfile.REGTYPE, ""),
    ("an absolute path", "/tmp/canary", tarfile.REGTYPE, ""),
    ("a symbolic link", "link", tarfile.SYMTYPE, "/etc/passwd"),
    ("a hard link", "link", tarfile.LNKTYPE, "a/0.png"),
    ("a device", "device", tarfile.CHRTYPE, ""),
    ("a pipe", "pipe", tarfile.FIFOTYPE, ""),
    ("a sparse file", "sparse", tarfile.GNUTYPE_SPARSE, ""),
):
    in_tar(_name, _member, _kind, _link)


def in_zip(name: str, members: dict[str, bytes], wanted: str = "refused", **attributes: int) -> None:
    def made(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in images().items():
                archive.writestr(member, content)
            for member, content in members.items():
                entry = zipfile.ZipInfo(member)
                entry.create_system, entry.external_attr = 3, attributes.get("mode", 0o100644) << 16
                archive.writestr(entry, content)
        return folder / "x.zip"

    case(f"zip: {name}", wanted)(made)


in_zip("a path that leads out", {"../canary": b"x"})
in_zip("a path of Windows that leads out", {"..\\canary": b"x"})
in_zip("a drive", {"C:/canary.png": b"x"})
in_zip("a symbolic link", {"a/link.png": b"/etc/passwd"}, mode=0o120777)
in_zip("a device", {"a/device.png": b""}, mode=0o020666)
in_zip("names with a line break and an escape", {"a/\n\x1b[2J.png": png(5)}, "either")
in_zip(
    "a class whose name turns the terminal", {"c\x1b]0;x\x07/1.png": png(5), "c\x1b]0;x\x07/2.png": png(6)}, "either"
)
in_zip("classes that differ in case alone", {"A/9.png": png(99), "A/8.png": png(98)}, "read")
in_zip("a doubled member", {"a/0.png": png(3)})
in_zip("an image that is a page", {"a/x.png": b"<!doctype html><html>"})
in_zip("rubbish of another system", {"__MACOSX/a/._0.png": b"x", ".DS_Store": b"x"}, "read")


@case("zip: a wrong checksum")
def _(folder: Path) -> Path:
    path = folder / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in images().items():
            archive.writestr(member, content)
    content = path.read_bytes()
    path.write_bytes(content.replace(png(0), png(1), 1))
    return path


@case("zip: its list of members is cut off")
def _(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for member, content in images().items():
            archive.writestr(member, content)
    content = (folder / "x.zip").read_bytes()
    (folder / "x.zip").write_bytes(content[:-40])
    return folder / "x.zip"


@case("zip: an image of gigabytes of nothing")
def _(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in images().items():
            archive.writestr(member, content)
        with archive.open("b/big.png", "w") as file:
            for _ in range(80):
                file.write(bytes(1 << 20))
    return folder / "x.zip"


@case("zip: encrypted")
def _(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for member, content in images().items():
            archive.writestr(member, content)
    content = bytearray((folder / "x.zip").read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(magic)
        while start >= 0:
            content[start + at] |= 1
            start = content.find(magic, start + 4)
    (folder / "x.zip").write_bytes(content)
    return folder / "x.zip"


@case("zip: 10,000 members of nothing", "either")
def _(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for number in range(10_000):
            archive.writestr(f"a/{number}.png", b"")
    return folder / "x.zip"


def packed(name: str, suffix: str, pack: Callable[[bytes], bytes], plain: Callable[[], bytes]) -> None:
    def made(folder: Path) -> Path:
        path = folder / f"x.tar.{suffix}"
        path.write_bytes(pack(plain()))
        return path

    case(f"{suffix}: {name}")(made)


def a_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as made:
        for name, content in cifar_members().items():
            one = tarfile.TarInfo(name)
            one.size = len(content)
            made.addfile(one, io.BytesIO(content))
    return buffer.getvalue()


def a_bomb() -> bytes:
    one = tarfile.TarInfo("a/1.png")
    one.size = 400 << 20
    return one.tobuf(tarfile.USTAR_FORMAT) + bytes(one.size)


for _suffix, _pack in (
    ("gz", lambda plain: gzip.compress(plain, 1)),
    ("xz", lambda plain: lzma.compress(plain, preset=0)),
):
    packed("it ends too early", _suffix, lambda plain, pack=_pack: pack(plain)[:-30], a_tar)
    packed("a member of gigabytes of nothing", _suffix, _pack, a_bomb)
    packed("a bit of its end is flipped", _suffix, lambda plain, pack=_pack: (c := bytearray(pack(plain))).__setitem__(-7, c[-7] ^ 1) or bytes(c), a_tar)  # fmt: skip


@case("tar: a member announced as 8 GiB")
def _(folder: Path) -> Path:
    one = tarfile.TarInfo(f"{PREFIX}/data_batch_1")
    one.size = 8 << 30 - 1
    (folder / "x.tar").write_bytes(one.tobuf(tarfile.GNU_FORMAT) + b"short")
    return folder / "x.tar"


@case("tar: a name that leads out, behind attributes of 100 kB")
def _(folder: Path) -> Path:
    with tarfile.open(folder / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in images().items():
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(content), {"comment": "x" * 100_000, "path": f"../../{name}"}
            archive.addfile(member, io.BytesIO(content))
    return folder / "x.tar"


@case("zip: 4,000 classes", "read")
def _(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for number in range(4000):
            archive.writestr(f"class {number}/0.png", png())
    return folder / "x.zip"


@case("zip: members before its start")
def _(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for name, content in images().items():
            archive.writestr(name, content)
    raw = bytearray((folder / "x.zip").read_bytes())
    end = raw.rfind(b"PK\5\6")
    raw[end + 16 : end + 20] = b"\xff" * 4
    (folder / "x.zip").write_bytes(raw)
    return folder / "x.zip"


# Pickles, of CIFAR and of numpy.


@case("CIFAR: code in a batch")
def _(folder: Path) -> Path:
    make.write_folder(folder / PREFIX, BATCHES | {"data_batch_2": pickle.dumps({b"data": Canary()}, 2)})
    return folder


@case("CIFAR: code in the names of classes")
def _(folder: Path) -> Path:
    make.write_folder(folder / PREFIX, BATCHES | {"batches.meta": pickle.dumps({"label_names": Canary()}, 2)})
    return folder


@case("CIFAR: a batch is a pipe")
def _(folder: Path) -> Path:
    place = make.write_folder(folder / PREFIX, BATCHES)
    (place / "data_batch_3").unlink()
    os.mkfifo(place / "data_batch_3")
    return folder


@case("CIFAR: a batch is a link to a device without an end")
def _(folder: Path) -> Path:
    place = make.write_folder(folder / PREFIX, BATCHES)
    (place / "data_batch_3").unlink()
    (place / "data_batch_3").symlink_to("/dev/zero")
    return folder


X, Y = np.random.default_rng(3).integers(0, 256, (12, 8, 8, 3), np.uint8), np.arange(12) % 3


def arrays(name: str, wanted: str = "refused", **given: object) -> None:
    def made(folder: Path) -> Path:
        np.savez_compressed(folder / "x.npz", **({"x_train": X, "y_train": Y} | given))
        return folder / "x.npz"

    case(f"npz: {name}", wanted)(made)


arrays("objects that run code", x_train=np.array([Canary()] * 2, object))
arrays("labels that run code", y_train=np.array([Canary()] * 12, object))
arrays("complex numbers", x_train=X.astype(complex))
arrays("values that are not finite", x_train=np.full(X.shape, np.nan))
arrays("dates for labels", y_train=np.array(["2026-01-01"] * 12, "datetime64[D]"))
arrays("a record of fields", y_train=np.zeros(12, [("a", "i4"), ("b", "i4")]))
arrays("labels of 10 to the 18th", y_train=Y + 10**18)
arrays("gigabytes of nothing", x_train=np.zeros((130_000, 32, 32, 3), np.uint8), y_train=np.zeros(130_000, np.int8))
arrays("as it should be", "read")


def npy_header(shape: str, kind: str = "|u1") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def loose(name: str, content: bytes, wanted: str = "refused") -> None:
    def made(folder: Path) -> Path:
        (folder / "x_train.npy").write_bytes(content)
        np.save(folder / "y_train.npy", Y)
        return folder

    case(f"npy: {name}", wanted)(made)


loose("of 10 to the 10th values", npy_header("(10000000000,)"))
loose("of 10 to the 30th values", npy_header("(10**15, 10**15)"))
loose("of a negative number of them", npy_header("(-12, 8, 8, 3)") + bytes(99))
loose("of values without a size", npy_header("(12, 8, 8, 3)", "|V0"))
loose("a header nested ten thousand deep", b"\x93NUMPY\x01\x00" + struct.pack("<H", 20_001) + b"(" * 20_000 + b"\n")
loose("cut off", npy_header("(12, 8, 8, 3)") + bytes(100))


def special(name: str, file: str, put: Callable[[Path], object], wanted: str = "refused") -> None:
    def made(folder: Path) -> Path:
        (folder / "there").mkdir()
        put(folder / "there" / file)
        return folder / "there" / ("" if name.startswith("in a folder") else file)

    case(f"{name}", wanted)(made)


def socket_at(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has at most a hundred letters
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


special("a pipe", "x.npz", os.mkfifo)
special("a link to a device", "x.tar", lambda path: path.symlink_to("/dev/zero"))
special("a link to itself", "x.tar", lambda path: path.symlink_to(path))
special("a socket", "x.parquet", socket_at)
special("in a folder, a pipe called .npz", "x.npz", os.mkfifo)
special("in a folder, a pipe called .npy", "x_train.npy", os.mkfifo)
special("in a folder, a device called .parquet", "train.parquet", lambda path: path.symlink_to("/dev/zero"))
special("in a folder, a folder called .npz", "x.npz", lambda path: path.mkdir())
special("a file of zeros", "x.bin", lambda path: path.write_bytes(bytes(1 << 20)))
special("an empty file", "x.zip", lambda path: path.write_bytes(b""))


# Other formats of arrays.


@case("IDX: gigabytes are announced")
def _(folder: Path) -> Path:
    for role, dimensions in (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1)):
        header = bytes((0, 0, 8, dimensions)) + struct.pack(f">{dimensions}I", *[2**31] * dimensions)
        (folder / f"{role}-idx{dimensions}-ubyte").write_bytes(header + bytes(20))
    return folder


@case("IDX: gzipped gigabytes of nothing")
def _(folder: Path) -> Path:
    for role, dimensions in (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1)):
        header = bytes((0, 0, 8, dimensions)) + struct.pack(f">{dimensions}I", *[60_000, 28, 28][:dimensions])
        with gzip.open(folder / f"{role}-idx{dimensions}-ubyte.gz", "wb", 1) as file:
            file.write(header)
            for _ in range(300):
                file.write(bytes(1 << 20))
    return folder


@case("MATLAB: an array of gigabytes of nothing, packed")
def _(folder: Path) -> Path:
    from scipy.io import savemat

    for which in ("train", "test"):
        values = {"X": np.zeros((32, 32, 3, 90_000), np.uint8), "y": np.ones((90_000, 1), np.uint8)}
        savemat(folder / f"{which}_32x32.mat", values, do_compression=True)
        values.clear()
    return folder


# Tables.


def table(name: str, content: bytes, wanted: str = "refused") -> None:
    def made(folder: Path) -> Path:
        (folder / "train").mkdir()
        for at in range(6):
            (folder / "train" / f"{at}.png").write_bytes(png(at))
        (folder / "trainLabels.csv").write_bytes(content)
        return folder

    case(f"CSV: {name}", wanted)(made)


ROWS = b"".join(b"%d,%s\n" % (at, b"ab"[at % 2 : at % 2 + 1]) for at in range(6))
table("as it should be", b"id,label\n" + ROWS, "read")
table("twenty million commas", b"id,label" + b"," * 20_000_000)
table("three million rows", b"id,label\n" + ROWS + b"9,a\n" * 3_000_000)
table("a cell of ten million letters", b"id,label\n" + ROWS + b"7," + b"x" * 10_000_000 + b"\n")
table("zeros within", b"id,label\n0,a\0\n" + ROWS)
table("a quote without an end", b'id,label\n"0,a\n' + ROWS)
table("an image twice", b"id,label\n0,b\n" + ROWS)
table("names that lead out", b"id,label\n" + b"".join(b"../../etc/%d,a\n" % at for at in range(6)))


# Parquet.


def parquet(name: str, query: str, wanted: str = "refused", codec: str = "zstd") -> None:
    def made(folder: Path) -> Path:
        with duckdb.connect(":memory:") as connection:
            for which in ("train", "test"):
                to = f"(FORMAT parquet, CODEC '{codec}')"
                connection.execute(f"COPY ({query}) TO '{folder / which}.parquet' {to}")
        return folder

    case(f"Parquet: {name}", wanted)(made)


HEX = "".join(f"\\x{one:02X}" for one in png(9))
ZEROS = "list_resize([]::UTINYINT[], {}, 0::UTINYINT)"
parquet("a label for each of some images", f"SELECT '{HEX}'::BLOB AS image, i % 3 AS label FROM range(30) t(i)", "read")
parquet("two million times one image", f"SELECT '{HEX}'::BLOB AS image, i % 3 AS label FROM range(1999999) t(i)")
parquet(
    "four gigabytes of one value", "SELECT repeat('a', 1000000)::BLOB AS image, i % 3 AS label FROM range(3700) t(i)"
)
parquet("one image a megabyte long, in 3,000 rows",
        f"SELECT ('{HEX}' || repeat('a', 1000000)::BLOB) AS image, i % 3 AS label FROM range(3000) t(i)")  # fmt: skip
parquet("lists of a billion zeros", f"SELECT {ZEROS.format(3072)} AS image, i % 3 AS label FROM range(300000) t(i)")
parquet("lists in lists of a billion zeros",
        f"SELECT [{ZEROS.format(30_000)}] AS image, i % 3 AS label FROM range(30000) t(i)")  # fmt: skip
parquet("more rows than can be", f"SELECT '{HEX}'::BLOB AS image, 1 AS label FROM range(2000001) t(i)")
parquet(
    "a label of a hundred megabytes", f"SELECT '{HEX}'::BLOB AS image, repeat('x', 100000000) AS label FROM range(9)"
)
parquet("3,000 columns", "SELECT '" + HEX + "'::BLOB AS image, " + ", ".join(f"1 AS c{at}" for at in range(3000)) + " FROM range(4)",
        "either")  # fmt: skip
parquet("no rows", f"SELECT '{HEX}'::BLOB AS image, 1 AS label FROM range(0)")


def bent(name: str, bend: Callable[[bytearray], bytes]) -> None:
    def made(folder: Path) -> Path:
        CASES["Parquet: a label for each of some images"][0](folder)
        path = folder / "train.parquet"
        path.write_bytes(bend(bytearray(path.read_bytes())))
        return folder

    case(f"Parquet: {name}")(made)


bent("a footer of four gigabytes", lambda content: content[:-8] + b"\xff\xff\xff\xff" + content[-4:])
bent(
    "a footer that begins with zeros",
    lambda content: (
        content[: -8 - (n := int.from_bytes(content[-8:-4], "little"))] + bytes(n // 2) + content[-8 - n + n // 2 :]
    ),
)
bent("its end is cut off", lambda content: content[:-9])
bent("its pages are zeros", lambda content: content[:4] + bytes(100) + content[104:])


@case("a folder of images that closes on itself", "read")
def _(folder: Path) -> Path:
    for name, content in images().items():
        (folder / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "x" / name).write_bytes(content)
    (folder / "x" / "a" / "again").symlink_to(folder / "x")
    return folder / "x"


@case("a folder with a pipe and a device among its images", "read")
def _(folder: Path) -> Path:
    for name, content in images().items():
        (folder / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "x" / name).write_bytes(content)
    os.mkfifo(folder / "x" / "a" / "pipe.png")
    (folder / "x" / "b" / "zero.png").symlink_to("/dev/zero")
    return folder / "x"


@case("JSON that says it is a data set")
def _(folder: Path) -> Path:
    (folder / "x.json").write_text(json.dumps({"files": {"/dev/zero": "0" * 64}}))
    return folder / "x.json"


def tried(folder: Path, names: tuple[str, ...] = ()) -> Iterator[Tried]:
    """What comes of each case, or of some, under `residuum data check`, one after the other."""
    with redirect_stdout(io.StringIO()):  # what is imported once is no part of a case
        main(["data", "check", "digits"])
    for number, name in enumerate(names or CASES):
        made, wanted = CASES[name]
        place = folder / f"file-{number}"
        place.mkdir()
        os.chdir(place)
        yield attempt(name, ("data", "check", made(place)), wanted, place / "canary")


if __name__ == "__main__":
    run(tried)

"""Security rules: archives and compressed files are read by exact name and bounded size; nothing is ever extracted."""

import gzip
import io
import tarfile
import zipfile

import cifar_files as make
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residuum.data.datasets import load
from residuum.data.formats import files
from residuum.errors import InputError, StorageError

CONTENT = make.batches(rows=1)
PREFIX = "cifar-10-batches-py"


def archive(path, *extra, mode="w:gz", form=tarfile.USTAR_FORMAT):
    """CIFAR-10 in a tar archive, followed by other members: (TarInfo, content)."""
    with tarfile.open(path, mode, format=form) as made:
        for name, raw in make.python_files(CONTENT).items():
            member = tarfile.TarInfo(f"{PREFIX}/{name}")
            member.size = len(raw)
            made.addfile(member, io.BytesIO(raw))
        for member, raw in extra:
            member.size = len(raw)
            made.addfile(member, io.BytesIO(raw))
    return path


def member(name, kind=tarfile.REGTYPE, link=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (member("../evil"), "leads out of the archive"),
        (member(f"{PREFIX}/../../evil"), "leads out of the archive"),
        (member("/etc/passwd"), "leads out of the archive"),
        (member("link", tarfile.SYMTYPE, "/etc/passwd"), "a link or a device"),
        (member(f"{PREFIX}/data_batch_1", tarfile.LNKTYPE, f"{PREFIX}/data_batch_2"), "a link or a device"),
        (member("device", tarfile.CHRTYPE), "a link or a device"),
        (member("disk", tarfile.BLKTYPE), "a link or a device"),
        (member("pipe", tarfile.FIFOTYPE), "a link or a device"),
        (member("sparse", tarfile.GNUTYPE_SPARSE), "a link or a device"),
        (member(f"{PREFIX}/data_batch_1"), "appears twice"),
    ],
)
def test_security_hostile_members_are_refused(tmp_path, extra, message):
    path = archive(tmp_path / "a.tar.gz", (extra, b""))
    with pytest.raises(InputError, match=message) as caught:
        load("cifar10", str(path))
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar.gz"]


def test_other_plain_files_are_passed_over(tmp_path):
    path = archive(tmp_path / "a.tar.gz", (member(f"{PREFIX}/readme.html"), b"x" * 700), (member("._x"), b"y"))
    assert len(load("cifar10", str(path)).train) == 5


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_other_forms_of_tar_are_read(tmp_path, form):
    path = archive(tmp_path / "a.tar", (member("a" * 150), b"long name"), (member("é"), b""), mode="w", form=form)
    assert len(load("cifar10", str(path)).train) == 5


def test_leading_dots_are_read(tmp_path):
    folder = make.write_folder(tmp_path / PREFIX, make.python_files(CONTENT))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as made:
        for path in sorted(folder.iterdir()):
            made.add(path, f"./{PREFIX}/{path.name}")
    assert len(load("cifar10", str(tmp_path / "a.tar.gz")).train) == 5


def test_a_missing_member_is_named(tmp_path):
    kept = make.python_files(CONTENT)
    del kept["data_batch_5"]
    path = make.write_tar(tmp_path / "a.tgz", PREFIX, kept)
    with pytest.raises(InputError, match="has no data_batch_5"):
        load("cifar10", str(path))


def test_a_header_that_does_not_match_its_sum_is_refused(tmp_path):
    path = archive(tmp_path / "a.tar", mode="w")
    changed = bytearray(path.read_bytes())
    changed[110] ^= 1  # the owner: nothing that is read
    path.write_bytes(changed)
    with pytest.raises(InputError, match="no valid header"):
        load("cifar10", str(path))


def test_security_a_member_larger_than_any_batch_is_not_read(tmp_path):
    path = make.write_tar(tmp_path / "a.tgz", PREFIX, {"data_batch_1": bytes(32_000_000)})
    with pytest.raises(InputError, match="has 32,000,000 bytes, at most"):
        load("cifar10", str(path))


def test_security_an_announced_size_is_no_reason_to_allocate(tmp_path, monkeypatch):
    path = tmp_path / "a.tar"
    header = member(f"{PREFIX}/data_batch_1")
    header.size = 30_000_000
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + b"short")
    with pytest.raises(InputError, match="ends within 'cifar-10-batches-py/data_batch_1'"):
        load("cifar10", str(path))
    header.size = 7 * 2**30
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + b"short")
    with pytest.raises(InputError, match="more than 256 MiB"):
        load("cifar10", str(path))


def test_security_decompressed_bytes_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_ARCHIVE_BYTES", 2**20)
    path = archive(tmp_path / "a.tar.gz", (member("big"), bytes(2**21)))
    assert path.stat().st_size < 2**17
    with pytest.raises(InputError, match="more than 1 MiB when decompressed"):
        list(files.read_members(path, {}))


def test_security_members_are_counted(tmp_path):
    path = archive(tmp_path / "a.tar.gz", *((member(f"x{i}"), b"") for i in range(files.MAX_MEMBERS)))
    with pytest.raises(InputError, match="more than 64 members"):
        load("cifar10", str(path))


def test_security_a_compressed_bomb_is_cut_off(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(3_000_000)))
    with pytest.raises(InputError, match="too large: at most 1,000 bytes"):
        files.read_whole(path, 1000)
    assert len(files.read_whole(path, 3_000_000)) == 3_000_000


def test_a_flipped_bit_is_never_read_silently(tmp_path):
    """Also in what lies behind the last member: gzip compares its checksum only at the very end."""
    path = archive(tmp_path / "good.tar.gz")
    good, content = load("cifar10", str(path)).fingerprint, path.read_bytes()
    silent = 0
    for place in np.linspace(10, len(content) - 1, 40).astype(int):
        changed = bytearray(content)
        changed[place] ^= 1 << int(place % 8)
        path.write_bytes(changed)
        try:
            silent += load("cifar10", str(path)).fingerprint != good
        except InputError as error:
            make.one_line(error)
    assert silent == 0
    changed = bytearray(content)
    changed[-6] ^= 1  # the checksum itself
    path.write_bytes(changed)
    with pytest.raises(InputError, match="damaged"):
        load("cifar10", str(path))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_every_truncation_is_one_line(tmp_path, mode):
    path = archive(tmp_path / "a", mode=mode)
    content = path.read_bytes()
    ends = np.linspace(0, len(content) - (2000 if mode == "w:gz" else 12_000), 25).astype(int)
    for end in ends:
        path.write_bytes(content[:end])
        with pytest.raises(InputError) as caught:
            load("cifar10", str(path))
        assert "\n" not in str(caught.value)


PLAIN = io.BytesIO()
with tarfile.open(fileobj=PLAIN, mode="w", format=tarfile.USTAR_FORMAT) as _made:
    for _name in ("a", "b"):
        _member = tarfile.TarInfo(_name)
        _member.size = 3
        _made.addfile(_member, io.BytesIO(b"xyz"))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 1535), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_security_fuzzed_headers_raise_nothing_else(tmp_path_factory, changes, keep_sums_right):
    content = bytearray(PLAIN.getvalue())
    for place, value in changes:
        content[place] = value
    if keep_sums_right:
        for start in (0, 1024):
            content[start + 148 : start + 156] = b" " * 8
            content[start + 148 : start + 155] = b"%06o\0" % sum(content[start : start + 512])
    path = tmp_path_factory.getbasetemp() / "fuzzed.tar"
    path.write_bytes(content)
    try:
        for name, raw in files.read_members(path, {"a": 10, "b": 10}):
            assert name in "ab"
            assert len(raw) <= 10
    except InputError as error:
        make.one_line(error)


def test_what_cannot_be_read_is_an_io_error(tmp_path):
    with pytest.raises(StorageError, match="cannot read"):
        files.read_whole(tmp_path, 10)
    with pytest.raises(InputError, match="is missing"):
        files.read_whole(tmp_path / "x", 10)


def with_attributes(path, /, **attributes):
    """An archive whose one member has these attributes in a header of its own."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("plain.png")
        member.pax_headers = attributes
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    return path


def test_a_name_behind_long_attributes_is_the_name(tmp_path):
    path = with_attributes(tmp_path / "a.tar", comment="x" * 100_000, path="long/" * 40 + "name.png")
    assert [*files.member_names(path)] == ["long/" * 40 + "name.png"]


@pytest.mark.parametrize(("attributes", "said"), [
    ({"comment": "x" * 100_000, "path": "../../canary/0.png"}, "leads out of the archive"),
    ({"comment": "x" * 2**20, "path": "a.png"}, "bytes are no name of a member"),
])  # fmt: skip
def test_no_attributes_hide_a_name(tmp_path, attributes, said):
    with pytest.raises(InputError, match=said):
        [*files.member_names(with_attributes(tmp_path / "a.tar", **attributes))]


def test_attributes_of_another_form_or_of_all_members_are_refused(tmp_path):
    path = with_attributes(tmp_path / "a.tar", comment="x")
    content = path.read_bytes()
    (tmp_path / "b.tar").write_bytes(content.replace(b"13 comment=x", b"99 comment=x"))
    with tarfile.open(tmp_path / "c.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"path": "one.png"}) as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    for name, said in (("b.tar", "has no valid form"), ("c.tar", "gives all members the name 'one.png'")):
        with pytest.raises(InputError, match=said):
            [*files.member_names(tmp_path / name)]


def test_a_zip_whose_members_lie_before_its_start_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"x")
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    end = raw.rfind(b"PK\5\6")
    raw[end + 16 : end + 20] = b"\xff" * 4
    (tmp_path / "a.zip").write_bytes(raw)
    with pytest.raises(InputError, match="is damaged: it says that a member lies before its start"):
        [*files.read_members(tmp_path / "a.zip", {"a.png": 9})]

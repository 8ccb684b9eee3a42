"""Security rules: CIFAR's pickles are never run. Anything but the known layout is one line, and allocates little."""

import pickle
import tracemalloc

import cifar_files as make
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residuum.data.formats.pickled import MAX_INSTRUCTIONS, read_pickled
from residuum.errors import InputError

PIXELS = np.arange(2 * 3072, dtype=np.uint64).astype(np.uint8).reshape(2, 3072)
GOOD = make.batch(PIXELS, [3, 9])
ARRAY = make.array(PIXELS)


class Runs:
    ran = False

    def __reduce__(self):
        return (setattr, (Runs, "ran", True))


def one(value: bytes) -> bytes:
    return make.dictionary({"data": value})


HOSTILE = {
    "another global": one(b"cos\nsystem\nU\x02ls\x85R"),
    "a numpy global that is not allowed": one(b"cnumpy\nfromfile\nU\x02ls\x85R"),
    "a builtin": one(b"c__builtin__\neval\nU\x031+1\x85R"),
    "call of what is no function": one(b"U\x02lsU\x02ls\x85R"),
    "call of ndarray itself": one(b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR"),
    "67 bytes that ask numpy for 40 GiB": one(
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\x00\x00\x00\x0atU\x01btR"
    ),
    "dtype of objects": one(b"cnumpy\ndtype\nU\x01OK\x00K\x01\x87R"),
    "dtype of 8 bytes": one(ARRAY.replace(b"U\x02u1", b"U\x02u8")),
    "array of other byte order": one(ARRAY.replace(b"U\x01|", b"U\x01>")),
    "array announced larger": one(make.array(PIXELS, shape=(3, 3072))),
    "array announced smaller": one(make.array(PIXELS, shape=(1, 3072))),
    "array of negative size": one(make.array(PIXELS, shape=(-2, -3072))),
    "array with size to be guessed": one(make.array(PIXELS, shape=(-1, 3072))),
    "array without rows": one(make.array(PIXELS[:0])),
    "array reconstructed with a size": one(ARRAY.replace(b"K\x00\x85U\x01b", b"K\x07\x85U\x01b")),
    "array reconstructed with a type": one(ARRAY.replace(b"K\x00\x85U\x01b", b"K\x00\x85U\x01O")),
    "string longer than the file": one(b"T\xff\xff\xff\x7fabc"),
    "string of negative length": one(b"T\xff\xff\xff\xffabc"),
    "integer of 100,000 digits": one(b"I" + b"9" * 100_000 + b"\n"),
    "long integer": one(b"\x8b\xff\x00\x00\x00" + bytes(255)),
    "float": one(b"G" + bytes(8)),
    "memo never put": one(b"h\x63"),
    "pop": one(b"K\x010K\x02"),
    "duplicate": one(b"K\x012"),
    "persistent id": one(b"Pid\n"),
    "instance": one(b"(ios\nsystem\n"),
    "object": one(b"(cos\nsystem\no"),
    "new object": one(b"cnumpy\nndarray\n)\x81"),
    "extension": one(b"\x82\x01"),
    "global from the stack": b"\x80\x04}(U\x01aU\x02osU\x06system\x93u.",
    "another protocol": b"\x80\x05" + GOOD[2:],
    "an older protocol": b"\x80\x01" + GOOD[2:],
    "a codec that is not that of bytes": one(b"c_codecs\nencode\nU\x01aU\x04zlib\x86R"),
    "codecs' decode": one(b"c_codecs\ndecode\nU\x01aU\x06latin1\x86R"),
    "a text made bytes again and again": b"\x80\x02}(U\x01a"
    + b"T\x50\xc3\x00\x00"
    + b"a" * 50_000
    + b"q\x05"
    + b"c_codecs\nencode\nq\x06"
    + b"h\x06h\x05U\x06latin1\x86R" * 20_000
    + b"u.",
    "an array made again and again": b"\x80\x02}(U\x01a"
    + make.string(bytes(50_000))
    + b"q\x05"
    + ARRAY.partition(b"q\x12")[0].join(
        [b"", b"(K\x01K\x01MP\xc3\x86" + ARRAY.partition(b"\x86")[2].partition(b"\x89")[0] + b"\x89h\x05tb"]
    )
    * 2_000
    + b"u.",
    "no protocol": GOOD[2:],
    "protocol twice": GOOD[:2] + GOOD,
    "no end": GOOD[:-1],
    "bytes after the end": GOOD + b".",
    "two results": b"\x80\x02}}.",
    "a list instead of a dictionary": b"\x80\x02].",
    "nothing": b"\x80\x02.",
    "protocol later": GOOD[:3] + GOOD[:2] + GOOD[3:-2] + b"(\x80\x03u.",
    "a tuple among the values": one(b"K\x01K\x02\x86"),
    "a global among the values": one(b"cnumpy\ndtype\n"),
    "a list in a list": one(b"](]e"),
    "an array that was never filled": one(ARRAY.partition(b"q\x12")[0]),
    "a key twice": make.dictionary({"data": ARRAY})[:-2] + make.string("data") + b"K\x01u.",
    "a key without value": b"\x80\x02}(U\x01au.",
    "a key that is not a string": b"\x80\x02}(K\x01K\x02u.",
    "items without a dictionary": b"\x80\x02](U\x01aK\x02u.",
    "items without a list": b"\x80\x02}(U\x01aK\x02e.",
    "mark within a tuple": b"\x80\x02}(U\x01a((\x86u.",
    "state of what is no array": one(b"](K\x01tb"),
    "self-containing list as arguments": one(b"cnumpy\ndtype\n]q\x05h\x05aR"),
    "self-containing list as state": one(b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R]q\x05h\x05a(h\x05h\x05h\x05tb"),
    "array as arguments": one(ARRAY + b"cnumpy\ndtype\n(U\x02u1" + ARRAY + b"K\x01tR"),
    "python 3 pickle": pickle.dumps({"data": [1, 2]}, protocol=5),
    "code of python 3": pickle.dumps({"data": Runs()}, protocol=4),
    "code": pickle.dumps({"data": Runs()}, protocol=2),
    "too many instructions": b"\x80\x02" + b"N" * MAX_INSTRUCTIONS + b".",
    "too many marks": b"\x80\x02" + b"(" * MAX_INSTRUCTIONS + b".",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_security_anything_but_the_layout_is_refused_without_being_run(content):
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"^here is not a CIFAR file") as caught:
            read_pickled(content, "here")
        # A stack of marks has 8 bytes for each of the file's: the most that any instruction can take.
        assert tracemalloc.get_traced_memory()[1] < 32 * len(content) + 200_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert not Runs.ran


def test_the_layout_itself_is_read():
    found = read_pickled(GOOD, "here")
    np.testing.assert_array_equal(found["data"], PIXELS)
    assert found["labels"] == [3, 9]
    assert found["filenames"] == ["image_0.png", "image_1.png"]


def test_security_instructions_are_counted():
    content = make.dictionary({"labels": make.listed([make.integer(1)] * MAX_INSTRUCTIONS)})
    with pytest.raises(InputError, match="more than 500,000 instructions"):
        read_pickled(content, "here")


def test_strings_taken_from_the_memo_are_read():
    content = b"\x80\x02}q\x01(U\x04dataq\x02]q\x03(h\x02h\x02eu."
    assert read_pickled(content, "here") == {"data": ["data", "data"]}


def outcome(content: bytes):
    """What the reader makes of bytes: a dictionary of known values, or one line; and never much memory."""
    tracemalloc.start()
    try:
        found = read_pickled(content, "here")
    except InputError as error:
        make.one_line(error)
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 32 * len(content) + 200_000
    for value in found.values():
        items = value if type(value) is list else [] if type(value) is np.ndarray else [value]
        assert {type(item) for item in items} <= {int, str}
    return found


HEAD = GOOD.index(b"cnumpy")  # what comes before the pixels holds the structure; most mutations shall hit that
STRUCTURE = [i for i in range(len(GOOD)) if not HEAD + 150 < i < len(GOOD) - 80]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(STRUCTURE), st.integers(0, 255)), min_size=1, max_size=6))
def test_security_fuzzed_bytes_raise_nothing_else(changes):
    content = bytearray(GOOD)
    for place, value in changes:
        content[place] = value
    outcome(bytes(content))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(STRUCTURE), st.sampled_from(STRUCTURE), st.binary(max_size=12))
def test_security_fuzzed_cuts_and_insertions_raise_nothing_else(start, end, inserted):
    outcome(GOOD[:start] + inserted + GOOD[end:])


GLOBALS = [b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n"]
ALLOWED = [b"K\x01", b"U\x01a", b"q\x01", b"h\x01", b"\x85", b"\x86", b"\x87", *GLOBALS]
ALLOWED += [bytes([instruction]) for instruction in b"(]}teasuNRb"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(ALLOWED), max_size=30))
def test_security_programs_of_allowed_instructions_raise_nothing_else(instructions):
    outcome(b"\x80\x02" + b"".join(instructions) + b".")


def test_every_cut_is_refused():
    for end in [*STRUCTURE[::3], len(GOOD) - 1]:
        assert outcome(GOOD[:end]) is None

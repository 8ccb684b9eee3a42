"""Rows that survive kills, and tell what was changed, taken out or put in."""

import json
import multiprocessing

import pytest

from residuum.errors import InputError
from residuum.records import rows

WRITTEN = [{"step": step, "loss": step / 3} for step in range(6)]


@pytest.fixture
def path(tmp_path):
    file = rows.Rows(tmp_path / "rows.jsonl")
    for row in WRITTEN:
        file.add(row)
    file.close()
    return file.path


def test_rows_cut_at_every_byte_lose_at_most_the_torn_row(path):
    """Guard 15."""
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        assert rows.read_rows(path) == WRITTEN[: content[:length].count(b"\n")]


def test_every_flipped_bit_is_told_and_takes_no_other_row_with_it(path):
    content = path.read_bytes()
    for bit in range(8 * (len(content) - 1)):  # without the last newline, the row before it is a torn one
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"rows.jsonl, line \d is damaged"):
            rows.read_rows(path)
        whole = [row for row in rows.each(path) if not isinstance(row, InputError)]
        assert len(whole) >= len(WRITTEN) - 2
        assert all(row in WRITTEN for row in whole)


def test_rows_taken_out_put_in_or_moved_are_told_by_their_numbers(path):
    lines = path.read_bytes().splitlines(keepends=True)
    others = [
        *(lines[:at] + lines[at + 1 :] for at in range(len(lines) - 1)),
        *([*lines[:at], lines[0], *lines[at:]] for at in range(1, len(lines))),
        *([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]] for at in range(len(lines) - 1)),
    ]
    for changed in others:
        path.write_bytes(b"".join(changed))
        assert "where" in rows.lacking(path, "step", range(len(changed)))


def test_rows_that_are_gone_from_the_end_are_told_by_how_many_there_should_be(path):
    content = path.read_bytes().splitlines(keepends=True)
    assert rows.lacking(path, "step", range(6)) == ""
    for there in range(6):
        path.write_bytes(b"".join(content[:there]))
        assert "lacks" in rows.lacking(path, "step", range(6))
        assert rows.lacking(path, "step", range(there)) == ""
    path.unlink()
    assert rows.lacking(path, "step", range(6)).endswith("lacks all rows up to step 5")


def test_rows_of_an_earlier_version_have_no_check_and_those_after_them_do(path):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in WRITTEN[:3]))
    assert not rows.are_checked(path)
    for row in WRITTEN[3:]:
        file = rows.Rows(path)
        file.add(row)
        file.close()
    assert rows.read_rows(path) == WRITTEN
    path.write_bytes(path.read_bytes().replace(b'"step": 3', b'"step": 7'))
    with pytest.raises(InputError, match="line 4 is damaged"):
        rows.read_rows(path)


@pytest.mark.parametrize("torn", ["{", '{"step": 6, "lo', '{"step": 6, "check": "0123'])
def test_a_torn_row_takes_no_other_with_it(path, torn):
    with path.open("a") as file:
        file.write(torn)
    assert rows.read_rows(path) == WRITTEN
    file = rows.Rows(path)
    file.add({"step": 7})
    file.close()
    *whole, damaged, last = rows.each(path)
    assert whole == WRITTEN
    assert "line 7 is damaged" in str(damaged)
    assert last == {"step": 7}


@pytest.mark.parametrize("text", ["{", "[]", "null", "3", '"x"', "[" * 50_000])
def test_what_is_no_row_is_named(path, text):
    path.write_text(f'{{"step": 0}}\n{text}\n{{"step": 2}}\n')
    with pytest.raises(InputError, match=r"rows.jsonl, line 2 is damaged") as error:
        rows.read_rows(path)
    assert "\n" not in str(error.value)


def test_rows_are_kept_up_to_a_place_and_none_from_a_damaged_one_on(path):
    for last in range(-1, 7):
        content = path.read_bytes()
        rows.keep(path, "step", last)
        assert rows.read_rows(path) == WRITTEN[: last + 1]
        path.write_bytes(content)
    path.write_bytes(path.read_bytes().replace(b'"step": 3', b'"step": 5'))
    rows.keep(path, "step", 5)
    assert rows.read_rows(path) == WRITTEN[:3]


def _add(path, who):
    file = rows.Rows(path)
    for number in range(50):
        file.add({"who": who, "number": number})
    file.close()


def test_several_processes_add_to_one_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add, args=(path, who)) for who in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = rows.read_rows(path)
    assert sorted((row["who"], row["number"]) for row in found) == [
        (who, number) for who in range(4) for number in range(50)
    ]

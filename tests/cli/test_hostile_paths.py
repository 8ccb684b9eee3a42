"""Texts that can be no path, in place of each that a command takes; `hostile_paths.py` beside this calls them on runs."""

import random
from pathlib import Path

import duckdb
import hostile_paths
import pytest

from residuum.data.formats import parquet

SLOW = ("study plan", "study run", "study search", "study power", "study show", "show augmentations", "show schedules",
        "train", "bench", "explain")  # fmt: skip


def test_a_text_that_can_be_no_path_ends_well_or_in_one_line(run):
    every = [words for words in hostile_paths.cases() if not " ".join(words).startswith(SLOW)]
    for words in random.Random(7).sample(every, 200):
        code, _, err = run(*words)
        assert hostile_paths.wrong(code, err) == "", words


@pytest.mark.parametrize("words", [("list", "runs", "--runs"), ("data", "check"), ("show", "run"), ("draw",)])
def test_a_name_that_no_file_can_have_is_a_mistake(run, words):
    code, out, err = run(*words, "é" * 200)
    assert (code, out, err.count("\n")) == (2, "", 1)
    code, out, err = run("draw", "x", "--out", "x" * 20_000)
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("name", ["t?.parquet", "t*.parquet", "t[1].parquet", "[a-z]1.parquet", "**.parquet"])
def test_a_pattern_in_a_path_is_the_name_of_one_file(tmp_path, name):
    for number, other in enumerate(("t1.parquet", "t2.parquet", name)):
        with duckdb.connect(":memory:") as connection:
            at = str(tmp_path / f"made-{number}")
            connection.execute(f"COPY (SELECT {number} AS label, 'x'::BLOB AS image) TO '{at}' (FORMAT parquet)")
        Path(at).rename(tmp_path / other)
    assert parquet.count_rows(tmp_path / name) == 1
    assert set(parquet.columns(tmp_path / name).types) == {"label", "image"}
    assert [label for _, label in parquet._rows(tmp_path / name, "image", "label")] == [2]

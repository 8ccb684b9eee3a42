"""Full and unreadable disks under every command; `disk_faults.py` beside this does as many cases as are asked for."""

import json
import os
import tempfile

import disk_faults
import pytest

from residuum.cli import build_parser, main
from residuum.report import style

LEFT_OUT = {"bench", "completion", "data fetch", "serve", "study search", "surface", "cluster up", "cluster status",
            "cluster down", "study list", "study power", "models search", "data stats", "show recipe",
            "show schedules"}  # fmt: skip
"""Commands that write nothing and read no runs, or that have tests of their own."""


@pytest.mark.long
def test_no_command_ends_in_a_traceback_or_leaves_half_a_file_on_a_bad_disk():
    assert disk_faults.tried(len(disk_faults.COMMANDS), 0) == []


def test_every_command_is_among_them_or_left_out_by_name():
    """A new command has to say how it fares on a disk that is full."""
    asked = [" ".join(words) for words in disk_faults.COMMANDS.values()]
    missing = {name for name in build_parser()[1] if not any(words.startswith(name) for words in asked)}
    assert missing - LEFT_OUT - {"study", "data", "show", "models", "cluster"} == set()


def test_a_finished_training_does_not_fail_for_a_picture(tmp_path, monkeypatch, capsys):
    """Its disk is full when the picture comes, and there is no folder for what is temporary."""

    def full(figure, path):
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr(style, "save", full)
    monkeypatch.setattr(tempfile, "tempdir", None)
    words = ["train", "quick", "--epochs", "1", "--runs", str(tmp_path), "--json",
             "--set", 'data.dataset={name = "synthetic", size = 8, train = 60, test = 20}']  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr()
    assert "note: no picture of the curves: [Errno 28] No space left on device" in said.err
    assert json.loads(said.out)["status"] == "finished"

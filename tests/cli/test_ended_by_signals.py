"""A signal at any moment from the entry on: one line and 128 + n; standard streams that are full or closed."""

import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from residuum.__main__ import SIGNALS

AT_A_CALL = """
import os, sys
number, call = int(sys.argv.pop(1)), int(sys.argv.pop(1))
left = call

def count(frame, event, arg):
    global left
    left -= event == "call"
    if left == 0:
        sys.setprofile(None)
        os.kill(os.getpid(), number)

from residuum import __main__ as entry
sys.setprofile(count)
sys.exit(entry.main())
"""
"""The program, which sends itself a signal at a call of a function, counted from the entry."""


def ended(number: int, call: int, words: list[str], **options) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", AT_A_CALL, str(number), str(call), *words], text=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, **options)  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_any_moment_from_the_entry_on_is_one_line_and_its_exit_code(tmp_path, number):
    """Calls are drawn evenly by magnitude: the first dozens are as likely as those of the command's own work."""
    rng = random.Random(number)
    handled = 100  # before those calls only Ctrl-C has a handler, Python's own
    for call in [3 if number == signal.SIGINT else handled, *(round(10 ** rng.uniform(2, 4.3)) for _ in range(4))]:
        code, said = ended(number, call, ["list", "settings", "--runs", str(tmp_path)])
        assert (code, said) == (128 + number, f"residuum: stopped by {signal.Signals(number).name}\n"), call


def test_a_signal_while_torch_is_imported_is_one_line(tmp_path):
    rng = random.Random(0)
    for call in (rng.randrange(150_000, 400_000) for _ in range(3)):
        number = rng.choice(SIGNALS)
        words = ["train", "quick", "--epochs", "1", "--runs", str(tmp_path / str(call))]
        code, said = ended(number, call, words, env=None)
        assert code == 128 + number
        assert said.count("\n") == 1
        assert said.startswith(f"residuum: stopped by {signal.Signals(number).name}")


def test_a_signal_that_is_ignored_stays_so():
    """As `nohup` has it."""
    code, said = ended(
        signal.SIGHUP, 50, ["list", "recipes"], preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    assert (code, said) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["list", "settings"], ["list", "recipes", "--json"], ["--help"], []])
def test_a_full_disk_under_standard_output_is_one_line_and_74(words):
    done = said("> /dev/full", words)
    assert (done.returncode, done.stdout) == (74, "")
    assert done.stderr == "residuum: cannot write standard output: No space left on device\n"


@pytest.mark.parametrize(("how", "code"), [("2> /dev/full", 2), (">&-", 2), ("<&-", 2), ("<&- >&- 2>&-", 2)])
def test_closed_streams_and_a_full_standard_error_change_no_exit_code(how, code):
    done = said(how, ["list", "recipez"])
    assert done.returncode == code
    assert re.sub(r"residuum: unknown kind 'recipez'; did you mean 'recipes'\?\n", "", done.stderr) == ""


def test_a_run_with_closed_streams_writes_nothing_but_its_rows_into_its_files(tmp_path):
    """The first file that is opened would take the place of standard output, and what is printed go there."""
    done = said("<&- >&- 2>&-", ["train", "quick", "--epochs", "1", "--runs", str(tmp_path)])
    assert done.returncode == 0
    (steps,) = tmp_path.glob("*/steps.jsonl")
    assert {line[:1] for line in steps.read_text().splitlines()} == {"{"}
    (lock,) = tmp_path.glob("*/lock")
    assert "Epoch" not in lock.read_text()


def test_a_training_whose_output_lies_on_a_full_disk_stops_in_one_line(tmp_path):
    """The lines are Rich's, which writes them in ways of its own."""
    done = said("> /dev/full", ["train", "quick", "--epochs", "1", "--runs", str(tmp_path)])
    assert (done.returncode, done.stderr.count("\n")) == (74, 1)


def said(how: str, words: list[str]) -> "subprocess.CompletedProcess[str]":
    """What the program says where a shell has done this to its streams."""
    call = f'exec "$@" {how}'
    return subprocess.run(["sh", "-c", call, "sh", sys.executable, "-m", "residuum", *words],
                          capture_output=True, text=True, check=False)  # fmt: skip

"""Errors speak Python where Python raises them, and the command line's words where it prints them."""

import ast
import pickle
import re
from pathlib import Path
from typing import get_args

import pytest

import residuum
from residuum.cli import hints, main
from residuum.errors import IN_PYTHON, InputError, Remedy, RemedyKind, unknown

SOURCE = Path(residuum.__file__).parent
OPTION = re.compile(r"(?<!\w)--[a-z]|`residuum ")


def test_every_remedy_has_words_for_python_and_for_the_command_line():
    assert {*IN_PYTHON} == {*hints.COMMANDS} == {*get_args(RemedyKind)}
    assert not [words for words in IN_PYTHON.values() if OPTION.search(words)]
    for kind in IN_PYTHON:  # what a remedy is about is said by both or by none
        assert IN_PYTHON[kind].count("{}") == hints.COMMANDS[kind].count("{}")


def test_one_error_in_both_words():
    error = InputError("4 is even", argument="max_points", remedies=[Remedy("anew with", "a.b=1"), Remedy("last")])
    assert str(error) == "max_points: 4 is even; train it with a.b=1 and fresh=True; which='last' takes the last one"
    assert hints.said(error) == (
        "--max-points: 4 is even; train it with --set a.b=1 --fresh; --which last takes the last one"
    )
    again = pickle.loads(pickle.dumps(error))  # as a worker process hands it on
    assert (str(again), hints.said(again)) == (str(error), hints.said(error))
    near = unknown("class", "catt", ["cat"], argument="target")
    assert (str(near), hints.said(near)) == (
        "target: unknown class 'catt'; did you mean 'cat'?", "--target: unknown class 'catt'; did you mean 'cat'?",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "run", "zzz"], "no run 'zzz': runs holds no runs; train one; name another folder with --runs"),
        (["show", "run", ""], "an empty name names no run; `residuum list runs` shows the runs that there are"),
        (["study", "report", "nothing"], "study 'nothing' was not run in runs; run it first (`residuum study run`)"),
        (["models", "search"], "a limit is needed; give --max-params, --max-macs or --max-memory"),
        (["study", "plan", "quickstart", "--scale", "2"], "--scale: 2 is not a share above 0 and up to 1"),
        (["study", "plan", "quickstart", "--set", "train.seed=1"],
         "train.seed: all arms of a study have the same seeds; --seeds gives them"),
        (["train", "quick", "--model", "wrn"],
         "unknown model 'wrn'; write a name, as model=resnet20, or a setting, as model.depth=56; "
         "`residuum list models` shows them"),
    ],
)  # fmt: skip
def test_the_command_line_names_its_options(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_no_error_below_the_command_line_speaks_of_options():
    """An argument and what would help are data, which the command line says in its own words."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.is_relative_to(SOURCE / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "InputError",
                "StudyError",
                "unknown",
                "Note",
            ):
                texts = [
                    one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
                ]
                found += [(path.name, text) for text in texts if OPTION.search(text)]
    assert found == []

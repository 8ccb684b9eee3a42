"""Completion at a tab: what may follow, in three shells, from names of this moment, without torch."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from residuum.cli import build_parser
from residuum.cli.completion import SCRIPTS, candidates
from residuum.conduct.launchers import LAUNCHERS
from residuum.config import RunConfig
from residuum.networks.names import network_names
from residuum.records import run_folder
from residuum.run.trackers import TRACKERS
from residuum.studies import parsing

STUDY = """
question = "?"
base = "quick"
seeds = 1
[[arms]]
name = "a, b"
[[arms]]
name = "with space"
set = {"optim.lr" = 0.5}
[compare]
baseline = "a, b"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a study's file, two runs, and one run elsewhere."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(STUDY)
    for runs, name in (("runs", "resnet20-digits-seed0-abc"), ("runs", "plain20-digits-seed1-def"), ("my", "other-0")):
        (Path(runs) / name).mkdir(parents=True)
        (Path(runs) / name / run_folder.CONFIG).write_text(json.dumps(RunConfig().model_dump(mode="json")))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["tr"], ["train"]),
        (["study", "pl"], ["plan"]),
        (["nothing", ""], []),
        (["train", "qu"], ["quick"]),
        (["train", "quick", "--mod"], ["--model"]),
        (["train", "quick", "--model", "resnet5"], ["resnet56", "resnet50", "resnet50-imagenet"]),
        (["train", "quick", "--fresh", "--set", "optim.l"], ["optim.lr=", "optim.loss="]),
        (["train", "quick", "--epochs", ""], []),
        (["study", "plan", "min"], ["mine.toml"]),
        (["study", "plan", "mine.toml", "--arms", ""], ["a, b", "with space"]),
        (["study", "plan", "mine.toml", "--seeds", "2", "--arms", "a, b,w"], ["a, b,with space"]),
        (["study", "run", "mine.toml", "--topic", ""], ["lr"]),
        (["study", "run", "none.toml", "--arms", ""], []),
        (["evaluate", "re"], ["resnet20-digits-seed0-abc"]),
        (["show", "run", "--runs", "my", ""], ["other-0"]),
        (["show", "run", "--runs=my", ""], ["other-0"]),
        (["draw", "resnet20-digits-seed0-abc", "--out", "x", "pl"], ["plain20-digits-seed1-def"]),
        (["list", "stu"], ["studies"]),
        (["list", "runs", "--status", "fi"], ["finished"]),
        (["explain", "resnet", "--beside", "pla"], ["plain20-digits-seed1-def"]),
        (["evaluate", "x", "--which", ""], ["last", "selected"]),
        (["data", "fetch", "ci"], ["cifar10", "cifar100"]),
    ],
)
def test_what_may_follow(place, words, found):
    assert candidates(words) == found


def test_what_is_offered_is_what_there_is(place):
    assert candidates(["study", "plan", ""]) == [*parsing.names(), "mine.toml"]
    assert candidates(["train", "quick", "--model", ""]) == network_names()
    assert {*candidates(["train", "quick", "--to", ""])} == {*TRACKERS}
    assert {*candidates(["study", "run", "quickstart", "--on", ""])} == {*LAUNCHERS}
    assert candidates(["train", "quick", "--device", ""]) == ["auto", "cpu", "cuda", "mps"]


def test_any_line_is_answered_with_words_that_begin_as_its_last(place):
    """Whatever was typed, sense or not: no error, and nothing that would replace what stands there."""
    draw = random.Random(7)
    parser, commands = build_parser()
    words = [
        "study",
        "train",
        "run",
        "list",
        "--runs",
        "my",
        "mine.toml",
        "--arms",
        "--set",
        "optim.lr=1",
        ",",
        "--",
        "-",
        "--x=1",
    ]
    words += [word for name in commands for word in name.split()] + [*parser._option_string_actions, "", "résumé"]
    for _ in range(300):
        line = draw.choices(words, k=draw.randint(1, 6))
        line[-1] = line[-1][: draw.randint(0, len(line[-1]))]
        assert all(one.startswith(line[-1]) for one in candidates(line))


def test_a_tab_never_waits_for_torch(place):
    code = "import sys; from residuum.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    for words in (
        ["study", "plan", "degradation", "--arms", ""],
        ["evaluate", ""],
        ["list", ""],
        ["train", "--data", ""],
    ):
        done = subprocess.run([sys.executable, "-c", code, "completion", "fish", "--words", *words], check=False,
                              capture_output=True, text=True)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("\n") > 1


BASH = r"""
source <(residuum completion bash)
COMP_WORDS=(residuum study plan mine.toml --arms ""); COMP_CWORD=5; _residuum; printf '%s\n' "${COMPREPLY[@]}"
COMP_WORDS=(residuum train q); COMP_CWORD=2; _residuum; printf '%s\n' "${COMPREPLY[@]}"
"""
FISH = r"""
residuum completion fish | source
complete -C "residuum study plan mine.toml --arms "
complete -C "residuum train q"
"""


@pytest.mark.parametrize(("shell", "script", "said"), [
    ("bash", BASH, ["a,\\ b", "with\\ space", "quick"]),
    ("fish", FISH, ["a, b", "with space", "quick"]),
    ("zsh", "source <(residuum completion zsh) 2>/dev/null; functions _residuum | head -1", ["_residuum () {"]),
])  # fmt: skip
def test_shells_offer_it(place, shell, script, said):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True, check=False,
                          env=os.environ | {"PATH": path, "HOME": str(place)})  # fmt: skip
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == said


def test_every_shell_has_its_script(run):
    for shell, script in SCRIPTS.items():
        assert run("completion", shell) == (0, script, "")
    assert "did you mean 'bash'?" in run("completion", "bsh")[2]

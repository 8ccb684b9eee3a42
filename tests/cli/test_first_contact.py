"""What somebody meets who has just installed it: no arguments, settings called by their last names, names of studies."""

import json
import random
import subprocess
import sys

import pytest

from residuum.cli import build_parser, hints
from residuum.config import RunConfig, described_settings
from residuum.studies import parsing

PATHS = [path for path, _, _ in described_settings(RunConfig)] + sorted({*hints._of_choices()})


def test_without_arguments_three_commands_are_shown_and_each_is_one(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    commands = [line.strip().split("  ")[0] for line in out.splitlines() if line.startswith("  residuum ")]
    assert len(commands) == 3
    parser, _ = build_parser()
    for command in commands:
        assert callable(parser.parse_args(command.split()[1:]).run)


def test_python_m_residuum_is_the_command(tmp_path):
    said = subprocess.run([sys.executable, "-m", "residuum"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout == hints.FIRST


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "quick", "--optimizer", "adam"], "unknown option '--optimizer'; use --set optim.optimizer=adam"),
        (["train", "--optimizer", "adam", "quick"], "use --set optim.optimizer=adam"),
        (["train", "quick", "--normalize=minmax"], "unknown option '--normalize'; use --set data.normalize=minmax"),
        (["train", "quick", "--momentum", "0.9"], "use --set optim.optimizer.momentum=0.9"),
        (["study", "plan", "quickstart", "--epochs", "3"], "use --set train.epochs=3"),
        (["show", "model", "resnet20", "--activation"], "use --set model.activation=VALUE"),
        (["train", "quick", "optim.lr=3"], "unexpected 'optim.lr=3'; use --set optim.lr=3"),
        (
            ["train", "quick", "--optimiser", "adam"],
            "unknown option '--optimiser'; did you mean '--set optim.optimizer='?",
        ),
        (["train", "quick", "--epoch", "3"], "unknown option '--epoch'; did you mean '--epochs'?"),
        (["train", "quick", "--set", "optimizer=adam"], "unknown setting 'optimizer'; use --set optim.optimizer=adam"),
        (["train", "quick", "--set", "zeros=around"], "use --set model.shortcut.zeros=around"),
        (["train", "quick", "--scheduler", "cosine"], "unknown option '--scheduler'; use --set optim.schedule=cosine"),
        (["train", "quick", "--wd=1e-4"], "unknown option '--wd'; use --set optim.weight_decay=1e-4"),
        (["train", "quick", "--num_workers", "4"], "unknown option '--num_workers'; use --set compute.threads=4"),
        (["train", "quick", "--augment", "flip"], "use --set data.augment=horizontal_flip"),
        (["train", "quick", "--loss", "ce"], "use --set optim.loss=cross_entropy"),
        (["train", "quick", "--bs", "32"], "unknown option '--bs'; use --batch-size 32"),
        (["train", "quick", "--gpu"], "unknown option '--gpu'; use --device cuda"),
        (["train", "quick", "--compile"], "unknown option '--compile'; use --set compute.compile=true"),
        (["train", "quick", "--nesterov"], "use --set optim.optimizer.nesterov=true"),
        (["train", "quick", "--dropout", "0.1"], "unknown option '--dropout'; no built-in network has dropout"),
        (["train", "quick", "--seeds", "3"], "several seeds are a study: `residuum study run NAME --seeds 3`"),
        (["study", "plan", "quickstart", "--wd", "0"], "use --set optim.weight_decay=0"),
        (["train", "quick", "--epochs"], "--epochs needs a value, as --epochs 10; `residuum train --help`"),
        (["train", "quick", "--batch-size", "big"], "argument --batch-size: 'big' is no whole number;"),
        (["train", "quick", "--lr", "fast"], "argument --lr: 'fast' is no number;"),
        (["train", "quick", "foo"], "unexpected 'foo'; `residuum train --help` shows what there is"),
        (["list", "studie"], "unknown kind 'studie'; did you mean 'studies'?"),
    ],
)
def test_a_setting_called_by_its_last_name_is_answered_with_the_whole(run, words, said):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_every_setting_is_found_by_its_last_name_in_any_spelling():
    draw = random.Random(3)
    options = build_parser()[1]["train"].known_options()
    for path in PATHS:
        last, value = path.rpartition(".")[2], str(draw.randint(0, 99))
        name = draw.choice((last, last.replace("_", "-")))
        word, after = draw.choice(((f"--{name}={value}", None), (f"--{name}", value)))
        said = hints.unexpected(word, after, options)
        alike = [other for other in PATHS if other.rpartition(".")[2] == last]
        assert any(f"--set {other}={value}" in said for other in alike), said
        if alike == [path]:
            assert said == f"unknown option '--{name}'; use --set {path}={value}"


def test_what_other_programs_call_it_is_what_it_is_here():
    """A word means one thing, none is the name of a setting here, and what it means are options and settings."""
    words = [word for table in (hints.ELSEWHERE, hints.BESIDE) for words in table.values() for word in words]
    assert len(words) == len({*words})
    assert not {*words} & {path.rpartition(".")[2].replace("_", "-") for path in PATHS}
    options = build_parser()[1]["train"].known_options()
    for meant in hints.ELSEWHERE:
        option, _, setting = meant.partition(" ")
        assert option in options
        assert option != "--set" or hints.settings_called(setting.partition("=")[0]) == [setting.partition("=")[0]]


def test_list_studies_is_study_list(run):
    listed = json.loads(run("list", "studies", "--json")[1])
    assert [one["study"] for one in listed] == parsing.names()
    assert listed == json.loads(run("study", "list", "--json")[1])
    assert {"kind": "studies"} in json.loads(run("list", "--json")[1])

"""Own code: a class from a file is a network, and all else that has a table; kept with the run, and run by name only."""

import json
import os
import random
import shutil
from pathlib import Path
from textwrap import dedent

import pytest
import torch

import residuum
from residuum import own
from residuum.config import RunConfig
from residuum.errors import InputError
from residuum.models import MODELS
from residuum.records import storage
from residuum.records.record import read_config
from residuum.training import run as events_of

NET = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, in_channels: int, num_classes: int, width: int = 4, drop: float = 0.1):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, width, 3, padding=1)
            self.drop = nn.Dropout(drop)
            self.head = nn.Linear(width, num_classes)

        def forward(self, images):
            return self.head(self.drop(self.conv(images).relu().mean((2, 3))))
"""
QUICK = ("train", "quick", "--epochs", "1", "--set", "data.subset=120")


def written(text, name="mine.py"):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(dedent(text))


def only_run():
    (folder,) = Path("runs").glob("*-seed0-*")
    return folder


def test_a_class_from_a_file_is_trained_kept_and_used_again(run):
    written(NET)
    code, out, err = run(*QUICK, "--model", "mine.py:Net", "--set", "model.width=3")
    assert code == 0, err
    assert "runs own code: mine.py:Net" in out
    config, _ = read_config(folder := only_run())
    assert folder.name.startswith("Net-digits-seed0-")
    assert config.model.settings == {"width": 3, "drop": 0.1}
    (kept,) = (folder / "code").iterdir()
    assert kept.read_text() == Path("mine.py").read_text()
    Path("mine.py").unlink()  # what the run needs is in its folder
    code, out, err = run("evaluate", folder)
    assert code == 0
    assert "runs own code: mine.py:Net" in err
    code, _, err = run("resume", folder)
    assert code == 0, err


def test_its_text_is_part_of_the_runs_id_and_its_place_is_not(run):
    written(NET)
    written(NET, "elsewhere/mine.py")
    written(NET.replace(".relu()", ".tanh()"), "other/mine.py")
    ids = [json.loads(run(*QUICK, "--model", f"{place}mine.py:Net", "--json")[1])["run"]
           for place in ("", "elsewhere/", "other/")]  # fmt: skip
    assert ids[0] == ids[1] != ids[2]


def test_a_text_that_was_changed_in_the_folder_is_not_run(run):
    written(NET)
    assert run(*QUICK, "--model", "mine.py:Net")[0] == 0
    (kept,) = (only_run() / "code").iterdir()
    kept.write_text(kept.read_text() + "open('ran', 'w')\n")
    for command in ("evaluate", "resume", "explain"):
        for words in ([], ["--trust"]):
            code, _, err = run(command, only_run(), *words)
            assert code == 2
            assert "was changed" in err
    assert not Path("ran").exists()


def test_a_folder_of_somebody_else_is_trusted_once_and_only_what_computes_runs_it(run, monkeypatch):
    written(NET + "\n    open('ran', 'a').write('x')\n")
    assert run(*QUICK, "--model", "mine.py:Net")[0] == 0
    Path("ran").unlink()
    monkeypatch.setattr(own, "_SOURCES", {})
    monkeypatch.setattr(own, "_MODULES", {})
    monkeypatch.setenv("RESIDUUM_CACHE", str(Path("another-user").absolute()))
    for command in (["list", "runs"], ["show", "run", only_run()], ["draw", only_run()]):
        assert run(*command)[0] == 0
    for command in (["evaluate", only_run()], ["resume", only_run()], ["explain", only_run()]):
        code, _, err = run(*command)
        assert code == 2
        assert "code that is not known here, mine.py:Net" in err
        assert "--trust" in err
    assert not Path("ran").exists()
    code, _, err = run("evaluate", only_run(), "--trust")
    assert code == 0
    assert "trusted from now on" in err
    assert Path("ran").exists()
    assert run("evaluate", only_run())[0] == 0


@pytest.mark.parametrize(("text", "name", "said"), [
    (NET, "absent.py:Net", "there is no file absent.py; there is mine.py"),
    (NET, "mine.py:Nett", "did you mean 'Net'?"),
    (NET, "mine.py:nn", "neither a class nor a function"),
    (NET, "no.such.module:Net", "no module 'no.such.module'"),
    ("x = 1 +", "mine.py:Net", "SyntaxError"),
    ("import nowhere_to_be_found\nNet = 1", "mine.py:Net", "has to lie beside it, or to be installed"),
    ("raise SystemExit(3)", "mine.py:Net", "mine.py:1: SystemExit: 3"),
    ("def Net(in_channels):\n    return 3", "mine.py:Net", "makes a int; a network is a torch.nn.Module"),
    ("def Net(mystery):\n    return 3", "mine.py:Net", "'mystery' has no type hint"),
    ("def Net():\n    raise ValueError('no, not\\nso')", "mine.py:Net", "mine.py:2 in Net: ValueError: no, not"),
    ("import torch\nNet = torch.nn.Flatten", "mine.py:Net", "logits are [images, classes], [2, 10] here"),
    ("import torch\nNet = lambda: torch.nn.LSTM(8, 4)", "mine.py:Net", "model: mine.py:Net on images of 1×8×8"),
    ("import residuum\nresiduum.train('quick', {'model': 'mine.py:Net'})", "mine.py:Net", "__main__"),
])  # fmt: skip
def test_a_mistake_in_it_is_one_line(run, text, name, said):
    written(text)
    code, _, err = run("train", "quick", "--model", name)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(("name", "said"), [
    ("mine.py", "a class or function of mine.py is named as mine.py:Net; it has Net, build"),
    ("mine.py:", "a class or function of mine.py is named as mine.py:Net"),
    ("mine.Net", "did you mean 'mine:Net'?"),
    ("mine.Nett", "did you mean 'mine:Net'?"),
    ("mine.py.Net", "did you mean 'mine.py:Net'?"),
    ("mine.py::Net", "did you mean 'mine.py:Net'?"),
    ("mine.py:Nett", "did you mean 'Net'?"),
    ("nine.py", "there is no file nine.py; there is mine.py"),
])  # fmt: skip
def test_a_name_that_nearly_means_own_code_is_answered_with_the_right_one(run, name, said):
    written(f"{NET}\n    def build():\n        open('ran', 'w')\n    def _hidden():\n        pass\n")
    wanted = ["--model", f"--set=model.name={name}"]
    if ":N" not in name and "::" not in name:
        wanted += [f"--set=optim.loss={name}", f"--set=data.augment={name}", f"--data={name}"]
    for words in wanted:
        code, _, err = run("train", "quick", words, *([name] if words == "--model" else []))
        assert code == 2
        assert said in err, (words, err)
        assert len(err.splitlines()) == 1


def test_the_name_of_a_choice_is_the_choice(run, tmp_path):
    written(NET)
    for name in (f"{tmp_path}/mine.py:Net", "plain20", "cifar_resnet"):
        assert small(**{"model.name": name, "model.width": 3} if "Net" in name else {"model.name": name}) == (
            small(model={"name": name, "width": 3} if "Net" in name else name)
        )
    wide = RunConfig().changed({"model": {"name": "plain20", "wide": 2.0}})
    assert wide == RunConfig().changed({"model": "plain20", "model.wide": 2.0})
    adam = RunConfig().changed({"optim.optimizer.name": "adam"})
    assert adam == RunConfig().changed({"optim.optimizer": "adam"})


@pytest.mark.parametrize("given", [lambda: Tiny, lambda: Tiny(10), lambda: {"model": Tiny}])
def test_a_network_in_place_of_a_recipe_is_answered_with_where_it_belongs(given):
    with pytest.raises(InputError, match=r"recipe: \w+ is no recipe; a network is a setting"):
        residuum.train(given())


def test_a_notebook_class_that_misses_its_other_cells_says_so():
    digest = own.admit("def act(x):\n    return helper(x)\n")
    with (
        pytest.raises(
            InputError, match=r"notebook.py:2 in act \(return helper\(x\)\): NameError: .*kept with what it names"
        ),
        own.blaming(),
    ):
        own.load("notebook.py:act", digest)(1)


def test_a_network_is_shown_on_the_images_of_a_data_set(run):
    written(NET.replace("width, num_classes)", "width, num_classes)\n            self.of = nn.Linear(64, 64)")
               .replace("self.conv(images)", "self.conv(self.of(images.flatten(2)).view_as(images))"))  # fmt: skip
    code, _, err = run("show", "model", "mine.py:Net")
    assert code == 2
    assert "on images of 3×32×32 fails: mine.py:" in err
    assert "--data or --input" in err
    code, out, _ = run("show", "model", "mine.py:Net", "--data", "digits")
    assert code == 0
    assert "on images of 1×8×8, 10 classes" in out


TYPES = {
    "int": (lambda draw: draw.randint(-5, 5), "1.5"),
    "float": (lambda draw: draw.randint(-8, 8) / 4, '"x"'),
    "bool": (lambda draw: draw.random() < 0.5, "1"),
    "str": (lambda draw: draw.choice("abc"), "1"),
    "tuple[int, ...]": (lambda draw: tuple(draw.randint(0, 9) for _ in range(draw.randint(0, 3))), "[1.5]"),
    "Literal['a', 'b']": (lambda draw: draw.choice("ab"), '"c"'),
}


@pytest.mark.parametrize("seed", range(8))
def test_arguments_with_type_hints_are_checked_settings(tmp_path, seed):
    draw = random.Random(seed)
    arguments = {f"a{number}": draw.choice([*TYPES]) for number in range(draw.randint(1, 5))}
    defaults = {name: TYPES[kind][0](draw) for name, kind in arguments.items()}
    given = ["in_channels", "classes: int"]
    listed = [f"{name}: {kind} = {defaults[name]!r}" for name, kind in arguments.items()]
    at = draw.randint(0, len(listed))
    listed[at:at] = ["*"] if at < len(listed) else []
    (tmp_path / "mine.py").write_text(
        "from typing import Literal\nfrom torch import nn\n"
        f"def net({', '.join(given + listed)}):\n    return nn.Linear(1, 1)\n"
    )
    resolved = MODELS.resolve(f"{tmp_path}/mine.py:net")
    assert resolved.settings == defaults
    assert resolved.name == "mine.py:net"
    name, kind = draw.choice([*arguments.items()])
    value = TYPES[kind][0](draw)
    assert MODELS.resolve({"name": f"{tmp_path}/mine.py:net", name: value}).settings == {**defaults, name: value}
    wrong = json.loads(TYPES[kind][1])
    with pytest.raises(InputError, match=f"model.{name}"):
        MODELS.resolve({"name": f"{tmp_path}/mine.py:net", name: wrong})


def small(**settings):
    return RunConfig().changed({"data.dataset": "digits", "data.subset": 100, "train.epochs": 2,
                                "train.batch_size": 40, **settings})  # fmt: skip


def test_what_it_draws_depends_on_nothing_before(tmp_path):
    (tmp_path / "mine.py").write_text(dedent(NET))
    config = small(**{"model": {"name": f"{tmp_path}/mine.py:Net", "drop": 0.5}, "save.steps": 1})
    whole = residuum.train(config, runs=tmp_path / "whole")
    stopped = events_of(config, tmp_path / "stopped")
    for number, _ in enumerate(stopped):
        if number == 5:
            break
    stopped.close()
    torch.rand(7)
    again = residuum.train(config, runs=tmp_path / "stopped")
    assert [row["loss"] for row in again.steps()] == [row["loss"] for row in whole.steps()]
    assert again.id == whole.id
    state = torch.random.get_rng_state()
    residuum.train(config, runs=tmp_path / "third")
    assert torch.equal(state, torch.random.get_rng_state())


class Tiny(torch.nn.Module):
    """A network as an object, whose file is this one; its lazy layer takes its shape from the first images."""

    def __init__(self, num_classes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.head, self.scale = torch.nn.LazyLinear(num_classes), scale

    def forward(self, images):
        return self.scale * self.head(images.flatten(1))


def test_an_object_is_as_good_as_its_name(tmp_path):
    by_object = residuum.train(small(model=Tiny), runs=tmp_path)
    assert by_object.config.model.name == f"{Path(__file__).name}:Tiny"
    by_name = residuum.train(small(model=f"{__file__}:Tiny"), runs=tmp_path)
    assert by_name.id == by_object.id
    (kept,) = (by_object.folder / "code").iterdir()
    assert kept.read_bytes() == Path(__file__).read_bytes()


def test_what_is_not_own_code_has_the_id_it_had(tmp_path):
    plain = RunConfig().changed({"model": "resnet20"}).model_dump_json()
    assert "code" not in plain
    assert not own.codes(json.loads(plain))


@pytest.mark.parametrize("place", ["model", "block", "activation", "augment", "loss"])
def test_a_run_folder_cannot_name_a_file_of_the_machine(run, place):
    """Naming a file trusts it, so only the user may: a folder says which text it means by its hash."""
    assert run(*QUICK, "--set", "model.depth=8")[0] == 0
    written("open('ran', 'w')", "evil.py")
    path = only_run() / "config.json"
    values = storage.read_json(path)
    if place == "model":
        values["model"] = {"name": "evil.py:Net"}
    elif place in ("block", "activation"):
        values["model"][place] = "evil.py:Net"
    elif place == "augment":
        values["data"]["augment"] = ["evil.py:Net"]
    else:
        values["optim"]["loss"] = {"name": "evil.py:Net", "code": "none"}
    storage.write_json(path, values)
    for command in (["evaluate", only_run()], ["resume", only_run()], ["evaluate", only_run(), "--trust"],
                    ["train", "quick", "--from", only_run()], ["explain", only_run()]):  # fmt: skip
        code, _, err = run(*command)
        assert code == 2
        assert "names own code without its hash: evil.py:Net" in err
    assert not Path("ran").exists()


@pytest.mark.parametrize("digest", ["../../../etc/passwd", "", "0" * 64])
def test_a_configuration_that_names_a_text_which_is_not_here_runs_nothing(run, digest):
    written(NET)
    assert run(*QUICK, "--model", "mine.py:Net")[0] == 0
    path = only_run() / "config.json"
    values = storage.read_json(path)
    values["model"]["code"] = digest
    storage.write_json(path, values)
    for command in (["evaluate", only_run()], ["evaluate", only_run(), "--trust"]):
        code, _, err = run(*command)
        assert code == 2
        assert "mine.py:Net" in err
    assert len(list((Path(os.environ["RESIDUUM_CACHE"]) / "code").glob("0" * 64 + "*"))) == 0


@pytest.mark.parametrize(
    "forward",
    [
        "return self.linear(x.flatten(1) + torch.linspace(0, 1, 64))",
        "return self.linear((x / 2 if x.abs().max() > 100 else x).flatten(1))",
        "return self.linear(torch.from_numpy(x.flatten(1).numpy()))",
    ],
)
def test_a_network_that_needs_values_and_not_shapes_alone_is_trained_to_its_end_and_planned(run, forward):
    written(f"""
        import torch

        class Net(torch.nn.Module):
            def __init__(self, in_channels, num_classes):
                super().__init__()
                self.linear = torch.nn.Linear(64 * in_channels, num_classes)

            def forward(self, x):
                {forward}
    """)
    assert run(*QUICK, "--model", "mine.py:Net")[0] == 0
    result = storage.read_json(only_run() / "result.json")
    assert (result["status"], result["parameters"], result["macs"]) == ("finished", 650, 640)
    Path("own.toml").write_text(
        'name = "own"\nquestion = "Does it?"\nbase = "quick"\nseeds = [0, 1]\n\n[axes]\nmodel = ["mine.py:Net", "resnet20"]\n'
    )
    code, out, _ = run("study", "plan", "own.toml")
    assert code == 0
    assert "Net" in out


def test_the_cache_holds_each_text_once(run):
    written(NET)
    shutil.rmtree(os.environ["RESIDUUM_CACHE"], ignore_errors=True)
    assert run(*QUICK, "--model", "mine.py:Net")[0] == 0
    (known,) = (Path(os.environ["RESIDUUM_CACHE"]) / "code").iterdir()
    assert known.read_text() == Path("mine.py").read_text()

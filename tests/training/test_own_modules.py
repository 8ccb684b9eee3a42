"""What own code imports: modules beside it go along with it, however the program is started; libraries stay as they are."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch import nn

import residuum
from residuum import own
from residuum.cli.hints import able, said
from residuum.config import RunConfig
from residuum.errors import InputError, Remedy
from residuum.models import MODELS
from residuum.models.activations import ACTIVATIONS
from residuum.optim import LOSSES, OPTIMIZERS
from residuum.records import integrity
from residuum.records.record import read_config
from residuum.run import weights
from residuum.schedules import SCHEDULES

QUICK = ("train", "quick", "--epochs", "1", "--set", "data.subset=100")
MINE = """
    from torch import nn
    from blocks_{0} import Mid

    class Net(nn.Module):
        def __init__(self, in_channels: int, num_classes: int, width: int = 2):
            super().__init__()
            self.mid = Mid(in_channels, width)
            self.head = nn.Linear(width, num_classes)

        def forward(self, images):
            from layers_{0} import scale  # only when it is run
            return self.head(scale.scaled(self.mid(images).mean((2, 3))))
"""
BLOCKS = """
    from torch import nn
    import layers_{0}.scale as scale
    from layers_{0} import FACTOR

    class Mid(nn.Conv2d):
        def __init__(self, into, out):
            super().__init__(into, out, 3)
            assert scale.FACTOR == FACTOR
"""
SCALE = """
    from . import FACTOR

    def scaled(x):
        return x * FACTOR
"""


def written(name, text):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(dedent(text))


def tree(tag, folder="own"):
    """A network in a file that imports a file beside it, and that a package."""
    written(f"{folder}/mine.py", MINE.format(tag))
    written(f"{folder}/blocks_{tag}.py", BLOCKS.format(tag))
    written(f"{folder}/layers_{tag}/__init__.py", "FACTOR = 2\n")
    written(f"{folder}/layers_{tag}/scale.py", SCALE)


def resolved(reference):
    return MODELS.resolve(own.named(reference))


def built(choice):
    return MODELS.build(choice, 1, 3)


def test_modules_beside_it_are_kept_hashed_and_loaded_from_the_run(run):
    tree("kept")
    code, out, err = run(*QUICK, "--model", "own/mine.py:Net")
    assert code == 0, err
    assert "with blocks_kept.py, layers_kept/__init__.py, layers_kept/scale.py beside it" in out
    (folder,) = Path("runs").glob("Net-*")
    assert sorted(one.name[:-16] for one in (folder / "code").iterdir()) == [
        "blocks_kept", "layers_kept___init__", "layers_kept_scale", "mine"]  # fmt: skip
    for path in sorted(Path("own").rglob("*.py")):
        path.unlink()
    own._SOURCES.clear()  # as another process has it
    own._MODULES.clear()
    code, out, err = run("evaluate", folder)
    assert code == 0, err
    kept = next((folder / "code").glob("blocks_kept-*"))
    kept.write_text(kept.read_text() + "\n# changed\n")
    code, _, err = run("evaluate", folder)
    assert code == 2
    assert f"{kept} was changed" in err or f"{kept.name} was changed" in err
    assert any("blocks_kept" in one for one in integrity.damage(folder))


def test_a_changed_line_beside_it_is_another_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree("changed")
    first = RunConfig().changed({"model": "own/mine.py:Net"}).model
    again = RunConfig().changed({"model": "own/mine.py:Net"}).model
    assert first == again
    network = built(first)
    written("own/layers_changed/__init__.py", "FACTOR = 5\n")
    second = RunConfig().changed({"model": "own/mine.py:Net"}).model
    assert second.code != first.code
    images, other = torch.ones(2, 1, 8, 8), built(second)  # both are here at once, each with its own modules
    other.load_state_dict(network.state_dict())
    bias = network.head.bias
    assert torch.allclose((network(images) - bias) * 5, (other(images) - bias) * 2)
    assert "layers_changed" not in sys.modules


def test_a_folder_of_somebody_else_is_trusted_with_its_modules(run, monkeypatch, tmp_path):
    tree("trusted")
    assert run(*QUICK, "--model", "own/mine.py:Net")[0] == 0
    (folder,) = Path("runs").glob("Net-*")
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path / "other"))
    for path in sorted(Path("own").rglob("*.py")):
        path.unlink()
    own._SOURCES.clear()
    own._MODULES.clear()
    for words in (["evaluate", folder], ["resume", folder], ["predict", folder, "none.png"], ["explain", folder],
                  ["export", folder, "--format", "python"], [*QUICK, "--from", folder]):  # fmt: skip
        code, _, err = run(*words)
        assert (code, err.strip().endswith("--trust lets it run from then on")) == (2, True), err
    assert "--data" not in run("classes", folder)[2]
    code, _, err = run(*QUICK, "--from", folder, "--trust")
    assert code == 0
    assert err.count("trusted from now on") == 4


def test_a_command_without_the_option_names_one_that_has_it():
    error = InputError("not known", remedies=[Remedy("trust"), Remedy("last")])
    able(error, ["--runs"])
    assert said(error).startswith("not known; `residuum evaluate RUN --trust` lets it run from then on; --which last")
    error = InputError("not known", remedies=[Remedy("trust")])
    able(error, ["--runs", "--trust"])
    assert said(error) == "not known; --trust lets it run from then on"


@pytest.mark.parametrize("start", ["command", "module", "script"])
def test_every_way_of_starting_finds_the_same(tmp_path, start):
    """Nothing of it is computed: the name alone decides what goes along."""
    main = "import sys; from residuum.cli import main; sys.exit(main(sys.argv[1:]))"
    (tmp_path / "elsewhere").mkdir()
    words = ["show", "model", "own/mine.py:Net", "--input", "1x8x8", "--classes", "3"]
    (tmp_path / "elsewhere" / "start.py").write_text(main)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text(dedent(MINE.format("start")))
    (tmp_path / "own" / "blocks_start.py").write_text(dedent(BLOCKS.format("start")))
    (tmp_path / "own" / "layers_start").mkdir()
    (tmp_path / "own" / "layers_start" / "__init__.py").write_text("FACTOR = 2\n")
    (tmp_path / "own" / "layers_start" / "scale.py").write_text(dedent(SCALE))
    how = {"command": ["elsewhere/start.py"], "module": ["-m", "residuum"], "script": ["-c", main]}[start]
    done = subprocess.run([sys.executable, *how, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "with blocks_start.py, layers_start/__init__.py, layers_start/scale.py beside it" in done.stderr


def test_a_module_that_is_neither_beside_it_nor_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written("far/helper_of_far.py", "from torch import nn\nNet = nn.Flatten\n")
    written("mine.py", "import sys\nsys.path.append('far')\nfrom importlib import import_module\n"
                       "Net = import_module('helper_of_far').Net\n")  # fmt: skip
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(InputError, match=r"imports helper_of_far from .*far/helper_of_far\.py, .*put it beside it"):
        built(resolved("mine.py:Net"))


def test_a_package_of_ones_own_has_its_relative_imports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written("pack_rel/__init__.py", "from .nets import Net\n")
    written("pack_rel/parts.py", "from pack_rel import nets\nWIDTH = 3\n")
    written("pack_rel/nets.py", """
        from torch import nn
        from .parts import WIDTH

        class Net(nn.Module):
            def __init__(self, in_channels: int, num_classes: int):
                super().__init__()
                self.seq = nn.Sequential(nn.Conv2d(in_channels, WIDTH, 3), nn.Flatten(), nn.LazyLinear(num_classes))

            def forward(self, images):
                return self.seq(images)
    """)  # fmt: skip
    choices = [resolved(name) for name in ("pack_rel.nets:Net", "pack_rel/nets.py:Net")]
    assert {one.code for one in choices} == {choices[0].code}
    assert built(choices[0]).seq[0].out_channels == 3
    assert list(own.modules_of(own.text_of(choices[0].code))) == ["pack_rel/__init__.py", "pack_rel/parts.py"]


def test_what_a_notebook_defines_takes_its_modules_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written("beside_nb.py", "WIDTH = 4\n\ndef twice(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import beside_nb

    def double(logits, targets):
        return beside_nb.twice(nn.functional.cross_entropy(logits, targets))

    choice = LOSSES.resolve(own.named(double))
    assert list(own.modules_of(own.text_of(choice.code))) == ["beside_nb.py"]
    logits, labels = torch.randn(3, 4), torch.tensor([0, 1, 2])
    assert torch.equal(LOSSES.bind(choice)(logits, labels), 2 * nn.functional.cross_entropy(logits, labels))


def test_an_export_brings_the_modules_along_and_stands_alone(run):
    tree("given")
    assert run(*QUICK, "--model", "own/mine.py:Net")[0] == 0
    code, _, err = run("export", "Net", "--format", "python", "--out", "given/net")
    assert code == 0, err
    there = sorted(str(one.relative_to("given")) for one in Path("given").rglob("*") if one.is_file())
    assert there == ["blocks_given.py", "layers_given/__init__.py", "layers_given/scale.py", "net.py",
                     "net.safetensors", "net_network.py"]  # fmt: skip
    text = "import net, torch; print(tuple(net.load()(net.prepare(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))).shape))"
    done = subprocess.run([sys.executable, "-c", text], cwd="given", capture_output=True, text=True, check=False)
    assert done.stdout == "(2, 10)\n", done.stderr
    Path("mixed").mkdir()
    Path("mixed/blocks_given.py").write_text("# somebody's own\n")
    code, _, err = run("export", "Net", "--format", "python", "--out", "mixed/net")
    assert code == 2
    assert "blocks_given.py is not of an export from here" in err
    assert [one.name for one in Path("mixed").iterdir()] == ["blocks_given.py"]
    code, _, err = run("export", "Net", "--format", "python", "--out", "other/blocks_given.py")
    assert code == 2
    assert "name it blocks_given_loaded.py" in err


def test_a_folder_for_the_hub_has_the_files_and_the_command_that_takes_it_in(run, monkeypatch):
    tree("hub")
    assert run(*QUICK, "--model", "own/mine.py:Net", "--set", "model.width=3")[0] == 0
    code, _, err = run("export", "Net", "--format", "huggingface", "--out", "hub")
    assert code == 0, err
    (command,) = [line for line in Path("hub/README.md").read_text().splitlines() if line.startswith("residuum import")]
    digest = json.loads(Path("hub/config.json").read_text())["model"]["code"]
    monkeypatch.chdir("hub")
    code, _, err = run(*shlex.split(command)[1:])
    assert code == 0, err
    (folder,) = Path("runs").glob("Net-*")
    config, _ = read_config(folder)
    assert (config.model.code, config.model.settings) == (digest, {"width": 3})


@pytest.mark.parametrize(("out", "said"), [
    ("torch.py", "name it torch_network.py"),
    ("json", "name it json_network.py"),
    ("numpy.py", "name it numpy_network.py"),
    ("pydantic.py", "name it pydantic_network.py"),
    ("class.py", "cannot be imported by that name; name it class_network.py"),
    ("3d.py", "name it _3d.py"),
    ("my-net.py", "name it my_net.py"),
    ("lab3.pdf", "lab3.pdf is no name of a Python file; name it lab3.py"),
    ("net.v2", "name it net_v2.py"),
])  # fmt: skip
def test_a_python_file_that_could_not_be_imported_is_refused_with_a_better_name(out, said):
    from residuum.run.pytorch_source import python_file

    with pytest.raises(InputError) as error:
        python_file(Path("place") / out)
    assert said in str(error.value)
    better = Path("place") / said.rpartition(" ")[2]
    assert python_file(better) == better == python_file(better.with_suffix(""))


def small(**settings):
    return RunConfig().changed({"data.dataset": "digits", "data.subset": 100, "model": {"name": "cifar_resnet",
        "depth": 8, "channels": [2, 2, 4]}, "train.epochs": 1, "train.batch_size": 50, **settings})  # fmt: skip


def test_what_is_installed_is_imported_as_it_is_and_not_copied(tmp_path):
    settings = {
        "model.activation": "torch.nn.functional:leaky_relu", "model.activation.negative_slope": 0.2,
        "optim.loss": "torch.nn.functional:cross_entropy", "optim.optimizer": "torch.optim:AdamW",
    }  # fmt: skip
    record = residuum.train(small(**settings), runs=tmp_path)
    assert record.result.status == "finished"
    kept = {one.name.rpartition("-")[0]: one.read_text() for one in (record.folder / "code").iterdir()}
    assert kept["torch.optim"].startswith(f"# AdamW of torch.optim, torch {torch.__version__.partition('+')[0]}, ")
    assert all(len(text.splitlines()) == 2 for text in kept.values())
    in_python = RunConfig().changed({"model.activation": nn.functional.leaky_relu, "optim.optimizer": torch.optim.AdamW,
                                     "optim.loss": nn.functional.cross_entropy})  # fmt: skip
    assert in_python.optim.loss.code == record.config.optim.loss.code
    assert in_python.optim.optimizer.code == record.config.optim.optimizer.code
    assert read_config(record.folder)[0] == record.config
    path = weights.export(record, "python", tmp_path / "net.py").path  # which compares the logits
    assert "from torch.nn.functional import leaky_relu\n" in path.read_text()
    assert sorted(one.name for one in path.parent.glob("net*")) == ["net.py", "net.safetensors"]


def test_functions_and_modules_of_torch_are_activations():
    x = torch.linspace(-2, 2, 9)
    for name, expected in (("torch.nn.functional:gelu", nn.functional.gelu(x)), ("torch.nn:GELU", nn.GELU()(x)),
                           ("torch:tanh", x.tanh())):  # fmt: skip
        assert torch.equal(ACTIVATIONS.build(own.named(name))(x), expected), name
    assert own.named(nn.functional.gelu) == own.named("torch.nn.functional:gelu")
    assert own.named(nn.GELU) == own.named("torch.nn:GELU")


@pytest.mark.parametrize(("table", "name", "said"), [
    (ACTIVATIONS, "torch.nn:GELUU", "torch.nn: unknown class or function 'GELUU'; did you mean 'GELU'?"),
    (ACTIVATIONS, "torch.nn.GELU", "did you mean 'torch.nn:GELU'?"),
    (ACTIVATIONS, "math:pi", "neither a class nor a function"),
    (OPTIMIZERS, "torch.optim:Adamw", "did you mean 'AdamW'?"),
    (SCHEDULES, "torch.optim.lr_scheduler:StepLR", "StepLR moves the rate of an optimizer step by step"),
])  # fmt: skip
def test_a_wrong_name_of_a_library_is_one_line(table, name, said):
    with pytest.raises(InputError) as error:
        table.resolve(own.named(name))
    assert said in str(error.value)

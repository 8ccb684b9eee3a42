"""Objects, and what a notebook or a script defines, in place of names: kept as a text that makes them again."""

import linecache
import math
import sys
from collections import OrderedDict
from enum import Enum
from functools import partial
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import residuum
from residuum import own
from residuum.cli import main
from residuum.config import RunConfig
from residuum.errors import InputError
from residuum.models import MODELS, build
from residuum.models.activations import ACTIVATIONS
from residuum.models.summary import summarize
from residuum.optim import OPTIMIZERS
from residuum.optim.losses import LOSSES
from residuum.records.record import read_config
from residuum.run import predict
from residuum.training import run as events_of

WIDTHS = {"first": 4, "least": -math.inf}


def small(**settings):
    return RunConfig().changed({"data.dataset": "digits", "data.subset": 80, "data.validation": 0, "train.epochs": 1,
                                "train.batch_size": 40, "compute.threads": 1, "compute.precision": "fp32", **settings})  # fmt: skip


class Kind(Enum):
    """How a part sums up."""

    MEAN = "mean"
    MOST = "most"


class Part(nn.Module):
    """A layer with a function, a table and a way of its own."""

    def __init__(self, in_channels):
        super().__init__()
        self.conv, self.act, self.kind = nn.Conv2d(in_channels, WIDTHS["first"], 3), F.relu, Kind.MOST
        self.register_buffer("scale", torch.tensor([0.5, 1.0, 2.0, -1.0]), persistent=False)
        self.shift = torch.arange(4.0)

    def forward(self, x):
        maps = self.act(self.conv(x)) * self.scale[:, None, None]
        return (maps.mean((2, 3)) if self.kind is Kind.MEAN else maps.amax((2, 3))) + self.shift


class Net(nn.Module):
    """Parts in a list, tied layers, a norm made by what has arguments bound, and a frozen layer."""

    def __init__(self, classes=10):
        super().__init__()
        self.norm_of = partial(nn.BatchNorm1d, eps=0.01)
        self.parts, self.norm = nn.ModuleList([Part(1), Part(1)]), self.norm_of(4)
        self.head = nn.Linear(4, classes)
        self.tied, self.sizes, self.least = self.head, {"of": [1, (2, None)]}, WIDTHS["least"]
        self.head.bias.requires_grad_(False)
        self.pick = self.parts[1].forward

    def forward(self, x):
        return self.tied(self.norm(self.parts[0](x) + self.pick(x))) - float(self.least > 0)


class Attending(nn.Module):
    """Layers of torch that hold more than their weights."""

    def __init__(self):
        super().__init__()
        self.lstm, self.of = nn.LSTM(8, 4, batch_first=True), nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        rows, _ = self.lstm(x[:, 0])
        return self.head(self.of(rows, rows, rows)[0].mean(1))


NETWORKS = {
    "own": Net,
    "torch": Attending,
    "layers": lambda: nn.Sequential(OrderedDict(flat=nn.Flatten(), norm=nn.BatchNorm1d(64), head=nn.Linear(64, 10))),
    "doubles": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softplus(threshold=math.inf)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_is_an_object_is_made_again_as_it_was(name):
    torch.manual_seed(3)
    given = NETWORKS[name]()
    for tensor in given.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor))
    choice = MODELS.resolve(RunConfig().changed({"model": given}).model)
    again, other = (build(choice, 1, 10, (8, 8), seed).eval() for seed in (0, 1))
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        expected = given.eval()(images)
        torch.testing.assert_close(again(images), expected, rtol=0, atol=0)
        torch.testing.assert_close(other(images), expected, rtol=0, atol=0)
    assert [(key, one.requires_grad) for key, one in again.named_parameters()] == [
        (key, one.requires_grad) for key, one in given.named_parameters()]  # fmt: skip
    assert str(again) == str(given)
    assert RunConfig().changed({"model": given.train()}).model == choice.with_settings({})
    next(given.parameters()).data.add_(1)
    assert RunConfig().changed({"model": given}).model.code != choice.code


def test_what_is_tied_in_an_object_is_tied_again_and_is_saved():
    choice = RunConfig().changed({"model": Net()}).model
    again = build(choice, 1, 10, (8, 8), 0)
    assert again.tied is again.head
    assert again.norm_of(3).eps == 0.01


def test_an_object_is_trained_goes_on_is_evaluated_and_given_away(tmp_path, monkeypatch, capsys):
    """The object itself stays as it was; a class whose weights are tied is saved as any other."""
    torch.manual_seed(0)
    given = Net()
    before = {key: one.clone() for key, one in given.state_dict().items()}
    config = small(**{"model": given, "save.steps": 1})
    whole = residuum.train(config, runs=tmp_path / "whole")
    assert whole.folder.name.startswith("Net_object-digits-seed0-")
    stopped = events_of(config, tmp_path / "stopped")
    for number, _ in enumerate(stopped):
        if number == 2:
            break
    stopped.close()
    monkeypatch.setattr(own, "_SOURCES", {})  # another process, which knows the text by the run's folder and the cache
    monkeypatch.setattr(own, "_MODULES", {})
    again = residuum.train(read_config(next((tmp_path / "stopped").iterdir()))[0], runs=tmp_path / "stopped")
    assert [row["loss"] for row in again.steps()] == [row["loss"] for row in whole.steps()]
    assert all(torch.equal(before[key], one) for key, one in given.state_dict().items())
    assert main(["export", str(whole.folder), "--format", "python", "--out", str(tmp_path / "net.py")]) == 0
    monkeypatch.syspath_prepend(tmp_path)
    space = {"__name__": "nets", "__file__": str(tmp_path / "net.py")}
    exec((tmp_path / "net.py").read_text(), space)
    images = torch.randint(0, 256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(space["load"]()(space["prepare"](images)),
                                   predict.logits(predict.load(whole), images), rtol=1e-5, atol=1e-5)  # fmt: skip
    sys.modules.pop("net_network")


def test_what_an_object_holds_among_its_weights_alone_is_left_out_of_what_is_given_away(tmp_path):
    record = residuum.train(small(model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), runs=tmp_path / "runs")
    assert main(["export", str(record.folder), "--format", "python", "--out", str(tmp_path / "net.py")]) == 0
    assert 'VALUES = ""' in (tmp_path / "net_network.py").read_text()
    (kept,) = (record.folder / "code").iterdir()
    assert 'VALUES = ""' not in kept.read_text()


def test_arms_of_a_study_may_be_objects(tmp_path):
    study = residuum.Study.model_validate({
        "name": "objects", "question": "Which?", "base": "quick", "seeds": [0, 1],
        "arms": [{"name": name, "set": {"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=name == "with"))}}
                 for name in ("with", "without")],
    })  # fmt: skip
    assert len({arm.name for arm in study.arms()}) == 2
    settings = {"data.dataset": "digits", "data.subset": 40, "data.validation": 0, "train.epochs": 1,
                "train.batch_size": 40}  # fmt: skip
    found = residuum.run_study(study, settings, runs=tmp_path, on="here")
    assert len(found.records) == 4
    assert not found.failed


def test_an_activation_is_the_same_as_an_object_and_by_its_name():
    x = torch.linspace(-2, 2, 9)
    for given, named in ((nn.LeakyReLU(0.2), {"name": "leaky_relu", "negative_slope": 0.2}), (nn.PReLU(), nn.PReLU)):
        made = [ACTIVATIONS.build(RunConfig().changed({"model.activation": one}).model.settings["activation"])
                for one in (given, given, named)]  # fmt: skip
        assert made[0] is not made[1]
        assert torch.equal(made[0](x), made[2](x))


def test_a_loss_is_the_same_as_an_object_and_by_its_name():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    by_object = LOSSES.bind(RunConfig().changed({"optim.loss": nn.CrossEntropyLoss(label_smoothing=0.1)}).optim.loss)
    by_name = LOSSES.bind({"name": "cross_entropy", "label_smoothing": 0.1})
    assert torch.equal(by_object(logits, labels), by_name(logits, labels))


class Times:
    """A plain object that is called."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, images, draw):
        return images * self.factor


def test_functions_and_objects_that_no_file_has_at_its_top_train_alike(tmp_path):
    factor = 0.5

    class Local(nn.Module):
        def __init__(self, classes: int, width: int = 2):
            super().__init__()
            self.head, self.width = nn.Linear(64, classes), width

        def forward(self, images):
            return factor * self.head(images.flatten(1))

    def half(images, draw):
        return images * factor

    schedules = [lambda span: lambda step, losses: 1.0, "constant"]
    first = {"model": Local, "model.width": 3, "optim.schedule": schedules[0]}
    loss = [
        residuum.train(small(**{**first, "data.augment": one}), runs=tmp_path).epochs[-1].train.loss
        for one in (half, lambda images, draw: images * factor, Times(0.5))
    ]
    assert loss[0] == loss[1] == loss[2]
    bound = small(**{"model": partial(Local, width=3), "optim.schedule": schedules[1], "data.augment": half})
    assert bound.model == small(**first).model
    assert residuum.train(bound, runs=tmp_path).epochs[-1].train.loss == loss[0]


def test_data_that_is_an_object_is_kept(tmp_path):
    images, labels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8), np.arange(60) % 3
    rest = {"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), "train.epochs": 1}
    by_object = residuum.train("quick", {"data": (images, labels), **rest}, runs=tmp_path)
    by_path = residuum.train("quick", {"data": residuum.keep_data((images, labels)), **rest}, runs=tmp_path)
    assert by_object.id == by_path.id


def hooked():
    made = nn.Linear(2, 2)
    made.register_forward_hook(lambda *_: None)
    return made


def holding(value):
    made = nn.Linear(2, 2)
    made.held = value
    return made


def itself():
    made = nn.Linear(2, 2)
    made.held = [made]
    return made


@pytest.mark.parametrize(("given", "said"), [
    (hooked, "class Linear cannot be kept with a run, since it is or holds hooks; give the class"),
    (lambda: nn.Sequential(hooked()), "class Sequential cannot be kept with a run: it holds hooks in 0;"),
    (lambda: nn.LazyLinear(3), "a lazy layer, which has no shape before it saw images (show it some first)"),
    (lambda: holding(torch.Generator()), "it holds a Generator in held"),
    (lambda: holding(np.zeros(3)), "it holds a ndarray in held"),
    (lambda: holding(open), None),
    (lambda: nn.Linear(2, 2, device="meta"), "it holds a Parameter without plain values in weight"),
    (lambda: nn.Linear(2, 2, dtype=torch.bfloat16), "it holds a tensor of torch.bfloat16 in weight"),
    (itself, "it holds itself in held"),
    (lambda: partial(nn.Linear, 1, 2, 3, 4, 5, 6, 7), "Linear does not take the arguments that are bound to it"),
    (lambda: partial(max, 1, key=abs), "max"),
    (lambda: torch.optim.SGD([nn.Parameter(torch.zeros(1))]), "moves the weights of a network of its own: give the class"),
])  # fmt: skip
@pytest.mark.parametrize("path", ["model", "optim.loss", "data.augment"])
def test_an_object_of_which_no_text_can_be_made_is_refused_by_its_place(given, said, path):
    if said is None:
        assert RunConfig().changed({path: given()})
        return
    with pytest.raises(InputError) as found:
        RunConfig().changed({path: given()})
    assert said in str(found.value)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize(("path", "given"), [("model.block", nn.Linear(2, 2)), ("data.dataset", nn.Linear(2, 2)),
                                             ("optim.optimizer", nn.Linear(2, 2))])  # fmt: skip
def test_what_is_made_anew_for_each_place_cannot_be_an_object(path, given, tmp_path):
    with pytest.raises(InputError, match=r"class Linear cannot stand here, where one is made of \w+.*: give the class"):
        residuum.train(small(**{"model.depth": 8, path: given}), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_object_is_too_large_to_travel_in_a_text(monkeypatch):
    monkeypatch.setattr("residuum.own.instances.MOST_BYTES", 2**20)
    with pytest.raises(InputError, match=r"class Linear holds 3 MiB of tensors, more than 1; .*pretrained.weights"):
        RunConfig().changed({"model": nn.Linear(1000, 1000)})


@pytest.fixture
def cell(monkeypatch):
    """Runs a text as a cell of a notebook does, in a `__main__` that is no file."""
    notebook, cells = ModuleType("__main__"), []
    monkeypatch.setitem(sys.modules, "__main__", notebook)

    def run(text):
        text, name = dedent(text), f"<ipython-input-{len(cells)}-{id(cells)}>"
        cells.append(name)
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), vars(notebook))
        return vars(notebook)

    yield run
    for name in cells:
        del linecache.cache[name]


CELLS = """
    import numpy as np, math, torch
    import torch.nn.functional as F
    from functools import lru_cache
    from typing import Annotated
    from torch import nn
    from torch.nn import Conv2d as Convolution, init

    WIDTHS = [4, 8]
"""


def test_a_class_of_a_notebook_brings_what_other_cells_define(cell):
    cell(CELLS)
    cell("""
        class Unit(nn.Module):
            def __init__(self, before, after):
                super().__init__()
                self.conv = Convolution(before, after, 3)
            def forward(self, x):
                return F.relu(self.conv(x)) * scale()

        @lru_cache
        def scale():
            return math.sqrt(np.float64(WIDTHS[0]))
    """)
    names = cell("""
        class Bare(nn.Module):
            pass

        class Mine(Bare):
            '''It names itself.'''
            def __init__(self, in_channels: int, classes: int, width: int = 3):
                super(Mine, self).__init__()
                self.unit, self.head = Unit(in_channels, width), nn.Linear(width, classes)
                init.zeros_(self.head.bias)
            def forward(self, x):
                return self.head(self.unit(x).mean((2, 3)))
    """)
    choice = MODELS.resolve(RunConfig().changed({"model": names["Mine"], "model.width": 5}).model)
    assert (choice.name, choice.settings) == ("notebook.py:Mine", {"width": 5})
    vars(sys.modules["__main__"]).clear()  # another process has nothing of it
    assert build(choice, 1, 10, (8, 8), 0).head.in_features == 5
    text = own.text_of(choice.code)
    assert "import numpy as np\n" in text
    assert "WIDTHS = [4, 8]\n" in text
    assert "Annotated" not in text


def test_a_cell_that_was_run_again_counts_as_it_is_now(cell):
    cell(CELLS)
    hashes = []
    for factor in (1, 2, 1):
        names = cell(f"""
            def scaled(images, draw):
                return images * {factor}
        """)
        hashes.append(RunConfig().changed({"data.augment": names["scaled"]}).data.augment[0].code)
    assert hashes[0] == hashes[2] != hashes[1]


@pytest.mark.parametrize(("text", "said"), [
    ("TABLE = np.zeros(3)\ndef f(images, draw):\n    return images + TABLE",
     "data.augment: f needs TABLE, of the kind ndarray, which has no text"),
    ("def f(images, draw):\n    return images + later(draw) * other",
     "f names later, other, which the notebook does not have; define it before, or import it"),
    ("class Thing(nn.Module):\n    pass\nclass Thing(Thing):\n    def forward(self, x):\n        return x\nf = Thing",
     "Thing is made of another class of the same name"),
    ("class Thing(nn.Module):\n    def forward(self, x):\n        return x\n"
     "Thing.forward = lambda self, x: x + 1\nf = Thing", "the text of Thing cannot be found"),
])  # fmt: skip
def test_what_a_notebook_definition_lacks_is_told_by_name_before_anything_runs(cell, text, said):
    cell(CELLS)
    names = cell(text)
    with pytest.raises(InputError) as found:
        RunConfig().changed({"data.augment": names["f"]})
    assert said in str(found.value)
    assert "\n" not in str(found.value)


def test_a_method_that_was_put_in_from_another_cell_is_not_passed_over(cell):
    cell(CELLS)
    names = cell("""
        class Thing(nn.Module):
            def __init__(self, classes: int):
                super().__init__()
            def forward(self, x):
                return x
    """)
    cell("""
        def forward(self, x):
            return x + 1
        Thing.forward = forward
    """)
    with pytest.raises(InputError, match="Thing has methods from other places than its own text"):
        RunConfig().changed({"model": names["Thing"]})


@pytest.mark.parametrize(("change", "said"), [
    ("Thing.width = 8", "Thing.width was set after Thing was defined"), ("Thing.depth = 8", "Thing.depth was set after"),
    ("Thing.width = 4", None),
])  # fmt: skip
def test_what_a_class_was_given_after_its_text_is_not_passed_over(cell, change, said):
    cell(CELLS)
    cell("""
        class Thing(nn.Module):
            width: int = 4
            @property
            def half(self):
                return self.width / 2
            def forward(self, x):
                return x * self.half
    """)
    names = cell(change)
    if said is None:
        assert RunConfig().changed({"model": names["Thing"]}).model.name == "notebook.py:Thing"
        return
    with pytest.raises(InputError, match=said):
        RunConfig().changed({"model": names["Thing"]})


def test_blocks_optimizers_and_data_sets_may_be_defined_anywhere(tmp_path):
    images = {"images": [[[0, 9], [9, 0]]] * 8}

    class Plain(torch.optim.SGD):
        pass

    def block(in_channels, channels, stride):
        return (nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False))  # fmt: skip

    def data():
        import numpy

        all_ = numpy.array(images["images"] * 5, numpy.uint8).repeat(4, 1).repeat(4, 2)
        return all_, numpy.arange(40) % 2

    config = small(**{"data.dataset": data, "data.subset": 0, "model": {"name": "cifar_resnet", "depth": 8, "channels": [2, 2, 4]},
                      "model.block": block, "optim.optimizer": Plain})  # fmt: skip
    found = residuum.train(config, runs=tmp_path)
    assert (found.config.data.dataset.name, found.config.optim.optimizer.name) == ("script.py:data", "script.py:Plain")
    assert found.status == "finished"


def test_a_script_is_not_run_again_for_a_class_of_it(tmp_path, monkeypatch):
    """Its work need not stand below `if __name__ == "__main__"`."""
    script = tmp_path / "work.py"
    script.write_text(
        dedent("""
        from __future__ import annotations
        import residuum
        from torch import Tensor, nn
        class Flat(nn.Module):
            def __init__(self, classes: int, scale: float = 2.0) -> None:
                super().__init__()
                self.head, self.scale = nn.Linear(64, classes), scale
            def forward(self, x: Tensor) -> Tensor:
                return self.head(x.flatten(1)) * self.scale
        done = residuum.train(config({"model": Flat}), runs=runs)
    """)
    )
    main_ = ModuleType("__main__")
    main_.__file__, main_.runs, main_.config = str(script), tmp_path, lambda model: small(**model)
    monkeypatch.setitem(sys.modules, "__main__", main_)
    exec(compile(script.read_text(), str(script), "exec"), vars(main_))
    assert main_.done.config.model.name == "script.py:Flat"
    assert main_.done.config.model.settings == {"scale": 2.0}
    assert len([*Path(tmp_path).glob("Flat-digits-*")]) == 1


def test_what_fails_in_a_text_that_was_put_together_is_told_with_its_line(cell, tmp_path):
    cell(CELLS)
    names = cell("""
        class Flat(nn.Module):
            def __init__(self, classes: int):
                super().__init__()
                self.head = nn.Linear(5, classes)
            def forward(self, x):
                return self.head(x.flatten(1))
    """)
    with pytest.raises(InputError, match=r"notebook.py:\d+ in forward \(return self.head\(x.flatten\(1\)\)\): Runtime"):
        residuum.train(small(model=names["Flat"]), runs=tmp_path)


def test_an_argument_of_a_kind_that_no_file_holds_is_refused_or_stays_at_its_default():
    kinds = small(**{"optim.optimizer": partial(torch.optim.AdamW, betas=(0.8, 0.9))}).optim.optimizer
    assert OPTIMIZERS.resolve(kinds).settings["betas"] == (0.8, 0.9)

    class Around(nn.Module):
        def __init__(self, inner: nn.Module, classes: int):
            super().__init__()

    with pytest.raises(InputError, match=r"'inner' is of a kind that no file can hold, .* give an object of the class"):
        MODELS.resolve(RunConfig().changed({"model": Around}).model)


def test_a_summary_leaves_a_network_with_tied_layers_as_it_was():
    """Whether shapes alone are enough for it or not, and however its layers are tied."""
    given = Net()
    given.norm.weight = nn.Parameter(torch.ones(4))
    given.other = nn.Linear(4, 10)
    given.other.weight = given.head.weight
    before = {key: one.clone() for key, one in given.state_dict().items()}
    for shift in (given.parts[0].shift, 0.0):
        for part in given.parts:
            part.shift = shift
        assert summarize(given, (1, 8, 8)).parameters == sum(one.numel() for one in given.parameters())
        assert all(torch.equal(before[key], one) for key, one in given.state_dict().items())
    assert given.other.weight is given.head.weight

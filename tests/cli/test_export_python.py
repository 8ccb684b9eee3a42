"""`residuum export --format python`: the file alone gives the network's logits, whatever the network's settings."""

import importlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from residuum.cli import main
from residuum.config import RunConfig
from residuum.data.batches import normalise_for_network
from residuum.data.normalize import Normalization
from residuum.errors import InputError
from residuum.models import MODELS, build
from residuum.models.activations import ACTIVATIONS
from residuum.models.blocks import ORDERINGS
from residuum.models.shortcuts import SHORTCUTS
from residuum.run import predict
from residuum.run.pytorch_source import parts_of, source
from residuum.training import train

SMALL = {
    "cifar_resnet": {"depth": 20, "channels": [4, 6, 8]},
    "imagenet_resnet": {"depth": 50, "channels": [4, 4, 6, 6]},
    "staged_resnet": {"blocks": [1, 3, 2], "channels": [4, 8, 8], "strides": [1, 2, 1]},
}
NORMS = (
    Normalization("affine", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)), Normalization("per_image"),
    Normalization("affine", (0.0,) * 3, (1 / 255,) * 3),
)  # fmt: skip


def drawn(draw: random.Random) -> dict:
    """A network with any family and any settings that it takes."""
    family = draw.choice(list(SMALL))
    shortcut = {"name": draw.choice(list(SHORTCUTS))}
    if shortcut["name"] == "identity":
        shortcut |= {"zeros": draw.choice(["around", "before", "after"]), "reads": draw.choice(["input", "activated"]),
                     "subsample": draw.choice(["slice", "average", "max"])}  # fmt: skip
    elif shortcut["name"] != "none":
        shortcut |= {"reads": draw.choice(["input", "activated"]), "subsample": draw.choice(["stride", "average"])}
    ordering = {"name": draw.choice(list(ORDERINGS))}
    if ordering["name"].endswith("preactivation"):
        ordering |= {"repeats": draw.random() < 0.5, "ended": draw.random() < 0.5}
    elif ordering["name"] == "original":
        ordering |= {"act_after": draw.random() < 0.7}
    model = {
        "name": family, **SMALL[family], "shortcut": shortcut, "ordering": ordering,
        "wide": draw.choice([1.0, 1.5]), "activation": draw.choice([*ACTIVATIONS, {"name": "swish", "beta": 1.7}]),
        "stem": {"name": draw.choice(["3x3", "7x7"]), "stride": draw.choice([1, 2]), "pool": draw.choice(["max", "none"]),
                 "after": draw.choice(["bn_act", "bn", "act", "none"])},
        "pooling": draw.choice(["average", "max"]),
        "bn_eps": draw.choice([1e-5, 1e-3]), "conv_bias": draw.random() < 0.3,
    }  # fmt: skip
    if family == "staged_resnet":
        model["block"] = draw.choice([{"name": "basic", "stride_at": draw.choice(["first", "second"])},
                                      {"name": "bottleneck", "expansion": 2}])  # fmt: skip
    if family == "imagenet_resnet":
        model |= {"depth": draw.choice([18, 50]), "stride_at": draw.choice(["1x1", "3x3"])}
    if family == "cifar_resnet" and draw.random() < 0.3:
        model |= {"depth": 20, "block": {"name": "bottleneck", "expansion": 4}}
    if draw.random() < 0.3:  # a window that fits once into the 8×8, 4×4 and 16×16 that the strides leave
        model["stem"] |= {"stride": 1, "pool": "none"}
        window = {"cifar_resnet": 8, "imagenet_resnet": 3, "staged_resnet": 9}[family]
        model["pooling"] = {"name": "average", "window": window}
    return model


def made(model: dict, seed: int) -> torch.nn.Module:
    choice = MODELS.resolve(RunConfig().changed({"model": model}).model)
    network = build(choice, 3, 5, (32, 32), seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():  # as after training: statistics and scales that are not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return network.eval()


@pytest.mark.parametrize("seed", range(30))
def test_any_network_gives_equal_logits_as_plain_pytorch(seed, tmp_path):
    draw = random.Random(seed)
    network, norm = made(drawn(draw), seed), NORMS[seed % 3]
    classes = ("a", "b</b>", '"""', "王\n", "\\x")
    text = source(network, norm, classes, (3, 32, 32), "some network", "mine")
    assert "residuum" not in text
    assert max(map(len, text.splitlines())) <= 120
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    space = {"__name__": "mine", "__file__": str(tmp_path / "mine.py")}
    exec(text, space)
    assert space["CLASSES"] == classes
    images = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(9), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(normalise_for_network(images, norm))
        torch.testing.assert_close(space["load"]()(space["prepare"](images)), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(space["prepare"](images.numpy()), space["prepare"](images), rtol=0, atol=0)


def test_what_has_no_plain_form_is_refused_in_a_line(monkeypatch):
    class Own(torch.nn.Module):
        def forward(self, x):
            return x.relu()

    with pytest.raises(InputError, match="class Linear cannot be written"):
        source(torch.nn.Linear(3, 2), NORMS[0], ("a", "b"), (3, 8, 8), "t", "m")
    network = made({"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]}, 0)
    for block in network.layer2:
        block.act = Own()
    for block in (*network.layer1, *network.layer3):
        block.act = Own()
    with pytest.raises(InputError, match="activation Own cannot be written"):
        source(network, NORMS[0], ("a", "b", "c", "d", "e"), (3, 32, 32), "t", "m")


def test_the_file_of_a_run_stands_by_itself(tmp_path, capsys):
    config = RunConfig().changed({
        "data.dataset": {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 4}, "data.validation": 12,
        "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]}, "train.epochs": 1, "optim.lr": 0.02,
        "compute.precision": "fp32", "compute.threads": 1,
    })  # fmt: skip
    record = train(config, tmp_path / "runs")
    out = tmp_path / "resnet8.py"
    assert main(["export", str(record.folder), "--format", "python", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    code = (
        "import sys, json, torch, resnet8; n = resnet8.load(); assert 'residuum' not in sys.modules;"
        "x = torch.arange(2 * 3 * 12 * 12).reshape(2, 3, 12, 12).remainder(256).to(torch.uint8);"
        "print(json.dumps(n(resnet8.prepare(x)).tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
                          env={"PATH": "/usr/bin:/bin"})  # fmt: skip
    images = torch.arange(2 * 3 * 12 * 12).reshape(2, 3, 12, 12).remainder(256).to(torch.uint8)
    expected = predict.logits(predict.load(record), images)
    torch.testing.assert_close(torch.tensor(eval(done.stdout)), expected, rtol=1e-5, atol=1e-5)
    assert main(["export", str(record.folder), "--format", "python"]) == 0
    assert capsys.readouterr().out.strip().endswith("resnet8.py")
    (other := tmp_path / "mine.py").write_text("class Mine: pass")
    for form, place in (("python", out), ("safetensors", tmp_path / "weights")):  # over itself, but over nothing else
        assert main(["export", str(record.folder), "--format", form, "--out", str(place)]) == 0
        assert main(["export", str(record.folder), "--format", form, "--out", str(place)]) == 0
        assert main(["export", str(record.folder), "--format", form, "--out", str(other)]) == 2
        assert f"{other} is not of an export from here, and is not written over" in capsys.readouterr().err
        assert other.read_text() == "class Mine: pass"


def test_the_file_of_a_run_in_bf16_says_so_and_has_its_logits_to_the_bit_in_bf16(tmp_path, monkeypatch):
    config = RunConfig().changed({
        "data.dataset": {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 4}, "data.validation": 12,
        "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]}, "train.epochs": 1, "optim.lr": 0.02,
        "compute.precision": "bf16", "compute.threads": 1, "compute.device": "cpu",
    })  # fmt: skip
    record = train(config, tmp_path / "runs")
    assert main(["export", str(record.folder), "--format", "python", "--out", str(tmp_path / "halved.py")]) == 0
    assert 'within\ntorch.autocast("cpu", torch.bfloat16) they are the run\'s to the bit.' in (
        tmp_path / "halved.py").read_text()  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    halved = importlib.import_module("halved")
    images = torch.arange(2 * 3 * 12 * 12).reshape(2, 3, 12, 12).remainder(256).to(torch.uint8)
    expected = predict.logits(predict.load(record), images)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(halved.load()(halved.prepare(images)).float(), expected)


OWN = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn

MEAN = 0.5  # a name that the loading file has too

@dataclass
class Sizes:
    width: int

def load(x):
    return x - MEAN

class Net(nn.Module):
    def __init__(self, IN, *, sizes: tuple[int, ...] = (4, 5), words: str = "it's", flag: bool = False, n_classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(IN, sizes[0], 3), nn.BatchNorm2d(sizes[0]), nn.LazyLinear(Sizes(sizes[1]).width))
        self.head, self.flag = nn.Linear(sizes[1], n_classes), flag

    def forward(self, x):
        maps = self.body(load(x) if self.flag else x).tanh()
        return self.head(maps.mean((1, 2)))
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_network_of_ones_own_is_exported_with_its_text_as_it_is(seed, tmp_path, monkeypatch, capsys):
    """Whatever its arguments are called, and whatever names its file has, what loads it gives the run's logits."""
    draw = random.Random(seed)
    monkeypatch.chdir(tmp_path)
    text = OWN.replace("IN", draw.choice(["in_channels", "in_planes", "inplanes"]))
    text = text.replace("n_classes", draw.choice(["n_classes", "num_classes", "classes"]))
    Path("mine.py").write_text(text)
    settings = {"sizes": [draw.randint(2, 5), draw.randint(2, 6)], "words": "\"x'\\", "flag": draw.random() < 0.5}
    normalize = draw.choice(["standardize", "per_image", "none"])
    record = train(RunConfig().changed({
        "data.dataset": {"name": "synthetic", "size": 12, "train": 40, "test": 20, "classes": 4}, "data.validation": 0,
        "model": {"name": "mine.py:Net", **settings}, "train.epochs": 1, "compute.precision": "fp32",
        "data.normalize": normalize,
    }))  # fmt: skip
    Path("mine.py").unlink()
    assert main(["export", str(record.folder), "--format", "python", "--out", "hand/in/nets_3"]) == 0
    assert capsys.readouterr().out.strip() == "hand/in/nets_3.py"
    assert {path.name for path in Path("hand/in").iterdir()} == {
        "nets_3.py",
        "nets_3.safetensors",
        "nets_3_network.py",
    }
    assert Path("hand/in/nets_3_network.py").read_text() == text
    monkeypatch.syspath_prepend(tmp_path / "hand/in")
    space = {"__name__": "nets", "__file__": str(tmp_path / "hand/in/nets_3.py")}
    exec(Path("hand/in/nets_3.py").read_text(), space)
    images = torch.randint(0, 256, (3, 3, 12, 12), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    expected = predict.logits(predict.load(record), images)
    with torch.no_grad():
        torch.testing.assert_close(space["load"]()(space["prepare"](images.numpy())), expected, rtol=1e-5, atol=1e-5)
    assert "residuum" not in Path("hand/in/nets_3.py").read_text()
    sys.modules.pop("nets_3_network")


PARTS = """
import torch
from torch import nn

class Narrow(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.pool, self.norm = nn.AvgPool2d(stride) if stride > 1 else nn.Identity(), nn.BatchNorm2d(channels)
    def forward(self, x):
        return self.norm(self.pool(x)) * 1.5

def branch(in_channels: int, planes: int, stride: int, *, more: int = 2):
    "A branch with a layer before, and one after, its convolutions, which are wider between."
    return (nn.Dropout(0.5), nn.Conv2d(in_channels, more * planes, 3, stride=stride, padding=1, bias=False), nn.Tanh(),
            nn.Conv2d(more * planes, planes, 3, padding=1, bias=False), Narrow(planes, 1))

def pooled(in_channels: int, channels: int, stride: int):
    "The stride is not one of a convolution."
    return nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), Narrow(channels, stride)

class Block(nn.Module):
    "A whole block, called as something in the exported file is."
    def __init__(self, in_channels: int, channels: int, stride: int, scale: float = 0.5):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels)
        self.scale = scale
    def forward(self, x):
        return self.norm(self.conv(x)).relu() * self.scale

class Swish(nn.Module):
    def __init__(self, beta: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((), beta))
    def forward(self, x):
        return x * (self.weight * x).sigmoid()
"""


@pytest.mark.parametrize(("block", "shortcuts"), [
    ({"name": "own.py:branch", "more": 3}, ["identity", "projection", "all_projection", "none"]),
    ("own.py:pooled", ["none"]), ({"name": "own.py:Block", "scale": 0.7}, ["identity"]), ("basic", ["identity", "projection"]),
])  # fmt: skip
@pytest.mark.parametrize("activation", ["relu", {"name": "own.py:Swish", "beta": 1.3}, "object"])
@pytest.mark.parametrize("seed", range(2))
def test_own_code_within_a_network_is_exported_with_its_text_as_it_is(block, shortcuts, activation, seed, tmp_path,
                                                                      monkeypatch):  # fmt: skip
    draw = random.Random(repr((block, activation, seed)))
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path / "out")
    for shortcut in shortcuts:
        model = RunConfig().changed({"model": {
            "name": "staged_resnet", "blocks": [1, 3, 2], "channels": [4, 4, 8], "strides": [1, 2, 2], "block": block,
            "activation": torch.nn.PReLU() if activation == "object" else activation, "shortcut": shortcut,
            "ordering": draw.choice(["original", "full_preactivation", "bn_after_addition", "without_bn"]),
            "bn_eps": draw.choice([1e-5, 1e-2]), "conv_bias": draw.random() < 0.5,
        }}).model  # fmt: skip
        network = made(model.model_dump(), seed)
        parts = parts_of(MODELS.resolve(model), f"net{seed}")
        text = source(network, NORMS[seed], "abcde", (3, 16, 16), "some network", f"net{seed}", parts)
        assert "residuum" not in text
        Path("out").mkdir(exist_ok=True)
        for name, one in parts.texts.items():
            Path(f"out/{name}").write_text(one)
        assert len(parts.texts) == ("own.py" in str(block) + str(activation)) + (activation == "object")
        space = {"__name__": "net", "__file__": str(tmp_path / f"net{seed}.py")}
        exec(text, space)
        save_file(network.state_dict(), tmp_path / f"net{seed}.safetensors")
        images = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        with torch.no_grad():
            expected = network(normalise_for_network(images, NORMS[seed]))
            torch.testing.assert_close(space["load"]()(space["prepare"](images)), expected, rtol=1e-5, atol=1e-5)
        for name in parts.texts:
            del sys.modules[name.removesuffix(".py")]


def test_a_run_with_own_code_within_its_network_is_given_away_by_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(PARTS)
    record = train(RunConfig().changed({
        "data.dataset": {"name": "synthetic", "size": 12, "train": 40, "test": 20, "classes": 4}, "data.validation": 0,
        "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8], "block": "own.py:branch",
                  "activation": "own.py:Swish"}, "train.epochs": 1, "compute.precision": "fp32",
    }))  # fmt: skip
    Path("own.py").unlink()
    assert main(["export", str(record.folder), "--format", "python", "--out", "hand/net.py"]) == 0
    assert capsys.readouterr().out.strip() == "hand/net.py"
    assert {path.name for path in Path("hand").iterdir()} == {"net.py", "net.safetensors", "net_own.py"}
    assert Path("hand/net_own.py").read_text() == PARTS
    monkeypatch.syspath_prepend(tmp_path / "hand")
    space = {"__name__": "net", "__file__": str(tmp_path / "hand/net.py")}
    exec(Path("hand/net.py").read_text(), space)
    images = torch.full((2, 3, 12, 12), 77, dtype=torch.uint8)
    with torch.no_grad():
        expected = predict.logits(predict.load(record), images)
        torch.testing.assert_close(space["load"]()(space["prepare"](images)), expected, rtol=1e-5, atol=1e-5)
    assert "residuum" not in Path("hand/net.py").read_text()
    del sys.modules["net_own"]

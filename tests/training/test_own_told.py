"""What is said of own code that cannot be had or kept, message by message."""

import sys
from functools import partial
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from residuum import models, own
from residuum.errors import InputError
from residuum.models.families import resnet
from residuum.own import beside, definitions, instances
from residuum.registry import Choice

UNKNOWN = "0" * 64
FIT = own.Fit(given=("channels",))


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def empty(name: str, monkeypatch) -> ModuleType:
    """A module that has nothing, as it is once it was imported."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    return module


SAID = {
    "told_gone.py:Part: its text (SHA-256 000000000000…) is not here; name its file again": lambda here: own.load(
        "told_gone.py:Part", UNKNOWN),
    "told_bare.py has no class or function 'Part', nor any other": lambda here: own.load(
        "told_bare.py:Part", own.admit("told_bare = 1\n")),
    "told_hint.py:Part: ": lambda here: own.builder(
        "told_hint.py:Part", own.admit("class Part:\n    def __init__(self, channels, told: 'Nowhere' = 1): ...\n"), FIT),
    "an argument 'name' cannot be a setting; call it otherwise": lambda here: own.builder(
        "told_name.py:Part", own.admit("class Part:\n    def __init__(self, channels, name: str = 'told'): ...\n"), FIT),
    "its argument 'told' is [<object object at": lambda here: own.call(
        "told_call.py:Part", own.admit("class Part:\n    def __init__(self, channels, told=1): ...\n"), FIT, [3],
        {"told": [object()]}),
    "module 'told_native' is not written in Python, so its text cannot be kept": lambda here: own._file_of_module(
        written(here / f"told_native{EXTENSION_SUFFIXES[0]}", b"").name.partition(".")[0], here),
    "is not a file": lambda here: beside.read(here),
    "MiB is no file of code": lambda here: beside.read(written(here / "a.py", b"#" * (beside.MOST_BYTES + 1))),
    "a.py: no such file or directory": lambda here: beside.read(here / "a.py"),
    "is not a text file in UTF-8": lambda here: beside.read(written(here / "a.py", b"\xff")),
    "told_nowhere cannot be imported here: ": lambda here: beside.imported("told_nowhere", "Part"),
    "arguments without a name cannot be settings; bind them by name": lambda here: definitions.bound(
        partial(lambda *values: values, 1, 2)),
    "an object's tensors cannot be kept: ": lambda here: instances._packed({"a": np.array(["text"])}),
    "model.block: on 3 channels it fails with RuntimeError: ": lambda here: resnet._channels_of(nn.Linear(5, 5), 3),
    "model.block: it does not make a tensor [images, channels, height, width]": lambda here: resnet._channels_of(
        nn.Flatten(), 3),
    "cifar_resnet would have 5.13e+09 weights; 1,000,000,000 is the most here": lambda here: models.build(
        Choice(name="cifar_resnet", depth=20, channels=[4096, 4096, 8192]), 3, 10, (32, 32), 0),
    "model.pooling.window: not one window fits into what the strides leave of 32×32": lambda here: models.build(
        Choice(name="cifar_resnet", depth=8, pooling={"name": "average", "window": 9}), 3, 10, (32, 32), 0),
}  # fmt: skip


@pytest.mark.parametrize("said", SAID)
def test_what_leads_to_it_is_told(said, tmp_path):
    with pytest.raises(InputError) as caught:
        SAID[said](tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_installed_module_without_anything(monkeypatch):
    empty("told_empty", monkeypatch)
    with pytest.raises(InputError, match="told_empty has no class or function 'Part', nor any other"):
        beside.imported("told_empty", "Part")


def test_a_module_without_a_text(monkeypatch):
    with pytest.raises(InputError, match="it needs told_textless, a module that has no text"):
        definitions.Text().put("told_textless", empty("told_textless", monkeypatch), "it")


def test_a_name_that_would_mean_two_things():
    text = definitions.Text()
    text.put("a", 1, "it")
    with pytest.raises(InputError, match="'a' means two things in what it needs"):
        text.put("a", 2, "it")


def test_networks_that_cannot_be_trained():
    class Pair(nn.Module):
        def __init__(self, in_channels: int, classes: int) -> None:
            super().__init__()
            self.layer = nn.Linear(in_channels, classes)

        def forward(self, images_NCHW):
            logits_NK = self.layer(images_NCHW.mean((2, 3)))
            return logits_NK, logits_NK

    class Fixed(nn.Module):
        def __init__(self, in_channels: int, classes: int) -> None:
            super().__init__()
            self.classes = classes

        def forward(self, images_NCHW):
            return torch.zeros(len(images_NCHW), self.classes)

    for kind, said in (
        (Pair, "gives a tuple, not logits as a tensor"),
        (Fixed, "has no parameters that could be trained"),
    ):
        with pytest.raises(InputError, match=said):
            models.build(Choice.of(own._of_definition(kind)), 3, 10, (32, 32), 0)


def test_an_object_of_a_class_without_a_text_is_told_with_its_place():
    with pytest.raises(InputError, match=r"an object of the class Sequential cannot be kept with a run \(0\): "):
        instances.kept(nn.Sequential(type("Nobody", (nn.Module,), {})()))

"""Every member of every table through the contract of its kind, and each contract against parts that break it.

Data sets are loaded from files of each form in `tests/data_sets`, and go through theirs there.
"""

import itertools
from functools import partial

import pytest
import torch
from torch import nn

from residuum import testing
from residuum.attribution import METHODS
from residuum.conduct.launchers import LAUNCHERS
from residuum.config import YOUNG
from residuum.data.augment import AUGMENTATIONS
from residuum.data.dataset import Dataset, Split
from residuum.data.mix import MIXES, Mix
from residuum.data.normalize import NORMALIZERS, Normalization
from residuum.models import MODELS, build
from residuum.models.activations import ACTIVATIONS
from residuum.models.blocks import BLOCKS, ORDERINGS
from residuum.models.init import INITS
from residuum.models.pooling import POOLINGS
from residuum.models.shortcuts import SHORTCUTS
from residuum.models.stem import STEMS
from residuum.optim import LOSSES, OPTIMIZERS, PENALTIES, SCHEDULES
from residuum.registry import Choice

LR = {"sgd": 0.05, "nesterov": 0.05, "adagrad": 0.1, "adadelta": 1.0, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.005,
      "muon": 0.05}  # fmt: skip
SMALL = {"name": "staged_resnet", "blocks": [1, 2, 1], "channels": [4, 4, 7], "strides": [1, 2, 2]}
NEEDED = {"staged_resnet": {"blocks": [1, 1], "channels": [4, 6]}}


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_every_activation(name):
    testing.check_activation(ACTIVATIONS.bind(name))


@pytest.mark.parametrize("name", list(MODELS))
def test_every_family(name):
    testing.check_network(MODELS.bind({"name": name, **NEEDED.get(name, {})}), classes=3)


@pytest.mark.parametrize("parts", list(itertools.product(ORDERINGS, SHORTCUTS, BLOCKS)), ids=" ".join)
def test_every_combination_of_block_shortcut_and_ordering(parts):
    """Guard 20: evaluation changes no buffer; over every activation."""
    ordering, shortcut, block = parts
    for activation in ACTIVATIONS:
        choice = {**SMALL, "ordering": ordering, "shortcut": shortcut, "block": block, "activation": activation}
        testing.check_network(MODELS.bind(choice), in_channels=2, classes=3, image_size=(8, 8))


@pytest.mark.parametrize(
    ("part", "name"),
    [(part, name) for part, table in (("stem", STEMS), ("init", INITS), ("pooling", POOLINGS)) for name in table],
)
def test_a_network_with_every_stem_initialisation_and_pooling(part, name):
    testing.check_network(MODELS.bind({**SMALL, part: name}), in_channels=1, classes=4)


@pytest.mark.parametrize(("path", "name"), YOUNG)
def test_a_network_with_every_setting_that_tensors_do_not_tell(path, name):
    """Each at another value than the usual, in a network of the family that has it."""
    other = {"stride": 2, "pooling": "max", "bn_eps": 1e-3, "bn_momentum": 0.01, "zeros": "after", "subsample": "average",
             "stride_at": "second", "approximate": "tanh", "after": "bn", "pool": "max"}  # fmt: skip
    for setting, usual in YOUNG[path, name].items():
        value = (
            not usual
            if isinstance(usual, bool)
            else other.get(setting, "input" if usual == "activated" else "activated")
        )
        value = {"max": "none", "1x1": "3x3"}.get(usual, value) if isinstance(usual, str) else value
        family = name if path == "model" else "staged_resnet"
        base = {"name": family, **({} if family != "staged_resnet" else SMALL), "ordering": "full_preactivation"}
        part = path.removeprefix("model").removeprefix(".")
        changed = {part: {"name": name, setting: value}} if part else {setting: value}
        testing.check_network(MODELS.bind({**base, **changed}), in_channels=1, classes=4)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_every_augmentation(name):
    testing.check_augmentation(AUGMENTATIONS.bind(name))


@pytest.mark.parametrize("name", list(MIXES))
def test_every_mixing(name):
    testing.check_mixing(MIXES.build(name))


@pytest.mark.parametrize("name", list(NORMALIZERS))
def test_every_normalization(name):
    testing.check_normalization(NORMALIZERS.bind(name))


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_every_schedule(name):
    testing.check_schedule(SCHEDULES.bind(name))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer(name):
    testing.check_optimizer(OPTIMIZERS.bind(name), lr=LR[name])


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss(name):
    testing.check_loss(LOSSES.bind(name))


@pytest.mark.parametrize("name", list(PENALTIES))
def test_every_penalty(name):
    testing.check_penalty(PENALTIES.bind({"name": name, "weight": 0.1}))


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)], ids=["grey", "colour"])
def test_every_method(name, shape):
    network = build(Choice(name="staged_resnet", blocks=[1, 1], channels=[4, 6]), shape[0], 5, shape[1:], 0)
    testing.check_method(METHODS.bind(name), network.eval(), shape)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher(name, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    testing.check_launcher(LAUNCHERS[name])


def split(labels, fill=1):
    images = torch.full((len(labels), 1, 2, 2), fill, dtype=torch.uint8).numpy()
    return Split(images, torch.tensor(labels).numpy())


def a_data_set(seen=None, classes=("a", "b")):
    """Loads a data set; with `seen`, another one each time."""
    if seen is not None:
        seen.append(0)
    return Dataset.of("mine", classes, split((0, 1), len(seen or "")), split((0, 1)))


class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.gain


class Counting(nn.Module):
    """Adds what it has counted to a buffer, which nothing it gives back shows."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return torch.relu(x)


class Drifting(nn.Module):
    """Gives another value at each call."""

    calls = 0

    def forward(self, x):
        self.calls += 1e-9
        return torch.relu(x) + self.calls


def deaf(groups):
    """An optimizer that goes its own way, whatever its rate is."""
    for group in groups:
        group["lr_share"] = 0.0
    return torch.optim.Adagrad(groups)


def forgetful(groups):
    """Momentum that a checkpoint does not keep."""
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    optimizer.register_load_state_dict_pre_hook(lambda _optimizer, state: state | {"state": {}})
    return optimizer


class Undone(MODELS.builder("cifar_resnet")(1, 2, depth=8).__class__):
    def initialize(self, seed):
        super().initialize(seed)
        self.linear.bias.data.fill_(float("nan"))


def undone(in_channels, classes):
    network = MODELS.build({"name": "cifar_resnet", "depth": 8}, in_channels, classes)
    network.__class__ = Undone
    return network


BROKEN = [
    (lambda: testing.check_activation(Gain), "has no parameters"),
    (lambda: testing.check_activation(lambda: nn.ReLU(inplace=True)), "it fails with RuntimeError: a leaf Variable"),
    (lambda: testing.check_launcher(lambda *_: None), "it fails with TypeError: 'NoneType'"),
    (lambda: testing.check_activation(lambda: nn.Softmax(dim=1)), "depends on the values around it"),
    (lambda: testing.check_activation(lambda: nn.Threshold(9, 9)), "gradient is 0 everywhere"),
    (lambda: testing.check_network(undone, in_channels=1, classes=2), "initialize leaves linear.bias without a value"),
    (lambda: testing.check_dataset(partial(lambda seen, _root: a_data_set(seen), [])), "has two fingerprints"),
    (lambda: testing.check_activation(Counting), "keeps something of what it has seen in a buffer"),
    (lambda: testing.check_activation(Drifting), "is different later"),
    (lambda: testing.check_dataset(lambda _root: a_data_set(classes=("a", "a"))), "have the same name"),
    (lambda: testing.check_augmentation(lambda images, _draw: images - images.mean()), "differently in another batch"),
    (lambda: testing.check_augmentation(lambda images, _draw: images.flip(3)), "another seed has the same numbers"),
    (lambda: testing.check_augmentation(lambda images, _draw: images.mul_(0.5)), "were changed"),
    (lambda: testing.check_augmentation(lambda images, _draw: images[:, :, 1:]), "140×3×16×16 became 140×3×15×16"),
    (lambda: testing.check_mixing(Mix(0, lambda *_: (torch.zeros(0).long().numpy(), ()), lambda images, labels, classes, *_:
     (images, torch.ones(len(labels), classes)))), "do not add up to 1"),
    (lambda: testing.check_normalization(lambda *_: Normalization("affine", tuple(torch.rand(3).tolist()), (1.0,) * 3)),
     "estimated twice from the same images and seed, it differs"),
    (lambda: testing.check_schedule(lambda _span: lambda step, _losses: 1.0 + step), "not within 0 and 1"),
    (lambda: testing.check_optimizer(deaf, lr=0.1), "after 30 steps"),
    (lambda: testing.check_optimizer(forgetful, lr=0.05), "the bits differ"),
    (lambda: testing.check_loss(lambda logits, targets: nn.functional.cross_entropy(logits, targets, reduction="none")),
     "the loss of a batch is 6 numbers, not one"),
    (lambda: testing.check_penalty(lambda parameters: sum(p.norm() for p in parameters)), "without parameters"),
    (lambda: testing.check_launcher(lambda _jobs, _runs, _room: []), "does not end in JobFailed"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "says"), BROKEN, ids=[says for _, says in BROKEN])
def test_a_part_that_breaks_its_contract_is_told_in_one_line(check, says):
    with pytest.raises(AssertionError, match=says) as caught:
        check()
    assert "\n" not in str(caught.value)

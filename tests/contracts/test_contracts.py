"""Every member of every table through the contract of its kind, and each contract against parts that break it.

Data sets are loaded from files of each form in `tests/data_sets`, and go through theirs there.
"""

import itertools
from functools import partial

import matplotlib.pyplot
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from residuum import testing
from residuum.attribution import METHODS
from residuum.conduct.launchers import LAUNCHERS, launch_of
from residuum.config import YOUNG
from residuum.data.augment import AUGMENTATIONS
from residuum.data.dataset import Dataset, Split
from residuum.data.mix import MIXES, Mix
from residuum.data.normalize import NORMALIZERS, Normalization
from residuum.models import MODELS, build
from residuum.models.activations import ACTIVATIONS
from residuum.models.blocks import BLOCKS, ORDERINGS
from residuum.models.init import INITS, he
from residuum.models.pooling import POOLINGS
from residuum.models.shortcuts import SHORTCUTS
from residuum.models.stem import STEMS, Stem
from residuum.optim import LOSSES, OPTIMIZERS, PENALTIES, SCHEDULES
from residuum.recipes import RECIPES, he2015, quick
from residuum.records.measures import MEASURES, Measure
from residuum.registry import Choice
from residuum.report.figures import of_runs

LR = {"sgd": 0.05, "nesterov": 0.05, "adagrad": 0.1, "adadelta": 1.0, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.005,
      "muon": 0.05}  # fmt: skip
SMALL = {"name": "staged_resnet", "blocks": [1, 2, 1], "channels": [4, 4, 7], "strides": [1, 2, 2]}
NEEDED = {"staged_resnet": {"blocks": [1, 1], "channels": [4, 6]}}


PARTS = {
    "activation": (testing.check_activation, ACTIVATIONS),
    "shortcut": (testing.check_shortcut, SHORTCUTS),
    "stem": (testing.check_stem, STEMS),
    "pooling": (testing.check_pooling, POOLINGS),
    "initialization": (testing.check_initialization, INITS),
    "augmentation": (testing.check_augmentation, AUGMENTATIONS),
    "normalization": (testing.check_normalization, NORMALIZERS),
    "schedule": (testing.check_schedule, SCHEDULES),
    "loss": (testing.check_loss, LOSSES),
}
"""Parts whose contract takes nothing but their builder, with the table that has them."""


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, (_, table) in PARTS.items() for name in table])
def test_every_part(kind, name):
    check, table = PARTS[kind]
    check(table.bind(name))


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


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe(name):
    testing.check_recipe(RECIPES[name])


@pytest.mark.parametrize("name", list(MEASURES))
def test_every_measure(name):
    testing.check_measure(MEASURES[name])


@pytest.mark.parametrize("name", list(of_runs.table()))
def test_every_figure_of_runs(name):
    testing.check_figure(of_runs.table()[name].draw)


@pytest.mark.parametrize("name", list(MIXES))
def test_every_mixing(name):
    testing.check_mixing(MIXES.build(name))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer(name):
    testing.check_optimizer(OPTIMIZERS.bind(name), lr=LR[name])


@pytest.mark.parametrize("name", list(PENALTIES))
def test_every_penalty(name):
    testing.check_penalty(PENALTIES.bind({"name": name, "weight": 0.1}))


@pytest.mark.parametrize("name", list(METHODS))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)], ids=["grey", "colour"])
def test_every_method(name, shape):
    network = build(Choice(name="staged_resnet", blocks=[1, 1], channels=[4, 6]), shape[0], 5, shape[1:], 0)
    testing.check_method(METHODS.bind(name), network.eval(), shape)


# All but `here` take a minute to start and to lose a worker; tests/launchers has each of theirs, with what is theirs alone.
@pytest.mark.parametrize("name", [pytest.param(one, marks=[pytest.mark.long] * (one != "here")) for one in LAUNCHERS])
def test_every_launcher(name, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    testing.check_launcher(launch_of({"slurm": "slurm:local"}.get(name, name)))


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


def summed(in_channels, channels, stride, norm):
    """A projection that has a batch norm wherever it stands."""
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride), nn.BatchNorm2d(channels))


class Whitened(nn.Module):
    """The mean over all positions, less that over all images of the batch."""

    def forward(self, x_NCHW):
        pooled_NC = x_NCHW.mean((2, 3))
        return pooled_NC - pooled_NC.mean(0)


def spread_out(network, seed):
    """Draws all weights one after the other, so that each depends on those before it."""
    he(network, seed)
    source = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.normal_(generator=source)


def by_itself(network, seed):
    """Draws from torch's own state."""
    he(network, seed)
    network.conv1.weight.data.normal_()


def lazy(network, seed):
    """Leaves the linear layer as it is."""
    kept = network.linear.bias.clone()
    he(network, seed)
    network.linear.bias.data.copy_(kept)


def stirring(network, seed):
    """Sets torch's own state."""
    torch.manual_seed(seed + 1)
    he(network, seed)


def measured(of, **more):
    return Measure("mine", "what is mine", "%", True, of, **more)


def drawn(*, title="", number=None, pyplot=False):
    """A figure of one curve: with a title, too long a one or another one each time, in a window or not."""

    def draw(records, _labels):
        figure = matplotlib.pyplot.figure() if pyplot else Figure()
        axes = figure.subplots()
        axes.plot([row.lr for row in records[0].epochs])
        axes.set_title(title if number is None else str(next(number)))
        return figure

    return draw


BROKEN = [
    (lambda: testing.check_shortcut(lambda i, o, s, _n: nn.Conv2d(i, o, 3, stride=s, bias=False)), "images of 7×7 become"),
    (lambda: testing.check_shortcut(summed), "has a batch norm where its branch has one before"),
    (lambda: testing.check_shortcut(lambda i, o, s, _n: None if (i, s) == (o, 1) else nn.Conv2d(i, o, 1, stride=s)),
     "None at some places and a module at others"),
    (lambda: testing.check_shortcut(lambda i, o, s, _n: nn.Conv2d(i, o, 1)), "at stride 2 images of 7×7 become 4×6×7×7"),
    (lambda: testing.check_stem(lambda i, c: Stem(nn.Conv2d(i, c, 3, 2, 1), nn.Identity(), 1)), "at a stride of 1 images"),
    (lambda: testing.check_stem(lambda _i, c: Stem(nn.Conv2d(3, c, 3, 1, 1), nn.Identity(), 1)), "to 4 channels it has"),
    (lambda: testing.check_stem(lambda i, c: Stem(nn.Conv2d(i, c, 3, 1, 1), nn.Identity(), 1, "act_bn")), "none of bn_act"),
    (lambda: testing.check_stem(lambda i, c: Stem(nn.Conv2d(i, c, 3, 1, 1), nn.Conv2d(c, c, 1), 1)), "has parameters"),
    (lambda: testing.check_pooling(Whitened), "what an image becomes depends on its batch"),
    (lambda: testing.check_pooling(lambda: nn.AvgPool2d(4)), "maps of 6 channels, 8×8, become 4×6×2×2"),
    (lambda: testing.check_pooling(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Softmax(1))), "channels around it"),
    (lambda: testing.check_pooling(lambda: nn.LPPool2d(2, 4)), "2.5 everywhere has another value"),
    (lambda: testing.check_initialization(spread_out), "depends on how many layers"),
    (lambda: testing.check_initialization(by_itself), "has different values for the same seed"),
    (lambda: testing.check_initialization(lazy), "linear.bias is left without a value"),
    (lambda: testing.check_initialization(stirring), "draws from torch's own state"),
    (lambda: testing.check_initialization(lambda network, _seed: he(network, 0)), "another seed has the same weights"),
    (lambda: testing.check_recipe(lambda: quick().changed({"data.root": "/mine"})), "sets data.root"),
    (lambda: testing.check_recipe(lambda: quick().changed({"train.seed": 3})), "sets train.seed"),
    (lambda: testing.check_recipe(lambda: quick().changed({"optim.schedule": "cosin"})), "InputError: optim.schedule"),
    (lambda: testing.check_recipe(lambda: he2015().changed({"model.depth": 21})), "fails with InputError"),
    (lambda: testing.check_recipe(lambda: {"model": "resnet20"}), "gives a dict, no RunConfig"),
    (lambda: testing.check_recipe(partial(lambda turns: quick().changed({"optim.lr": next(turns)}),
                                          itertools.count(1))), "different settings"),
    (lambda: testing.check_measure(measured(lambda run: 100 * run.result.last.test.accuracy)), "fails with AttributeError"),
    (lambda: testing.check_measure(measured(MEASURES["test_error"].of)), "names no measure of held-out ones"),
    (lambda: testing.check_measure(measured(MEASURES["validation_error"].of, held_out="test_error")),
     "a value without the test images"),
    (lambda: testing.check_measure(measured(lambda run: len(run.epochs) or float("nan"))), "neither None nor a finite"),
    (lambda: testing.check_measure(measured(lambda run: float(run.config.train.seed), exact=True)), "from seed to seed"),
    (lambda: testing.check_measure(measured(lambda _run: None, held_out="validation")), "held_out is 'validation'"),
    (lambda: testing.check_figure(drawn(title="much too long " * 20)), "goes beyond the picture"),
    (lambda: testing.check_figure(drawn(number=itertools.count())), "another picture the second time"),
    (lambda: testing.check_figure(drawn(pyplot=True)), "kept open as a window"),
    (lambda: testing.check_figure(lambda _records, _labels: Figure()), "shows nothing"),
    (lambda: testing.check_figure(lambda records, labels: drawn()([records[0]], labels) if records[0].epochs else 1 / 0), "ZeroDivisionError"),
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

"""What tensors do not tell: every such setting is one, random ones are caught by logits, and the right ones agree."""

import random
import re

import published
import pytest
import slow_networks
import torch

from residuum.config import RunConfig, parse_setting
from residuum.errors import InputError
from residuum.models import MODELS, build
from residuum.models.untold import untold, with_tensors
from residuum.networks.names import network
from residuum.networks.presets import OTHER_PIXELS, PRESETS
from residuum.registry import Choice
from residuum.run import importing

IMAGES = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
PIXELS = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
CIFAR = {"channels": [4, 8, 16]}
NETWORKS = {
    "resnet14": {"name": "cifar_resnet", "depth": 14, **CIFAR},
    "projecting": {"name": "cifar_resnet", "depth": 14, "shortcut": "projection", **CIFAR},
    "bottlenecks": {"name": "cifar_resnet", "depth": 20, "block": "bottleneck", "shortcut": "projection", **CIFAR},
    "imagenet": {"name": "imagenet_resnet", "depth": 50, "channels": [4, 8, 16, 32]},
    "staged": {"name": "staged_resnet", "blocks": [1, 2, 1], "channels": [4, 8, 16], "shortcut": "identity"},
    "pre-activated": {"name": "cifar_resnet", "depth": 14, "ordering": "full_preactivation", **CIFAR},
    "pre-activated, projecting": {
        "name": "cifar_resnet", "depth": 14, "ordering": "full_preactivation", "shortcut": "projection", **CIFAR
    },
}  # fmt: skip
ALL = {
    "stem.stride": [2], "stem.pool": ["max"], "stem.after": ["bn"], "pooling": ["max"], "bn_eps": [1e-3, 1e-4],
    "activation": ["leaky_relu", "elu", "swish", "gelu", "mish", "hardswish", "selu", "sigmoid", "tanh"],
}  # fmt: skip
POST = {
    "ordering": ["bn_after_addition", "relu_before_addition", "relu_only_preactivation"],
    "ordering.act_after": [False],
}
OPTION_A = {"shortcut.zeros": ["before", "after"], "shortcut.subsample": ["average", "max"]}
UNTOLD = {
    "resnet14": {**ALL, **POST, **OPTION_A, "stride_at": ["second"], "shortcut": ["none"]},
    "projecting": {**ALL, **POST, "shortcut.subsample": ["average"], "stride_at": ["second"]},
    "bottlenecks": {**ALL, **POST, "shortcut.subsample": ["average"], "stride_at": ["3x3"]},
    "imagenet": {**ALL, **POST, "shortcut.subsample": ["average"], "stride_at": ["3x3"]},
    "staged": {**ALL, **POST, **OPTION_A, "stride_at": ["second"], "shortcut": ["none"]},
    "pre-activated": {
        **{path: values for path, values in ALL.items() if path != "stem.after"},
        **OPTION_A, "stride_at": ["second"], "shortcut.reads": ["activated"], "shortcut": ["none"],
    },
    "pre-activated, projecting": {
        **{path: values for path, values in ALL.items() if path != "stem.after"},
        "shortcut.subsample": ["average"], "stride_at": ["second"], "shortcut.reads": ["input"],
    },
}  # fmt: skip
"""By network, other values that its tensors fit as well; `stride_at` of cifar and staged networks is the block's."""


def ours(name, path):
    return "block.stride_at" if path == "stride_at" and name != "imagenet" else path


def theirs(name, differences):
    """The settings of the slow network for a network of ours with differences."""
    own = NETWORKS[name]
    projects = own.get("shortcut", "identity") == "projection" or name == "imagenet"
    base = {
        "ordering": own.get("ordering", "original"),
        "stride_at": "1x1" if name in ("bottlenecks", "imagenet") else "first",
        "shortcut.reads": "activated" if projects else "input",
        "shortcut.subsample": "slice",
    }
    return base | differences


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_untold_is_what_a_slow_network_computes_otherwise_from_the_same_tensors(name):
    model = MODELS.resolve(NETWORKS[name])
    found = untold(model, 3, 10, (32, 32))
    expected = {ours(name, path): values for path, values in UNTOLD[name].items()}
    for path, values in expected.items():
        assert {str(value) for value in values} <= {str(value) for value in found.get(path, [])}, path
    assert {path for path in found if path not in expected} <= {"strides"}
    network_ = published.scattered(build(model, 3, 10, (32, 32), 0), 2)
    x_NCHW = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expected_NK = network_(x_NCHW)
    torch.testing.assert_close(slow_networks.logits(network_.state_dict(), x_NCHW, **theirs(name, {})), expected_NK)
    for path, values in UNTOLD[name].items():
        for value in values:
            other = slow_networks.logits(network_.state_dict(), x_NCHW, **theirs(name, {path: value}))
            assert not torch.allclose(other, expected_NK, rtol=1e-4, atol=1e-4), (path, value)


def case(seed, count=None):
    """A network with random tensors and random differences that they do not tell; those, and its logits."""
    source = random.Random(seed)
    name = source.choice(list(NETWORKS))
    choices = UNTOLD[name]
    paths = source.sample(sorted(choices), count or source.randint(2, 4))
    if "shortcut" in paths:  # none: what else a shortcut would be matters no more
        paths = [path for path in paths if not path.startswith("shortcut.")]
    if "ordering" in paths:
        paths = [path for path in paths if path != "ordering.act_after"]
    differences = {path: source.choice(choices[path]) for path in paths}
    net = published.scattered(build(Choice.of(NETWORKS[name]), 3, 10, (32, 32), 0), seed)
    x_NCHW = (IMAGES.float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        logits_NK = slow_networks.logits(net.state_dict(), x_NCHW, **theirs(name, differences))
    return name, net.state_dict(), differences, logits_NK


def read(name, path, differences=()):
    pixels = {"name": "standardize", "mean": PIXELS[0], "std": PIXELS[1]}
    settings = {f"model.{ours(name, path)}": value for path, value in dict(differences).items()}
    config = RunConfig().changed({"model": NETWORKS[name], "data.validation": 0, "data.normalize": pixels})
    return importing.read_weights(path, config, importing.cifar10_without_images(), settings=settings)


def seeds(first, count):
    """So many seeds, of which the second half is for `make long`."""
    return [
        pytest.param(seed, marks=[pytest.mark.long] * (seed >= first + count // 2))
        for seed in range(first, first + count)
    ]


@pytest.mark.parametrize("seed", seeds(0, 16))
def test_random_differences_are_caught_by_the_logits_and_the_right_settings_agree(seed, tmp_path, monkeypatch):
    monkeypatch.setattr("residuum.run.variants.MOST", 10)
    monkeypatch.setattr("residuum.run.constants.NETWORKS", 1)
    name, state, differences, logits_NK = case(seed)
    torch.save(state, tmp_path / "w.pt")
    torch.save({"images": IMAGES, "logits": logits_NK}, tmp_path / "logits.pt")
    right = read(name, tmp_path / "w.pt", differences)
    compared = importing.check_reference(right, tmp_path / "logits.pt")
    assert compared.agrees
    assert compared.difference <= 1e-5 * float(logits_NK.abs().max()) + 1e-6
    assert compared.agreeing == len(IMAGES)
    with pytest.raises(InputError, match="nothing was written"):
        importing.check_reference(read(name, tmp_path / "w.pt"), tmp_path / "logits.pt")


@pytest.mark.parametrize("seed", seeds(100, 12))
def test_one_random_difference_is_named(seed, tmp_path):
    name, state, differences, logits_NK = case(seed, count=1)
    torch.save(state, tmp_path / "w.pt")
    torch.save({"images": IMAGES, "logits": logits_NK}, tmp_path / "logits.pt")
    ((path, value),) = differences.items()
    with pytest.raises(InputError, match="nothing was written; with --") as refused:
        importing.check_reference(read(name, tmp_path / "w.pt"), tmp_path / "logits.pt")
    said = str(refused.value)
    assert f"--set model.{ours(name, path)}={str(value).lower()} they agree" in said or "--preset" in said
    assert "\n" not in said


def constants_of(seed):
    """Constants of pixels that no list has, and perhaps one setting more that tensors do not tell."""
    source = random.Random(seed)
    mean, std = ([round(source.uniform(*between), 3) for _ in range(3)] for between in ((0.35, 0.6), (0.15, 0.35)))
    return mean, std, {"shortcut.zeros": "after"} if seed == 1 else {}


@pytest.mark.parametrize(("seed", "words"), [(0, ""), (1, "--set model.shortcut.zeros=after "), (2, "--channels bgr ")])
def test_constants_of_pixels_that_no_list_has_are_found(seed, words, tmp_path, monkeypatch):
    monkeypatch.setattr("residuum.run.variants.MOST", 40)  # the pairs take longest, and have none of these
    mean, std, differences = constants_of(seed)
    net = published.scattered(build(Choice.of(NETWORKS["resnet14"]), 3, 10, (32, 32), 0), seed)
    seen_NCHW = IMAGES.flip(1) if "bgr" in words else IMAGES
    x_NCHW = (seen_NCHW.float() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        logits_NK = slow_networks.logits(net.state_dict(), x_NCHW, **theirs("resnet14", differences))
    torch.save(net.state_dict(), tmp_path / "w.pt")
    torch.save({"images": IMAGES, "logits": logits_NK}, tmp_path / "logits.pt")
    with pytest.raises(InputError, match="nothing was written; with --") as refused:
        importing.check_reference(read("resnet14", tmp_path / "w.pt"), tmp_path / "logits.pt")
    listed = " ".join(",".join(f"{value:g}" for value in values) for values in (mean, std))
    assert str(refused.value).endswith(f"; with {words}--normalize {listed} they agree")
    if "bgr" in words:  # told so, it is right; and said with it, other constants are found in that order
        pixels = {"name": "standardize", "mean": mean, "std": [0.25] * 3}
        config = RunConfig().changed({"model": NETWORKS["resnet14"], "data.validation": 0, "data.normalize": pixels})
        turned = importing.read_weights(tmp_path / "w.pt", config, importing.cifar10_without_images(), channels="bgr")
        with pytest.raises(InputError, match=f"; with --normalize {listed} they agree"):
            importing.check_reference(turned, tmp_path / "logits.pt")


LEAKY = [{"name": "leaky_relu", "negative_slope": slope} for slope in (0.1, 0.2, 0.3)]
PAIRS = [
    {"activation": LEAKY[0]},
    {"activation": LEAKY[2], "stem.pool": "max"},
    {"shortcut.zeros": "after", "shortcut.subsample": "average"},
    {"shortcut.zeros": "before", "bn_eps": 1e-3},
]


def differing(seed):
    """Two settings of ResNet-14 that nobody listed, of which no one makes the other void."""
    source = random.Random(seed)
    choices = UNTOLD["resnet14"] | {"activation": [*ALL["activation"], *LEAKY]}
    while True:
        paths = source.sample(sorted(choices), 2)
        found = {path: source.choice(choices[path]) for path in paths}
        void = found.get("shortcut") and any(path.startswith("shortcut.") for path in paths)
        if not void and not ("ordering" in found and {"stem.after", "ordering.act_after"} & {*found}):
            return found


@pytest.mark.parametrize("differences", [*PAIRS, differing(1), differing(2)], ids=str)
def test_a_slope_of_leaky_relu_and_two_differences_at_once_are_named(differences, tmp_path, monkeypatch):
    monkeypatch.setattr("residuum.run.variants.MOST", 250)  # of some thousand pairs
    net = published.scattered(build(Choice.of(NETWORKS["resnet14"]), 3, 10, (32, 32), 0), 3)
    with torch.no_grad():
        logits_NK = slow_networks.logits(net.state_dict(), (IMAGES.float() / 255 - 0.5) / 0.25, **differences)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    torch.save({"images": IMAGES, "logits": logits_NK}, tmp_path / "logits.pt")
    with pytest.raises(InputError, match="nothing was written; with --") as refused:
        importing.check_reference(read("resnet14", tmp_path / "w.pt"), tmp_path / "logits.pt")
    said = str(refused.value).partition("; with ")[2].removesuffix(" they agree")
    right = dict(map(parse_setting, re.findall(r"--set (\S+)", said)))
    config = RunConfig().changed({"model": NETWORKS["resnet14"]}).changed(right)
    expected = {f"model.{ours('resnet14', path)}": value for path, value in differences.items()}
    assert config.model == RunConfig().changed({"model": NETWORKS["resnet14"]}).changed(expected).model, said


@pytest.mark.parametrize(
    ("of", "given"), [("probabilities", torch.Tensor.softmax), ("log-probabilities", torch.Tensor.log_softmax)]
)
def test_what_a_network_with_a_softmax_at_its_end_gives_is_compared_as_such(of, given, tmp_path):
    name, state, _, _ = case(0)
    x_NCHW = (IMAGES.float() / 255 - 0.5) / 0.25
    logits_NK = slow_networks.logits(state, x_NCHW, **theirs(name, {}))
    torch.save(state, tmp_path / "w.pt")
    torch.save({"images": IMAGES, "logits": given(logits_NK, 1)}, tmp_path / "l.pt")
    compared = importing.check_reference(read(name, tmp_path / "w.pt"), tmp_path / "l.pt")
    assert (compared.agrees, compared.of) == (True, of)


def test_what_is_assumed_is_told_by_its_paths_and_values(tmp_path):
    name, state, _, _ = case(0)
    torch.save(state, tmp_path / "w.pt")
    imported = read(name, tmp_path / "w.pt")
    config = imported.config.settings()
    assert {path: config[path] for path in imported.assumed if path in config} == {
        path: value for path, value in imported.assumed.items() if path in config
    }
    assert imported.assumed["model.activation"] == "relu"
    assert imported.assumed["model.bn_eps"] == 1e-5
    record = importing.keep(imported, tmp_path / "runs")
    assert record.config.compute.precision == "fp32"
    assert (record.folder / "origin.json").exists()


def test_every_short_name_tells_something_but_not_its_bottlenecks_stride():
    for name in ("resnet50", "bottleneck29", "preact50"):
        found = untold(MODELS.resolve(network(name)), 3, 10, (32, 32))
        assert "3x3" in found.get("stride_at", found.get("block.stride_at", [])), name


def test_basic_blocks_of_resnet_18_have_their_stride_elsewhere_as_a_staged_network_of_the_same_tensors():
    own = build(Choice.of({"name": "imagenet_resnet", "channels": [4, 8, 8, 8]}), 3, 10, (32, 32), 0)
    staged = {"name": "staged_resnet", "blocks": [2, 2, 2, 2], "channels": [4, 8, 8, 8]}
    state = published.scattered(own, 1).state_dict()
    x_NCHW = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    logits = {
        at: with_tensors(MODELS.resolve({**staged, "block": {"name": "basic", "stride_at": at}}), 3, 10, state)(x_NCHW)
        for at in ("first", "second")
    }
    assert torch.equal(logits["first"], own(x_NCHW))
    expected = slow_networks.logits(state, x_NCHW, stride_at="second", **{"shortcut.reads": "activated"})
    torch.testing.assert_close(logits["second"], expected)
    assert not torch.allclose(logits["second"], logits["first"], rtol=1e-2)


@pytest.mark.parametrize("seed", range(3))
def test_constants_of_pixels_that_training_scripts_have_are_found_by_logits(seed, tmp_path):
    source = random.Random(seed)
    of_presets = [pixels for preset in PRESETS.values() for pixels in preset.pixels.values()]
    known = [one for one in OTHER_PIXELS.values() if len(one[0]) == 3 and one not in of_presets]
    mean, std = source.choice(known)
    name, state, _, _ = case(0)
    per_channel = [torch.tensor(values).reshape(1, 3, 1, 1) for values in (mean, std)]
    x_NCHW = (IMAGES.float() / 255 - per_channel[0]) / per_channel[1]
    with torch.no_grad():
        logits_NK = slow_networks.logits(state, x_NCHW, **theirs(name, {}))
    torch.save(state, tmp_path / "w.pt")
    torch.save({"images": IMAGES, "logits": logits_NK}, tmp_path / "logits.pt")
    with pytest.raises(InputError, match=r"with --normalize .* they agree") as refused:
        importing.check_reference(read(name, tmp_path / "w.pt"), tmp_path / "logits.pt")
    said = re.search(r"--normalize (\S+) (\S+) they", str(refused.value)).groups()
    assert [[float(value) for value in text.split(",")] for text in said] == [
        pytest.approx(mean, rel=1e-5), pytest.approx(std, rel=1e-5)
    ]  # fmt: skip

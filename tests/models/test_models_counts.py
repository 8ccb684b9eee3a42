"""Parameters to the digit and multiply-adds of the published networks, and the table of layers."""

import gc

import pytest
import torch

from residuum.models import MODELS, build
from residuum.models.summary import summarize
from residuum.networks.names import network
from residuum.registry import Choice


def on_meta(model, classes=10):
    with torch.device("meta"):
        return MODELS.build(model, 3, classes)


OPTION_A = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962, 1202: 19_421_274}
OTHERS = {
    "resnet10c": 4_903_242,
    "resnet16c": 4_909_642,
    "resnet24c": 4_935_242,
    "resnet48c": 4_994_378,
    "resnet18": 11_173_962,
}


@pytest.mark.parametrize(("depth", "parameters"), OPTION_A.items())
def test_parameters_of_the_cifar_networks(depth, parameters):
    assert sum(p.numel() for p in on_meta(network(f"resnet{depth}")).parameters()) == parameters
    assert sum(p.numel() for p in on_meta(network(f"plain{depth}")).parameters()) == parameters
    with_projections = on_meta(network(f"resnet{depth}") | {"shortcut": "projection"})
    assert sum(p.numel() for p in with_projections.parameters()) == parameters + 2_752


@pytest.mark.parametrize(("name", "parameters"), OTHERS.items())
def test_parameters_of_report_c_and_of_resnet18(name, parameters):
    assert sum(p.numel() for p in on_meta(network(name)).parameters()) == parameters


@pytest.mark.parametrize(
    ("depth", "parameters"), {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}.items()
)
def test_parameters_of_the_imagenet_networks_are_those_of_public_ones(depth, parameters):
    assert sum(p.numel() for p in on_meta(network(f"resnet{depth}-imagenet"), 1000).parameters()) == parameters


def test_parameters_of_wide_resnet_28_10():
    """Zagoruyko and Komodakis 2016, table 4: 36.5 M; their networks are fully pre-activated, with projections."""
    model = {"name": "cifar_resnet", "depth": 26, "wide": 10, "ordering": "full_preactivation"}
    assert sum(p.numel() for p in on_meta(model | {"shortcut": "projection"}).parameters()) == 36_479_194


@pytest.mark.parametrize(
    ("depth", "paper", "exact"),
    [
        (18, 1.8, 1_814_073_344),
        (34, 3.6, 3_663_761_408),
        (50, 3.8, 3_857_973_248),
        (101, 7.6, 7_570_194_432),
        (152, 11.3, 11_282_415_616),
    ],
)
def test_multiply_adds_of_the_imagenet_networks(depth, paper, exact):
    """He et al. 2015, table 1. The paper cuts some figures and rounds others: less than one unit of its last digit."""
    macs = summarize(on_meta(network(f"resnet{depth}-imagenet"), 1000), (3, 224, 224)).macs
    assert macs == exact
    assert abs(macs / 1e9 - paper) < 0.1


def test_multiply_adds_of_resnet20_by_hand():
    def conv(pixels, channels_in, channels, kernel=3):
        return pixels * channels_in * channels * kernel**2

    stem = conv(32 * 32, 3, 16)
    stages = (
        6 * conv(32 * 32, 16, 16)
        + conv(16 * 16, 16, 32) + 5 * conv(16 * 16, 32, 32)
        + conv(8 * 8, 32, 64) + 5 * conv(8 * 8, 64, 64)
    )  # fmt: skip
    projections = conv(16 * 16, 16, 32, kernel=1) + conv(8 * 8, 32, 64, kernel=1)
    assert summarize(on_meta(network("resnet20")), (3, 32, 32)).macs == stem + stages + 64 * 10
    option_b = on_meta(network("resnet20") | {"shortcut": "projection"})
    assert summarize(option_b, (3, 32, 32)).macs == stem + stages + projections + 64 * 10


def test_stride_at_the_3x3_costs_what_torchvision_counts():
    model = {"name": "staged_resnet", "blocks": [3, 4, 6, 3], "channels": [64, 128, 256, 512], "stem": "7x7"}
    late = on_meta(model | {"block": {"name": "bottleneck", "stride_at": "3x3"}}, 1000)
    assert summarize(late, (3, 224, 224)).macs == 4_089_184_256


def test_the_table_of_layers():
    net = build(Choice(**network("resnet20") | {"stem": "7x7", "shortcut": "projection"}), 3, 10, (32, 32), 0)
    layers = {layer.name: layer for layer in summarize(net, (3, 32, 32)).layers}
    rows = [(layer.kind, layer.output_shape, layer.parameters) for layer in layers.values()]
    assert rows[:2] == [("conv 7x7 /2", (16, 16, 16), 2352), ("batch norm", (16, 16, 16), 32)]
    assert rows[2] == ("max pool 3x3 /2", (16, 8, 8), 0)
    assert rows[-2:] == [("global average pool", (64, 1, 1), 0), ("linear", (10,), 650)]
    assert layers["layer2.0.shortcut.0"].kind == "conv 1x1 /2"
    assert layers["layer2.0.shortcut.0"].macs == 4 * 4 * 16 * 32
    option_a = summarize(on_meta(network("resnet20")), (3, 32, 32))
    subsampled = [layer.name for layer in option_a.layers if layer.kind == "subsample"]
    assert subsampled == ["layer2.0.shortcut", "layer3.0.shortcut"]


def test_a_summary_leaves_the_network_as_it_was():
    net = build(Choice(**network("resnet20")), 3, 10, (32, 32), 0)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    summarize(net, (3, 32, 32))
    with pytest.raises(RuntimeError):
        summarize(net, (4, 32, 32))
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(p.device.type == "cpu" and p.requires_grad for p in net.parameters())


def test_counting_leaves_nothing_behind():
    """Autograd's hooks hold what they keep in a ring that the collector does not see."""

    def tensors():
        gc.collect()
        return sum(isinstance(one, torch.Tensor) for one in gc.get_objects())

    small = on_meta(network("resnet8"))
    summarize(small, (3, 8, 8))
    before = tensors()
    for _ in range(3):
        summarize(small, (3, 8, 8))
    assert tensors() <= before

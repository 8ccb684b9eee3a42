"""Looking at layers: the figures are those of an obvious computation, and the network is left as it was."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from residuum.engine.compute import Compute
from residuum.engine.looking import caught, histograms, look
from residuum.errors import InputError
from residuum.models import MODELS, build
from residuum.records import layers as files
from residuum.records.layers import BINS
from residuum.registry import Choice

ON = Compute(torch.device("cpu"), "fp32", 1)


def network(**settings):
    model = MODELS.resolve(Choice.of({"name": "cifar_resnet", "depth": 8, "channels": [4, 6, 8], **settings}), "model")
    return build(model, 3, 5, (12, 12), 0).train()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(16, 3, 12, 12, generator=generator), torch.randint(0, 5, (16,), generator=generator)


@pytest.mark.parametrize("shortcut", ["identity", "none", "projection"])
@pytest.mark.parametrize("ordering", ["original", "full_preactivation", "bn_after_addition", "relu_before_addition"])
def test_figures_are_those_of_an_obvious_computation(batch, shortcut, ordering):
    """A network of one block, written out: responses, activations, and gradients by the usual backward pass."""
    net = network(shortcut=shortcut, ordering=ordering)
    seen = look(net, *batch, ON, epoch=3)
    twin = network(shortcut=shortcut, ordering=ordering)
    loss = F.cross_entropy(twin(batch[0]), batch[1])
    loss.backward()
    assert seen.epoch == 3
    assert seen.images == 16
    for number, (name, parameter) in enumerate(twin.named_parameters()):
        assert seen.gradients.names[number] == seen.parameters.names[number] == name
        assert seen.gradients.norm_T[number] == pytest.approx(parameter.grad.norm().item(), rel=1e-4), name
        assert seen.parameters.norm_T[number] == pytest.approx(parameter.norm().item(), rel=1e-5), name
    kernels = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert sorted(seen.responses.names) == sorted(kernels)


def test_a_response_is_taken_after_the_batch_norm_that_follows(batch):
    net = network()
    net.layer1[0].bn1.weight.data.mul_(3)
    seen = look(net, *batch, ON, epoch=0)
    by_name = dict(zip(seen.responses.names, seen.responses.std_T, strict=True))
    assert by_name["layer1.0.conv1"] == pytest.approx(3, rel=1e-2)  # batch norm gives a deviation of 1, times 3
    images_NCHW, _ = batch
    first = net.bn1(net.conv1(images_NCHW))
    assert by_name["conv1"] == pytest.approx(first.std(correction=0).item(), rel=1e-5)
    pre = network(ordering="full_preactivation")
    pre_seen = look(pre, *batch, ON, epoch=0)
    pre_by_name = dict(zip(pre_seen.responses.names, pre_seen.responses.std_T, strict=True))
    block = pre.layer1[0]
    x = pre.act(pre.bn1(pre.conv1(images_NCHW)))
    inner = block.conv2(block.act(block.bn2(block.conv1(x))))  # nothing normalises it before the addition
    assert pre_by_name["layer1.0.conv2"] == pytest.approx(inner.std(correction=0).item(), rel=1e-5)


def test_activations_come_in_the_order_of_the_pass_and_dead_channels_are_found(batch):
    net = network()
    with torch.no_grad():
        net.layer2[0].bn1.weight[:2] = 0
        net.layer2[0].bn1.bias[:2] = -1  # two of six channels can only be zero after the ReLU
    seen = look(net, *batch, ON, epoch=0)
    assert seen.activations.names == (
        "act", "layer1.0.act", "layer1.0.act2", "layer2.0.act", "layer2.0.act2", "layer3.0.act", "layer3.0.act2",
    )  # fmt: skip
    dead = dict(zip(seen.activations.names, seen.dead_A, strict=True))
    assert dead["layer2.0.act"] == pytest.approx(2 / 6)
    assert dead["act"] == 0
    assert look(network(activation="sigmoid"), *batch, ON, epoch=0).dead_A.max() == 0


def test_the_network_is_left_as_it_was(batch):
    net = network()
    net(batch[0]).sum().backward()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    random = torch.get_rng_state()
    look(net, *batch, ON, epoch=0)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, before) for p, before in zip(net.parameters(), gradients, strict=True))
    assert torch.equal(random, torch.get_rng_state())
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())


def test_hooks_are_gone_after_an_error_as_well(batch):
    net = network()
    with pytest.raises(RuntimeError), caught(net):
        net(batch[0][:, :2])
    assert not any(module._forward_hooks for module in net.modules())


def test_gradients_below_float32_are_still_measured(batch):
    """Sixty sigmoids without batch norm: the first gradient is near 1e-42, where float32 has no digits left."""
    torch.manual_seed(0)
    layers = [layer for _ in range(60) for layer in (nn.Linear(8, 8), nn.Sigmoid())]
    net = nn.Sequential(nn.Flatten(), nn.Linear(432, 8), *layers, nn.Linear(8, 5))
    seen = look(net, *batch, ON, epoch=0)
    exact = net.double()
    F.cross_entropy(exact(batch[0].double()), batch[1]).backward()
    for number, parameter in enumerate(exact.parameters()):
        assert seen.gradients.norm_T[number] == pytest.approx(parameter.grad.norm().item(), rel=1e-3)
    assert 0 < seen.gradients.norm_T[0] < 1e-38


def test_histograms_count_every_value():
    tensors = {
        "normal": torch.randn(1000, generator=torch.Generator().manual_seed(0)),
        "all the same": torch.full((7,), 3.0),
        "infinite": torch.tensor([1.0, float("inf")]),
        "not a number": torch.tensor([float("nan"), 1.0]),
    }
    found = histograms(tensors)
    assert found.counts_TB.sum(axis=1).tolist() == [1000, 7, 0, 0]
    counts, edges = np.histogram(tensors["normal"].numpy(), BINS)
    assert np.abs(found.counts_TB[0] - counts).max() <= 1  # an edge may fall to either side
    assert (found.low_T[0], found.high_T[0]) == pytest.approx((edges[0], edges[-1]))
    assert (found.low_T[1], found.high_T[1], found.std_T[1]) == (3, 3, 0)
    assert np.isnan(found.low_T[2:]).all()
    assert histograms({}).counts_TB.shape == (0, BINS)


def test_what_was_seen_comes_back_from_the_disk(tmp_path, batch):
    seen = look(network(), *batch, ON, epoch=2)
    files.write(tmp_path, seen)
    files.write(tmp_path, look(network(), *batch, ON, epoch=10))
    back, later = files.read(tmp_path)
    assert later.epoch == 10
    assert (back.epoch, back.images) == (2, 16)
    for group in files.GROUPS:
        for array in files.ARRAYS:
            assert np.array_equal(getattr(getattr(back, group), array), getattr(getattr(seen, group), array))
        assert getattr(back, group).names == getattr(seen, group).names
    assert np.array_equal(back.dead_A, seen.dead_A)
    assert files.read(tmp_path / "layers") == ()  # a folder without a record


def test_a_damaged_file_is_named(tmp_path, batch):
    files.write(tmp_path, look(network(), *batch, ON, epoch=2))
    path = tmp_path / "layers" / "epoch-0002.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"epoch-0002\.safetensors is damaged"):
        files.read(tmp_path)

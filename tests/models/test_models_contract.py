"""What every network of the tables holds to, and every ordering against a twin written out by hand."""

import itertools
import re

import pytest
import torch
import torch.nn.functional as F

from residuum.errors import InputError
from residuum.models import MODELS, build, summary
from residuum.models.activations import ACTIVATIONS
from residuum.models.blocks import BLOCKS, ORDERINGS, Block
from residuum.models.init import INITS
from residuum.models.shortcuts import SHORTCUTS, Subsample
from residuum.models.stem import STEMS
from residuum.models.summary import summarize
from residuum.networks.names import network, network_names, short_name
from residuum.registry import Choice


def small(seed=0, image_size=(8, 8), classes=3, **settings):
    """Three stages, so that the shape stays in one, changes in two; two blocks in one, so that one repeats."""
    values = {"blocks": [1, 2, 1], "channels": [4, 4, 7], "strides": [1, 2, 2]} | settings
    return build(Choice(name="staged_resnet", **values), 2, classes, image_size, seed)


COMBINATIONS = list(itertools.product(ORDERINGS, SHORTCUTS, BLOCKS))


@pytest.mark.parametrize(("ordering", "shortcut", "block"), COMBINATIONS)
def test_the_summary_of_every_combination_counts_its_parameters(ordering, shortcut, block):
    net = small(ordering=ordering, shortcut=shortcut, block=block)
    assert any(".shortcut." in name for name in net.state_dict()) == ("projection" in shortcut)
    summary = summarize(net, (2, 8, 8))
    assert summary.parameters == sum(p.numel() for p in net.parameters())
    assert summary.parameters == sum(layer.parameters for layer in summary.layers)
    assert summary.layers[-1].output_shape == (3,)


def test_without_batch_norm_there_is_none_anywhere():
    names = {name for name, _ in small(ordering="without_bn", shortcut="projection").named_parameters()}
    with_it = {name for name, _ in small(shortcut="projection").named_parameters()}
    assert names == {
        name for name in with_it if "bn" not in name and not name.rpartition("shortcut.")[2].startswith("1.")
    }
    kernels = {name for name in names if not name.startswith("linear")}
    assert {name.rpartition(".")[2] for name in kernels} == {"weight"}


def test_plain_networks_add_nothing_and_have_the_parameters_of_their_twin():
    for ordering in ORDERINGS:
        plain, residual = (small(shortcut=s, ordering=ordering, channels=[4, 4, 8]) for s in ("none", "identity"))
        assert all(block.shortcut is None for block in plain.modules() if isinstance(block, Block))
        assert {n: p.shape for n, p in plain.named_parameters()} == {n: p.shape for n, p in residual.named_parameters()}


# Every network once more, written out with functions of torch alone.

ACT = F.leaky_relu  # unlike ReLU it does not forgive being applied twice


def slow_bn(state, name, x):
    """Batch norm in training mode, by its definition."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    weight, bias = (state[f"{name}.{part}"].reshape(1, -1, 1, 1) for part in ("weight", "bias"))
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def slow_option_a(x, channels, stride):
    """Option A, pixel by pixel: zeros half on each side, the smaller half first."""
    images, in_channels, height, width = x.shape
    more = channels - in_channels
    rows = []
    for i in range(0, height, stride):
        row = []
        for j in range(0, width, stride):
            sides = [torch.zeros(images, n, dtype=x.dtype) for n in (more // 2, more - more // 2)]
            row.append(torch.cat([sides[0], x[:, :, i, j], sides[1]], dim=1))
        rows.append(torch.stack(row, dim=-1))
    return torch.stack(rows, dim=-2)


def slow_block(state, name, x, ordering, shortcut, stride, first):
    def conv(number, x, stride=1):
        weight = state[f"{name}.conv{number}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def bn(number, x):
        return x if ordering == "without_bn" else slow_bn(state, f"{name}.bn{number}", x)

    last = 3 if f"{name}.conv3.weight" in state else 2
    channels = state[f"{name}.conv{last}.weight"].shape[0]

    h = x  # what enters the first convolution
    if ordering == "relu_only_preactivation" and not first:
        h = ACT(x)
    if ordering == "full_preactivation" and not first:
        h = ACT(bn(1, x))

    y = conv(1, h, stride)
    for number in range(2, last + 1):
        y = ACT(bn(number, y)) if ordering == "full_preactivation" else ACT(bn(number - 1, y))
        y = conv(number, y)
    if ordering in ("original", "relu_before_addition", "relu_only_preactivation"):
        y = bn(last, y)
    if ordering == "relu_before_addition":
        y = ACT(y)

    changes = stride != 1 or channels != x.shape[1]
    if shortcut == "identity":
        y = y + (slow_option_a(x, channels, stride) if changes else x)
    elif shortcut == "all_projection" or (shortcut == "projection" and changes):
        s = F.conv2d(h, state[f"{name}.shortcut.0.weight"], stride=stride)
        if ordering not in ("full_preactivation", "without_bn"):
            s = slow_bn(state, f"{name}.shortcut.1", s)
        y = y + s
    elif shortcut == "projection":
        y = y + x

    if ordering in ("original", "without_bn"):
        return ACT(y)
    if ordering == "bn_after_addition":
        return ACT(bn(last, y))
    return y


def slow_network(state, x, ordering, shortcut, blocks, strides, stem):
    weight = state["conv1.weight"]
    x = F.conv2d(x, weight, stride=2 if stem == "7x7" else 1, padding=weight.shape[-1] // 2)
    x = ACT(x if ordering == "without_bn" else slow_bn(state, "bn1", x))
    if stem == "7x7":
        x = F.max_pool2d(x, 3, 2, 1)
    first = True
    for stage, (count, stride) in enumerate(zip(blocks, strides, strict=True), 1):
        for index in range(count):
            x = slow_block(state, f"layer{stage}.{index}", x, ordering, shortcut, stride if index == 0 else 1, first)
            first = False
    if ordering == "full_preactivation":
        x = ACT(slow_bn(state, "bn", x))
    if ordering == "relu_only_preactivation":
        x = ACT(x)
    return x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


@pytest.mark.parametrize(("ordering", "shortcut", "block"), COMBINATIONS)
def test_logits_and_gradients_are_those_of_the_slow_twin(ordering, shortcut, block):
    source = torch.Generator().manual_seed(2)
    net = small(ordering=ordering, shortcut=shortcut, block=block, activation="leaky_relu").double()
    with torch.no_grad():  # scales and shifts of 1 and 0 would hide where batch norm stands
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    images_NCHW = torch.randn(3, 2, 9, 8, generator=source, dtype=torch.float64)
    state = dict(net.named_parameters())
    weights_NK = torch.randn(3, 3, generator=source, dtype=torch.float64)
    expected = slow_network(state, images_NCHW, ordering, shortcut, (1, 2, 1), (1, 2, 2), "3x3")
    actual = net(images_NCHW)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    gradients = [
        torch.autograd.grad((logits * weights_NK).sum(), list(state.values())) for logits in (actual, expected)
    ]
    for name, fast, slow in zip(state, *gradients, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("stem", list(STEMS))
@pytest.mark.parametrize("ordering", list(ORDERINGS))
def test_every_stem_is_that_of_the_slow_twin(stem, ordering):
    net = small(stem=stem, ordering=ordering, activation="leaky_relu", image_size=(32, 32)).double()
    images_NCHW = torch.randn(3, 2, 32, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = slow_network(
        dict(net.named_parameters()), images_NCHW, ordering, "projection", (1, 2, 1), (1, 2, 2), stem
    )
    torch.testing.assert_close(net(images_NCHW), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "stride", "size"), [(8, 2, 7), (5, 1, 6), (4, 3, 8), (11, 2, 8)])
def test_option_a_is_that_of_the_loops_and_so_is_its_gradient(channels, stride, size, memory_format):
    source = torch.Generator().manual_seed(4)
    x = torch.randn(2, 4, size, size, generator=source).contiguous(memory_format=memory_format).requires_grad_()
    fast, slow = Subsample(4, channels, stride)(x), slow_option_a(x, channels, stride)
    assert torch.equal(fast, slow)
    assert fast.is_contiguous(memory_format=memory_format)
    weights = torch.randn(slow.shape, generator=source)
    assert torch.equal(*(torch.autograd.grad((y * weights).sum(), x, retain_graph=True)[0] for y in (fast, slow)))
    assert torch.equal(Subsample(4, channels, stride)(x.bfloat16()), slow.bfloat16())


POINTS = torch.linspace(-8, 8, 65, dtype=torch.float64)
FORMULAS = {
    "relu": ({}, lambda x: x.clamp(min=0)),
    "relu6": ({}, lambda x: x.clamp(0, 6)),
    "leaky_relu": ({"negative_slope": 0.2}, lambda x: torch.where(x > 0, x, 0.2 * x)),
    "elu": ({"alpha": 0.5}, lambda x: torch.where(x > 0, x, 0.5 * (x.exp() - 1))),
    "swish": ({"beta": 1.7}, lambda x: x / (1 + (-1.7 * x).exp())),
    "gelu": ({}, lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5))),
    "mish": ({}, lambda x: x * (1 + x.exp()).log().tanh()),
    "hardswish": ({}, lambda x: x * (x + 3).clamp(0, 6) / 6),
    "selu": ({}, lambda x: 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (x.exp() - 1))),
    "sigmoid": ({}, lambda x: 1 / (1 + (-x).exp())),
    "tanh": ({}, lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
}


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_every_activation_is_its_closed_form(name):
    settings, formula = FORMULAS[name]
    values = POINTS.clone()
    activation = ACTIVATIONS.build(Choice(name=name, **settings))
    torch.testing.assert_close(activation(values), formula(POINTS), rtol=1e-12, atol=1e-12)
    assert torch.equal(values, POINTS), "an input is never changed in place"


def test_gelu_by_a_tangent_is_its_closed_form():
    inner = (2 / torch.pi) ** 0.5 * (POINTS + 0.044715 * POINTS**3)
    values = ACTIVATIONS.build({"name": "gelu", "approximate": "tanh"})(POINTS)
    torch.testing.assert_close(values, 0.5 * POINTS * (1 + inner.tanh()), rtol=1e-12, atol=1e-12)
    assert not torch.equal(values, ACTIVATIONS.build("gelu")(POINTS))


def test_swish_without_beta_is_silu():
    torch.testing.assert_close(ACTIVATIONS.build("swish")(POINTS), F.silu(POINTS), rtol=0, atol=0)
    torch.testing.assert_close(ACTIVATIONS.build({"name": "swish", "beta": 0.0})(POINTS), POINTS / 2)


@pytest.mark.parametrize("name", network_names())
def test_every_short_name_is_a_network_and_its_own_short_name(name):
    choice = MODELS.resolve(network(name), "model")
    assert short_name(choice) == name
    with torch.device("meta"):
        net = MODELS.build(choice, 3, 10)
        assert net.train()(torch.empty(2, 3, 64, 64)).shape == (2, 10)
    layers = len([n for n, p in net.named_parameters() if p.ndim in (2, 4) and "shortcut" not in n])
    depth = re.search(r"\d+", name)
    expected = int(depth[0])
    # Report C counts its projections: ResNet10 has 4 blocks of two layers, a stem and a linear layer.
    assert layers == expected


def test_a_batch_of_one_image_trains_where_the_last_map_has_more_than_one_pixel():
    """Guard 20: a last batch of 1."""
    small(image_size=(8, 8))(torch.randn(1, 2, 8, 8)).sum().backward()


def test_autocast_to_bfloat16_gives_about_the_same_and_finite_gradients():
    images_NCHW = torch.randn(8, 2, 8, 8, generator=torch.Generator().manual_seed(5))
    for ordering in ORDERINGS:
        net = small(ordering=ordering, shortcut="identity").to(memory_format=torch.channels_last)
        exact = net(images_NCHW)
        with torch.autocast("cpu", torch.bfloat16):
            rough = net(images_NCHW)
        assert torch.nn.functional.cosine_similarity(exact.flatten(), rough.float().flatten(), dim=0) > 0.99
        rough.float().square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def refused(model, text, image_size=(32, 32)):
    with pytest.raises(InputError, match=text) as caught:
        build(Choice(**model), 3, 10, image_size, 0)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_built_is_refused_in_one_line():
    cifar, staged = {"name": "cifar_resnet"}, {"name": "staged_resnet", "blocks": [1, 1], "channels": [4, 8]}
    refused({"name": "cifar_resne"}, "did you mean 'cifar_resnet'")
    refused(cifar | {"depth": 21}, r"6n\+2, not 21; the nearest is 20")
    refused(cifar | {"depth": 58, "block": "bottleneck"}, r"9n\+2, not 58; the nearest is 56")
    refused(cifar | {"depth": 8, "block": "bottleneck"}, r"the nearest is 11")
    refused(cifar | {"wide": 0.5}, r"model\.wide")
    refused(cifar | {"channels": [16, 32]}, r"model\.channels")
    refused(cifar | {"channels": [16, 32, 0]}, r"model\.channels")
    refused(cifar | {"shortcut": "identiy"}, "did you mean 'identity'")
    refused(cifar | {"activation": {"name": "relu", "slope": 1}}, r"model\.activation\.slope")
    refused(cifar | {"channels": [32, 16, 64]}, "from 32 to 16 channels; use 'projection'")
    refused(staged | {"channels": [4]}, r"model\.channels: 1 entries for 2 stages")
    refused(staged | {"strides": [1, 2, 2]}, r"model\.strides: 3 entries for 2 stages")
    refused({"name": "staged_resnet", "channels": [4]}, r"model\.blocks: .* needs this setting")
    refused({"name": "imagenet_resnet", "depth": 20}, r"model\.depth")


def test_images_too_small_for_the_strides_are_refused_and_the_smallest_are_not():
    """No stride may act on a single pixel."""
    deep = {"name": "imagenet_resnet", "stem": "7x7"}
    refused(deep, r"16×32 are too small .* 17×17 is the smallest", image_size=(16, 32))
    refused(deep, r"32×16 are too small", image_size=(32, 16))
    for model, smallest in ((deep, 17), ({"name": "cifar_resnet", "depth": 8}, 3)):
        net = build(Choice(**model), 3, 10, (smallest, smallest), 0)
        last_stage = next(layer for layer in summarize(net, (3, smallest, smallest)).layers
                          if layer.name.startswith(net.stages[-1]))  # fmt: skip
        assert last_stage.output_shape[1:] == (1, 1)
        refused(model, "too small", image_size=(smallest - 1, smallest))


def test_wide_multiplies_the_stages_and_not_the_stem():
    net = build(Choice(name="cifar_resnet", depth=8, wide=2.5, init=next(iter(INITS))), 1, 10, (8, 8), 0)
    assert [net.conv1.out_channels, net.layer1[0].channels, net.layer3[0].channels] == [16, 40, 160]
    assert net(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_a_pass_without_room_for_the_files_of_torch_is_not_tried_again(monkeypatch):
    """A second try would end in an assertion of torch, whose module is half loaded."""
    tries = []

    def full(*_):
        tries.append(1)
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(summary, "_pass", full)
    with pytest.raises(FileNotFoundError, match="No usable temporary directory"):
        summarize(torch.nn.Linear(1, 1), (1, 1, 1))
    assert tries == [1]

"""Initialisations: pairs of networks, distributions, and no randomness but the seed's."""

from math import sqrt

import pytest
import torch

from residuum.errors import InputError
from residuum.models import MODELS, build
from residuum.models.blocks import ORDERINGS, Block
from residuum.models.init import INITS
from residuum.networks.names import network
from residuum.registry import Choice


def made(name="resnet20", seed=0, classes=10, **settings):
    return build(Choice(**network(name) | settings), 3, classes, (32, 32), seed)


@pytest.mark.parametrize("init", list(INITS))
def test_the_same_name_and_shape_begin_with_the_same_values_whatever_else_differs(init):
    base = made(init=init).state_dict()
    for other in (
        made("plain20", init="he" if init == "zero_gamma" else init),
        made("resnet56", init=init),
        made(shortcut="projection", init=init),
        made(activation="elu", init=init),
        made(classes=7, init=init),
        made("preact20", init="he" if init == "zero_gamma" else init),
    ):
        shared = [n for n, t in other.state_dict().items() if n in base and t.shape == base[n].shape and t.ndim > 1]
        assert len(shared) >= 19
        assert all(torch.equal(other.state_dict()[name], base[name]) for name in shared)


@pytest.mark.parametrize("init", list(INITS))
def test_every_value_is_set_and_depends_on_the_seed_and_the_name(init):
    with torch.device("meta"):
        net = MODELS.build(network("resnet20") | {"init": init}, 3, 10)
    net.to_empty(device="cpu")
    for tensor in net.state_dict().values():
        tensor.fill_(-(2**31) if not tensor.is_floating_point() else float("nan"))
    net.initialize(3)
    built = made(seed=3, init=init).state_dict()
    assert all(torch.isfinite(t).all() and torch.equal(t, built[n]) for n, t in net.state_dict().items())
    assert all(t == 0 for n, t in net.state_dict().items() if n.endswith("num_batches_tracked"))
    weights = {n: p for n, p in net.named_parameters() if p.ndim > 1}
    other_seed = dict(made(seed=4, init=init).named_parameters())
    assert all(not torch.equal(p, other_seed[n]) for n, p in weights.items())
    assert len({p.flatten()[0].item() for p in weights.values()}) == len(weights)


def test_building_neither_reads_nor_changes_the_random_state_of_torch():
    torch.manual_seed(1)
    before, first = torch.get_rng_state(), made().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert all(torch.equal(t, first[n]) for n, t in made().state_dict().items())


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
def test_he_has_mean_0_and_variance_2_over_fan(mode):
    net = made("resnet18", init={"name": "he", "mode": mode})
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            window = parameter[0, 0].numel()
            fan = window * parameter.shape[1 if mode == "fan_in" else 0]
            n = parameter.numel()
            assert abs(parameter.mean()) < 5 * sqrt(2 / fan / n), name
            assert parameter.std().item() == pytest.approx(sqrt(2 / fan), rel=5 / sqrt(2 * n)), name
        else:
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name


def test_torch_default_has_the_bounds_of_torch():
    net = made("resnet18", init="torch_default")
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1 or name == "linear.bias":
            fan = parameter[0].numel() if parameter.ndim > 1 else 512
            largest = parameter.abs().max().item() * sqrt(fan)
            assert 1 - 20 / parameter.numel() - 0.3 * (parameter.ndim == 1) < largest <= 1 + 1e-6, name
        else:
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("ordering", ["original", "relu_only_preactivation"])
def test_zero_gamma_makes_every_block_its_shortcut(ordering, block):
    model = {"name": "staged_resnet", "blocks": [2, 2], "channels": [4, 8], "shortcut": "identity", "block": block}
    net = build(Choice(**model, ordering=ordering, init="zero_gamma"), 3, 10, (8, 8), 0)
    blocks = [module for module in net.modules() if isinstance(module, Block)]
    x_NCHW = torch.randn(2, blocks[0].in_channels, 8, 8).relu()
    for block in blocks:
        y_NCHW = block(x_NCHW)
        assert torch.equal(y_NCHW, block.shortcut(x_NCHW))
        x_NCHW = y_NCHW
    net(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(block.last_norm.weight.grad.abs().sum() > 0 for block in blocks), (
        "what begins at 0 must be able to leave it"
    )


def test_zero_gamma_is_refused_where_it_would_stop_a_network_for_good():
    for ordering in set(ORDERINGS) - {"original", "relu_only_preactivation"}:
        with pytest.raises(InputError, match=r"model\.init: 'zero_gamma' needs"):
            made(ordering=ordering, init="zero_gamma")
    with pytest.raises(InputError, match=r"model\.init: 'zero_gamma' needs"):
        made("plain20", init="zero_gamma")

"""Groups of parameters: which decay, and that no parameter is lost."""

import json
from dataclasses import asdict

import pytest
import torch
from torch import nn

from residuum.optim import OPTIMIZERS, Group, decayed, parameter_groups, table


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.PReLU(),
        nn.Conv2d(4, 5, 1, bias=True),
        nn.Flatten(),
        nn.Linear(5, 10),
    )


NO_DECAY = {"1.weight", "1.bias", "2.weight", "3.bias", "5.bias"}
DECAY = {"0.weight", "3.weight", "5.weight"}


def names_of(groups):
    return {group["name"]: set(group["names"]) for group in groups}


def test_everything_decays_or_only_kernels_and_matrices():
    """Guard 26: not inverted; the names are those of batch norm, biases and learned slopes."""
    both = {"decay": DECAY, "no_decay": NO_DECAY}
    assert names_of(parameter_groups(network(), weight_decay=0.1, decay_norm=False)) == both
    everything = {"decay": DECAY | NO_DECAY}
    assert names_of(parameter_groups(network(), weight_decay=0.1, decay_norm=True)) == everything


@pytest.mark.parametrize("decay_norm", [True, False])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_parameter_is_in_exactly_one_group(name, decay_norm):
    """Guard 26, for the groups that each optimizer really has, with names that belong to their parameters."""
    net = network()
    optimizer = OPTIMIZERS.build(name, parameter_groups(net, weight_decay=0.03, decay_norm=decay_norm))
    listed = [
        (name, id(parameter))
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    ]
    assert sorted(listed) == sorted((name, id(parameter)) for name, parameter in net.named_parameters())
    for group in optimizer.param_groups:
        decaying = set(group["names"]) <= (DECAY | NO_DECAY if decay_norm else DECAY)
        assert group["weight_decay"] == (0.03 if decaying else 0.0)
        assert group["lr"] == 0.0  # never a default of torch: a rate that nobody set moves nothing


def test_table_is_plain_and_shows_the_optimizers_own_groups():
    """Guard 26: the table is stored."""
    net = network()
    muon = OPTIMIZERS.build("muon", parameter_groups(net, weight_decay=0.03, decay_norm=False))
    rows = table(muon)
    assert rows == [
        Group("decay_kernels", ("0.weight", "3.weight"), 0.03, 1.0),
        Group("decay_others", ("5.weight",), 0.03, 0.015),
        Group("no_decay_others", ("1.weight", "1.bias", "2.weight", "3.bias", "5.bias"), 0.0, 0.015),
    ]
    assert json.loads(json.dumps([asdict(row) for row in rows]))[0]["parameters"] == ["0.weight", "3.weight"]


@pytest.mark.parametrize("decay_norm", [True, False])
def test_penalised_parameters_are_those_that_decay_also_without_weight_decay(decay_norm):
    net = network()
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    expected = DECAY | NO_DECAY if decay_norm else DECAY
    assert {names[id(parameter)] for parameter in decayed(net, decay_norm=decay_norm)} == expected


def test_shared_parameter_is_listed_once():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    (group,) = parameter_groups(net, weight_decay=0.1, decay_norm=True)
    assert group["names"] == ["0.weight", "0.bias", "1.bias"]

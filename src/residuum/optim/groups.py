"""Groups of parameters: which of them decay, in torch's form for an optimizer and as a table for the record."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Group:
    """Parameters that an optimizer treats alike, by name.

    Their learning rate is `lr_share` times that of the run; `weight_decay` is as the optimizer applies it.
    """

    name: str
    parameters: tuple[str, ...]
    weight_decay: float
    lr_share: float


def decays(parameter: nn.Parameter, decay_norm: bool) -> bool:
    """Whether a parameter decays: every one does where `decay_norm` is on, else only kernels and matrices.

    What is left out are vectors and scalars: weights and biases of batch norm, all biases, learned slopes.
    """
    return decay_norm or parameter.ndim > 1


def decayed(network: nn.Module, *, decay_norm: bool) -> list[nn.Parameter]:
    """The parameters that decay, whatever the weight decay is: explicit penalties act on the same ones."""
    return [parameter for parameter in network.parameters() if decays(parameter, decay_norm)]


def parameter_groups(network: nn.Module, *, weight_decay: float, decay_norm: bool) -> list[dict[str, Any]]:
    """The groups `decay` and `no_decay` in torch's form, with `names` beside `params`; each parameter is in one.

    With `decay_norm` every parameter decays (He et al. 2015, section 3.4), and there is only the group `decay`. A
    parameter that stands in the network under two names is listed once, under its first. The rate is 0 until the engine
    sets it, before each step: no optimizer may fall back on a default of its own.
    """
    groups: list[dict[str, Any]] = [
        {"name": name, "params": [], "names": [], "lr": 0.0, "lr_share": 1.0, "weight_decay": decay}
        for name, decay in (("decay", weight_decay), ("no_decay", 0.0))
    ]
    for name, parameter in network.named_parameters():
        group = groups[0 if decays(parameter, decay_norm) else 1]
        group["params"].append(parameter)
        group["names"].append(name)
    return [group for group in groups if group["params"]]


def table(optimizer: torch.optim.Optimizer) -> list[Group]:
    """The groups that an optimizer really has, as plain values for the record."""
    return [
        Group(group["name"], tuple(group["names"]), group["weight_decay"], group["lr_share"])
        for group in optimizer.param_groups
    ]

"""Groups of parameters: which of them decay, in torch's form for an optimizer and as a table for the record."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

import torch
from torch import nn

from residuum.errors import InputError, unknown


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
    return [parameter for parameter in network.parameters()
            if parameter.requires_grad and decays(parameter, decay_norm)]  # fmt: skip


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that stays in evaluation: it uses its running statistics and does not move them."""

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, it stays as it is
        """Nothing changes."""
        return super().train(False)


def freeze(network: nn.Module, names: Sequence[str]) -> None:
    """Keep parts of a network as they are: no gradient for their parameters, and no new statistics in batch norms.

    A name is that of a part with all that is in it, as `layer1`, or of a parameter, as `layer1.0.conv1.weight`.

    Raises:
        InputError: the network has no such part, or nothing of it is left to train.
    """
    modules, parameters = dict(network.named_modules()), dict(network.named_parameters())
    for name in names:
        if name not in parameters and (name not in modules or not name):
            every = (*modules, *parameters)
            kept = [one for one in every if any(f"{own}.".startswith(f"{one}.") for own in parameters)]
            near = get_close_matches(name, kept, n=1, cutoff=0.5)
            known = near or [one for one, _ in network.named_children() if one in kept]
            raise unknown("part of the network", name, known, place="optim.freeze")
        for own, parameter in parameters.items():
            if own == name or own.startswith(f"{name}."):
                parameter.requires_grad_(False)
        for module in modules[name].modules() if name in modules else ():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = FrozenBatchNorm2d
                module.eval()
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise InputError("optim.freeze: nothing is left to train")


def parameter_groups(network: nn.Module, *, weight_decay: float, decay_norm: bool) -> list[dict[str, Any]]:
    """The groups `decay` and `no_decay` in torch's form, with `names` beside `params`; each parameter is in one.

    Frozen parameters are in none. With `decay_norm` every parameter decays (He et al. 2015, section 3.4), and there is
    only the group `decay`. A
    parameter that stands in the network under two names is listed once, under its first. The rate is 0 until the engine
    sets it, before each step: no optimizer may fall back on a default of its own.
    """
    groups: list[dict[str, Any]] = [
        {"name": name, "params": [], "names": [], "lr": 0.0, "lr_share": 1.0, "weight_decay": decay}
        for name, decay in (("decay", weight_decay), ("no_decay", 0.0))
    ]
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
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

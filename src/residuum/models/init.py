"""Initialisations: each parameter a function of (seed, its name), never of what was drawn before it.

Two networks with a parameter of the same name and shape therefore begin with the same values whatever else differs: a
residual network and its plain twin are a pair. Drawn on the CPU in fp32, whatever the device.
"""

from collections.abc import Callable
from math import sqrt
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from residuum.errors import InputError
from residuum.models.blocks import Block
from residuum.registry import Table
from residuum.streams import stream_seed

FanMode = Literal["fan_in", "fan_out"]


def he(network: nn.Module, seed: int, *, mode: FanMode = "fan_in") -> None:
    """He initialisation: convolutions and linear layers from N(0, 2 / fan), biases 0, BN 1 and 0 (He et al. 2015b)."""
    _initialise(network, seed, lambda weight, source: nn.init.kaiming_normal_(weight, mode=mode, generator=source))


def zero_gamma(network: nn.Module, seed: int, *, mode: FanMode = "fan_in") -> None:
    """He initialisation with every block an identity at first: the BN that ends each branch begins at 0.

    Source: Goyal et al. 2017, section 5.1.

    Raises:
        InputError: a block has no shortcut, or its branch does not end in BN.
    """
    he(network, seed, mode=mode)
    for block in network.modules():
        if isinstance(block, Block):
            if block.shortcut is None or block.last_norm is None:
                raise InputError(
                    "model.init: 'zero_gamma' needs a shortcut, and branches that end in batch norm "
                    "(model.ordering 'original' or 'relu_only_preactivation'); use 'he'"
                )
            nn.init.zeros_(block.last_norm.weight)


def torch_default(network: nn.Module, seed: int) -> None:
    """What torch's layers do by themselves: weights and biases from U(±1 / √fan_in), BN 1 and 0."""
    _initialise(network, seed, lambda weight, source: nn.init.kaiming_uniform_(weight, a=sqrt(5), generator=source))
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            bound = 1 / sqrt(module.in_features)
            bias = torch.empty(module.bias.shape).uniform_(-bound, bound, generator=_source(seed, f"{name}.bias"))
            module.bias.data.copy_(bias)


def _initialise(network: nn.Module, seed: int, draw: Callable[[Tensor, Generator], Tensor]) -> None:
    """Draw every weight of convolutions and linear layers; set their biases to 0 and batch norms to their start."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = draw(torch.empty(module.weight.shape), _source(seed, f"{name}.weight"))
            module.weight.data.copy_(weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def _source(seed: int, name: str) -> Generator:
    return Generator().manual_seed(stream_seed(seed, "init", name))


INITS: Table[None] = Table("initialisation", {"he": he, "zero_gamma": zero_gamma, "torch_default": torch_default})

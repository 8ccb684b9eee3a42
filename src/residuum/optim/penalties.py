"""Penalties by name: terms of the loss that grow with the parameters.

They act on the parameters that are given, in a run those that decay (`residuum.optim.groups.decayed`).
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from residuum.registry import Table

Weight = Annotated[float, Field(ge=0, le=1e12)]


def l1(parameters: Sequence[Tensor], *, weight: Weight) -> Tensor:
    """`weight` times the sum of the absolute values; at 0 it has gradient 0."""
    return weight * _total(parameters, torch.abs)


def l2(parameters: Sequence[Tensor], *, weight: Weight) -> Tensor:
    """`weight` times the sum of the squares: under SGD the same as a weight decay of 2 × `weight`."""
    return weight * _total(parameters, torch.square)


def _total(parameters: Sequence[Tensor], measure: Callable[[Tensor], Tensor]) -> Tensor:
    """The sum of a measure over all elements; a penalty on no parameters is 0, with nothing to differentiate."""
    if not parameters:
        return torch.zeros((), requires_grad=True)
    return torch.stack([measure(parameter).sum() for parameter in parameters]).sum()


PENALTIES: Table[Tensor] = Table("penalty", {"l1": l1, "l2": l2})
"""Builders `(parameters, *, settings) -> penalty`; `PENALTIES.bind(choice)` is the penalty as a function."""

"""Training losses by name. Evaluation has its own loss, which is never smoothed."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from residuum.registry import Table


def cross_entropy(
    logits_NK: Tensor, targets: Tensor, *, label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
) -> Tensor:
    """Mean cross-entropy in nats, in fp32 or better whatever the logits are.

    Targets are labels_N, or shares_NK of the labels of mixed images. With smoothing, that share of every target is
    spread evenly over all K classes (Szegedy et al. 2016, section 7).
    """
    logits_NK = logits_NK.to(torch.promote_types(logits_NK.dtype, torch.float32))
    return F.cross_entropy(logits_NK, targets, label_smoothing=label_smoothing)


LOSSES: Table[Tensor] = Table("loss", {"cross_entropy": cross_entropy})
"""Builders `(logits_NK, targets, *, settings) -> loss`; `LOSSES.bind(choice)` is the loss as a function."""

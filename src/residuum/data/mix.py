"""Mixing of training images with partners from the same batch; targets become shares of the classes.

Both draw one weight and one permutation for the whole batch from a generator that the caller seeds by (seed, epoch,
step), on the CPU, so every device mixes alike. Accuracy against shares counts a prediction with its class's share.
"""

import math
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from residuum.registry import Table

Mixed = tuple[Tensor, Tensor]
Concentration = Annotated[float, Field(gt=0)]


def none(images_BCHW: Tensor, labels_B: Tensor, _classes: int, _generator: np.random.Generator) -> Mixed:
    """Images as they are; the targets are the labels_B."""
    return images_BCHW, labels_B


def mixup(
    images_BCHW: Tensor, labels_B: Tensor, classes: int, generator: np.random.Generator, *, alpha: Concentration = 1.0
) -> Mixed:
    """λ of each image and 1 - λ of its partner, λ ~ Beta(α, α); targets are shares_BK (Zhang et al. 2018, sec. 2)."""
    weight = generator.beta(alpha, alpha)
    partner_B = _partners(labels_B, generator)
    images_BCHW = images_BCHW * weight + images_BCHW[partner_B] * (1 - weight)
    return images_BCHW, _shares(labels_B, partner_B, weight, classes)


def cutmix(
    images_BCHW: Tensor, labels_B: Tensor, classes: int, generator: np.random.Generator, *, alpha: Concentration = 1.0
) -> Mixed:
    """A box of each image replaced by its partner's; targets are shares_BK (Yun et al. 2019, section 3.1).

    The box has a share 1 - λ of the area, λ ~ Beta(α, α), around a random pixel, and is cut off at the border. The
    shares count the pixels that were really replaced.
    """
    weight = generator.beta(alpha, alpha)
    partner_B = _partners(labels_B, generator)
    spans = []
    for side in images_BCHW.shape[2:]:
        length = int(side * math.sqrt(1 - weight))
        start = int(generator.integers(side)) - length // 2
        spans.append(slice(max(start, 0), min(start + length, side)))
    mixed_BCHW = images_BCHW.clone()
    mixed_BCHW[:, :, *spans] = images_BCHW[:, :, *spans][partner_B]
    replaced = math.prod(span.stop - span.start for span in spans) / math.prod(images_BCHW.shape[2:])
    return mixed_BCHW, _shares(labels_B, partner_B, 1 - replaced, classes)


MIXES: Table[Mixed] = Table("mixing", {"none": none, "mixup": mixup, "cutmix": cutmix})
"""Mixings: `(images_BCHW, labels_B, classes, generator) -> (images_BCHW, labels_B or shares_BK)`."""


def _partners(labels_B: Tensor, generator: np.random.Generator) -> Tensor:
    return torch.from_numpy(generator.permutation(len(labels_B))).to(labels_B.device)


def _shares(labels_B: Tensor, partner_B: Tensor, weight: float, classes: int) -> Tensor:
    own_BK = F.one_hot(labels_B, classes).float()
    return own_BK * weight + own_BK[partner_B] * (1 - weight)

"""Mixing of training images with partners from the same batch; targets become shares of the classes.

A mixing has two halves. The first draws what is random about a batch, one weight and one permutation, from a generator
that the caller seeds by (seed, epoch, step), on the CPU, so every device mixes alike. The second applies it to the
images, with no value from the host. Accuracy against shares counts a prediction with its class's share.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from residuum.registry import Table

Mixed = tuple[Tensor, Tensor]
Concentration = Annotated[float, Field(ge=1e-6, le=1e6)]


Drawn = tuple[NDArray[np.int64], tuple[float, ...]]


@dataclass(frozen=True)
class Mix:
    """One way to mix the images of a batch.

    `draw(generator, count, height, width)` gives each image's partner, a place in the batch, and `size` numbers, none
    of either where nothing is mixed. `blend(images_BCHW, labels_B, classes, partner_B, numbers_M)` gives the images and
    the targets, labels_B or shares_BK; the numbers come to it as float32.
    """

    size: int
    draw: Callable[[np.random.Generator, int, int, int], Drawn]
    blend: Callable[[Tensor, Tensor, int, Tensor, Tensor], Mixed]


def none() -> Mix:
    """Images as they are; the targets are the labels_B."""
    return Mix(0, lambda *_: (np.zeros(0, np.int64), ()), lambda images_BCHW, labels_B, *_: (images_BCHW, labels_B))


def mixup(*, alpha: Concentration = 1.0) -> Mix:
    """λ of each image and 1 - λ of its partner, λ ~ Beta(α, α); targets are shares_BK (Zhang et al. 2018, sec. 2)."""

    def draw(generator: np.random.Generator, count: int, _height: int, _width: int) -> Drawn:
        weight = generator.beta(alpha, alpha)
        return generator.permutation(count), (weight, 1 - weight)

    def blend(images_BCHW: Tensor, labels_B: Tensor, classes: int, partner_B: Tensor, numbers_M: Tensor) -> Mixed:
        own, other = numbers_M.unbind()
        images_BCHW = images_BCHW * own + images_BCHW[partner_B] * other
        return images_BCHW, _shares(labels_B, partner_B, classes, own, other)

    return Mix(2, draw, blend)


def cutmix(*, alpha: Concentration = 1.0) -> Mix:
    """A box of each image replaced by its partner's; targets are shares_BK (Yun et al. 2019, section 3.1).

    The box has a share 1 - λ of the area, λ ~ Beta(α, α), around a random pixel, and is cut off at the border. The
    shares count the pixels that were really replaced.
    """

    def draw(generator: np.random.Generator, count: int, height: int, width: int) -> Drawn:
        weight = generator.beta(alpha, alpha)
        partner_B = generator.permutation(count)
        spans = []
        for side in (height, width):
            length = int(side * math.sqrt(1 - weight))
            start = int(generator.integers(side)) - length // 2
            spans.append((max(start, 0), min(start + length, side)))
        kept = 1 - math.prod(end - start for start, end in spans) / (height * width)
        return partner_B, (kept, 1 - kept, *spans[0], *spans[1])

    def blend(images_BCHW: Tensor, labels_B: Tensor, classes: int, partner_B: Tensor, numbers_M: Tensor) -> Mixed:
        own, other, top, bottom, left, right = numbers_M.unbind()
        rows_H, columns_W = (torch.arange(side, device=images_BCHW.device) for side in images_BCHW.shape[2:])
        box_HW = ((rows_H >= top) & (rows_H < bottom))[:, None] & ((columns_W >= left) & (columns_W < right))
        mixed_BCHW = torch.where(box_HW, images_BCHW[partner_B], images_BCHW)
        return mixed_BCHW, _shares(labels_B, partner_B, classes, own, other)

    return Mix(6, draw, blend)


MIXES: Table[Mix] = Table("mixing", {"none": none, "mixup": mixup, "cutmix": cutmix})
"""Builders `(*, settings) -> Mix`."""


def mix_batch(mix: Mix, images_BCHW: Tensor, labels_B: Tensor, classes: int, generator: np.random.Generator) -> Mixed:
    """A batch on the CPU mixed with what a generator gives, for whoever has no table of the epoch."""
    partner_B, numbers = mix.draw(generator, len(labels_B), images_BCHW.shape[2], images_BCHW.shape[3])
    numbers_M = torch.tensor(numbers, dtype=torch.float32)
    return mix.blend(images_BCHW, labels_B, classes, torch.from_numpy(partner_B), numbers_M)


def _shares(labels_B: Tensor, partner_B: Tensor, classes: int, own: Tensor, other: Tensor) -> Tensor:
    # Not one_hot, which on a CPU looks at the labels.
    own_BK = (labels_B[:, None] == torch.arange(classes, device=labels_B.device)).float()
    return own_BK * own + own_BK[partner_B] * other

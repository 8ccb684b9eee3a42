"""Parts of a run in one file: an activation, an augmentation, a loss, an optimizer, a schedule and a data set."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mish2(nn.Module):
    """Mish with a slope: x · tanh(softplus(beta · x))."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        """The function of a tensor of any shape."""
        return x * F.softplus(self.beta * x).tanh()


def darker(images_BCHW: Tensor, draw: Any, *, most: float = 0.5) -> Tensor:
    """Images darkened by up to a share; `draw` gives numbers that belong to the image, not to its batch."""
    return images_BCHW * (1 - most * draw.uniform(1)[:, :, None, None])


def focal(logits_NK: Tensor, targets: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Cross-entropy that counts what is right already for less (Lin et al. 2017)."""
    exact_NK = logits_NK.to(torch.promote_types(logits_NK.dtype, torch.float32))
    losses_N = F.cross_entropy(exact_NK, targets, reduction="none")
    return ((1 - (-losses_N).exp()) ** gamma * losses_N).mean()


class SignDescent(torch.optim.Optimizer):
    """Each weight moves by the rate, against the sign of its gradient; the rate is the run's, as is the decay."""

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # noqa: ARG002, as torch has it
        """One update."""
        for group in self.param_groups:
            for parameter in group["params"]:
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 - group["momentum"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(mean.sign(), alpha=group["lr"])


def root(span: Any, *, power: float = 0.5) -> Callable[[int, Sequence[float]], float]:
    """The rate falls as a power of what is left of the run; `span` says how long that is."""
    return lambda step, _losses: math.pow(1 - step / span.total_steps, power)


def stripes(*, images: int = 200, seed: int = 0) -> tuple[Any, Any]:
    """Images and labels as arrays: stripes that lie or stand, in noise; a fifth of them are for the test."""
    source = np.random.default_rng(seed)
    labels_N = source.integers(0, 2, images)
    lying_HW = np.tile(np.arange(8)[:, None] % 4 < 2, (1, 8)) * 155.0
    stacked_NHW = np.stack([lying_HW.T if label else lying_HW for label in labels_N])
    return (stacked_NHW + source.integers(0, 100, (images, 8, 8))).astype(np.uint8), labels_N

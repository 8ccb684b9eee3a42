"""Integrated gradients: the difference of a logit from that of a baseline, shared out among the pixels."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from residuum.attribution.method import Method

AT_ONCE = 100
"""Images in a forward pass: `steps` points of the path for each image are many."""


def integrated_gradients(
    network: nn.Module,
    images_NCHW: Tensor,
    targets_N: Tensor,
    baseline_CHW: Tensor,
    *,
    steps: Annotated[int, Field(ge=2, le=1000)] = 50,
) -> dict[str, Tensor]:
    """The gradient along the straight path from the baseline times the way, in units of the logit, channels summed.

    `steps` points of the path by Gauss-Legendre quadrature. How far the sum misses what it should be says `unshared`.
    Source: Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017, section 3.
    """
    from captum.attr import IntegratedGradients

    inputs_NCHW = images_NCHW.detach().clone().requires_grad_()
    shares_NCHW = IntegratedGradients(network).attribute(
        inputs_NCHW, baseline_CHW[None], targets_N, n_steps=steps, internal_batch_size=max(AT_ONCE, len(images_NCHW))
    )
    return {"input": shares_NCHW.sum(dim=1).detach().float()}


def unshared(
    network: nn.Module, images_NCHW: Tensor, targets_N: Tensor, baseline_CHW: Tensor, maps_NHW: Tensor
) -> tuple[Tensor, Tensor]:
    """How far the sums of the maps miss the completeness axiom, and what they should be: f(x) - f(baseline), both [N].

    0 for the exact integral (Sundararajan et al. 2017, proposition 1); more steps bring it nearer.
    """
    with torch.no_grad():
        rows = torch.arange(len(targets_N), device=targets_N.device)
        difference_N = network(images_NCHW)[rows, targets_N] - network(baseline_CHW[None])[0, targets_N]
    return maps_NHW.sum(dim=(1, 2)) - difference_N, difference_N


METHOD = Method("integrated-gradients", integrated_gradients, "Integrated gradients", signed=True, misses=unshared)

"""How noisy the gradient of a batch is, and from which batch size on more images stop paying."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from residuum.engine.compute import Compute
from residuum.engine.step import put_back
from residuum.records.event import NoiseSeen


def noise(network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], on: Compute, epoch: int) -> NoiseSeen:
    """The squared norm of the true gradient and the trace of its covariance over images, both without bias.

    From the gradients g of M batches (images_BCHW, labels_B) of b images each and their mean G, which is that of M·b
    images: E|g|² = |true|² + trace/b and E|G|² = |true|² + trace/(M·b) (McCandlish et al. 2018, appendix A.1). Each
    gradient is of the mean cross-entropy, in training mode, so batch norm sees b images; the network is left as it was.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    buffers = [buffer.clone() for buffer in network.buffers()]
    total = [torch.zeros_like(parameter) for parameter in parameters]
    small = 0.0
    try:
        for images_BCHW, labels_B in batches:
            on.set_backends()
            # Half precision would need the loss scaled; the few batches are computed in fp32 there.
            with on.arithmetic() if on.precision != "fp16" else nullcontext():
                logits_BK = network(images_BCHW)
            gradients = torch.autograd.grad(F.cross_entropy(logits_BK.float(), labels_B), parameters)
            small += _squared(gradients) / len(batches)
            torch._foreach_add_(total, gradients)
    finally:
        with torch.no_grad():
            put_back(network.buffers(), buffers)
    count, size = len(batches), len(batches[0][1])
    big = _squared(total) / count**2
    return NoiseSeen(
        epoch=epoch,
        images=count * size,
        batch=size,
        squared_norm=(count * big - small) / (count - 1),
        trace=(small - big) / (1 / size - 1 / (count * size)),
    )


def _squared(tensors: Sequence[Tensor]) -> float:
    """The squared Euclidean norm of tensors taken together."""
    return float(nn.utils.get_total_norm(tensors).item() ** 2)

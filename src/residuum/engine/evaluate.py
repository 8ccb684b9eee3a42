"""Evaluation: logits of every image of a split, from a network whose state is left as it was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from residuum.engine.compute import Compute


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode that was on before comes back, also after an error."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def logits_of(network: nn.Module, images: Iterable[Tensor], compute: Compute) -> Tensor:
    """logits_NK (fp32, on the device) of batches of normalised images."""
    with evaluating(network), compute.arithmetic():
        return torch.cat([network(batch).float() for batch in images])

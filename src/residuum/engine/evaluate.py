"""Evaluation: logits of every image of a split, from a network whose state is left as it was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from residuum.engine.compute import ONE_IMAGE, Compute, out_of_memory
from residuum.errors import InputError, remark


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
    """logits_NK (fp32, on the device) of batches of normalised images, in parts where memory runs out.

    Raises:
        InputError: one image at a time does not fit.
    """
    with evaluating(network), compute.arithmetic():
        return torch.cat([part for batch in images for part in _in_parts(network, batch)])


def _in_parts(network: nn.Module, batch: Tensor) -> Iterator[Tensor]:
    """The logits of a batch, or of its halves one after the other, or of theirs."""
    try:
        yield network(batch).float()
        return
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        if len(batch) == 1:
            raise InputError(ONE_IMAGE) from error
    if batch.device.type == "cuda":
        torch.cuda.empty_cache()
    half = (len(batch) + 1) // 2
    remark(f"out of memory: images are evaluated {half} at a time where more do not fit")
    for part in (batch[:half], batch[half:]):
        yield from _in_parts(network, part)

"""Looking at every layer of a network while it trains, without leaving a trace in it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from residuum.engine.compute import Compute, out_of_memory
from residuum.engine.step import put_back
from residuum.errors import InputError, remark
from residuum.records.layers import BINS, Histograms, Layers

T = TypeVar("T")

SCALE = 2.0**64
"""The loss is multiplied by it and the gradients divided: those of the first layers of a deep sigmoid network would
otherwise be below what float32 can hold. A power of two changes no other bit."""


@dataclass(frozen=True, eq=False)
class Caught:
    """What a forward pass computed, by layer, in the order of the pass."""

    responses: dict[str, Tensor] = field(default_factory=dict)
    activations: dict[str, Tensor] = field(default_factory=dict)


def look(network: nn.Module, images_NCHW: Tensor, labels_N: Tensor, on: Compute, epoch: int) -> Layers:
    """What every layer does with some images, in training mode and float32; the network is left as it was.

    One forward and one backward pass of the mean cross-entropy. Neither running statistics nor `.grad` of the
    parameters change, and no random number is drawn.
    """
    on.set_backends()
    parameters = dict(network.named_parameters())
    buffers = [buffer.clone() for buffer in network.buffers()]
    frozen = [parameter for parameter in parameters.values() if not parameter.requires_grad]
    try:
        for parameter in frozen:  # has a gradient to look at, too
            parameter.requires_grad_(True)
        with caught(network) as seen:
            loss = F.cross_entropy(network(images_NCHW), labels_N) * SCALE
        gradients = torch.autograd.grad(loss, list(parameters.values()))
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        with torch.no_grad():
            put_back(network.buffers(), buffers)
    with torch.no_grad():
        return Layers(
            epoch=epoch,
            images=len(images_NCHW),
            parameters=histograms(parameters),
            # In double precision: a GPU sums squares in float32, where those of scaled gradients have no room.
            gradients=histograms(
                {name: found.cpu().double() for name, found in zip(parameters, gradients, strict=True)}, SCALE
            ),
            responses=histograms(seen.responses),
            activations=histograms(seen.activations),
            dead_A=np.array([dead(values) for values in seen.activations.values()], np.float64),
        )


def on_fewer(observe: Callable[[int], T], images: int) -> T:
    """What `observe` gives of so many images at once, or of half as many, and half of those, where memory runs out.

    Raises:
        InputError: two images, the fewest that batch norm takes, do not fit.
    """
    while True:
        try:
            return observe(images)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if images < 4:
                raise InputError("out of memory with two images at a time; leave out what monitor records") from error
        images //= 2
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        remark(f"out of memory: layers or noise are looked at with {images} images at a time")


@contextmanager
def caught(network: nn.Module) -> Iterator[Caught]:
    """Catch the responses and activations of the passes within; the hooks are gone at the end, also after an error.

    A module without parameters or parts that keeps the shape of its input and computes something is an activation. One
    that a block calls several times has the number of the call behind its name.
    """
    seen, calls = Caught(), Counter[str]()
    names = {module: name for name, module in network.named_modules()}
    last: list[tuple[str, Tensor]] = []  # the output of the latest convolution, which a batch norm may take up

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not inputs or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
            return  # a layer that own code calls otherwise has no response to look at
        name, values = names[module], inputs[0]
        if isinstance(module, nn.Conv2d | nn.Linear):
            seen.responses[name] = output
            last[:] = [(name, output)]
        elif isinstance(module, nn.BatchNorm2d):
            if last and last[0][1] is values:
                seen.responses[last[0][0]] = output
        elif output is not values and output.shape == values.shape:
            calls[name] += 1
            seen.activations[f"{name}{calls[name]}" if calls[name] > 1 else name] = output

    leaves = [module for module in names if not list(module.children())]
    handles = [module.register_forward_hook(hook) for module in leaves]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def histograms(tensors: Mapping[str, Tensor], scale: float = 1.0) -> Histograms:
    """Histograms of tensors, whose values are `scale` times what is meant."""
    rows = [_histogram(values.detach().flatten()) for values in tensors.values()]
    counts_TB = np.stack([counts_B for counts_B, _ in rows]) if rows else np.zeros((0, BINS))
    figures_T4 = np.array([figures for _, figures in rows], np.float64).reshape(-1, 4) / scale
    return Histograms(tuple(tensors), counts_TB.astype(np.int32), *figures_T4.T.copy())


def _histogram(values_N: Tensor) -> tuple[Any, tuple[float, float, float, float]]:
    low, high = (value.item() for value in values_N.aminmax())
    if not np.isfinite([low, high]).all():
        return np.zeros(BINS), (np.nan,) * 4
    # Counts are made in the type of the values, and float32 counts exactly up to 2²⁴.
    exact_N = values_N.double() if len(values_N) > 2**24 else values_N
    counts_B = torch.histc(exact_N, BINS, low, high).cpu().numpy()
    std, mean = torch.std_mean(values_N, correction=0)
    return counts_B, (low, high, mean.item(), std.item())


def dead(values_NCHW: Tensor) -> float:
    """The share of channels that are zero at every place of every image."""
    return (values_NCHW == 0).transpose(0, 1).flatten(1).all(dim=1).float().mean().item()

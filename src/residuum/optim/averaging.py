"""Exponential moving average of a network's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from residuum.errors import quoted


class Average:
    """An exponential moving average of a network's parameters and floating-point buffers.

    After update t, counted from 1, the average has moved towards the network by 1 - min(decay, t / (9 + t)): the decay
    grows into its value, so the first weights are forgotten soon and no correction of the bias is needed. Batch norm's
    running mean and variance are averaged like weights; integer buffers are copied. t is the caller's to count: it is
    the number of the update in its run.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def move(self, update: int) -> float:
        """How far the average moves towards the network at an update, counted from 1."""
        return 1 - min(self.decay, update / (9 + update))

    @torch.no_grad()
    def update(self, network: nn.Module, move: float | Tensor) -> None:
        """Move the average towards the network's present weights by a share (a tensor: 0-d, on their device)."""
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self._tensors[name].lerp_(tensor, move)
            else:
                self._tensors[name].copy_(tensor)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged tensors, by the names of the network's state: weights that the network can load."""
        return dict(self._tensors)

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Put averaged tensors back.

        Raises:
            ValueError: a tensor is missing, too much or of another shape. Nothing is changed then.
        """
        for name in sorted(tensors.keys() ^ self._tensors.keys()):
            raise ValueError(f"averaged tensor {quoted(name)} is {'missing' if name in self._tensors else 'unknown'}")
        for name, tensor in tensors.items():
            if tensor.shape != self._tensors[name].shape:
                shapes = f"{tuple(tensor.shape)}, not {tuple(self._tensors[name].shape)}"
                raise ValueError(f"averaged tensor {quoted(name)} has shape {shapes}")
        for name, tensor in tensors.items():
            self._tensors[name].copy_(tensor)

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """The network holds the averaged weights inside, and exactly its own again outside, also after an error."""
        own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        try:
            _put(network, self._tensors)
            yield
        finally:
            _put(network, own)


@torch.no_grad()
def _put(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the network's own memory, which optimizer and compiled code refer to."""
    for name, tensor in network.state_dict().items():
        tensor.copy_(tensors[name])

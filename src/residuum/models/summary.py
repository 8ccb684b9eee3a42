"""What a network consists of and costs: its layers with output shapes, parameters and multiply-adds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from residuum.networks.outlines import Layer, Shape


@dataclass(frozen=True)
class Summary:
    """The layers of a network in the order of computation, with all its parameters and multiply-adds per image.

    Multiply-adds are those of convolutions and linear layers; what batch norm, activations, pooling and additions cost
    beside them is left out, as in He et al. 2015, table 1. Layers without parameters are listed where they change the
    shape.
    """

    layers: tuple[Layer, ...]
    parameters: int
    macs: int


def summarize(network: nn.Module, input_shape: Shape) -> Summary:
    """The summary of a network for one image of `input_shape` (channels, height, width).

    Nothing is computed: shapes alone are passed on, and the network stays as it is, its buffers included.
    """
    called = calls(network, input_shape)
    layers = tuple(layer for shape, layer in called if layer.parameters or layer.output_shape != shape)
    return Summary(layers, sum(p.numel() for p in network.parameters()), sum(layer.macs for layer in layers))


def calls(network: nn.Module, input_shape: Shape) -> list[tuple[Shape, Layer]]:
    """Every call of a layer in a forward pass, in order, with the shape of its input for one image.

    A layer that is used twice is there twice. Nothing is computed, as in `summarize`.
    """
    return _passed(network, lambda device: _calls(network, input_shape, device))


T = TypeVar("T")


def _passed(network: nn.Module, look: Callable[[torch.device], T]) -> T:
    """What a look at a forward pass finds: of shapes alone or, where own code needs values, of copies with values."""
    try:
        return look(torch.device("meta"))
    except Exception:
        here = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
        with torch.random.fork_rng([here] if here.type == "cuda" else []):
            return look(here)


def _copied(tensors: Iterable[tuple[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() if tensor.device == device else tensor.detach().to(device)
            for name, tensor in tensors}  # fmt: skip


def _calls(network: nn.Module, input_shape: Shape, device: torch.device) -> list[tuple[Shape, Layer]]:
    called: list[tuple[Shape, Layer]] = []

    def record(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not inputs or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
            return  # own code may call a layer otherwise
        parameters = sum(p.numel() for p in module.parameters(recurse=False))
        layer = Layer(name, _kind(module), tuple(output.shape[1:]), parameters, _macs(module, output))
        called.append((tuple(inputs[0].shape[1:]), layer))

    def hook(name: str) -> Any:
        return lambda module, inputs, output: record(name, module, inputs, output)

    shapes = _copied([*network.named_parameters(), *network.named_buffers()], device)
    hooks = [m.register_forward_hook(hook(name)) for name, m in network.named_modules() if not any(m.children())]
    try:
        with torch.no_grad():
            # Two images: batch norm in training mode refuses a single value per channel.
            functional_call(network, shapes, (torch.zeros(2, *input_shape, device=device),))
    finally:
        for handle in hooks:
            handle.remove()
    return called


def activations(network: nn.Module, input_shape: Shape) -> int:
    """Numbers that the backward pass needs from the forward pass of one image of `input_shape`, in training.

    They are what autograd keeps, less the parameters and the statistics of a batch. Nothing is computed, as in
    `summarize`.
    """
    return _passed(network, lambda device: _activations(network, input_shape, device))


def _activations(network: nn.Module, input_shape: Shape, device: torch.device) -> int:
    copied = _copied(network.named_parameters(), device)
    parameters = {name: tensor.requires_grad_() for name, tensor in copied.items()}
    buffers = _copied(network.named_buffers(), device)
    own = {tensor.untyped_storage()._cdata for tensor in parameters.values()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Without its history: an operation that holds its own output is a ring that Python's collector does not see.
        tensor = tensor.detach()
        storage = tensor.untyped_storage()._cdata
        if tensor.is_floating_point() and tensor.ndim > 1 and storage not in own:
            kept[storage] = tensor  # alive, so that no other takes its place
        return tensor

    training = network.training
    network.train()
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits_NK = functional_call(
                network, {**parameters, **buffers}, (torch.zeros(2, *input_shape, device=device),)
            )
            loss = nn.functional.cross_entropy(logits_NK, torch.zeros(2, dtype=torch.int64, device=device))
    finally:
        network.train(training)
    del loss
    return sum(tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in kept.values()) // 2


def _kind(module: nn.Module) -> str:
    """What a layer is, in a few words: `conv 3x3 /2`, `batch norm`, `linear`."""
    match module:
        case nn.Conv2d():
            stride = f" /{module.stride[0]}" if module.stride[0] > 1 else ""
            return f"conv {module.kernel_size[0]}x{module.kernel_size[1]}{stride}"
        case nn.BatchNorm2d():
            return "batch norm"
        case nn.Linear():
            return "linear"
        case nn.MaxPool2d():
            return f"max pool {module.kernel_size}x{module.kernel_size} /{module.stride}"
        case nn.AdaptiveAvgPool2d():
            return "global average pool"
        case nn.AdaptiveMaxPool2d():
            return "global max pool"
        case nn.AvgPool2d():
            return f"average pool {module.kernel_size}x{module.kernel_size}"
    return type(module).__name__.lower()


def _macs(module: nn.Module, output: Tensor) -> int:
    """Multiply-adds for one image: the outputs times the products that each one sums."""
    match module:
        case nn.Conv2d() | nn.Linear():
            return prod(output.shape[1:]) * prod(module.weight.shape[1:])
    return 0

"""What a network consists of and costs: its layers with output shapes, parameters and multiply-adds."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from residuum.networks.outlines import Layer, Shape


@dataclass(frozen=True)
class Summary:
    """The layers of a network in the order of computation, with all its parameters and what an image costs.

    Multiply-adds are those of convolutions and linear layers; what batch norm, activations, pooling and additions cost
    beside them is left out, as in He et al. 2015, table 1. Activations are the numbers that the backward pass needs
    from the forward pass of an image in training: what autograd keeps, less the parameters and the statistics of a
    batch. Layers without parameters are listed where they change the shape.
    """

    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    activations: int


def summarize(network: nn.Module, input_shape: Shape) -> Summary:
    """The summary of a network for one image of `input_shape` (channels, height, width).

    Nothing is computed: shapes alone are passed on, and the network stays as it is, its buffers included.
    """
    called, kept = _passed(network, input_shape)
    layers = tuple(layer for shape, layer in called if layer.parameters or layer.output_shape != shape)
    return Summary(layers, sum(p.numel() for p in network.parameters()), sum(layer.macs for layer in layers), kept)


Called = list[tuple[Shape, Layer]]


def calls(network: nn.Module, input_shape: Shape) -> Called:
    """Every call of a layer in a forward pass, in order, with the shape of its input for one image.

    A layer that is used twice is there twice. Nothing is computed, as in `summarize`.
    """
    return _passed(network, input_shape)[0]


def _passed(network: nn.Module, input_shape: Shape) -> tuple[Called, int]:
    """The calls and the activations of a pass: of shapes alone, or of copies where own code needs values."""
    try:
        return _pass(network, input_shape, torch.device("meta"))
    except OSError:  # torch finds no folder for files of its own, and half loaded it fails otherwise at the next try
        raise
    except Exception:
        here = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
        with torch.random.fork_rng([here] if here.type == "cuda" else []):
            return _pass(network, input_shape, here)


def _copied(network: nn.Module, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers on a device, each once for each module that has it: what is tied is so again.

    Of a module that stands at two places one name is enough; under two, torch would not put back what it had.
    """
    parameters, buffers, copies = dict[str, Tensor](), dict[str, Tensor](), dict[int, Tensor]()
    for place, module in network.named_modules():
        for found, tensors in ((parameters, module._parameters), (buffers, module._buffers)):
            for key, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in copies:
                    here = tensor.device == device
                    copies[id(tensor)] = tensor.detach().clone() if here else tensor.detach().to(device)
                    copies[id(tensor)].requires_grad_(found is parameters)
                found[f"{place}.{key}" if place else key] = copies[id(tensor)]
    return parameters, buffers


def _pass(network: nn.Module, input_shape: Shape, device: torch.device) -> tuple[Called, int]:
    """One forward pass in training of two images on `device`: batch norm refuses a single value per channel."""
    parameters, buffers = _copied(network, device)
    own = {tensor.untyped_storage()._cdata for tensor in parameters.values()}
    called: Called = []
    kept: dict[int, Tensor] = {}

    def hook(name: str) -> Any:
        return lambda module, inputs, output: called.extend(_call(name, module, inputs, output))

    def keep(tensor: Tensor) -> Tensor:
        # Without its history: an operation that holds its own output is a ring that Python's collector does not see.
        tensor = tensor.detach()
        storage = tensor.untyped_storage()._cdata
        if tensor.is_floating_point() and tensor.ndim > 1 and storage not in own:
            kept[storage] = tensor  # alive, so that no other takes its place
        return tensor

    hooks = [m.register_forward_hook(hook(name)) for name, m in network.named_modules() if not any(m.children())]
    training = network.training
    network.train()
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits_NK = functional_call(
                network,
                {**parameters, **buffers},
                (torch.zeros(2, *input_shape, device=device),),
                tie_weights=False,
            )
            loss = nn.functional.cross_entropy(logits_NK, torch.zeros(2, dtype=torch.int64, device=device))
    finally:
        network.train(training)
        for handle in hooks:
            handle.remove()
    del loss
    return called, sum(tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in kept.values()) // 2


def _call(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Called:
    """What a hook saw, unless own code calls a layer otherwise."""
    if not inputs or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
        return []
    parameters = sum(p.numel() for p in module.parameters(recurse=False))
    layer = Layer(name, _kind(module), tuple(output.shape[1:]), parameters, _macs(module, output))
    return [(tuple(inputs[0].shape[1:]), layer)]


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

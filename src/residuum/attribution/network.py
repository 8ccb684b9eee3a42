"""What attributions need of a network: its feature maps, and copies of it that have unlearned."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from residuum.errors import InputError
from residuum.models import Network
from residuum.streams import stream_seed


def feature_maps(network: nn.Module, images_NCHW: Tensor) -> dict[str, nn.Module]:
    """The modules whose outputs are the feature maps of a network: `stem`, then the end of each stage, by its name.

    The stem's is what enters the first stage. The last stage's is what the linear layer pools: in pre-activated
    networks after the last batch norm and activation, which belong to no block. Between the stages of such a network
    it is the sum that the last block ends in, since the next block's shortcut reads that sum itself.

    Of own code, the last modules that make maps of each size of some images, by their names: what is found by hooks.

    Raises:
        InputError: own code that makes no such maps.
    """
    if not isinstance(network, Network):
        return _found(network, images_NCHW)
    *others, last = network.stages
    return {"stem": network.maxpool, **{stage: getattr(network, stage) for stage in others}, last: network.last_act}


def _found(network: nn.Module, images_NCHW: Tensor) -> dict[str, nn.Module]:
    """The modules that make the last map of each size, in the order of the pass."""
    last: dict[tuple[int, ...], tuple[str, nn.Module]] = {}

    def hook(name: str) -> Any:
        def note(module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                last.pop(tuple(output.shape[2:]), None)
                last[tuple(output.shape[2:])] = name, module

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            network(images_NCHW[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not last:
        raise InputError("this network makes no feature maps of more than a pixel for Grad-CAM; saliency needs none")
    return dict(last.values())


def randomised(network: nn.Module, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """A copy of a network that loses what it learned from the end to the start: linear layer, stages, stem.

    Gives the name of the part that was initialised anew from the seed, batch norms and their statistics included, and
    the copy, the same object each time. It is the cascading randomisation of Adebayo et al., "Sanity checks for
    saliency maps", NeurIPS 2018, section 3.1. Of own code the parts are its direct children, from the last on.
    """
    if not isinstance(network, Network):
        yield from _randomised(network, seed)
        return
    copy, fresh = deepcopy(network), deepcopy(network)
    fresh.initialize(seed)
    *others, last = network.stages
    parts = {"linear": ("linear",), last: (last, "bn"), **{stage: (stage,) for stage in reversed(others)}}
    for part, modules in {**parts, "stem": ("conv1", "bn1")}.items():
        for name in modules:
            getattr(copy, name).load_state_dict(getattr(fresh, name).state_dict())
        yield part, copy


def _randomised(network: nn.Module, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """The same for own code: layers draw their first values anew, and what none can draw is permuted."""
    copy = deepcopy(network)
    children = {name: child for name, child in copy.named_children() if any(True for _ in child.parameters())}
    for name, child in reversed((children or {"network": copy}).items()):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "init", name))
            for module in child.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
                    continue
                for parameter in module.parameters(recurse=False):
                    order = torch.randperm(parameter.numel()).to(parameter.device)
                    parameter.data = parameter.data.flatten()[order].view_as(parameter)
        yield name, copy

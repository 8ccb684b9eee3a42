"""Networks: from a model choice to an initialised network."""

from copy import deepcopy

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from residuum.errors import InputError, tally
from residuum.members import gathered
from residuum.models import families
from residuum.models.families.resnet import Network
from residuum.own import Fit, codes, told
from residuum.registry import Choice, Table
from residuum.streams import stream_seed

__all__ = ["MODELS", "Network", "build"]

MOST_PARAMETERS = 10**9
"""Weights of a network: 4 GB of them, and as much again for their gradients and for what an optimizer keeps."""


def _no_network(made: object) -> str:
    return "" if isinstance(made, nn.Module) else f"makes a {type(made).__name__}; a network is a torch.nn.Module"


MODELS: Table[Network] = Table(
    "model",
    {name: build for file in gathered(families.__name__, "FAMILIES").values() for name, build in file.items()},
    Fit(("in_channels", "classes"), by_name=True, object="made", wrong=_no_network),
)
"""Families: `(in_channels, classes, *, settings) -> Network`, made on the meta device and initialised afterwards.

Own code is any `nn.Module` of images_NCHW that gives logits_NK; it brings its own first values.
"""


def build(model: Choice, in_channels: int, classes: int, image_size: tuple[int, int], seed: int) -> Network:
    """The chosen network on the CPU, in fp32 and training mode, initialised from the stream `init` of the seed.

    `image_size` is height and width in pixels. Torch's own random state is neither read nor changed; own code finds it
    seeded with that stream.

    Raises:
        InputError: settings that do not go together, images so small that a stride would act on a single pixel, or own
            code that gives no logits of such images.
    """
    if codes(model.model_dump()):
        return _own(model, in_channels, classes, image_size, seed)
    with torch.device("meta"):  # shapes only: no time and no random numbers are spent on values that are replaced
        network = MODELS.build(model, in_channels, classes)
    _check_size(network, model, in_channels, image_size)
    if (count := sum(parameter.numel() for parameter in network.parameters())) > MOST_PARAMETERS:
        raise InputError(f"model: {model.name} would have {count:.3g} weights; {MOST_PARAMETERS:,} is the most here")
    network.to_empty(device="cpu")
    network.initialize(seed)
    return network


def _check_size(network: Network, model: Choice, in_channels: int, image_size: tuple[int, int]) -> None:
    smallest = network.reduction // 2 + 1
    if min(image_size) < smallest:
        height, width = image_size
        raise InputError(
            f"model: images of {height}×{width} are too small for {model.name}, whose strides divide their sides by "
            f"{network.reduction}; {smallest}×{smallest} is the smallest that it takes"
        )
    with_window = isinstance(getattr(network, "avgpool", None), nn.AvgPool2d)
    if with_window and not _fits(network, (2, in_channels, *image_size)):
        raise InputError("model.pooling.window: not one window fits into what the strides leave of "
                         f"{image_size[0]}×{image_size[1]}; 0 takes the mean of all")  # fmt: skip


def _own(model: Choice, in_channels: int, classes: int, image_size: tuple[int, int], seed: int) -> Network:
    """A network that is own code or has parts that are: made with values, since only it knows its first ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "init"))
        network = MODELS.build(model, in_channels, classes)
        if isinstance(network, Network):
            _check_size(network, model, in_channels, image_size)
            network.initialize(seed)
        _check_logits(model.name, network, (2, in_channels, *image_size), classes)
    return network.train()


def _check_logits(name: str, network: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """Refuse a network that does not make logits of images; the pass leaves no trace in it."""
    lazy = any(isinstance(parameter, UninitializedParameter) for parameter in network.parameters())
    what = f"model: {name} on images of {'×'.join(map(str, shape[1:]))}"
    try:
        with torch.no_grad():
            # A lazy layer gets its shape, and its first values, from the first images.
            made = (network if lazy else deepcopy(network)).eval()(torch.zeros(shape))
    except Exception as error:
        raise InputError(f"{what} fails: {told(error)}") from error
    if not isinstance(made, torch.Tensor):
        raise InputError(f"{what} gives a {type(made).__name__}, not logits as a tensor")
    if tuple(made.shape) != (shape[0], classes):
        raise InputError(
            f"{what} gives {list(made.shape)} for {tally(shape[0], 'image')}; logits are [images, classes], "
            f"{[shape[0], classes]} here"
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError(f"model: {name} has no parameters that could be trained")


def _fits(network: Network, shape: tuple[int, ...]) -> bool:
    """Whether a network on the meta device takes images of a shape."""
    try:
        network(torch.empty(shape, device="meta"))
    except RuntimeError:
        return False
    return True

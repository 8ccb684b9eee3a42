"""Networks: from a model choice to an initialised network."""

import torch
from torch import nn

from residuum.errors import InputError
from residuum.members import gathered
from residuum.models import families
from residuum.models.families.resnet import Network
from residuum.registry import Choice, Table

__all__ = ["MODELS", "Network", "build"]

MODELS: Table[Network] = Table(
    "model",
    {name: build for file in gathered(families.__name__, "FAMILIES").values() for name, build in file.items()},
)
"""Families: `(in_channels, classes, *, settings) -> Network`, made on the meta device and initialised afterwards."""


def build(model: Choice, in_channels: int, classes: int, image_size: tuple[int, int], seed: int) -> Network:
    """The chosen network on the CPU, in fp32 and training mode, initialised from the stream `init` of the seed.

    `image_size` is height and width in pixels. Torch's own random state is neither read nor changed.

    Raises:
        InputError: settings that do not go together, or images so small that a stride would act on a single pixel.
    """
    with torch.device("meta"):  # shapes only: no time and no random numbers are spent on values that are replaced
        network = MODELS.build(model, in_channels, classes)
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
    network.to_empty(device="cpu")
    network.initialize(seed)
    return network


def _fits(network: Network, shape: tuple[int, ...]) -> bool:
    """Whether a network on the meta device takes images of a shape."""
    try:
        network(torch.empty(shape, device="meta"))
    except RuntimeError:
        return False
    return True

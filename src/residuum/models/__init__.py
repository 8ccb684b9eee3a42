"""Networks: from a model choice to an initialised network."""

import torch

from residuum.errors import InputError
from residuum.models.resnet import Network, cifar_resnet, imagenet_resnet, staged_resnet
from residuum.registry import Choice, Table

__all__ = ["MODELS", "Network", "build"]

MODELS: Table[Network] = Table(
    "model",
    {"cifar_resnet": cifar_resnet, "imagenet_resnet": imagenet_resnet, "staged_resnet": staged_resnet},
)


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
    network.to_empty(device="cpu")
    network.initialize(seed)
    return network

"""Presets: what public code computes with that the tensors it publishes do not tell, by the name of that code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from residuum.errors import unknown
from residuum.registry import Choice, name_of

Pixels = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation by which pixels in [0, 1] are normalised, channel by channel."""

IMAGENET: Pixels = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR: Pixels = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
CIFAR10: Pixels = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
CHENYAOFO100: Pixels = ((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761))
WEIAICUNZAI: Pixels = (
    (0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
    (0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
)

OTHER_PIXELS: Mapping[str, Pixels] = {
    "CIFAR-10, of all its pixels": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR-100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "ImageNet": IMAGENET,
    "SVHN": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "STL-10": ((0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)),
    "CIFAR-10, mean alone": ((0.4914, 0.4822, 0.4465), (1.0, 1.0, 1.0)),
    "from -1 to 1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "from 0 to 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "from 0 to 255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "MNIST": ((0.1307,), (0.3081,)),
    "Fashion-MNIST": ((0.2860,), (0.3530,)),
    "grey from -1 to 1": ((0.5,), (0.5,)),
    "grey from 0 to 1": ((0.0,), (1.0,)),
    "grey from 0 to 255": ((0.0,), (1 / 255,)),
}
"""Constants that training scripts have besides those of presets, for whatever data they read, by what they are of."""


@dataclass(frozen=True)
class Preset:
    """What one public code computes with.

    `model` are settings of all its networks, by their path behind `model.`, `preact` those of its pre-activated ones
    besides. `stride_at` is where a bottleneck has its stride. `stems` are its stems by the side of the first
    convolution, where it has several. `pixels` are its constants by data set; those under "" are for any other.
    """

    code: str
    model: Mapping[str, Any]
    pixels: Mapping[str, Pixels]
    stride_at: str = "3x3"
    preact: Mapping[str, Any] = field(default_factory=dict)
    stems: Mapping[int, str] = field(default_factory=dict)


PRESETS: Mapping[str, Preset] = {
    "akamaster": Preset(
        "akamaster/pytorch_resnet_cifar10",
        {"shortcut": {"name": "identity", "zeros": "around", "subsample": "slice"}},
        {"": IMAGENET},
    ),
    "bearpaw": Preset(
        "bearpaw/pytorch-classification, models/cifar",
        {"shortcut": "projection"},
        {"": CIFAR},
        preact={"stem.after": "none", "shortcut.reads": "input"},
    ),
    "chenyaofo": Preset(
        "chenyaofo/pytorch-cifar-models", {"shortcut": "projection"}, {"cifar10": CIFAR, "cifar100": CHENYAOFO100}
    ),
    "huyvnphan": Preset(
        "huyvnphan/PyTorch_CIFAR10", {"shortcut": "projection", "stem.pool": "max"}, {"cifar10": CIFAR10}
    ),
    "kuangliu": Preset(
        "kuangliu/pytorch-cifar",
        {"shortcut": "projection"},
        {"": CIFAR},
        preact={"stem.after": "none", "ordering.ended": False},
    ),
    "timm": Preset(
        "huggingface/pytorch-image-models", {"shortcut": "projection"}, {"": IMAGENET}, stems={7: "7x7", 3: "3x3"}
    ),
    "torchvision": Preset("pytorch/vision", {"shortcut": "projection"}, {"": IMAGENET}, stems={7: "7x7", 3: "3x3"}),
    "weiaicunzai": Preset(
        "weiaicunzai/pytorch-cifar100",
        {"shortcut": "projection"},
        {"cifar100": WEIAICUNZAI},
        preact={
            "ordering.repeats": True, "ordering.ended": False, "shortcut.reads": "input", "conv_bias": True,
            "stride_at": "1x1",
        },
    ),
}  # fmt: skip


def preset(name: str, argument: str = "preset") -> Preset:
    """The preset of that name.

    Raises:
        InputError: there is none; the message gives the nearest one.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS, argument=argument)
    return PRESETS[name]


def settings_of(chosen: Preset, model: Choice, side: int = 0) -> dict[str, Any]:
    """The settings, by dotted path, that a preset stands for in a network; `side` is that of its first convolution.

    A plain network stays one: what its shortcuts would be is left out.
    """
    values = model.model_dump(mode="json")
    preactivated = name_of(values.get("ordering")) in ("full_preactivation", "relu_only_preactivation")
    found = {**chosen.model, **(chosen.preact if preactivated else {})}
    stride_at = found.pop("stride_at", chosen.stride_at)
    if model.name == "imagenet_resnet" and values.get("depth", 18) >= 50:
        found["stride_at"] = stride_at
    elif name_of(values.get("block")) == "bottleneck":
        found["block.stride_at"] = stride_at
    if side in chosen.stems:
        found["stem"] = chosen.stems[side]
    if name_of(values.get("shortcut")) == "none":
        found = {path: value for path, value in found.items() if not path.startswith("shortcut")}
    return {f"model.{path}": value for path, value in found.items()}


def pixels_of(chosen: Preset, dataset: str) -> Pixels | None:
    """The constants that a preset has for a data set, if it has any."""
    return chosen.pixels.get(dataset, chosen.pixels.get(""))

"""What the tensors of a network do not tell: settings that change its logits, but neither names nor shapes."""

from collections.abc import Iterator, Mapping
from functools import reduce
from math import gcd
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor, nn

from residuum.errors import InputError
from residuum.models import MODELS, Network, build
from residuum.registry import Choice, Setting, Table

ONLY_IN_TRAINING = ("init", "bn_momentum")
"""Settings that change no logit of a trained network."""
USUAL: Mapping[str, tuple[float, ...]] = {
    "bn_eps": (1e-5, 1e-3, 1e-4, 2e-5, 1e-6),
    "negative_slope": (0.01, 0.1, 0.2, 0.3, 1 / 5.5),
    "beta": (1.0, 1.702),
}
"""Numbers that public code has, by their setting, torch's first: of batch norm's epsilon; of leaky ReLU's slope (also
Darknet's, TensorFlow's, Keras' and Xu et al.'s 2015); of Swish's β, which near 1.7 stands for GELU."""
IMAGES = 4
Untold = dict[str, list[Any]]
"""By the path of a setting behind `model.`, other values that the same tensors would fit."""


def untold(model: Choice, in_channels: int, classes: int, image_size: tuple[int, int]) -> Untold:
    """The settings of a resolved model that its tensors do not tell, each with other values that they fit as well.

    Each value is tried: the network with it has the same names and shapes and, at random weights, other logits. It is
    tried in a shallow and narrow network of the same kind.
    """
    small = _small(model)
    network = build(small, in_channels, classes, image_size, seed=0).eval()
    images_NCHW = torch.randn(IMAGES, in_channels, *image_size, generator=torch.Generator().manual_seed(0))
    _scatter(network)
    state, found, misfits = network.state_dict(), dict[str, list[Any]](), set[tuple[str, str]]()
    with torch.no_grad():
        logits_NK = network(images_NCHW)
        for path, value in _others(MODELS, small):
            if isinstance(value, dict) and (path, value["name"]) in misfits:
                continue
            other = with_tensors(_with(small, path.split("."), value), in_channels, classes, state)
            if other is None:
                misfits.add((path, str(value)))
                continue
            try:
                same = torch.equal(other(images_NCHW), logits_NK)
            except RuntimeError:  # images too small for it
                continue
            if not same:
                found.setdefault(path, []).append(value)
    return found


def with_tensors(model: Choice, in_channels: int, classes: int, state: Mapping[str, Tensor]) -> Network | None:
    """The network of a model choice with given tensors, in evaluation mode; None where they are not of its shapes."""
    try:
        with torch.device("meta"):
            network = MODELS.build(model, in_channels, classes)
    except InputError:
        return None
    shapes = [{name: tensor.shape for name, tensor in one.items()} for one in (network.state_dict(), state)]
    if shapes[0] != shapes[1]:
        return None
    network.load_state_dict(dict(state), assign=True)
    return network.eval()


def _small(model: Choice) -> Choice:
    """A shallow and narrow network in which the same settings matter; one of an unknown family stays as it is."""
    settings = model.settings
    channels = settings.get("channels")
    if channels:
        divisor = reduce(gcd, channels)
        settings["channels"] = [2 * width // divisor for width in channels] if divisor % 2 == 0 else channels
    if model.name == "cifar_resnet":
        settings["depth"] = 20 if Choice.of(settings["block"]).name == "bottleneck" else 14
    elif model.name == "imagenet_resnet":
        settings["depth"] = 50 if settings["depth"] >= 50 else 18
    elif model.name == "staged_resnet":
        settings["blocks"] = [min(count, 2) for count in settings["blocks"]]
    return Choice.of({"name": model.name, **settings})


def _scatter(network: nn.Module) -> None:
    """Give batch norms and biases values of a trained network's kind: at their start they hide what they do."""
    source = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 1:
            noise = torch.rand(tensor.shape, generator=source)
            positive = name.endswith(("weight", "running_var"))
            tensor.copy_(2 * noise + 1 if positive else noise - 0.5)  # wide enough to reach the bend of ReLU6


def _others(table: Table[Any], choice: Choice, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a choice, and of the choices within it, with each other value that is worth a try."""
    for name, setting in table.settings(choice.name).items():
        if name in ONLY_IN_TRAINING:
            continue
        value = choice.settings.get(name, setting.default)
        flat = [[1] * len(choice.settings["blocks"])] if name == "strides" and "blocks" in choice.settings else []
        for other in [*_values(setting, value), *flat]:
            yield f"{prefix}{name}", other
        if setting.table is not None:
            yield from _others(setting.table, Choice.of(value), f"{prefix}{name}.")


def _values(setting: Setting, value: Any) -> list[Any]:
    """Other values of a setting: the other names of a table, the other words, the other truth, or another number."""
    if setting.table is not None:
        names = [name for name in setting.table if name != Choice.of(value).name]
        return [one for name in names for one in (name, *_with_settings(setting.table, name))]
    if get_origin(setting.type) is Literal:
        return [word for word in get_args(setting.type) if word != value]
    if isinstance(value, bool):
        return [not value]
    if setting.name in USUAL:
        return [number for number in USUAL[setting.name] if number != value]
    if isinstance(value, float):
        return [2 * value or 1.0]
    return [3 - value if value in (1, 2) else value + 1] if isinstance(value, int) else []


def _with_settings(table: Table[Any], name: str) -> Iterator[dict[str, Any]]:
    """A choice of that name with each other value of one of its settings, where these are few."""
    for setting in table.settings(name).values():
        few = setting.name in USUAL or isinstance(setting.default, bool) or get_origin(setting.type) is Literal
        for other in _values(setting, setting.default) if few else ():
            yield {"name": name, setting.name: other}


def _with(choice: Choice, path: list[str], value: Any) -> Choice:
    """The choice with one setting changed, at a path of names."""
    name, *rest = path
    inner = _with(Choice.of(choice.settings[name]), rest, value) if rest else value
    return choice.merged(Choice.of({name: inner}))

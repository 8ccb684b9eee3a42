"""What network the weights in a file look like: the name of one that they would load into."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from residuum.config import RunConfig
from residuum.errors import InputError, tally
from residuum.models import MODELS
from residuum.models.families.resnet import IMAGENET_BLOCKS
from residuum.models.mapping import Fit, State, containers, fit, named
from residuum.networks.names import network, network_names, short_name
from residuum.networks.presets import PRESETS, settings_of
from residuum.registry import Choice, name_of

MOST = 12_000
"""Tensors of a file in which a network is looked for: more than ResNet-1202 has with the state of its optimizer."""
SHORTCUTS = 8
"""Convolutions in shortcuts that a network may have which is told by the number of its convolutions."""


class Guess(NamedTuple):
    """A network that weights may be of, and what its name does not say of it."""

    model: Mapping[str, Any]
    facts: tuple[str, ...]
    in_channels: int
    classes: int


def likeness(content: Any, *, ordered: bool) -> str:
    """A network that the weights in the content of a file load into, with its settings; empty where none is known.

    As in `resnet56 (model.channels=[16, 32, 64], model.shortcut=projection, 3 input channels, 10 classes)`. A plain
    network and one with option A cannot be told apart.
    """
    if sum(len(one.tensors) for one in containers(content)) > MOST:
        return ""
    by_name = _by_names(max(named(content, "conv1.weight"), key=len, default={}))
    for guess in [*by_name, *(_by_layers(content) if ordered and not by_name else ())]:
        for name in ("", *PRESETS):
            try:
                config = RunConfig().changed({"model": guess.model})
                choice = config.changed(settings_of(PRESETS[name], config.model) if name else {}).model
                expected = _state(choice, guess.in_channels, guess.classes)
            except InputError:
                continue
            found = fit(content, expected, ordered=ordered)
            if isinstance(found, Fit) or found.keys:
                preset = [f"preset {name}"] if name else []
                facts = [*guess.facts, *preset, tally(guess.in_channels, "input channel"), f"{guess.classes} classes"]
                facts += ["model.shortcut=identity"] if guess.model.get("shortcut") == "identity" else []
                usual = choice.merged(Choice.of({"shortcut": "identity"}))  # what it has instead is among the facts
                return f"{short_name(usual)} ({', '.join(facts)})"
    return ""


def _state(model: Choice, in_channels: int, classes: int) -> State:
    """Names and shapes of a network."""
    with torch.device("meta"):
        return MODELS.build(model, in_channels, classes).state_dict()


def _by_names(state: State) -> list[Guess]:
    """The network that the usual names and the shapes of a state dict suggest, if they suggest one."""
    start = re.compile(r"layer[0-9]{1,3}\.[0-9]{1,3}\.conv1\.weight")
    starts = {name: tensor for name, tensor in state.items() if start.fullmatch(name)}
    ends = [state.get("conv1.weight"), state.get("linear.weight")]
    if not starts or any(tensor is None or tensor.ndim < 2 for tensor in [*ends, *starts.values()]):
        return []
    conv1, linear = (tensor for tensor in ends if tensor is not None)
    stages = [int(name.split(".")[0].removeprefix("layer")) for name in starts]
    blocks = [count for _, count in sorted(Counter(stages).items())]
    widths = {stage: len(tensor) for stage, tensor in zip(stages, starts.values(), strict=True)}
    channels = [widths[stage] for stage in sorted(widths)]
    block, layers = ("bottleneck", 3) if any(name.endswith(".conv3.weight") for name in state) else ("basic", 2)
    imagenet = next((depth for depth, form in IMAGENET_BLOCKS.items() if form == (block, tuple(blocks))), None)
    preactivated = "bn.weight" in state or "bn1.weight" not in state or _narrow(state, channels)
    model: dict[str, Any] = {"ordering": "full_preactivation" if preactivated else "original", "channels": channels}
    facts = []
    if channels[0] != len(conv1):  # the stem has the channels that the first stage has without this factor
        times = channels[0] / len(conv1)
        model |= {"wide": times, "channels": [round(width / times) for width in channels]}
        facts = [f"model.wide={times:g}"]
    stem = "7x7" if conv1.shape[-1] == 7 else "3x3"
    if len(blocks) == 3 and len(set(blocks)) == 1:
        model |= {"name": "cifar_resnet", "depth": 2 + layers * sum(blocks), "block": block, "stem": stem}
    elif imagenet and len(channels) == 4:
        model |= {"name": "imagenet_resnet", "depth": imagenet, "stem": stem}
    else:
        model |= {"name": "staged_resnet", "blocks": blocks, "block": block, "stem": stem}
    facts = [f"model.channels={model['channels']}", *facts]
    if "conv1.bias" in state:
        model["conv_bias"] = True
        facts.append("model.conv_bias=true")
    projects = any(".shortcut." in name for name in state)
    model["shortcut"] = "projection" if projects else "identity"
    if projects:
        facts.append("model.shortcut=projection")
        if any(name.startswith("layer1.1.shortcut.") for name in state):
            model["shortcut"] = facts[-1] = "all_projection"
            facts[-1] = "model.shortcut=all_projection"
    return [Guess(model, tuple(facts), conv1.shape[1], len(linear))]


def _narrow(state: State, channels: list[int]) -> bool:
    """Whether the batch norm of a block is as wide as what enters it where that is not what its convolution gives."""
    norms = [state.get(f"layer{number}.0.bn1.weight") for number in range(1, len(channels) + 1)]
    return any(norm is not None and len(norm) != width for norm, width in zip(norms, channels, strict=True))


def _by_layers(content: Any) -> Iterator[Guess]:
    """Networks with a short name that have about as many convolutions as the content of a file."""
    largest: Mapping[str, Tensor] = max((one.tensors for one in containers(content)), key=len, default={})
    convs = [tensor for tensor in largest.values() if tensor.ndim == 4]
    heads = [tensor for tensor in largest.values() if tensor.ndim == 2]
    if not convs or not heads:
        return
    for name in network_names():
        model = MODELS.resolve(Choice.of(network(name)))
        depth = model.settings.get("depth", len(convs))
        if not depth - 1 <= len(convs) <= depth + 2 * SHORTCUTS:  # convolutions of blocks, and a few of shortcuts
            continue
        kernels = sum(tensor.ndim == 4 for tensor in _state(model, 3, 10).values())
        if not kernels <= len(convs) <= kernels + SHORTCUTS:
            continue
        widths = model.settings["channels"]
        channels = [width * len(convs[0]) // widths[0] for width in widths]
        facts = () if channels == list(widths) else (f"model.channels={channels}",)
        for shortcut in dict.fromkeys((name_of(model.settings["shortcut"]), "projection")):
            projects = ("model.shortcut=projection",) if shortcut == "projection" else ()
            settings = {**network(name), "channels": channels, "shortcut": shortcut}
            yield Guess(settings, (*facts, *projects), convs[0].shape[1], len(heads[-1]))

"""Residual networks and their plain twins: one staged network, and the families that describe it by few settings."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from math import prod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from residuum.errors import InputError
from residuum.models.activations import ACTIVATIONS
from residuum.models.blocks import BLOCKS, ORDERINGS, Block, convolutions
from residuum.models.init import INITS
from residuum.models.pooling import POOLINGS
from residuum.models.shortcuts import SHORTCUTS
from residuum.models.stem import STEMS
from residuum.registry import Choice

Count = Annotated[int, Field(ge=1, le=16_384)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1, max_length=16)]
Wide = Annotated[float, Field(ge=1, le=1000)]
StemChoice = Annotated[Choice | str, STEMS]
BlockChoice = Annotated[Choice | str, BLOCKS]
ShortcutChoice = Annotated[Choice | str, SHORTCUTS]
OrderingChoice = Annotated[Choice | str, ORDERINGS]
ActivationChoice = Annotated[Choice | str, ACTIVATIONS]
InitChoice = Annotated[Choice | str, INITS]
PoolingChoice = Annotated[Choice | str, POOLINGS]
Positive = Annotated[float, Field(gt=0, le=1000)]
Momentum = Annotated[float, Field(gt=0, le=1)]

SETTINGS = {
    "depth": "number of layers with weights on the longest way, from the stem to the linear layer",
    "blocks": "number of blocks of each stage",
    "channels": "number of channels of each stage",
    "strides": "stride with which each stage begins",
    "wide": "factor by which the channels of all stages are multiplied",
    "stem": "first convolution, with what follows it before the first stage",
    "block": "kind of block that every stage repeats: what its branch computes, beside the shortcut",
    "stride_at": "convolution of a bottleneck that has the stride",
    "shortcut": "way around a block, which is added to what its branch computes",
    "ordering": "order of convolution, batch norm, activation and addition in a block",
    "activation": "activation after the layers of the network",
    "init": "initialisation of the weights",
    "pooling": "pooling over the whole image, before the linear layer",
    "bn_eps": "number that batch norm adds to the variance",
    "bn_momentum": "share that each batch has in the running statistics of batch norm",
    "conv_bias": "bias of the convolutions: whether they have one",
}
"""What the settings of these networks are, as `model.depth` sets the number of layers."""

IMAGENET_BLOCKS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


class Network(nn.Module):
    """Stem, stages of blocks, a pooling over the whole image and a linear layer.

    Parameters are named as in most public networks for CIFAR: `conv1`, `bn1`, `layer1.0.conv1` …, `linear`, and
    `layer2.0.shortcut.0` for a projection; the batch norm that ends a fully pre-activated network is `bn`. `stages` are
    the names of the stages, `reduction` is the product of all strides; `places` has for each block by its name for what
    it was made: the channels that enter, those of its stage, and its stride.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        blocks: Sequence[int],
        channels: Sequence[int],
        strides: Sequence[int],
        *,
        wide: float,
        stem: StemChoice,
        block: BlockChoice,
        shortcut: ShortcutChoice,
        ordering: OrderingChoice,
        activation: ActivationChoice,
        init: InitChoice,
        pooling: PoolingChoice,
        bn_eps: float,
        bn_momentum: float,
        conv_bias: bool,
    ) -> None:
        super().__init__()
        new_parts, new_shortcut = BLOCKS.bind(block), SHORTCUTS.bind(shortcut)
        new_activation, order = ACTIVATIONS.bind(activation), ORDERINGS.build(ordering)
        self._init = INITS.bind(init)

        first = STEMS.build(stem, in_channels, channels[0])
        self.conv1 = first.conv
        self.bn1 = nn.BatchNorm2d(channels[0]) if "bn" in order.round and "bn" in first.after else nn.Identity()
        self.act = new_activation() if "act" in first.after else nn.Identity()
        self.maxpool = first.pool
        self.reduction = first.stride * prod(strides)

        self.places: dict[str, tuple[int, int, int]] = {}
        width, activated = channels[0], first.after == "bn_act" and not order.repeats
        self.stages: tuple[str, ...] = tuple(f"layer{number}" for number in range(1, len(blocks) + 1))
        for name, count, stage_channels, stride in zip(self.stages, blocks, channels, strides, strict=True):
            stage = nn.Sequential()
            for index in range(count):
                place = width, round(wide * stage_channels), stride if index == 0 else 1
                self.places[f"{name}.{index}"] = place
                parts = new_parts(*place)
                if isinstance(parts, nn.Module):
                    stage.append(parts)
                    width, activated = _channels_of(parts, width), False
                    continue
                block_ = Block(parts, new_shortcut, new_activation, order, activated)
                stage.append(block_)
                width, activated = block_.channels, False
            self.add_module(name, stage)

        # Pre-activated blocks end in an addition: what would begin the next block ends the last stage.
        self.bn = nn.BatchNorm2d(width) if order.ended and "bn" in order.before else nn.Identity()
        self.last_act = new_activation() if order.ended and order.before else nn.Identity()
        self.avgpool = POOLINGS.build(pooling)
        self.linear = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = bn_eps, bn_momentum
            elif conv_bias and isinstance(module, nn.Conv2d):
                module.bias = nn.Parameter(torch.empty(module.out_channels))

    def initialize(self, seed: int) -> None:
        """Give every parameter and buffer its first value, by the network's initialisation."""
        self._init(self, seed)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits_NK of normalised images_NCHW."""
        x_NCHW = self.maxpool(self.act(self.bn1(self.conv1(images_NCHW))))
        for stage in self.stages:
            x_NCHW = getattr(self, stage)(x_NCHW)
        x_NCHW = self.last_act(self.bn(x_NCHW))
        logits_NK: Tensor = self.linear(self.avgpool(x_NCHW).flatten(1))
        return logits_NK


def cifar_resnet(
    in_channels: int,
    classes: int,
    *,
    depth: Annotated[int, Field(ge=8, le=10_000)] = 20,
    channels: tuple[Count, Count, Count] = (16, 32, 64),
    wide: Wide = 1.0,
    stem: StemChoice = "3x3",
    block: BlockChoice = "basic",
    shortcut: ShortcutChoice = "identity",
    ordering: OrderingChoice = "original",
    activation: ActivationChoice = "relu",
    init: InitChoice = "he",
    pooling: PoolingChoice = "average",
    bn_eps: Positive = 1e-5,
    bn_momentum: Momentum = 0.1,
    conv_bias: bool = False,
) -> Network:
    """A network for small images: three stages of n blocks (He et al. 2015, section 4.2).

    `depth` is 6n+2 with basic blocks and 9n+2 with bottlenecks: the stem, the convolutions of the blocks, the linear
    layer. `wide` multiplies the channels of the stages, not those of the stem (Zagoruyko and Komodakis 2016, table 1;
    their depth counts the projections, WRN-28-10 is depth 26 here).

    Raises:
        InputError: there is no such depth.
    """
    step = 3 * _convolutions(block)
    if (depth - 2) % step or depth < step + 2:
        near = max(1, round((depth - 2) / step)) * step + 2
        raise InputError(
            f"model.depth: with {Choice.of(block).name} blocks it is {step}n+2, not {depth}; the nearest is {near}"
        )
    return Network(
        in_channels, classes, [(depth - 2) // step] * 3, channels, (1, 2, 2),
        wide=wide, stem=stem, block=block, shortcut=shortcut, ordering=ordering, activation=activation, init=init,
        pooling=pooling, bn_eps=bn_eps, bn_momentum=bn_momentum, conv_bias=conv_bias,
    )  # fmt: skip


def imagenet_resnet(
    in_channels: int,
    classes: int,
    *,
    depth: Literal[18, 34, 50, 101, 152] = 18,
    channels: tuple[Count, Count, Count, Count] = (64, 128, 256, 512),
    wide: Wide = 1.0,
    stem: StemChoice = "3x3",
    stride_at: Literal["1x1", "3x3"] = "1x1",
    shortcut: ShortcutChoice = "projection",
    ordering: OrderingChoice = "original",
    activation: ActivationChoice = "relu",
    init: InitChoice = "he",
    pooling: PoolingChoice = "average",
    bn_eps: Positive = 1e-5,
    bn_momentum: Momentum = 0.1,
    conv_bias: bool = False,
) -> Network:
    """A network of He et al. 2015, table 1: four stages, bottlenecks from 50 layers on.

    With the stem `7x7` it is the form for 224×224 images, with `3x3` the usual form for 32×32. `stride_at` is where a
    bottleneck has its stride; basic blocks have it at the first convolution, as in the public code for these networks;
    as `staged_resnet` their tensors are the same, and the block says where it is.
    """
    name, blocks = IMAGENET_BLOCKS[depth]
    block = Choice.of({"name": name, "stride_at": stride_at}) if name == "bottleneck" else name
    return Network(
        in_channels, classes, blocks, channels, (1, 2, 2, 2), block=block,
        wide=wide, stem=stem, shortcut=shortcut, ordering=ordering, activation=activation, init=init,
        pooling=pooling, bn_eps=bn_eps, bn_momentum=bn_momentum, conv_bias=conv_bias,
    )  # fmt: skip


def staged_resnet(
    in_channels: int,
    classes: int,
    *,
    blocks: Counts,
    channels: Counts,
    strides: tuple[Count, ...] = (),
    wide: Wide = 1.0,
    stem: StemChoice = "3x3",
    block: BlockChoice = "basic",
    shortcut: ShortcutChoice = "projection",
    ordering: OrderingChoice = "original",
    activation: ActivationChoice = "relu",
    init: InitChoice = "he",
    pooling: PoolingChoice = "average",
    bn_eps: Positive = 1e-5,
    bn_momentum: Momentum = 0.1,
    conv_bias: bool = False,
) -> Network:
    """A network of any stages: `blocks`, `channels` and `strides` have one entry for each.

    Without `strides` they are 1, 2, 2, …; the stem has the channels of the first stage. Report C's networks are of this
    family: their average pooling over 4×4 is the global one, since 4×4 is what four stages leave of 32×32.

    Raises:
        InputError: the lists differ in length.
    """
    strides = strides or (1,) + (2,) * (len(blocks) - 1)
    for name, values in (("channels", channels), ("strides", strides)):
        if len(values) != len(blocks):
            raise InputError(f"model.{name}: {len(values)} entries for {len(blocks)} stages (model.blocks)")
    return Network(
        in_channels, classes, blocks, channels, strides,
        wide=wide, stem=stem, block=block, shortcut=shortcut, ordering=ordering, activation=activation, init=init,
        pooling=pooling, bn_eps=bn_eps, bn_momentum=bn_momentum, conv_bias=conv_bias,
    )  # fmt: skip


def _convolutions(block: Choice | str) -> int:
    """How many convolutions a block has, for the depth of a network; a whole block of the user's own one at least."""
    with torch.device("meta"):
        return len(convolutions(BLOCKS.build(block, 64, 64, 1))) or 1


def unheeded(network: Network, shape: Sequence[int]) -> list[str]:
    """What the blocks of a network do not heed of the stride and the width that they are asked for, a phrase each.

    `shape` is that of an image. A built-in block heeds both; of own code nothing else would show it: the network fits.
    """
    sizes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def see(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_block: nn.Module, given: tuple[Tensor, ...], made_NCHW: Tensor) -> None:
            sizes[name] = tuple(given[0].shape), tuple(made_NCHW.shape)

        return hook

    seen = deepcopy(network).eval()
    for name in network.places:
        seen.get_submodule(name).register_forward_hook(see(name))
    with torch.no_grad():
        seen(torch.zeros(2, *shape))
    said = []
    for name, (_, _, stride) in network.places.items():
        (*_, high, wide), (*_, high_made, wide_made) = sizes[name]
        if stride > 1 and high > 1 and (high_made, wide_made) == (high, wide):
            said.append(f"its stride, as in {name}, where maps of {high}×{wide} stay as large at a stride of {stride}")
            break
    asked = list(dict.fromkeys(channels for _, channels, _ in network.places.values()))
    made = {made[1] for _, made in sizes.values()}
    if len(asked) > 1 and len(made) == 1:
        said.append(f"its width: {made.pop()} channels leave it wherever it stands, and {', '.join(map(str, asked))} "
                    "were asked for")  # fmt: skip
    return said


def _channels_of(block: nn.Module, in_channels: int) -> int:
    """The channels that a whole block makes of its input, found by asking.

    Raises:
        InputError: it does not take, or does not make, images of channels.
    """
    parameter = next(block.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            made = deepcopy(block).eval()(torch.empty(2, in_channels, 32, 32, device=parameter.device))
    except Exception as error:
        line = (str(error).strip().splitlines() or ["no message"])[0]
        raise InputError(
            f"model.block: on {in_channels} channels it fails with {type(error).__name__}: {line}"
        ) from error
    if not isinstance(made, Tensor) or made.ndim != 4:
        raise InputError("model.block: it does not make a tensor [images, channels, height, width]")
    return made.shape[1]


FAMILIES = {"cifar_resnet": cifar_resnet, "imagenet_resnet": imagenet_resnet, "staged_resnet": staged_resnet}

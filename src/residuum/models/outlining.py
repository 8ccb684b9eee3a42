"""The outline of a network: which layers it computes one after the other, and where shortcuts leave and return."""

from collections import deque
from collections.abc import Sequence

import torch
from torch import nn

from residuum.models import MODELS, Network
from residuum.models.blocks import ORDERINGS, Block
from residuum.models.summary import calls
from residuum.networks.outlines import BlockOutline, Layer, Outline, Shape
from residuum.registry import Choice


def outline(network: Network, input_shape: Shape) -> Outline:
    """The outline of a network for one image of `input_shape` (channels, height, width).

    The layers are those that a forward pass calls, in its order, without identities. Only where a block's addition
    stands is read from the block, which computes by the same lists.
    """
    called = [layer for _, layer in calls(network, input_shape) if layer.kind != "identity"]
    within = tuple(f"{stage}." for stage in network.stages)
    places = [number for number, layer in enumerate(called) if layer.name.startswith(within)]
    stem, head = called[: places[0]], called[places[-1] + 1 :]
    shape = stem[-1].output_shape
    stages = []
    for stage in network.stages:
        blocks = []
        for index, block in enumerate(getattr(network, stage)):
            prefix = f"{stage}.{index}."
            blocks.append(_block(prefix[:-1], block, shape, [one for one in called if one.name.startswith(prefix)]))
            shape = blocks[-1].output_shape
        stages.append(tuple(blocks))
    return Outline(
        input_shape,
        tuple(stem),
        tuple(stages),
        tuple(head),
        sum(parameter.numel() for parameter in network.parameters()),
        sum(layer.macs for layer in called),
    )


def _block(name: str, block: nn.Module, input_shape: Shape, called: list[Layer]) -> BlockOutline:
    """The outline of a block from its layers in the order of their calls: the shortcut's come after the branch's."""
    if not isinstance(block, Block):  # a whole one of the user's own, within which nothing is known of a shortcut
        return BlockOutline(name, input_shape, (), tuple(called), None, (), late=False)
    rest = deque(called)

    def taken(parts: Sequence[str], shape: Shape) -> tuple[Layer, ...]:
        """The layers of the next parts: one each, and one for a part that has parts, which keeps the shape."""
        found: list[Layer] = []
        for part in parts:
            module, prefix = getattr(block, part), f"{name}.{part}."
            within = [one for one in rest if one.name.startswith(prefix)]
            if within:
                parameters, macs = sum(p.numel() for p in module.parameters()), sum(one.macs for one in within)
                found.append(Layer(prefix[:-1], type(module).__name__, shape, parameters, macs))
                for one in within:
                    rest.remove(one)
            else:
                found.append(rest.popleft())
            shape = found[-1].output_shape
        return tuple(found)

    before = taken(block.before, input_shape)
    branch = taken(block.branch, before[-1].output_shape if before else input_shape)
    shortcut = tuple(rest.popleft() for _ in range(len(rest) - len(block.after)))
    return BlockOutline(
        name,
        input_shape,
        before,
        branch,
        None if block.shortcut is None else shortcut,
        tuple(rest),
        late=block.late,
    )


def in_each_ordering(model: Choice, input_shape: Shape, classes: int) -> dict[str, BlockOutline]:
    """The last block of a network that keeps its input's shape, or else the last, in each ordering of the table.

    The network is built anew for each; its blocks, shortcuts and activation stay as they are.
    """
    made: dict[str, BlockOutline] = {}
    for ordering in ORDERINGS:
        with torch.device("meta"):
            network = MODELS.build(model.merged(Choice.of({"ordering": ordering})), input_shape[0], classes)
        blocks = [block for stage in outline(network, input_shape).stages for block in stage]
        # The first block is left out: where the stem has activated its input it lacks what the others begin with.
        unchanged = [block for block in blocks[1:] if block.input_shape == block.output_shape]
        made[ordering] = (unchanged or blocks)[-1]
    return made

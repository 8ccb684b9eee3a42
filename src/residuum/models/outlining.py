"""The outline of a network: which layers it computes one after the other, and where shortcuts leave and return."""

from itertools import islice

import torch

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


def _block(name: str, block: Block, input_shape: Shape, called: list[Layer]) -> BlockOutline:
    """The outline of a block from its layers in the order of their calls: the shortcut's come after the branch's."""
    rest = iter(called)
    before = tuple(islice(rest, len(block.before)))
    branch = tuple(islice(rest, len(block.branch)))
    shortcut = tuple(islice(rest, len(called) - len(before) - len(branch) - len(block.after)))
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

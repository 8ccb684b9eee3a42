"""What a network consists of, as plain values: made by the half that computes, read by the half that shows."""

from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer: its name in the network, what it is, the shape of its output for one image, and its cost."""

    name: str
    kind: str
    output_shape: Shape
    parameters: int
    macs: int


@dataclass(frozen=True)
class BlockOutline:
    """One residual block: its layers in the order in which they are computed.

    `shortcut` is None in a plain network, empty where the input itself is added to the branch. It reads the input of
    the block; where `late` is true, what `before` has made of it.
    """

    name: str
    input_shape: Shape
    before: tuple[Layer, ...]
    branch: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] | None
    after: tuple[Layer, ...]
    late: bool

    @property
    def output_shape(self) -> Shape:
        """The shape of the block's output for one image."""
        return (*self.branch, *self.after)[-1].output_shape


@dataclass(frozen=True)
class Outline:
    """A staged network: the layers before its blocks, the blocks of each stage, and the layers after them."""

    input_shape: Shape
    stem: tuple[Layer, ...]
    stages: tuple[tuple[BlockOutline, ...], ...]
    head: tuple[Layer, ...]
    parameters: int
    macs: int

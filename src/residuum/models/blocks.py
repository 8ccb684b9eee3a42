"""Residual blocks: the convolutions of a branch, and the order of batch norm, activation and addition around them.

A builder takes the channels that enter, those of the stage and the stride, and gives the parts of a branch in their
order: convolutions, around which the ordering puts batch norms and activations, and any other modules that keep the
shape, as squeeze-and-excitation. A builder of the user's own may give a module instead, which is a whole block, its
own shortcut included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from residuum.own import Fit
from residuum.registry import Table

Operation = Literal["conv", "bn", "act"]


@dataclass(frozen=True)
class Ordering:
    """The order of operations in a block (He et al. 2016, figure 4).

    A branch repeats the operations of `round` once for each convolution; its last `after` operations come after the
    addition, the very last `omitted` ones not at all. In pre-activated orderings the first block leaves out what
    precedes its first convolution where the stem has done it, unless it `repeats` that; `ended`: what would begin
    another block ends the last stage.
    """

    round: tuple[Operation, ...]
    after: int
    omitted: int = 0
    repeats: bool = False
    ended: bool = True

    @property
    def before(self) -> tuple[Operation, ...]:
        """What precedes a convolution: nothing, except in the pre-activated orderings."""
        return self.round[: self.round.index("conv")]

    @property
    def projection_norm(self) -> bool:
        """Whether a projection has a batch norm of its own: it needs one unless one precedes it, or there is none."""
        return "bn" in self.round and "bn" not in self.before


def original(*, act_after: bool = True) -> Ordering:
    """The order of He et al. 2016, figure 4a: conv, BN, act, conv, BN; addition; act, or nothing after the addition."""
    return Ordering(("conv", "bn", "act"), after=int(act_after), omitted=int(not act_after))


def bn_after_addition() -> Ordering:
    """The order of He et al. 2016, figure 4b: conv, BN, act, conv; addition; BN, act.

    BN also alters what comes through the shortcut.
    """
    return Ordering(("conv", "bn", "act"), after=2)


def relu_before_addition() -> Ordering:
    """The order of He et al. 2016, figure 4c: conv, BN, act, conv, BN, act; addition.

    With ReLU a block can only add.
    """
    return Ordering(("conv", "bn", "act"), after=0)


def relu_only_preactivation(*, repeats: bool = False, ended: bool = True) -> Ordering:
    """The order of He et al. 2016, figure 4d: act, conv, BN, act, conv, BN; addition. One more act ends the last stage.

    `repeats`: the first block also begins with an activation of its own; `ended`: that last one is there.
    """
    return Ordering(("act", "conv", "bn"), after=0, repeats=repeats, ended=ended)


def full_preactivation(*, repeats: bool = False, ended: bool = True) -> Ordering:
    """The order of He et al. 2016, figure 4e: BN, act, conv, BN, act, conv; addition. One BN, act end the last stage.

    `repeats`: the first block also begins with a BN and an activation of its own; `ended`: those last ones are there.
    """
    return Ordering(("bn", "act", "conv"), after=0, repeats=repeats, ended=ended)


def without_bn() -> Ordering:
    """An order without batch norm: conv, act, conv; addition; act (He et al. 2015, figure 2). No biases.

    To study signals and gradients that nothing rescales; deep networks are hard to train so.
    """
    return Ordering(("conv", "act"), after=1)


ORDERINGS: Table[Ordering] = Table(
    "ordering",
    {
        "original": original,
        "bn_after_addition": bn_after_addition,
        "relu_before_addition": relu_before_addition,
        "relu_only_preactivation": relu_only_preactivation,
        "full_preactivation": full_preactivation,
        "without_bn": without_bn,
    },
)


def basic(
    in_channels: int, channels: int, stride: int, *, stride_at: Literal["first", "second"] = "first"
) -> tuple[nn.Conv2d, ...]:
    """Two 3×3 convolutions, the stride on the first (He et al. 2015, figure 5, left)."""
    first, second = (stride, 1) if stride_at == "first" else (1, stride)
    return _conv(in_channels, channels, 3, first), _conv(channels, channels, 3, second)


def bottleneck(
    in_channels: int,
    channels: int,
    stride: int,
    *,
    expansion: Annotated[int, Field(ge=1, le=64)] = 4,
    stride_at: Literal["1x1", "3x3"] = "1x1",
) -> tuple[nn.Conv2d, ...]:
    """1×1, 3×3 and 1×1 convolutions, the last to `expansion` times the channels (He et al. 2015, figure 5, right).

    The paper has the stride at the first 1×1; many later networks, torchvision's among them, have it at the 3×3.
    """
    first, middle = (stride, 1) if stride_at == "1x1" else (1, stride)
    return (
        _conv(in_channels, channels, 1, first),
        _conv(channels, channels, 3, middle),
        _conv(channels, expansion * channels, 1, 1),
    )


def _conv(in_channels: int, channels: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=kernel // 2, bias=False)


def _no_block(made: object) -> str:
    if isinstance(made, nn.Module):
        return ""
    if not isinstance(made, list | tuple) or not all(isinstance(part, nn.Module) for part in made):
        return f"makes a {type(made).__name__}; a block is a sequence of modules, or one module"
    return "" if any(isinstance(part, nn.Conv2d) for part in made) else "makes a branch without a convolution"


BLOCKS: Table[Sequence[nn.Module] | nn.Module] = Table(
    "block",
    {"basic": basic, "bottleneck": bottleneck},
    Fit(("in_channels", "channels", "stride"), by_name=True, wrong=_no_block),
)


def convolutions(parts: Sequence[nn.Module] | nn.Module) -> list[nn.Conv2d]:
    """The convolutions of a branch; of a whole block those that are no 1×1, which are its branch in any usual one."""
    if isinstance(parts, nn.Module):
        return [one for one in parts.modules() if isinstance(one, nn.Conv2d) and one.kernel_size != (1, 1)]
    return [part for part in parts if isinstance(part, nn.Conv2d)]


class Block(nn.Module):
    """A branch of convolutions, and a shortcut that is added to it.

    Other `parts` than convolutions come after the one that they follow and its batch norm, before what is activated or
    added; they are called `extra1`, `extra2` and so on.


    In the pre-activated orderings a projection reads the activated input, as in the networks that the authors
    published, unless its settings say otherwise; an identity shortcut reads the input itself. `activated`: the input
    comes activated from the stem, so the block does not begin with BN and activation (He et al. 2016, appendix).
    """

    def __init__(
        self,
        parts: Sequence[nn.Module],
        shortcut: Callable[[int, int, int, bool], nn.Module | None],
        activation: Callable[[], nn.Module],
        ordering: Ordering,
        activated: bool,
    ) -> None:
        super().__init__()
        convs = convolutions(parts)
        lead = len(ordering.before)
        steps = [(op, number) for number in range(1, len(convs) + 1) for op in ordering.round]
        for op, number in steps[lead if activated else 0 :]:
            conv = convs[number - 1]
            if op == "conv":
                self.add_module(f"conv{number}", conv)
            elif op == "bn":
                self.add_module(
                    f"bn{number}", nn.BatchNorm2d(conv.in_channels if "bn" in ordering.before else conv.out_channels)
                )
        self.act = activation()
        names = [op if op == "act" else f"{op}{number}" for op, number in steps[: len(steps) - ordering.omitted]]
        end = len(names) - ordering.after
        self.before = () if activated else tuple(names[:lead])
        self.branch = tuple(names[lead:end])
        self.after = tuple(names[end:])
        self._insert(parts)
        self.in_channels, self.channels = convs[0].in_channels, convs[-1].out_channels
        stride = prod(conv.stride[0] for conv in convs)
        self.shortcut = shortcut(self.in_channels, self.channels, stride, ordering.projection_norm)

    def _insert(self, parts: Sequence[nn.Module]) -> None:
        """Put what is no convolution into the branch."""
        branch, number, extras = list(self.branch), 0, 0
        for part in parts:
            if isinstance(part, nn.Conv2d):
                number += 1
                continue
            extras += 1
            self.add_module(f"extra{extras}", part)
            before = {f"conv{number}", f"bn{number}", f"extra{extras - 1}"}
            place = max((at for at, name in enumerate(branch, start=1) if name in before), default=0)
            branch.insert(place, f"extra{extras}")
        self.branch = tuple(branch)

    @property
    def late(self) -> bool:
        """Whether the shortcut reads what the block begins with, and not its input."""
        return bool(self.before) and getattr(self.shortcut, "activated", False)

    @property
    def last_norm(self) -> nn.BatchNorm2d | None:
        """The batch norm that ends the branch, if one does."""
        last = getattr(self, self.branch[-1])
        return last if isinstance(last, nn.BatchNorm2d) else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The block's output, of `channels` channels."""
        started_NCHW = self._run(self.before, x_NCHW)
        y_NCHW = self._run(self.branch, started_NCHW)
        if self.shortcut is not None:
            y_NCHW = y_NCHW + self.shortcut(started_NCHW if self.late else x_NCHW)
        return self._run(self.after, y_NCHW)

    def _run(self, names: Sequence[str], x_NCHW: Tensor) -> Tensor:
        for name in names:
            x_NCHW = getattr(self, name)(x_NCHW)
        return x_NCHW

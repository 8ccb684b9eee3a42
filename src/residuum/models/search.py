"""Budget search: which staged networks use up a limit of parameters, multiply-adds or memory.

The space is small enough to be seen whole. Networks are `staged_resnet` with basic blocks, projections where the shape
changes and a 3×3 stem. Every stage after the first halves the image and keeps or doubles the channels; the first has
one of a few widths. A stage has 1 to `MOST_BLOCKS` blocks, and none more than twice the blocks of another: what
ResNet-18 and ResNet-34 keep to as well (He et al. 2015, table 1).

All costs are linear in the blocks of the stages, so they are counted without building a network.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residuum.errors import InputError, Remedy

MOST_BLOCKS = 18
"""Most blocks of a stage: those of ResNet-110 (He et al. 2015, section 4.2)."""

MOST_STAGES = 6
"""Most stages: those that halve 32×32 to a single pixel."""

WIDTHS = (16, 32, 64, 128)
"""Channels of the first stage that are tried by default."""

FLOAT = 4
"""Bytes of a number in fp32."""


@dataclass(frozen=True)
class Task:
    """What networks are counted for: shape of an image (channels, height, width), classes, images of an update."""

    shape: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    batch: int = 128


@dataclass(frozen=True)
class Cost:
    """What a network costs: parameters, multiply-adds for one image, bytes that an update keeps in memory.

    Parameters and multiply-adds are those of `residuum.models.summary`. The memory is that of fp32 training with
    momentum, 12 bytes a parameter (value, gradient, momentum), and of what the backward pass needs from the forward
    pass for every image of the batch: the inputs of convolutions and batch norms, the outputs of activations, the
    log-probabilities. Not in it: the library itself, its work space, and what lives for one layer only.
    """

    parameters: int
    macs: int
    memory: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.macs + other.macs, self.memory + other.memory)

    def __mul__(self, times: int) -> "Cost":
        return Cost(times * self.parameters, times * self.macs, times * self.memory)


@dataclass(frozen=True)
class Limits:
    """The most that a network may cost, by the parts of `Cost`; None is no limit."""

    parameters: int | None = None
    macs: int | None = None
    memory: int | None = None

    @property
    def given(self) -> dict[str, int]:
        """The limits that there are; the first of them is the one to use up."""
        return {part: limit for part, limit in asdict(self).items() if limit is not None}


@dataclass(frozen=True)
class Found:
    """A network of the search: blocks and channels of its stages, its cost, its share of the limit to use up."""

    blocks: tuple[int, ...]
    channels: tuple[int, ...]
    cost: Cost
    share: float

    @property
    def depth(self) -> int:
        """Convolutions of stem and blocks, and the linear layer; projections are not counted."""
        return 2 * sum(self.blocks) + 2

    @property
    def model(self) -> dict[str, Any]:
        """The model choice that builds it."""
        return {"name": "staged_resnet", "blocks": list(self.blocks), "channels": list(self.channels)}

    @property
    def toml(self) -> str:
        """The model choice as TOML in one line, for `--set model=…` and for an axis of a study."""
        return inline(self.blocks, self.channels)


def inline(blocks: Sequence[int], channels: Sequence[int]) -> str:
    """A staged network as an inline table of TOML."""
    stages = ", ".join(
        f"{key}=[{','.join(map(str, values))}]" for key, values in (("blocks", blocks), ("channels", channels))
    )
    return f'{{name="staged_resnet", {stages}}}'


def cost(blocks: Sequence[int], channels: Sequence[int], task: Task) -> Cost:
    """The exact cost of a staged network, in closed form."""
    total, more = _terms(channels, task)
    for count, one in zip(blocks, more, strict=True):
        total += one * (count - 1)
    return total


def search(
    limits: Limits,
    task: Task,
    *,
    stages: int = 4,
    widths: Sequence[int] = WIDTHS,
    depth: int | None = None,
    top: int = 20,
) -> list[Found]:
    """The networks that use most of the first limit given and keep to all, at most `top` of them.

    Without `depth`: the best network of each depth, from the shallowest on. With it: the best of that depth for each
    list of channels, best first. Of networks with equal use that one is better whose blocks are spread more evenly over
    the stages, then the one with more multiply-adds, then with more parameters.

    Raises:
        InputError: no limit, an impossible number of stages or depth, or limits that no network keeps to; the message
            then names the smallest network.
    """
    _check(limits, task, stages, widths, depth, top)
    given = limits.given
    vectors = _channels(stages, widths)
    found: list[Found] = []
    for total in [(depth - 2) // 2] if depth else range(stages, stages * MOST_BLOCKS + 1):
        ranked = _ranked(_splits(total, stages), vectors, task, given)
        if depth:
            found = list(itertools.islice(_one_for_each_channels(ranked), top))
        elif (best := next(ranked, None)) is not None:
            found.append(best)
        else:
            break  # nor does anything deeper: one block less always costs less and stays in the space
        if len(found) == top:
            break
    if not found:
        raise _too_small(given, task, stages, widths, depth)
    return found


def _ranked(
    splits: Sequence[tuple[int, ...]], vectors: Sequence[tuple[int, ...]], task: Task, given: dict[str, int]
) -> Iterator[Found]:
    """All networks of these blocks and channels that keep to the limits, best first."""
    # float64 counts exactly up to 9e15, and matrix products of it are fast.
    terms = [_terms(channels, task) for channels in vectors]
    base_VC = _numbers([base for base, _ in terms])
    more_VSC = np.stack([_numbers(more) for _, more in terms])
    blocks_MS = np.array(splits, dtype=np.float64)
    costs_VMC = base_VC[:, None] + (blocks_MS - 1) @ more_VSC
    parts = [field.name for field in fields(Cost)]
    vector_N, split_N = np.nonzero((costs_VMC <= [given.get(part, np.inf) for part in parts]).all(axis=-1))
    fits = dict(zip(parts, costs_VMC[vector_N, split_N].T, strict=True))
    uneven_N = (blocks_MS**2).sum(axis=1)[split_N]
    first, limit = next(iter(given.items()))
    for n in np.lexsort((-fits["parameters"], -fits["macs"], uneven_N, -fits[first])):
        blocks, channels = splits[split_N[n]], vectors[vector_N[n]]
        exact = cost(blocks, channels, task)
        yield Found(blocks, channels, exact, getattr(exact, first) / limit)


def _one_for_each_channels(ranked: Iterator[Found]) -> Iterator[Found]:
    seen: set[tuple[int, ...]] = set()
    for network in ranked:
        if network.channels not in seen:
            seen.add(network.channels)
            yield network


def _numbers(costs: Sequence[Cost]) -> NDArray[np.float64]:
    return np.array([astuple(cost) for cost in costs], dtype=np.float64)


def _channels(stages: int, widths: Sequence[int]) -> list[tuple[int, ...]]:
    """Channels of the stages: a width, kept or doubled from stage to stage."""
    return [
        tuple(itertools.accumulate(factors, lambda channels, factor: channels * factor, initial=width))
        for width in sorted(set(widths))
        for factors in itertools.product((1, 2), repeat=stages - 1)
    ]


def _splits(total: int, stages: int) -> list[tuple[int, ...]]:
    """Blocks of the stages that sum to the total, none more than twice another."""

    def between(total: int, stages: int, least: int, most: int) -> Iterator[tuple[int, ...]]:
        if not stages * least <= total <= stages * most:
            return
        if stages == 1:
            yield (total,)
            return
        for first in range(least, most + 1):
            for rest in between(total - first, stages - 1, least, most):
                yield (first, *rest)

    return [
        blocks
        for least in range(1, total // stages + 1)
        for blocks in between(total, stages, least, min(2 * least, MOST_BLOCKS))
        if min(blocks) == least
    ]


def _terms(channels: Sequence[int], task: Task) -> tuple[Cost, list[Cost]]:
    """The cost of one block in each stage, and of one more in each: the network's cost is linear in its blocks."""

    def layers(weights: int, norms: int, pixels: int, kept: int) -> Cost:
        """Convolutions with so many weights, batch norms of so many channels, numbers kept for an image."""
        parameters = weights + 2 * norms
        return Cost(parameters, weights * pixels, FLOAT * (3 * parameters + task.batch * kept))

    inputs, height, width = task.shape
    entering, pixels = channels[0], height * width
    # Kept of the stem: the image, what enters its batch norm, and the activation.
    base = layers(9 * inputs * entering, entering, pixels, (inputs + 2 * entering) * pixels)
    more = []
    for number, leaving in enumerate(channels):
        if number > 0:
            height, width = (height + 1) // 2, (width + 1) // 2
        pixels = height * width
        # Kept of a block: what enters its two batch norms, and its two activations.
        more.append(layers(18 * leaving**2, 2 * leaving, pixels, 4 * leaving * pixels))
        base += layers(9 * entering * leaving + 9 * leaving**2, 2 * leaving, pixels, 4 * leaving * pixels)
        if number > 0:  # a projection: its batch norm keeps what enters it
            base += layers(entering * leaving, leaving, pixels, leaving * pixels)
        entering = leaving
    linear = entering * task.classes
    head = linear + task.classes
    # Kept of the head: the pooled features and the log-probabilities.
    kept = task.batch * (entering + task.classes)
    return base + Cost(head, linear, FLOAT * (3 * head + kept)), more


def _check(limits: Limits, task: Task, stages: int, widths: Sequence[int], depth: int | None, top: int) -> None:
    counts = {"stages": stages, "top": top, "classes": task.classes, "batch": task.batch, "width": min(widths)}
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{value} is too few; at least 1", argument=name)
    if not limits.given:
        raise InputError("a limit is needed", remedies=[Remedy("limits")])
    _, height, width = task.shape
    halvings = (min(height, width) - 1).bit_length()
    if stages > halvings + 1:
        raise InputError(
            f"each stage after the first halves the images, and {height}×{width} can be halved "
            f"{halvings} times; at most {halvings + 1} stages, not {stages}",
            argument="stages",
        )
    if stages > MOST_STAGES:
        raise InputError(f"networks of at most {MOST_STAGES} stages are searched, not {stages}", argument="stages")
    shallowest, deepest = 2 * stages + 2, 2 * stages * MOST_BLOCKS + 2
    if depth is not None and (depth % 2 or not shallowest <= depth <= deepest):
        raise InputError(
            f"networks of {stages} stages have even depths from {shallowest} to {deepest}, not {depth}",
            argument="depth",
        )


def _too_small(given: dict[str, int], task: Task, stages: int, widths: Sequence[int], depth: int | None) -> InputError:
    """The error for limits that not even the smallest network keeps to, whichever of its parts is too large."""
    channels = (min(widths),) * stages
    splits = _splits((depth - 2) // 2, stages) if depth else [(1,) * stages]
    # With equal channels one network is the smallest in every part: the one whose blocks come latest.
    blocks = min(splits, key=lambda blocks: cost(blocks, channels, task).macs)
    least = cost(blocks, channels, task)
    part = next(part for part, limit in given.items() if getattr(least, part) > limit)
    name = {"parameters": "parameters", "macs": "multiply-adds", "memory": f"bytes at batch {task.batch}"}[part]
    which = f"{stages} stages" + (f" and depth {depth}" if depth else "")
    return InputError(
        f"no network of {which} has at most {given[part]:,} {name}; the smallest, {inline(blocks, channels)}, "
        f"has {getattr(least, part):,}"
    )

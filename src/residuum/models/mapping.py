"""Which tensors of a file are the weights of a network: by name behind one prefix, or by the order of its layers."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from residuum.errors import quoted
from residuum.models.saved import PLAIN

State = Mapping[str, Tensor]
MAX_DEPTH, MAX_CONTAINERS = 8, 10_000
"""How deep containers within containers are looked into, and how many: a pickle may hold one that holds itself."""

MAX_JOINED = 20_000
"""Mappings and tensors that are taken together: a pickle may hold one that holds itself."""
MAX_PARTS = 32
"""Dots of a name behind which the names of a network may begin."""
MAX_COUNT = 1 << 53
"""Batches that a batch norm can have counted: what a number in floating point holds exactly."""
NOT_TRAINED = re.compile(
    r"(?<![a-z])(init(ial|ialization|ialized)?|untrained|grads?|gradients?|momentum_buffers?|exp_avg(_sq)?)(?![a-z])",
    re.IGNORECASE,
)
"""What tensors of a network's shapes are called that are not what its training came to."""
WITHIN = re.compile(r"(?<![^.])(_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\.")
"""What compiling, sharding and data parallelism put into the names of a network, wherever a part of it was wrapped."""
HEAD = re.compile(r"(?<![^.])fc\.(?=(weight|bias)$)")
PIXELS = re.compile(r"(?:^|\.)(?!running_)(?:\w*_)?(mean|std|mu|sigma)$", re.IGNORECASE)
"""What a network that normalises its images itself calls the constants for that."""
MADE_OF = re.compile(r"(^|\.)parametrizations\.|\.weight_(orig|mask|g|v)$")
"""What a weight is made of that is pruned, normalised or parametrised."""
BESIDES = re.compile(r"loss|crit|metric|acc|auroc|ema|best|decay|(?<![a-z])lr(?![a-z])", re.IGNORECASE)
"""What is called so changes no logit: weights of a loss, counts of a metric."""
BLOCK = re.compile(r"layer\d+\.\d+\.")


@dataclass(frozen=True)
class Fit:
    """The weights of a network as a file has them, with the network's names, shapes and types, on the CPU.

    `place` is where they lay: keys and the prefix of their names. `matched` is the name of the first tensor where names
    told nothing, and the order of the layers did; `head` that of the linear layer where it lay elsewhere.
    `passed_over` are other tensors of the file, as phrases; `on_logits` are those of them that may change the logits,
    as a learned temperature or a layer that comes after them, which have no place here. `others` are the places of
    other weights that fit as well. `pixels` are the `mean` and the `std` that lay beside them.
    """

    state: dict[str, Tensor]
    place: str
    matched: str
    head: str
    passed_over: tuple[str, ...]
    on_logits: tuple[str, ...]
    others: tuple[str, ...]
    pixels: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Misfit:
    """Why no tensors of a file are taken as the weights of a network.

    `another`: they may be those of another network. `keys`: they are this one's in several of these places, and differ.
    """

    text: str
    another: bool = False
    keys: tuple[str, ...] = ()


class Container(NamedTuple):
    """A mapping within the content of a file: the keys that lead to it, and its tensors by name."""

    keys: tuple[str, ...]
    tensors: State


@dataclass(frozen=True, eq=False)
class Candidate:
    """Tensors that may be the weights of a network: their names in the file by the names that the network has."""

    container: Container
    prefix: str
    raw: Mapping[str, str]
    matched: str = ""
    head: str = ""

    def __getitem__(self, name: str) -> Tensor:
        return self.container.tensors[self.raw[name]]

    @property
    def place(self) -> str:
        """Keys and prefix as one dotted text; empty at the top."""
        return ".".join((*self.container.keys, self.prefix)).strip(".")

    @property
    def key(self) -> str:
        """The place as a key names it: a dot for the top."""
        return self.place or "."


def fit(content: Any, expected: State, *, ordered: bool, key: str = "") -> Fit | Misfit:
    """The weights of a network in the content of a file; `expected` has its names, shapes and types.

    They may lie under any keys of a checkpoint and behind any one prefix, wrapped by data parallelism, sharding or
    compilation. Names are ours or those of the common public ResNets (`fc` for `linear`, `downsample` for `shortcut`).
    Where no names fit and the file keeps the order of its layers (`ordered`), convolutions, batch norms and linear
    layers are matched by order and shape, if that goes in one way only and blocks come out as blocks. `key` says where
    they lie. Of several that differ none is taken without it, whatever they are called: an average of the weights may
    be what was published, or not. Only weights before training, gradients and an optimizer's averages are never meant.
    """
    places = list(containers(content))
    if not places:
        return Misfit("holds no state dict: nothing in it has tensors by name")
    near = [one for container in places for one in _by_name(container, expected)]
    fits = [one for one in near if not _difference(one, expected)]
    fits = [one for one in fits if not _left_over(one, expected, fits)]
    if not fits and (whole := joined(content)):
        parts = [one for one in _by_name(whole, expected) if not _difference(one, expected)]
        if parts := [one for one in parts if not _left_over(one, expected, parts)]:
            places, near, fits = [whole], parts, parts
    if not fits and ordered:
        fits = [one for container in places for one in _by_order(container, expected)]
    if key:
        under = [one for one in fits if f"{one.place}.".startswith(f"{key.strip('.')}.")]
        exact = [one for one in under if one.place == key.strip(".")]
        if fits and not under:
            said = " and in ".join(dict.fromkeys(map(_at, fits)))
            return Misfit(f"nothing under {quoted(key)} is the weights of this network; they lie in {said}")
        fits = exact or under
    if not fits:
        problem = _first_problem(places, near, expected, ordered)
        return Misfit(f"not the weights of this network: {problem}", another=True)
    meant = [one for one in fits if not NOT_TRAINED.search(one.place)] or fits
    chosen = meant[0]
    differing = [one for one in fits if _unusable(one, expected) or not _equal(one, chosen, expected)]
    if any(one is not chosen and one in meant for one in differing):
        several = {one.key: _at(one) for one in meant if one is chosen or one in differing}
        if len(several) == 1:
            return Misfit("its tensors have other names, and fit this network by their order in more than one way")
        return Misfit(f"holds weights of this network in {' and in '.join(several.values())}, which differ",
                      keys=tuple(several))  # fmt: skip
    problem = _unusable(chosen, expected)
    if problem:
        return Misfit(problem)
    return Fit(
        {
            name: torch.empty_like(like, device="cpu").copy_(chosen[name])
            if name in chosen.raw
            else torch.zeros_like(like, device="cpu")  # a counter, which only cumulative averages use
            for name, like in expected.items()
        },
        chosen.place,
        chosen.matched,
        chosen.head,
        tuple(_passed_over(places, chosen, expected)),
        tuple(_on_logits(chosen, expected)),
        tuple(dict.fromkeys(one.key for one in differing)),
        _pixels(chosen),
    )


def _at(one: Candidate) -> str:
    """Where weights lie, as a phrase."""
    return one.place or "the top level"


def containers(content: Any) -> Iterator[Container]:
    """Every mapping in the content that has tensors by name, the outer ones first."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)] if isinstance(content, Mapping | list | tuple) else []
    seen = set[int]()
    while waiting and len(seen) < MAX_CONTAINERS:
        keys, value = waiting.pop(0)
        if id(value) in seen or len(keys) > MAX_DEPTH:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            tensors = {name: one for name, one in value.items() if isinstance(name, str) and isinstance(one, Tensor)}
            if tensors:
                yield Container(keys, tensors)
        inner = value.items() if isinstance(value, Mapping) else enumerate(value)
        waiting += [((*keys, str(name)), one) for name, one in inner if isinstance(one, Mapping | list | tuple)]


def joined(content: Any) -> Container | None:
    """All tensors of a content by the keys that lead to them: an encoder and its head may be saved by themselves.

    None where there are too many, or no mapping within a mapping.
    """
    found: dict[str, Tensor] = {}
    waiting: list[tuple[str, Any]] = [("", content)] if isinstance(content, Mapping) else []
    inner = 0
    while waiting:
        start, value = waiting.pop(0)
        for name, one in value.items():
            if inner + len(found) > MAX_JOINED or start.count(".") > MAX_PARTS:
                return None
            if isinstance(name, str) and isinstance(one, Tensor):
                found[f"{start}{name}"] = one
            elif isinstance(name, str) and isinstance(one, Mapping):
                waiting.append((f"{start}{name}.", one))
                inner += 1
    return Container((), found) if inner else None


def named(content: Any, first: str) -> Iterator[State]:
    """The tensors of each container by the names that a network of ours would have, behind each prefix of the first."""
    for container in containers(content):
        for one in _by_name(container, {first: torch.empty(0)}):
            yield {name: one[name] for name in one.raw}


def _by_name(container: Container, expected: State) -> Iterator[Candidate]:
    """The tensors behind each prefix that the network's first name has there."""
    first = next(iter(expected))
    raw = {_renamed(name): name for name in container.tensors}
    if len(raw) < len(container.tensors):  # two of them would get one name
        raw = {name: name for name in container.tensors}
    within = Counter(name[:end] for name in raw for end in _ends(name))
    starts = {
        name.removesuffix(first): name for name in raw
        if f".{name}".endswith(f".{first}") and (name == first or 2 * within[name.removesuffix(first)] > len(expected))
    }  # fmt: skip
    behind: dict[str, dict[str, str]] = {prefix: {} for prefix in starts}
    for name, at in raw.items():
        for end in _ends(name):
            if name[:end] in behind:
                behind[name[:end]][name[end:]] = at
    heads = _heads(container, expected)
    for prefix, found in starts.items():
        own = raw[found].removesuffix(first) if raw[found].endswith(first) else prefix
        inner = behind[prefix]
        whole = _with_head(heads, inner, expected)
        yield Candidate(container, own, whole, head=whole[_head(expected)] if len(whole) > len(inner) else "")


def _renamed(name: str) -> str:
    return HEAD.sub("linear.", WITHIN.sub("", name)).replace(".downsample.", ".shortcut.")


def _heads(container: Container, expected: State) -> list[tuple[str, str]]:
    """Weight and bias of each layer in a container that has the shapes of the network's linear one."""
    weight = _head(expected)
    return [
        (name, bias) for name, tensor in container.tensors.items()
        if weight and name.endswith("weight") and tensor.shape == expected[weight].shape
        and (bias := name.removesuffix("weight") + "bias") in container.tensors
    ]  # fmt: skip


def _with_head(heads: Sequence[tuple[str, str]], raw: Mapping[str, str], expected: State) -> Mapping[str, str]:
    """The names with those of a linear layer, where it is lacking and exactly one elsewhere has its shapes."""
    weight = _head(expected)
    if not weight or weight in raw:
        return raw
    taken = {*raw.values()}
    fitting = [head for head in heads if head[0] not in taken]
    bias = weight.removesuffix("weight") + "bias"
    return {**raw, weight: fitting[0][0], bias: fitting[0][1]} if len(fitting) == 1 else raw


def _head(expected: State) -> str:
    """The name of the weight of the only linear layer; empty where there are more or none."""
    weights = [name for name, tensor in expected.items() if tensor.ndim == 2]
    return weights[0] if len(weights) == 1 else ""


def _is_counter(name: str) -> bool:
    """Whether it counts the batches of a batch norm: files from before torch 0.4.1, and some converters, have none."""
    return name.endswith("num_batches_tracked")


def _changes_nothing(name: str, tensor: Tensor) -> bool:
    """Whether a tensor beside weights is none of them: a count, or the mean or deviation of pixels."""
    counts = tensor.ndim == 0 and not tensor.is_floating_point()
    return counts or (PIXELS.search(name) is not None and tensor.numel() <= 4)


def _difference(one: Candidate, expected: State) -> str:
    """The first tensor that is missing or of another shape, as a phrase; empty if all are there."""
    for name in expected:
        if name not in one.raw and not _is_counter(name):
            return f"tensor {quoted(name)} is missing"
    for name in one.raw:
        if name in expected and one[name].shape != expected[name].shape:
            return f"tensor {quoted(name)} has shape {_shape(one[name])} instead of {_shape(expected[name])}"
    return ""


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "()"


def _left_over(one: Candidate, expected: State, fits: Sequence[Candidate] = ()) -> list[str]:
    """Tensors behind the prefix that no part of the network takes; not those of another copy of it among them."""
    inner = {other.prefix for other in fits if other.container is one.container and len(other.prefix) > len(one.prefix)}
    return [
        name
        for name, at in one.raw.items()
        if name not in expected and not _changes_nothing(name, one[name]) and not at.startswith(tuple(inner))
    ]


def _first_problem(containers: Sequence[Container], near: Sequence[Candidate], expected: State, ordered: bool) -> str:
    """Why the tensors that come nearest to the network are not its weights; by their order where names tell nothing."""
    if near:
        best = max(near, key=lambda one: len(one.raw.keys() & expected.keys()))
    else:
        largest = max(containers, key=lambda container: len(container.tensors))
        best = Candidate(largest, "", {_renamed(name): name for name in largest.tensors})
    if 2 * len(best.raw.keys() & expected.keys()) < len(best.raw):
        by_order = _order_problem(best.container, expected, ordered)
        if by_order:
            return f"names are unknown here, and {by_order}"
    problem, unexpected = _difference(best, expected), _left_over(best, expected)
    if unexpected and "missing" not in problem:
        return f"tensor {quoted(unexpected[0])} is unexpected"
    made = next((name for name in best.raw if MADE_OF.search(name)), "")
    if made and "missing" in problem:
        return (
            f"{problem}, but there is {quoted(made)}: save what pruning or "
            "parametrisation makes of it, and remove these"
        )
    return problem


def _unusable(one: Candidate, expected: State) -> str:
    """The first tensor that is not plain and finite, as a phrase."""
    for name, like in expected.items():
        if name not in one.raw:
            continue
        tensor = one[name]
        kind = str(tensor.dtype).removeprefix("torch.")
        other = tensor.is_floating_point() != like.is_floating_point() and not _is_counter(name)
        if other or tensor.dtype not in PLAIN:
            return f"tensor {quoted(name)} holds {kind}, not what a network computes with"
        if tensor.is_meta:
            return f"tensor {quoted(name)} is sparse, quantized or without values"
        if not torch.isfinite(tensor).all():
            return f"tensor {quoted(name)} holds values that are not finite"
        if not torch.isfinite(tensor.to(like.dtype)).all() or (_is_counter(name) and tensor.abs().max() >= MAX_COUNT):
            return f"tensor {quoted(name)} holds values beyond those of {str(like.dtype).removeprefix('torch.')}"
        if name.endswith("running_var") and tensor.min() < 0:
            return f"tensor {quoted(name)} holds a variance below zero"
    return _one_twice(one, expected)


def _one_twice(one: Candidate, expected: State) -> str:
    """Two tensors that lie in the same bytes, as a phrase: each of a network has its own. Counters may share theirs."""
    shared = defaultdict[int, list[tuple[int, int, str]]](list)
    for name in expected:
        tensor = one[name] if name in one.raw and not _is_counter(name) else None
        if tensor is not None and tensor.numel():
            reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
            start = tensor.storage_offset() * tensor.element_size()
            end = start + (reach + 1) * tensor.element_size()
            shared[tensor.untyped_storage().data_ptr()].append((int(start), int(end), name))
    for places in shared.values():
        places.sort()
        for (_, end, name), (start, _, other) in pairwise(places):
            if start < end and {*_bytes(one[name])} & {
                *_bytes(one[other])
            }:  # or columns that lie in one another's gaps
                return f"tensors {quoted(name)} and {quoted(other)} are one, and a network here has two"
    return ""


def _bytes(tensor: Tensor) -> list[int]:
    """Where in its storage each value of a tensor begins, in bytes."""
    at_N = torch.full(tensor.shape, int(tensor.storage_offset()))
    for axis, stride in enumerate(tensor.stride()):
        shape = [-1 if axis == other else 1 for other in range(tensor.ndim)]
        at_N += (torch.arange(tensor.shape[axis]) * stride).view(shape)
    found: list[int] = (at_N.flatten() * tensor.element_size()).tolist()
    return found


def _equal(one: Candidate, other: Candidate, expected: State) -> bool:
    """Whether two candidates are the same weights."""
    pairs = [(one[name], other[name]) for name in expected if not _is_counter(name)]
    return all(a.dtype == b.dtype and not b.is_meta and torch.equal(a, b) for a, b in pairs)


def _passed_over(containers: Sequence[Container], chosen: Candidate, expected: State) -> Iterator[str]:
    """The tensors of a file that are not taken, as phrases: a name, or what they lie under and how many they are."""
    taken = {at for name, at in chosen.raw.items() if name in expected}
    counts, names = Counter[str](), dict[str, str]()
    for container in containers:
        own = container is chosen.container
        for name in container.tensors:
            if own and (name in taken or _is_counter(name)):
                continue
            path = (*container.keys, *name.split("."))
            shared = _shared([path, (*chosen.container.keys, *chosen.prefix.split("."))])
            label = ".".join(path[: shared + 1])
            counts[label] += 1
            names[label] = ".".join(path)
    for label, count in counts.items():
        yield names[label] if count == 1 else f"{label} ({count} tensors)"


def _on_logits(chosen: Candidate, expected: State) -> Iterator[str]:
    """Tensors beside the prefix that may act on the logits: a number, one for each class, a layer with these inputs."""
    head = _head(expected)
    if not head:
        return
    classes, taken = len(expected[head]), {*chosen.raw.values()}
    modules = defaultdict[str, dict[str, Tensor]](dict)
    for name, tensor in chosen.container.tensors.items():
        if name not in taken and not BESIDES.search(name) and not PIXELS.search(name):
            modules[name.rpartition(".")[0]][name] = tensor
    for inside in modules.values():
        weights = [tensor for tensor in inside.values() if tensor.ndim == 2 and tensor.numel() > 1]
        if weights and all(weight.shape[1] != classes for weight in weights):
            continue
        for name, tensor in inside.items():
            of_each = tuple(tensor.shape) == (classes,) or (tensor.ndim == 2 and tensor.shape[1] == classes)
            if tensor.is_floating_point() and (tensor.numel() == 1 or of_each):
                yield name


def _shared(paths: Sequence[Sequence[str]]) -> int:
    """How many parts some paths have in common from the start."""
    return next((at for at, parts in enumerate(zip(*paths, strict=False)) if len({*parts}) > 1), min(map(len, paths)))


def _pixels(chosen: Candidate) -> dict[str, tuple[float, ...]]:
    """The mean and the standard deviation of pixels that lie beside weights; empty where not both do."""
    found = {}
    for name, tensor in chosen.container.tensors.items():
        match = PIXELS.search(name)
        if match and tensor.numel() <= 4 and tensor.is_floating_point() and not tensor.is_meta:
            part = "mean" if match[1].lower() in ("mean", "mu") else "std"
            found[part] = tuple(round(value, 7) for value in tensor.flatten().tolist())
    return found if len(found) == 2 else {}


class Layer(NamedTuple):
    """A convolution, batch norm or linear layer: its name, what it is and of which shape, and its tensors' names."""

    name: str
    form: tuple[str, tuple[int, ...], bool]
    tensors: Mapping[str, str]


def _layers(state: State) -> list[Layer]:
    """The layers of a state dict in its order; none where it holds others than convolutions, batch norms and linear."""
    layers = list(_modules(state))
    return [layer for layer in layers if layer.form[0]] if all(layer.form[0] for layer in layers) else []


def _modules(state: State) -> Iterator[Layer]:
    """What has weights in a state dict, in its order; of no kind where it is none of the three."""
    parts = defaultdict[str, dict[str, str]](dict)
    for name in state:
        module, _, part = name.rpartition(".")
        parts[module][part] = name
    for module, names in parts.items():
        if all(_changes_nothing(name, state[name]) for name in names.values()):
            continue
        weight = state[names["weight"]] if "weight" in names else None
        kind = "" if weight is None else {1: "bn", 2: "linear", 4: "conv"}.get(weight.ndim, "")
        statistics = {"running_mean", "running_var"}
        known = {"weight", "bias", *(statistics if kind == "bn" else ()), "num_batches_tracked"}
        if weight is None or not names.keys() <= known or (kind == "bn" and not names.keys() >= statistics):
            kind = ""
        yield Layer(module, (kind, tuple(weight.shape) if weight is not None else (), "bias" in names), names)


def _by_order(container: Container, expected: State) -> Iterator[Candidate]:
    """The ways in which the layers under each module of a container are those of the network, in their order.

    Our blocks have their shortcut last; others may have it first. Batch norms may stand after all convolutions of a
    block instead of each after its own.
    """
    ours = _layers(expected)
    if not ours or not any(BLOCK.match(layer.name) for layer in ours):
        return
    for prefix in _prefixes(container, expected):
        theirs = _layers(_behind(prefix, container))
        if len(theirs) not in (len(ours), len(ours) - 1) or not _count_up([layer.name for layer in theirs]):
            continue
        found: list[dict[str, str]] = []
        for order in (ours, _shortcuts_first(ours)):
            raw = _paired(order, theirs)
            raw = dict(_with_head(_heads(container, expected), raw, expected)) if raw else raw
            if raw and raw not in found and not _difference(Candidate(container, prefix, raw), expected):
                found.append(raw)
        for raw in found:
            yield Candidate(container, prefix, raw, matched=theirs[0].name)


def _prefixes(container: Container, expected: State) -> list[str]:
    """The prefixes behind which a container has as many tensors as a network, shorter ones first."""
    within = Counter(name[:end] for name in container.tensors for end in _ends(name))
    least = len(expected) - 2 - sum(map(_is_counter, expected))  # without a head, which may lie elsewhere
    return [prefix for prefix, count in sorted(within.items()) if count >= least]


def _behind(prefix: str, container: Container) -> State:
    return {name: tensor for name, tensor in container.tensors.items() if name.startswith(prefix)}


KINDS = {"conv": "convolution", "bn": "batch norm", "linear": "linear layer"}


def _order_problem(container: Container, expected: State, ordered: bool) -> str:
    """Why layers with names of somebody else's are not those of a network by their order, as a phrase."""
    ours = _layers(expected)
    if not any(BLOCK.match(layer.name) for layer in ours):
        return ""
    if not ordered:
        return "safetensors does not keep the order of layers, by which torch.save's files are matched"
    theirs = list(_modules(_behind(["", *_prefixes(container, expected)][-1], container)))
    if not any(layer.form[0] == "conv" for layer in theirs):
        return ""
    odd = next((layer.name for layer in theirs if not layer.form[0]), "")
    if odd:
        return f"{quoted(odd)} is no convolution, batch norm or linear layer, which alone are matched by order"
    if not _count_up([layer.name for layer in theirs]):
        return "stand in the order of text, 10 before 2, so that their order tells nothing"
    found = [_first_apart(order, theirs) for order in (ours, _shortcuts_first(ours))]
    return max(found, key=lambda one: one[0])[1]  # the one that goes farther


def _first_apart(ours: Sequence[Layer], theirs: Sequence[Layer]) -> tuple[int, str]:
    """After how many layers of a kind two networks part, and how, as a phrase."""
    for kind, called in KINDS.items():
        mine, other = ([layer for layer in layers if layer.form[0] == kind] for layers in (ours, theirs))
        for at, (one, two) in enumerate(zip(mine, other, strict=False)):
            if one.form != two.form:
                has, wants = ("×".join(map(str, form[1])) for form in (two.form, one.form))
                if has == wants:
                    has, wants = (f"with{'' if form[2] else 'out'} a bias" for form in (two.form, one.form))
                return (
                    at,
                    f"by order {called} {at + 1}, {quoted(two.name)}, is {has} where {quoted(one.name)} is {wants}",
                )
        if len(mine) != len(other) and (kind != "linear" or other):
            return len(mine), f"by order {len(other)} of the kind {called} stand for {len(mine)}"
    return len(ours), "by order the layers of a block would lie in several, or fit in more than one way"


def _count_up(names: Sequence[str]) -> bool:
    """Whether numbers in names rise, or follow no order; where 10 stands before 2, names were sorted as text."""
    seen: dict[tuple[str, ...], dict[str, None]] = {}
    for name in names:
        parts = name.split(".")
        for at, part in enumerate(parts):
            if number := re.fullmatch(r"(.*?)(\d+)", part):
                seen.setdefault((*parts[:at], number[1]), {})[number[2]] = None
    return not any(
        [*one] == sorted(one) != sorted(one, key=int)
        and {*map(int, one)} == {*range(int(min(one)), len(one) + int(min(one)))}
        for one in seen.values()
    )


def _ends(name: str) -> list[int]:
    """Where a prefix of a name may end: before it, and after each of its dots."""
    return [0, *(match.end() for match in islice(re.finditer(r"\.", name), MAX_PARTS))]


def _shortcuts_first(ours: Sequence[Layer]) -> list[Layer]:
    """The layers as they would stand if every block began with its shortcut."""
    starts: dict[str, int] = {}
    places = []
    for number, layer in enumerate(ours):
        block = BLOCK.match(layer.name)
        start = starts.setdefault(block[0], number) if block else number
        places.append((start, bool(block) and ".shortcut" not in layer.name, number))
    return [ours[number] for _, _, number in sorted(places)]


def _paired(ours: Sequence[Layer], theirs: Sequence[Layer]) -> dict[str, str]:
    """The names of their tensors by ours, layer for layer of each kind; empty where forms or blocks do not agree."""
    pairs: list[tuple[Layer, Layer]] = []
    for kind in ("conv", "bn", "linear"):
        mine, other = ([layer for layer in layers if layer.form[0] == kind] for layers in (ours, theirs))
        if [one.form for one in mine] != [one.form for one in other] and (kind != "linear" or other):
            return {}
        pairs += zip(mine, other, strict=False)
    if not _blocks_are_blocks(pairs):
        return {}
    return {f"{mine.name}.{part}": name for mine, other in pairs for part, name in other.tensors.items()}


def _blocks_are_blocks(pairs: Sequence[tuple[Layer, Layer]]) -> bool:
    """Whether the layers of each of our blocks lie under one module of theirs, and no others do."""
    inside = defaultdict[str, list[list[str]]](list)
    for mine, other in pairs:
        block = BLOCK.match(mine.name)
        inside[block[0] if block else ""].append(other.name.split("."))
    homes = {block: tuple(names[0][: _shared(names)]) for block, names in inside.items() if block}
    names = [tuple(name) for them in inside.values() for name in them]
    return all(
        home and sum(name[: len(home)] == home for name in names) == len(inside[block]) for block, home in homes.items()
    )

"""A trained network as Python that needs nothing but torch and safetensors: one file to read, change and hand in.

The text is made of the built network, module by module, so every setting of the families is in it; before it is given
away it is run, and must give the network's logits.
"""

import keyword
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module, invalidate_caches
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from residuum import own
from residuum.data.batches import normalise_for_network
from residuum.data.normalize import Normalization
from residuum.errors import InputError
from residuum.models import MODELS, Network
from residuum.models.activations import ACTIVATIONS, Swish, is_of_tensor
from residuum.models.blocks import BLOCKS, Block
from residuum.models.shortcuts import Projection, Subsample
from residuum.own import beside
from residuum.registry import Choice

TOLERANCE = 1e-5
"""Largest difference of a logit from the network's, relative to the largest logit."""
MARK = "the network in plain PyTorch"
"""What every file that is written here says at its head."""
WIDTH = 100


@dataclass(frozen=True)
class Parts:
    """Own code within a network: the texts of its files by path, what is imported of them, and how it is called.

    `block` gives the call of the block for the values of its arguments, `activation` is the call of the activation.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    block: Callable[[Sequence[Any]], str] | None = None
    activation: str = ""
    biased: bool = False


TAKEN = {"Applied", "Block", "CLASSES", "F", "MEAN", "Path", "Projection", "ResNet", "STD", "Subsample", "Swish",
         "load", "load_file", "nn", "prepare", "torch"}  # fmt: skip
"""Names that an exported file has itself."""


def parts_of(model: Choice, module: str) -> Parts:
    """The own code within a network of a table, as an exported file of that name has it.

    Raises:
        InputError: a setting of it has no text as Python.
    """
    texts, modules, imports = dict[str, str](), dict[str, str](), list[str]()
    calls: dict[str, Callable[[Sequence[Any]], str]] = {}
    for key, table in (("block", BLOCKS), ("activation", ACTIVATIONS)):
        chosen = Choice.of(model.settings.get(key) or {"name": ""})
        if not chosen.code:
            continue
        assert table.fit is not None, "own code stands there"
        if chosen.code not in modules:
            stem = re.sub(r"\W", "_", chosen.name.partition(":")[0].removesuffix(".py").rpartition(".")[2])
            alike = [one for one in modules.values() if one.startswith(f"{module}_{stem}")]
            place, files = _files(chosen, f"{module}_{stem}{len(alike) + 1 if alike else ''}")
            modules[chosen.code] = place
            for path, text in files.items():
                if texts.setdefault(path, text) != text:
                    raise InputError(f"two parts of the network import a {path} each, and only one can lie beside it")
        name = own.short(chosen.name)
        called = f"own_{name}" if name in TAKEN or any(line.endswith(f" {name}") for line in imports) else name
        imports.append(f"from {modules[chosen.code]} import {name}{f' as {called}' if called != name else ''}")
        applied = key == "activation" and is_of_tensor(own.load(chosen.name, chosen.code))
        calls[key] = partial(_call, table.fit, chosen, f"Applied({called}" if applied else called)
    return Parts(texts, tuple(dict.fromkeys(imports)), calls.get("block"),
                 calls["activation"](()) if "activation" in calls else "",
                 bool(model.settings.get("conv_bias")))  # fmt: skip


def _files(chosen: Choice, name: str) -> tuple[str, dict[str, str]]:
    """The module that own code is imported from, and the files that are written for it by path, its own first.

    It gets the name, or keeps its own where its local modules import it, or it is of a package. What is installed is
    imported from there.
    """
    text = own.text_of(chosen.code) or ""
    if (library := beside.of_installed(text)) is not None:
        return library[0], {}
    modules, at = own.modules_with_text(text), beside.itself(text)
    if at and beside.PLACE.fullmatch(at) and beside.is_imported(at, modules):
        name = beside.dotted(at)
    else:
        at = f"{name}.py"
    return name, {at: beside.without(text), **modules}


def _call(fit: own.Fit, chosen: Choice, called: str, given: Sequence[Any]) -> str:
    text = own.call(chosen.name, chosen.code, fit, given, chosen.settings)
    given = text.removeprefix(own.short(chosen.name))
    return f"{called}, {given[1:]}".replace(", )", ")") if called.startswith("Applied(") else called + given


def importable(name: str) -> str:
    """The nearest name to one by which a file can be imported, and that is no library's; the same if it is such.

    What is written imports torch, and that much of what is installed: a file of such a name would stand in its way.
    """
    stem = re.sub(r"\W|^(?=\d)", "_", name)
    taken = keyword.iskeyword(stem) or stem in beside.ALWAYS_INSTALLED or stem == "safetensors"
    spec = beside.spec_of(stem, [one for one in sys.path if one]) if not taken else None
    return f"{stem}_network" if taken or (spec and beside.is_in_library(stem, spec.origin or "")) else stem


def python_file(path: Path) -> Path:
    """The file that an export to a path writes; `.py` may be left out.

    Raises:
        InputError: it could not be imported, or would stand in the way of a library.
    """
    if path.suffix not in ("", ".py"):
        stem = importable(path.name.partition(".")[0] if path.suffix[1:].isalpha() else path.name)
        raise InputError(f"{path.name} is no name of a Python file; name it {stem}.py")
    if (stem := importable(path.stem)) != path.stem:
        why = "is what a library is called, which Python would no longer find" if path.stem.isidentifier() and not \
            keyword.iskeyword(path.stem) else "cannot be imported by that name"  # fmt: skip
        raise InputError(f"{path.stem}.py {why}; name it {stem}.py")
    return path.with_name(f"{path.stem}.py")


def source(
    network: nn.Module,
    normalization: Normalization,
    classes: Sequence[str],
    shape: Sequence[int],
    title: str,
    module: str,
    parts: Parts = Parts(),
) -> str:
    """The text of a file that builds a network on the CPU, loads its weights from beside it, and takes uint8 images.

    `title` says of what it is, `module` is the name that it is imported by; `parts` are own code within the network,
    whose texts lie beside it.

    Raises:
        InputError: something in the network has no plain form, or the text gives other logits than the network.
    """
    if not isinstance(network, Network):
        raise InputError(
            f"a network of the class {type(network).__name__} cannot be written as Python; its weights can"
        )
    text = _file(network, normalization, classes, shape, title, module, parts)
    with _beside(parts.texts):
        try:
            made = _made(text)
            other = made["ResNet"]()
            other.load_state_dict(network.state_dict())
        except Exception as error:
            if not parts.texts:
                raise
            names = " and ".join(parts.texts)
            raise InputError(f"own code in the network ({names}) cannot stand alone: {own.told(error)}") from error
        _compare(other, made, network, normalization, shape)
    return text


def of_own(network: nn.Module, model: Choice, normalization: Normalization, classes: Sequence[str],
           shape: Sequence[int], title: str, module: str) -> tuple[str, dict[str, str]]:  # fmt: skip
    """The text of a file that loads a network that is own code, and by path its own text and those that it imports.

    Of an object the text lacks the values that it was given with, since those of the run are loaded; they stay where
    the network holds tensors that are not among its weights. The arguments are those of `source`, and the resolved
    choice of the network.

    Raises:
        InputError: its text needs what lies beside it, or gives other logits than the network.
    """
    made = MODELS.resolve(model)
    home, files = _files(model, f"{module}_network")
    assert MODELS.fit is not None, "networks may be own code"
    call = own.call(model.name, model.code, MODELS.fit, (shape[0], len(classes)), made.settings)
    name, line = own.short(model.name), f"from {home} import {own.short(model.name)}\n"
    loads = _LOAD.replace("MODULE", module).replace("ResNet()", call)
    head = _head(normalization, classes, shape, title, module).replace("from torch import nn\n", line)
    lie = [f"its own text ({one})" if at == 0 else one for at, one in enumerate(files)]
    head = head.replace("the weights lie beside", f"{', '.join(lie)}{' and ' * bool(lie)}the weights lie beside")
    whole = "\n\n\n".join([head, loads.strip("\n")]) + "\n"
    prepare = _made(_without(whole, line))
    path, text = next(iter(files.items()), ("", ""))
    if (shorter := own.without_values(text)) != text:
        try:
            _compare_alone(
                home, name, {**files, path: shorter}, call, model.name, prepare, network, normalization, shape
            )
            files[path] = shorter
        except InputError:
            pass
    _compare_alone(home, name, files, call, model.name, prepare, network, normalization, shape)
    return _without(whole, "import torch.nn.functional as F\n"), files


def _compare_alone(home: str, name: str, files: Mapping[str, str], call: str, of: str, prepare: Mapping[str, Any],
                   network: nn.Module, normalization: Normalization, shape: Sequence[int]) -> None:  # fmt: skip
    """Refuse files in which a call of what a module has makes no network by itself, or one that gives other logits."""
    with _beside(files):
        try:
            other: nn.Module = eval(call, {name: getattr(import_module(home), name)})
            other.load_state_dict(network.state_dict())
        except Exception as error:
            raise InputError(f"{of} cannot stand alone: {own.told(error)}") from error
        _compare(other, prepare, network, normalization, shape)


@contextmanager
def _beside(files: Mapping[str, str]) -> Iterator[None]:
    """Within it, files of own code, which the run has run, can be imported as they will be where they are written."""
    roots = {path.partition("/")[0].removesuffix(".py") for path in files}
    aside = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] in roots}
    places = sys.path[:]
    with TemporaryDirectory() as folder:
        for path, text in files.items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_text(text, encoding="utf-8")
        try:
            sys.path[:] = [folder, *(one for one in places if one not in ("", str(Path().absolute())))]
            invalidate_caches()
            yield
        finally:
            sys.path[:] = places
            for name in [name for name in sys.modules if name.partition(".")[0] in roots]:
                del sys.modules[name]
            sys.modules.update(aside)


def _without(text: str, line: str) -> str:
    return text.replace(line, "")


def _made(text: str) -> dict[str, Any]:
    """The names that an exported text makes."""
    made: dict[str, Any] = {"__name__": "exported"}
    exec(compile(text, "<exported>", "exec"), made)  # our own text: of a user's it holds names of classes, as literals
    return made


def _compare(
    other: nn.Module, made: Mapping[str, Any], network: nn.Module, normalization: Normalization, shape: Sequence[int]
) -> None:
    """Refuse another network, as an exported text makes it, that gives other logits."""
    images_NCHW = torch.randint(0, 256, (4, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        expected_NK: Tensor = network.eval()(normalise_for_network(images_NCHW, normalization))
        logits_NK: Tensor = other.eval()(made["prepare"](images_NCHW))
    off = float((logits_NK - expected_NK).abs().max())
    if not off <= TOLERANCE * max(1.0, float(expected_NK.abs().max())):
        raise InputError(f"the network as Python is off by {off:.2g} in a logit; it was not written")


def _file(network: Network, normalization: Normalization, classes: Sequence[str], shape: Sequence[int], title: str,
          module: str, own_parts: Parts) -> str:  # fmt: skip
    blocks = [block for stage in network.stages for block in getattr(network, stage) if isinstance(block, Block)]
    shortcuts = [block.shortcut for block in blocks]
    swish = [one for one in network.modules() if isinstance(one, Swish)]
    parts = [
        _head(normalization, classes, shape, title, module),
        _APPLIED if own_parts.activation.startswith("Applied(") else "",
        _SWISH if swish else "",
        _subsample([one for one in shortcuts if isinstance(one, Subsample)]),
        _projection([one for one in shortcuts if isinstance(one, Projection)]),
        _block(network, own_parts) if blocks else "",
        _network(network, shape, len(classes), own_parts),
        _LOAD.replace("MODULE", module),
    ]
    text = "\n\n\n".join(part.strip("\n") for part in parts if part) + "\n"
    if own_parts.imports:
        text = text.replace(
            "from torch import nn\n", "\n".join(["from torch import nn", "", *sorted(own_parts.imports), ""]), 1
        )
        lie = f"{', '.join(own_parts.texts)} and " if own_parts.texts else ""
        text = text.replace("the weights lie beside", f"{lie}the weights lie beside", 1)
    return text if "F." in text else text.replace("import torch.nn.functional as F\n", "")


def _head(normalization: Normalization, classes: Sequence[str], shape: Sequence[int], title: str, module: str) -> str:
    names = _tuple([ascii(name) for name in classes])
    size = ", ".join(map(str, shape))
    lines = [
        f'"""{title}: {MARK}.',
        "",
        f"    from {module} import load, prepare",
        "    logits = load()(prepare(images))",
        "",
        f"Images are uint8 [N, {size}], logits are [N, {len(classes)}]; the weights lie beside this file.",
        '"""',
        "",
        "from pathlib import Path",
        "",
        "import torch",
        "import torch.nn.functional as F",
        "from safetensors.torch import load_file",
        "from torch import nn",
        "",
        f"CLASSES = {names}",
    ]
    if normalization.kind == "per_image":
        least = f"1 / ({255**2} * x[0].numel())"
        prepare = [
            "    x = torch.as_tensor(images).float() / 255",
            "    x = x - x.mean(dim=(1, 2, 3), keepdim=True)",
            "    variance = x.square().mean(dim=(1, 2, 3), keepdim=True)",
            f"    return x / variance.clamp(min={least}).sqrt()",
        ]
    else:
        for name, values in (("MEAN", normalization.mean), ("STD", normalization.std)):
            lines.append(f"{name} = torch.tensor({list(values)!r}).view(-1, 1, 1)")
        prepare = ["    return (torch.as_tensor(images).float() / 255 - MEAN) / STD"]
    lines += [
        "",
        "",
        "def prepare(images):",
        '    """What the network takes, of uint8 images as a tensor or an array."""',
        *prepare,
    ]
    return "\n".join(lines)


def _tuple(texts: Sequence[str]) -> str:
    whole = f"({', '.join(texts)}{',' * (len(texts) == 1)})"
    if len(whole) <= WIDTH - 10:
        return whole
    lines, line = [], "   "
    for text in texts:
        if len(line) + len(text) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {text},"
    return "\n".join(["(", *lines, line, ")"])


def _activation(module: nn.Module, parts: Parts) -> str:
    """The expression that makes an activation, or nothing in its place."""
    if parts.activation and not isinstance(module, nn.Identity):
        return parts.activation
    if isinstance(module, Swish):
        return f"Swish({module.beta})"
    if not type(module).__module__.startswith("torch.nn."):
        raise InputError(f"the activation {type(module).__name__} cannot be written as Python without its own code")
    return f"nn.{module!r}"


def _norm(channels: str, module: nn.BatchNorm2d) -> str:
    given = [f"{name}={value!r}" for name, value, usual in
             (("eps", module.eps, 1e-5), ("momentum", module.momentum, 0.1)) if value != usual]  # fmt: skip
    return f"nn.BatchNorm2d({', '.join([channels, *given])})"


def _conv(into: str, out: str, conv: nn.Conv2d, stride: str) -> str:
    kernel, padding = conv.kernel_size[0], conv.padding[0]
    given = [into, out, str(kernel), *([f"stride={stride}"] if stride != "1" else []),
             *([f"padding={padding}"] if padding else []), *(["bias=False"] if conv.bias is None else [])]  # fmt: skip
    return f"nn.Conv2d({', '.join(given)})"


_APPLIED = '''
class Applied(nn.Module):
    """A function of a tensor as a module, with its other arguments."""

    def __init__(self, function, **settings):
        super().__init__()
        self.function, self.settings = function, settings

    def forward(self, x):
        return self.function(x, **self.settings)
'''


_SWISH = '''
class Swish(nn.Module):
    """x · sigmoid(beta x)."""

    def __init__(self, beta):
        super().__init__()
        self.beta = beta

    def forward(self, x):
        return x * torch.sigmoid(self.beta * x)
'''


ZEROS: Mapping[str, Callable[[int], int]] = {
    "missing // 2": lambda missing: missing // 2, "missing": lambda missing: missing, "0": lambda _: 0,
}  # fmt: skip
"""How many of the channels of zeros come first, as Python and as what it gives."""


def _subsample(every: Sequence[Subsample]) -> str:
    if not every:
        return ""
    smaller = {
        "slice": "x[:, :, :: self.stride, :: self.stride]",
        "average": "F.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)",
        "max": "F.max_pool2d(x, self.stride, ceil_mode=True)",
    }[every[0].subsample]
    zeros = next(text for text, of in ZEROS.items() if all(of(sum(one.zeros)) == one.zeros[0] for one in every))
    return f'''
class Subsample(nn.Module):
    """A shortcut without parameters: a smaller image, with channels of zeros for those that are missing."""

    def __init__(self, in_channels, channels, stride):
        super().__init__()
        missing = channels - in_channels
        self.stride, self.before = stride, {zeros}
        self.after = missing - self.before

    def forward(self, x):
        if self.stride != 1:
            x = {smaller}
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))
'''


def _projection(every: Sequence[Projection]) -> str:
    if not every:
        return ""
    conv, *norms = every[0]
    averages = any(one.mean_over != 1 for one in every)  # those without a stride average over single pixels
    assert isinstance(conv, nn.Conv2d), "a projection begins with its convolution"
    strided = "1" if averages else "stride"
    layers = [_conv("in_channels", "channels", conv, strided)]
    layers += [_norm("channels", norm) for norm in norms if isinstance(norm, nn.BatchNorm2d)]
    lines = [
        "class Projection(nn.Sequential):",
        '    """A shortcut by a 1×1 convolution."""',
        "",
        "    def __init__(self, in_channels, channels, stride):",
        "        super().__init__(",
        *(f"            {layer}," for layer in layers),
        "        )",
    ]
    if averages:
        lines += [
            "        self.stride = stride",
            "",
            "    def forward(self, x):",
            "        x = F.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)",
            "        return super().forward(x)",
        ]
    return "\n".join(lines)


def _convs(block: Block) -> list[nn.Conv2d]:
    return [module for name, module in block.named_children() if re.fullmatch(r"conv\d+", name)
            and isinstance(module, nn.Conv2d)]  # fmt: skip


def _stride_of(block: Block) -> int:
    stride = 1
    for conv in _convs(block):
        stride *= conv.stride[0]
    return stride


def _block(network: Network, parts: Parts) -> str:
    """The class of all blocks: the first that begins with everything is its pattern, and strides are where one has."""
    places = [(block, network.places[f"{stage}.{index}"]) for stage in network.stages
              for index, block in enumerate(getattr(network, stage)) if isinstance(block, Block)]  # fmt: skip
    blocks = [block for block, _ in places]
    usual = next((block for block in blocks if block.before), blocks[-1])
    convs = _convs(usual)
    strided = next((block for block in blocks if _stride_of(block) != 1), None)
    place = 0 if strided is None else next(n for n, conv in enumerate(_convs(strided)) if conv.stride[0] != 1)
    expansion = convs[-1].out_channels // convs[0].out_channels
    out = "channels" if expansion == 1 else f"{expansion} * channels"
    widths = ["in_channels", *["channels"] * (len(convs) - 1), out]
    skips = bool(usual.before) and any(not block.before for block in blocks)
    lines = [
        "class Block(nn.Module):",
        f'    """{_words(usual)}"""',
        "",
        f"    def __init__(self, in_channels, channels, stride=1{', activated=False' * skips}):",
        "        super().__init__()",
    ]
    taken = "stride"
    if parts.block is not None:
        names = [name for name in usual.branch if re.fullmatch(r"(conv|extra)\d+", name)]
        made = parts.block([own.Expression(name) for name in ("in_channels", "channels", "stride")])
        lines.append(f"        {', '.join(f'self.{name}' for name in names)}{',' * (len(names) == 1)} = {made}")
        usually = all(_convs(block)[-1].out_channels == channels for block, (_, channels, _) in places)
        out = "channels" if usually else f"self.conv{len(convs)}.out_channels"
        if any(_stride_of(block) != stride for block, (_, _, stride) in places):
            taken = " * ".join(f"self.conv{number + 1}.stride[0]" for number in range(len(convs)))
    for number, (into, to) in enumerate(pairwise(widths)):
        if parts.block is None:
            stepped = "stride" if number == place else "1"
            lines.append(f"        self.conv{number + 1} = {_conv(into, to, convs[number], stepped)}")
        else:
            into, to = (f"self.conv{number + 1}.{of}_channels" for of in ("in", "out"))
        norm = getattr(usual, f"bn{number + 1}", None)
        if norm is not None:
            leads = f"bn{number + 1}" in usual.before
            width = into if norm.num_features == convs[number].in_channels and "bn1" in usual.before else to
            made = _norm(width, norm)
            lines.append(
                f"        self.bn{number + 1} = {'nn.Identity() if activated else ' * (skips and leads)}{made}"
            )
    lines.append(f"        self.act = {_activation(usual.act, parts)}")
    if skips:
        lines.append("        self.activated = activated")
    kinds = {type(block.shortcut) for block in blocks}
    late = any(block.late for block in blocks)
    if usual.shortcut is not None:
        changing = next((kind for kind in (Projection, Subsample) if kind in kinds), None)
        if changing is None:
            lines.append("        self.shortcut = nn.Identity()")
        else:
            made = f"{changing.__name__}(in_channels, {out}, {taken})"
            if nn.Identity in kinds:
                lines += [f"        changes = (in_channels, {taken}) != ({out}, 1)",
                          f"        self.shortcut = {made} if changes else nn.Identity()"]  # fmt: skip
            else:
                lines.append(f"        self.shortcut = {made}")
            if late and nn.Identity in kinds:
                lines.append("        self.changes = changes")
    lines += ["", "    def forward(self, x):"]
    start = "x"
    if usual.before:
        started = _applied(usual.before, "x")
        lines.append(f"        start = {f'x if self.activated else {started}' if skips else started}")
        start = "start"
    lines += _branch(usual.branch, start)
    if usual.shortcut is not None:
        reads = "x"
        if late:
            reads = "start if self.changes else x" if nn.Identity in kinds else "start"
        lines.append(f"        y = y + self.shortcut({reads})")
    lines.append(f"        return {_applied(usual.after, 'y')}")
    if not usual.after:
        lines[-2:] = [lines[-2].replace("y = ", "return ", 1)]
    return "\n".join(lines)


def _words(block: Block) -> str:
    convs = ", ".join(f"{conv.kernel_size[0]}×{conv.kernel_size[0]}" for conv in _convs(block))
    return f"Convolutions of {convs}" + (", and a shortcut around them." if block.shortcut is not None else ".")


def _applied(names: Sequence[str], to: str) -> str:
    for name in names:
        to = f"self.{name}({to})"
    return to


def _branch(names: Sequence[str], start: str) -> list[str]:
    """The lines of a branch, one for each convolution with what belongs to it."""
    groups: list[list[str]] = []
    for name in names:
        if not groups or name.startswith("conv"):
            groups.append([])
        groups[-1].append(name)
    lines, value = [], start
    for group in groups:
        lines.append(f"        y = {_applied(group, value)}")
        value = "y"
    return lines


def _network(network: Network, shape: Sequence[int], classes: int, parts: Parts) -> str:
    stem = network.conv1
    init = [f"        self.conv1 = {_conv(str(shape[0]), str(stem.out_channels), stem, str(stem.stride[0]))}"]
    ahead = ["conv1"]
    for name in ("bn1", "act", "maxpool"):
        module = getattr(network, name)
        if not isinstance(module, nn.Identity):
            made_of = (_norm(str(stem.out_channels), module) if isinstance(module, nn.BatchNorm2d)
                    else f"nn.MaxPool2d({module.kernel_size}, stride={module.stride}, padding={module.padding})"
                    if isinstance(module, nn.MaxPool2d) else _activation(module, parts))  # fmt: skip
            init.append(f"        self.{name} = {made_of}")
            ahead.append(name)
    forward = [f"        x = {_applied(ahead, 'x')}"]
    for name in network.stages:
        blocks = list(getattr(network, name))
        made = [_block_call(block, network, f"{name}.{index}", parts) for index, block in enumerate(blocks)]
        alike = len(set(made[1:])) == 1 and len(made) > 2
        inner = [made[0], f"*({made[1]} for _ in range({len(made) - 1}))"] if alike else made
        one_line = f"        self.{name} = nn.Sequential({', '.join(inner)})"
        init += [one_line] if len(one_line) <= WIDTH else [f"        self.{name} = nn.Sequential(",
                 *(f"            {call}," for call in inner), "        )"]  # fmt: skip
        forward.append(f"        x = self.{name}(x)")
    behind = []
    for name in ("bn", "last_act"):
        module = getattr(network, name)
        if not isinstance(module, nn.Identity):
            made_of = (_norm(str(network.linear.in_features), module) if isinstance(module, nn.BatchNorm2d)
                       else _activation(module, parts))  # fmt: skip
            init.append(f"        self.{name} = {made_of}")
            behind.append(name)
    if behind:
        forward.append(f"        x = {_applied(behind, 'x')}")
    pool = network.avgpool
    if not isinstance(pool, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d | nn.AvgPool2d):
        raise InputError(f"the pooling {type(pool).__name__} cannot be written as Python without its own code")
    of = pool.kernel_size if isinstance(pool, nn.AvgPool2d) else pool.output_size
    init += [f"        self.pool = nn.{type(pool).__name__}({of})",
             f"        self.linear = nn.Linear({network.linear.in_features}, {classes})"]  # fmt: skip
    init += _settled(network, parts)
    forward.append("        return self.linear(self.pool(x).flatten(1))")
    return "\n".join([
        "class ResNet(nn.Module):", '    """Logits of prepared images."""', "", "    def __init__(self):",
        "        super().__init__()", *init, "", "    def forward(self, x):", *forward,
    ])  # fmt: skip


def _settled(network: Network, parts: Parts) -> list[str]:
    """The lines that do to own code within a network what was done to it there: one batch norm for all, and biases."""
    own_modules = [one for stage in network.stages for block in getattr(network, stage)
                   for one in (block.modules() if not isinstance(block, Block) else (
                       inner for key, extra in block.named_children() if key.startswith("extra")
                       for inner in extra.modules()))]  # fmt: skip
    norm = next((one for one in own_modules if isinstance(one, nn.BatchNorm2d)), None)
    if parts.block is None or (norm is None and not parts.biased):
        return []
    lines = ["        for module in self.modules():"]
    if norm is not None:
        lines += ["            if isinstance(module, nn.BatchNorm2d):",
                  f"                module.eps, module.momentum = {norm.eps}, {norm.momentum}"]  # fmt: skip
    if parts.biased:
        lines += ["            if isinstance(module, nn.Conv2d):",
                  "                module.bias = nn.Parameter(torch.zeros(module.out_channels))"]  # fmt: skip
    return lines


def _block_call(block: nn.Module, network: Network, place: str, parts: Parts) -> str:
    if parts.block is not None and not isinstance(block, Block):
        return parts.block(network.places[place])
    assert isinstance(block, Block), "a stage has no other modules"
    convs = _convs(block)
    stride = _stride_of(block)
    given = [str(convs[0].in_channels), str(convs[0].out_channels), *([f"stride={stride}"] if stride != 1 else [])]
    if parts.block is not None:
        entering, channels, stride = network.places[place]
        given = [str(entering), str(channels), *([f"stride={stride}"] if stride != 1 else [])]
    leading = any(other.before for stage in network.stages for other in getattr(network, stage))
    if leading and not block.before:
        given.append("activated=True")
    return f"Block({', '.join(given)})"


_LOAD = '''
def load(path=Path(__file__).with_suffix(".safetensors") if "__file__" in globals() else "MODULE.safetensors"):
    """The trained network, ready to predict."""
    network = ResNet()
    network.load_state_dict(load_file(path))
    return network.eval()


if __name__ == "__main__":
    print(sum(parameter.numel() for parameter in load().parameters()), "parameters")
'''

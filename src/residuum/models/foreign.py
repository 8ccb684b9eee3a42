"""Weights that others trained: public state dicts of ResNets, read safely and named as this network names them."""

import pickletools
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from residuum.errors import InputError, StorageError
from residuum.models.families.resnet import IMAGENET_BLOCKS
from residuum.networks.names import short_name
from residuum.registry import Choice

MAX_BYTES = 1 << 30
"""The largest file that is opened; ResNet-152 has 241 MB in fp32, with an optimizer's state about three times that."""

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
TENSOR_PARTS = re.compile(r"(collections|torch|torch\.(_tensor|_utils|nn\.parameter|serialization|storage))\.\w+")
PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")
OTHER_NAMES = ((re.compile(r"^fc\."), "linear."), (re.compile(r"\.downsample\."), ".shortcut."))


def load_foreign(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """The state dict in a file, ready for `network.load_state_dict`: its names, shapes and types, on the CPU.

    Reads safetensors and what `torch.save` wrote (`.pt`, `.pth`, `.th`), by content; nothing in a file is executed.
    Takes a state dict by itself or within a checkpoint, the prefixes of data parallelism and compilation, and the names
    of the common public ResNets (`fc` for `linear`, `downsample` for `shortcut`). Shapes do not tell everything: where
    a bottleneck has its stride, which activation follows, and how option A places its zeros (half on each side here).

    Raises:
        InputError: no such file, damaged, too large, more than plain tensors in it, or not the weights of this network;
            the message names the first tensor that is missing, unexpected, of another shape or not finite.
        StorageError: the file cannot be read.
    """
    found = {_renamed(name): value for name, value in _state_dict(_read(path), path).items()}
    expected = network.state_dict()
    # Files from before torch 0.4.1, and some converters, leave the counters out; only cumulative averages use them.
    complete = {name: torch.zeros_like(t) for name, t in expected.items() if _is_counter(name)} | found
    problem = _difference(complete, expected)
    if problem:
        theirs, ours = _described(found), _described(expected)
        hint = f"; these look like the weights of {theirs}" if theirs and theirs != ours else ""
        raise InputError(f"{path}: not the weights of this network: {problem}{hint}")
    for name, tensor in complete.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: tensor {name!r} holds values that are not finite")
    return {name: torch.empty_like(like, device="cpu").copy_(complete[name]) for name, like in expected.items()}


def _read(path: Path) -> Any:
    """What the file holds, read without running anything."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes are too large for the weights of a network here")
        with path.open("rb") as file:
            head = file.read(9)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    try:
        if head[8:] == b"{":  # the length of the header in 8 bytes, then the header in JSON
            return load_file(path)
        _check_pickles(path, zipped=head.startswith(b"PK\x03\x04"))  # as torch itself tells its two formats apart
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged or hostile file provokes in a reader
        raise InputError(f"{path}: neither a state dict by torch.save nor safetensors, or damaged") from error


def _check_pickles(path: Path, zipped: bool) -> None:
    """Walk the pickled part of a file without running it, and refuse what no state dict needs.

    Torch's own list of what `weights_only` may call has `bytearray` on it: a few bytes could fill the memory.
    """
    if zipped:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_BYTES:
                raise InputError(f"{path}: {unpacked:,} bytes when unpacked are too large for the weights of a network")
            for entry in archive.infolist():
                if entry.filename.endswith(".pkl"):
                    with archive.open(entry) as pickled:
                        _check_pickle(pickled, path)
        return
    with path.open("rb") as file:
        for _ in range(5):  # before torch 1.6: magic number, version, byte order, the object, keys of the storages
            _check_pickle(file, path)


def _check_pickle(pickled: IO[bytes], path: Path) -> None:
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name == "GLOBAL":
            name = str(argument).replace(" ", ".")
            if not TENSOR_PARTS.fullmatch(name):
                raise InputError(
                    f"{path}: holds {name!r}, and only plain tensors are read: save the state_dict() alone"
                )


def _state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict or of a checkpoint around one."""
    for _ in range(3):  # bounded, since a pickle may hold a dictionary that holds itself
        if isinstance(loaded, Mapping):
            loaded = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), loaded)
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(f"{path}: holds no state dict; known places: top level, {', '.join(WRAPPERS)}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(
                f"{path}: {name if isinstance(name, str) else type(name)!r} is no tensor, so this is no state dict"
            )
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise InputError(f"{path}: tensor {name!r} is sparse, quantized or without values")
    return dict(loaded)


def _renamed(name: str) -> str:
    name = PREFIXES.sub("", name)
    for other, ours in OTHER_NAMES:
        name = other.sub(ours, name)
    return name


def _is_counter(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


def _difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """The first tensor that is missing, unexpected or of another shape, as a phrase; empty if all is as expected."""
    for name in expected:
        if name not in found:
            return f"tensor {name!r} is missing"
    for name in found:
        if name not in expected:
            return f"tensor {name!r} is unexpected"
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            return f"tensor {name!r} has shape {_shape(tensor)} instead of {_shape(expected[name])}"
    return ""


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "()"


def _described(state: Mapping[str, Tensor]) -> str:
    """The network that the names and shapes of a state dict suggest; empty where they suggest none.

    As in `resnet56 (model.channels=[16, 32, 64], model.shortcut=projection, 3 input channels, 10 classes)`. A plain
    network and one with option A cannot be told apart.
    """
    start = re.compile(r"layer[0-9]{1,3}\.[0-9]{1,3}\.conv1\.weight")
    starts = {name: tensor for name, tensor in state.items() if start.fullmatch(name)}
    ends = [state.get("conv1.weight"), state.get("linear.weight")]
    if not starts or any(tensor is None or tensor.ndim < 2 for tensor in [*ends, *starts.values()]):
        return ""
    conv1, linear = (tensor for tensor in ends if tensor is not None)
    stages = [int(name.split(".")[0].removeprefix("layer")) for name in starts]
    blocks = tuple(count for _, count in sorted(Counter(stages).items()))
    widths = {stage: len(tensor) for stage, tensor in zip(stages, starts.values(), strict=True)}
    channels = [widths[stage] for stage in sorted(widths)]
    block, layers = ("bottleneck", 3) if any(name.endswith(".conv3.weight") for name in state) else ("basic", 2)
    imagenet = next((depth for depth, form in IMAGENET_BLOCKS.items() if form == (block, blocks)), None)
    model: dict[str, Any] = {"ordering": "full_preactivation" if "bn.weight" in state else "original"}
    if len(blocks) == 3 and len(set(blocks)) == 1:
        depth = 2 + layers * sum(blocks)
        model |= {"name": "cifar_resnet", "depth": depth, "block": block, "shortcut": "identity"}
    elif imagenet and channels == [64, 128, 256, 512]:
        stem = "7x7" if conv1.shape[-1] == 7 else "3x3"
        model |= {"name": "imagenet_resnet", "depth": imagenet, "stem": stem}
    else:
        model |= {"name": "staged_resnet", "blocks": blocks, "channels": channels}
    projections = ["model.shortcut=projection"] if any(".shortcut." in name for name in state) else []
    facts = [f"model.channels={channels}", *projections, f"{conv1.shape[1]} input channels", f"{len(linear)} classes"]
    return f"{short_name(Choice(**model))} ({', '.join(facts)})"

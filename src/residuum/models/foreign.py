"""Weights that others trained: files of public state dicts, read safely and fitted to a network of ours."""

import pickletools
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from residuum.errors import InputError, Remedy, StorageError
from residuum.models.likeness import likeness
from residuum.models.mapping import Fit, Misfit, fit
from residuum.records import storage

MAX_BYTES = 1 << 30
"""The largest file that is opened; ResNet-152 has 241 MB in fp32, with an optimizer's state about three times that."""

TENSOR_PARTS = re.compile(r"(collections|torch|torch\.(_tensor|_utils|nn\.parameter|serialization|storage))\.\w+")
UNREAD = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype", "numpy.ndarray", "_codecs.encode", "argparse.Namespace", "types.SimpleNamespace",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__")
      for name in ("set", "frozenset", "complex", "slice")),
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
)  # fmt: skip
"""What a training script leaves in a checkpoint besides tensors: numpy's and Python's values, its options, paths."""


OTHERS = {
    b"\x89HDF": "HDF5, as Keras writes it, whose tensors have another order of axes",
    b"GGUF": "GGUF",
    b"\x80": "a pickle that torch.save did not write, which is never run; torch.save a dictionary of tensors",
    b"PK\x03\x04": "a zip archive, as .npz is; torch.save a dictionary of tensors",
    b"\x1f\x8b": "gzipped; unpack it",
}
"""Other files of weights, by how they begin."""
BROKEN_OFF = "ends too early, as a download or a copy that broke off leaves it; fetch it anew"
LONGEST_HEADER = 1 << 24
"""Bytes of the header of safetensors, a line of JSON for each tensor, that are looked at."""
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How `torch.save` began before torch 1.6: a number of its own, pickled."""


class Unread:
    """What stands in for a value that is not read: made of anything, it keeps and does nothing."""

    def __new__(cls, *_values: Any) -> "Unread":
        """One more of them."""
        return super().__new__(cls)

    def __init__(self, *_values: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None:
        """Take what the value was made of, and forget it."""


@dataclass(frozen=True)
class Foreign:
    """What a file of weights holds, as plain containers of tensors; `ordered`: in the order of the author's layers."""

    path: Path
    content: Any
    ordered: bool


def load_foreign(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """The state dict in a file, ready for `network.load_state_dict`: its names, shapes and types, on the CPU.

    Raises:
        InputError: as `read_foreign` and `fitted`.
        StorageError: the file cannot be read.
    """
    return fitted(read_foreign(path), network).state


def fitted(foreign: Foreign, network: nn.Module, key: str = "") -> Fit:
    """The tensors of a file that are the weights of a network: `mapping.fit`, and the likely network where none fits.

    Raises:
        InputError: not the weights of this network, several that are, or tensors that are not plain and finite.
    """
    expected = network.state_dict()
    found = fit(foreign.content, expected, ordered=foreign.ordered, key=key)
    if isinstance(found, Fit):
        return found
    if found.keys:
        raise several(foreign.path, found)
    name = likeness(foreign.content, ordered=foreign.ordered) if found.another else ""
    raise InputError(f"{foreign.path}: {found.text}" + (f"; these look like the weights of {name}" if name else ""))


def several(path: Path, found: Misfit) -> InputError:
    """The error for a file that holds different weights of a network, of which one has to be named."""
    return InputError(f"{path}: {found.text}", remedies=[Remedy("which key", found.keys[0])])


def read_foreign(path: Path) -> Foreign:
    """What a file holds, safetensors or what `torch.save` wrote (`.pt`, `.pth`, `.th`), told by content.

    Nothing in a file is executed: besides tensors in plain containers, only what `UNREAD` names may be in it, which is
    passed over.

    Raises:
        InputError: no such file, damaged, too large, or other things in it.
        StorageError: the file cannot be read.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes are too large for the weights of a network here")
        with path.open("rb") as file:
            head = file.read(storage.HEAD)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    if said := storage.instead(head):
        raise InputError(f"{path} is {said}")
    try:
        if head[8:9] == b"{":  # the length of the header in 8 bytes, then the header in JSON
            return Foreign(path, load_file(path), ordered=False)
        _check_pickles(path, zipped=head.startswith(b"PK\x03\x04"))  # as torch itself tells its two formats apart
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([(Unread, n) for n in UNREAD]):
            return Foreign(path, torch.load(path, map_location="cpu", weights_only=True), ordered=True)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged or hostile file provokes in a reader
        if said := _torn(path, head, size):
            raise InputError(f"{path}: {said}") from error
        other = next((f"; it is {said}" for start, said in OTHERS.items() if head.startswith(start)), "")
        raise InputError(f"{path}: neither a state dict by torch.save nor safetensors, or damaged{other}") from error


def _torn(path: Path, head: bytes, size: int) -> str:
    """Of which kind a file began, and that it ends too early or is damaged within; empty where neither can be told."""
    if head.startswith(b"PK\x03\x04"):
        whole = zipfile.is_zipfile(path)  # whether it has the list of members, which stands at its end
        member = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        if member.endswith(b"/data.pkl"):  # what torch writes first
            damaged = "is damaged, or was saved with another pickle protocol than torch's own"
            return f"a file of torch.save that {damaged if whole else BROKEN_OFF}"
        return "" if whole else f"a zip archive that {BROKEN_OFF}"
    if head.startswith(LEGACY):
        return f"a file of torch.save, as it was before torch 1.6, that is damaged or {BROKEN_OFF}"
    if head[8:9] == b"{":
        end = 8 + int.from_bytes(head[:8], "little")
        with path.open("rb") as file:
            header = file.read(min(end, LONGEST_HEADER))
        last = max(map(int, re.findall(rb'"data_offsets":\s*\[\s*\d{1,15}\s*,\s*(\d{1,15})', header)), default=0)
        return f"safetensors that {BROKEN_OFF}" if end + last > size else ""
    return ""


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
            if name not in UNREAD and not TENSOR_PARTS.fullmatch(name):
                raise InputError(
                    f"{path}: holds {name!r}, and only plain tensors are read: save the state_dict() alone"
                )

"""Weights that others trained: files of public state dicts, read safely and fitted to a network of ours."""

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from residuum.errors import InputError, Remedy, StorageError
from residuum.models.likeness import likeness
from residuum.models.mapping import Fit, Misfit, fit
from residuum.models.saved import LEGACY, MAX_BYTES, MAX_TENSORS, PLAIN, read_legacy, read_zipped
from residuum.records import storage
from residuum.records.regular import refuse_special

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
"""Bytes of the header of safetensors, in JSON, which takes about a hundred for each tensor."""


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

    Nothing in a file is executed: what `torch.save` wrote is read by a reader of our own (`models.saved`).

    Raises:
        InputError: no such file, damaged, too large, or other things in it.
        StorageError: the file cannot be read.
    """
    refuse_special(path)
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
            return Foreign(path, _safetensors(path), ordered=False)
        if head.startswith(b"PK\x03\x04"):  # as torch itself tells its two formats apart
            return Foreign(path, read_zipped(path), ordered=True)
        if head.startswith(LEGACY):
            with path.open("rb") as file:
                return Foreign(path, read_legacy(file, path, size), ordered=True)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged or hostile file provokes in a reader
        raise _unreadable(path, head, size) from error
    raise _unreadable(path, head, size)


def _unreadable(path: Path, head: bytes, size: int) -> InputError:
    """The error for a file that is no state dict, is damaged, or is of another kind that is known by how it begins."""
    if said := _torn(path, head, size):
        return InputError(f"{path}: {said}")
    other = next((f"; it is {said}" for start, said in OTHERS.items() if head.startswith(start)), "")
    return InputError(f"{path}: neither a state dict by torch.save nor safetensors, or damaged{other}")


def _safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of safetensors, without values where no network here computes with their type.

    Raises:
        InputError: there are too many, or two of one name; other errors where it is damaged.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LONGEST_HEADER:
            raise InputError(f"{path}: a header of {length:,} bytes is too large for the weights of a network")
        header = file.read(length)
    if header.count(b'"data_offsets"') > MAX_TENSORS:  # of which each has one; before they are read
        raise InputError(f"{path}: more than {MAX_TENSORS:,} tensors are no weights of a network")
    names = [name for name, _ in json.loads(header, object_pairs_hook=list)]
    if len({*names}) < len(names):
        raise InputError(f"{path}: two tensors have one name")
    return {
        name: tensor if tensor.dtype in PLAIN else torch.empty_like(tensor, device="meta")
        for name, tensor in load_file(path).items()
    }


def _torn(path: Path, head: bytes, size: int) -> str:
    """Of which kind a file began, and that it ends too early or is damaged within; empty where neither can be told."""
    if head.startswith(b"PK\x03\x04"):
        whole = zipfile.is_zipfile(path)  # whether it has the list of members, which stands at its end
        member = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        if member.endswith(b"/data.pkl"):  # what torch writes first
            damaged = "is damaged, or holds what torch.save does not write"
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

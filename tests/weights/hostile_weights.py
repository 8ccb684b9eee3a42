"""Hostile and damaged files of weights, by name: functions that write one and say where it lies.

    python -m tests.weights.hostile_weights

tries all of them by `residuum import-weights`, each in a process of its own. None may run anything, take more than 2
seconds or 500 MiB before it is read, leave a run folder behind, or end otherwise than read right or refused in one line.
"""

import io
import json
import os
import pickle
import pickletools
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from residuum.cli import main
from residuum.models import build
from residuum.networks.names import network
from residuum.registry import Choice

sys.path.insert(0, str(Path(__file__).parents[1]))

from forked import SPECIAL, Case, Tried, attempt, put, run

STATE: dict[str, torch.Tensor] = dict(build(Choice(**network("resnet20")), 3, 10, (32, 32), 0).state_dict())
FIRST = next(iter(STATE))
CASES: dict[str, tuple[Case, str]] = {}
MARK = b"\x80\x02"


class Canary:
    """Unpickled, it makes a file `canary` in the folder that is worked in."""

    def __reduce__(self):
        return open, ("canary", "w")


def case(name: str, content: Callable[[], bytes], wanted: str = "refused", file: str = "w.pt") -> None:
    """Keep a file of some content as a case; `wanted` is what has to come of it."""
    assert name not in CASES, name
    CASES[name] = put(file, lambda path: path.write_bytes(content())), wanted


def saved(state: Any, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def with_one(change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict with its first tensor changed."""
    return {**STATE, FIRST: change(STATE[FIRST])}


def rezipped(change: Callable[[str, bytes], list[tuple[str, bytes]]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A file of torch.save, with each of its members changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(STATE))) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for member in old.namelist():
            for name, content in change(member, old.read(member)):
                new.writestr(name, content)
    return buffer.getvalue()


def pickled(content: bytes) -> bytes:
    """A file of torch.save with another pickle in it."""
    return rezipped(lambda name, old: [(name, content if name.endswith("data.pkl") else old)])


def header(values: Any, data: bytes = b"") -> bytes:
    """A file of safetensors with such a header, as JSON or as it stands."""
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text + data


def of_type(name: str) -> Callable[[], bytes]:
    return lambda: saved(with_one(lambda tensor: torch.empty(tensor.shape, dtype=getattr(torch, name))))


for _zipped in (True, False):
    _form = "zip" if _zipped else "the form before 1.6"
    case(f"{_form}: as it should be", lambda zipped=_zipped: saved(STATE, zipped=zipped), "read")
    case(f"{_form}: code in it", lambda zipped=_zipped: saved({**STATE, "x": Canary()}, zipped=zipped))
    case(f"{_form}: cut in the middle", lambda zipped=_zipped: (c := saved(STATE, zipped=zipped))[: len(c) // 2])
    case(f"{_form}: its last bytes are gone", lambda zipped=_zipped: saved(STATE, zipped=zipped)[:-40])
    case(f"{_form}: NaN", lambda zipped=_zipped: saved(with_one(lambda t: t * float("nan")), zipped=zipped))
    case(
        f"{_form}: values beyond fp32",
        lambda zipped=_zipped: saved(with_one(lambda t: t.double() * 1e300), zipped=zipped),
    )
    case(f"{_form}: one tensor by two names",
         lambda zipped=_zipped: saved({**STATE, "layer1.0.conv1.weight": STATE["layer1.0.conv2.weight"]}, zipped=zipped))  # fmt: skip
for _name in ("complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "uint16"):
    case(f"a tensor of {_name}", of_type(_name))
case("a sparse tensor", lambda: saved(with_one(lambda tensor: tensor.to_sparse())))
case("a quantized tensor", lambda: saved(with_one(lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8))))
case("a nested tensor", lambda: saved({**STATE, FIRST: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])}))
case("a tensor within lists within lists", lambda: saved([[[[[STATE]]]]]), "either")
case("empty", lambda: b"")
case("a page", lambda: b"<!doctype html><html>")
case("a pointer of Git LFS", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
case("code, as pickle alone", lambda: pickle.dumps(Canary(), 2))
case("a module as a whole", lambda: saved(torch.nn.Linear(2, 2)))
case(
    "zip: a wrong checksum",
    lambda: (c := bytearray(saved(STATE))).__setitem__(len(c) // 2, c[len(c) // 2] ^ 1) or bytes(c),
)
case("zip: .PKL for .pkl", lambda: rezipped(lambda name, old: [(name.replace("data.pkl", "data.PKL"), old)]))
case("zip: .PKL beside .pkl", lambda: rezipped(
    lambda name, old: [(name, old), *([(name.replace("data.pkl", "data.PKL"), pickle.dumps(Canary(), 2))] if "data.pkl" in name else [])],
), "either")  # fmt: skip
case("zip: two members data.pkl", lambda: rezipped(lambda name, old: [(name, old)] * (1 + ("data.pkl" in name))))
case("zip: two members of one storage", lambda: rezipped(lambda name, old: [(name, old)] * (1 + name.endswith("/0"))))
case("zip: a member that leads out", lambda: rezipped(
    lambda name, old: [(name, old), *([("../canary", b"x")] if "data.pkl" in name else [])]), "either")  # fmt: skip
case("zip: compressed gigabytes of nothing",
     lambda: rezipped(lambda name, old: [(name, bytes(1 << 28) if name.endswith("/0") else old)], zipfile.ZIP_DEFLATED))  # fmt: skip
case("zip: 50,000 members", lambda: rezipped(lambda name, old: [(name, old), *([(f"a/{n}", b"") for n in range(50_000)] if "pkl" in name else [])]), "either")  # fmt: skip
case("pickle: a million lists within each other", lambda: pickled(MARK + b"]" * 10**6 + b"a" * (10**6 - 1) + b"."))
case("pickle: a million tuples within each other", lambda: pickled(MARK + b")" + b"\x85" * 10**6 + b"."))
case("pickle: a million marks", lambda: pickled(MARK + b"(" * 10**6 + b"."))
case("pickle: a list that holds itself a million times", lambda: pickled(MARK + b"]q\x00" + b"h\x00a" * 10**6 + b"."))
case("pickle: a text announced as 4 GiB", lambda: pickled(MARK + b"X\xff\xff\xff\xff" + b"x."))
case("pickle: a number of a million digits", lambda: pickled(MARK + b"I" + b"1" * 10**6 + b"\n."))
case("pickle: it doubles itself forty times",
     lambda: pickled(MARK + b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (n + 1, n, n) for n in range(40)) + b"."))  # fmt: skip
case("pickle: os.system by name", lambda: pickled(MARK + b"cos\nsystem\n(X\x0c\x00\x00\x00touch canarytR."))
case(
    "pickle: builtins.open by its stack",
    lambda: pickled(b"\x80\x04\x8c\x08builtins\x8c\x04open\x93(\x8c\x06canary\x8c\x01wtR."),
)
case(
    "pickle: every instruction that there is",
    lambda: pickled(MARK + b"".join(o.code.encode("latin-1") for o in pickletools.opcodes)),
)
case("safetensors: as it should be", lambda: save(STATE), "read", "w.safetensors")
case("safetensors: a header of 10 to the 5th tensors", lambda: header(
    {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(10**5)}))  # fmt: skip
case("safetensors: a header announced as 10 to the 18th bytes", lambda: struct.pack("<Q", 10**18) + b"{}")
case("safetensors: a header nested 100,000 deep", lambda: header(b'{"a":' * 100_000 + b"1" + b"}" * 100_000))
case(
    "safetensors: shapes of 10 to the 30th",
    lambda: header({FIRST: {"dtype": "F32", "shape": [10**15, 10**15], "data_offsets": [0, 8]}}, bytes(8)),
)
case(
    "safetensors: a negative shape",
    lambda: header({FIRST: {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, bytes(8)),
)
case("safetensors: two tensors of one name", lambda: header(
    b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"))  # fmt: skip
case("safetensors: tensors that overlap", lambda: header(
    {n: {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]} for n in "ab"}, b"xx"))  # fmt: skip
case("safetensors: cut off", lambda: save(STATE)[:-100])
case("safetensors: a list for a header", lambda: header([1, 2]))
for _name in ("F4", "F8_E4M3", "F8_E8M0", "C64", "X9", "BOOL"):
    case(f"safetensors: tensors of {_name}", lambda name=_name: header(
        {FIRST: {"dtype": name, "shape": [2], "data_offsets": [0, {"F4": 1, "C64": 16}.get(name, 2)]}}, bytes({"F4": 1, "C64": 16}.get(name, 2))))  # fmt: skip


CASES |= {name: (put("w.pt", lay), "refused") for name, lay in SPECIAL.items()}


def tried(folder: Path, names: tuple[str, ...] = ()) -> Iterator[Tried]:
    """What comes of each case, or of some, one after the other."""
    chance = np.random.default_rng(0)
    np.savez(folder / "data.npz", **{f"{what}_{which}": chance.integers(0, 256 if what == "x" else 10, shape, np.uint8)
             for which, count in (("train", 40), ("test", 20))
             for what, shape in (("x", (count, 32, 32, 3)), ("y", count))})  # fmt: skip
    words = ("--model", "resnet20", "--normalize", "0.5,0.5,0.5", "0.2,0.2,0.2", "--data", str(folder / "data.npz"),
             "--runs", "runs")  # fmt: skip
    warm = folder / "warm.pt"
    warm.write_bytes(saved(with_one(lambda tensor: tensor * float("nan"))))
    os.chdir(folder)
    with redirect_stderr(io.StringIO()):  # what is imported once is no part of a case
        assert main(["import-weights", str(warm), *words]) == 2
    for number, name in enumerate(names or CASES):
        made, wanted = CASES[name]
        place = folder / f"file-{number}"
        place.mkdir()
        os.chdir(place)
        name, outcome, seconds, mib = attempt(name, ("import-weights", made(place), *words), wanted, place / "canary")
        if outcome.startswith("refused") and (place / "runs").exists():
            outcome = "WRONG: a run folder is left"
        seconds *= outcome != "read"  # what is read is then scored, which takes longer and is no doing of the file
        yield name, outcome, seconds, mib


if __name__ == "__main__":
    run(tried)

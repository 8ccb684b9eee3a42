"""What `torch.save` wrote, read by a reader of our own: plain containers, and tensors over the bytes of the file.

Neither pickle nor torch's unpickler runs. Of the instructions, those that make containers, texts and numbers have an
effect, and the calls that a file may name are the few that make a tensor, which
are made here: over bytes that are there, after sizes were compared. What else training scripts leave in a checkpoint,
`UNREAD` names, stands as an object that keeps nothing. Tensors that no network here computes with (sparse, quantized,
complex, of 8 bits …) keep shape and type, and have no values.
"""

import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from residuum.errors import InputError, quoted

MAX_BYTES = 1 << 30
"""The largest file that is opened; ResNet-152 has 241 MB in fp32, with an optimizer's state about three times that."""
UNPACKED, UNPACKED_TIMES = 1 << 26, 20
"""What an archive may hold when unpacked: so many bytes, and so many times its own; torch itself packs nothing."""
MAX_PICKLE = 1 << 26
"""Bytes of the part that says how tensors lie in containers."""
MAX_AXES, MAX_NAME, MAX_STACK = 16, 256, 20_000
"""Of a tensor's shape, of what a file calls, and of what waits to be put into containers, which nests them."""
MAX_INSTRUCTIONS, MAX_TENSORS = 600_000, 15_000
"""A tensor takes about forty instructions; ResNet-1202 has 7,000, and the state of its optimizer half of that again."""

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How `torch.save` began before torch 1.6: a number of its own, pickled."""
PLAIN = frozenset((
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
))  # fmt: skip
"""The types of values that are read."""
UNREAD = frozenset((
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype", "numpy.ndarray", "_codecs.encode", "argparse.Namespace", "types.SimpleNamespace",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__")
      for name in ("set", "frozenset", "complex", "slice", "list", "dict", "tuple", "int", "float", "str", "bool")),
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    "torch.device", "torch.serialization._get_layout", "torch.per_tensor_affine", "torch.per_channel_affine",
    "torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter",
))  # fmt: skip
"""What a checkpoint holds besides tensors: numpy's and Python's values, options, paths, and names of types."""
STORAGES = {
    f"torch.{name}Storage": dtype for name, dtype in {
        "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
        "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
        "Bool": torch.bool, "ComplexDouble": torch.complex128, "ComplexFloat": torch.complex64, "QInt8": torch.qint8,
        "QUInt8": torch.quint8, "QInt32": torch.qint32, "QUInt4x2": torch.quint4x2, "QUInt2x4": torch.quint2x4,
    }.items()
} | {"torch.storage.UntypedStorage": torch.uint8, "torch.UntypedStorage": torch.uint8}  # fmt: skip
DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


class Unread:
    """What stands in for a value that is not read: it keeps and does nothing."""


class DamagedError(Exception):
    """An instruction, or an argument of one, that `torch.save` does not write."""


Storage = tuple[Tensor, torch.dtype]
"""Bytes of a file, and the type of their values as it is announced."""


def read_zipped(path: Path) -> Any:
    """The content of a file of `torch.save` since torch 1.6, a zip archive whose every checksum is compared.

    Raises:
        InputError: it names what is not read, is too large, or holds what torch does not write.
        DamagedError, zipfile.BadZipFile, ValueError: it is damaged, or is no such file.
    """
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: entry for entry in archive.infolist()}
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > min(MAX_BYTES, UNPACKED + UNPACKED_TIMES * path.stat().st_size):
            raise InputError(f"{path}: {unpacked:,} bytes when unpacked are too large for the weights of a network")
        if len(archive.infolist()) > 2 * MAX_TENSORS:
            raise InputError(f"{path}: {len(members):,} members are too many for the weights of a network")
        if len({name.lower() for name in members}) < len(archive.infolist()):
            raise InputError(f"{path}: has a member twice, of which torch may read either")
        homes = [name.removesuffix("data.pkl") for name in members if name.endswith("data.pkl")]
        if len(homes) != 1 or members[f"{homes[0]}data.pkl"].file_size > MAX_PICKLE:
            raise DamagedError("no dictionary of tensors")
        (home,) = homes
        order = members.get(f"{home}byteorder")
        swapped = order is not None and order.file_size < 10 and archive.read(order) == b"big"
        kept: dict[str, Tensor] = {}

        def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
            if key not in kept:
                entry = members[f"{home}data/{key}"]
                if entry.file_size != count * dtype.itemsize:
                    raise DamagedError(f"storage {quoted(key)} has not the {count} values that it says")
                content = bytearray(entry.file_size)
                with archive.open(entry) as file:
                    # The read past its end is where the checksum is compared.
                    if file.readinto(content) != entry.file_size or file.read(1):  # type: ignore[attr-defined]
                        raise DamagedError(f"storage {quoted(key)} ends too early")
                found = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
                kept[key] = found.view(-1, dtype.itemsize).flip(1).flatten() if swapped and content else found
            return kept[key]

        return _Machine(path, archive.read(f"{home}data.pkl"), storage).run()


def read_legacy(file: IO[bytes], path: Path, size: int) -> Any:
    """The content of a file of `torch.save` before torch 1.6: five pickles, and then the values.

    Raises:
        InputError, DamagedError, ValueError: as `read_zipped`.
    """
    kept: dict[str, tuple[Tensor, int]] = {}
    left = size

    def storage(key: str, dtype: torch.dtype, count: int) -> Tensor:
        nonlocal left
        if key not in kept:
            left -= count * dtype.itemsize
            if count < 0 or left < 0:
                raise DamagedError("more values are announced than there are bytes")
            kept[key] = torch.empty(count * dtype.itemsize, dtype=torch.uint8), count
        return kept[key][0]

    machine = _Machine(path, file.read(MAX_PICKLE), storage)
    for _ in range(3):  # the magic number, the version, and what machine it was
        machine.run()
    content, keys = machine.run(), machine.run()
    if not isinstance(keys, list) or {*keys} != {*kept}:
        raise DamagedError("the values that are announced are not those that are there")
    file.seek(machine.at)
    for key in keys:
        values, count = kept.pop(key)
        if int.from_bytes(file.read(8), "little") != count:
            raise DamagedError(f"storage {quoted(key)} has not the {count} values that it says")
        if len(values) and file.readinto(values.numpy()) != len(values):  # type: ignore[attr-defined]
            raise DamagedError(f"storage {quoted(key)} ends too early")
    return content


class _Machine:
    """A machine for the instructions that `torch.save` writes; `at` is how far in the pickles it is."""

    def __init__(self, path: Path, content: bytes, storage: Callable[[str, torch.dtype, int], Tensor]) -> None:
        self.path, self.content, self.storage = path, content, storage
        self.at = self.instructions = self.tensors = 0

    def take(self, count: int) -> bytes:
        """The bytes that come next."""
        start, self.at = self.at, self.at + count
        if self.at > len(self.content):
            raise DamagedError("it ends too early")
        return self.content[start : self.at]

    def line(self) -> str:
        """The text up to the next end of a line."""
        end = self.content.find(b"\n", self.at, self.at + MAX_NAME)
        if end < 0:
            raise DamagedError("a name without an end")
        return self.take(end + 1 - self.at)[:-1].decode()

    def run(self) -> Any:
        """What the next pickle holds."""
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def popped(mark: bool = True) -> list[Any]:
            at = marks.pop() if mark else len(stack) - 1
            items = stack[at:]
            del stack[at:]
            return items

        while True:
            name, read = INSTRUCTIONS[self.take(1)]
            argument: Any = read(self) if read else None
            self.instructions += 1
            if self.instructions > MAX_INSTRUCTIONS or len(stack) > MAX_STACK:
                raise InputError(f"{self.path}: holds too much that is not values for the weights of a network")
            if name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name in VALUES:
                stack.append(argument)
            elif name in CONSTANTS:
                stack.append(CONSTANTS[name])
            elif name == "MARK":
                marks.append(len(stack))
            elif name in MADE:
                stack.append(MADE[name]())
            elif name == "TUPLE":
                stack.append(tuple(popped()))
            elif name in TUPLES:
                items = stack[-TUPLES[name] :]
                del stack[-TUPLES[name] :]
                stack.append(tuple(items))
            elif name in ("SETITEM", "SETITEMS"):
                items = popped() if name == "SETITEMS" else [*popped(False), *popped(False)][::-1]
                _set(stack[-1], items)
            elif name in ("APPEND", "APPENDS"):
                items = popped(name == "APPENDS")
                if isinstance(stack[-1], list):
                    stack[-1].extend(items)
            elif name in ("ADDITEMS", "FROZENSET"):
                popped()
                if name == "FROZENSET":
                    stack.append(Unread())
            elif name == "GLOBAL":
                stack.append(self.named(argument))
            elif name == "STACK_GLOBAL":
                last, module = stack.pop(), stack.pop()
                stack.append(self.named(f"{module}.{last}"))
            elif name == "BINPERSID":
                stack.append(self.stored(stack.pop()))
            elif name in ("REDUCE", "NEWOBJ"):
                arguments, function = stack.pop(), stack.pop()
                stack.append(self.called(function, arguments))
            elif name == "BUILD":
                stack.pop()  # attributes of what was made, which nobody asks for
                _ = stack[-1]
            elif name == "STOP":
                (result,) = stack
                return result

    def named(self, name: str) -> Any:
        """What a name of a file stands for: a way to make a tensor, a type, or something unread."""
        if name in CALLS or name in UNREAD or name in STORAGES:
            return _Name(name)
        if name in DTYPES:
            return DTYPES[name]
        said = name if len(name) <= 80 else f"{name[:80]}…"
        raise InputError(
            f"{self.path}: holds {quoted(said)}, and only plain tensors are read: save the state_dict() alone"
        )

    def stored(self, place: Any) -> Storage | Unread:
        """Values that a file keeps beside what it says of them."""
        if type(place) is not tuple or len(place) < 5 or place[0] not in ("storage", b"storage"):
            raise DamagedError("values that are kept elsewhere")
        kind, key, count = place[1], place[2], place[4]
        if not isinstance(kind, _Name) or kind not in STORAGES or type(count) is not int or type(key) is not str:
            raise DamagedError("values of no type")
        if len(place) > 5 and place[5] is not None:  # a part of others, as torch 0.1 wrote it
            raise DamagedError("values that are a part of others")
        dtype = STORAGES[kind]
        return self.storage(key, dtype, count), dtype

    def called(self, function: Any, arguments: Any) -> Any:
        """What a call of a file makes."""
        if not isinstance(function, _Name) or type(arguments) is not tuple:
            raise DamagedError("a call of what is no function")
        if function not in CALLS:
            return Unread()
        made = CALLS[function](*arguments)
        if isinstance(made, Tensor):
            self.tensors += 1
            if self.tensors > MAX_TENSORS:
                raise InputError(f"{self.path}: more than {MAX_TENSORS:,} tensors are no weights of a network")
        return made


class _Name(str):
    """A name in a file, told from a text in it."""

    __slots__ = ()


def _set(target: Any, items: list[Any]) -> None:
    """Put keys and values into a dictionary. A key within a key is none: its hash would be worked out in recursion."""
    if not isinstance(target, dict):
        return
    for key, value in zip(items[::2], items[1::2], strict=True):
        parts = key if type(key) is tuple else (key,)
        if len(parts) <= MAX_AXES and all(
            type(part) in (str, int, float, bool, bytes, type(None), _Name, torch.dtype) for part in parts
        ):
            target[key] = value
        elif not isinstance(key, Unread | Tensor):
            raise DamagedError("a key that is none")


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> Tensor:
    """A tensor over values of a file, which has to lie within them."""
    values, dtype = storage
    flags = rest[2] if len(rest) > 2 else {}
    if isinstance(flags, torch.dtype):  # which stands there where the storage has none
        dtype, flags = flags, rest[3] if len(rest) > 3 else {}
    if dtype not in PLAIN or (isinstance(flags, Mapping) and flags.get("neg")):
        return _without(size, dtype)
    if type(stride) is not tuple or len(stride) != len(_shape(size)):
        raise DamagedError("strides that are none")
    # Which refuses sizes that lead out of the bytes, where torch's own way makes room for them.
    return values.view(dtype).as_strided(size, stride, offset)  # type: ignore[no-any-return]


def _without(size: Any, dtype: torch.dtype) -> Tensor:
    """A tensor that has a shape and a type, and no values."""
    try:
        return torch.empty(_shape(size), dtype=dtype, device="meta")
    except (RuntimeError, NotImplementedError):  # quantized ones cannot be without values
        return torch.empty(_shape(size), device="meta")


def _shape(size: Any) -> tuple[int, ...]:
    if type(size) is not tuple or len(size) > MAX_AXES or any(type(one) is not int or one < 0 for one in size):
        raise DamagedError("a shape that is none")
    return size


def _sparse(_layout: Any, data: Any) -> Tensor:
    return _without(next(one for one in data if type(one) is tuple), torch.float32)


def _of_type(function: Any, _kind: Any, arguments: Any, _state: Any) -> Any:
    """A tensor of another class, or with attributes: itself."""
    if CALLS.get(function) is not _tensor:
        raise DamagedError("a tensor that is made otherwise")
    return _tensor(*arguments)


def _dictionary(*items: Any) -> dict[Any, Any]:
    """A dictionary; that with which a counter begins, itself: copies of copies would fill the memory."""
    return items[-1] if items and type(items[-1]) is dict else {}


CALLS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch._utils._rebuild_qtensor": lambda storage, _offset, size, *_: _without(size, storage[1]),
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": lambda dtype, size, *_: _without(size, dtype),
    "torch.Size": _shape,
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "collections.defaultdict": _dictionary,
}
"""The calls that a file may name, and what is made instead."""
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
MADE: Mapping[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": Unread,
}  # fmt: skip
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _number(size: int, *, signed: bool = False) -> Callable[[_Machine], int]:
    """A reader of a number of some bytes."""
    return lambda machine: int.from_bytes(machine.take(size), "little", signed=signed)


def _counted(size: int) -> Callable[[_Machine], bytes]:
    """A reader of as many bytes as a number of some bytes before them says."""
    return lambda machine: machine.take(int.from_bytes(machine.take(size), "little"))


def _text(size: int, encoding: str = "utf-8", errors: str = "surrogatepass") -> Callable[[_Machine], str]:
    """A reader of a text behind its length."""
    counted = _counted(size)
    return lambda machine: counted(machine).decode(encoding, errors)


VALUES: Mapping[str, Callable[[_Machine], Any]] = {
    "BININT": _number(4, signed=True), "BININT1": _number(1), "BININT2": _number(2),
    "LONG1": lambda machine: int.from_bytes(machine.take(machine.take(1)[0]), "little", signed=True),
    "BINFLOAT": lambda machine: struct.unpack(">d", machine.take(8))[0],
    "BINUNICODE": _text(4), "SHORT_BINUNICODE": _text(1), "BINUNICODE8": _text(8),
    "BINSTRING": _text(4, "latin-1"), "SHORT_BINSTRING": _text(1, "latin-1"),
    "BINBYTES": _counted(4), "SHORT_BINBYTES": _counted(1), "BINBYTES8": _counted(8),
}  # fmt: skip
"""The instructions that stand for a value, with the readers of it."""
READERS: Mapping[str, Callable[[_Machine], Any]] = {
    **VALUES, "BINPUT": _number(1), "LONG_BINPUT": _number(4), "BINGET": _number(1), "LONG_BINGET": _number(4),
    "PROTO": _number(1), "FRAME": _number(8), "GLOBAL": lambda machine: f"{machine.line()}.{machine.line()}",
}  # fmt: skip
BARE = frozenset((
    "MEMOIZE", "MARK", "TUPLE", "SETITEM", "SETITEMS", "APPEND", "APPENDS", "ADDITEMS", "FROZENSET", "STACK_GLOBAL",
    "BINPERSID", "REDUCE", "NEWOBJ", "BUILD", "STOP", *CONSTANTS, *MADE, *TUPLES,
))  # fmt: skip
INSTRUCTIONS = {
    one.code.encode("latin-1"): (one.name, READERS.get(one.name))
    for one in pickletools.opcodes
    if one.name in BARE or one.name in READERS
}
"""The instructions that are known, by their bytes; any other is damage."""

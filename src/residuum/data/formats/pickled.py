"""CIFAR's pickle files, read without unpickling.

A pickle is a program that may run anything. Here its instructions are listed by `pickletools.genops` and only those
of the published files (a dictionary of strings, lists of strings or small integers, and one byte array of numpy) have
an effect, on plain values: of protocol 2 as Python 2 wrote CIFAR, and of 2 to 4 as Python 3 writes the same, as in
copies of it (ciFAIR). No instruction can call, import, or allocate more than its own bytes.
"""

import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residuum.errors import InputError
from residuum.records.storage import instead

MAX_INSTRUCTIONS = 500_000
"""CIFAR-100's larger file has 50,000 images with two labels and a memoised file name each: about 200,000."""

_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04")
_STRINGS = {"SHORT_BINSTRING", "BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
_INTEGERS = {"BININT", "BININT1", "BININT2"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

# What the allowed globals and the results of calling them stand for while the array is put together.
_RECONSTRUCT, _NDARRAY, _DTYPE, _ENCODE = (object() for _ in range(4))
_GLOBALS = {
    "numpy.core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _RECONSTRUCT,  # since numpy 2
    "numpy ndarray": _NDARRAY,
    "numpy dtype": _DTYPE,
    "_codecs encode": _ENCODE,  # how Python 3 writes bytes in protocol 2: as text and the name of its encoding
}
_MARK, _EMPTY_ARRAY, _BYTE_TYPE, _BYTE_TYPE_READY = (object() for _ in range(4))


class _LayoutError(Exception):
    """An instruction, or an argument of one, that the published files do not have."""


def read_pickled(content: bytes, place: str) -> dict[str, Any]:
    """The dictionary in a CIFAR batch or meta file: integers, strings, lists of them, and uint8 arrays [rows, columns].

    Raises:
        InputError: anything else than the published layout; the message begins with `place`.
    """
    try:
        return _run(content)
    except _LayoutError as error:
        raise InputError(f"{place} is not a CIFAR file: {error}") from error
    except (ValueError, IndexError, KeyError) as error:
        # genops: an unknown or truncated instruction; the stack or the memo: something taken that was never put.
        raise InputError(f"{place} is not a CIFAR file, or is damaged") from error


def _run(content: bytes) -> dict[str, Any]:
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    left = len(content)

    def encode(text: str) -> bytes:
        nonlocal left
        left -= len(text)
        if left < 0:  # a text that is taken from the memo again and again
            raise _LayoutError("it would make more of its bytes than it has")
        return text.encode("latin-1")

    if said := instead(content):
        raise _LayoutError(f"it is {said}")
    if content[:2] not in _PROTOCOLS:
        raise _LayoutError("it is not of protocol 2 to 4")
    for count, (instruction, argument, position) in enumerate(pickletools.genops(content)):
        if count == MAX_INSTRUCTIONS:
            raise _LayoutError(f"more than {MAX_INSTRUCTIONS:,} instructions")
        name = instruction.name
        if name in _STRINGS or name in _INTEGERS or name in _BYTES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "APPENDS":
            items = _pop_to_mark(stack)
            _last(stack, list).extend(items)
        elif name == "APPEND":
            item = stack.pop()
            _last(stack, list).append(item)
        elif name == "SETITEMS":
            items = _pop_to_mark(stack)
            _set_items(_last(stack, dict), items)
        elif name == "SETITEM":
            items = [stack.pop(), stack.pop()][::-1]
            _set_items(_last(stack, dict), items)
        elif name == "TUPLE":
            stack.append(tuple(_pop_to_mark(stack)))
        elif name in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(reversed(items)))
        elif name == "GLOBAL" and argument in _GLOBALS:
            stack.append(_GLOBALS[argument])
        elif name == "STACK_GLOBAL":
            last, module = stack.pop(), stack.pop()
            if (known := _GLOBALS.get(f"{module} {last}")) is None:
                raise _LayoutError(f"instruction STACK_GLOBAL at byte {position}")
            stack.append(known)
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments, encode))
        elif name == "BUILD":
            state, target = stack.pop(), stack.pop()
            stack.append(_build(target, state, encode))
        elif name == "STOP" and position == len(content) - 1:
            (result,) = stack
            if type(result) is not dict or not all(map(_is_value, result.values())):
                raise _LayoutError("it holds something else than a dictionary of numbers, strings, lists and arrays")
            return {key: _as_text(value) for key, value in result.items()}
        elif name != "FRAME" and (name != "PROTO" or position):
            raise _LayoutError(f"instruction {name} at byte {position}")
    raise _LayoutError("it has no end")


def _as_text(value: Any) -> Any:
    """A value, a list of bytes as one of strings."""
    if type(value) is not list:
        return value
    return [item.decode("latin-1") if type(item) is bytes else item for item in value]


def _is_value(value: Any) -> bool:
    kinds = (int, str, bytes)
    return type(value) in (*kinds, np.ndarray) or (type(value) is list and all(type(item) in kinds for item in value))


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    items = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _last(stack: list[Any], kind: type) -> Any:
    if type(stack[-1]) is not kind:
        raise _LayoutError("an instruction that fills a list or dictionary has none")
    return stack[-1]


def _set_items(target: dict[str, Any], items: list[Any]) -> None:
    for name, value in zip(items[::2], items[1::2], strict=True):
        key = name.decode("latin-1") if type(name) is bytes else name
        if type(key) is not str or key in target:
            raise _LayoutError("a key that is not a string, or appears twice")
        target[key] = value


def _call(function: Any, arguments: Any, encode: Callable[[str], bytes]) -> object:
    """What the calls in such a file give: an array without content, the type of its bytes, and bytes from a text."""
    if function is _ENCODE and type(arguments) is tuple and len(arguments) == 2:
        text, encoding = arguments
        if type(text) is str and encoding == "latin1":
            return encode(text)
    if type(arguments) is tuple and len(arguments) == 3:
        first, second, third = arguments
        if function is _RECONSTRUCT and first is _NDARRAY and second == (0,) and third in ("b", b"b"):
            return _EMPTY_ARRAY
        if function is _DTYPE and first == "u1" and second in (0, False) and third in (1, True):
            return _BYTE_TYPE
    raise _LayoutError("a call that is not that of a byte array")


def _build(target: Any, state: Any, encode: Callable[[str], bytes]) -> Any:
    if type(state) is tuple:
        if target is _BYTE_TYPE and state == (3, "|", None, None, None, -1, -1, 0):
            return _BYTE_TYPE_READY
        if target is _EMPTY_ARRAY and len(state) == 5:
            version, shape, kind, fortran, pixels = state
            if version == 1 and kind is _BYTE_TYPE_READY and type(fortran) is bool and type(pixels) in (str, bytes):
                return _array(shape, fortran, encode(pixels) if type(pixels) is str else pixels)
    raise _LayoutError("a state that is not that of a byte array")


def _array(shape: Any, fortran: bool, pixels: bytes) -> NDArray[np.uint8]:
    if type(shape) is not tuple or [type(size) for size in shape] != [int, int] or min(shape) < 1:
        raise _LayoutError("an array that has not rows and columns")
    rows, columns = shape
    values = np.frombuffer(pixels, np.uint8)
    return values.reshape(columns, rows).T if fortran else values.reshape(rows, columns)

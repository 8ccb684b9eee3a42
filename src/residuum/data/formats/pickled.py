"""CIFAR's pickle files, read without unpickling.

A pickle is a program that may run anything. Here its instructions are listed by `pickletools.genops` and only those
of the published files (protocol 2: a dictionary of strings, lists of strings or small integers, and one byte array of
numpy) have an effect, on plain values. No instruction can call, import, or allocate more than its own bytes.
"""

import pickletools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residuum.errors import InputError

MAX_INSTRUCTIONS = 500_000
"""CIFAR-100's larger file has 50,000 images with two labels and a memoised file name each: about 200,000."""

_STRINGS = {"SHORT_BINSTRING", "BINSTRING", "BINUNICODE"}
_INTEGERS = {"BININT", "BININT1", "BININT2"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

# What the three allowed globals and the two results of calling them stand for while the array is put together.
_GLOBALS = {name: object() for name in ("numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype")}
_RECONSTRUCT, _NDARRAY, _DTYPE = _GLOBALS.values()
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
    if content[:2] != b"\x80\x02":
        raise _LayoutError("it is not of protocol 2")
    for count, (instruction, argument, position) in enumerate(pickletools.genops(content)):
        if count == MAX_INSTRUCTIONS:
            raise _LayoutError(f"more than {MAX_INSTRUCTIONS:,} instructions")
        name = instruction.name
        if name in _STRINGS or name in _INTEGERS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
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
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        elif name == "BUILD":
            state, target = stack.pop(), stack.pop()
            stack.append(_build(target, state))
        elif name == "STOP" and position == len(content) - 1:
            (result,) = stack
            if type(result) is not dict or not all(map(_is_value, result.values())):
                raise _LayoutError("it holds something else than a dictionary of numbers, strings, lists and arrays")
            return result
        elif name != "PROTO" or position:
            raise _LayoutError(f"instruction {name} at byte {position}")
    raise _LayoutError("it has no end")


def _is_value(value: Any) -> bool:
    kinds = (int, str)
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
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) is not str or key in target:
            raise _LayoutError("a key that is not a string, or appears twice")
        target[key] = value


def _call(function: Any, arguments: Any) -> object:
    """What the two calls in a published file give: an array without content, and the type of its bytes."""
    if type(arguments) is tuple and len(arguments) == 3:
        first, second, third = arguments
        if function is _RECONSTRUCT and first is _NDARRAY and second == (0,) and third == "b":
            return _EMPTY_ARRAY
        if function is _DTYPE and first == "u1" and second in (0, False) and third in (1, True):
            return _BYTE_TYPE
    raise _LayoutError("a call that is not that of a byte array")


def _build(target: Any, state: Any) -> Any:
    if type(state) is tuple:
        if target is _BYTE_TYPE and state == (3, "|", None, None, None, -1, -1, 0):
            return _BYTE_TYPE_READY
        if target is _EMPTY_ARRAY and len(state) == 5:
            version, shape, kind, fortran, pixels = state
            if version == 1 and kind is _BYTE_TYPE_READY and type(fortran) is bool and type(pixels) is str:
                return _array(shape, fortran, pixels.encode("latin-1"))
    raise _LayoutError("a state that is not that of a byte array")


def _array(shape: Any, fortran: bool, pixels: bytes) -> NDArray[np.uint8]:
    if type(shape) is not tuple or [type(size) for size in shape] != [int, int] or min(shape) < 1:
        raise _LayoutError("an array that has not rows and columns")
    rows, columns = shape
    values = np.frombuffer(pixels, np.uint8)
    return values.reshape(columns, rows).T if fortran else values.reshape(rows, columns)

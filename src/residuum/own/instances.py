"""Objects, as a text that makes them again: a network, an activation or a loss that was made in Python.

An object has what its seed does not give: weights that were drawn, loaded or trained before, layers that were put in
later. So nothing is made anew of a constructor. What the object holds is written down as it is (classes by their text
or as imports, plain values as Python, modules within modules), and its tensors stand in the same text, as safetensors
in base64. That text is own code like any other: its SHA-256 is part of the run's id, it is kept with the run, and each
process that has it makes the same object, weights included, whatever the seed. Another object of the same class with
other weights is another run.

Nothing is pickled. What cannot be written down is refused by its place within the object: hooks, an open file, a
generator, a function without a text, layers that have no shape yet.
"""

import copyreg
import sys
from base64 import b64encode
from enum import Enum
from functools import partial
from types import MethodType, ModuleType
from typing import Any

from residuum.errors import InputError
from residuum.own.definitions import Text, imported_from, literal

SUFFIX = "_object"
OF_MODULES = ("_modules", "_parameters", "_buffers")
"""Where a module holds what its attributes give."""
MOST_BYTES = 2**26
"""Of the tensors of an object, which travel with the text."""
_VALUES = "VALUES = "
_HEAD = f'''
# An object as it was given: what it holds is written in {{name}}(), its tensors in VALUES.
import base64

import safetensors.torch

{_VALUES}"{{values}}"
_KEPT = safetensors.torch.load(base64.b64decode(VALUES)) if VALUES else {{{{}}}}


def _tensor(name, *shape, dtype=torch.float32):
    """A tensor that the object held; zeros where its values are not kept."""
    return _KEPT[name].clone() if name in _KEPT else torch.zeros(shape, dtype=dtype)


def _new(kind, held):
    """An object of a class that holds these."""
    made = kind.__new__(kind)
    if isinstance(made, nn.Module):
        nn.Module.__init__(made)
    if hasattr(made, "__setstate__"):
        made.__setstate__(held)
    else:
        vars(made).update(held)
    return made
'''.strip()


def is_object(text: str) -> bool:
    """Whether a text of own code makes an object that was given."""
    return "\n# An object as it was given: " in text


def bare(text: str) -> str:
    """The text of an object without its values: it makes one with tensors of zeros."""
    return "\n".join(
        f'{_VALUES}""' if is_object(text) and line.startswith(_VALUES) else line for line in text.split("\n")
    )


def kept(value: Any) -> tuple[str, str, list[str]]:
    """The name and the text of what makes an object again, and where the local modules lie that it imports.

    Raises:
        InputError: something in it cannot be written down; the message names its place.
    """
    kind = type(value)
    name = f"{kind.__name__}{SUFFIX}"
    found = _Object(kind.__name__)
    made = found.variable(value, "")
    size = sum(tensor.nbytes for tensor in found.tensors.values())
    if size > MOST_BYTES:
        raise InputError(
            f"an object of the class {kind.__name__} holds {size // 2**20} MiB of tensors, more than "
            f"{MOST_BYTES // 2**20}; give the class, its arguments as settings, and the weights as pretrained.weights"
        )
    body = [*found.lines, f"return {made}"]
    text = found.text
    text.add(_HEAD.format(name=name, values=_packed(found.tensors)))
    text.add("\n".join([f"def {name}():", f'    """The object of the class {kind.__name__}, made again."""',
                        *(f"    {line}" for line in body)]))  # fmt: skip
    return name, str(text), text.places


def _packed(tensors: dict[str, Any]) -> str:
    import safetensors.numpy

    try:
        content = safetensors.numpy.save(tensors)
    except Exception as error:
        raise InputError(f"an object's tensors cannot be kept: {error}") from error
    return b64encode(content).decode() if tensors else ""


class _Object:
    """The lines that make an object, and the tensors that they need, by name."""

    def __init__(self, of: str) -> None:
        self.of, self.text = of, Text()
        self.lines: list[str] = []
        self.tensors: dict[str, Any] = {}
        self._made: dict[int, str] = {}
        self._alive: list[Any] = []
        self._open: list[int] = []
        self._torch: Any = sys.modules.get("torch")  # an object of torch is here only where torch is: none is imported

    def refuse(self, what: str, place: str) -> InputError:
        """The error for something within the object."""
        holds = f": it holds {what} in {place}" if place else f", since it is or holds {what}"
        return InputError(
            f"an object of the class {self.of} cannot be kept with a run{holds}; give the class and its arguments, "
            f"{{'name': {self.of}, …}}, or a function"
        )

    def variable(self, value: Any, place: str) -> str:
        """The name of a line that makes an object or a tensor, the same for the same one."""
        if id(value) in self._made:
            return self._made[id(value)]
        if id(value) in self._open:
            raise self.refuse("itself", place)
        self._open.append(id(value))
        torch, kind = self._torch, type(value)
        if torch is not None and isinstance(value, torch.Tensor):
            made = self._tensor(value, place)
        elif torch is not None and isinstance(value, torch.nn.Module):
            made = self._new(value, self._held(value, place), place)
        else:
            made = self._new(value, self._state(value, place), place)
        self._open.pop()
        name = f"{'t' if torch is not None and isinstance(value, torch.Tensor) else 'm'}{len(self._made)}"
        self.lines.append(f"{name} = {made}")
        self._made[id(value)] = name
        self._alive.append((kind, value))  # so that no other object gets its id
        return name

    def _new(self, value: Any, held: dict[str, Any], place: str) -> str:
        inner = {key: place if key in OF_MODULES else ".".join(filter(None, (place, key))) for key in held}
        texts = [f"{key!r}: {self.expression(one, inner[key])}" for key, one in held.items()]
        try:
            kind = self.text.expression(type(value), self.of)
        except InputError as error:
            where = f" ({place})" if place else ""
            raise InputError(
                f"an object of the class {self.of} cannot be kept with a run{where}: {error.text}"
            ) from error
        return f"_new({kind}, {{{', '.join(texts)}}})"

    def _state(self, value: Any, place: str) -> dict[str, Any]:
        try:
            make, given, *rest = value.__reduce_ex__(2)
        except Exception as error:
            raise self.refuse(f"a {type(value).__name__}", place) from error
        newobj = getattr(copyreg, "__newobj__")  # noqa: B009  (which mypy does not know)
        state = rest[0] if rest else None
        plain = make is newobj and given == (type(value),) and not any(one is not None for one in rest[1:])
        if not plain or not isinstance(state, dict | None):
            raise self.refuse(f"a {type(value).__name__}", place)
        return dict(state or {})

    def _held(self, module: Any, place: str) -> dict[str, Any]:
        """What a module holds beside what each holds when it is new."""
        usual, held = vars(self._torch.nn.Module()), self._state(module, place)
        if any(type(one).__name__.startswith("Uninitialized") for one in module._parameters.values()):
            raise self.refuse("a lazy layer, which has no shape before it saw images (show it some first)", place)
        for key, one in held.items():
            if "hooks" in key and key in usual and one:
                raise self.refuse("hooks", place)
        return {key: one for key, one in held.items() if not (key in usual and self._is_usual(one, usual[key]))}

    @staticmethod
    def _is_usual(one: Any, usual: Any) -> bool:
        if isinstance(usual, dict | set):
            return not one and not usual
        return type(one) is type(usual) and bool(one == usual)

    def _tensor(self, value: Any, place: str) -> str:
        torch = self._torch
        kind, is_parameter = type(value), isinstance(value, torch.nn.Parameter)
        if (
            kind not in (torch.Tensor, torch.nn.Parameter)
            or value.layout != torch.strided
            or value.device.type == "meta"
        ):
            raise self.refuse(f"a {kind.__name__} without plain values", place)
        name = f"{len(self.tensors)} {place}"
        try:
            self.tensors[name] = value.detach().cpu().contiguous().numpy().copy()
        except (TypeError, RuntimeError) as error:
            raise self.refuse(f"a tensor of {value.dtype}", place) from error
        given = [
            repr(name),
            *map(str, value.shape),
            *([f"dtype={value.dtype}"] if value.dtype != torch.float32 else []),
        ]
        made = f"_tensor({', '.join(given)})"
        if is_parameter:
            return f"nn.Parameter({made}{'' if value.requires_grad else ', requires_grad=False'})"
        return made

    def expression(self, value: Any, place: str) -> str:
        """A value as Python."""
        torch = self._torch
        if (text := literal(value)) is not None:
            return text
        if isinstance(value, Enum):
            return f"{self._named(type(value), place)}.{value.name}"
        if type(value) in (list, tuple, set, dict) or type(value).__name__ in ("OrderedDict", "Size"):
            if id(value) in self._open:
                raise self.refuse("itself", place)
            self._open.append(id(value))
            text = self._container(value, place)
            self._open.pop()
            return text
        if torch is not None and isinstance(value, torch.Tensor | torch.nn.Module):
            return self.variable(value, place)
        if isinstance(value, type | ModuleType) or imported_from(value) is not None or _is_function(value):
            return self._named(value, place)
        if isinstance(value, MethodType):
            return f"{self.expression(value.__self__, place)}.{value.__name__}"
        if isinstance(value, partial):
            inner = [self.expression(value.func, place), *(self.expression(one, place) for one in value.args),
                     *(f"{key}={self.expression(one, place)}" for key, one in value.keywords.items())]  # fmt: skip
            return f"{self._named(partial, place)}({', '.join(inner)})"
        return self.variable(value, place)

    def _container(self, value: Any, place: str) -> str:
        if isinstance(value, dict):
            pairs = [f"{self.expression(key, place)}: {self.expression(one, f'{place}.{key}' if place else str(key))}"
                     for key, one in value.items()]  # fmt: skip
            text = f"{{{', '.join(pairs)}}}"
            return text if type(value) is dict or not pairs else f"{self._named(type(value), place)}({text})"
        inner = [self.expression(one, f"{place}[{at}]") for at, one in enumerate(value)]
        if type(value) is list:
            return f"[{', '.join(inner)}]"
        if type(value) is set:
            raise self.refuse("a set of objects", place)
        whole = f"({', '.join(inner)}{',' * (len(inner) == 1)})"
        return whole if type(value) is tuple else f"torch.Size({whole})"

    def _named(self, value: Any, place: str) -> str:
        try:
            return self.text.expression(value, self.of)
        except InputError as error:
            where = f" ({place})" if place else ""
            raise InputError(
                f"an object of the class {self.of} cannot be kept with a run{where}: {error.text}"
            ) from error


def _is_function(value: Any) -> bool:
    return type(value).__name__ == "function"


def unmakeable(value: Any) -> str:
    """What an object that belongs to a network of its own should be given as; empty for any other."""
    for kind in type(value).__mro__:
        if kind.__module__.startswith("torch.optim") and kind.__name__ in ("Optimizer", "LRScheduler"):
            name = type(value).__name__
            return (f"an object of the class {name} moves the weights of a network of its own: give the class, and its "
                    f"arguments as settings, {{'name': {name}, …}}")  # fmt: skip
    return ""

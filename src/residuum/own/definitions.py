"""Classes and functions that stand in no file of their own, as a text that stands alone.

Those of a notebook, of a script, or from within a function are kept as their own text with all that it names, and
nothing else: modules that are installed as imports, other such classes and functions as their text, plain values as
they are now. What has no such form is refused by its name, before anything is run.
"""

import ast
import builtins
import inspect
import linecache
import math
import symtable
import sys
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from residuum.errors import InputError, quoted
from residuum.own import beside

ALONE = "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn\n"
"""What every such text begins with."""
_GIVEN = {
    "torch": ("torch", ""),
    "F": ("torch.nn.functional", ""),
    "Tensor": ("torch", "Tensor"),
    "nn": ("torch.nn", ""),
}
INSTEAD = "write it, with what it needs, into a file of its own, as mine.py, and give 'mine.py:{}'"
PLAIN = (bool, int, float, complex, str, bytes, type(None))
_FUTURE = "from __future__ import annotations\n"


class Text:
    """A text that grows by what is asked of it, and by what that names in turn."""

    def __init__(self) -> None:
        self._means: dict[str, Any] = {}
        self._imports: set[str] = set()
        self._lines: list[str] = []
        self._pieces: list[str] = []
        self._future = False
        self.places: list[str] = []
        """Where the local modules lie that it imports."""

    def __str__(self) -> str:
        lines = [*([_FUTURE.strip()] if self._future else []), ALONE.strip(), *sorted(self._imports)]
        if self._lines:
            lines += ["", *self._lines]
        return "\n".join(lines) + "\n" + "".join(f"\n\n{piece}\n" for piece in self._pieces)

    def put(self, name: str, value: Any, of: str) -> None:
        """Let a name mean a value in the text; `of` is what needs it, for messages.

        Raises:
            InputError: it has no form as text, or the name means something else already.
        """
        if name in self._means:
            if not _same(self._means[name], value):
                raise InputError(f"{of}: {quoted(name)} means two things in what it needs; {INSTEAD.format(of)}")
            return
        self._means[name] = value
        if isinstance(value, ModuleType):
            if not is_installed(value.__name__):
                self._take_along(value, of)
            self._import(name, value.__name__, "")
        elif (place := imported_from(value)) is not None:
            self._import(name, *place)
        elif isinstance(value, type) or _is_function(value):
            own = written_name(value)
            if own != name:
                self.put(own, value, of)
                self._pieces.append(f"{name} = {own}")
            else:
                self._define(own, value)
        elif (text := literal(value)) is not None:
            self._lines.append(f"{name} = {text}")
        else:
            what = f"{name}, of the kind {type(value).__name__}, which has no text"
            raise InputError(f"{of} needs {what}; make it an argument, or {INSTEAD.format(of)}")

    def expression(self, value: Any, of: str) -> str:
        """A class, function or module as the text names it."""
        name = value.__name__.replace(".", "_") if isinstance(value, ModuleType) else written_name(value)
        if name == getattr(value, "__name__", "") and getattr(sys.modules.get("torch.nn"), name, None) is value:
            return f"nn.{name}"
        if name in self._means and not _same(self._means[name], value):
            name = f"{name}_of_{str(getattr(value, '__module__', '')).replace('.', '_')}"
        self.put(name, value, of)
        return name

    def add(self, piece: str) -> None:
        """Append lines as they are."""
        self._pieces.append(piece)

    def _import(self, name: str, module: str, path: str) -> None:
        if _GIVEN.get(name) == (module, path):
            return
        if path:
            self._imports.add(f"from {module} import {path}" + (f" as {name}" if name != path else ""))
        else:
            self._imports.add(f"import {module}" + (f" as {name}" if name != module else ""))

    def _take_along(self, module: ModuleType, of: str) -> None:
        """Note where a local module lies, so that its text can go along."""
        path = Path(getattr(module, "__file__", None) or "")
        above = module.__name__.count(".") + (path.name == "__init__.py")
        if path.suffix != ".py" or not path.is_file() or module.__name__ == "__main__":
            raise InputError(f"{of} needs {module.__name__}, a module that has no text; {INSTEAD.format(of)}")
        self.places.append(str(path.absolute().parents[above]))

    def _define(self, name: str, value: Any) -> None:
        if any(base.__name__ == name for base in getattr(value, "__bases__", ())):
            raise InputError(f"{name} is made of another class of the same name; call one of them otherwise")
        source, code = source_of(value)
        if isinstance(value, type) and (later := _put_in_later(value, source)):
            raise InputError(
                f"{name}.{later} was set after {name} was defined, which its text does not have; {INSTEAD.format(name)}"
            )
        where, known = _namespace(value)
        self._future |= bool(code is not None and code.co_flags & _annotations_flag())
        hard, soft = _names(source, future=self._future)
        missing = []
        for other in sorted(hard | soft):
            if other == name or (other in known and known[other] is value):
                continue
            if other in known:
                self.put(other, known[other], name)
            elif not hasattr(builtins, other) and other in hard and other not in _GIVEN and not other.startswith("__"):
                missing.append(other)
        if missing:
            raise InputError(
                f"{name} names {', '.join(missing)}, which {where} does not have; define it before, or import it"
            )
        self._pieces.append(source)


def _is_function(value: Any) -> bool:
    """Whether a value is a function, as it is or within what a decorator made of it."""
    return callable(value) and hasattr(value, "__name__") and inspect.isfunction(inspect.unwrap(value))


def literal(value: Any) -> str | None:
    """A plain value as Python, lists and mappings of such as well; None for anything else."""
    if isinstance(value, float) and type(value) is float and not math.isfinite(value):
        return f"float({str(value)!r})"
    if type(value) in PLAIN:
        return repr(value)
    if type(value) in (list, tuple, set, frozenset):
        members = [literal(one) for one in value]
        if None in members:
            return None
        texts = [str(one) for one in members]
        if type(value) in (set, frozenset):
            return f"{type(value).__name__}([{', '.join(sorted(texts))}])"
        return f"[{', '.join(texts)}]" if type(value) is list else f"({', '.join(texts)}{',' * (len(texts) == 1)})"
    if type(value) is dict:
        pairs = [(literal(key), literal(one)) for key, one in value.items()]
        return (
            None if any(None in pair for pair in pairs) else f"{{{', '.join(f'{key}: {one}' for key, one in pairs)}}}"
        )
    if type(value).__module__ == "torch" and type(value).__name__ in ("dtype", "memory_format"):
        return repr(value)
    if type(value).__module__ == "torch" and type(value).__name__ == "device":
        return f"torch.{value!r}"
    return None


def written_name(value: Any) -> str:
    """What a class or function is called in its text."""
    name = str(value.__name__)
    return "function" if name == "<lambda>" else name


def is_installed(module: str) -> bool:
    """Whether a module is of Python or of an installed package, and so need not be kept."""
    return beside.is_installed(module, getattr(sys.modules.get(module), "__file__", None) or "")


def imported_from(value: Any) -> tuple[str, str] | None:
    """The installed module and the name in it that mean a value; None where there are none."""
    name, home = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    if not isinstance(name, str):
        return None
    short = str(getattr(value, "__name__", name))
    places = [(place, short) for place in ("torch", "torch.nn.functional", "torch.nn", "builtins", "math")]
    if isinstance(home, str):
        places.insert(len(places) if "._" in home else 0, (home, name))  # last, where it lies in what is private
    for place, path in places:
        if "." not in path and is_installed(place) and getattr(sys.modules.get(place), path, None) is value:
            return place, path
    return None


def is_loose(value: Any) -> bool:
    """Whether a class or function can only be kept by its own text: no file has it at its top."""
    return getattr(value, "__module__", "") == "__main__" or value.__qualname__ != value.__name__ \
        or value.__name__ == "<lambda>"  # fmt: skip


def bound(value: "partial[Any]") -> dict[str, Any]:
    """A function with arguments bound, as a mapping of it and these by their names.

    Raises:
        InputError: it does not take them.
    """
    try:
        given = inspect.signature(value.func).bind_partial(*value.args, **value.keywords)
    except (TypeError, ValueError) as error:
        name = getattr(value.func, "__name__", type(value.func).__name__)
        raise InputError(f"{name} does not take the arguments that are bound to it: {error}") from error
    found: dict[str, Any] = {}
    kinds = inspect.signature(value.func).parameters
    for key, one in given.arguments.items():
        if kinds[key].kind is inspect.Parameter.VAR_KEYWORD:
            found |= one
        elif kinds[key].kind is inspect.Parameter.VAR_POSITIONAL:
            name = getattr(value.func, "__name__", type(value.func).__name__)
            raise InputError(f"{name}: arguments without a name cannot be settings; bind them by name")
        else:
            found[key] = one
    return {"name": value.func, **found}


def source_of(value: Any) -> tuple[str, CodeType | None]:
    """The text of a class or function as it was defined, and code that came of it.

    Raises:
        InputError: nobody kept it, or it was changed since.
    """
    name = written_name(value)
    lost = InputError(f"the text of {name} cannot be found; {INSTEAD.format(name)}")
    if isinstance(value, type):
        codes = [one.__code__ for one in _functions(value)]
        files = {code.co_filename for code in codes if not code.co_filename.startswith("<") or _lines(code.co_filename)}
        if len(files) > 1:
            raise InputError(f"{name} has methods from other places than its own text; {INSTEAD.format(name)}")
        for file in [*files] or _files_of(value):
            code = codes[0] if files else None
            line = min((one.co_firstlineno for one in codes if one.co_filename == file), default=0)
            nodes = [node for node in _tree(file) if isinstance(node, ast.ClassDef) and node.name == name
                     and (not line or node.lineno <= line <= (node.end_lineno or 0))]  # fmt: skip
            if nodes:
                return _segment(file, max(nodes, key=lambda node: node.lineno)), code
        raise lost
    code = inspect.unwrap(value).__code__
    functions = [node for node in _tree(code.co_filename) if isinstance(node, ast.FunctionDef) and node.name == name
                 and _first(node) == code.co_firstlineno]  # fmt: skip
    if functions:
        return _segment(code.co_filename, functions[-1]), code
    lambdas = [node for node in _tree(code.co_filename)
               if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno]  # fmt: skip
    if len(lambdas) > 1:
        lambdas = [node for node in lambdas if _alike(node, code)]
    if len({ast.unparse(node) for node in lambdas}) == 1:
        return f"{name} = {ast.unparse(lambdas[0])}", code
    raise lost


def _put_in_later(kind: type, source: str) -> str:
    """What a class holds that its text does not give, or not so; empty where there is nothing."""
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.ClassDef), "the text of a class"
    bound, plain = set[str](), dict[str, Any]()
    for one in node.body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(one.name)
        bound |= {
            inner.id for inner in ast.walk(one) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)
        }
        bound |= {
            (inner.asname or inner.name).partition(".")[0] for inner in ast.walk(one) if isinstance(inner, ast.alias)
        }
        if isinstance(one, ast.Assign | ast.AnnAssign) and isinstance(one.value, ast.Constant):
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            plain |= {target.id: one.value.value for target in targets if isinstance(target, ast.Name)}
    for key, value in vars(kind).items():
        library = is_installed(str(getattr(value, "__module__", "__main__"))) and inspect.isroutine(value)
        if (key.startswith("_") and key.endswith("_")) or key == "_abc_impl" or library:
            continue
        if key not in bound or (key in plain and type(value) in PLAIN and not _same(value, plain[key])):
            return key
    return ""


def _alike(node: ast.Lambda, code: CodeType) -> bool:
    """Whether a lambda in a text is the one that a code came of, as far as a line with several can tell."""
    made = compile(ast.Expression(node), "", "eval").co_consts
    inner = next((one for one in made if isinstance(one, CodeType)), None)
    return inner is not None and (inner.co_consts, inner.co_varnames, set(inner.co_names)) == (
        code.co_consts, code.co_varnames, set(code.co_names) | set(code.co_freevars))  # fmt: skip


def _functions(kind: type) -> Iterator[FunctionType]:
    """The functions of a class that stand in its text."""
    for one in vars(kind).values():
        for found in (one, getattr(one, "__func__", None), getattr(one, "fget", None)):
            if inspect.isfunction(found):
                inner = inspect.unwrap(found)
                library = inner.__module__ != kind.__module__ and is_installed(str(inner.__module__))
                if isinstance(inner, FunctionType) and not (library or inner.__code__.co_filename == "<string>"):
                    yield inner


def _files_of(kind: type) -> list[str]:
    """Where a class without methods may stand: in the file of its module, or in what was typed last."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return (
        [file]
        if file
        else [name for name in reversed(linecache.cache) if not Path(name).is_absolute() or "ipykernel" in name]
    )


def _lines(file: str) -> list[str]:
    return linecache.getlines(file)


def _tree(file: str) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse("".join(_lines(file)))))
    except (SyntaxError, ValueError, RecursionError):
        return []


def _segment(file: str, node: ast.ClassDef | ast.FunctionDef) -> str:
    return textwrap.dedent("".join(_lines(file)[_first(node) - 1 : node.end_lineno])).rstrip()


def _first(node: ast.ClassDef | ast.FunctionDef) -> int:
    """The line that a definition begins with, its decorators included."""
    return min([node.lineno, *(one.lineno for one in node.decorator_list)])


def _namespace(value: Any) -> tuple[str, dict[str, Any]]:
    """Where a class or function stands, in words, and what its text finds there by name."""
    functions = [*_functions(value)] if isinstance(value, type) else [inspect.unwrap(value)]
    home = sys.modules.get(value.__module__)
    known: dict[str, Any] = dict(vars(home)) if home is not None else {}
    for one in functions:
        known |= one.__globals__
        for name, cell in zip(one.__code__.co_freevars, one.__closure__ or (), strict=True):
            try:
                known[name] = cell.cell_contents
            except ValueError:  # not filled yet
                continue
    if isinstance(value, type):
        known.pop("__class__", None)
        known |= {base.__name__: base for base in value.__bases__ if base is not object and base.__name__ not in known}
    file = getattr(home, "__file__", None)
    return (Path(file).name if file else "the notebook"), known


def _annotations_flag() -> int:
    import __future__

    return __future__.annotations.compiler_flag


def _names(source: str, *, future: bool) -> tuple[set[str], set[str]]:
    """The names that a text needs from outside, and those that it needs for type hints alone, if these may wait."""
    tree = ast.parse(source)
    every = _outer(source)
    if not future:
        return every, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(0)
    hard = _outer(ast.unparse(tree))
    hints = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)} & (
        {one.id for part in ast.walk(ast.parse(source)) for hint in _hints(part) for one in ast.walk(hint)
         if isinstance(one, ast.Name)})  # fmt: skip
    return hard, hints - hard


def _hints(node: ast.AST) -> list[ast.AST]:
    return [one for key in ("annotation", "returns") if (one := getattr(node, key, None)) is not None]


def _outer(source: str) -> set[str]:
    def walk(table: symtable.SymbolTable) -> Iterator[str]:
        at_top = table.get_type() == "module"
        for symbol in table.get_symbols():
            name = symbol.get_name()
            if symbol.is_referenced() and (not symbol.is_assigned() if at_top else symbol.is_global()):
                yield name
        for inner in table.get_children():
            yield from walk(inner)

    top = symtable.symtable(source, "", "exec")
    own = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_namespace()}
    return set(walk(top)) - own


def _same(one: Any, two: Any) -> bool:
    if one is two:
        return True
    try:
        return literal(one) is not None and literal(one) == literal(two)
    except RecursionError:
        return False


def kept(value: Any) -> tuple[str, list[str]]:
    """The text of a loose class or function with all that it names, and where the local modules lie that it imports."""
    text = Text()
    text.put(written_name(value), value, written_name(value))
    return str(text), text.places

"""Own code: a class or function of the user's, by `file.py:Name` or `package.module:Name`, as text and a hash.

Naming it reads its file and runs nothing: what stands in a configuration from then on is the name with the SHA-256 of
the text (`{"name": "mine.py:Net", "code": "9f2c…"}`), so a changed line is another run. Only what computes calls
`load`, which runs the text; what describes and reads never does.
"""

import ast
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial, wraps
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from residuum.errors import QUOTED, InputError, ResiduumError, quoted, shortened, unknown
from residuum.own import beside, definitions, instances

NAME = r"[^\W\d]\w*"
FILE = re.compile(rf"[^:\x00-\x1f\x7f]+\.py:{NAME}")
MODULE = re.compile(rf"{NAME}(?:\.{NAME})*:{NAME}")
HASH = re.compile(r"[0-9a-f]{64}")
MOST_BYTES = beside.MOST_BYTES
NOTEBOOK, SCRIPT, OBJECT = "notebook.py", "script.py", "object.py"
"""What texts are called that were put together: of what a notebook, or a script, defines, or of an object."""
MODULE_NAME = "residuum_own_"
"""What the modules are called, before their hash, that own code makes: by it its lines are known in a traceback."""
ALONE = "; what comes from a notebook or a script is kept with what it names, as that was when it was given"
ALIASES: Mapping[str, tuple[str, ...]] = {
    "in_channels": ("in_channels", "in_planes", "inplanes", "input_channels"),
    "channels": ("channels", "out_channels", "planes"),
    "classes": ("classes", "num_classes", "n_classes"),
    "stride": ("stride",),
}
"""What people call the arguments that a table gives by name."""
PATHS = ("root", "weights", "data.root", "pretrained.weights")
"""Settings that may look like own code and are none."""
PLAIN = (bool, int, float, str)

_SOURCES: dict[str, str] = {}
_MODULES: dict[str, ModuleType | None] = {}


@dataclass(frozen=True)
class Fit:
    """How own code stands in a table: what it is given, and what it has to be.

    The table gives the arguments `given`: to the parameters of these names (or `ALIASES`) where `by_name`, so that one
    that does not care for the stride leaves it out, else to the first ones. All others with a type hint, or a plain
    default, are settings. `withheld` parameters are no settings: the table decides them; these are their values where
    they have no default. `adapted` makes of what was found what the table takes. `object` says what an object may stand
    for: what the table makes, of which each place gets one with the same values, or what it calls with what it gives;
    or for nothing, since one is made of what the table gives. `wrong` says what is wrong with what that made, and is
    empty where nothing is.
    """

    given: tuple[str, ...] = ()
    by_name: bool = False
    withheld: Mapping[str, Any] | None = None
    adapted: Callable[[Any], Any] = lambda found: found
    object: Literal["", "made", "called"] = ""
    wrong: Callable[[Any], str] = lambda _made: ""


def is_own(name: object) -> bool:
    """Whether a name means own code, by how it is written."""
    return isinstance(name, str) and ":" in name and bool(FILE.fullmatch(name) or MODULE.fullmatch(name))


def short(name: str) -> str:
    """What own code is called where people read: `Net` of `mine.py:Net`; any other name as it is."""
    return name.rpartition(":")[2] if is_own(name) else name


def named(value: Any, folder: Path | None = None) -> Any:
    """Settings in which each reference to own code, and each class, function or object, is a name with its hash.

    `folder` is where relative files lie (default: the working directory).

    Raises:
        InputError: no such file or module, one that cannot be read, or an object of which no text can be made.
    """
    if isinstance(value, str):
        return _read(value, folder) if is_own(value) else value
    if isinstance(value, Mapping):
        if "code" in value and is_own(value.get("name")):
            return dict(value)
        plain = {key: inner if key in PATHS else named(inner, folder) for key, inner in value.items()}
        name = plain.get("name")
        return {**plain, **name} if isinstance(name, dict) else plain
    if isinstance(value, list | tuple):
        return [named(inner, folder) for inner in value]
    if inspect.isclass(value) or inspect.isfunction(value):
        return _of_definition(value)
    if inspect.isbuiltin(value) and (place := _in_library(value)) is not None:
        return place
    if isinstance(value, partial):
        return named(definitions.bound(value), folder)
    if callable(value) and type(value).__module__ not in ("builtins", "typing"):
        return _of_instance(value)
    if meant := instances.unmakeable(value):
        raise InputError(meant)
    return value


def codes(values: Any) -> dict[str, str]:
    """The own code in plain settings: each SHA-256, with a name under which it stands there."""
    return dict(_found(values))


def called(values: Any, digest: str) -> str:
    """All names under which the text of a SHA-256 stands in plain settings, as `parts.py:focal, root`."""
    names = list(dict.fromkeys(name for one, name in _found(values) if one == digest))
    return ", ".join([*names[:1], *map(short, names[1:])])


def _found(values: Any) -> Iterator[tuple[str, str]]:
    if isinstance(values, Mapping):
        if is_own(values.get("name")) and HASH.fullmatch(str(values.get("code"))):
            yield values["code"], values["name"]
        values = list(values.values())
    if isinstance(values, list | tuple):
        for inner in values:
            yield from _found(inner)


def without_hash(values: Any) -> list[str]:
    """The references to own code in plain settings that stand there without a hash, as no run has written them."""
    if isinstance(values, str):
        return [values] if is_own(values) else []
    if isinstance(values, Mapping):
        hashed = is_own(values.get("name")) and HASH.fullmatch(str(values.get("code")))
        skipped = (*PATHS, "name") if hashed else PATHS
        values = [inner for key, inner in values.items() if key not in skipped]
    return [name for inner in values for name in without_hash(inner)] if isinstance(values, list | tuple) else []


def misnamed(name: str) -> str:
    """What a name that no table has says wrongly of own code; empty where it says nothing of it. Nothing is run."""
    file, dot_py, rest = name.partition(".py")
    if dot_py and not (rest and rest[0].isalnum()):
        where, attribute = f"{file}.py", re.sub(r"^\W+", "", rest)
        try:
            there = _names_in(beside.read(_file(where, Path())))
        except InputError as error:
            return error.text
    elif re.fullmatch(rf"{NAME}(?:\.{NAME})+", name):
        where, _, attribute = name.rpartition(".")
        try:
            if (path := _file_of_module(where, None)) is None:
                return f"did you mean {quoted(f'{where}:{attribute}')}?"
            there = _names_in(beside.read(path))
        except InputError:
            return ""
    else:
        return ""
    if near := get_close_matches(attribute, there, n=1, cutoff=0.5):
        return f"did you mean {quoted(f'{where}:{near[0]}')}?"
    has = f"it has {', '.join(there)}" if there else "it has none at its top"
    return f"a class or function of {where} is named as {where}:{there[0] if there else 'Name'}; {has}"


def _names_in(text: str) -> list[str]:
    """The classes of a text, then its functions, by their names; none of a text that is not Python."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return []
    kinds: tuple[Any, ...] = (ast.ClassDef, ast.FunctionDef)
    return [one.name for kind in kinds for one in body if isinstance(one, kind) and not one.name.startswith("_")]


def said(name: str, digest: str) -> str:
    """The line that says that own code is run."""
    text = _SOURCES.get(digest, "")
    if (library := beside.of_installed(text)) is not None:
        return f"runs {name} as it is installed ({library[2]})"
    more = ", an object as it was given" if instances.is_object(text) else ""
    more += f", with {', '.join(paths)} beside it" if (paths := beside.of(text)) else ""
    return f"runs own code: {name} (SHA-256 {digest[:12]}…){more}"


def readable(value: Any) -> Any:
    """Settings as people read them: of the hash of own code its first 12 digits."""
    if isinstance(value, Mapping):
        cut = {"code": str(value["code"])[:12]} if "code" in value and is_own(value.get("name")) else {}
        return {**{key: readable(inner) for key, inner in value.items()}, **cut}
    return [readable(inner) for inner in value] if isinstance(value, list | tuple) else value


def typed(value: Any) -> Any:
    """Settings as a user types them: own code by its file alone, where it has one, since its hash follows from that."""
    if isinstance(value, Mapping):
        name = value.get("name")
        by_file = is_own(name) and "code" in value and str(name).partition(":")[0] not in (NOTEBOOK, SCRIPT, OBJECT)
        plain = {key: typed(inner) for key, inner in value.items() if not (by_file and key == "code")}
        return name if by_file and len(plain) == 1 else plain
    return [typed(inner) for inner in value] if isinstance(value, list | tuple) else value


def file_of(name: str, digest: str) -> str:
    """What the kept text of own code is called in a run folder."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name.partition(':')[0].removesuffix('.py'))}-{digest[:12]}.py"


def text_of(digest: str) -> str | None:
    """The text with a hash, as far as it was read in this process."""
    return _SOURCES.get(digest)


def without_values(text: str) -> str:
    """A text of own code without the tensors that an object came with, for where others take their place."""
    return instances.bare(text)


def modules_of(text: str) -> dict[str, str]:
    """The hashes of the local modules that go along with a text of own code, by path."""
    return beside.of(text)


def modules_with_text(text: str) -> dict[str, str]:
    """The texts of the local modules that go along with a text of own code, by path.

    Raises:
        InputError: one is not here.
    """
    found = {}
    for path, digest in beside.of(text).items():
        if digest not in _SOURCES:
            raise InputError(
                f"{path}: its text (SHA-256 {digest[:12]}…) is not here; name the file that imports it again"
            )
        found[path] = _SOURCES[digest]
    return found


def _admitted(text: str, at: str, places: Sequence[str], folder: Path | None = None) -> str:
    """Let a text be loaded with the local modules that it imports; the SHA-256 of all is returned."""
    texts = beside.collected(text, at, places, folder)
    return admit(beside.listed(text, at, {path: admit(one) for path, one in texts.items()}))


def admit(text: str) -> str:
    """Let a text be loaded by its SHA-256, which is returned. Whether it may be run is for the caller to know."""
    digest = sha256(text.encode()).hexdigest()
    _SOURCES[digest] = text
    return digest


def load(name: str, digest: str) -> Any:
    """What a name means in the text with a hash. The first call for a text runs it.

    Raises:
        InputError: the text is not here, fails when it is run, or has no such class or function.
    """
    where, _, attribute = name.partition(":")
    if digest not in _SOURCES:
        raise InputError(f"{name}: its text (SHA-256 {digest[:12]}…) is not here; name its file again")
    if (library := beside.of_installed(_SOURCES[digest])) is not None:
        found = beside.imported(*library[:2])
        if not callable(found):
            raise InputError(f"{name} is neither a class nor a function")
        return found
    module = _module(where, digest)
    found = vars(module).get(attribute)
    if found is None:
        there = [key for key, one in vars(module).items()
                 if getattr(one, "__module__", "") == module.__name__ and callable(one)]  # fmt: skip
        if not there:
            raise InputError(f"{where} has no class or function {quoted(attribute)}, nor any other")
        raise unknown("class or function", attribute, there, place=where)
    if not callable(found):
        raise InputError(f"{name} is neither a class nor a function")
    return found


def builder(name: str, digest: str, fit: Fit) -> Callable[..., Any]:
    """A builder as a table has it: what it is given comes first, its settings are keyword-only.

    Raises:
        InputError: as `load`; or an argument that can be no setting.
    """
    found = load(name, digest)
    if instances.is_object(_SOURCES[digest]):
        found = _standing(found, name, fit)
    found = fit.adapted(found)
    try:
        parameters = inspect.signature(found, eval_str=True).parameters
    except Exception as error:
        raise InputError(f"{name}: {told(error)}") from error
    places: dict[str, int] = {}
    settings, constants = [], {}
    positional = [
        key for key, one in parameters.items() if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    for key, one in parameters.items():
        by_name = [at for at, given in enumerate(fit.given) if key in ALIASES.get(given, (given,))]
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        if fit.by_name and by_name:
            places[key] = by_name[0]
        elif not fit.by_name and key in positional[: len(fit.given)]:
            places[key] = positional.index(key)
        elif key in (fit.withheld or {}):
            if one.default is one.empty:
                constants[key] = (fit.withheld or {})[key]
        elif (setting := _setting(name, one)) is not None:
            settings.append(setting)

    @wraps(found, updated=())
    def build(*given: Any, **chosen: Any) -> Any:
        first = [given[places[key]] for key in positional if key in places and parameters[key].kind
                 is inspect.Parameter.POSITIONAL_ONLY]  # fmt: skip
        by_key = {key: given[at] for key, at in places.items() if parameters[key].kind
                  is not inspect.Parameter.POSITIONAL_ONLY}  # fmt: skip
        try:
            made = found(*first, **by_key, **constants, **chosen)
        except (ResiduumError, MemoryError):
            raise
        except Exception as error:
            if type(error).__name__ == "OutOfMemoryError":  # the engine knows what to do
                raise
            raise InputError(f"{name} fails: {told(error)}") from error
        if problem := fit.wrong(made):
            raise InputError(f"{name} {problem}")
        return made

    build.__signature__ = inspect.Signature(settings)  # type: ignore[attr-defined]
    return build


def _standing(make: Callable[[], Any], name: str, fit: Fit) -> Callable[..., Any]:
    """What an object, made by a function, is to a table: a builder of such, or a function of what the table gives."""
    if fit.object == "made":
        return make
    if fit.object == "called":
        made = make()
        given = [inspect.Parameter(key, inspect.Parameter.POSITIONAL_ONLY) for key in fit.given]

        def called(*values: Any) -> Any:
            return made(*values)

        called.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]
        return called
    kind = short(name).removesuffix(instances.SUFFIX)
    raise InputError(
        f"an object of the class {kind} cannot stand here, where one is made of {', '.join(fit.given)}: give the "
        f"class, and its arguments as settings, {{'name': {kind}, …}}"
    )


def call(name: str, digest: str, fit: Fit, given: Sequence[Any], settings: Mapping[str, Any]) -> str:
    """The call, as Python, by which a table has own code make something; the name is that of its class or function.

    Raises:
        InputError: a value that has no text as Python; or as `load`.
    """
    words = []
    found = load(name, digest)
    parameters = {} if inspect.isbuiltin(found) else inspect.signature(found).parameters
    for key, one in parameters.items():
        by_name = [value for known, value in zip(fit.given, given, strict=True) if key in ALIASES.get(known, (known,))]
        if not by_name and key not in settings:
            continue
        value = by_name[0] if by_name else settings[key]
        if not _is_literal(value):
            raise InputError(f"{name}: its argument {quoted(key)} is {quoted(value)}, which has no text as Python")
        words.append(repr(value) if one.kind is one.POSITIONAL_ONLY else "=".join((key, repr(value))))
    return f"{short(name)}({', '.join(words)})"


class Expression(str):
    """Python that stands for a value in a call that is written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _is_literal(value: Any) -> bool:
    if isinstance(value, Expression):
        return True
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


def _setting(name: str, one: inspect.Parameter) -> inspect.Parameter | None:
    """A parameter as a setting; None if it stays at its default, which no file can write."""
    plain = one.default is None or isinstance(one.default, (*PLAIN, list, tuple, Mapping))
    if one.default is not one.empty and not plain:
        return None
    if one.name in ("name", "code"):
        raise InputError(f"{name}: an argument {quoted(one.name)} cannot be a setting; call it otherwise")
    if one.annotation is not one.empty and _is_checkable(one.annotation):
        return one.replace(kind=one.KEYWORD_ONLY)
    if type(one.default) in PLAIN:
        return one.replace(kind=one.KEYWORD_ONLY, annotation=type(one.default))
    if one.default is one.empty and one.annotation is not one.empty:
        raise InputError(f"{name}: its argument {quoted(one.name)} is of a kind that no file can hold, so it cannot be "
                         "a setting; give an object of the class, made with it")  # fmt: skip
    if isinstance(one.default, tuple) and len({type(value) for value in one.default} & {*PLAIN}) == 1:
        (kind,) = {type(value) for value in one.default}
        return one.replace(kind=one.KEYWORD_ONLY, annotation=tuple[kind, ...])  # type: ignore[valid-type]
    if one.default is one.empty:
        raise InputError(f"{name}: its argument {quoted(one.name)} has no type hint, so it cannot be a setting")
    return None


def _is_checkable(hint: Any) -> bool:
    """Whether a value from a file can be checked against a type hint."""
    from pydantic import PydanticUserError, TypeAdapter  # which --help does not wait for

    table = next((True for one in getattr(hint, "__metadata__", ()) if hasattr(one, "resolve")), False)
    try:
        return table or bool(TypeAdapter(hint))
    except PydanticUserError:  # as of torch.Tensor
        return False


def _module(where: str, digest: str) -> ModuleType:
    """The module that a text makes when it is run, once in a process."""
    module = _MODULES.get(digest)
    if module is not None:
        return module
    if digest in _MODULES:
        raise InputError(f"{where} uses itself while it is loaded; put what it does below `if __name__ == '__main__':`")
    text, _MODULES[digest] = _SOURCES[digest], None
    module = ModuleType(f"{MODULE_NAME}{digest[:16]}")
    if not where.endswith(".py"):
        module.__package__ = where.rpartition(".")[0]
    sys.modules[module.__name__] = module  # where dataclasses and type hints look
    before = set(sys.modules)
    try:
        beside.run_with(module, where if where.endswith(".py") else f"{where}.py", text, modules_with_text(text))
        for name, file in beside.strangers(before, MODULE_NAME):
            raise InputError(f"{where} imports {name} from {file}, which lies neither beside it nor is installed; put "
                             "it beside it, or install it")  # fmt: skip
    except ResiduumError:
        del _MODULES[digest]
        raise
    except (Exception, SystemExit) as error:
        del _MODULES[digest]
        hint = ""
        if isinstance(error, ImportError):
            hint = "; what own code imports has to lie beside it, or to be installed"
        raise InputError(f"{where} cannot be loaded: {told(error)}{hint}") from error
    _MODULES[digest] = module
    return module


def told(error: BaseException) -> str:
    """An error in a line, behind the place in own code that it came from: `mine.py:14 in forward: ValueError: …`."""
    place, cause = _place(error) or ("", error)
    text = (str(cause).strip().splitlines() or ["no message"])[0]
    hint = (
        ALONE if isinstance(cause, NameError) and place.startswith((f"{NOTEBOOK}:", f"{SCRIPT}:", f"{OBJECT}:")) else ""
    )
    return f"{place}{': ' * bool(place)}{type(cause).__name__}: {text}{hint}"


def is_from_own(error: BaseException) -> bool:
    """Whether an error came out of own code, or out of what that called."""
    return _place(error) is not None


def charge(error: BaseException, values: Any) -> str:
    """The line for an error in a run with these plain settings that own code may have made; empty where none did.

    It need not have come out of own code itself: what that gives may break what it is given to.
    """
    if is_from_own(error):
        return error.text if isinstance(error, InputError) else told(error)
    names = [*codes(values).values()]
    if not names or isinstance(error, ResiduumError | OSError | MemoryError) or "CUDA error" in str(error):
        return ""
    return f"a run with {' and '.join(names)} fails: {told(error)}"


@contextmanager
def blaming() -> Iterator[None]:
    """Within it, an error that own code lets out becomes an InputError that names file, line, function and error."""
    try:
        yield
    except ResiduumError:
        raise
    except (Exception, SystemExit) as error:
        if is_from_own(error):
            raise InputError(told(error)) from error
        raise


def _place(error: BaseException) -> tuple[str, BaseException] | None:
    """The innermost place of own code on the way of an error, or of what caused it, and which of these it was."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        if isinstance(cause, SyntaxError) and cause.filename:
            return f"{cause.filename}:{cause.lineno}", cause
        frames = [(frame, line) for frame, line in traceback.walk_tb(cause.__traceback__)
                  if str(frame.f_globals.get("__name__")).startswith(MODULE_NAME)]  # fmt: skip
        if frames:
            code, line = frames[-1][0].f_code, frames[-1][1]
            function = "" if code.co_name == "<module>" else f" in {code.co_name}"
            return f"{code.co_filename}:{line}{function}{_words(frames[-1][0].f_globals, line)}", cause
        cause = cause.__cause__ or cause.__context__
    return None


def _words(names: Mapping[str, Any], line: int) -> str:
    """What stands in a line of a text that was put together, whose numbers of lines nobody else has; else nothing."""
    digest = str(names.get("__name__")).removeprefix(MODULE_NAME)
    text = next((one for known, one in _SOURCES.items() if known.startswith(digest)), "")
    if names.get("__file__") not in (NOTEBOOK, SCRIPT, OBJECT) or not text:
        return ""
    return f" ({shortened(text.splitlines()[line - 1].strip(), QUOTED)})"


def _read(reference: str, folder: Path | None) -> dict[str, str]:
    """A reference as a name with its hash; its file is read, not run."""
    where, _, attribute = reference.rpartition(":")
    if FILE.fullmatch(reference):
        path = _file(where, folder or Path())
        return {"name": f"{path.name}:{attribute}", "code": _admitted(beside.read(path), *beside.tree_of(path), folder)}
    module = _file_of_module(where, folder)
    if module is None:
        return {"name": reference, "code": admit(beside.installed(where, attribute))}
    return {"name": reference, "code": _of_module(where, module, folder)}


def _of_module(name: str, path: Path, folder: Path | None = None) -> str:
    """The hash of the text of a module by its dotted name, with those that lie beside it."""
    is_package = path.name == "__init__.py"
    root = path.absolute().parents[name.count(".") + is_package]
    at = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
    return _admitted(beside.read(path), at, [str(root)], folder)


def _file(where: str, folder: Path) -> Path:
    """The file that a path names, from a folder on."""
    path = folder / os.path.expanduser(where)  # noqa: PTH111  (which takes ~nobody as it stands)
    if not os.path.isfile(path):  # noqa: PTH113  (of any text: one that can be no path is none)
        near = sorted(one.name for one in path.parent.glob("*.py")) if path.parent.is_dir() else []
        hint = f"; there {'is' if len(near) == 1 else 'are'} {', '.join(near[:5])}" if near else ""
        raise InputError(f"there is no file {where}{hint}")
    return path


def _file_of_module(name: str, folder: Path | None) -> Path | None:
    """The file of a module by its dotted name, None of one that is installed; no package is imported to find it."""
    spec = beside.spec_of(name, [str((folder or Path()).absolute()), *sys.path])
    if spec is None and name.partition(".")[0] in sys.stdlib_module_names:  # built in
        return None
    if spec is None:
        raise InputError(f"there is no module {quoted(name)} here; own code is file.py:Name or package.module:Name")
    if beside.is_in_library(name, spec.origin or ""):
        return None
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise InputError(f"module {quoted(name)} is not written in Python, so its text cannot be kept")
    return Path(spec.origin)


def _of_definition(found: Any) -> dict[str, str]:
    """A class or function as a name with the hash of the file that it stands in, or of its own text with what it names.

    The file of a script is run when it is loaded, so of that too only the text of what is given is kept, if it can be.
    """
    if (place := _in_library(found)) is not None:
        return place
    name, home = found.__qualname__, getattr(found, "__module__", "")
    for digest, module in _MODULES.items():  # own code itself
        if module is not None and module.__name__ == home:
            return {"name": f"{Path(str(module.__file__)).name}:{name}", "code": digest}
    path = _file_of_definition(found)
    if definitions.is_loose(found):
        try:
            text, places = definitions.kept(found)
        except InputError:
            if path is None or not re.fullmatch(NAME, name):
                raise
        else:
            where = NOTEBOOK if path is None else SCRIPT
            return {"name": f"{where}:{definitions.written_name(found)}", "code": _admitted(text, where, places)}
    if path is None:
        raise InputError(f"the text of {name} cannot be found; {definitions.INSTEAD.format(name)}")
    if "." in home:
        return {"name": f"{home}:{name}", "code": _of_module(home, path)}
    return {"name": f"{path.name}:{name}", "code": _admitted(beside.read(path), *beside.tree_of(path))}


def _in_library(found: Any) -> dict[str, str] | None:
    """A class or function of an installed package, as a name with the hash of a text that imports it; else None."""
    if (place := definitions.imported_from(found)) is None:
        return None
    module, name = place
    packages = [".".join(module.split(".")[:count]) for count in range(1, module.count(".") + 2)]
    module = next(one for one in packages if getattr(sys.modules.get(one), name, None) is found)  # as people import it
    return {"name": f"{module}:{name}", "code": admit(beside.installed(module, name))}


def _file_of_definition(found: Any) -> Path | None:
    try:
        path = Path(inspect.getsourcefile(found) or "")
    except (OSError, TypeError):
        return None
    return path if path.is_file() else None


def _of_instance(found: Any) -> dict[str, str]:
    """An object as the name with the hash of a text that makes it again."""
    name, text, places = instances.kept(found)
    return {"name": f"{OBJECT}:{name}", "code": _admitted(text, OBJECT, places)}


def files(values: Any) -> dict[str, str]:
    """The files, by path, in which the own code of plain settings lies where it is found by its name.

    Raises:
        InputError: its text is not here, or two files would have the same path.
    """
    found: dict[str, str] = {}
    for digest, name in codes(values).items():
        text, where = _SOURCES.get(digest, ""), name.partition(":")[0]
        if beside.of_installed(text) is not None:
            continue
        at = where if where.endswith(".py") else beside.itself(text) or f"{where.replace('.', '/')}.py"
        for path, one in {at: beside.without(text), **modules_with_text(text)}.items():
            if found.setdefault(path, one) != one:
                raise InputError(f"own code of the network has two files {path}, which cannot lie side by side")
    return found


def without_hashes(values: Any) -> Any:
    """Plain settings in which own code stands by its name alone, as people write it."""
    if isinstance(values, Mapping):
        has_hash = is_own(values.get("name")) and "code" in values
        return {key: without_hashes(one) for key, one in values.items() if not (has_hash and key == "code")}
    return [without_hashes(one) for one in values] if isinstance(values, list | tuple) else values


def every(values: Any) -> Iterator[tuple[str, str, str]]:
    """Name, hash and text of the own code in plain settings, as far as its text was read in this process.

    The local modules that it imports go along, each by its path.
    """
    for digest, name in codes(values).items():
        if (text := text_of(digest)) is not None:
            yield name, digest, text
            yield from ((path, one, _SOURCES[one]) for path, one in beside.of(text).items() if one in _SOURCES)

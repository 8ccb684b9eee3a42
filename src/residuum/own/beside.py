"""What own code imports: local modules, whose texts go along with its own, and installed ones, which stay as they are.

    # What it imports from beside it, by path and SHA-256; itself it is mine.py.
    #   blocks.py 9f2c…

Such lines end the text of own code that imports local modules, so its hash holds theirs: a changed line in one of them
is another run. They are found by the text alone, and nothing is run to find them; when the text is run it gets them
from the kept texts, whatever then lies beside it, and each such text has modules of its own.

A class or function of an installed package has a text that imports it, with the package's version.
"""

import ast
import builtins
import linecache
import re
import stat
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module, invalidate_caches, metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from residuum.errors import InputError, quoted, unknown

MOST_BYTES = 2**20
MOST = 200
"""Local modules of one text."""
ALWAYS_INSTALLED = frozenset({*sys.stdlib_module_names, "residuum", "torch", "numpy"}) - {"__main__"}
"""Modules that no local one takes the place of."""
PLACE = re.compile(r"\w+(?:/\w+)*\.py")
_HEAD = "# What it imports from beside it, by path and SHA-256; itself it is "
_LISTED = re.compile(rf"^{re.escape(_HEAD)}(.+)\.\n((?:#   {PLACE.pattern} [0-9a-f]{{64}}\n)+)\Z", re.MULTILINE)
_INSTALLED = re.compile(
    r"\A# (\S+) of ([\w.]+), (.*), as it is installed: its text is not kept\.\nfrom \2 import \1\n\Z"
)


def read(path: Path) -> str:
    """The text of a file of code.

    Raises:
        InputError: it cannot be read, or is none.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe may never end
            raise InputError(f"{path} is not a file")
        if found.st_size > MOST_BYTES:
            raise InputError(f"{path}: more than {MOST_BYTES // 2**20} MiB is no file of code")
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file in UTF-8") from error


def spec_of(name: str, places: Sequence[str]) -> ModuleSpec | None:
    """Where a module lies by its dotted name; no package is imported to find it."""
    spec, within = None, list(places)
    for part in name.split("."):
        spec = PathFinder.find_spec(part, within)
        if spec is None:
            return None
        within = list(spec.submodule_search_locations or [])
    return spec


def is_installed(module: str, file: str) -> bool:
    """Whether a module, by its dotted name and its file, is of Python or of an installed package."""
    root = module.partition(".")[0]
    if root in ALWAYS_INSTALLED or {"site-packages", "dist-packages"} & set(Path(file).parts):
        return True
    return bool(file) and bool(_distribution(root))


def is_in_library(module: str, file: str) -> bool:
    """Whether the file of a module, by its dotted name, lies among those of Python or of installed packages."""
    path = Path(file)
    return (
        module.partition(".")[0] in ("residuum", "torch", "numpy")
        or bool({"site-packages", "dist-packages"} & set(path.parts))
        or path.is_relative_to(sysconfig.get_path("stdlib"))
        or file in ("built-in", "frozen")
    )


def _distribution(root: str) -> str:
    """The name and version of the installed package that a module is of; empty where none is known."""
    if root in sys.stdlib_module_names:
        return f"Python {sys.version_info.major}.{sys.version_info.minor}"
    names = [root]
    try:
        metadata.version(root)
    except (metadata.PackageNotFoundError, ValueError):
        names = metadata.packages_distributions().get(root, [])
    return " ".join(f"{name} {metadata.version(name).partition('+')[0]}" for name in names[:1])


def installed(module: str, name: str) -> str:
    """The text of own code that is a class or function of an installed module."""
    version = _distribution(module.partition(".")[0]) or "of an unknown version"
    return f"# {name} of {module}, {version}, as it is installed: its text is not kept.\nfrom {module} import {name}\n"


def of_installed(text: str) -> tuple[str, str, str] | None:
    """The module, the name in it and the version that a text imports, if it is one of something installed."""
    found = _INSTALLED.match(text)
    return (found[2], found[1], found[3]) if found else None


def imported(module: str, name: str) -> Any:
    """What a name means in an installed module.

    Raises:
        InputError: it is not installed here, or has no such name.
    """
    try:
        found = import_module(module)
    except ImportError as error:
        raise InputError(f"{module} cannot be imported here: {error}") from error
    if not hasattr(found, name):
        there = [key for key, one in vars(found).items() if callable(one) and not key.startswith("_")]
        there = [key for key in there if key.casefold() == name.casefold()] or there
        raise (
            unknown("class or function", name, there, place=module)
            if there
            else InputError(f"{module} has no class or function {quoted(name)}, nor any other")
        )
    return getattr(found, name)


def tree_of(path: Path) -> tuple[str, list[str]]:
    """What a file is called by its path within its package, if it is of one, and where its imports lie."""
    path = path.absolute()
    root = path.parent
    while (root / "__init__.py").is_file() and root.parent != root:
        root = root.parent
    return path.relative_to(root).as_posix(), list(dict.fromkeys([str(path.parent), str(root)]))


def collected(text: str, at: str, places: Sequence[str], folder: Path | None = None) -> dict[str, str]:
    """The texts of the local modules that a text imports, and of those that they import, by path.

    `at` is its own path, `places` are where they are looked for first; then where Python looks, so that what it would
    find there and is not installed goes along, and last in the working directory and the `folder`.

    Raises:
        InputError: one cannot be read, or there are too many.
    """
    invalidate_caches()  # files may have been written a moment ago
    here = {str(Path().absolute()), ""}
    every = [*places, *(one for one in sys.path if one not in here), *([str(folder)] if folder else []), str(Path())]
    ours = dotted(at).partition(".")[0] if "/" in at else ""
    found: dict[str, str] = {}
    seen, waiting = {dotted(at)}, [(at, text)]
    while waiting:
        where, text = waiting.pop()
        for name in _imports(text, _package(where)):
            for known in _prefixes(name):
                if known in seen:
                    continue
                spec = spec_of(known, every)
                file = (spec.origin or "") if spec is not None else ""
                if spec is None or (
                    known.partition(".")[0] != ours and is_installed(known, file or next(iter(_parts_of(spec)), ""))
                ):
                    break
                seen.add(known)
                if not file.endswith(".py"):  # a folder without a text of its own, or compiled
                    continue
                end = "/__init__.py" if Path(file).name == "__init__.py" else ".py"
                path = known.replace(".", "/") + end
                found[path] = read(Path(file))
                waiting.append((path, found[path]))
                if len(found) > MOST:
                    raise InputError(f"{at} imports more than {MOST} modules that lie beside it; install them")
    return dict(sorted(found.items()))


def _parts_of(spec: ModuleSpec) -> list[str]:
    return [str(one) for one in spec.submodule_search_locations or []]


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _imports(text: str, package: str) -> Iterator[str]:
    """The dotted names of all that a text may import; the last part may be a name within a module."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError):  # which is told when it is run
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        if isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", package, node.level)
            yield from ([base] if base else [])
            yield from (f"{base}.{one.name}".lstrip(".") for one in node.names if one.name != "*")


def _absolute(name: str, package: str, level: int) -> str:
    """The dotted name that a relative import means; beside a file of no package its neighbours are meant."""
    if not level:
        return name
    parts = package.split(".") if package else []
    return ".".join([*parts[: max(0, len(parts) - level + 1)], *([name] if name else [])])


def dotted(path: str) -> str:
    """What a module is imported as, by its path."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _package(path: str) -> str:
    """The package that the relative imports of a module begin from."""
    name = dotted(path)
    return name if path.endswith("/__init__.py") else name.rpartition(".")[0]


def listed(text: str, at: str, hashes: Mapping[str, str]) -> str:
    """A text that says which local modules go along with it."""
    text = without(text)
    if not hashes:
        return text
    lines = "".join(f"#   {path} {digest}\n" for path, digest in hashes.items())
    return f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{_HEAD}{at}.\n{lines}"


def without(text: str) -> str:
    """A text without what it says of local modules."""
    return _LISTED.sub("", text)


def of(text: str) -> dict[str, str]:
    """The hashes of the local modules that go along with a text, by path."""
    found = _LISTED.search(text)
    return dict(line[4:].split(" ") for line in found[2].splitlines()) if found else {}


def itself(text: str) -> str:
    """The path of a text among its local modules; empty where it has none."""
    found = _LISTED.search(text)
    return found[1] if found else ""


def is_imported(at: str, texts: Mapping[str, str]) -> bool:
    """Whether local modules, by path and text, import the module of that path, or it stands in a package of theirs."""
    return "/" in at or any(
        dotted(at) in _prefixes(name) for path, text in texts.items() for name in _imports(text, _package(path))
    )


def run_with(main: ModuleType, file: str, text: str, texts: Mapping[str, str]) -> None:
    """Run a text as a module that can import these texts by path, as they can each other; nothing else sees them.

    Of a package of theirs that it stands in, what belongs to that is run before it, as Python does.
    """
    if not texts:
        run(main, file, text)
        return
    at = itself(text)
    paths = {dotted(path): path for path in texts}
    folders = {prefix for name in paths for prefix in _prefixes(name)}
    roots = {name.partition(".")[0] for name in paths} | ({dotted(at).partition(".")[0]} if "/" in at else set())
    made = dict[str, ModuleType]()
    places = {main.__name__: at}

    def module_of(name: str) -> ModuleType:
        parent, _, last = name.rpartition(".")
        if parent and name not in made and parent in folders:
            module_of(parent)
        if name in made:
            return made[name]
        if name == dotted(at):
            made[name] = main
            run(main, file, text)
            if parent in made:
                setattr(made[parent], last, main)
            return main
        if name not in folders:
            raise ModuleNotFoundError(f"No module named {quoted(name)}", name=name)
        path = paths.get(name, "")
        made[name] = module = ModuleType(f"{main.__name__}.{name}")
        places[module.__name__] = path or f"{name.replace('.', '/')}/__init__.py"
        sys.modules[module.__name__] = module  # where dataclasses and type hints look
        if places[module.__name__].endswith("/__init__.py"):
            module.__path__ = []
        vars(module)["__builtins__"] = vars(main)["__builtins__"]
        try:
            run(module, path, texts.get(path, ""))
        except BaseException:
            del made[name], sys.modules[module.__name__]
            raise
        if parent in made:
            setattr(made[parent], last, module)
        return module

    def import_(
        name: str, names: Any = None, local: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        importer = str((names or {}).get("__name__"))
        full = _absolute(name, _package(places.get(importer, at)), level)
        is_main = full == dotted(at) and importer != main.__name__
        if full.partition(".")[0] not in roots and not is_main and not (level and not full):
            return builtins.__import__(name, names, local, fromlist or (), level)
        module = module_of(full) if full else ModuleType("")
        if not fromlist:
            return module_of(full.partition(".")[0])
        for one in [*fromlist, *(getattr(module, "__all__", ()) if "*" in fromlist else ())]:
            inner = f"{full}.{one}".lstrip(".")
            if one != "*" and not hasattr(module, one) and inner in {*folders, dotted(at)}:
                setattr(module, one, module_of(inner))
        return module

    vars(main)["__builtins__"] = {**vars(builtins), "__import__": import_}
    module_of(dotted(at))


def run(module: ModuleType, file: str, text: str) -> None:
    """Run a text as a module; an error in it finds its lines."""
    module.__file__ = file
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), vars(module))


def strangers(before: set[str], apart: str) -> list[tuple[str, str]]:
    """The modules, with their files, that were imported since and are neither installed nor called `apart`…"""
    found = []
    for name in set(sys.modules) - before:
        file = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(file, str) and Path(file).is_absolute() and not name.startswith(apart) \
                and not is_installed(name, file):  # fmt: skip
            found.append((name, file))
    return sorted(found)

"""Packages whose every file is a member of a table: a new member is one file."""

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from typing import Any


def gathered(package: str, attribute: str, besides: Sequence[str] = ()) -> dict[str, Any]:
    """What the files of a package have under one name, by the names of the files, in their order.

    Files without it are helpers of the others; those in `besides` are not even imported.
    """
    names = sorted({one.name for one in pkgutil.iter_modules(import_module(package).__path__)}.difference(besides))
    modules = {name: import_module(f"{package}.{name}") for name in names}
    return {name: getattr(module, attribute) for name, module in modules.items() if hasattr(module, attribute)}

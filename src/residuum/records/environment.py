"""The environment of a run: versions, machine and time, as plain values. Needs no torch."""

import os
import platform
import sys
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

PACKAGES = ("residuum", "torch", "numpy", "pydantic", "safetensors", "pillow")


class Machine(TypedDict):
    """Where and when a process runs."""

    time: str
    python: str
    packages: dict[str, str]
    platform: str
    processor: str
    cores: int | None


def environment() -> Machine:
    """Versions of Python and the packages that matter, the machine, and the time (UTC)."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in PACKAGES} | {"residuum": own_version()},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


@cache
def own_version() -> str:
    """The version of this package with 8 digits of the hash of its files: other code is another version."""
    package = Path(__file__).parents[1]
    found = sha256()
    for path in sorted(path for path in package.rglob("*") if path.suffix in (".py", ".toml", ".j2")):
        found.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes())
    return f"{_version('residuum')}+{found.hexdigest()[:8]}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    # The name alone may be that of a whole line of processors.
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = values.get("model name", platform.machine())
    return f"{name} (family {values.get('cpu family')}, model {values.get('model')})"

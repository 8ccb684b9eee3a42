"""What residuum depends on, with the licences that the installed packages say: a table, made without a network.

python tests/packaging/licences.py
"""

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = [*PROJECT["dependencies"], *(one for extra, several in PROJECT["optional-dependencies"].items()
                                    if extra != "dev" for one in several)]  # fmt: skip
"""What residuum asks for, with all extras; `dev` is for those who work on it."""
ALLOWED = re.compile(r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|Python-2\.0|ISC|HPND|MIT-CMU|MPL|Mozilla|Zlib|CC0|Unlicense|"
                     r"Public Domain|0BSD|BlueOak|OFL)", re.IGNORECASE)  # fmt: skip
"""Licences that let anybody use and hand on a package beside code under Apache-2.0."""
BARRED = re.compile(r"\b(AGPL|Affero|SSPL|Proprietary|Commercial|non-?commercial)", re.IGNORECASE)
KNOWN = {"triton": "MIT"}
"""What packages without a word in their metadata are under, as they say elsewhere."""
OF_CUDA = re.compile(r"(nvidia|cuda)-.+")
"""NVIDIA's libraries, under its own licence, which torch brings where it is installed for its cards."""


def needed() -> dict[str, Distribution]:
    """The installed packages that residuum needs, and those that these need, by name."""
    found: dict[str, Distribution] = {}
    waiting = [(one.name, tuple(sorted(one.extras))) for one in map(Requirement, OURS)]
    seen = set[tuple[str, tuple[str, ...]]]()
    while waiting:
        name, wanted = one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            package = distribution(name)
        except PackageNotFoundError:  # of another system or an extra that is not here
            continue
        called = re.sub(r"[-_.]+", "-", name).lower()
        if OF_CUDA.fullmatch(called):
            continue
        found[called] = package
        for text in package.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in ("", *wanted)
            ):
                waiting.append((requirement.name, tuple(sorted(requirement.extras))))
    return {name: found[name] for name in sorted(found)}


def licence(package: Distribution) -> str:
    """The licence of a package in a few words; empty where its metadata say none."""
    about = package.metadata
    classified = [
        one.rpartition(" :: ")[2] for one in about.get_all("Classifier") or () if one.startswith("License ::")
    ]
    named = about.get("License-Expression") or ", ".join(one for one in classified if one != "OSI Approved")
    text = named or (about.get("License") or "").strip().partition("\n")[0]
    return text[:80] or KNOWN.get(about["Name"].lower(), "")


if __name__ == "__main__":
    print("| package | version | licence |\n|---|---|---|")
    for name, package in needed().items():
        print(f"| {name} | {package.version} | {licence(package)} |")

"""Every command on a disk that is full, cannot be read or written, or has something else where a file should be.

    python tests/cli/disk_faults.py --count 200 --seed 0

Root is bound by none of the usual permissions. So a disk is full by a limit on the size of files, and what cannot be
read or written is so by `open` and its kin, which refuse it; files lie where folders should, and folders where files
should. Each case is a fork of one process that has imported what is slow.
"""

import argparse
import builtins
import errno
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from trial import ended, forked, told, warm

sys.dont_write_bytecode = True  # Python itself leaves half a module on a full disk
RUN, OTHER = "resnet20-digits-seed0", "plain20-digits-seed0"
STUDY = ["--scale", "0.03", "--seeds", "1", "--arms", "resnet20,plain20"]
FIRST = {
    "train": ["train", "quick", "--epochs", "1", "--set", "monitor.histograms=true", "--set", "monitor.noise=true"],
    "train another": ["train", "quick", "--epochs", "1", "--model", "plain20"],
    "study run": ["study", "run", "quickstart", *STUDY, "--on", "here"],
    "export": ["export", RUN, "--format", "safetensors"],
}
"""What makes the folder in which the others are called."""
COMMANDS = {
    "train": ["train", "quick", "--epochs", "1", "--seed", "1"],
    "resume": ["resume", RUN],
    "evaluate": ["evaluate", RUN],
    "evaluate on": ["evaluate", RUN, "--without", "left.txt"],
    "predict": ["predict", RUN, "digit.png", "--explain"],
    "draw": ["draw", RUN, OTHER, "--out", "drawn/curves.png"],
    "draw noise": ["draw", RUN, "--of", "noise"],
    "classes": ["classes", RUN, OTHER],
    "explain": ["explain", RUN, "--images", "1"],
    "layers": ["layers", RUN],
    "surface": ["surface", RUN, "--points", "3", "--images", "50"],
    "export": ["export", RUN, "--format", "safetensors"],
    "export onnx": ["export", RUN, "--format", "onnx"],
    "export python": ["export", RUN, "--format", "python"],
    "export huggingface": ["export", RUN, "--format", "huggingface"],
    "import-weights": ["import-weights", "weights.safetensors", "--model", "resnet20", "--normalize", "0.3", "0.4",
                       "--data", "digits"],
    "export-to": ["export-to", "tensorboard", RUN],
    "list": ["list", "runs"],
    "show model": ["show", "model", "resnet20", "--draw"],
    "show run": ["show", "run", RUN],
    "show activations": ["show", "activations"],
    "show augmentations": ["show", "augmentations"],
    "data check": ["data", "check", "digits"],
    "study show": ["study", "show", "quickstart"],
    "study plan": ["study", "plan", "quickstart", *STUDY],
    "study run": ["study", "run", "quickstart", *STUDY, "--seeds", "2", "--on", "here"],
    "study report": ["study", "report", "quickstart"],
    "study handin": ["study", "handin", "quickstart", "--title", "T", "--author", "A", "--out", "h.md"],
    "study handin pdf": ["study", "handin", "quickstart", "--title", "T", "--author", "A", "--out", "h.pdf"],
    "study notebook": ["study", "handin", "quickstart", "--title", "T", "--author", "A", "--out", "h.md", "--notebook"],
    "study watch": ["study", "watch", "quickstart", "--once"],
}  # fmt: skip
SIZES = (0, 1, 100, 1_000, 4_096, 20_000, 100_000, 400_000)


def faults(chance: random.Random, base: Path) -> dict[str, Any]:
    """A fault: what it is, and where or how large."""
    kind = chance.choice(["full", "full", "full", "unreadable", "other kind", "no temporary folder", "runs is a file",
                          "cache is a file"])  # fmt: skip
    if kind == "full":
        return {"kind": kind, "size": chance.choice(SIZES)}
    if kind in ("unreadable", "other kind"):
        paths = sorted(str(path.relative_to(base)) for path in [base / "runs", *(base / "runs").rglob("*")])
        return {"kind": kind, "path": chance.choice([*paths, *(path for path in paths if path.count("/") < 2)])}
    return {"kind": kind}


def put(fault: dict[str, Any]) -> None:
    """Have the fault here, in the folder and in the process."""
    kind = fault["kind"]
    if kind == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["size"], resource.RLIM_INFINITY))
    elif kind == "no temporary folder":
        tempfile.tempdir = None
        tempfile._candidate_tempdir_list = lambda: []  # type: ignore[attr-defined]
    elif kind == "unreadable":
        _refuse(Path(fault["path"]).absolute())
    elif kind == "other kind":
        _swap(Path(fault["path"]))
    elif kind == "runs is a file":
        _swap(Path("runs"))
    else:
        os.environ["RESIDUUM_CACHE"] = str(Path("digit.png").absolute())


def _swap(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir()


def _refuse(refused: Path) -> None:
    def guarded(function: Any) -> Any:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if isinstance(path, str | os.PathLike):
                found = Path.cwd() / path
                if found == refused or (refused.is_dir() and found.parent == refused):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return function(path, *arguments, **options)

        return call

    for module, name in ((io, "open"), (builtins, "open"), (os, "open"), (os, "scandir"), (os, "listdir"),
                         (os, "mkdir")):  # fmt: skip
        setattr(module, name, guarded(getattr(module, name)))


def called(words: list[str], fault: dict[str, Any], place: Path) -> tuple[int, str]:
    """Call a command with a fault in a fork; its exit code, and its standard error."""
    reading, writing = os.pipe()  # which no limit on the size of files bounds

    def faulty() -> None:
        os.chdir(place)
        put(fault)

    process = forked(words, writing, before=faulty)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read().decode(errors="replace")
    return ended(process), said


def wrong(code: int, said: str, fault: dict[str, Any], place: Path) -> str:
    """What is wrong with how a command ended; empty where nothing is."""
    lines = [line for line in said.splitlines() if line.startswith("residuum: ")]
    if "Traceback" in said or code not in (0, 1, 2, 74):
        return f"exit code {code}: {said.strip().splitlines()[-1] if said.strip() else 'nothing said'}"
    if code in (2, 74) and len(lines) != 1:
        return f"exit code {code} and {len(lines)} lines: {lines}"
    if code == 2 and fault["kind"] == "full":
        return f"a full disk is no mistake of the user: {lines[0]}"
    if code in (2, 74) and not any(mark in lines[0] for mark in ("/", ".", "runs", "temporary")):
        return f"no file is named: {lines[0]}"
    if code == 74 and "cannot" not in lines[0] and fault["kind"] == "full":
        return f"it does not say what could not be done: {lines[0]}"
    return _half_written(place)


def _half_written(place: Path) -> str:
    for path in place.rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.name.endswith(".tmp"):
            return f"{path.name} is left"
        if path.suffix == ".png" and not content.endswith(b"IEND\xaeB`\x82") and content:
            return f"{path.name} is half a picture"
        if path.suffix == ".svg" and content and not content.rstrip().endswith(b"</svg>"):
            return f"{path.name} is half a picture"
        if path.suffix in (".json", ".ipynb") and content:
            try:
                json.loads(content)
            except ValueError:
                return f"{path.name} is half a file"
    return ""


def made(here: Path) -> None:
    """Make the folder in which commands are called."""
    import numpy as np
    from PIL import Image

    here.mkdir(parents=True)
    Image.fromarray((np.arange(64, dtype=np.uint8) * 4).reshape(8, 8)).save(here / "digit.png")
    (here / "left.txt").write_text("1\n2\n")
    for name, words in FIRST.items():
        code, said = called(words, {"kind": "full", "size": resource.RLIM_INFINITY}, here)
        assert code == 0, (name, said)
    (exported,) = here.glob("runs/**/export/*.safetensors")
    exported.rename(here / "weights.safetensors")


def tried(count: int, seed: int, names: list[str] | None = None) -> list[str]:
    """Try so many cases; what went wrong, one line each. Every command comes as often as the others."""
    return warm(__file__, count, seed, *(names or []))


def _tried(count: int, seed: int, names: list[str]) -> Iterator[str]:

    import residuum.api
    import residuum.report.study_page  # noqa: F401

    place = Path(tempfile.mkdtemp(prefix="residuum-faults-"))
    os.environ["RESIDUUM_CACHE"] = str(place / "cache")
    chance = random.Random(seed)
    try:
        made(place / "made")
        todo: list[str] = []
        for number in range(count):
            todo = todo or chance.sample(names or [*COMMANDS], len(names or COMMANDS))
            name, fault = todo.pop(), faults(chance, place / "made")
            here = place / str(number)
            shutil.copytree(place / "made", here)
            code, said = called(COMMANDS[name], fault, here)
            if problem := wrong(code, said, fault, here):
                yield f"{name}, {fault}: {problem}"
            shutil.rmtree(here)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    told(options.count, _tried(options.count, options.seed, options.names))

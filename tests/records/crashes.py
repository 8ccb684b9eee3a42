"""Crash before and after every system call by which a run is written, and see what each crash leaves.

    python tests/records/crashes.py --count 400

A process that is killed leaves what its calls have done; one whose machine loses power may besides lose every byte and
every name that was not forced to the disk. Both are read off between each two calls, and in the middle of each write,
while a run is written once: first saves, overwriting, retention, the best weights, a run that goes on, one begun anew.
Then each different state is put into a folder of its own: the newest saved state in it has to be whole, with all that
it needs, never one from before that was there already, and the run goes on from it to the bits of one never stopped.
"""

import argparse
import io
import os
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from residuum import training
from residuum.config import RunConfig
from residuum.engine import state
from residuum.errors import ResiduumError
from residuum.records import run_folder
from residuum.records.event import EpochDone, Started
from residuum.records.run_folder import Position
from torture import contents

SETTINGS = {
    "data.dataset": {"name": "synthetic", "size": 8, "train": 48, "test": 12, "classes": 3}, "data.validation": 16,
    "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 4]}, "optim.ema": 0.5, "optim.lr": 0.05,
    "save.keep": 2, "save.steps": 1, "train.epochs": 3, "train.batch_size": 16, "compute.device": "cpu",
    "compute.threads": 1, "monitor.histograms": True,
}  # fmt: skip
Tree = dict[str, bytes | None]
"""What lies in a folder: the bytes of each file by its path, None for a folder."""
WRITING = ("open", "write", "truncate", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir")
"""The calls that change what lies on a disk, or force it there."""


@dataclass
class Watched:
    """A folder whose changes are seen call by call, with what of it a loss of power would take."""

    root: Path
    calls: list[str] = field(default_factory=list)
    states: list[tuple[str, Tree]] = field(default_factory=list)
    synced: dict[str, int] = field(default_factory=dict)
    """Files with bytes that were not forced to the disk, and how many of theirs were."""
    names: list[tuple[str, str, Tree]] = field(default_factory=list)
    """Renames whose folder was not forced to the disk: from, to, and what lay there before."""

    def name(self, path: Any) -> str | None:
        """The path below the folder that is watched, None of anything else."""
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        try:
            return str(Path(path).absolute().relative_to(self.root))
        except ValueError:
            return None

    def called(self, kind: str, name: str) -> None:
        """A call is about to be made, or half a write was: keep what lies there."""
        self.calls.append(kind)
        now = tree(self.root)
        place = f"{kind} {name}, call {len(self.calls)}"
        self.states += [(f"before {place}", now), (f"without power before {place}", self.without_power(now))]

    def without_power(self, now: Tree) -> Tree:
        """What of a tree is left where nothing reached the disk that was not forced to."""
        kept = {name: content[: self.synced.get(name)] if content is not None else None
                for name, content in now.items()}  # fmt: skip
        for source, target, before in reversed(self.names):
            if any(_is_in(name, target) for name in kept):
                moved = {source + name[len(target) :]: kept.pop(name) for name in [*kept] if _is_in(name, target)}
                kept |= moved | before
        return kept

    def moved(self, source: str, target: str) -> Callable[[], None]:
        """Note a rename that is about to be made; what is returned, that it was."""
        before = {name: content for name, content in tree(self.root).items() if _is_in(name, target)}

        def made() -> None:
            for name in [name for name in self.synced if _is_in(name, source)]:
                self.synced[target + name[len(source) :]] = self.synced.pop(name)
            self.names.append((source, target, before))

        return made

    def forced(self, name: str) -> None:
        """A file, or the names in a folder, were forced to the disk."""
        self.synced.pop(name, None)
        self.names = [entry for entry in self.names if str(Path(entry[1]).parent) != name]


def _is_in(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}/")


def tree(root: Path) -> Tree:
    """What lies in a folder."""
    found: Tree = {}
    for folder, _, files in os.walk(root):
        inner = os.path.relpath(folder, root)
        if inner != ".":
            found[inner] = None
        for name in files:
            with open(Path(folder) / name, "rb") as file:  # noqa: PTH123 - `Path.open` is watched
                found[os.path.normpath(f"{inner}/{name}")] = file.read()
    return found


@contextmanager
def watching(root: Path) -> Iterator[Watched]:
    """See every call that writes below a folder."""
    seen = Watched(root.absolute())
    real = {name: getattr(os, name) for name in WRITING if hasattr(os, name)}
    real_open = io.open

    class Raw(io.FileIO):
        """A file whose writes are seen, each in two halves."""

        def write(self, content: Any) -> int:
            name, bytes_ = seen.name(self.fileno()), bytes(content)
            assert name is not None
            seen.called("write", name)
            seen.synced.setdefault(name, os.fstat(self.fileno()).st_size)
            super().write(bytes_[: len(bytes_) // 2])
            seen.called("half a write", name)
            return len(bytes_) // 2 + super().write(bytes_[len(bytes_) // 2 :])

        def truncate(self, size: int | None = None) -> int:
            seen.called("truncate", str(seen.name(self.fileno())))
            return super().truncate(size)

    def opened(path: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        name = seen.name(path)
        if name is None or not set(mode) & set("wax+"):
            return real_open(path, mode, buffering, *rest, **options)
        assert "b" in mode, "what is written of a run is bytes"
        seen.called("open", name)
        raw = Raw(path, mode.replace("b", ""))
        if "w" in mode:
            seen.synced[name] = 0
        if buffering == 0:
            return raw
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

    def guarded(kind: str) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            within = options.get("dir_fd")
            name = seen.name(path if within is None else Path(f"/proc/self/fd/{within}").readlink() / path)
            if name is None or (kind == "open" and not arguments[0] & (os.O_WRONLY | os.O_RDWR)):
                return real[kind](path, *arguments, **options)
            seen.called(kind, name)
            noted = seen.moved(name, str(seen.name(arguments[0]))) if kind in ("rename", "replace") else None
            found = real[kind](path, *arguments, **options)
            if noted:
                noted()
            if kind == "fsync":
                seen.forced(name)
            return found

        return call

    try:
        io.open = opened  # type: ignore[assignment]
        for kind in real:
            setattr(os, kind, guarded(kind))
        yield seen
        seen.called("the end", "")
    finally:
        io.open = real_open  # type: ignore[assignment]
        for kind, function in real.items():
            setattr(os, kind, function)


def put(left: Tree, root: Path) -> None:
    """Lay what was left into an empty folder."""
    for name, content in sorted(left.items()):
        if content is None:
            (root / name).mkdir(parents=True, exist_ok=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)


def different(states: list[tuple[str, Tree]]) -> list[tuple[str, Tree]]:
    """The states that differ, less the lock, which says when it was taken, in their order."""
    found: dict[Any, tuple[str, Tree]] = {}
    for place, left in states:
        plain = {re.sub(r"\.[0-9a-f]{8}\.tmp", ".tmp", name): content
                 for name, content in left.items() if not name.endswith("lock")}  # fmt: skip
        found.setdefault(frozenset(plain.items()), (place, left))
    return [*found.values()]


def watched(scene: str) -> list[tuple[str, Tree]]:
    """The different states that crashes leave in a scene; of a run begun anew up to its first saved state."""
    before, write = SCENES[scene]
    with tempfile.TemporaryDirectory() as place:
        before(Path(place))
        with watching(Path(place)) as seen:
            write(Path(place))
    lacking = {*WRITING, "half a write"} - {*seen.calls, "truncate"}
    assert not lacking, f"no call of {lacking} was seen"
    states = different(seen.states)
    if write is begun_anew:  # from there on it is as any other
        at = next(at for at, (_, left) in enumerate(states)
                  if any(name.startswith("old/") for name in left)
                  and any(re.match(r"[^/]*/checkpoints/epoch", name) for name in left))  # fmt: skip
        states = states[: at + 1]
    return states


def a_run(root: Path) -> None:
    """The run, from its first file or from what is there to its last."""
    for _ in training.run(RunConfig().changed(SETTINGS), root):
        pass


def stopped(root: Path) -> None:
    """A run that a crash left after its second epoch: rows beyond its state, half a state, and a damaged newest one."""
    events = training.run(RunConfig().changed(SETTINGS), root)
    folder = next(event.folder for event in events if isinstance(event, Started))
    next(event for event in events if isinstance(event, EpochDone) and event.epoch == 2)
    next(events)
    left = tree(root)
    events.close()
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    put(left, root)
    _, newest = run_folder.checkpoints(folder)[-1]
    stump = newest.with_name(f".{newest.name}.01234567.tmp")
    stump.mkdir()
    (stump / "weights.safetensors").write_bytes(b"half")
    file = next(path for path in newest.iterdir() if path.suffix == ".safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")


def begun_anew(root: Path) -> None:
    """The same run, set aside and computed again."""
    for _ in training.run(RunConfig().changed(SETTINGS), root, fresh=True):
        pass


SCENES: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "a run": (lambda root: None, a_run),
    "a run that goes on": (stopped, a_run),
    "a run begun anew": (a_run, begun_anew),
}
"""What lies there before, and what is written while it is watched."""


def newest(root: Path) -> Position | None:
    """The place of the newest saved state of the run in a folder.

    Raises:
        ResiduumError: it is damaged, or lacks the best weights, which belong to it.
    """
    for folder in root.glob("*/checkpoints"):
        for found in run_folder.saved(folder.parent):
            if isinstance(found, ResiduumError):
                raise found
            best = state.progress(found.values).best
            if best and Position(best, 0) != found.position:
                run_folder.read_checkpoint(folder.parent, Position(best, 0))
            return found.position
    return None


def tried(count: int, seed: int = 0) -> list[str]:
    """Go on from so many of the states that crashes leave, of all scenes; what was lost, or ended otherwise."""
    rng, failures = random.Random(seed), []
    with tempfile.TemporaryDirectory() as place:
        a_run(Path(place))
        whole = contents(Path(place))
    result: Any = whole["result.json"]
    assert result["selected"]["epoch"] < result["last"]["epoch"], "the best weights must outlive later ones"
    every = [(scene, what, left) for scene in SCENES for what, left in watched(scene)]
    chosen = sorted(rng.sample(range(len(every)), min(count, len(every))))
    reached: dict[tuple[str, bool], Position] = {}
    for scene, what, left in (every[at] for at in chosen):
        with tempfile.TemporaryDirectory() as place:
            put(left, Path(place))
            wrong = _wrong(Path(place), (scene, what.startswith("without")), reached, whole)
        if wrong:
            failures.append(f"{scene}, {what}: {wrong}")
    return failures


def _wrong(
    root: Path, kind: tuple[str, bool], reached: dict[tuple[str, bool], Position], whole: dict[str, object]
) -> str:
    """What is wrong with what a crash left, and with where the run that goes on from it ends; empty where nothing is."""
    is_anew, goes_on = (kind[0] == name for name in ("a run begun anew", "a run that goes on"))
    try:
        found = newest(root)
    except ResiduumError as error:
        if not goes_on:
            return str(error)
        found = None  # the newest one was damaged before
    if is_anew and not any(root.glob("*/result.json")) and not any(root.glob("old/*/result.json")):
        return "the earlier record is gone"
    if not is_anew and found is not None:
        if found < reached.get(kind, found):
            return f"{reached[kind].name} is gone, {found.name} is the newest"
        reached[kind] = found
    elif kind in reached and not is_anew:
        return f"{reached[kind].name} is gone"
    try:
        a_run(root)
        after = contents(root)
    except Exception as error:
        return f"it does not go on: {type(error).__name__}: {error}"
    return ", ".join(name for name in sorted({*whole, *after}) if whole.get(name) != after.get(name))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10**9, help="states to go on from (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wrong = tried(options.count, options.seed)
    print("\n".join(wrong) or "every crash left a run that goes on to the same bits")
    sys.exit(bool(wrong))

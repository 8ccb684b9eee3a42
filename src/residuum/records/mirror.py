"""The mirror of run folders in a store: what lies there is at every moment a run that can be read or gone on with.

A store is a place that fsspec reaches by a URL, as s3://bucket/runs. A folder lies there as it lies here, under its own
name. Each file appears at once; rows come before the checkpoint that covers them, a checkpoint's manifest after its
other files, the result last; a checkpoint goes by its manifest first. Who reads takes the list of what is there first,
and then the files, so that rows are never older than the checkpoints that were seen. A folder that was brought here
remembers how each file was, here and there (`.mirror.json`).

While a run is computed it has a lease there (`.leases/NAME.json`), renewed as it goes; another node is turned away
until that has run out.
"""

import json
import os
import posixpath
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from hashlib import sha256
from itertools import groupby, takewhile
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple, TypeVar

from residuum.errors import BusyError, InputError, StorageError, quoted
from residuum.records import run_folder, storage
from residuum.records.regular import contents
from residuum.records.run_folder import CONFIG, RESULT, Position

KNOWN, GOING, LEASES, CHECKPOINTS = ".mirror.json", ".going.json", ".leases", "checkpoints"
FOLDERS_OF_FOLDERS = ("studies",)
"""Folders beside those of runs that hold folders themselves: each of these is mirrored by itself."""
SEARCH_JOURNAL = "search.jsonl"
"""The journal of a search, whose lines build on those before: two that were written apart are never made one."""
AT_ONCE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "oss", "oci", "tos", "memory"})
"""Stores in which a file that is put appears whole or not at all; elsewhere it is put beside its place and renamed."""
LARGEST, MOST = 2**33, 100_000
"""Bytes of a file, and files of a folder, beyond which nothing is brought from a store."""
PAUSES = (1.0, 4.0)
"""Seconds before something that failed is tried again, the second and the third time."""
PATIENCE = 10.0
"""Seconds after which nothing is tried again: backends try for themselves, too."""
LEASE, RENEWED = 300.0, 60.0
"""Seconds without renewal after which a lease has run out, and after which it is renewed."""
wait: Callable[[float], None] = time.sleep
T = TypeVar("T")


class Remote(NamedTuple):
    """A file in a store: its size, a token that is another when it was replaced, and when that was (0: unknown)."""

    size: int
    token: str
    time: float


class Both(NamedTuple):
    """A file as it was when it was last the same here and there: its token there, size and time here."""

    token: str
    size: int
    time: int


Listed = Mapping[str, Remote]
"""The files of a folder in a store, by their paths in it."""


@dataclass(frozen=True)
class Store:
    """A place for mirrors of run folders: the URL as it was given, the file system behind it, and the path in that."""

    url: str
    fs: Any
    root: str

    def path(self, *parts: str) -> str:
        """The path of something in the store."""
        return posixpath.join(self.root, *parts)

    def reached(self, action: Callable[[], T], passed: tuple[type[Exception], ...] = ()) -> T:
        """What an action on the store gives, which is tried three times; errors that are `passed` come as they are.

        Raises:
            StorageError: the store cannot be reached, or refuses.
        """
        began = time.monotonic()
        for pause in (*PAUSES, None):
            try:
                return action()
            except Exception as error:  # each backend has its own kinds
                if isinstance(error, passed):
                    raise
                hopeless = isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError)
                if pause is None or hopeless or time.monotonic() - began > PATIENCE:
                    line = (str(error) or type(error).__name__).splitlines()[0]
                    raise StorageError(f"the store {self.url} cannot be used: {line[:200]}") from error
                wait(pause)
        raise AssertionError("the last try returns or raises")

    def read(self, *parts: str) -> bytes:
        """The content of a file in the store.

        Raises:
            FileNotFoundError: there is none.
            StorageError: as `reached`.
        """
        content: bytes = self.reached(lambda: self.fs.cat_file(self.path(*parts)), (FileNotFoundError,))
        return content

    def put(self, content: bytes | Path, *parts: str) -> None:
        """Put bytes, or a file, in a place of the store at once.

        Raises:
            FileNotFoundError: the file is not here.
            StorageError: as `reached`.
        """
        target = self.path(*parts)
        above, name = posixpath.split(target)
        at_once = bool(self._protocols() & AT_ONCE)
        place = target if at_once else posixpath.join(above, f".{name}.{token_hex(4)}.tmp")

        def put() -> None:
            if not at_once:
                self.fs.makedirs(above, exist_ok=True)
            if isinstance(content, Path):
                self.fs.put_file(str(content), place)
            else:
                self.fs.pipe_file(place, content)
            if not at_once:
                self.fs.mv(place, target)

        try:
            self.reached(put)
        except StorageError:
            if isinstance(content, Path) and not content.exists():
                raise FileNotFoundError(content) from None
            raise

    def create(self, content: bytes, *parts: str) -> bool:
        """Put a file in the store if there is none yet, as far as the file system can tell; whether that was so."""
        target = self.path(*parts)

        def create() -> None:
            if self._protocols() & AT_ONCE:
                self.fs.pipe_file(target, content, mode="create")
                return
            self.fs.makedirs(posixpath.dirname(target), exist_ok=True)
            with self.fs.open(target, "xb") as file:
                file.write(content)

        try:
            self.reached(create, (FileExistsError,))
        except FileExistsError:
            return False
        return True

    def remove(self, *parts: str) -> None:
        """Remove a file from the store, if it is there."""
        with suppress(FileNotFoundError):
            self.reached(lambda: self.fs.rm_file(self.path(*parts)), (FileNotFoundError,))

    def files(self, *parts: str) -> dict[str, Remote]:
        """All files below a place of the store, by their paths below it.

        Raises:
            InputError: a path leads out of it, or there are too many.
            StorageError: as `reached`.
        """
        top = self.path(*parts).rstrip("/")

        def find() -> Any:
            self.fs.invalidate_cache()
            # What fsspec itself walks takes an error for an empty folder; backends with a search of their own do not.
            return self.fs.find(top, detail=True, **({"on_error": "raise"} if self._is_walked() else {}))

        try:
            found = self.reached(find, (FileNotFoundError,))
        except FileNotFoundError:
            return {}
        listed = {}
        for name, facts in found.items():
            relative = str(name).removeprefix(top).lstrip("/")
            if not relative or ".." in relative.split("/") or "\\" in relative or "\0" in relative:
                raise InputError(f"the store {self.url} holds a file whose path is {quoted(str(name))}")
            token = sha256(repr(sorted(facts.items(), key=lambda item: str(item[0]))).encode()).hexdigest()[:16]
            listed[relative] = Remote(int(facts.get("size") or 0), token, _time(facts))
        return listed

    def _protocols(self) -> set[str]:
        own = self.fs.protocol
        return {own} if isinstance(own, str) else {*own}

    def _is_walked(self) -> bool:
        from fsspec.asyn import AsyncFileSystem
        from fsspec.spec import AbstractFileSystem

        kind = self.fs.__class__
        return getattr(kind, "_find", kind.find) in (AsyncFileSystem._find, AbstractFileSystem.find)


def _time(facts: Mapping[str, Any]) -> float:
    """When a file was last written, as far as its store says: backends have their own words for it."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        when = facts.get(key)
        if isinstance(when, datetime):
            return when.timestamp()
        if isinstance(when, int | float):
            return float(when)
    return 0.0


USUAL = ("file", "s3", "gs", "abfs", "sftp", "memory")
"""Kinds of store that are named where none is like the one that was asked for."""


def store_of(url: str) -> Store:
    """The store behind a URL; nothing is asked of it yet.

    Raises:
        InputError: no URL, a kind that nothing knows, or one whose package is missing.
    """
    import fsspec

    protocol, separator, rest = url.partition("://")
    if not separator or "::" in url or not rest.strip("/"):
        raise InputError(
            f"{quoted(url)} is no URL of a store, as s3://bucket/runs or file:///archive/runs", argument="store"
        )
    if protocol not in fsspec.available_protocols():
        near = get_close_matches(protocol, fsspec.available_protocols(), n=3, cutoff=0.5)
        said = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else f"as {', '.join(USUAL)}, or another that fsspec knows"
        )
        raise InputError(f"unknown kind of store {quoted(protocol)}; {said}", argument="store")
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InputError(f"{protocol}:// needs another package: {error}", argument="store") from error
    except Exception as error:  # a backend looks at its credentials here
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{url} is no store: {line}", argument="store") from error
    return Store(url.rstrip("/"), fs, str(root).rstrip("/"))


def usable(url: str) -> Store:
    """The store behind a URL in which something can be written: it is tried, so that no run finds out at its end.

    Raises:
        InputError: as `store_of`.
        StorageError: the store cannot be reached, or refuses.
    """
    store = store_of(url)
    name = f".probe-{token_hex(4)}"
    store.put(b"", name)
    store.remove(name)
    return store


def folders(store: Store, names: Iterable[str] | None = None) -> dict[str, Listed]:
    """The files of folders in a store, by the folders' names: all runs and studies, or those of some names.

    Raises:
        InputError, StorageError: as `Store.files`.
    """
    asked = None if names is None else [*names]
    if asked is not None and len(asked) <= 8:
        listed = {name: _own(store.files(name)) for name in asked}
        return {name: files for name, files in listed.items() if files}
    found: dict[str, dict[str, Remote]] = {}
    for path, remote in store.files().items():
        parts = path.split("/")
        depth = 2 if parts[0] in FOLDERS_OF_FOLDERS else 1
        if len(parts) > depth and not parts[0].startswith("."):
            found.setdefault("/".join(parts[:depth]), {})["/".join(parts[depth:])] = remote
    chosen = found if asked is None else {name: found[name] for name in asked if name in found}
    return {name: own for name, files in chosen.items() if (own := _own(files))}


def names(store: Store) -> list[str]:
    """The names of the run folders in a store.

    Raises:
        StorageError: the store cannot be reached.
    """

    def found() -> Any:
        store.fs.invalidate_cache()
        return store.fs.ls(store.root, detail=False)

    try:
        listed = [str(path).rstrip("/").rpartition("/")[2] for path in store.reached(found, (FileNotFoundError,))]
    except FileNotFoundError:
        return []
    return sorted(name for name in listed if not name.startswith(".") and name not in FOLDERS_OF_FOLDERS)


def give(store: Store, runs: Path, names: Iterable[str]) -> None:
    """Bring to a store what was added here to folders since they were brought, beside what others added there.

    Raises:
        StorageError: the store cannot be reached.
    """
    for name in names:
        folder, known = runs / name, _known(runs / name, store)
        if any(known.get(path, Both("", -1, -1))[1:] != stat for path, stat in _here(folder).items()):
            pull(store, name, folder, weights=False)
            push(store, name, folder)


def note_going(store: Store, runs: Path, names: Iterable[str]) -> None:
    """Note beside the copies of runs which of them are being computed: those whose lease in the store has not run out.

    Raises:
        StorageError: the store cannot be reached.
    """
    ends = {path.removesuffix(".json"): one.time + LEASE for path, one in store.files(LEASES).items()}
    for name in names:
        mark = runs / name / GOING
        if ends.get(name, 0.0) > time.time():
            storage.write_file(mark, str(ends[name]).encode())
        elif mark.exists():
            mark.unlink()


def is_going(folder: Path) -> bool:
    """Whether a run was being computed when its copy was brought here, by a node whose lease has not run out since."""
    try:
        return float(contents(folder / GOING, storage.HEAD)) > time.time()
    except (OSError, InputError, ValueError):
        return False


def swept(store: Store, name: str) -> Listed:
    """The files of a folder in a store, without what was left there by one who was killed while putting it there."""
    files = store.files(name)
    for path in files:
        if path.endswith(".tmp") and path.rpartition("/")[2].startswith("."):
            store.remove(name, path)
    return _own(files)


def _own(files: Mapping[str, Remote]) -> dict[str, Remote]:
    """The files of a folder without what is hidden, and what was left while it was put there."""
    if len(files) > MOST:
        raise InputError(f"a folder in the store holds {len(files):,} files")
    return {path: one for path, one in files.items() if not any(part.startswith(".") for part in path.split("/"))}


def is_run(files: Listed) -> bool:
    """Whether files are those of a run."""
    return CONFIG in files


def pull(store: Store, name: str, folder: Path, files: Listed | None = None, *, weights: bool = True) -> bool:
    """Bring a folder here from a store, as far as it is not here yet; whether anything was brought.

    What was changed here and not there stays. Where both were changed, the store's files win unless the run is further
    here than there, and rows that were added here to a log are added to the store's. Without `weights`, only the
    manifests of checkpoints are brought.

    Raises:
        InputError: a file there that no run has.
        StorageError: the store cannot be reached, or a file not be written.
    """
    there, known = _own(store.files(name)) if files is None else files, _known(folder, store)
    asked = {path: one for path, one in there.items() if weights or _is_wanted_without_weights(path)}
    if not weights and known.keys() >= asked.keys() and not known.keys() - there.keys() \
            and all(known[path].token == one.token for path, one in asked.items()):  # fmt: skip
        return False
    here = _here(folder)
    changed = {path for path, stat in here.items() if path not in known or stat != known[path][1:]}
    wanted = {path for path, one in asked.items()
              if path not in here or path not in known or known[path].token != one.token}  # fmt: skip
    if is_run(there) and wanted & changed and _place_here(folder) > _place(there):
        wanted = {path for path in wanted & changed if _is_log(path)}
    # What went there goes here, unless it was changed here.
    for path in sorted(known.keys() - there.keys()):
        if path in here and path not in changed:
            _forget(folder, path)
        del known[path]
    # Rows before the checkpoints that they belong to, the result last.
    for path in sorted(wanted, key=lambda path: (path == RESULT, path)):
        if path == RESULT:
            _bring_states(store, name, folder, wanted, there, known)
        if not path.startswith(f"{CHECKPOINTS}/"):
            known[path] = _bring(store, name, folder, path, there[path], known.get(path), path in changed)
    if RESULT not in wanted:
        _bring_states(store, name, folder, wanted, there, known)
    if folder.exists():
        _remember(folder, store, known)
    return bool(wanted)


def _is_wanted_without_weights(path: str) -> bool:
    return not path.startswith(f"{CHECKPOINTS}/") or path.endswith(f"/{storage.MANIFEST}")


def _is_log(path: str) -> bool:
    """Whether rows are only ever added to a file, by whoever works with a run."""
    return path.endswith(".jsonl") and path not in (*run_folder.REWOUND, SEARCH_JOURNAL)


def _bring(
    store: Store, name: str, folder: Path, path: str, remote: Remote, before: Both | None, changed: bool
) -> Both:
    """Bring one file of a folder here, with the rows that were added to it here since it was last the same."""
    if remote.size > LARGEST:
        raise InputError(f"{store.path(name, path)} has {remote.size:,} bytes")
    try:
        content = store.read(name, path)
    except FileNotFoundError:  # it went between the list and now
        return Both("", -1, -1)
    target = folder / path
    with storage.storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    if changed and _is_log(path):
        own = target.read_bytes()
        if before is not None and before.size >= 0:
            since = before.size
        else:  # nobody knows since when the two differ
            since = len(b"".join(_alike(own.splitlines(True), content.splitlines(True))))
        storage.write_file(target, content + own[since:])
        return Both(remote.token, len(content), -1)
    storage.write_file(target, content)
    if remote.time:  # which plan of a study is the last one goes by the time
        os.utime(target, (remote.time, remote.time))
    return Both(remote.token, *_stat(target))


def _alike(one: list[bytes], other: list[bytes]) -> list[bytes]:
    """The lines that two files begin with alike."""
    return [mine for mine, _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=False))]


def _bring_states(
    store: Store, name: str, folder: Path, wanted: Iterable[str], there: Listed, known: dict[str, Both]
) -> None:
    """Bring checkpoints here that are whole in the store, each at once, or their manifests alone."""
    whole = _checkpoints(there)
    parts = sorted(path for path in wanted if path.startswith(f"{CHECKPOINTS}/") and path.split("/")[1] in whole)
    for state, group in groupby(parts, key=lambda path: path.split("/")[1]):
        top, paths = folder / CHECKPOINTS / state, [*group]
        if any(there[path].size > LARGEST for path in paths):
            raise InputError(f"{store.path(name, CHECKPOINTS, state)} is larger than any checkpoint")
        temporary = top.with_name(f".{state}.{token_hex(4)}.tmp")
        try:
            with storage.storing(top):
                temporary.mkdir(parents=True)
                for path in paths:
                    _get(store, store.path(name, path), temporary / path.rpartition("/")[2])
                for file in top.iterdir() if top.exists() else ():
                    if not (temporary / file.name).exists():
                        shutil.copy2(file, temporary / file.name)
                shutil.rmtree(top, ignore_errors=True)
                temporary.rename(top)
        except _GoneError:  # pruned since
            continue
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for path in paths:
            known[path] = Both(there[path].token, *_stat(folder / path))


class _GoneError(Exception):
    """A file went between the list and now."""


def _get(store: Store, path: str, target: Path) -> None:
    try:
        store.reached(lambda: store.fs.get_file(path, str(target)), (FileNotFoundError,))
    except FileNotFoundError:
        raise _GoneError from None
    with target.open("rb") as file:
        os.fsync(file.fileno())


@dataclass
class Sent:
    """What lies in a store of a folder: size and time that files had here when they were put there, and checkpoints."""

    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    states: set[str] = field(default_factory=set)
    changed: bool = False


def sent_of(store: Store, folder: Path, there: Listed) -> Sent:
    """What lies in a store of a folder, of which `there` are the files, as far as the folder remembers."""
    known = _known(folder, store)
    return Sent(
        {path: known[path][1:] for path, one in there.items() if path in known and known[path].token == one.token},
        {path for path in there if path.startswith(f"{CHECKPOINTS}/")},
    )


def push(store: Store, name: str, folder: Path, files: Listed | None = None) -> bool:
    """Bring to a store what a folder has that is not there, or is otherwise; whether there was anything.

    Raises:
        StorageError: the store cannot be reached.
    """
    there = _own(store.files(name)) if files is None else files
    sent = push_changed(store, folder, sent_of(store, folder, there), name=name)
    if sent.changed:
        remember(store, folder, sent, name=name)
    return sent.changed


def push_changed(store: Store, folder: Path, before: Sent, *, name: str = "", prune: bool = False) -> Sent:
    """Bring to a store what has changed in a folder since it was as `before`; returns what lies there now.

    The folder may grow meanwhile: checkpoints that are not there yet when it is looked through are left for next time,
    and those that go meanwhile are left out. `prune`: what the folder no longer has of checkpoints goes there, too, as
    the one who computes the run wants it.

    Raises:
        StorageError: the store cannot be reached.
    """
    name = name or folder.name
    sent = Sent(dict(before.files), {*before.states})
    complete = {path.rpartition("/")[0] for path in sent.states if path.endswith(f"/{storage.MANIFEST}")}
    # A run goes on while it is looked through: what it writes last is looked for first, so that all before it is found.
    result = (folder / RESULT).exists()
    saved = [path for _, path in run_folder.checkpoints(folder)]
    plain = [path for path in _here(folder) if not path.startswith(f"{CHECKPOINTS}/") and path != RESULT]
    if prune and not result and RESULT in sent.files:  # it was damaged, and is made again
        store.remove(name, RESULT)
        del sent.files[RESULT]

    def put(path: str) -> None:
        with suppress(FileNotFoundError):
            stat = _stat(folder / path)
            if sent.files.get(path) != stat:
                store.put((folder / path).read_bytes(), name, path)
                sent.files[path], sent.changed = stat, True

    for path in sorted(plain, key=lambda path: (path != CONFIG, path)):  # with the configuration a folder is a run
        put(path)
    _put_states(store, name, saved, complete, sent)
    if result:
        put(RESULT)
    if prune:
        kept = {path.name for path in saved}
        gone = [path for path in sent.states if path.split("/")[1] not in kept]
        for path in sorted(gone, key=lambda path: not path.endswith(f"/{storage.MANIFEST}")):
            store.remove(name, path)
            sent.states.discard(path)
            sent.changed = True
    return sent


def _put_states(store: Store, name: str, saved: Iterable[Path], complete: set[str], sent: Sent) -> None:
    """Put checkpoints in a store that are not whole there, each one's manifest last."""
    for path in saved:
        top = f"{CHECKPOINTS}/{path.name}"
        if top in complete:
            continue
        with suppress(FileNotFoundError):  # pruned here meanwhile
            files = sorted(path.iterdir(), key=lambda file: (file.name == storage.MANIFEST, file.name))
            if not files or files[-1].name != storage.MANIFEST or not _is_whole(path):
                continue
            for file in files:
                store.put(file, name, top, file.name)
                sent.states.add(f"{top}/{file.name}")
            complete.add(top)
            sent.changed = True


def _is_whole(state: Path) -> bool:
    """Whether all files of a checkpoint are here, and not its manifest alone."""
    try:
        return all((state / file).exists() for file in storage.read_json(state / storage.MANIFEST)["files"])
    except (InputError, KeyError, TypeError):
        return False


def remember(store: Store, folder: Path, sent: Sent, *, name: str = "") -> None:
    """Note how the files of a folder are in the store, now that they were put there."""
    there = _own(store.files(name or folder.name))
    known = {path: Both(there[path].token, *stat) for path, stat in sent.files.items() if path in there}
    for path in there.keys() & sent.states:
        with suppress(FileNotFoundError):
            known[path] = Both(there[path].token, *_stat(folder / path))
    _remember(folder, store, known)


def is_behind(folder: Path, files: Listed) -> bool:
    """Whether a run is less far here than in the store."""
    return _place_here(folder) < _place(files)


def _place(files: Listed) -> tuple[bool, Position]:
    """How far a run is in a store: whether it is complete, and its last checkpoint."""
    return RESULT in files, max((position for state in _checkpoints(files) if (position := Position.of(state))),
                                default=Position(-1, 0))  # fmt: skip


def _place_here(folder: Path) -> tuple[bool, Position]:
    """How far a run is here."""
    saved = [position for position, path in run_folder.checkpoints(folder) if _is_whole(path)]
    return run_folder.is_complete(folder), max(saved, default=Position(-1, 0))


def _checkpoints(files: Listed) -> list[str]:
    """The names of the checkpoints in a store that are whole: their manifests come last and go first."""
    parts = (path.split("/") for path in files)
    return [one[1] for one in parts if len(one) == 3 and one[0] == CHECKPOINTS and one[2] == storage.MANIFEST
            and Position.of(one[1])]  # fmt: skip


def _here(folder: Path) -> dict[str, tuple[int, int]]:
    """The files of a folder here that are mirrored: all but hidden ones and the lock; size and time of each."""
    found = {}
    for place, inner, files in os.walk(folder):  # which takes no notice of a folder that goes meanwhile
        inner[:] = [name for name in inner if not name.startswith(".")]
        for path in (Path(place) / name for name in files if not name.startswith(".")):
            with suppress(FileNotFoundError):
                if path != folder / "lock" and not path.is_symlink():
                    found["/".join(path.relative_to(folder).parts)] = _stat(path)
    return found


def _stat(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _forget(folder: Path, path: str) -> None:
    """Remove what the store no longer has; of a checkpoint the manifest's going removes all."""
    target = folder / path
    with storage.storing(target):
        if path.startswith(f"{CHECKPOINTS}/"):
            shutil.rmtree(target.parent, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)


def _known(folder: Path, store: Store) -> dict[str, Both]:
    """How the files of a folder were when they were last the same here and in the store; none where nothing tells."""
    try:
        values = json.loads(contents(folder / KNOWN, storage.MOST_JSON))
        found = values["files"] if values["store"] == store.url else {}
        return {str(path): Both(str(token), int(size), int(at)) for path, (token, size, at) in found.items()}
    except (OSError, InputError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remember(folder: Path, store: Store, known: Mapping[str, Both]) -> None:
    storage.write_json(folder / KNOWN, {"store": store.url, "files": {path: [*both] for path, both in known.items()}})


@dataclass
class Lease:
    """The right to compute a run whose folder lies in a store; `session` stands for all who belong together."""

    store: Store
    name: str
    session: str
    renewed: float = 0.0
    _own: str = field(default_factory=lambda: token_hex(8))

    def take(self) -> None:
        """Take the lease, or one that has run out, or whose process is known to be gone.

        One of the same session is taken too: who hands out runs gives each to one node at a time.

        Raises:
            BusyError: another process has it.
            StorageError: the store cannot be reached.
        """
        if not self.store.create(self._content(), LEASES, f"{self.name}.json"):
            found = self._read()
            if found is None:  # perhaps it is being written
                wait(PAUSES[0])
                found = self._read()
            if found is not None and not self._may_be_taken(found):
                where = f"{found.get('host')} (process {found.get('process')})"
                raise BusyError(f"{self.name} is being computed by {where}, which holds its lease in {self.store.url}")
            self.store.put(self._content(), LEASES, f"{self.name}.json")
        self.renewed = time.monotonic()
        # Where a file cannot be created exclusively, two may have come here; the last one has it.
        self.check()

    def check(self) -> None:
        """That the lease is still this one's.

        Raises:
            BusyError: another process has it now.
        """
        found = self._read()
        if found is not None and found.get("lease") != self._own:
            raise BusyError(f"{self.name} is being computed by {found.get('host')} now, which took over its lease")

    @property
    def is_old(self) -> bool:
        """Whether it is time to renew the lease."""
        return time.monotonic() - self.renewed >= RENEWED

    def renew(self) -> None:
        """Renew the lease if it is time to.

        Raises:
            BusyError: another process has it now.
        """
        if self.is_old:
            self.check()
            self.store.put(self._content(), LEASES, f"{self.name}.json")
            self.renewed = time.monotonic()

    def release(self) -> None:
        """Give the lease up, if it is this one's."""
        with suppress(BusyError):
            self.check()
            self.store.remove(LEASES, f"{self.name}.json")

    def _content(self) -> bytes:
        values = {"lease": self._own, "session": self.session, "host": socket.gethostname(), "process": os.getpid(),
                  "time": datetime.now(UTC).isoformat(timespec="seconds")}  # fmt: skip
        return (json.dumps(values) + "\n").encode()

    def _read(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.store.read(LEASES, f"{self.name}.json"))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _may_be_taken(self, found: Mapping[str, Any]) -> bool:
        if self.session and found.get("session") == self.session:
            return True
        if found.get("host") == socket.gethostname() and not _is_alive(found.get("process")):
            return True
        try:
            age = (datetime.now(UTC) - datetime.fromisoformat(str(found.get("time")))).total_seconds()
        except (ValueError, TypeError):
            return True
        return age > LEASE


def _is_alive(process: object) -> bool:
    """Whether a process of this machine is there."""
    if not isinstance(process, int) or process < 1:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

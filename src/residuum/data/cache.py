"""Decoded data sets, kept on disk under a key made of their sources' content.

    decoded/KEY.safetensors    images, labels, names of classes and fingerprint; KEY hashes the content of the sources
    index/QUICK                the KEY, found without reading the sources: QUICK hashes their paths, sizes and times
    downloads/NAME/            what `residuum data fetch NAME` brings

Each file is put in place at once, so processes may read and write side by side. An entry is used only if its content
has the fingerprint that is written in it; otherwise it is made anew from the sources.
"""

import json
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from residuum.data.dataset import Dataset, Split
from residuum.data.formats.files import reading
from residuum.errors import InputError, remark
from residuum.records import storage

DECODING = 2
"""Raised when the same sources decode to other pixels or labels than before."""


def folder() -> Path:
    """The cache: `$RESIDUUM_CACHE`, else `$XDG_CACHE_HOME/residuum`, else `~/.cache/residuum`.

    Where the last two cannot be, a folder of this user's own among the temporary files.

    Raises:
        InputError: that cannot be, either.
    """
    if own := os.environ.get("RESIDUUM_CACHE"):
        return storage.expanded(own).absolute()
    place = storage.expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    path = place.absolute() / "residuum"
    return path if not str(place).startswith("~") and _can_be_written(path) else _without_home()


def _can_be_written(path: Path) -> bool:
    """Whether a folder can be written to; it is made if it is not there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(path, os.W_OK | os.X_OK)


@cache
def _without_home() -> Path:
    """A folder of this user's own among the temporary files, for one who has no home or cannot write to it.

    Raises:
        InputError: somebody else can write to it, and so choose what is read from it.
    """
    path = Path(tempfile.gettempdir()) / f"residuum-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise InputError(f"{path} is not this user's own folder; let RESIDUUM_CACHE name one for the cache")
    remark(f"no home folder to keep decoded images in: they are kept in {path}; RESIDUUM_CACHE names another place")
    return path


def downloads(name: str) -> Path:
    """Where `residuum data fetch` puts the files of a data set, and where it is looked for when no place is given."""
    return folder() / "downloads" / name


def cached(
    name: str, settings: Mapping[str, Any], sources: Mapping[str, Path], decode: Callable[[], Dataset]
) -> Dataset:
    """The data set that `decode` makes of the source files, decoded only if the cache does not hold it.

    `sources` names each file by what the decoder takes it for, so that a moved folder stays the same entry; `settings`
    are those that change the result.

    Raises:
        InputError: a source is missing, or changes while it is being read; and what `decode` raises.
        StorageError: a source cannot be read, or the cache cannot be written.
    """
    identity = [DECODING, name, dict(settings)]
    seen = _look(sources)
    quick = folder() / "index" / _hash([*identity, seen])
    if (dataset := _read(_entry(_index(quick)), name)) is not None:
        return dataset
    entry = _entry(_hash([*identity, {role: _content(path) for role, path in sources.items()}]))
    dataset = _read(entry, name)
    if dataset is None:
        dataset = decode()
        if _look(sources) != seen:
            raise InputError(f"the files of {name} changed while they were being read; start again")
        _write(entry, dataset)
    with storage.storing(quick):
        quick.parent.mkdir(parents=True, exist_ok=True)
    storage.write_file(quick, entry.stem.encode())
    return dataset


def _look(sources: Mapping[str, Path]) -> dict[str, tuple[str, int, int, int]]:
    """What tells without reading it that a file is the same: place, size, and times of the last change."""
    looks = {}
    for role, path in sources.items():
        with reading(path):
            status = path.stat()
        # ctime as well: a program may set mtime back, as unpacking an archive does.
        looks[role] = (str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return looks


def _content(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _hash(values: Any) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def _index(quick: Path) -> str:
    """The key in an index file; one that no entry has, if there is no such file or it is damaged."""
    try:
        key = quick.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return "none"
    return key if key.isalnum() else "none"


def _entry(key: str) -> Path:
    return folder() / "decoded" / f"{key}.safetensors"


def _write(entry: Path, dataset: Dataset) -> None:
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for which, split in (("train", dataset.train), ("test", dataset.test), ("validation", dataset.validation)):
        if split is not None:
            arrays[f"{which}.images"] = np.ascontiguousarray(split.images_NCHW)
            arrays[f"{which}.labels"] = split.labels_N
    # One value, because safetensors writes several in any order: equal data make equal bytes.
    of = {"classes": dataset.classes, "fingerprint": dataset.fingerprint, "encodings": dataset.encodings}
    values = {"dataset": json.dumps(of)}
    with storage.storing(entry):
        entry.parent.mkdir(parents=True, exist_ok=True)
    storage.write_file(entry, save(arrays, metadata=values))


def _read(entry: Path, name: str) -> Dataset | None:
    """The data set in an entry, None if there is none or its bytes are not those that were written."""
    try:
        with safe_open(entry, framework="numpy") as file:
            values = json.loads(file.metadata()["dataset"])
            kept = {key.partition(".")[0] for key in file.keys()}  # noqa: SIM118  (it is no mapping)
            splits = {
                which: Split(file.get_tensor(f"{which}.images"), file.get_tensor(f"{which}.labels")) for which in kept
            }
            # An entry from before encodings were kept lacks them, and is made anew.
            dataset = Dataset.of(
                name, values["classes"], splits["train"], splits["test"], splits.get("validation"),
                encodings=values["encodings"],
            )  # fmt: skip
    except (OSError, SafetensorError, InputError, ValueError, LookupError, TypeError):
        return None
    return dataset if dataset.fingerprint == values["fingerprint"] else None

"""Which own code may be run: what this user named, or said to trust once, kept in the cache by its hash.

    code/SHA256.py    in the cache: the text of each, put there when its file was named, or by `trust`
    code/mine-….py    in a run folder: the text that the run computed with

A run folder brings its code along, so one from somebody else could do anything: it is run only if its text has the hash
that the run's configuration says, and that hash is in the cache.
"""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from residuum import own
from residuum.config import RunConfig
from residuum.data import cache
from residuum.errors import InputError, Remedy, remark
from residuum.records import storage
from residuum.records.record import read_config
from residuum.records.regular import contents
from residuum.records.run_folder import CODE


def _known(digest: str) -> Path:
    return cache.folder() / CODE / f"{digest}.py"


def keep(config: RunConfig) -> None:
    """Keep the own code of a configuration whose files this user named, so that other processes find it."""
    for _, digest, text in own.every(_plain(config)):
        if not _known(digest).exists():
            storage.write_file(_known(digest), text.encode())


def admit(config: RunConfig, folder: Path | None = None) -> list[str]:
    """Let the own code of a configuration be run, as it is kept in the run's folder, or in the cache without one.

    Returns a line for each, which says that it is run.

    Raises:
        InputError: it is not there, has another hash, or was never named or trusted here.
    """
    lines, values = [], _plain(config)
    for digest, name in own.codes(values).items():
        if folder is not None:
            for one, hash_, text in _texts(folder, name, digest):
                if not _known(hash_).is_file():
                    place = folder / CODE / own.file_of(one, hash_)
                    raise InputError(
                        f"{folder.name} would run code that is not known here, {one}; read {place} first",
                        remedies=[Remedy("trust")],
                    )
                own.admit(text)
        elif own.text_of(digest) is None:
            text = _from_cache(name, digest)
            for path, hash_ in own.modules_of(text).items():
                own.admit(_from_cache(path, hash_))
            own.admit(text)
        lines.append(own.said(own.called(values, digest), digest))
    return lines


def admit_aloud(config: RunConfig, folder: Path | None = None) -> None:
    """As `admit`, with a remark for each line that it gives."""
    for line in admit(config, folder):
        remark(line)


def is_known(config: RunConfig) -> bool:
    """Whether all own code of a configuration was named or trusted here; nothing of it is run to know.

    Its local modules were with it: its text holds their hashes.
    """
    return all(_known(digest).is_file() for digest in own.codes(_plain(config)))


def trust(folder: Path) -> list[str]:
    """Trust the own code in a run folder from now on; returns the paths of what is trusted.

    Raises:
        InputError: not a run folder, or its code is gone or has another hash than the run says.
    """
    found = []
    for digest, name in own.codes(_plain(read_config(folder)[0])).items():
        for one, hash_, text in [*_texts(folder, name, digest)]:
            storage.write_file(_known(hash_), text.encode())
            found.append(str(folder / CODE / own.file_of(one, hash_)))
    return found


def _texts(folder: Path, name: str, digest: str) -> Iterator[tuple[str, str, str]]:
    """Name, hash and text of own code that a run folder holds, and of the local modules that it imports."""
    text = _kept(folder, name, digest)
    yield name, digest, text
    for path, hash_ in own.modules_of(text).items():
        yield path, hash_, _kept(folder, path, hash_)


def _kept(folder: Path, name: str, digest: str) -> str:
    """The text of own code that a run folder holds."""
    return _checked(folder / CODE / own.file_of(name, digest), name, digest)


def _from_cache(name: str, digest: str) -> str:
    """The text of own code that was named or trusted here."""
    if not _known(digest).is_file():
        raise InputError(
            f"{name}: its text (SHA-256 {digest[:12]}…) is not known here; name its file again, or trust a run "
            "that has it"
        )
    return _checked(_known(digest), name, digest)


def _checked(path: Path, name: str, digest: str) -> str:
    """A text whose hash agrees.

    Raises:
        InputError: it is missing, or another than was computed with.
    """
    try:
        content = contents(path, own.MOST_BYTES)
    except OSError as error:
        raise InputError(f"{path}, the code of {name}, cannot be read: {error.strerror or error}") from error
    if (found := sha256(content).hexdigest()) != digest:
        raise InputError(f"{path} was changed: it is not the code of {name} ({digest[:12]}…), but {found[:12]}…")
    return content.decode()


def _plain(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")

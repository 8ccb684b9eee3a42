"""Study files: TOML in, a Study out, and errors that name the line.

The studies that come with the package lie in `residuum/studies/*.toml`; a name means one of those, anything that ends
in `.toml` or holds a slash a file.
"""

import itertools
import json
import os
import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from residuum import own
from residuum.config import read_toml
from residuum.errors import InputError, quoted, unknown
from residuum.registry import bounded
from residuum.studies.study import Study, StudyError

HAVE_SETTINGS = ("set", "axes")
MOST_BYTES = 256_000
"""Of a study file."""


def names() -> list[str]:
    """The names of the studies that come with the package."""
    return sorted(path.name.removesuffix(".toml") for path in files("residuum.studies").iterdir()
                  if path.name.endswith(".toml"))  # fmt: skip


def read(name: str) -> Study:
    """The study that a name or a file stands for.

    Raises:
        InputError: no such study or file, or a study that cannot be; the message names the line and the key.
    """
    text = source(name)
    where = name if _is_file(name) else f"{name}.toml"
    try:
        values = read_toml(text)
        bounded(values)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}, {_syntax(text, str(error))}") from error
    except InputError as error:
        raise _told(where, text, error) from error
    values.setdefault("name", Path(where).stem)
    try:
        if _is_file(name):
            values = _placed(values, Path(name).parent)
        return Study(**values)
    except StudyError as error:
        line = line_of(text, error.place)
        message = f"{where}, line {line}: {error.text}" if line else f"{where}: {error.text}"
        raise StudyError((), message, error.remedies) from error
    except InputError as error:
        raise _told(where, text, error) from error


def _told(where: str, text: str, error: InputError) -> InputError:
    """An error that names no line, with the line of the file where it stands, as far as that can be told."""
    place, colon, _ = error.text.partition(": ")
    number = line_of(text, tuple(re.split(r"[.\[\]]+", place))) if colon else 0
    number = number or next((at for at, one in enumerate(text.splitlines(), start=1) if ENDLESS.search(one)), 0)
    return InputError(f"{where}{f', line {number}' if number else ''}: {error.text}", remedies=error.remedies)


def _placed(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a study file says, with files of own code and of `data` looked for where the study lies.

    `data` at its top is the setting of all arms.
    """
    if "data" in values:
        values = {**values, "set": _with_data(values["data"], values.get("set", {}))}
        del values["data"]
    placed = {key: _settings(value, folder) if key in HAVE_SETTINGS else value for key, value in values.items()}
    if isinstance(arms := values.get("arms"), list):
        placed["arms"] = [
            {**arm, "set": _settings(arm["set"], folder)} if isinstance(arm, dict) and "set" in arm else arm
            for arm in arms
        ]
    return placed


def _with_data(data: Any, settings: Any) -> Any:
    """The settings of all arms with the data of a study; what they say of it besides, as `data.subset`, stays."""
    if not isinstance(settings, dict):
        return settings
    beside = settings.get("data", {})
    if isinstance(beside, dict) and isinstance(inner := beside.get("dataset"), dict) and "name" not in inner:
        without = {key: value for key, value in beside.items() if key != "dataset"}
        beside = without | {f"dataset.{key}": value for key, value in inner.items()}  # of the data at the top
    if not isinstance(beside, dict) or {"dataset", "root"} & {*beside} or {"data.dataset", "data.root"} & {*settings}:
        raise InputError("data: it stands at the top and under [set]; say it once")
    rest = {key: value for key, value in settings.items() if key != "data"}
    return {"data": data, **rest, **{f"data.{key}": value for key, value in beside.items()}}


def _settings(settings: Any, folder: Path) -> Any:
    if not isinstance(settings, dict):
        return settings
    data = settings.get("data")
    several = [_beside(one, folder) for one in (data if isinstance(data, list) else [data])]
    return own.named(
        {**settings, **({"data": several if isinstance(data, list) else several[0]} if data else {})}, folder
    )


def _beside(value: Any, folder: Path) -> Any:
    """A path of data from the study's folder on; anything else as it is."""
    there = isinstance(value, str) and os.path.exists(folder / value)  # noqa: PTH110  (of any text)
    return str((folder / value).absolute()) if there else value


def located(name: str, error: InputError) -> InputError:
    """What planning a study says of a setting, with the line of the file where that stands, if it stands there."""
    text = source(name)
    where = name if _is_file(name) else f"{name}.toml"
    if isinstance(error, StudyError) and error.place[:1] != ("set",):  # which may be the command's
        return InputError(f"{where}, line {line_of(text, error.place)}: {error.text}", remedies=error.remedies)
    lines = _keys(text)
    for path in re.findall(r"\w+(?:\.\w+)+", str(error)):
        for number, words in lines:
            if ".".join(words).endswith(path):
                message = f"{where}, line {number}: {'.'.join(words)}: {error.text}"
                return InputError(message, remedies=error.remedies)
    if error.text.startswith("arm "):  # of which the file tells, also where a command's setting does not go with it
        return InputError(f"{where}: {error.text}", remedies=error.remedies)
    return error


def _syntax(text: str, message: str) -> str:
    """A message of tomllib, which ends in the place, with the line in front as other mistakes have it."""
    what, _, place = message.removesuffix(")").rpartition(" (at ")
    found = re.fullmatch(r"line (\d+), (column \d+)", place)
    line, column = found.groups() if found else (str(max(1, len(text.splitlines()))), "the end of the file")
    key = text.splitlines()[int(line) - 1].partition("=")[0].strip() if found else ""
    hint = (
        f'; in quotes it may stand there: "{key}"' if "overwrite" in what and re.fullmatch(r"\w+(\.\w+)+", key) else ""
    )
    return f"line {line}: not TOML at {column}: {what[:1].lower()}{what[1:]}{hint}"


def source(name: str) -> str:
    """The text of a study file.

    Raises:
        InputError: there is no such study or file.
    """
    if _is_file(name):
        try:
            path = Path(name)
            if path.exists() and not path.is_file():
                raise InputError(f"{quoted(name)} is no file")
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise InputError(f"{quoted(name)}: a study file has at most {MOST_BYTES // 1000} kB")
            return content.decode("utf-8-sig").replace("\r\n", "\n")
        except OSError as error:
            raise InputError(f"{name}: {(error.strerror or str(error)).lower()}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not a text file in UTF-8") from error
        except ValueError as error:
            raise InputError(f"{quoted(name)}: no file can be called so") from error
    if name not in names():
        raise unknown("study", name, names())
    return (files("residuum.studies") / f"{name}.toml").read_text(encoding="utf-8")


def written(study: Study) -> str:
    """The text of a file that `read` makes this study of; what is as it is by default is left out."""
    values = study.model_dump(mode="json", exclude_defaults=True)
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lists = {key: value for key, value in values.items() if isinstance(value, list) and isinstance(value[0], dict)}
    lines = [f"{key} = {toml(value)}" for key, value in values.items() if key not in {**tables, **lists}]
    for key, value in tables.items():
        lines += ["", f"[{key}]", *_rows(value)]
    for key, several in lists.items():
        for value in several:
            lines += ["", f"[[{key}]]", *_rows(value)]
    return "\n".join([*lines, ""])


def _rows(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {toml(value)}" for key, value in table.items() if value is not None]


def toml(value: Any) -> str:
    """A setting's value as TOML on one line; a key without a value is left out, as TOML has none."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(_rows(value))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    # JSON's strings, numbers and truth values are TOML's.
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key, re.ASCII) else json.dumps(key, ensure_ascii=False)


def header(name: str) -> str:
    """The comment at the head of a study file: what it asks, how long it takes, what came out."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), source(name).splitlines())
    return "\n".join(line.removeprefix("#").strip() for line in comment)


def _is_file(name: str) -> bool:
    return name.endswith(".toml") or "/" in name


def line_of(text: str, place: tuple[str | int, ...]) -> int:
    """The line, counted from 1, where a place of the study is written, or the nearest place around it; 0: none."""
    wanted = _words(place)
    best, found = 0, 0
    for number, path in _keys(text):
        shared = 0
        while shared < min(len(path), len(wanted)) and path[shared] == wanted[shared]:
            shared += 1
        # A line that goes elsewhere below what it shares is not the place; one that stops short contains it.
        if shared > best and shared in (len(path), len(wanted)):
            best, found = shared, number
    return found


def _words(place: tuple[str | int, ...]) -> list[str]:
    return [word for part in place for word in _split(str(part))]


WORD = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
ENDLESS = re.compile(r"\d{1000}|[\[{]{100}|(?:\.\w+){41}")
"""What makes values that nobody can read."""
KEY = re.compile(rf"\s*({WORD}(?:\s*\.\s*{WORD})*)\s*=")
"""The dotted key at the start of a line."""


def _keys(text: str) -> list[tuple[int, list[str]]]:
    """Every line that begins a table or a key, with the words of its whole path; tables of a list are numbered."""
    rows: list[tuple[int, list[str]]] = []
    counts: dict[str, int] = {}
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)([^\]]+)\]", line)
        key = KEY.match(line)
        if header and (words := _split(header[2])):
            table = words
            if header[1] == "[[":
                name = header[2].strip()
                counts[name] = counts.get(name, -1) + 1
                table = [*table, str(counts[name])]
            elif table[0] in counts:  # [arms.set] belongs to the latest of [[arms]]
                table = [table[0], str(counts[table[0]]), *table[1:]]
            rows.append((number, table))
        elif key:
            rows.append((number, [*table, *_split(key[1])]))
    return rows


def _split(text: str) -> list[str]:
    """The words of a dotted key; those in quotes are dotted settings, whose words count as well."""
    return [word for word in re.split(r"[.\s]+", text.replace('"', "").replace("'", "")) if word]

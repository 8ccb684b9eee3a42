"""Every error that a user can cause, and the exit code each ends in.

An error's message is one line: it names the thing that is wrong and, where there is one, the nearest
valid thing. The command line prints it after `residuum:`; `--debug` adds the traceback.
"""

import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

RemedyKind = Literal[
    "last", "anew", "anew with", "list runs", "other runs", "list models", "explain", "run study", "first run study",
    "moved data", "another device", "images", "limits", "seeds", "until decided", "data here", "fetch", "score on",
    "search", "key", "trust", "trust by evaluate", "which key", "another out", "show model",
]  # fmt: skip
IN_PYTHON: Mapping[RemedyKind, str] = {
    "last": "which='last' takes the last one",
    "anew": "training it with fresh=True computes it anew",
    "anew with": "train it with {} and fresh=True",
    "list runs": "residuum.records.record.find_runs gives the runs that there are",
    "other runs": "name another folder of runs",
    "list models": "network_names gives them",
    "explain": "explaining the run makes it",
    "run study": "running a study makes it for arms that it looks into",
    "first run study": "run it first",
    "moved data": "say where the data lies now",
    "another device": "device='cpu' goes on with it here, no longer bit for bit",
    "images": "give image files, or test images by their numbers",
    "limits": "give parameters, macs or memory",
    "seeds": "the study's own seeds give them",
    "until decided": "go on until it is decided, or ask anew in a study of another name",
    "data here": "data.root says where it lies",
    "fetch": "data.download.fetch('{}') downloads it",
    "key": "key='{}' takes the weights without it",
    "trust": "residuum.trust(run) lets it run from then on",
    "trust by evaluate": "residuum.trust(run) lets it run from then on",
    "which key": "say which by key, as key='{}'",
    "score on": "run.predict.evaluate_on scores a run on it",
    "another out": "name another place for it",
    "show model": "printing the network shows its layers",
    "search": "residuum.search_study does, and gives the study that judges them",
}
"""What would help, in the words of somebody who writes Python; the command line has a table of its own."""


@dataclass(frozen=True)
class Remedy:
    """What would help against an error, as data; `about` is a setting or a path, where the kind asks for one."""

    kind: RemedyKind
    about: str = ""

    def __str__(self) -> str:
        return IN_PYTHON[self.kind].format(self.about)


class Remark(UserWarning):
    """A line that is worth telling and stops nothing, where no event can tell it."""


def remark(text: str) -> None:
    """Tell a line as a warning at the line of the program that called the package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, Remark, stacklevel=level)


PACKAGE = str(Path(__file__).parent)


class ResiduumError(Exception):
    """An error with a message for the user and the exit code that the command line ends in."""

    exit_code = 2


class InputError(ResiduumError):
    """A setting, name, file or combination that cannot work; nothing was run (exit code 2).

    The message is the `text`, after the name of the `argument` that is wrong and before the `remedies`, in Python's
    words. The command line says the last two in its own.
    """

    def __init__(self, text: str, *, argument: str = "", remedies: Sequence[Remedy] = ()) -> None:
        self.text, self.argument, self.remedies = visible(text), argument, tuple(remedies)
        super().__init__("; ".join([f"{argument}: {self.text}" if argument else self.text, *map(str, remedies)]))


class FailedError(ResiduumError):
    """A run that came to no weights: its own code failed in its midst, or it diverged (exit code 1)."""

    exit_code = 1


class StorageError(ResiduumError):
    """Reading or writing failed for a reason outside the program: disk full, permission (exit code 74)."""

    exit_code = 74


class BusyError(ResiduumError):
    """Another process is working on the same run (exit code 75)."""

    exit_code = 75


def unknown(kind: str, name: str, known: Iterable[str], place: str = "", argument: str = "") -> InputError:
    """The error for a name that is not among the known ones, with the nearest one.

    `place` says where it stood: in a configuration or a study; `argument`, as which argument it was given.
    """
    names = sorted(known)
    near = get_close_matches(name[:QUOTED], names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return InputError(f"{place}{': ' if place else ''}unknown {kind} {quoted(name)}; {hint}", argument=argument)


QUOTED, LINE = 100, 300
"""Letters of a value that a message quotes, and of a whole line that tells of an error."""
HIDDEN = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ud800-\\udfff\\ufeff"
    "\\ufff9-\\ufffb\\U000e0000-\\U000e007f]"
)
"""Letters that control a screen, turn the direction of writing, hide what stands beside them or cannot be written."""


def visible(text: str, kept: str = "\n") -> str:
    """A text in which every letter that would control, turn or hide something is shown as its code, as \\x1b.

    Joiners within words and emoji stay, and so do those of these letters that are `kept`.
    """
    return HIDDEN.sub(lambda found: found[0] if found[0] in kept else ascii(found[0])[1:-1], text)


def quoted(value: Any, most: int = QUOTED) -> str:
    """A value as a message quotes it: a long one is cut in its middle."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # whole numbers of thousands of digits, or lists within lists
        return "a value of endless length"
    return shortened(text, most)


def shortened(text: str, most: int) -> str:
    """A text cut in its middle to that many letters."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - half]}…{text[len(text) - half :]}"


def line(text: str) -> str:
    """What is told of an error, on one line that a terminal can show: at most `LINE` letters, cut in the middle.

    There, what was given mostly stands; the beginning names the place, and the end the nearest valid thing.
    """
    return shortened(visible(" ".join(text.split("\n"))), LINE)


def lacking(what: str, package: str, extra: str) -> InputError:
    """The error for something that needs a package of an extra, which is not installed."""
    return InputError(f"{what} needs the package {package}: pip install 'residuum[{extra}]'")


def tally(number: int, what: str) -> str:
    """So many of something, as a message says it: `1 run`, `1,437 images`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def volume(number: int) -> str:
    """A size as people say it: 29 kB, 170 MB, 2.6 GB."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{number / unit:.{int(number < 10 * unit)}f} {name}"
    return tally(number, "byte")


def duration(seconds: float) -> str:
    """A time as people say it: 45 s, 12 min, 3 h 20 min, 4 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 2880 else f"{minutes / 1440:.3g} days"

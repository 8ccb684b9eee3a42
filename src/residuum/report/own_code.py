"""Own code of a study: which files its runs computed with, what these say of themselves, and what to bring along.

Nothing of it is run here: the texts are those that are kept with the runs, and are only read.
"""

import ast
import re
from dataclasses import dataclass

from residuum import own
from residuum.analysis.results import Results
from residuum.errors import InputError
from residuum.records.regular import contents
from residuum.records.run_folder import CODE
from residuum.report.tables import Table

PUT_TOGETHER = {own.NOTEBOOK: "a notebook", own.SCRIPT: "a script", own.OBJECT: "an object in Python"}
"""Where a text comes from that was put together: nobody has a file of that name."""
SHORT = 12
"""Digits of a SHA-256 that people read."""


@dataclass(frozen=True)
class OwnCode:
    """A text that runs of some arms computed with: a name under which it stands there, its SHA-256, and the text.

    The text is empty where no run has it yet.
    """

    name: str
    digest: str
    arms: tuple[str, ...]
    text: str

    @property
    def file(self) -> str:
        """The file to bring along: where it was put together, the one that is kept with each run."""
        where = self.name.partition(":")[0]
        return f"{CODE}/{own.file_of(self.name, self.digest)}" if where in PUT_TOGETHER else where

    @property
    def reference(self) -> str:
        """The file with its hash, as it is told."""
        return f"{self.file} (SHA-256 {self.digest[:SHORT]}…)"


def of_study(results: Results) -> tuple[OwnCode, ...]:
    """The own code of a study's arms, each text once, in the order of the arms."""
    arms: dict[tuple[str, str], dict[str, None]] = {}
    texts: dict[str, str] = {}
    for run in results.plan.runs:
        for digest, name in own.codes(run.config.model_dump(mode="json")).items():
            arms.setdefault((digest, name), {})[run.arm] = None
            if not texts.get(digest):
                texts[digest] = own.text_of(digest) or _kept(results, run.id, name, digest)
    return tuple(OwnCode(name, digest, tuple(of), texts[digest]) for (digest, name), of in arms.items())


def _kept(results: Results, id_: str, name: str, digest: str) -> str:
    record = results.records.get(id_)
    path = record.folder / CODE / own.file_of(name, digest) if record else None
    try:
        return contents(path, own.MOST_BYTES).decode() if path else ""
    except (OSError, InputError, UnicodeDecodeError):  # the report says by itself which folders are damaged
        return ""


def texts(results: Results) -> dict[str, str]:
    """The texts of the own code of a study by their hash."""
    return {one.digest: one.text for one in of_study(results)}


def described(kind: str, name: str, text: str) -> str:
    """What own code is, in a sentence: the first one of its docstring, else its name and its file."""
    where = name.partition(":")[0]
    source = PUT_TOGETHER.get(where, where)
    said = first_sentence(text, own.short(name))
    return f"The {kind} “{own.short(name)}” is own code, from {source}" + (f": “{said}”" if said else ".")


def first_sentence(text: str, name: str) -> str:
    """The first sentence of the docstring of a class or function in a text; empty where it has none."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return ""
    kinds = (ast.ClassDef, ast.FunctionDef)
    found = next((one for one in body if isinstance(one, kinds) and one.name == name), None)
    paragraph = " ".join(((ast.get_docstring(found) if found else "") or "").partition("\n\n")[0].split())
    sentence = re.match(r".+?[.!?](?=\s|$)", paragraph)
    return (sentence[0] if sentence else paragraph).replace("`", "")


def table(found: tuple[OwnCode, ...]) -> Table:
    """Which file which arms computed with: what of it, its SHA-256 in full."""
    rows = tuple((one.file, own.short(one.name), ", ".join(one.arms), one.digest) for one in found)
    return Table(("file", "what", "arms", "SHA-256"), rows)


def to_bring(found: tuple[OwnCode, ...], beside: str) -> str:
    """Which files a study takes that its author has written, as a sentence; empty where there are none.

    `beside` is the file of the study, where these have to lie.
    """
    files = dict.fromkeys(one.reference for one in found)
    if not files:
        return ""
    several = len(files) > 1
    where = f" and has to lie beside {beside}" if beside else ""
    return (
        f"{' and '.join(files)} {'are' if several else 'is'} the author's own code, which belongs to this document"
        f"{where.replace(' has ', ' have ') if several else where}; with another text the runs are others."
    )

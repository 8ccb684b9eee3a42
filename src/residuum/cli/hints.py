"""How the command line says an error: options where Python has arguments, commands where it has functions."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from residuum.errors import InputError, Remedy, RemedyKind, ResiduumError, line, quoted

COMMANDS: Mapping[RemedyKind, str] = {
    "last": "--which last takes the last one",
    "anew": "`residuum train` with --fresh computes it anew",
    "anew with": "train it with --set {} --fresh",
    "list runs": "`residuum list runs` shows the runs that there are",
    "other runs": "name another folder with --runs",
    "list models": "`residuum list models` shows them",
    "explain": "`residuum explain` makes it",
    "run study": "`residuum study run` makes it for arms that a study looks into",
    "first run study": "run it first (`residuum study run`)",
    "moved data": "--data says where the data lies now",
    "another device": "--device cpu goes on with it here, no longer bit for bit",
    "images": "give image files, or test images by --images",
    "limits": "give --max-params, --max-macs or --max-memory",
    "seeds": "--seeds gives them",
    "until decided": "go on with --until-decided, or ask anew in a study of another name",
    "data here": "--data says where it lies",
    "fetch": "`residuum data fetch {}` downloads it",
    "key": "--key {} takes the weights without it",
    "trust": "--trust lets it run from then on",
    "trust by evaluate": "`residuum evaluate RUN --trust` lets it run from then on",
    "which key": "say which, as --key {}",
    "score on": "`residuum evaluate RUN --on` scores a run on it",
    "another out": "name another --out",
    "show model": "`residuum show model` lists its layers",
    "search": "`residuum study search` does, and writes the study that judges them",
}


FIRST = """\
Three commands to begin with; nothing is downloaded:

  residuum train quick                                   train a network on images of digits that come along
  residuum study run quickstart --scale 0.1 --seeds 2    ask whether shortcuts help, with error bars
  residuum list                                          what there are names for: recipes, models, studies, runs …

`residuum --help` shows all commands, and `residuum train --help` the options of one.
"""
"""What `residuum` alone says."""


def said(error: ResiduumError) -> str:
    """The line that the command line prints for an error, never a long one."""
    if not isinstance(error, InputError):
        return line(str(error))
    option = f"--{error.argument.replace('_', '-')}: " if error.argument else ""
    return line(helped(f"{option}{error.text}", error.remedies))


def able(error: InputError, options: Sequence[str]) -> None:
    """Let an error name another command where what helps is an option that this one, with these options, has not."""
    if "--trust" not in options:
        other = {"trust": Remedy("trust by evaluate")}
        error.remedies = tuple(other.get(one.kind, one) for one in error.remedies)


def helped(text: str, remedies: Sequence[Remedy]) -> str:
    """A text, and what would help, in commands and options."""
    return "; ".join([text, *(COMMANDS[one.kind].format(one.about) for one in remedies)])


def settings_called(name: str) -> list[str]:
    """The dotted settings that a word means: it is their last part, or all of it; dashes stand for underscores."""
    from residuum.config import RunConfig, described_settings

    word = name.replace("-", "_")
    own = [path for path, _, _ in described_settings(RunConfig) if word in (path, path.rpartition(".")[2])]
    return own or sorted({path for path in _of_choices() if word in (path, path.rpartition(".")[2])})


def _tables() -> dict[str, Any]:
    """The tables that settings choose from, by the dotted setting."""
    from residuum import optim
    from residuum.data.datasets import DATASETS
    from residuum.data.mix import MIXES
    from residuum.data.normalize import NORMALIZERS
    from residuum.models import MODELS

    return {
        "model": MODELS, "optim.optimizer": optim.OPTIMIZERS, "optim.schedule": optim.SCHEDULES,
        "optim.loss": optim.LOSSES, "data.dataset": DATASETS, "data.normalize": NORMALIZERS, "data.mix": MIXES,
    }  # fmt: skip


def _of_choices() -> Iterator[str]:
    """The dotted settings that members of tables take, as `optim.optimizer.momentum`."""
    for path, table in _tables().items():
        yield from _within(path, table)


def _nearest(path: str, given: str) -> str:
    """The value of a setting as it was meant: of a name that is in no table, the nearest in the setting's own."""
    near = get_close_matches(given, [*_tables().get(path, ())], n=1, cutoff=0.5)
    return near[0] if near else given


def _within(path: str, table: Any) -> Iterator[str]:
    for member in table:
        for name, setting in table.settings(member).items():
            yield f"{path}.{name}"
            if setting.table is not None:
                yield from _within(f"{path}.{name}", setting.table)


def unexpected(word: str, after: str | None, options: Sequence[str]) -> str:
    """What is said of a word that a command does not take; `after` is the next one, `options` are what it takes."""
    option, equals, value = word.partition("=")
    name = option.lstrip("-")
    takes_settings = "--set" in options
    if takes_settings and name and (option != word or word.startswith("--")):
        found = settings_called(name)
        given = value if equals else after if after is not None and not after.startswith("-") else "VALUE"
        if found:
            what = f"unknown option {quoted(option)}" if word.startswith("-") else f"unexpected {quoted(word)}"
            return f"{what}; use " + " or ".join(f"--set {path}={_nearest(path, given)}" for path in found)
    if not word.startswith("-"):
        return f"unexpected {quoted(word)}"
    known = {one: one for one in options}
    if takes_settings and not get_close_matches(option, options, n=1, cutoff=0.75):
        from residuum.config import RunConfig, described_settings

        paths = [path for path, _, _ in described_settings(RunConfig)]
        settings = {f"--{path.rpartition('.')[2].replace('_', '-')}": f"--set {path}=" for path in paths}
        if get_close_matches(option, settings, n=1, cutoff=0.75):
            known = settings
    near = get_close_matches(option, known, n=1, cutoff=0.4)
    return f"unknown option {quoted(word)}" + (f"; did you mean {quoted(known[near[0]])}?" if near else "")

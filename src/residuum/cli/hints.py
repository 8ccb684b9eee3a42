"""How the command line says an error: options where Python has arguments, commands where it has functions."""

from collections.abc import Mapping, Sequence

from residuum.errors import InputError, Remedy, RemedyKind, ResiduumError

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
    "score on": "`residuum evaluate RUN --on` scores a run on it",
    "search": "`residuum study search` does, and writes the study that judges them",
}


def said(error: ResiduumError) -> str:
    """The line that the command line prints for an error."""
    if not isinstance(error, InputError):
        return str(error)
    option = f"--{error.argument.replace('_', '-')}: " if error.argument else ""
    return helped(f"{option}{error.text}", error.remedies)


def helped(text: str, remedies: Sequence[Remedy]) -> str:
    """A text, and what would help, in commands and options."""
    return "; ".join([text, *(COMMANDS[one.kind].format(one.about) for one in remedies)])

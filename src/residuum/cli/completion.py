"""`residuum completion`: what makes a shell complete commands, options, and the names of what there is.

A shell asks this program at every tab, which reads only what describes: torch takes seconds. So the names are those of
this moment: the arms of the study that was just named, the runs of the folder that `--runs` names.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from residuum.cli.options import RUNS, Command
from residuum.errors import ResiduumError

SCRIPTS = {
    "bash": """\
_residuum() {
    local IFS=$'\\n'
    COMPREPLY=($(residuum completion bash --words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _residuum residuum
""",
    "zsh": """\
#compdef residuum
_residuum() {
    local -a found
    found=("${(@f)$(residuum completion zsh --words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -z "${found[1]}" ]]; then _files
    elif [[ "${found[1]}" == *= ]]; then compadd -S '' -- "${found[@]}"
    else compadd -- "${found[@]}"
    fi
}
compdef _residuum residuum
""",
    "fish": """\
function __residuum
    set -l before (commandline -opc)
    set -l now (commandline -ct)
    set -l found (residuum completion fish --words $before[2..-1] "$now" 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path "$now"
    end
end
complete -c residuum -f -a '(__residuum)'
""",
}
"""What each shell runs once: `source <(residuum completion bash)`."""


def add(command: Command) -> None:
    """Add `completion`."""
    p = command("completion", completion, "Print what makes a shell complete commands, names and runs.")
    p.add_argument(
        "shell", choices=SCRIPTS, metavar="SHELL", help=f"{', '.join(SCRIPTS)}: sourced by it, once or always"
    )
    p.add_argument("--words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def completion(options: argparse.Namespace) -> None:
    """`residuum completion SHELL`, and what the shell then asks: `--words` are those before the cursor."""
    if options.words is None:
        print(SCRIPTS[options.shell], end="")
        return
    quoted = re.compile(r"([^\w@%+=:,./\-])")
    for one in candidates(options.words or [""]):
        # zsh and fish quote what they insert themselves.
        print(quoted.sub(r"\\\1", one) if options.shell == "bash" else one)


@dataclass
class Line:
    """A command line so far: the command, its positional words by what they are called, and the folder of the runs."""

    command: str = ""
    given: dict[str, str] = field(default_factory=dict)
    runs: Path = RUNS


Names = Callable[[Line], Iterable[str]]


def candidates(words: Sequence[str]) -> list[str]:
    """What the last of some words may become, the others being before it; empty where it may be anything."""
    from residuum.cli import build_parser

    *before, now = words
    parser: argparse.ArgumentParser = build_parser()[0]
    line, waiting, place = Line(), None, 0
    for word in before:
        if word.startswith("-") and len(word) > 1:
            option, _, value = word.partition("=")
            action = parser._option_string_actions.get(option)
            if action is not None and action.dest == "runs" and value:
                line.runs = Path(value)
            waiting = action if action is not None and action.nargs != 0 and not value else None
        elif waiting is not None:
            line.runs = Path(word) if waiting.dest == "runs" else line.runs
            waiting = waiting if waiting.nargs in ("+", "*") else None
        else:
            at = _positional(parser, place)
            if isinstance(at, argparse._SubParsersAction):
                if word not in at.choices:
                    return []
                parser, place = at.choices[word], 0
                line.command = parser.prog.removeprefix("residuum ")
            elif at is not None:
                line.given[_called(at, line.command)] = word
                place += 1
    if waiting is not None:
        return _fitting(now, waiting, line)
    if now.startswith("-"):
        return [option for option in parser._option_string_actions if option.startswith(now)]
    at = _positional(parser, place)
    return [] if at is None else _fitting(now, at, line)


def _positional(parser: argparse.ArgumentParser, place: int) -> argparse.Action | None:
    """The argument at a place; the last may take several words."""
    actions = [action for action in parser._actions if not action.option_strings]
    if place >= len(actions):
        return actions[-1] if actions and actions[-1].nargs in ("+", "*") else None
    return actions[place]


def _fitting(now: str, action: argparse.Action, line: Line) -> list[str]:
    """The values of an argument that begin as the word does; of a list, those of its last part."""
    called = _called(action, line.command)
    try:
        known = list(map(str, action.choices)) if action.choices else list(NAMES.get(called, _none)(line))
    except ResiduumError:  # a study's file that is wrong, a folder that cannot be read
        return []
    cuts = [0, *(at + 1 for at, letter in enumerate(now) if letter == ",")] if called == "ARM,…" else [0]
    found = {now[:cut] + name: None for cut in cuts for name in known if name.startswith(now[cut:])}
    return [*found]


def _called(action: argparse.Action, command: str) -> str:
    """What a value of an argument is called: by its command, its placeholder, or its option."""
    own = f"{command} {action.dest}"
    if own in NAMES:
        return own
    return action.metavar if isinstance(action.metavar, str) else next(iter(action.option_strings[::-1]), action.dest)


def _none(_line: Line) -> Iterable[str]:
    return ()


def _studies(_line: Line) -> Iterable[str]:
    from residuum.studies import parsing

    return [*parsing.names(), *sorted(str(path) for path in Path().glob("*.toml"))]


def _labels(line: Line) -> Iterable[str]:
    from residuum.studies import plan

    return [folder.name for folder in plan.plans(line.runs)]


def _study(line: Line) -> Any:
    from residuum.studies import parsing

    return parsing.read(line.given.get("STUDY", ""))


def _runs(line: Line) -> Iterable[str]:
    from residuum.records.record import find_runs

    return [folder.name for folder in find_runs(line.runs)]


def _models(_line: Line) -> Iterable[str]:
    from residuum.networks.names import network_names

    return network_names()


def _recipes(_line: Line) -> Iterable[str]:
    from residuum.recipes import RECIPES

    return RECIPES


def _data_sets(_line: Line) -> Iterable[str]:
    from residuum.data.datasets import DATASETS

    return DATASETS


def _published(_line: Line) -> Iterable[str]:
    from residuum.data.datasets import ENTRIES

    return [name for name, entry in ENTRIES.items() if entry.remotes]


def _settings(_line: Line) -> Iterable[str]:
    from residuum.config import RunConfig, described_settings

    return [f"{path}=" for path, _, _ in described_settings(RunConfig)]


def _kinds(_line: Line) -> Iterable[str]:
    from residuum.cli.listing import kinds

    return kinds()


def _status(_line: Line) -> Iterable[str]:
    from residuum.cli.listing import STATUS

    return STATUS


def _presets(_line: Line) -> Iterable[str]:
    from residuum.networks.presets import PRESETS

    return PRESETS


def _trackers(_line: Line) -> Iterable[str]:
    return ("tensorboard", "wandb", "mlflow")


def _places(_line: Line) -> Iterable[str]:
    return ("processes", "here", "ray", "slurm")


def _devices(_line: Line) -> Iterable[str]:
    return ("auto", "cpu", "cuda", "mps")


NAMES: Mapping[str, Names] = {
    "STUDY": _studies, "study report name": _labels, "list study": _labels,
    "ARM,…": lambda line: [arm.name for arm in _study(line).arms()], "--topic": lambda line: _study(line).topics(),
    "RUN": _runs, "RUN|FILE": _runs, "explain beside": _runs,
    "RECIPE": _recipes, "train recipe": _recipes, "show recipe name": _recipes,
    "--model": _models, "show model name": _models, "--preset": _presets, "NAME": _presets,
    "--data": _data_sets, "OTHER": _data_sets, "data fetch name": _published, "data check data": _data_sets,
    "data stats data": _data_sets, "PATH=VALUE": _settings, "KIND": _kinds, "--status": _status,
    "TRACKER": _trackers, "PLACE": _places, "--device": _devices,
}  # fmt: skip
"""The names that an argument takes, by its command and destination, its placeholder or its option."""

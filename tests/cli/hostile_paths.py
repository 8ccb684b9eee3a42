"""Names that can be no path, or look like a pattern or another's home, in place of every text that a command takes.

    python tests/cli/hostile_paths.py --count 400

Each ends well or in one line: a name is taken letter by letter, `?` and `*` too, and what lies under another is left.
The script calls commands on real runs; the suite calls all of them where there are none.
"""

import argparse
import os
import random
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import disk_faults

from residuum.cli import build_parser

NAMES = ("~nosuchuser", "~nosuchuser/x.png", "a\0b", "\0", "é" * 200, "x" * 256, "x" * 300 + ".toml", "x/" * 3000, "", " ",
         ".", "..", "?", "*", "**/*", "[a-z]", "a[b]*?.png", "a?.toml", "{a,b}", "$HOME", "-", "\ud800", "a\nb", "\x1b[2J",
         "/dev/zero/x", "/proc/self/mem", "//", "x" * 20_000)  # fmt: skip
LEFT_OUT = {"serve", "cluster up", "cluster down", "cluster status", "data fetch", "completion", "study watch", "bench",
            "models search", "study", "cluster", "data", "show", "models"}  # fmt: skip
"""Commands that wait, need a network or a cluster, take no path, or are only groups of others."""


def takes_text(action: argparse.Action) -> bool:
    """Whether an argument is a text that may be a path or a name."""
    return action.nargs != 0 and action.choices is None and action.type not in (int, float)


def cases() -> Iterator[list[str]]:
    """Each command with each such name in place of each text that it takes, the others as somebody may write them."""
    for command, parser in build_parser()[1].items():
        if command in LEFT_OUT:
            continue
        actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
        needed = [
            action for action in actions if action.required or (not action.option_strings and action.nargs != "*")
        ]
        for action in filter(takes_text, actions):
            for name in NAMES:
                words = command.split()
                for one in needed if action in needed else [*needed, action]:
                    value = name if one is action else "1" if one.type in (int, float) else (
                        str(next(iter(one.choices))) if one.choices else "quickstart")  # fmt: skip
                    words += [f"{one.option_strings[0]}={value}"] if one.option_strings and one.nargs is None else (
                        [one.option_strings[0], value] if one.option_strings else [value])  # fmt: skip
                yield words


def on_runs() -> Iterator[list[str]]:
    """Commands that end well on real runs, with such a name in place of one word, or as one more option."""
    parsers = build_parser()[1]
    for words in disk_faults.COMMANDS.values():
        command = next((name for name in (" ".join(words[:2]), words[0]) if name in parsers), "")
        if not command or command in LEFT_OUT:
            continue
        first = len(command.split())
        for name in NAMES:
            for at in range(first, len(words)):
                if not words[at].startswith("--"):
                    yield [*words[:at], name, *words[at + 1 :]]
            for action in parsers[command]._actions:
                if action.option_strings and takes_text(action) and action.option_strings[0] not in words:
                    yield [*words, f"{action.option_strings[0]}={name}"]


def wrong(code: int, said: str) -> str:
    """What is wrong with how a command ended; empty where nothing is."""
    lines = [line for line in said.splitlines() if line.startswith("residuum: ")]
    if "Traceback" in said or code not in (0, 1, 2, 74):
        return f"exit {code}: {said[-300:]!a}"
    if code and (len(lines) != 1 or len(lines[0]) > 300 + len("residuum: ") or not lines[0].isprintable()):
        return f"exit {code} without one line: {said[-600:]!a}"
    return ""


def _tried(count: int, seed: int) -> list[str]:
    failures, place = [], Path(tempfile.mkdtemp(prefix="residuum-paths-"))
    os.environ["RESIDUUM_CACHE"] = str(place / "cache")
    try:
        disk_faults.made(place / "made")
        every = list(on_runs())
        for words in random.Random(seed).sample(every, min(count, len(every))):
            here = place / "here"
            shutil.copytree(place / "made", here)
            code, said = disk_faults.called(words, {"kind": "full", "size": resource.RLIM_INFINITY}, here)
            if problem := wrong(code, said):
                failures.append(f"{[word[:60] for word in words]}: {problem}")
                print(failures[-1], flush=True)
            shutil.rmtree(here)
    finally:
        shutil.rmtree(place)
    return failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = _tried(options.count, options.seed)
    print(f"tried {options.count}, {len(found)} failed")
    sys.exit(bool(found))

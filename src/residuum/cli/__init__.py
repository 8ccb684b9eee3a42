"""The command line: parse, call one function, print.

A command is a file beside this one, whose `add` adds it to the parser. Nothing heavy is imported before a command needs
it, so `residuum --help` answers at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from residuum import __version__, own
from residuum.cli.hints import FIRST, able, needed, said, unexpected
from residuum.cli.stores import brought
from residuum.cli.surroundings import kept_out
from residuum.cli.trusting import trusted
from residuum.errors import InputError, ResiduumError, StorageError, line, quoted, unknown
from residuum.members import gathered

SHOWN_FIRST = ("studying", "runs", "import_weights", "listing", "showing", "classes", "explain", "inspecting", "data",
               "models", "surfacing", "exporting")  # fmt: skip
"""The order in which `--help` shows the commands, by their files; all others follow by name."""
HELPERS = ("hints", "options", "progress", "stores", "surroundings", "terminal", "trusting", "watching")
"""Files without commands, some of which are slow to import."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the nearest valid word, and end in exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise InputError(f"{needed(message)}; `{self.prog} --help` shows what there is")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = f"value for {action.option_strings[0]}" if action.option_strings else action.metavar or action.dest
            raise unknown(str(what), str(value), map(str, action.choices))

    def known_options(self) -> list[str]:
        """Every long option of this command."""
        return [option for action in self._actions for option in action.option_strings if option.startswith("--")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 2 bad input, 74 input or output, 75 busy, 128 + signal."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if sys.platform == "win32":
        print("residuum: it needs Linux or macOS; on Windows it runs within WSL", file=sys.stderr)
        return 2
    with kept_out():
        return _main(words)


def _main(words: list[str]) -> int:
    debug = "--debug" in words
    try:
        try:
            _call(words)
        finally:
            sys.stdout.flush()  # a disk that is full may say so only now
    except ResiduumError as error:
        if debug:
            raise
        print(f"residuum: {said(error)}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a library's, or of a file that nobody expected to fail
        if debug:
            raise
        at = f"{error.filename}: " if error.filename is not None else ""
        print(f"residuum: {line(f'{at}{error.strerror or error}')}", file=sys.stderr)
        return InputError.exit_code if error.errno == errno.ENAMETOOLONG else StorageError.exit_code
    except KeyboardInterrupt as error:
        number = signal.Signals(error.args[0] if error.args else signal.SIGINT)
        print(f"residuum: stopped by {number.name}", file=sys.stderr)
        return 128 + number
    return 0


def _call(words: list[str]) -> None:
    """Parse, and call what the command is."""
    if not words:
        print(FIRST, end="")
        return
    for word in words:
        _check_word(word)
    parser, _ = build_parser()
    options, rest = parser.parse_known_args([word for word in words if word != "--debug"])
    if rest:
        raise _unexpected(rest[0], words, options.parser)
    options.given = words
    run: Callable[[argparse.Namespace], None] = options.run
    with brought(options), own.blaming():
        try:
            trusted(options)
            run(options)
        except InputError as error:
            able(error, options.parser.known_options())
            raise


def _check_word(word: str) -> None:
    """Refuse a word that no system hands on to a program: what calls `main` may hold anything."""
    try:
        fits = b"\0" not in os.fsencode(word)
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise InputError(f"{quoted(word)} holds a letter that no argument can have")


def _unexpected(word: str, words: Sequence[str], parser: Parser) -> InputError:
    after = words[words.index(word) + 1 :]
    text = unexpected(word, after[0] if after else None, parser.known_options())
    return InputError(text if "; " in text else f"{text}; `{parser.prog} --help` shows what there is")


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of all commands, and those of the commands by name."""
    parser = Parser(
        prog="residuum",
        description="A laboratory for deep residual learning on small images.",
        epilog="A user's mistake is one line and exit code 2; --debug adds the traceback.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"residuum {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    made: dict[str, Parser] = {}

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str, within: Any = commands) -> Parser:
        made_now: Parser = within.add_parser(name, help=text, description=text, allow_abbrev=False)
        made_now.set_defaults(run=run, parser=made_now)
        made[made_now.prog.removeprefix("residuum ")] = made_now
        return made_now

    files = gathered(__name__, "add", besides=HELPERS)
    for name in sorted(files, key=lambda name: (*SHOWN_FIRST, name).index(name)):
        files[name](command)
    return parser, made

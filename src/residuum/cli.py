"""The command line: parse, call one function, print.

Nothing heavy is imported before a command needs it, so `residuum --help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from residuum import __version__
from residuum.errors import InputError, ResiduumError, unknown

if TYPE_CHECKING:
    from residuum.config import RunConfig
    from residuum.records.event import Event
    from residuum.records.record import RunRecord

RUNS = Path("runs")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the nearest valid word, and end in exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise InputError(f"{message}; `{self.prog} --help` shows what there is")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise unknown(action.metavar or action.dest, str(value), map(str, action.choices))

    def known_options(self) -> list[str]:
        """Every long option of this command."""
        return [option for action in self._actions for option in action.option_strings if option.startswith("--")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 2 bad input, 74 input or output, 75 busy, 128 + signal."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        parser, commands = build_parser()
        options, rest = parser.parse_known_args([word for word in words if word != "--debug"])
        if rest:
            raise _unexpected(rest[0], commands.get(options.command, parser))
        run: Callable[[argparse.Namespace], None] = options.run
        run(options)
    except ResiduumError as error:
        if debug:
            raise
        print(f"residuum: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone: not worth a word
        return 0
    except KeyboardInterrupt:
        return 130
    return 0


def _unexpected(word: str, parser: Parser) -> InputError:
    if not word.startswith("-"):
        return InputError(f"unexpected {word!r}; `{parser.prog} --help` shows what there is")
    near = get_close_matches(word.partition("=")[0], parser.known_options(), n=1, cutoff=0.4)
    return InputError(
        f"unknown option {word!r}; " + (f"did you mean {near[0]!r}?" if near else f"see `{parser.prog} --help`")
    )


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
        made[name] = within.add_parser(name, help=text, description=text, allow_abbrev=False)
        made[name].set_defaults(run=run)
        return made[name]

    p = command("train", train, "Train a network by a recipe; the same command goes on with a stopped run.")
    p.add_argument("recipe", help="a recipe: `residuum list recipes`")
    p.add_argument("--model", help="a network, as resnet20, plain56, resnet24c, resnet18")
    p.add_argument("--data", help="a data set's name, or a file or folder that holds one")
    p.add_argument("--epochs", type=int)
    p.add_argument("--batch-size", type=int)
    p.add_argument("--lr", type=float, help="base learning rate")
    p.add_argument("--seed", type=int)
    p.add_argument("--device", help="auto, cpu, cuda or mps")
    p.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="any setting: `residuum list settings`"
    )
    p.add_argument(
        "--fresh", action="store_true", help="compute anew what is already there; the old record is kept aside"
    )
    _common(p)

    p = command("resume", resume, "Go on with a stopped run.")
    p.add_argument("folder", metavar="RUN", help="a run folder, or the beginning of a run's id")
    _common(p)

    p = command("evaluate", evaluate, "Score a run's weights on the test set.")
    p.add_argument("folder", metavar="RUN", help="a run folder, or the beginning of a run's id")
    p.add_argument(
        "--which", choices=("last", "selected"), default="last", help="weights of the last or the selected epoch"
    )
    p.add_argument("--data", help="where the data set lies now, if it was moved")
    _common(p)

    p = command("predict", predict, "Class probabilities for image files, prepared as in training.")
    p.add_argument("folder", metavar="RUN", help="a run folder, or the beginning of a run's id")
    p.add_argument("images", metavar="IMAGE", nargs="+", type=Path)
    p.add_argument(
        "--which", choices=("last", "selected"), default="last", help="weights of the last or the selected epoch"
    )
    p.add_argument("--top", type=int, default=3, help="how many classes to print")
    _common(p)

    p = command("list", list_things, "Names that settings and commands take.")
    p.add_argument(
        "kind", metavar="KIND", nargs="?", default="", help="recipes, models, datasets, runs …; without: the kinds"
    )
    _common(p)

    p = command("show", show, "A model's layers, a recipe's settings, or a run's record.")
    p.add_argument("what", choices=("model", "recipe", "run"), metavar="model|recipe|run")
    p.add_argument("name")
    p.add_argument("--input", default="", help="image shape, as 3x32x32")
    p.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="a setting, as model.wide=2")
    _common(p)

    p = command("data", lambda options: None, "Fetch, check and describe data sets.")
    data = p.add_subparsers(dest="command", metavar="fetch|check|stats", required=True)
    p = command("fetch", data_fetch, "Download a data set into the cache.", within=data)
    p.add_argument("name", help="a data set: `residuum list datasets`")
    p = command(
        "check", data_check, "Verify counts, shapes, label balance, duplicates between train and test.", within=data
    )
    p.add_argument("data", help="a data set's name, or a file or folder that holds one")
    _common(p)
    p = command("stats", data_stats, "Mean and standard deviation of the training split.", within=data)
    p.add_argument("data", help="a data set's name, or a file or folder that holds one")
    p.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as data.validation=5000")
    _common(p)

    p = command("import-weights", import_weights, "Put a public state dict into a run folder.")
    p.add_argument("file", type=Path)
    p.add_argument("--model", required=True)
    p.add_argument(
        "--normalize",
        nargs=2,
        metavar=("MEAN", "STD"),
        required=True,
        help="per channel, as 0.49,0.48,0.45 0.25,0.24,0.26",
    )
    p.add_argument("--data", default="cifar10", help="the data set it was trained on (names its classes)")
    _common(p)

    p = command("bench", bench, "Measure this engine against a plain training script, and against the machine.")
    p.add_argument("--images", type=int, default=4096, help="training images of an epoch")
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--data", default="", help="a CIFAR-10 file or folder; without: random images of that size")
    _common(p)
    return parser, made


def _common(parser: Parser) -> None:
    parser.add_argument("--runs", type=Path, default=RUNS, metavar="DIR", help="where run folders lie (default: runs)")
    parser.add_argument("--json", action="store_true", help="end in one line of JSON on standard output")


def train(options: argparse.Namespace) -> None:
    """`residuum train RECIPE …`."""
    from residuum import recipes
    from residuum.train import run

    config = recipes.recipe(options.recipe).changed(_settings(options))
    _go(run(config, options.runs, recipe=options.recipe, fresh=options.fresh), options)


def resume(options: argparse.Namespace) -> None:
    """`residuum resume RUN`."""
    from residuum.records.record import find_run
    from residuum.train import resume as resumed

    _go(resumed(find_run(options.folder, options.runs)), options)


def _go(events: Any, options: argparse.Namespace) -> None:
    """Run, show, draw the curves, and say what came out."""
    from residuum.launchers.local import launch
    from residuum.report.terminal import show as show_events

    record = show_events(launch(events), sys.stderr if options.json else sys.stdout)
    if record is None:
        return
    if record.epochs:
        from residuum.report import style
        from residuum.report.figures import curves

        paths = style.save(curves.draw(curves.data(record)), record.folder / "curves")
        if not options.json:
            print(f"curves: {paths[0]}")
    if options.json:
        _print_json(_summary(record))


def _summary(record: RunRecord) -> dict[str, Any]:
    return {"run": record.id, "folder": str(record.folder), "status": record.status, "result": record.result}


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the options of a command stand for; `--set` comes last and wins."""
    from residuum.config import parse_setting

    named = {
        "model": getattr(options, "model", None),
        "train.epochs": getattr(options, "epochs", None),
        "train.batch_size": getattr(options, "batch_size", None),
        "optim.lr": getattr(options, "lr", None),
        "train.seed": getattr(options, "seed", None),
        "compute.device": getattr(options, "device", None),
    }
    settings = {path: value for path, value in named.items() if value is not None}
    if getattr(options, "data", None):
        settings |= _data_settings(options.data)
    return settings | dict(map(parse_setting, options.set))


def _data_settings(text: str) -> dict[str, Any]:
    """The settings that `--data` stands for: a data set's name, or a path whose kind is found by its content."""
    from residuum.data.datasets import DATASETS, find

    if text in DATASETS and not Path(text).exists():
        return {"data.dataset": text}
    if not Path(text).exists():
        raise unknown("data set or path", text, DATASETS)
    return {"data.dataset": find(Path(text)), "data.root": text}


def _print_json(values: Any) -> None:
    print(json.dumps(values, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())

"""The command line: parse, call one function, print.

Nothing heavy is imported before a command needs it, so `residuum --help` answers at once.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from residuum import __version__, cli_study
from residuum.errors import InputError, ResiduumError, unknown

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from residuum.analysis.classes import Findings, Mistake, Predictions
    from residuum.assemble import Data
    from residuum.records.record import RunRecord

RUNS = Path("runs")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the nearest valid word, and end in exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise InputError(f"{message}; `{self.prog} --help` shows what there is")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise unknown(str(action.metavar or action.dest), str(value), map(str, action.choices))

    def known_options(self) -> list[str]:
        """Every long option of this command."""
        return [option for action in self._actions for option in action.option_strings if option.startswith("--")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 2 bad input, 74 input or output, 75 busy, 128 + signal."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        parser, _ = build_parser()
        options, rest = parser.parse_known_args([word for word in words if word != "--debug"])
        if rest:
            raise _unexpected(rest[0], options.parser)
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
        made[name].set_defaults(run=run, parser=made[name])
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

    p = command("show", lambda _options: None, "Look at models, recipes, runs, and the parts that they are made of.")
    shown = p.add_subparsers(dest="command", metavar="command", required=True)
    p = command("model", show_model, "A model's layers with their shapes, parameters and multiply-adds.", within=shown)
    p.add_argument("name", help="a network, as resnet20: `residuum list models`")
    p.add_argument("--input", default="", help="image shape, as 3x32x32")
    p.add_argument("--classes", type=int, help="classes (default: 10, ImageNet forms 1000)")
    p.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="a setting, as model.wide=2")
    p.add_argument(
        "--draw", nargs="?", const="", metavar="FILE", help="also draw it, as PNG and as SVG (default: its name)"
    )
    _common(p)
    p = command("recipe", show_recipe, "A recipe's settings.", within=shown)
    p.add_argument("name", help="a recipe: `residuum list recipes`")
    p.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="any setting")
    _common(p)
    p = command("run", show_run, "A run's epochs and result.", within=shown)
    p.add_argument("name", metavar="RUN", help="a run folder, or the beginning of a run's id")
    _common(p)
    p = command("activations", show_activations, "Draw all activation functions and their derivatives.", within=shown)
    _figure(p, "activations")
    p = command("schedules", show_schedules, "Draw the learning rate over a run: all schedules, or those of recipes.",
                within=shown)  # fmt: skip
    p.add_argument("recipes", metavar="RECIPE", nargs="*", help="recipes: `residuum list recipes`")
    p.add_argument("--epochs", type=int)
    p.add_argument("--lr", type=float, help="base learning rate")
    p.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="a setting, as optim.warmup=5")
    _figure(p, "schedules")
    p = command("augmentations", show_augmentations, "Draw images before and after each augmentation, normalisation, "
                "mixing: all there are, or a recipe's.", within=shown)  # fmt: skip
    p.add_argument("recipe", metavar="RECIPE", nargs="?", help="a recipe: `residuum list recipes`")
    p.add_argument("--data", help="a data set's name, or a file or folder that holds one (default: digits)")
    p.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="a setting, as data.mix=cutmix")
    _figure(p, "augmentations")

    p = command("draw", draw, "Draw the learning curves of several runs into one figure.")
    p.add_argument("folders", metavar="RUN", nargs="+", help="run folders, or the beginnings of runs' ids")
    p.add_argument(
        "--out", type=Path, default=Path("curves"), help="file to write, as PNG and as SVG (default: curves)"
    )
    _common(p)

    p = command("classes", classes, "What a run gets wrong, class by class, and how far to trust its probabilities.")
    p.add_argument("folders", metavar="RUN", nargs="+", help="one run or two: folders, or the beginnings of ids")
    p.add_argument(
        "--which", choices=("last", "selected"), default="last", help="weights of the last or the selected epoch"
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="folder for the figures (default: figures/ in the run's)")
    p.add_argument(
        "--mistakes", type=int, default=18, metavar="N",
        help="images to show, the most confident mistakes; 0: none, and the test images are not read (default: 18)",
    )  # fmt: skip
    p.add_argument("--data", help="where the data set lies now, if it was moved")
    _common(p)

    p = command("data", lambda _options: None, "Fetch, check and describe data sets.")
    data = p.add_subparsers(dest="command", metavar="fetch|check|stats", required=True)
    p = command("fetch", data_fetch, "Download a data set into the cache.", within=data)
    p.add_argument("name", help="a data set: `residuum list datasets`")
    p = command(
        "check", data_check, "Verify counts, shapes, label balance, duplicates between train and test.", within=data
    )
    p.add_argument("data", help="a data set's name, or a file or folder that holds one")
    p.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as data.dataset.size=32")
    _common(p)
    p = command("stats", data_stats, "Mean and standard deviation of the training split.", within=data)
    p.add_argument("data", help="a data set's name, or a file or folder that holds one")
    p.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as data.validation=5000")
    _common(p)

    p = command("study", lambda _options: None, "Questions as files: plan, run and report them.")
    cli_study.add(command, p.add_subparsers(dest="command", metavar="command", required=True))

    p = command("models", lambda _options: None, "Find networks under a budget.")
    models = p.add_subparsers(dest="command", metavar="command", required=True)
    text = "List staged networks that use up a budget: the best of each depth, from the shallowest on."
    p = command("search", models_search, text, within=models)
    p.add_argument("--max-params", metavar="N", help="most parameters, as 5e6 or 5M")
    p.add_argument("--max-macs", metavar="N", help="most multiply-adds for an image, as 3e8 or 300M")
    p.add_argument("--max-memory", metavar="BYTES", help="most memory that training at --batch keeps, as 2e9 or 2GB")
    p.add_argument("--stages", type=int, default=4, help="stages; each after the first halves the image (default: 4)")
    p.add_argument("--width", metavar="N,…", default="16,32,64,128", help="channels of the first stage to try")
    p.add_argument("--depth", type=int, help="only networks of this depth, the best for each list of channels")
    p.add_argument("--top", type=int, default=20, help="how many networks to list (default: 20)")
    p.add_argument("--input", default="3x32x32", help="image shape (default: 3x32x32)")
    p.add_argument("--classes", type=int, default=10)
    p.add_argument("--batch", type=int, default=128, help="images of an update, for the memory (default: 128)")
    form = p.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="end in one line of JSON on standard output")
    form.add_argument("--toml", action="store_true", help="print the networks as an axis for a study file")

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
    p.add_argument("--data", help="the data set it was trained on (default: CIFAR-10, whose images are not needed yet)")
    p.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="a setting, as model.channels=[8,8,8]"
    )
    _common(p)

    p = command("bench", bench, "Measure this engine against a plain training script, and against the machine.")
    p.add_argument("--images", type=int, default=4096, help="training images of an epoch")
    p.add_argument("--repeats", type=int, default=3)
    _common(p)
    return parser, made


def _figure(parser: Parser, name: str) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(name),
        metavar="FILE",
        help=f"file to write, as PNG and as SVG (default: {name})",
    )
    parser.add_argument("--json", action="store_true", help="end in one line of JSON on standard output")


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
        if Path(text).name != text or "." in text:
            raise InputError(f"{text} does not exist")
        raise unknown("data set or path", text, DATASETS)
    return {"data.dataset": find(Path(text)), "data.root": text}


def _print_json(values: Any) -> None:
    print(json.dumps(values, allow_nan=False))


def evaluate(options: argparse.Namespace) -> None:
    """`residuum evaluate RUN`."""
    from residuum.predict import evaluate as evaluated
    from residuum.records.record import find_run, read_record

    record = read_record(find_run(options.folder, options.runs))
    scores = evaluated(record, options.which, root=options.data or "")
    if options.json:
        _print_json({"test": scores.plain()})
    else:
        print(f"test loss {scores.loss:.3f} acc {scores.accuracy:.4f} ({scores.n:,} images)")


def predict(options: argparse.Namespace) -> None:
    """`residuum predict RUN IMAGE …`."""
    from residuum.predict import load
    from residuum.predict import predict as predicted
    from residuum.records.record import find_run, read_record

    if options.top < 1:
        raise InputError(f"--top: {options.top} classes; at least 1")
    trained = load(read_record(find_run(options.folder, options.runs)), options.which)
    for prediction in predicted(trained, options.images):
        if options.json:
            _print_json(
                {
                    "image": str(prediction.path),
                    "resized": prediction.resized,
                    "probabilities": prediction.probabilities,
                }
            )
            continue
        top = list(prediction.probabilities.items())[: options.top]
        resized = " (resized)" if prediction.resized else ""
        print(f"{prediction.path}{resized}: " + ", ".join(f"{name} {share:.3f}" for name, share in top))


def list_things(options: argparse.Namespace) -> None:
    """`residuum list KIND`."""
    from residuum.report.terminal import print_table

    kinds = _kinds()
    if not options.kind:
        rows: list[dict[str, Any]] = [{"kind": name} for name in kinds]
    elif options.kind in kinds:
        rows = kinds[options.kind](options)
    else:
        raise unknown("kind", options.kind, kinds)
    if options.json:
        _print_json(rows)
    else:
        print_table([_row_for_people(row) for row in rows])


def _row_for_people(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose `epochs` and `epochs_asked` stand in one column, as 2/10."""
    if "epochs_asked" not in row:
        return row
    shown = {key: value for key, value in row.items() if key != "epochs_asked"}
    return shown if row["epochs"] is None else shown | {"epochs": f"{row['epochs']}/{row['epochs_asked']}"}


def _kinds() -> dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]]:
    """What `residuum list` lists, by its name on the command line."""
    tables = {
        "datasets": ("data.datasets", "DATASETS"),
        "normalizations": ("data.normalize", "NORMALIZERS"),
        "augmentations": ("data.augment", "AUGMENTATIONS"),
        "mixes": ("data.mix", "MIXES"),
        "families": ("models", "MODELS"),
        "blocks": ("models.blocks", "BLOCKS"),
        "shortcuts": ("models.shortcuts", "SHORTCUTS"),
        "orderings": ("models.blocks", "ORDERINGS"),
        "activations": ("models.activations", "ACTIVATIONS"),
        "stems": ("models.stem", "STEMS"),
        "initialisations": ("models.init", "INITS"),
        "optimizers": ("optim", "OPTIMIZERS"),
        "schedules": ("optim", "SCHEDULES"),
        "losses": ("optim", "LOSSES"),
        "penalties": ("optim", "PENALTIES"),
    }
    listed = {name: partial(_table_rows, module, attribute) for name, (module, attribute) in tables.items()}
    return {"recipes": _recipe_rows, "models": _model_rows, "settings": _setting_rows, "runs": _run_rows, **listed}


def _table_rows(module: str, attribute: str, _options: argparse.Namespace) -> list[dict[str, Any]]:
    table = getattr(import_module(f"residuum.{module}"), attribute)
    rows = []
    for name in table:
        settings = {key: _default(setting.default) for key, setting in table.settings(name).items()}
        rows.append({"name": name, "settings": settings, "text": _first_paragraph(table.builder(name))})
    return rows


def _default(value: Any) -> Any:
    if value is inspect.Parameter.empty:
        return "(needed)"
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _first_paragraph(builder: Callable[..., Any]) -> str:
    return " ".join((builder.__doc__ or "").split("\n\n")[0].split()).rstrip(".")


def _recipe_rows(_options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.recipes import RECIPES

    return [{"name": name, "text": _first_paragraph(build)} for name, build in RECIPES.items()]


def _model_rows(_options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.config import network, network_names

    return [{"name": name, "model": network(name)} for name in network_names()]


def _setting_rows(_options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.config import RunConfig, described_settings

    return [
        {"setting": path, "default": default, "text": text} for path, default, text in described_settings(RunConfig)
    ]


def _run_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.config import short_name
    from residuum.records.record import find_runs, read_record

    rows: list[dict[str, Any]] = []
    for folder in find_runs(options.runs):
        try:
            record = read_record(folder)
        except ResiduumError as error:
            rows.append({"run": folder.name, "status": "unreadable", "text": str(error)})
            continue
        last = (record.result.get("last") or {}).get("test", {}).get("accuracy")
        config = record.config
        trained = record.status != "imported"
        rows.append({
            "run": record.id, "status": record.status, "recipe": record.recipe, "model": short_name(config.model),
            "data": config.data.dataset.name, "seed": config.train.seed,
            "epochs": len(record.epochs) + len(record.damaged) if trained else None,
            "epochs_asked": config.train.epochs if trained else None,
            "test_accuracy": last, **({"text": "; ".join(record.damaged)} if record.damaged else {}),
        })  # fmt: skip
    return rows


def show_model(options: argparse.Namespace) -> None:
    """`residuum show model NAME`."""
    from residuum.config import RunConfig, parse_setting
    from residuum.models import MODELS, build
    from residuum.models.summary import summarize
    from residuum.report.terminal import print_table

    full_size = options.name.endswith("-imagenet")
    channels, height, width = shape = _shape(options.input or ("3x224x224" if full_size else "3x32x32"))
    config = RunConfig().changed({"model": options.name, **dict(map(parse_setting, options.set))})
    classes = options.classes if options.classes is not None else (1000 if full_size else 10)
    if classes < 1:
        raise InputError(f"--classes: {classes} classes; at least 1")
    model = MODELS.resolve(config.model)
    network = build(model, channels, classes, (height, width), seed=0)
    summary = summarize(network, shape)
    paths = []
    if options.draw is not None:
        from residuum import pictures

        title = ", ".join([options.name, *options.set])
        paths = _save(pictures.model(title, network, model, shape, classes), Path(options.draw or options.name))
    if options.json:
        totals = {"parameters": summary.parameters, "macs": summary.macs}
        layers = [asdict(layer) for layer in summary.layers]
        said = {"model": options.name, "input": list(shape), "classes": classes, **totals, "layers": layers}
        _print_json(said | ({"figures": paths} if paths else {}))
        return
    print_table([
        {"layer": layer.name, "kind": layer.kind, "output": _times(layer.output_shape),
         "parameters": f"{layer.parameters:,}", "multiply-adds": f"{layer.macs:,}"}
        for layer in summary.layers
    ])  # fmt: skip
    counts = f"{summary.parameters:,} parameters, {summary.macs:,} multiply-adds"
    print(f"{options.name} on images of {_times(shape)}, {classes} classes: {counts}")
    if paths:
        print(*paths, sep="\n")


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.replace("×", "x").split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--input: {text!r} is not channels x height x width, as 3x32x32")
    channels, height, width = map(int, parts)
    return channels, height, width


def show_recipe(options: argparse.Namespace) -> None:
    """`residuum show recipe NAME`."""
    from residuum.config import parse_setting
    from residuum.recipes import recipe
    from residuum.report.terminal import print_table

    settings = recipe(options.name).changed(dict(map(parse_setting, options.set))).settings()
    if options.json:
        _print_json(settings)
    else:
        print_table([{"setting": path, "value": json.dumps(value)} for path, value in settings.items()])


def show_run(options: argparse.Namespace) -> None:
    """`residuum show run RUN`."""
    from residuum.records.record import find_run, read_record
    from residuum.report.terminal import epoch_line, result_lines

    record = read_record(find_run(options.name, options.runs))
    if options.json:
        config = record.config.model_dump(mode="json")
        _print_json({**_summary(record), "recipe": record.recipe, "config": config, "data": record.data,
                     "environment": list(record.environment), "test_reads": record.test_reads,
                     "damaged": list(record.damaged),
                     "epochs": [asdict(epoch) for epoch in record.epochs]})  # fmt: skip
        return
    print(f"run {record.id}, {record.status}, in {record.folder}")
    for line in record.damaged:
        print(f"note: {line}")
    for epoch in record.epochs:
        print(epoch_line(epoch))
    for line in result_lines(record):
        print(line)
    print(f"readings of the test set: {record.test_reads}")


def show_activations(options: argparse.Namespace) -> None:
    """`residuum show activations`."""
    from residuum import pictures

    _say_figures(_save(pictures.activations(), options.out), options)


def show_schedules(options: argparse.Namespace) -> None:
    """`residuum show schedules [RECIPE …]`."""
    from residuum import pictures
    from residuum.config import RunConfig
    from residuum.recipes import recipe

    settings = _settings(options)
    config = RunConfig().changed({"train.epochs": 60, **settings})
    if options.recipes:
        figure = pictures.schedules({name: recipe(name).changed(settings) for name in options.recipes})
    elif any(path.startswith("optim.schedule") for path in settings):
        figure = pictures.schedules({config.optim.schedule.name: config})
    else:
        figure = pictures.every_schedule(config)
    _say_figures(_save(figure, options.out), options)


def show_augmentations(options: argparse.Namespace) -> None:
    """`residuum show augmentations [RECIPE]`."""
    from residuum import pictures
    from residuum.assemble import resolve
    from residuum.config import RunConfig
    from residuum.recipes import recipe

    settings = _settings(options)
    digits = RunConfig().changed({"data.dataset": "digits", "data.validation": 0})
    config, data = resolve((recipe(options.recipe) if options.recipe else digits).changed(settings))
    chosen = any(path.startswith(("data.augment", "data.normalize", "data.mix")) for path in settings)
    figure = pictures.augmentations(config, data) if options.recipe or chosen else pictures.every_augmentation(data)
    _say_figures(_save(figure, options.out), options)


def _save(figure: Figure, path: Path) -> list[str]:
    """Write a figure as PNG and SVG; the paths as text."""
    from residuum.records.storage import storing
    from residuum.report import style

    with storing(path):
        return [str(written) for written in style.save(figure, path)]


def _say_figures(paths: list[str], options: argparse.Namespace) -> None:
    if options.json:
        _print_json({"figures": paths})
    else:
        print(*paths, sep="\n")


def draw(options: argparse.Namespace) -> None:
    """`residuum draw RUN …`."""
    from residuum.records.record import find_run, read_record
    from residuum.report.figures import compare

    records = [read_record(find_run(name, options.runs)) for name in options.folders]
    for record in records:
        if not record.epochs:
            raise InputError(f"run {record.id} has no epochs to draw" + ("" if record.result else " yet"))
        for line in record.damaged:
            print(f"note: run {record.id}: {line}", file=sys.stderr)
    _say_figures(_save(compare.draw(compare.data(records)), options.out), options)


def classes(options: argparse.Namespace) -> None:
    """`residuum classes RUN [RUN]`."""
    from residuum.analysis import classes as analysis
    from residuum.analysis.images import mcnemar
    from residuum.records.record import find_run, read_record

    if not 0 <= options.mistakes <= 200:
        raise InputError(f"--mistakes: {options.mistakes} images; 0 to 200 fit into a figure")
    records = [read_record(find_run(name, options.runs)) for name in options.folders]
    named = dict(zip(_run_labels(records), records, strict=True))
    if len(named) < len(records):
        raise InputError(f"run {records[0].id} is named twice; a comparison takes two runs")
    runs = {label: analysis.read(record, options.which) for label, record in named.items()}
    found = {label: analysis.findings(one, options.mistakes) for label, one in runs.items()}
    paths = _draw_classes(named, runs, {label: one.mistakes for label, one in found.items()}, options)
    pair = mcnemar(*(one.right_N for one in runs.values())) if len(runs) == 2 else None
    if options.json:
        heads = [{"run": record.id, "label": label, "which": options.which} for label, record in named.items()]
        _print_json({"runs": [head | asdict(one) for head, one in zip(heads, found.values(), strict=True)],
                     "pair": asdict(pair) if pair else None, "figures": [str(path) for path in paths]})  # fmt: skip
        return
    _print_classes(list(found.values()))
    for number, (label, one) in enumerate(found.items(), start=1):
        print(f"{f'{number}: ' if pair else ''}{label} (run {named[label].id}, {options.which} epoch)")
        print(f"   acc {one.accuracy:.4f} ({one.images:,} images), macro F1 {one.macro_f1:.4f}, mean confidence "
              f"{one.calibration.confidence:.4f}, ECE {one.calibration.ece:.4f} ({analysis.BINS} bins), "
              f"Brier {one.calibration.brier:.4f}")  # fmt: skip
    if pair:
        print(f"only 1 is right on {pair.only_first_right:,} images, only 2 on {pair.only_second_right:,}: "
              f"1 minus 2 is {pair.difference:.2f} points (95 % interval {pair.low:.2f} to {pair.high:.2f}; "
              f"McNemar p = {pair.p:.2g})")  # fmt: skip
    print("figures:", *(path for path in paths if path.suffix == ".png"))


def _draw_classes(
    named: Mapping[str, RunRecord],
    runs: Mapping[str, Predictions],
    wrong: Mapping[str, Sequence[Mistake]],
    options: argparse.Namespace,
) -> list[Path]:
    """Draw one run or two; the images of mistakes are left out with a note where the data set is not at hand."""
    from residuum.records.storage import storing
    from residuum.report import style
    from residuum.report.figures import confusion, mistakes, reliability

    figures = {
        "confusion": confusion.draw(confusion.data(runs)),
        "reliability": reliability.draw(reliability.data(runs)),
    }
    if options.mistakes:
        try:
            images = {label: _test_images(record, options) for label, record in named.items()}
            figures["mistakes"] = mistakes.draw(mistakes.data(wrong, images))
        except InputError as error:
            if options.data:
                raise
            print(f"note: the mistakes are not drawn: {error} (--data says where the images lie)", file=sys.stderr)
    first, *others = named.values()
    ending = "".join([f"-{options.which}" if options.which != "last" else "", *(f"-and-{one.id}" for one in others)])
    out = options.out or first.folder / "figures"
    with storing(out):
        out.mkdir(parents=True, exist_ok=True)
        return [path for name, figure in figures.items() for path in style.save(figure, out / f"{name}{ending}")]


def _print_classes(found: Sequence[Findings]) -> None:
    """The classes of one run, or of two side by side, as a table; and the commonest mistakes of each as another."""
    from residuum.report.terminal import print_table

    numbers = [""] if len(found) == 1 else [" 1", " 2"]
    print_table([
        {"class": same[0].name, "images": same[0].images,
         **{f"{heading}{number}": "–" if (value := getattr(one, part)) is None else f"{value:.3f}"
            for heading, part in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
            for number, one in zip(numbers, same, strict=True)}}
        for same in zip(*(one.classes for one in found), strict=True)
    ])  # fmt: skip
    for number, one in zip(numbers, found, strict=True):
        print(f"Most confused{number}: true → predicted" + ("" if one.most_confused else ", none"))
        for kind in one.most_confused:
            print(f"   {kind.true} → {kind.predicted}: {kind.count:,} images, {kind.share:.1%} of {kind.true}")


def _run_labels(records: Sequence[RunRecord]) -> list[str]:
    """What each run is called: network, data and seed, and the id where that does not tell two apart."""
    from residuum.config import short_name

    names = [f"{short_name(record.config.model)} on {record.config.data.dataset.name}, seed {record.config.train.seed}"
             for record in records]  # fmt: skip
    return [name if names.count(name) == 1 else f"{name}, {record.id}"
            for name, record in zip(names, records, strict=True)]  # fmt: skip


def _test_images(record: RunRecord, options: argparse.Namespace) -> NDArray[np.uint8]:
    """All test images of a run; the reading of them is counted in its record."""
    from residuum.assemble import dataset_of
    from residuum.records import folder
    from residuum.records.event import TestRead

    config = record.config.changed({"data.root": options.data}) if options.data else record.config
    dataset = dataset_of(config.data)
    with folder.writing(record.folder) as writer:
        writer.write(TestRead("evaluate", record.result[options.which]["epoch"]))
    return dataset.test.images_NCHW


def data_fetch(options: argparse.Namespace) -> None:
    """`residuum data fetch NAME`."""
    from residuum.data.download import fetch
    from residuum.report.terminal import show_download

    show_download(fetch(options.name), sys.stdout)


def data_check(options: argparse.Namespace) -> None:
    """`residuum data check DATA`."""
    from residuum.data.check import check
    from residuum.report.terminal import print_table

    report = check(_dataset(options).dataset)
    if options.json:
        _print_json(asdict(report))
        return
    images = f"images of {_times(report.shape)}, {len(report.classes)} classes"
    print(f"{report.name}: {images}, fingerprint {report.fingerprint}")
    splits = (("train", report.train), ("test", report.test))
    print_table([
        {"split": name, "images": f"{split.images:,}",
         "in a class": f"{min(split.per_class):,} to {max(split.per_class):,}",
         "pixels": f"{split.minimum} to {split.maximum}", "duplicates": f"{split.duplicates:,}"}
        for name, split in splits
    ])  # fmt: skip
    print(f"test images that are also training images: {report.leaked:,}")
    for finding in report.findings or ("nothing to note",):
        print(f"- {finding}")


def data_stats(options: argparse.Namespace) -> None:
    """`residuum data stats DATA`."""
    from residuum.data.normalize import channel_statistics

    data = _dataset(options)
    mean, std = channel_statistics(data.dataset.train.images_NCHW[data.train_N])
    if options.json:
        _print_json({"images": len(data.train_N), "mean": mean, "std": std})
        return
    print(f"{len(data.train_N):,} training images, of pixels scaled to [0, 1]")
    for name, values in (("mean", mean), ("std", std)):
        print(f"{name} {', '.join(f'{value:.4f}' for value in values)}")


def _dataset(options: argparse.Namespace) -> Data:
    """The data set that a command names, with the split that its settings say; all images train by default."""
    from residuum.assemble import resolve
    from residuum.config import RunConfig, parse_setting

    settings = {"data.validation": 0, "data.normalize": "none", **_data_settings(options.data)}
    return resolve(RunConfig().changed(settings | dict(map(parse_setting, options.set))))[1]


def models_search(options: argparse.Namespace) -> None:
    """`residuum models search`."""
    from residuum.config import short_name
    from residuum.models.search import Limits, Task, search
    from residuum.registry import Choice
    from residuum.report.terminal import print_table

    flags = {"parameters": "max_params", "macs": "max_macs", "memory": "max_memory"}
    limits = Limits(**{part: _amount(flag, getattr(options, flag)) for part, flag in flags.items()})
    task = Task(_shape(options.input), options.classes, options.batch)
    widths = [_count("--width", part) for part in options.width.split(",")]
    found = search(limits, task, stages=options.stages, widths=widths, depth=options.depth, top=options.top)
    names = [short_name(Choice.of(network.model)) for network in found]
    if options.json:
        networks = [
            {"network": name, "depth": network.depth, **asdict(network.cost), "share": network.share,
             "model": network.model}
            for name, network in zip(names, found, strict=True)
        ]  # fmt: skip
        _print_json({"limits": limits.given, "input": task.shape, "classes": task.classes, "batch": task.batch,
                     "networks": networks})  # fmt: skip
        return
    parts = {"parameters": "parameters", "macs": "multiply-adds", "memory": f"bytes at batch {task.batch}"}
    budget = ", ".join(f"{limit:,} {parts[part]}" for part, limit in limits.given.items())
    on = f"images of {_times(task.shape)}, {task.classes} classes, at most {budget}"
    if options.toml:
        print(f"# staged networks for {on}", "[axes]", "model = [", sep="\n")
        for network in found:
            print(f"    {network.toml},  # depth {network.depth}, {network.cost.parameters:,} parameters")
        print("]")
        return
    shown = [part for part in parts if part != "memory" or limits.memory is not None]
    print_table([
        {"network": name, "depth": network.depth,
         **{parts[part]: f"{getattr(network.cost, part):,}" for part in shown},
         "of limit": f"{network.share:.1%}", "model": network.toml}
        for name, network in zip(names, found, strict=True)
    ])  # fmt: skip
    print(f"{on}; one of them: residuum train RECIPE --set 'model={{…}}', all as an axis of a study: --toml")


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def _amount(flag: str, text: str | None) -> int | None:
    """The number that `5e6`, `5M` or `2GB` stands for; None for none."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+\.?\d*(?:e\+?\d{1,2})?)\s*([kmg]i?)?b?", text.strip().lower())
    amount = int(float(match[1]) * UNITS[match[2] or ""]) if match else 0
    if amount < 1:
        raise InputError(f"--{flag.replace('_', '-')}: {text!r} is not a number above 0, as 5e6, 5M or 2GB")
    return amount


def _count(flag: str, text: str) -> int:
    if not text.strip().isdecimal():
        raise InputError(f"{flag}: {text!r} is not a whole number; separate them by commas, as 16,32")
    return int(text)


def import_weights(options: argparse.Namespace) -> None:
    """`residuum import-weights FILE …`."""
    from residuum.config import RunConfig, parse_setting
    from residuum.predict import cifar10_without_images
    from residuum.predict import import_weights as imported

    mean, std = ([_number(part) for part in text.split(",")] for text in options.normalize)
    data = _data_settings(options.data) if options.data else {}
    settings = {"model": options.model, "data.validation": 0, **data}
    settings["data.normalize"] = {"name": "standardize", "mean": mean, "std": std}
    config = RunConfig().changed(settings | dict(map(parse_setting, options.set)))
    record = imported(options.file, config, options.runs, None if options.data else cifar10_without_images())
    if options.json:
        _print_json(_summary(record))
    else:
        print(f"imported into {record.folder}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--normalize: {text!r} is not a number; write one per channel, as 0.49,0.48,0.45") from None


def bench(options: argparse.Namespace) -> None:
    """`residuum bench`."""
    from residuum.bench import Benchmark
    from residuum.bench import bench as measure

    if options.images < 640 or options.repeats < 1:
        raise InputError("--images and --repeats: at least 640 images, five batches, and one repeat")
    for said in measure(options.images, options.repeats):
        if not isinstance(said, Benchmark):
            print(said, file=sys.stderr, flush=True)
        elif options.json:
            _print_json({**asdict(said), "ratio": said.ratio, "share_of_peak": said.share_of_peak})
        else:
            print(*said.lines(), sep="\n")


if __name__ == "__main__":
    sys.exit(main())

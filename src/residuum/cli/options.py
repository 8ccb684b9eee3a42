"""What several commands share: options, the settings they stand for, and how results are printed."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residuum.cli.trusting import trust_option
from residuum.errors import InputError, quoted, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from residuum.records.record import RunRecord

RUNS = Path("runs")
Command = Callable[..., argparse.ArgumentParser]
"""Makes a command of a name, a function, a help text, and `within` a group if it belongs to one."""


def common(parser: argparse.ArgumentParser) -> None:
    """The options that nearly every command has: where runs lie, and JSON."""
    parser.add_argument("--runs", type=Path, default=RUNS, metavar="DIR", help="where run folders lie (default: runs)")
    parser.add_argument("--json", action="store_true", help="end in one line of JSON on standard output")


def store_option(parser: argparse.ArgumentParser, *reads: str, weights: bool = True) -> None:
    """The option for the store that a command's runs lie in.

    The command `reads` the runs that these options name, with their `weights`, or, without any, the records of all.
    """
    parser.add_argument(
        "--store", metavar="URL",
        help="where runs are mirrored, as s3://bucket/runs: they are read from there (by way of a copy in the cache)",
    )  # fmt: skip
    parser.set_defaults(store_reads=reads, store_weights=weights)
    if reads and weights:
        trust_option(parser, *reads)


def mirror_option(parser: argparse.ArgumentParser) -> None:
    """The option for the store in which what a command computes is mirrored."""
    parser.add_argument(
        "--store", metavar="URL",
        help="mirror what is computed there, as s3://bucket/runs, and go on with what lies there",
    )  # fmt: skip
    parser.set_defaults(store_reads=None)


def set_option(parser: argparse.ArgumentParser, what: str = "any setting: `residuum list settings`") -> None:
    """The option that changes settings, as often as it is given."""
    parser.add_argument("--set", action="append", default=[], type=_setting, metavar="PATH=VALUE", help=what)


def _setting(text: str) -> str:
    """The text of a setting; of one that is called by its last name alone, the error that says the whole."""
    from residuum.config import RunConfig

    path, equals, value = text.partition("=")
    if equals and path and "." not in path and path not in RunConfig.model_fields:
        from residuum.cli.hints import settings_called

        if found := settings_called(path):
            whole = " or ".join(f"--set {one}={value}" for one in found)
            raise InputError(f"unknown setting {quoted(path)}; use {whole}")
    return text


def which_option(parser: argparse.ArgumentParser) -> None:
    """The option that chooses between a run's weights."""
    parser.add_argument(
        "--which", choices=("last", "selected"), default="last", help="weights of the last or the selected epoch"
    )


def device_option(parser: argparse.ArgumentParser, default: str = "the run's own, or what is here") -> None:
    """The option for the device that computes; its names are checked where devices are known."""
    parser.add_argument("--device", default="auto", help=f"auto, cpu, cuda or mps (default: {default})")


def tracker_option(parser: argparse.ArgumentParser) -> None:
    """The option that names who is told of runs while they are computed."""
    parser.add_argument(
        "--to", action="append", default=[], metavar="TRACKER",
        help="also tell tensorboard, wandb or mlflow (each an extra), as NAME or NAME:FOLDER (default: trackers/NAME "
        "beside the runs)",
    )  # fmt: skip


def tracking_of(options: argparse.Namespace) -> list[Any]:
    """The trackers that `--to` names, as often as it is given."""
    if not options.to:
        return []
    from residuum.run.trackers import place_of
    from residuum.run.tracking import Tracking

    return [Tracking(*place_of(one, options.runs)) for one in options.to]


def moved_data_option(parser: argparse.ArgumentParser, use: str = "") -> None:
    """The option that says where a run's data set lies now; `use`: what the command needs it for."""
    parser.add_argument("--data", help=f"where the data set lies now, if it was moved{use}")


def figures_folder_option(parser: argparse.ArgumentParser, what: str = "the figures") -> None:
    """The option for the folder of several figures; a file in its place is refused before anything is computed."""
    parser.add_argument(
        "--out", type=output_folder, metavar="DIR", help=f"folder for {what} (default: figures/ in the run's)"
    )


def output_folder(text: str) -> Path:
    """A path to write a folder to: no file, and not within one."""
    path = Path(text)
    _check_folder(path, "name a folder")
    return path


def _check_folder(path: Path, advice: str) -> None:
    from residuum.records.storage import storing

    with storing(path):
        for one in (path, *path.parents):
            if one.exists() and not one.is_dir():
                raise InputError(f"--out: {one} is a file; {advice}")


def output_file(text: str) -> Path:
    """A path to write a file to: no folder, and not within a file."""
    path = Path(text)
    _check_folder(path.parent, "a file cannot lie in it")
    if path.is_dir():
        raise InputError(f"--out: {text} is a folder; name a file in it")
    return path


def as_word(text: str) -> str:
    """A text as part of a file's name."""
    return re.sub(r"[^\w-]+", "-", text)[:60]


def joined(words: Sequence[str], kind: str, *, told_apart_by: str = "") -> str:
    """Words as part of a file's name; of many the count, with a hash of them, or of what tells them apart."""
    few = len(words) <= 4
    text = as_word("-".join(words)) if few else f"{len(words)}-{kind}"
    digest = sha256((told_apart_by or " ".join(words)).encode()).hexdigest()[:6]
    return text if few and not told_apart_by else f"{text}-{digest}"


def figure_options(parser: argparse.ArgumentParser, name: str) -> None:
    """The options of a command that writes one figure."""
    parser.add_argument(
        "--out",
        type=output_file,
        default=Path(name),
        metavar="FILE",
        help=f"file to write, as PNG and as SVG (default: {name})",
    )
    parser.add_argument("--json", action="store_true", help="end in one line of JSON on standard output")


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
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
        settings |= data_settings(options.data)
    return settings | dict(map(parse_setting, options.set))


def data_settings(text: str) -> dict[str, Any]:
    """The settings that `--data` stands for: a data set's name, or a path whose kind is found by its content."""
    from residuum.data.datasets import DATASETS, find
    from residuum.own import is_own, misnamed

    if is_own(text) and not Path(text).exists():
        return {"data.dataset": text, "data.root": ""}
    if text in DATASETS and not Path(text).exists():
        return {"data.dataset": text}
    if (text.endswith(".py") or not Path(text).exists()) and (meant := misnamed(text)):
        raise InputError(f"unknown data set {quoted(text)}; {meant}")
    if not Path(text).exists():
        if Path(text).name != text or "." in text:
            raise InputError(f"{text} does not exist")
        raise unknown("data set or path", text, DATASETS)
    return {"data.dataset": find(Path(text)), "data.root": text}


def print_json(values: Any) -> None:
    """One line of JSON; numbers that are not finite stand as text."""
    print(json.dumps(_finite(values), allow_nan=False))


def _finite(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return str(values) if isinstance(values, float) and not math.isfinite(values) else values


def summary(record: RunRecord) -> dict[str, Any]:
    """A run as JSON: id, folder, status and result."""
    result = record.result.plain() | {"test_reads": record.test_reads} if record.result else {}
    return {"run": record.id, "folder": str(record.folder), "status": record.status, "result": result}


def times(shape: Sequence[int]) -> str:
    """A shape as people write it: 3×32×32."""
    return "×".join(map(str, shape))


def named_runs(options: argparse.Namespace) -> dict[str, RunRecord]:
    """The runs that a command was given, by what each is called beside the others."""
    from residuum.records.record import labels, record_of

    records = [record_of(name, options.runs) for name in options.folders]
    return dict(zip(labels(records), records, strict=True))


def shape_of(text: str) -> tuple[int, int, int]:
    """Channels, height and width of a text such as 3x32x32."""
    parts = text.replace("×", "x").split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--input: {quoted(text)} is not channels x height x width, as 3x32x32")
    channels, height, width = map(int, parts)
    return channels, height, width


def save_figure(figure: Figure, path: Path) -> list[str]:
    """Write a figure as PNG and SVG; the paths as text."""
    from residuum.records.storage import storing
    from residuum.report import style

    with storing(path):
        return [str(written) for written in style.save(figure, path)]


def save_figures(figures: Mapping[str, Figure], out: Path) -> list[Path]:
    """Write figures by their names into a folder, which is made if it is not there."""
    from residuum.records.storage import storing
    from residuum.report import style

    with storing(out):
        out.mkdir(parents=True, exist_ok=True)
        return [path for name, figure in figures.items() for path in style.save(figure, out / name)]


def say_figures(paths: list[str], options: argparse.Namespace) -> None:
    """Print the paths of figures."""
    if options.json:
        print_json({"figures": paths})
    else:
        print(*paths, sep="\n")


def say_damage(folder: Path) -> None:
    """Say what beside a study's plan is not as it was written, or is missing."""
    from residuum.studies import whole

    for line in whole.damage(folder):
        print(f"note: {line}", file=sys.stderr)

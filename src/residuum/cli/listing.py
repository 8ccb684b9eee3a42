"""`residuum list`: the names that settings and commands take."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residuum.cli.hints import said
from residuum.cli.options import Command, common, print_json, store_option
from residuum.errors import InputError, unknown

if TYPE_CHECKING:
    from residuum.records.index import Listed
    from residuum.studies.plan import Place


def add(command: Command) -> None:
    """Add `list`."""
    p = command("list", list_things, "Names that settings and commands take.")
    p.add_argument(
        "kind", metavar="KIND", nargs="?", default="", help="recipes, models, studies, runs …; without: the kinds"
    )
    p.add_argument(
        "--study", default="", metavar="STUDY", help="runs of a study, or of its search, alone, by its name or label"
    )
    p.add_argument("--status", default="", help=f"runs of one status alone: {', '.join(STATUS)}")
    p.add_argument("--last", type=int, metavar="N", help="the N runs that were written last, the newest at the end")
    common(p)
    store_option(p, weights=False)


STATUS = ("finished", "diverged", "imported", "running", "stopped", "pruned", "failed", "unreadable")


def list_things(options: argparse.Namespace) -> None:
    """`residuum list KIND`."""
    from residuum.cli.terminal import print_table

    known = kinds()
    if options.kind != "runs" and (options.study or options.status or options.last is not None):
        raise InputError("--study, --status and --last choose among runs: `residuum list runs`")
    if not options.kind:
        rows: list[dict[str, Any]] = [{"kind": name} for name in known]
    elif options.kind in known:
        rows = known[options.kind](options)
    else:
        raise unknown("kind", options.kind, known)
    if options.json:
        print_json(rows)
    else:
        go, instead = (GO, INSTEAD) if options.kind == "runs" else ((), ("", ""))
        print_table([_row_for_people(row) for row in rows], go=go, instead=instead)


GO = ("text", "recipe", "data", "differs", "epochs", "model", "study", "test acc", "arm", "seed")
"""Columns of a list of runs that go where a terminal is too narrow, the first of them first; ids and status stay."""


INSTEAD = ("arm", "model")
"""Where the networks have gone, a run without a study is called by its own among the arms."""


def _row_for_people(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a terminal has room for it: `epochs` and `epochs_asked` as 2/10, and what a preset sets as a text."""
    if "pre-activated" in row:
        sets = [_sets(row["model"]), f"bottlenecks: stride_at={row['bottleneck stride']}"]
        sets += [f"pre-activated: {_sets(row['pre-activated'])}"] if row["pre-activated"] else []
        return {"name": row["name"], "code": row["code"], "sets": "; ".join([*sets, f"pixels: {row['data']}"])}
    if "studies" not in row:
        return row
    from residuum.records.record import told

    where = {key: ", ".join(dict.fromkeys(one[key] for one in row["studies"])) for key in ("study", "arm")}
    shown = {"run": row["run"], **where, **row, "differs": told(row.get("differs", {}))}
    if row.get("epochs") is not None:
        shown["epochs"] = f"{row['epochs']}/{row['epochs_asked']}"
    accuracy = row.get("test_accuracy")
    shown["test acc"] = accuracy if accuracy is None else round(accuracy, 4)
    last = ("test acc", "differs", "text")
    first = {
        key: value for key, value in shown.items() if key not in (*last, "studies", "epochs_asked", "test_accuracy")
    }
    return first | {key: shown[key] for key in last if key in shown}


def _sets(settings: Mapping[str, Any]) -> str:
    """Settings as `--set model.…` takes them."""
    flat = {
        path if name == "name" else f"{path}.{name}": inner
        for path, value in settings.items()
        for name, inner in (value if isinstance(value, Mapping) else {"name": value}).items()
    }
    return ", ".join(
        f"{path}={str(value).lower() if isinstance(value, bool) else value}" for path, value in flat.items()
    )


def kinds() -> dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]]:
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
        "poolings": ("models.pooling", "POOLINGS"),
        "initialisations": ("models.init", "INITS"),
        "optimizers": ("optim", "OPTIMIZERS"),
        "schedules": ("optim", "SCHEDULES"),
        "losses": ("optim", "LOSSES"),
        "penalties": ("optim", "PENALTIES"),
        "methods": ("attribution", "METHODS"),
    }
    listed = {name: partial(_table_rows, module, attribute) for name, (module, attribute) in tables.items()}
    return {
        "recipes": _recipe_rows,
        "models": _model_rows,
        "studies": _study_rows,
        "presets": _preset_rows,
        "settings": _setting_rows,
        "measures": _measure_rows,
        "figures": _figure_rows,
        "launchers": _launcher_rows,
        "trackers": _tracker_rows,
        "runs": _run_rows,
        **listed,
    }


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


def _study_rows(_options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.cli.studying import rows

    return rows()


def _model_rows(_options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.networks.names import network, network_names

    return [{"name": name, "model": network(name)} for name in network_names()]


def _preset_rows(_options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.networks.presets import PRESETS

    return [
        {"name": name, "code": one.code, "bottleneck stride": one.stride_at, "model": dict(one.model),
         "pre-activated": dict(one.preact), "data": ", ".join(data or "any data set" for data in one.pixels)}
        for name, one in PRESETS.items()
    ]  # fmt: skip


def _setting_rows(_options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.config import RunConfig, described_settings

    return [
        {"setting": path, "default": default, "text": text} for path, default, text in described_settings(RunConfig)
    ]


def _measure_rows(_options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.records.measures import MEASURES

    better = {True: "lower", False: "higher", None: None}
    return [
        {"name": one.name, "unit": one.unit, "better": better[one.lower_is_better], "text": one.text}
        for one in MEASURES.values()
    ]


def _figure_rows(_options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.report.figures import of_runs

    return [{"name": name, "text": row.text} for name, row in of_runs.table().items()]


def _launcher_rows(_options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.conduct.launchers import LAUNCHERS

    return [{"name": name, "text": (launch.__doc__ or "").partition("; ")[0]} for name, launch in LAUNCHERS.items()]


def _tracker_rows(_options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.run.trackers import TRACKERS

    return [{"name": name, "text": _first_paragraph(tracker)} for name, tracker in TRACKERS.items()]


def _run_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    from residuum.records import index
    from residuum.studies import plan as plans

    if options.status and options.status not in STATUS:
        raise unknown("status", options.status, STATUS, argument="status")
    if options.last is not None and options.last < 1:
        raise InputError(f"{options.last} runs; at least 1", argument="last")
    among = plans.asked_for(options.study, options.runs) if options.study else None
    found = [one for one in index.listed(options.runs, among) if options.status in ("", _status(one))]
    if options.last is not None:
        found = sorted(found, key=lambda one: one.written)[-options.last :]
    places = plans.places(options.runs)
    apart = _apart([one for one in found if one.folder.name not in places])
    return [_run_row(one, places.get(one.folder.name, ()), apart.get(one.folder.name, {})) for one in found]


MANY = 500
"""Runs without a study of which nobody reads what sets each apart, and which take a second to compare."""


def _apart(found: Sequence[Listed]) -> dict[str, dict[str, Any]]:
    """What sets runs without a study apart from those that a list shows alike, by the names of their folders."""
    from residuum.records.record import differing

    alike: dict[tuple[Any, ...], list[Path]] = {}
    for one in found[-MANY:]:
        if not isinstance(row := one.row, InputError):
            alike.setdefault((row.model, row.data, row.recipe, row.asked), []).append(one.folder)
    return {
        folder.name: settings
        for folders in alike.values()
        for folder, settings in zip(folders, differing(folders) if len(folders) > 1 else [{}], strict=True)
    }


def _status(one: Listed) -> str:
    return "unreadable" if isinstance(one.row, InputError) else one.row.status


def _run_row(one: Listed, places: Sequence[Place], apart: Mapping[str, Any]) -> dict[str, Any]:
    row = one.row
    studies = [{"study": place.study, "arm": place.arm} for place in places]
    if isinstance(row, InputError):
        return {"run": one.folder.name, "status": "unreadable", "studies": studies, "text": said(row)}
    return {
        "run": row.run, "status": row.status, "recipe": row.recipe, "model": row.model, "data": row.data,
        "seed": row.seed, "epochs": row.epochs, "epochs_asked": row.asked, "test_accuracy": row.test_accuracy,
        "studies": studies, "differs": dict(places[0].settings if places else apart),
        **({"text": text} if (text := "; ".join(filter(None, (row.why, row.text)))) else {}),
    }  # fmt: skip

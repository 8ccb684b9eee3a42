"""`residuum show`: models, recipes, runs, and pictures of the parts they are made of."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from residuum import own
from residuum.cli.options import (
    Command,
    common,
    data_settings,
    figure_options,
    print_json,
    save_figure,
    say_figures,
    set_option,
    settings_of,
    shape_of,
    store_option,
    summary,
    times,
)
from residuum.errors import InputError


def add(command: Command) -> None:
    """Add `show` and what it shows."""
    p = command("show", lambda _options: None, "Look at models, recipes, runs, and the parts that they are made of.")
    kinds = "model|recipe|run|activations|schedules|augmentations"
    shown = p.add_subparsers(dest="command", metavar=kinds, required=True)
    p = command("model", show_model, "A model's layers with their shapes, parameters and multiply-adds.", within=shown)
    p.add_argument("name", help="a network, as resnet20: `residuum list models`")
    p.add_argument("--input", default="", help="image shape, as 3x32x32")
    p.add_argument("--classes", type=int, help="classes (default: 10, ImageNet forms 1000)")
    p.add_argument("--data", help="a data set, or a file or folder that holds one, whose images and classes it gets")
    set_option(p, "a setting, as model.wide=2")
    p.add_argument(
        "--draw", nargs="?", const="", metavar="FILE", help="also draw it, as PNG and as SVG (default: its name)"
    )
    common(p)
    p = command("recipe", show_recipe, "A recipe's settings.", within=shown)
    p.add_argument("name", help="a recipe: `residuum list recipes`")
    set_option(p)
    common(p)
    p = command("run", show_run, "A run's epochs and result.", within=shown)
    p.add_argument("name", metavar="RUN", help="a run folder, or the beginning of a run's id")
    common(p)
    store_option(p, "name", weights=False)
    p = command("activations", show_activations, "Draw all activation functions and their derivatives.", within=shown)
    figure_options(p, "activations")
    p = command("schedules", show_schedules, "Draw the learning rate over a run: all schedules, or those of recipes.",
                within=shown)  # fmt: skip
    p.add_argument("recipes", metavar="RECIPE", nargs="*", default=[], help="recipes: `residuum list recipes`")
    p.add_argument("--epochs", type=int)
    p.add_argument("--lr", type=float, help="base learning rate")
    set_option(p, "a setting, as optim.warmup=5")
    figure_options(p, "schedules")
    p = command("augmentations", show_augmentations, "Draw images before and after each augmentation, normalisation, "
                "mixing: all there are, or a recipe's.", within=shown)  # fmt: skip
    p.add_argument("recipe", metavar="RECIPE", nargs="?", help="a recipe: `residuum list recipes`")
    p.add_argument("--data", help="a data set's name, or a file or folder that holds one (default: digits)")
    set_option(p, "a setting, as data.mix=cutmix")
    figure_options(p, "augmentations")


def show_model(options: argparse.Namespace) -> None:
    """`residuum show model NAME`."""
    from residuum.cli.terminal import print_table
    from residuum.config import RunConfig, parse_setting
    from residuum.models import MODELS, build
    from residuum.models.summary import summarize

    full_size = options.name.endswith("-imagenet")
    config = RunConfig().changed({"model": options.name, **dict(map(parse_setting, options.set))})
    found = shape_of(options.input) if options.input else ((3, 224, 224) if full_size else (3, 32, 32))
    classes = options.classes if options.classes is not None else (1000 if full_size else 10)
    if options.data:
        if options.input or options.classes is not None:
            raise InputError("--data has images and classes of its own; leave --input and --classes out")
        from residuum.run.assemble import resolve

        _, data = resolve(RunConfig().changed(data_settings(options.data)))
        found, classes = data.shape, len(data.dataset.classes)
    channels, height, width = shape = found
    if classes < 1:
        raise InputError(f"--classes: {classes} classes; at least 1")
    model = MODELS.resolve(config.model)
    for digest, code in own.codes(model.model_dump()).items():
        print(f"note: {own.said(code, digest)}", file=sys.stderr)
    try:
        network = build(model, channels, classes, (height, width), seed=0)
    except InputError as error:
        if options.data or options.input or not own.codes(model.model_dump()):
            raise
        raise InputError(f"{error.text}; --data or --input gives it images of another shape") from error
    summary = summarize(network, shape)
    paths = []
    if options.draw is not None:
        from residuum import figures

        title = ", ".join([options.name, *options.set])
        paths = save_figure(
            figures.model_of(title, network, model, shape, classes).figure, Path(options.draw or options.name)
        )
    if options.json:
        totals = {"parameters": summary.parameters, "macs": summary.macs}
        layers = [asdict(layer) for layer in summary.layers]
        said = {"model": options.name, "input": list(shape), "classes": classes, **totals, "layers": layers}
        print_json(said | ({"figures": paths} if paths else {}))
        return
    print_table([
        {"layer": layer.name, "kind": layer.kind, "output": times(layer.output_shape),
         "parameters": f"{layer.parameters:,}", "multiply-adds": f"{layer.macs:,}"}
        for layer in summary.layers
    ])  # fmt: skip
    counts = f"{summary.parameters:,} parameters, {summary.macs:,} multiply-adds"
    print(f"{options.name} on images of {times(shape)}, {classes} classes: {counts}")
    if paths:
        print(*paths, sep="\n")


def show_recipe(options: argparse.Namespace) -> None:
    """`residuum show recipe NAME`."""
    from residuum.cli.terminal import print_table
    from residuum.config import parse_setting
    from residuum.recipes import recipe

    settings = recipe(options.name).changed(dict(map(parse_setting, options.set))).settings()
    if options.json:
        print_json(settings)
    else:
        print_table([{"setting": path, "value": json.dumps(value)} for path, value in settings.items()])


def show_run(options: argparse.Namespace) -> None:
    """`residuum show run RUN`."""
    from residuum.cli.terminal import epoch_line, noise_lines, result_lines
    from residuum.records import integrity
    from residuum.records.record import find_run, read_record
    from residuum.records.run_folder import read_remarks

    record = read_record(find_run(options.name, options.runs))
    left_out = tuple(line.removesuffix(" and left out") for line in record.damaged)
    damaged = [*record.damaged, *(line for line in integrity.damage(record.folder) if not line.startswith(left_out))]
    try:
        noise, remarks = record.noise(), read_remarks(record.folder)
    except InputError:  # which is among what is damaged
        noise, remarks = [], []
    unchecked = integrity.unchecked(record.folder)
    if options.json:
        config = record.config.model_dump(mode="json")
        print_json({**summary(record), "recipe": record.recipe, "config": config,
                     "data": record.data.plain() if record.data else {},
                     "environment": [start.plain() for start in record.environment], "test_reads": record.test_reads,
                     "damaged": damaged, "checked": not unchecked, "failure": record.failure, "remarks": remarks,
                     "noise": [{**asdict(seen), "scale": seen.scale} for seen in noise],
                     "epochs": [asdict(epoch) for epoch in record.epochs]})  # fmt: skip
        return
    print(f"run {record.id}, {record.status}, in {record.folder}")
    for line in (*damaged, *remarks):
        print(f"note: {line}")
    if unchecked:
        print("note: unchecked: an earlier version wrote it, whose files carry no checks of themselves")
    for epoch in record.epochs:
        print(epoch_line(epoch))
    for line in result_lines(record):
        print(line)
    for line in noise_lines(noise):
        print(line)
    print(f"readings of the test set: {record.test_reads}")


def show_activations(options: argparse.Namespace) -> None:
    """`residuum show activations`."""
    from residuum import figures

    say_figures(save_figure(figures.activations().figure, options.out), options)


def show_schedules(options: argparse.Namespace) -> None:
    """`residuum show schedules [RECIPE …]`."""
    from residuum import figures
    from residuum.config import RunConfig
    from residuum.recipes import recipe

    settings = settings_of(options)
    config = RunConfig().changed({"train.epochs": 60, **settings})
    if options.recipes:
        drawn = figures.schedules_of({name: recipe(name).changed(settings) for name in options.recipes})
    elif any(path.startswith("optim.schedule") for path in settings):
        drawn = figures.schedules_of({config.optim.schedule.name: config})
    else:
        drawn = figures.every_schedule(config)
    say_figures(save_figure(drawn.figure, options.out), options)


def show_augmentations(options: argparse.Namespace) -> None:
    """`residuum show augmentations [RECIPE]`."""
    from residuum import figures
    from residuum.config import RunConfig
    from residuum.recipes import recipe
    from residuum.run.assemble import resolve

    settings = settings_of(options)
    digits = RunConfig().changed({"data.dataset": "digits", "data.validation": 0})
    config, data = resolve((recipe(options.recipe) if options.recipe else digits).changed(settings))
    chosen = any(path.startswith(("data.augment", "data.normalize", "data.mix")) for path in settings)
    every = not (options.recipe or chosen)
    drawn = figures.every_augmentation(data) if every else figures.augmentations_of(config, data)
    say_figures(save_figure(drawn.figure, options.out), options)

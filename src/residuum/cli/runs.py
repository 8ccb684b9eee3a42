"""The commands of single runs: train, resume, evaluate, predict, draw, bench."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residuum.cli.explain import draw_predictions
from residuum.cli.options import (
    Command,
    common,
    device_option,
    figures_folder_option,
    mirror_option,
    moved_data_option,
    output_file,
    print_json,
    save_figure,
    say_figures,
    set_option,
    settings_of,
    store_option,
    summary,
    tracker_option,
    tracking_of,
    which_option,
)
from residuum.cli.surroundings import LEFT, has_left
from residuum.cli.trusting import trust_option
from residuum.errors import FailedError, InputError, StorageError, quoted, tally, unknown

if TYPE_CHECKING:
    from residuum.records.record import RunRecord


def add(command: Command) -> None:
    """Add the commands of single runs."""
    p = command("train", train, "Train a network by a recipe; the same command goes on with a stopped run.")
    p.add_argument("recipe", help="a recipe: `residuum list recipes`")
    p.add_argument("--model", help="a network, as resnet20, plain56, or own code, as mine.py:Net")
    p.add_argument("--data", help="a data set's name, or a file or folder that holds one")
    p.add_argument("--from", dest="start", metavar="RUN|FILE", help="begin with the weights of a run, or of a file")
    p.add_argument(
        "--preset", metavar="NAME", help="public code that the file of --from is from: `residuum list presets`"
    )
    p.add_argument("--key", metavar="KEY", help="where in the file of --from the weights lie, if it holds several sets")
    trust_option(p, "start")
    p.add_argument("--epochs", type=int)
    p.add_argument("--batch-size", type=int)
    p.add_argument("--lr", type=float, help="base learning rate")
    p.add_argument("--seed", type=int)
    p.add_argument("--device", help="auto, cpu, cuda or mps")
    set_option(p)
    p.add_argument(
        "--fresh", action="store_true", help="compute anew what is already there; the old record is kept aside"
    )
    tracker_option(p)
    common(p)
    mirror_option(p)

    p = command("resume", resume, "Go on with a stopped run.")
    p.add_argument("folder", metavar="RUN", help="a run folder, or the beginning of a run's id")
    device_option(p, "the run's own")
    moved_data_option(p)
    trust_option(p, "folder")
    tracker_option(p)
    common(p)
    mirror_option(p)

    p = command("evaluate", evaluate, "Score a run's weights on the test set, or on another of the same classes.")
    p.add_argument("folder", metavar="RUN", help="a run folder, or the beginning of a run's id")
    which_option(p)
    device_option(p)
    p.add_argument(
        "--on", metavar="OTHER",
        help="another test set: a data set's name, a file or folder that holds one (CIFAR-10.1, CIFAR-10-C), or a file "
        "of positions in the run's own",
    )  # fmt: skip
    p.add_argument("--without", metavar="FILE", help="a file of positions in the test set to leave out")
    moved_data_option(p)
    common(p)
    store_option(p, "folder")

    p = command("predict", predict, "Class probabilities for image files, prepared as in training.")
    p.add_argument("folder", metavar="RUN", help="a run folder, or the beginning of a run's id")
    p.add_argument("images", metavar="IMAGE", nargs="+", type=Path)
    which_option(p)
    device_option(p)
    p.add_argument("--top", type=int, default=3, help="how many classes to print")
    p.add_argument("--explain", action="store_true", help="also draw each image with what speaks for its class")
    figures_folder_option(p, "these figures")
    common(p)
    store_option(p, "folder")

    p = command("draw", draw, "Draw curves of several runs into one figure, as their loss or accuracy.")
    p.add_argument("folders", metavar="RUN", nargs="*", help="run folders, or the beginnings of runs' ids")
    p.add_argument(
        "--of", default="curves", metavar="FIGURE",
        help="curves, loss, accuracy, both, or noise where a run measures it (default: curves)",
    )  # fmt: skip
    p.add_argument(
        "--labels",
        metavar="NAME",
        nargs="+",
        help="what the runs are called, in their order, behind the runs or with commas (default: what sets them apart)",
    )
    p.add_argument(
        "--out", type=output_file, metavar="FILE", help="file to write, as PNG and as SVG (default: the figure's name)"
    )
    common(p)
    store_option(p, "folders", weights=False)

    p = command("bench", bench, "Measure this engine against a plain training script, and against the machine.")
    p.add_argument("--images", type=int, default=4096, help="training images of an epoch")
    p.add_argument("--repeats", type=int, default=3)
    common(p)


def train(options: argparse.Namespace) -> None:
    """`residuum train RECIPE …`."""
    from residuum import recipes
    from residuum.training import run

    config = recipes.recipe(options.recipe)
    if options.start is not None:
        config = config.changed(_beginning(options.start, options.runs))
    settings = settings_of(options)
    for name in ("preset", "key"):
        if getattr(options, name) is None:
            continue
        if options.start is None or not Path(options.start).is_file():
            raise InputError("it is for a file of weights, which --from names", argument=name)
        settings[f"pretrained.{name}"] = getattr(options, name)
    config = config.changed(settings)
    begin = partial(run, config, options.runs, recipe=options.recipe, fresh=options.fresh)
    if options.store is None:
        _go(begin(), options)
        return
    if options.fresh:
        raise InputError("--fresh: the record in a store stays as it is; name another --store, or move it away there")
    from residuum.conduct.mirrored import events_of
    from residuum.records import mirror, run_folder
    from residuum.run.assemble import resolve

    mirror.usable(options.store)
    folder = run_folder.folder_of(options.runs, resolve(config)[0])
    _go(events_of(begin, folder, options.store), options)


def _beginning(start: str, runs: Path) -> dict[str, Any]:
    """The settings that `--from` stands for: a file of weights, or a run with its network and normalisation."""
    if Path(start).is_file():
        return {"pretrained.weights": start}
    from residuum.records.record import find_run, read_record
    from residuum.run import pretrained

    return pretrained.settings(read_record(find_run(start, runs)))


def resume(options: argparse.Namespace) -> None:
    """`residuum resume RUN`."""
    from residuum.records.record import find_run
    from residuum.training import resume as resumed

    if options.store is None:
        folder = find_run(options.folder, options.runs)
        _go(resumed(folder, device=options.device, data=options.data or ""), options)
        return
    from residuum.cli.stores import match_in
    from residuum.conduct.mirrored import events_of
    from residuum.records import mirror, run_folder

    store = mirror.usable(options.store)
    folder = options.runs / match_in(store, options.folder, mirror.names(store))
    if not (folder / run_folder.CONFIG).exists():
        mirror.pull(store, folder.name, folder)
    begin = partial(resumed, folder, device=options.device, data=options.data or "")
    _go(events_of(begin, folder, options.store), options)


def _go(events: Any, options: argparse.Namespace) -> None:
    """Run, show, draw the curves, and say what came out."""
    from residuum.cli.terminal import show as show_events
    from residuum.conduct.launchers.local import until_stopped

    with closing(until_stopped(events)) as said:
        shown: Iterator[Any] = said
        for tracking in tracking_of(options):
            from residuum.run.tracking import tracked

            shown = tracked(shown, tracking)
        record = show_events(shown, sys.stderr if options.json else sys.stdout)
    if record is None:
        return
    if has_left(sys.stdout, sys.stderr):
        from residuum.records.run_folder import remark

        remark(record.folder, LEFT)
    if record.epochs:
        _draw_curves(record, options)
    if options.json:
        print_json(summary(record))
    if options.store is not None:
        from residuum.records import mirror

        mirror.give(mirror.store_of(options.store), record.folder.parent, [record.folder.name])
    if record.status == "diverged":  # what stands behind `&&` has no weights to go on with
        raise FailedError(f"run {record.id} diverged, which is its result: {record.folder}")


def _draw_curves(record: RunRecord, options: argparse.Namespace) -> None:
    """Draw the curves of a run that has ended: it does not fail for a picture."""
    try:
        from residuum.report import style
        from residuum.report.figures import learning_curves

        paths = style.save(learning_curves.draw(learning_curves.data(record)), record.folder / "curves")
    except (StorageError, OSError) as error:  # a library may want a folder of its own
        print(f"note: no picture of the curves: {error}", file=sys.stderr)
    else:
        if not options.json:
            print(f"curves: {paths[0]}")


def evaluate(options: argparse.Namespace) -> None:
    """`residuum evaluate RUN`."""
    if options.on is not None or options.without is not None:
        _evaluate_on(options)
        return
    from residuum.cli.terminal import loss
    from residuum.records.record import find_run, read_record
    from residuum.run.predict import evaluate as evaluated

    record = read_record(find_run(options.folder, options.runs))
    scores = evaluated(record, options.which, options.data or "", options.device)
    if options.json:
        print_json({"test": scores.plain()})
    else:
        print(f"test loss {loss(scores.loss)} acc {scores.accuracy:.4f} ({tally(scores.n, 'image')})")


def _evaluate_on(options: argparse.Namespace) -> None:
    """`residuum evaluate RUN --on OTHER`, or `--without FILE`."""
    from residuum.cli.terminal import loss, print_table
    from residuum.records.record import find_run, read_record
    from residuum.run.predict import OtherScores, evaluate_on

    if options.on is not None and options.without is not None:
        raise InputError("--on names another test set, --without leaves images out of the run's own; give one of them")
    if "" in (options.on, options.without):
        raise InputError("--on and --without need a name or a path")
    record = read_record(find_run(options.folder, options.runs))
    found = list[OtherScores]()
    for one in evaluate_on(
        record,
        options.on or "",
        options.which,
        data=options.data or "",
        without=options.without or "",
        device=options.device,
    ):
        is_new = one.corruption not in {other.corruption for other in found}
        if one.severity is not None and not options.json and is_new:  # it takes minutes; figures stand in the table
            print(f"scoring {one.corruption} …", file=sys.stderr)
        found.append(one)
    mean = sum(one.error for one in found) / len(found)
    if options.json:
        tests = [one.plain() for one in found]
        print_json({"run": record.id, "which": options.which, "tests": tests, "mean_error": mean})
        return
    if found[0].severity is None:
        for one in found:
            low, high = (100 * end for end in one.interval)
            print(f"{one.name}: test loss {loss(one.scores.loss)} acc {one.scores.accuracy:.4f}, "
                  f"error {100 * one.error:.2f} % (95 % interval {low:.2f} to {high:.2f}; "
                  f"{tally(one.scores.n, 'image')})")  # fmt: skip
        return
    by_corruption: dict[str, list[float]] = {}
    for one in found:
        by_corruption.setdefault(str(one.corruption), []).append(100 * one.error)
    print_table([
        {"corruption": name,
         **{f"severity {number}": f"{error:.2f}" for number, error in enumerate(errors, start=1)},
         "mean": f"{sum(errors) / len(errors):.2f}"}
        for name, errors in by_corruption.items()
    ])  # fmt: skip
    widest = max((high - low) / 2 for low, high in (one.interval for one in found))
    print(f"errors in %, each ± {100 * widest:.2f} points at most (95 %, {tally(found[0].scores.n, 'image')}); "
          f"mean of all {100 * mean:.2f} %")  # fmt: skip


def predict(options: argparse.Namespace) -> None:
    """`residuum predict RUN IMAGE …`."""
    from residuum.records.record import find_run, read_record
    from residuum.run.predict import load
    from residuum.run.predict import predict as predicted

    if options.top < 1:
        raise InputError(f"--top: {options.top} classes; at least 1")
    if options.out and not options.explain:
        raise InputError("--out is the folder for the figures of --explain")
    record = read_record(find_run(options.folder, options.runs))
    trained = load(record, options.which, options.device)
    predictions = predicted(trained, options.images)
    figures = draw_predictions(trained, options, record) if options.explain else [[]] * len(predictions)
    for prediction, paths in zip(predictions, figures, strict=True):
        if options.json:
            values = {
                "image": str(prediction.path),
                "resized": prediction.resized,
                "probabilities": prediction.probabilities,
            }
            print_json(values | ({"figures": paths} if paths else {}))
            continue
        top = list(prediction.probabilities.items())[: options.top]
        resized = " (resized)" if prediction.resized else ""
        print(f"{prediction.path}{resized}: " + ", ".join(f"{name} {share:.3f}" for name, share in top))
        for path in paths:
            print(f"   {path}")


def draw(options: argparse.Namespace) -> None:
    """`residuum draw RUN …`."""
    from residuum.records.record import find_run, legend, read_record
    from residuum.report.figures import of_runs

    table = of_runs.table()
    if options.of not in table:
        raise unknown("value for --of", options.of, table)
    names, words = options.folders, options.labels or []
    if not names:  # the labels stand before the runs, with commas between them
        names, words = words[1:], words[:1]
    if not names:
        raise InputError("draw: name one run or more")
    records = [read_record(find_run(name, options.runs)) for name in names]
    for record in records:
        for line in record.damaged:
            print(f"note: run {record.id}: {line}", file=sys.stderr)
    called = legend(records)
    if options.labels is not None:
        called = [name.strip() for name in (words if len(words) > 1 else words[0].split(","))]
        if len(called) != len(records) or not all(called) or len({*called}) < len(called):
            raise InputError(f"--labels: {tally(len(records), 'run')} take as many names, all different, not "
                             f"{quoted(', '.join(words))}")  # fmt: skip
    say_figures(save_figure(table[options.of].draw(records, called), options.out or Path(options.of)), options)


def bench(options: argparse.Namespace) -> None:
    """`residuum bench`."""
    from residuum.run.bench import Benchmark
    from residuum.run.bench import bench as measure

    if options.images < 640 or options.repeats < 1:
        raise InputError("--images and --repeats: at least 640 images, five batches, and one repeat")
    for said in measure(options.images, options.repeats):
        if not isinstance(said, Benchmark):
            print(said, file=sys.stderr, flush=True)
        elif options.json:
            print_json({**asdict(said), "ratio": said.ratio, "share_of_peak": said.share_of_peak})
        else:
            print(*said.lines(), sep="\n")

"""`residuum surface`: the loss around trained weights, drawn."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from residuum.cli.options import (
    Command,
    common,
    device_option,
    figures_folder_option,
    moved_data_option,
    named_runs,
    print_json,
    save_figures,
    store_option,
    which_option,
)
from residuum.records.regular import within

if TYPE_CHECKING:
    from residuum.records.record import RunRecord
    from residuum.records.surfaces import Surface

POINTS = {1: 51, 2: 21}


def add(command: Command) -> None:
    """Add `surface`."""
    p = command("surface", surface, "The training loss around a run's weights, along random directions.")
    p.add_argument("folders", metavar="RUN", nargs="+", help="run folders, or the beginnings of runs' ids")
    p.add_argument("--dimensions", type=int, choices=(1, 2), default=1, help="directions (default: 1)")
    p.add_argument(
        "--points", type=int, help=f"points along each direction, odd (default: {POINTS[1]}, or {POINTS[2]} with two)"
    )
    p.add_argument("--span", type=float, default=1.0, help="how far to go; 1: as long as the weights (default: 1)")
    p.add_argument("--images", type=int, default=1000, help="training images to average over (default: 1000)")
    p.add_argument("--seed", type=int, default=0, help="seed of the directions")
    which_option(p)
    device_option(p)
    moved_data_option(p)
    figures_folder_option(p)
    common(p)
    store_option(p, "folders")


def surface(options: argparse.Namespace) -> None:
    """`residuum surface RUN [RUN...]`."""
    from residuum.report.figures import loss_surface as figures

    named = named_runs(options)
    view = figures.data({label: _computed(label, record, options) for label, record in named.items()})
    if options.dimensions == 1:
        drawn = {"surface-1d": figures.lines(view)}
    else:
        drawn = {"surface-contours": figures.contours(view), "surface-3d": figures.relief(view)}
    first, *others = named.values()
    # Another grid is another figure.
    usual = {name: options.parser.get_default(name) for name in ("points", "span", "images", "seed")}
    usual["points"] = POINTS[options.dimensions]
    asked = {**{name: getattr(options, name) for name in usual}, "points": options.points or usual["points"]}
    unusual = (f"-{name}{value}" for name, value in asked.items() if value != usual[name])
    which = f"-{options.which}" if options.which != "last" else ""
    ending = "".join([*unusual, which, *(f"-and-{one.id}" for one in others)])
    out = options.out or within(first.folder, "figures")
    paths = save_figures({f"{name}{ending}": figure for name, figure in drawn.items()}, out)
    if options.json:
        print_json({"figures": [str(path) for path in paths]})
    else:
        print("figures:", *(path for path in paths if path.suffix == ".png"))


def _computed(label: str, record: RunRecord, options: argparse.Namespace) -> Surface:
    """The surface of a run, computed as far as it is not there; progress goes to standard error."""
    from residuum.cli.terminal import counting
    from residuum.records import surfaces
    from residuum.run import surface

    points = POINTS[options.dimensions] if options.points is None else options.points
    steps = surface.evaluate(
        record, dimensions=options.dimensions, points=points, span=options.span, images=options.images,
        seed=options.seed, which=options.which, data=options.data or "",
        device=options.device,
    )  # fmt: skip
    there, grid = next(steps)
    done = there
    try:
        for count in counting((count for count, _ in steps), there, grid.total, label, sys.stderr):
            done = count
    except KeyboardInterrupt:
        print(f"stopped: {done:,} of {grid.total:,} points are saved, and the same command goes on", file=sys.stderr)
        raise
    return surfaces.read(record.folder, grid)

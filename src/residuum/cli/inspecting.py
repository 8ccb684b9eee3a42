"""`residuum layers`: histograms of the layers of runs, and what reaches each layer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from residuum.cli.options import (
    Command,
    common,
    figures_folder_option,
    joined,
    named_runs,
    print_json,
    save_figures,
    store_option,
)
from residuum.records.regular import within

if TYPE_CHECKING:
    from residuum.records.layers import Layers
    from residuum.records.record import RunRecord

OF = ("parameters", "gradients", "responses", "activations")


def add(command: Command) -> None:
    """Add `layers`."""
    p = command("layers", layers, "Draw the histograms of a run's layers over the epochs, and gradients, responses and "
                "dead channels over depth; runs side by side.")  # fmt: skip
    p.add_argument("folders", metavar="RUN", nargs="+", help="runs: folders, or the beginnings of ids")
    p.add_argument("--of", choices=OF, default="parameters", help="what the histograms are of (default: parameters)")
    p.add_argument(
        "--layers", default="", metavar="NAMES",
        help="layers of the histograms, as conv1,layer2.0.conv1 (default: the first and last of each stage)",
    )  # fmt: skip
    figures_folder_option(p)
    common(p)
    store_option(p, "folders", weights=False)


def layers(options: argparse.Namespace) -> None:
    """`residuum layers RUN [RUN...]`."""
    from residuum.cli.terminal import print_table
    from residuum.report.figures import gradient_flow, histograms

    named = named_runs(options)
    seen = {label: record.layers() for label, record in named.items()}
    for label, found in seen.items():
        _say_gaps(named[label], [one.epoch for one in found])
    wanted = [name.strip() for name in options.layers.split(",") if name.strip()]
    first, *others = named.values()
    stem = "-".join(["histograms", options.of, *([joined(wanted, "layers")] if wanted else [])])
    figures = {
        f"{stem}-{named[label].id}" if others else stem: histograms.draw(
            histograms.data(label, found, options.of, wanted)
        )
        for label, found in seen.items()
    }
    together = "".join(f"-and-{one.id}" for one in others)
    figures[f"gradient-flow{together}"] = gradient_flow.draw(gradient_flow.data(seen))
    out = options.out or within(first.folder, "figures")
    paths = [str(path) for path in save_figures(figures, out)]
    rows = {label: [_row(one) for one in found] for label, found in seen.items()}
    if options.json:
        every = [{"run": named[label].id, "label": label, **row} for label, own in rows.items() for row in own]
        print_json({"epochs": every, "figures": paths})
        return
    for label, its_rows in rows.items():
        print(f"{label} (run {named[label].id})")
        print_table([{HEADS[key]: _text(value) for key, value in row.items()} for row in its_rows])
    print("figures:", *(path for path in paths if path.endswith(".png")))


HEADS = {
    "epoch": "epoch", "first gradient": "gradient, first", "last gradient": "last",
    "smallest response": "response, least", "largest response": "most", "dead": "dead",
}  # fmt: skip
"""Heads of the table, short enough for a narrow terminal."""


def _say_gaps(record: RunRecord, epochs: Sequence[int]) -> None:
    missing = sorted({0, *(row.epoch for row in record.epochs)} - {*epochs})
    if missing:
        print(f"note: run {record.id} recorded no layers in epoch {', '.join(map(str, missing))}", file=sys.stderr)


def _row(layers: Layers) -> dict[str, Any]:
    """One epoch of a run in a few numbers; None where a value is not finite."""
    gradients_L, responses_L = layers.kernel_gradients_L, layers.response_stds_L
    values = {
        "first gradient": gradients_L[0], "last gradient": gradients_L[-1],
        "smallest response": responses_L.min(), "largest response": responses_L.max(), "dead": layers.dead_A.mean(),
    }  # fmt: skip
    numbers = {name: float(value) for name, value in values.items()}
    return {"epoch": layers.epoch,
            **{name: value if abs(value) < float("inf") else None for name, value in numbers.items()}}  # fmt: skip


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.2g}" if isinstance(value, float) else str(value)

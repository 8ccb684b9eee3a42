"""`residuum classes`: what a run gets wrong, class by class."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from residuum.cli.hints import helped
from residuum.cli.options import (
    Command,
    common,
    figures_folder_option,
    moved_data_option,
    named_runs,
    print_json,
    save_figures,
    store_option,
    which_option,
)
from residuum.errors import InputError, Remedy, tally
from residuum.records.regular import within

if TYPE_CHECKING:
    from residuum.analysis.per_class import Findings, Mistake, Predictions
    from residuum.records.record import RunRecord


def add(command: Command) -> None:
    """Add `classes`."""
    p = command("classes", classes, "What a run gets wrong, class by class, and how far to trust its probabilities.")
    p.add_argument("folders", metavar="RUN", nargs="+", help="one run or two: folders, or the beginnings of ids")
    which_option(p)
    figures_folder_option(p)
    p.add_argument(
        "--mistakes", type=int, default=18, metavar="N",
        help="images to show, the most confident mistakes; 0: none, and the test images are not read (default: 18)",
    )  # fmt: skip
    moved_data_option(p)
    common(p)
    store_option(p, "folders")


def classes(options: argparse.Namespace) -> None:
    """`residuum classes RUN [RUN]`."""
    from residuum.analysis import per_class as analysis
    from residuum.analysis.over_images import mcnemar

    if not 0 <= options.mistakes <= 200:
        raise InputError(f"--mistakes: {options.mistakes} images; 0 to 200 fit into a figure")
    named = named_runs(options)
    runs = {label: analysis.read(record, options.which) for label, record in named.items()}
    found = {label: analysis.findings(one, options.mistakes) for label, one in runs.items()}
    paths = _draw_classes(named, runs, {label: one.mistakes for label, one in found.items()}, options)
    pair = mcnemar(*(one.right_N for one in runs.values())) if len(runs) == 2 else None
    if options.json:
        heads = [{"run": record.id, "label": label, "which": options.which} for label, record in named.items()]
        print_json({"runs": [head | asdict(one) for head, one in zip(heads, found.values(), strict=True)],
                     "pair": asdict(pair) if pair else None, "figures": [str(path) for path in paths]})  # fmt: skip
        return
    _print_classes(list(found.values()))
    for number, (label, one) in enumerate(found.items(), start=1):
        print(f"{f'{number}: ' if pair else ''}{label} (run {named[label].id}, {options.which} epoch)")
        print(f"   acc {one.accuracy:.4f} ({tally(one.images, 'image')}), macro F1 {one.macro_f1:.4f}, mean confidence "
              f"{one.calibration.confidence:.4f}, ECE {one.calibration.ece:.4f} ({analysis.BINS} bins), "
              f"Brier {one.calibration.brier:.4f}")  # fmt: skip
    if pair:
        print(f"only 1 is right on {tally(pair.only_first_right, 'image')}, only 2 on {pair.only_second_right:,}: "
              f"1 minus 2 is {pair.difference:.2f} points (95 % interval {pair.low:.2f} to {pair.high:.2f}; "
              f"McNemar {f'p = {pair.p:.2g}' if pair.p >= 1e-3 else 'p < 0.001'})")  # fmt: skip
    print("figures:", *(path for path in paths if path.suffix == ".png"))


def _draw_classes(
    named: Mapping[str, RunRecord],
    runs: Mapping[str, Predictions],
    wrong: Mapping[str, Sequence[Mistake]],
    options: argparse.Namespace,
) -> list[Path]:
    """Draw one run or two; the images of mistakes are left out with a note where the data set is not at hand."""
    from residuum.analysis.per_class import epoch_of
    from residuum.report.figures import confusion, mistake_sheet, reliability
    from residuum.run.predict import test_images

    figures = {
        "confusion": confusion.draw(confusion.data(runs)),
        "reliability": reliability.draw(reliability.data(runs)),
    }
    if options.mistakes:
        try:
            images = {}
            for label, record in named.items():
                epoch = epoch_of(record, options.which)
                images[label] = test_images(record, "classes", epoch, options.data or "", None).images_NCHW
            figures["mistakes"] = mistake_sheet.draw(mistake_sheet.data(wrong, images))
        except InputError as error:
            if options.data:
                raise
            remedies = error.remedies or [Remedy("moved data")]
            print(f"note: the mistakes are not drawn: {helped(error.text, remedies)}", file=sys.stderr)
    first, *others = named.values()
    ending = "".join([f"-{options.which}" if options.which != "last" else "", *(f"-and-{one.id}" for one in others)])
    out = options.out or within(first.folder, "figures")
    return save_figures({f"{name}{ending}": figure for name, figure in figures.items()}, out)


def _print_classes(found: Sequence[Findings]) -> None:
    """The classes of one run, or of two side by side, as a table; and the commonest mistakes of each as another."""
    from residuum.cli.terminal import print_table

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
            print(f"   {kind.true} → {kind.predicted}: {tally(kind.count, 'image')}, {kind.share:.1%} of {kind.true}")

"""`residuum data`: fetch, check and describe data sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from residuum.cli.options import Command, common, data_settings, print_json, set_option, times
from residuum.errors import tally

if TYPE_CHECKING:
    from residuum.run.assemble import Data


NAMED = 20
"""Files and folders that are not used, of which so many are named."""


def add(command: Command) -> None:
    """Add the commands of data sets."""
    p = command("data", lambda _options: None, "Fetch, check and describe data sets.")
    data = p.add_subparsers(dest="command", metavar="fetch|check|stats", required=True)
    p = command("fetch", data_fetch, "Download a data set into the cache.", within=data)
    p.add_argument("name", help="a data set: `residuum list datasets`")
    p = command("check", data_check, "Verify counts, shapes, balance, duplicates; say what is not read.", within=data)
    p.add_argument("data", help="a data set's name, or a file or folder that holds one")
    set_option(p, "as data.dataset.size=32")
    common(p)
    p = command("stats", data_stats, "Mean and standard deviation of the training split.", within=data)
    p.add_argument("data", help="a data set's name, or a file or folder that holds one")
    set_option(p, "as data.validation=5000")
    common(p)


def data_fetch(options: argparse.Namespace) -> None:
    """`residuum data fetch NAME`."""
    from residuum.cli.terminal import show_download
    from residuum.data.download import fetch

    show_download(fetch(options.name), sys.stdout)


def data_check(options: argparse.Namespace) -> None:
    """`residuum data check DATA`."""
    from residuum.cli.terminal import print_table
    from residuum.data.check import check

    report = check(_dataset(options).dataset)
    if options.json:
        print_json(asdict(report))
        return
    images = f"images of {times(report.shape)}, {len(report.classes)} classes"
    print(f"{report.name}: {images}, fingerprint {report.fingerprint}")
    splits = [("train", report.train), ("validation", report.validation), ("test", report.test)]
    print_table([
        {"split": name, "images": f"{split.images:,}",
         "in a class": f"{min(split.per_class):,} to {max(split.per_class):,}",
         "pixels": f"{split.minimum} to {split.maximum}", "duplicates": f"{split.duplicates:,}"}
        for name, split in splits if split
    ])  # fmt: skip
    print(f"splits: {report.splits}")
    print(f"test images that are also training images: {report.leaked:,}")
    for note in report.reading.notes:
        print(note)
    for kind, count in report.reading.passed_over.items():
        print(f"passed over: {kind}: {count:,}")
    if report.reading.not_used:
        print(f"not used: {shortened(report.reading.not_used)}")
    unused = report.reading.passed_over or report.reading.not_used
    for finding in report.findings or (() if unused else ("nothing to note",)):
        print(f"- {finding}")


def shortened(names: Sequence[str]) -> str:
    """Names in a row; of many the first, and how many more there are."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest:,} more (--json names them all)" if rest > 0 else "")


def data_stats(options: argparse.Namespace) -> None:
    """`residuum data stats DATA`."""
    from residuum.data.normalize import channel_statistics

    data = _dataset(options)
    mean, std = channel_statistics(data.dataset.train.images_NCHW[data.train_N])
    if options.json:
        print_json({"images": len(data.train_N), "mean": mean, "std": std})
        return
    print(f"{tally(len(data.train_N), 'training image')}, of pixels scaled to [0, 1]")
    for name, values in (("mean", mean), ("std", std)):
        print(f"{name} {', '.join(f'{value:.4f}' for value in values)}")


def _dataset(options: argparse.Namespace) -> Data:
    """The data set that a command names, with the split that its settings say; all images train by default."""
    from residuum.config import RunConfig, parse_setting
    from residuum.run.assemble import resolve

    settings = {"data.validation": 0, "data.normalize": "none", **data_settings(options.data)}
    return resolve(RunConfig().changed(settings | dict(map(parse_setting, options.set))))[1]

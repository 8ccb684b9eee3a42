"""Own code of runs: trusted once by `--trust`, before a command that computes with such a run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def trust_option(parser: argparse.ArgumentParser, *reads: str) -> None:
    """The option to trust the code of the runs that these options name."""
    parser.add_argument(
        "--trust", action="store_true",
        help="run the own code that is kept with the run, now and from now on: read it first, it can do anything",
    )  # fmt: skip
    parser.set_defaults(trust_reads=reads)


def trusted(options: argparse.Namespace) -> None:
    """For a command with `--trust`: remember the code of the runs that it names, and say where it lies.

    Raises:
        InputError: no such run, or its code is gone or was changed.
    """
    if not getattr(options, "trust", False):
        return
    from residuum.records.record import find_run
    from residuum.run.trust import trust

    for name in options.trust_reads:
        given = getattr(options, name)
        for one in given if isinstance(given, list) else [given] if given else []:
            if Path(one).is_file():  # weights, which have no code
                continue
            for path in trust(find_run(str(one), options.runs)):
                print(f"note: trusted from now on: {path}", file=sys.stderr)

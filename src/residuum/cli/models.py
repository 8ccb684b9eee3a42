"""`residuum models`: find networks under a budget."""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict

from residuum.cli.options import Command, print_json, shape_of, times
from residuum.errors import InputError, quoted


def add(command: Command) -> None:
    """Add the commands that find networks."""
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


def models_search(options: argparse.Namespace) -> None:
    """`residuum models search`."""
    from residuum.cli.terminal import print_table
    from residuum.models.search import Limits, Task, search
    from residuum.networks.names import short_name
    from residuum.registry import Choice

    flags = {"parameters": "max_params", "macs": "max_macs", "memory": "max_memory"}
    limits = Limits(**{part: _amount(flag, getattr(options, flag)) for part, flag in flags.items()})
    task = Task(shape_of(options.input), options.classes, options.batch)
    widths = [_count("--width", part) for part in options.width.split(",")]
    found = search(limits, task, stages=options.stages, widths=widths, depth=options.depth, top=options.top)
    names = [short_name(Choice.of(network.model)) for network in found]
    if options.json:
        networks = [
            {"network": name, "depth": network.depth, **asdict(network.cost), "share": network.share,
             "model": network.model}
            for name, network in zip(names, found, strict=True)
        ]  # fmt: skip
        print_json({"limits": limits.given, "input": task.shape, "classes": task.classes, "batch": task.batch,
                     "networks": networks})  # fmt: skip
        return
    parts = {"parameters": "parameters", "macs": "multiply-adds", "memory": f"bytes at batch {task.batch}"}
    budget = ", ".join(f"{limit:,} {parts[part]}" for part, limit in limits.given.items())
    on = f"images of {times(task.shape)}, {task.classes} classes, at most {budget}"
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
        raise InputError(f"--{flag.replace('_', '-')}: {quoted(text)} is not a number above 0, as 5e6, 5M or 2GB")
    return amount


def _count(flag: str, text: str) -> int:
    if not text.strip().isdecimal():
        raise InputError(f"{flag}: {quoted(text)} is not a whole number; separate them by commas, as 16,32")
    return int(text)

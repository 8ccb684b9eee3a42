"""`residuum import-weights`: a public state dict as a run that `evaluate` and `predict` take."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residuum.cli.options import Command, common, data_settings, print_json, set_option, summary
from residuum.errors import InputError, quoted, tally

if TYPE_CHECKING:
    from residuum.data.dataset import Dataset
    from residuum.records.record import RunRecord
    from residuum.run.importing import Imported
    from residuum.run.reference import Compared

SHOWN = 6
"""Other tensors of a file that are named; the rest is counted."""


def add(command: Command) -> None:
    """Add `import-weights`."""
    p = command("import-weights", import_weights, "Put a public state dict into a run folder.")
    p.add_argument("file", type=Path)
    p.add_argument("--model", required=True)
    p.add_argument("--preset", metavar="NAME", help="public code that it is from: `residuum list presets`")
    p.add_argument(
        "--normalize",
        nargs=2,
        metavar=("MEAN", "STD"),
        help="per channel, of pixels in [0, 1], as 0.49,0.48,0.45 0.25,0.24,0.26 (default: those of the preset)",
    )
    p.add_argument(
        "--data",
        help="the data set it was trained on: also scores the weights on its test set "
        "(default: CIFAR-10, or what --set data.dataset says; the images of CIFAR are not needed yet)",
    )
    p.add_argument(
        "--reference", type=Path, metavar="LOGITS", help="logits of its own program, as .pt, .npy or .npz, to compare"
    )
    p.add_argument(
        "--images", type=Path, metavar="FILE", help="their images (default: in LOGITS or beside it, or test images)"
    )
    p.add_argument(
        "--channels", choices=("rgb", "bgr"), default="rgb", help="their order in training, and that of --normalize"
    )
    p.add_argument(
        "--key",
        default="",
        help="where in the file the weights lie, if it holds several, as state_dict_ema; a dot: at its top",
    )
    set_option(p, "a setting, as model.channels=[8,8,8]; stands over the preset")
    common(p)


def import_weights(options: argparse.Namespace) -> None:
    """`residuum import-weights FILE …`."""
    from residuum.config import RunConfig, parse_setting
    from residuum.registry import Choice
    from residuum.run import importing

    if options.images and not options.reference:
        raise InputError("--images are those of --reference")
    config = RunConfig().changed({"model": options.model, "data.validation": 0})
    settings = data_settings(options.data) if options.data else {}
    if options.normalize:
        mean, std = ([_number(part) for part in text.split(",")] for text in options.normalize)
        settings["data.normalize"] = {"name": "standardize", "mean": mean, "std": std}
    settings |= dict(map(parse_setting, options.set))
    name = Choice.of(settings.get("data.dataset", "cifar10")).name
    dataset = None if options.data or name not in importing.KNOWN else importing.without_images(name)
    imported = importing.read_weights(
        options.file,
        config,
        dataset,
        preset=options.preset or "",
        key=options.key,
        settings=settings,
        estimates="data.normalize" in settings,
        channels=options.channels,
    )
    compared = None
    if options.reference:
        test = imported.data.dataset.test if options.data else None
        compared = importing.check_reference(imported, options.reference, options.images, test)
    record = importing.keep(imported, options.runs, compared)
    for line in notes(imported, compared):
        print(f"note: {line}", file=sys.stderr)
    if not options.json:
        print(f"imported into {record.folder}")
    scores = _score(record, imported, options) if options.data else None
    if options.json:
        print_json({**summary(record), **importing.origin(imported, compared), **({"test": scores} if scores else {})})


def notes(imported: Imported, compared: Compared | None) -> list[str]:
    """What was passed over in a file, and what its tensors did not tell, a line for each."""
    from residuum.networks.presets import PRESETS

    found, lines = imported.fit, []
    if found.matched:
        lines.append(f"the file has other names (it begins with {quoted(found.matched)}): "
                     "its layers were matched by order and shape, in the one way that fits")  # fmt: skip
    if found.head:
        lines.append(f"the linear layer lay elsewhere in the file: {quoted(found.head)} is the only one that fits")
    others = [f"{place}, whose weights fit too (--key {place})" for place in found.others]
    over = [one for one in found.passed_over if not any(one.startswith(place) for place in found.others)]
    said = [*others, *over[:SHOWN], *([f"{len(over) - SHOWN} more"] if len(over) > SHOWN else [])]
    if said:
        lines.append(f"passed over in {imported.file.name}: {', '.join(said)}")
    constants = imported.data.normalization
    turned = -1 if imported.channels == "bgr" else 1
    mean, std = (",".join(f"{value:.4g}" for value in values[::turned]) for values in (constants.mean, constants.std))
    order = f"{imported.channels.upper()} " if imported.data.shape[0] == 3 else ""
    pixels = f"{order}pixels " + (f"in [0, 1] less {mean}, over {std}" if mean else "standardised image by image")
    own = [found.pixels.get(name, values) for name, values in (("mean", constants.mean), ("std", constants.std))]
    if any(abs(a - b) > 1e-4 for one, other in zip(own, (constants.mean, constants.std), strict=True)
           for a, b in zip(one, other[::turned], strict=False)):  # fmt: skip
        said_own = " and ".join(",".join(f"{value:.4g}" for value in values) for values in own)
        lines.append(f"the file has another mean and deviation of its own, {said_own}, which are not used")
    given = [path for path in imported.assumed if imported.preset and path in imported.given]
    assumed = [f"{path}={_text(value)}" for path, value in imported.assumed.items() if path not in given]
    yours = [f"{path}={_text(imported.assumed[path])}" for path in given]
    if compared:
        lines.append(
            f"the {compared.of} of {tally(compared.images, 'image')} ({compared.source}) are those of the reference, "
            f"to {compared.difference:.1g}{'' if compared.pixels else '; pixels are still assumed: ' + pixels}"
        )
    elif assumed:
        as_in = f" as in {PRESETS[imported.preset].code}" if imported.preset else ""
        besides = f"; and, as you say, {', '.join(yours)}" if yours else ""
        lines.append(f"not told by the tensors, so assumed{as_in}: {', '.join(assumed)}, {pixels}{besides}; "
                     "--reference LOGITS or --data shows whether it is so")  # fmt: skip
    return lines


def _text(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(list(value) if isinstance(value, tuple) else value)


def _score(record: RunRecord, imported: Imported, options: argparse.Namespace) -> dict[str, Any]:
    """Score imported weights on the test set; warn where they are about as good as guessing."""
    from residuum.cli.terminal import loss
    from residuum.run.importing import better_than_chance, near_chance
    from residuum.run.predict import evaluate

    scores = evaluate(record)
    if not options.json:
        print(f"test loss {loss(scores.loss)} acc {scores.accuracy:.4f} ({tally(scores.n, 'image')})")
    chance = _chance(imported.data.dataset)
    if near_chance(scores.accuracy, chance, scores.n):
        better = better_than_chance(imported)
        hint = better or ("no other setting or constants that were tried give more on training images, so classes may "
                          "stand in another order, or these weights are of another data set or untrained")  # fmt: skip
        print(f"warning: an accuracy of {scores.accuracy:.4f} is about what naming the most frequent class gives "
              f"({chance:.4f}): {hint}", file=sys.stderr)  # fmt: skip
    return scores.plain()


def _chance(dataset: Dataset) -> float:
    """The share of the most frequent class among the test images."""
    import numpy as np

    return float(np.bincount(dataset.test.labels_N).max() / len(dataset.test))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"--normalize: {quoted(text)} is not a number; write one per channel, as 0.49,0.48,0.45"
        ) from None

"""`residuum explain`: which part of an image speaks for a class, by the layers of a run's network."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residuum.cli.options import (
    Command,
    as_word,
    common,
    device_option,
    figures_folder_option,
    joined,
    moved_data_option,
    print_json,
    save_figures,
    set_option,
    store_option,
    which_option,
)
from residuum.errors import InputError
from residuum.records.regular import within

if TYPE_CHECKING:
    from residuum.records.attributions import Attributions
    from residuum.records.record import RunRecord
    from residuum.run.predict import Trained


def add(command: Command) -> None:
    """Add `explain`."""
    p = command("explain", explain, "Draw which part of an image speaks for a class, layer by layer.")
    p.add_argument("folder", metavar="RUN", help="a run folder, or the beginning of a run's id")
    p.add_argument(
        "files", metavar="IMAGE", nargs="*", type=Path, default=[],
        help="image files (default: of each class the most confident right and wrong test image)",
    )  # fmt: skip
    p.add_argument("--images", metavar="N", nargs="+", type=int, help="test images by number, from 0")
    p.add_argument(
        "--method", default="grad-cam",
        help="grad-cam, saliency, integrated-gradients, occlusion: `residuum list methods` (default: grad-cam)",
    )  # fmt: skip
    p.add_argument(
        "--target", default="predicted", metavar="CLASS",
        help="the class that is explained: its name, true, or predicted (default: predicted)",
    )  # fmt: skip
    p.add_argument(
        "--beside", metavar="RUN", help="explain the same images by another run too, and draw both side by side"
    )
    p.add_argument(
        "--epochs", action="store_true",
        help="also each image, four at most, by the weights of every epoch that were kept and those before training",
    )  # fmt: skip
    p.add_argument("--steps", type=int, help="integrated-gradients: points of the path (default: 50)")
    p.add_argument("--window", type=int, help="occlusion: side of the square (default: a quarter of the image's)")
    p.add_argument("--stride", type=int, help="occlusion: pixels from square to square (default: half the window)")
    set_option(p, "any setting of the method, as window=4")
    which_option(p)
    device_option(p)
    figures_folder_option(p)
    moved_data_option(p)
    common(p)
    store_option(p, "folder", "beside")


def explain(options: argparse.Namespace) -> None:
    """`residuum explain RUN [IMAGE …]`."""
    from residuum.records.record import find_run, labels, read_record

    # A name that is wrong is told before anything heavy is loaded.
    records = [read_record(find_run(name, options.runs)) for name in (options.folder, options.beside) if name]
    called = labels(records)
    for name in ("window", "stride"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise InputError(f"--{name}: {value} pixels; at least 1, or without it the default")
    if len(records) > 1 and not options.files:
        _check_same_images(*records)

    from residuum.records import attributions
    from residuum.report.figures import attribution as figures
    from residuum.run import explaining

    settings = _settings(options)
    asked: dict[str, Any] = {"target": options.target, "which": options.which, "data": options.data or "",
                             "device": options.device}  # fmt: skip
    asked |= {"files": options.files or None, "numbers": options.images}
    chosen_by = ""
    if len(records) > 1 and not options.files and options.images is None:
        chosen_by, asked["numbers"] = called[0], explaining.most_confident(records[0], options.which)
    found = [explaining.explain(record, {"name": options.method, **settings}, **asked) for record in records]

    # The other run's own answer to the same question may be of other images, so this one has a name of its own.
    names = [_name(options), f"{_name(options)}-beside-{records[0].id}"][: len(records)]
    if len(records) == 1:
        drawn = {names[0]: figures.draw(figures.data(found[0]))}
    else:
        together = figures.side_by_side(dict(zip(called, found, strict=True)), chosen_by)
        drawn = {f"{names[0]}-and-{records[1].id}": figures.draw(together)}
    kept = list(zip(records, names, found, strict=True))
    pairs = zip(records, found, strict=True) if options.epochs else ()
    followed = [explaining.over_epochs(*pair, device=options.device) for pair in pairs]
    for at, images in enumerate(followed):
        for number, image in enumerate(images, start=1):
            ending = f"by-epoch-{number}-{as_word(image.names[0])}"
            kept.append((records[at], f"{names[at]}-{ending}", image))
            # All figures lie in one folder, so those of the other run have its id.
            stem = names[0] if at == 0 else f"{names[0]}-and-{records[at].id}"
            drawn[f"{stem}-{ending}"] = figures.draw(figures.over_epochs(image, called[at] if at else ""))
    arrays = [attributions.write(record.folder, name, one) for record, name, one in kept]
    paths = save_figures(drawn, options.out or within(records[0].folder, "figures"))
    _say(records, found, followed, arrays, paths, as_json=options.json)


def _say(
    records: Sequence[RunRecord], found: Sequence[Attributions], followed: Sequence[Sequence[Attributions]],
    arrays: Sequence[Path], paths: Sequence[Path], *, as_json: bool,
) -> None:  # fmt: skip
    if as_json:
        values = _plain(found[0]) | ({"epochs": followed[0][0].epochs} if followed else {})
        values |= {"beside": _plain(found[1])} if len(found) > 1 else {}
        print_json(values | {"arrays": [str(path) for path in arrays], "figures": [str(path) for path in paths]})
        return
    for one in found:
        _print(one)
    for record, images in zip(records, followed, strict=False):
        _print_epochs(record, images, len(found[0].names))
    print("arrays:", *arrays, sep="\n   ")
    print("figures:", *(path for path in paths if path.suffix == ".png"), sep="\n   ")


def _check_same_images(record: RunRecord, other: RunRecord) -> None:
    """That test images of one run are those of the other, as far as is known: imported weights know no fingerprint."""
    one, two = record.config.data, other.config.data
    known = one.fingerprint and two.fingerprint
    if (one.fingerprint != two.fingerprint) if known else (one.dataset.name != two.dataset.name):
        raise InputError(f"--beside: run {other.id} was trained on other data, so it has no such test images; give "
                         "image files")  # fmt: skip


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the method that were given."""
    from residuum.config import parse_setting

    own = {name: value for name in ("steps", "window", "stride") if (value := getattr(options, name)) is not None}
    return own | dict(map(parse_setting, options.set))


def _name(options: argparse.Namespace) -> str:
    """The name of arrays and figures, by what was asked: another question does not overwrite this one's answer."""
    parts = [options.method, *(as_word(f"{name}{value}") for name, value in _settings(options).items())]
    parts += [joined(list(map(str, options.images)), "images")] if options.images else []
    if options.files:
        # Files of one name may be different pictures.
        places = "\n".join(str(path.resolve()) for path in options.files)
        parts.append(joined([path.stem for path in options.files], "images", told_apart_by=places))
    parts += [] if options.target == "predicted" else ["for", as_word(options.target)]
    return "-".join([*parts, *(["selected"] if options.which == "selected" else [])])


def _rows(found: Attributions) -> list[dict[str, Any]]:
    """What was explained, image by image, as plain values."""
    rows: list[dict[str, Any]] = []
    for row, k in enumerate(found.predicted_N):
        share = float(found.probabilities_NK[row, k])
        values = {"image": found.names[row], "true": found.true(row), "predicted": found.classes[k],
                  "probability": share, "explained": found.classes[found.targets_N[row]]}  # fmt: skip
        if found.gaps_N2 is not None:
            values["gap"], values["difference"] = (float(value) for value in found.gaps_N2[row])
        rows.append(values)
    return rows


def _plain(found: Attributions) -> dict[str, Any]:
    similarity = {part: {name: {"mean": one.mean, "images": one.images} for name, one in row.items()}
                  for part, row in found.similarity.items()}  # fmt: skip
    return {"run": found.run, "method": found.method, "settings": found.settings, "target": found.target,
            "epoch": found.epochs[0], "images": _rows(found), "similarity": similarity}  # fmt: skip


def _print(found: Attributions) -> None:
    from residuum.cli.terminal import print_table
    from residuum.report.style import percent

    settings = "".join(f", {name} {value}" for name, value in found.settings.items())
    print(f"{found.method}{settings}, weights of epoch {found.epochs[0]}, run {found.run}")
    signs = {"probability": percent, "gap": "{:+.3g}".format, "difference": "{:+.3g}".format}
    print_table([{key: signs[key](value) if key in signs else value for key, value in row.items()
                  if key != "true" or value} for row in _rows(found)])  # fmt: skip
    if found.gaps_N2 is not None:
        gaps_N, differences_N = abs(found.gaps_N2).T
        print(f"completeness: the sum of a map misses the difference of the logits by {gaps_N.mean():.3g} on average, "
              f"{gaps_N.sum() / differences_N.sum():.1%} of it; more --steps bring it nearer")  # fmt: skip
    print("Sanity check: rank correlation with the maps of the network when its weights are random from the linear "
          "layer down to a part.\nNear 1, a map would not depend on what that part learned.")  # fmt: skip
    print_table([
        {"random down to": part, **{name: _correlation(one.mean, one.images, len(found.names))
                                    for name, one in row.items()}}
        for part, row in found.similarity.items()
    ])  # fmt: skip
    if any(one.mean is not None and one.images < len(found.names)
           for row in found.similarity.values() for one in row.values()):  # fmt: skip
        print(
            f"In brackets: over so many of the {len(found.names)} images; a map of one value everywhere has no ranks."
        )


def _print_epochs(record: RunRecord, by_epoch: Sequence[Attributions], images: int) -> None:
    """Say which images were followed over which epochs, and how to follow others."""
    from residuum.run.explaining import kept_epochs

    kept = len([epoch for epoch in kept_epochs(record) if epoch])
    names, epochs = (", ".join(one.names[0] for one in by_epoch), ", ".join(map(str, by_epoch[0].epochs)))
    more = f"; --images chooses others than the first {len(by_epoch)}" if len(by_epoch) < images else ""
    all_ = " (--set save.keep=0 keeps all)" if kept < len(record.epochs) else ""
    print(f"run {record.id}: {names} by the weights of epochs {epochs} (0: before training){more}; {kept} of "
          f"{len(record.epochs)} were kept{all_}")  # fmt: skip


def _correlation(mean: float | None, images: int, of: int) -> str:
    return "–" if mean is None else f"{mean:.2f}" + (f" ({images})" if images < of else "")


def draw_predictions(trained: Trained, options: argparse.Namespace, record: RunRecord) -> list[list[str]]:
    """Draw each predicted image file with its Grad-CAM; gives the paths of the figures, file by file."""
    from residuum.registry import Choice
    from residuum.report.figures import attribution as figures
    from residuum.run import explaining

    pictures = explaining.from_files(options.images, trained.shape)
    found = explaining.attribute(trained, pictures, Choice(name="grad-cam"), "predicted")
    names: list[str] = []
    for path in options.images:
        name = f"predict-{as_word(path.stem)}"
        # Two files of one name from two folders are two pictures.
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    out = options.out or within(record.folder, "figures")
    return [
        [str(path) for path in save_figures({name: figures.draw_prediction(figures.prediction(found, row))}, out)]
        for row, name in enumerate(names)
    ]

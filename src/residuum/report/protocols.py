"""Protocols as text: how a published number was made, and in what our runs differ from that, key by key."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from residuum.config import RunConfig
from residuum.data.datasets import ENTRIES
from residuum.records.facts import DataFacts
from residuum.registry import Choice
from residuum.studies.study import PROTOCOL, Protocol

SETTINGS = {
    "validation": "data.validation", "epochs": "train.epochs", "batch": "train.batch_size", "lr": "optim.lr",
    "weight_decay": "optim.weight_decay", "schedule": "optim.schedule", "optimizer": "optim.optimizer",
    "augment": "data.augment", "normalize": "data.normalize",
}  # fmt: skip
"""The setting of a run that each key of a protocol is about; `selection` is about the measure."""

TIMES = {"milestones", "every", "period"}
"""Settings of a schedule that are times: epochs, or a share of the run where below 1."""

COUNTS = {"images": "training images", "test_images": "test images"}
"""The keys that count images, and of what. Ours are known once a run has begun."""

WORDS = {
    **COUNTS, "validation": "held-out images", "selection": "which epoch", "batch": "batch", "lr": "rate",
    "weight_decay": "weight decay", "augment": "augmentation", "normalize": "normalisation",
}  # fmt: skip
"""What a key is called where its own name is not a word for it."""

SELECTED = {
    "last": "last epoch", "best-on-test": "best epoch on the test set",
    "best-on-validation": "best epoch on the validation images", "best-of-runs": "best of several runs",
    "median-of-runs": "median of several runs",
}  # fmt: skip
LOSSY = ("JPEG", "WEBP", "GIF")
"""Formats that alter the pixels that they store, or may."""
OF_RUNS = ("best-of-runs", "median-of-runs")


def of_run(config: RunConfig, measure: str, data: DataFacts | None = None) -> Protocol:
    """The protocol of our own runs, every key known: that of a configuration, and the images that its record counts."""
    values = config.model_dump(mode="json")
    found = {key: values[section][name] for key, path in SETTINGS.items() for section, name in [path.split(".")]}
    if data is not None:
        found |= {"images": data.train + data.validation, "test_images": data.test}
    return Protocol(selection="best-on-validation" if measure == "selected_test_error" else "last", **found)


def of_all_images(theirs: Protocol, dataset: str) -> Protocol:
    """A protocol that names no number of images, with all those of a data set that is published with a count."""
    published = ENTRIES[dataset].published if dataset in ENTRIES else None
    if published is None or any(getattr(theirs, key) is not None for key in COUNTS):
        return theirs
    return theirs.model_copy(update=dict(zip(COUNTS, published, strict=True)))


def altered(data: DataFacts) -> str:
    """That pixels are not those with which a data set is published, as `JPEG copy of the images`; empty if they may be.

    By the formats in which the images were stored, where the record says so: those of published arrays alter none.
    """
    lossy = [name for name in data.encodings or () if name in LOSSY]
    if not lossy or data.dataset not in ENTRIES or ENTRIES[data.dataset].published is None:
        return ""
    part = " of some" if len(lossy) < len(data.encodings or ()) else " of the"
    return f"{' and '.join(lossy)} copy{part} images"


def described(protocol: Protocol) -> str:
    """A protocol as a phrase; empty where nothing is known."""
    said = [_phrase(key, _text(key, value, protocol)) for key, value in protocol.known.items()]
    return "; ".join(part for part in (", ".join(said), protocol.protocol) if part)


def differences(theirs: Protocol, ours: Protocol) -> dict[str, str]:
    """What is known of their protocol and is not so in ours, by key; nothing of images that ours does not count yet."""
    found = {}
    for key, value in theirs.known.items():
        here = getattr(ours, key)
        same: Callable[..., bool] = _SAME.get(key, _close)
        if here is not None and not same(value, here, theirs, ours):
            # What stands in our tables is a mean over runs.
            other = "mean of runs" if value in OF_RUNS and here == "last" else _text(key, here, ours, of=value)
            found[key] = f"{_phrase(key, _text(key, value, theirs))} there, {other} here"
    return found


def unknown(theirs: Protocol) -> str:
    """What of their protocol is not known, as a phrase; empty where all is."""
    missing = [key for key in PROTOCOL if key not in theirs.known]
    if {*PROTOCOL} - {*missing} <= {*COUNTS}:
        return "unknown there: how it was made"
    return f"unknown there: {', '.join(WORDS.get(key, key) for key in missing)}" if missing else ""


def is_covered(path: str, theirs: Protocol, ours: Protocol, found: Mapping[str, str]) -> bool:
    """Whether the differences found already say all about a setting that the user changed."""
    if path == "data.subset":
        return theirs.images is not None and ours.images is not None
    key = next((key for key, one in SETTINGS.items() if path == one or path.startswith(f"{one}.")), None)
    return key is not None and key in theirs.known and (path == SETTINGS[key] or key in found)


def _close(one: Any, other: Any, *_rest: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_close, one, other))
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in (one, other)):
        return bool(one == other)
    return math.isclose(one, other, rel_tol=1e-6)


def _same_count(one: float, other: float, _theirs: Protocol, ours: Protocol) -> bool:
    """Whether counts are the same; of a share and a count, where it is known how many images the share is of."""
    if (one < 1) != (other < 1) and ours.images:
        one, other = (value if value >= 1 else round(value * ours.images) for value in (one, other))
    return _close(one, other)


def _same_choice(one: Choice, other: Choice, theirs: Protocol, ours: Protocol) -> bool:
    one, other = _usual(one), _usual(other)
    return one.name == other.name and all(
        key in other.settings and _close(_share(key, value, theirs), _share(key, other.settings[key], ours))
        for key, value in one.settings.items()
    )


def _same_choices(one: Sequence[Choice], other: Sequence[Choice], theirs: Protocol, ours: Protocol) -> bool:
    pairs = zip(*(sorted(choices, key=lambda choice: choice.name) for choices in (one, other)), strict=False)
    return len(one) == len(other) and all(_same_choice(a, b, theirs, ours) for a, b in pairs)


_SAME: dict[str, Callable[..., bool]] = {
    "validation": _same_count, "schedule": _same_choice, "optimizer": _same_choice, "normalize": _same_choice,
    "augment": _same_choices,
}  # fmt: skip


def _usual(choice: Choice) -> Choice:
    """A choice under its usual name: Nesterov's momentum is SGD with it."""
    return Choice.of({**choice.settings, "name": "sgd", "nesterov": True}) if choice.name == "nesterov" else choice


def _share(key: str, value: Any, protocol: Protocol) -> Any:
    """A time of a schedule as a share of its run, where the epochs of that are known; all else as it is."""
    if isinstance(value, list | tuple):
        return [_share(key, one, protocol) for one in value]
    return value / protocol.epochs if key in TIMES and value >= 1 and protocol.epochs else value


def _phrase(key: str, text: str) -> str:
    """What a value of a key is called: `batch 128`, `164 epochs`."""
    if key == "validation":
        return f"{text} of the training images held out"
    if key in COUNTS:
        return f"{text} {COUNTS[key]}"
    return {"selection": text, "epochs": f"{text} epochs"}.get(key, f"{WORDS.get(key, key)} {text}")


def _text(key: str, value: Any, protocol: Protocol, of: Any = None) -> str:
    """A value of a key; of choices those settings that `of` has, the choices that it is held against."""
    if key == "selection":
        return SELECTED[value]
    if key == "validation":
        return "none" if not value else f"{100 * value:g} %" if value < 1 else f"{value:,.0f}"
    if key in COUNTS:
        return f"{value:,}"
    if isinstance(value, Choice):
        return _choice(value, protocol, value if of is None else of)
    if isinstance(value, tuple):
        # Settings of ours count only where theirs are known.
        known = {choice.name: choice for choice in value if of is None} | {choice.name: choice for choice in of or ()}
        return " + ".join(_choice(one, protocol, known.get(one.name, Choice(name=one.name))) for one in value) or "none"
    return _number(value)


def _choice(choice: Choice, protocol: Protocol, of: Choice) -> str:
    choice, of = _usual(choice), _usual(of)
    shown = {key: value for key, value in choice.settings.items() if key in of.settings}
    rest = ", ".join(f"{key} = {_setting(key, value, protocol)}" for key, value in shown.items())
    return f"{choice.name} ({rest})" if rest else choice.name


def _setting(key: str, value: Any, protocol: Protocol) -> str:
    if isinstance(value, list | tuple):
        return " and ".join(_setting(key, one, protocol) for one in value)
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(value).lower()
    if not isinstance(value, int | float):
        return str(value)
    return _number(value * protocol.epochs if key in TIMES and value < 1 and protocol.epochs else value)


def _number(value: float) -> str:
    """A number as people write it: 0.1, 164, 5e-4."""
    if value >= 0.01 or not value:
        return f"{value:.6g}"
    mantissa, exponent = f"{value:.5e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"

"""What a data set holds: counts, shapes, balance of the labels, duplicates, range of the pixels; and what it left."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from residuum.data.dataset import Dataset, Reading, Split
from residuum.data.datasets import ENTRIES
from residuum.data.normalize import channel_statistics
from residuum.errors import quoted, tally

NAMED = 5
"""Classes without images, of which so many are named."""
MOST_NUMBERS = 100_000
"""Classes that are numbers are looked through for gaps up to here."""


@dataclass(frozen=True)
class SplitReport:
    """One split: images, images of each class in the order of the classes, range of the pixels, and duplicates.

    `mean` and `std` are per channel in units of pixels in [0, 1]; `minimum` and `maximum` are uint8 values.
    `duplicates` counts the images of which an equal one, byte for byte, comes earlier in the split; `contradictions`
    those of them that carry another label than the first.
    """

    images: int
    per_class: tuple[int, ...]
    minimum: int
    maximum: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    duplicates: int
    contradictions: int


@dataclass(frozen=True)
class Report:
    """What a data set holds; `leaked` counts test images that are, byte for byte, among the training images.

    `validation` is there where the data bring that split. `splits` says which splits the data bring, and how others
    are drawn. `reading` says how it was read, and what was passed over.
    `findings` are lines on what may be wrong; none if nothing is.
    """

    name: str
    fingerprint: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    train: SplitReport
    test: SplitReport
    leaked: int
    findings: tuple[str, ...]
    validation: SplitReport | None
    splits: str
    reading: Reading


def check(dataset: Dataset) -> Report:
    """The report on a data set. Its values are plain: `dataclasses.asdict` makes JSON of it."""
    found = {which: _split(split, len(dataset.classes)) for which, split in dataset.splits.items()}
    reports = {which: report for which, (_, report) in found.items()}
    seen = {which: images for which, (images, _) in found.items()}
    leaked = _shared(seen["test"], seen["training"])
    shared = [("test", "training", leaked)]
    if "validation" in seen:
        shared.append(("validation", "training", _shared(seen["validation"], seen["training"])))
        shared.append(("test", "validation", _shared(seen["test"], seen["validation"])))
    return Report(
        name=dataset.name,
        fingerprint=dataset.fingerprint,
        shape=tuple(map(int, dataset.train.images_NCHW.shape[1:])),
        classes=dataset.classes,
        train=reports["training"],
        test=reports["test"],
        leaked=leaked,
        findings=tuple(_findings(dataset, reports, shared)),
        validation=reports.get("validation"),
        splits=_splits(dataset),
        reading=dataset.reading,
    )


def _splits(dataset: Dataset) -> str:
    drawn = dataset.reading.drawn
    test = f"test is drawn, {drawn}; the others train" if drawn else "train and test are the data's own"
    if dataset.validation is not None:
        return f"{test}; validation is the data's own"
    return f"{test}; there is no validation split, which a run draws from train (data.validation)"


def _shared(some: Mapping[bytes, tuple[int, int]], others: Mapping[bytes, tuple[int, int]]) -> int:
    """How many images of a split are among those of another."""
    return sum(count for digest, (_, count) in some.items() if digest in others)


def _split(split: Split, classes: int) -> tuple[dict[bytes, tuple[int, int]], SplitReport]:
    """The label of the first and the number of each different image, by hash; and the report on the split."""
    found: dict[bytes, tuple[int, int]] = {}
    contradictions = 0
    for image_CHW, label in zip(split.images_NCHW, split.labels_N.tolist(), strict=True):
        digest = blake2b(np.ascontiguousarray(image_CHW).data, digest_size=16).digest()
        first, count = found.get(digest, (label, 0))
        found[digest] = first, count + 1
        contradictions += label != first
    mean, std = channel_statistics(split.images_NCHW)
    report = SplitReport(
        images=len(split),
        per_class=tuple(np.bincount(split.labels_N, minlength=classes).tolist()),
        minimum=int(split.images_NCHW.min()),
        maximum=int(split.images_NCHW.max()),
        mean=mean,
        std=std,
        duplicates=len(split) - len(found),
        contradictions=contradictions,
    )
    return found, report


def _findings(
    dataset: Dataset, reports: Mapping[str, SplitReport], shared: Sequence[tuple[str, str, int]]
) -> Iterator[str]:
    entry = ENTRIES.get(dataset.name)
    published = dict(zip(("training", "test"), (entry and entry.published) or (), strict=False))
    for which, split in reports.items():
        if split.images != published.get(which, split.images):
            yield f"{tally(split.images, f'{which} image')}, not the published {published[which]:,}"
        largest, smallest = (pick(range(len(split.per_class)), key=split.per_class.__getitem__) for pick in (max, min))
        if none := [name for name, count in zip(dataset.classes, split.per_class, strict=True) if not count]:
            more = f" and {len(none) - NAMED} more" if len(none) > NAMED else ""
            yield f"there is no {which} image of {', '.join(map(repr, none[:NAMED]))}{more}"
            smallest = min((at for at, count in enumerate(split.per_class) if count), key=split.per_class.__getitem__)
        if split.per_class[largest] > 2 * split.per_class[smallest]:
            counts = (
                f"{split.per_class[label]:,} of {quoted(dataset.classes[label])}" for label in (largest, smallest)
            )
            yield f"the {which} images are not balanced: {', '.join(counts)}"
        if split.maximum < 128:
            yield f"the brightest {which} pixel is {split.maximum} of 255"
        if split.duplicates:
            otherwise = f"{split.contradictions:,} with another label"
            repeat = "image repeats an earlier one" if split.duplicates == 1 else "images repeat earlier ones"
            yield f"{split.duplicates:,} {which} {repeat}, {otherwise}"
    numbers = {int(name) for name in dataset.classes if re.fullmatch(r"0|[1-9]\d{0,8}", name)}
    if len(numbers) == len(dataset.classes):
        skipped = [number for number in range(min(numbers), min(max(numbers), MOST_NUMBERS)) if number not in numbers]
        if 0 < len(skipped) <= len(numbers):
            more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
            lacking = f"{', '.join(map(str, skipped[:NAMED]))}{more}"
            yield f"the classes are the numbers from {min(numbers)} to {max(numbers)}, but for {lacking}"
    first: dict[str, str] = {}
    for name in dataset.classes:
        if (other := first.setdefault(name.casefold(), name)) != name:
            yield f"the classes {quoted(other)} and {quoted(name)}, which differ in case alone, are taken for two"
    for some, others, count in shared:
        if count:
            yield f"{tally(count, f'{some} image')} {'is' if count == 1 else 'are'} among the {others} images"

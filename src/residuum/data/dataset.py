"""A data set as plain values: decoded images with their labels, in two or three splits, and names of classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

import numpy as np
from numpy.typing import NDArray

from residuum.errors import InputError, tally


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels: uint8 [N, C, H, W] with 1 or 3 channels, and int64 [N]; at least one image.

    Raises:
        InputError: other shapes or types, or none at all.
    """

    images_NCHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]

    def __post_init__(self) -> None:
        images, labels = self.images_NCHW, self.labels_N
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
            raise InputError(f"images have to be uint8 [N, 1 or 3, H, W], not {images.dtype} {list(images.shape)}")
        if labels.dtype != np.int64 or labels.ndim != 1:
            raise InputError(f"labels have to be int64 [N], not {labels.dtype} {list(labels.shape)}")
        if len(images) != len(labels):
            raise InputError(f"{tally(len(images), 'image')} and {tally(len(labels), 'label')}")

    def __len__(self) -> int:
        return len(self.labels_N)


@dataclass(frozen=True)
class Reading:
    """How a data set was read: what decided its splits and labels, and what lay beside it and was not used.

    `notes` are lines, empty where everything lay where it usually does; `passed_over` counts files by kind, and
    `not_used` names them, or the folders of which none was used. `drawn` says how the test split was drawn from the
    images, empty where it is the data's own.
    """

    notes: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)
    not_used: tuple[str, ...] = ()
    drawn: str = ""


AS_USUAL = Reading()
"""The reading of files among which nothing else lies."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split of images of one shape, with the names of their classes; made by `Dataset.of`.

    `validation` is the split that is held out where the data bring one; else it is drawn from the training images.
    `fingerprint` is 16 hexadecimal digits of the SHA-256 over images, labels and names of classes: equal for equal
    data, whatever file it was read from. `reading` says how it was read, and `encodings` in which formats its images
    were stored (as JPEG, which alters pixels); none where they were plain numbers. Neither is part of what it is.

    Raises:
        InputError: a label without a class, or splits of different shape.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    fingerprint: str
    validation: Split | None = None
    reading: Reading = AS_USUAL
    encodings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for which, split in self.splits.items():
            for label in (int(split.labels_N.min()), int(split.labels_N.max())):
                if not 0 <= label < len(self.classes):
                    raise InputError(
                        f"{self.name}: {which} label {label} is not among the {len(self.classes)} classes, "
                        f"0 to {len(self.classes) - 1}"
                    )
        train_shape = self.train.images_NCHW.shape[1:]
        for which, split in self.splits.items():
            if split.images_NCHW.shape[1:] != train_shape:
                raise InputError(
                    f"{self.name}: training images are {_times(train_shape)}, {which} images "
                    f"{_times(split.images_NCHW.shape[1:])}"
                )

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by what their images are called; validation only where the data bring it."""
        validation = {} if self.validation is None else {"validation": self.validation}
        return {"training": self.train, **validation, "test": self.test}

    @classmethod
    def of(
        cls, name: str, classes: Sequence[str], train: Split, test: Split, validation: Split | None = None, *,
        encodings: Iterable[str] = (),
    ) -> Self:  # fmt: skip
        """The data set with its fingerprint computed."""
        # A split that came later stands last: without it, the fingerprint is what it always was.
        splits = (train, test) if validation is None else (train, test, validation)
        fingerprint = _fingerprint(tuple(classes), splits)
        return cls(name, tuple(classes), train, test, fingerprint, validation, encodings=tuple(sorted(encodings)))


def _fingerprint(classes: tuple[str, ...], splits: Sequence[Split]) -> str:
    digest = sha256(repr(classes).encode())
    for split in splits:
        # The shape is part of it: without it, images of 2×8 and 4×4 pixels, or a moved boundary, could hash the same.
        digest.update(repr(tuple(int(size) for size in split.images_NCHW.shape)).encode())
        digest.update(np.ascontiguousarray(split.images_NCHW).data)
        digest.update(np.ascontiguousarray(split.labels_N, dtype="<i8").data)
    return digest.hexdigest()[:16]


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))

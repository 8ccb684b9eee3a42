"""Classes: what a network takes for what, how well it knows each class, and how far to trust its probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load
from scipy.special import ndtri, softmax

from residuum.analysis.estimate import LEVEL
from residuum.errors import InputError, Remedy
from residuum.records import run_folder, storage
from residuum.records.outcome import Kept
from residuum.records.record import RunRecord

BINS = 15
"""Bins of confidence, as in Guo et al. 2017."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network said of the test images: finite logits_NK, labels_N from 0 to K - 1, the names of the K classes.

    Raises:
        InputError: no image, shapes that do not go together, a label without a class, or logits that are not finite.
    """

    classes: tuple[str, ...]
    logits_NK: NDArray[np.floating[Any]]
    labels_N: NDArray[np.int64]

    def __post_init__(self) -> None:
        shape, labels_N = (len(self.labels_N), len(self.classes)), self.labels_N
        if self.logits_NK.shape != shape or 0 in shape:
            raise InputError(
                f"logits {list(self.logits_NK.shape)} are not those of {shape[0]} images, {shape[1]} classes"
            )
        if labels_N.min() < 0 or labels_N.max() >= shape[1]:
            raise InputError(f"labels {labels_N.min()} to {labels_N.max()} are not all among {shape[1]} classes")
        if not np.isfinite(self.logits_NK).all():
            raise InputError("some logits are not finite")

    def __len__(self) -> int:
        return len(self.labels_N)

    @cached_property
    def predicted_N(self) -> NDArray[np.int64]:
        """The class of the largest logit, the first of equal ones: what the accuracy of a run counts."""
        return np.asarray(self.logits_NK.argmax(axis=1))

    @cached_property
    def probabilities_NK(self) -> NDArray[np.float64]:
        """The probabilities of the classes: softmax in float64."""
        return np.asarray(softmax(self.logits_NK.astype(np.float64), axis=1))

    @cached_property
    def confidence_N(self) -> NDArray[np.float64]:
        """The probability of the predicted class."""
        return self.probabilities_NK[np.arange(len(self)), self.predicted_N]

    @cached_property
    def right_N(self) -> NDArray[np.bool_]:
        """Which images were given their own class."""
        return np.asarray(self.predicted_N == self.labels_N)

    @property
    def accuracy(self) -> float:
        """The share of images that were given their own class."""
        return float(self.right_N.mean())


Which = Kept


def path_of(record: RunRecord, which: Which) -> Path:
    """The file of the predictions that a run saves when it finishes."""
    return record.folder / "predictions" / f"{which}.safetensors"


def read(record: RunRecord, which: Which = "last") -> Predictions:
    """The predictions on the test images that a run saved, of its last epoch or of the one that validation selected.

    Raises:
        InputError: there are none, or they are damaged.
    """
    path = path_of(record, which)
    if not path.exists():
        if record.scored("last") and record.scored(which) is None:
            raise InputError(f"{record.folder}: validation has selected no epoch", remedies=[Remedy("last")])
        if record.result and record.result.is_unread:
            raise InputError(f"{record.folder} has left the test set unread (monitor.final_test=false)")
        if record.status == "finished":
            raise InputError(f"{record.folder} has lost its predictions", remedies=[Remedy("anew")])
        raise InputError(
            f"{record.folder} has no predictions: a run leaves them when it finishes; it is {record.status}"
        )
    content, _ = storage.read_tensors(path, checked=run_folder.is_checked(record.folder))
    try:
        tensors = load(content)
        return Predictions(record.facts.classes, tensors["logits_NK"], tensors["labels_N"])
    except (SafetensorError, KeyError, InputError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def epoch_of(record: RunRecord, which: Which = "last") -> int:
    """The epoch whose weights made the predictions of a run.

    Raises:
        InputError: no weights were scored.
    """
    scored = record.scored(which)
    if scored is None:
        raise InputError(f"{record.folder} has no result of its {which} epoch")
    return scored.epoch


def confusion(predictions: Predictions) -> NDArray[np.int64]:
    """counts_KK, the confusion matrix: row t, column p counts the images of class t that were taken for class p."""
    classes = len(predictions.classes)
    cells_N = predictions.labels_N * classes + predictions.predicted_N
    return np.bincount(cells_N, minlength=classes**2).reshape(classes, classes)


def row_shares(counts_KK: NDArray[np.int64]) -> NDArray[np.float64]:
    """The confusion matrix as shares of each true class; a row sums to 1, or is NaN for a class without images."""
    with np.errstate(invalid="ignore"):
        return np.asarray(counts_KK / counts_KK.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class ClassScores:
    """How well one class is known: its images, how often it was predicted, and shares from 0 to 1.

    Precision is the share of its predictions that are right, recall the share of its images that are found, F1 their
    harmonic mean 2 right / (images + predicted). None where that divides by 0: a class that was never predicted has
    no precision, one without images no recall.
    """

    name: str
    images: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


def per_class(counts_KK: NDArray[np.int64], classes: tuple[str, ...]) -> tuple[ClassScores, ...]:
    """The scores of every class of a confusion matrix."""
    scores = []
    for at, name in enumerate(classes):
        right, images, predicted = (int(n) for n in (counts_KK[at, at], counts_KK[at].sum(), counts_KK[:, at].sum()))
        shares = (_share(right, predicted), _share(right, images), _share(2 * right, images + predicted))
        scores.append(ClassScores(name, images, predicted, *shares))
    return tuple(scores)


def macro_f1(scores: Sequence[ClassScores]) -> float:
    """The mean F1 of the classes that occur or were predicted, each counting the same."""
    return fmean(one.f1 for one in scores if one.f1 is not None)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class Confused:
    """One kind of mistake: the images of class `true` that were taken for `predicted`, and their share of it."""

    true: str
    predicted: str
    count: int
    share: float


def most_confused(counts_KK: NDArray[np.int64], classes: tuple[str, ...], most: int = 10) -> tuple[Confused, ...]:
    """The commonest kinds of mistake, at most so many; of equal counts the larger share first, then as classes go."""
    shares_KK = row_shares(counts_KK)
    cells = [
        Confused(classes[true], classes[predicted], int(counts_KK[true, predicted]), float(shares_KK[true, predicted]))
        for true, predicted in np.argwhere(counts_KK)
        if true != predicted
    ]
    return tuple(sorted(cells, key=lambda cell: (-cell.count, -cell.share))[:most])


@dataclass(frozen=True)
class Bin:
    """The images whose confidence is above `low` and at most `high`: how many, mean confidence, share that is right.

    `interval` is the 95 % interval of that share (Wilson 1927): in a bin of few images it says little.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be trusted: shares from 0 to 1, over all images and for each bin that holds images.

    `ece` is the expected calibration error, the mean over images of |accuracy - confidence| of the image's bin (Guo et
    al., "On calibration of modern neural networks", ICML 2017, eq. 3). `brier` is the mean over images of the summed
    squared differences of all probabilities from 1 for the true class and 0 for the others (Brier 1950), from 0 to 2.
    """

    bins: tuple[Bin, ...]
    accuracy: float
    confidence: float
    ece: float
    brier: float


def calibration(predictions: Predictions, bins: int = BINS) -> Calibration:
    """The calibration of the predicted class's probability, in bins of equal width over (0, 1]."""
    confidence_N, right_N = predictions.confidence_N, predictions.right_N
    edges = np.arange(bins + 1) / bins
    # Bin m is (m / bins, (m + 1) / bins]: a confidence on an edge belongs to the bin below it, 1 to the last.
    bin_N = np.searchsorted(edges[1:-1], confidence_N, side="left")
    made = []
    for m in np.unique(bin_N):
        within_N = bin_N == m
        images, right = int(within_N.sum()), int(right_N[within_N].sum())
        confidence = float(confidence_N[within_N].mean())
        low, high = float(edges[m]), float(edges[m + 1])
        made.append(Bin(low, high, images, confidence, right / images, _wilson(right, images)))
    true_N = predictions.probabilities_NK[np.arange(len(predictions)), predictions.labels_N]
    return Calibration(
        bins=tuple(made),
        accuracy=predictions.accuracy,
        confidence=float(confidence_N.mean()),
        ece=sum(one.images * abs(one.accuracy - one.confidence) for one in made) / len(predictions),
        brier=float(((predictions.probabilities_NK**2).sum(axis=1) - 2 * true_N + 1).mean()),
    )


def _wilson(right: int, images: int) -> tuple[float, float]:
    z = float(ndtri((1 + LEVEL) / 2))
    share, shrunk = right / images, 1 + z**2 / images
    middle = (share + z**2 / (2 * images)) / shrunk
    half = z * math.sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2) / shrunk
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Mistake:
    """One test image that was given another class: its place in the test set, and the probability it was given."""

    index: int
    true: str
    predicted: str
    probability: float


def mistakes(predictions: Predictions, most: int) -> tuple[Mistake, ...]:
    """The most confident mistakes, at most so many, the most confident first."""
    return _wrong(predictions, -predictions.confidence_N, most)


def close_calls(predictions: Predictions, most: int) -> tuple[Mistake, ...]:
    """The mistakes that were nearly none: those whose true class came nearest to the predicted one, nearest first."""
    own_N = predictions.probabilities_NK[np.arange(len(predictions)), predictions.labels_N]
    return _wrong(predictions, predictions.confidence_N - own_N, most)


def _wrong(predictions: Predictions, rank_N: NDArray[np.float64], most: int) -> tuple[Mistake, ...]:
    wrong_N = np.flatnonzero(~predictions.right_N)
    order_N = wrong_N[np.argsort(rank_N[wrong_N], kind="stable")][:most]
    return tuple(
        Mistake(
            index=int(n),
            true=predictions.classes[predictions.labels_N[n]],
            predicted=predictions.classes[predictions.predicted_N[n]],
            probability=float(predictions.confidence_N[n]),
        )
        for n in order_N
    )


@dataclass(frozen=True)
class Findings:
    """All of this about one run, as plain values; rows of `confusion` are true classes, columns predicted ones."""

    images: int
    accuracy: float
    macro_f1: float
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    most_confused: tuple[Confused, ...]
    calibration: Calibration
    mistakes: tuple[Mistake, ...]


def findings(predictions: Predictions, most: int) -> Findings:
    """What there is to say of a run's predictions, with its `most` most confident mistakes."""
    counts_KK = confusion(predictions)
    scores = per_class(counts_KK, predictions.classes)
    return Findings(
        images=len(predictions),
        accuracy=predictions.accuracy,
        macro_f1=macro_f1(scores),
        classes=scores,
        confusion=tuple(map(tuple, counts_KK.tolist())),
        most_confused=most_confused(counts_KK, predictions.classes),
        calibration=calibration(predictions),
        mistakes=mistakes(predictions, most),
    )

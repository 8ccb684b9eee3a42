"""Using trained weights: evaluate on the test set, predict images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from residuum.analysis.estimate import of_share
from residuum.data import class_names, other_tests
from residuum.data.batches import normalise_for_network
from residuum.data.dataset import Dataset, Split
from residuum.data.images import read_image
from residuum.data.normalize import Normalization
from residuum.data.other_tests import TestSet
from residuum.engine import metrics, state
from residuum.engine.compute import Compute
from residuum.engine.evaluate import logits_of
from residuum.errors import InputError, Remedy, tally, unknown
from residuum.models import build
from residuum.records import run_folder
from residuum.records.event import Scores, TestRead
from residuum.records.outcome import Kept
from residuum.records.record import RunRecord
from residuum.records.run_folder import Position
from residuum.records.storage import expanded
from residuum.run import assemble, pretrained, trust

Which = Kept


@dataclass(frozen=True)
class Trained:
    """A network with its weights, and all that its images need."""

    network: nn.Module
    compute: Compute
    normalization: Normalization
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    epoch: int


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of one image; `resized` says that its file had another size than the network's images.

    Of an image that came as an array there is no `path`.
    """

    path: Path | None
    probabilities: dict[str, float]
    resized: bool


def load(record: RunRecord, which: Which = "last", device: str = "auto") -> Trained:
    """The trained network of a run: the weights of its last saved state, or those that validation selected.

    It computes on `device`; `auto` is that of the run or, where that is not here, what is here.

    Raises:
        InputError: nothing was saved or selected, or what was saved is damaged; or the device is not here.
    """
    if which not in get_args(Which):
        raise unknown("weights", str(which), get_args(Which), place="which")
    checkpoint, problems = run_folder.latest_checkpoint(record.folder)
    if problems:  # another epoch's weights must never pass for the last one's
        raise InputError(problems[0])
    if checkpoint is None:
        why = {"diverged": "diverged before any weights were saved", "finished": "has lost its weights"}
        raise InputError(f"{record.folder} {why.get(record.status, 'holds no weights yet')}")
    if lost := record.lost_weights(checkpoint.position.epoch):
        raise InputError(f"{record.folder} {lost}")
    if which == "selected":
        best = checkpoint.values["progress"]["best"]
        if not best:
            raise InputError(f"{record.folder}: validation has selected no epoch", remedies=[Remedy("last")])
        checkpoint = run_folder.read_checkpoint(record.folder, Position(best, 0))
    trust.admit_aloud(record.config, record.folder)
    facts, network = record.facts, untrained(record)
    state.load_weights(network, state.evaluated(checkpoint.files))
    on = assemble.compute_here(record.config.compute, device)
    return Trained(
        network=assemble.place(network, on),
        compute=on,
        normalization=Normalization(facts.normalization.kind, facts.normalization.mean, facts.normalization.std),
        classes=facts.classes,
        shape=facts.shape,
        epoch=checkpoint.position.epoch,
    )


def untrained(record: RunRecord) -> nn.Module:
    """The network of a run with random weights, on the CPU, as its seed makes it."""
    trust.admit(record.config, record.folder)
    channels, height, width = record.facts.shape
    return build(record.config.model, channels, len(record.facts.classes), (height, width), record.config.train.seed)


def beginning(record: RunRecord) -> nn.Module:
    """The network of a run before its first update, on the CPU: with the weights that it began with, if it had any.

    Raises:
        InputError: these are not there any more.
    """
    network, weights = untrained(record), record.config.pretrained.weights
    if weights:
        found = pretrained.read(Path(weights), network, record.config.pretrained.key)
        if found.fingerprint != record.config.pretrained.fingerprint:
            raise InputError(f"{weights} holds others than run {record.id} began with")
        pretrained.put(found, network, record.facts.classes)
    return network


def evaluate(record: RunRecord, which: Which = "last", data: str = "", device: str = "auto") -> Scores:
    """Loss and accuracy on the test set; the reading of it is counted in the record, with the device that computed.

    `data`: where the data lies now; `device`: as in `load`.

    Raises:
        InputError: as `load`; or the data is missing, or not that of the run.
    """
    trained = load(record, which, device)
    test = test_images(record, "evaluate", trained.epoch, data, trained.compute)
    indices_N = np.arange(len(test))
    logits_NK = assemble.split_logits(trained.network, test, indices_N, trained.normalization, trained.compute)
    return metrics.scores("test", logits_NK, torch.from_numpy(test.labels_N))


@dataclass(frozen=True)
class OtherScores:
    """What the weights of a run come to on another test set, of which corruption and severity, if any."""

    name: str
    scores: Scores
    corruption: str | None = None
    severity: int | None = None

    @property
    def error(self) -> float:
        """The share of images that are wrong."""
        return 1 - self.scores.accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the error, over images."""
        return of_share(self.scores.n - round(self.scores.accuracy * self.scores.n), self.scores.n)

    def plain(self) -> dict[str, object]:
        """The scores as a JSON object."""
        said = {"corruption": self.corruption, "severity": self.severity}
        of = {key: value for key, value in said.items() if value is not None}
        return {"name": self.name, **of, **self.scores.plain(), "error": self.error, "interval": list(self.interval)}


def evaluate_on(
    record: RunRecord, on: str, which: Which = "last", *, data: str = "", without: str = "", device: str = "auto"
) -> Iterator[OtherScores]:
    """Loss and error on other test sets of the same classes, one after the other; each reading is counted.

    `on` is the name or the place of a data set, of a test set alone (CIFAR-10.1, CIFAR-10-C), or of a file of positions
    in the run's own test set; `without` is a file of those to leave out of it. Images are normalised as in training.
    `data` is where the run's own data lie now; `device`: as in `load`.

    Raises:
        InputError: as `load`; there is no such test set, or its classes or the shape of its images are not those of
            the run.
    """
    trained = load(record, which, device)
    for other in _others(record, on, data, without):
        places = class_names.matched(other.classes, trained.classes, other.name, f"run {record.id}")
        found = other.split.images_NCHW.shape[1:]
        if found != trained.shape:
            theirs, ours = ("×".join(map(str, shape)) for shape in (found, trained.shape))
            raise InputError(f"{other.name} has images of {theirs}, run {record.id} takes {ours}")
        compute = trained.compute
        read = TestRead("evaluate", trained.epoch, other.name, compute.device.type, compute.precision)
        run_folder.note_read(record.folder, read)
        everything_N = np.arange(len(other.split))
        logits_NK = assemble.split_logits(
            trained.network, other.split, everything_N, trained.normalization, trained.compute
        )
        labels_N = torch.from_numpy(np.array(places, np.int64)[other.split.labels_N])
        scores = metrics.scores("test", logits_NK, labels_N)
        yield OtherScores(other.name, scores, other.corruption, other.severity)


def _others(record: RunRecord, on: str, data: str, without: str) -> Iterator[TestSet]:
    """The test sets that are meant: others, or a part of the run's own."""
    path = expanded(without or on)
    if without and not other_tests.is_index(path):
        raise InputError(f"{without} is no file of positions of images (.txt, .csv, .json or .npy)", argument="without")
    if not without and not other_tests.is_index(path):
        return other_tests.test_sets(on, record.facts.shape, record.config.data.dataset)
    dataset = dataset_of(record, data)
    named_N = other_tests.read_index(path, len(dataset.test))
    kept_N = np.setdiff1d(np.arange(len(dataset.test)), named_N) if without else named_N
    if not len(kept_N):
        raise InputError(f"{without} leaves no image out of {len(dataset.test):,}", argument="without")
    split = Split(dataset.test.images_NCHW[kept_N], dataset.test.labels_N[kept_N])
    name = f"{dataset.name}, {len(kept_N):,} of {tally(len(dataset.test), 'test image')} ({path.name})"
    return iter([TestSet(name, dataset.classes, split)])


def dataset_of(record: RunRecord, data: str) -> Dataset:
    """The data set of a run; `data` is where it lies now, empty if it was not moved.

    Raises:
        InputError: it is missing, or not that of the run.
    """
    config = record.config.changed({"data.root": data}) if data else record.config
    trust.admit(config, record.folder)
    return assemble.dataset_of(config.data)


def test_images(
    record: RunRecord, why: Literal["evaluate", "classes", "explain"], epoch: int, data: str, on: Compute | None
) -> Split:
    """All test images of a run with their labels; the reading of them is counted in its record.

    `epoch` is that of the weights they are read for; `data` is where the data lies now, empty if it was not moved; `on`
    is what computes with them, if anything does.

    Raises:
        InputError: the data is missing, or not that of the run.
    """
    dataset = dataset_of(record, data)
    read = TestRead(why, epoch, "", *((on.device.type, on.precision) if on else ()))
    run_folder.note_read(record.folder, read)
    return dataset.test


def logits(trained: Trained, images_NCHW: Tensor) -> Tensor:
    """logits_NK of uint8 images_NCHW, normalised as in training."""
    size, device = trained.compute.evaluation_batch, trained.compute.device
    parts = (images_NCHW[start : start + size].to(device) for start in range(0, len(images_NCHW), size))
    batches = (normalise_for_network(part, trained.normalization) for part in parts)
    return logits_of(trained.network, batches, trained.compute)


def predict(trained: Trained, paths: Sequence[Path]) -> list[Prediction]:
    """Class probabilities of image files, prepared as the test images are; classes in falling order of probability.

    An image of another size is scaled so that it covers the network's and its middle is taken.

    Raises:
        InputError: a file is missing, damaged or not an image.
    """
    read = [read_image(path, trained.shape) for path in paths]
    ranked = _ranked(trained, np.stack([image.pixels_CHW for image in read]))
    return [Prediction(path, one, image.resized) for path, image, one in zip(paths, read, ranked, strict=True)]


def predict_pixels(trained: Trained, images_NCHW: NDArray[np.uint8]) -> list[Prediction]:
    """Class probabilities of images of the network's size; classes in falling order of probability.

    Raises:
        InputError: they are of another size.
    """
    if images_NCHW.shape[1:] != trained.shape:
        found, wanted = ("×".join(map(str, shape)) for shape in (images_NCHW.shape[1:], trained.shape))
        raise InputError(f"images are {found}, and the network takes {wanted}; a file is scaled, an array is not")
    return [Prediction(None, one, resized=False) for one in _ranked(trained, images_NCHW)]


def _ranked(trained: Trained, images_NCHW: NDArray[np.uint8]) -> list[dict[str, float]]:
    """The probabilities of classes for each image, the likeliest first."""
    shares_NK = logits(trained, torch.from_numpy(images_NCHW)).softmax(dim=1)
    return [
        dict(sorted(zip(trained.classes, shares_K.tolist(), strict=True), key=lambda pair: -pair[1]))
        for shares_K in shares_NK
    ]

"""Figures of the parts that runs are made of, each from the code that runs: computed here, drawn by `report`."""

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from residuum.config import RunConfig
from residuum.data import gallery
from residuum.data.augment import AUGMENTATIONS, check_augmentations
from residuum.data.mix import MIXES
from residuum.data.normalize import NORMALIZERS
from residuum.errors import InputError
from residuum.models import Network
from residuum.models.activations import ACTIVATIONS, curve
from residuum.models.outlining import in_each_ordering, outline
from residuum.optim import SCHEDULES, Span, rates
from residuum.registry import Choice
from residuum.report.figures import activation_curves as activation_figure
from residuum.report.figures import architecture
from residuum.report.figures import augmentations as augmentation_figure
from residuum.report.figures import schedule_curves as schedule_figure
from residuum.report.figures.augmentations import Part, Row
from residuum.run.assemble import Data

STEPS_PER_EPOCH = 100
"""Updates in an epoch of a drawn schedule: enough for a smooth line, whatever the data set."""

EPOCHS = range(4)
IMAGES, SAMPLE, PAIRS = 10, 500, 4
"""Images that are shown, training images whose values are looked at, and pairs of each mixing."""


def model(title: str, network: Network, choice: Choice, input_shape: tuple[int, ...], classes: int) -> Figure:
    """A network built from a resolved choice, with one of its blocks in each ordering."""
    orderings = in_each_ordering(choice, input_shape, classes)
    own = choice.settings["ordering"].name
    return architecture.draw(architecture.data(title, outline(network, input_shape), orderings, own))


def activations() -> Figure:
    """Every activation of the table with its default settings, and its derivative."""
    points_N = activation_figure.POINTS
    drawn = [(ACTIVATIONS.resolve(name), curve(ACTIVATIONS.build(name), points_N)) for name in ACTIVATIONS]
    return activation_figure.draw([activation_figure.data(choice, *values) for choice, values in drawn])


def every_schedule(config: RunConfig) -> Figure:
    """Every schedule of the table with its default settings, in the place of a configuration's own."""
    return schedules({name: config.changed({"optim.schedule": name}) for name in SCHEDULES})


def schedules(configs: Mapping[str, RunConfig]) -> Figure:
    """The learning rates of configurations by their titles.

    Raises:
        InputError: a schedule's name or settings cannot be.
    """
    panels = []
    for title, config in configs.items():
        o, epochs = config.optim, config.train.epochs
        schedule, losses = SCHEDULES.resolve(o.schedule, "optim.schedule"), schedule_figure.example_losses(epochs)
        computed = rates(
            schedule,
            Span(STEPS_PER_EPOCH, epochs),
            lr=o.lr,
            warmup=o.warmup,
            warmup_start=o.warmup_start,
            validation_losses=losses,
        )
        panels.append(schedule_figure.data(title, schedule, computed, STEPS_PER_EPOCH, losses))
    return schedule_figure.draw(panels)


def every_augmentation(data: Data) -> Figure:
    """Every augmentation, normalisation and mixing of the tables on training images of a data set."""
    augment = [(gallery.suited(name, min(data.shape[1:])),) for name in AUGMENTATIONS]
    mixes = [Choice(name=name) for name in MIXES if name != "none"]
    return _augmentations(data, augment, [Choice(name=name) for name in NORMALIZERS], mixes, seed=0)


def augmentations(config: RunConfig, data: Data) -> Figure:
    """The augmentations of a resolved configuration one by one and all in a row, its normalisation and its mixing."""
    chain = config.data.augment
    augment = [*((choice,) for choice in chain), *([chain] if len(chain) > 1 else [])]
    mixes = [config.data.mix] if config.data.mix.name != "none" else []
    return _augmentations(data, augment, [config.data.normalize], mixes, seed=config.train.seed)


def _augmentations(
    data: Data, augment: Sequence[tuple[Choice, ...]], normalizers: list[Choice], mixes: list[Choice], seed: int
) -> Figure:
    images_NCHW, classes = data.dataset.train.images_NCHW, data.dataset.classes
    shown_N = _one_of_each(data)
    labels_N = data.dataset.train.labels_N[shown_N]
    augmented = [
        _augmented(data, choices, int(shown_N[number % len(shown_N)]), seed) for number, choices in enumerate(augment)
    ]
    sample_NCHW = images_NCHW[data.train_N[:SAMPLE]]
    normalised = []
    for choice in normalizers:
        normalization = NORMALIZERS.build(choice, images_NCHW[data.train_N], seed)
        values_NCHW = gallery.normalised(normalization, sample_NCHW)
        normalised.append(augmentation_figure.normalisation(NORMALIZERS.resolve(choice), sample_NCHW, values_NCHW))
    mixed = []
    for choice in mixes if len(labels_N) > 1 else ():
        pairs = gallery.mixed(choice, images_NCHW[shown_N], labels_N, len(classes), seed=seed)
        for one, other, share, image in islice(pairs, PAIRS):
            first, second = (images_NCHW[shown_N[at]] for at in (one, other))
            names = (classes[labels_N[one]], classes[labels_N[other]])
            mixed.append(augmentation_figure.mixing(MIXES.resolve(choice), first, second, share, image, names))
    headings = ("Augmentations", "Normalisations: smallest value black, largest white", "Mixings: shares of the labels")
    parts = zip(headings, (augmented, normalised, mixed), strict=True)
    return augmentation_figure.draw([Part(heading, tuple(rows)) for heading, rows in parts if rows])


def _augmented(data: Data, choices: tuple[Choice, ...], index: int, seed: int) -> Row:
    """The row of some augmentations in a row; the first of a table may be one that these images cannot have."""
    try:
        check_augmentations(choices, *data.shape)
    except InputError as error:
        return augmentation_figure.refused(choices[0], error.text.partition(": ")[2])
    resolved = [AUGMENTATIONS.resolve(choice) for choice in choices]
    image_CHW = data.dataset.train.images_NCHW[index]
    after_ECHW = gallery.augmented(resolved, image_CHW, index, seed=seed, epochs=EPOCHS)
    return augmentation_figure.augmentation(resolved, image_CHW, after_ECHW, EPOCHS)


def _one_of_each(data: Data) -> NDArray[np.int64]:
    """The first training image of each class, of ten classes at most: positions in the data set's training images."""
    _, first_K = np.unique(data.dataset.train.labels_N[data.train_N], return_index=True)
    return data.train_N[first_K[:IMAGES]]

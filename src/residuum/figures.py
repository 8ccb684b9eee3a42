"""Every figure of the commands as a function of values: it shows itself in a notebook, and can be saved.

from residuum import figures
figures.curves(run).save("curves")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from residuum import recipes
from residuum.analysis import per_class
from residuum.analysis.results import Results
from residuum.config import RunConfig
from residuum.data import gallery
from residuum.data.augment import AUGMENTATIONS, check_augmentations
from residuum.data.mix import MIXES
from residuum.data.normalize import NORMALIZERS
from residuum.errors import InputError, Remedy, quoted, unknown
from residuum.models import MODELS, Network, build
from residuum.models.activations import ACTIVATIONS, curve
from residuum.models.outlining import in_each_ordering, outline
from residuum.networks.names import short_name
from residuum.optim import SCHEDULES, Span, rates
from residuum.records import surfaces
from residuum.records.attributions import Attributions
from residuum.records.outcome import Kept
from residuum.records.record import RUNS, RunRecord, labels, record_of
from residuum.records.storage import storing
from residuum.registry import Choice
from residuum.report import style, tables, topics
from residuum.report.figures import activation_curves as activation_figure
from residuum.report.figures import (
    architecture,
    arm_history,
    attribution,
    batch_size,
    differences,
    four_curves,
    gradient_flow,
    run_curves,
    scatter,
    study_curves,
)
from residuum.report.figures import augmentations as augmentation_figure
from residuum.report.figures import confusion as confusion_figure
from residuum.report.figures import histograms as histograms_figure
from residuum.report.figures import learning_curves as curves_figure
from residuum.report.figures import loss_surface as surface_figure
from residuum.report.figures import mistake_sheet as mistakes_figure
from residuum.report.figures import noise_scale as noise_figure
from residuum.report.figures import reliability as reliability_figure
from residuum.report.figures import schedule_curves as schedule_figure
from residuum.report.figures.augmentations import Part, Row
from residuum.run import assemble, explaining, predict, trust
from residuum.run import surface as surfacing
from residuum.run.assemble import Data


@dataclass(frozen=True)
class Drawing:
    """A figure that shows itself in a notebook; `figure` is matplotlib's."""

    figure: Figure

    def _repr_png_(self) -> bytes:
        return style.png(self.figure)

    def save(self, path: Path | str) -> list[Path]:
        """Write it as PNG and SVG; the ending of the path is replaced by both.

        Raises:
            StorageError: it cannot be written.
        """
        with storing(Path(path)):
            return style.save(self.figure, Path(path))


Value = TypeVar("Value")

STEPS_PER_EPOCH = 100
"""Updates in an epoch of a drawn schedule: enough for a smooth line, whatever the data set."""

EPOCHS = range(4)
IMAGES, SAMPLE, PAIRS = 10, 500, 4
"""Images that are shown, training images whose values are looked at, and pairs of each mixing."""


Run = RunRecord | Path | str
"""A record, the folder of a run, or the beginning of the name or id of one in the folder that `runs` names."""


def _records(those: Sequence[Run], runs: Path | str = RUNS) -> list[RunRecord]:
    if not those:
        raise InputError("there is no run to draw; name one")
    records = [record_of(run, Path(runs)) for run in those]
    labels(records)  # refuses a run that is named twice before anything is computed
    return records


def _named(records: Sequence[RunRecord], values: Sequence[Value]) -> dict[str, Value]:
    return dict(zip(labels(records), values, strict=True))


def curves(*those: Run, runs: Path | str = RUNS) -> Drawing:
    """Learning curves of a run, or of several in one frame."""
    records = _records(those, runs)
    if len(records) == 1:
        return Drawing(curves_figure.draw(curves_figure.data(records[0])))
    return Drawing(run_curves.draw(run_curves.data(records)))


def confusion(*those: Run, which: Kept = "last", runs: Path | str = RUNS) -> Drawing:
    """The confusion matrix of a run, or of two side by side with their difference."""
    return Drawing(confusion_figure.draw(confusion_figure.data(_predictions(those, which, runs))))


def reliability(*those: Run, which: Kept = "last", runs: Path | str = RUNS) -> Drawing:
    """Reliability diagrams: how often a network is right when it is this sure."""
    return Drawing(reliability_figure.draw(reliability_figure.data(_predictions(those, which, runs))))


def _predictions(those: Sequence[Run], which: Kept, runs: Path | str) -> dict[str, per_class.Predictions]:
    records = _records(those, runs)
    return _named(records, [per_class.read(record, which) for record in records])


def mistakes(run: Run, count: int = 18, data: str = "", which: Kept = "last", *, close: bool = False,
             runs: Path | str = RUNS) -> Drawing:  # fmt: skip
    """The most confident mistakes of a run; the reading of the test images is counted. `data`: where they lie now.

    `close`: those that were nearly none instead, whose true class came nearest to the predicted one.
    """
    if not isinstance(count, int) or count < 1:
        raise InputError(f"count: {quoted(count)} mistakes; a number from 1")
    records = _records([run], runs)
    chosen = per_class.close_calls if close else per_class.mistakes
    found = _named(records, [chosen(per_class.read(records[0], which), count)])
    images = predict.test_images(records[0], "classes", per_class.epoch_of(records[0], which), data, None).images_NCHW
    return Drawing(mistakes_figure.draw(mistakes_figure.data(found, _named(records, [images]))))


def histograms(run: Run, of: histograms_figure.Of = "parameters", names: Sequence[str] = (), *,
               runs: Path | str = RUNS) -> Drawing:  # fmt: skip
    """Histograms of a run's layers, epoch by epoch; the run has to record them (`monitor.histograms`)."""
    if of not in get_args(histograms_figure.Of):
        raise unknown("kind of histogram", str(of), get_args(histograms_figure.Of))
    names = [names] if isinstance(names, str) else names
    records = _records([run], runs)
    (label,) = labels(records)
    return Drawing(histograms_figure.draw(histograms_figure.data(label, records[0].layers(), of, names)))


def gradients(*those: Run, runs: Path | str = RUNS) -> Drawing:
    """Gradients, responses and dead channels over the depth of runs that record them (`monitor.histograms`)."""
    records = _records(those, runs)
    return Drawing(gradient_flow.draw(gradient_flow.data(_named(records, [record.layers() for record in records]))))


def noise(*those: Run, runs: Path | str = RUNS) -> Drawing:
    """The gradient noise scale of runs that measure it (`monitor.noise`), epoch by epoch."""
    return Drawing(noise_figure.draw(noise_figure.data(_records(those, runs))))


def surface(*those: Run, dimensions: int = 1, points: int = 21, span: float = 1.0, images: int = 300,
            seed: int = 0, data: str = "", runs: Path | str = RUNS) -> Drawing:  # fmt: skip
    """The training loss around the weights of runs along one random direction, or contours over two."""
    found, records = [], _records(those, runs)
    for record in records:
        settings: dict[str, Any] = {"dimensions": dimensions, "points": points, "span": span, "images": images}
        *_, (_, grid) = surfacing.evaluate(record, **settings, seed=seed, data=data)
        found.append(surfaces.read(record.folder, grid))
    view = surface_figure.data(_named(records, found))
    return Drawing(surface_figure.lines(view) if dimensions == 1 else surface_figure.contours(view))


def attributions(*found: Attributions) -> Drawing:
    """What `residuum.explain` found, as a sheet of images × layers; of the same images by several runs side by side."""
    _check_attributions(found)
    if len(found) == 1:
        return Drawing(attribution.draw(attribution.data(found[0])))
    named = {f"{number}: run {one.run}": one for number, one in enumerate(found, start=1)}
    return Drawing(attribution.draw(attribution.side_by_side(named)))


def _check_attributions(found: Sequence[Any]) -> None:
    if not found:
        raise InputError("there are no attributions to draw; residuum.explain gives them")
    for one in found:
        if not isinstance(one, Attributions):
            raise InputError(f"attributions are what residuum.explain gives; this is a {type(one).__name__}")


def attributions_by_epoch(run: Run, found: Attributions, *, runs: Path | str = RUNS) -> list[Drawing]:
    """The first images of what `residuum.explain` found, each by the weights of every epoch that was kept."""
    (record,) = _records([run], runs)
    _check_attributions([found])
    return [Drawing(attribution.draw(attribution.over_epochs(one))) for one in explaining.over_epochs(record, found)]


def model(name: str, *, shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10) -> Drawing:
    """The architecture of a network by its short name, and one of its blocks in each ordering."""
    choice = MODELS.resolve(RunConfig().changed({"model": name}).model)
    return model_of(name, build(choice, shape[0], classes, shape[1:], seed=0), choice, shape, classes)


def model_of(
    title: str,
    network: Network,
    choice: Choice,
    shape: tuple[int, int, int],
    classes: int,
    *,
    orderings: bool = True,
) -> Drawing:
    """The architecture of a network that was built of a resolved choice."""
    if not isinstance(network, Network):
        text = f"{choice.name} is own code, of whose stages nothing is known to draw"
        raise InputError(text, remedies=[Remedy("show model")])
    blocks = in_each_ordering(choice, shape, classes) if orderings else {}
    own = choice.settings["ordering"].name
    return Drawing(architecture.draw(architecture.data(title, outline(network, shape), blocks, own)))


def activations() -> Drawing:
    """Every activation of the table with its default settings, and its derivative."""
    points_N = activation_figure.POINTS
    drawn = [(ACTIVATIONS.resolve(name), curve(ACTIVATIONS.build(name), points_N)) for name in ACTIVATIONS]
    return Drawing(activation_figure.draw([activation_figure.data(choice, *values) for choice, values in drawn]))


def schedules(*names: str) -> Drawing:
    """The learning rate over the runs of recipes, by name."""
    return schedules_of({name: recipes.recipe(name) for name in names})


def every_schedule(config: RunConfig) -> Drawing:
    """Every schedule of the table with its default settings, in the place of a configuration's own."""
    _check_config(config)
    return schedules_of({name: config.changed({"optim.schedule": name}) for name in SCHEDULES})


def schedules_of(configs: Mapping[str, RunConfig]) -> Drawing:
    """The learning rates of configurations by their titles.

    Raises:
        InputError: a schedule's name or settings cannot be.
    """
    if not isinstance(configs, Mapping):
        raise InputError(f"configurations by their titles are a mapping; this is a {type(configs).__name__}")
    panels = []
    for title, config in configs.items():
        _check_config(config)
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
    return Drawing(schedule_figure.draw(panels))


def augmentations(recipe: str, data: str = "") -> Drawing:
    """Training images before and after the augmentations of a recipe. `data`: where its data set lies."""
    config = recipes.recipe(recipe)
    config, made = assemble.resolve(config.changed({"data.root": data}) if data else config)
    return augmentations_of(config, made)


def every_augmentation(data: Data) -> Drawing:
    """Every augmentation, normalisation and mixing of the tables on training images of a data set."""
    if not isinstance(data, Data):
        raise InputError(f"data are what residuum.run.assemble.resolve gives; this is a {type(data).__name__}")
    augment = [(gallery.suited(name, min(data.shape[1:])),) for name in AUGMENTATIONS]
    mixes = [Choice(name=name) for name in MIXES if name != "none"]
    return _augmentations(data, augment, [Choice(name=name) for name in NORMALIZERS], mixes, seed=0)


def augmentations_of(config: RunConfig, data: Data) -> Drawing:
    """The augmentations of a resolved configuration one by one and all in a row, its normalisation and its mixing."""
    _check_config(config)
    chain = config.data.augment
    augment = [*((choice,) for choice in chain), *([chain] if len(chain) > 1 else [])]
    mixes = [config.data.mix] if config.data.mix.name != "none" else []
    return _augmentations(data, augment, [config.data.normalize], mixes, seed=config.train.seed)


def _augmentations(
    data: Data, augment: Sequence[tuple[Choice, ...]], normalizers: list[Choice], mixes: list[Choice], seed: int
) -> Drawing:
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
    return Drawing(augmentation_figure.draw([Part(heading, tuple(rows)) for heading, rows in parts if rows]))


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


def _check_config(config: Any) -> None:
    if not isinstance(config, RunConfig):
        raise InputError(f"it takes a configuration, as residuum.RunConfig(); this is a {type(config).__name__}")


def _check_results(results: Any) -> None:
    if not isinstance(results, Results):
        raise InputError(f"results are what residuum.run_study gives; this is a {type(results).__name__}")


def study(results: Results) -> Drawing:
    """Learning curves of the arms of a study with pointwise bands over seeds; of more than six arms in groups."""
    _check_results(results)
    bands, mark = study_curves.of_arms(results), tables.mark(results.plan)
    return Drawing(study_curves.draw(study_curves.data(results, bands, mark)))


def study_histories(results: Results) -> Drawing:
    """Loss and accuracy of each arm of a study."""
    _check_results(results)
    bands, mark = study_curves.of_arms(results), tables.mark(results.plan)
    return Drawing(arm_history.draw(arm_history.data(results, bands, mark)))


def study_differences(results: Results) -> Drawing:
    """The differences of the arms that a study compares, with 95 % intervals."""
    _check_results(results)
    return Drawing(differences.draw(differences.data(results, tables.mark(results.plan))))


def study_cost(results: Results) -> Drawing:
    """Accuracy of the arms of a study against parameters and against time."""
    _check_results(results)
    return Drawing(scatter.draw(scatter.data(results, tables.mark(results.plan))))


def study_batch_size(results: Results) -> Drawing:
    """Times and noise scale of the arms of a study against the batch size."""
    _check_results(results)
    return Drawing(batch_size.draw(batch_size.data(results, tables.mark(results.plan))))


def study_topic(results: Results, title: str, part: int = 1) -> Drawing:
    """Training and validation, loss and accuracy of the arms of one topic of a study, at most five arms in a frame.

    `title` is one of `residuum.report.topics.topics`; `part` counts the frames of a topic with more arms, from 1.

    Raises:
        InputError: the study has no such topic, or the topic no such part.
    """
    parts = topic_of(results, title).parts
    if part not in range(1, len(parts) + 1):
        raise InputError(f"part: {quoted(part)} of the {len(parts)} that {quoted(title)} has; a number from 1")
    bands, mark = study_curves.of_arms(results), tables.mark(results.plan)
    return Drawing(study_curves.draw(four_curves.data(results, bands, parts[part - 1], mark)))


def topic_of(results: Results, title: str) -> topics.Topic:
    """The topic of a study by its title."""
    _check_results(results)
    found = {topic.title: topic for topic in topics.topics(results)}
    if title not in found:
        raise unknown("topic", title, found)
    return found[title]


def topic_picture(results: Results, title: str, data: str = "") -> Drawing | None:
    """What a topic is about, as a picture: images before and after augmentation and normalisation, rates, activations.

    None of a topic that has no picture. `data`: where the data set lies now.

    Raises:
        InputError: the study has no such topic; the data set is not there, or another one.
    """
    topic = topic_of(results, title)
    configs = list(topic.configs.values())
    if {"data.augment", "data.normalize", "data.mix"} & {*topic.paths}:
        place = {"data.root": data} if data else {}
        _, made = assemble.resolve(configs[0].changed(place))
        chains = _different([config.data.augment for config in configs if config.data.augment])
        normalizers = _different([config.data.normalize for config in configs])
        mixes = _different([config.data.mix for config in configs if config.data.mix.name != "none"])
        return _augmentations(
            made,
            chains if "data.augment" in topic.paths else [],
            normalizers if "data.normalize" in topic.paths else [],
            mixes if "data.mix" in topic.paths else [],
            seed=configs[0].train.seed,
        )
    if {"optim.schedule", "optim.lr", "optim.warmup", "optim.warmup_start"} & {*topic.paths}:
        return schedules_of(topic.configs)
    if "model.activation" in topic.paths:
        for config in configs:
            trust.admit_aloud(config)
        chosen = _different([Choice.of(config.model.settings["activation"]) for config in configs
                             if "activation" in config.model.settings])  # fmt: skip
        drawn = [(choice, curve(ACTIVATIONS.build(choice), activation_figure.POINTS)) for choice in chosen]
        return Drawing(activation_figure.draw([activation_figure.data(one, *values) for one, values in drawn]))
    return None


def _different(values: Sequence[Value]) -> list[Value]:
    """The values in their order, equal ones once."""
    return [value for at, value in enumerate(values) if value not in values[:at]]


def network_of(run: Run, *, orderings: bool = True, runs: Path | str = RUNS) -> Drawing:
    """The architecture of the network of a run, for its images and classes; `orderings`: one block in each of them."""
    (record,) = _records([run], runs)
    trust.admit_aloud(record.config, record.folder)
    choice, facts = MODELS.resolve(record.config.model), record.facts
    network = build(choice, facts.shape[0], len(facts.classes), facts.shape[1:], seed=0)
    return model_of(short_name(choice), network, choice, facts.shape, len(facts.classes), orderings=orderings)

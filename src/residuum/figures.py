"""Every figure of the commands as a function of values: it shows itself in a notebook, and can be saved.

from residuum import figures
figures.curves(run).save("curves")
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from matplotlib.figure import Figure

from residuum import pictures, recipes
from residuum.analysis import per_class
from residuum.analysis.results import Results
from residuum.config import RunConfig
from residuum.errors import InputError, unknown
from residuum.models import MODELS, build
from residuum.records import surfaces
from residuum.records.attributions import Attributions
from residuum.records.record import RUNS, RunRecord, labels, record_of
from residuum.records.storage import storing
from residuum.report import style, tables
from residuum.report.figures import (
    arm_history,
    attribution,
    batch_size,
    differences,
    gradient_flow,
    run_curves,
    scatter,
    study_curves,
)
from residuum.report.figures import confusion as confusion_figure
from residuum.report.figures import histograms as histograms_figure
from residuum.report.figures import learning_curves as curves_figure
from residuum.report.figures import loss_surface as surface_figure
from residuum.report.figures import mistake_sheet as mistakes_figure
from residuum.report.figures import noise_scale as noise_figure
from residuum.report.figures import reliability as reliability_figure
from residuum.run import assemble, explaining, predict
from residuum.run import surface as surfacing


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


Run = RunRecord | Path | str
"""A record, the folder of a run, or the beginning of the name or id of one in the folder `runs`."""


def _records(runs: Sequence[Run]) -> list[RunRecord]:
    if not runs:
        raise InputError("there is no run to draw; name one")
    records = [record_of(run, RUNS) for run in runs]
    labels(records)  # refuses a run that is named twice before anything is computed
    return records


def _named(records: Sequence[RunRecord], values: Sequence[Value]) -> dict[str, Value]:
    return dict(zip(labels(records), values, strict=True))


def curves(*runs: Run) -> Drawing:
    """Learning curves of a run, or of several in one frame."""
    records = _records(runs)
    if len(records) == 1:
        return Drawing(curves_figure.draw(curves_figure.data(records[0])))
    return Drawing(run_curves.draw(run_curves.data(records)))


def confusion(*runs: Run) -> Drawing:
    """The confusion matrix of a run, or of two side by side with their difference."""
    return Drawing(confusion_figure.draw(confusion_figure.data(_predictions(runs))))


def reliability(*runs: Run) -> Drawing:
    """Reliability diagrams: how often a network is right when it is so sure."""
    return Drawing(reliability_figure.draw(reliability_figure.data(_predictions(runs))))


def _predictions(runs: Sequence[Run]) -> dict[str, per_class.Predictions]:
    records = _records(runs)
    return _named(records, [per_class.read(record) for record in records])


def mistakes(run: Run, count: int = 18, data: str = "") -> Drawing:
    """The most confident mistakes of a run; the reading of the test images is counted. `data`: where they lie now."""
    if not isinstance(count, int) or count < 1:
        raise InputError(f"count: {count!r} mistakes; a number from 1")
    records = _records([run])
    found = _named(records, [per_class.mistakes(per_class.read(records[0]), count)])
    images = predict.test_images(records[0], "classes", per_class.epoch_of(records[0]), data).images_NCHW
    return Drawing(mistakes_figure.draw(mistakes_figure.data(found, _named(records, [images]))))


def histograms(run: Run, of: histograms_figure.Of = "parameters", names: Sequence[str] = ()) -> Drawing:
    """Histograms of a run's layers, epoch by epoch; the run has to record them (`monitor.histograms`)."""
    if of not in get_args(histograms_figure.Of):
        raise unknown("kind of histogram", str(of), get_args(histograms_figure.Of))
    names = [names] if isinstance(names, str) else names
    records = _records([run])
    (label,) = labels(records)
    return Drawing(histograms_figure.draw(histograms_figure.data(label, records[0].layers(), of, names)))


def gradients(*runs: Run) -> Drawing:
    """Gradients, responses and dead channels over the depth of runs that record them (`monitor.histograms`)."""
    records = _records(runs)
    return Drawing(gradient_flow.draw(gradient_flow.data(_named(records, [record.layers() for record in records]))))


def noise(*runs: Run) -> Drawing:
    """The gradient noise scale of runs that measure it (`monitor.noise`), epoch by epoch."""
    return Drawing(noise_figure.draw(noise_figure.data(_records(runs))))


def surface(*runs: Run, dimensions: int = 1, points: int = 21, span: float = 1.0, images: int = 300,
            seed: int = 0, data: str = "") -> Drawing:  # fmt: skip
    """The training loss around the weights of runs along one random direction, or contours over two."""
    found, records = [], _records(runs)
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


def attributions_by_epoch(run: Run, found: Attributions) -> list[Drawing]:
    """The first images of what `residuum.explain` found, each by the weights of every epoch that was kept."""
    (record,) = _records([run])
    _check_attributions([found])
    return [Drawing(attribution.draw(attribution.over_epochs(one))) for one in explaining.over_epochs(record, found)]


def model(name: str, *, shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10) -> Drawing:
    """The architecture of a network by its short name, and one of its blocks in each ordering."""
    choice = MODELS.resolve(RunConfig().changed({"model": name}).model)
    network = build(choice, shape[0], classes, shape[1:], seed=0)
    return Drawing(pictures.model(name, network, choice, shape, classes))


def activations() -> Drawing:
    """Every activation function and its derivative."""
    return Drawing(pictures.activations())


def schedules(*names: str) -> Drawing:
    """The learning rate over the runs of recipes, by name."""
    return Drawing(pictures.schedules({name: recipes.recipe(name) for name in names}))


def augmentations(recipe: str, data: str = "") -> Drawing:
    """Training images before and after the augmentations of a recipe. `data`: where its data set lies."""
    config = recipes.recipe(recipe)
    config, made = assemble.resolve(config.changed({"data.root": data}) if data else config)
    return Drawing(pictures.augmentations(config, made))


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

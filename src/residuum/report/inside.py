"""A closer look at the networks of a study: one run of each arm that the study names, and what it learned."""

from collections.abc import Iterator

from residuum.analysis import classes
from residuum.analysis.classes import Findings
from residuum.analysis.results import Results
from residuum.errors import InputError
from residuum.records import attributions, layers, surfaces
from residuum.records import mistakes as kept
from residuum.records.record import RunRecord
from residuum.report import tables
from residuum.report.blocks import Block, Items, Paragraph, Section, Tabular, picture
from residuum.report.figures import attribution, confusion, histograms, mistakes, reliability, surface
from residuum.report.tables import Table


def sections(results: Results) -> Iterator[Section]:
    """A section for each arm that the study looks inside of, on its first run that is complete."""
    for number, arm in enumerate(results.plan.study.inside, start=1):
        runs = (run for run in results.plan.runs if run.arm == arm and run.id in results.records)
        done = [(run.seed, results.records[run.id]) for run in runs if results.records[run.id].status == "finished"]
        if done:
            (seed, record), mark = done[0], tables.mark(results.plan)
            label = f"{arm}, seed {seed}" + (f" ({mark})" if mark else "")
            yield Section(f"inside-{number}", f"A closer look: {arm}", tuple(_blocks(number, label, seed, record)))


def _blocks(number: int, label: str, seed: int, record: RunRecord) -> Iterator[Block]:
    yield Paragraph(
        f"Run {record.id} of seed {seed}, weights of the last epoch. One network: other seeds make other mistakes."
    )
    for part in (_classes, _maps, _histograms, _surfaces):
        try:
            yield from tuple(part(number, label, record))
        except InputError as error:
            # The report tells no path of the machine.
            yield Paragraph(f"Run {record.id}: {str(error).replace(f'{record.folder}/', '')}.")


def _classes(number: int, label: str, record: RunRecord) -> Iterator[Block]:
    predictions = classes.read(record)
    found = classes.findings(predictions, 0)
    sure = found.calibration
    yield Paragraph(
        f"On {found.images:,} test images: accuracy {found.accuracy:.2%}, mean confidence {sure.confidence:.2%}, "
        f"expected calibration error {sure.ece:.2%}."
    )
    text = "Rows are true classes, columns predicted ones; shares are of the row."
    yield picture(f"confusion-{number}", text, confusion.draw(confusion.data({label: predictions})))
    text = "Precision: of the images called so, how many are. Recall: of those that are, how many were called so."
    yield Tabular(_scores(found), f"Each class alone. {text}", folded=len(found.classes) > 20)
    pairs = [f"{one.true} → {one.predicted}: {one.count:,} images, {one.share:.1%} of {one.true}"
             for one in found.most_confused]  # fmt: skip
    if pairs:
        yield Paragraph("The commonest mistakes, true → predicted:")
        yield Items(tuple(pairs))
    images = kept.read(record.folder)
    wrong = [one for one in classes.mistakes(predictions, len(images)) if one.index in images]
    if wrong:
        text = "The mistakes of which the network is surest: true → predicted, its probability, number of the image."
        yield picture(f"mistakes-{number}", text, mistakes.draw(mistakes.data({label: wrong}, {label: images})))
    text = "How often the network is right when it is so sure; below, how many images are that sure."
    yield picture(f"reliability-{number}", text, reliability.draw(reliability.data({label: predictions})))


def _scores(found: Findings) -> Table:
    rows = [(one.name, f"{one.images:,}", *(tables.number(value, 3) for value in (one.precision, one.recall, one.f1)))
            for one in found.classes]  # fmt: skip
    return Table(("class", "images", "precision", "recall", "F1"), tuple(rows), ("images", "precision", "recall", "F1"))


def _maps(number: int, label: str, record: RunRecord) -> Iterator[Block]:
    path = attributions.path_of(record.folder, attributions.REPORTED)
    if not path.exists():
        yield Paragraph(f"What it looks at was not computed: `residuum explain {record.id}` does, before the report.")
        return
    sheet = attribution.draw(attribution.data(attributions.read(path), label))
    text = (
        "Grad-CAM of each stage (Selvaraju et al. 2017), for the test images of each class about which the network is "
        "surest: right, then wrong. A map shows where evidence for the class lies, not that it is good evidence."
    )
    yield picture(f"grad-cam-{number}", text, sheet)
    by_epoch = attributions.path_of(record.folder, attributions.FIRST_BY_EPOCH)
    if by_epoch.exists():
        text = (
            "The first of these images by the weights before training (epoch 0, when batch norm has no statistics yet, "
            "so that the network may be sure of anything) and of the epochs that were kept."
        )
        drawn = attribution.draw(attribution.over_epochs(attributions.read(by_epoch)))
        yield picture(f"grad-cam-epochs-{number}", text, drawn)


def _histograms(number: int, label: str, record: RunRecord) -> Iterator[Block]:
    seen = layers.read(record.folder)
    if seen:
        drawn = histograms.draw(histograms.data(label, seen, "parameters"))
        text = "The weights of the first and the last layer of each stage before training and after each epoch."
        yield picture(f"histograms-{number}", text, drawn)


def _surfaces(number: int, label: str, record: RunRecord) -> Iterator[Block]:
    """The loss around the weights, where `residuum surface` computed it: in each dimension the finest grid."""
    found = {}
    for grid in sorted(surfaces.grids(record.folder), key=lambda grid: grid.total):
        found[grid.dimensions] = surfaces.read(record.folder, grid)
    if not found:
        yield Paragraph(f"The loss around its weights was not computed: `residuum surface {record.id}` does, along one "
                        "random direction, or with `--dimensions 2` over two.")  # fmt: skip
    for dimensions, one in sorted(found.items()):
        view = surface.data({label: one})
        over = f"the first {one.grid.images:,} training images, weights of epoch {one.grid.epoch}"
        text = f"by random directions that are scaled filter by filter (Li et al. 2018), on {over}."
        if dimensions == 1:
            yield picture(f"surface-{number}", f"Loss and accuracy {text}", surface.lines(view))
        else:
            yield picture(f"contours-{number}", f"The loss {text} The cross is the network.", surface.contours(view))
            yield picture(f"relief-{number}", "The same as a relief.", surface.relief(view))

"""A closer look at the networks of a study: one run of each arm that the study names, and what it learned."""

from collections.abc import Iterator, Mapping
from typing import Any

from residuum.analysis import per_class
from residuum.analysis.per_class import Findings
from residuum.analysis.results import Results
from residuum.errors import InputError, tally
from residuum.records import attributions, surfaces
from residuum.records import mistakes as kept
from residuum.records.record import RunRecord
from residuum.records.run_folder import without_path
from residuum.records.surfaces import Grid, Surface
from residuum.report import commands, tables
from residuum.report.content import Block, Items, Paragraph, Section, Tabular, picture
from residuum.report.figures import attribution, confusion, histograms, loss_surface, mistake_sheet, reliability
from residuum.report.tables import Table


def sections(results: Results, *, elsewhere: bool = False) -> Iterator[Section]:
    """A section for each arm that the study looks inside of, and one for the loss around the weights of all of them.

    `elsewhere`: the runs do not lie in the default folder, so that printed commands must name it.
    """
    found, mark = dict(_looked_into(results)), tables.mark(results.plan)
    for number, (arm, (label, record)) in enumerate(found.items(), start=1):
        yield Section(f"inside-{number}", f"A closer look: {arm}", tuple(_blocks(number, label, record, mark)))
    if found:
        blocks = tuple(_surfaces(dict(found.values()), elsewhere, mark))
        yield Section("surfaces", "The loss around the weights", blocks)


def _looked_into(results: Results) -> Iterator[tuple[str, tuple[str, RunRecord]]]:
    """The arms that the study names with the first of their runs that is complete, and what it is called."""
    for arm in results.plan.study.inside:
        runs = (run for run in results.plan.runs_of.get(arm, ()) if run.id in results.records)
        done = [(run.seed, results.records[run.id]) for run in runs if results.records[run.id].status == "finished"]
        if done:
            seed, record = done[0]
            yield arm, (f"{arm}, seed {seed}", record)


def _blocks(number: int, label: str, record: RunRecord, mark: str) -> Iterator[Block]:
    yield Paragraph(
        f"Run {record.id} of seed {record.config.train.seed}, weights of the last epoch. One network: other seeds make "
        "other mistakes."
    )
    again, anew = "The command that ran the study, given again, makes it anew.", "Only the run computed anew has it."
    for part, remedy in ((_classes, anew), (_mistakes, again), (_maps, again), (_by_epoch, again), (_histograms, anew)):
        try:
            yield from tuple(part(number, label, record, mark))
        except InputError as error:
            yield _damaged(record, error, remedy)


def _damaged(record: RunRecord, what: object, remedy: str) -> Paragraph:
    return Paragraph(f"Run {record.id}: {without_path(record.folder, what)}. {remedy}")


def _classes(number: int, label: str, record: RunRecord, mark: str) -> Iterator[Block]:
    predictions = per_class.read(record)
    found = per_class.findings(predictions, 0)
    sure = found.calibration
    yield Paragraph(
        f"On {tally(found.images, 'test image')}: accuracy {found.accuracy:.2%}, mean confidence "
        f"{sure.confidence:.2%}, expected calibration error {sure.ece:.2%}."
    )
    text = "Rows are true classes, columns predicted ones; shares are of the row."
    yield picture(f"confusion-{number}", text, confusion.draw(confusion.data({label: predictions})), mark=mark)
    text = "Precision: how much of what was called a class is of it. Recall: how much of a class was called so."
    yield Tabular(_scores(found), f"Each class alone. {text}", "Every class" if len(found.classes) > 20 else "")
    pairs = [f"{one.true} → {one.predicted}: {tally(one.count, 'image')}, {one.share:.1%} of {one.true}"
             for one in found.most_confused]  # fmt: skip
    if pairs:
        yield Paragraph("The commonest mistakes, true → predicted:")
        yield Items(tuple(pairs))
    text = "How often the network is right when it is this sure; below, the number of images of each confidence."
    yield picture(f"reliability-{number}", text, reliability.draw(reliability.data({label: predictions})), mark=mark)


def _mistakes(number: int, label: str, record: RunRecord, mark: str) -> Iterator[Block]:
    if not kept.path_of(record.folder).exists():
        yield Paragraph(
            "The images of its mistakes were not kept: the command that ran the study, given again, does so."
        )
        return
    images = kept.read(record.folder)
    try:
        surest = per_class.mistakes(per_class.read(record), len(images))
    except InputError:
        return  # what is wrong with the predictions was said above
    wrong = {label: [one for one in surest if one.index in images]}
    text = "The mistakes of which the network is surest: true → predicted, its probability, number of the image."
    yield picture(f"mistakes-{number}", text, mistake_sheet.draw(mistake_sheet.data(wrong, {label: images})), mark=mark)


def _scores(found: Findings) -> Table:
    rows = [(one.name, f"{one.images:,}", *(tables.number(value, 3) for value in (one.precision, one.recall, one.f1)))
            for one in found.classes]  # fmt: skip
    return Table(("class", "images", "precision", "recall", "F1"), tuple(rows), ("images", "precision", "recall", "F1"))


def _maps(number: int, label: str, record: RunRecord, mark: str) -> Iterator[Block]:
    path = attributions.path_of(record.folder, attributions.REPORTED)
    if not path.exists():
        yield Paragraph("What it looks at was not computed: the command that ran the study, given again, does.")
        return
    sheet = attribution.draw(attribution.data(attributions.read(path), label))
    text = (
        "Grad-CAM of each stage (Selvaraju et al. 2017), for the test images of each class about which the network is "
        "surest: right, then wrong. A map shows where evidence for the class lies, not that it is good evidence."
    )
    yield picture(f"grad-cam-{number}", text, sheet, mark=mark)


def _by_epoch(number: int, label: str, record: RunRecord, mark: str) -> Iterator[Block]:
    for right, name in attributions.BY_EPOCH.items():
        path = attributions.path_of(record.folder, name)
        if path.exists():
            text = (
                f"The {'right' if right else 'wrong'} image of which it is surest, by the weights before training "
                "(epoch 0: batch norm has no statistics yet, so a network may be sure of anything) and of the epochs "
                "that were kept."
            )
            drawn = attribution.draw(attribution.over_epochs(attributions.read(path), label))
            yield picture(f"{name}-{number}", text, drawn, mark=mark)


def _histograms(number: int, label: str, record: RunRecord, mark: str) -> Iterator[Block]:
    if record.config.monitor.histograms:
        drawn = histograms.draw(histograms.data(label, record.layers(), "parameters"))
        text = "The weights of the first and the last layer of each stage before training and after each epoch."
        yield picture(f"histograms-{number}", text, drawn, mark=mark)


def _surfaces(runs: Mapping[str, RunRecord], elsewhere: bool, mark: str) -> Iterator[Block]:
    """The loss around the weights of the runs, in one frame for each number of directions in which it is there."""
    there: dict[str, list[Surface]] = {}
    for label, record in runs.items():
        found, damaged = surfaces.read_all(record.folder)
        # A run that was still going on then had other weights.
        kept = {"last": record.scored("last"), "selected": record.scored("selected")}
        epochs = {which: scored.epoch for which, scored in kept.items() if scored}
        there[label] = [one for one in found if one.grid.epoch == epochs.get(one.grid.which)]
        for line in damaged:
            yield _damaged(record, line, "Delete it, and `residuum surface` computes it anew.")
    if not any(there.values()):
        words = ["residuum surface", *(record.id for record in runs.values()), *commands.runs_option(elsewhere)]
        yield Paragraph(f"It was not computed: `{' '.join(words)}` does, along one random direction, or with "
                        "`--dimensions 2` over two.")  # fmt: skip
    for dimensions in (1, 2):
        alike: dict[tuple[Any, ...], dict[str, Surface]] = {}
        for label, found in there.items():
            for one in found:
                if one.grid.dimensions == dimensions:
                    alike.setdefault(one.grid.settings, {})[label] = one
        if alike:
            # The one that most runs have; then the usual directions and distance, then the finest.
            best = max(alike.values(), key=_rank)
            yield from _surface(best, mark)
            left_out = {label: record for label, record in runs.items() if label not in best}
            if left_out:
                yield Paragraph(_missing(left_out, next(iter(best.values())).grid, elsewhere))


def _missing(runs: Mapping[str, RunRecord], grid: Grid, elsewhere: bool) -> str:
    words = ["residuum surface", *(record.id for record in runs.values()), f"--dimensions {grid.dimensions}",
             f"--points {grid.points} --span {grid.span:g} --images {grid.images} --seed {grid.seed}",
             f"--which {grid.which}", *commands.runs_option(elsewhere)]  # fmt: skip
    return f"Not there, or not whole, for {', '.join(runs)}: `{' '.join(words)}` computes what is missing."


def _rank(same: Mapping[str, Surface]) -> tuple[int, bool, bool, bool, int, int]:
    grid = next(iter(same.values())).grid
    return len(same), grid.which == "last", grid.span == 1, grid.seed == 0, grid.images, grid.points


def _surface(found: Mapping[str, Surface], mark: str) -> Iterator[Block]:
    grid, view = next(iter(found.values())).grid, loss_surface.data(found)
    which = "" if grid.which == "last" else f" of the {grid.which} epoch"
    over = (
        f"random directions (seed {grid.seed}), scaled filter by filter (Li et al. 2018), at the ends {grid.span:g} "
        f"times as long as the weights{which}; mean over the first {tally(grid.images, 'training image')}"
    )
    if grid.dimensions == 1:
        yield picture("surface", f"Loss and accuracy along one of the {over}.", loss_surface.lines(view), mark=mark)
    else:
        yield picture(
            "contours", f"The loss over two {over}. The cross is the network.", loss_surface.contours(view), mark=mark
        )
        yield picture("relief", "The same as a relief.", loss_surface.relief(view), mark=mark)

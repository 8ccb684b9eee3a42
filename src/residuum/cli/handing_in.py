"""`residuum study handin`: the results of a study as one document for people who mark it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residuum.cli.options import RUNS, common, moved_data_option, output_file, print_json, say_damage, store_option
from residuum.errors import HIDDEN, InputError, tally

if TYPE_CHECKING:
    from residuum.analysis.results import Results
    from residuum.networks.outlines import Outline
    from residuum.records.record import RunRecord
    from residuum.report.content import Block

MISTAKES = 12
WRITTEN = "handed_in.json"
"""The hashes of the documents that were written, in the study's folder: one that has another now was written into."""


def within(group: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `handin` to the commands of studies."""
    p = command("handin", handin, "Write a study as a document to hand in: PDF, .docx or Markdown.", within=group)
    p.add_argument("name", metavar="STUDY", help="a study that was run here, or the label of its plan")
    p.add_argument("--title", required=True, help="what stands at its head")
    p.add_argument("--author", required=True, help="who hands it in")
    p.add_argument(
        "--out", type=output_file, metavar="FILE",
        help="file to write, as .pdf, .docx or .md (default: handin.pdf beside the plan)",
    )  # fmt: skip
    p.add_argument(
        "--notebook", action="store_true",
        help="write a notebook beside it, too: the same text, and the calls that made each figure, run",
    )  # fmt: skip
    moved_data_option(p, ", for its pictures")
    common(p)
    store_option(p, weights=False)


def handin(options: argparse.Namespace) -> None:
    """`residuum study handin STUDY --title T --author A`."""
    from residuum.analysis.results import note_reading, results
    from residuum.report import handin as report
    from residuum.report import notebook
    from residuum.studies import plan as plans

    for name in ("title", "author"):
        if not HIDDEN.sub("", getattr(options, name)).strip():
            raise InputError("it is empty", argument=name)
    folder = plans.find(options.name, options.runs)
    out = options.out or folder / "handin.pdf"
    report.check(out)
    beside = out.with_suffix(".ipynb")
    if options.notebook:
        notebook.check()
    _check_unchanged(folder, [*([out] if options.out else []), *([beside] if options.notebook else [])])
    say_damage(folder)
    found = results(plans.read(folder), options.runs)
    drawn, outline = drawings(found, options.data or "")
    made = report.document(found, options.title, options.author, drawn, outline, elsewhere=options.runs != RUNS)
    report.write(made, out)
    _note_written(folder, out)
    if options.notebook:
        notebook.write(made, folder.name, options.runs, beside, options.data or "")
        _note_written(folder, beside)
    note_reading(found, options.runs)
    empty = sum(isinstance(block, report.ToWrite) for part in made.parts for block in part.blocks)
    if options.json:
        print_json({"handin": str(out), "to_write": empty} | ({"notebook": str(beside)} if options.notebook else {}))
    else:
        print(f"hand-in: {out}; {tally(empty, 'place')} in it {'is' if empty == 1 else 'are'} yours to write")
        if options.notebook:
            print(f"notebook: {beside}")


def _check_unchanged(folder: Path, paths: Sequence[Path]) -> None:
    """That files which a hand-in would replace are as one left them: what was written into them would be lost.

    Raises:
        InputError: one is not.
    """
    for path in paths:
        if path.is_file() and sha256(path.read_bytes()).hexdigest() not in _written(folder):
            raise InputError(
                f"{path} is not as this command left it, so what is written in it would be lost; name another file, "
                "or move it away",
                argument="out",
            )


def _written(folder: Path) -> list[str]:
    from residuum.records import storage

    path = folder / WRITTEN
    return [str(one) for one in storage.read_json(path)["files"]] if path.exists() else []


def _note_written(folder: Path, path: Path) -> None:
    from residuum.records import storage

    storage.write_json(folder / WRITTEN, {"files": sorted({*_written(folder), sha256(path.read_bytes()).hexdigest()})})


def drawings(found: Results, data: str) -> tuple[dict[str, list[Block]], Outline | None]:
    """What needs images or a network to be drawn, as `handin.document` takes it; what cannot be drawn is said."""
    from residuum import figures
    from residuum.models import build
    from residuum.models.outlining import outline
    from residuum.report.content import Paragraph, picture
    from residuum.report.topics import topics

    made: dict[str, list[Block]] = {}
    for number, topic in enumerate(topics(found), start=1):
        try:
            if drawn := figures.topic_picture(found, topic.title, data):
                text = f"{topic.title}: what the arms do, as it is computed in training."
                call = f"figures.topic_picture(results, {topic.title!r}, data)"
                made[topic.title] = [picture(f"topic-{number}", text, drawn.figure, call=call)]
        except InputError as error:
            made[topic.title] = [Paragraph(f"There is no picture of it here: {error.text}.")]
    record = looked_into(found)
    if record is None:
        made["mistakes"] = [Paragraph("No run is complete, so there are none to show.")]
        return made, None
    arm = next(run.arm for run in found.plan.runs if run.id == record.id)
    seed = record.config.train.seed
    text = f"The network of {arm}, from the input to the logits, and one of its blocks in each order of operations."
    call = f"figures.network_of({record.folder.name!r}, runs=runs)"
    made["mistakes"] = [*_mistakes(record, arm, data)]
    try:
        made["network"] = [picture("network", text, figures.network_of(record).figure, call=call)]
    except InputError as error:  # own code: of no known stages, or trusted by nobody here
        made["network"] = [Paragraph(f"There is no drawing of the network of {arm} here: {error.text}.")]
        return made, None
    facts = record.facts
    network = build(record.config.model, facts.shape[0], len(facts.classes), facts.shape[1:], seed=seed)
    return made, outline(network, facts.shape)


def looked_into(found: Results) -> RunRecord | None:
    """The run whose network is shown: of the arms that the study looks into, else of the baseline, else of any."""
    asked = found.plan.study.compare.baseline
    first = [*found.plan.study.inside, *([asked] if isinstance(asked, str) else [])]
    arms = [*first, *(arm.name for arm in found.plan.arms)]
    runs = [run for arm in arms for run in found.plan.runs_of.get(arm, ())]
    done = (found.records[run.id] for run in runs if run.id in found.records)
    return next((one for one in done if one.status == "finished" and one.data and one.data.classes), None)


def _mistakes(record: RunRecord, arm: str, data: str) -> list[Block]:
    from residuum import figures
    from residuum.analysis import per_class
    from residuum.report.content import Paragraph, picture

    try:
        scores = per_class.read(record)
        wrong = int((~scores.right_N).sum())
        said = (
            f"Run {record.id} of {arm}, seed {record.config.train.seed}, gives {tally(wrong, 'test image')} of "
            f"{len(scores):,} another class than its own. One network: other seeds make other mistakes."
        )
        if not wrong:
            return [Paragraph(said)]
        kinds = {
            "mistakes": (False, "The worst: those of which the network is surest."),
            "close-calls": (True, "The least bad: those whose true class came nearest to the predicted one."),
        }
        sheets = []
        for name, (close, text) in kinds.items():
            drawn = figures.mistakes(record, min(MISTAKES, wrong), data, close=close)
            caption = f"{text} True → predicted, its probability, number of the image."
            call = f"figures.mistakes({record.folder.name!r}, {min(MISTAKES, wrong)}, data, close={close}, runs=runs)"
            sheets.append(picture(name, caption, drawn.figure, call=call))
        return [Paragraph(said), *sheets]
    except InputError as error:
        return [Paragraph(f"The mistakes of {arm} cannot be shown here: {Path(record.folder).name}: "
                          f"{error.text.removeprefix(str(record.folder)).strip(': ')}.")]  # fmt: skip

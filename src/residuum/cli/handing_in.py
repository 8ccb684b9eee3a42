"""`residuum study handin`: the results of a study as one document for people who mark it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from residuum import own
from residuum.cli.options import RUNS, common, moved_data_option, output_file, print_json, say_damage, store_option
from residuum.errors import HIDDEN, InputError, tally

if TYPE_CHECKING:
    from residuum.analysis.results import Results
    from residuum.networks.outlines import Outline
    from residuum.records.record import RunRecord
    from residuum.report.content import Block
    from residuum.report.topics import Topic

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
        help="file to write, as .pdf (extra pdf), .docx (by pandoc) or .md (default: handin.pdf beside the plan)",
    )  # fmt: skip
    p.add_argument(
        "--notebook", action="store_true",
        help="write a notebook beside it, too (extra notebook): the same text, and the calls of its figures, run",
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
    from pydantic import TypeAdapter

    from residuum.records import storage

    path = folder / WRITTEN
    if not path.exists():
        return []
    return storage.typed(TypeAdapter(dict[str, list[str]]), storage.read_json(path), path).get("files", [])


def _note_written(folder: Path, path: Path) -> None:
    from residuum.records import storage

    storage.write_json(folder / WRITTEN, {"files": sorted({*_written(folder), sha256(path.read_bytes()).hexdigest()})})


def drawings(found: Results, data: str) -> tuple[dict[str, list[Block]], Outline | None]:
    """What needs images or a network to be drawn, as `handin.document` takes it; what cannot be drawn is said."""
    from residuum import figures
    from residuum.models import build
    from residuum.models.outlining import outline
    from residuum.report.content import Paragraph, Picture, picture
    from residuum.report.topics import topics

    made: dict[str, list[Block]] = {}
    record = looked_into(found)
    shown = next((run.arm for run in found.plan.runs if record and run.id == record.id), "")
    for number, topic in enumerate(topics(found), start=1):
        try:
            if drawn := figures.topic_picture(found, topic.title, data):
                text = f"{topic.title}: what the arms do, as it is computed in training."
                call = f"figures.topic_picture(results, {topic.title!r}, data)"
                made[topic.title] = [picture(f"topic-{number}", text, drawn.figure, call=call)]
        except InputError as error:
            made[topic.title] = [Paragraph(f"There is no picture of it here: {error.text}.")]
        made.setdefault(topic.title, []).extend(_own_networks(found, topic, number, {shown}))
    if record is None:
        made["mistakes"] = [Paragraph("No run is complete, so there are none to show.")]
        return made, None
    made["mistakes"] = [*_mistakes(record, shown, data)]
    made["network"] = _network(record, shown, "network")
    if not isinstance(made["network"][0], Picture):
        return made, None
    facts, seed = record.facts, record.config.train.seed
    network = build(record.config.model, facts.shape[0], len(facts.classes), facts.shape[1:], seed=seed)
    return made, outline(network, facts.shape)


def _own_networks(found: Results, topic: Topic, number: int, shown: set[str]) -> Iterator[Block]:
    """The networks of a topic's arms that own code makes, or is a part of, but for those of the arms `shown` anyway."""
    if not any(path.partition(".")[0] == "model" for path in topic.paths):
        return
    models = [found.plan.runs_of[arm][0].config.model for arm in shown if arm]
    for arm in topic.arms:
        model = topic.configs[arm].model
        if model in models or not own.codes(model.model_dump(mode="json")):
            continue
        models.append(model)
        record = next((one for run in found.plan.runs_of[arm] if (one := found.records.get(run.id)) and one.data), None)
        if record is not None:
            yield from _network(record, arm, f"own-{number}-{len(models)}", orderings=False)


def _network(record: RunRecord, arm: str, name: str, *, orderings: bool = True) -> list[Block]:
    """The network of a run, drawn; of one of own code, of whose stages nothing is known, its layers."""
    from residuum import figures
    from residuum.report.content import Paragraph, picture

    beside = ", and one of its blocks in each order of operations" * orderings
    call = f"figures.network_of({record.folder.name!r}, {'' if orderings else 'orderings=False, '}runs=runs)"
    try:
        drawn = figures.network_of(record, orderings=orderings)
    except InputError as error:  # own code: of no known stages, or trusted by nobody here
        return [Paragraph(f"There is no drawing of the network of {arm} here: {error.text}."), *_layers(record, arm)]
    return [picture(name, f"The network of {arm}, from the input to the logits{beside}.", drawn.figure, call=call)]


def _layers(record: RunRecord, arm: str) -> Iterator[Block]:
    from residuum.models import build
    from residuum.models.summary import summarize
    from residuum.report import handin
    from residuum.report.content import Tabular
    from residuum.run import trust

    if trust.is_known(record.config):
        facts = record.facts
        with own.blaming():
            network = build(record.config.model, facts.shape[0], len(facts.classes), facts.shape[1:], seed=0)
            found = summarize(network, facts.shape)
        shape = "×".join(map(str, facts.shape))
        yield Tabular(handin.layers(found.layers), f"The layers of the network of {arm}, for images of {shape}.")


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

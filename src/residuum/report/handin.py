"""The hand-in of a study: one document for people who mark it, as PDF, as Markdown or by way of that as .docx.

The document is built as a plain value first. A PDF is set by Typst: every text reaches its template as JSON, so nothing
that a user wrote can be markup there.
"""

import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib as mpl

from residuum.analysis.estimate import chance
from residuum.analysis.results import Results
from residuum.errors import InputError, lacking, tally, visible
from residuum.networks.outlines import Layer, Outline
from residuum.records import storage
from residuum.records.measures import measure
from residuum.report import commands, own_code, promised, style, tables, topics
from residuum.report.content import Block, Commands, Items, Paragraph, Picture, Tabular, picture
from residuum.report.figures import four_curves, study_curves
from residuum.report.tables import Table
from residuum.report.topics import Topic

FORMS = (".pdf", ".docx", ".md")
"""What a hand-in can be, by the ending of its file."""
MOST_LAYERS = 30
"""Rows of a table of layers; of more its parts are told."""
NETWORK = "the whole network"
LETTERS = 22
"""So many letters in a row are broken within a cell of a table, which has no room for more."""


@dataclass(frozen=True)
class ToWrite:
    """A place that the author fills in; `text` says with what."""

    text: str


@dataclass(frozen=True)
class Part:
    """A part of the document under a heading."""

    title: str
    blocks: tuple[Block | ToWrite, ...]


@dataclass(frozen=True)
class Document:
    """A hand-in: what stands at its head, and its parts. `mark` says where the study was shortened or changed."""

    title: str
    author: str
    study: str
    question: str
    mark: str
    parts: tuple[Part, ...]


def document(
    results: Results, title: str, author: str, drawn: Mapping[str, Sequence[Block]], outline: Outline | None, *,
    elsewhere: bool = False,
) -> Document:  # fmt: skip
    """The hand-in of a study as a plain value.

    `drawn` has what needs images or a network to be drawn: by the title of a topic what that is about, under `network`
    the drawing of one, under `mistakes` those of one. `outline` is the network that is drawn. `elsewhere`: the runs do
    not lie in the default folder.
    """
    plan, found = results.plan, topics.topics(results)
    curves, mark = study_curves.of_arms(results), tables.mark(results.plan)
    parts = [
        Part("The question, and what was run", tuple(_question(results))),
        Part("What came out", tuple(_came_out(results))),
        *(Part(topic.title, tuple(_topic(results, topic, number, curves, mark, drawn.get(topic.title, ()))))
          for number, topic in enumerate(found, start=1)),
    ]  # fmt: skip
    if others := topics.elsewhere(results, found):
        claims = Items(tuple(topics.verdict_text(results, one) for one in others))
        parts.append(Part("Further claims", (claims, ToWrite("What these verdicts mean for the question."))))
    parts += [
        Part("The network", tuple(_network(results, drawn.get("network", ()), outline))),
        Part("Its mistakes", (*drawn.get("mistakes", ()), ToWrite("What the mistakes have in common, and why."))),
        Part("Conclusion", (ToWrite("The answer to the question in your own words, and what would have to be tried "
                                    "to be surer of it."),)),
        Part("How to compute it again", tuple(_again(results, title, author, elsewhere))),
    ]  # fmt: skip
    name = plan.study.name or plan.label
    return Document(title, author, name, plan.study.question, mark, tuple(parts))


def _question(results: Results) -> Iterator[Block | ToWrite]:
    plan = results.plan
    yield Paragraph(plan.study.question)
    stands = [tables.status(results, run) for run in plan.runs]
    done = sum(word in ("finished", "diverged") for word in stands)
    epochs = sorted({arm.epochs for arm in plan.arms})
    seeds = ", ".join(map(str, plan.study.seeds))
    length = tally(epochs[0], "epoch") if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]} epochs" if epochs else ""
    said = [f"{tally(len(plan.arms), 'arm')} by the recipe {plan.study.base}, {length} each, "
            f"{'seed' if len(plan.study.seeds) == 1 else 'seeds'} {seeds}: {done} of {tally(len(plan.runs), 'run')} "
            "are complete."]  # fmt: skip
    said += dict.fromkeys(
        f"The data set {facts.dataset} has {facts.train:,} training, {facts.validation:,} validation and "
        f"{facts.test:,} test images of {'×'.join(map(str, facts.shape))} here."
        for record in results.records.values() if (facts := record.data)
    )  # fmt: skip
    if done < len(plan.runs):
        said.append("The runs that are missing may change every number in this document.")
    if plan.scale != 1:
        said.append(f"Every run has {plan.scale:.3g} of its full length, with the shape of its schedule kept: numbers "
                    "of shortened runs are not those of full ones, and their order may differ.")  # fmt: skip
    if len(plan.study.seeds) == 1:
        said.append("With one seed there are no intervals and no verdicts: differences between arms may be chance.")
    if results.selection is not None:
        said.append("An arm is chosen by validation images, and all numbers here are of these.")
    yield Paragraph(" ".join(said))
    if mark := tables.mark(plan):
        yield Paragraph(f"All numbers and figures here are of a study that was not run as it stands: {mark}.")
    yield ToWrite("What you expected of each change, and why.")


def _came_out(results: Results) -> Iterator[Block]:
    judged = results.verdicts
    if not judged:
        yield Paragraph("The study makes no claims, so there are no verdicts: what its arms came to is described.")
        return
    words = [one.verdict for one in judged]
    counts = [f"{words.count(word)} {word}" for word in ("supported", "contradicted", "undecided") if word in words]
    undecided = " Undecided means that these runs do not tell, which is not evidence of no difference."
    yield Paragraph(f"Of {tally(len(judged), 'claim')}: {', '.join(counts)}.{undecided * ('undecided' in words)}")
    rows = []
    for one in judged:
        mean, around = tables.difference(
            one.claim.measure, one.difference, one.low, one.high, in_percent=one.in_percent
        )
        unit = "" if one.in_percent or mean == tables.NOTHING else f" {topics.unit_of(one.claim.measure)}".rstrip()
        mean += unit + " (median)" * one.median
        word = tables.WORDS[one.verdict] + " (exploratory)" * bool(one.exploratory)
        rows.append((one.claim.text, measure(one.claim.measure).shown, mean, around,
                     chance(one.p_holm), word))  # fmt: skip
    columns = ("claim", "measure", "difference", "95 % interval", "p (Holm)", "verdict")
    kinds = tuple(words)
    caption = (
        "Every claim of the study. Differences are left minus right of what was expected; p is corrected for all "
        "claims (Holm)."
    )
    yield Tabular(tables.filled(Table(columns, tuple(rows), columns[2:5], kinds)), caption)
    for note in promised.notes(results):
        yield Paragraph(note)


def _augmented(topic: Topic) -> bool:
    """Whether some arm of a topic trains on other images than those of its data set."""
    return any(one.data.augment or one.data.mix.name != "none" for one in topic.configs.values())


def _topic(
    results: Results, topic: Topic, number: int, curves: study_curves.Curves, mark: str, drawn: Sequence[Block]
) -> Iterator[Block | ToWrite]:
    yield Paragraph("What was changed:")
    yield Items(tuple(topics.changed(topic)))
    if told := topics.meaning(topic, own_code.texts(results)):
        yield Paragraph("What these settings are:")
        yield Items(tuple(told))
    yield from drawn
    for at, arms in enumerate(topic.parts, start=1):
        found = four_curves.data(results, curves, arms, mark)
        if found.rows:
            of = f", part {at} of {len(topic.parts)}" if len(topic.parts) > 1 else ""
            where = "loss above and accuracy below, on the training images left and on validation images right"
            if len(found.rows) == 1:
                where = "loss left and accuracy right, on the training images"
            text = (
                f"{topic.title}: {where}{of}. Lines are means over seeds; bands are pointwise 95 % t intervals, drawn "
                f"from three runs on. Training values are measured while training"
                f"{', on augmented images' * _augmented(topic)}."
            )
            if out := four_curves.beyond(found):
                ends = f"{' and '.join(out)} {'ends' if len(out) == 1 else 'end'}"
                text += f" {ends} beyond the axes (triangles), which are the other arms'; the table has the numbers."
            call = f"figures.study_topic(results, {topic.title!r}, part={at})"
            yield picture(f"curves-{number}-{at}", text, study_curves.draw(found), call=call)
    table = topics.numbers(results, topic)
    on = "test images" if results.selection is None else "validation images"
    caption = f"What the arms came to after the last epoch, on {on}: mean over seeds ± half the 95 % interval; n: runs."
    yield Tabular(table, caption + _cells(table))
    lost = tuple(topics.troubles(results, topic))
    said = (*topics.sentences(results, topic), *lost)
    if said:
        yield Items(said)
    claims = tuple(topics.verdict_text(results, one) for one in topics.about(results, topic))
    if claims:
        yield Paragraph("What had been claimed:")
        yield Items(claims)
    yield ToWrite("Why it came out so: what the curves and the numbers of this part show, and whether you expected it.")


def _cells(table: Table) -> str:
    """What those cells of a table of arms mean that have no ±, for its caption."""
    cells = [row[at] for row in table.rows for at in range(1, len(row)) if table.columns[at] in table.numeric[:-1]]
    said = ""
    if any("(" in cell for cell in cells):
        said += " In brackets: an interval that is cut where no value can be."
    if any(cell != tables.NOTHING and "±" not in cell and "(" not in cell for cell in cells):
        said += " Without an interval: one run, or runs of which some did not train, whose values are not normal."
    if tables.NOTHING in cells:
        said += f" {tables.NOTHING}: no run came to a number."
    return said


def _network(results: Results, drawn: Sequence[Block], outline: Outline | None) -> Iterator[Block]:
    rows = tuple((arm.name, f"{arm.parameters:,}", tables.size(arm.macs)) for arm in results.plan.arms)
    if len({row[1:] for row in rows}) == 1:
        yield Paragraph(f"All arms have the same network but for what their topics name: {rows[0][1]} parameters, "
                        f"{rows[0][2]} multiply-adds for an image.")  # fmt: skip
    else:
        columns = ("arm", "parameters", "multiply-adds")
        yield Tabular(Table(columns, rows, columns[1:]), "The networks of the arms.")
    yield from drawn
    if outline is not None:
        yield Tabular(
            _layers(outline), f"What the network that is drawn is made of, for images of {_shape(outline.input_shape)}."
        )


def _layers(outline: Outline) -> Table:
    parts: list[tuple[str, str, Sequence[Layer]]] = [("stem", tables.NOTHING, outline.stem)]
    for number, blocks in enumerate(outline.stages, start=1):
        own = [layer for block in blocks
               for layer in (*block.before, *block.branch, *(block.shortcut or ()), *block.after)]  # fmt: skip
        parts.append((f"stage {number}", str(len(blocks)), own))
    parts.append(("head", tables.NOTHING, outline.head))
    shapes = [outline.stem[-1].output_shape, *(blocks[-1].output_shape for blocks in outline.stages),
              outline.head[-1].output_shape]  # fmt: skip
    rows = []
    for (name, count, layers), shape in zip(parts, shapes, strict=True):
        once = {layer.name: layer.parameters for layer in layers}  # an activation may be called several times
        rows.append((name, count, _shape(shape), f"{sum(once.values()):,}"))
    total = sum(int(row[3].replace(",", "")) for row in rows)
    assert total == outline.parameters, "every parameter is in a part"
    rows.append(("together", tables.NOTHING, tables.NOTHING, f"{outline.parameters:,}"))
    return Table(("part", "blocks", "output", "parameters"), tuple(rows), ("blocks", "parameters"))


def layers(found: Sequence[Layer]) -> Table:
    """The layers of a network of which no stages are known; of many the parts that they are in, by their first name."""
    rows = [(layer.name, layer.kind, _shape(layer.output_shape), layer.parameters) for layer in found]
    if len(rows) > MOST_LAYERS:
        parts: dict[str, list[Layer]] = {}
        for layer in found:
            parts.setdefault(layer.name.partition(".")[0], []).append(layer)
        rows = [(name, tally(len(of), "layer"), _shape(of[-1].output_shape), sum(one.parameters for one in of))
                for name, of in parts.items()]  # fmt: skip
    shown = tuple((name or NETWORK, kind, shape, f"{count:,}") for name, kind, shape, count in rows)
    return Table(("layer", "what it is", "output", "parameters"), shown, ("parameters",))


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _again(results: Results, title: str, author: str, elsewhere: bool) -> Iterator[Block]:
    plan = results.plan
    computes = commands.study_command(plan, elsewhere=elsewhere)
    said = ["These commands compute the study, write its full report, with every run, test and interval, and this "
            "document."]  # fmt: skip
    if "DATA" in computes.split():
        said.append("DATA stands for the file or folder that holds the data set.")
    if elsewhere:
        said.append("RUNS stands for the folder that holds the run folders.")
    beside = "" if commands.shipped(plan) else commands.file_name(plan)
    if beside:
        said.append(f"{beside} is the author's own file, which belongs to this document.")
    if bring := own_code.to_bring(own_code.of_study(results), beside):
        said.append(bring)
    yield Paragraph(" ".join(said))
    where = "".join(f" {word}" for word in commands.runs_option(elsewhere))
    told = shlex.join(["--title", title, "--author", author])
    yield Commands((computes, f"residuum study report {plan.label}{where}",
                    f"residuum study handin {plan.label} {told}{where}"))  # fmt: skip
    known = tables.environments(results)
    for row in known.rows:
        told = ", ".join(f"{name} {cell}" for name, cell in zip(known.columns, row, strict=True)
                         if name not in ("starts", "dates") and cell != tables.NOTHING)  # fmt: skip
        yield Paragraph(f"Computed with {told}.")


def plain(text: str) -> str:
    """A text on one line, in which letters that control a screen, turn or hide something are shown as their codes."""
    return " ".join(visible(" ".join(text.split())).split())


def _plain_table(table: Table) -> Table:
    """A table with every text plain."""
    rows = tuple(tuple(map(plain, row)) for row in table.rows)
    return Table(tuple(map(plain, table.columns)), rows, tuple(map(plain, table.numeric)))


def _in_cell(text: str) -> str:
    """A text that can be broken within a cell: after so many letters in a row, and after signs that join words."""
    soft = "\u200b"
    text = re.sub(r"(?<=[=_/.,;:])(?=\w)(?<!\d[.,])", soft, plain(text))
    return re.sub(rf"([^\s{soft}]{{{LETTERS}}})(?=[^\s{soft}])", rf"\1{soft}", text)


def _values(made: Document) -> dict[str, Any]:
    """The document as JSON for the template: every text plain, tables as lists of cells."""
    head = {key: plain(getattr(made, key)) for key in ("title", "author", "study", "question", "mark")}
    parts = [{"title": plain(part.title), "blocks": [_value(block) for block in part.blocks]} for part in made.parts]
    return {**head, "parts": parts}


def _value(block: Block | ToWrite) -> dict[str, Any]:
    match block:
        case Paragraph(text):
            return {"kind": "paragraph", "text": plain(text)}
        case ToWrite(text):
            return {"kind": "towrite", "text": plain(text)}
        case Items(texts):
            return {"kind": "items", "texts": [plain(text) for text in texts]}
        case Commands(lines):
            return {"kind": "commands", "text": "\n".join(map(plain, lines))}
        case Picture():
            width, height = _size(block.svg)
            return {"kind": "picture", "file": f"{block.name}.svg", "caption": plain(block.caption), "width": width,
                    "ratio": height / width}  # fmt: skip
        case Tabular(table, caption):
            return {
                "kind": "table", "caption": plain(caption), "columns": [_in_cell(column) for column in table.columns],
                "numeric": [column in table.numeric for column in table.columns],
                "wide": [_is_wide(table, at) for at in range(len(table.columns))],
                "rows": [[_in_cell(cell) for cell in row] for row in table.rows],
            }  # fmt: skip


def _is_wide(table: Table, at: int) -> bool:
    """Whether a column takes what room is left: words of more than a few letters do."""
    return table.columns[at] not in table.numeric and max((len(row[at]) for row in table.rows), default=0) > 30


def _size(svg: bytes) -> tuple[float, float]:
    """Width and height of an SVG of ours, in points."""
    found = re.search(rb'width="([\d.]+)pt" height="([\d.]+)pt"|height="([\d.]+)pt"[^>]*?width="([\d.]+)pt"', svg)
    assert found is not None, "a figure says how large it is"
    width, height = (found[1], found[2]) if found[1] else (found[4], found[3])
    return float(width), float(height)


def write(made: Document, path: Path) -> Path:
    """Write a hand-in; the ending of the path says as what: `.pdf`, `.docx` or `.md` with a folder of figures.

    Raises:
        InputError: another ending; a package or a program that it takes is not there.
        StorageError: it cannot be written.
    """
    check(path)
    with storage.storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            if path.suffix.lower() == ".pdf":
                content = pdf(made, Path(folder))
            elif path.suffix.lower() == ".docx":
                content = _docx(made, Path(folder))
            else:
                figures = path.with_name(f"{path.stem}-figures")
                content = markdown(made, figures.name).encode()
                figures.mkdir(exist_ok=True)
                for block in _pictures(made):
                    storage.write_file(figures / f"{block.name}.png", block.png)
    storage.write_file(path, content)
    return path


def check(path: Path) -> None:
    """Check that a hand-in can be written as what a path's ending says, before anything is drawn for it.

    Raises:
        InputError: it cannot.
    """
    form = path.suffix.lower()
    if form not in FORMS:
        raise InputError(f"{path.name}: a hand-in is a {', '.join(FORMS[:-1])} or {FORMS[-1]} file", argument="out")
    if form == ".pdf":
        try:
            import typst  # noqa: F401  (asked for before the work, not after it)
        except ImportError as error:
            raise lacking("a PDF", "typst", "pdf") from error
    elif form == ".docx" and shutil.which("pandoc") is None:
        raise InputError("a .docx is made by the program pandoc, which is not here; a .pdf or .md needs none")


def _pictures(made: Document) -> list[Picture]:
    return [block for part in made.parts for block in part.blocks if isinstance(block, Picture)]


def pdf(made: Document, folder: Path) -> bytes:
    """The document as PDF, set in a folder for what it takes; the bytes depend on the document and the fonts alone."""
    import typst

    for block in _pictures(made):
        (folder / f"{block.name}.svg").write_bytes(_with_letters(block.svg))
    values = _values(made) | {"letters": list(style.LETTERS)}
    (folder / "handin.json").write_text(json.dumps(values), encoding="utf-8")
    style.tell_letters(style.without_a_font("".join(_texts(values))))
    template = files("residuum.report").joinpath("page", "handin.typ").read_text(encoding="utf-8")
    (folder / "handin.typ").write_text(template, encoding="utf-8")
    # Figures are drawn with matplotlib's, and so are headings. One of them has boxes, and takes a whole text for one.
    fonts = folder / "fonts"
    fonts.mkdir()
    for path in Path(mpl.get_data_path(), "fonts", "ttf").glob("DejaVu*.ttf"):
        shutil.copyfile(path, fonts / path.name)
    content: bytes = typst.compile(
        str(folder / "handin.typ"), root=str(folder), font_paths=[str(fonts)], format="pdf", timestamp=0
    )
    return content


def _texts(value: Any) -> Iterator[str]:
    """Every text within plain values."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


def _with_letters(svg: bytes) -> bytes:
    """A figure without what no font has a sign for."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in svg.decode()).encode()


def markdown(made: Document, figures: str) -> str:
    """The document as Markdown, with its figures in a folder of that name beside it."""
    lines = [head_text(made)]
    for part in made.parts:
        lines.append(heading_text(part))
        for block in part.blocks:
            if isinstance(block, Picture):
                lines.append(f"![{tables.markdown_text(block.name)}]({figures}/{block.name}.png)")
            lines.append(block_text(block))
    return "\n\n".join(lines) + "\n"


def head_text(made: Document) -> str:
    """What stands at the head of a document, in Markdown."""
    md = tables.markdown_text
    lines = [f"# {md(plain(made.title))}", md(plain(made.author)), f"Study {md(plain(made.study))}"]
    if made.mark:
        lines.append(f"**{md(plain(made.mark))}**")
    return "\n\n".join(lines)


def heading_text(part: Part) -> str:
    """The heading of a part, in Markdown."""
    return f"## {tables.markdown_text(plain(part.title))}"


def block_text(block: Block | ToWrite) -> str:
    """A block in Markdown; of a picture its caption."""
    md = tables.markdown_text
    match block:
        case Paragraph(text):
            return md(plain(text))
        case ToWrite(text):
            return f"> **To be written by the author:** {md(plain(text))}"
        case Items(texts):
            return "\n".join(f"- {md(plain(text))}" for text in texts)
        case Commands(lines):
            return "\n".join(f"    {plain(line)}" for line in lines)
        case Picture():
            return md(plain(block.caption))
        case Tabular(table, caption):
            return f"{md(plain(caption))}\n\n{tables.as_markdown(_plain_table(table))}"


def _docx(made: Document, folder: Path) -> bytes:
    for block in _pictures(made):
        (folder / f"{block.name}.png").write_bytes(block.png)
    (folder / "handin.md").write_text(markdown(made, "."), encoding="utf-8")
    command = ["pandoc", "--from", "gfm", "--to", "docx", "--output", "handin.docx", "handin.md"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if finished.returncode:
        said = (finished.stderr.strip().splitlines() or [f"it ended with {finished.returncode}"])[-1]
        raise InputError(f"pandoc could not make the .docx: {said}")
    return (folder / "handin.docx").read_bytes()

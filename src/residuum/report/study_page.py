"""The report of a study: one folder with a page, the same in Markdown, tables and figures.

    index.html     everything on one page, figures within; opens without a network
    report.md      the same for a repository or an editor
    tables.csv     one row a run, every measure        tables.tex   arms and comparisons for a paper
    figures/       every figure as SVG and PNG

The page is built as a plain value first, sections of blocks, which both forms then show.
"""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from residuum.analysis.results import Results
from residuum.errors import InputError, visible
from residuum.records import storage
from residuum.records.measures import measure
from residuum.report import answer, chosen_arm, commands, inside, own_code, promised, searched, tables
from residuum.report.content import Block, Commands, Items, Paragraph, Picture, Section, Tabular, picture
from residuum.report.figures import arm_history, batch_size, differences, frame, gradient_flow, scatter, study_curves
from residuum.report.tables import Table

FILES = ("index.html", "report.md", "tables.csv", "tables.tex", "figures")


def write(results: Results, folder: Path, *, runs: Path, elsewhere: bool = False) -> Path:
    """Write the report of a study into a folder, in place of an older one; returns the path of its page.

    `runs` is the folder that holds the run folders: the page links to them where it lies within. `elsewhere`: it is not
    the default one, so that printed commands must name it. The report is made beside its place and moved there when
    it is whole.

    Raises:
        InputError: the folder holds something else than a report.
        StorageError: it cannot be written.
    """
    foreign = sorted(path.name for path in folder.glob("*") if path.name not in FILES) if folder.is_dir() else []
    if foreign or (folder.exists() and not folder.is_dir()):
        raise InputError(
            f"{folder} is not a report{f': it holds {foreign[0]}' if foreign else ''}; name another folder"
        )
    content = sections(results, elsewhere=elsewhere)
    head: dict[str, Any] = {
        "title": results.plan.study.name or results.plan.label,
        "question": results.plan.study.question,
        "mark": tables.mark(results.plan),
        "sections": content,
        "runs": _way_to(runs, folder),
    }
    pictures = [block for section in content for block in section.blocks if isinstance(block, Picture)]
    files = {
        "index.html": _page("index.html.j2", head).encode(),
        "report.md": _page("report.md.j2", head).encode(),
        "tables.csv": tables.as_csv(*tables.long_form(results)).encode(),
        "tables.tex": _tex(results).encode(),
        **{f"figures/{picture.name}.png": picture.png for picture in pictures},
        **{f"figures/{picture.name}.svg": picture.svg for picture in pictures},
    }
    _put(folder, files)
    return folder / "index.html"


def _way_to(runs: Path, folder: Path) -> str:
    """The way from the report up to the folder of the runs, empty where the report lies elsewhere.

    A link that led over other folders would tell where on the machine they lie.
    """
    runs, folder = runs.resolve(), folder.resolve()
    return "../" * len(folder.relative_to(runs).parts) if folder.is_relative_to(runs) else ""


def _put(folder: Path, files: Mapping[str, bytes]) -> None:
    new, old = (folder.with_name(f".{folder.name}.{token_hex(4)}.tmp") for _ in range(2))
    with storage.storing(folder):
        try:
            for name, content in files.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(content)
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
            for rest in (new, old):
                shutil.rmtree(rest, ignore_errors=True)


def sections(results: Results, *, elsewhere: bool = False) -> tuple[Section, ...]:
    """The whole report as plain values, in the order in which it is read; a section without content is left out."""
    layers = Section("layers", "What the layers do", tuple(_layers(results)))
    # Of networks that are not trained, nobody asks what training came to.
    beside, after = ((layers,), ()) if results.plan.study.is_initial else _trained(results, layers)
    made = (
        Section("answer", "Answer", tuple(answer.blocks(results))),
        *beside,
        Section("claims", "Verdicts", tuple(_claims(results))),
        Section("selection", "The arm that validation chose", tuple(chosen_arm.blocks(results))),
        Section("comparisons", "Comparisons", tuple(_comparisons(results))),
        Section("arms", "Arms", tuple(_arms(results))),
        *after,
        Section("search", "Where the settings come from", tuple(searched.blocks(results))),
        Section("what", "What was run", tuple(_what(results))),
        *inside.sections(results, elsewhere=elsewhere),
        Section("runs", "Every run", tuple(_runs(results))),
        Section("images", "Image by image", tuple(_images(results))),
        Section("troubles", "What diverged, failed or is damaged", tuple(_troubles(results))),
        Section("prespecified", "What was promised", tuple(promised.blocks(results))),
        Section("looks", "Looks until decided", tuple(_looks(results))),
        Section("again", "How to compute it again", tuple(_again(results, elsewhere))),
        Section("environment", "Environment", tuple(_environment(results))),
    )
    return tuple(section for section in made if section.blocks)


def _trained(results: Results, layers: Section) -> tuple[tuple[Section, ...], tuple[Section, ...]]:
    """What training came to: what stands beside the answer, and what follows the verdicts."""
    curves = study_curves.of_arms(results)
    return (Section("curves", "Learning curves", tuple(_curves(results, curves))),), (
        Section("cost", "Accuracy and cost", tuple(_cost(results))),
        Section("batch-size", "What the batch size changes", tuple(_batch_size(results))),
        Section("histories", "History of each arm", tuple(_histories(results, curves))),
        layers,
    )


def _what(results: Results) -> list[Block]:
    plan = results.plan
    items = [f"Base recipe: {plan.study.base}."]
    changed = commands.user_settings(plan)
    common = [tables.setting(*item) for item in plan.study.settings.items() if item[0] not in plan.settings]
    if common:
        items.append(f"Set in every arm: {'; '.join(common)}.")
    items += [f"Data: {text}." for text in _data(results)]
    if plan.scale != 1:
        items.append(
            f"Scaled: every run has {plan.scale:.3g} of its full length, with the shape of its schedule kept. Numbers "
            "of shortened runs are not those of full ones, and their order may differ."
        )
    if changed:
        items.append("Changed: " + "; ".join(tables.setting(path, value) for path, value in changed.items()) + ".")
    items += [own_code.described("code", one.name, one.text) for one in own_code.of_study(results)]
    items += [f"Given up for the budget: {text}." for text in plan.gave_up]
    return [Items(tuple(items))]


def _data(results: Results) -> list[str]:
    found: dict[str, dict[str, None]] = {}
    for run in results.plan.runs:
        data = run.config.data
        where = data.root.replace("\\", "/").rstrip("/").rpartition("/")[2]
        text = data.dataset.name + (f" from {where}" if where and where != data.dataset.name else "")
        text += f", fingerprint {data.fingerprint}" if data.fingerprint else ""
        counts_of, record = found.setdefault(text, {}), results.records.get(run.id)
        if record is not None and (facts := record.data):
            counts = f"{facts.train:,} training, {facts.validation:,} validation, {facts.test:,} test images"
            stored = f", stored as {_and(facts.encodings)}" if facts.encodings else ""
            counts_of[counts + stored] = None
    # Counts are known once a run has begun; before that the data stands there without them.
    return [f"{text}; {one}" if one else text for text, counts in found.items() for one in counts or ("",)]


MEANING = (
    "Supported: the difference lies on the side that the claim expects, beyond its margin, and further than chance "
    "explains: the p-value stays below 5 % after Holm's correction for all claims of the study. Contradicted: the same "
    "on the other side. With '=', supported means within the margin and contradicted outside. Undecided: these runs do "
    "not tell, which is not evidence of no difference. Differences are left minus right, n counts pairs of the same "
    "seed (or runs). The 95 % interval is that of the claim alone; the corrected interval agrees with the verdict: it "
    "lies on one side of the margin exactly where the claim is decided. Below six pairs no permutation test can reach "
    "5 %: a verdict then rests on differences being normal, which so few runs cannot show. A run that diverged or "
    "ended no better than chance did not train; where there are such runs they count as the worst, and arms are "
    "compared by ranks. A difference of means is one of runs that train: so few cannot tell how often others would "
    "not, and how large a failure rate they leave open (Clopper and Pearson) stands beside. A verdict is about these "
    "networks and data at this length of training."
)
LOOKED = (
    "Where looks were planned, p has to be below the share of the 5 % that the look was given, and the corrected "
    "interval is at that level."
)


def _claims(results: Results) -> list[Block]:
    if not results.plan.study.claims:
        return []
    meaning = f"{MEANING} {LOOKED}" if results.looks else MEANING
    notes = [Paragraph(text) for text in promised.notes(results)]
    table = Tabular(tables.filled(tables.verdicts(results)), f"{promised.family(results)}.")
    return [table, *notes, Paragraph(meaning)]


TOY = 0.5
"""Runs shorter than this share of their full length are not held against published numbers at first sight."""


def _arms(results: Results) -> list[Block]:
    caption = (
        "Mean over seeds ± half the 95 % t interval, or its ends, cut where no value can be; sd: standard deviation "
        "between seeds; n: runs with a value. There is no interval of one run, of runs that do not vary, or where some "
        "did not train. "
    ) + (
        f"{_capital(measure(results.plan.study.compare.measure).text)}."
        if results.plan.study.is_initial
        else "Errors and accuracies are those of the last epoch, on the test set, which selects nothing."
        if results.selection is None
        else "Errors and accuracies are those of the last epoch, on images held out of the training set."
    )
    blocks: list[Block] = [Tabular(tables.filled(tables.arms(results)), caption)]
    blocks += _failures(results)
    asked = tables.asked(results)
    if asked is not None:
        blocks.append(Tabular(asked, "What else the claims are about, mean over seeds ± half the 95 % t interval."))
    if results.plan.study.published:
        names = {one.measure for one in tables.published_alike(results)}
        table, of = tables.published(results), "Published"
        if len(names) == 1:
            (name,) = names
            table, of = tables.without(table, "measure"), f"{tables.heading(name).capitalize()}: published"
        shared = tables.shared_differences(results)
        every = "In every row" + (" that training decides" if any(measure(name).initial for name in names) else "")
        said = f" {every}: {'; '.join(shared)}." if shared else ""
        # Numbers of shortened runs or of other images are no repetition of these.
        toy = results.plan.scale < TOY or "data.dataset" in tables.changes(results.plan)
        why = "Published numbers, to which these runs do not compare" if toy else ""
        blocks.append(Tabular(table, f"{of} numbers beside ours, and what differs.{said}", why))
    return blocks


def _failures(results: Results) -> list[Block]:
    """Who did not train: a table, or where all did, how much these runs leave open."""
    ended = [one for one in results.failures if one.n and one.high is not None]
    held = "test" if results.selection is None else "validation"
    if not ended:
        return []
    if not any(one.failed for one in ended):
        most = max(100 * one.high for one in ended if one.high is not None)
        return [Paragraph(
            f"Every run that came to an end trained: its {held} accuracy is beyond chance (binomial test at 0.1 %). So "
            f"few runs leave failure rates of up to {most:.0f} % open (95 % interval of Clopper and Pearson)."
        )]  # fmt: skip
    caption = (
        f"Runs that did not train: they diverged, or their {held} accuracy is not beyond chance (binomial test at "
        "0.1 %). "
        "The interval of the failure rate is exact (Clopper and Pearson); p: Boschloo's exact test of equal failure "
        "rates, two-sided, exploratory and not corrected."
    )
    return [Tabular(tables.filled(tables.failures(results)), caption)]


PAIRS = (
    "Compared: every arm with the baseline of the study, the pairs that its claims name, and twins, which are networks "
    "that differ only in having shortcuts."
)


def _comparisons(results: Results) -> list[Block]:
    if not results.comparisons:
        return []
    found = differences.data(results, tables.mark(results.plan))
    paired = all(one.paired for one in results.comparisons)
    how = (
        "paired by seed: same images in the same order, same augmentation. Effect size: mean difference over the "
        "standard deviation of differences (Cohen's d for pairs). p: paired t test, and exact sign-flip test; with "
        "n pairs the latter cannot fall below 2/2ⁿ."
        if paired
        else "not paired. Effect size: mean difference over the pooled standard deviation (Cohen's d). p: Welch's t "
        "test, and permutation of the runs."
    )
    table, notes = tables.filled(tables.comparisons(results)), {one.note for one in results.comparisons}
    limits = dict.fromkeys(one.limit for one in results.comparisons if one.limit)
    shared = "".join(f" {_capital(limit)}." for limit in limits)
    if len(notes) == 1 and notes != {""}:
        table, shared = tables.without(table, "note"), f"{shared} In every row: {notes.pop()}."
    caption = (
        f"{_capital(found.label)}, arm minus baseline, {how} {PAIRS} p (Holm): where the difference is a claim of the "
        "study, that of its verdict, corrected for all claims; the others are exploratory, and corrected for one "
        "another."
    )
    ranked = " Where runs did not train, the difference is the median of all between a run of each arm." * any(
        one.p_ranks is not None for one in results.comparisons
    )
    caption += ranked
    if "over seeds × images" in table.columns:
        caption += (
            " Over seeds × images: the 95 % interval over other seeds and other test images at once; † the difference "
            "is smaller than so many test images can tell."
        )
        if any(one.on_images and one.on_images.alike for one in results.comparisons):
            caption += (
                " Where it is that over seeds alone, images add nothing: their means vary no more than those of runs "
                "would that err each on images of its own."
            )
    blocks: list[Block] = [Tabular(table, caption + shared)]
    if found.rows:
        text = f"{_capital(found.label)}, with 95 % intervals. Small dots are single seeds. "
        text += LOGARITHMIC.format("rows") * bool(found.extent.window)
        text += "A triangle at an edge: the interval goes on beyond it." * any(
            found.extent.low > row.low or row.high > found.extent.high
            for row in found.rows if row.low is not None and row.high is not None
        )  # fmt: skip
        text = f"{text.rstrip()}{CROSSED['edge'] * any(row.mean is None for row in found.rows)}{ranked}"
        blocks.append(picture("differences", text, differences.draw(found), differences.draw(found, narrow=True)))
    return blocks


CROSSED = {
    "edge": " A cross at the edge: no number, since all runs of an arm diverged; it is on the side of the worse.",
    "below": " A cross at the lower edge: {} diverged in every run.",
}
"""What stands for an arm that diverged in a figure of numbers."""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


BAND = (
    "Lines are means over seeds, bands pointwise 95 % t intervals where at least three runs reached the epoch and all "
    "trained: each covers the mean of its epoch, not the whole curve. "
)
DEPARTED = "Triangles at an edge: the band goes on beyond the axis (hollow), or the curve does (filled). "
LOGARITHMIC = "On a grey background distances are drawn on a logarithmic scale, so that all {} are within the frame. "
GROUPED_ARMS = "Each row has some of the arms in the frame of all, the others in grey. "
MARKS = "Thin vertical lines mark drops of the learning rate; a cross marks where a run diverged. "
AT_ONCE = "An arm that diverged at once, before an epoch ended, has a cross at epoch 0 and no curve. "


def _curves(results: Results, curves: study_curves.Curves) -> list[Block]:
    found = study_curves.data(results, curves, tables.mark(results.plan))
    if not any(found.rows):
        arms = study_curves.diverged_at_once(results)
        lost = f" Diverged in the first: {', '.join(arms)}." if arms else ""
        return [Paragraph(f"No run has finished an epoch yet.{lost}")]
    observed = any(panel.label == study_curves.LABELS["test", "error"] for row in found.rows for panel in row)
    remark = "The observed test error is recorded for this figure and selects nothing." if observed else ""
    panels = [panel for row in found.rows for panel in row]
    said = [
        (GROUPED_ARMS, found.grouped),
        (BAND, True),
        (DEPARTED, any(study_curves.departs(panel.extent, band) for panel in panels for band in panel.bands)),
        (LOGARITHMIC.format("curves"), any(panel.extent.window for panel in panels)),
        (MARKS, True),
        (AT_ONCE, any(panel.at_once for panel in panels)),
    ]
    text = f"Training loss and error against epoch. {''.join(text for text, so in said if so)}{remark}".strip()
    blocks: list[Block] = [picture("curves", text, study_curves.draw(found), study_curves.draw(found, narrow=True))]
    apart = study_curves.families(results, curves, tables.mark(results.plan))
    if apart is not None:
        titles = _and([panel.title for panel in apart.rows[0]])
        text = f"The same, {titles} apart, in the same frames; the other family in grey."
        blocks.append(picture("families", text, study_curves.draw(apart), study_curves.draw(apart, narrow=True)))
    return blocks


def _cost(results: Results) -> list[Block]:
    found = scatter.data(results, tables.mark(results.plan))
    if not found.panels:
        return []
    costs = " and against ".join(panel.label.partition(" (")[0] for panel in found.panels)
    text = (
        f"{found.split.capitalize()} accuracy of the last epoch against {costs}, with 95 % intervals. Times compare "
        "arms only where they were computed on the same machine under the same load."
    )
    if any(panel.extent.window for panel in found.panels):
        text += f" {LOGARITHMIC.format('arms').rstrip()}"
    if any(frame.departures(ends or (), shown.low, shown.high)
           for panel in found.panels for point in panel.points
           for ends, shown in ((point.x_interval, panel.across), (point.y_interval, panel.extent))):  # fmt: skip
        text += " A triangle at an edge: the interval goes on beyond the frame."
    if crossed := [arm for panel in found.panels for arm, _ in panel.lost]:
        text += CROSSED["below"].format(_and(crossed))
    elif found.lost:
        text += f" Not shown: {_and(found.lost)}, which diverged in every run."
    return [picture("cost", text, scatter.draw(found), scatter.draw(found, narrow=True))]


def _batch_size(results: Results) -> list[Block]:
    found = batch_size.data(results, tables.mark(results.plan))
    if not found.panels:
        return []
    noise = (
        " And the gradient noise scale after the last epoch (McCandlish et al. 2018): batches far below it average too "
        "little, batches far above it gain little."
    )
    text = (
        "Times of an update and of an epoch, its evaluation included, with 95 % intervals; both axes are logarithmic, "
        "and an interval that reaches 0 ends in a triangle. Times compare arms only where they were computed "
        "on the same machine under the same load."
    ) + (noise if any(panel.measure == "noise_scale" for panel in found.panels) else "")
    if any(panel.lost for panel in found.panels):
        text += CROSSED["below"].format("an arm of that batch size")
    return [picture("batch-size", text, batch_size.draw(found), batch_size.draw(found, narrow=True))]


def _histories(results: Results, curves: study_curves.Curves) -> list[Block]:
    found = arm_history.data(results, curves, tables.mark(results.plan))
    if not found.arms:
        return []
    text = (
        f"Loss and accuracy of each arm. {BAND}{DEPARTED}Training values are measured while training, on augmented "
        "images; under mixup or cutmix the accuracy is weighted by the shares of the labels."
    )
    return [picture("histories", text, arm_history.draw(found), arm_history.draw(found, narrow=True))]


GROUPED = "Points by layer are means of neighbouring layers where a network is deep. "
LAYERS = {
    "gradient-flow": "Norm of the gradient of each layer's kernel, against depth. A triangle at the lower edge is a "
    "gradient of exactly 0, a cross at the upper edge one that is not finite. ",
    "responses": "Standard deviation of each layer's responses before the activation, by layer and by size (He et al. "
    "2015, figure 7). ",
    "dead": "Share of channels that an activation leaves at 0 at every place of every image. ",
}


def _layers(results: Results) -> list[Block]:
    said = "On the same few training images each time; lines are medians over seeds, bands reach from end to end."
    return [
        picture(
            name,
            LAYERS[name] + (GROUPED if flow.is_grouped else "") + said,
            gradient_flow.draw(flow),
            gradient_flow.draw(flow, narrow=True),
        )
        for name, flow in gradient_flow.of_study(results, tables.mark(results.plan)).items()
    ]


def _runs(results: Results) -> list[Block]:
    table = tables.filled(tables.runs(results))
    count = len(table.rows)
    said = "The run of the study." if count == 1 else f"The {count} runs of the study."
    return [Tabular(table, said, "Every run" if count > 12 else "")]


def _images(results: Results) -> list[Block]:
    if not results.images:
        return []
    caption = (
        "Predictions of two runs of the same seed on the same test images (last epoch). McNemar's exact test asks "
        "whether the images that only one of the two gets right are split evenly; its p is corrected for all rows of "
        "this table together (Holm). It compares these two networks, not the arms."
    )
    return [Tabular(tables.images(results), caption, "Every pair of runs")]


def _troubles(results: Results) -> list[Block]:
    table = tables.troubles(results)
    if not table.rows:
        return []
    caption = (
        "A diverged run is a result: its loss or gradient was no longer finite, and it was stopped before that update. "
        "A failed run is not: `residuum study run` tries it again. An epoch whose row is damaged is "
        "missing in the curves, and so is any number that is made of what is damaged."
    )
    return [Tabular(table, caption)]


def _looks(results: Results) -> list[Block]:
    if not results.looks:
        return []
    caption = (
        "Seeds were added in groups until every claim was decided or the budget ended. Each look had its share of the "
        "5 % error probability (Lan and DeMets 1983, O'Brien–Fleming-like); a claim decided at a look stays decided."
    )
    said = [Paragraph(tables.READ_BEFORE)] if results.looks[0].read_before else []
    return [Tabular(tables.looks(results), caption), *said]


def _again(results: Results, elsewhere: bool) -> list[Block]:
    plan = results.plan
    where = "".join(f" {word}" for word in commands.runs_option(elsewhere))
    again = [commands.study_command(plan, elsewhere=elsewhere), f"residuum study report {plan.label}{where}"]
    said = ["DATA stands for the file or folder that holds the data set."] * ("DATA" in again[0].split())
    if elsewhere:
        said.append("RUNS stands for the folder that holds the run folders.")
    if not commands.shipped(plan):
        said.append(f"{commands.file_name(plan)} is the user's own file; this study does not come with residuum.")
    if bring := own_code.to_bring(code := own_code.of_study(results), commands.file_name(plan)):
        said.append(bring)
    said.append("Runs that are in the store are not computed again; a run's id is a hash of its whole configuration, "
                "so equal ids are equal runs.")  # fmt: skip
    if tuned := plan.study.tuned:
        said.append(f"{tuned.study}.toml is the file of the search, which writes {commands.file_name(plan)}.")
        again.insert(0, f"residuum study search {tuned.study}.toml{where}")
    blocks: list[Block] = [Paragraph(" ".join(said)), Commands(tuple(again))]
    if code:
        blocks.append(Tabular(own_code.table(code), "The own code that the runs computed with, and its hash."))
    alone = commands.train_commands(plan, elsewhere=elsewhere)
    rows = tuple((run.arm, str(run.seed), f"residuum show run {run.id}{where}", command)
                 for run, command in zip(plan.runs, alone, strict=True))  # fmt: skip
    table = Table(("arm", "seed", "its record", "computed alone"), rows, ("seed",))
    return [
        *blocks,
        Tabular(table, "Each run by itself: its record, and the command that computes it.", "Every run by itself"),
    ]


def _environment(results: Results) -> list[Block]:
    table = tables.environments(results)
    if not table.rows:
        return []
    return [Tabular(table, "Where the runs were computed; every start and resumption counts.")]


def _tex(results: Results) -> str:
    mark = tables.mark(results.plan)
    aside = f" [{mark}]" if mark else ""
    name = results.plan.study.name or results.plan.label
    arms = tables.without(tables.arms(results), "runs", "without result")
    caption = f"Arms of the study {name}: mean ± half the 95 % interval over seeds.{aside}"
    parts = ["% Needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}\n", tables.as_tex(arms, caption, "tab:arms")]
    if results.comparisons:
        caption = f"Differences from the baseline: {measure(results.plan.study.compare.measure).text}.{aside}"
        parts.append(tables.as_tex(tables.without(tables.comparisons(results), "note"), caption, "tab:comparisons"))
    return "\n".join(parts)


def _shown(value: Any) -> Any:
    """What stands on the page: letters that would control, turn or hide something are shown as their codes."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _page(template: str, head: Mapping[str, Any]) -> str:
    markup = template.startswith("index.html")
    environment = Environment(
        loader=PackageLoader("residuum.report", "page"),
        autoescape=markup,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "kind": lambda block: type(block).__name__.lower(),
        "inline": _inline,
        "coded": _coded,
        "md": tables.markdown_text,
        "anchor": _anchor,
        "mdtable": tables.as_markdown,
    }
    environment.filters.update(filters)
    return environment.get_template(template).render(head)


def _coded(text: str) -> Markup:
    """A text of ours in which what stands between backticks, a command, is set as code."""
    parts = [str(escape(visible(part))) for part in text.split("`")]
    if len(parts) % 2 == 0:  # an odd one out is a letter of somebody's text
        return Markup("`".join(parts))
    return Markup("".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts)))


def _anchor(title: str) -> str:
    """Where a link to a heading of a Markdown page leads, by the rule of the usual places that show such pages."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _inline(svg: bytes, name: str, label: str) -> str:
    """An SVG file as part of a page, which gives it its size, and with ids that no other figure of the page has."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    size = r'width="([\d.]+)pt" height="[\d.]+pt"'
    return re.sub(size, rf'style="--width: \1pt" role="img" aria-label="{label}"', text, count=1)

"""Tables of a study as plain values, and the forms they are written in: CSV, LaTeX (booktabs), Markdown."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from residuum import own
from residuum.analysis.aggregate import Summary
from residuum.analysis.estimate import chance
from residuum.analysis.over_images import SeedsAndImages
from residuum.analysis.results import Results
from residuum.errors import visible
from residuum.records.measures import measure
from residuum.report import protocols
from residuum.report.commands import user_settings
from residuum.studies.parsing import toml
from residuum.studies.plan import Plan, PlannedRun
from residuum.studies.study import Published

NOTHING = "–"
WORDS = {"supported": "✓ supported", "contradicted": "✗ contradicted", "undecided": "? undecided"}
"""Verdicts as a word and a sign: colour alone tells some readers nothing."""
READ_BEFORE = (
    "All runs of this study, or of it with fewer seeds, were there before the first look: verdicts that were read "
    "then, at 5 % of their own, are not covered by the 5 % that the looks share."
)


@dataclass(frozen=True)
class Table:
    """Rows of texts under columns; `numeric` columns are set flush right, `kinds` says what each row is (a verdict)."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


def without(table: Table, *columns: str) -> Table:
    """A table less some columns."""
    kept = [at for at, column in enumerate(table.columns) if column not in columns]
    rows = tuple(tuple(row[at] for at in kept) for row in table.rows)
    return Table(tuple(table.columns[at] for at in kept), rows, table.numeric, table.kinds)


def filled(table: Table) -> Table:
    """A table less the columns in which no row has anything."""
    return without(table, *(column for at, column in enumerate(table.columns)
                            if table.rows and all(row[at] == NOTHING for row in table.rows)))  # fmt: skip


def mark(plan: Plan) -> str:
    """What stands beside every number of a study that was shortened or changed by its user; empty if it was not."""
    parts = [f"SCALED ×{plan.scale:.3g}"] if plan.scale != 1 else []
    changed = ", ".join(setting(path, value) for path, value in changes(plan).items())
    return " · ".join([*parts, f"CHANGED {changed}"] if changed else parts)


def changes(plan: Plan) -> dict[str, Any]:
    """The settings that the user changed, less those that change no number: what is saved and recorded beside."""
    return {path: value for path, value in user_settings(plan).items() if not path.startswith(("save.", "monitor."))}


def setting(path: str, value: Any) -> str:
    """A setting as a table shows it: `optim.lr = 0.05`, `optim.optimizer = sgd (nesterov = true)`."""
    return f"{path} = {shown(own.readable(value))}"


def shown(value: Any) -> str:
    """A setting's value as a table shows it."""
    if isinstance(value, dict) and "name" in value:
        rest = ", ".join(f"{key} = {shown(inner)}" for key, inner in value.items() if key != "name")
        return f"{value['name']} ({rest})" if rest else str(value["name"])
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return value if isinstance(value, str) and value else f"{value:.6g}" if isinstance(value, float) else toml(value)


def number(value: float | None, digits: int = 2, sign: str = "") -> str:
    """A number as tables show it, with a true minus sign; a dash for none."""
    return NOTHING if value is None else f"{value:{sign},.{digits}f}".replace("-", "−")


def digits(name: str) -> int:
    """Decimals with which a measure is shown."""
    return measure(name).digits


def signed(text: str) -> str:
    """A text with true minus signs before its numbers."""
    return re.sub(r"(?<![\w-])-(?=\d)", "−", text)


def interval(low: float | None, high: float | None, digits: int = 2, sign: str = "") -> str:
    """An interval, or a dash where there is none."""
    return NOTHING if low is None or high is None else f"{number(low, digits, sign)} to {number(high, digits, sign)}"


def difference(
    name: str, mean: float | None, low: float | None, high: float | None, *, in_percent: bool
) -> tuple[str, str]:
    """A difference of a measure and its interval, cut where none can be, in the measure's unit or in percent."""
    unit, places = " %" if in_percent else "", digits(name)
    if low is not None and high is not None and not in_percent:
        low, high = measure(name).possible(low, high, of_difference=True)
    cells = number(mean, places, "+"), interval(low, high, places, "+")
    return cells[0] + unit * (cells[0] != NOTHING), cells[1] + unit * (cells[1] != NOTHING)


def spread(summary: Summary | None, digits: int) -> str:
    """A mean with half its 95 % interval, or with its ends where it is cut since no value can be beyond.

    With one run the mean alone.
    """
    if summary is None or summary.mean is None:
        return NOTHING
    if summary.low is None or summary.high is None:
        return number(summary.mean, digits)
    ends = measure(summary.measure).possible(summary.low, summary.high)
    if ends != (summary.low, summary.high):
        return around(summary, digits)
    return f"{number(summary.mean, digits)} ± {number((summary.high - summary.low) / 2, digits)}"


def around(summary: Summary | None, digits: int) -> str:
    """A mean with the ends of its 95 % interval, cut where no value can be: `13.33 (0.00 to 52.16)`."""
    if summary is None or summary.mean is None:
        return NOTHING
    if summary.low is None or summary.high is None:
        return number(summary.mean, digits)
    ends = measure(summary.measure).possible(summary.low, summary.high)
    return f"{number(summary.mean, digits)} ({interval(*ends, digits)})"


def size(count: int) -> str:
    """Multiply-adds in millions."""
    return f"{count / 1e6:,.1f} M"


def status(results: Results, run: PlannedRun) -> str:
    """How a run stands: finished, diverged, failed, running, stopped, or missing where it was not begun."""
    record = results.records.get(run.id)
    if record is not None and record.status in ("finished", "diverged"):
        return record.status
    if run.id in results.failed:
        return "failed"
    return "missing" if record is None else record.status


def of_arm(results: Results, name: str, arm: str) -> Summary | None:
    """The summary of a measure for an arm, None where no run of the study has the measure."""
    return next((one for one in results.summaries.get(name, ()) if one.arm == arm), None)


def measures_shown(results: Results) -> list[str]:
    """The measures in the table of arms: test error, what the study compares, and the selected epoch's where known.

    Of a study that asks about untrained networks or about accuracy, what it compares alone. One that chooses an arm
    knows validation errors only.
    """
    study = results.plan.study
    if study.is_initial or in_accuracy(results):
        return [study.compare.measure]
    names = [final(results, "error"), study.compare.measure]
    return list(
        dict.fromkeys([*names, *(["selected_test_error"] if "selected_test_error" in results.summaries else [])])
    )


def final(results: Results, key: str) -> str:
    """The measure of how the runs of a study ended, as `error` or `accuracy`: on the test set, or on validation images.

    The latter where an arm is chosen by them.
    """
    return f"test_{key}" if results.selection is None else f"validation_{key}"


def in_accuracy(results: Results) -> bool:
    """Whether a study is told in accuracies; every other is in errors, so that signs agree from table to table."""
    return results.plan.study.compare.measure == final(results, "accuracy")


def heading(name: str) -> str:
    """A measure's name and unit as the head of a column."""
    what = measure(name)
    return f"{what.shown} ({what.unit})"


def verdicts(results: Results) -> Table:
    """Every claim with its verdict, the difference behind it, what the verdict rests on, and the reason in words."""
    rows = []
    for one in results.verdicts:
        name = one.claim.measure
        low, high = one.corrected or (None, None)
        mean, alone = difference(name, one.difference, one.low, one.high, in_percent=one.in_percent)
        unit = "" if mean == NOTHING or one.in_percent else _unit(name)
        rows.append((
            WORDS[one.verdict] + " (exploratory)" * bool(one.exploratory),
            one.claim.text, f"{measure(one.claim.measure).shown}: {one.claim.formula}",
            mean + unit + " (median)" * one.median, alone,
            difference(name, None, low, high, in_percent=one.in_percent)[1],
            chance(one.p_holm), f"{1 - one.level:.2g}",
            results.rests_on(one), signed(one.reason),
        ))  # fmt: skip
    numeric = ("difference", "95 % interval", "corrected interval", "p (Holm)", "needs p below")
    columns = ("verdict", "claim", "expected", *numeric, "rests on", "reason")
    found = Table(columns, tuple(rows), numeric, tuple(one.verdict for one in results.verdicts))
    return found if results.looks else without(found, "needs p below")


def _unit(name: str) -> str:
    """The unit of a difference of a measure, with the space before it; none of counts, shares and ratios."""
    unit = measure(name).unit
    return {"%": " points", "share": "", "ratio": "", "count": ""}.get(unit, f" {unit}")


def arms(results: Results) -> Table:
    """Every arm: what sets it apart, its size, its measures with 95 % intervals, n, how many runs came to nothing."""
    names = measures_shown(results)
    every = results.plan.study.settings
    numbers = {source: at for at, source in enumerate(sources(results), start=1)}
    alike, rows = published_alike(results), []
    for arm in results.plan.arms:
        own = [setting(path, value) for path, value in arm.settings.items()
               if path not in every or every[path] != value]  # fmt: skip
        found = of_arm(results, names[0], arm.name)
        stands = [status(results, run) for run in results.plan.runs_of[arm.name]]
        published = [
            f"{_published(one)} [{numbers[one.source]}]"
            for one in alike
            if one.arm == arm.name and one.measure == names[0]
        ]
        rows.append((
            arm.name, "; ".join(own) or NOTHING, f"{arm.parameters:,}", size(arm.macs),
            spread(found, digits(names[0])), number(found.sd if found else None),
            *(spread(of_arm(results, name, arm.name), digits(name)) for name in names[1:]),
            str(found.n if found else 0), f"{len(stands)}", _ill(stands), "; ".join(published) or NOTHING,
        ))  # fmt: skip
    heads = tuple(heading(name) for name in names)
    columns = ("arm", "settings", "parameters", "multiply-adds", heads[0], "sd", *heads[1:], "n", "runs",
               "without result", "published")  # fmt: skip
    return Table(columns, tuple(rows), ("parameters", "multiply-adds", *heads, "sd", "n", "runs"))


def asked(results: Results) -> Table | None:
    """Every other measure that a claim is about, of every arm with its 95 % interval; None where there is none.

    Accuracy is not shown beside error, which says the same with the other sign.
    """
    twin = final(results, "error" if in_accuracy(results) else "accuracy")
    shown = {*measures_shown(results), "parameters", "macs", twin}
    names = [name for name in dict.fromkeys(claim.measure for claim in results.plan.study.claims) if name not in shown]
    if not names:
        return None
    rows = tuple((arm.name, *(spread(of_arm(results, name, arm.name), digits(name)) for name in names))
                 for arm in results.plan.arms)  # fmt: skip
    heads = tuple(heading(name) for name in names)
    return Table(("arm", *heads), rows, heads)


def failures(results: Results) -> Table:
    """How many runs of each arm did not train, with the exact interval of that share, and against the baseline."""
    rows = tuple(
        (
            one.arm, str(one.diverged), str(one.stuck), str(one.n),
            NOTHING if one.low is None or one.high is None else f"{100 * one.low:.0f} to {100 * one.high:.0f} %",
            one.baseline or NOTHING, chance(one.p),
        )
        for one in results.failures
    )  # fmt: skip
    numeric = ("diverged", "at chance", "runs", "failure rate, 95 % interval")
    columns = ("arm", *numeric, "baseline", "p (Boschloo)")
    return Table(columns, rows, (*numeric, "p (Boschloo)"))


STATUSES = ("finished", "diverged", "failed", "running", "stopped", "missing")


def _ill(stands: Sequence[str]) -> str:
    counts = {word: stands.count(word) for word in STATUSES[1:]}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or NOTHING


def _published(one: Published) -> str:
    places = digits(one.measure)
    bound = {"above": "> ", "below": "< ", None: ""}[one.bound]
    return f"{bound}{one.value:.{places}f}" + (f" ± {one.spread:.{places}f} (sd)" if one.spread is not None else "")


def published_alike(results: Results) -> list[Published]:
    """The published numbers of a study in the sign of its tables: a test accuracy as an error, or the other way round.

    How the source states it is then among the words of the protocol.
    """
    own, other = ("accuracy", "error") if in_accuracy(results) else ("error", "accuracy")
    turned = []
    for one in results.plan.study.published:
        if one.measure == f"test_{other}":
            bound = {"above": "below", "below": "above"}.get(one.bound or "")
            words = [*filter(None, [one.protocol]), f"stated as {_published(one)} % {other}"]
            one = one.model_copy(update={"measure": f"test_{own}", "value": round(100 - one.value, 10),
                                         "bound": bound, "protocol": "; ".join(words)})  # fmt: skip
        turned.append(one)
    return turned


def sources(results: Results) -> list[str]:
    """The sources of published numbers, each once; their numbers in the table of arms count from 1."""
    return list(dict.fromkeys(one.source for one in results.plan.study.published))


def shared_differences(results: Results) -> list[str]:
    """In what our runs differ in the same way from every one of several published numbers that training decides."""
    found = [protocol_differences(results, one) for one in published_alike(results)
             if not measure(one.measure).initial]  # fmt: skip
    return [text for text in found[0] if all(text in others for others in found)] if len(found) > 1 else []


def published(results: Results) -> Table:
    """Every published number beside ours, how it was made, and in what our runs differ from that.

    Where every row has the same difference, it is left to `shared_differences`.
    """
    shared = shared_differences(results)
    nothing = "no other known" if shared else "none known"
    rows = []
    numbers = {source: at for at, source in enumerate(sources(results), start=1)}
    for one in published_alike(results):
        name = one.measure if results.selection is None else measure(one.measure).held_out or one.measure
        ours = of_arm(results, name, one.arm)
        mean = ours.mean if ours else None
        own = [text for text in protocol_differences(results, one) if text not in shared]
        rows.append((
            f"[{numbers[one.source]}] {one.source}", one.arm, heading(one.measure), _published(one),
            spread(ours, digits(one.measure)), str(ours.n if ours else 0),
            number(None if mean is None or one.bound else mean - one.value, digits(one.measure), "+"),
            protocols.described(results.plan.study.protocol_of(one)) or "not stated", "; ".join(own) or nothing,
        ))  # fmt: skip
    numeric = ("published", "ours", "n", "ours − published")
    columns = ("source", "arm", "measure", *numeric, "their protocol", "differences in protocol")
    return Table(columns, tuple(rows), numeric)


def protocol_differences(results: Results, one: Published) -> list[str]:
    """In what our runs of an arm differ from how a published number was made, and what of that is not known.

    What is known before training has no protocol: there only changed settings count.
    """
    plan = results.plan
    run = next(iter(plan.runs_of.get(one.arm, ())), None)
    if run is None:
        return []
    if measure(one.measure).initial:
        return [f"{setting(path, value)} here" for path, value in changes(plan).items()]
    record, theirs = results.records.get(run.id), plan.study.protocol_of(one)
    data = record.data if record else None
    if "data.dataset" not in changes(plan):  # of another data set, counts say nothing that its name does not
        theirs = protocols.of_all_images(theirs, run.config.data.dataset.name)
    ours = protocols.of_run(run.config, one.measure, data)
    found = protocols.differences(theirs, ours)
    if plan.scale != 1:
        said = found.get("epochs", f"{run.config.train.epochs} epochs here")
        found["epochs"] = f"{said} (×{plan.scale:.3g})"
    others = []
    if results.selection is not None and measure(one.measure).held_out:
        found.pop("test_images", None)
        others.append("test images there, images held out of the training set here")
    if data and (copy := protocols.altered(data)):
        others.append(f"{copy} here")
    precision = record.environment[-1].precision if record and record.environment else None
    if precision not in (None, "fp32"):
        others.append(f"{precision} arithmetic here")
    others += [f"{setting(path, value)} here" for path, value in changes(plan).items()
               if not protocols.is_covered(path, theirs, ours, found)]  # fmt: skip
    return [text for text in (*found.values(), *others, protocols.unknown(theirs)) if text]


def comparisons(results: Results) -> Table:
    """Every pair that is compared: difference, 95 % interval, effect size, p-values, and what is to be noted."""
    places = digits(results.plan.study.compare.measure)
    rows = tuple(
        (
            one.arm, one.baseline, *difference(one.measure, one.mean, one.low, one.high, in_percent=one.in_percent),
            over_images(one.on_images), number(one.sd, places), number(one.effect, 2, "+"),
            *map(chance, (one.p_t, one.p_permutation, one.p_ranks, one.p_holm)),
            one.family, str(one.n), one.note or NOTHING,
        )
        for one in results.comparisons
    )  # fmt: skip
    paired = all(one.paired for one in results.comparisons)
    tests = ("p (paired t)", "p (sign-flip)") if paired else ("p (Welch t)", "p (permutation)")
    numbers = (
        "difference",
        "95 % interval",
        "over seeds × images",
        "sd",
        "effect size",
        *tests,
        "p (ranks)",
        "p (Holm)",
    )
    n = "pairs" if paired else "n"
    return Table(("arm", "baseline", *numbers, "family", n, "note"), rows, (*numbers, n))


def over_images(found: SeedsAndImages | None) -> str:
    """The interval over seeds and test images, with a mark where so many images cannot tell the sign."""
    if found is None:
        return NOTHING
    return interval(max(-100.0, found.low), min(100.0, found.high), 2, "+") + ("" if found.is_beyond_images else " †")


def runs(results: Results) -> Table:
    """Every run that the study asked for."""
    rows = []
    what = "accuracy" if in_accuracy(results) else "error"
    names = [final(results, what), *([] if in_accuracy(results) or results.selection else ["selected_test_error"])]
    for run in results.plan.runs:
        record = results.records.get(run.id)
        found = [None if record is None else measure(name).of(record) for name in names]
        seconds = None if record is None else measure("seconds").of(record)
        epochs = 0 if record is None else len(record.epochs)
        rows.append((run.arm, str(run.seed), status(results, run), str(epochs), *map(number, found),
                     number(seconds, 0), run.id, run.folder))  # fmt: skip
    heads = [f"{names[0].replace('_', ' ')}, last epoch (%)", "selected epoch (%)"][: len(names)]
    numeric = ("seed", "epochs", *heads, "seconds")
    columns = ("arm", "seed", "status", *numeric[1:], "id", "folder")
    return Table(columns, tuple(rows), numeric, tuple(row[2] for row in rows))


def images(results: Results) -> Table:
    """Per-image comparisons of two runs of the same seed, by McNemar's exact test; differences as in every table."""
    what = "accuracy" if in_accuracy(results) else "error"
    columns = ("arm", "baseline", "seed", "only arm right", "only baseline right", "both right", "both wrong",
               f"difference in {what} (points)", "95 % interval", "p (McNemar, Holm)")  # fmt: skip
    rows = []
    for arm, baseline, seed, pairs in results.images:
        ends = (pairs.difference, pairs.low, pairs.high)
        mean, low, high = ends if in_accuracy(results) else (-ends[0], -ends[2], -ends[1])
        rows.append((
            arm, baseline, str(seed), f"{pairs.only_first_right:,}", f"{pairs.only_second_right:,}",
            f"{pairs.both_right:,}", f"{pairs.both_wrong:,}", number(mean + 0.0, 2, "+"),
            interval(low, high, 2, "+"), chance(pairs.p_holm),
        ))  # fmt: skip
    return Table(columns, tuple(rows), columns[2:])


def troubles(results: Results) -> Table:
    """What diverged, failed or can no longer be read in full: when, or why."""
    rows = []
    for run in results.plan.runs:
        record, stands = results.records.get(run.id), status(results, run)
        if stands == "failed":
            why = results.failed.get(run.id) or (record.failure if record else "")
            rows.append((run.arm, str(run.seed), stands, " ".join(why.split()), run.id))
        elif stands == "diverged" and record is not None:
            at = record.result.diverged if record.result else None
            what = at and f"epoch {at.epoch}, step {at.step}: loss {at.loss}, gradient norm {at.gradient_norm}"
            rows.append((run.arm, str(run.seed), stands, what or NOTHING, run.id))
        rows += [(run.arm, str(run.seed), "damaged", line, run.id) for line in (record.damaged if record else ())]
    return Table(("arm", "seed", "status", "when or why", "id"), tuple(rows), ("seed",), tuple(r[2] for r in rows))


def looks(results: Results) -> Table:
    """The looks at a study that grew until it was decided, and the share of the error probability each was given."""
    rows, before = [], 0.0
    late = {one.claim.text for one in results.verdicts if one.exploratory}
    for look in results.looks:
        spent = 1 - look.level
        before += spent
        said = "; ".join(f"{WORDS.get(verdict, verdict)}{' (exploratory)' * (claim in late)}: {claim}"
                         for claim, verdict in look.decided.items())  # fmt: skip
        rows.append((f"{look.look} of {look.looks}", str(len(look.seeds)), f"{spent:.4f}", f"{before:.4f}",
                     said or "none yet"))  # fmt: skip
    return Table(("look", "seeds", "alpha spent", "alpha in all", "decided so far"), tuple(rows),
                 ("seeds", "alpha spent", "alpha in all"))  # fmt: skip


def environments(results: Results) -> Table:
    """Where the runs were computed: each environment once, with the number of runs that began or went on in it."""
    counts: dict[tuple[str, ...], list[str]] = {}
    names = ("device", "precision", "threads", "determinism", "platform")
    for record in results.records.values():
        for one in record.environment:
            packages = ", ".join(f"{name} {version}" for name, version in one.packages.items())
            known = (one.device, one.precision, one.threads, one.determinism, one.platform)
            key = (
                f"{NOTHING if one.processor is None else one.processor}, {one.cores or '?'} cores",
                *(NOTHING if value is None else str(value) for value in known),
                f"Python {one.python or '?'}, {packages}",
            )
            counts.setdefault(key, []).append(one.time or "")
    columns = ("processor", *names, "packages", "starts", "dates")
    rows = tuple((*key, str(len(times)), _dates(times)) for key, times in counts.items())
    return Table(columns, rows, ("threads", "starts"))


def _dates(times: Iterable[str]) -> str:
    days = sorted({time[:10] for time in times if time})
    return NOTHING if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def long_form(results: Results) -> tuple[list[str], list[list[Any]]]:
    """One row a run with every measure that some run has, numbers as numbers: what `tables.csv` holds."""
    names = list(results.summaries)
    plan = results.plan
    values = {
        (name, value.run): value.value
        for name, summaries in results.summaries.items()
        for summary in summaries
        for value in summary.values
    }
    rows: list[list[Any]] = [
        [run.arm, run.seed, run.id, status(results, run), plan.scale,
         "; ".join(setting(*item) for item in user_settings(plan).items()),
         *(_counted(name, values.get((name, run.id))) for name in names)]
        for run in plan.runs
    ]  # fmt: skip
    return ["arm", "seed", "run", "status", "scale", "changed", *names], rows


def _counted(name: str, value: float | None) -> float | int | None:
    return int(value) if value is not None and measure(name).unit == "count" else value


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV (RFC 4180). A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([[_safe(value) for value in row] for row in rows])
    return file.getvalue()


def _safe(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # What a spreadsheet drops in front of a formula does not hide one.
    return visible(f"'{value}" if value.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")) else value)


TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "–": "--",
    "·": r"$\cdot$",
}  # fmt: skip


def tex_text(text: str) -> str:
    """A text with everything that LaTeX would take for a command escaped."""
    return "".join(TEX.get(letter, letter) for letter in visible(" ".join(text.split())))


def as_tex(table: Table, caption: str, label: str) -> str:
    """A table for a paper; needs the package booktabs."""
    columns = "".join("r" if column in table.numeric else "l" for column in table.columns)
    # A cell that begins with a bracket would be read as the space after the line before.
    lines = [" & ".join(f"{{}}{cell}" if cell.startswith("[") else cell for cell in map(tex_text, row)) + r" \\"
             for row in table.rows]  # fmt: skip
    head = " & ".join(map(tex_text, table.columns)) + r" \\"
    body = "\n".join([r"\toprule", head, r"\midrule", *lines, r"\bottomrule"])
    return (f"\\begin{{table}}\n\\centering\n\\caption{{{tex_text(caption)}}}\n\\label{{{label}}}\n"
            f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n\\end{{table}}\n")  # fmt: skip


def markdown_text(text: str) -> str:
    """A text with everything that Markdown would take for markup escaped, on one line."""
    plain = visible(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|#~>$])", r"\\\1", plain)


def as_markdown(table: Table) -> str:
    """A table as GitHub's Markdown."""
    rule = ["---:" if column in table.numeric else "---" for column in table.columns]
    rows = [tuple(map(markdown_text, table.columns)), rule, *(tuple(map(markdown_text, row)) for row in table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)

"""The arm that validation has chosen, and the one reading of the test set, for the report and the terminal."""

from residuum.analysis.results import Results
from residuum.analysis.selection import JUDGED_BY, OnTest, Selection
from residuum.report import tables
from residuum.report.content import Block, Paragraph, Tabular
from residuum.report.tables import NOTHING, Table, number
from residuum.studies.chosen import Chosen

HOW = (
    "Arms are judged by images held out of the training set. The test set is read once, when all runs are there: for "
    "the arm with the lowest mean validation error among those that trained in every run, against the baseline."
)


def blocks(results: Results) -> list[Block]:
    """Which arm was chosen and how it does on the test set, or why that is still unread; empty without a choice."""
    found = results.selection
    if found is None:
        return []
    if found.chosen is None or found.test is None:
        return [Paragraph(f"{HOW} {state(results)}")]
    caption = _caption(results, found.chosen, found.test)
    return [
        Tabular(_table(results, found.chosen, found.test), caption),
        Paragraph(f"{HOW} {_since(found, found.chosen)}"),
    ]


def state(results: Results) -> str:
    """In a sentence or two, what was chosen and read; empty in a study that chooses nothing."""
    found = results.selection
    if found is None:
        return ""
    if found.chosen is None:
        if found.missing:
            runs = len(results.plan.runs)
            return f"The test set is still unread: {found.missing} of {runs} runs are not there yet."
        if results.plan.study.only:
            return "The test set is still unread: these are some of the arms, and the whole study chooses among all."
        if found.best is None:
            return "The test set is still unread: no arm trained in every run, so none can be chosen."
        if not results.plan.study.compare.baseline:
            return "The test set is still unread: there is no baseline among these arms."
        return "The test set is still unread: the command that ran the study, given again, chooses an arm and reads it."
    chosen = found.chosen
    said = f"Chosen by validation error: {chosen.arm} ({number(chosen.validation[chosen.arm])} %)"
    if found.test is None:
        return f"{said}. The test set is not read for it in every run yet: the command that ran the study does."
    arm, other, compared = found.test.errors[chosen.arm], found.test.errors[chosen.baseline], found.test.comparison
    if compared is None:
        return f"{said}, which is the baseline: {number(arm.mean)} % on the test set."
    low, high = compared.low, compared.high
    within = f", 95 % interval {tables.interval(low, high, 2, '+')}" if low is not None else ""
    within += f"; {compared.note}" if compared.note else ""
    return (
        f"{said}. On the test set it has {number(arm.mean)} %, {chosen.baseline} has {number(other.mean)} %: "
        f"{number(compared.mean, 2, '+')} points{within}."
    )


def _table(results: Results, chosen: Chosen, test: OnTest) -> Table:
    held_out = {one.arm: one.mean for one in results.summaries.get(JUDGED_BY, ())} | dict(chosen.validation)
    rows = []
    for name, one in test.errors.items():
        compared = test.comparison if name == chosen.arm else None
        difference = (NOTHING,) * 3
        if compared is not None:
            difference = (number(compared.mean, 2, "+"), tables.interval(compared.low, compared.high, 2, "+"),
                          tables.over_images(compared.on_images))  # fmt: skip
        role = "baseline" if name != chosen.arm else "chosen" if len(test.errors) > 1 else "chosen, and the baseline"
        rows.append((name, role, number(held_out.get(name)), tables.spread(one, 2), *difference, str(one.n),
                     str(test.reads[name])))  # fmt: skip
    numeric = ("validation error (%)", "test error (%)", "difference", "95 % interval", "over seeds × images", "n",
               "readings")  # fmt: skip
    return tables.filled(Table(("arm", "role", *numeric), tuple(rows), numeric))


def _caption(results: Results, chosen: Chosen, test: OnTest) -> str:
    how = "paired by seed" if results.plan.study.compare.pair_by != "none" else "not paired"
    against = f" Difference in test error, chosen minus baseline, {how}." if test.comparison else ""
    note = f" {test.comparison.note}." if test.comparison and test.comparison.note else ""
    every, trained = len(results.plan.arms), len(chosen.validation)
    among = f"{every} arms" if trained == every else f"the {trained} of {every} arms of which every run trained,"
    return (
        f"The only reading of the test set in this study ({chosen.time[:10]}), of the last epoch. Chosen from "
        f"{among} by the mean validation error over seeds {', '.join(map(str, chosen.seeds))}; "
        f"mean over them ± half the 95 % t interval.{against} One hypothesis, not corrected. Readings: how often the "
        "records of these runs count the test set as read, the weights of the last and of the selected epoch each as "
        f"one.{note}"
    )


def _since(found: Selection, chosen: Chosen) -> str:
    """What takes from the reading's being the only one, or has changed since it."""
    parts = ["A validation error that was the lowest of several is too low on average; the test error is not."]
    if chosen.read_before:
        parts.append(
            f"Of the {chosen.runs} runs {chosen.read_before} had been read on the test set before, for something else, "
            "or by this study with other arms or settings: somebody may have looked."
        )
    elif found.test and found.test.others:
        parts.append(
            f"Since then the test set was read for {found.test.others} runs of other arms, for something else, or by "
            "this study with other arms or settings."
        )
    if found.best not in (None, chosen.arm):
        parts.append(
            f"With the runs that are there now, {found.best} would be chosen. The choice stands: the test set is not "
            "read again."
        )
    return " ".join(parts)

"""The search that the settings of a study come from: what it cost, what it found, and when the claims were made."""

from residuum.analysis.results import Results
from residuum.errors import duration, tally
from residuum.report import tables
from residuum.report.content import Block, Paragraph, Tabular, picture
from residuum.report.figures import tuning_budget
from residuum.report.tables import Table, number
from residuum.studies.space import Range, Space, Tuned

CLAIMED = {
    "before the search": "What is claimed was claimed before the search, of whatever it would find for each arm.",
    "after the search": "The claim was made after the search, because of what it found, and before the runs below.",
}


def blocks(results: Results) -> list[Block]:
    """How settings were searched for; empty in a study whose settings come from no search."""
    tuned = results.plan.study.tuned
    if tuned is None:
        return []
    lines = tuning_budget.data(tuned)
    mark = tables.mark(results.plan)
    figures = (tuning_budget.draw(lines, mark, narrow=narrow) for narrow in (False, True))
    drawn = picture("tuning", _drawn(tuned), *figures)
    return [Paragraph(_said(tuned)), Tabular(tables.filled(_table(tuned)), _caption(tuned)), drawn]


def _said(tuned: Tuned) -> str:
    trials, runs = sum(one.trials for one in tuned.arms), sum(one.trials for one in tuned.arms) * len(tuned.seeds)
    how = "by a model of the trials before (TPE)" if tuned.sampler == "tpe" else "by chance"
    seeds = f"seed{'s' * (len(tuned.seeds) > 1)} {', '.join(map(str, tuned.seeds))}"
    equal = ", as many for each arm" if len(tuned.arms) > 1 else ""
    reads = (
        "It left the test set unread."
        if not tuned.test_reads
        else f"For its runs the test set is on record as read {tally(tuned.test_reads, 'time')}, for something else."
    )
    return (
        f"The settings come from a search ({tuned.study}, {tuned.time[:10]}): {tally(trials, 'trial')}{equal}, chosen "
        f"{how} from {_space(tuned.space)}, each judged by its validation error after the last epoch, with {seeds}; "
        f"{tally(runs, 'run')} at most, {sum(one.epochs for one in tuned.arms):,} epochs, "
        f"{duration(sum(one.seconds for one in tuned.arms))} of training. {reads} {CLAIMED[tuned.claimed]} "
        "The runs below have other seeds: the lowest error of many is too low on average, those of fresh seeds are not."
    )


def _space(space: Space) -> str:
    return "; ".join(f"{path} {_values(values)}" for path, values in space.items())


def _values(values: Range | tuple[object, ...]) -> str:
    if not isinstance(values, Range):
        return " or ".join(tables.shown(one) for one in values)
    kind = " on a logarithmic scale" if values.log else f" in steps of {values.step:g}" if values.step else ""
    return f"{values.low:g} to {values.high:g}{kind}"


def _table(tuned: Tuned) -> Table:
    numeric = ("trials", "complete", "pruned", "failed", "epochs", "time", "lowest validation error (%)", *tuned.space)
    rows = tuple(
        (one.arm, *(str(count) if count else tables.NOTHING
                    for count in (one.trials, one.complete, one.pruned, one.failed)),
         f"{one.epochs:,}", duration(one.seconds), number(min(one.errors)),
         *(tables.shown(one.settings[path]) for path in tuned.space))
        for one in tuned.arms
    )  # fmt: skip
    return Table(("arm", *numeric), rows, numeric)


def _caption(tuned: Tuned) -> str:
    pruned = " A pruned trial was stopped early, when it was worse than the median of those before." if any(
        one.pruned for one in tuned.arms) else ""  # fmt: skip
    failed = " A failed one could not be computed with its settings." if any(one.failed for one in tuned.arms) else ""
    return f"The search for each arm, and the settings of its best trial.{pruned}{failed}"


def _drawn(tuned: Tuned) -> str:
    expected = (
        " Dashed: the lowest to be expected of so many trials (Dodge et al. 2019)."
        if tuned.sampler == "random"
        else " Trials learn from those before: in another order, or in another search, the steps would lie elsewhere."
    )
    hollow = " Hollow: pruned, at its last epoch." if any(one.stopped for one in tuned.arms) else ""
    said = "What the search came to with its budget: the validation error of each trial, and the lowest so far."
    return f"{said}{hollow}{expected}"

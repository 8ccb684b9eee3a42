"""The answer of a study in a few sentences and a short table: what a report begins with."""

from residuum.analysis.aggregate import Summary
from residuum.analysis.results import Results
from residuum.errors import tally
from residuum.records.measures import measure
from residuum.report import chosen_arm, tables
from residuum.report.content import Block, Paragraph, Tabular
from residuum.report.tables import Table

ORDER = ("supported", "contradicted", "undecided")


def blocks(results: Results) -> list[Block]:
    """What the claims came to, between which ends the arms lie, what was chosen; then each claim, or each arm.

    Nothing here is stronger than the verdicts: of arms it says which mean is the lowest, not that it is the best.
    """
    sentences = [_claims(results), _range(results), chosen_arm.state(results)]
    said: list[Block] = [Paragraph(text) for text in (" ".join(filter(None, sentences)), _extent(results)) if text]
    table, text = (_judged(results), "") if results.verdicts else (_measured(results), ", mean over seeds ± half the "
                                                                   "95 % t interval")  # fmt: skip
    caption = "Every claim with its verdict and the difference behind it." if results.verdicts else f"Every arm{text}."
    return [said[0], Tabular(table, caption), *said[1:]] if table.rows else said


def _claims(results: Results) -> str:
    """How many claims there are of each verdict."""
    found: list[str] = [one.verdict for one in results.verdicts]
    if not found:
        return ""
    if len(found) == 1:
        return f"The claim of this study is {found[0]}."
    parts = [f"{found.count(word) or 'none'} {'is' if found.count(word) == 1 else 'are'} {word}" for word in ORDER]
    return f"Of {len(found)} claims {parts[0]}, {parts[1]}, and {parts[2]}."


def _range(results: Results) -> str:
    """Between which arms the means of the measure lie that the study compares."""
    name = results.plan.study.compare.measure
    means = {one.arm: one for one in results.summaries.get(name, ()) if one.mean is not None}
    lost = [arm.name for arm in results.plan.arms if arm.name not in means]
    if not means:
        return ""
    least, most = (end(means.values(), key=lambda one: one.mean or 0.0) for end in (min, max))
    what = f"{measure(name).text[:1].upper()}{measure(name).text[1:]}"
    without = f" {tally(len(lost), 'arm')} {'has' if len(lost) == 1 else 'have'} no number yet." if lost else ""
    if least.arm == most.arm:
        return f"{what}: {_shown(least)} with {least.arm}.{without}"
    ends = f"the lowest mean is {_shown(least)}, of {least.arm}; the highest {_shown(most)}, of {most.arm}"
    return f"{what}: {ends}.{without}"


def _shown(one: Summary) -> str:
    unit = {"count": "", "share": "", "ratio": ""}.get(measure(one.measure).unit, f" {measure(one.measure).unit}")
    return tables.number(one.mean, tables.digits(one.measure)) + unit


def _extent(results: Results) -> str:
    """How many runs there are, and what that takes from the answer."""
    plan = results.plan
    stands = [tables.status(results, run) for run in plan.runs]
    done = sum(word in ("finished", "diverged") for word in stands)
    seeds = f"seed{'s' if len(plan.study.seeds) > 1 else ''} {', '.join(map(str, plan.study.seeds))}"
    epochs = sorted({arm.epochs for arm in plan.arms})
    length = tally(epochs[0], "epoch") if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]} epochs" if epochs else ""
    counts = ", ".join(f"{stands.count(word)} {word}" for word in tables.STATUSES if word in stands)
    arms = tally(len(plan.arms), "arm")
    said = [f"{done} of {tally(len(plan.runs), 'run')} complete: {arms}, {seeds}; {length} each ({counts})."]
    if done < len(plan.runs):
        said.append("This report is preliminary; the missing runs may change every number in it.")
    if len(plan.study.seeds) == 1:
        said.append("With one seed there are no intervals, no p-values and no verdicts: "
                    "differences between arms may be chance.")  # fmt: skip
    return " ".join(said)


def _judged(results: Results) -> Table:
    """The table of verdicts with what one looks for first."""
    table, kept = tables.verdicts(results), ("verdict", "claim", "difference")
    return tables.without(table, *(column for column in table.columns if column not in kept))


def _measured(results: Results) -> Table:
    """Every arm with the measure that the study compares."""
    name = results.plan.study.compare.measure
    rows = tuple((one.arm, tables.spread(one, tables.digits(name)), str(one.n))
                 for one in results.summaries.get(name, ()))  # fmt: skip
    heads = (tables.heading(name), "n")
    return Table(("arm", *heads), rows, heads)

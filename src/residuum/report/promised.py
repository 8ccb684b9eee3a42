"""What a study promised before its first run, and what came of that, in sentences for the report and the terminal."""

from collections import Counter
from collections.abc import Sequence

from residuum.analysis import power, stopping
from residuum.analysis.estimate import LEVEL
from residuum.analysis.results import Results
from residuum.analysis.spending import spend
from residuum.errors import tally
from residuum.report.content import Block, Items, Paragraph
from residuum.studies.prespecified import stated

NOTHING = (
    "Nothing was prespecified here: the folder of the study has no record of what was promised, because it was begun "
    "before such records were kept, or because the record was removed. So nobody can tell which claims were made "
    "before its results were seen."
)
EXPLORATORY = (
    "An exploratory claim was not promised before its runs were there, or not in this form. It is corrected for every "
    "claim, takes no part in the correction of those that were promised, and shows at most what to test on new seeds."
)
SHIFTS = (0.5, 1.0)
"""True differences, in sd of the seeds' differences, for which the bias of an early stop is told."""


def blocks(results: Results) -> list[Block]:
    """What was promised, and everything in which the study is another one now."""
    said = results.prespecified
    if said is None:
        return [Paragraph(_altered(results) if results.altered else NOTHING), *_items(results)]
    n, total = len(said.claims), len(results.plan.runs)
    looks = f"looks at {_listed(said.looks)} seeds" if said.looks else "one test of all seeds"
    compared = tally(len(said.comparisons), "exploratory comparison") if said.comparisons else "no comparison"
    there = (
        f" {said.complete} of its runs were there already, so their results could be known." if said.complete else ""
    )
    choice = f"an arm is chosen by {said.select} error; " if said.select != "none" else ""
    text = (
        f"Recorded before the first run of this study, {said.time[:10]}, hash {said.hash}: {tally(n, 'claim')} with "
        f"margins, in one family ({said.family}); {choice}{compared} on {said.measure.replace('_', ' ')}; "
        f"{_seeds(said.seeds)}; {looks}; residuum {said.version}.{there}"
    )
    same = not (results.dropped or results.unplanned or any(one.exploratory for one in results.verdicts))
    kept = f" Nothing in it has changed since, in {tally(total, 'run')}."
    items = _items(results)
    return [Paragraph(text + kept * (same and not items)), *items]


def _items(results: Results) -> list[Block]:
    said, seeds = results.prespecified, results.plan.study.seeds
    lines = [] if results.altered else [f"Exploratory: {one.claim.text} – {stated(one.claim)}: {one.exploratory}."
                                        for one in results.verdicts if one.exploratory]  # fmt: skip
    lines += [f"Promised, but not claimed in this form: {one.text} – {stated(one)}. It still counts in the correction."
              for one in results.dropped]  # fmt: skip
    if said is not None:
        grown = results.looks and len(seeds) in said.looks
        more = [seed for seed in seeds if seed not in said.seeds and not grown]
        fewer = [seed for seed in said.seeds if seed not in seeds]
        lines += [f"Not promised: {_seeds(more)}."] if more else []
        lines += [f"Promised and left out: {_seeds(fewer)}."] if fewer else []
        if said.looks and not results.looks and not results.altered and results.verdicts:
            lines.append("The looks that were promised were not made, or were dropped: this is one test of all seeds.")
        made = [len(look.seeds) for look in results.looks]
        if made and made != [*said.looks[: len(made)]]:
            lines.append(f"The looks are not those that were promised: they were made at {_listed(made)} seeds.")
    lines += [line for line in (unplanned_look(results), versions(results)) if line]
    return [Items(tuple(lines))] if lines else []


def notes(results: Results) -> list[str]:
    """What has to be said where the verdicts are read: of readings, of early stops, of what is exploratory."""
    late = any(one.exploratory for one in results.verdicts)
    gone = len(results.dropped)
    dropped = f"Promised, but not claimed in this form: {tally(gone, 'claim')}, in the correction all the same."
    found = [_altered(results) if results.altered else "", lost_looks(results), EXPLORATORY if late else "",
             dropped if gone else "", unplanned_look(results), stopped_early(results)]  # fmt: skip
    return [text for text in found if text]


def family(results: Results) -> str:
    """How many claims there are of either kind and what became of them, in one line."""
    parts = []
    for late, kind in ((False, "claim"), (True, "exploratory claim")):
        words = Counter(one.verdict for one in results.verdicts if bool(one.exploratory) == late)
        if words:
            verdicts = ", ".join(f"{words[word]} {word}" for word in ("supported", "contradicted", "undecided"))
            parts.append(f"{tally(words.total(), kind)}: {verdicts}")
    return "; ".join(parts)


def _altered(results: Results) -> str:
    return f"What was promised cannot be told, so that every claim counts as exploratory: {results.altered}."


def lost_looks(results: Results) -> str:
    """That the looks are those which were promised, since the record of those which were made is gone; else empty."""
    lost = results.lost_looks
    return f"The looks are those that were promised, at the same levels: {lost}." if lost else ""


def unplanned_look(results: Results) -> str:
    """That verdicts were read before seeds were added, when, and what such readings do; empty if none were."""
    if not results.unplanned:
        return ""
    study = results.plan.study
    read = [f"at {_seeds(one.seeds)} ({one.time[:10]})" if one.seeds else "at seeds that a damaged row no longer tells"
            for one in results.unplanned]  # fmt: skip
    tests = [(len(one.seeds), 1 - LEVEL) for one in results.unplanned if one.seeds]
    looks = [(len(look.seeds), 1 - look.level) for look in results.looks]
    tests = sorted({*tests, *(looks or [(len(study.seeds), 1 - LEVEL)])})
    sizes, levels = [n for n, _ in tests], [level for _, level in tests]
    wrong = stopping.error(sizes, levels, one_sample=study.compare.pair_by != "none")
    return (
        f"Unplanned look{'s' if len(read) > 1 else ''}: the verdicts were read {_listed(read)}, and the seeds chosen "
        f"anew since. Each reading is a test of its own: of a claim with nothing to it, {100 * wrong:.0f} % of studies "
        f"read at {_listed(sizes)} seeds decide it at one of them (simulated), and not the 5 % of a single test. "
        "`--until-decided` plans its looks and shares the 5 % among them."
    )


def stopped_early(results: Results) -> str:
    """That the estimates of claims which an early look decided are too large, and by how much; empty if none were."""
    early = [one.claim.text for one in results.verdicts if one.early]
    if not early:
        return ""
    first = results.looks[0]
    numbers = range(1, first.looks + 1)
    sizes, levels = [len(first.seeds) * k for k in numbers], [spend(k, len(numbers)) for k in numbers]
    claims, paired = len(power.claims_of(results)), results.plan.study.compare.pair_by != "none"
    found = {shift: stopping.exaggeration(sizes, levels, shift, claims=claims, one_sample=paired) for shift in SHIFTS}
    told = [f"one of {shift:g} sd looked {times:.1f} times as large" for shift, times in found.items() if times]
    by = (
        f" Of simulated studies with these looks and {tally(claims, 'claim')} that stopped early, a true difference "
        f"counted in sd of the seeds' differences: {' and '.join(told)} on average."
        if told
        else ""
    )
    return (
        f"{tally(len(early), 'claim')} {'was' if len(early) == 1 else 'were'} decided before the last look. A look "
        "that stops because a difference is large selects large ones: the estimates of these claims, and every mean of "
        f"a study that ended there, are biased away from the margin (from 0 where there is none).{by} The intervals do "
        "not correct that; new seeds, or all looks, would."
    )


def versions(results: Results) -> str:
    """That the code was not the same in all runs or when the study was promised; empty if it was."""
    counts: Counter[str] = Counter()
    for record in results.records.values():
        counts.update({one.packages["residuum"] for one in record.environment if "residuum" in one.packages})
    said = results.prespecified
    if len({*counts, *([said.version] if said else [])} - {""}) < 2 or not counts:
        return ""
    by = _listed([f"{version} ({tally(count, 'run')})" for version, count in sorted(counts.items())])
    before = f"; the study was promised with {said.version}" if said else ""
    return f"The code has changed within this study: runs were computed with residuum {by}{before}."


def _seeds(seeds: Sequence[int]) -> str:
    return f"{tally(len(seeds), 'seed')} ({', '.join(map(str, seeds))})"


def _listed(parts: Sequence[object]) -> str:
    texts = [*map(str, parts)]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)

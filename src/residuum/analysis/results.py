"""Results: everything that the runs of a plan say, read from their folders and judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from residuum.analysis import per_class, selection
from residuum.analysis.aggregate import Status, Summary, Value, summarize
from residuum.analysis.claims import Verdict, verdicts
from residuum.analysis.compare import Comparison, Family, compare, holm
from residuum.analysis.estimate import LEVEL
from residuum.analysis.failures import Failures, count, some_did_not_train
from residuum.analysis.over_images import ImagePairs, SeedsAndImages, mcnemar, seeds_and_images
from residuum.analysis.selection import OnTest, Selection
from residuum.analysis.spending import spend
from residuum.errors import InputError, tally
from residuum.records import run_folder, shown
from residuum.records.measures import MEASURES, measure
from residuum.records.record import RunRecord, read_record
from residuum.studies import chosen, prespecified
from residuum.studies.plan import LOOKS, Look, Plan, folder_of, read_failed, read_looks
from residuum.studies.prespecified import Prespecified, Reading
from residuum.studies.study import Claim, Study

Lookup = Callable[[str, str], Summary]
T = TypeVar("T")
Scored = tuple[NDArray[np.bool_], NDArray[np.int64]]
"""Which test images a run got right after its last epoch, and their labels."""


@dataclass(frozen=True)
class Results:
    """What came out of a plan: records by run id, summaries of every measure that some run has, and the judgements.

    `looks` are those of seeds added in groups; empty without any. `failures` counts the runs of each arm that did not
    train. `images` compares arm and baseline, seed by seed, where both left their predictions on the same test images;
    a difference is positive there where the arm has the greater accuracy. What cannot be read of a run beside its
    record is missing there, and named in the record's `damaged`. `prespecified` is what was promised before the first
    run, None where nothing was, or where `altered` says what is wrong with the record of it; `lost_looks` says why the
    looks are those that were promised, not those on record; `unplanned` are readings of the verdicts at other seeds
    than these. `selection` is there in a study that chooses an arm by validation, whose
    records here are blind: the test images are in the selection alone.
    """

    plan: Plan
    records: Mapping[str, RunRecord]
    failed: Mapping[str, str]
    looks: tuple[Look, ...]
    summaries: Mapping[str, tuple[Summary, ...]]
    comparisons: tuple[Comparison, ...]
    failures: tuple[Failures, ...]
    images: tuple[tuple[str, str, int, ImagePairs], ...]
    verdicts: tuple[Verdict, ...]
    prespecified: Prespecified | None = None
    altered: str = ""
    lost_looks: str = ""
    unplanned: tuple[Reading, ...] = ()
    selection: Selection | None = None

    @property
    def dropped(self) -> tuple[Claim, ...]:
        """The promised claims that the study no longer makes."""
        return prespecified.dropped(self.plan.study, self.prespecified)

    def rests_on(self, one: Verdict) -> str:
        """What a verdict rests on, and what takes from it: it was not promised, was read before, or stopped early."""
        parts = [one.rests_on or f"n = {one.n}"]
        if self.unplanned and one.p is not None:
            parts.append(f"after {tally(len(self.unplanned), 'unplanned look')}")
        if one.early:
            biased = "small" if one.claim.operator == "=" else "large"
            parts.append(f"decided at an early look: the difference is on average too {biased}")
        if one.exploratory:
            parts.append(f"exploratory: {one.exploratory}")
        return "; ".join(parts)

    def _repr_html_(self) -> str:
        """The results in a notebook: the verdicts, and the compared measure of every arm."""
        about = MEASURES[self.plan.study.compare.measure]
        scaled = f", scaled by {self.plan.scale:.3g}" if self.plan.scale != 1 else ""
        judged = [
            (one.verdict + " (exploratory)" * bool(one.exploratory), one.claim.text, self.rests_on(one), one.reason)
            for one in self.verdicts
        ]
        measured = [
            (one.arm, _number(one.mean, about.digits),
             " to ".join(_number(end, about.digits) for end in about.possible(*one.interval)) if one.interval else "–",
             str(one.n))
            for one in self.summaries.get(about.name, ())
        ]  # fmt: skip
        columns = ("verdict", "claim", "rests on", "reason")
        parts = [shown.table(self.plan.study.question + scaled, columns, judged)] if judged else []
        heads = ("arm", "mean", "95 % interval", "runs")
        parts.append(shown.table(f"{about.text} ({about.unit}){scaled}", heads, measured))
        return "".join([*parts, *([shown.said(self._choice())] if self.selection else [])])

    def _choice(self) -> str:
        """Whether the test set is still unread, and if not, for which arm it was read and what came of it."""
        found = self.selection
        if found is None or found.chosen is None or found.test is None:
            return "The test set is still unread."
        errors = "; ".join(f"{name}: {_number(one.mean, 2)} %" for name, one in found.test.errors.items())
        return f"Chosen by validation error: {found.chosen.arm}. Test error, read once: {errors}."


def results(plan: Plan, runs: Path, *, level: float | None = None) -> Results:
    """The results of a plan whose run folders lie in `runs`, however many of its runs are there.

    `level` is that of the verdicts. Without one it is 95 %, or where seeds were added in groups, the one that each look
    was allowed: a claim that a look decided stays decided.

    A run whose record is damaged counts as failed.
    """
    study, beside = plan.study, folder_of(runs, plan.label)
    found: dict[str, RunRecord] = {}
    unreadable: dict[str, str] = {}
    for run in plan.runs:
        folder = runs / run.folder
        try:
            if (folder / run_folder.CONFIG).exists():
                record = read_record(folder)
                # What a search pruned goes on where a study asks for it, as what was stopped otherwise.
                found[run.id] = replace(record, status="stopped") if record.status == "pruned" else record
        except InputError as error:
            unreadable[run.id] = run_folder.without_path(folder, error)
    failed = read_failed(beside)
    folders = {run.id: runs / run.folder for run in plan.runs}
    failed = {id_: run_folder.without_path(folders[id_], reason) if id_ in folders else reason
              for id_, reason in failed.items() if id_ not in found or not found[id_].result} | unreadable  # fmt: skip
    promised, altered = _promised(beside)
    readings = prespecified.readings(beside)
    looks, lost = _looks(beside, study, promised, readings)
    damaged: dict[str, dict[str, None]] = {}

    # Who chooses by validation sees nothing of the test images before the one reading of them.
    seen = {id_: record.blind() for id_, record in found.items()} if study.select == "validation" else found

    def read(what: Callable[[RunRecord], T | None], id_: str, among: Mapping[str, RunRecord] = seen) -> T | None:
        """What is to be read of a run; None if it is not there or damaged, which is noted."""
        try:
            return what(among[id_]) if id_ in found else None
        except InputError as error:
            line = run_folder.without_path(found[id_].folder, error)
            damaged.setdefault(id_, {})[line] = None
            return None

    def summed(arm: str, measure: str, among: Mapping[str, RunRecord]) -> Summary:
        values, what = [], MEASURES[measure]
        for run in plan.runs_of.get(arm, ()):
            status = "failed" if run.id in failed else found[run.id].status if run.id in found else "missing"
            # On the images that judge the arms, wherever the value is from: a run trained or did not.
            trained = read(what.trained, run.id) is not False
            values.append(Value(run.seed, run.id, cast(Status, status), read(what.of, run.id, among), trained))
        return summarize(arm, measure, values)

    summary = cache(lambda arm, measure: summed(arm, measure, seen))

    asked = {study.compare.measure, *(one.measure for one in study.claims), *(one.measure for one in study.published)}
    measures = [name for name, one in MEASURES.items() if name in asked or not one.slow]
    summaries = {name: tuple(summary(arm.name, name) for arm in plan.arms) for name in measures}
    scores = cache(lambda id_: read(_scored, id_))
    judged = _verdicts(
        plan,
        summary,
        looks if level is None else (),
        LEVEL if level is None else level,
        promised,
        altered,
        [seed for one in readings for seed in one.seeds],
    )
    judged = tuple(_on_images(plan, summary, one, scores) for one in judged)
    comparisons = tuple(
        replace(
            one, on_images=_two_way(plan, summary(one.arm, one.measure), summary(one.baseline, one.measure), scores)
        )
        for one in _comparisons(plan, summary, judged)
    )
    images = _images(plan, comparisons, scores) if study.select == "none" else ()
    errors = cache(lambda arm, measure: summed(arm, measure, found))
    selection = None if study.select == "none" else _selection(plan, beside, found, summary, errors, scores)
    return Results(
        plan=plan,
        records={id_: replace(record, damaged=(*record.damaged, *damaged.get(id_, ())))
                 for id_, record in seen.items()},
        failed=failed,
        looks=looks,
        summaries={name: row for name, row in summaries.items() if any(one.n for one in row)},
        comparisons=comparisons,
        images=images,
        failures=_failures(plan, summary),
        verdicts=judged,
        prespecified=promised,
        altered=altered,
        lost_looks=lost,
        unplanned=prespecified.unplanned(readings, study.seeds, looked=bool(looks)),
        selection=selection,
    )  # fmt: skip


def _selection(
    plan: Plan,
    beside: Path,
    found: Mapping[str, RunRecord],
    summary: Lookup,
    errors: Lookup,
    scored: Callable[[str], Scored | None],
) -> Selection:
    """Which arm is chosen, and its reading of the test set; `errors` alone knows the test images."""
    validation = [summary(arm.name, selection.JUDGED_BY) for arm in plan.arms]
    missing = sum(run.id not in found or not found[run.id].result for run in plan.runs)
    made, best = chosen.read(beside), selection.best(selection.means(validation))
    if made is None:
        return Selection(missing, best)
    runs = {name: [run.id for run in plan.runs_of.get(name, ())] for name in (made.arm, made.baseline)}
    kept = _seen(errors, {*made.seeds})
    test = {name: kept(name, "test_error") for name in runs}
    if any(one.value is None for side in test.values() for one in side.values if one.status == "finished"):
        return Selection(missing, best, made)
    arm, baseline, own = test[made.arm], test[made.baseline], {id_ for ids in runs.values() for id_ in ids}
    compared = compare(arm, baseline, paired=_is_paired(plan)) if len(test) == 2 else None
    read = OnTest(
        errors=test,
        comparison=compared and replace(compared, on_images=_two_way(plan, arm, baseline, scored)),
        reads={name: sum(found[id_].test_reads for id_ in {*ids} if id_ in found) for name, ids in runs.items()},
        others=sum(record.test_reads > 0 for id_, record in found.items() if id_ not in own),
    )
    return Selection(missing, best, made, read)


def note_reading(found: Results, runs: Path) -> None:
    """Record that results were read, if there are any; never fails, and looks that were planned are no readings."""
    if any(record.result for record in found.records.values()):
        prespecified.note_reading(found.plan, runs, planned=bool(found.looks))


def _promised(folder: Path) -> tuple[Prespecified | None, str]:
    """What was promised before the first run, and what is wrong with the record of it."""
    try:
        return prespecified.read(folder), ""
    except InputError as error:
        return None, run_folder.without_path(folder, error)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _looks(
    folder: Path, study: Study, promised: Prespecified | None, readings: Sequence[Reading]
) -> tuple[tuple[Look, ...], str]:
    """The looks at a study that grew; none if the plan was since written anew with other seeds.

    Where their record is gone or damaged, which is said, they follow from what was promised.
    """
    try:
        looks = read_looks(folder)
        lost = "" if looks else f"{LOOKS} is missing"
    except InputError as error:
        if promised is None:
            raise
        looks, lost = (), run_folder.without_path(folder, error)
    if looks:
        return looks if {*looks[-1].seeds} <= {*study.seeds} else (), ""
    sizes = promised.looks if promised else ()
    grew = len(study.seeds) in sizes[1:] or (sizes and any(one.planned for one in readings))
    made = [Look(number, len(sizes), study.seeds[:size], 1 - spend(number, len(sizes)), {})
            for number, size in enumerate(sizes, start=1) if grew and size <= len(study.seeds)]  # fmt: skip
    return tuple(made), lost if made else ""


def _is_paired(plan: Plan) -> bool:
    return plan.study.compare.pair_by != "none"


def _comparisons(plan: Plan, summary: Lookup, judged: Sequence[Verdict]) -> tuple[Comparison, ...]:
    """Every pair that the study compares. What is a claim has that claim's p; Holm's correction is over the others."""
    measure = plan.study.compare.measure
    made = [compare(summary(arm, measure), summary(other, measure), paired=_is_paired(plan))
            for arm, other in plan.study.compared()]  # fmt: skip
    claimed = [_claimed(one, judged) for one in made]
    adjusted = holm([None if verdict else one.p for one, verdict in zip(made, claimed, strict=True)])
    return tuple(
        replace(one, p_holm=verdict.p_holm if verdict else p, family=_family(verdict))
        for one, verdict, p in zip(made, claimed, adjusted, strict=True)
    )


def _claimed(one: Comparison, judged: Sequence[Verdict]) -> Verdict | None:
    """The verdict on the claim that is the hypothesis of a comparison: that the two differ, by no margin or factor."""
    for verdict in judged:
        claim = verdict.claim
        same = {claim.left, claim.right} == {one.arm, one.baseline} and claim.measure == one.measure
        if same and claim.operator != "=" and not claim.margin and claim.factor is None:
            return verdict
    return None


def _family(verdict: Verdict | None) -> Family:
    return "exploratory" if verdict is None else "exploratory claim" if verdict.exploratory else "claim"


def _failures(plan: Plan, summary: Lookup) -> tuple[Failures, ...]:
    """How many runs of each arm did not train, against its baseline; empty where nobody trains."""
    if plan.study.is_initial:
        return ()
    arms = plan.study.arms()
    found = []
    for arm in arms:
        baseline = plan.study.baseline_of(arm, arms)
        found.append(count(summary(arm.name, "trained"), summary(baseline.name, "trained") if baseline else None))
    return tuple(found)


def _images(
    plan: Plan, comparisons: tuple[Comparison, ...], scored: Callable[[str], Scored | None]
) -> tuple[tuple[str, str, int, ImagePairs], ...]:
    """The runs of each comparison, seed by seed, image by image; p is corrected for all of them together."""
    ids = {(run.arm, run.seed): run.id for run in plan.runs}
    made = []
    for one in comparisons:
        for seed in plan.study.seeds:
            first, second = (scored(ids[name, seed]) for name in (one.arm, one.baseline))
            if first is not None and second is not None and np.array_equal(first[1], second[1]):
                made.append((one.arm, one.baseline, seed, mcnemar(first[0], second[0])))
    adjusted = holm([pairs.p for *_, pairs in made])
    return tuple((arm, baseline, seed, replace(pairs, p_holm=p))
                 for (arm, baseline, seed, pairs), p in zip(made, adjusted, strict=True))  # fmt: skip


def _two_way(
    plan: Plan, arm: Summary, baseline: Summary, scored: Callable[[str], Scored | None]
) -> SeedsAndImages | None:
    """The difference of two arms over seeds and test images; None unless every run that has a value left predictions.

    Nor where runs did not train, of whose spread over seeds no variance tells.
    """
    if arm.measure not in ("test_error", "test_accuracy") or min(arm.n, baseline.n) < 2:
        return None
    if some_did_not_train((arm, baseline)):
        return None
    sides = [{one.seed: one.run for one in side.values if one.value is not None} for side in (arm, baseline)]
    if _is_paired(plan):
        both = sides[0].keys() & sides[1].keys()
        sides = [{seed: side[seed] for seed in sorted(both)} for side in sides]
    read = [[scored(run) for run in side.values()] for side in sides]
    found = [[one for one in side if one is not None] for side in read]
    if any(len(side) < max(2, len(all_)) for side, all_ in zip(found, read, strict=True)):
        return None
    labels_N = found[0][0][1]
    if not all(np.array_equal(labels_N, one[1]) for side in found for one in side):
        return None
    right = [np.stack([one[0] for one in side]) for side in found]
    tables = right if arm.measure == "test_accuracy" else [~one for one in right]
    return seeds_and_images(*tables, paired=_is_paired(plan))


def _on_images(plan: Plan, summary: Lookup, one: Verdict, scored: Callable[[str], Scored | None]) -> Verdict:
    """A verdict with a mark where other test images might have turned it round."""
    claim = one.claim
    if one.verdict == "undecided" or not isinstance(claim.right, str) or one.difference is None:
        return one
    found = _two_way(plan, summary(claim.left, claim.measure), summary(claim.right, claim.measure), scored)
    bounds = {">": [claim.margin], "<": [-claim.margin], "=": [-claim.margin, claim.margin]}[claim.operator]
    if found is None or not any(found.only_images[0] <= bound <= found.only_images[1] for bound in bounds):
        return one
    return replace(one, rests_on=f"{one.rests_on}, not beyond what {tally(found.images, 'test image')} can tell")


def _scored(record: RunRecord) -> Scored | None:
    if not per_class.path_of(record, "last").exists():
        return None
    predictions = per_class.read(record)
    return predictions.right_N, predictions.labels_N


def _verdicts(
    plan: Plan,
    summary: Lookup,
    looks: tuple[Look, ...],
    level: float,
    promised: Prespecified | None,
    altered: str,
    read: Sequence[int],
) -> tuple[Verdict, ...]:
    """The verdict on every claim: those that were promised share one correction, those that came later come after all.

    A claim that came later is corrected for the promised ones as well: changing a claim must not make it easier.
    """
    study = plan.study
    why = (altered,) * len(study.claims) if altered else prespecified.exploratory(study, promised, read)
    parts = [[claim for claim, reason in zip(study.claims, why, strict=True) if bool(reason) == late]
             for late in (False, True)]  # fmt: skip
    # What was promised counts in the correction, even where the study no longer claims it so; but no claim twice, and
    # none that no test is made for.
    tested = {one.statement for one in promised.claims if not measure(one.measure).exact} if promised else set()
    judged = [
        one
        for part in parts
        for one in _judged(plan, part, summary, looks, level, len(tested - {claim.statement for claim in part}))
    ]
    found = {one.claim.statement: one for one in judged}
    return tuple(replace(found[claim.statement], exploratory=reason)
                 for claim, reason in zip(study.claims, why, strict=True))  # fmt: skip


def _judged(
    plan: Plan,
    claims: Sequence[Claim],
    summary: Lookup,
    looks: tuple[Look, ...],
    level: float,
    dropped: int = 0,
) -> tuple[Verdict, ...]:
    """The verdicts on all runs at `level`; or at each look on the seeds it had, where the first decision stands."""
    paired = _is_paired(plan)
    if not looks:
        return verdicts(claims, summary, paired=paired, level=level, dropped=dropped)
    standing: tuple[Verdict, ...] = ()
    for look in looks:
        seen = _seen(summary, {*look.seeds})
        fresh = verdicts(claims, seen, paired=paired, level=look.level, dropped=dropped)
        at = f"; look {look.look} of {look.looks}, where p has to be below {1 - look.level:.2g}"
        early = look.look < look.looks
        fresh = tuple(
            replace(one, reason=one.reason + at, early=early and one.verdict != "undecided" and one.p is not None)
            for one in fresh
        )
        standing = tuple(
            old if old.verdict != "undecided" else new for old, new in zip(standing or fresh, fresh, strict=True)
        )
    return standing


def _seen(summary: Lookup, seeds: set[int]) -> Lookup:
    """The summaries of some seeds alone."""
    return lambda arm, measure: summarize(arm, measure, [v for v in summary(arm, measure).values if v.seed in seeds])

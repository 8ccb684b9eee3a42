"""Results: everything that the runs of a plan say, read from their folders and judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from residuum.analysis.aggregate import Status, Summary, Value, summarize
from residuum.analysis.claims import Verdict, verdicts
from residuum.analysis.compare import Comparison, compare, holm
from residuum.analysis.estimate import LEVEL
from residuum.analysis.images import ImagePairs, mcnemar
from residuum.errors import InputError
from residuum.records import folder as run_folder
from residuum.records import storage
from residuum.records.measures import MEASURES
from residuum.records.record import RunRecord, read_record
from residuum.studies.plan import FAILED, LOOKS, Plan, PlannedRun, folder_of

SLOW = frozenset({"gradient_variation"})
"""Measures that read a row for every update: taken only where the study asks for them."""

Lookup = Callable[[str, str], Summary]


@dataclass(frozen=True)
class Results:
    """What came out of a plan: records by run id, summaries of every measure that some run has, and the judgements.

    `looks` are those of seeds added in groups; empty without any. `images` compares arm and baseline, seed by seed,
    where both left their predictions on the same test images.
    """

    plan: Plan
    records: Mapping[str, RunRecord]
    failed: Mapping[str, str]
    looks: tuple[dict[str, Any], ...]
    summaries: Mapping[str, tuple[Summary, ...]]
    comparisons: tuple[Comparison, ...]
    images: tuple[tuple[str, str, int, ImagePairs], ...]
    verdicts: tuple[Verdict, ...]


def results(plan: Plan, root: Path, *, level: float | None = None) -> Results:
    """The results of a plan whose run folders lie in `root`, however many of its runs are there.

    `level` is that of the verdicts. Without one it is 95 %, or where seeds were added in groups, the one that each look
    was allowed: a claim that a look decided stays decided.

    Raises:
        InputError: a run folder is damaged.
    """
    study, beside = plan.study, folder_of(root, plan.label)
    found = {run.id: read_record(root / run.folder) for run in plan.runs
             if (root / run.folder / run_folder.CONFIG).exists()}  # fmt: skip
    failed: dict[str, str] = storage.read_json(beside / FAILED) if (beside / FAILED).exists() else {}
    failed = {id_: reason for id_, reason in failed.items() if id_ not in found or not found[id_].result}
    looks = _looks(beside / LOOKS, set(study.seeds))

    @cache
    def summary(arm: str, measure: str) -> Summary:
        runs = (run for run in plan.runs if run.arm == arm)
        return summarize(arm, measure, [_value(run, measure, found.get(run.id), run.id in failed) for run in runs])

    asked = {study.compare.measure, *(one.measure for one in study.claims), *(one.measure for one in study.published)}
    measures = [name for name in MEASURES if name in asked or name not in SLOW]
    summaries = {name: tuple(summary(arm.name, name) for arm in plan.arms) for name in measures}
    comparisons = _comparisons(plan, summary)
    return Results(
        plan=plan,
        records=found,
        failed=failed,
        looks=looks,
        summaries={name: row for name, row in summaries.items() if any(one.n for one in row)},
        comparisons=comparisons,
        images=_images(plan, comparisons, root),
        verdicts=_verdicts(plan, summary, looks if level is None else (), LEVEL if level is None else level),
    )


def _looks(path: Path, seeds: set[int]) -> tuple[dict[str, Any], ...]:
    """The looks at a study that grew; none if the plan was since written anew with other seeds."""
    looks = storage.read_json(path) if path.exists() else []
    return tuple(looks) if looks and {*looks[-1]["seeds"]} <= seeds else ()


def _value(run: PlannedRun, measure: str, record: RunRecord | None, failed: bool) -> Value:
    status = "failed" if failed else "missing" if record is None else cast(Status, record.status)
    return Value(run.seed, run.id, status, None if record is None else MEASURES[measure].of(record))


def _is_paired(plan: Plan) -> bool:
    return plan.study.compare.pair_by != "none"


def _comparisons(plan: Plan, summary: Lookup) -> tuple[Comparison, ...]:
    """Each arm against its baseline, with Holm's correction over all of them."""
    arms, measure, made = plan.study.arms(), plan.study.compare.measure, []
    for arm in arms:
        baseline = plan.study.baseline_of(arm, arms)
        if baseline is not None:
            sides = summary(arm.name, measure), summary(baseline.name, measure)
            made.append(compare(*sides, paired=_is_paired(plan)))
    adjusted = holm([one.p_t for one in made])
    return tuple(replace(one, p_holm=p) for one, p in zip(made, adjusted, strict=True))


def _images(
    plan: Plan, comparisons: tuple[Comparison, ...], root: Path
) -> tuple[tuple[str, str, int, ImagePairs], ...]:
    """The runs of each comparison, seed by seed, image by image."""
    folders = {(run.arm, run.seed): root / run.folder for run in plan.runs}
    scored = cache(_scored)
    made = []
    for one in comparisons:
        for seed in plan.study.seeds:
            first, second = (scored(folders[name, seed]) for name in (one.arm, one.baseline))
            if first is not None and second is not None and np.array_equal(first[1], second[1]):
                made.append((one.arm, one.baseline, seed, mcnemar(first[0], second[0])))
    return tuple(made)


def _scored(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """Which test images a run got right after its last epoch, and their labels; None without predictions."""
    path = folder / "predictions" / "last.safetensors"
    if not path.exists():
        return None
    try:
        tensors = load_file(path)
        labels_N = tensors["labels_N"]
        return tensors["logits_NK"].argmax(axis=1) == labels_N, labels_N
    except (SafetensorError, KeyError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def _verdicts(plan: Plan, summary: Lookup, looks: tuple[dict[str, Any], ...], level: float) -> tuple[Verdict, ...]:
    """The verdicts on all runs at `level`; or at each look on the seeds it had, where the first decision stands."""
    claims, paired = plan.study.claims, _is_paired(plan)
    if not looks:
        return verdicts(claims, summary, paired=paired, level=level)
    standing: tuple[Verdict, ...] = ()
    for look in looks:
        fresh = verdicts(claims, _seen(summary, {*look["seeds"]}), paired=paired, level=look["level"])
        at = f"; look {look['look']} of {look['looks']}"
        fresh = tuple(replace(one, reason=one.reason + at) for one in fresh)
        standing = tuple(
            old if old.verdict != "undecided" else new for old, new in zip(standing or fresh, fresh, strict=True)
        )
    return standing


def _seen(summary: Lookup, seeds: set[int]) -> Lookup:
    """The summaries of some seeds alone."""
    return lambda arm, measure: summarize(arm, measure, [v for v in summary(arm, measure).values if v.seed in seeds])

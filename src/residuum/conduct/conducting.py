"""Conducting a study: run, gone on with, and given more seeds until its claims are decided."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from residuum.analysis import power
from residuum.analysis.power import Promise
from residuum.analysis.results import results
from residuum.analysis.selection import JUDGED_BY, means
from residuum.analysis.spending import spend
from residuum.conduct.launchers import launch_of
from residuum.conduct.launchers.launcher import Job, JobEvent, JobFailed, Launch, Room, Said
from residuum.conduct.packing import cards
from residuum.conduct.planning import with_seeds
from residuum.errors import InputError, Remedy, StorageError, quoted
from residuum.records import mirror, run_folder, storage
from residuum.records.event import Finished
from residuum.studies import chosen
from residuum.studies import plan as plans
from residuum.studies.chosen import Chosen
from residuum.studies.plan import Look, Plan, PlannedRun
from residuum.studies.prespecified import prespecify

GROUPS = 4
"""Looks at the data that `until_decided` allows itself, the first included."""


def run(plan: Plan, runs: Path, room: Room, launcher: str = "processes") -> Iterator[Said | Plan]:
    """Compute the runs of a plan that are not in the store, seed by seed, so that what is there is always balanced.

    They are computed in `room`, whose GPUs are found here, by a launcher. The plan itself is what is said first.

    Raises:
        InputError: a launcher that is not there, or settings have to be searched for before.
        StoppedError: a signal; the states are saved and the same call goes on.
        StorageError: the disk is full.
    """
    launch = launch_of(launcher)
    looks = plans.folder_of(runs, plan.label) / plans.LOOKS
    if looks.exists():
        raise InputError(
            f"{plan.label} was grown until it was decided: a test of some of its seeds would undo what its looks spent",
            remedies=[Remedy("until decided")],
        )
    yield from _computed(plan, runs, room, launch)
    yield from _read_test_set(plan, runs, room, launch)


def _computed(plan: Plan, runs: Path, room: Room, launch: Launch, looks: Sequence[int] = ()) -> Iterator[Said | Plan]:
    """Compute what is missing of a plan; what it promises, `looks` among it, is recorded before its first run."""
    if plan.missing:
        raise InputError(f"the images of {' and '.join(plan.missing)} are not here", remedies=[Remedy("data here")])
    if plan.study.search:
        raise InputError(f"study {quoted(plan.study.name)} searches for settings", remedies=[Remedy("search")])
    yield plan
    prespecify(plan, runs, looks)
    plans.write(plan, runs)
    if room.store:  # before the first run: it is a promise
        mirror.give(mirror.store_of(room.store), runs, [_study(plan)])
    with storage.attending(plans.folder_of(runs, plan.label)):
        yield from _launched(plan, plan.runs, runs, room, launch)


def _launched(plan: Plan, planned: Sequence[PlannedRun], runs: Path, room: Room, launch: Launch) -> Iterator[Said]:
    """Compute what is not there of some runs of a plan; those that fail now are written down beside it."""
    path = plans.folder_of(runs, plan.label) / plans.FAILED
    failed: dict[str, str] = {}
    with storage.storing(path):
        path.unlink(missing_ok=True)  # what failed before is tried again
    work = {arm.name: arm.work for arm in plan.arms}
    place = {seed: number for number, seed in enumerate(plan.study.seeds)}
    todo = [one for one in planned if not plans.is_complete(one, runs)]
    todo.sort(key=lambda one: (place[one.seed], -work[one.arm]))
    # Two arms may ask for the same run, as the baseline of two questions.
    asked = {one.id: one for one in todo}
    jobs = [Job(id_, one.config, plan.study.base) for id_, one in asked.items()]
    on = max((cards(device) for device in {job.config.compute.device for job in jobs}), key=len, default=[])
    written = 0
    try:
        for said in launch(jobs, runs, replace(room, cards=on)):
            if isinstance(said, JobFailed):
                failed[said.id] = said.reason
                # At each of the first, then after a tenth more of them: the file is written whole each time.
                if len(failed) >= 1.1 * written:
                    storage.write_json(path, failed)
                    written = len(failed)
            elif isinstance(said, JobEvent) and isinstance(said.event, Finished) and room.store:
                with suppress(StorageError):  # it is tried again at the end
                    _fetch([asked[said.id]], runs, room.store)
            yield said
    finally:
        if len(failed) > written:
            storage.write_json(path, failed)
    if room.store:
        _fetch([one for one in todo if one.id not in failed], runs, room.store)


def fetch(plan: Plan, runs: Path, url: str) -> None:
    """Bring here what a store has of a study, so that it goes on where it stands: its plan, and the runs' records.

    Raises:
        StorageError: the store cannot be reached.
    """
    store = mirror.store_of(url)
    there = mirror.folders(store, [_study(plan), *(run.folder for run in plan.runs)])
    for name, files in there.items():
        if name == _study(plan) or run_folder.RESULT in files:
            mirror.pull(store, name, runs / name, files, weights=False)


def _fetch(planned: Sequence[PlannedRun], runs: Path, url: str) -> None:
    """Bring here the records of runs that were computed elsewhere."""
    missing = [run.folder for run in planned if not plans.is_complete(run, runs)]
    store = mirror.store_of(url)
    for name, files in mirror.folders(store, missing).items() if missing else ():
        mirror.pull(store, name, runs / name, files, weights=False)


def fetch_inside(plan: Plan, runs: Path, url: str) -> None:
    """Bring here the weights of the runs of a study that are looked into: the first finished one of an arm."""
    store = mirror.store_of(url)
    for arm in plan.study.inside:
        ended = ((run.folder, run_folder.result_of(runs / run.folder)) for run in plan.runs if run.arm == arm)
        for name in [name for name, found in ended if found is not None and found.status == "finished"][:1]:
            mirror.pull(store, name, runs / name)


def give(plan: Plan, runs: Path, url: str) -> None:
    """Bring to a store what was added here to a study, and what it lacks of the runs.

    Raises:
        StorageError: the store cannot be reached.
    """
    names = dict.fromkeys([*(run.folder for run in plan.runs), _study(plan)])
    mirror.give(mirror.store_of(url), runs, [name for name in names if (runs / name).is_dir()])


def _study(plan: Plan) -> str:
    """The name of a study's folder in a store."""
    return f"{plans.PLANS}/{plan.label}"


def _read_test_set(plan: Plan, runs: Path, room: Room, launch: Launch) -> Iterator[Said]:
    """Read the test set for the arm that validation has chosen and for its baseline, once all runs are there.

    The choice is written down before, and stands: more seeds choose no other arm, and are not read.
    """
    if plan.study.select == "none" or plan.study.only:  # some of the arms: the whole study chooses among all
        return
    made = _chosen(plan, runs)
    if made is None:
        return
    asked = [one for one in plan.runs if one.arm in (made.arm, made.baseline) and one.seed in made.seeds]
    reading = [
        replace(one, config=one.config.changed({"monitor.final_test": True}))
        for one in asked
        if run_folder.is_complete(runs / one.folder)
    ]
    if not all(plans.is_complete(one, runs) for one in reading):
        yield from _launched(plan, reading, runs, room, launch)


def _chosen(plan: Plan, runs: Path) -> Chosen | None:
    """The choice that was made, or is made now; None where runs are missing, or there is nothing to choose."""
    found = results(plan, runs)
    assert found.selection is not None
    stands, best, arms = found.selection.chosen, found.selection.best, plan.study.arms()
    if stands is not None or best is None or found.selection.missing or not plan.study.compare.baseline:
        return stands
    baseline = plan.study.baseline_of(next(arm for arm in arms if arm.name == best), arms)
    made = Chosen(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        arm=best,
        baseline=baseline.name if baseline else best,
        seeds=plan.study.seeds,
        validation=means(found.summaries[JUDGED_BY]),
        runs=len(found.records),
        read_before=sum(record.test_reads > 0 for record in found.records.values()),
    )
    chosen.write(made, plans.folder_of(runs, plan.label))
    return made


def until_decided(
    plan_: Plan, runs: Path, room: Room, launcher: str = "processes", *, budget: float | None
) -> Iterator[Said | Plan | Look]:
    """Run a plan, then look, then add as many seeds again until each claim is decided or looks or budget end.

    The error probability of 5 % is spent over the looks (`analysis.spending`): a claim that is decided at a look
    stays decided, and at no look is its interval narrower than its share of the 5 % allows.
    """
    launch = launch_of(launcher)
    began, group = time.monotonic(), len(plan_.study.seeds)
    sizes = [group * number for number in range(1, GROUPS + 1)]
    read_before = _read_before(plan_, runs)
    looks: list[Look] = []
    decided: dict[str, str] = {}
    for number in range(1, GROUPS + 1):
        took = time.monotonic()
        yield from _computed(plan_, runs, room, launch, sizes)
        took = time.monotonic() - took
        level = 1 - spend(number, GROUPS)
        for verdict in results(plan_, runs, level=level).verdicts:
            if verdict.verdict != "undecided":
                decided.setdefault(verdict.claim.text, verdict.verdict)
        looks.append(Look(number, GROUPS, plan_.study.seeds, level, dict(decided), read_before))
        storage.write_json(plans.folder_of(runs, plan_.label) / plans.LOOKS, [asdict(look) for look in looks])
        yield looks[-1]
        spent = time.monotonic() - began
        if len(decided) == len(plan_.study.claims) or (budget is not None and spent + took > budget):
            break
        if number < GROUPS:
            plan_ = with_seeds(plan_, group)
    yield from _read_test_set(plan_, runs, room, launch)


def _read_before(plan: Plan, runs: Path) -> bool:
    """Whether somebody may have read verdicts at the fixed level before the first look at a plan's runs.

    They may where all its runs are there, or all those of an earlier plan with fewer seeds. Looks that were begun
    remember how it was before the first of them.
    """
    folder = plans.folder_of(runs, plan.label)
    looks = plans.read_looks(folder)
    if looks and looks[0].seeds == plan.study.seeds:
        return looks[0].read_before
    earlier = [plans.read(folder)] if (folder / plans.PLAN).exists() else []
    tested = [one for one in (plan, *earlier) if {run.id for run in one.runs} <= {run.id for run in plan.runs}]
    return any(all(plans.is_complete(run, runs) for run in one.runs) for one in tested)


def promises(plan_: Plan, runs: Path, *, grown: bool = False, sd: float | None = None) -> tuple[Promise, ...]:
    """What the verdicts of a plan can show, from the runs in the store as far as they go.

    `grown`: with the looks of `until_decided`, the plan's seeds being those of the first.
    """
    n = len(plan_.study.seeds)
    looks = range(1, GROUPS + 1) if grown else range(1, 2)
    levels = [spend(look, GROUPS) for look in looks] if grown else [0.05]
    return power.promises(results(plan_, runs), [n * look for look in looks], levels, sd)

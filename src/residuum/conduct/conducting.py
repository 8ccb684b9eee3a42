"""Conducting a study: planned with its cost, run, gone on with, and given more seeds until its claims are decided.

`plan` makes a study concrete, `estimate` says what it will take, `run` computes what is not in the store yet.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

from residuum import optim
from residuum.analysis import power
from residuum.analysis.power import Promise
from residuum.analysis.results import results
from residuum.analysis.selection import JUDGED_BY, means
from residuum.conduct.launchers import processes
from residuum.conduct.launchers.processes import Job, JobFailed, Said
from residuum.conduct.packing import (
    Pace,
    Packing,
    cards,
    least_seconds,
    start_seconds,
    step_seconds,
    usable_cores,
)
from residuum.config import RunConfig, identity
from residuum.data import datasets
from residuum.data.augment import AUGMENTATIONS
from residuum.data.dataset import Dataset
from residuum.data.normalize import NORMALIZERS
from residuum.engine.compute import usual_threads
from residuum.errors import InputError, Remedy, unknown
from residuum.models.summary import Summary, summarize
from residuum.records import run_folder, storage
from residuum.registry import Choice, Table
from residuum.run import assemble
from residuum.studies import chosen
from residuum.studies import plan as plans
from residuum.studies.chosen import Chosen
from residuum.studies.plan import Look, Plan, PlannedArm, PlannedRun
from residuum.studies.prespecified import prespecify
from residuum.studies.study import Protocol, Study, StudyError, check_claims

PROTOCOL_TABLES: Mapping[str, Table[Any]] = {
    "schedule": optim.SCHEDULES, "optimizer": optim.OPTIMIZERS, "augment": AUGMENTATIONS, "normalize": NORMALIZERS,
}  # fmt: skip
"""The tables from which protocols of published numbers choose."""

GROUPS = 4
"""Looks at the data that `until_decided` allows itself, the first included."""


@dataclass(frozen=True)
class Estimate:
    """What the runs of a plan take on this machine, in seconds: a run of each arm, all runs, and those still to do.

    `start` is the start of the worker process, once in each sum; loading the data is in every run. `spread` is the
    relative half-width of the calibration's time of an update: the error of the estimate as far as the calibration,
    which took `measured` seconds, can see it. `run` assumes one run at a time, on all cores; in the sums the runs are
    packed, which makes them `gain` times as fast, but never faster than the longest of them alone. `load` is the load
    of the machine in the minute before: above `cores`, those of this process, others had a part of them, and the
    estimate is too high. `scaled` of the `networks` (with their batch) were not measured but scaled by multiply-adds
    from others.
    """

    run: Mapping[str, float]
    start: float
    total: float
    remaining: float
    spread: float
    measured: float
    load: float
    cores: int
    networks: int
    scaled: int
    gain: float = 1.0


def plan(study: Study, settings: Mapping[str, Any], *, scale: float = 1.0, gave_up: Sequence[str] = ()) -> Plan:
    """A study made concrete: every arm resolved and checked, every run with its id.

    `settings` are the user's changes for all arms. `scale` shortens every run to that share of its epochs and keeps
    the schedule's shape.

    Raises:
        InputError: anything that a run of any arm would stumble over.
    """
    if not 0 < scale <= 1:
        raise InputError(f"{scale:g} is not a share above 0 and up to 1", argument="scale")
    changed = study.changed(settings)
    check_protocols(changed)
    arms, runs = [], []
    whole: dict[str, RunConfig] = {}
    loaded: dict[str, Dataset] = {}
    for arm in changed.arms():
        try:
            whole[arm.name], data = _resolved(arm.config, loaded)
            config = shortened(whole[arm.name], scale)
            training, _ = assemble.training(config, data)
        except InputError as error:
            raise InputError(f"arm {arm.name!r}: {error.text}", remedies=error.remedies) from error
        cost: Summary = summarize(training.network, data.shape)
        steps = training.batches.steps_per_epoch
        test = len(data.dataset.test) if config.monitor.test else 0
        arms.append(
            PlannedArm(
                name=arm.name,
                settings=arm.settings,
                parameters=cost.parameters,
                macs=cost.macs,
                epochs=config.train.epochs,
                steps_per_epoch=steps,
                evaluated=len(data.validation_N) + test,
                family=arm.family,
                cell=arm.cell,
            )
        )
        runs += [_planned_run(arm.name, config, seed) for seed in changed.seeds]
    check_claims(changed, whole)
    return Plan(changed, _label(study, changed, scale), scale, dict(settings), tuple(gave_up), tuple(arms), tuple(runs))


def _planned_run(arm: str, config: RunConfig, seed: int) -> PlannedRun:
    """The run of an arm's resolved configuration with a seed."""
    seeded = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
    folder = run_folder.folder_of(Path(), seeded).name
    return PlannedRun(arm, seed, identity(seeded), folder, seeded.model_dump(mode="json"))


def _arm_configs(plan: Plan) -> dict[str, RunConfig]:
    """The resolved configuration of every arm, with the first of its seeds."""
    first = {run.arm: run for run in reversed(plan.runs)}
    return {arm.name: RunConfig.of(first[arm.name].config) for arm in plan.arms}


def _resolved(config: RunConfig, loaded: dict[str, Dataset]) -> tuple[RunConfig, assemble.Data]:
    """The resolved configuration and its data; a data set that several arms share is read once."""
    key = _source(config)
    resolved, data = assemble.resolve(config, loaded.get(key))
    loaded[key] = data.dataset
    return resolved, data


def _source(config: RunConfig) -> str:
    """Which data set a configuration asks for, and where it lies."""
    return json.dumps([config.data.dataset.model_dump(mode="json"), config.data.root])


def shortened(config: RunConfig, scale: float) -> RunConfig:
    """A resolved configuration with its epochs scaled, one at least, and the shape of its schedule and warm-up kept."""
    epochs = max(1, round(config.train.epochs * scale))
    if epochs == config.train.epochs:
        return config
    o, old = config.optim, config.train.epochs
    changed = {"schedule": optim.shortened(o.schedule, old, epochs)}
    warmup = {"warmup": optim.shortened_time(o.warmup, old, epochs)} if o.warmup else {}
    return config.model_copy(
        update={
            "optim": o.model_copy(update={**changed, **warmup}),
            "train": config.train.model_copy(update={"epochs": epochs}),
        }
    )


def _configs(study: Study) -> list[RunConfig]:
    """The configurations of a study's arms, without where the data lies."""
    datas = ((arm.config, arm.config.data.model_copy(update={"root": ""})) for arm in study.arms())
    return [config.model_copy(update={"data": data}) for config, data in datas]


def _label(study: Study, changed: Study, scale: float) -> str:
    """The name of the study, with a hash of what was changed where that changes its runs.

    Where the data lies does not; nor do more seeds, with which the same study goes on.
    """
    usual = _configs(study)
    own = {path: value for path, value in changed.settings.items() if study.settings.get(path) != value}
    differing = {path: value for path, value in own.items() if _configs(study.changed({path: value})) != usual}
    if scale == 1 and not differing and not study.only:
        return study.name
    text = json.dumps([scale, differing, study.only], sort_keys=True)
    return f"{study.name}@{sha256(text.encode()).hexdigest()[:6]}"


def resolved(study: Study) -> dict[str, RunConfig]:
    """Every arm's configuration with all defaults written out, checked on the data, or without it on a stand-in.

    Raises:
        InputError: a name or setting that cannot be.
    """
    check_protocols(study)
    found: dict[str, RunConfig] = {}
    loaded: dict[str, Dataset] = {}
    missing: set[str] = set()
    for arm in study.arms():
        data, source = arm.config.data, _source(arm.config)
        try:
            if source not in loaded:
                loaded[source] = datasets.load(datasets.DATASETS.resolve(data.dataset, "data.dataset"), data.root)
        except InputError:
            if data.root:
                raise
            # Not fetched yet: names and settings can be checked without the images.
            stand_in = datasets.DATASETS.resolve({"name": "synthetic", "train": 1000, "test": 10})
            loaded[source] = datasets.load(stand_in, "")
            missing.add(source)
        try:
            config, _ = _resolved(arm.config, loaded)
        except InputError as error:
            raise InputError(f"arm {arm.name!r}: {error.text}", remedies=error.remedies) from error
        found[arm.name] = config.changed({"data.fingerprint": ""}) if source in missing else config
    check_claims(study, found)
    return found


def check_protocols(study: Study) -> None:
    """Check what the protocols of published numbers choose from our tables.

    A name that is nearly one of ours is a misspelt one; any other is of something that we do not have.

    Raises:
        StudyError: such a name, or a setting that cannot be.
    """
    protocols: dict[tuple[str | int, ...], Protocol] = {("sources", name): one for name, one in study.sources.items()}
    protocols |= {("published", number): one for number, one in enumerate(study.published)}
    for place, protocol in protocols.items():
        for key, table in PROTOCOL_TABLES.items():
            value = protocol.known.get(key, ())
            for choice in value if isinstance(value, tuple) else (value,):
                try:
                    _check_choice(table, choice)
                except InputError as error:
                    raise StudyError((*place, key), str(error)) from error


def _check_choice(table: Table[Any], choice: Choice) -> None:
    if choice.name not in table and get_close_matches(choice.name, list(table), n=1, cutoff=0.8):
        raise unknown(table.kind, choice.name, table)
    known = table.settings(choice.name) if choice.name in table else {}
    for name, value in choice.settings.items() if known else ():
        if name not in known:
            raise unknown("setting", name, known)
        known[name].check(value, name)


def estimate(plan: Plan, root: Path, *, seconds: float = 20.0, packing: Packing | None = None) -> Estimate:
    """What a plan takes here, from a calibration of about `seconds` in all, at most 3 for each network and batch.

    They are measured from the smallest on; what would not fit any more is scaled from the nearest one that was. Without
    a packing one run at a time is assumed.
    """
    load, began = os.getloadavg()[0], time.monotonic()
    configs = _arm_configs(plan)
    size_of = {arm.name: _size(arm, configs[arm.name]) for arm in plan.arms}
    sizes = {size: configs[name] for name, size in size_of.items()}
    paces: dict[_Size, Pace] = {}
    for size in sorted(sizes, key=lambda size: size.work):
        left = seconds - (time.monotonic() - began)
        if paces and least_seconds(_pace(size, paces)) > left:
            break
        paces[size] = step_seconds(sizes[size], usual_threads(), min(3.0, left / (len(sizes) - len(paces))))
    each = {}
    for arm in plan.arms:
        pace = _pace(size_of[arm.name], paces)
        epoch = arm.steps_per_epoch * pace.step + arm.evaluated * pace.evaluation
        each[arm.name] = pace.setup + arm.epochs * epoch
    start = start_seconds(usual_threads())
    gain = packing.gain if packing else 1.0
    todo = [each[run.arm] for run in plan.runs if not run_folder.is_complete(root / run.folder)]
    return Estimate(
        run=each,
        start=start,
        total=start + _packed([each[run.arm] for run in plan.runs], gain),
        remaining=start + _packed(todo, gain) if todo else 0.0,
        spread=max(pace.spread for pace in paces.values()),
        measured=time.monotonic() - began,
        load=load,
        cores=usable_cores(),
        networks=len(sizes),
        scaled=len(sizes) - len(paces),
        gain=gain,
    )


def _packed(runs: Sequence[float], gain: float) -> float:
    """Seconds of runs that are packed: of all `gain` times as fast, and at least of the longest."""
    return max([sum(runs) / gain, *runs])


@dataclass(frozen=True)
class _Size:
    """What the pace of a run depends on: settings of the network, precision, multiply-adds of an image, batch."""

    settings: frozenset[str]
    macs: int
    batch: int

    @property
    def work(self) -> int:
        """Multiply-adds of an update's forward pass."""
        return self.macs * self.batch


def _size(arm: PlannedArm, config: RunConfig) -> _Size:
    named = {**config.model.model_dump(mode="json"), "precision": config.compute.precision}
    settings = frozenset(f"{name} = {json.dumps(value)}" for name, value in named.items())
    return _Size(settings, arm.macs, config.train.batch_size)


def _pace(size: _Size, paces: Mapping[_Size, Pace]) -> Pace:
    """The pace of a size, or if it was not measured, that of the nearest one, in proportion to the multiply-adds.

    The nearest differs in the fewest settings: two depths of one network are more alike than two kinds of block.
    """
    nearest = min(paces, key=lambda one: (len(one.settings ^ size.settings), abs(math.log(size.work / one.work))))
    pace = paces[nearest]
    evaluation = pace.evaluation * size.macs / nearest.macs
    return replace(pace, step=pace.step * size.work / nearest.work, evaluation=evaluation)


def within(
    study: Study, settings: Mapping[str, Any], budget: float, root: Path, packing: Packing | None = None
) -> Plan:
    """The plan that fits into `budget` seconds: all seeds at the largest scale that fits, then fewer seeds.

    Seeds come before length: without them a longer run has no interval. Without a packing one run at a time is assumed.

    Raises:
        InputError: not even one epoch of one seed fits.
    """
    whole = plan(study, settings)
    cost = estimate(whole, root, packing=packing)
    seeds, longest = whole.study.seeds, max(arm.epochs for arm in whole.arms)
    least = 0.0
    for count in range(len(seeds), 0, -1):
        for epochs in range(longest, 0, -1):
            scale = epochs / longest
            share = {arm.name: max(1, round(arm.epochs * scale)) / arm.epochs for arm in whole.arms}
            least = cost.start + _packed(count * [cost.run[name] * share[name] for name in share], cost.gain)
            if least <= budget:
                gave_up = []
                if scale < 1:
                    gave_up.append(f"length: {epochs} of {longest} epochs in the longest arm (scale {scale:.3g})")
                if count < len(seeds):
                    gave_up.append(f"seeds: {count} of {len(seeds)}")
                return plan(study.changed({}, seeds[:count]), settings, scale=scale, gave_up=gave_up)
    raise InputError(
        f"one epoch of every arm and one seed take about {duration(least)} here, more than "
        f"{duration(budget)}; fewer images (data.subset=0.1) or a smaller network make it fit",
        argument="budget",
    )


def promises(plan_: Plan, root: Path, *, grown: bool = False, sd: float | None = None) -> tuple[Promise, ...]:
    """What the verdicts of a plan can show, from the runs in the store as far as they go.

    `grown`: with the looks of `until_decided`, the plan's seeds being those of the first.
    """
    n = len(plan_.study.seeds)
    looks = range(1, GROUPS + 1) if grown else range(1, 2)
    levels = [power.spend(look, GROUPS) for look in looks] if grown else [0.05]
    return power.promises(results(plan_, root), [n * look for look in looks], levels, sd)


def duration(seconds: float) -> str:
    """A time as people say it: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def run(plan: Plan, root: Path, *, workers: int, threads: int, lanes: int = 1) -> Iterator[Said | Plan]:
    """Compute the runs of a plan that are not in the store, seed by seed, so that what is there is always balanced.

    `workers` processes compute at a time on `threads` each, with `lanes` runs side by side. The plan itself is what is
    said first.

    Raises:
        StoppedError: a signal; the states are saved and the same call goes on.
        StorageError: the disk is full.
    """
    looks = plans.folder_of(root, plan.label) / plans.LOOKS
    if looks.exists():
        raise InputError(
            f"{plan.label} was grown until it was decided: a test of some of its seeds would undo what its looks spent",
            remedies=[Remedy("until decided", str(looks))],
        )
    yield from _computed(plan, root, workers, threads, lanes)
    yield from _read_test_set(plan, root, workers, threads, lanes)


def _computed(
    plan: Plan, root: Path, workers: int, threads: int, lanes: int, looks: Sequence[int] = ()
) -> Iterator[Said | Plan]:
    """Compute what is missing of a plan; what it promises, `looks` among it, is recorded before its first run."""
    yield plan
    prespecify(plan, root, looks)
    plans.write(plan, root)
    yield from _launched(plan, plan.runs, root, workers, threads, lanes)


def _launched(
    plan: Plan, runs: Sequence[PlannedRun], root: Path, workers: int, threads: int, lanes: int
) -> Iterator[Said]:
    """Compute what is not there of some runs of a plan; those that fail now are written down beside it."""
    folder = plans.folder_of(root, plan.label)
    failed: dict[str, str] = {}
    storage.write_json(folder / plans.FAILED, failed)
    work = {arm.name: arm.work for arm in plan.arms}
    todo = [one for one in runs if not plans.is_complete(one, root)]
    todo.sort(key=lambda one: (plan.study.seeds.index(one.seed), -work[one.arm]))
    # Two arms may ask for the same run, as the baseline of two questions.
    jobs = {one.id: Job(one.id, RunConfig.of(one.config), plan.study.base) for one in todo}
    on = max((cards(device) for device in {job.config.compute.device for job in jobs.values()}), key=len, default=[])
    room = {"workers": workers, "threads": threads, "lanes": lanes}
    for said in processes.launch(list(jobs.values()), root, **room, cards=on):
        if isinstance(said, JobFailed):
            failed[said.id] = said.reason
            storage.write_json(folder / plans.FAILED, failed)
        yield said


def _read_test_set(plan: Plan, root: Path, workers: int, threads: int, lanes: int) -> Iterator[Said]:
    """Read the test set for the arm that validation has chosen and for its baseline, once all runs are there.

    The choice is written down before, and stands: more seeds choose no other arm, and are not read.
    """
    if plan.study.select == "none":
        return
    made = _chosen(plan, root)
    if made is None:
        return
    asked = [one for one in plan.runs if one.arm in (made.arm, made.baseline) and one.seed in made.seeds]
    reading = [replace(one, config={**one.config, "monitor": {**one.config["monitor"], "final_test": True}})
               for one in asked if run_folder.is_complete(root / one.folder)]  # fmt: skip
    if not all(plans.is_complete(one, root) for one in reading):
        yield from _launched(plan, reading, root, workers, threads, lanes)


def _chosen(plan: Plan, root: Path) -> Chosen | None:
    """The choice that was made, or is made now; None where runs are missing, or there is nothing to choose."""
    found = results(plan, root)
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
    chosen.write(made, plans.folder_of(root, plan.label))
    return made


def until_decided(
    plan_: Plan, root: Path, *, workers: int, threads: int, budget: float | None, lanes: int = 1
) -> Iterator[Said | Plan | Look]:
    """Run a plan, then look, then add as many seeds again until each claim is decided or looks or budget end.

    The error probability of 5 % is spent over the looks (`analysis.power.spend`): a claim that is decided at a look
    stays decided, and at no look is its interval narrower than its share of the 5 % allows.
    """
    began, group = time.monotonic(), len(plan_.study.seeds)
    sizes = [group * number for number in range(1, GROUPS + 1)]
    read_before = _read_before(plan_, root)
    looks: list[Look] = []
    decided: dict[str, str] = {}
    for number in range(1, GROUPS + 1):
        took = time.monotonic()
        yield from _computed(plan_, root, workers, threads, lanes, sizes)
        took = time.monotonic() - took
        level = 1 - power.spend(number, GROUPS)
        for verdict in results(plan_, root, level=level).verdicts:
            if verdict.verdict != "undecided":
                decided.setdefault(verdict.claim.text, verdict.verdict)
        looks.append(Look(number, GROUPS, plan_.study.seeds, level, dict(decided), read_before))
        storage.write_json(plans.folder_of(root, plan_.label) / plans.LOOKS, [asdict(look) for look in looks])
        yield looks[-1]
        spent = time.monotonic() - began
        if len(decided) == len(plan_.study.claims) or (budget is not None and spent + took > budget):
            break
        if number < GROUPS:
            plan_ = with_seeds(plan_, group)
    yield from _read_test_set(plan_, root, workers, threads, lanes)


def _read_before(plan: Plan, root: Path) -> bool:
    """Whether somebody may have read verdicts at the fixed level before the first look at a plan's runs.

    They may where all its runs are there, or all those of an earlier plan with fewer seeds. Looks that were begun
    remember how it was before the first of them.
    """
    folder = plans.folder_of(root, plan.label)
    looks = plans.read_looks(folder)
    if looks and looks[0].seeds == plan.study.seeds:
        return looks[0].read_before
    earlier = [plans.read(folder)] if (folder / plans.PLAN).exists() else []
    tested = [one for one in (plan, *earlier) if {run.id for run in one.runs} <= {run.id for run in plan.runs}]
    return any(all(plans.is_complete(run, root) for run in one.runs) for one in tested)


def with_seeds(plan_: Plan, more: int) -> Plan:
    """A plan with so many more seeds, the next ones that it does not have."""
    old = plan_.study.seeds
    new = tuple(range(max(old) + 1, max(old) + 1 + more))
    runs = [
        *plan_.runs,
        *(_planned_run(arm, config, seed) for arm, config in _arm_configs(plan_).items() for seed in new),
    ]
    return replace(plan_, study=plan_.study.changed({}, [*old, *new]), runs=tuple(runs))

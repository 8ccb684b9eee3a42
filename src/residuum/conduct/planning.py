"""Planning a study: every arm resolved and checked, every run with its id, before anything is computed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from hashlib import sha256
from typing import Any

from residuum import optim, own
from residuum.config import UNCOUNTED, RunConfig, identity
from residuum.data.augment import AUGMENTATIONS
from residuum.data.dataset import Dataset
from residuum.data.normalize import NORMALIZERS
from residuum.errors import InputError, quoted, unknown
from residuum.models.summary import Summary, summarize
from residuum.records import run_folder
from residuum.registry import Choice, Table
from residuum.run import assemble
from residuum.studies.plan import Plan, PlannedArm, PlannedRun, seeded
from residuum.studies.study import Protocol, Study, StudyError, check_claims

PROTOCOL_TABLES: Mapping[str, Table[Any]] = {
    "schedule": optim.SCHEDULES, "optimizer": optim.OPTIMIZERS, "augment": AUGMENTATIONS, "normalize": NORMALIZERS,
}  # fmt: skip
"""The tables from which protocols of published numbers choose."""


def plan(
    study: Study,
    settings: Mapping[str, Any],
    *,
    scale: float = 1.0,
    gave_up: Sequence[str] = (),
    rehearsed: bool = False,
) -> Plan:
    """A study made concrete: every arm resolved and checked, every run with its id.

    `settings` are the user's changes for all arms. `scale` shortens every run to that share of its epochs and keeps
    the schedule's shape. `rehearsed`: where images are not here, others of the same number and shape stand in for them;
    such a plan names them as `missing`, says what it costs, and cannot be run.

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
            with own.blaming():
                whole[arm.name], data = _resolved(arm.config, loaded, rehearsed=rehearsed)
                config = shortened(whole[arm.name], scale)
                training, _ = assemble.training(config, data)
                cost: Summary = summarize(training.network, data.shape)
        except InputError as error:
            raise InputError(f"arm {quoted(arm.name)}: {error.text}", remedies=error.remedies) from error
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
                evaluated=data.held_out + test,
                family=arm.family,
                cell=arm.cell,
            )
        )
        runs += planned_runs(arm.name, config, changed.seeds)
    check_claims(changed, whole)
    # What every arm has anyway is no change, and no report calls it one.
    usual = study.arms()
    mine = {path: value for path, value in settings.items() if study.changed({path: value}).arms() != usual}
    missing = sorted({one.name for one in loaded.values() if not one.fingerprint})
    label = _label(study, changed, scale)
    return Plan(changed, label, scale, mine, tuple(gave_up), tuple(arms), tuple(runs), tuple(missing))


def checked(config: RunConfig, scale: float, loaded: dict[str, Dataset]) -> RunConfig:
    """A configuration resolved and shortened, with everything checked that a run of it would stumble over.

    `loaded` are data sets that were read before, and this one if it was not.

    Raises:
        InputError: it would.
    """
    whole, data = _resolved(config, loaded)
    short = shortened(whole, scale)
    assemble.training(short, data)
    return short


def planned_runs(arm: str, config: RunConfig, seeds: Iterable[int]) -> list[PlannedRun]:
    """The runs of an arm's resolved configuration, seed by seed."""
    plain = RunConfig.of(config.model_dump(mode="json"))  # as it will be read again: sequences in settings are lists
    runs = []
    for seed in seeds:
        one = seeded(plain, seed)
        id_ = identity(one)
        runs.append(PlannedRun(arm, seed, id_, run_folder.name_of(one, id_), one))
    return runs


def arm_configs(plan: Plan) -> dict[str, RunConfig]:
    """The resolved configuration of every arm, with the first of its seeds."""
    return {arm: runs[0].config for arm, runs in plan.runs_of.items()}


def with_seeds(plan_: Plan, more: int) -> Plan:
    """A plan with so many more seeds, the next ones that it does not have."""
    old = plan_.study.seeds
    new = tuple(range(max(old) + 1, max(old) + 1 + more))
    runs = [*plan_.runs]
    for arm, config in arm_configs(plan_).items():
        runs += planned_runs(arm, config, new)
    return replace(plan_, study=plan_.study.changed({}, [*old, *new]), runs=tuple(runs))


def _resolved(
    config: RunConfig, loaded: dict[str, Dataset], *, rehearsed: bool = False
) -> tuple[RunConfig, assemble.Data]:
    """The resolved configuration and its data; a data set that several arms share is read once."""
    key = _source(config)
    if key in loaded:
        resolved, data = assemble.resolve(config, loaded[key])
    else:
        resolved, data = assemble.rehearsed(config) if rehearsed else assemble.resolve(config)
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
    """The configurations of a study's arms, without where the data lies, and without what is saved or watched."""
    usual = RunConfig()
    return [
        arm.config.model_copy(
            update={
                "data": arm.config.data.model_copy(update={"root": ""}),
                **{section: getattr(usual, section) for section in UNCOUNTED},
            }
        )
        for arm in study.arms()
    ]


def _label(study: Study, changed: Study, scale: float) -> str:
    """The name of the study, with a hash of what was changed where that changes its runs.

    Where the data lies does not; nor do more seeds, with which the same study goes on.
    """
    usual = _configs(study)
    mine = {path: value for path, value in changed.settings.items() if study.settings.get(path) != value}
    differing = {path: value for path, value in mine.items() if _configs(study.changed({path: value})) != usual}
    if scale == 1 and not differing and not study.only:
        return study.name
    text = json.dumps([scale, differing, study.only], sort_keys=True)
    return f"{study.name}@{sha256(text.encode()).hexdigest()[:6]}"


def resolved(study: Study) -> dict[str, RunConfig]:
    """Every arm's configuration with all defaults written out, checked on the data, or on what stands in for it.

    Raises:
        InputError: a name or setting that cannot be.
    """
    check_protocols(study)
    found: dict[str, RunConfig] = {}
    loaded: dict[str, Dataset] = {}
    for arm in study.arms():
        try:
            found[arm.name], _ = _resolved(arm.config, loaded, rehearsed=True)
        except InputError as error:
            raise InputError(f"arm {quoted(arm.name)}: {error.text}", remedies=error.remedies) from error
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

"""Tuning: settings searched for on validation images, trial by trial, and the study that judges what was found.

Beside the plans of studies lie, for a search,

    search.json     what is searched for, written before the first trial
    search.jsonl    Optuna's journal of the trials, by which a search that was stopped goes on
    NAME-tuned.toml the study of what was found, with fresh seeds

The runs of a search leave the test set unread.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Literal

from residuum.analysis.budget import best_so_far
from residuum.conduct.launchers import launch_of
from residuum.conduct.launchers.launcher import Job, JobEvent, JobFailed, Room, Said
from residuum.conduct.launchers.running import is_pruned
from residuum.conduct.packing import cards
from residuum.conduct.planning import checked, planned_runs
from residuum.data.dataset import Dataset
from residuum.errors import InputError, lacking, quoted
from residuum.records import mirror, run_folder, storage
from residuum.records.event import Finished, Pruned
from residuum.records.mirror import Store
from residuum.records.record import RunRecord, read_record
from residuum.registry import as_plain
from residuum.studies import parsing, trials
from residuum.studies import plan as plans
from residuum.studies.plan import Plan
from residuum.studies.space import MOST, Range, Search, Tuned, TunedArm, outermost
from residuum.studies.study import READS_TEST, Arm, Study, StudyError
from residuum.studies.trials import JOURNAL, RUNS, SEARCH, SETTINGS

if TYPE_CHECKING:
    import optuna

STARTUP = 4
"""Complete trials before one is pruned: of fewer, a median says little."""
WARMUP = 0.2
"""Share of the epochs before which no run is pruned: the first ones tell little of the last."""
WORST = 100.0
"""Validation error (%) of a run that diverged."""


@dataclass(frozen=True)
class TrialDone:
    """A trial that has ended: its number among those of its arm, from 1 on, and its mean validation error (%)."""

    arm: str
    number: int
    settings: Mapping[str, Any]
    state: Literal["complete", "pruned", "failed"]
    error: float | None
    reason: str = ""


@dataclass
class _Trial:
    """A trial that is being computed: its runs by the ids of their jobs, and how they have ended so far."""

    arm: str
    handle: optuna.trial.Trial
    settings: Mapping[str, Any]
    jobs: Mapping[str, Job]
    open: set[str] = field(default_factory=set)
    pruned: bool = False
    reason: str = ""


def search(plan: Plan, runs: Path, room: Room, launcher: str = "processes") -> Iterator[Said | TrialDone]:
    """Search for settings of a study's arms, trial by trial; the same call goes on with a search that was stopped.

    The next trial is asked for when there is room for it. Of several arms, the one with the fewest trials is next.
    Where the room has a store, the journal is brought there after every trial, and what it has is gone on with.

    Raises:
        InputError: the study asks for no search, or another one was begun under its name; Optuna is not installed.
        BusyError: another process is at this search.
        StoppedError, StorageError: as `launcher.Launch` says.
    """
    asked, launch = _search_of(plan), launch_of(launcher)
    optuna = _optuna()
    if launcher.partition(":")[0] in ("ray", "slurm") and not room.workers:
        raise InputError("a search asks for as many trials as it has room for: say how many", argument="workers")
    loaded: dict[str, Dataset] = {}
    _check_values(plan, asked, loaded)
    folder = plans.folder_of(runs, plan.label)
    with storage.storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    store = mirror.store_of(room.store) if room.store else None
    with storage.locked(folder):
        if store:
            _fetch(store, plan, runs)
        _begin(folder, plan)
        work = _Work(optuna, plan, asked, runs, _journals(optuna, folder, plan.study), loaded, store)
        on = max((cards(device) for device in {run.config.compute.device for run in plan.runs}), key=len, default=[])
        for said in launch(work.jobs(), runs, replace(room, cards=on)):
            yield said
            work.take_in(said)
            yield from _given(work.told(), store, plan, runs)
        yield from _given(work.told(), store, plan, runs)


def _given(told: Iterator[TrialDone], store: Store | None, plan: Plan, runs: Path) -> Iterator[TrialDone]:
    """Trials that have ended, once the store, if there is one, has the journal that says so."""
    ended = [*told]
    if ended and store:
        mirror.give(store, runs, [f"{plans.PLANS}/{plan.label}"])
    yield from ended


def _fetch(store: Store, plan: Plan, runs: Path) -> None:
    """Bring here what a store has of a search, so that it goes on where it stands: its journal, and the runs' records.

    Raises:
        StorageError: the store cannot be reached.
    """
    folder = plans.folder_of(runs, plan.label)
    mirror.pull(store, f"{plans.PLANS}/{plan.label}", folder)
    names = dict.fromkeys(name for trial in trials.read(folder) for name in trial.runs)
    for name, files in mirror.folders(store, [*names]).items():
        mirror.pull(store, name, runs / name, files, weights=False)


def planned(plan: Plan, trials: int | None) -> Plan:
    """A plan of a study that searches, with another number of trials if one is given.

    Raises:
        InputError: it searches for nothing, or so many trials cannot be.
    """
    asked = _search_of(plan)
    if trials is None:
        return plan
    if not 1 <= trials <= MOST:
        raise InputError(f"{trials} is not a count from 1 to {MOST:,}", argument="trials")
    return replace(plan, study=plan.study.model_copy(update={"search": asked.model_copy(update={"trials": trials})}))


def _search_of(plan: Plan) -> Search:
    if plan.study.search is None:
        raise InputError(f"study {quoted(plan.study.name)} has no [search], which says what to search for")
    return plan.study.search


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise lacking("a search", "optuna", "search") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _check_values(plan: Plan, asked: Search, loaded: dict[str, Dataset]) -> None:
    """Resolve every arm with every value that is listed and at both ends of each range, so that names are known ones.

    Raises:
        StudyError: one cannot be.
    """
    for arm in plan.study.arms():
        for path, values in asked.space.items():
            for value in outermost(values):
                try:
                    checked(arm.config.changed({path: value}), plan.scale, loaded)
                except InputError as error:
                    raise StudyError(("search", "space", path), error.text, error.remedies) from error


def _begin(folder: Path, plan: Plan) -> None:
    """Write down what is searched for, or check that it is what was begun; more trials are no other search."""
    asked = _search_of(plan).model_dump(mode="json", exclude={"trials"})
    study = plan.study.model_dump(mode="json", include={"base", "settings", "axes", "named"})
    values = {"search": asked, "study": study, "scale": plan.scale, "label": plan.label}
    path = folder / SEARCH
    if not path.exists():
        storage.write_json(path, values)
    elif storage.read_json(path) != values:
        raise InputError(
            f"{folder} holds a search that was begun with other settings, seeds or values: "
            "give this one another name, or move that folder away"
        )


def _journals(optuna: Any, folder: Path, study: Study) -> dict[str, Any]:
    """The trials of every arm, by its name, in one journal."""
    kept = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL)))
    return {
        arm.name: optuna.create_study(study_name=arm.name, storage=kept, direction="minimize", load_if_exists=True)
        for arm in study.arms()
    }


class _Work:
    """The trials of a search: which is asked for next, and what is told of those that have ended."""

    def __init__(self, optuna: Any, plan: Plan, asked: Search, runs: Path, journals: Mapping[str, optuna.Study],
                 loaded: dict[str, Dataset], store: Store | None) -> None:  # fmt: skip
        self._optuna, self._plan, self._asked, self._runs, self._journals = optuna, plan, asked, runs, journals
        self._loaded, self._store = loaded, store
        self._arms = {arm.name: arm for arm in plan.study.arms()}
        self._open: dict[str, _Trial] = {}
        self._done: deque[TrialDone] = deque()

    def jobs(self) -> Iterator[Job]:
        """The runs of those trials that a search before this one left open, and of new ones until there are enough."""
        states = self._optuna.trial.TrialState
        for name, journal in self._journals.items():
            for left in journal.get_trials(states=(states.RUNNING,)):
                yield from self._taken_up(name, self._optuna.trial.Trial(journal, left._trial_id))
        while True:
            counts = {name: len(journal.get_trials(deepcopy=False)) for name, journal in self._journals.items()}
            name = min(counts, key=lambda one: counts[one])
            if counts[name] >= self._asked.trials:
                return
            yield from self._taken_up(name, self._ask(name, counts[name]))

    def _ask(self, arm: str, number: int) -> optuna.trial.Trial:
        """A new trial of an arm: what it is depends on those before it, and on its number, but not on when it is."""
        journal, samplers = self._journals[arm], self._optuna.samplers
        seed = self._asked.sampler_seed * MOST + number
        if self._asked.sampler == "random":
            journal.sampler = samplers.RandomSampler(seed=seed)
        else:
            startup = min(10, max(STARTUP, self._asked.trials // 3))
            # Trials that are not there yet count as bad ones, so that those side by side are not alike.
            journal.sampler = samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)
        trial = journal.ask(_distributions(self._optuna, self._asked))
        trial.set_user_attr("prune", self._prune(arm) if self._asked.prune else {})
        return trial

    def _prune(self, arm: str) -> dict[str, float]:
        """The median of the complete trials' lowest validation errors so far, by epoch; none of too few trials."""
        done = self._journals[arm].get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.COMPLETE,))
        if len(done) < STARTUP:
            return {}
        epochs = max(len(one.intermediate_values) for one in done)
        whole = (list(one.intermediate_values.values()) for one in done if len(one.intermediate_values) == epochs)
        curves = [best_so_far(errors).tolist() for errors in whole]
        first = max(1, round(WARMUP * epochs))
        return {str(epoch): median(curve[epoch - 1] for curve in curves) for epoch in range(first, epochs)}

    def _taken_up(self, arm: str, trial: optuna.trial.Trial) -> Iterator[Job]:
        """The jobs of a trial's runs; none where its settings cannot be, or all its runs were over before."""
        settings = _settings(self._asked, trial.params)
        made = _Trial(arm, trial, settings, {})
        try:
            unread = {**settings, **dict.fromkeys(READS_TEST, False)}
            config = checked(self._arms[arm].config.changed(unread), self._plan.scale, self._loaded)
        except InputError as error:
            made.reason = error.text
            self._close(made)
            return
        prune = {int(epoch): error for epoch, error in trial.user_attrs["prune"].items()}
        planned = {f"{arm}, trial {trial.number + 1}, seed {run.seed}": run
                   for run in planned_runs(arm, config, self._asked.seeds)}  # fmt: skip
        trial.set_user_attr(SETTINGS, json.loads(_text(settings)))
        trial.set_user_attr(RUNS, [run.folder for run in planned.values()])
        made.jobs = {id_: Job(id_, run.config, self._plan.study.base, prune) for id_, run in planned.items()}
        made.open = {id_ for id_, job in made.jobs.items() if not self._is_over(job)}
        made.pruned = any(self._is_pruned(job) for job in made.jobs.values())
        self._open |= dict.fromkeys(made.open, made)
        if not made.open:
            self._close(made)
        yield from (made.jobs[id_] for id_ in made.jobs if id_ in made.open)

    def _is_over(self, job: Job) -> bool:
        return run_folder.is_complete(run_folder.folder_of(self._runs, job.config)) or self._is_pruned(job)

    def _is_pruned(self, job: Job) -> bool:
        """Whether a run was pruned before this call, which nobody has told the journal."""
        folder = run_folder.folder_of(self._runs, job.config)
        if not (job.prune and (folder / run_folder.CONFIG).exists()) or run_folder.is_complete(folder):
            return False
        errors = _errors(read_record(folder))
        return bool(errors) and is_pruned(len(errors), min(errors), job)

    def take_in(self, said: Said) -> None:
        """Note how a run has ended."""
        trial = self._open.get(said.id)
        if trial is None:
            return
        if isinstance(said, JobFailed):
            trial.reason = said.reason
        elif isinstance(said, JobEvent) and isinstance(said.event, Pruned):
            trial.pruned = True
        elif not (isinstance(said, JobEvent) and isinstance(said.event, Finished)):
            return
        job = trial.jobs[said.id]
        if self._store and not isinstance(said, JobFailed) and not self._is_over(job):  # its record is elsewhere
            folder = run_folder.folder_of(self._runs, job.config)
            mirror.pull(self._store, folder.name, folder, weights=False)
        trial.open.discard(said.id)
        if not trial.open:
            self._close(trial)

    def _close(self, trial: _Trial) -> None:
        """Tell the journal how a trial has ended."""
        for id_ in trial.jobs:
            self._open.pop(id_, None)
        states, handle = self._optuna.trial.TrialState, trial.handle
        state: Literal["complete", "pruned", "failed"] = "pruned" if trial.pruned else "complete"
        error = None
        if trial.reason:
            state = "failed"
            handle.set_user_attr("reason", trial.reason)
        else:
            curves = [_errors(read_record(run_folder.folder_of(self._runs, job.config))) for job in trial.jobs.values()]
            common = list(zip(*curves, strict=False))
            for epoch, errors in enumerate(common, start=1):
                handle.report(fmean(errors), epoch)
            error = fmean(curve[-1] for curve in curves)
        told = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[state]
        self._journals[trial.arm].tell(handle.number, error if state == "complete" else None, told)
        self._done.append(TrialDone(trial.arm, handle.number + 1, trial.settings, state, error, trial.reason))

    def told(self) -> Iterator[TrialDone]:
        """The trials that have ended since this was asked last."""
        while self._done:
            yield self._done.popleft()


def _distributions(optuna: Any, asked: Search) -> dict[str, Any]:
    """The space in Optuna's words; a value of a list may be a table, which it knows by its text alone."""
    made: dict[str, Any] = {}
    kinds = optuna.distributions
    for path, values in asked.space.items():
        if not isinstance(values, Range):
            made[path] = kinds.CategoricalDistribution([_text(value) for value in values])
        elif values.is_whole:
            made[path] = kinds.IntDistribution(values.low, values.high, log=values.log, step=values.step or 1)
        else:
            made[path] = kinds.FloatDistribution(values.low, values.high, log=values.log, step=values.step)
    return made


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=as_plain)


def _settings(asked: Search, params: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a trial."""
    made = {}
    for path, values in asked.space.items():
        if isinstance(values, Range):
            made[path] = values.rounded(params[path])
        else:
            made[path] = next(value for value in values if _text(value) == params[path])
    return made


def _errors(record: RunRecord) -> list[float]:
    """The validation error (%) of a run after each of its epochs; the last is the worst there is if it diverged."""
    errors = [100 * (1 - row.validation.accuracy) for row in record.epochs if row.validation is not None]
    return [*errors, WORST] if record.status == "diverged" else errors


def tuned(plan: Plan, runs: Path) -> Study:
    """The study of what a search found: the arms with the settings of their best trials, on the study's own seeds.

    One arm alone is held against itself as it was before. Several arms keep the claims that were made of them.

    Raises:
        InputError: the search is not over, or no trial of an arm was completed.
    """
    asked, study, optuna = _search_of(plan), plan.study, _optuna()
    folder = plans.folder_of(runs, plan.label)
    if not (folder / JOURNAL).exists():
        raise InputError(f"no search of {quoted(study.name)} was begun in {runs}")
    journals = _journals(optuna, folder, study)
    found, reads = [], 0
    for arm in study.arms():
        one, read = _tuned_arm(optuna, arm, asked, journals[arm.name], runs)
        found.append(one)
        reads += read
    best = {one.arm: one.settings for one in found}
    values = study.model_dump(mode="json", exclude_defaults=True)
    for gone in ("search", "axes", "inside", "published", "sources"):
        values.pop(gone, None)
    arms = [{"name": arm.name, "set": {**arm.settings, **best[arm.name]}} for arm in study.arms()]
    if not asked.tune_each_arm:
        (arm,) = study.arms()
        new = f"{arm.name} tuned"
        arms = [{"name": arm.name, "set": dict(arm.settings)}, {**arms[0], "name": new}]
        values |= {
            "question": f"Is what the search of {study.name} found better than {arm.name}?",
            "compare": {**values.get("compare", {}), "baseline": arm.name},
            "claims": [{"text": "What the search found has a lower test error.", "expect": f"{new} < {arm.name}"}],
        }
    return Study(
        **values
        | {
            "name": f"{study.name}-tuned",
            "arms": arms,
            "tuned": Tuned(
                study=study.name,
                time=datetime.now(UTC).isoformat(timespec="seconds"),
                seeds=asked.seeds,
                sampler=asked.sampler,
                sampler_seed=asked.sampler_seed,
                space=asked.space,
                arms=tuple(found),
                claimed="before the search" if asked.tune_each_arm else "after the search",
                test_reads=reads,
            ).model_dump(mode="json", exclude_defaults=True),
        }
    )


def _tuned_arm(optuna: Any, arm: Arm, asked: Search, journal: optuna.Study, runs: Path) -> tuple[TunedArm, int]:
    """What the search for an arm came to, and how often the test set was read for its runs."""
    states = optuna.trial.TrialState
    trials = journal.get_trials(deepcopy=False)
    over = [one for one in trials if one.state.is_finished()]
    if len(over) < asked.trials:
        raise InputError(
            f"the search of {quoted(arm.name)} is not over: {len(over)} of {asked.trials} trials have ended"
        )
    complete = [one for one in over if one.state == states.COMPLETE]
    if not complete:
        why = next((one.user_attrs["reason"] for one in over if "reason" in one.user_attrs), "all were pruned")
        raise InputError(f"no trial of {quoted(arm.name)} was completed: {why}")
    best = min(complete, key=_last)
    scored = [one for one in over if one.state != states.FAIL]
    folders = dict.fromkeys(name for one in over for name in one.user_attrs.get(RUNS, ()))
    there = [read_record(runs / name) for name in folders if (runs / name / run_folder.CONFIG).exists()]
    return TunedArm(
        arm=arm.name,
        settings=_settings(asked, best.params),
        errors=tuple(map(_last, scored)),
        stopped=tuple(at for at, one in enumerate(scored, start=1) if one.state == states.PRUNED),
        complete=len(complete),
        pruned=sum(one.state == states.PRUNED for one in over),
        failed=sum(one.state == states.FAIL for one in over),
        epochs=sum(len(record.epochs) for record in there),
        seconds=sum(row.seconds for record in there for row in record.epochs),
    ), sum(record.test_reads for record in there)


def _last(trial: optuna.trial.FrozenTrial) -> float:
    values: Sequence[float] = list(trial.intermediate_values.values())
    return round(trial.value if trial.value is not None else values[-1], 4)


def write(found: Study, plan: Plan, runs: Path, url: str = "") -> Path:
    """Write the study of what the search of a plan found beside its journal; returns the path of the file.

    What is there already stays where it says the same. It goes to the store at a URL, too, if there is one.
    """
    path = plans.folder_of(runs, plan.label) / f"{found.name}.toml"
    if not path.exists() or _but_time(parsing.read(str(path))) != _but_time(found):
        head = f"# What the search of {plan.study.name} found, judged on seeds that it never saw.\n"
        storage.write_file(path, f"{head}{parsing.written(found)}".encode())
    if url:
        mirror.give(mirror.store_of(url), runs, [f"{plans.PLANS}/{plan.label}"])
    return path


def _but_time(study: Study) -> dict[str, Any]:
    values = study.model_dump(mode="json")
    return {**values, "tuned": {**(values["tuned"] or {}), "time": ""}}

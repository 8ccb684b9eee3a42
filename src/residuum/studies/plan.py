"""Plan: a study made concrete, arm by arm and run by run, as it is written beside the runs it asks for."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from residuum.config import RunConfig
from residuum.errors import QUOTED, InputError, Remedy, quoted, remark
from residuum.records import run_folder, storage
from residuum.records.regular import refuse_link
from residuum.studies import trials
from residuum.studies.part import MOST_BYTES, word
from residuum.studies.study import Study, label_of

NAMED = 3
"""Other plans of a study that are named."""
PLANS, PLAN, FAILED, LOOKS, REPORT = "studies", "plan.json", "failed.json", "looks.json", "report"


@dataclass(frozen=True)
class PlannedArm:
    """One arm: the dotted settings that set it apart, its size, and how long its runs are.

    `evaluated` is how many images are scored after each epoch. `family` and `cell` are the named arm and the place on
    the grid that it comes from, as in `residuum.studies.study.Arm`.
    """

    name: str
    settings: Mapping[str, Any]
    parameters: int
    macs: int
    epochs: int
    steps_per_epoch: int
    evaluated: int = 0
    family: str = ""
    cell: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What it is called among the arms of its family."""
        return label_of(self.cell) if self.family else self.name

    @property
    def work(self) -> int:
        """The size of one of its runs, to compare it with others: multiply-adds of an image times updates."""
        return self.macs * self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class PlannedRun:
    """One run: its arm and seed, its id, the name of its folder under `runs`, and its resolved configuration."""

    arm: str
    seed: int
    id: str
    folder: str
    config: RunConfig


@dataclass(frozen=True)
class Plan:
    """A study made concrete. `settings` are the user's own changes; `gave_up` says what a budget cost.

    `missing` are data sets whose images are not here, but for others that stand in: then the ids are those of no runs.
    """

    study: Study
    label: str
    scale: float
    settings: Mapping[str, Any]
    gave_up: tuple[str, ...]
    arms: tuple[PlannedArm, ...]
    runs: tuple[PlannedRun, ...]
    missing: tuple[str, ...] = ()

    @cached_property
    def runs_of(self) -> Mapping[str, tuple[PlannedRun, ...]]:
        """The runs of each arm."""
        found: dict[str, list[PlannedRun]] = {arm.name: [] for arm in self.arms}
        for run in self.runs:
            found.setdefault(run.arm, []).append(run)
        return {arm: tuple(runs) for arm, runs in found.items()}


@dataclass(frozen=True)
class Look:
    """One look at the data of a study that grows: the seeds so far, the level of its intervals, what was decided.

    `decided` has the verdict of every claim, by its text, that was decided at this look or before. `read_before`:
    a test at the fixed level was possible before the first look, whose error the levels of the looks do not cover.
    """

    look: int
    looks: int
    seeds: tuple[int, ...]
    level: float
    decided: Mapping[str, str]
    read_before: bool = False


REASONS: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])
LOOKED: TypeAdapter[tuple[Look, ...]] = TypeAdapter(tuple[Look, ...])


def read_looks(folder: Path) -> tuple[Look, ...]:
    """The looks at a study that grew, from the folder of its plan; empty where it did not.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / LOOKS
    return storage.typed(LOOKED, storage.read_json(path), path) if path.exists() else ()


def read_failed(folder: Path) -> dict[str, str]:
    """Why runs of a study failed, by their ids, from the folder of its plan; none where all went well.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / FAILED
    return storage.typed(REASONS, storage.read_json(path), path) if path.exists() else {}


def is_complete(run: PlannedRun, runs: Path) -> bool:
    """Whether a run is in the store, whichever study asked for it, with the test set read if it is to be."""
    found = run_folder.result_of(runs / run.folder)
    return found is not None and not (run.config.monitor.final_test and found.is_unread)


def seeded(config: RunConfig, seed: int) -> RunConfig:
    """A configuration with another seed; the parts that do not change are shared."""
    return config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})


def folder_of(runs: Path, label: str) -> Path:
    """The folder of a plan, beside the run folders under `runs`."""
    if label:
        _checked(label, "label")
    return runs / PLANS / label


def made_folder(runs: Path, label: str) -> Path:
    """The folder of a plan, made where there is none; it may be no link, which leads anywhere.

    Raises:
        InputError: it is one.
        StorageError: it cannot be made.
    """
    folder = folder_of(runs, label)
    refuse_link(folder)
    with storage.storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _checked(name: str, what: str) -> str:
    """A name that a file gives, if a folder can be called so."""
    try:
        return word(name, MOST_BYTES + len("@a1b2c3"))
    except ValueError as error:
        raise InputError(f"{what}: {error}") from error


def write(plan: Plan, runs: Path) -> Path:
    """Write a plan; returns its folder."""
    folder = made_folder(runs, plan.label)
    configs = {arm: runs[0].config for arm, runs in plan.runs_of.items() if runs}
    values = {key: value for key, value in asdict(replace(plan, runs=())).items() if key != "missing"} | {
        "study": plan.study.model_dump(mode="json"),
        # Once for each arm: the runs of thousands of seeds would be a file of hundreds of megabytes.
        "configs": {arm: config.model_dump(mode="json") for arm, config in configs.items()},
        "runs": [_written(run, configs[run.arm]) for run in plan.runs],
    }
    storage.write_json(folder / PLAN, values)
    return folder


def _written(run: PlannedRun, config: RunConfig) -> dict[str, Any]:
    """A run as a plan's file has it: without its configuration where that is the arm's with its seed."""
    values = {"arm": run.arm, "seed": run.seed, "id": run.id, "folder": run.folder}
    own = run.config != seeded(config, run.seed)
    return values | ({"config": run.config.model_dump(mode="json")} if own else {})


def read(folder: Path) -> Plan:
    """The plan in a folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    values = storage.read_json(folder / PLAN)
    try:
        study = Study(**values["study"])
        configs = {arm: RunConfig.of(config) for arm, config in values.get("configs", {}).items()}
        return Plan(
            study=study,
            label=_checked(values["label"], f"{folder / PLAN}: label") if values["label"] else "",
            scale=values["scale"],
            settings=values["settings"],
            gave_up=tuple(values["gave_up"]),
            arms=tuple(PlannedArm(**arm) for arm in _with_places(values["arms"], study)),
            runs=tuple(
                PlannedRun(
                    **{
                        **run,
                        "folder": _checked(run["folder"], f"{folder / PLAN}: folder of a run"),
                        "config": RunConfig.of(run["config"])
                        if "config" in run
                        else seeded(configs[run["arm"]], run["seed"]),
                    }
                )
                for run in values["runs"]
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / PLAN} is damaged: {error}") from error


def _with_places(arms: Sequence[Mapping[str, Any]], study: Study) -> list[dict[str, Any]]:
    """The arms of a plan as they are written; those of an earlier version get family and cell from the study."""
    if all("family" in arm for arm in arms):
        return [dict(arm) for arm in arms]
    places = {arm.name: {"family": arm.family, "cell": arm.cell} for arm in study.arms()}
    return [{**places.get(arm["name"], {}), **arm} for arm in arms]


def plans(runs: Path) -> Iterator[Path]:
    """The folders of plans under `runs`, the one last written first."""
    found: list[tuple[float, Path]] = []
    for path in (runs / PLANS).glob(f"*/{PLAN}"):
        with suppress(FileNotFoundError):  # somebody has just removed it
            found.append((path.stat().st_mtime, path.parent))
    yield from (folder for _, folder in sorted(found, key=lambda one: one[0], reverse=True))


@dataclass(frozen=True)
class Place:
    """Where a run stands in a study: its label, the arm, and the settings that the user or the arm changed in it."""

    study: str
    arm: str
    settings: Mapping[str, Any]


def places(runs: Path) -> dict[str, list[Place]]:
    """Where each run that was asked for stands, by its folder's name; the study last written first, searches last.

    Plans are not checked: of one that is damaged, no run is told. Thousands of runs take milliseconds.
    """
    found: dict[str, list[Place]] = {}
    for folder in plans(runs):
        try:
            values = storage.read_json(folder / PLAN)
            settings = {arm["name"]: {**values["settings"], **arm["settings"]} for arm in values["arms"]}
            mine = {run["folder"]: Place(str(values["label"]), run["arm"], settings[run["arm"]])
                    for run in values["runs"]}  # fmt: skip
        except (InputError, KeyError, TypeError):
            continue
        for name, place in mine.items():
            found.setdefault(name, []).append(place)
    for folder in searches(runs):
        with suppress(InputError):
            for trial in trials.read(folder):
                for name in trial.runs:
                    found.setdefault(name, []).append(Place(folder.name, trial.name, trial.settings))
    return found


def searches(runs: Path) -> Iterator[Path]:
    """The folders of searches under `runs`, by name."""
    yield from (path.parent for path in sorted((runs / PLANS).glob(f"*/{trials.SEARCH}")))


def asked_for(name: str, runs: Path) -> set[str]:
    """The names of the folders of the runs that a study, or the search of one, has asked for.

    Raises:
        InputError: neither was run here, or what says so is damaged.
    """
    if searched := _searched(name, runs):
        return {one for trial in trials.read(searched) for one in trial.runs}
    return {run.folder for run in read(find(name, runs)).runs}


def _searched(name: str, runs: Path) -> Path | None:
    """The folder of the search that a label or a study means, None where there is none of that name."""
    there = [*searches(runs)]
    return next((one for one in there if one.name == name), None) or next(
        (one for one in there if Path(name).stem in (one.name, one.name.rpartition("@")[0])), None
    )


def find(name: str, runs: Path) -> Path:
    """The folder of the plan that a label means, or the plan of a study that was written last.

    Raises:
        InputError: the study was never run here.
    """
    for folder in (runs / PLANS / name, Path(name)):
        if os.path.isfile(folder / PLAN):  # noqa: PTH113  (of any text: one that can be no path has none)
            return folder
    known = list(plans(runs))
    stem = Path(name).stem
    found = [folder for folder in known if stem in (folder.name.rpartition("@")[0], folder.name)]
    if found:
        if others := [folder.name for folder in found[1:]]:
            named = ", ".join(others[:NAMED]) + (f" and {len(others) - NAMED} more" if len(others) > NAMED else "")
            remark(f"{quoted(stem)} is {found[0].name}, which was written last, and not {named}")
        return found[0]
    if searched := _searched(name, runs):
        text = f"study {quoted(name)} searches for settings, which `residuum list runs --study {searched.name}` lists"
        raise InputError(f"{text}; what it finds is judged by {searched / f'{stem}-tuned.toml'}")
    if not known:
        raise InputError(f"study {quoted(name)} was not run in {runs}", remedies=[Remedy("first run study")])
    near = get_close_matches(name[:QUOTED], [folder.name for folder in known], n=1, cutoff=0.0)
    raise InputError(f"study {quoted(name)} was not run in {runs}; the nearest there is {quoted(near[0])}")

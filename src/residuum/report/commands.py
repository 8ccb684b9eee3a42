"""Commands that compute a study or one of its runs again, as a user types them.

Where things lie on the machine that ran them is nobody's business: the data is called DATA, and the folder of the
runs RUNS where it was not the default.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from residuum import own, recipes
from residuum.studies import parsing
from residuum.studies.parsing import toml
from residuum.studies.plan import Plan, PlannedRun, seeded
from residuum.studies.study import Study

WHERE = ("data.root", "data.fingerprint")
"""Settings that say where the data lies or what is in it; a user gives both by `--data`."""


def user_settings(plan: Plan) -> dict[str, Any]:
    """The dotted settings that the user changed for all arms, without where the data lies."""
    usual = recipes.recipe(plan.study.base).settings()
    return {
        path: value
        for path, value in plan.settings.items()
        if path not in WHERE and not (path == "data.dataset" and value == usual["data.dataset.name"])
    }


def shipped(plan: Plan) -> Study | None:
    """The study of the package that a plan is of; None for a file that its user has, whatever its name."""
    name = plan.study.name
    study = parsing.read(name) if name in parsing.names() else None
    known = {arm.name: arm.settings for arm in study.arms()} if study else {}
    same = all(known.get(arm.name) == arm.settings for arm in plan.arms)
    return study if study and same and study.base == plan.study.base else None


def file_name(plan: Plan) -> str:
    """What stands for the file of a study that is not one of the package's."""
    return f"{plan.study.name or plan.label.partition('@')[0]}.toml"


def study_command(plan: Plan, *, elsewhere: bool = False) -> str:
    """The command that runs the study of a plan as it was run; what a budget chose stands in it as numbers.

    `elsewhere`: the folder of the runs is not the default one.
    """
    study = shipped(plan)
    words = ["residuum", "study", "run", plan.study.name if study else file_name(plan)]
    if study and [arm.name for arm in study.arms()] != [arm.name for arm in plan.arms]:
        words += ["--arms", ",".join(arm.name for arm in plan.arms)]
    if not study or study.seeds != plan.study.seeds:
        seeds = plan.study.seeds
        words += ["--seeds", str(len(seeds)) if seeds == tuple(range(len(seeds))) else ",".join(map(str, seeds))]
    if plan.scale != 1:
        words += ["--scale", toml(plan.scale)]
    if plan.settings.get("data.root"):
        words += ["--data", "DATA"]
    return shlex.join([*words, *_options(user_settings(plan)), *runs_option(elsewhere)])


def runs_option(elsewhere: bool) -> list[str]:
    """The option that names the folder of the runs, where that is not the default one."""
    return ["--runs", "RUNS"] if elsewhere else []


def train_command(plan: Plan, run: PlannedRun, *, elsewhere: bool = False) -> str:
    """The command that computes one run anew, alone: the recipe and every setting in which the run differs from it."""
    return _seeded(_without_seed(plan, run), run.seed, elsewhere=elsewhere)


def train_commands(plan: Plan, *, elsewhere: bool = False) -> list[str]:
    """`train_command` of every run of a plan, made once for an arm whose runs differ in the seed alone."""
    firsts = {arm: runs[0] for arm, runs in plan.runs_of.items() if runs}
    made = {arm: _without_seed(plan, first) for arm, first in firsts.items()}
    return [
        _seeded(
            made[run.arm] if run.config == seeded(firsts[run.arm].config, run.seed) else _without_seed(plan, run),
            run.seed,
            elsewhere=elsewhere,
        )
        for run in plan.runs
    ]


def _seeded(words: tuple[list[str], list[str]], seed: int, *, elsewhere: bool) -> str:
    before, after = words
    return shlex.join([*before, "--seed", str(seed), *after, *runs_option(elsewhere)])


def _without_seed(plan: Plan, run: PlannedRun) -> tuple[list[str], list[str]]:
    """The words of the command before the seed, and those after it."""
    own = next(arm.settings for arm in plan.arms if arm.name == run.arm)
    given = {path: value for path, value in {**plan.study.settings, **own}.items() if path not in WHERE}
    asked = recipes.recipe(plan.study.base).changed(given).model_dump(mode="json")
    # What the settings alone do not give: the schedule of a shortened run, whose defaults change as well, and
    # settings that a later one of the same study overrode.
    shortened = run.config.train.epochs != asked["train"]["epochs"]
    for path, resolved in _settings(run.config.model_dump(mode="json")):
        unlike = not _covers(resolved, dict(_settings(asked))[path])
        if path not in (*WHERE, "train.seed") and (unlike or (shortened and path == "optim.schedule")):
            given = {old: kept for old, kept in given.items() if old != path and not old.startswith(f"{path}.")}
            given[path] = resolved
    words = ["residuum", "train", plan.study.base]
    if run.config.data.root:
        words += ["--data", "DATA"]
        given.pop("data.dataset", None)
    return words, _options(given)


def _options(settings: Mapping[str, Any]) -> list[str]:
    typed = {path: own.typed(value) for path, value in settings.items()}
    return [word for path, value in typed.items() for word in ("--set", f"{path}={toml(value)}")]


def _settings(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The settings of a configuration, choices whole."""
    sections = [(name, values) for name, values in config.items() if name != "model"]
    return [("model", config["model"]), *((f"{name}.{key}", value) for name, values in sections
                                          for key, value in values.items())]  # fmt: skip


def _covers(resolved: Any, asked: Any) -> bool:
    """Whether a resolved value is what was asked for, with nothing but defaults written out besides."""
    if isinstance(asked, Mapping):
        return isinstance(resolved, Mapping) and all(key in resolved and _covers(resolved[key], asked[key])
                                                     for key in asked)  # fmt: skip
    if isinstance(resolved, Mapping):  # a choice by its name
        return bool(resolved.get("name") == asked)
    if isinstance(asked, list):
        return isinstance(resolved, list) and len(resolved) == len(asked) and all(map(_covers, resolved, asked))
    return bool(resolved == asked)

"""The commands of studies: list, show, plan, run, report, hand in, power."""

import argparse
import json
import math
import re
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from residuum import own
from residuum.cli import handing_in
from residuum.cli.options import (
    RUNS,
    Command,
    common,
    mirror_option,
    print_json,
    say_damage,
    set_option,
    settings_of,
    store_option,
    tracker_option,
    tracking_of,
)
from residuum.cli.surroundings import LEFT, has_left
from residuum.cli.watching import add_watch
from residuum.errors import InputError, ResiduumError, duration, quoted, tally, unknown

Run = Callable[[argparse.Namespace], None]


class StudyFailedError(ResiduumError):
    """Some runs of a study failed; the others are computed (exit code 1)."""

    exit_code = 1


def add(command: Command) -> None:
    """Add the commands of studies."""
    group = command("study", lambda _options: None, "Questions as files: plan, run and report them.")
    within = group.add_subparsers(dest="command", metavar="command", required=True)
    p = command("list", show_all, "The studies that come with the package.", within=within)
    p.add_argument("--json", action="store_true", help="end in one line of JSON on standard output")
    p = command("show", show, "A study with its arms, claims and published numbers, resolved.", within=within)
    _study(p)
    p = command("plan", plan, "What a study computes, what is complete, and how long the rest takes.", within=within)
    _study(p)
    _size(p)
    _room(p, "without either, one run at a time is assumed")
    store_option(p, weights=False)
    p.set_defaults(rehearsed=True)
    p.add_argument("--until-decided", action="store_true", help="what can be shown if seeds are added in groups")
    p = command("run", run, "Compute a study; the same command goes on with a stopped one.", within=within)
    _study(p)
    _size(p)
    _room(p, "default: 1")
    mirror_option(p)
    _place(p)
    _scratch(p)
    p.add_argument("--until-decided", action="store_true", help="add seeds in groups until every claim is decided")
    p.add_argument(
        "--detach", action="store_true", help="go on without this terminal; `residuum study watch` shows how it stands"
    )
    tracker_option(p)
    p = command("search", search, "Search for settings as a study says, and write the study that judges them (extra "
                "search).", within=within)  # fmt: skip
    _study(p)
    p.add_argument("--scale", type=float, help="share of the epochs; the schedule keeps its shape")
    p.set_defaults(budget=None, rehearsed=False)
    p.add_argument("--trials", type=int, help="how many settings are tried for each arm (default: what the study says)")
    _room(p, "default: 1")
    mirror_option(p)
    _place(p)
    _scratch(p)
    tracker_option(p)
    add_watch(command, within)
    p = command("report", report, "Write the report of a study: page, Markdown, tables, figures.", within=within)
    p.add_argument("name", metavar="STUDY", help="a study that was run here, or the label of its plan")
    p.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: beside the plan)")
    common(p)
    store_option(p, weights=False)
    handing_in.within(within, command)
    p = command("power", power, "How many seeds it takes to see a difference.", within=within)
    _study(p)
    _size(p)
    store_option(p, weights=False)
    p.set_defaults(rehearsed=True)
    p.add_argument(
        "--difference", type=float, required=True, help="the difference to be seen, in points of the measure"
    )
    p.add_argument("--sd", type=float, help="the seed-to-seed standard deviation, where it is known from elsewhere")


def _study(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", metavar="STUDY", help="a study by name (`residuum study list`), or a file.toml")
    p.add_argument("--data", help="a data set's name, or a file or folder that holds one")
    p.add_argument("--arms", metavar="ARM,…", help="only these arms; claims on others are left out")
    p.add_argument("--topic", help="only the arms of one topic: a named arm on all axes, or a setting that arms vary")
    p.add_argument("--seeds", help="a count, or a list as 0,1,2")
    set_option(p, "a setting of every arm")
    common(p)


def _size(p: argparse.ArgumentParser) -> None:
    p.add_argument("--scale", type=float, help="share of the epochs; the schedule keeps its shape")
    p.add_argument("--budget", help="a time, as 30m or 2h: epochs, images, width and seeds are chosen to fit")
    p.set_defaults(rehearsed=False)


def _room(p: argparse.ArgumentParser, default: str) -> None:
    p.add_argument("--workers", help=f"processes at a time, or auto: what is fastest here ({default})")
    p.add_argument(
        "--lanes", type=int, help="runs side by side in each worker, for GPUs (default: 1; --workers auto measures it)"
    )


def _place(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--on", default="processes", metavar="PLACE",
        help="where: processes (the default), here (in this process), or a cluster, ray[:ADDRESS] or "
        "slurm[:PARTITION] (extras cluster and slurm)",
    )  # fmt: skip
    p.add_argument("--cpus", type=int, help="CPUs of each worker of a cluster (default: 1)")
    p.add_argument("--gpus", type=float, help="GPUs of each worker of a cluster, or a share of one (default: 1)")


def _scratch(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--scratch", metavar="DIR",
        help="with --on ray --store: where each machine computes, on its own disk, as $TMPDIR/runs (default: --runs)",
    )  # fmt: skip


def show_all(options: argparse.Namespace) -> None:
    """`residuum study list`."""
    from residuum.cli.terminal import print_table

    if options.json:
        print_json(rows())
    else:
        print_table(rows())


def rows() -> list[dict[str, Any]]:
    """The studies that come with the package, as a list shows them."""
    from residuum.studies import parsing

    studies = [parsing.read(name) for name in parsing.names()]
    return [
        {"study": one.name, "arms": len(one.arms()), "seeds": len(one.seeds), "question": one.question}
        for one in studies
    ]


def _read(options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The study that a command names, with its seeds, and the settings that its options stand for."""
    from residuum.studies import parsing

    study = parsing.read(options.name)
    if options.topic is not None:
        if options.arms is not None:
            raise InputError("--topic is a choice of arms, and so is --arms; give one of the two")
        topics = study.topics()
        if options.topic not in topics:
            raise unknown("topic", options.topic, topics, argument="topic")
        study = study.restricted(topics[options.topic])
    if options.arms is not None:
        study = study.restricted(_arms(options.arms, [arm.name for arm in study.arms()]))
    if options.seeds is not None:
        study = study.changed({}, _seeds(options.seeds))
    return study, settings_of(options)


def _arms(text: str, known: Sequence[str]) -> list[str]:
    """The arms of a list, whose names may hold commas themselves: at each place the longest name that fits."""
    found, rest = [], text
    while rest:
        fitting = [name for name in known if rest == name or rest.startswith(f"{name},")]
        if not fitting:
            raise unknown("arm", rest if rest.partition(",")[0] == rest else rest.partition(",")[0], known)
        found.append(max(fitting, key=len))
        rest = rest[len(found[-1]) + 1 :]
    return found


DIGITS, LONGEST = 18, 1e9
"""Digits of a seed, and seconds of a budget."""


def _seeds(text: str) -> Sequence[int]:
    if not re.fullmatch(r"\d+(,\d+)*,?", text) or text == "0":
        raise InputError(f"--seeds: {quoted(text)} is neither a count nor a list as 0,1,2")
    if max(map(len, text.split(","))) > DIGITS:
        raise InputError(f"--seeds: a count or a seed has at most {DIGITS} digits")
    return [int(part) for part in text.rstrip(",").split(",")] if "," in text else range(int(text))


def seconds(text: str) -> float:
    """Seconds of a time as `90s`, `30m`, `2h` or `1h30m`.

    Raises:
        InputError: it is not of that form.
    """
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    total = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    )
    if not 0 < total <= LONGEST:
        raise InputError(f"--budget: {quoted(text)} is not a time, as 90s, 30m, 2h or 1h30m")
    return total


def show(options: argparse.Namespace) -> None:
    """`residuum study show STUDY`."""
    from residuum.cli.terminal import print_table
    from residuum.conduct.planning import resolved
    from residuum.report import protocols
    from residuum.studies import parsing
    from residuum.studies.space import described

    study, settings = _read(options)
    study = study.changed(settings)
    try:
        configs = resolved(study)
    except InputError as error:
        raise parsing.located(options.name, error) from error
    if options.json:
        arms = {name: config.model_dump(mode="json") for name, config in configs.items()}
        print_json({**study.model_dump(mode="json"), "resolved": arms})
        return
    print(parsing.header(options.name) or study.question)
    print(f"\nbase recipe {study.base}, seeds {', '.join(map(str, study.seeds))}")
    print(_selects(study))
    print("\nArms, and the settings that set them apart")
    print_table([{"arm": arm.name, **own.readable(arm.settings)} for arm in study.arms()])
    if search := study.search:
        each, seeds = " of each arm" * search.tune_each_arm, ", ".join(map(str, search.seeds))
        how = f"{search.sampler}, with seed{'s' * (len(search.seeds) > 1)} {seeds}{', pruned' * search.prune}"
        print(f"What is searched for: {tally(search.trials, 'trial')}{each}, by {how}")
        print_table([{"setting": path, "values": described(one)} for path, one in search.space.items()])
    every = [config.settings() for config in configs.values()]
    shared = {path: value for path, value in every[0].items() if all(one.get(path) == value for one in every)}
    print("Settings that all arms share")
    print_table([{"setting": path, "value": json.dumps(value)} for path, value in shared.items()])
    if study.claims:
        print("Claims")
        print_table([{"claim": one.text, "expects": one.formula, "measure": one.measure} for one in study.claims])
    if study.published:
        print("Published")
        print_table([{"source": one.source, "arm": one.arm, "measure": one.measure, "value": one.value,
                      "bound": one.bound, "protocol": protocols.described(study.protocol_of(one))}
                     for one in study.published])  # fmt: skip


def _selects(study: Any) -> str:
    """Whether a study chooses an arm or searches for settings, and by what, in a line."""
    if study.search:
        what = ", ".join(study.search.space)
        return f"searches for {what} by validation error; the test set stays unread (`residuum study search`)"
    if study.select == "none":
        return "selects nothing: every arm is judged, and read on the test set at the end of each run"
    return (
        "selects an arm by validation error; the test set stays unread until all runs are there, and is then read "
        f"once, for that arm and its baseline ({study.compare.baseline or 'none among these arms'})"
    )


def _planned(options: argparse.Namespace, packing: Any = None, paces: Any = None, *, whole: bool = False) -> Any:
    """The plan that a command's options describe: as much as the budget allows runs so packed, or the whole.

    `paces` take up what is measured for a budget.
    """
    from residuum.conduct import cost, planning
    from residuum.studies import parsing

    study, settings = _read(options)
    if options.budget is not None and options.scale is not None:
        raise InputError("--budget chooses the scale; give one of the two")
    try:
        if options.budget is not None and not whole:
            budget = seconds(options.budget)
            return cost.within(study, settings, budget, options.runs, packing, rehearsed=options.rehearsed, paces=paces)
        scale = 1.0 if options.scale is None else options.scale
        return planning.plan(study, settings, scale=scale, rehearsed=options.rehearsed)
    except InputError as error:
        raise parsing.located(options.name, error) from error


def plan(options: argparse.Namespace) -> None:
    """`residuum study plan STUDY`."""
    from residuum.cli.terminal import print_table
    from residuum.conduct import conducting, cost
    from residuum.studies import plan as plans

    asked = options.workers is not None or options.lanes is not None
    packing = _packing(options, measured=True) if asked else None
    paces: dict[Any, Any] = {}
    began = time.monotonic()
    made = _planned(options, packing, paces)
    spent = cost.estimate(made, options.runs, packing=packing, paces=paces)
    if paces:  # most was measured for the budget
        spent = replace(spent, measured=time.monotonic() - began)
    done = {one.id for one in made.runs if plans.is_complete(one, options.runs)}
    promised = conducting.promises(made, options.runs, grown=options.until_decided)
    rows = []
    for arm in made.arms:
        mine = [one for one in made.runs if one.arm == arm.name]
        rows.append({
            "arm": arm.name, "parameters": f"{arm.parameters:,}", "multiply-adds": f"{arm.macs:,}",
            "epochs": arm.epochs, "updates": f"{arm.epochs * arm.steps_per_epoch:,}",
            "runs complete": f"{'?' if made.missing else sum(one.id in done for one in mine)} of {len(mine)}",
            "a run takes": duration(spent.run[arm.name]),
        })  # fmt: skip
    searching = _searching(made, spent)
    if options.json:
        print_json({
            "label": made.label, "scale": made.scale, "seeds": list(made.study.seeds), "gave_up": list(made.gave_up),
            "search": searching,
            "command": shlex.join(_command(options, made)),
            "select": made.study.select,
            "arms": [
                {**vars(arm), "settings": dict(arm.settings), "seconds": spent.run[arm.name]} for arm in made.arms
            ],
            "missing_data": list(made.missing),
            "runs": [{"arm": one.arm, "seed": one.seed, **_state(one, done, made)} for one in made.runs],
            "seconds": spent.total, "seconds_left": spent.remaining, "seconds_of_start": spent.start,
            "error": spent.spread, "seconds_measured": spent.measured,
            "networks": spent.networks, "networks_scaled": spent.scaled,
            "load": spent.load, "cores": spent.cores, "gain": spent.gain,
            "promises": [
                {"claim": one.claim.text, "measure": one.claim.measure, "sd": one.spread, "sd_highest": one.highest,
                 "sd_source": one.source, "alone_sds": one.alone, "together_sds": one.together, "equal": one.equal,
                 "alone": one.points(one.alone), "together": one.points(one.together),
                 "alone_at_highest": one.points(one.alone, highest=True),
                 "by_counts": one.by_counts, "fewest_seeds_if_untrained": one.fewest}
                for one in promised
            ],
        })  # fmt: skip
        return
    print(f"{made.label}: {made.study.question}")
    print(_selects(made.study))
    print_table(rows)
    for line in made.gave_up:
        print(f"the budget cost {line}")
    if options.budget is not None:
        print(f"`{shlex.join(_command(options, made))}` runs it")
    for name in made.missing:
        print(_missing(name))
    if made.scale != 1:
        print(
            f"scale {made.scale:.3g}: shorter runs with the same shape of schedule; their results are marked as scaled"
        )
    how = f"{packing}, {spent.gain:.2g} × as fast as one at a time" if spent.gain != 1 else "one at a time"
    left, takes = f"{len(made.runs) - len(done)} of {len(made.runs)} runs to compute", spent.remaining
    if searching:
        left, takes = f"{tally(searching['runs'], 'run')} to search if none is pruned", searching["seconds"]
    print(
        f"all {tally(len(made.runs), 'run')} are there and nothing is measured: a run takes what these took"
        if not spent.measured
        else f"{left}: about {duration(takes)} here, {how}, {spent.start:.0f} s of them to start "
        f"(measured for {duration(spent.measured)}, ± {100 * spent.spread:.0f} % by the spread of the updates)"
    )
    if spent.scaled:
        print(
            f"{spent.scaled} of {spent.networks} networks would have taken too long to measure: "
            "their times are scaled by multiply-adds"
        )
    if spent.load > spent.cores:
        print(f"the machine is busy: load {spent.load:.1f} on {spent.cores} cores; the estimate is too high")
    if not made.study.search:
        _print_promises(promised, len(made.study.seeds), options.until_decided)


def _command(options: argparse.Namespace, plan_: Any) -> list[str]:
    """The command that computes a plan, whatever budget it was made for."""
    own = settings_of(options)
    words = ["residuum", "study", "run", options.name]
    words += [
        word for name in ("data", "arms", "topic") if (value := getattr(options, name)) for word in (f"--{name}", value)
    ]
    words += [word for setting in options.set for word in ("--set", setting)]
    words += [word for path, value in plan_.settings.items() if path not in own
              for word in ("--set", f"{path}={json.dumps(value)}")]  # fmt: skip
    words += ["--scale", f"{plan_.scale!r}"] if plan_.scale != 1 else []
    if options.seeds is not None or any(line.startswith("seeds:") for line in plan_.gave_up):
        seeds = list(plan_.study.seeds)
        words += ["--seeds", str(len(seeds)) if seeds == [*range(len(seeds))] else "".join(f"{one}," for one in seeds)]
    words += [
        word for name in ("workers", "lanes") if (value := getattr(options, name)) for word in (f"--{name}", str(value))
    ]
    return [*words, *(["--runs", str(options.runs)] if options.runs != RUNS else [])]


def _state(run: Any, done: Collection[str], plan_: Any) -> dict[str, Any]:
    """The id of a planned run, and whether it is complete; both None where its images are not here."""
    return {"id": None, "complete": None} if plan_.missing else {"id": run.id, "complete": run.id in done}


def _missing(name: str) -> str:
    """That others stand in for the images of a data set, and how to bring these."""
    from residuum.cli.hints import said
    from residuum.data import datasets

    try:
        datasets.load(name)
    except InputError as error:
        return (
            "this plan is of noise in the number and shape of the published images, so which runs are complete is not "
            f"known; to run it: {said(error)}"
        )
    return f"{name} has come while this was planned: plan again"


def _searching(made: Any, spent: Any) -> dict[str, Any] | None:
    """How many runs a study's search takes at most, and how long; None where there is none."""
    if made.study.search is None:
        return None
    each = made.study.search.trials * len(made.study.search.seeds)
    seconds_ = spent.start + sum(each * spent.run[arm.name] for arm in made.arms) / spent.gain
    return {"runs": each * len(made.arms), "seconds": seconds_}


def _print_promises(promised: Sequence[Any], n: int, grown: bool) -> None:
    """Say what the verdicts of a study can show."""
    from residuum.analysis.claims import LEAST
    from residuum.cli.terminal import print_table
    from residuum.conduct import conducting

    if not promised:
        return
    if n < LEAST:
        print(f"{tally(n, 'seed')} per arm cannot support a claim: a verdict needs {LEAST}")
        return
    rows = []
    for one in promised:
        known = one.spread is not None
        sd = f"{one.spread:.2g}" + (f" (≤ {one.highest:.2g})" if one.highest else "") if known else "unknown"
        row = {"claim": one.claim.text, "measure": one.claim.measure, "sd": "–" if one.by_counts else sd}
        if one.by_counts:
            rows.append({**row, "beyond its margin by": "–", "if all claims are": "–"})
        elif one.claim.operator == "=":
            shown = "–" if one.equal is None else f"{100 * one.equal:.0f} % if equal"
            rows.append({**row, "beyond its margin by": shown, "if all claims are": ""})
        else:
            rows.append({**row, "beyond its margin by": _points(one, one.alone),
                         "if all claims are": _points(one, one.together)})  # fmt: skip
    how = f"{n} to {conducting.GROUPS * n} seeds over {conducting.GROUPS} looks" if grown else tally(n, "seed")
    print(f"\nWhat {how} show with a probability of 80 %, after Holm's correction for {len(promised)} claims")
    print_table(rows)
    for source in dict.fromkeys(one.source for one in promised if not one.by_counts):
        print(f"sd {source}" if source[:2] in ("of", "fr") else source)
    _print_counts(promised, conducting.GROUPS * n if grown else n)


def _print_counts(promised: Sequence[Any], n: int) -> None:
    """Say of which claims no spread promises anything, and what so many runs that do not train can decide."""
    for one in promised:
        if one.by_counts:
            print(f"{one.claim.text} ({one.claim.measure}): {one.source}; {_from_seeds(one, n)}")
    rest = [one for one in promised if not one.by_counts and one.fewest is not None and one.fewest > n]
    for number in dict.fromkeys(one.fewest for one in rest):
        many = sum(one.fewest == number for one in rest)
        claims = f"{tally(many, 'claim')} that normal runs would decide {'takes' if many == 1 else 'take'}"
        print(f"If an arm never trains, {claims} {number} seeds: counts decide then, and {n} are too few")


def _from_seeds(one: Any, n: int) -> str:
    """From how many seeds on runs that train or do not can decide a claim at all."""
    if one.fewest is None:
        return f"no number of seeds decides it: {one.claim.measure} says nothing of such runs"
    few = f", so {tally(n, 'seed')} cannot" if n < one.fewest else ""
    return f"counts decide it, from {tally(one.fewest, 'seed')} on at the earliest{few}"


def _points(one: Any, sds: float) -> str:
    from residuum.records.measures import measure

    found, at_most = one.points(sds), one.points(sds, highest=True)
    if found is None:
        return f"{sds:.2g} sd"
    unit = measure(one.claim.measure).unit
    unit = "points" if unit == "%" else "%" if unit in ("s", "ms") and not one.claim.margin else unit
    return f"{found:.2g} {unit}" + ("" if at_most is None else f" (≤ {at_most:.2g})")


def run(options: argparse.Namespace) -> None:
    """`residuum study run STUDY`."""
    from residuum.cli import progress
    from residuum.conduct import conducting
    from residuum.conduct.launchers.launcher import outlook
    from residuum.studies import plan as plans

    store = _store(options)
    if options.detach:
        _detach(options)
        return
    room, packing, how = _placed(options, measured=options.budget is not None)
    room = replace(room, store=store, scratch=options.scratch or "")
    made = _planned(options, packing)
    if room.store:
        conducting.fetch(made, options.runs, room.store)
    stream = sys.stderr if options.json else sys.stdout
    there = [one.id for one in made.runs if plans.is_complete(one, options.runs)]
    print(f"{made.label}: {tally(len(made.runs), 'run')}, {len(there)} complete already | {how}", file=stream)
    for line in made.gave_up:
        print(f"the budget cost {line}", file=stream)
    if options.until_decided:
        budget = None if options.budget is None else seconds(options.budget)
        said = conducting.until_decided(made, options.runs, room, options.on, budget=budget)
    else:
        said = conducting.run(made, options.runs, room, options.on)
    failed = progress.show(_remarked(_tracked(said, options)), options.runs, stream)
    if made.study.inside:
        from residuum.run.explaining import explain_arms

        if room.store:
            conducting.fetch_inside(made, options.runs, room.store)
        for line in explain_arms(made, options.runs):
            print(line, file=stream)
    _came_out(made.label, options)
    if room.store:
        conducting.give(made, options.runs, room.store)
    if failed:
        which = "; ".join(f"{name}: {one.reason}" for name, one in failed.items())
        raise StudyFailedError(f"{tally(len(failed), 'run')} failed ({which}); {outlook(failed.values())}")


def _detach(options: argparse.Namespace) -> None:
    """Begin the same command in a session of its own, and wait until it has begun or said why it cannot."""
    from residuum.run import detached

    _planned(options, whole=True)  # most of what cannot work is refused here
    begun = detached.begin([word for word in options.given if word != "--detach"], options.runs, options.name)
    log, label = detached.log_of(options.runs, begun.name), ""
    while not label and detached.is_alive(begun, options.runs):
        time.sleep(0.1)
        label = _begun(detached.printed(begun, options.runs), options.runs)
    label = label or _begun(detached.printed(begun, options.runs), options.runs)
    if not label:
        said = detached.printed(begun, options.runs).strip().rpartition("\n")[2].removeprefix("residuum: ")
        raise StudyFailedError(f"it ended at once: {said or 'it said nothing'} ({log})")
    if options.json:
        print_json({"label": label, "process": begun.process, "log": str(log)})
        return
    where = [] if options.runs == RUNS else ["--runs", str(options.runs)]
    print(f"process {begun.process} computes {label}; what it says goes to {log}")
    print(f"`{shlex.join(['residuum', 'study', 'watch', label, *where])}` shows how it stands; "
          f"`kill {begun.process}` saves and stops it")  # fmt: skip


def _begun(printed: str, runs: Path) -> str:
    """The label of the study that a detached command has begun; empty where its plan is not there yet."""
    from residuum.studies import plan as plans

    found = re.search(r"^(.+): [\d,]+ runs?, [\d,]+ complete already", printed, re.MULTILINE)
    return found[1] if found and (plans.folder_of(runs, found[1]) / plans.PLAN).exists() else ""


def search(options: argparse.Namespace) -> None:
    """`residuum study search STUDY`."""
    from residuum.cli import progress
    from residuum.cli.terminal import print_table
    from residuum.conduct import tuning

    store = _store(options)
    room, _, _ = _placed(options, measured=False)
    room = replace(room, store=store, scratch=options.scratch or "")
    made: Any = tuning.planned(_planned(options), options.trials)
    stream = sys.stderr if options.json else sys.stdout
    asked = made.study.search
    runs = f"{tally(asked.trials, 'trial')} of {tally(len(asked.seeds), 'run')}"
    of = f" for each of {len(made.arms)} arms" if len(made.arms) > 1 else ""
    print(f"{made.label}: {runs}{of}, judged on validation images; the test set stays unread", file=stream)
    said = _tracked(tuning.search(made, options.runs, room, options.on), options, made.label)
    progress.show_search(said, asked.trials, stream)
    found: Any = tuning.tuned(made, options.runs)
    path = tuning.write(found, made, options.runs, room.store)
    again = ["residuum", "study", "run", str(path), *(["--scale", f"{made.scale:g}"] if made.scale != 1 else []),
             *(["--runs", str(options.runs)] if options.runs != RUNS else []),
             *(["--store", options.store] if options.store else [])]  # fmt: skip
    if options.json:
        print_json({
            "study": str(path), "seconds": sum(one.seconds for one in found.tuned.arms),
            "test_reads": found.tuned.test_reads,
            "arms": [{**one.model_dump(mode="json"), "trials": one.trials} for one in found.tuned.arms],
        })  # fmt: skip
        return
    print_table([
        {"arm": one.arm, "trials": one.trials, "pruned": one.pruned, "failed": one.failed, "epochs": one.epochs,
         "time": duration(one.seconds), "lowest validation error %": f"{min(one.errors):.2f}", **one.settings}
        for one in found.tuned.arms
    ])  # fmt: skip
    print("the lowest of many is too low: fresh seeds say how good these settings are")
    print(f"`{shlex.join(again)}` computes them")


def _tracked(said: Iterable[Any], options: argparse.Namespace, study: str = "") -> Iterable[Any]:
    """What a launcher says, which the trackers of `--to` are told of, if there are any."""
    for tracking in tracking_of(options):
        from residuum.conduct.tracked_jobs import tracked_jobs

        said = tracked_jobs(said, tracking, study)
    return said


def _store(options: argparse.Namespace) -> str:
    """The store that a study's runs are mirrored in, if any; what cannot work is refused first."""
    from residuum.records import mirror

    place = options.on.partition(":")[0]
    if options.scratch is not None and (place != "ray" or options.store is None):
        raise InputError(
            "--scratch is where machines of a cluster compute what is mirrored in a store: --on ray --store"
        )
    if options.store is None:
        return ""
    if place == "slurm":
        raise InputError("--store: jobs of Slurm see the folder of the runs; leave it out")
    if mirror.store_of(options.store).url.startswith("memory:") and place != "here":
        raise InputError("--store: what lies in memory is seen by one process alone: --on here")
    mirror.usable(options.store)
    return str(options.store)


def _remarked(said: Iterable[Any]) -> Iterator[Any]:
    """What a study says, with a remark in the records of runs that end after the reader of its output has left."""
    from residuum.conduct.launchers.launcher import JobEvent
    from residuum.records.event import Finished
    from residuum.records.run_folder import remark

    for one in said:
        yield one
        if isinstance(one, JobEvent) and isinstance(one.event, Finished) and has_left(sys.stdout, sys.stderr):
            folder = one.event.folder
            if folder.is_dir():  # not on another machine
                remark(folder, LEFT)


def _placed(options: argparse.Namespace, *, measured: bool) -> tuple[Any, Any, str]:
    """The room that the options mean, its packing if it is on this machine, and how that is said."""
    from residuum.conduct.launchers import launch_of
    from residuum.conduct.launchers.launcher import Room

    launch_of(options.on)  # refused before a packing is measured
    room = _elsewhere(options)
    if room is not None:
        return room, None, f"on {options.on}"
    packing = _packing(options, measured=measured)
    room = Room(packing.workers, packing.threads, packing.lanes)
    return room, packing, f"{packing}, {tally(packing.threads, 'thread')} each"


def _elsewhere(options: argparse.Namespace) -> Any:
    """The room that the options mean on a cluster, which itself knows how much there is; None on this machine."""
    from residuum.conduct.launchers.launcher import Room

    if options.on.partition(":")[0] not in ("ray", "slurm"):
        for name in ("cpus", "gpus"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name} is of a cluster: --on ray, or slurm")
        return None
    if options.budget is not None:
        raise InputError("--budget measures this machine, not a cluster; give --scale and --seeds")
    workers = 0 if options.workers in (None, "auto") else _count("workers", options.workers)
    cpus, gpus = 1 if options.cpus is None else options.cpus, 1.0 if options.gpus is None else options.gpus
    if not 1 <= cpus <= 256:
        raise InputError(f"--cpus: {cpus} is not a count from 1 to 256")
    if not 0 < gpus <= 64:
        raise InputError(f"--gpus: {gpus:g} is not above 0 and up to 64")
    return Room(workers, cpus, _count("lanes", options.lanes or 1), gpus=gpus)


def _count(name: str, value: str | int) -> int:
    if not (str(value).isdigit() and 1 <= int(value) <= 64):
        raise InputError(f"--{name}: {quoted(value)} is not a count from 1 to 64")
    return int(value)


def _packing(options: argparse.Namespace, *, measured: bool) -> Any:
    """The packing that `--workers` and `--lanes` mean; `measured` says whether its speed is of interest."""
    from residuum.conduct import packing
    from residuum.engine.compute import usual_threads

    cores, most = packing.usable_cores(), usual_threads()
    text, lanes = "1" if options.workers is None else options.workers, 1 if options.lanes is None else options.lanes
    if text == "auto" and options.lanes is not None:
        raise InputError("--lanes: --workers auto finds the number of lanes itself; leave --lanes out")
    if text != "auto" and not (text.isdigit() and 1 <= int(text) <= 64):
        raise InputError(f"--workers: {quoted(text)} is neither a count from 1 to 64 nor auto")
    if not 1 <= lanes <= 64:
        raise InputError(f"--lanes: {lanes} is not a count from 1 to 64")
    if text == "auto":
        typical, largest = _sizes(options)
        found = packing.fastest(typical, cores, most, largest)
    else:
        workers = int(text)
        threads = max(1, min(most, cores // workers))
        if not measured or workers == lanes == 1:
            return packing.Packing(workers, threads, lanes)
        found = packing.measured(_sizes(options)[0], workers, threads, lanes)
    for (workers, threads, lanes), speed in found.images_per_second.items():
        side_by_side = f" x {lanes} lanes" if lanes > 1 else ""
        print(f"{workers} x {threads} threads{side_by_side}: {speed:,.0f} images/s", file=sys.stderr)
    return found


def _sizes(options: argparse.Namespace) -> tuple[Any, Any]:
    """The configurations of a study's runs whose networks have the median and the most multiply-adds."""
    made = _planned(options, whole=True)
    work = {arm.name: arm.macs for arm in made.arms}
    runs = sorted(made.runs, key=lambda one: work[one.arm])
    return runs[len(runs) // 2].config, runs[-1].config


def _came_out(label: str, options: argparse.Namespace) -> None:
    """Say what came out: the arms, then the verdicts."""
    from residuum.analysis.results import note_reading, results
    from residuum.cli.terminal import print_table
    from residuum.report import chosen_arm, promised
    from residuum.report.tables import READ_BEFORE, around, final, heading, of_arm, signed
    from residuum.studies import plan as plans

    folder = plans.find(label, options.runs)
    say_damage(folder)
    found = results(plans.read(folder), options.runs)
    note_reading(found, options.runs)
    compared = found.plan.study.compare.measure
    if options.json:
        print_json({
            "label": label,
            "arms": {
                measure: [{"arm": one.arm, "n": one.n, "mean": one.mean, "low": one.low, "high": one.high}
                          for one in found.summaries.get(measure, ())]
                for measure in dict.fromkeys((final(found, "error"), "held_out_error", "train_loss", compared))
            },
            "verdicts": [{"claim": one.claim.text, "verdict": one.verdict, "reason": one.reason,
                          "n": one.n, "rests_on": found.rests_on(one), "p": one.p, "p_holm": one.p_holm,
                          "exploratory": one.exploratory, "early": one.early} for one in found.verdicts],
            "looks": [vars(look) for look in found.looks],
            "prespecified": found.prespecified.hash if found.prespecified else None,
            "unplanned_looks": [list(one.seeds) for one in found.unplanned],
            "chosen": found.selection.chosen.arm if found.selection and found.selection.chosen else None,
            "test_error": {name: one.mean for name, one in found.selection.test.errors.items()}
            if found.selection and found.selection.test else None,
        })  # fmt: skip
        return
    error = final(found, "error")
    trained = {f"{error.replace('_', ' ')} %": error, "train loss": "train_loss"}
    shown = {heading(compared): compared} if found.plan.study.is_initial else trained
    first, *_ = shown.values()
    print_table([
        {"arm": one.arm, "n": one.n, **{text: around(of_arm(found, name, one.arm), 3 if name == "train_loss" else 2)
                                          for text, name in shown.items()}}
        for one in found.summaries.get(first, ())
    ])  # fmt: skip
    if found.verdicts:
        print_table([{"verdict": one.verdict + " (exploratory)" * bool(one.exploratory), "claim": one.claim.text,
                      "rests on": found.rests_on(one), "why": signed(one.reason)}
                     for one in found.verdicts])  # fmt: skip
        for line in promised.notes(found):
            print(line)
    if found.looks and found.looks[0].read_before:
        print(READ_BEFORE)
    if found.selection:
        print(chosen_arm.state(found))
    where = ["--store", options.store] if options.store else []
    where += [] if options.runs == RUNS or where else ["--runs", str(options.runs)]
    print(f"`{shlex.join(['residuum', 'study', 'report', label, *where])}` writes the report")


def report(options: argparse.Namespace) -> None:
    """`residuum study report STUDY`."""
    from residuum.analysis.results import note_reading, results
    from residuum.report.study_page import write
    from residuum.studies import plan as plans

    folder = plans.find(options.name, options.runs)
    plan_ = plans.read(folder)
    if options.name.endswith(".toml") and Path(options.name).is_file() and not plan_.study.only:
        _say_changed(options.name, plan_)
    say_damage(folder)
    found, out = results(plan_, options.runs), options.out or folder / plans.REPORT
    index = write(found, out, runs=options.runs, elsewhere=options.runs != RUNS)
    note_reading(found, options.runs)
    if options.json:
        print_json({"report": str(index)})
    else:
        print(f"report: {index}")


def _say_changed(name: str, plan_: Any) -> None:
    """Say if a study's file says other things than the plan that is reported."""
    from residuum.studies import parsing

    now, then = (one.model_dump(mode="json") for one in (parsing.read(name), plan_.study))
    differing = [key for key in ("question", "base", "axes", "arms", "compare", "claims", "published")
                 if now[key] != then[key]]  # fmt: skip
    if differing:
        print(
            f"{name} says other {', '.join(differing)} than when it was run, which is what is reported; "
            f"`residuum study run {name}` takes them up, and the report then says what came later",
            file=sys.stderr,
        )


def power(options: argparse.Namespace) -> None:
    """`residuum study power STUDY --difference D`."""
    from residuum.analysis import power as analysis
    from residuum.cli.terminal import print_table
    from residuum.conduct import conducting

    if not 0 < options.difference < math.inf or (options.sd is not None and not 0 < options.sd < math.inf):
        raise InputError("--difference and --sd: numbers above 0, in points of the measure")
    made = _planned(options)
    promised = conducting.promises(made, options.runs, sd=options.sd)
    paired = made.study.compare.pair_by != "none"
    asked = [one for one in promised if one.claim.operator != "="]
    needed = [analysis.seeds(one, options.difference, len(promised), paired=paired) for one in asked]
    if options.json:
        print_json({"claims": [
            {"claim": one.claim.text, "measure": one.claim.measure, "seeds": n, "seeds_at_most": most, "sd": one.spread,
             "sd_source": one.source, "by_counts": one.by_counts, "fewest_seeds_if_untrained": one.fewest}
            for one, (n, most) in zip(asked, needed, strict=True)
        ]})  # fmt: skip
        return
    known = [n for n, _ in needed if n is not None]
    if known:
        print(
            f"Seeds per arm that support a claim with a probability of 80 % if the truth lies {options.difference:g} "
            f"beyond its margin, at the first step of Holm's correction for {len(promised)} claims"
        )
        print_table([
            {"claim": one.claim.text, "measure": one.claim.measure, "seeds": n, "at most": most or "–",
             "sd": f"{one.spread:.2g} {one.source}"}
            for one, (n, most) in zip(asked, needed, strict=True) if n is not None
        ])  # fmt: skip
        print(f"{tally(max(known), 'seed')} show it in every claim of this table")
    for one, (n, _) in zip(asked, needed, strict=True):
        if n is None and not one.by_counts:
            print(f"{one.claim.text} ({one.claim.measure}): {one.source}; give --sd")
    _print_counts(asked, max(known, default=len(made.study.seeds)))

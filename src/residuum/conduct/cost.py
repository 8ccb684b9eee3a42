"""What a study costs on this machine: estimated from a calibration, and cut to a budget."""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from residuum.conduct.packing import Pace, Packing, least_seconds, start_seconds, step_seconds, usable_cores
from residuum.conduct.planning import arm_configs, plan
from residuum.config import RunConfig
from residuum.engine.compute import usual_threads
from residuum.errors import InputError, duration, tally
from residuum.records import run_folder
from residuum.records.measures import measure
from residuum.records.record import read_record
from residuum.studies.plan import Plan, PlannedArm
from residuum.studies.study import Study


@dataclass(frozen=True)
class Estimate:
    """What the runs of a plan take on this machine, in seconds: a run of each arm, all runs, and those still to do.

    `start` is the start of the worker process, once in each sum; loading the data is in every run. `spread` is the
    relative half-width of the calibration's time of an update: the error of the estimate as far as the calibration,
    which took `measured` seconds, can see it. `run` assumes one run at a time, on all cores; in the sums the runs are
    packed, which makes them `gain` times as fast, but never faster than the longest of them alone. `load` is the load
    of the machine in the minute before: above `cores`, those of this process, others had a part of them, and the
    estimate is too high. `setup` is the part of `run` that does not grow with its epochs. `scaled` of the `networks`
    (with their batch) were not measured but scaled by multiply-adds from others.
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
    setup: Mapping[str, float] = field(default_factory=dict)

    def shorter(self, arm: PlannedArm, epochs: int) -> float:
        """Seconds of a run of an arm if it had so many epochs."""
        setup = self.setup.get(arm.name, 0.0)
        return setup + (self.run[arm.name] - setup) * epochs / arm.epochs


def estimate(
    plan: Plan,
    runs: Path,
    *,
    seconds: float = 20.0,
    packing: Packing | None = None,
    paces: dict["_Size", Pace] | None = None,
) -> Estimate:
    """What a plan takes here, from at most about `seconds` of calibration: 3, or one run, for each network and batch.

    Nothing is measured where all runs are there: it is what they took. Networks are measured from the smallest on; what
    would not fit any more is scaled from the nearest one that was. Without a packing one run at a time is assumed.
    `paces` are those that were measured before, and take up what is measured.
    """
    if all(run_folder.is_complete(runs / run.folder) for run in plan.runs):
        return _taken(plan, runs)
    load, began = os.getloadavg()[0], time.monotonic()
    configs = arm_configs(plan)
    size_of = {arm.name: _size(arm, configs[arm.name]) for arm in plan.arms}
    sizes = {size: configs[name] for name, size in size_of.items()}
    paces = {} if paces is None else paces
    todo_sizes = sorted(sizes.keys() - paces.keys(), key=lambda size: size.work)
    for number, size in enumerate(todo_sizes):
        left = seconds - (time.monotonic() - began)
        if paces and least_seconds(_pace(size, paces)) > left:
            break
        paces[size] = step_seconds(sizes[size], usual_threads(), min(3.0, left / (len(todo_sizes) - number)))
    each, setup = {}, {}
    for arm in plan.arms:
        pace = _pace(size_of[arm.name], paces)
        epoch = arm.steps_per_epoch * pace.step + arm.evaluated * pace.evaluation
        setup[arm.name] = pace.setup
        each[arm.name] = pace.setup + arm.epochs * epoch
    start = start_seconds(usual_threads())
    gain = packing.gain if packing else 1.0
    todo = [each[run.arm] for run in plan.runs if not run_folder.is_complete(runs / run.folder)]
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
        scaled=sum(size not in paces for size in sizes),
        gain=gain,
        setup=setup,
    )


def _taken(plan: Plan, runs: Path) -> Estimate:
    """What the runs of a plan took that are all there: nothing is to be measured, and nothing is left."""
    took: dict[str, list[float]] = {arm.name: [] for arm in plan.arms}
    for run in plan.runs:
        took[run.arm].append(measure("seconds").of(read_record(runs / run.folder)) or 0.0)
    each = {arm: fmean(seconds) if seconds else 0.0 for arm, seconds in took.items()}
    total = sum(sum(seconds) for seconds in took.values())
    return Estimate(
        each, 0.0, total, 0.0, spread=0.0, measured=0.0, load=0.0, cores=usable_cores(), networks=0, scaled=0
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


CURVE = 10
"""Epochs below which nobody can read a curve: no run is cut to fewer, unless all that is asked is known before it."""
SMALLER = ((1.0, 1), (0.5, 1), (0.25, 1), (0.25, 2), (0.1, 2), (0.1, 4))
"""Share of the training images, and by what the channels are divided, in the order in which they are tried."""
WIDTHS = {2: "half", 4: "a quarter"}


@dataclass(frozen=True)
class _Level:
    """A study at one size: the settings that make it so, its plan and what that takes; `lost` says what it gives up."""

    settings: Mapping[str, Any]
    plan: Plan
    cost: Estimate
    lost: tuple[str, ...]

    @property
    def longest(self) -> int:
        return max(arm.epochs for arm in self.plan.arms)

    def lengths(self, epochs: int) -> dict[str, int]:
        """The epochs of every arm where the longest has so many."""
        return {arm.name: max(1, round(arm.epochs * epochs / self.longest)) for arm in self.plan.arms}

    def shortest(self) -> int:
        """The fewest epochs of the longest arm with which every arm has a curve that can be read."""
        curve = 1 if self.plan.study.is_initial else CURVE
        fits = (epochs for epochs in range(1, self.longest)
                if all(self.lengths(epochs)[arm.name] >= min(curve, arm.epochs) for arm in self.plan.arms))  # fmt: skip
        return next(fits, self.longest)

    def seconds(self, seeds: int, epochs: int, arms: Sequence[PlannedArm] = ()) -> float:
        """What so many seeds of some arms, or of all, take at that length."""
        lengths = self.lengths(epochs)
        each = [self.cost.shorter(arm, lengths[arm.name]) for arm in arms or self.plan.arms]
        return self.cost.start + max(seeds * sum(each) / self.cost.gain, *each)


def within(
    study: Study,
    settings: Mapping[str, Any],
    budget: float,
    runs: Path,
    packing: Packing | None = None,
    *,
    rehearsed: bool = False,
    paces: dict["_Size", Pace] | None = None,
) -> Plan:
    """The plan that fits into `budget` seconds: as long as it can be at the largest size that fits.

    Given up are, in this order: epochs, down to ten, below which a curve says little; training images, down to a tenth;
    half of the channels, or three quarters; and seeds, without which no arm has an interval. What the user or the study
    itself says of images and channels stays as it is. Without a packing one run at a time is assumed. `paces` take up
    what is measured for it, so that what is said of the plan afterwards is what it was chosen by.

    Raises:
        InputError: not even the least of these fits; it says what does.
    """
    tried: list[_Level] = []
    paces = {} if paces is None else paces
    for level in _levels(study, settings, runs, packing, paces, rehearsed=rehearsed):
        tried.append(level)
        if epochs := _epochs(level, len(study.seeds), budget):
            return _cut(study, settings, level, len(study.seeds), epochs, rehearsed=rehearsed)
    for count in range(len(study.seeds) - 1, 0, -1):
        for level in tried:
            if epochs := _epochs(level, count, budget):
                return _cut(study, settings, level, count, epochs, rehearsed=rehearsed)
    raise _impossible(tried[-1], budget)


def _levels(
    study: Study, settings: Mapping[str, Any], runs: Path, packing: Packing | None, paces: dict["_Size", Pace], *,
    rehearsed: bool,
) -> Iterator[_Level]:  # fmt: skip
    """A study at smaller and smaller sizes; what was measured for one is not measured for the next."""
    whole = plan(study, settings, rehearsed=rehearsed)
    said = _said([study.settings, study.axes, settings, *(one.settings for one in study.named)])
    channels = None if said & {"model.channels", "model.wide"} else _channels(whole)
    seen: list[dict[str, Any]] = []
    for share, parts in SMALLER:
        smaller: dict[str, Any] = {"data.subset": share} if share < 1 and "data.subset" not in said else {}
        lost = [f"images: {100 * share:.0f} % of those that train (data.subset={share:g})"] if smaller else []
        if parts > 1 and channels is not None:
            smaller["model.channels"] = narrow = [max(1, count // parts) for count in channels]
            lost.append(f"width: {WIDTHS[parts]} of the channels (model.channels={json.dumps(narrow)})")
        if smaller in seen:
            continue
        seen.append(smaller)
        try:
            made = plan(study, {**settings, **smaller}, rehearsed=rehearsed) if smaller else whole
        except InputError:  # the study varies it, or a network cannot be so
            continue
        yield _Level(smaller, made, estimate(made, runs, packing=packing, paces=paces), tuple(lost))


def _said(settings: Sequence[Mapping[str, Any]]) -> set[str]:
    """The dotted paths of all that is set, within a network that is set as a whole too."""
    found = {path for some in settings for path in some}
    networks = [some["model"] for some in settings if isinstance(some.get("model"), Mapping)]
    return found | {f"model.{name}" for network in networks for name in network}


def _channels(whole: Plan) -> list[int] | None:
    """The channels of a study's networks; None where they differ, or where what is asked depends on them."""
    study = whole.study
    asked = [study.compare.measure, *(one.measure for one in study.claims)]  # what was published stays as it was
    found = [config.model.settings.get("channels") for config in arm_configs(whole).values()]
    if not found[0] or any(one != found[0] for one in found) or any(measure(name).initial for name in asked):
        return None
    return list(found[0])


def _epochs(level: _Level, seeds: int, budget: float) -> int:
    """The most epochs of the longest arm with which so many seeds fit; 0 if there are none."""
    lengths = range(level.longest, level.shortest() - 1, -1)
    return next((epochs for epochs in lengths if level.seconds(seeds, epochs) <= budget), 0)


def _cut(study: Study, settings: Mapping[str, Any], level: _Level, seeds: int, epochs: int, *, rehearsed: bool) -> Plan:
    """The plan of so many seeds at that length and size."""
    lengths, longest = level.lengths(epochs), level.longest
    texts = [f"{epochs / longest:.{digits}g}" for digits in range(2, 17)]
    fits = (found for found in map(float, texts) if found <= 1
            and all(max(1, round(arm.epochs * found)) == lengths[arm.name] for arm in level.plan.arms))  # fmt: skip
    scale = next(fits, epochs / longest)
    lost = [f"length: {epochs} of {longest} epochs in the longest arm (scale {scale:g})"] if epochs < longest else []
    lost += level.lost
    if seeds < len(study.seeds):
        lost.append(f"seeds: {seeds} of {len(study.seeds)}")
    fewer = study.changed({}, study.seeds[:seeds])
    return plan(fewer, {**settings, **level.settings}, scale=scale, gave_up=lost, rehearsed=rehearsed)


def _impossible(least: _Level, budget: float) -> InputError:
    """The error for a budget into which nothing fits, with the smallest one that would do, and arms that would."""
    shortest, arms = least.shortest(), least.plan.arms
    needed = least.seconds(1, shortest)
    size = "".join(f", {text.partition(': ')[2]}" for text in least.lost)
    what = f"{tally(shortest, 'epoch')}{size} and one seed of {tally(len(arms), 'arm')}"
    text = f"{what} take about {duration(needed)} here, more than {duration(budget)}; {as_budget(needed)} would do"
    baseline = least.plan.study.compare.baseline
    ordered = sorted(arms, key=lambda arm: (arm.name != baseline, arm.work))
    for count in range(len(arms) - 1, 1, -1):
        some = ordered[:count]
        if (takes := least.seconds(1, shortest, some)) <= budget:
            names = ", ".join(arm.name for arm in some)
            return InputError(f"{text}, and so would these arms alone: {names} ({duration(takes)})", argument="budget")
    return InputError(text, argument="budget")


def as_budget(seconds: float) -> str:
    """A time that is a little more than so many seconds, as it is given: 50s, 12m, 5h30m."""
    if seconds < 60:
        return f"{math.ceil(1.05 * seconds)}s"
    hours, minutes = divmod(math.ceil(1.05 * seconds / 60), 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes or not hours else "")

"""What a study costs on this machine: estimated from a calibration, and cut to a budget."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from residuum.conduct.packing import Pace, Packing, least_seconds, start_seconds, step_seconds, usable_cores
from residuum.conduct.planning import arm_configs, plan
from residuum.config import RunConfig
from residuum.engine.compute import usual_threads
from residuum.errors import InputError, duration
from residuum.records import run_folder
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


def estimate(plan: Plan, runs: Path, *, seconds: float = 20.0, packing: Packing | None = None) -> Estimate:
    """What a plan takes here, from a calibration of about `seconds` in all, at most 3 for each network and batch.

    They are measured from the smallest on; what would not fit any more is scaled from the nearest one that was. Without
    a packing one run at a time is assumed.
    """
    load, began = os.getloadavg()[0], time.monotonic()
    configs = arm_configs(plan)
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
    study: Study,
    settings: Mapping[str, Any],
    budget: float,
    runs: Path,
    packing: Packing | None = None,
    *,
    rehearsed: bool = False,
) -> Plan:
    """The plan that fits into `budget` seconds: all seeds at the largest scale that fits, then fewer seeds.

    Seeds come before length: without them a longer run has no interval. Without a packing one run at a time is assumed.

    Raises:
        InputError: not even one epoch of one seed fits.
    """
    whole = plan(study, settings, rehearsed=rehearsed)
    cost = estimate(whole, runs, packing=packing)
    seeds, longest = whole.study.seeds, max(arm.epochs for arm in whole.arms)
    least = 0.0
    lengths = {
        epochs: [cost.run[arm.name] * max(1, round(arm.epochs * epochs / longest)) / arm.epochs for arm in whole.arms]
        for epochs in range(longest, 0, -1)
    }
    sizes = {epochs: (sum(runs), max(runs)) for epochs, runs in lengths.items()}
    for count in range(len(seeds), 0, -1):
        for epochs, (every, slowest) in sizes.items():
            scale = epochs / longest
            least = cost.start + max(count * every / cost.gain, slowest)
            if least <= budget:
                gave_up = []
                if scale < 1:
                    gave_up.append(f"length: {epochs} of {longest} epochs in the longest arm (scale {scale:.3g})")
                if count < len(seeds):
                    gave_up.append(f"seeds: {count} of {len(seeds)}")
                fewer = study.changed({}, seeds[:count])
                return plan(fewer, settings, scale=scale, gave_up=gave_up, rehearsed=rehearsed)
    raise InputError(
        f"one epoch of every arm and one seed take about {duration(least)} here, more than "
        f"{duration(budget)}; fewer images (data.subset=0.1) or a smaller network make it fit",
        argument="budget",
    )

"""Conducting studies: plans, scale, the store, what is gone on with, budgets, seeds in groups, and that pairing helps."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from residuum.analysis.aggregate import Value, summarize
from residuum.analysis.compare import compare
from residuum.analysis.results import results
from residuum.cli import build_parser, main
from residuum.conduct import conducting, cost, planning
from residuum.conduct.launchers import LAUNCHERS
from residuum.conduct.launchers.launcher import JobEvent, JobFailed, Room
from residuum.conduct.packing import Pace, Packing
from residuum.config import RunConfig, identity
from residuum.data import datasets
from residuum.errors import InputError
from residuum.records import storage
from residuum.records.event import EpochDone, Finished
from residuum.records.record import read_record
from residuum.report.promised import lost_looks, notes
from residuum.report.tables import READ_BEFORE
from residuum.studies import plan as plans
from residuum.studies import prespecified
from residuum.studies.parsing import written
from residuum.studies.study import Study
from residuum.training import run, train

TINY = {
    "data.dataset": {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 4},
    "data.validation": 12,
    "data.augment": ["pad_crop", "horizontal_flip"],
    "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]},
    "train.epochs": 4,
    "train.batch_size": 16,
    "compute.threads": 1,
}


def tiny(**parts) -> Study:
    values = {"name": "tiny", "question": "?", "base": "quick", "seeds": 2, "set": TINY,
              "axes": {"model.shortcut": ["none", "identity"]}, "compare": {"baseline": {"model.shortcut": "none"}}}  # fmt: skip
    return Study(**{**values, **parts, "set": {**TINY, **parts.get("set", {})}})


def conducted(plan, root, workers=1):
    """Run a plan; returns the ids of the runs that were computed and of those that failed."""
    said = list(conducting.run(plan, root, Room(workers, 1)))
    computed = {one.id for one in said if isinstance(one, JobEvent) and isinstance(one.event, EpochDone)}
    return computed, {one.id for one in said if isinstance(one, JobFailed)}


def numbers(plan, root):
    """Everything in a study's tables that does not depend on the clock."""
    found = results(plan, root)
    clock = {"seconds", "seconds_per_epoch", "milliseconds_per_update"}
    return (
        {name: rows for name, rows in found.summaries.items() if name not in clock},
        found.comparisons,
        found.verdicts,
    )


def test_plan_has_every_run_with_its_cost():
    plan = planning.plan(tiny(), {})
    assert [(run.arm, run.seed) for run in plan.runs] == [("none", 0), ("none", 1), ("identity", 0), ("identity", 1)]
    assert len({run.id for run in plan.runs}) == 4
    assert [(arm.name, arm.epochs, arm.steps_per_epoch, arm.evaluated) for arm in plan.arms] == [
        ("none", 4, 3, 12), ("identity", 4, 3, 12),
    ]  # fmt: skip
    assert plan.arms[0].parameters == plan.arms[1].parameters
    assert plan.label == "tiny"


def test_plan_survives_its_file(tmp_path):
    plan = planning.plan(tiny(), {"optim.lr": 0.05}, scale=0.5)
    plans.write(plan, tmp_path)
    assert plans.read(plans.find("tiny", tmp_path)) == plan
    assert plans.find(plan.label, tmp_path) == plans.find("tiny", tmp_path)
    with pytest.raises(InputError, match=f"the nearest there is '{plan.label}'"):
        plans.find("tinny", tmp_path)


def test_label_says_whether_the_runs_are_those_of_the_study():
    plain = planning.plan(tiny(), {}).label
    assert planning.plan(tiny(), {"data.validation": 12}).label == plain
    assert planning.plan(tiny(seeds=1), {}).label == plain
    assert planning.plan(tiny(), {"save.every": 2, "monitor.histograms": True}).label == plain
    others = {planning.plan(tiny(), {}, scale=0.5).label, planning.plan(tiny(), {"optim.lr": 0.5}).label}
    assert len(others | {plain}) == 3


@pytest.mark.parametrize(("scale", "epochs"), [(1.0, 4), (0.5, 2), (0.05, 1)])
def test_scale_shortens_runs_and_keeps_the_shape_of_schedule_and_warm_up(scale, epochs):
    study = tiny(set={"optim.schedule": {"name": "multistep", "milestones": [2, 3]}, "optim.warmup": 1.0})
    for planned in planning.plan(study, {}, scale=scale).runs:
        assert planned.config.train.epochs == epochs
        expected = [2, 3] if scale == 1 else [0.5, 0.75]
        assert list(planned.config.optim.schedule.settings["milestones"]) == expected
        assert planned.config.optim.warmup == (1.0 if scale == 1 else 0.25)


@pytest.mark.parametrize("scale", [0, -1, 1.5])
def test_scale_that_cannot_be_is_refused(scale):
    with pytest.raises(InputError, match=r"^scale: "):
        planning.plan(tiny(), {}, scale=scale)


def test_mistake_that_only_the_computing_half_sees_names_the_arm():
    study = tiny(axes={"optim.optimizer": ["sgd", "sgdd"]}, compare={})
    with pytest.raises(InputError, match=r"arm 'sgdd': optim.optimizer: unknown optimizer 'sgdd'; did you mean 'sgd'"):
        planning.plan(study, {})
    with pytest.raises(InputError, match="arm 'sgdd'"):
        planning.resolved(study)


def test_run_is_computed_once_whichever_study_asks(here, tmp_path):
    """The run of a study is the run of `residuum train`, and of another study with the same arm."""
    plan = planning.plan(tiny(), {})
    train(tiny().arms()[0].config.changed({"train.seed": 0}), tmp_path)
    computed, failed = conducted(plan, tmp_path)
    assert (len(computed), failed) == (3, set())
    assert conducted(plan, tmp_path) == (set(), set())
    other = tiny(name="other", axes={"model.shortcut": ["identity", "projection"]}, compare={"baseline": "identity"})
    assert len(conducted(planning.plan(other, {}), tmp_path)[0]) == 2


def test_arms_that_ask_for_the_same_run_share_it(here, tmp_path):
    study = tiny(axes={}, arms=[{"name": "baseline"}, {"name": "same", "set": {"optim.lr": 0.02}}],
                 compare={"baseline": "baseline"}, seeds=1)  # fmt: skip
    plan = planning.plan(study, {})
    assert plan.runs[0].id == plan.runs[1].id
    assert len(conducted(plan, tmp_path)[0]) == 1
    assert results(plan, tmp_path).comparisons[0].mean == 0


def test_paired_arms_see_the_same_images_in_the_same_order(here, tmp_path):
    """Guard 34: pairing is by construction."""
    plan = planning.plan(tiny(seeds=1), {})
    conducted(plan, tmp_path)
    first, second = (read_record(tmp_path / run.folder).steps() for run in plan.runs)
    assert [row["order"] for row in first] == [row["order"] for row in second]
    assert len({row["order"] for row in first}) == len(first)


def test_pairing_narrows_the_interval(here, tmp_path):
    """Two arms that differ little: what the seed does to both is taken out by pairing, and only then."""
    study = tiny(axes={"optim.lr": [0.02, 0.021]}, compare={"baseline": "lr=0.02"}, seeds=5)
    plan = planning.plan(study, {})
    assert not conducted(plan, tmp_path)[1]
    first, second = results(plan, tmp_path).summaries["train_loss"]
    paired, unpaired = (compare(second, first, paired=paired) for paired in (True, False))
    assert paired.mean == pytest.approx(unpaired.mean)
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)
    shuffled = [Value(one.seed + 1 if one.seed < 4 else 0, one.run, one.status, one.value) for one in first.values]
    wrong = compare(second, summarize(first.arm, first.measure, shuffled), paired=True)
    assert wrong.high - wrong.low > paired.high - paired.low


def test_diverged_arm_is_a_result(here, tmp_path):
    study = tiny(axes={"optim.lr": [0.02, 1e30]}, compare={"baseline": "lr=0.02"},
                 claims=[{"text": "Too fast.", "expect": "lr=1e+30 > lr=0.02"}])  # fmt: skip
    plan = planning.plan(study, {})
    assert conducted(plan, tmp_path)[1] == set()
    found = results(plan, tmp_path)
    assert [value.status for value in found.summaries["test_error"][1].values] == ["diverged"] * 2
    assert [(one.diverged, one.n) for one in found.failures] == [(0, 2), (2, 2)]
    assert found.verdicts[0].verdict == "undecided"  # two runs of each arm: Boschloo's p is at least 1/8
    assert found.verdicts[0].reason.startswith("2 of 2 runs of 'lr=1e+30'")


def test_failed_run_is_named_and_the_others_go_on(tmp_path, capsys):
    plan = planning.plan(tiny(seeds=1), {})
    folder = tmp_path / plan.runs[0].folder
    folder.mkdir()
    (folder / "config.json").mkdir()  # writing the configuration fails, whatever is tried
    path = tmp_path / "tiny.toml"
    path.write_text(written(tiny(seeds=1)))
    assert main(["study", "run", str(path), "--runs", str(tmp_path)]) in (1, 74)
    said = capsys.readouterr()
    assert "residuum: " in said.err


@pytest.mark.parametrize(("certain", "then"), [(False, "the same command tries again"),
                                               (True, "it fails in the same way again until what is named is mended")])  # fmt: skip
def test_a_study_with_a_failed_run_ends_with_1_and_one_without_with_0(tmp_path, monkeypatch, capsys, certain, then):
    """A run that cannot work is named, the others are computed, and who called the command sees that one is missing."""
    path = tmp_path / "tiny.toml"
    path.write_text(written(tiny(seeds=1)))
    plan = planning.plan(tiny(seeds=1), {})

    def launch(jobs, root, _):
        for number, job in enumerate(jobs):
            if number == 0 and broken:
                yield JobFailed(job.id, "it cannot work", certain=certain)
                continue
            for event in run(job.config, root, recipe=job.recipe):
                yield JobEvent(job.id, event)

    monkeypatch.setitem(LAUNCHERS, "processes", launch)
    broken = True
    assert main(["study", "run", str(path), "--runs", str(tmp_path)]) == 1
    assert f"1 run failed (none, seed 0: it cannot work); {then}" in capsys.readouterr().err
    assert [plans.is_complete(one, tmp_path) for one in plan.runs].count(True) == len(plan.runs) - 1
    broken = False
    assert main(["study", "run", str(path), "--runs", str(tmp_path)]) == 0
    assert all(plans.is_complete(one, tmp_path) for one in plan.runs)


@pytest.mark.long
def test_study_killed_at_random_and_gone_on_with_has_the_same_tables(tmp_path):
    """SIGKILL of the whole study, several times; then its tables equal those of one never stopped."""
    study = tiny(set={"train.epochs": 20}, claims=[{"text": "?", "expect": "identity < none", "measure": "train_loss"}])
    path = tmp_path / "tiny.toml"
    path.write_text(written(study))
    plan = planning.plan(study, {})
    conducted(plan, tmp_path / "whole")
    rng = random.Random(0)
    words = [sys.executable, "-m", "residuum", "study", "run", str(path), "--runs", str(tmp_path / "killed")]
    for number in range(2):
        process = subprocess.Popen([*words, "--workers", str(1 + number % 2)], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        # Once so many updates were told in all: a place in the study, not a time.
        rows, wanted = 0, rng.randrange(10, 100)
        while rows < wanted and process.poll() is None:
            time.sleep(0.01)
            rows = sum(path.read_bytes().count(b"\n") for path in (tmp_path / "killed").glob("*/steps.jsonl"))
        with suppress(ProcessLookupError):  # it was done
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert numbers(plan, tmp_path / "killed") == numbers(plan, tmp_path / "whole")


def test_workers_do_not_change_results(tmp_path):
    """Each finished run is said once, and the numbers are those of runs one after the other."""
    plan = planning.plan(tiny(), {})
    conducted(plan, tmp_path / "1")
    said = list(conducting.run(plan, tmp_path / "2", Room(2, 1)))
    finished = [one.id for one in said if isinstance(one, JobEvent) and isinstance(one.event, Finished)]
    assert len(finished) == len({*finished}) == 4
    assert numbers(plan, tmp_path / "1") == numbers(plan, tmp_path / "2")


def test_estimate_counts_what_is_still_to_compute(here, tmp_path):
    plan = planning.plan(tiny(), {})
    before = cost.estimate(plan, tmp_path, seconds=0.2)
    assert before.remaining == before.total == pytest.approx(before.start + sum(2 * one for one in before.run.values()))
    assert min(before.start, before.measured, before.load, before.cores) > 0
    # Half way: what is left is the runs that are left, each with the time of its own arm.
    first = next(one for one in plan.runs if one.arm == plan.arms[0].name)
    train(RunConfig.of(first.config), tmp_path)
    half = cost.estimate(plan, tmp_path, seconds=0.2)
    left = [one for one in plan.runs if one.id != first.id]
    assert len(left) == len(plan.runs) - 1
    assert half.remaining == pytest.approx(half.start + sum(half.run[one.arm] for one in left))
    assert half.total == pytest.approx(half.start + sum(half.run[one.arm] for one in plan.runs))
    conducted(plan, tmp_path)
    after = cost.estimate(plan, tmp_path, seconds=0.2)
    # Where all is there nothing is measured: it is what these runs took.
    assert (after.remaining, after.start, after.measured, after.networks) == (0, 0, 0, 0)
    took = {run.id: read_record(tmp_path / run.folder).result.seconds for run in plan.runs}
    assert after.total == pytest.approx(sum(took.values()))
    for arm, runs in plan.runs_of.items():
        assert after.run[arm] == pytest.approx(sum(took[run.id] for run in runs) / len(runs))
    assert not (plans.folder_of(tmp_path, plan.label) / plans.FAILED).exists()  # none failed


@pytest.mark.parametrize(("faster", "expected"), [(2.0, 4 * 10 / 2), (10.0, 10.0), (0.5, 4 * 10 / 0.5)])
def test_estimate_of_packed_runs_is_as_much_shorter_and_no_shorter_than_the_longest(
    monkeypatch, tmp_path, faster, expected
):
    monkeypatch.setattr(cost, "step_seconds", lambda *_: Pace(step=10 / 12, spread=0.1, evaluation=0.0, setup=0.0))
    monkeypatch.setattr(cost, "start_seconds", lambda _: 7.0)
    packed = Packing(1, 2, 8, 1, {(1, 2, 1): 50.0, (1, 2, 8): 50.0 * faster})
    plan = planning.plan(tiny(), {})
    costs = cost.estimate(plan, tmp_path, packing=packed)
    assert (costs.total, costs.remaining, costs.gain) == (pytest.approx(7 + expected), costs.total, faster)
    assert list(costs.run.values()) == pytest.approx([10.0, 10.0]), "a run alone takes what it takes"
    alone = cost.estimate(plan, tmp_path)
    assert (alone.total, alone.gain) == (pytest.approx(7 + 40), 1.0)


def test_budget_knows_that_runs_are_packed(monkeypatch, tmp_path):
    """Two seeds of two arms, 10 s an epoch: at twice the speed a budget holds twice as many epochs."""
    monkeypatch.setattr(cost, "step_seconds", lambda *_: Pace(step=10 / 3, spread=0.1, evaluation=0.0, setup=0.0))
    monkeypatch.setattr(cost, "start_seconds", lambda _: 0.0)
    packed = Packing(1, 2, 8, 1, {(1, 2, 1): 50.0, (1, 2, 8): 100.0})
    long = tiny(set={"train.epochs": 40})
    assert cost.within(long, {}, 810, tmp_path).scale == 0.5
    assert cost.within(long, {}, 810, tmp_path, packed).scale == 1


def test_seeds_are_added_in_groups_until_claims_are_decided(here, tmp_path):
    """A difference as plain as day ends at the first look that allows it; one that is not there uses all looks."""
    plain = tiny(axes={"train.epochs": [1, 8]}, compare={}, seeds=3,
                 claims=[{"text": "More training.", "expect": "epochs=8 < epochs=1", "measure": "train_loss"}])  # fmt: skip
    looks = [one for one in conducting.until_decided(planning.plan(plain, {}), tmp_path, Room(1, 1), budget=None)
             if isinstance(one, plans.Look)]  # fmt: skip
    assert looks[-1].decided == {"More training.": "supported"}
    assert len(looks) < conducting.GROUPS
    found = results(plans.read(plans.find("tiny", tmp_path)), tmp_path)
    assert [one.verdict for one in found.verdicts] == ["supported"]
    assert [look.seeds for look in found.looks] == [look.seeds for look in looks]
    with pytest.raises(InputError, match=r"was grown until it was decided: .*go on until it is decided, or ask anew"):
        list(conducting.run(planning.plan(plain, {}), tmp_path, Room(1, 1)))
    same = tiny(name="same", axes={}, set={"train.epochs": 1}, arms=[{"name": "a"}, {"name": "b", "set": {"optim.lr": 0.0200001}}], compare={}, seeds=2,
                claims=[{"text": "?", "expect": "a < b"}])  # fmt: skip
    looks = [one for one in conducting.until_decided(planning.plan(same, {}), tmp_path, Room(1, 1), budget=None)
             if isinstance(one, plans.Look)]  # fmt: skip
    assert [len(look.seeds) for look in looks] == [2, 4, 6, 8]
    assert looks[-1].decided == {}


def test_time_to_calibrate_is_shared_by_the_networks_and_the_start_of_a_worker_counts_once(monkeypatch, tmp_path):
    clock, asked = [100.0], []

    def step(config, threads, seconds):
        asked.append(seconds)
        clock[0] += seconds + slow if len(asked) == 1 else seconds
        return Pace(step=0.001 * config.train.batch_size, spread=0.5, evaluation=0.0, setup=0.05)

    monkeypatch.setattr(cost, "step_seconds", step)
    monkeypatch.setattr(cost, "start_seconds", lambda _: 7.0)
    monkeypatch.setattr(cost.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(cost.os, "getloadavg", lambda: (5.1, 0.0, 0.0))
    axes = {"train.batch_size": [32, 8, 12, 16, 24], "optim.lr": [0.1, 0.2]}
    plan = planning.plan(tiny(axes=axes, compare={}), {})
    for slow, shares in ((3.0, [2.0, 1.25, 1.25, 1.25, 1.25]), (7.9, [2.0, 0.025])):
        asked.clear()
        costs = cost.estimate(plan, tmp_path, seconds=10.0)
        assert asked == pytest.approx(shares)  # once for each size, whatever the rate
        assert (costs.networks, costs.scaled) == (5, 5 - len(shares))
        assert costs.measured == pytest.approx(slow + sum(shares))
        assert (costs.start, costs.load, costs.spread) == (7.0, 5.1, 0.5)
        # Those that are scaled have the same pace here: it is in proportion to the batch.
        runs = (0.05 + 4 * -(-48 // size) * 0.001 * size for size in axes["train.batch_size"])
        assert costs.total == pytest.approx(7 + 2 * 2 * sum(runs))
    asked.clear()
    cost.estimate(planning.plan(tiny(), {}), tmp_path)
    assert asked == [3.0, 3.0]


def test_a_size_that_is_not_measured_is_scaled_from_the_network_that_is_most_alike():
    paces = {
        cost._Size(frozenset({"block = basic", "depth = 20"}), 10, 4): Pace(1.0, 0.1, 0.5, 2.0),
        cost._Size(frozenset({"block = bottleneck", "depth = 83"}), 20, 4): Pace(9.0, 0.1, 9.0, 9.0),
        cost._Size(frozenset({"block = basic", "depth = 20"}), 10, 64): Pace(8.0, 0.1, 0.25, 3.0),
    }
    for size, pace in paces.items():
        assert cost._pace(size, paces) == pace
    deeper = frozenset({"block = basic", "depth = 56"})
    assert cost._pace(cost._Size(deeper, 30, 4), paces) == Pace(3.0, 0.1, 1.5, 2.0)
    assert cost._pace(cost._Size(deeper, 30, 64), paces) == Pace(24.0, 0.1, 0.75, 3.0)


def test_a_plan_says_that_the_machine_is_busy_and_how_long_it_measured(monkeypatch, tmp_path, capsys):
    path = tmp_path / "tiny.toml"
    path.write_text(written(tiny(seeds=1)))
    for load, busy in ((5.1, True), (2.0, False)):
        costs = cost.Estimate({"none": 1.0, "identity": 1.0}, 4.0, 6.0, 6.0, 0.1, 12.0, load, 2, 2, int(busy))
        monkeypatch.setattr(cost, "estimate", lambda *_, costs=costs, **__: costs)
        assert main(["study", "plan", str(path), "--runs", str(tmp_path)]) == 0
        said = capsys.readouterr().out
        assert "about 6 s here, one at a time, 4 s of them to start (measured for 12 s, ± 10 %" in said
        assert ("1 of 2 networks would have taken too long to measure" in said) == busy
        assert ("the machine is busy: load 5.1 on 2 cores; the estimate is too high" in said) == busy


def test_a_plan_says_how_its_runs_are_packed(monkeypatch, tmp_path, capsys):
    from residuum.conduct import packing

    path = tmp_path / "tiny.toml"
    path.write_text(written(tiny(seeds=1)))
    packed = Packing(1, 1, 8, 1, {(1, 1, 1): 10.0, (1, 1, 8): 21.0})
    monkeypatch.setattr(packing, "fastest", lambda *_: packed)
    asked = []

    def estimate(plan, root, packing, paces):
        asked.append(packing)
        gain = packing.gain if packing else 1.0
        return cost.Estimate({"none": 1.0, "identity": 1.0}, 4.0, 6.0, 6.0, 0.1, 12.0, 0.0, 2, 2, 0, gain)

    monkeypatch.setattr(cost, "estimate", estimate)
    for words, how in (
        (["--workers", "auto"], "in 8 lanes on one card, 2.1 × as fast as one at a time"),
        ([], "one at a time"),
    ):
        assert main(["study", "plan", str(path), "--runs", str(tmp_path), *words]) == 0
        assert f"about 6 s here, {how}, 4 s of them to start (measured" in capsys.readouterr().out
    assert asked == [packed, None]


def test_the_command_that_is_printed_names_the_folder_of_the_runs(here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(written(tiny(seeds=1, set={"train.epochs": 1})))
    for runs, named in (([], ""), (["--runs", "my runs"], " --runs 'my runs'")):
        assert main(["study", "run", "tiny.toml", *runs]) == 0
        assert f"`residuum study report tiny{named}` writes the report" in capsys.readouterr().out
        assert main(["study", "report", "tiny", *runs]) == 0
        folder = tmp_path / (runs[-1] if runs else "runs") / "studies" / "tiny" / "report"
        assert ("--runs RUNS" in (folder / "report.md").read_text()) == bool(runs)
    with pytest.raises(InputError, match=r"was not run in none; run it first"):
        plans.find("tiny", Path("none"))


@pytest.fixture
def typical(monkeypatch, tmp_path):
    """What `--workers` and `--lanes` mean to the command, on a machine of so many cores and a measured one of GPUs."""
    from residuum.cli import studying as command
    from residuum.conduct import packing
    from residuum.engine import compute

    path = tmp_path / "tiny.toml"
    path.write_text(written(tiny(seeds=1)))

    def ask(words, *, measured=False, cores=2, most=1):
        asked = []

        def measured_(config, workers, threads, lanes):
            asked.append((workers, threads, lanes))
            return Packing(workers, threads, lanes, 1, {(1, 1, 1): 4.0, (workers, threads, lanes): 9.0})

        def fastest(config, cores, threads, largest):
            found = measured_(config, 1, 1, 8)
            asked[:] = [(cores, threads)]
            assert {type(config), type(largest)} == {RunConfig}
            return found

        monkeypatch.setattr(packing, "usable_cores", lambda: cores)
        monkeypatch.setattr(compute, "usual_threads", lambda: most)
        monkeypatch.setattr(packing, "fastest", fastest)
        monkeypatch.setattr(packing, "measured", measured_)
        options = build_parser()[0].parse_args(["study", "run", str(path), *words])
        return command._packing(options, measured=measured), asked

    return ask


@pytest.mark.parametrize(
    ("words", "cores", "most", "expected"),
    [
        ([], 8, 8, (1, 8, 1)),
        (["--workers", "2"], 8, 8, (2, 4, 1)),
        (["--workers", "2"], 8, 1, (2, 1, 1)),
        (["--workers", "2"], 8, 3, (2, 3, 1)),
        (["--workers", "3"], 2, 2, (3, 1, 1)),
        (["--workers", "2", "--lanes", "4"], 8, 8, (2, 4, 4)),
        (["--lanes", "4"], 8, 2, (1, 2, 4)),
    ],
)
def test_workers_have_their_share_of_the_cores_and_no_more_threads_than_allowed(typical, words, cores, most, expected):
    found, asked = typical(words, cores=cores, most=most)
    assert (found.workers, found.threads, found.lanes, found.gain) == (*expected, 1.0)
    assert asked == [], "nothing is measured where nobody asks how long it takes"


def test_packing_is_measured_where_it_is_chosen_or_its_speed_is_of_interest(typical, capsys):
    found, asked = typical(["--workers", "auto"], cores=4, most=2)
    assert (asked, found.lanes, found.gain) == ([(4, 2)], 8, 9 / 4)
    assert capsys.readouterr().err == "1 x 1 threads: 4 images/s\n1 x 1 threads x 8 lanes: 9 images/s\n"
    found, asked = typical(["--lanes", "4"], measured=True)
    assert (asked, found.lanes, found.gain) == ([(1, 1, 4)], 4, 9 / 4)
    assert typical([], measured=True)[1] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "0"], "--workers: '0' is neither a count from 1 to 64 nor auto"),
        (["--workers", "many"], "--workers: 'many' is neither a count from 1 to 64 nor auto"),
        (["--lanes", "0"], "--lanes: 0 is not a count from 1 to 64"),
        (
            ["--workers", "auto", "--lanes", "4"],
            "--lanes: --workers auto finds the number of lanes itself; leave --lanes out",
        ),
    ],
)
def test_workers_and_lanes_that_cannot_be_are_refused(typical, words, said):
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        typical(words)


def test_lanes_change_no_result(tmp_path, capsys):
    """The same tables, whichever way the runs were packed."""
    study = tiny(set={"train.epochs": 2})
    path = tmp_path / "tiny.toml"
    path.write_text(written(study))
    for words in ([], ["--lanes", "2"]):
        assert main(["study", "run", str(path), "--runs", str(tmp_path / f"runs{len(words)}"), *words]) == 0
    said = capsys.readouterr().out
    assert "tiny: 4 runs, 0 complete already | 1 at a time, 1 thread each" in said
    assert "tiny: 4 runs, 0 complete already | in 2 lanes of one worker, 1 thread each" in said
    plan = planning.plan(study, {})
    assert numbers(plan, tmp_path / "runs0") == numbers(plan, tmp_path / "runs2")


def looked(plan, root):
    return [one for one in conducting.until_decided(plan, root, Room(1, 1), budget=None)
            if isinstance(one, plans.Look)]  # fmt: skip


def test_looks_remember_that_a_test_at_the_fixed_level_was_possible_before(here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(conducting, "GROUPS", 1)
    claims = [{"text": "?", "expect": "identity < none"}]
    short = {"train.epochs": 1}
    two, three = (planning.plan(tiny(claims=claims, seeds=count, set=short), {}) for count in (2, 3))
    assert [look.read_before for look in looked(two, tmp_path / "fresh")] == [False]
    # The same command again finds all runs there, by its own first look.
    assert [look.read_before for look in looked(two, tmp_path / "fresh")] == [False]
    conducted(two, tmp_path / "same")
    assert [look.read_before for look in looked(two, tmp_path / "same")] == [True]
    assert [look.read_before for look in looked(two, tmp_path / "same")] == [True]
    conducted(two, tmp_path / "fewer")
    assert [look.read_before for look in looked(three, tmp_path / "fewer")] == [True]
    # Runs of which one is missing decide nothing.
    part = planning.plan(tiny(seeds=1, set=short), {})
    conducted(replace(part, label="other"), tmp_path / "part")
    assert [look.read_before for look in looked(two, tmp_path / "part")] == [False]

    path = tmp_path / "tiny.toml"
    path.write_text(written(tiny(claims=claims, set=short)))
    for folder, said in (("same", 1), ("fresh", 0)):
        assert main(["study", "run", str(path), "--runs", str(tmp_path / folder), "--until-decided"]) == 0
        assert capsys.readouterr().out.count(READ_BEFORE) == said
    # Without their record, or with a damaged one, the looks follow from the promise: the same verdicts at the same levels.
    looks = plans.folder_of(tmp_path / "fresh", "tiny") / plans.LOOKS
    grown, kept = plans.read(looks.parent), looks.read_bytes()
    whole = results(grown, tmp_path / "fresh")
    for spoil, said in ((looks.unlink, "is missing"), (lambda: looks.write_bytes(kept[:-9]), "is damaged")):
        spoil()
        without = results(grown, tmp_path / "fresh")
        assert said in without.lost_looks
        assert lost_looks(without) in notes(without)
        assert [(one.seeds, one.level) for one in without.looks] == [(one.seeds, one.level) for one in whole.looks]
        assert without.verdicts == whole.verdicts
    looks.write_bytes(kept)
    looks = plans.folder_of(tmp_path / "same", "tiny") / plans.LOOKS
    older = storage.read_json(looks)
    del older[0]["read_before"]  # as an earlier version wrote it
    storage.write_json(looks, older)
    assert results(two, tmp_path / "same").looks == plans.read_looks(looks.parent)
    assert [look.read_before for look in looked(two, tmp_path / "same")] == [False]


def test_what_a_study_promises_is_on_record_before_its_first_run(here, tmp_path):
    plan = planning.plan(tiny(claims=[{"text": "?", "expect": "identity < none"}], set={"train.epochs": 1}), {})
    saying = conducting.run(plan, tmp_path, Room(1, 1))
    next(one for one in saying if isinstance(one, JobEvent))
    said = prespecified.read(plans.folder_of(tmp_path, "tiny"))
    assert not any(plans.is_complete(run, tmp_path) for run in plan.runs)
    assert (said.claims, said.seeds, said.looks, said.complete) == (plan.study.claims, (0, 1), (), 0)
    assert said.comparisons == (("identity", "none"),)
    saying.close()
    conducted(planning.plan(tiny(seeds=1, set={"train.epochs": 1}), {}), tmp_path)
    assert prespecified.read(plans.folder_of(tmp_path, "tiny")) == said
    looked(planning.plan(tiny(name="grown", seeds=1, set={"train.epochs": 1}), {}), tmp_path)
    assert prespecified.read(plans.folder_of(tmp_path, "grown")).looks == (1, 2, 3, 4)


def test_seeds_that_are_added_after_a_reading_are_an_unplanned_look_and_those_of_looks_are_not(here, tmp_path, capsys):
    path, runs = tmp_path / "tiny.toml", ["--runs", str(tmp_path / "runs")]
    claims = [{"text": "It helps.", "expect": "identity < none"}]
    path.write_text(written(tiny(claims=claims, set={"train.epochs": 1})))

    def run(*words):
        assert main(["study", "run", str(path), *words, *runs]) == 0
        return capsys.readouterr().out

    assert "Unplanned look" not in run("--seeds", "3")
    assert "Unplanned look" not in run("--seeds", "3")
    said = run("--seeds", "4")
    assert "Unplanned look: the verdicts were read at 3 seeds (0, 1, 2)" in said
    assert "read at 3 and 4 seeds decide it" in said
    assert main(["study", "report", "tiny", *runs]) == 0
    text = (tmp_path / "runs" / "studies" / "tiny" / "report" / "report.md").read_text()
    assert text.count("Unplanned look: the verdicts were read at 3 seeds") == 2
    assert "after 1 unplanned look" in text
    assert "Not promised: 1 seed (3)" in text
    capsys.readouterr()
    path.write_text(written(tiny(claims=[*claims, {"text": "New.", "expect": "identity < none", "margin": 1.0}],
                              set={"train.epochs": 1})))  # fmt: skip
    said = run("--seeds", "4", "--json")
    verdicts = json.loads(said.splitlines()[-1])["verdicts"]
    assert [one["exploratory"] for one in verdicts] == ["", "claimed after the first run, until then a comparison"]
    path = tmp_path / "other.toml"
    path.write_text(written(tiny(name="other", claims=claims, set={"train.epochs": 1})))
    said = run("--until-decided", "--seeds", "2", "--runs", str(tmp_path / "other"))
    assert "look 4 of 4" in said
    assert "nplanned look" not in said


def test_a_claim_between_arms_that_resolve_to_one_run_is_refused_before_anything_runs():
    """A default that is written out makes no other run; only with the defaults known is that seen."""
    arms = [{"name": "a", "set": {"optim.optimizer": "sgd"}},
            {"name": "b", "set": {"optim.optimizer": {"name": "sgd", "dampening": 0.0}}}]  # fmt: skip
    study = tiny(axes={}, arms=arms, compare={"baseline": "a"}, claims=[{"text": "?", "expect": "a < b"}], seeds=1)
    assert study.arms()[0].config != study.arms()[1].config
    for made in (lambda: planning.plan(study, {}), lambda: planning.resolved(study)):
        with pytest.raises(InputError, match=r"^claims\[0\]\.expect: 'a' and 'b': the two arms are the same run$"):
            made()
    planning.plan(study.restricted(["a"]), {})


def test_a_study_is_shown_with_its_data_read_once(monkeypatch):
    loads = []
    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda *which: loads.append(which) or load(*which))
    shown = planning.resolved(tiny())
    assert len(loads) == 1
    assert {config.data.fingerprint for config in shown.values()} != {""}
    planned = planning.plan(tiny(), {})
    assert {run.arm: run.id for run in planned.runs if run.seed == 0} == {
        arm: identity(config) for arm, config in shown.items()
    }


def test_folder_of_a_study_is_no_run(here, tmp_path):
    plan = planning.plan(tiny(seeds=1), {})
    conducted(plan, tmp_path)
    from residuum.records.record import find_runs

    assert {path.name for path in find_runs(tmp_path)} == {run.folder for run in plan.runs}
    assert (Path(plans.find("tiny", tmp_path)) / "plan.json").exists()


def test_a_damaged_result_counts_as_failed_and_is_made_again_by_the_next_run(here, tmp_path):
    plan = planning.plan(tiny(seeds=1), {})
    conducted(plan, tmp_path)
    damaged, path = plan.runs[0], tmp_path / plan.runs[0].folder / "result.json"
    whole = storage.read_json(path)
    path.write_text("{")
    found = results(plan, tmp_path)
    assert list(found.failed) == [damaged.id]
    assert found.failed[damaged.id].startswith("result.json is damaged")
    assert [one.n for one in found.summaries["test_error"]] == [0, 1]
    assert not plans.is_complete(damaged, tmp_path)
    conducted(plan, tmp_path)
    assert not results(plan, tmp_path).failed
    again = storage.read_json(path)
    assert again["test_reads"] > whole["test_reads"]
    assert {**again, "test_reads": 0} == {**whole, "test_reads": 0}


@pytest.mark.parametrize("command", ["plan", "run", "show"])
def test_a_setting_that_only_planning_knows_is_named_with_its_line(tmp_path, capsys, command):
    path = tmp_path / "t.toml"
    path.write_text('question = "?"\nbase = "quick"\nseeds = 2\n\n[axes]\nmodel.chanels = [1, 2]\n')
    assert main(["study", command, str(path), *([] if command == "show" else ["--runs", str(tmp_path)])]) == 2
    said = capsys.readouterr().err
    assert "t.toml, line 6: axes.model.chanels: " in said
    assert "did you mean 'model.channels'" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('schedule = "multisetp"', "unknown schedule 'multisetp'; did you mean 'multistep'?"),
        ('schedule = { name = "multistep", gama = 0.1 }', "unknown setting 'gama'; did you mean 'gamma'?"),
        ('schedule = { name = "multistep", gamma = 7 }', "gamma: input should be less than or equal to 1"),
        ('optimizer = "nestrov"', "unknown optimizer 'nestrov'; did you mean 'nesterov'?"),
        ('augment = ["pad_crop", "horizontal_flp"]', "did you mean 'horizontal_flip'?"),
        ('normalize = "standardise"', "did you mean 'standardize'?"),
    ],
)
@pytest.mark.parametrize("where", ["[sources.'He et al. 2015']", "[[published]]"])
def test_a_misspelt_choice_of_a_protocol_is_named_with_its_line(tmp_path, capsys, where, line, says):
    head = 'question = "?"\nbase = "quick"\nseeds = 1\n[axes]\nmodel = ["resnet20", "plain20"]\n'
    number = '[[published]]\nsource = "He et al. 2015"\narm = "resnet20"\nvalue = 1\n'
    text = head + (f"{where}\n{line}\n{number}" if where != "[[published]]" else f"{number}{line}\n")
    (tmp_path / "t.toml").write_text(text)
    assert main(["study", "show", str(tmp_path / "t.toml")]) == 2
    said = capsys.readouterr().err
    assert f"t.toml, line {text[: text.index(line)].count(chr(10)) + 1}: " in said
    assert says in said


def test_a_protocol_may_name_what_is_not_ours(tmp_path, capsys):
    text = (
        'question = "?"\nbase = "quick"\nseeds = 1\n[axes]\nmodel = ["resnet20", "plain20"]\n[[published]]\n'
        'source = "S"\narm = "resnet20"\nvalue = 60\nbound = "above"\nnormalize = "per-pixel mean"\nschedule = "staircase"\n'
    )
    (tmp_path / "t.toml").write_text(text)
    assert main(["study", "show", str(tmp_path / "t.toml")]) == 0
    assert "schedule staircase, normalisation per-pixel mean" in capsys.readouterr().out


def test_what_a_plan_promises_is_of_its_claims_and_of_looks_where_they_are_planned(tmp_path):
    claims = [{"text": "shortcuts", "expect": "identity < none"}, {"text": "size", "expect": "identity = none",
              "margin": 5.0, "measure": "parameters"}]  # fmt: skip
    made = planning.plan(tiny(seeds=3, claims=claims), {})
    (fixed,) = conducting.promises(made, tmp_path, sd=0.2)
    (grown,) = conducting.promises(made, tmp_path, sd=0.2, grown=True)
    assert fixed.points(fixed.alone) == pytest.approx(0.2 * 3.26, rel=0.02)  # one claim: that of the t test alone
    assert grown.alone < fixed.alone  # twelve seeds at the last look
    (unknown,) = conducting.promises(made, tmp_path)
    assert (unknown.spread, unknown.points(unknown.alone)) == (None, None)


def test_plan_and_power_say_what_is_promised(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cost, "step_seconds", lambda *_: Pace(step=0.01, spread=0.1, evaluation=0.0, setup=0.0))
    monkeypatch.setattr(cost, "start_seconds", lambda _: 0.0)
    where = ["--runs", str(tmp_path)]
    assert main(["study", "plan", "quickstart", "--until-decided", *where]) == 0
    said = capsys.readouterr().out
    assert (
        "What 3 to 12 seeds over 4 looks show with a probability of 80 %, after Holm's correction for 5 claims" in said
    )
    assert "nothing is known of its spread before there are runs" in said
    assert "take 4 seeds: counts decide then" not in said  # twelve seeds, at the last look, are enough
    assert main(["study", "plan", "quickstart", *where]) == 0
    text = "If an arm never trains, 5 claims that normal runs would decide take 4 seeds: counts decide then, and 3 are"
    assert text in capsys.readouterr().out
    assert main(["study", "plan", "quickstart", "--seeds", "2", *where]) == 0
    assert "2 seeds per arm cannot support a claim: a verdict needs 3" in capsys.readouterr().out
    assert main(["study", "power", "quickstart", "--difference", "0.3", "--sd", "0.23", *where]) == 0
    assert "11 seeds show it in every claim of this table" in capsys.readouterr().out
    assert main(["study", "power", "quickstart", "--difference", "0.3", *where]) == 0
    assert capsys.readouterr().out.count("give --sd") == 5
    assert main(["study", "power", "quickstart", "--difference", "0.3", "--sd", "0.09", "--json", *where]) == 0
    assert {one["seeds"] for one in json.loads(capsys.readouterr().out)["claims"]} == {5}

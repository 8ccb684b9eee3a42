"""A budget of time: what is given up for it and in which order, the command that does so, and what would do instead."""

import json
import random
import re
import shlex

import pytest

from residuum.cli.studying import seconds
from residuum.conduct import cost, planning
from residuum.conduct.packing import Pace
from residuum.errors import InputError
from residuum.studies.study import Study

BASE = {
    "data.dataset": {"name": "synthetic", "size": 8, "train": 400, "test": 20}, "data.validation": 0.1, "data.augment": [],
    "model": {"name": "cifar_resnet", "depth": 8}, "train.batch_size": 10, "compute.threads": 1, "train.epochs": 40,
}  # fmt: skip


PACES = {16: 1.0, 8: 0.4, 4: 0.2}


def lab(**parts) -> Study:
    values = {"name": "lab", "question": "?", "base": "quick", "seeds": 3, "set": BASE,
              "axes": {"model.shortcut": ["none", "identity"]}, "compare": {"baseline": {"model.shortcut": "none"}}}  # fmt: skip
    return Study(**{**values, **parts, "set": {**BASE, **parts.get("set", {})}})


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine on which an update takes 1 s by the usual channels, 0.4 s by half of them, 0.2 s by a quarter."""

    def step(config, *_):
        return Pace(PACES[config.model.settings["channels"][0]], 0.1, 0.0, 2.0)

    monkeypatch.setattr(cost, "step_seconds", step)
    monkeypatch.setattr(cost, "start_seconds", lambda _: 0.0)


def takes(plan) -> float:
    pace = {arm: PACES[config.model.settings["channels"][0]] for arm, config in planning.arm_configs(plan).items()}
    each = {arm.name: 2.0 + arm.epochs * arm.steps_per_epoch * pace[arm.name] for arm in plan.arms}
    return sum(each[run.arm] for run in plan.runs)


# 36 updates an epoch: 6 runs of 40 epochs take 8652 s, of 10 epochs 2172 s; of half the images 1092, of a quarter 552,
# by half the channels 228 (9 updates), of a tenth of the images 108 (4 updates), by a quarter of the channels 60.
@pytest.mark.parametrize(
    ("budget", "epochs", "images", "channels", "seeds"),
    [
        (8652, 40, 36, 16, 3), (8651, 39, 36, 16, 3), (2172, 10, 36, 16, 3), (2171, 20, 18, 16, 3),
        (1091, 19, 9, 16, 3), (552, 10, 9, 16, 3), (551, 25, 9, 8, 3), (228, 10, 9, 8, 3),
        (227, 22, 4, 8, 3), (108, 10, 4, 8, 3), (107, 19, 4, 4, 3), (60, 10, 4, 4, 3), (59, 15, 4, 4, 2), (20, 10, 4, 4, 1),
    ],
)  # fmt: skip
def test_what_is_given_up_comes_in_order_and_the_plan_fits(tmp_path, budget, epochs, images, channels, seeds):
    plan = cost.within(lab(), {}, budget, tmp_path)
    arm = plan.arms[0]
    width = next(iter(planning.arm_configs(plan).values())).model.settings["channels"][0]
    assert takes(plan) <= budget
    assert (arm.steps_per_epoch, width, len(plan.study.seeds)) == (images, channels, seeds)
    assert arm.epochs >= min(epochs, 10)
    said = " ".join(plan.gave_up)
    for word, lost in (
        ("length", arm.epochs < 40),
        ("images", images < 36),
        ("width", channels < 16),
        ("seeds", seeds < 3),
    ):
        assert (f"{word}:" in said) == lost


def test_what_was_published_of_a_size_keeps_no_study_at_it(tmp_path):
    published = [{"source": "a paper", "arm": "identity", "measure": "parameters", "value": 75290}]
    plan = cost.within(lab(published=published), {}, 228, tmp_path)
    assert len(plan.study.seeds) == 3
    assert "width: half of the channels (model.channels=[8, 16, 32])" in plan.gave_up


def test_any_budget_gives_a_plan_that_fits_with_curves_that_can_be_read_or_says_what_would_do(tmp_path):
    draw = random.Random(9)
    for _ in range(6):
        study = lab(seeds=draw.randint(1, 3), set={"train.epochs": draw.randint(3, 60)},
                    axes={"optim.lr": draw.sample([0.1, 0.2, 0.3, 0.4], draw.randint(2, 3))}, compare={})  # fmt: skip
        budget, whole = draw.choice((5, 20, 60, 300, 3000)), study.arms()[0].config.train.epochs
        try:
            plan = cost.within(study, {}, budget, tmp_path)
        except InputError as error:
            would = seconds(re.search(r"; (\w+) would do", str(error))[1])
            assert budget < would
            plan, budget = cost.within(study, {}, would, tmp_path), would
        assert takes(plan) <= budget
        assert all(arm.epochs >= min(10, whole) for arm in plan.arms)


def test_what_is_said_of_images_or_channels_stays_and_counts_keep_their_networks(tmp_path):
    fixed = cost.within(lab(), {"data.subset": 0.5}, 540, tmp_path)
    assert (fixed.arms[0].steps_per_epoch, "width:" in " ".join(fixed.gave_up)) == (18, True)
    network = {**BASE["model"], "channels": [16, 32, 32]}
    for said in ({"model.channels": [16, 32, 32]}, {"model": network}):
        assert "width:" not in " ".join(cost.within(lab(set=said), {}, 300, tmp_path).gave_up)
    counted = lab(claims=[{"text": "As many.", "expect": "identity = none", "measure": "parameters", "margin": 1}])
    assert "width:" not in " ".join(cost.within(counted, {}, 300, tmp_path).gave_up)
    varied = " ".join(cost.within(lab(axes={"data.subset": [0.5, 0.25]}, compare={}), {}, 500, tmp_path).gave_up)
    assert ("images:" in varied, "width:" in varied) == (False, True)


def test_too_small_a_budget_says_in_numbers_what_would_do(tmp_path):
    study = lab(axes={"optim.lr": [0.1, 0.2, 0.3, 0.4]}, compare={"baseline": "lr=0.3"})
    with pytest.raises(InputError) as error:
        cost.within(study, {}, 25, tmp_path)
    assert str(error.value) == (
        "budget: 10 epochs, 10 % of those that train (data.subset=0.1), a quarter of the channels "
        "(model.channels=[4, 8, 16]) and one seed of 4 arms take about 40 s here, more than 25 s; 42s would do, "
        "and so would these arms alone: lr=0.3, lr=0.1 (20 s)"
    )
    assert [seconds(cost.as_budget(some)) >= some for some in (1, 50, 59.9, 60, 3599, 3600, 86_399, 1e6)] == [True] * 8


def test_the_command_that_is_printed_plans_the_same_runs(run, tmp_path):
    (tmp_path / "lab.toml").write_text(
        'question = "?"\nbase = "quick"\nseeds = [4, 5]\n[set]\n'
        + "".join(f"{json.dumps(path)} = {_toml(value)}\n" for path, value in BASE.items())
        + '[[arms]]\nname = "slow"\nset = {"optim.lr" = 0.01}\n[[arms]]\nname = "usual"\n'
        '[[arms]]\nname = "wide"\nset = {"optim.weight_decay" = 0.1}\n[compare]\nbaseline = "usual"\n'
    )
    for budget in ("6m", "40s"):
        words = ["study", "plan", "lab.toml", "--topic", "lr", "--set", "optim.ema=0.9"]
        code, out, err = run(*words, "--budget", budget, "--json")
        assert code == 0, err
        said = json.loads(out)
        assert {one["arm"] for one in said["runs"]} == {"slow", "usual"}
        again = shlex.split(said["command"])
        assert again[:3] == ["residuum", "study", "run"]
        same = json.loads(run("study", "plan", *again[3:], "--json")[1])
        assert (same["label"], same["runs"]) == (said["label"], said["runs"])
        assert f"`{said['command']}` runs it" in run(*words, "--budget", budget)[1]
    assert "unknown topic 'lt'; did you mean 'lr'?" in run("study", "plan", "lab.toml", "--topic", "lt")[2]
    assert "give one of the two" in run("study", "plan", "lab.toml", "--topic", "lr", "--arms", "slow")[2]


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)


def test_topics_are_named_arms_on_axes_or_settings_that_arms_vary():
    grid = lab(arms=[{"name": "plain", "set": {"model.shortcut": "none"}}, {"name": "short"}],
               axes={"optim.lr": [0.1, 0.2]}, compare={})  # fmt: skip
    assert grid.topics() == {
        "plain": ("plain / lr=0.1", "plain / lr=0.2"),
        "short": ("short / lr=0.1", "short / lr=0.2"),
    }
    named = lab(arms=[{"name": "a"}, {"name": "b", "set": {"optim.lr": 1.0}}, {"name": "c", "set": {"data.mix": "mixup"}},
                      {"name": "d", "set": {"data.mix": "cutmix", "optim.lr": 0.3}}], axes={}, compare={"baseline": "a"})  # fmt: skip
    assert named.topics() == {"lr": ("a", "b", "d"), "mix": ("a", "c", "d")}


@pytest.mark.parametrize("seed", range(2))
def test_what_a_plan_says_it_takes_is_what_it_was_chosen_by(run, tmp_path, monkeypatch, seed):
    """On a machine that is busy now and then no seed is given up that the plan's own estimate had room for."""
    draw = random.Random(seed)
    monkeypatch.setattr(cost, "step_seconds", lambda *_: Pace(draw.choice((0.5, 1.0, 2.0)), 0.1, 0.0, 2.0))
    (tmp_path / "lab.toml").write_text(
        'question = "?"\nbase = "quick"\nseeds = 3\n[set]\n'
        + "".join(f"{json.dumps(path)} = {_toml(value)}\n" for path, value in BASE.items())
        + '[axes]\n"optim.lr" = [0.01, 0.1]\n'
    )
    for budget in draw.sample(range(40, 400), 2):
        code, out, err = run("study", "plan", "lab.toml", "--budget", f"{budget}s", "--data", "synthetic", "--json")
        if code:
            assert "would do" in err
            continue
        said = json.loads(out)
        assert said["seconds"] <= budget
        assert "--data synthetic" in said["command"]
        if len(said["seeds"]) < 3:
            assert said["seconds"] * (len(said["seeds"]) + 1) / len(said["seeds"]) > budget

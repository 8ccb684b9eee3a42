"""What a study costs is known before its images are here, and where to get them is said."""

import json
import random
from dataclasses import replace

import pytest

from residuum.conduct import conducting, cost, planning
from residuum.conduct.launchers.launcher import Room
from residuum.config import RunConfig
from residuum.data import datasets
from residuum.data.dataset import Dataset
from residuum.errors import InputError
from residuum.run import assemble
from residuum.studies import parsing
from residuum.studies.study import Study

PUBLISHED = [name for name, entry in datasets.ENTRIES.items() if entry.published]


@pytest.mark.parametrize("name", parsing.names())
def test_every_study_that_comes_along_plans_without_its_images(name, monkeypatch):
    for entry in (datasets.ENTRIES[name] for name in PUBLISHED):  # fewer of them, to take less time
        monkeypatch.setitem(datasets.ENTRIES, entry.name, replace(entry, published=(6_000, 100)))
    study = parsing.read(name)
    arms = study.arms()[:: max(1, len(study.arms()) // 2)]  # two or three of each: they differ in what they vary
    plan = planning.plan(study.restricted([arm.name for arm in arms]), {}, rehearsed=True)
    needed = {arm.config.data.dataset.name for arm in arms} & {*PUBLISHED}
    assert plan.missing == tuple(sorted(needed))
    for arm in plan.arms:
        config = planning.arm_configs(plan)[arm.name]
        entry = datasets.ENTRIES[config.data.dataset.name]
        if entry.name in needed and not config.data.subset:
            held_out = round(config.data.validation * (entry.published[0] if config.data.validation < 1 else 1))
            kept = entry.published[0] - held_out
            full, left = divmod(kept, config.train.batch_size)
            assert arm.steps_per_epoch == full + (left > 1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_stands_in_is_as_the_data_set_is_published_but_never_taken_for_it(name):
    entry, noise = datasets.ENTRIES[name], datasets.stand_in(name)
    assert (len(noise.train), len(noise.test)) == entry.published
    assert noise.train.images_NCHW.shape[1:] == noise.test.images_NCHW.shape[1:] == entry.shape
    assert noise.classes == tuple(entry.classes())
    assert {*noise.train.labels_N} == {*range(len(noise.classes))}
    assert noise.fingerprint == ""
    with pytest.raises(datasets.MissingError) as error:
        datasets.load(name)
    assert all(part in str(error.value) for part in (f"{name} is not here", "data.root", entry.remotes[0].urls[0][:30]))


def test_the_coarse_classes_of_cifar100_make_the_smaller_network():
    fine, coarse = ("cifar100", {"name": "cifar100", "labels": "coarse"})
    assert [len(datasets.stand_in(one).classes) for one in (fine, coarse)] == [100, 20]


def test_a_rehearsed_plan_costs_what_the_real_one_does_and_cannot_be_run(tmp_path, monkeypatch):
    """Of data sets and networks nobody listed: what is planned from noise equals what is planned from the images."""
    draw = random.Random(11)
    for _ in range(4):
        shape, counts = (draw.choice((1, 3)), size := draw.randint(8, 12), size), (draw.randint(40, 90), 20)
        classes = tuple(f"c{number}" for number in range(draw.randint(2, 7)))
        entry = replace(datasets.ENTRIES["mnist"], published=counts, shape=shape,
                                        classes=lambda classes=classes: classes)  # fmt: skip
        monkeypatch.setitem(datasets.ENTRIES, "mnist", entry)
        noise = datasets.stand_in("mnist")
        real = Dataset.of("mnist", noise.classes, noise.train, noise.test)
        study = Study(question="Which?", base="quick", seeds=1, set={
            "data.dataset": "mnist", "model.channels": [4, 4, 8], "train.batch_size": draw.randint(4, 30),
            "model.depth": draw.choice((8, 14)), "data.validation": draw.randint(0, 15), "data.augment": []})  # fmt: skip
        without = planning.plan(study, {}, rehearsed=True)
        with monkeypatch.context() as here:
            here.setitem(datasets.DATASETS.builders, "mnist", lambda _, real=real: real)
            whole = planning.plan(study, {})
        assert (without.arms, without.missing, whole.missing) == (whole.arms, ("mnist",), ())
        assert {run.id for run in without.runs}.isdisjoint(run.id for run in whole.runs)
    with pytest.raises(InputError, match="images of mnist are not here"):
        next(iter(conducting.run(without, tmp_path, Room(1, 1))))
    assert not any(tmp_path.iterdir())
    assert cost.estimate(without, tmp_path, seconds=0.2).total > 0


def test_plan_names_the_data_it_lacks_and_every_other_command_refuses(run, monkeypatch):
    tiny = ["--arms", "plain20,resnet20", "--set", "data.subset=200", "--set", "train.epochs=2", "--seeds", "1"]
    monkeypatch.setattr(cost, "step_seconds", lambda *_: cost.Pace(0.1, 0.1, 0.01, 1.0))
    monkeypatch.setattr(cost, "start_seconds", lambda _: 1.0)
    code, out, _ = run("study", "plan", "degradation", *tiny)
    assert code == 0
    for part in ("? of 1", "--data says where it lies", "`residuum data fetch cifar10`", "cs.toronto.edu", "(170 MB)"):
        assert part in out
    said = json.loads(run("study", "plan", "degradation", *tiny, "--json")[1])
    assert said["missing_data"] == ["cifar10"]
    assert all(one["id"] is None and one["complete"] is None for one in said["runs"])
    for words in (["study", "run", "degradation", *tiny], ["train", "he2015"]):
        code, out, err = run(*words)
        assert (code, out) == (2, "")
        assert "--data says where it lies" in err
        assert "cs.toronto.edu" in err


def test_a_name_or_setting_that_cannot_be_is_refused_without_the_images():
    for wrong in ({"data.augment": ["flipp"]}, {"model.stem": "9x9"}, {"optim.optimizer": "adamm"}):
        with pytest.raises(InputError, match="unknown "):
            assemble.rehearsed(RunConfig().changed(wrong))

"""The file of a plan: what is written is read again, with each arm's configuration once, as it was with each run's."""

import os
import warnings
from dataclasses import replace

import pytest

from residuum.conduct import planning
from residuum.errors import InputError, Remark
from residuum.records import storage
from residuum.studies import parsing
from residuum.studies import plan as plans
from residuum.studies.study import Study

SETTINGS = {"data.dataset": "digits", "data.augment": ["pad_crop"], "model.channels": [4, 4, 8]}


@pytest.fixture(scope="module")
def plan():
    study = Study(question="Which rate?", base="quick", seeds=40, axes={"optim.lr": [0.1, 0.2]}, name="rates",
                  settings=SETTINGS)  # fmt: skip
    return planning.plan(study, {})


def test_a_plan_is_read_as_it_was_written(tmp_path, plan):
    folder = plans.write(plan, tmp_path)
    assert plans.read(folder) == plan
    grown = planning.with_seeds(plan, 3)
    assert plans.read(plans.write(grown, tmp_path)) == grown
    assert [run.seed for run in grown.runs_of["lr=0.2"]] == [*range(43)]


def test_a_plan_of_an_earlier_version_has_a_configuration_for_each_run(tmp_path, plan):
    folder = plans.write(plan, tmp_path)
    values = storage.read_json(folder / plans.PLAN)
    del values["configs"]
    for run, written in zip(plan.runs, values["runs"], strict=True):
        written["config"] = run.config.model_dump(mode="json")
    storage.write_json(folder / plans.PLAN, values)
    assert plans.read(folder) == plan


def test_a_run_that_is_not_the_arms_keeps_its_own_configuration(tmp_path, plan):
    other = replace(plan.runs[5], config=plan.runs[5].config.changed({"train.epochs": 77}))
    odd = replace(plan, runs=(*plan.runs[:5], other, *plan.runs[6:]))
    assert plans.read(plans.write(odd, tmp_path)) == odd


def test_a_run_more_is_a_few_bytes_more(tmp_path, plan):
    def size(one) -> int:
        return (plans.write(one, tmp_path) / plans.PLAN).stat().st_size

    assert (size(planning.with_seeds(plan, 100)) - size(plan)) / 200 < 250


def test_a_plan_that_lacks_what_it_needs_is_damaged(tmp_path, plan):
    folder = plans.write(plan, tmp_path)
    values = storage.read_json(folder / plans.PLAN)
    del values["configs"]["lr=0.2"]
    storage.write_json(folder / plans.PLAN, values)
    with pytest.raises(InputError, match=r"plan.json is damaged: 'lr=0.2'"):
        plans.read(folder)


def test_a_name_that_several_plans_have_is_the_last_one_and_the_others_are_named(tmp_path, plan):
    folders = []
    for number, label in enumerate(("twins@aaaaaa", "twins@bbbbbb", "other@cccccc")):
        folders.append(plans.write(replace(plan, label=label), tmp_path))
        os.utime(folders[-1] / plans.PLAN, (number, number))
    with pytest.warns(Remark, match=r"'twins' is twins@bbbbbb, which was written last, and not twins@aaaaaa$"):
        assert plans.find("twins", tmp_path) == folders[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plans.find("twins@aaaaaa", tmp_path) == folders[0]
        assert plans.find("other", tmp_path) == folders[2]


def test_a_study_file_may_begin_with_the_mark_that_editors_of_windows_write(tmp_path):
    text = 'question = "?"\nbase = "quick"\nseeds = 1\n'
    (tmp_path / "a.toml").write_bytes(text.encode("utf-8-sig").replace(b"\n", b"\r\n"))
    assert parsing.source(str(tmp_path / "a.toml")) == text

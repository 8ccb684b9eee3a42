"""Rivals, deaths, signals and damage in small numbers; the scripts beside this do as many as are asked for."""

import random

import damaged
import deaths
import pytest
import rivals

from residuum.conduct import planning
from residuum.records import storage
from residuum.studies import chosen, plan, prespecified, whole
from residuum.studies.study import Study
from trial import damages

STUDY = {
    "name": "rates", "question": "Which rate is best?", "base": "quick", "seeds": 2, "select": "validation",
    "axes": {"optim.lr": [0.02, 0.1]}, "set": {"train.epochs": 1, "data.validation": 40},
    "compare": {"baseline": "lr=0.1", "measure": "validation_error"},
}  # fmt: skip


def test_damage_to_any_file_beside_a_plan_is_told_in_a_line_that_names_it(tmp_path):
    made = planning.plan(Study(**STUDY), {})
    prespecified.prespecify(made, tmp_path, looks=[2, 4])
    folder = plan.write(made, tmp_path)
    storage.write_json(folder / plan.LOOKS, [{"look": 1, "looks": 4, "seeds": [0, 1], "level": 0.999, "decided": {}}])
    storage.write_json(folder / plan.FAILED, {"some-run": "it always crashes"})
    chosen.write(chosen.Chosen("now", "lr=0.02", "lr=0.1", (0, 1), {"lr=0.02": 1.5, "lr=0.1": 2.5}, 4, 0), folder)
    prespecified.note_reading(made, tmp_path, planned=True)
    (folder / "report").mkdir()
    assert whole.damage(folder) == []
    before, names = damaged.read(folder), [path.relative_to(folder) for path in folder.glob("*.json*")]
    assert len(names) == 6
    rng, told = random.Random(0), 0
    for name, what in damages(folder, [name for name in names if name.name != chosen.CHOSEN], 50, rng):
        assert damaged.silent(folder, name, before) == "", (name, what)
        told += bool(whole.damage(folder))
    assert told > 40
    (folder / prespecified.READINGS).write_bytes(b"")
    (line,) = whole.damage(folder)
    assert "readings.jsonl is missing, though the verdicts were reported" in line


def test_what_another_is_writing_there_may_go_while_one_looks(tmp_path):
    folder = plan.write(planning.plan(Study(**STUDY), {}), tmp_path)
    prespecified.prespecify(planning.plan(Study(**STUDY), {}), tmp_path)
    before = whole.damage(folder)
    for name in (".plan.json.0a1b2c3d.tmp", plan.FAILED):  # listed, and not there when it is looked at
        (folder / name).symlink_to(tmp_path / "gone")
    assert whole.damage(folder) == before
    assert not any("tmp" in line for line in before)


@pytest.mark.long
@pytest.mark.parametrize(("of", "count"), [(2, 3), (8, 1)])
def test_rivals_of_a_study_compute_each_run_once(of, count):
    assert rivals.tried(count, of, of) == []


@pytest.mark.long
def test_a_run_that_several_begin_anew_is_each_one_s_own():
    assert rivals.tried(2, 0, 4, "fresh") == []


@pytest.mark.long
def test_a_study_whose_files_are_damaged_says_so_and_goes_on():
    assert damaged.tried(30, 0, again=3) == []


@pytest.mark.long
def test_a_study_whose_workers_and_parent_are_killed_comes_to_its_end():
    assert deaths.tried(1, 0, runs=6) == []


@pytest.mark.long
def test_runs_stopped_by_any_signal_at_any_row_go_on_to_the_same_bits():
    assert deaths.stopped(len(deaths.STOPS), 0) == []

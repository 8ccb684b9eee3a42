"""What a study promises before its first run is on record, and what has become of it since can be told."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from residuum.errors import InputError
from residuum.records import storage
from residuum.studies import plan as plans
from residuum.studies import prespecified
from residuum.studies.prespecified import Reading, exploratory, note_reading, prespecify, readings, unplanned

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from report_runs import depths, leave, planned

CLAIMS = [
    {"text": "Plain gets worse.", "expect": "plain56 > plain20"},
    {"text": "Residual gets better.", "expect": "resnet56 < resnet20", "margin": 0.5},
]


def study(*claims, **changes):
    return depths(claims=list(claims or CLAIMS), **changes)


def recorded(root, made=None, looks=()):
    """What is on record after the first run of a study was begun."""
    plan = planned(made or study())
    prespecify(plan, root, looks)
    return prespecified.read(plans.folder_of(root, plan.label))


def test_everything_that_was_promised_is_on_record(tmp_path):
    plan = planned(study())
    leave(tmp_path, plan.runs[0], 9.0)
    said = recorded(tmp_path, looks=(3, 6, 9, 12))
    assert said.claims == plan.study.claims
    assert (said.seeds, said.looks, said.measure, said.pair_by) == (
        (0, 1, 2),
        (3, 6, 9, 12),
        "test_error",
        "train.seed",
    )
    assert said.comparisons == tuple((arm, "resnet20") for arm in said.arms if arm != "resnet20")
    assert said.arms["plain56"]["model.depth"] == 56
    assert "model.depth" in said.arms["resnet56"]
    assert not [path for path in said.arms["plain56"] if path.startswith(("monitor", "save", "compute", "data.root"))]
    assert said.complete == 1
    assert len(said.hash) == 12


def test_a_claim_whose_runs_were_all_there_before_is_exploratory(tmp_path):
    """Else a study could be written from the results of another, which had computed the same runs."""
    plan = planned(study())
    for run in plan.runs:
        if run.arm in ("plain20", "plain56"):
            leave(tmp_path, run, 9.0)
    said = recorded(tmp_path)
    assert said.known == ("plain20", "plain56")
    assert exploratory(plan.study, said) == ("claimed when all its runs were there already", "")


def test_the_hash_is_of_the_record_and_tells_a_change(tmp_path):
    first = recorded(tmp_path / "a")
    values = storage.read_json(plans.folder_of(tmp_path / "a", "twins") / prespecified.PRESPECIFIED)
    assert prespecified.digest({key: value for key, value in values.items() if key != "hash"}) == first.hash
    assert recorded(tmp_path / "b", study(CLAIMS[0])).hash != first.hash
    path = plans.folder_of(tmp_path / "a", "twins") / prespecified.PRESPECIFIED
    values["claims"][1]["margin"] = 0.0
    storage.write_json(path, values)
    with pytest.raises(InputError, match=f"prespecified.json was changed since it was written: .*not {first.hash}"):
        prespecified.read(path.parent)
    path.write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        prespecified.read(path.parent)


def test_it_is_written_once_and_never_afterwards(tmp_path):
    first = recorded(tmp_path)
    assert recorded(tmp_path, study(CLAIMS[0])) == first
    plans.write(planned(study(name="old")), tmp_path)  # begun before there were records
    assert recorded(tmp_path, study(name="old")) is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ["", ""]),
        ({"claims": [CLAIMS[0], {**CLAIMS[1], "text": "In other words."}]}, ["", ""]),
        ({"claims": [{**CLAIMS[0], "expect": "plain20 < plain56"}, CLAIMS[1]]}, ["", ""]),
        ({"claims": [CLAIMS[1]]}, [""]),
        (
            {"claims": [CLAIMS[0], {**CLAIMS[1], "margin": 0.0}]},
            ["", "promised otherwise: resnet56 < resnet20, margin 0.5 (test error)"],
        ),
        (
            {"claims": [{**CLAIMS[0], "expect": "plain56 < plain20", "text": "It gets better."}, CLAIMS[1]]},
            ["promised otherwise: plain56 > plain20 (test error)", ""],
        ),
        (
            {"claims": [{**CLAIMS[0], "measure": "train_error"}, CLAIMS[1]]},
            ["promised otherwise: plain56 > plain20 (test error)", ""],
        ),
        (
            {"claims": [*CLAIMS, {"text": "New.", "expect": "plain110 > plain56"}]},
            ["", "", "claimed after the first run"],
        ),
        (
            {"claims": [*CLAIMS, {"text": "New.", "expect": "plain110 > resnet20"}]},
            ["", "", "claimed after the first run, until then a comparison"],
        ),
        ({"compare": {"baseline": "resnet20", "pair_by": "none"}}, ["promised with pair_by = 'train.seed'"] * 2),
        ({"set": {"monitor.test": False, "data.root": "elsewhere", "compute.threads": 2}}, ["", ""]),
    ],
)
def test_a_claim_is_exploratory_unless_it_was_promised_so(changed, why, tmp_path):
    said = recorded(tmp_path)
    assert list(exploratory(depths(**{"claims": CLAIMS, **changed}), said)) == why


def test_a_claim_about_an_arm_that_is_another_one_now_is_exploratory(tmp_path):
    arms = [{"name": "a", "set": {"optim.lr": 0.4}}, {"name": "b", "set": {"optim.lr": 0.2}}, {"name": "c"}]
    claims = [{"text": "1", "expect": "a < c"}, {"text": "2", "expect": "b < c"}]
    made = {"axes": {}, "compare": {"baseline": "c"}, "published": [], "claims": claims}
    said = recorded(tmp_path, depths(arms=arms, **made))
    other = depths(arms=[arms[0], {**arms[1], "set": {"optim.lr": 0.3}}, arms[2]], **made)
    assert exploratory(other, said) == ("", "promised of another arm 'b': its settings have changed since")


def test_without_a_record_nothing_is_exploratory():
    assert exploratory(study(), None) == ("", "")


def test_dropped_claims_are_told(tmp_path):
    said = recorded(tmp_path)
    assert [one.text for one in prespecified.dropped(study(CLAIMS[0]), said)] == ["Residual gets better."]
    assert prespecified.dropped(study(), said) == ()


def test_readings_are_kept_in_order_and_the_same_one_once(tmp_path):
    three, six = planned(study()), planned(study(seeds=6))
    folder = plans.write(three, tmp_path)
    for plan, is_planned in ((three, False), (three, False), (six, False), (six, True), (six, True)):
        note_reading(plan, tmp_path, planned=is_planned)
    first = (folder / prespecified.READINGS).read_text()
    assert [(len(one.seeds), one.planned) for one in readings(folder)] == [(3, False), (6, False), (6, True)]
    note_reading(three, tmp_path, planned=False)
    assert (folder / prespecified.READINGS).read_text().startswith(first)
    with (folder / prespecified.READINGS).open("a") as file:
        file.write('{"time": 3}\nnot a row\n{"torn": ')
    *whole, one, other, torn = readings(folder)  # a damaged row stands for a reading of seeds that nobody knows
    assert len(whole) == 4
    assert (one, other, torn) == (Reading("unknown", (), planned=False),) * 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_reading_does_not_fail_where_nothing_can_be_written(tmp_path):
    plan = planned(study())
    folder = plans.write(plan, tmp_path)
    folder.chmod(0o555)
    try:
        note_reading(plan, tmp_path, planned=False)
    finally:
        folder.chmod(0o755)
    assert readings(folder) == ()


def test_reading_does_not_fail_where_the_file_cannot_be_one(tmp_path):
    plan = planned(study())
    folder = plans.write(plan, tmp_path)
    (folder / prespecified.READINGS).mkdir()
    note_reading(plan, tmp_path, planned=False)
    note_reading(replace(plan, label="not there"), tmp_path, planned=False)
    assert not plans.folder_of(tmp_path, "not there").exists()


def test_unplanned_looks_are_readings_of_other_seeds_that_no_look_was():
    def at(day, count, is_planned=False):
        return Reading(f"2026-01-0{day}", tuple(range(count)), is_planned)

    found = [at(1, 3), at(2, 6), at(3, 3), at(4, 9, True), at(5, 12)]
    assert unplanned(found, range(12), looked=True) == (at(1, 3), at(2, 6))
    assert unplanned(found, range(6), looked=True) == (at(1, 3), at(5, 12))
    assert unplanned([at(4, 9, True)], range(12), looked=True) == ()
    assert unplanned(found[:1], [2, 1, 0], looked=True) == ()
    assert unplanned([at(4, 9, True)], range(12), looked=False) == (at(4, 9, True),), "a look that was dropped"

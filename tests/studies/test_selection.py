"""A study that chooses an arm sees no test image before; the chosen arm and its baseline are read once, and no other."""

import json
from dataclasses import replace

import pytest

from residuum.analysis.results import results
from residuum.cli import main
from residuum.conduct import conducting, planning
from residuum.conduct.launchers.launcher import Room
from residuum.errors import InputError
from residuum.records import rows, run_folder, storage
from residuum.records.measures import MEASURES
from residuum.records.record import find_runs, read_record
from residuum.studies import chosen
from residuum.studies import plan as plans
from residuum.studies.study import Claim, Compare, Study

SETTINGS = {
    "data.subset": 400, "data.validation": 200, "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]},
    "train.epochs": 4, "train.batch_size": 16, "compute.threads": 1,
}  # fmt: skip
FILE = """
question = "Which rate is best?"
base = "quick"
seeds = 3
select = "validation"

[set]
data.subset = 400
data.validation = 200
model = { name = "cifar_resnet", depth = 8, channels = [4, 4, 8] }
train.epochs = 4
train.batch_size = 16
compute.threads = 1

[axes]
optim.lr = [0.0003, 0.02, 0.1]

[compare]
baseline = "lr=0.02"
measure = "validation_error"

[[claims]]
text = "A tiny rate is worse."
expect = "lr=0.0003 > lr=0.02"
measure = "validation_error"
"""


def tuning(**parts) -> Study:
    values = {"name": "rates", "question": "Which rate is best?", "base": "quick", "seeds": 3, "select": "validation",
              "set": SETTINGS, "axes": {"optim.lr": [0.0003, 0.02, 0.1]},
              "compare": {"baseline": "lr=0.02", "measure": "validation_error"}}  # fmt: skip
    return Study(**{**values, **parts, "set": {**SETTINGS, **parts.get("set", {})}})


def conducted(plan, root):
    return list(conducting.run(plan, root, Room(1, 1)))


def reads(plan, root):
    """Every reading of the test set that the runs of a plan have on record, by arm and seed."""
    found = {(run.arm, run.seed): rows.read_rows(root / run.folder / run_folder.TEST_READS) for run in plan.runs}
    return {key: [row["why"] for row in rows] for key, rows in found.items() if rows}


def at_the_end(plan, root, arm, seed):
    """What a run reads at its end: once for each of its scored weights that are of an epoch of their own."""
    (run,) = [one for one in plan.runs if (one.arm, one.seed) == (arm, seed)]
    result = read_record(root / run.folder).result
    return ["last", "selected"][: 1 + (result.selected.epoch != result.last.epoch)]


def test_a_study_chooses_and_reads_once_end_to_end(tmp_path, capsys):
    path, runs = tmp_path / "rates.toml", ["--runs", str(tmp_path / "runs")]
    path.write_text(FILE)
    command = ["study", "run", str(path), *runs]
    assert main(["study", "show", str(path)]) == 0
    assert "selects an arm by validation error; the test set stays unread" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    shown, lines = capsys.readouterr(), []
    for line in shown.err.splitlines():
        lines += [line.partition(":")[0]] if "test set" in line else []
    assert sorted(lines) == [f"lr={rate}, seed {seed}" for rate in (0.02, 0.1) for seed in (0, 1, 2)]  # each once
    said = json.loads(shown.out.splitlines()[-1])
    plan = plans.read(plans.find("rates", tmp_path / "runs"))
    errors = {}
    for run in plan.runs:
        errors.setdefault(run.arm, []).append(
            MEASURES["validation_error"].of(read_record(tmp_path / "runs" / run.folder))
        )
    best = min(errors, key=lambda arm: sum(errors[arm]))
    assert said["chosen"] == best == "lr=0.1"
    # The weights of each run of the chosen arm and of the baseline, as at the end of any run; nothing else.
    expected = {(arm, seed): at_the_end(plan, tmp_path / "runs", arm, seed)
                for arm in ("lr=0.02", "lr=0.1") for seed in (0, 1, 2)}  # fmt: skip
    assert reads(plan, tmp_path / "runs") == expected
    assert list(said["arms"]) == ["validation_error", "held_out_error", "train_loss"]

    def test_error(arm):
        return [100 * (1 - read_record(tmp_path / "runs" / run.folder).result.last.test.accuracy)
                for run in plan.runs if run.arm == arm]  # fmt: skip

    assert said["test_error"] == {arm: pytest.approx(sum(test_error(arm)) / 3) for arm in ("lr=0.1", "lr=0.02")}
    # Neither going on nor reporting reads it again.
    assert main(command) == 0
    text = capsys.readouterr().out
    difference = sum(test_error("lr=0.1")) / 3 - sum(test_error("lr=0.02")) / 3
    assert f"Chosen by validation error: lr=0.1 ({sum(errors[best]) / 3:.2f} %). On the test set it has" in text
    signed = f"{difference:+.2f}".replace("-", "−")
    assert f"lr=0.02 has {sum(test_error('lr=0.02')) / 3:.2f} %: {signed} points, 95 % interval" in text
    for _ in range(2):
        assert main(["study", "report", "rates", *runs]) == 0
    assert reads(plan, tmp_path / "runs") == expected
    report = (tmp_path / "runs" / "studies" / "rates" / "report" / "report.md").read_text()
    assert "The only reading of the test set" in report
    assert "validation error, last epoch" in report
    arms = report.partition("## Arms")[2].partition("## ")[0]
    assert "validation error" in arms
    assert "test error" not in arms
    assert "Image by image" not in report
    assert "arms are chosen" not in report
    assert "an arm is chosen by validation error" in report


def test_the_reading_is_of_the_choice_paired_by_seed(here, tmp_path):
    plan = planning.plan(tuning(), {})
    conducted(plan, tmp_path)
    found = results(plan, tmp_path)
    made, test = found.selection.chosen, found.selection.test
    assert (made.arm, made.baseline, made.seeds, made.read_before, made.runs) == ("lr=0.1", "lr=0.02", (0, 1, 2), 0, 9)
    assert min(made.validation, key=made.validation.get) == "lr=0.1"
    pairs = dict(test.comparison.differences)
    by_seed = {name: {one.seed: one.value for one in side.values} for name, side in test.errors.items()}
    assert pairs == {seed: pytest.approx(by_seed["lr=0.1"][seed] - by_seed["lr=0.02"][seed]) for seed in (0, 1, 2)}
    assert test.comparison.low < test.comparison.mean < test.comparison.high
    assert test.comparison.on_images is not None
    assert test.reads == {
        arm: sum(len(at_the_end(plan, tmp_path, arm, seed)) for seed in (0, 1, 2)) for arm in ("lr=0.1", "lr=0.02")
    }
    assert test.others == 0
    # What judges the arms knows nothing of it.
    assert all(not MEASURES[name].held_out for name in found.summaries)
    assert all(record.result.last.test is None for record in found.records.values())
    assert found.images == ()


def test_the_test_set_is_unread_until_all_runs_are_there(here, tmp_path):
    plan = planning.plan(tuning(), {})
    saying = conducting.run(plan, tmp_path, Room(1, 1))
    for _ in saying:
        if sum(run_folder.is_complete(tmp_path / run.folder) for run in plan.runs) == 4:
            break
    saying.close()
    assert results(plan, tmp_path).selection.chosen is None
    assert results(plan, tmp_path).selection.missing == 5
    assert reads(plan, tmp_path) == {}
    conducted(plan, tmp_path)
    assert len(reads(plan, tmp_path)) == 6


def test_a_reading_that_was_cut_off_goes_on_with_the_choice(here, tmp_path):
    plan = planning.plan(tuning(), {})
    conducted(plan, tmp_path)
    whole = {run.id: read_record(tmp_path / run.folder).result for run in plan.runs}
    folder = plans.folder_of(tmp_path, "rates")
    made = chosen.read(folder)
    for run in plan.runs[-2:]:  # as if it had stopped before these
        result = read_record(tmp_path / run.folder).blind().result
        storage.write_json(tmp_path / run.folder / run_folder.RESULT, result.plain())
        (tmp_path / run.folder / run_folder.TEST_READS).write_bytes(b"")
    assert results(plan, tmp_path).selection.test is None
    conducted(plan, tmp_path)
    assert chosen.read(folder) == made
    assert {run.id: read_record(tmp_path / run.folder).result for run in plan.runs} == whole


def test_more_seeds_choose_no_other_arm_and_are_not_read(here, tmp_path):
    plan, more = planning.plan(tuning(), {}), planning.plan(tuning(seeds=4), {})
    conducted(plan, tmp_path)
    before = reads(plan, tmp_path)
    folder = plans.folder_of(tmp_path, "rates")
    made = chosen.read(folder)
    chosen.write(replace(made, arm="lr=0.0003"), folder)  # a choice that validation would not make any more
    conducted(more, tmp_path)
    found = results(more, tmp_path).selection
    assert (found.chosen.arm, found.best) == ("lr=0.0003", "lr=0.1")
    assert {key: rows for key, rows in reads(more, tmp_path).items() if key[0] != "lr=0.0003"} == before
    assert ("lr=0.0003", 3) not in reads(more, tmp_path)
    assert {one.n for one in found.test.errors.values()} == {3}


def test_a_study_that_grows_until_it_is_decided_is_read_after_its_last_look(here, tmp_path):
    claims = [{"text": "Never decided.", "expect": "lr=0.02 = lr=0.1", "margin": 1e-9, "measure": "validation_error"}]
    plan, seen = planning.plan(tuning(seeds=1, claims=claims), {}), []
    for said in conducting.until_decided(plan, tmp_path, Room(1, 1), budget=None):
        if isinstance(said, plans.Look):
            grown = planning.plan(tuning(seeds=len(said.seeds)), {})
            seen.append((len(said.seeds), len(reads(grown, tmp_path)), results(grown, tmp_path).selection.chosen))
    assert seen == [(1, 0, None), (2, 0, None), (3, 0, None), (4, 0, None)]
    found = results(planning.plan(tuning(seeds=4), {}), tmp_path).selection
    assert (found.chosen.seeds, found.test.comparison.n) == ((0, 1, 2, 3), 4)


def test_where_the_baseline_is_best_it_alone_is_read(here, tmp_path):
    plan = planning.plan(tuning(compare={"baseline": "lr=0.1", "measure": "validation_error"}), {})
    conducted(plan, tmp_path)
    found = results(plan, tmp_path).selection
    assert (found.chosen.arm, found.chosen.baseline) == ("lr=0.1", "lr=0.1")
    assert (list(found.test.errors), found.test.comparison) == (["lr=0.1"], None)
    assert {arm for arm, _ in reads(plan, tmp_path)} == {"lr=0.1"}


def test_a_run_that_another_study_needs_is_scored_for_that_one_and_told(here, tmp_path):
    """Arms are shared between studies: what one reads at the end of its runs, the other neither shows nor hides."""
    plan = planning.plan(tuning(), {})
    other = Study(name="other", question="?", base="quick", seeds=3, set={**SETTINGS, "optim.lr": 0.0003},
                  axes={"train.epochs": [4]})  # fmt: skip
    conducted(plan, tmp_path)
    shared = planning.plan(other, {})
    assert {run.id for run in shared.runs} < {run.id for run in plan.runs}
    assert not any(plans.is_complete(run, tmp_path) for run in shared.runs)
    assert results(shared, tmp_path).summaries.get("test_error") is None
    steps = {run.id: read_record(tmp_path / run.folder).steps() for run in shared.runs}
    conducted(shared, tmp_path)
    assert results(shared, tmp_path).summaries["test_error"][0].n == 3
    assert {run.id: read_record(tmp_path / run.folder).steps() for run in shared.runs} == steps
    assert results(plan, tmp_path).selection.test.others == 3

    # The other way round: runs that were read before.
    conducted(shared, tmp_path / "later")
    conducted(plan, tmp_path / "later")
    found = results(plan, tmp_path / "later")
    assert found.selection.chosen.read_before == 3
    assert "test_error" not in found.summaries


def test_arms_that_did_not_train_are_not_chosen(here, tmp_path):
    plan = planning.plan(
        tuning(axes={"optim.lr": [1e-9, 2e-9]}, compare={"baseline": "lr=1e-09", "measure": "validation_error"}), {}
    )
    conducted(plan, tmp_path)
    found = results(plan, tmp_path).selection
    assert (found.missing, found.best, found.chosen) == (0, None, None)
    assert reads(plan, tmp_path) == {}


def test_some_arms_without_the_baseline_choose_nothing(here, tmp_path):
    plan = planning.plan(tuning().restricted(["lr=0.0003", "lr=0.1"]), {})
    conducted(plan, tmp_path)
    assert results(plan, tmp_path).selection.chosen is None
    assert reads(plan, tmp_path) == {}


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"select": "test"}, "select: "),
        ({"set": {"data.validation": 0}}, "select: arm 'lr=0.0003' holds no images out to be judged by: set data.validation"),
        ({"compare": {"baseline": "lr=0.02", "measure": "test_error"}}, "compare.measure: 'test_error' is of the test set, .* did you mean 'validation_error'?"),
        ({"claims": [{"text": "?", "expect": "lr=0.02 > 90", "measure": "test_accuracy"}]},
         r"claims\[0\].measure: 'test_accuracy' .* did you mean 'validation_accuracy'\?"),
        ({"set": {"monitor.test": True}}, "set.monitor.test: monitor.test is about the test set"),
        ({"axes": {"optim.lr": [0.02], "monitor.final_test": [True, False]}, "compare": {}}, "axes.monitor.final_test: "),
        ({"inside": ["lr=0.02"]}, "inside: what a network knows is shown on the test set"),
        ({"compare": {"measure": "validation_error"}}, "compare.baseline: the chosen arm is held against a baseline"),
    ],
)  # fmt: skip
def test_what_would_read_the_test_set_before_is_refused(parts, says):
    with pytest.raises(InputError, match=f"^{says}"):
        tuning(**parts)


def test_what_names_no_measure_is_about_the_images_that_judge_and_what_names_the_test_set_is_refused():
    claim = {"text": "A tiny rate is worse.", "expect": "lr=0.0003 > lr=0.02"}
    study = tuning(compare={"baseline": "lr=0.02"}, claims=[claim, {**claim, "text": "Loss.", "measure": "train_loss"}])
    assert study.compare.measure == "validation_error"
    assert [one.measure for one in study.claims] == ["validation_error", "train_loss"]
    assert tuning(compare=Compare(baseline="lr=0.02"), claims=[Claim(**claim)]) == study.model_copy(
        update={"claims": study.claims[:1]})  # fmt: skip
    open_ = tuning(select="none", compare={"baseline": "lr=0.02"}, claims=[claim])
    assert (open_.compare.measure, open_.claims[0].measure) == ("test_error", "test_error")
    with pytest.raises(InputError, match="'test_error' is of the test set"):
        tuning(claims=[{**claim, "measure": "test_error"}])


@pytest.mark.parametrize("setting", ["monitor.test", "monitor.final_test"])
def test_the_command_line_cannot_unseal_it(setting, tmp_path, capsys):
    path = tmp_path / "rates.toml"
    path.write_text(FILE)
    assert main(["study", "run", str(path), "--set", f"{setting}=true", "--runs", str(tmp_path)]) == 2
    assert f"{setting} is about the test set, which select = 'validation' leaves unread" in capsys.readouterr().err
    assert not list(find_runs(tmp_path))


def test_an_unknown_way_to_select_is_one_line_with_its_place(tmp_path, capsys):
    path = tmp_path / "rates.toml"
    path.write_text(FILE.replace('select = "validation"', 'select = "validaton"'))
    assert main(["study", "show", str(path)]) == 2
    said = capsys.readouterr().err
    assert "rates.toml, line 5: select: " in said
    assert "'validation'" in said


def test_the_choice_of_an_unreadable_file_is_not_made_anew(here, tmp_path):
    plan = planning.plan(tuning(seeds=1), {})
    conducted(plan, tmp_path)
    path = plans.folder_of(tmp_path, "rates") / chosen.CHOSEN
    path.write_text("{}")
    with pytest.raises(InputError, match=r"chosen\.json is damaged"):
        conducted(plan, tmp_path)

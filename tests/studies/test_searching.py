"""A search sees validation images only, goes on where it was stopped, and ends in a study with fresh seeds."""

import json
import re
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from residuum.analysis.results import results
from residuum.cli import main
from residuum.conduct import conducting, cost, planning, tuning
from residuum.conduct.cost import Estimate
from residuum.conduct.launchers import LAUNCHERS, here
from residuum.conduct.launchers.launcher import JobEvent, Room
from residuum.conduct.tuning import TrialDone
from residuum.errors import BusyError, InputError
from residuum.records import run_folder, storage
from residuum.records.event import EpochDone
from residuum.records.record import find_runs, read_record
from residuum.report import searched
from residuum.studies import parsing, trials
from residuum.studies import plan as plans
from residuum.studies.space import Range, described
from residuum.studies.study import Study, StudyError
from residuum.training import train

SETTINGS = {
    "data.dataset": {"name": "synthetic", "size": 8, "train": 60, "test": 20, "classes": 4},
    "data.validation": 20, "data.augment": [], "model": {"name": "cifar_resnet", "depth": 8, "channels": [2, 2, 4]},
    "train.epochs": 3, "train.batch_size": 20, "compute.threads": 1,
}  # fmt: skip
SPACE = {
    "optim.lr": {"low": 0.001, "high": 0.5, "log": True}, "train.batch_size": {"low": 10, "high": 30, "step": 10},
    "model.activation": ["relu", {"name": "leaky_relu", "negative_slope": 0.2}],
}  # fmt: skip
ROOM = Room(1, 1)


def study(space=None, **parts) -> Study:
    asked = {"trials": 6, "space": SPACE if space is None else space, **parts.pop("search", {})}
    values = {"name": "tune", "question": "Which settings?", "base": "quick", "seeds": [0, 1, 2], "set": SETTINGS}
    return Study(**values, **parts, search=asked)


def searched_trials(plan, root, launcher="here"):
    return [one for one in tuning.search(plan, root, ROOM, launcher) if isinstance(one, TrialDone)]


def told(trials):
    return [(one.arm, one.number, dict(one.settings), one.state, one.error) for one in trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that nothing stopped, its plan and where it lies."""
    root, plan = tmp_path_factory.mktemp("whole"), planning.plan(study(search={"prune": True}), {})
    return plan, root, searched_trials(plan, root)


def test_a_search_tries_the_space_and_reads_no_test_image(whole):
    _plan, root, trials = whole
    assert [one.number for one in trials] == [1, 2, 3, 4, 5, 6]
    for one in trials:
        lr = one.settings["optim.lr"]
        assert 0.001 <= lr <= 0.5
        assert lr == float(f"{lr:.4g}")
        assert one.settings["train.batch_size"] in (10, 20, 30)
        assert one.settings["model.activation"] in SPACE["model.activation"]
    records = [read_record(folder) for folder in find_runs(root)]
    assert len(records) == len({json.dumps(dict(one.settings)) for one in trials})
    for record in records:
        assert record.test_reads == 0
        assert record.config.train.seed == 1000
        if record.result:
            assert record.result.is_unread
        else:
            assert run_folder.checkpoints(record.folder), "a pruned run can be gone on with"
        assert not any((record.folder / "predictions").glob("*"))


def test_a_trial_has_the_validation_error_of_its_last_epoch_and_the_pruned_ones_were_worse(whole):
    _plan, root, trials = whole
    found = {json.dumps(record.config.optim.lr): record for record in map(read_record, find_runs(root))}
    complete = [one for one in trials if one.state == "complete"]
    assert len(complete) >= tuning.STARTUP
    for one in trials:
        record = found[json.dumps(one.settings["optim.lr"])]
        assert one.error == pytest.approx(100 * (1 - record.epochs[-1].validation.accuracy))
        assert (one.state == "complete") == (len(record.epochs) == 3)
    for one in trials[: tuning.STARTUP]:
        assert one.state == "complete", "nothing is pruned before there is something to be worse than"


def test_the_study_of_what_was_found_has_the_best_trial_on_seeds_of_its_own(whole):
    plan, root, trials = whole
    best = min((one for one in trials if one.state == "complete"), key=lambda one: one.error)
    made = tuning.tuned(plan, root)
    base, new = made.arms()
    assert (base.name, new.name, made.seeds) == ("base", "base tuned", (0, 1, 2))
    assert new.settings == best.settings
    assert not base.settings
    assert [claim.expect for claim in made.claims] == ["base tuned < base"]
    assert made.compare.baseline == "base"
    (arm,) = made.tuned.arms
    assert (arm.trials, arm.failed, made.tuned.test_reads, made.tuned.claimed) == (6, 0, 0, "after the search")
    assert list(arm.errors) == pytest.approx([one.error for one in trials])
    assert arm.epochs == sum(len(read_record(folder).epochs) for folder in find_runs(root))
    path = tuning.write(made, plan, root)
    again = parsing.read(str(path))
    assert again == made, "the file says all that the study is"
    written = path.read_bytes()
    assert tuning.write(tuning.tuned(plan, root), plan, root).read_bytes() == written, "and is written once"
    with pytest.raises(StudyError, match="seed 1000 the settings were searched for: a verdict needs seeds that"):
        made.changed({}, [0, 1000])


def test_a_search_that_was_stopped_goes_on_to_the_same_trials(whole, tmp_path):
    plan, _, trials = whole
    seen = []
    for stop_after in (1, 4, 8):  # epochs: within the first trial, later, and once more
        said = tuning.search(plan, tmp_path, ROOM, "here")
        epochs = (
            one for one in said if seen.append(one) or (isinstance(one, JobEvent) and isinstance(one.event, EpochDone))
        )
        list(islice(epochs, stop_after))
        said.close()
    with pytest.raises(InputError, match=r"the search of 'base' is not over: \d of 6 trials have ended"):
        tuning.tuned(plan, tmp_path)
    seen += tuning.search(plan, tmp_path, ROOM, "here")
    assert told(one for one in seen if isinstance(one, TrialDone)) == told(trials)
    assert list(tuning.search(plan, tmp_path, ROOM, "here")) == [], "and it is over"


def test_a_search_goes_on_elsewhere_from_its_store(whole, tmp_path):
    """The first machine is lost after two trials, with all that it had; the second one has what lies in the store."""
    plan, root, said = whole
    room = replace(ROOM, store=f"file://{tmp_path}/store")
    begun = tuning.search(plan, tmp_path / "lost", room, "here")
    first = list(islice((one for one in begun if isinstance(one, TrialDone)), 2))
    begun.close()
    shutil.rmtree(tmp_path / "lost")
    rest = [one for one in tuning.search(plan, tmp_path / "found", room, "here") if isinstance(one, TrialDone)]
    assert told([*first, *rest]) == told(said)
    tuning.write(tuning.tuned(plan, tmp_path / "found"), plan, tmp_path / "found", room.store)
    there = parsing.read(str(tmp_path / "store" / "studies" / "tune" / "tune-tuned.toml"))
    (arm,), (expected,) = there.tuned.arms, tuning.tuned(plan, root).tuned.arms
    assert arm.model_copy(update={"seconds": 0.0}) == expected.model_copy(update={"seconds": 0.0})
    for one in trials.read(tmp_path / "found" / "studies" / "tune")[:2]:
        assert not [*(tmp_path / "found" / one.runs[0]).rglob("*.safetensors")], "records, no weights"


def test_the_runs_of_a_search_are_listed_with_their_trials_and_the_pruned_ones_as_such(whole, capsys):
    """Without Optuna: the journal says which runs were asked for, line by line."""
    _plan, root, said = whole
    read = trials.read(root / "studies" / "tune")
    assert [(one.name, one.settings) for one in read] == [(f"base, trial {one.number}", one.settings) for one in said]
    assert main(["list", "runs", "--study", "tune", "--runs", str(root), "--json"]) == 0
    rows = {row["studies"][0]["arm"]: row for row in json.loads(capsys.readouterr().out)}
    assert {*rows} == {one.name for one in read}
    for one, trial in zip(read, said, strict=True):
        row = rows[one.name]
        assert row["status"] == {"complete": "finished", "pruned": "pruned"}[trial.state]
        assert row["differs"] == json.loads(json.dumps(trial.settings))
    assert {row["status"] for row in rows.values()} == {"finished", "pruned"}
    assert main(["list", "runs", "--status", "pruned", "--runs", str(root), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == sum(one.state == "pruned" for one in said)
    assert main(["study", "report", "tune", "--runs", str(root)]) == 2
    assert "searches for settings, which `residuum list runs --study tune` lists" in capsys.readouterr().err


def test_a_journal_of_another_version_or_damaged_tells_what_it_says(tmp_path):
    begun = '{"op_code":0,"study_name":"a"}\n{"op_code":4,"study_id":0}\n{"op_code":8,"trial_id":0,'
    for line in (
        '"user_attr":{"runs":["x"]}}',
        '"user_attr":{"runs":["x"],"settings":7}}\n{"op_code":4,"study_id":9}\n[]',
    ):
        storage.write_file(tmp_path / trials.JOURNAL, f"{begun}{line}\n{{".encode())
        assert trials.read(tmp_path) == [trials.Trial("a", 1, {}, ("x",))]
    storage.write_file(tmp_path / trials.JOURNAL, f'{begun}"user_attr":{{"runs":[7]}}}}\n'.encode())
    assert trials.read(tmp_path) == []
    assert trials.read(tmp_path / "none") == []


def test_a_pruned_run_that_goes_on_is_pruned_no_more(whole, tmp_path):
    _plan, root, _trials = whole
    pruned = next(folder for folder in find_runs(root) if read_record(folder).status == "pruned")
    copy = tmp_path / pruned.name
    shutil.copytree(pruned, copy)
    assert train(read_record(copy).config, tmp_path).status == "finished"
    assert not (copy / run_folder.PRUNED).exists()


def test_a_pruned_run_that_nobody_has_told_of_is_not_gone_on_with(whole, tmp_path, monkeypatch):
    plan, _, trials = whole
    pruned = [one for one in trials if one.state == "pruned"]
    assert pruned, "some of these settings are bad"
    with monkeypatch.context() as patched:
        patched.setattr(tuning._Work, "_close", _dies_at_a_pruned(tuning._Work._close))
        with pytest.raises(KeyboardInterrupt):
            list(tuning.search(plan, tmp_path, ROOM, "here"))
    assert told(searched_trials(plan, tmp_path)) == told(trials[pruned[0].number - 1 :])


def _dies_at_a_pruned(close):
    def closing(self, trial):
        if trial.pruned:
            raise KeyboardInterrupt
        close(self, trial)

    return closing


def test_more_trials_go_on_with_a_search_and_another_space_does_not(whole):
    plan, root, _ = whole
    more = searched_trials(tuning.planned(plan, 8), root)
    assert [one.number for one in more] == [7, 8]
    other = planning.plan(study(space={"optim.lr": [0.1, 0.2]}), {})
    with pytest.raises(InputError, match="holds a search that was begun with other settings, seeds or values"):
        list(tuning.search(other, root, ROOM, "here"))
    with storage.locked(plans.folder_of(root, plan.label)), pytest.raises(BusyError, match="by another process"):
        list(tuning.search(plan, root, ROOM, "here"))


def test_arms_are_tuned_by_equal_budgets_and_keep_their_claims(tmp_path):
    asked = study(
        space={"optim.lr": {"low": 0.01, "high": 0.3, "log": True}},
        axes={"model.activation": ["relu", "elu"]},
        compare={"baseline": "relu"},
        claims=[{"text": "ELU is better.", "expect": "elu < relu"}],
        search={"trials": 3, "seeds": [7, 8], "sampler": "random", "tune_each_arm": True},
    )
    plan = planning.plan(asked, {"train.epochs": 1})
    trials = searched_trials(plan, tmp_path)
    assert [one.arm for one in trials] == ["relu", "elu"] * 3, "in turn, so that no arm is ahead where it ends"
    by_arm = [[one.settings for one in trials if one.arm == arm] for arm in ("relu", "elu")]
    assert by_arm[0] == by_arm[1], "by chance alone both try the same values"
    made = tuning.tuned(plan, tmp_path)
    assert [arm.name for arm in made.arms()] == ["relu", "elu"]
    assert made.claims == asked.claims
    for arm, settings in zip(made.arms(), by_arm, strict=True):
        ours = [one for one in trials if one.arm == arm.name]
        best = min(ours, key=lambda one: one.error)
        assert arm.settings == {"model.activation": arm.name, **best.settings}
        assert len(settings) == 3
    assert made.tuned.claimed == "before the search"
    assert made.tuned.seeds == (7, 8)
    assert [one.trials for one in made.tuned.arms] == [3, 3]
    assert [one.epochs for one in made.tuned.arms] == [6, 6]
    list(conducting.run(planning.plan(made, {}), tmp_path, ROOM, "here"))
    found = results(plans.read(plans.find("tune-tuned", tmp_path)), tmp_path)
    assert not any(verdict.exploratory for verdict in found.verdicts)
    paragraph, table, figure = searched.blocks(found)
    assert (
        "6 trials, as many for each arm, chosen by chance from optim.lr 0.01 to 0.3 on a logarithmic scale"
        in paragraph.text
    )
    assert "What is claimed was claimed before the search" in paragraph.text
    assert "12 runs at most, 12 epochs" in paragraph.text
    assert "It left the test set unread" in paragraph.text
    assert [row[:3] for row in table.table.rows] == [("relu", "3", "3"), ("elu", "3", "3")]
    assert "expected of so many trials (Dodge et al. 2019)" in figure.caption
    assert figure.svg.startswith(b"<?xml")


def test_a_trial_that_cannot_be_computed_counts_and_fails_alone(tmp_path, monkeypatch):
    crash = {"model.depth": [8, 9]}  # 9 is no depth of this family, which only building it tells
    with pytest.raises(StudyError, match=r"search.space.model.depth: .*9"):
        list(tuning.search(planning.plan(study(space=crash), {}), tmp_path, ROOM, "here"))
    assert not list(tmp_path.iterdir()), "refused before anything is written"
    plan = planning.plan(study(space={"optim.lr": [0.1, 0.2, 0.3]}, search={"trials": 4}), {"train.epochs": 1})
    real = tuning.checked

    def picky(config, scale, loaded):
        if config.optim.lr == 0.2 and any(tmp_path.glob(f"studies/*/{tuning.SEARCH}")):
            raise InputError("0.2 is not to be had")
        return real(config, scale, loaded)

    monkeypatch.setattr(tuning, "checked", picky)
    trials = searched_trials(plan, tmp_path)
    bad = [one for one in trials if one.settings["optim.lr"] == 0.2]
    assert len(trials) == 4
    assert bad
    assert {(one.state, one.error, one.reason) for one in bad} == {("failed", None, "0.2 is not to be had")}
    (arm,) = tuning.tuned(plan, tmp_path).tuned.arms
    assert (arm.trials, arm.failed) == (4, len(bad))


def test_a_run_that_diverges_is_the_worst_there_is(tmp_path):
    plan = planning.plan(study(space={"optim.lr": [1e30]}, search={"trials": 1}), {"optim.clip_norm": 0.0})
    (one,) = searched_trials(plan, tmp_path)
    assert (one.state, one.error) == ("complete", tuning.WORST)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": {}}, "search.space: value should have at least 1 item"),
        ({"search": {"seeds": [1]}}, "search.seeds: seed 1 is the study's as well, which needs fresh ones"),
        ({"search": {"seeds": [5, 5]}}, "search.seeds: a seed appears twice"),
        ({"search": {"trials": 0}}, "search.trials: input should be greater than or equal to 1"),
        ({"space": {"optim.lr": {"low": 1.0, "high": 0.1}}}, "low = 1 is not below high = 0.1"),
        ({"space": {"optim.lr": {"low": 0.0, "high": 0.1, "log": True}}}, "begins above 0, not at low = 0"),
        ({"space": {"optim.lr": {"high": 0.1}}}, "optim.lr.high: a list of values, or a range { low = …, high = … }"),
        ({"space": {"optim.lrr": [1, 2]}}, "unknown setting 'optim.lrr'; did you mean 'optim.lr'?"),
        ({"space": {"data.validation": [10, 20]}}, "data.validation decides how trials are judged"),
        ({"space": {"train.seed": [1, 2]}}, "train.seed decides how trials are judged"),
        ({"space": {"train.epochs": [1, 2]}, "search": {"prune": True}}, "runs of other lengths are not pruned"),
        ({"axes": {"optim.lr": [0.1, 0.2]}}, "the study has 2 arms: with tune_each_arm = true each is searched for"),
        ({"axes": {"optim.lr": [0.1, 0.2]}, "search": {"tune_each_arm": True}}, "optim.lr sets arm 'lr=0.1' apart"),
        ({"select": "validation", "compare": {"baseline": "base", "measure": "validation_error"}},
         "select: a search chooses by validation itself"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_is_refused_with_its_place(change, words):
    with pytest.raises(StudyError) as caught:
        study(**change)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"low": 0.0003, "high": 0.3, "log": True}, "0.0003 to 0.3, logarithmic"),
        ({"low": 16, "high": 64, "step": 16}, "16 to 64, in steps of 16"),
        ({"low": 0.0, "high": 1.0}, "0 to 1"),
    ],
)
def test_a_range_is_told_in_words(values, words):
    assert described(Range(**values)) == words


def test_a_search_needs_images_held_out():
    with pytest.raises(StudyError, match=r"arm 'base' holds no images out to be judged by: set data.validation"):
        study().changed({"data.validation": 0})
    with pytest.raises(InputError, match=r"optim.lr: study 'tune' searches for this setting"):
        study().changed({"optim.lr": 0.1})


def test_commands_from_a_file_to_the_verdict(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(LAUNCHERS, "processes", here.launch)
    path, runs = tmp_path / "mine.toml", ["--runs", str(tmp_path / "runs")]
    asked = study(space={"optim.lr": [0.05, 0.1]}, search={"trials": 2}).model_copy(update={"name": "mine"})
    path.write_text(parsing.written(asked))
    assert parsing.read(str(path)) == asked
    assert main(["study", "show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "What is searched for: 2 trials, by tpe, with seed 1000\n" in shown
    assert re.search(r"optim\.lr +0\.05, 0\.1", shown)
    assert main(["study", "run", str(path), *runs]) == 2
    assert "searches for settings; `residuum study search` does" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    spent = Estimate({"base": 40.0}, 2.0, 9.0, 9.0, 0.1, 1.0, 0.0, 2, 1, 0)
    monkeypatch.setattr(cost, "estimate", lambda *_args, **_options: spent)
    assert main(["study", "plan", str(path), *runs]) == 0
    out = capsys.readouterr().out
    assert "searches for optim.lr by validation error; the test set stays unread (`residuum study search`)" in out
    assert "2 runs to search if none is pruned: about 82 s here" in out
    assert main(["study", "search", str(path), *runs, "--set", "train.epochs=1"]) == 0
    out = capsys.readouterr().out
    assert "trial 2 of 2: lr=" in out
    assert "best so far" in out
    command = out.splitlines()[-1].split("`")[1].split()
    assert command[:3] == ["residuum", "study", "run"]
    assert main([*command[1:]]) == 0
    assert "What the search found has a lower test error." in capsys.readouterr().out
    assert main(["study", "search", str(path), *runs, "--set", "train.epochs=1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["test_reads"] == 0
    assert said["arms"][0]["trials"] == 2
    assert said["study"] == command[3]
    found = Path(command[3])
    assert main(["study", "report", str(found), *runs]) == 0
    told = capsys.readouterr()
    assert "says other" not in told.err
    assert "residuum study search mine.toml --runs RUNS" in (next((tmp_path / "runs").glob("**/report.md"))).read_text()
    found.write_text(found.read_text().replace("has a lower test error", "is better"))
    assert main(["study", "report", str(found), *runs]) == 0
    assert f"{found} says other claims than when it was run" in capsys.readouterr().err
    assert main(["study", "search", "quickstart", *runs]) == 2
    assert "has no [search]" in capsys.readouterr().err
    assert main(["study", "search", str(path), *runs, "--trials", "0"]) == 2
    assert "--trials: 0 is not a count from 1 to 10,000" in capsys.readouterr().err


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(InputError, match=r"needs the package optuna: pip install 'residuum\[search\]'"):
        list(tuning.search(planning.plan(study(), {}), tmp_path, ROOM, "here"))
    assert not list(tmp_path.iterdir())


def test_there_is_nothing_to_run_where_no_search_was_begun(tmp_path):
    plan = planning.plan(study(), {})
    with pytest.raises(InputError, match=r"no search of 'tune' was begun in "):
        tuning.tuned(plan, tmp_path)
    with pytest.raises(InputError, match=r"as many trials as it has room for: say how many"):
        next(iter(tuning.search(plan, tmp_path, Room(0, 1), "slurm:local")))
    assert [*tmp_path.iterdir()] == []

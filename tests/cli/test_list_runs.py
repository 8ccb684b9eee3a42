"""Runs in a list: which study and arm they belong to, what sets them apart, and ids that can be copied at any width."""

import json
import random
import re
from pathlib import Path

import pytest
from rich.console import Console

from residuum.cli import listing, terminal
from residuum.config import SCHEMA, RunConfig, identity
from residuum.errors import InputError, line
from residuum.records import run_folder
from residuum.records.record import differing, find_run, told
from residuum.studies import plan as plans
from residuum.studies.plan import Plan, PlannedArm, PlannedRun
from residuum.studies.study import Study


def leave(runs: Path, settings: dict, recipe: str = "quick") -> Path:
    """Leave what a stopped run of a configuration leaves."""
    config = RunConfig().changed({"data.dataset": "digits", **settings})
    folder = run_folder.folder_of(runs, config)
    folder.mkdir(parents=True)
    values = {"schema": SCHEMA, "id": identity(config), "recipe": recipe, **config.model_dump(mode="json")}
    (folder / run_folder.CONFIG).write_text(json.dumps(values))
    return folder


def ask(runs: Path, label: str, folders: dict[str, Path]) -> None:
    """Write the plan of a study that asks for runs, an arm each, as `{"lr=0.1": folder}`."""
    rates = [float(arm.removeprefix("lr=")) for arm in folders]
    study = Study(name=label, question="Which?", base="quick", seeds=1, axes={"optim.lr": rates})
    arms = [PlannedArm(arm.name, arm.settings, 1, 1, 1, 1) for arm in study.arms()]
    planned = [PlannedRun(arm.name, 0, "", folder.name, RunConfig())
               for arm, folder in zip(arms, folders.values(), strict=True)]  # fmt: skip
    plans.write(Plan(study, label, 1.0, {"train.epochs": 2}, (), tuple(arms), tuple(planned)), runs)


def test_a_run_says_study_and_arm_and_what_sets_it_apart(run, tmp_path):
    runs = tmp_path / "runs"
    rates = {f"lr={rate:g}": leave(runs, {"optim.lr": rate}) for rate in (0.3, 0.02)}
    ask(runs, "rates", rates)
    ask(runs, "again", {"lr=0.3": rates["lr=0.3"]})
    alone = leave(runs, {"optim.lr": 0.7, "data.augment": ["horizontal_flip", {"name": "pad_crop", "padding": 2}]})
    leave(runs, {"optim.lr": 0.5, "train.seed": 1})
    leave(runs, {"model": "resnet56", "optim.lr": 0.9})  # a network of its own: the list tells it apart
    found = {row["run"]: row for row in json.loads(run("list", "runs", "--json")[1])}
    first, second = (found[folder.name.rpartition("-")[2]] for folder in rates.values())
    assert sorted(one["study"] for one in first["studies"]) == ["again", "rates"]
    assert second["studies"] == [{"study": "rates", "arm": "lr=0.02"}]
    assert second["differs"] == {"optim.lr": 0.02, "train.epochs": 2}
    mine = found[alone.name.rpartition("-")[2]]
    assert (mine["studies"], {*mine["differs"]}) == ([], {"optim.lr", "data.augment"})
    assert [row["differs"] for row in found.values() if row["model"] == "resnet56"] == [{}]
    out = run("list", "runs")[1]
    assert "data.augment=horizontal_flip+pad_crop padding=2" in out
    assert re.search(r"rates +lr=0\.02 +stopped .* optim\.lr=0\.02", out)


def test_a_damaged_plan_or_run_leaves_the_others_listed(run, tmp_path):
    runs = tmp_path / "runs"
    folder, other = leave(runs, {"optim.lr": 0.3}), leave(runs, {"optim.lr": 0.4})
    ask(runs, "rates", {"lr=0.3": folder})
    whole = (runs / "studies" / "rates" / plans.PLAN).read_text()
    for text in ("", "[]", "{}", whole[: len(whole) // 2], whole.replace('"arm"', '"arn"')):
        (runs / "studies" / "rates" / plans.PLAN).write_text(text)
        rows = json.loads(run("list", "runs", "--json")[1])
        assert [row["studies"] for row in rows] == [[], []]
    (other / run_folder.CONFIG).write_text("{")
    assert differing([folder, other]) == [{}, {}]
    assert {row["status"] for row in json.loads(run("list", "runs", "--json")[1])} == {"stopped", "unreadable"}


def test_what_differs_is_what_was_drawn_to_differ(tmp_path):
    draw = random.Random(5)
    values = {
        "optim.lr": (0.1, 0.2, 0.3), "train.batch_size": (16, 32), "model.activation": ("relu", "elu", "gelu"),
        "optim.optimizer": ("sgd", "adam"), "train.epochs": (3, 4),
    }  # fmt: skip
    for trial in range(6):
        chosen = [{path: draw.choice(those) for path, those in values.items()} | {"train.seed": n} for n in range(4)]
        folders = [leave(tmp_path / str(trial), one) for one in chosen]
        apart = {path for path in values if len({one[path] for one in chosen}) > 1}
        for one, found in zip(chosen, differing(folders), strict=True):
            assert found == {path: one[path] for path in found}
            assert {*found} == apart


def test_a_name_of_several_runs_is_answered_with_what_sets_them_apart(tmp_path, monkeypatch):
    leave(tmp_path, {"optim.lr": 0.3})
    leave(tmp_path, {"optim.lr": 0.05, "optim.optimizer": "adam"})
    with pytest.raises(InputError, match="ambiguous") as error:
        find_run("resnet", tmp_path)
    assert "(optim.lr=0.3, optim.optimizer=sgd)" in str(error.value)
    assert "(optim.lr=0.05, optim.optimizer=adam)" in str(error.value)
    leave(tmp_path / "seeds", {"train.seed": 1})
    leave(tmp_path / "seeds", {"train.seed": 2})
    with pytest.raises(InputError, match=r"\(train\.seed=1\), .* \(train\.seed=2\)"):
        find_run("resnet", tmp_path / "seeds")
    leave(tmp_path / "data", {"data.fingerprint": "a1b2"})
    leave(tmp_path / "data", {"data.fingerprint": "c3d4"})
    with pytest.raises(InputError, match=r"\(data\.fingerprint=a1b2\), .* \(data\.fingerprint=c3d4\)"):
        find_run("resnet", tmp_path / "data")
    for seed in range(9):
        leave(tmp_path / "many", {"train.seed": seed, "model.depth": 20 + 6 * seed, "optim.optimizer": "adam"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        find_run("resnet", Path("many"))
    said = line(error.value.text)  # no more runs than a line has room for, each of them whole
    assert "…" not in said
    whole = re.findall(r"resnet(\d+)-\w+-seed\d+-[0-9a-f]{12} \(model\.depth=(\d+)\)", said)
    assert len(whole) >= 2, said
    assert all(depth == told_depth for depth, told_depth in whole)
    assert said.endswith(f" and {9 - len(whole)} more")
    assert (
        told({"model.code": "ab" * 32, "model": {"name": "mine.py:Net", "code": "cd" * 32}})
        == "model.code=abababababab, model=mine.py:Net code=cdcdcdcdcdcd"
    )
    assert (
        told({"a": True, "b": [], "c": 1e-08, "d": {"name": "x", "y": [1, 2]}}) == "a=true, b=none, c=1e-08, d=x y=1+2"
    )


@pytest.mark.parametrize("many", [3, terminal.MANY + 1])
def test_ids_are_whole_at_every_width_and_columns_go_from_the_least_of_them(monkeypatch, capsys, many):
    draw = random.Random(many)

    def text(longest: int) -> str:
        return " ".join("".join(draw.choices("abcdef", k=draw.randint(1, 9))) for _ in range(draw.randint(0, longest)))

    rows = [{"run": f"{draw.getrandbits(48):012x}", "study": text(2), "arm": text(3), "status": "finished",
             "recipe": "quick", "model": "resnet20", "data": "digits", "seed": draw.randint(0, 9), "epochs": "1/1",
             "test acc": round(draw.random(), 4), "differs": text(9), "text": text(1)} for _ in range(many)]  # fmt: skip
    for width in (40, 60, 80, 120, 200):
        monkeypatch.setattr(terminal, "PlainConsole", lambda wide=width, **how: Console(
            **{**how, "width": wide, "force_terminal": True, "color_system": None}))  # fmt: skip
        terminal.print_table(rows, go=listing.GO, instead=listing.INSTEAD)
        out, err = capsys.readouterr()
        assert all(re.search(rf"(?<!\S){row['run']}(?!\S)", out) for row in rows)
        if many < terminal.MANY:
            assert max(map(len, out.splitlines())) <= width
        said = " ".join(err.split()).partition(" for ")[2].partition(";")[0]
        gone = said.split(", ") if said else []
        assert sorted(gone, key=listing.GO.index) == [*listing.GO[: len(gone)]]
        assert all((column in out) == (column not in gone) for column in listing.GO)
        if width >= 60:
            assert not {"arm", "seed"} & {*gone}
        if "model" in gone and "arm" not in gone:
            assert out.count("resnet20") == sum(not row["arm"] for row in rows)

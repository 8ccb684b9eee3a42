"""The index beside the run folders: what is listed from it is what the folders say, whatever happened to either."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from residuum.config import SCHEMA, RunConfig, identity
from residuum.records import index, run_folder, storage
from residuum.records.index import INDEX, Row, listed
from residuum.studies import plan as plans
from residuum.studies.plan import Plan, PlannedArm, PlannedRun
from residuum.studies.study import Study

EPOCH = {
    "epoch": 1, "step": 3, "lr": 0.1, "train": {"split": "train", "loss": 1.0, "accuracy": 0.5, "n": 10},
    "validation": None, "test": None, "best": True, "seconds": 1.0, "images_per_second": 10.0,
}  # fmt: skip
RESULT = {
    "status": "finished", "epochs": 1, "steps": 3, "diverged": None, "test_reads": 1, "selected": None,
    "last": {"epoch": 1, "validation": None, "test": {"loss": 1.0, "accuracy": 0.25, "n": 100}},
}  # fmt: skip


def leave(runs: Path, seed: int, *, accuracy: float | None = 0.25, epochs: int = 1) -> Path:
    """Leave the folder of a run; without an accuracy one that was stopped."""
    config = RunConfig().changed({"train.seed": seed, "data.dataset": "digits"})
    folder = run_folder.folder_of(runs, config)
    folder.mkdir(parents=True)
    values = {"schema": SCHEMA, "id": identity(config), "recipe": "quick", **config.model_dump(mode="json")}
    (folder / run_folder.CONFIG).write_text(json.dumps(values))
    rows = [json.dumps(EPOCH | {"epoch": number + 1}) + "\n" for number in range(epochs)]
    (folder / run_folder.METRICS).write_text("".join(rows))
    if accuracy is not None:
        score(folder, accuracy)
    return folder


def score(folder: Path, accuracy: float) -> None:
    last = {**RESULT["last"], "test": {"loss": 1.0, "accuracy": accuracy, "n": 100}}
    storage.write_json(folder / run_folder.RESULT, RESULT | {"last": last})


def seen(runs: Path) -> dict[str, object]:
    """What is listed, by folder: a row, or the words of an error."""
    return {one.folder.name: one.row if isinstance(one.row, Row) else str(one.row) for one in listed(runs)}


def from_folders(runs: Path, monkeypatch) -> dict[str, object]:
    """The same without an index."""
    with monkeypatch.context() as patched:
        patched.setattr(index, "INDEX", "there is none")
        patched.setattr(index, "FEW", 10**9)
        return seen(runs)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """An index for any number of runs, which counts as old enough at once."""
    monkeypatch.setattr(index, "FEW", 0)
    monkeypatch.setattr(index, "JUST_NOW", -(10**12))


@pytest.fixture
def read(monkeypatch):
    """The names of the folders that were read."""
    names = []

    def noted(folder, usual=index.read_record):
        names.append(folder.name)
        return usual(folder)

    monkeypatch.setattr(index, "read_record", noted)
    return names


def test_what_did_not_change_is_not_read_again(tmp_path, read, monkeypatch):
    folders = [leave(tmp_path, seed, accuracy=None if seed == 3 else 0.1 * seed) for seed in range(5)]
    first = seen(tmp_path)
    assert read == sorted(folder.name for folder in folders)
    assert [row.test_accuracy for row in first.values()] == [0.0, 0.1, 0.2, None, 0.4]
    read.clear()
    assert seen(tmp_path) == first
    assert read == []
    score(folders[1], 0.9)
    assert seen(tmp_path)[folders[1].name].test_accuracy == 0.9
    assert read == [folders[1].name]
    assert seen(tmp_path) == from_folders(tmp_path, monkeypatch)


def test_whatever_is_done_to_folders_or_index_the_list_is_that_of_the_folders(tmp_path, monkeypatch):
    """Random deeds, each followed by a look: by one who has an index, and by one who has none."""
    chance = random.Random(0)
    for seed in range(6):
        leave(tmp_path, seed)

    def some() -> Path:
        return chance.choice([path.parent for path in tmp_path.glob(f"*/{run_folder.CONFIG}")])

    def replaced() -> None:
        # By a folder of as many bytes in files with the same times, as a copy by cp -p or rsync is.
        folder, new = some(), tmp_path / "new"
        shutil.copytree(folder, new)
        for path in new.glob("*.json"):
            was = path.stat()
            path.write_text(path.read_text().replace('"accuracy": 0.', '"accuracy": 1.'))
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        shutil.rmtree(folder)
        new.rename(folder)

    def damaged() -> None:
        path = chance.choice([some() / name for name in (run_folder.CONFIG, run_folder.RESULT, run_folder.METRICS)])
        path.write_text("{" + "\n")

    def begun() -> None:
        leave(tmp_path, chance.randrange(10, 10**6), accuracy=chance.choice([None, chance.random()]))

    def grown() -> None:
        with (some() / run_folder.METRICS).open("a") as file:
            file.write(json.dumps(EPOCH | {"epoch": 2}) + "\n")

    deeds = [
        lambda: shutil.rmtree(some()),
        lambda: some().rename(tmp_path / f"called otherwise {chance.random()}"),
        lambda: score(some(), round(chance.random(), 3)),
        lambda: (some() / run_folder.RESULT).unlink(missing_ok=True),
        lambda: (tmp_path / INDEX).unlink(missing_ok=True),
        lambda: (tmp_path / INDEX).write_bytes((tmp_path / INDEX).read_bytes()[:-20]),
        lambda: (tmp_path / INDEX).write_text(json.dumps({"version": 0, "rows": {}})),
        lambda: (tmp_path / INDEX).write_text("[" * 100_000),
        lambda: (tmp_path / INDEX).write_bytes((tmp_path / INDEX).read_bytes().replace(b'"version":1', b'"version":2')),
        replaced, damaged, begun, begun, begun, grown,
    ]  # fmt: skip
    for number in range(70):
        if not (tmp_path / INDEX).exists():
            seen(tmp_path)
        if not any(tmp_path.glob(f"*/{run_folder.CONFIG}")):
            begun()
        chance.choice(deeds)()
        assert seen(tmp_path) == from_folders(tmp_path, monkeypatch), number


def test_a_file_that_may_have_changed_in_the_same_instant_is_read_again(tmp_path, read, monkeypatch):
    """As where the clock of a file system goes in seconds: bytes, times and inode are those of before."""
    monkeypatch.setattr(index, "JUST_NOW", 2_000_000_000)
    folder = leave(tmp_path, 0)
    seen(tmp_path)
    read.clear()
    assert seen(tmp_path)
    assert read == [folder.name], "written less than two seconds before the index"
    monkeypatch.setattr(index, "_times", lambda path: (1, 1, 1, 1) if Path(path).exists() else None)
    seen(tmp_path)
    read.clear()
    assert seen(tmp_path)
    assert read == []


def test_a_run_in_progress_is_running_as_long_as_somebody_holds_it(tmp_path):
    folder = leave(tmp_path, 0, accuracy=None)
    with storage.locked(folder):
        assert [row.status for row in seen(tmp_path).values()] == ["running"]
    assert [row.status for row in seen(tmp_path).values()] == ["stopped"]
    with storage.locked(folder):
        assert [row.status for row in seen(tmp_path).values()] == ["running"]


def test_where_nothing_can_be_written_the_list_is_there_without_a_word(tmp_path, monkeypatch, capsys):
    leave(tmp_path, 0)

    def full(path, content):
        with storage.storing(path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_file", full)
    assert len(seen(tmp_path)) == 1
    assert not (tmp_path / INDEX).exists()
    (tmp_path / INDEX).mkdir()  # nor read
    assert len(seen(tmp_path)) == 1
    assert capsys.readouterr() == ("", "")


def test_few_runs_leave_nothing_in_their_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "FEW", 3)
    for seed in range(3):
        leave(tmp_path, seed)
    seen(tmp_path)
    assert not (tmp_path / INDEX).exists()
    leave(tmp_path, 3)
    seen(tmp_path)
    assert (tmp_path / INDEX).exists()


def test_some_runs_alone_leave_the_others_in_the_index(tmp_path, read):
    names = [leave(tmp_path, seed).name for seed in range(4)]
    seen(tmp_path)
    read.clear()
    score(tmp_path / names[0], 0.5)
    score(tmp_path / names[1], 0.5)
    assert [one.row.test_accuracy for one in listed(tmp_path, {names[0], names[2], "gone"})] == [0.5, 0.25]
    assert read == [names[0]]
    seen(tmp_path)
    assert read == names[:2]


def test_two_processes_that_list_at_once_do_no_harm(tmp_path):
    for seed in range(8):
        leave(tmp_path, seed)
    code = (
        "import sys; from pathlib import Path; from residuum.records import index; index.FEW = 0\n"
        "for _ in range(25):\n"
        "    (Path(sys.argv[1]) / index.INDEX).unlink(missing_ok=True)\n"
        "    assert sum(isinstance(one.row, index.Row) for one in index.listed(Path(sys.argv[1]))) == 8\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert [path.name for path in tmp_path.glob("*.tmp")] == []


def test_list_runs_chooses_by_study_status_and_time(tmp_path, run):
    runs = Path("runs")
    folders = [leave(runs, seed, accuracy=None if seed == 2 else 0.1 * seed) for seed in range(5)]
    (folders[4] / run_folder.CONFIG).write_text("{")
    ids = [folder.name.rpartition("-")[2] for folder in folders[:4]] + [folders[4].name]
    for when, folder in enumerate([folders[3], folders[0], folders[1], folders[4], folders[2]]):
        for path in folder.iterdir():
            if path.is_file():
                os.utime(path, ns=(when, when))

    def named(*words: str) -> list[str]:
        code, out, err = run("list", "runs", *words, "--json")
        assert code == 0, err
        return [row["run"] for row in json.loads(out)]

    assert named() == ids
    assert named("--status", "finished") == [ids[0], ids[1], ids[3]]
    assert named("--status", "stopped") == [ids[2]]
    assert named("--status", "unreadable") == [ids[4]]
    assert named("--status", "diverged") == []
    assert named("--last", "2") == [ids[4], ids[2]], "the newest at the end"
    assert named("--last", "2", "--status", "finished") == [ids[0], ids[1]]
    assert named("--last", "99") == [ids[3], ids[0], ids[1], ids[4], ids[2]]
    config = RunConfig().changed({"data.dataset": "digits"})
    study = Study(question="Which?", base="quick", seeds=[1, 2, 7], axes={"optim.lr": [0.1]}, name="some")
    planned = [
        PlannedRun("lr=0.1", seed, identity(one), run_folder.folder_of(runs, one).name, one)
        for seed in study.seeds for one in [config.changed({"train.seed": seed})]
    ]  # fmt: skip
    plans.write(Plan(study, "some", 1.0, {}, (), (PlannedArm("lr=0.1", {}, 1, 1, 1, 1),), tuple(planned)), runs)
    assert named("--study", "some") == [ids[1], ids[2]], "a run that is not there yet is not listed"
    assert named("--study", "some", "--status", "stopped") == [ids[2]]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["runs", "--status", "finnished"], "--status: unknown status 'finnished'; did you mean 'finished'?"),
        (["runs", "--last", "0"], "--last: 0 runs; at least 1"),
        (["runs", "--study", "none"], "study 'none' was not run in runs"),
        (["recipes", "--last", "3"], "--study, --status and --last choose among runs: `residuum list runs`"),
        (["--status", "finished"], "--study, --status and --last choose among runs: `residuum list runs`"),
    ],
)
def test_a_choice_that_cannot_be_is_told_in_a_line(run, words, line):
    code, out, err = run("list", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert line in err

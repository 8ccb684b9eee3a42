"""The run folder: saved states in order, retention, going back."""

from pathlib import Path

import pytest

from residuum import recipes
from residuum.errors import BusyError, InputError
from residuum.records import run_folder, storage
from residuum.records.event import EpochDone, Scores, StepDone, TestRead
from residuum.records.record import find_run, read_config, read_record
from residuum.records.run_folder import Position


@pytest.fixture
def folder(tmp_path):
    config = recipes.quick()
    folder = run_folder.folder_of(tmp_path, config)
    folder.mkdir()
    run_folder.begin(folder, config, "quick")
    return folder


def save(folder, *positions):
    with run_folder.writing(folder) as writer:
        for position in positions:
            writer.save(Position(*position), {"weights": repr(position).encode()}, {})


def positions(folder):
    return [tuple(position) for position, _ in run_folder.checkpoints(folder)]


def test_order_is_by_position_not_by_name_length(folder):
    save(folder, (9, 0), (10, 0), (9, 100), (9, 1000000), (12345, 0))
    assert positions(folder) == [(9, 0), (9, 100), (9, 1000000), (10, 0), (12345, 0)]


def test_retention_keeps_the_latest_and_the_protected_at_every_moment(folder):
    """Guard 9."""
    for epoch in range(1, 12):
        save(folder, (epoch, 0))
        run_folder.retain(folder, 2, Position(min(epoch, 3), 0))
        kept = positions(folder)
        assert (min(epoch, 3), 0) in kept
        assert kept[-2:] == [(e, 0) for e in (epoch - 1, epoch) if e > 0]
        checkpoint, problems = run_folder.latest_checkpoint(folder)
        assert (checkpoint.position, problems) == (Position(epoch, 0), [])
    run_folder.retain(folder, 0, None)
    assert len(positions(folder)) == 3


def test_a_damaged_state_is_named_and_the_one_before_it_used(folder):
    """Guard 11."""
    save(folder, (1, 0), (2, 0))
    (folder / "checkpoints" / "epoch-0002-step-000000" / "weights").write_bytes(b"x")
    checkpoint, problems = run_folder.latest_checkpoint(folder)
    assert checkpoint.position == Position(1, 0)
    assert len(problems) == 1
    assert "epoch-0002-step-000000/weights is damaged" in problems[0]
    save(folder, (2, 0))  # computed again: the damaged one is replaced
    assert run_folder.latest_checkpoint(folder)[0].position == Position(2, 0)


def test_saving_the_same_place_again_leaves_it(folder):
    save(folder, (1, 0))
    before = (folder / "checkpoints" / "epoch-0001-step-000000").stat().st_ino
    save(folder, (1, 0))
    assert (folder / "checkpoints" / "epoch-0001-step-000000").stat().st_ino == before


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (0, 3), (1, 0), (1, 2), (2, 0)])
def test_rewind_leaves_exactly_the_rows_that_the_state_covers(folder, place):
    """Guard 8: no row twice, none missing."""
    scores = Scores("train", 1.0, 0.5, 10)
    with run_folder.writing(folder) as writer:
        for epoch in (1, 2):
            for step in range(3):
                writer.write(StepDone(epoch, (epoch - 1) * 3 + step, 0.1, 1.0, 1.0, "hash"))
            writer.write(EpochDone(epoch, epoch * 3, 0.1, scores, None, None, False, 1.0, 10.0))
    save(folder, *[(e, s) for e in (0, 1) for s in range(4)], (2, 0))
    run_folder.rewind(folder, Position(*place), steps_per_epoch=3)
    record = read_record(folder)
    assert [row["step"] for row in record.steps()] == list(range(place[0] * 3 + place[1]))
    assert [epoch.epoch for epoch in record.epochs] == list(range(1, place[0] + 1))
    assert all(position <= place for position in positions(folder))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"{", b""), (b"}", b""), (b'"epoch": 3', b"\xff"), (b'"epoch": 3', b'"epoch": "3"'), (b'"train"', b'"trian"'),
        (b'"best": false', b'"best": 0'), (b'"test": null', b'"test": {}'), (b"0.1", b"0..1"),
    ],
)  # fmt: skip
def test_a_damaged_epoch_is_left_out_and_named(folder, old, new):
    """Guard 15, within the file: what can be read is read. Some of these are still JSON, but no epoch."""
    scores = Scores("train", 1 / 3, 0.1, 10)
    rows = [EpochDone(epoch, epoch * 3, 1e-7 / epoch, scores, scores, None, False, 1.0, 10.0) for epoch in range(1, 5)]
    with run_folder.writing(folder) as writer:
        for row in rows:
            writer.write(row)
    assert read_record(folder).epochs == tuple(rows)
    assert read_record(folder).damaged == ()
    path = folder / run_folder.METRICS
    lines = path.read_bytes().splitlines(keepends=True)
    assert old in lines[2]
    lines[2] = lines[2].replace(old, new, 1)
    path.write_bytes(b"".join(lines))
    record = read_record(folder)
    assert record.epochs == (rows[0], rows[1], rows[3])
    assert record.damaged == ("metrics.jsonl, line 3 is damaged and left out",)


def test_a_damaged_row_of_a_reading_counts_as_a_reading(folder):
    with run_folder.writing(folder) as writer:
        for epoch in (1, 2, 3):
            writer.write(TestRead("observed", epoch))
    path = folder / run_folder.TEST_READS
    path.write_bytes(path.read_bytes().replace(b'"epoch": 2', b'"epoch" 2'))
    assert read_record(folder).test_reads == 3


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_no_run_even_where_there_is_only_one(folder, name, monkeypatch):
    monkeypatch.chdir(folder)  # `.` would be a run folder
    with pytest.raises(InputError, match="an empty name names no run"):
        find_run(name, folder.parent)


def test_a_run_is_found_by_folder_name_or_beginning_of_its_id(folder):
    root, id_ = folder.parent, folder.name.rpartition("-")[2]
    assert {find_run(name, root) for name in (str(folder), folder.name, id_, id_[:4])} == {folder}
    with pytest.raises(InputError, match=f"the nearest is '{folder.name}'"):
        find_run(folder.name[:-3] + "zzz", root)
    with pytest.raises(InputError, match="find_runs gives the runs that there are"):
        find_run("zzz", root)
    with pytest.raises(InputError, match="is not a run folder"):
        find_run(str(root), root)
    with pytest.raises(InputError, match="holds no runs"):
        find_run("abc", root / "nowhere")


def test_a_folder_of_another_version_is_refused(folder):
    path = folder / run_folder.CONFIG
    storage.write_json(path, storage.read_json(path) | {"schema": 99})
    with pytest.raises(InputError, match="has schema version 99; this residuum reads versions 1 and 2"):
        read_config(folder)


def test_the_record_of_a_run_without_a_result_is_stopped(folder):
    record = read_record(folder)
    assert (record.status, record.recipe, record.epochs, record.result) == ("stopped", "quick", (), None)
    assert record.config == recipes.quick()


def test_beginning_anew_deletes_nothing_and_holds_both_folders(folder):
    content = (folder / run_folder.CONFIG).read_bytes()
    with run_folder.held(folder, fresh=True) as first:
        assert [path.name for path in folder.iterdir()] == ["lock"]
        assert (first / run_folder.CONFIG).read_bytes() == content
        assert storage.is_locked(folder)
        assert storage.is_locked(first)
        with pytest.raises(BusyError, match="by another process"), run_folder.held(folder, fresh=True):
            pass
    with run_folder.held(folder, fresh=True) as second:
        assert second != first
    with run_folder.held(folder) as none:
        assert none is None
    assert sorted(path.name for path in first.parent.iterdir()) == [first.name, second.name], (
        "nothing half done is left"
    )


def test_who_begins_a_run_between_two_names_keeps_it(folder, monkeypatch):
    """The earlier record is aside, and the new folder has not its name yet, when another process is there first."""
    rename = Path.rename

    def slow(path, target):
        rename(path, target)
        if path == folder:
            folder.mkdir()
            (folder / "lock").write_text("somebody else\n")

    monkeypatch.setattr(Path, "rename", slow)
    with pytest.raises(BusyError, match="is being begun by another process"), run_folder.held(folder, fresh=True):
        pass
    assert (folder / "lock").read_text() == "somebody else\n"
    assert (folder.parent / "old" / f"{folder.name}.1" / run_folder.CONFIG).exists()

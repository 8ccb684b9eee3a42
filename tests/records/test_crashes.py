"""Every crash within a small writer; `crashes.py` beside this crashes whole runs, and goes on from what is left."""

import crashes
import pytest

from residuum.errors import InputError
from residuum.records import run_folder, storage
from residuum.records.rows import each


def lost(root, write):
    """What crashes in a writer leave: each different state in a folder of its own."""
    with crashes.watching(root) as seen:
        write(root)
    for number, (what, left) in enumerate(crashes.different(seen.states)):
        place = root.parent / f"left-{number}"
        crashes.put(left, place)
        yield what, place


def overwritten(root):
    storage.write_json(root / "a.json", {"value": [2] * 50})


def test_a_file_is_the_old_or_the_new_one_whatever_call_a_crash_comes_at(tmp_path):
    (tmp_path / "root").mkdir()
    storage.write_json(tmp_path / "root" / "a.json", {"value": [1] * 50})
    found = [(what.startswith("without power"), storage.read_json(place / "a.json")["value"][0])
             for what, place in lost(tmp_path / "root", overwritten)]  # fmt: skip
    assert {value for _, value in found} == {1, 2}
    killed = [value for without, value in found if not without]
    assert killed == sorted(killed)


def states(root):
    (root / "checkpoints").mkdir()
    with run_folder.writing(root) as writer:
        for epoch in (1, 2, 3):
            writer._rows[run_folder.METRICS].add({"epoch": epoch})
            writer.save(run_folder.Position(epoch, 0), {"weights": bytes([epoch]) * 9}, {"epoch": epoch})
            run_folder.retain(root, 1, run_folder.Position(1, 0))


def kept(place):
    """The epochs of the whole saved states in a folder, each with the rows that it covers."""
    found = []
    for position, path in run_folder.checkpoints(place):
        files, values = storage.read_checked_folder(path)
        assert files == {"weights": bytes([position.epoch]) * 9}
        assert values == {"epoch": position.epoch}
        found.append(position.epoch)
        rows = [row for row in each(place / run_folder.METRICS) if not isinstance(row, InputError)]
        assert [row["epoch"] for row in rows][: position.epoch] == [*range(1, position.epoch + 1)]
    return found


def test_a_crash_at_any_call_leaves_whole_states_their_rows_and_the_best_one(tmp_path):
    (tmp_path / "root").mkdir()
    found = all_whole(lost(tmp_path / "root", states))
    newest = [max(epochs, default=0) for epochs in found]
    assert newest[-1] == 3
    assert len(found) > 30


@pytest.mark.parametrize(
    ("name", "worse"),
    [
        ("_write_synced", lambda path, content: path.open("wb").write(content)),  # and not forced to the disk
        ("sync", lambda path: None),
        ("_temporary", lambda path: path),  # written in place
    ],
)
def test_the_crashes_tell_a_writer_that_loses_something(tmp_path, monkeypatch, name, worse):
    (tmp_path / "root").mkdir()
    monkeypatch.setattr(storage, name, worse)
    with pytest.raises((AssertionError, InputError, FileNotFoundError)):
        all_whole(lost(tmp_path / "root", states))


def all_whole(left):
    found = [kept(place) for _, place in left]
    since = next(number for number, epochs in enumerate(found) if epochs)
    assert all(1 in epochs for epochs in found[since:]), "the best is always there"
    return found

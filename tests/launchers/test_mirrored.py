"""A run in a store: whatever fails and whenever, what lies there goes on elsewhere to the same bits."""

import json
import os
import random
import shutil
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Thread

import fsspec
import pytest
from tiny_runs import bits, folder_of, job, tiny

from residuum import training
from residuum.conduct import mirrored
from residuum.conduct.launchers import launch_of
from residuum.conduct.launchers.launcher import JobEvent, Room
from residuum.config import RunConfig
from residuum.engine import state
from residuum.errors import BusyError, InputError
from residuum.records import mirror, rows, run_folder, storage
from residuum.records.event import EpochDone, Finished, Note, Scores, Started, StepDone, TestRead
from residuum.records.record import read_record

STEPS, HOW = 3, ("before", "after", "half")


class Done:
    """What a thread is that has ended."""

    def join(self, timeout=None):
        pass

    def is_alive(self):
        return False


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """The mirror follows each event before the next, and nothing waits, for a disk neither."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(mirrored, "start", lambda work: work() or Done())
    monkeypatch.setattr(mirror, "wait", lambda seconds: None)
    monkeypatch.setattr(mirrored, "REST", 0.0)


class Killed(BaseException):
    """The process ends here."""


class Failing:
    """A file system that fails at its k-th operation: before it, after it, or with half of a file written.

    `dead`: the process is killed by it; else the network is gone from then on until `back`.
    """

    OPERATIONS = ("makedirs", "put_file", "pipe_file", "mv", "rm_file", "find", "cat_file", "get_file", "open")

    def __init__(self, fs, at=10**9, how="before", dead=True):
        self.fs, self.at, self.how, self.dead, self.count, self.back = fs, at, how, dead, 0, False

    @property
    def __class__(self):
        return type(self.fs)

    def __getattr__(self, name):
        found = getattr(self.fs, name)
        if name not in self.OPERATIONS:
            return found

        def tried(*given, **named):
            self.count += 1
            if self.count < self.at or self.back:
                return found(*given, **named)
            if self.count == self.at and self.how == "after":
                found(*given, **named)
            if self.count == self.at and self.how == "half" and name in ("put_file", "pipe_file"):
                place = given[1] if name == "put_file" else given[0]
                content = Path(given[0]).read_bytes() if name == "put_file" else given[1]
                if self.fs.protocol != "memory":  # there nothing is half there
                    self.fs.pipe_file(place, content[: len(content) // 2])
            if self.dead:
                raise Killed
            raise OSError("the network is down")

        return tried


def store(url: str, monkeypatch, **how) -> Failing:
    """The store at a URL, for all, with a file system that fails so."""
    made = REAL(url)
    failing = Failing(made.fs, **how)
    monkeypatch.setattr(mirror, "store_of", lambda given: replace(made, fs=failing))
    return failing


REAL = mirror.store_of


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    """A store of its own."""
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return f"memory://{tmp_path.name}/runs"
    return f"file://{tmp_path}/bucket/runs"


# A run of the same files, order and events as a real one, whose weights are a chain of hashes: each epoch takes part.
CONFIG = RunConfig().changed({"model": "resnet8", "save.keep": 2})


def chain(folder: Path, epochs: int = 3):
    """The events of such a run, begun or continued, as `training.run` has them."""
    folder.mkdir(parents=True, exist_ok=True)
    if run_folder.is_complete(folder):
        yield Started("id", folder, epochs, STEPS, 8, epochs, epochs * STEPS)
        yield Finished(folder, "finished")
        return
    with storage.locked(folder):
        run_folder.begin(folder, CONFIG, "quick")
        found, problems = run_folder.latest_checkpoint(folder)
        assert not problems
        position = found.position if found else run_folder.Position(0, 0)
        value = found.files["weights"] if found else b""
        run_folder.rewind(folder, position, STEPS)
        done = position.epoch * STEPS + position.step
        yield Started("id", folder, epochs, STEPS, 8, position.epoch, done)
        with run_folder.writing(folder) as writer:

            def save(epoch, step):
                writer.save(run_folder.Position(epoch, step), {"weights": value, "optimizer": value * 3}, {})
                run_folder.retain(folder, 2, run_folder.Position(1, 0))

            for at in range(done, epochs * STEPS):
                epoch, step = divmod(at, STEPS)
                value = sha256(value + str(at).encode()).digest()
                event = StepDone(epoch + 1, at, 0.1, 1.0, None, value.hex()[:16])
                writer.write(event)
                try:
                    if step == 1:
                        save(epoch, 2)
                    yield event
                    if step == STEPS - 1:
                        scores = Scores("train", 1.0, 0.5, 8)
                        writer.write(row := EpochDone(epoch + 1, at + 1, 0.1, scores, None, None, False, 1.0, 1.0))
                        save(epoch + 1, 0)
                        yield row
                except GeneratorExit:
                    if step < STEPS - 1:
                        save(epoch, step + 1)
                    raise
            read = TestRead("last", epochs)
            writer.write(read)
            yield read
            storage.write_file(folder / "predictions" / "last.safetensors", value)
            storage.write_json(
                folder / run_folder.RESULT, {"status": "finished", "epochs": epochs, "steps": epochs * STEPS}
            )
        yield Finished(folder, "finished")


def follow(url, folder, stop=None, session="one", **given):
    """The events of such a run, mirrored, until an epoch is done where it is to stop."""
    events = mirrored.events_of(lambda: chain(folder, **given), folder, url, session)
    said = []
    for event in events:
        said.append(event)
        if isinstance(event, EpochDone) and event.epoch == stop:
            events.close()
    return said


def result(folder: Path) -> dict[str, object]:
    """What such a run came to."""
    return {
        "steps": rows.read_rows(folder / run_folder.STEPS),
        "metrics": rows.read_rows(folder / run_folder.METRICS),
        "result": storage.read_json(folder / run_folder.RESULT),
        "weights": run_folder.latest_checkpoint(folder)[0].files,
        "place": run_folder.checkpoints(folder)[-1][0],  # one more may be left of a kill before it was pruned
        "predictions": (folder / "predictions" / "last.safetensors").read_bytes(),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert isinstance([*chain(folder)][-1], Finished)
    return result(folder)


def there(url, tmp_path, name="looked-at") -> Path:
    """What lies in a store of the run now, copied by hand."""
    found = REAL(url)
    target = tmp_path / name / "run"
    shutil.rmtree(target.parent, ignore_errors=True)
    for path in found.files("run"):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(found.read("run", path))
    return target


def is_a_run_that_goes_on(folder: Path, epochs: int = 3) -> None:
    """That a folder as it lies in a store is empty, complete, or has every row that its last checkpoint covers."""
    if not (folder / run_folder.CONFIG).exists():
        assert not folder.exists() or not [*folder.rglob("manifest.json")]
        return
    whole = [one for one, path in run_folder.checkpoints(folder) if (path / "manifest.json").exists()]
    for position in whole:
        run_folder.read_checkpoint(folder, position)
    last = max(whole, default=run_folder.Position(0, 0))
    steps = [row["step"] for row in rows.read_rows(folder / run_folder.STEPS)]
    assert steps == [*range(len(steps))]
    assert len(steps) >= last.epoch * STEPS + last.step
    assert len(rows.read_rows(folder / run_folder.METRICS)) >= last.epoch
    if (folder / run_folder.RESULT).exists():
        assert last == (epochs, 0)
        assert len(steps) == epochs * STEPS
        assert (folder / "predictions" / "last.safetensors").exists()


def test_a_run_lies_in_the_store_as_it_lies_here(url, tmp_path, whole):
    said = follow(url, tmp_path / "node" / "run")
    assert isinstance(said[-1], Finished)
    assert not [one for one in said if isinstance(one, Note)]
    found = there(url, tmp_path)
    assert result(found) == whole
    here = {
        path.relative_to(tmp_path / "node" / "run") for path in (tmp_path / "node" / "run").rglob("*") if path.is_file()
    }
    assert {path.relative_to(found) for path in found.rglob("*") if path.is_file()} == {
        path for path in here if path.name not in ("lock", mirror.KNOWN)
    }
    assert not REAL(url).files(mirror.LEASES)


def test_a_run_moved_in_the_middle_ends_as_one_that_was_not(url, tmp_path, whole):
    for node in range(1, 3):
        follow(url, tmp_path / f"node{node}" / "run", stop=node)
        shutil.rmtree(tmp_path / f"node{node}")
    follow(url, tmp_path / "last" / "run")
    assert result(tmp_path / "last" / "run") == result(there(url, tmp_path)) == whole


def test_killed_at_any_operation_it_goes_on_elsewhere_to_the_same_bits(url, tmp_path, monkeypatch, whole):
    at = 0
    while True:
        at += 1
        root = tmp_path / str(at)
        place = url.replace(tmp_path.name, f"{tmp_path.name}/{at}", 1)
        failing = store(place, monkeypatch, at=at, how=HOW[at % 3])
        try:
            follow(place, root / "node1" / "run")
        except Killed:
            is_a_run_that_goes_on(there(place, root))
        if failing.count < at:
            break
        store(place, monkeypatch)
        follow(place, root / "node2" / "run")
        assert result(root / "node2" / "run") == result(there(place, root)) == whole, at
        assert not any(".tmp" in path for path in REAL(place).files("run"))
    assert at > 40


@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_killed_at_any_operation_while_it_is_brought_here(url, tmp_path, monkeypatch, whole):
    """The second node dies too, at whatever it does, and comes back with what it had brought so far."""
    at = 0
    while True:
        at += 1
        root = tmp_path / str(at)
        place = url.replace(tmp_path.name, f"{tmp_path.name}/{at}", 1)
        store(place, monkeypatch)
        follow(place, root / "node1" / "run", stop=1)
        failing = store(place, monkeypatch, at=at, how=HOW[at % 3])
        with suppress(Killed):
            follow(place, root / "node2" / "run", stop=2)
        if failing.count < at:
            break
        store(place, monkeypatch)
        follow(place, root / "node2" / "run")
        assert result(root / "node2" / "run") == result(there(place, root)) == whole, at
    assert at > 20


@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_a_network_that_is_gone_from_any_moment_on_stops_no_run(url, tmp_path, monkeypatch, whole):
    at = 0
    while True:
        at += 1
        root = tmp_path / str(at)
        place = url.replace(tmp_path.name, f"{tmp_path.name}/{at}", 1)
        failing = store(place, monkeypatch, at=at, how=HOW[at % 3], dead=False)
        said = follow(place, root / "node1" / "run")
        assert isinstance(said[-1], Finished)
        assert result(root / "node1" / "run") == whole, at
        if failing.count < at:
            assert not [one for one in said if isinstance(one, Note)]
            break
        is_a_run_that_goes_on(there(place, root))
        if not rows.read_rows(root / "node1" / "run" / "remarks.jsonl"):
            assert run_folder.RESULT in REAL(place).files("run")  # what failed was giving up the lease
        failing.back = True
        follow(place, root / "node2" / "run")
        assert result(root / "node2" / "run") == whole, at
        # The first node, which had gone on alone, finds the same.
        follow(place, root / "node1" / "run")
        assert result(root / "node1" / "run") == result(there(place, root)) == whole, at
    assert at > 40


def test_outages_at_random_lose_no_row(url, tmp_path, monkeypatch, whole):
    draw = random.Random(7)
    for trial in range(6):
        root = tmp_path / f"trial{trial}"
        place = url.replace(tmp_path.name, f"{tmp_path.name}/{trial}", 1)
        reads = 0
        for visit in range(10):
            failing = store(place, monkeypatch, at=draw.randrange(1, 90), dead=draw.random() < 0.5)
            node = root / f"node{draw.randrange(3)}" / "run"
            with suppress(Killed):
                follow(place, node, stop=draw.choice([None, 1, 2, 3]))
            failing.back = True
            if draw.random() < 0.3:
                shutil.rmtree(node, ignore_errors=True)
            is_a_run_that_goes_on(there(place, root))
            counted = len(rows.read_lines(there(place, root) / run_folder.TEST_READS))
            assert counted >= reads, (trial, visit)
            reads = counted
        store(place, monkeypatch)
        follow(place, root / "end" / "run")
        assert result(root / "end" / "run") == result(there(place, root)) == whole, trial


def test_two_nodes_do_not_compute_one_run(url, tmp_path):
    first = mirrored.events_of(lambda: chain(tmp_path / "node1" / "run"), tmp_path / "node1" / "run", url)
    next(first)
    with pytest.raises(BusyError, match="is being computed by"):
        follow(url, tmp_path / "node2" / "run", session="")
    assert not (tmp_path / "node2" / "run").exists()
    first.close()
    assert isinstance(follow(url, tmp_path / "node2" / "run", session="")[-1], Finished)


def foreign(url, name="run", **values) -> None:
    """A lease of a process on another machine."""
    content = {
        "lease": "theirs",
        "session": "theirs",
        "host": "elsewhere",
        "process": 1,
        "time": "2001-01-01T00:00:00+00:00",
    }
    REAL(url).put(json.dumps(content | values).encode(), mirror.LEASES, f"{name}.json")


def test_a_lease_that_was_not_renewed_runs_out(url, tmp_path):
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    foreign(url, time=(now - timedelta(seconds=mirror.LEASE / 2)).isoformat())
    with pytest.raises(BusyError, match="by elsewhere"):
        follow(url, tmp_path / "node" / "run")
    foreign(url, time=(now - timedelta(seconds=2 * mirror.LEASE)).isoformat())
    assert isinstance(follow(url, tmp_path / "node" / "run")[-1], Finished)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"time": 3}', b"\xff"])
def test_a_damaged_lease_stops_nobody(url, tmp_path, content):
    REAL(url).put(content, mirror.LEASES, "run.json")
    assert isinstance(follow(url, tmp_path / "node" / "run")[-1], Finished)


def test_a_run_whose_lease_was_taken_over_saves_its_state_and_ends(url, tmp_path, monkeypatch):
    folder = tmp_path / "node" / "run"
    events = mirrored.events_of(lambda: chain(folder), folder, url)
    while not (isinstance(event := next(events), EpochDone) and event.epoch == 2):
        pass
    foreign(url)
    monkeypatch.setattr(mirror, "RENEWED", 0.0)
    with pytest.raises(BusyError, match="elsewhere now"):
        list(events)
    saved = run_folder.checkpoints(folder)[-1][0]
    assert saved >= (2, 0)
    assert len(rows.read_rows(folder / run_folder.STEPS)) == saved.epoch * STEPS + saved.step
    assert json.loads(REAL(url).read(mirror.LEASES, "run.json"))["lease"] == "theirs"


def test_a_run_goes_on_here_where_the_store_is_ahead(url, tmp_path, monkeypatch, whole):
    """A node that reaches the store late does not take back what others have brought there."""
    follow(url, tmp_path / "node1" / "run", stop=2)
    failing = store(url, monkeypatch, at=1, dead=False)
    folder = tmp_path / "node2" / "run"
    events = mirrored.events_of(lambda: chain(folder), folder, url, "one")
    for event in events:
        if isinstance(event, EpochDone) and event.epoch == 1:
            failing.back = True
        if isinstance(event, EpochDone) and event.epoch == 2:
            is_a_run_that_goes_on(found := there(url, tmp_path))
            assert max(run_folder.checkpoints(found))[0] >= (2, 0)
    assert result(folder) == result(there(url, tmp_path)) == whole


def test_a_run_found_complete_in_the_store_is_brought_here(url, tmp_path, whole):
    follow(url, tmp_path / "node1" / "run")
    said = follow(url, tmp_path / "node2" / "run")
    assert [type(one) for one in said] == [Started, Finished]
    assert result(tmp_path / "node2" / "run") == whole


def test_a_real_run_moved_in_the_middle_has_equal_bits(tmp_path):
    config = tiny(epochs=6, **{"save.steps": 2, "monitor.histograms": True, "monitor.noise": True})
    training.train(config, tmp_path / "whole")
    url = f"file://{tmp_path}/store"

    def computed(node: str, stop: int) -> Path:
        folder = folder_of(tmp_path / node, config)
        events = mirrored.events_of(lambda: training.run(config, tmp_path / node, recipe="quick"), folder, url)
        for event in events:
            if isinstance(event, StepDone) and event.step == stop:
                events.close()
        return folder

    for node, stop in (("one", 4), ("two", 11)):
        shutil.rmtree(computed(node, stop).parent)
    folder = computed("three", -1)
    whole = folder_of(tmp_path / "whole", config)
    assert bits(folder) == bits(whole) == bits(tmp_path / "store" / folder.name)
    for record in (read_record(folder), read_record(tmp_path / "store" / folder.name)):
        assert len(record.environment) == 3
        assert len(record.layers()) == 7
        assert len(record.noise()) == 7
    weights = [
        run_folder.latest_checkpoint(one)[0].files[state.WEIGHTS] for one in (whole, tmp_path / "store" / folder.name)
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(("place", "room"), [("here", Room()), ("processes", Room(workers=1))])
def test_launchers_mirror_what_they_compute(tmp_path, monkeypatch, place, room):
    given = [job(tiny(seed, epochs=3)) for seed in range(2)]
    said = list(launch_of(place)(given, tmp_path / "node", replace(room, store=f"file://{tmp_path}/store")))
    assert sum(isinstance(one, JobEvent) and isinstance(one.event, Finished) for one in said) == 2
    for one in given:
        folder = folder_of(tmp_path / "node", one.config)
        assert bits(folder) == bits(tmp_path / "store" / folder.name)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/somewhere", "'/somewhere' is no URL of a store, as s3://bucket/runs"),
        ("", "is no URL of a store"),
        ("nope://bucket/runs", "unknown kind of store 'nope'; as file, s3, gs, abfs, sftp, memory, or another"),
        ("s4://bucket/runs", "unknown kind of store 's4'; did you mean 's3"),
        ("file://", "is no URL of a store"),
        ("zip://a::file:///b", "is no URL of a store"),
    ],
)
def test_what_is_no_store_is_told(url, said):
    with pytest.raises(InputError, match="store: ") as caught:
        mirror.store_of(url)
    assert said in str(caught.value)


def test_a_missing_backend_is_named(monkeypatch):
    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(InputError, match="s3:// needs another package: Install s3fs"):
        mirror.store_of("s3://bucket/runs")


@pytest.mark.parametrize("path", ["../outside", "checkpoints/../../outside", "a\\b"])
def test_a_store_writes_nothing_outside(tmp_path, path):
    found = mirror.store_of(f"file://{tmp_path}/store")

    class Hostile:
        __class__ = type(found.fs)

        def __getattr__(self, name):
            return getattr(found.fs, name)

        def find(self, top, **_):
            return {f"{top}/config.json": {"size": 1}, f"{top}/{path}": {"size": 1}}

    with pytest.raises(InputError, match="holds a file whose path is"):
        mirror.pull(replace(found, fs=Hostile()), "run", tmp_path / "node" / "run")
    assert not (tmp_path / "node").exists()


def test_a_file_that_is_too_large_is_not_brought(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "LARGEST", 10)
    (tmp_path / "store" / "run").mkdir(parents=True)
    (tmp_path / "store" / "run" / "config.json").write_text("x" * 11)
    with pytest.raises(InputError, match="has 11 bytes"):
        mirror.pull(mirror.store_of(f"file://{tmp_path}/store"), "run", tmp_path / "node" / "run")


def test_a_folder_that_changes_while_it_is_looked_through_is_no_problem(tmp_path):
    """Checkpoints are pruned here while the thread brings others to the store."""
    folder, found = tmp_path / "node" / "run", mirror.store_of(f"file://{tmp_path}/store")
    run = chain(folder, epochs=60)
    for event in run:
        if isinstance(event, StepDone) and event.step == 8:
            break
    thread = Thread(target=lambda: list(run))
    thread.start()
    sent = mirror.Sent()
    while thread.is_alive():
        sent = mirror.push_changed(found, folder, sent, prune=True)
        is_a_run_that_goes_on(tmp_path / "store" / "run", epochs=60)
    thread.join()
    mirror.push_changed(found, folder, sent, prune=True)
    assert result(tmp_path / "store" / "run") == result(folder)

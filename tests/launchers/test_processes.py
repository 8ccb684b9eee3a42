"""Runs in worker processes: the same bits as in one process, whatever dies, is stopped, or is in the way."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pytest
from tiny_runs import bits, folder_of, job, saved_to_the_last_update, tiny

from residuum import training
from residuum.conduct.launchers import ledger, processes
from residuum.conduct.launchers.ended import Ended
from residuum.conduct.launchers.launcher import JobEvent, JobFailed, JobRestarted, Room
from residuum.conduct.launchers.ledger import Ledger
from residuum.conduct.launchers.processes import _next, launch
from residuum.config import RunConfig
from residuum.errors import InputError, StorageError
from residuum.records import run_folder, storage
from residuum.records.event import EpochDone, Finished, Note, Started, StepDone
from residuum.records.record import read_record


def said_of(said, kind):
    return [one.event for one in said if isinstance(one, JobEvent) and isinstance(one.event, kind)]


def children_of(parent: int) -> set[int]:
    """The processes that one has started and that are still there, zombies left out."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(ppid) == parent and state != "Z":
            found.add(int(path.parent.name))
    return found


STRANGERS: set[int] = set()


@pytest.fixture(autouse=True)
def strangers():
    """The processes that other tests have left to this one, as those in which torch compiles."""
    STRANGERS.clear()
    STRANGERS.update(children_of(os.getpid()))


def workers() -> set[int]:
    """The worker processes that a test has started and that are still there."""
    return children_of(os.getpid()) - STRANGERS


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_workers_give_the_bits_of_one_process_on_the_threads_asked_for(tmp_path, whole, monkeypatch):
    configs = [tiny(seed, epochs=4) for seed in range(4)]
    expected = [whole(config) for config in configs]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    said, most = [], 0
    for one in launch([job(config) for config in configs], tmp_path, Room(2, 1)):
        said.append(one)
        most = max(most, len(workers()))
    assert (most, workers()) == (2, set())
    for config, bits_of_one in zip(configs, expected, strict=True):
        record = read_record(folder_of(tmp_path, config))
        assert (record.environment[0].threads, record.recipe) == (1, "quick")
        assert bits(record.folder) == bits_of_one
    of_first = [one.event for one in said if one.id == "seed 0"]
    assert [type(event) for event in of_first if not isinstance(event, StepDone)] == [
        Started,
        *[EpochDone] * 4,
        Finished,
    ]
    # Updates are thinned to two a second: the twelve of a run never pass one by one.
    assert 1 <= sum(isinstance(event, StepDone) for event in of_first) < 12


def test_storage_error_stops_every_worker_cleanly_and_is_raised(tmp_path):
    """As on a full disk: one run cannot write, and the one beside it has saved where it stood."""
    long, full = tiny(0, epochs=4000), tiny(1, epochs=1)
    path = folder_of(tmp_path, full) / "predictions" / "last.safetensors"
    path.mkdir(parents=True)  # a folder where a file has to be written
    with storage.locked(folder_of(tmp_path, full)):
        said = launch([job(full), job(long)], tmp_path, Room(2, 1))
        next(one for one in said if isinstance(one.event, EpochDone))
    with pytest.raises(StorageError, match=f"cannot write {path}: Is a directory"):
        list(said)
    assert workers() == set()
    assert read_record(folder_of(tmp_path, full)).status == "stopped"
    assert read_record(folder_of(tmp_path, long)).status == "stopped"
    assert saved_to_the_last_update(folder_of(tmp_path, long))


def test_next_job_is_the_first_that_no_other_process_is_known_to_be_at(tmp_path):
    first, second = job(tiny(0)), job(tiny(1))
    folder_of(tmp_path, first.config).mkdir()
    waiting = Ledger(deque([second]))
    waiting.put_off(first, 0.0)
    with storage.locked(folder_of(tmp_path, first.config)):
        assert _next(waiting, tmp_path) == second
        assert _next(waiting, tmp_path) is None, "another process is at it"
    assert _next(waiting, tmp_path) is None, "not looked at again at once"
    waiting.asleep[0] = (0.0, first)
    assert _next(waiting, tmp_path) == first
    assert not waiting


def test_run_that_another_process_is_at_is_waited_for(tmp_path, whole):
    held, free = tiny(0, epochs=2), tiny(1, epochs=2)
    folder = folder_of(tmp_path, held)
    folder.mkdir(parents=True)
    said = []
    lock = storage.locked(folder)
    lock.__enter__()
    for one in launch([job(held), job(free)], tmp_path, Room(1, 1)):
        said.append(one)
        if isinstance(one.event, Note):
            (idle,) = workers()
            os.kill(idle, signal.SIGKILL)  # one without a run is nobody's loss
            lock.__exit__(None, None, None)
    assert [(one.id, type(one.event)) for one in said if isinstance(one.event, Note | Finished)] == [
        ("seed 1", Finished), ("seed 0", Note), ("seed 0", Finished),
    ]  # fmt: skip
    assert bits(folder) == whole(held)


def test_closing_the_generator_stops_the_workers_and_gives_the_signals_back(tmp_path, whole):
    config, usual = tiny(), [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    said = launch([job(config)], tmp_path, Room(1, 1))
    next(one for one in said if isinstance(one.event, EpochDone))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != usual
    said.close()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == usual
    assert workers() == set()
    record = read_record(folder_of(tmp_path, config))
    assert (record.status, len(record.epochs) < 25) == ("stopped", True)
    assert saved_to_the_last_update(record.folder)
    training.train(config, tmp_path)
    assert bits(record.folder) == whole(config)


SCRIPT = """
import json, sys
from pathlib import Path
from residuum.config import RunConfig
from residuum.conduct.launchers import local
from residuum.conduct.launchers.launcher import Job, Room, StoppedError
from residuum.conduct.launchers.processes import launch
from residuum.records.event import EpochDone
assert "torch" not in sys.modules
local.AT_ONCE = float(sys.argv[4])
jobs = [Job(str(n), RunConfig.of(values), "quick") for n, values in enumerate(json.loads(sys.argv[1]))]
try:
    for said in launch(jobs, Path(sys.argv[2]), Room(1, 1, int(sys.argv[3]))):
        if isinstance(said.event, EpochDone):
            print(said.id, said.event.epoch, flush=True)
except StoppedError as error:
    sys.exit(error.exit_code)
except KeyboardInterrupt:
    sys.exit(99)
"""


@pytest.mark.parametrize(
    ("numbers", "code", "lanes", "at_once"),
    [([signal.SIGINT, signal.SIGINT], 130, 2, 600), ([signal.SIGKILL], -9, 2, 2),
     ([signal.SIGTERM, signal.SIGINT], 99, 1, -1), ([signal.SIGQUIT], 131, 1, 2)],
    ids=["double Ctrl-C", "SIGKILL of the parent", "two signals", "a worker that was stopped"],
)  # fmt: skip
def test_signal_ends_all_processes_and_the_same_call_goes_on_to_the_same_bits(
    tmp_path, whole, numbers, code, lanes, at_once
):
    """Signals go to the whole process group, as those of a terminal do."""
    config, second = tiny(), tiny(1)
    values = json.dumps([config.model_dump(mode="json"), second.model_dump(mode="json")])
    words = [sys.executable, "-c", SCRIPT, values, str(tmp_path), str(lanes), str(at_once)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0 1\n"
        (worker,) = children_of(process.pid)
        assert os.getpgid(worker) != process.pid, "the terminal's signals are not for workers"
        if lanes == 1:  # a worker that does not answer
            os.kill(worker, signal.SIGSTOP)
        for number in numbers:
            os.killpg(process.pid, number)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:  # leave nothing behind
            process.kill()
            os.kill(worker, signal.SIGKILL)
            raise
    assert process.returncode == code
    wait_until(lambda: not Path(f"/proc/{worker}").exists())
    assert folder_of(tmp_path, second).exists() == (lanes == 2)
    for one in [config, second][:lanes]:
        folder = folder_of(tmp_path, one)
        assert read_record(folder).status == "stopped"
        assert code == 99 or saved_to_the_last_update(folder)
        training.train(one, tmp_path)
        assert bits(folder) == whole(one)


POISON = """
import os, signal
from residuum import training
from residuum.conduct.launchers import processes
from residuum.records.event import StepDone

sound = training.run

def run(config, root, **named):
    events = sound(config, root, **named)
    for event in events:
        strikes = isinstance(event, StepDone) and event.step == 2  # always at the same place, before anything is saved
        if strikes and config.train.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if strikes and config.train.seed == 2:
            events.throw(RuntimeError("poison"))
        yield event

def serve(channel):
    training.run = run
    processes._serve(channel)
"""


@pytest.fixture
def poisoned(tmp_path, monkeypatch):
    """In workers, the run of seed 1 kills its process in the first epoch, and that of seed 2 raises what nobody expects."""
    (tmp_path / "poison.py").write_text(POISON)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(processes, "_serve", importlib.import_module("poison").serve)
    yield
    del sys.modules["poison"]


def test_runs_whose_worker_dies_go_on_and_hopeless_ones_fail_alone(tmp_path, whole, poisoned):
    """One is killed by SIGKILL, one cannot work, one always crashes, one is well."""
    killed, crashing, well = tiny(0), tiny(2), tiny(4, epochs=2)
    impossible = RunConfig().changed({"data.dataset": "synthetic", "optim.optimizer": "sgdd", "train.seed": 3})
    broken = folder_of(tmp_path, crashing)
    said = []
    for one in launch([job(killed), job(impossible), job(crashing), job(well)], tmp_path, Room(1, 1)):
        if not said_of(said, EpochDone) and isinstance(one, JobEvent) and isinstance(one.event, EpochDone):
            (worker,) = workers()
            os.kill(worker, signal.SIGKILL)
        said.append(one)
    first, *others = [one for one in said if isinstance(one, JobRestarted)]
    assert first == JobRestarted("seed 0", 1, "killed by SIGKILL")
    assert [(one.id, one.attempt) for one in others] == [("seed 2", 1), ("seed 2", 2), ("seed 2", 3)]
    assert sum(event.step > 0 for event in said_of(said, Started)) == 1, "the killed one went on where it stood"
    failed = {one.id: one.reason for one in said if isinstance(one, JobFailed)}
    assert failed.keys() == {"seed 2", "seed 3"}
    assert failed["seed 2"].startswith("RuntimeError: poison")
    assert failed["seed 2"].endswith(f" (traceback: {broken / run_folder.CRASH_LOG})")
    assert (broken / run_folder.CRASH_LOG).read_text().count("Traceback (most recent call last)") == 1 + 3
    assert failed["seed 3"] == "optim.optimizer: unknown optimizer 'sgdd'; did you mean 'sgd'?"
    for config in (killed, well):
        assert bits(folder_of(tmp_path, config)) == whole(config)


def test_a_run_that_kills_its_process_takes_no_other_with_it(tmp_path, whole, poisoned, monkeypatch):
    """Nobody knows which of the lanes it was: each goes on alone, and the neighbours end with the bits of one run."""
    monkeypatch.setattr(ledger, "RESTARTS", 1)
    configs = [tiny(seed, epochs=3) for seed in (0, 1, 3, 4)]
    expected = [whole(config) for config in configs]
    said, crew = [], []
    for one in launch([job(config) for config in configs], tmp_path, Room(1, 1, 4)):
        said.append(one)
        crew.append(frozenset(workers()))
    assert max(map(len, crew)) == 1
    assert len(set(crew) - {frozenset()}) == 3, "one with all lanes, one that poison ends alone, one for the others"
    reasons = {"seed 1": ["killed by SIGKILL"] * 1, **{f"seed {n}": ["killed by SIGKILL"] for n in (0, 3, 4)}}
    restarted = [one for one in said if isinstance(one, JobRestarted)]
    assert {name: [one.reason for one in restarted if one.id == name] for name in reasons} == reasons
    assert [one for one in said if isinstance(one, JobFailed)] == [JobFailed("seed 1", "killed by SIGKILL")]
    assert len({one.id for one in said[: said.index(restarted[0])]}) == 4, "all were side by side"
    for number, config in enumerate(configs):
        if config.train.seed != 1:
            assert bits(folder_of(tmp_path, config)) == expected[number]


def test_neighbours_of_a_run_with_an_unexpected_error_go_on_without_counting_it(tmp_path, whole, poisoned, monkeypatch):
    monkeypatch.setattr(ledger, "RESTARTS", 0)
    neighbour, last = tiny(0, epochs=3), tiny(3, epochs=3)
    jobs = [job(config) for config in (neighbour, tiny(2, epochs=3), last)]
    said = list(launch(jobs, tmp_path, Room(1, 1, 2)))
    assert not [one for one in said if isinstance(one, JobRestarted)]
    (failed,) = [one for one in said if isinstance(one, JobFailed)]
    assert failed.id == "seed 2"
    assert failed.reason.startswith("RuntimeError: poison (traceback: ")
    started = [one.event.step for one in said if one.id == "seed 0" and isinstance(one.event, Started)]
    first, again = started
    assert first == 0 < again, "it went on where it was saved"
    for config in (neighbour, last):
        assert bits(folder_of(tmp_path, config)) == whole(config)


def test_workers_are_filled_evenly_and_cards_are_dealt_out(tmp_path, monkeypatch):
    """Where jobs go, seen in what is told to workers that are not there."""
    begun, told = [], []

    def start(main, threads, card):
        begun.append(card)
        return len(begun) - 1, None

    monkeypatch.setattr(processes, "start", start)
    monkeypatch.setattr(processes, "_tell", lambda worker, order: told.append((worker.process, order[0].id)))

    def hand_out(crew, waiting, **room):
        processes._hand_out(waiting, tmp_path, crew, Room(threads=1, **room))

    jobs = [job(tiny(seed)) for seed in range(9)]
    crew, waiting = [], Ledger(deque(jobs))
    hand_out(crew, waiting, workers=3, lanes=2, cards=["4", "7"])
    assert begun == ["4", "7", "4"]
    assert told == [(0, "seed 0"), (1, "seed 1"), (2, "seed 2"), (0, "seed 3"), (1, "seed 4"), (2, "seed 5")]
    told.clear()
    # The second worker is free; what has crashed goes there, and nothing else until it has ended.
    for poisoned in (waiting.take(0.0), waiting.take(0.0)):
        waiting.ended(poisoned, Ended("died"), 0.0)
    crew[1].jobs.clear()
    del crew[0].jobs["seed 0"]
    hand_out(crew, waiting, workers=3, lanes=2, cards=["4", "7"])
    assert told == [(1, "seed 7"), (0, "seed 8")]
    assert [one.id for one in waiting.died] == ["seed 6"]
    told.clear()
    crew[1].ending = True
    crew[1].jobs.clear()
    hand_out(crew, waiting, workers=3, lanes=2, cards=["4", "7"])
    assert told == [], "a worker that ends takes nothing, and is still there"
    crew.pop(1)
    hand_out(crew, waiting, workers=3, lanes=2, cards=["4", "7"])
    assert (told, begun[3:]) == ([(3, "seed 6")], ["7"])
    begun.clear()
    hand_out([], Ledger(deque(jobs[:1])), workers=1, lanes=1, cards=["4"])
    assert begun == [""], "a single card is what there is to see anyway"


def test_a_worker_sees_the_card_that_it_is_given(tmp_path, monkeypatch):
    path = tmp_path / "say_card.py"
    path.write_text('import os\ndef main(channel): channel.send(os.environ["CUDA_VISIBLE_DEVICES"])\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    for card, expected in (("5", "5"), ("", "2,5")):
        process, channel = processes.start(importlib.import_module("say_card").main, 1, card)
        assert channel.recv() == expected
        process.wait()


@pytest.mark.parametrize(
    ("room", "said"),
    [((0, 1, 1), "0 workers with 1 threads"), ((1, 0, 1), "1 workers with 0 threads"), ((1, 1, 0), "0 lanes")],
)
def test_no_worker_no_thread_or_no_lane_is_refused(tmp_path, room, said):
    workers, threads, lanes = room
    with pytest.raises(InputError, match=said):
        next(launch([], tmp_path, Room(workers, threads, lanes)))


def test_nothing_to_do_starts_nothing(tmp_path):
    assert list(launch([], tmp_path, Room(2, 1))) == []

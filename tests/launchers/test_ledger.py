"""Thousands of jobs on what fails: none is lost, none is computed twice, and each ends once, whatever happens when.

The cluster is that of `benchmarks/many_jobs.py`, which has a clock of its own; the loop is that of the launcher `ray`.
Workers in processes are stood in for one by one, since they are given jobs at any time.
"""

import importlib.util
import random
import signal
from collections import Counter, deque
from pathlib import Path

import pytest

from residuum.conduct.launchers import processes
from residuum.conduct.launchers.ended import BIRTHS, RESTARTS, Ended
from residuum.conduct.launchers.launcher import Job, JobEvent, JobFailed, JobRestarted, Room, StoppedError
from residuum.conduct.launchers.ledger import Ledger
from residuum.config import RunConfig
from residuum.errors import StorageError
from residuum.records.event import Finished, Note

CONFIG = RunConfig()


@pytest.fixture(scope="module")
def simulated():
    path = Path(__file__).parents[2] / "benchmarks" / "many_jobs.py"
    spec = importlib.util.spec_from_file_location("many_jobs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def some_jobs(count: int) -> list[Job]:
    return [Job(f"run {number}", CONFIG, "quick") for number in range(count)]


def failed(said) -> list[str]:
    return [one.id for one in said if isinstance(one, JobFailed)]


@pytest.mark.parametrize("seed", range(12))
def test_every_job_comes_to_one_end_whatever_fails(simulated, seed):
    chance = random.Random(seed)
    jobs = some_jobs(2000 if seed == 0 else chance.randrange(1, 300))
    names = [job.id for job in jobs]
    few = chance.randrange(0, 1 + len(jobs) // 10)
    poisoned, held = chance.sample(names, few), chance.sample(names, few)
    cluster = simulated.Cluster(
        chance.randrange(1, 60), chance, poisoned=poisoned, held=held,
        crash=chance.choice([0.0, 0.02, 0.3]), death=chance.choice([0.0, 0.02, 0.3]),
    )  # fmt: skip
    room = Room(workers=chance.choice([0, 1, 7]), lanes=chance.choice([1, 1, 2, 5]))
    said = [*simulated.conducted(cluster, jobs, room)]
    simulated.check(cluster, jobs, failed(said))
    assert {*poisoned} <= {*failed(said)}
    assert [*cluster.first] == names, "who comes first is given first: nobody waits for ever"
    assert cluster.most <= (room.workers or max(64, 2 * cluster.nodes))
    attempts = Counter(one.id for one in said if isinstance(one, JobRestarted))
    assert all(0 < count <= RESTARTS for count in attempts.values())
    finished = [one.id for one in said if isinstance(one, JobEvent) and isinstance(one.event, Finished)]
    assert sorted([*finished, *failed(said)]) == sorted(names), "each end is told once"
    notes = Counter(one.id for one in said if isinstance(one, JobEvent) and isinstance(one.event, Note))
    assert all(count == 1 and name in held for name, count in notes.items())


@pytest.mark.parametrize("seed", range(6))
def test_a_call_that_was_stopped_goes_on_where_the_jobs_stand(simulated, seed):
    chance = random.Random(seed)
    jobs = some_jobs(chance.randrange(20, 200))
    cluster = simulated.Cluster(chance.randrange(1, 30), chance, crash=0.05, death=0.05)
    room, given_up, stops = Room(workers=0, lanes=chance.choice([1, 3])), [], 0
    left = jobs
    while left:
        received, after = [], chance.randrange(1, (3 if stops else 1) * len(left) + 1)
        try:
            for number, one in enumerate(simulated.conducted(cluster, left, room, received), start=1):
                given_up += failed([one])
                if number == after:
                    received.append(signal.SIGINT)
                    given = len(cluster.first)
            left = []
        except StoppedError as error:
            stops += 1
            assert error.exit_code == 130
            assert len(cluster.first) == given, "nothing is begun after the signal"
            assert not cluster.tasks
            left = [job for job in jobs if not cluster.finished[job.id] and job.id not in given_up]
            assert left
            cluster.died.clear()  # another call counts anew
    assert stops
    assert Counter(given_up) + cluster.finished == Counter(job.id for job in jobs)


def test_a_full_disk_stops_the_others_and_is_raised(simulated):
    jobs = some_jobs(100)
    cluster = simulated.Cluster(10, random.Random(0), full="run 30")
    with pytest.raises(StorageError, match="disk full"):
        list(simulated.conducted(cluster, jobs, Room(workers=0)))
    assert not cluster.tasks
    assert sum(cluster.finished.values()) < 60, "those that were at work were stopped, and no others begun"


@pytest.mark.parametrize("seed", range(8))
def test_workers_have_room_for_what_they_are_given_and_what_died_is_alone(tmp_path, monkeypatch, seed):
    chance = random.Random(seed)
    monkeypatch.setattr(processes, "start", lambda main, threads, card: (None, None))
    monkeypatch.setattr(processes, "_tell", lambda worker, order: None)
    room = Room(workers=chance.randrange(1, 6), lanes=chance.randrange(1, 5))
    jobs = some_jobs(chance.randrange(1, 120))
    ledger, crew = Ledger(deque(jobs)), []
    ends: Counter[str] = Counter()
    died: Counter[str] = Counter()
    poisoned = {job.id for job in jobs if chance.random() < 0.05}
    while True:
        processes._hand_out(ledger, tmp_path, crew, room)
        at_work = [name for worker in crew for name in worker.jobs]
        assert len(at_work) == len({*at_work})
        assert len(crew) <= room.workers
        for worker in crew:
            assert len(worker.jobs) <= room.lanes
            assert len(worker.jobs) == 1 or not any(died[name] for name in worker.jobs)
        if not at_work:
            break
        worker = chance.choice([one for one in crew if one.jobs])
        name = chance.choice([*worker.jobs])
        how = Ended("died") if name in poisoned or chance.random() < 0.1 else Ended("done")
        gone = [*worker.jobs] if how.how == "died" else [name]
        for one in gone:
            died[one] += how.how == "died"
            told = ledger.ended(worker.jobs.pop(one), how, 0.0)
            ends[one] += how.how == "done" or isinstance(told, JobFailed)
            assert isinstance(told, JobFailed) == (died[one] > RESTARTS)
        if how.how == "died":
            crew.remove(worker)
    assert not ledger
    assert ends == Counter(job.id for job in jobs)


@pytest.mark.parametrize("seed", range(20))
def test_a_run_is_given_up_after_restarts_from_one_saved_state_and_never_while_it_gets_on(seed):
    """A run of 40 states whose worker dies at random, before or after the next state is saved; some stand still."""
    chance = random.Random(seed)
    (job,) = some_jobs(1)
    ledger, state, standing, unborn = Ledger(deque([job])), 0, 0, 0
    wall = chance.choice([None, chance.randrange(40)])
    while state < 40:
        assert ledger.take(0.0) is job
        if chance.random() < 0.3 and unborn < BIRTHS - 1:
            unborn += 1
            assert ledger.ended(job, Ended("unborn", "killed"), 0.0) is None
            continue
        unborn = 0
        ledger.began(job.id, state // 5, state)
        further = 0 if state == wall else chance.choice([0, 1, 1, 3])
        further = min(further, wall - state) if wall is not None and state < wall else further
        told = ledger.ended(job, Ended(chance.choice(["died", "crashed"]), "killed"), 0.0)
        standing += 1
        assert isinstance(told, JobFailed) == (standing > RESTARTS)
        if isinstance(told, JobFailed):
            break
        state, standing = state + further, 0 if further else standing
    assert (standing > RESTARTS) == (not ledger)
    assert wall is None or standing > RESTARTS


def test_workers_that_die_before_they_take_a_run_up_are_its_fault_in_the_end():
    (job,) = some_jobs(1)
    ledger, told = Ledger(deque([job])), []
    while ledger:
        assert ledger.take(0.0) is job
        told.append(ledger.ended(job, Ended("unborn", "killed by SIGKILL"), 0.0))
    assert told[: BIRTHS - 1] == [None] * (BIRTHS - 1)
    assert told[BIRTHS - 1 :] == [
        *(JobRestarted(job.id, attempt, "killed by SIGKILL") for attempt in range(1, RESTARTS + 1)),
        JobFailed(job.id, "killed by SIGKILL"),
    ]

"""What the driver of a cluster costs by itself: 100,000 jobs on 1,000 simulated nodes that fail, without training.

    python benchmarks/many_jobs.py [--jobs 100000] [--nodes 1000] [--lanes 1] [--seed 0]

The loop is the launcher's for Ray, in whose place there is a cluster with a clock of its own: nodes die in mid-run and
come back, one in ten is slow, jobs crash now and then, a few kill their worker each time, and a few are held by another
process at first. The time that the simulation itself takes is not counted. It fails where a job is lost, computed twice
at once or to two ends, or given up though it did not die four times.
"""

import argparse
import heapq
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from residuum.conduct.launchers import ray as launcher
from residuum.conduct.launchers.ended import RESTARTS, Ended
from residuum.conduct.launchers.launcher import Job, JobFailed, Room, Said
from residuum.conduct.launchers.ledger import Ledger
from residuum.config import RunConfig
from residuum.records.event import Finished, Started

AWAY = 5.0
"""Seconds until a node that died is back."""


class RayError(Exception):
    """What Ray raises of a task that died."""


class Task:
    """A task: its jobs, those that it computes, and what it has said that nobody has heard."""

    def __init__(self, cluster: "Cluster", names: Sequence[str]) -> None:
        self.cluster, self.names, self.node, self.over = cluster, names, -1, False
        self.said: deque[Any] = deque()
        self.computing: set[str] = set()

    def say(self, what: Any) -> None:
        """Have something to be heard."""
        self.said.append(what)
        self.cluster.ready[self] = None

    def __next__(self) -> Any:
        if not self.said:
            del self.cluster.ready[self]
            raise StopIteration
        what = self.said.popleft()
        if not self.said and (not self.over or isinstance(what, RayError)):
            del self.cluster.ready[self]
        return what


class Cluster:
    """What the launcher uses of Ray, on nodes of one place each. `now` is its clock, `spent` what simulating took.

    `poisoned` jobs kill their worker each time, `held` ones are another process's for a while, `full` finds no room on
    the disk. Others crash, and nodes die, with a probability for each attempt.
    """

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(
        self, nodes: int, chance: random.Random, *, poisoned: Sequence[str] = (), held: Sequence[str] = (),
        full: str = "", crash: float = 0.01, death: float = 0.01,
    ) -> None:  # fmt: skip
        self.nodes, self.chance, self.poisoned, self.full = nodes, chance, {*poisoned}, full
        self.held = {name: chance.uniform(0, 20) for name in held}
        self.crash, self.death = crash, death
        self.slow = {node for node in range(nodes) if chance.random() < 0.1}
        self.now = self.spent = 0.0
        self.free, self.coming = [*range(nodes)], list[tuple[float, int, Callable[[], None]]]()
        self.waiting: deque[Task] = deque()
        self.ready: dict[Task, None] = {}
        self.computing: set[str] = set()
        self.first: dict[str, None] = {}
        self.finished, self.died = Counter[str](), Counter[str]()
        self.number = self.tasks = self.most = 0

    def remote(self, **_named: Any) -> Any:
        """What makes a function one that starts tasks."""
        return lambda _function: SimpleNamespace(options=lambda **_options: SimpleNamespace(remote=self.start))

    def cluster_resources(self) -> dict[str, float]:
        """What there is to compute with."""
        return {"CPU": float(self.nodes)}

    def get(self, what: Any) -> Any:
        """What was said, or the error that came instead."""
        if isinstance(what, RayError):
            raise what
        return what

    def start(self, orders: Sequence[tuple[str, Any, str]], *_where: Any) -> Task:
        """A task, which waits for a node."""
        with self._simulated():
            task = Task(self, [name for name, *_ in orders])
            self.first |= dict.fromkeys(task.names)
            self.waiting.append(task)
            self.tasks += 1
            self.most = max(self.most, self.tasks)
            self._place()
            return task

    def cancel(self, task: Task, *, force: bool) -> None:
        """Have a task save the states of its runs and end, which it is never forced to."""
        assert not force
        if task in self.waiting:
            self.waiting.remove(task)
            self._end(task, RayError("cancelled"))
        for name in sorted(task.computing):
            self._leave(task, name, Ended("stopped"))

    def wait(self, tasks: Sequence[Task], *, num_returns: int, timeout: float) -> tuple[list[Task], list[Task]]:
        """Some tasks that have something to say; for the first the clock goes on."""
        with self._simulated():
            end = self.now + timeout
            while not self.ready and self.coming and self.coming[0][0] <= end:
                self.now, _, happens = heapq.heappop(self.coming)
                happens()
            if not self.ready:
                self.now = end
            assert len(self.ready) <= len(tasks), "the launcher does not listen to a task that has something to say"
            return [*islice(self.ready, num_returns)], []

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.wait((), num_returns=0, timeout=seconds)

    @contextmanager
    def _simulated(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.spent += time.perf_counter() - began

    def _at(self, when: float, happens: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.coming, (when, self.number, happens))

    def _place(self) -> None:
        while self.waiting and self.free:
            task = self.waiting.popleft()
            task.node = self.free.pop()
            longest = 0.0
            for name in task.names:
                if name in self.computing:
                    raise AssertionError(f"{name} is computed twice at a time")
                self.computing.add(name)
                task.computing.add(name)
                task.say((name, Started(name, Path(), 1, 1, 1, 0, 0)))
                if name == self.full:
                    how, after = Ended("storage", "disk full"), 0.1
                elif self.held.get(name, 0.0) > self.now:
                    how, after = Ended("busy"), 0.1
                else:
                    how = Ended("crashed") if self.chance.random() < self.crash else Ended("done")
                    after = self.chance.uniform(0.5, 5) * (5 if task.node in self.slow else 1)
                if name in self.poisoned:
                    self._at(self.now + after, partial(self._kill, task))
                else:
                    self._at(self.now + after, partial(self._leave, task, name, how))
                longest = max(longest, after)
            if self.chance.random() < self.death:
                self._at(self.now + self.chance.uniform(0, longest), partial(self._kill, task, AWAY))

    def _leave(self, task: Task, name: str, how: Ended) -> None:
        if name not in task.computing:  # its worker has died before
            return
        task.computing.remove(name)
        self.computing.remove(name)
        if how.how == "done":
            self.finished[name] += 1
            task.say((name, Finished(Path(), "finished")))
        self.died[name] += how.how == "crashed"
        task.say((name, how))
        if not task.computing:
            self._end(task)

    def _kill(self, task: Task, away: float = 0.0) -> None:
        if not task.over:
            self.computing -= task.computing
            self.died.update(task.computing)
            task.computing.clear()
            self._end(task, RayError("its worker died"), away)

    def _end(self, task: Task, error: RayError | None = None, away: float = 0.0) -> None:
        task.over = True
        self.tasks -= 1
        self.ready[task] = None
        if error:
            task.say(error)
        if task.node >= 0:
            self._at(self.now + away, partial(self._back, task.node))

    def _back(self, node: int) -> None:
        self.free.append(node)
        self._place()


def conducted(cluster: Cluster, jobs: Sequence[Job], room: Room, received: Sequence[int] = ()) -> Iterator[Said]:
    """What the launcher says of jobs on a simulated cluster, by whose clock it goes."""
    usual = launcher.time
    launcher.time = SimpleNamespace(monotonic=lambda: cluster.now, sleep=cluster.sleep)  # type: ignore[assignment]
    try:
        yield from launcher._conduct(cluster, Ledger(deque(jobs)), Path(), room, {}, received)
    finally:
        launcher.time = usual


def check(cluster: Cluster, jobs: Sequence[Job], failed: Sequence[str]) -> None:
    """That each job came to one end, and none was given up that had not died too often.

    Raises:
        AssertionError: one did not, or was.
    """
    names = [job.id for job in jobs]
    ends = Counter(failed) + cluster.finished
    if wrong := [name for name in names if ends[name] != 1]:
        raise AssertionError(f"{len(wrong)} jobs did not come to one end: {wrong[:5]}")
    if wrong := [name for name in failed if cluster.died[name] != RESTARTS + 1]:
        raise AssertionError(f"given up too early or too late: {wrong[:5]}")
    if cluster.computing or cluster.tasks or set(ends) - {*names}:
        raise AssertionError("something is left that nobody asked for")


def main() -> None:
    """Simulate, check, and print what the driver cost."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--jobs", type=int, default=100_000)
    options.add_argument("--nodes", type=int, default=1000)
    options.add_argument("--lanes", type=int, default=1)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    chance, config = random.Random(asked.seed), RunConfig()
    jobs = [Job(f"run {number}", config, "quick") for number in range(asked.jobs)]
    names = [job.id for job in jobs]
    poisoned, held = chance.sample(names, asked.jobs // 2000), chance.sample(names, asked.jobs // 1000)
    cluster = Cluster(asked.nodes, chance, poisoned=poisoned, held=held)
    said: Counter[type[Said]] = Counter()
    failed = []
    began, processor = time.perf_counter(), time.process_time()
    for one in conducted(cluster, jobs, Room(workers=0, lanes=asked.lanes)):
        said[type(one)] += 1
        if isinstance(one, JobFailed):
            failed.append(one.id)
    # Other programs of the machine take their share of both alike; a look at the processor's clock costs too much.
    share = 1 - cluster.spent / (time.perf_counter() - began)
    processor = time.process_time() - processor
    check(cluster, jobs, failed)
    counts = ", ".join(f"{count:,} {kind.__name__}" for kind, count in said.items())
    print(f"{len(jobs):,} jobs on {asked.nodes:,} nodes, {cluster.now / 60:.0f} simulated minutes: {counts}")
    print(f"at most {cluster.most:,} tasks at a time; {len(poisoned)} jobs were poisoned, {len(failed)} given up")
    each = 1000 * share * processor / len(jobs)
    print(
        f"the driver's own time: {each:.3f} ms of a processor a job; simulating took {100 * (1 - share):.0f} % of all"
    )


if __name__ == "__main__":
    main()

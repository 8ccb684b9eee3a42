"""Ledger: which jobs wait and in which order, how often each has died, and what ends it all, wherever they compute.

It knows no clock and no worker: who computes the jobs takes them, tells how each ended, and says what time it is.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from residuum.conduct.launchers.ended import BIRTHS, RESTARTS, Ended
from residuum.conduct.launchers.launcher import Job, JobEvent, JobFailed, JobRestarted
from residuum.errors import ResiduumError, StorageError
from residuum.records.event import Note


@dataclass
class Ledger:
    """The jobs that wait: those that died go first, each without others beside it, then the others in their order.

    Which of the jobs of a dead worker was to blame is not known, so all of them count as died. `crashes` are all that a
    job had, `stuck` those since its saved state was last further on, which `reached` has; `asleep` are jobs that
    another process was at, with the time at which they may be tried again, the earliest first; they go last, and `busy`
    are all that ever were, with what was said of that. `ending` is the error that ends it all: jobs that come back then
    wait for another call. `more` has jobs that are asked for one by one, each when there is room for it.
    """

    fresh: deque[Job] = field(default_factory=deque)
    more: Iterator[Job] | None = None
    died: deque[Job] = field(default_factory=deque)
    asleep: deque[tuple[float, Job]] = field(default_factory=deque)
    crashes: Counter[str] = field(default_factory=Counter)
    stuck: Counter[str] = field(default_factory=Counter)
    unborn: Counter[str] = field(default_factory=Counter)
    reached: dict[str, tuple[int, int]] = field(default_factory=dict)
    busy: dict[str, str] = field(default_factory=dict)
    announced: set[str] = field(default_factory=set)
    ending: ResiduumError | None = None

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> "Ledger":
        """The ledger of jobs, which all wait now if they are a sequence."""
        return cls(deque(jobs)) if isinstance(jobs, Sequence) else cls(more=iter(jobs))

    def __len__(self) -> int:
        """How many jobs wait, as far as is known: there is one more where others can be asked for."""
        return len(self.fresh) + len(self.died) + len(self.asleep) + (self.more is not None)

    def take(self, now: float, *, beside_others: bool = False) -> Job | None:
        """The job that goes next at the time `now`, which waits no more; `beside_others` it is none that has died."""
        if self.died and not beside_others:
            return self.died.popleft()
        if self.fresh:
            return self.fresh.popleft()
        if self.more is not None:
            if job := next(self.more, None):
                return job
            self.more = None
        for place, (time, job) in enumerate(self.asleep):
            if time > now:
                return None
            if not (beside_others and self.crashes[job.id]):
                del self.asleep[place]
                return job
        return None

    def take_together(self, now: float, most: int) -> list[Job]:
        """The jobs that go next side by side, `most` at most; one that has died goes alone."""
        taken = [first] if (first := self.take(now)) else []
        while taken and len(taken) < most and not self.crashes[taken[0].id]:
            job = self.take(now, beside_others=True)
            if job is None:
                break
            taken.append(job)
        return taken

    def put_off(self, job: Job, until: float) -> None:
        """Leave a job that another process is at until a time, which is no earlier than those said before."""
        self.busy.setdefault(job.id, "")
        self.asleep.append((until, job))

    def began(self, name: str, epoch: int, step: int) -> None:
        """Note the saved state that a job goes on from: one further on than before has its deaths so far forgiven.

        A machine that fails now and then is no reason to give up a run that comes to its end all the same.
        """
        del self.unborn[name]
        if (epoch, step) > self.reached.get(name, (0, 0)):
            self.reached[name] = (epoch, step)
            del self.stuck[name]

    def ended(self, job: Job, how: Ended, again: float) -> JobFailed | JobRestarted | None:
        """Note how a job ended that was taken; what became of it, if that is to be told.

        One that another process is at is left until the time `again`.
        """
        if how.how == "done":
            return None
        if how.how == "impossible":
            return JobFailed(job.id, how.reason, certain=True)
        if how.how == "busy":
            self.busy[job.id] = how.reason
            self.put_off(job, again)
            return None
        if how.how == "storage":
            self.ending = self.ending or StorageError(how.reason)
        if how.how == "stopped" or self.ending:
            self.fresh.appendleft(job)
            return None
        if how.how == "unborn":
            self.unborn[job.id] += 1
            if self.unborn[job.id] < BIRTHS:
                self.fresh.appendleft(job)
                return None
        self.crashes[job.id] += 1
        self.stuck[job.id] += 1
        if self.stuck[job.id] > RESTARTS:
            return JobFailed(job.id, how.reason)
        self.died.appendleft(job)
        return JobRestarted(job.id, self.crashes[job.id], how.reason)

    def waited_for(self) -> Iterator[JobEvent]:
        """A note about each job that waits for another process to leave it, once."""
        for _, job in self.asleep:
            if job.id not in self.announced:
                self.announced.add(job.id)
                said = self.busy[job.id] or "another process is working on this run"
                yield JobEvent(job.id, Note(f"{said}; waiting for it"))

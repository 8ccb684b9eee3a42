"""Ledger: which jobs wait and in which order, how often each has died, and what ends it all, wherever they compute.

It knows no clock and no worker: who computes the jobs takes them, tells how each ended, and says what time it is.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from residuum.conduct.launchers.ended import RESTARTS, Ended
from residuum.conduct.launchers.launcher import Job, JobEvent, JobFailed, JobRestarted
from residuum.errors import ResiduumError, StorageError
from residuum.records.event import Note


@dataclass
class Ledger:
    """The jobs that wait: those that died go first, each without others beside it, then the others in their order.

    Which of the jobs of a dead worker was to blame is not known, so all of them count as died. `asleep` are jobs that
    another process was at, with the time at which they may be tried again, the earliest first; they go last, and `busy`
    are all that ever were. `ending` is the error that ends it all: jobs that come back then wait for another call.
    """

    fresh: deque[Job]
    died: deque[Job] = field(default_factory=deque)
    asleep: deque[tuple[float, Job]] = field(default_factory=deque)
    crashes: Counter[str] = field(default_factory=Counter)
    busy: set[str] = field(default_factory=set)
    announced: set[str] = field(default_factory=set)
    ending: ResiduumError | None = None

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self.fresh) + len(self.died) + len(self.asleep)

    def take(self, now: float, *, beside_others: bool = False) -> Job | None:
        """The job that goes next at the time `now`, which waits no more; `beside_others` it is none that has died."""
        if self.died and not beside_others:
            return self.died.popleft()
        if self.fresh:
            return self.fresh.popleft()
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
        self.busy.add(job.id)
        self.asleep.append((until, job))

    def ended(self, job: Job, how: Ended, again: float) -> JobFailed | JobRestarted | None:
        """Note how a job ended that was taken; what became of it, if that is to be told.

        One that another process is at is left until the time `again`.
        """
        if how.how == "done":
            return None
        if how.how == "impossible":
            return JobFailed(job.id, how.reason)
        if how.how == "busy":
            self.put_off(job, again)
            return None
        if how.how == "storage":
            self.ending = self.ending or StorageError(how.reason)
        if how.how == "stopped" or self.ending:
            self.fresh.appendleft(job)
            return None
        self.crashes[job.id] += 1
        if self.crashes[job.id] > RESTARTS:
            return JobFailed(job.id, how.reason)
        self.died.appendleft(job)
        return JobRestarted(job.id, self.crashes[job.id], how.reason)

    def waited_for(self) -> Iterator[JobEvent]:
        """A note about each job that waits for another process to leave it, once."""
        for _, job in self.asleep:
            if job.id not in self.announced:
                self.announced.add(job.id)
                yield JobEvent(job.id, Note("another process is working on this run; waiting for it"))

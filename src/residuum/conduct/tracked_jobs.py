"""What a launcher says of many runs, which a tracker is told of on the way."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TypeVar

from residuum.conduct.launchers.launcher import JobEvent, JobFailed
from residuum.run.tracking import Tracking
from residuum.studies.plan import Plan

T = TypeVar("T")


def tracked_jobs(said: Iterable[T], tracking: Tracking, study: str = "") -> Iterator[T | JobEvent]:
    """The same, with a note where a run can no longer be written down.

    Runs have the labels `study`, and `arm` where a plan says which they are of, else `trial`.
    """
    arms: dict[str, dict[str, str]] = {}
    with closing(tracking):
        for one in said:
            yield one
            if isinstance(one, Plan):
                arms = {run.id: {"study": one.label, "arm": run.arm} for run in one.runs}
            elif isinstance(one, JobEvent):
                labels = arms.get(one.id, {"study": study, "trial": one.id})
                if note := tracking.hear(one.id, one.event, labels):
                    yield JobEvent(one.id, note)
            elif isinstance(one, JobFailed):
                tracking.drop(one.id)

"""What is said of runs while they are computed, as lines for somebody who waits: in a script or a notebook."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from residuum.conduct.launchers.launcher import JobEvent, JobFailed, JobRestarted, Said
from residuum.conduct.tuning import TrialDone
from residuum.records.event import Diverged, EpochDone, Event, Finished, Note
from residuum.studies.plan import Plan, is_complete
from residuum.studies.study import label_of


def of_run(event: Event, epochs: int) -> str:
    """The line on one event of a training, empty where it needs none: each epoch has one, and how it ended."""
    match event:
        case EpochDone():
            held_out = event.validation or event.test
            error = f", {held_out.split} error {100 * (1 - held_out.accuracy):.2f} %" if held_out else ""
            return f"epoch {event.epoch}/{epochs}: training loss {event.train.loss:.3f}{error}"
        case Diverged():
            return f"diverged in epoch {event.epoch}: loss {event.loss}"
        case Note():
            return event.text
        case Finished():
            return event.status
    return ""


def of_study(said: Iterable[Said | Plan], plan: Plan, runs: Path) -> Iterator[str]:
    """A line for each run of a study that ends, with its last epoch, and for what goes wrong on the way."""
    names = {run.id: f"{run.arm}, seed {run.seed}" for run in plan.runs}
    lengths = {run.id: run.config.train.epochs for run in plan.runs}
    done, last = {run.id for run in plan.runs if is_complete(run, runs)}, dict.fromkeys(names, "")
    if done:
        yield f"{len(done)} of {len(names)} runs are there already"
    for one in said:
        if isinstance(one, Plan):
            continue
        name = names[one.id]
        if isinstance(one, JobFailed):
            yield f"{name}: failed: {' '.join(one.reason.split())}"
        elif isinstance(one, JobRestarted):
            yield f"{name}: {one.reason}; restarted (attempt {one.attempt})"
        elif isinstance(one, JobEvent):
            line = of_run(one.event, lengths[one.id])
            if isinstance(one.event, EpochDone | Diverged):
                last[one.id] = line
            elif isinstance(one.event, Finished) and one.id not in done:
                done.add(one.id)
                yield f"{len(done)}/{len(names)} {name}: {'; '.join(filter(None, (line, last[one.id])))}"
            elif isinstance(one.event, Note):
                yield f"{name}: {line}"


def of_trial(done: TrialDone, trials: int, best: dict[str, float]) -> str:
    """A trial that has ended, in a line; takes note of the best of each arm."""
    head = f"{done.arm}, trial {done.number} of {trials}: {label_of(done.settings)} | "
    if done.error is None:
        return f"{head}failed: {done.reason}"
    if done.state == "pruned":
        return f"{head}validation error {done.error:.2f} %, pruned"
    best[done.arm] = min(done.error, best.get(done.arm, done.error))
    return f"{head}validation error {done.error:.2f} %, best so far {best[done.arm]:.2f} %"


def of_search(said: Iterable[Said | TrialDone], trials: int) -> Iterator[str]:
    """A line for each trial of a search that ends, of so many of each arm, and for what goes wrong on the way."""
    best: dict[str, float] = {}
    for one in said:
        if isinstance(one, TrialDone):
            yield of_trial(one, trials, best)
        elif isinstance(one, JobRestarted):
            yield f"{one.id}: {one.reason}; restarted (attempt {one.attempt})"
        elif isinstance(one, JobEvent) and isinstance(one.event, Note):
            yield f"{one.id}: {one.event.text}"

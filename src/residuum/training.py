"""START HERE: `train(config, runs) -> RunRecord`, one training run from a configuration to its record.

`run` is the same as a stream of events; the command line shows them, `train` only waits for the end.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from residuum import optim, own
from residuum.config import SCHEMA, UNCOUNTED, MonitorConfig, RunConfig, identity
from residuum.engine import metrics, state
from residuum.engine.compute import available_devices, compiles_deterministically
from residuum.engine.live import Training
from residuum.engine.loop import fit
from residuum.engine.state import Progress
from residuum.errors import BusyError, FailedError, InputError, Remedy, StorageError
from residuum.models.summary import summarize
from residuum.records import run_folder, storage
from residuum.records.environment import environment
from residuum.records.event import Diverged, EpochDone, Event, Finished, Note, Scores, Started, StepDone, TestRead
from residuum.records.facts import Start
from residuum.records.outcome import Kept, Outcome, Scored
from residuum.records.record import RunRecord, read_config, read_record
from residuum.records.run_folder import Position, Writer
from residuum.run import assemble, trust
from residuum.run.logged import logged


def check(config: RunConfig) -> RunConfig:
    """The configuration with everything checked, as far as that goes without training, and every default written out.

    Raises:
        InputError: anything that a run would stumble over.
    """
    resolved, data = assemble.resolve(config)
    assemble.training(resolved, data)
    return resolved


def train(config: RunConfig, runs: Path = Path("runs"), *, recipe: str = "") -> RunRecord:
    """Train one network, or go on with a stopped run, or read the record of a complete one.

    The run's folder lies under `runs` and is named after the identity of the resolved configuration; `recipe` is the
    name of where that began, for the record.

    Raises:
        InputError: as `check`.
        FailedError: own code failed in the midst of it.
        BusyError: another process is at this run.
        StorageError: a file could not be written.
    """
    folder = None
    for event in logged(run(config, runs, recipe=recipe)):
        if isinstance(event, Finished):
            folder = event.folder
    assert folder is not None, "a run that raises nothing ends in Finished"
    return read_record(folder)


def resume(folder: Path, *, device: str = "auto", data: str = "") -> Generator[Event, None, None]:
    """Go on with the run in a folder, as events.

    It goes on as the run that it is on another `device` than its own, too, which the record and a note say: such a run
    is not bit for bit what it would have been. `data`: where the data lies now, if it was moved.

    Raises:
        InputError: not a run folder, of another version, other data, a configuration edited since, or its device is
            not here and no other is named.
    """
    config, head = read_config(folder)
    if read_record(folder).status == "imported":
        raise InputError(f"{folder} holds weights from elsewhere; there is no training to go on with")
    if identity(config, head.schema) != head.id:
        raise InputError(f"{folder / run_folder.CONFIG} was changed: it is not the configuration of run {head.id}")
    trust.admit(config, folder)
    own = config.compute
    if device == "auto" and own.device not in ("auto", *available_devices()):
        raise InputError(f"{folder} was begun on {own.device}, which is not here", remedies=[Remedy("another device")])
    # The folder keeps the configuration that it was begun with; only what computes from now on is another.
    here = own if device in ("auto", own.device) else assemble.elsewhere(own, device)
    config = config.changed({"data.root": data} if data else {}).model_copy(update={"compute": here})
    return run(config, folder.parent, recipe=head.recipe, folder=folder)


def run(
    config: RunConfig, runs: Path, *, recipe: str = "", fresh: bool = False, folder: Path | None = None
) -> Generator[Event, None, None]:
    """The events of one training run, begun, continued or found complete; its record is written on the way.

    Closing the generator between two events saves the state there. `fresh` moves an earlier record of the same run
    aside and computes it anew.

    Raises:
        InputError, FailedError, BusyError, StorageError: as `train`.
    """
    with own.blaming():
        yield from _run(config, runs, recipe, folder, fresh=fresh)


def _run(
    config: RunConfig, runs: Path, recipe: str, folder: Path | None, *, fresh: bool
) -> Generator[Event, None, None]:
    resolved, data = assemble.resolve(config)
    folder = folder or run_folder.folder_of(runs, resolved)
    if not fresh and run_folder.is_complete(folder):
        yield from _read_complete(folder, resolved, data)
        return
    earlier = [] if folder.exists() else _under_earlier_ids(folder, resolved)
    # Everything that can be refused is refused before the first file is written.
    resumed = not fresh and bool(run_folder.checkpoints(folder))
    training, notes = assemble.training(resolved, data, resumed=resumed)
    notes += [f"{one} is this run under the id of an earlier version; it is computed anew" for one in earlier]
    with run_folder.held(folder, fresh=fresh) as aside:
        notes += [f"the earlier record is kept in {aside}"] if aside else []
        # Another process may have ended, or begun, this run while this one came here.
        is_complete, began = run_folder.is_complete(folder), bool(run_folder.checkpoints(folder))
        if not is_complete:
            if began and not resumed and resolved.pretrained.weights:
                training, _ = assemble.training(resolved, data, resumed=True)
            watched = read_config(folder)[0].monitor if (folder / run_folder.CONFIG).exists() else None
            id_ = run_folder.begin(folder, resolved, recipe)
            if (folder / run_folder.RESULT).exists():
                notes.append("the result was damaged; it is made again from the last saved state")
                with storage.storing(folder):
                    (folder / run_folder.RESULT).unlink()
            run_folder.go_on(folder)
            with _marking(folder, resolved):
                yield from _compute(id_, resolved, data, training, folder, notes, watched)
    if is_complete:
        yield from _read_complete(folder, resolved, data)


@contextmanager
def _marking(folder: Path, config: RunConfig) -> Iterator[None]:
    """Within it, an error marks the run as failed, unless the same command goes on where it stands.

    One that own code may have made is told in a line, and would come again however often it is tried; its traceback is
    kept with the run.

    Raises:
        FailedError: there was such an error.
    """
    try:
        yield
    except (BusyError, StorageError):
        raise
    except (Exception, SystemExit) as error:
        said = own.charge(error, config.model_dump(mode="json"))
        run_folder.fail(folder, said or (error.text if isinstance(error, InputError) else own.told(error)))
        if not said:
            raise
        path = run_folder.log_crash(folder, error)
        raise FailedError(f"{said} (traceback: {path})" if path else said) from error


def _read_complete(folder: Path, config: RunConfig, data: assemble.Data) -> Iterator[Event]:
    """The events of a run that is there already; only the test set is read, where it is to be and was not yet."""
    found = run_folder.result_of(folder)
    unread = config.monitor.final_test and found is not None and found.is_unread
    yield from (_read_now if unread else _found_complete)(folder, config, data)


def _under_earlier_ids(folder: Path, config: RunConfig) -> list[Path]:
    """The complete folders beside a run's that have its configuration and an id by an earlier schema."""
    found = []
    for other in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*"):
        try:
            own, head = read_config(other)
        except InputError:
            continue
        told_alike = own.model_copy(update={name: getattr(config, name) for name in (*UNCOUNTED, "compute")})
        same = told_alike.model_dump(mode="json") == config.model_dump(mode="json")
        if head.schema != SCHEMA and same and run_folder.is_complete(other):
            found.append(other)
    return found


def _found_complete(folder: Path, config: RunConfig, data: assemble.Data) -> Iterator[Event]:
    record, outcome = _complete(folder)
    yield _started(record, outcome, config, data)
    yield Note(f"this run is complete; nothing was computed (its record: {folder})", (Remedy("anew"),))
    asked, had = (one.monitor.model_dump(exclude={"final_test"}) for one in (config, record.config))
    if lacking := [f"monitor.{name}" for name, wanted in asked.items() if wanted and not had[name]]:
        yield Note(f"it was computed without {' and '.join(lacking)}", (Remedy("anew"),))
    for line in record.damaged:
        yield Note(line)
    yield _finished(folder, outcome)


def _complete(folder: Path) -> tuple[RunRecord, Outcome]:
    """The record of a complete run, and its outcome."""
    record = read_record(folder)
    assert record.result is not None, "what is not complete is computed"
    return record, record.result


def _started(record: RunRecord, outcome: Outcome, config: RunConfig, data: assemble.Data) -> Started:
    """That a complete run was found."""
    steps_per_epoch = outcome.steps // max(outcome.epochs, 1)
    return Started(record.id, record.folder, config.train.epochs, steps_per_epoch, len(data.train_N), outcome.epochs,
                   outcome.steps)  # fmt: skip


def _finished(folder: Path, outcome: Outcome) -> Finished:
    """That a run has ended as its outcome says."""
    return Finished(folder, "diverged" if outcome.status == "diverged" else "finished")


def _read_now(folder: Path, config: RunConfig, data: assemble.Data) -> Iterator[Event]:
    """Score a complete run on the test set that it left unread; nothing is trained."""
    training, _ = assemble.training(config, data, resumed=True)
    with storage.locked(folder):
        record, outcome = _complete(folder)
        yield _started(record, outcome, config, data)
        if outcome.is_unread:  # still, now that no other process is at it
            yield Note("this run is complete; the test set, which it had left unread, is read now")
            with run_folder.writing(folder) as writer:
                outcome = yield from _read_test(outcome, data, training, folder, writer)
            outcome = replace(outcome, test_reads=run_folder.count_test_reads(folder))
            storage.write_json(folder / run_folder.RESULT, outcome.plain())
    yield _finished(folder, outcome)


def _compute(
    id_: str,
    config: RunConfig,
    data: assemble.Data,
    training: Training,
    folder: Path,
    notes: list[str],
    watched: MonitorConfig | None,
) -> Iterator[Event]:
    """The events of a run from its last saved state to its result, everything written on the way.

    `watched` is what was recorded until it stopped, None of one that begins.
    """
    spe = training.batches.steps_per_epoch
    progress, problems = _restore(folder, training, config, spe, watched)
    position = Position(progress.epoch, progress.step)
    run_folder.rewind(folder, position, spe)
    compiled = training.forward is not training.network
    here = Start(**environment(), **training.compute.describe(), compiled=compiled, epoch=position.epoch,
                 step=position.step)  # fmt: skip
    if compiled and not compiles_deterministically():
        here = replace(here, determinism="seeded")
    before = run_folder.add_start(folder, here)
    storage.write_json(folder / run_folder.DATA, data.facts.plain())
    groups = [asdict(group) for group in optim.table(training.optimizer)]
    storage.write_json(folder / run_folder.GROUPS, groups)

    with run_folder.writing(folder) as writer:

        def save() -> None:
            files, values = state.capture(training, progress)
            writer.save(Position(progress.epoch, progress.step), files, values)
            protected = Position(progress.best, 0) if progress.best else None
            run_folder.retain(folder, config.save.keep, protected)

        done = progress.epoch * spe + progress.step
        yield Started(id_, folder, training.epochs, spe, len(data.train_N), progress.epoch, done)
        for line in [*notes, *problems, *_differences(before, here)]:
            yield Note(line)
        diverged = None
        events = fit(training, progress)
        for event in events:
            writer.write(event)
            if isinstance(event, Diverged):
                diverged = event
            elif _is_due(event, config, training.epochs):
                save()
            try:
                yield event
            except GeneratorExit:
                while progress.untold:  # the state is that after them: their rows belong to it
                    writer.write(next(events))
                save()
                raise
        if diverged is not None:
            if assemble.is_finite(training.network):
                save()
            outcome = Outcome("diverged", diverged=diverged)
        else:
            outcome = _outcome(data, training, folder, progress)
            if config.monitor.final_test:
                outcome = yield from _read_test(outcome, data, training, folder, writer)
    cost = summarize(training.network, data.shape)
    outcome = replace(
        outcome,
        epochs=progress.epoch,
        steps=progress.epoch * spe + progress.step,
        test_reads=run_folder.count_test_reads(folder),
        seconds=sum(epoch.seconds for epoch in read_record(folder).epochs) + progress.seconds,
        micro_batch=progress.micro_batch,
        parameters=cost.parameters,
        macs=cost.macs,
        activations=cost.activations,
    )
    storage.write_json(folder / run_folder.RESULT, outcome.plain())
    yield _finished(folder, outcome)


def _restore(
    folder: Path, training: Training, config: RunConfig, spe: int, watched: MonitorConfig | None
) -> tuple[Progress, list[str]]:
    """The progress of the newest state that holds, put into the live objects; the start where there is none.

    What a state needs belongs to it: the rows up to it, of `spe` updates an epoch, and the weights that validation
    selected. Where any of it is damaged or missing, the state before is used.
    """
    problems: list[str] = []
    for found in run_folder.saved(folder):
        if not problems:
            start = state.capture(training, Progress(micro_batch=config.train.micro_batch))
        try:
            if isinstance(found, InputError):
                raise found
            progress = state.progress(found.values)
            if Position(progress.epoch, progress.step) != found.position:
                raise InputError(f"{found.path} holds the state of epoch {progress.epoch}, step {progress.step}")
            if lacking := run_folder.lacking(folder, found.position, spe, watched):
                raise InputError(lacking)
            if progress.best and progress.best != progress.epoch:
                run_folder.read_checkpoint(folder, Position(progress.best, 0))
            return state.restore(found.files, found.values, training), _told(problems)
        except InputError as error:
            problems.append(str(error))
    if not problems:
        return Progress(micro_batch=config.train.micro_batch), []
    if config.pretrained.weights:
        raise InputError(f"{problems[0]}, and no state before it holds; move {folder} away to begin again")
    return state.restore(*start, training), [*_told(problems[:-1]), f"{problems[-1]}; the run begins anew"]


def _told(problems: Sequence[str]) -> list[str]:
    return [f"{problem}; the state before it is used" for problem in dict.fromkeys(problems)]


def _differences(before: Sequence[Start], here: Start) -> list[str]:
    """One line if what decides the bits of the result is not as it was when the run began."""
    keys = ("device", "precision", "determinism", "threads", "capability", "packages", "processor", "compiled",
            "cuda", "cudnn", "kernels", "triton")  # fmt: skip
    changed = [key for key in keys if before and getattr(before[0], key) != getattr(here, key)]
    if not changed:
        return []
    return [f"resumed with another {', '.join(changed)} than it began with: not bit for bit the run it would have been"]


def _weights(training: Training, folder: Path, epoch: int) -> None:
    """Load the saved weights of an epoch.

    They are read back from the disk, so that figures are those of the files that a user has in hand.
    """
    checkpoint = run_folder.read_checkpoint(folder, Position(epoch, 0))
    state.load_weights(training.network, state.evaluated(checkpoint.files))


def _outcome(data: assemble.Data, training: Training, folder: Path, progress: Progress) -> Outcome:
    """What the saved weights come to without the test set: those of the last epoch, and those validation selected."""

    def of(epoch: int) -> Scored:
        return Scored(epoch, progress.validation[epoch - 1] if progress.validation else None)

    labels_N, held_out = torch.from_numpy(data.dataset.train.labels_N), data.validation
    _weights(training, folder, progress.epoch)
    logits_NK = assemble.train_logits(training.network, data, training.compute)
    last = replace(
        of(progress.epoch),
        train_clean=metrics.scores("train", logits_NK, labels_N[data.train_N]),
        held_out_chance=None if held_out is None else _chance(torch.from_numpy(held_out.labels_N)),
    )
    return Outcome("finished", last=last, selected=of(progress.best) if progress.best else None)


def _read_test(
    outcome: Outcome, data: assemble.Data, training: Training, folder: Path, writer: Writer
) -> Generator[Event, None, Outcome]:
    """The outcome with what its weights come to on the test set, the reading of which is counted."""
    labels_N = torch.from_numpy(data.dataset.test.labels_N)
    read_of: tuple[Kept, ...] = ("last", "selected")
    tested: dict[int, tuple[bytes, Scores]] = {}
    for which in read_of:
        scored = outcome.of(which)
        if scored is None:
            continue
        if scored.epoch not in tested:  # the last epoch may be the selected one: the same weights say nothing new
            _weights(training, folder, scored.epoch)
            read = TestRead(which, scored.epoch)
            writer.write(read)
            yield read
            logits_NK = assemble.test_logits(training.network, data.dataset, data.normalization, training.compute)
            tensors = state.to_bytes({"logits_NK": logits_NK, "labels_N": labels_N})
            tested[scored.epoch] = tensors, metrics.scores("test", logits_NK, labels_N)
        tensors, scores = tested[scored.epoch]
        storage.write_tensors(folder / "predictions" / f"{which}.safetensors", tensors)
        scored = replace(scored, test=scores, chance=_chance(labels_N))
        outcome = replace(outcome, last=scored) if which == "last" else replace(outcome, selected=scored)
    return outcome


def _chance(labels_N: Tensor) -> float:
    return int(torch.bincount(labels_N).max()) / len(labels_N)


def _is_due(event: Event, config: RunConfig, epochs: int) -> bool:
    """Whether the state after an event is to be saved."""
    if isinstance(event, EpochDone):
        return event.best or event.epoch % config.save.every == 0 or event.epoch == epochs
    return isinstance(event, StepDone) and config.save.steps > 0 and (event.step + 1) % config.save.steps == 0

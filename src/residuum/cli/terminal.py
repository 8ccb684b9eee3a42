"""A run on the terminal: a live progress bar where there is one, plain lines in a pipe."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from textwrap import fill
from typing import IO, Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import Segment
from rich.table import Table

from residuum.cli.hints import helped
from residuum.errors import tally, visible
from residuum.records.event import Diverged, EpochDone, Event, Finished, NoiseSeen, Note, Scores, Started, StepDone
from residuum.records.record import RunRecord, read_record
from residuum.records.run_folder import checkpoints


class PlainConsole(Console):
    """A console that shows texts letter by letter: what would control a terminal is shown as its codes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The parts of what is shown; those that move the cursor are the console's own."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(visible(part.text), part.style)


def console(stream: IO[str], width: int | None = None, *, soft_wrap: bool = True) -> Console:
    """The console of a stream: nothing in a text is markup, an emoji or a colour."""
    return PlainConsole(
        file=getattr(stream, "styled", stream), width=width, highlight=False, markup=False, emoji=False,
        soft_wrap=soft_wrap,
    )  # fmt: skip


def text_column(form: str) -> TextColumn:
    """A column of a bar whose text is no markup."""
    return TextColumn(form, markup=False)


def epoch_line(event: EpochDone) -> str:
    """One epoch in one line: learning rate, training, validation and, if observed, test, time and speed."""
    parts = [f"Epoch: {event.epoch:<3d} lr {event.lr:.4g} | train {_scores(event.train)}"]
    if event.validation is not None:
        parts.append(f"val {_scores(event.validation)}")
    if event.test is not None:
        parts.append(f"test {_scores(event.test)} (observed)")
    parts.append(f"{event.seconds:.1f} s {event.images_per_second:,.0f} images/s")
    return " | ".join(parts)


def _scores(scores: Scores) -> str:
    return f"loss {loss(scores.loss)} acc {scores.accuracy:.3f}"


def loss(value: float) -> str:
    """A loss in three decimals, a huge one by its magnitude."""
    return f"{value:.3f}" if abs(value) < 1e6 else f"{value:.3g}"


def result_lines(record: RunRecord) -> list[str]:
    """The result of a complete run: test loss and accuracy of the last and of the validation-selected epoch."""
    result = record.result
    if result is None:
        why = f": {record.failure}" * bool(record.failure)
        return [f"{record.status} after {len(record.epochs)} of {record.config.train.epochs} epochs{why}"]
    if at := result.diverged:
        kept = "the last finite state is kept" if any(checkpoints(record.folder)) else "no state was saved before"
        return [
            f"diverged in epoch {at.epoch} at step {at.step}: loss {at.loss}, gradient norm {at.gradient_norm}; {kept}"
        ]
    if result.status == "imported":
        return ["weights from elsewhere: `residuum evaluate` scores them"]
    last, selected = result.last, result.selected
    if last is None:
        return [f"{result.status}; no weights were scored"]
    if last.test is None:
        said = _accurate("validation", last.validation) if last.validation else "finished"
        return [f"{said} (last epoch, {last.epoch}); the test set was left unread (monitor.final_test=false)"]
    if selected is not None and selected.epoch == last.epoch:
        return [f"{_accurate('test', last.test)} (last epoch, {last.epoch}, which validation selected too)"]
    lines = [f"{_accurate('test', last.test)} (last epoch, {last.epoch})"]
    if selected is None:
        lines.append("no epoch was selected: no images were held out (data.validation=5000 holds out 5,000)")
    elif selected.test:
        lines.append(f"{_accurate('test', selected.test)} (selected on validation, epoch {selected.epoch})")
    return lines


def _accurate(name: str, scores: Scores) -> str:
    return f"{name} loss {loss(scores.loss)} acc {scores.accuracy:.4f}"


def noise_lines(noise: Sequence[NoiseSeen]) -> list[str]:
    """What the noise of the gradient was, in one line; none where it was not measured."""
    if not noise:
        return []
    scales = (f"{seen.epoch}: {'–' if seen.scale is None else f'{seen.scale:,.3g}'}" for seen in noise)
    return [f"gradient noise scale in images, by epoch (– where no gradient is seen): {', '.join(scales)}"]


def show(events: Iterable[Event], stream: IO[str]) -> RunRecord | None:
    """Show a run while it goes; returns its record once it is complete."""
    screen = console(stream)
    bar = Progress(
        text_column("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        text_column("{task.fields[state]}"),
        TimeRemainingColumn(),
        console=screen,
        transient=True,
    )
    live = screen.is_terminal
    record = None
    with bar if live else nullcontext():
        task = bar.add_task("", total=None, state="")
        epochs, steps_per_epoch = 0, 1
        for event in events:
            if isinstance(event, Started):
                epochs, steps_per_epoch = event.epochs, event.steps_per_epoch
                where = f"continuing at epoch {event.epoch + 1}, " if 0 < event.step < epochs * steps_per_epoch else ""
                size = f"{tally(event.images, 'image')}, {tally(epochs, 'epoch')} of {tally(steps_per_epoch, 'step')}"
                screen.print(f"run {event.id} | {where}{size} | {event.folder}")
                bar.update(task, total=epochs * steps_per_epoch, completed=event.step)
            elif isinstance(event, StepDone):
                if live:
                    state = f"loss {event.loss:.3f} lr {event.lr:.3g}"
                    bar.update(task, completed=event.step + 1, description=f"epoch {event.epoch}/{epochs}", state=state)
            elif isinstance(event, EpochDone):
                screen.print(epoch_line(event))
            elif isinstance(event, Note):
                screen.print(f"note: {helped(event.text, event.remedies)}")
            elif isinstance(event, Diverged):
                pass  # the result says it
            elif isinstance(event, Finished):
                record = read_record(event.folder)
    if record is not None:
        for line in result_lines(record):
            screen.print(line)
    return record


def counting(counts: Iterable[int], there: int, total: int, label: str, stream: IO[str]) -> Iterator[int]:
    """Pass on how many points of `total` are done, with a bar on a terminal, and a line before it."""
    screen = console(stream)
    columns = (text_column("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen.print(f"{label}: {total:,} points, {there:,} there already")
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(label, total=total, completed=there)
        for count in counts:
            bar.update(task, completed=count)
            yield count


class Arriving(Protocol):
    """How far a download is: a file's name, bytes that are here, and bytes that it has."""

    @property
    def file(self) -> str:
        """The file's name."""
        ...

    @property
    def done(self) -> int:
        """Bytes that are here."""
        ...

    @property
    def size(self) -> int:
        """Bytes that it has."""
        ...


def show_download(progress: Iterable[Arriving], stream: IO[str]) -> None:
    """Show files while they arrive: a bar on a terminal, a line for each file in a pipe."""
    screen = console(stream)
    columns = (text_column("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}
        for part in progress:
            if part.file not in tasks:
                tasks[part.file] = bar.add_task(part.file, total=part.size)
            bar.update(tasks[part.file], completed=part.done)
            if part.done == part.size and not screen.is_terminal:
                screen.print(f"{part.file}: {part.size:,} bytes")


MANY = 200
"""Rows from which on a table is aligned here: Rich takes milliseconds for each."""


WHOLE = ("run", "id")
"""Columns of names that people copy: they are never wrapped."""
FOLDED = 20
"""Cells that a column of text may be folded to."""


def print_table(
    rows: Sequence[Mapping[str, Any]], *, go: Sequence[str] = (), instead: tuple[str, str] = ("", "")
) -> None:
    """Print rows as an aligned table; a column for every key that says anything.

    Where a terminal is too narrow, the columns that may `go` are left out, the first of them first, which standard
    error tells. Of `instead` the first takes the place of the second, in rows that have none, where that is gone.
    """
    if not rows:
        print("nothing here yet")
        return
    columns = [
        key
        for key in dict.fromkeys(key for row in rows for key in row)
        if key not in go or any(row.get(key) not in ("", None) for row in rows)
    ]
    screen = console(sys.stdout, soft_wrap=False)
    least = {column: _least(column, [cell(row.get(column)) for row in rows], may_go=bool(go)) for column in columns}
    for column in go if screen.is_terminal else ():
        if sum(least.values()) + 3 * len(least) - 1 <= screen.width:
            break
        least.pop(column, None)
    gone = [column for column in columns if column not in least]
    if gone:
        print(fill(f"no room for {', '.join(gone)}; --json has them", screen.width), file=sys.stderr)
        columns = [*least]
    kept, other = instead
    if other in gone and kept in columns:
        rows = [{**row, kept: row.get(kept) or row.get(other)} for row in rows]
    numeric = [all(isinstance(row.get(column), int | float) for row in rows) for column in columns]
    cells = [[cell(row.get(column)) for column in columns] for row in rows]
    if len(rows) >= MANY or not screen.is_terminal:  # a pipe has no width: lines are as long as they need to be
        _print_aligned(columns, cells, numeric)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, right in zip(columns, numeric, strict=True):
        table.add_column(column, justify="right" if right else "left", overflow="fold", min_width=least[column])
    for row in cells:
        table.add_row(*row)
    screen.print(table)


def _least(column: str, texts: Sequence[str], *, may_go: bool) -> int:
    """The width that a column keeps: of names that people copy all of it, and of others little where some may go."""
    widest = max(map(cell_len, texts))
    return max(cell_len(column), widest if column in WHOLE else min(widest, FOLDED)) if may_go or column in WHOLE else 1


def _print_aligned(columns: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    """Print a table in Rich's form, every row on one line, however long."""
    lines = [columns, *([" ".join(text.split("\n")) for text in row] for row in cells)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    rule = "─" * (sum(widths) + 3 * (len(widths) - 1))
    written = [
        "   ".join(
            " " * (width - cell_len(text)) + text if is_right else text + " " * (width - cell_len(text))
            for text, width, is_right in zip(line, widths, right, strict=True)
        )
        for line in lines
    ]
    print("", f" {written[0]}".rstrip(), f" {rule}", *(f" {line}".rstrip() for line in written[1:]), "", sep="\n")


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{visible(str(key))}={cell(inner)}" for key, inner in value.items())
    return f"{value:.6g}" if isinstance(value, float) else visible(str(value))

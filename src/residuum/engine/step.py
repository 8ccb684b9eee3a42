"""Updates: one at a time, or captured in a graph and replayed, with equal meaning.

Both are generators that make some updates from where the progress stands and return a row for each: `eager` makes one,
whose loss the host sees before the weights move. `Captured` makes a block of them, in which a loss or a gradient that
is not finite masks its own update and all that follow.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from residuum.data.batches import Batch, row
from residuum.engine import metrics
from residuum.engine.compute import ONE_IMAGE, out_of_memory
from residuum.engine.epoch import Epoch
from residuum.engine.live import Training
from residuum.engine.state import Progress
from residuum.errors import InputError, tally
from residuum.records.event import Launched, Note
from residuum.streams import stream_seed

BLOCK = 200
"""Updates at most that a device makes before the host looks at what came out: some tenths of a second of work."""
SHARE = 10
"""Updates of a block that a device is handed at a time. A queue that is full makes the host wait until there is room,
and meanwhile it hands nothing to the other runs of its process: they take turns before that. An H200 holds 35."""
WARM_UP = 2
"""Updates before a capture, in which libraries claim their workspaces; the state is put back after them."""


class Row(NamedTuple):
    """What one update says: its loss, the norm of its gradient before clipping, how many images were right.

    `skipped`: half precision had no room for the gradient, so the update was left out and the scale halved.
    """

    loss: float
    norm: float
    correct: float
    skipped: bool

    @property
    def finite(self) -> bool:
        """Whether the run can go on."""
        return math.isfinite(self.loss) and (self.skipped or math.isfinite(self.norm))


Updates = Generator[Note | Launched, None, list[Row]]
Recorder = Callable[[Callable[[], None], Callable[[], None]], Callable[[], object]]
"""Takes what sets the state up for an update and the update itself, and gives what repeats it: a graph's replay."""


def updates(training: Training) -> Callable[[Epoch, Progress], Updates]:
    """How the updates of a run are made: captured on a GPU, one at a time elsewhere."""
    # Own code may read values back or draw from a generator, which no graph repeats.
    if training.compute.device.type == "cuda" and training.seed is None and has_captured_form(training.optimizer):
        return Captured(training, graphs).block
    return partial(eager, training)


def has_captured_form(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer on a GPU has the form that a graph can capture."""
    return all(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)


def eager(training: Training, table: Epoch, progress: Progress) -> Updates:
    """The next update, in which the host looks at loss and gradient before the weights move.

    Where memory runs out, in whatever part of it, all is put back as it was, and it is made again with smaller
    micro-batches.

    Raises:
        InputError: one image at a time does not fit.
    """
    state, optimizer = _state(training), training.optimizer
    before, had_state = _copied(training.kept, state), bool(optimizer.state)
    while True:
        optimizer.zero_grad(set_to_none=True)
        try:
            return [_update(training, table, progress, before)]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        put_back(state, before)
        if not had_state:  # of a first update, which may have made it for some of the parameters
            optimizer.state.clear()
        yield smaller(training, progress, training.batches.sizes[progress.step])


def _update(training: Training, table: Epoch, progress: Progress, before: Sequence[Tensor]) -> Row:
    """One update; `before` has what it changes, the buffers of the network first."""
    network, optimizer, scale = training.network, training.optimizer, training.scale
    number = progress.step
    for group in optimizer.param_groups:
        group["lr"] = table.rates[number] * group.get("lr_share", 1.0)
    with drawing(training, progress, "batch"):
        batch = training.batches.batch(table.draws, number, training.batches.sizes[number])
    with drawing(training, progress, "pass"):
        loss, correct = forward_backward(training, batch, progress.micro_batch)
    found, skipped = torch.zeros(()), False
    if scale is not None:
        found = scale.unscale(_gradients(training))
        skipped = bool(found) and not bool(scale.hopeless(found))
    mean, norm, right = torch.stack([loss, gradient_norm(training).to(loss.dtype), correct]).tolist()
    seen = Row(mean, norm, right, skipped)
    if not seen.finite:
        buffers = [*network.buffers()]
        put_back(buffers, before[: len(buffers)])
        return seen
    if not skipped:
        with drawing(training, progress, "step"):
            optimizer.step()
        if training.average is not None:
            training.average.update(network, table.moves[number])
    if scale is not None:
        scale.adapt(found)
    return seen


class Captured:
    """Updates in blocks, each a replay of what was captured once: nothing is read back until a block ends.

    There is one graph for the full batch and one for each other size, the last of an epoch. A block ends where the
    state has to be whole on the host, at the end of an epoch, and after `BLOCK` updates. What cannot be captured is
    made by `eager`, and a note says so.
    """

    def __init__(self, training: Training, recorder: Callable[[Sequence[Tensor]], Recorder]) -> None:
        self._training, self._recorder = training, recorder
        steps, device = training.batches.steps_per_epoch, training.compute.device
        network, average = training.network, training.average
        self._buffers, self._parameters = flattened(network.buffers()), flattened(network.parameters())
        self._averaged: list[tuple[Tensor, Tensor]] = []
        if average is not None:
            means = average.state_dict()
            for own, named in (
                (self._buffers, network.named_buffers()),
                (self._parameters, network.named_parameters()),
            ):
                self._averaged += zip(flattened(means[name] for name, _ in named), own, strict=True)
        self._masked: list[Tensor] = []
        self._number = torch.zeros((), dtype=torch.int64, device=device)
        self._dead = torch.zeros((), dtype=torch.bool, device=device)
        self._rows_S4 = torch.zeros(steps, 4, dtype=torch.float64, device=device)
        self._table: Epoch | None = None
        self._loaded: Epoch | None = None
        self._replays: dict[int, Callable[[], object]] = {}
        self._refused = False
        self._failed = False
        self._record = recorder(training.parameters)

    def block(self, table: Epoch, progress: Progress) -> Updates:
        """The updates up to the end of the block; the device is at work on those of which `Launched` is said."""
        training = self._training
        # The first update of an optimizer makes its state, which torch does in ways that no graph can repeat. That is
        # the first of a run, also where the state stands before it, unless half precision has left it out.
        if self._refused or progress.epoch == progress.step == 0 or not _has_begun(training.optimizer):
            return (yield from eager(training, table, progress))
        start = progress.step
        sizes = training.batches.sizes[start : self._end(progress)]
        self._load(table)
        yield from self._prepare(sizes, progress)
        if self._refused:
            return (yield from eager(training, table, progress))
        self._begin(start)
        progress.untold = len(sizes)
        for first in range(0, len(sizes), SHARE):
            share = sizes[first : first + SHARE]
            for size in share:
                self._replays[size]()
            yield Launched(len(share))
        values = self._rows_S4[start : start + len(sizes)].tolist()
        return [Row(loss, norm, correct, bool(skipped)) for loss, norm, correct, skipped in values]

    def _begin(self, number: int) -> None:
        """Set the device up for the update of that number in the epoch."""
        self._number.fill_(number)
        self._dead.fill_(False)

    def _end(self, progress: Progress) -> int:
        """The update of the epoch before which the block that begins here ends."""
        steps, every = self._training.batches.steps_per_epoch, self._training.whole_every
        end = min(progress.step + BLOCK, steps)
        if every:
            done = progress.epoch * steps + progress.step
            end = min(end, progress.step + every - done % every)
        return end

    def _load(self, table: Epoch) -> None:
        """Put the table of an epoch where the graphs read it."""
        if self._table is None:
            self._table = table
        elif self._loaded is not table:
            for mine, its in zip(self._table.tensors(), table.tensors(), strict=True):
                mine.copy_(its)
        self._loaded = table

    def _prepare(self, sizes: Sequence[int], progress: Progress) -> Generator[Note, None, None]:
        """Capture what is not there yet; with smaller micro-batches while memory runs out.

        Raises:
            InputError: one image at a time does not fit.
            CannotCaptureError: a capture of another run has failed in this process.
        """
        if not self._masked and not _takes_mask(self._training.optimizer):
            self._masked = self._parameters + flattened(_entries(self._training.optimizer))
        while missing := [size for size in dict.fromkeys(sizes) if size not in self._replays]:
            state = _state(self._training)
            before, problem = [tensor.clone() for tensor in state], None
            try:
                for size in missing:
                    work = partial(self._update, size, progress.micro_batch)
                    # Warmed up on a batch that has this size: the partners of another would lie outside it.
                    begin = partial(self._begin, progress.step + sizes.index(size))
                    self._replays[size] = self._record(begin, work)
            except (RuntimeError, MemoryError) as error:
                problem = error.with_traceback(None)  # which would keep the memory of what failed
            self._training.optimizer.zero_grad(set_to_none=True)
            put_back(state, before)
            if problem is None:
                return
            self._replays.clear()
            del self._record  # first, with all that it holds; what failed may have left its pool in use
            self._record = self._recorder(self._training.parameters)
            if isinstance(problem, CannotCaptureError) and not self._failed:
                raise problem  # another run's failure must not change the bits of this one
            self._failed = True
            if out_of_memory(problem) and not isinstance(problem, CannotCaptureError):
                yield smaller(self._training, progress, max(sizes))
            else:
                self._refused = True
                reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
                yield Note(f"not captured in a graph, so updates are made one at a time, which is slow: {reason}")
                return

    def _update(self, size: int, micro_batch: int) -> None:
        """One update as a function of the state, the table and the number that lies on the device."""
        training, table = self._training, self._table
        assert table is not None, "the table is loaded before the first capture"
        optimizer, scale = training.optimizer, training.scale
        rate = row(table.rate_S, self._number)
        for group in optimizer.param_groups:
            _set_rate(group, rate * group.get("lr_share", 1.0))
        before = [flat.clone() for flat in self._buffers]
        batch = training.batches.batch(table.draws, self._number, size)
        optimizer.zero_grad(set_to_none=True)
        loss, correct = forward_backward(training, batch, micro_batch)
        found = scale.unscale(_gradients(training)) if scale is not None else torch.zeros_like(loss)
        norm = gradient_norm(training)
        # Where the loss is scaled, gradients without room are left out; a norm without room is not theirs.
        broken = ~torch.isfinite(norm) & (found == 0)
        if scale is not None:
            broken |= scale.hopeless(found)
        self._dead.logical_or_(broken | ~torch.isfinite(loss))
        skip = self._dead | (found > 0)
        masked_step(optimizer, skip.float(), self._masked)
        put_back(
            self._buffers, [torch.where(self._dead, old, new) for old, new in zip(before, self._buffers, strict=True)]
        )
        if self._averaged:
            move = torch.where(skip, 0.0, row(table.move_S, self._number))
            for mean, own in self._averaged:
                if mean.is_floating_point():
                    mean.lerp_(own, move)
                else:
                    mean.copy_(torch.where(skip, mean, own))
        if scale is not None:
            scale.adapt(found)
        values = torch.stack([value.double() for value in (loss, norm, correct, skip & ~self._dead)])
        self._rows_S4.index_copy_(0, self._number.view(1), values[None])
        self._number.add_(1)


class CannotCaptureError(RuntimeError):
    """Nothing can be captured any more in this process."""


_failures: list[str] = []
"""Why captures could not be ended in this process. Torch's allocator is then left within one: there are no more."""


def graphs(parameters: Sequence[Tensor]) -> Recorder:
    """What captures the graphs of one run. They share memory, so they must never run at the same time.

    They also share a stream to be captured on, which is the run's own: cuBLAS has one workspace for each stream, and
    the graphs of runs side by side do run at the same time. Gradients of the parameters are left there by every pass,
    for a pass that is captured must not leave them on the stream of one before it.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    # Torch warns of the passes before the capture, whose gradients come from another stream: that is meant.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    with torch.cuda.stream(stream), torch.enable_grad():
        # What accumulates a gradient belongs to the stream on which it was made, and lives while something holds it.
        held = [torch.autograd.graph.get_gradient_edge(part).node for part in parameters]
    return partial(_graph, stream, torch.cuda.graph_pool_handle(), held)


def _graph(
    stream: Any, pool: Any, _held: Sequence[object], begin: Callable[[], None], work: Callable[[], None]
) -> Callable[[], object]:
    """The work captured in a CUDA graph, after a warm-up; gives the graph's replay."""
    if _failures:
        raise CannotCaptureError(f"a capture failed in this process, which takes a new process: {_failures[0]}")
    here = torch.cuda.current_stream()
    stream.wait_stream(here)
    try:
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                begin()
                work()
    finally:
        here.wait_stream(stream)
    # A workspace that lies outside the pool must not be captured, nor one within it used outside.
    torch._C._cuda_clearCublasWorkspaces()
    captured = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(captured, pool=pool, stream=stream):
            work()
    except RuntimeError as error:
        # Where a capture cannot be ended, that is another error than what made it fail.
        if not isinstance(error.__context__, RuntimeError):
            raise
        _failures.append(str(error.__context__).splitlines()[0])
        raise error.__context__ from None
    finally:
        torch.cuda.set_stream(here)
        torch._C._cuda_clearCublasWorkspaces()
    return captured.replay


@contextmanager
def drawing(training: Training, progress: Progress, what: str) -> Iterator[None]:
    """Within it, torch's generators stand where this part of this update always finds them, if own code may draw."""
    if training.seed is None:
        yield
        return
    device = training.compute.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(stream_seed(training.seed, "own", progress.epoch, progress.step, what))
        yield


def smaller(training: Training, progress: Progress, images: int) -> Note:
    """Halve the micro-batch, because memory ran out on a batch of `images`.

    Raises:
        InputError: it is one image already.
    """
    size = min(progress.micro_batch or images, images)
    if size == 1:
        raise InputError(ONE_IMAGE)
    progress.micro_batch = (size + 1) // 2
    if training.compute.device.type == "cuda":
        torch.cuda.empty_cache()
    return Note(f"out of memory: each batch is computed in micro-batches of {tally(progress.micro_batch, 'image')}")


def forward_backward(training: Training, batch: Batch, micro_batch: int) -> tuple[Tensor, Tensor]:
    """Loss of a batch, penalties included, and how many images were right; leaves the gradients on the parameters.

    Both are 0-d tensors on the device, in double precision where it has that. The loss is the mean over the batch
    whatever the micro-batch, also where the last one is smaller (guard 22).
    """
    count, scale, wide = len(batch.indices_B), training.scale, training.compute.wide
    size = micro_batch or count
    losses, corrects = [], []

    def backward(part: Tensor) -> None:
        (part if scale is None else part * scale.factor).backward()  # type: ignore[no-untyped-call]
        losses.append(part.detach().to(wide))

    for start in range(0, count, size):
        images, targets = batch.images_BCHW[start : start + size], batch.targets[start : start + size]
        with training.compute.arithmetic():
            logits = training.forward(images)
        backward(training.loss(logits.float(), targets) * (len(images) / count))
        corrects.append(metrics.correct(logits.detach(), targets, wide))
    for penalty in training.penalties:
        backward(penalty(training.decayed))
    return sum(losses[1:], losses[0]), sum(corrects[1:], corrects[0])


def gradient_norm(training: Training) -> Tensor:
    """The norm of the whole gradient, which is clipped where the run asks for that (0-d)."""
    if training.clip_norm:
        return nn.utils.clip_grad_norm_(training.parameters, training.clip_norm)
    return nn.utils.get_total_norm(_gradients(training))


def masked_step(optimizer: torch.optim.Optimizer, skip: Tensor, moved: Sequence[Tensor]) -> None:
    """An update that leaves parameters and state as they are where `skip` is 1 (0-d, float32).

    torch's fused optimizers do that by themselves; for the others `moved` is all that they move.
    """
    if _takes_mask(optimizer):
        # The flag has the name that torch's GradScaler gives it.
        optimizer.grad_scale, optimizer.found_inf = None, skip  # type: ignore[attr-defined]
        try:
            optimizer.step()
        finally:
            del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
        return
    before = [flat.clone() for flat in moved]
    optimizer.step()
    put_back(moved, [torch.where(skip > 0, old, new) for old, new in zip(before, moved, strict=True)])


ALIGNED = 64
"""Elements to whose multiples the parts of a flat tensor begin: kernels read in pieces of up to 16 bytes."""


@torch.no_grad()
def flattened(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Make tensors views of one tensor a type, which are given: what is done to all takes one kernel, not one for each.

    Shapes, strides and values stay. The tensors are dense, as parameters, buffers and the state of optimizers are.
    """
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault(tensor.dtype, []).append(tensor)
    flats = []
    for kind, alike in kinds.items():
        sizes = [-(-tensor.numel() // ALIGNED) * ALIGNED for tensor in alike]
        flat = torch.zeros(sum(sizes), dtype=kind, device=alike[0].device)
        for tensor, part in zip(alike, torch.split(flat, sizes), strict=True):
            view = part.as_strided(tensor.shape, tensor.stride(), part.storage_offset())
            tensor.data = view.copy_(tensor)
        flats.append(flat)
    return flats


@torch.no_grad()
def put_back(tensors: Iterable[Tensor], before: Iterable[Tensor]) -> None:
    """Give tensors, as the buffers of a network, the values that they had before a pass that does not count."""
    for tensor, old in zip(tensors, before, strict=True):
        tensor.copy_(old)


@torch.no_grad()
def _copied(kept: list[Tensor], state: Sequence[Tensor]) -> list[Tensor]:
    """Copies of tensors, in the room that is kept for them: new ones each time cost twice as much.

    The optimizer's first update adds its state to them.
    """
    if len(kept) == len(state):
        torch._foreach_copy_(kept, list(state))
    else:
        kept[:] = [tensor.clone() for tensor in state]
    return kept


def _gradients(training: Training) -> list[Tensor]:
    return [parameter.grad for parameter in training.parameters if parameter.grad is not None]


def _entries(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The tensors of an optimizer's state."""
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]


def _has_begun(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer has made its state; SGD without momentum has none to make."""
    stateless = isinstance(optimizer, torch.optim.SGD) and not any(g["momentum"] for g in optimizer.param_groups)
    return stateless or bool(optimizer.state)


def _takes_mask(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer can leave out an update by a flag on the device: torch's fused forms can."""
    return getattr(optimizer, "_step_supports_amp_scaling", False)


def _state(training: Training) -> list[Tensor]:
    """Everything that updates change."""
    state = [*training.network.buffers(), *training.parameters, *_entries(training.optimizer)]
    if training.average is not None:
        state += training.average.state_dict().values()
    if training.scale is not None:
        state += [training.scale.factor, training.scale.growth]
    return state


def _set_rate(group: dict[str, Any], rate: Tensor) -> None:
    """Set the rate of a group where captured updates read it."""
    if not isinstance(group["lr"], Tensor):
        group["lr"] = torch.zeros_like(rate)
    group["lr"].copy_(rate)

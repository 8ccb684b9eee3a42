"""Updates in blocks, as a GPU makes them, against one at a time: here each replay is a call of the captured function.

On a CPU the functions that a GPU captures can be called as they are, so blocks, tables, masks and scales are tested
without one; `tests/engine/test_cuda.py` has what needs a card.
"""

import itertools
import math
import pickle
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from residuum import optim
from residuum.config import RunConfig
from residuum.data.augment import AUGMENTATIONS
from residuum.data.batches import row
from residuum.data.mix import MIXES
from residuum.data.normalize import NORMALIZERS
from residuum.engine import epoch, loop, state, step
from residuum.engine.compute import Compute
from residuum.engine.loop import fit
from residuum.engine.scaling import FIRST, Scale
from residuum.engine.state import Progress
from residuum.errors import InputError
from residuum.models.activations import ACTIVATIONS
from residuum.models.blocks import ORDERINGS
from residuum.models.shortcuts import SHORTCUTS
from residuum.records.event import Diverged, EpochDone, Launched, LayersSeen, Note, StepDone
from residuum.run import assemble

TINY = {
    "data.dataset": {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 4},
    "data.validation": 12,
    "data.augment": ["pad_crop", "horizontal_flip", "cutout"],
    "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]},
    "optim.schedule": "cosine",
    "train.epochs": 2,
    "train.batch_size": 9,  # five full batches, and one of three images
    "compute.threads": 1,
    "compute.device": "cpu",
    "compute.precision": "fp32",
}
STEPS = 6
ON = Compute(torch.device("cpu"), "fp32", 1)


def made(**settings):
    changes = {name.replace("__", "."): value for name, value in settings.items()}
    return assemble.training(*assemble.resolve(RunConfig().changed(TINY | changes)))[0]


def called(_parameters):
    """A recorder that warms up as a capture does, and whose replays are calls."""

    def record(begin, work):
        for _ in range(step.WARM_UP):
            begin()
            work()
        return work

    return record


def captured(training):
    """The updates of a run in blocks, each replay a call."""
    return step.Captured(training, called).block


@pytest.fixture
def in_blocks(monkeypatch):
    monkeypatch.setattr(loop, "updates", captured)


def told(events):
    """The events without clocks, and without what only says that work is under way."""
    plain = (replace(e, seconds=0.0, images_per_second=0.0) if isinstance(e, EpochDone) else e for e in events)
    # Arrays have no simple equality; their bytes have.
    plain = (pickle.dumps(event) if isinstance(event, LayersSeen) else event for event in plain)
    return [event for event in plain if not isinstance(event, Launched)]


def bits(training):
    tensors = dict(training.network.state_dict())
    state.pack(training.optimizer.state_dict()["state"], tensors, "optimizer")
    if training.average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in training.average.state_dict().items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Poisoned:
    """The batches of a run, with a flag for those at which something is to break."""

    def __init__(self, batches, steps):
        self.batches, self.steps = batches, steps
        self.sizes, self.steps_per_epoch = batches.sizes, batches.steps_per_epoch
        self.flag = None

    def draws(self, epoch):
        flags = [[float(epoch * self.steps_per_epoch + number in self.steps)] for number in range(len(self.sizes))]
        return replace(self.batches.draws(epoch), numbers_SM=torch.tensor(flags))

    def batch(self, draws, number, size):
        self.flag = row(draws.numbers_SM, number)[0] > 0
        return self.batches.batch(draws, number, size)


def breaking(training, steps, broken="gradient"):
    """A run whose loss or gradient is not finite at some updates, whoever calls it and how often."""
    batches = Poisoned(training.batches, steps)

    def loss(logits, targets):
        value = F.cross_entropy(logits, targets)
        if broken == "loss":
            return value * torch.where(batches.flag, math.inf, 1.0)
        # The root of zero has a finite value and an infinite slope.
        root = torch.where(batches.flag, logits.sum() * 0, 1.0).sqrt()
        return value + (root - torch.where(batches.flag, 0.0, 1.0))

    return replace(training, batches=batches, loss=loss)


FORMS = [
    {},
    {"optim__ema": 0.9},
    {"optim__ema": 0.9, "optim__decay_norm": False},  # the optimizer has the parameters in another order
    {"data__mix": "mixup", "data__augment": ["rotation", "hue", "gaussian_noise", "contrast"]},
    {"data__mix": "cutmix"},
    {"optim__clip_norm": 0.1, "optim__penalties": [{"name": "l1", "weight": 1e-3}], "optim__decay_norm": False},
    {"train__micro_batch": 4},
    {"train__batch_size": 8, "train__micro_batch": 3},
    {"optim__optimizer": "nesterov"},
    {"optim__optimizer": {"name": "sgd", "dampening": 0.5}},
    {"optim__optimizer": {"name": "sgd", "momentum": 0.0}},
    {"optim__optimizer": "rmsprop", "optim__lr": 0.01},
    {"optim__optimizer": "adadelta", "optim__lr": 1.0},
    {"monitor__histograms": True, "monitor__noise": True},
    {"compute__precision": "bf16"},
    {"optim__schedule": {"name": "plateau", "patience": 0}},
]


@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_blocks_give_the_events_and_the_bits_of_single_updates(settings, in_blocks, monkeypatch):
    blocks, single = made(**settings), made(**settings)
    seen = list(fit(blocks, Progress()))
    monkeypatch.undo()
    assert told(seen) == told(fit(single, Progress()))
    assert same(bits(blocks), bits(single))
    # The first update makes the optimizer's state and stands alone; then a block to the end of each epoch.
    steps = single.batches.steps_per_epoch
    assert [event.steps for event in seen if isinstance(event, Launched)] == [steps - 1, steps]


@pytest.mark.parametrize("name", ["adam", "adamw", "adagrad", "muon"])
def test_the_other_optimizers_agree_up_to_rounding(name, in_blocks, monkeypatch):
    """torch computes these with a rate on the device in another form than with one on the host."""

    def fused(training):
        forms = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "adagrad": torch.optim.Adagrad}
        if name not in forms:
            return training
        groups = [dict(group) for group in training.optimizer.param_groups]
        for group in groups:
            for form in state.FORMS:
                group.pop(form, None)
        return replace(training, optimizer=forms[name](groups, fused=True))

    settings = {"optim__optimizer": name, "optim__lr": 0.003}
    blocks, single = fused(made(**settings)), made(**settings)
    one = [event.loss for event in fit(blocks, Progress()) if isinstance(event, StepDone)]
    monkeypatch.undo()
    two = [event.loss for event in fit(single, Progress()) if isinstance(event, StepDone)]
    assert one == pytest.approx(two, rel=1e-4)


@pytest.mark.parametrize("every", [1, 2, 4, 5, 7])
def test_blocks_end_where_the_state_has_to_be_whole(every, in_blocks, monkeypatch):
    monkeypatch.setattr(step, "BLOCK", 3)
    progress, expected = Progress(), []
    training = replace(made(), whole_every=every)
    events = fit(training, progress)
    ends = [event.step for event in events if isinstance(event, StepDone) and not progress.untold]
    first = 0
    while first < 2 * STEPS:
        length = 1 if first == 0 else 3
        first = min(first + length, (first // STEPS + 1) * STEPS, first + every - first % every)
        expected.append(first - 1)
    assert ends == expected
    assert {number - 1 for number in range(every, 2 * STEPS + 1, every)} <= set(ends)


def test_a_block_is_handed_over_in_shares_between_which_other_runs_have_turns(in_blocks, monkeypatch):
    monkeypatch.setattr(step, "SHARE", 2)
    events = list(fit(made(), Progress()))
    kinds = [event.steps if isinstance(event, Launched) else type(event).__name__[0] for event in events]
    assert kinds == ["S", 2, 2, 1, *"SSSSSE", 2, 2, 2, *"SSSSSSE"]


@pytest.mark.parametrize("stop", range(1, 21))
def test_who_takes_the_untold_rows_may_stop_anywhere(stop, in_blocks, monkeypatch):
    """Guards 1 to 3, 8: at a launch, between two of a block, within its rows, at their end."""
    monkeypatch.setattr(step, "BLOCK", 4)
    monkeypatch.setattr(step, "SHARE", 3)
    whole = made()
    expected = told(fit(whole, Progress()))

    first, progress = made(), Progress()
    events = fit(first, progress)
    seen = [next(events) for _ in range(stop)]
    while progress.untold:
        seen.append(next(events))
    files, values = state.capture(first, progress)
    events.close()
    assert "untold" not in values["progress"]

    second = made()
    rest = list(fit(second, state.restore(files, values, second)))
    assert told(seen + rest) == expected
    assert same(bits(second), bits(whole))


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "fused"])
@pytest.mark.parametrize("broken", ["loss", "gradient"])
@pytest.mark.parametrize("at", [1, 3, 8])
def test_what_is_not_finite_masks_its_update_and_all_that_follow(optimizer, broken, at, in_blocks, monkeypatch):
    """Guard 25: the same step is named, and the state is the last finite one, buffers and average included."""

    def fused(training):
        if optimizer != "fused":
            return training
        groups = [dict(group, foreach=False, fused=True) for group in training.optimizer.param_groups]
        return replace(training, optimizer=torch.optim.SGD(groups, lr=0.0, momentum=0.9, fused=True))

    settings = {"optim__ema": 0.9, "optim__optimizer": "rmsprop" if optimizer == "rmsprop" else "sgd"}
    blocks, single = (breaking(fused(replace(made(**settings), evaluate={})), {at}, broken) for _ in range(2))
    progress = Progress()
    seen = list(fit(blocks, progress))
    monkeypatch.undo()
    expected = list(fit(single, Progress()))
    assert isinstance(seen[-1], Diverged)
    assert seen[-1].step == expected[-1].step == at
    assert (progress.epoch, progress.step, progress.untold) == (at // STEPS, at % STEPS, 0)
    assert str(told(seen)) == str(told(expected))  # NaN is not equal to itself
    assert same(bits(blocks), bits(single))
    assert all(bool(tensor.isfinite().all()) for tensor in bits(blocks).values())


def test_what_cannot_be_captured_runs_one_update_at_a_time_and_one_line_says_so(monkeypatch):
    def refusing(begin, work):
        raise RuntimeError("operation not permitted when stream is capturing\nwith a long explanation")

    monkeypatch.setattr(loop, "updates", lambda training: step.Captured(training, lambda _: refusing).block)
    eager, single = made(), made()
    seen = list(fit(eager, Progress()))
    monkeypatch.undo()
    assert [event.text for event in seen if isinstance(event, Note)] == [
        "not captured in a graph, so updates are made one at a time, which is slow: "
        "operation not permitted when stream is capturing"
    ]
    assert not any(isinstance(event, Launched) for event in seen)
    assert [e for e in told(seen) if not isinstance(e, Note)] == told(fit(single, Progress()))
    assert same(bits(eager), bits(single))


def test_a_capture_that_failed_for_another_run_changes_no_bit_of_this_one(monkeypatch):
    """It is an error, as after a crash: a worker is replaced and the run captured in a new process."""

    def broken(begin, work):
        raise step.CannotCaptureError("a capture failed in this process")

    monkeypatch.setattr(loop, "updates", lambda training: step.Captured(training, lambda _: broken).block)
    training, seen = made(), []
    events = fit(training, Progress())
    with pytest.raises(step.CannotCaptureError):
        seen += events
    assert [type(event) for event in itertools.islice(fit(made(), Progress()), 1)] == [StepDone]
    assert same(bits(training), after_one_update())


def after_one_update():
    twin = made()
    next(fit(twin, Progress()))
    return bits(twin)


def test_a_run_whose_own_capture_broke_the_process_goes_on_one_update_at_a_time(monkeypatch):
    tries = []

    def breaking_down(begin, work):
        tries.append(work)
        if len(tries) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        raise step.CannotCaptureError("a capture failed in this process: CUDA out of memory")

    monkeypatch.setattr(loop, "updates", lambda training: step.Captured(training, lambda _: breaking_down).block)
    notes = [event.text for event in fit(made(), Progress()) if isinstance(event, Note)]
    assert len(notes) == 2
    assert "micro-batches of 5 images" in notes[0]
    assert "made one at a time" in notes[1]


def test_memory_that_runs_out_in_a_capture_splits_the_batch_and_leaves_no_trace(monkeypatch):
    """The recorder does what a capture does before it fails: it has made updates."""
    limit, tries = 3, []

    def hungry(training):
        def record(begin, work):
            size, micro_batch = work.args
            begin()
            work()
            tries.append(min(size, micro_batch or size))
            if tries[-1] > limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return work

        return step.Captured(training, lambda _: record).block

    monkeypatch.setattr(loop, "updates", hungry)
    training, progress = made(), Progress()
    seen, before = [], {}
    for event in fit(training, progress):
        seen.append(event)
        if isinstance(event, StepDone) and event.step == 0:
            before = bits(training)
        if isinstance(event, Note):
            assert same(bits(training), before), "who stops here saves what was there"
    assert [event.text for event in seen if isinstance(event, Note)] == [
        f"out of memory: each batch is computed in micro-batches of {size} images" for size in (5, 3)
    ]
    assert progress.micro_batch == 3
    limit = 0
    with pytest.raises(InputError, match="out of memory with one image at a time"):
        list(fit(made(), Progress()))


@pytest.mark.parametrize("what", ["buffers", "parameters"])
def test_flattened_tensors_keep_values_and_strides(what):
    network = assemble.place(made().network, ON)
    tensors = list(getattr(network, what)())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    strides = [tensor.stride() for tensor in tensors]
    flats = step.flattened(tensors)
    assert {flat.dtype for flat in flats} == {tensor.dtype for tensor in tensors}
    assert same(network.state_dict(), before)
    assert [tensor.stride() for tensor in tensors] == strides
    assert all(tensor.storage_offset() % step.ALIGNED == 0 for tensor in tensors)
    for flat in flats:
        flat.fill_(7)
    assert all(bool((tensor == 7).all()) for tensor in tensors)
    network.load_state_dict(before)
    assert not any(bool((flat == 7).all()) for flat in flats), "loading writes into the same memory"


class FromTheHost(TorchDispatchMode):
    """Notes what no graph can capture: values that are read back, or that come from the host."""

    NAMES = ("_local_scalar_dense", "lift_fresh", "nonzero", "masked_select", "unique")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(name in str(function) for name in self.NAMES):
            self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


EVERYTHING = [
    {"data__augment": [*AUGMENTATIONS]},
    *({"data__normalize": name} for name in NORMALIZERS),
    *({"data__mix": name} for name in MIXES),
    *({"optim__penalties": [{"name": name, "weight": 1e-3}]} for name in optim.PENALTIES),
    {"optim__loss": {"name": "cross_entropy", "label_smoothing": 0.1}, "optim__clip_norm": 0.1, "optim__ema": 0.9},
    {"train__micro_batch": 4, "data__mix": "cutmix"},
    *({"model__activation": name} for name in ACTIVATIONS),
    *({"model__shortcut": name} for name in SHORTCUTS),
    *({"model__ordering": name} for name in ORDERINGS),
    {"compute__precision": "bf16"},
    {"compute__precision": "fp16"},
]


@pytest.mark.parametrize("settings", EVERYTHING, ids=str)
def test_a_captured_update_takes_nothing_from_the_host_and_gives_nothing_back(settings):
    """What would break a capture shows on a CPU as well; the optimizer is one in torch's fused form, as on a GPU."""
    training = made(**settings)
    groups = [dict(group, foreach=False, fused=True) for group in training.optimizer.param_groups]
    training = replace(training, optimizer=torch.optim.Adam(groups, lr=0.0, fused=True), evaluate={}, epochs=1)
    watched = FromTheHost()

    def record(begin, work):
        begin()
        work()  # constants are made once, in the warm-up
        begin()
        with watched:
            work()
        return work

    updates, table = step.Captured(training, lambda _: record), epoch.table(training, Progress())
    assert list(updates.block(table, Progress())) == [], "the first update makes the optimizer's state, uncaptured"
    assert isinstance(next(updates.block(table, Progress(step=1))), Launched)
    assert watched.seen == []
    with FromTheHost() as other:
        torch.tensor([1.0]).item()
    assert len(other.seen) == 2


# ---------------------------------------------------------------- half precision


def half(training, scale=None):
    """A run in fp32 whose loss is scaled as in half precision, so that the arithmetic of the scale can be seen."""
    return replace(training, scale=scale or Scale(torch.device("cpu")))


@pytest.mark.parametrize("clip_norm", [0.0, 0.05])
@pytest.mark.parametrize("block", [False, True])
def test_a_scaled_run_is_the_unscaled_one(clip_norm, block, monkeypatch):
    """Guard 21: clipping sees the true gradient; a scale that is a power of two changes no bit."""
    if block:
        monkeypatch.setattr(loop, "updates", captured)
    scaled, plain = half(made(optim__clip_norm=clip_norm)), made(optim__clip_norm=clip_norm)
    seen = told(fit(scaled, Progress()))
    monkeypatch.undo()
    assert seen == told(fit(plain, Progress()))
    assert same(bits(scaled), bits(plain))
    assert scaled.scale.factor == FIRST


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_an_update_without_room_is_left_out_and_the_scale_halved(block, optimizer, monkeypatch):
    if block:
        monkeypatch.setattr(loop, "updates", captured)
    training = breaking(half(made(optim__optimizer=optimizer, optim__lr=0.01)), {2, 3, 7})
    before = {}
    seen = list(fit(training, Progress()))
    rows = [event for event in seen if isinstance(event, StepDone)]
    assert [row.step for row in rows if row.gradient_norm is None] == [2, 3, 7]
    assert all(row.gradient_norm > 0 for row in rows if row.step not in (2, 3, 7))
    assert training.scale.factor == FIRST / 8
    assert all(bool(tensor.isfinite().all()) for tensor in bits(training).values())
    # The updates that were left out moved no weight: twins that stop before and after one hold the same weights.
    monkeypatch.undo()
    for stop in (2, 3, 4):
        twin = breaking(half(made(optim__optimizer=optimizer, optim__lr=0.01)), {2, 3, 7})
        events, steps = fit(twin, Progress()), 0
        while steps < stop:
            steps += isinstance(next(events), StepDone)
        before[stop] = bits(twin)
    weights = [name for name in before[2] if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert all(torch.equal(before[2][name], before[3][name]) for name in weights)
    assert all(torch.equal(before[2][name], before[4][name]) for name in weights)


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adadelta", "muon"])
def test_a_first_update_without_room_leaves_the_optimizer_to_begin_at_the_next(name, monkeypatch):
    """An optimizer makes its state at the first update that is made, which is never a captured one."""
    settings = {"optim__optimizer": name, "optim__lr": 0.01, "optim__ema": 0.9}
    blocks, single = (breaking(half(made(**settings)), {0, 1}) for _ in range(2))
    monkeypatch.setattr(loop, "updates", captured)
    seen = list(fit(blocks, Progress()))
    monkeypatch.undo()
    expected = list(fit(single, Progress()))
    rows = [event for event in seen if isinstance(event, StepDone)]
    assert [row.step for row in rows if row.gradient_norm is None] == [0, 1]
    exact = name != "muon"  # whose rate on the device is computed with in another order
    assert [row.loss for row in rows] == pytest.approx(
        [e.loss for e in expected if isinstance(e, StepDone)], rel=0 if exact else 1e-4, abs=0
    )


@pytest.mark.parametrize("block", [False, True])
def test_a_norm_that_overflows_where_no_gradient_does_is_divergence(block, monkeypatch):
    if block:
        monkeypatch.setattr(loop, "updates", captured)
    monkeypatch.setattr(step, "gradient_norm", lambda training: torch.tensor(math.inf))
    training = half(made())
    before = bits(training)
    seen = list(fit(training, Progress()))
    assert isinstance(seen[-1], Diverged)
    assert seen[-1].step == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.network.state_dict().items())


@pytest.mark.parametrize("block", [False, True])
def test_a_gradient_that_has_no_room_unscaled_ends_the_run(block, monkeypatch):
    if block:
        monkeypatch.setattr(loop, "updates", captured)
    training = breaking(half(made()), set(range(4, 100)))
    seen = list(fit(training, Progress()))
    # Sixteen halvings lead from 2¹⁶ to 1, but the run has only twelve updates: none ends it.
    assert not any(isinstance(event, Diverged) for event in seen)
    scale = Scale(torch.device("cpu"))
    scale.factor.fill_(4.0)
    seen = list(fit(breaking(half(made(), scale), set(range(4, 100))), Progress()))
    assert isinstance(seen[-1], Diverged)
    assert seen[-1].step == 6


def test_the_scale_doubles_after_many_updates_and_resumes(monkeypatch):
    scale = Scale(torch.device("cpu"))
    none, found = torch.zeros(()), torch.ones(())
    for _ in range(1999):
        scale.adapt(none)
    assert scale.factor == FIRST
    other = Scale(torch.device("cpu"))
    other.restore(scale.plain())
    other.adapt(none)
    assert other.factor == 2 * FIRST
    other.adapt(found)
    assert (other.factor, other.growth) == (FIRST, 0)


def test_a_scaled_run_resumes_with_its_scale():
    """Guard 7: the scale and its counter are part of the state, and a state without them is refused."""
    whole = breaking(half(made()), {2})
    expected = told(fit(whole, Progress()))
    first, progress = breaking(half(made()), {2}), Progress()
    events = fit(first, progress)
    seen = [next(events) for _ in range(5)]
    files, values = state.capture(first, progress)
    assert values["scale"] == {"factor": FIRST / 2, "growth": 2}
    second = half(made())
    rest = list(fit(second, state.restore(files, values, second)))
    assert told(seen + rest) == expected
    assert same(bits(second), bits(whole))
    del values["scale"]
    with pytest.raises(InputError, match="does not fit the run"):
        state.restore(files, values, half(made()))


def test_a_state_of_other_groups_of_parameters_is_refused():
    """Guard 7: a state of an optimizer of fewer parameters, here of one less."""
    training = made()
    files, values = state.capture(training, Progress())
    group = values["optimizer"]["pairs"][1][1][0]["pairs"]
    (place,) = [number for number, (name, _) in enumerate(group) if name == "params"]
    group[place][1] = group[place][1][:-1]
    with pytest.raises(InputError, match="the optimizer has other groups of parameters"):
        state.restore(files, values, made())


def test_half_precision_trains_and_keeps_its_scale():
    training = made(compute__precision="fp16")
    losses = [event.loss for event in fit(training, Progress()) if isinstance(event, StepDone)]
    single = [event.loss for event in fit(made(), Progress()) if isinstance(event, StepDone)]
    assert losses[:2] == pytest.approx(single[:2], rel=0.02)  # differences of 10⁻³ grow with every update
    assert all(math.isfinite(loss) for loss in losses)
    assert isinstance(training.scale, Scale)
    assert made().scale is None


def test_a_state_of_another_device_keeps_the_forms_of_this_one():
    """A run begun with torch's fused form goes on with `foreach`, which stands for what another device has."""
    fused = made()
    groups = [dict(group, foreach=False, fused=True) for group in fused.optimizer.param_groups]
    fused = replace(fused, optimizer=torch.optim.SGD(groups, lr=0.0, momentum=0.9, fused=True))
    progress = Progress()
    events = fit(fused, progress)
    next(events)
    files, values = state.capture(fused, progress)
    here = made()
    state.restore(files, values, here)
    assert all(group["foreach"] and not group["fused"] for group in here.optimizer.param_groups)
    assert optim.table(here.optimizer)

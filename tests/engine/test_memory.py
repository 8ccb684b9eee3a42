"""Memory that runs out at any update, in any part of it: smaller micro-batches, and no trace of what failed."""

import random
import warnings

import pytest
import torch

# The small network and its pictures, which the tests of the loop train.
from test_loop import ON, STEPS, Pictures, network, training, weights
from torch import nn

from residuum.engine.evaluate import logits_of
from residuum.engine.looking import look, on_fewer
from residuum.engine.loop import fit
from residuum.engine.noise import noise
from residuum.engine.state import Progress
from residuum.errors import InputError, Remark
from residuum.optim.averaging import Average
from residuum.records.event import Note, StepDone

ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    MemoryError(),
    MemoryError("std::bad_alloc"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("could not create a primitive"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
)
PARTS = ("batch", "forward", "backward", "optimizer", "middle of the optimizer", "average")
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1.0, momentum=0.9),
    "adam": lambda parameters: torch.optim.AdamW(parameters, lr=1.0),
}


class Failing:
    """Raises an error in some part of the update with a number, counted from the first of the run, so many times."""

    def __init__(self, part, update, error, times):
        self.part, self.update, self.error, self.left = part, update, error, times
        self.number = 0

    def __call__(self, part):
        if part == self.part and self.number == self.update and self.left:
            self.left -= 1
            raise self.error


def made(optimizer, failing):
    """A training that asks `failing` in each of its parts."""
    net, pictures = network(), Pictures()
    steps = OPTIMIZERS[optimizer](net.parameters())
    average = Average(net, 0.9)
    whole = training(net, pictures, lr=0.01, optimizer=steps, average=average)
    batch, step, update = pictures.batch, steps.step, average.update

    def backward(module, gradients, _):
        failing("backward")

    def stepped():
        failing("optimizer")
        if failing.part == "middle of the optimizer" and failing.number == failing.update and failing.left:
            parameters = steps.param_groups[0]["params"]
            steps.param_groups[0]["params"] = parameters[:3]  # the others are not reached
            step()
            steps.param_groups[0]["params"] = parameters
            failing("middle of the optimizer")
        step()

    net.register_forward_pre_hook(lambda *_: failing("forward") if net.training else None)
    net[3].register_full_backward_hook(backward)
    pictures.batch = lambda *words: (failing("batch"), batch(*words))[1]
    average.update = lambda *words: (update(*words), failing("average"))[0]
    steps.step = stepped
    return whole


def trained(optimizer, failing, told=None):
    """Train to the end; weights, averages and state of the optimizer, and the notes. `told`: micro-batches by update."""
    whole, progress, notes = made(optimizer, failing), Progress(), []
    if told and told[0] == 0:
        progress.micro_batch = told[1]
    for event in fit(whole, progress):
        if isinstance(event, StepDone):
            failing.number = event.step + 1
            if told and told[0] == failing.number:
                progress.micro_batch = told[1]
        if isinstance(event, Note):
            notes.append(event.text)
    state = [value for one in whole.optimizer.state.values() for value in one.values()]
    return [*weights(whole).values(), *whole.average.state_dict().values(), *state], notes, progress.micro_batch


@pytest.mark.parametrize("seed", range(18))
def test_memory_that_runs_out_anywhere_leaves_no_trace_but_smaller_micro_batches(seed):
    chance = random.Random(seed)
    part, error = PARTS[seed % len(PARTS)], ERRORS[(seed + seed // 6) % len(ERRORS)]
    optimizer = chance.choice([*OPTIMIZERS])
    update, times = chance.choice([0, 1, chance.randrange(2 * STEPS)]), chance.choice([1, 2])
    size = 5 if update % STEPS == STEPS - 1 else 8
    micro_batch = size
    for _ in range(times):
        micro_batch = (micro_batch + 1) // 2
    found, notes, recorded = trained(optimizer, Failing(part, update, error, times))
    expected, none, _ = trained(optimizer, Failing("", -1, None, 0), told=(update, micro_batch))
    assert (len(notes), none, recorded) == (times, [], micro_batch)
    assert notes[-1] == f"out of memory: each batch is computed in micro-batches of {micro_batch} images"
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_other_errors_are_not_taken_for_memory():
    for error in (RuntimeError("shapes do not fit"), ValueError("std::bad_alloc")):
        with pytest.raises(type(error), match=str(error)):
            trained("sgd", Failing("optimizer", 1, error, 1))


class Small(nn.Module):
    """The small network, which has room for so many images; the error comes behind its layers."""

    def __init__(self, limit, error):
        super().__init__()
        self.inner, self.limit, self.error = network(), limit, error

    def forward(self, images):
        logits = self.inner(images)
        if len(images) > self.limit:
            raise self.error
        return logits


@pytest.mark.parametrize("error", ERRORS, ids=[f"{type(one).__name__} {one}"[:40] for one in ERRORS])
def test_an_evaluation_that_does_not_fit_goes_on_in_parts(error):
    images = Pictures().images
    expected = logits_of(network(), images.split(3), ON)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Remark)
        found = logits_of(Small(3, error), images.split(13), ON)
        with pytest.raises(InputError, match="out of memory with one image at a time"):
            logits_of(Small(0, error), images.split(13), ON)
    torch.testing.assert_close(found, expected)
    assert "images are evaluated 7 at a time" in str(caught[0].message)


def looked(net, images, labels):
    """What `look` says of a network."""
    return look(net, images, labels, ON, 3)


def noisy(net, images, labels):
    """The noise of the gradients of two batches of such images."""
    return noise(net, [(images, labels), (images.flip(3), labels)], ON, 3)


@pytest.mark.parametrize("of", [looked, noisy], ids=["layers", "noise"])
@pytest.mark.parametrize("error", ERRORS[:2], ids=["device", "machine"])
def test_what_is_recorded_of_fewer_images_where_memory_runs_out_says_so_and_leaves_the_network_as_it_was(of, error):
    images, labels = Pictures().images[:12].float(), Pictures().labels[:12]
    small = Small(3, error)
    next(iter(small.parameters())).requires_grad_(False)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Remark)
        found = on_fewer(lambda count: of(small, images[:count], labels[:count]), 12)
    assert "layers or noise are looked at with 3 images at a time" in str(caught[-1].message)
    expected = of(Small(12, error), images[:3], labels[:3])
    assert found.images == expected.images
    if of is looked:
        assert (found.gradients.mean_T[1:] == expected.gradients.mean_T[1:]).all()
    else:
        assert found.batch == 3
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    assert [one.requires_grad for one in small.parameters()][:2] == [False, True]
    with pytest.raises(InputError, match="out of memory with two images at a time"):
        on_fewer(lambda count: of(Small(0, error), images[:count], labels[:count]), 3)

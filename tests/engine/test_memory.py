"""Memory that runs out at any update, in any part of it: smaller micro-batches, and no trace of what failed."""

import random
import warnings

import pytest
import torch

# The small network and its pictures, which the tests of the loop train.
from test_loop import ON, STEPS, Pictures, network, training, weights
from torch import nn

from residuum.engine.evaluate import logits_of
from residuum.engine.loop import fit
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


@pytest.mark.parametrize("error", ERRORS, ids=[f"{type(one).__name__} {one}"[:40] for one in ERRORS])
def test_an_evaluation_that_does_not_fit_goes_on_in_parts(error):
    class Small(nn.Module):
        def __init__(self, limit):
            super().__init__()
            self.inner, self.limit = network(), limit

        def forward(self, images):
            if len(images) > self.limit:
                raise error
            return self.inner(images)

    images = Pictures().images
    expected = logits_of(network(), images.split(3), ON)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Remark)
        found = logits_of(Small(3), images.split(13), ON)
        with pytest.raises(InputError, match="out of memory with one image at a time"):
            logits_of(Small(0), images.split(13), ON)
    torch.testing.assert_close(found, expected)
    assert "images are evaluated 7 at a time" in str(caught[0].message)

"""The loop: a resumed run is the uninterrupted one, divergence is an outcome, memory that runs out splits the batch."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from residuum.data.batches import Batch, Draws
from residuum.engine import metrics, state
from residuum.engine.compute import Compute
from residuum.engine.evaluate import logits_of
from residuum.engine.live import Training
from residuum.engine.loop import best_epoch, fit
from residuum.engine.state import Progress
from residuum.errors import InputError
from residuum.records.event import Diverged, EpochDone, Note, Scores, StepDone, TestRead

STEPS, BATCH, EPOCHS, IMAGES = 5, 8, 3, 37  # the last batch has 5 images
ON = Compute(torch.device("cpu"), "fp32", 1)


class Pictures:
    """Batches as a function of (epoch, step), as the data half promises them."""

    sizes = (BATCH,) * (STEPS - 1) + (IMAGES - BATCH * (STEPS - 1),)
    steps_per_epoch = STEPS

    def __init__(self, soft=False):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(IMAGES, 3, 8, 8, generator=generator)
        self.labels = torch.randint(0, 4, (IMAGES,), generator=generator)
        self.soft = soft

    def draws(self, epoch):
        order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(100 + epoch))
        none = torch.zeros(0)
        return Draws(order.numpy().copy(), order, none, none, none)

    def batch(self, draws, number, size):
        indices = draws.order_N[torch.arange(size) + number * BATCH]
        targets = self.labels[indices]
        if self.soft:
            targets = 0.7 * F.one_hot(targets, 4) + 0.3 * F.one_hot(targets.flip(0), 4)
        return Batch(indices, self.images[indices], targets)


def network(norm=True, dtype=torch.float32):
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).to(dtype)


def training(made=None, pictures=None, lr=0.1, **changes):
    made, pictures = made or network(), pictures or Pictures()
    images, labels = pictures.images[:13], pictures.labels[:13]
    whole = Training(
        network=made,
        forward=made,
        optimizer=torch.optim.SGD(made.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-3),
        average=None,
        scale=None,
        batches=pictures,
        loss=F.cross_entropy,
        penalties=(),
        decayed=(),
        rate=lambda step, losses: lr * 0.9**step / (1 + len(losses)),
        clip_norm=0.0,
        compute=ON,
        epochs=EPOCHS,
        whole_every=0,
        evaluate={
            "validation": lambda: metrics.scores("validation", logits_of(made, images.split(5), ON), labels),
            "test": lambda: metrics.scores("test", logits_of(made, images.split(4), ON), labels),
        },
    )
    return replace(whole, **changes)


def plain(event):
    """An event without its clock."""
    return replace(event, seconds=0.0, images_per_second=0.0) if isinstance(event, EpochDone) else event


def run_to_the_end(t, progress):
    return [plain(event) for event in fit(t, progress)]


def weights(t):
    return {name: tensor.clone() for name, tensor in t.network.state_dict().items()}


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


WHOLE = STEPS * EPOCHS + 2 * EPOCHS  # events: steps, and for each epoch a reading of the test set and its end


@pytest.mark.parametrize("stop", range(1, WHOLE))
def test_a_run_resumed_at_any_event_is_the_uninterrupted_one(stop):
    """Guards 1, 3, 5, 8: first, middle, last step, boundary and after it; images, rates, rows and bits are equal."""
    t = training()
    expected = run_to_the_end(t, Progress())
    assert len(expected) == WHOLE

    first, progress = training(), Progress()
    events = fit(first, progress)
    seen = [plain(next(events)) for _ in range(stop)]
    files, values = state.capture(first, progress)
    events.close()

    second = training(made=network())
    resumed = state.restore(files, values, second)
    rest = run_to_the_end(second, resumed)
    # A stop between the reading of the test set and its figures reads it once more; that is counted, not hidden.
    if isinstance(seen[-1], TestRead):
        assert rest[0] == seen.pop()
    assert seen + rest == expected
    assert equal(weights(second), weights(t))


def test_stopping_again_and_again_within_one_epoch_changes_nothing():
    """Guard 2."""
    t = training()
    expected = run_to_the_end(t, Progress())
    progress, files, values, seen = Progress(), None, None, []
    while len(seen) < WHOLE:
        t2 = training(made=network())
        if files is not None:
            progress = state.restore(files, values, t2)
        events = fit(t2, progress)
        event = next(events)
        if isinstance(event, TestRead):
            seen.append(event)
            event = next(events)
        seen.append(plain(event))
        files, values = state.capture(t2, progress)
        events.close()
    assert seen == expected
    assert equal(weights(t2), weights(t))


def test_every_image_comes_once_an_epoch_and_the_order_hash_tells_orders_apart():
    """Guard 1."""
    steps = [event for event in fit(training(), Progress()) if isinstance(event, StepDone)]
    assert [event.step for event in steps] == list(range(STEPS * EPOCHS))
    assert len({event.order for event in steps}) == STEPS * EPOCHS


def test_every_update_moves_the_weights_by_the_rate_that_its_event_tells():
    t = training(epochs=2)
    t.optimizer.param_groups[0].update(momentum=0.0, weight_decay=0.0)
    before, moved = weights(t), 0
    for event in fit(t, Progress()):
        if isinstance(event, StepDone):
            after = weights(t)
            for name, parameter in t.network.named_parameters():
                step = before[name] - after[name]
                assert torch.allclose(step, event.lr * parameter.grad, rtol=1e-3, atol=1e-7), (event.step, name)
                moved += int(bool(step.abs().sum()))
            before = after
    assert moved > 2 * STEPS


def test_the_rate_of_every_step_is_the_schedule_s():
    """Guard 5, and the validation losses that the schedule sees are those of finished epochs."""
    for event in fit(training(), Progress()):
        if isinstance(event, StepDone):
            assert event.lr == 0.1 * 0.9**event.step / (1 + event.step // STEPS)


@pytest.mark.parametrize("missing", ["momentum", "parameter", "weight"])
def test_a_state_that_lacks_something_is_refused(missing):
    """Guard 7: nothing is skipped in silence."""
    t, progress = training(), Progress()
    events = fit(t, progress)
    next(events)
    files, values = state.capture(t, progress)
    tensors = state.from_bytes(files["weights.safetensors" if missing == "weight" else "optimizer.safetensors"])
    values = copy.deepcopy(values)
    if missing == "weight":
        files["weights.safetensors"] = state.to_bytes({k: v for k, v in tensors.items() if k != "0.weight"})
    elif missing == "momentum":
        del tensors[sorted(tensors)[0]]
        files["optimizer.safetensors"] = state.to_bytes(tensors)
    else:
        other = nn.Sequential(network(), nn.Linear(4, 4))
        fresh = torch.optim.SGD(other.parameters(), lr=1.0, momentum=0.9)
        with pytest.raises(InputError):
            state.restore(files, values, replace(t, optimizer=fresh))
        return
    fresh = training(made=network())
    with pytest.raises(InputError):
        state.restore(files, values, fresh)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("micro_batch", [1, 3, 4, 7])
def test_micro_batches_give_the_gradient_of_the_whole_batch(micro_batch, soft):
    """Guard 22, the smaller last part included; without batch norm, in double precision."""
    results = []
    for size in (0, micro_batch):
        made, pictures = network(norm=False, dtype=torch.float64), Pictures(soft)
        pictures.images = pictures.images.double()
        t = training(
            made=made, pictures=pictures, evaluate={}, loss=lambda logits, y: F.cross_entropy(logits.double(), y)
        )
        events = fit(t, Progress(micro_batch=size))
        done = [event for event in events if isinstance(event, StepDone)]
        results.append(([event.loss for event in done], weights(t)))
    (whole_losses, whole), (losses, parts) = results
    # Logits pass through fp32 on their way to the loss, whatever the network computes in.
    assert losses == pytest.approx(whole_losses, rel=1e-6)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-6, atol=1e-7)


class Hungry(nn.Module):
    """A network that runs out of memory on more than `limit` images, after its running statistics have moved."""

    def __init__(self, limit):
        super().__init__()
        self.inner, self.limit = network(), limit

    def forward(self, images):
        logits = self.inner(images)
        if self.training and len(images) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return logits


def test_memory_that_runs_out_splits_the_batch_and_says_so():
    t, progress = training(made=Hungry(limit=3)), Progress()
    events = list(fit(t, progress))
    assert [event.text for event in events if isinstance(event, Note)] == [
        "out of memory: each batch is computed in micro-batches of 4 images",
        "out of memory: each batch is computed in micro-batches of 2 images",
    ]
    assert progress.micro_batch == 2
    # The failed passes left no trace: the same as a run that was told the size at the start.
    told, told_progress = training(made=Hungry(limit=3)), Progress(micro_batch=2)
    list(fit(told, told_progress))
    assert equal(weights(t), weights(told))


def test_memory_that_does_not_hold_one_image_is_one_line():
    with pytest.raises(InputError, match="out of memory with one image at a time"):
        list(fit(training(made=Hungry(limit=0)), Progress()))


def test_other_errors_of_torch_pass_through():
    with pytest.raises(RuntimeError, match="shape"):
        list(
            fit(training(loss=lambda logits, targets: F.cross_entropy(logits @ torch.ones(3, 3), targets)), Progress())
        )


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_divergence_stops_before_the_update_and_leaves_the_last_finite_state(broken):
    """Guard 25."""
    seen = []

    def loss(logits, targets):
        value = F.cross_entropy(logits, targets)
        seen.append(0)
        if len(seen) == 8:
            # The root of zero has a finite value and an infinite slope.
            return value * math.inf if broken == "loss" else value + (logits.sum() * 0).abs().sqrt()
        return value

    t, progress = training(loss=loss), Progress()
    expected = training()
    events = list(fit(t, progress))
    assert isinstance(events[-1], Diverged)
    assert (events[-1].step, progress.epoch, progress.step) == (7, 1, 2)
    assert not (math.isfinite(events[-1].loss) and math.isfinite(events[-1].gradient_norm))
    healthy = fit(expected, Progress())
    for event in healthy:
        if isinstance(event, StepDone) and event.step == 6:
            break
    assert equal(weights(t), weights(expected))


@pytest.mark.parametrize("broken", ["image", "weight"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_image_or_weight_that_is_not_finite_stops_before_the_update(broken, value):
    """Guard 25: what was finite before stays, bit for bit."""
    t, progress, seen = training(), Progress(), []
    first = next(t.network.parameters())

    def spoil(module, given):
        seen.append(module.training)
        if seen.count(True) == 8 and module.training:
            if broken == "image":
                given[0].view(-1)[0] = value
            else:
                first.data.view(-1)[0] = value

    t.network.register_forward_pre_hook(spoil)
    events = list(fit(t, progress))
    assert isinstance(events[-1], Diverged)
    assert (events[-1].step, progress.epoch, progress.step) == (7, 1, 2)
    expected = training()
    next(event for event in fit(expected, Progress()) if isinstance(event, StepDone) and event.step == 6)
    now, wanted = weights(t), weights(expected)
    different = [name for name in now if not torch.equal(now[name], wanted[name])]
    assert len(different) == (0 if broken == "image" else 1)


def test_clipping_bounds_the_norm_of_the_update():
    """Guard 21: the norm is that of the true gradient, before clipping, and the update uses the clipped one."""
    t = training(clip_norm=0.01, evaluate={}, epochs=1)
    sgd = torch.optim.SGD(t.network.parameters(), lr=1.0)
    t = replace(t, optimizer=sgd, rate=lambda step, losses: 1.0)
    before = [p.detach().clone() for p in t.network.parameters()]
    event = next(iter(fit(t, Progress())))
    moved = torch.stack([(p - b).norm() for p, b in zip(t.network.parameters(), before, strict=True)]).norm().item()
    assert event.gradient_norm > 0.05
    assert moved == pytest.approx(0.01, rel=1e-4)


def test_penalties_are_in_the_loss_and_in_the_gradient():
    def push(parameters):
        return 0.5 * sum(p.square().sum() for p in parameters)

    base, pushed = training(evaluate={}, epochs=1), training(evaluate={}, epochs=1)
    pushed = replace(pushed, penalties=[push], decayed=list(pushed.network.parameters()))
    squares = sum(p.square().sum().item() for p in base.network.parameters())
    one, two = next(iter(fit(base, Progress()))), next(iter(fit(pushed, Progress())))
    assert two.loss - one.loss == pytest.approx(0.5 * squares, rel=1e-5)
    assert two.gradient_norm != one.gradient_norm


def test_accuracy_of_mixed_images_is_weighted_by_the_shares():
    """Guard 23."""
    logits = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]])
    shares = torch.tensor([[0.7, 0.3, 0], [0.4, 0.6, 0], [1.0, 0, 0]])
    assert metrics.correct(logits, shares).item() == pytest.approx(1.3)
    assert metrics.correct(logits, torch.tensor([0, 1, 0])).item() == 2


@pytest.mark.parametrize("size", [1, 7, 128, 10_000])
def test_evaluation_counts_every_image_once_whatever_the_batch(size):
    """Guards 19 and 20: the sums are over images, and evaluation changes no buffer."""
    made = network()
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(301, 3, 8, 8, generator=generator), torch.randint(0, 4, (301,), generator=generator)
    made(images[:50])  # running statistics that are not the initial ones
    before = {name: buffer.clone() for name, buffer in made.named_buffers()}
    scores = metrics.scores("test", logits_of(made, images.split(size), ON), labels)
    assert made.training
    assert equal(dict(made.named_buffers()), before)
    made.eval()
    with torch.no_grad():
        one_by_one = torch.cat([made(image[None]) for image in images])
    assert scores.n == 301
    assert scores.accuracy == (one_by_one.argmax(1) == labels).double().mean().item()
    assert scores.loss == pytest.approx(F.cross_entropy(one_by_one.double(), labels).item(), rel=1e-6)


def test_evaluation_restores_the_mode_also_after_an_error():
    made = network()
    with pytest.raises(RuntimeError):
        logits_of(made, [torch.zeros(1, 5, 8, 8)], ON)
    assert made.training
    assert torch.is_grad_enabled()


def test_selection_takes_the_first_of_equals_and_never_what_is_not_finite():
    """Guard 25."""

    def scores(loss, accuracy):
        return Scores("validation", loss, accuracy, 10)

    assert best_epoch([scores(1, 0.5), scores(0.9, 0.7), scores(0.8, 0.7)]) == 2
    assert best_epoch([scores(math.nan, 0.9), scores(1, 0.5)]) == 2
    assert best_epoch([scores(math.nan, 0.9)]) == 0
    assert best_epoch([]) == 0


def test_selection_refuses_test_scores():
    """Guard 16."""
    with pytest.raises(ValueError, match="validation scores only"):
        best_epoch([Scores("test", 1.0, 0.9, 10)])


def test_the_test_curve_selects_nothing():
    """Guard 16: a run that observes the test set ends with the same weights and selection as one that does not."""
    seen, unseen = training(), training()
    unseen = replace(unseen, evaluate={"validation": unseen.evaluate["validation"]})
    with_test, without = Progress(), Progress()
    one = [e for e in fit(seen, with_test) if isinstance(e, EpochDone)]
    two = [e for e in fit(unseen, without) if isinstance(e, EpochDone)]
    assert all(event.test is not None for event in one)
    assert [plain(replace(event, test=None)) for event in one] == [plain(event) for event in two]
    assert equal(weights(seen), weights(unseen))


def test_the_training_figures_of_an_epoch_are_means_over_its_images():
    t = training(evaluate={})
    events = list(fit(t, Progress()))
    for done in (event for event in events if isinstance(event, EpochDone)):
        steps = [event for event in events if isinstance(event, StepDone) and event.epoch == done.epoch]
        sizes = [BATCH] * (STEPS - 1) + [IMAGES - BATCH * (STEPS - 1)]
        mean = sum(event.loss * size for event, size in zip(steps, sizes, strict=True)) / IMAGES
        assert done.train.n == IMAGES
        assert done.train.loss == pytest.approx(mean, rel=1e-9)
        assert done.step == done.epoch * STEPS
        assert done.lr == steps[-1].lr


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_either_mode_as_it_was(training):
    from torch import nn

    from residuum.engine.evaluate import evaluating

    network = nn.BatchNorm2d(2).train(training)
    with evaluating(network):
        assert not network.training
    assert network.training is training

"""What only a card can show: graphs against single updates, equal bits, runs side by side. Run by `benchmarks/gpu.py`."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from residuum import optim
from residuum.conduct.launchers.lanes import Lane, own_place, side_by_side
from residuum.data.augment import AUGMENTATIONS
from residuum.data.mix import MIXES
from residuum.engine import loop, state, step
from residuum.engine.loop import fit
from residuum.engine.state import Progress
from residuum.models.activations import ACTIVATIONS
from residuum.records.event import Diverged, Launched, Note, StepDone

sys.path.insert(0, str(Path(__file__).parent))
from test_step import STEPS, TINY, bits, made, same, told

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card"),
    # The form of a run counts, not the card's age: bf16 where it has it, else half precision.
]


def on_card(**settings):
    return made(**{"compute__device": "cuda", "compute__precision": "auto"} | settings)


def eager(monkeypatch):
    monkeypatch.setattr(loop, "updates", lambda training: partial(step.eager, training))


OPTIMIZERS = [{"optim__optimizer": name, "optim__lr": 0.003} for name in optim.OPTIMIZERS]
FORMS = [
    {"data__augment": [*AUGMENTATIONS]},
    *({"data__mix": name} for name in MIXES),
    *({"model__activation": name} for name in ACTIVATIONS),
    {"optim__ema": 0.9, "optim__clip_norm": 0.1, "optim__penalties": [{"name": "l1", "weight": 1e-3}]},
    {"train__micro_batch": 4},
    {"model__shortcut": "projection", "model__block": "bottleneck", "model__depth": 11},
    {"model__ordering": "full_preactivation"},
    {
        "data__dataset": TINY["data.dataset"] | {"size": 20},
        "model": {"name": "imagenet_resnet", "depth": 18, "stem": "7x7"},
    },
    {"compute__precision": "fp32"},
    {"compute__precision": "fp16"},
    {"compute__deterministic": False},
    {"monitor__histograms": True, "monitor__noise": True},
]


@pytest.mark.parametrize("settings", OPTIMIZERS + FORMS, ids=str)
def test_a_captured_run_is_captured_and_follows_the_single_updates(settings, monkeypatch):
    graphs, single = on_card(**settings), on_card(**settings)
    if not step.has_captured_form(graphs.optimizer):
        pytest.skip("this torch has no form of it that a graph captures")
    seen = list(fit(graphs, Progress()))
    assert [event.text for event in seen if isinstance(event, Note)] == []
    assert [event.steps for event in seen if isinstance(event, Launched)] == [STEPS - 1, STEPS]
    eager(monkeypatch)
    one, two = ([e for e in events if isinstance(e, StepDone)] for events in (seen, fit(single, Progress())))
    assert [event.order for event in one] == [event.order for event in two]
    assert [event.loss for event in one[:4]] == pytest.approx([event.loss for event in two[:4]], rel=2e-2)


@pytest.mark.parametrize("settings", OPTIMIZERS + FORMS, ids=str)
def test_two_runs_end_with_the_same_bits(settings):
    if not settings.get("compute__deterministic", True):
        pytest.skip("kernels that are chosen by trying promise no bits")
    one, two = on_card(**settings), on_card(**settings)
    assert told(fit(one, Progress())) == told(fit(two, Progress()))
    assert same(bits(one), bits(two))


@pytest.mark.parametrize("stop", [1, 3, 6, 9])
def test_a_run_resumed_within_a_block_ends_with_the_same_bits(stop, monkeypatch):
    monkeypatch.setattr(step, "BLOCK", 4)
    whole = on_card(optim__ema=0.9)
    expected = told(fit(whole, Progress()))
    first, progress = on_card(optim__ema=0.9), Progress()
    events = fit(first, progress)
    seen = [next(events) for _ in range(stop)]
    while progress.untold:
        seen.append(next(events))
    files, values = state.capture(first, progress)
    second = on_card(optim__ema=0.9)
    assert told(seen + list(fit(second, state.restore(files, values, second)))) == expected
    assert same(bits(second), bits(whole))


def test_runs_side_by_side_end_with_the_bits_that_each_has_alone():
    forms = [
        {},
        {"train__seed": 1, "train__epochs": 1},  # ends before the others
        {"model__shortcut": "none"},
        {"optim__optimizer": "adam", "optim__lr": 0.003},
        {"optim__optimizer": "muon", "optim__lr": 0.02},  # the one whose updates are matrix products
        {"optim__optimizer": "muon", "optim__lr": 0.02, "train__seed": 1},
    ]
    alone = [on_card(**form) for form in forms]
    expected = [told(fit(training, Progress())) for training in alone]
    beside = [on_card(**form) for form in forms]
    lanes = {str(n): Lane(fit(training, Progress()), own_place("cuda")) for n, training in enumerate(beside)}
    seen = {name: [] for name in lanes}
    for name, event in side_by_side(lanes):
        assert not isinstance(event, Exception), event
        if event is not None:
            seen[name].append(event)
    assert [told(events) for events in seen.values()] == expected
    assert all(same(bits(one), bits(other)) for one, other in zip(alone, beside, strict=True))


def test_divergence_names_the_step_and_keeps_the_last_finite_state(monkeypatch):
    """At a rate of 10¹⁰ the weights are lost within a block; a twin that stops before has the same ones."""
    settings = {"optim__lr": 1e10, "optim__schedule": "constant", "model__ordering": "without_bn", "optim__ema": 0.9}
    graphs, single = on_card(**settings), on_card(**settings)
    seen = list(fit(graphs, Progress()))
    eager(monkeypatch)
    expected = list(fit(single, Progress()))
    assert isinstance(seen[-1], Diverged)
    assert isinstance(expected[-1], Diverged)
    assert seen[-1].step == expected[-1].step > 0
    assert all(bool(tensor.isfinite().all()) for tensor in bits(graphs).values())


def test_half_precision_leaves_updates_out_and_halves_its_scale(monkeypatch):
    """From a scale that is too large, so that the first update is among those left out."""
    graphs, single = on_card(compute__precision="fp16"), on_card(compute__precision="fp16")
    for training in (graphs, single):
        training.scale.factor.fill_(2.0**24)
    rows = [event for event in fit(graphs, Progress()) if isinstance(event, StepDone)]
    skipped = [row.step for row in rows if row.gradient_norm is None]
    assert 0 in skipped
    assert len(skipped) < len(rows)
    assert graphs.scale.factor == 2.0 ** (24 - len(skipped))
    eager(monkeypatch)
    twins = [event for event in fit(single, Progress()) if isinstance(event, StepDone)]
    assert [row.step for row in twins if row.gradient_norm is None] == skipped
    assert [row.loss for row in rows] == pytest.approx([row.loss for row in twins], rel=5e-2)


def test_fp32_is_not_tf32():
    """A product of TF32 numbers is off by 10⁻³, one of fp32 numbers by 10⁻⁶."""
    losses = {}
    for precision in ("fp32", "tf32") if torch.cuda.get_device_capability() >= (8, 0) else ("fp32",):
        rows = fit(on_card(compute__precision=precision, model__depth=20), Progress())
        losses[precision] = next(event.loss for event in rows if isinstance(event, StepDone))
    cpu = next(e.loss for e in fit(made(model__depth=20), Progress()) if isinstance(e, StepDone))
    assert losses["fp32"] == pytest.approx(cpu, rel=2e-5)


def test_a_compiled_network_is_captured_too():
    one, two = (on_card(compute__compile=True) for _ in range(2))
    seen = list(fit(one, Progress()))
    assert [event.steps for event in seen if isinstance(event, Launched)] == [STEPS - 1, STEPS]
    assert told(seen) == told(fit(two, Progress()))
    assert same(bits(one), bits(two))


def test_evaluation_on_the_card_counts_what_the_processor_counts():
    training = on_card(compute__precision="fp32")
    list(fit(training, Progress()))
    twin = made()
    twin.network.load_state_dict({name: tensor.cpu() for name, tensor in training.network.state_dict().items()})
    here, there = training.evaluate["validation"](), twin.evaluate["validation"]()
    assert (here.n, here.accuracy) == (there.n, there.accuracy)
    assert here.loss == pytest.approx(there.loss, rel=1e-4)


def test_memory_that_runs_out_in_a_capture_splits_the_batch():
    """At the second graph, when the first is captured: nothing of it may be left where the next ones go."""
    training = on_card()

    def hungry(parameters):
        record = step.graphs(parameters)

        def recorded(begin, work):
            size, micro_batch = work.args
            if size == 3 and not micro_batch:
                begin()
                work()
                torch.empty(2**46, device="cuda")
            return record(begin, work)

        return recorded

    updates, progress = step.Captured(training, hungry), Progress()
    table = loop.table_of(training, progress)
    list(updates.block(table, progress))
    before = bits(training)
    events = updates.block(table, replace(progress, step=1))
    assert isinstance(next(events), Note)
    assert same(bits(training), before)
    assert isinstance(next(events), Launched)

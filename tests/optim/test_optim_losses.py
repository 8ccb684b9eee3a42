"""Training losses and penalties against closed forms."""

import math

import pytest
import torch

from residuum.errors import InputError
from residuum.optim import LOSSES, PENALTIES


def by_hand(logits, targets, smoothing):
    """Mean cross-entropy in double precision, from the definition, image by image."""
    losses = []
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        classes = len(row)
        shares = [float(k == target) for k in range(classes)] if isinstance(target, int) else target
        top = max(row)
        log_sum = top + math.log(sum(math.exp(z - top) for z in row))
        smoothed = [(1 - smoothing) * share + smoothing / classes for share in shares]
        losses.append(sum(share * (log_sum - z) for share, z in zip(smoothed, row, strict=True)))
    return sum(losses) / len(losses)


def logits_and_targets(soft):
    generator = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(6, 4, generator=generator)
    labels = torch.tensor([0, 3, 1, 1, 2, 0])
    return logits, torch.rand(6, 4, generator=generator).softmax(1) if soft else labels


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_the_definition(name, soft, smoothing):
    """Guard 24, loss side: smoothing is off unless asked for."""
    logits, targets = logits_and_targets(soft)
    settings = {"label_smoothing": smoothing} if smoothing else {}
    loss = LOSSES.bind({"name": name, **settings})(logits, targets)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_hand(logits, targets, smoothing), rel=1e-5)


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_is_fp32_from_bfloat16_also_under_autocast(name, soft, autocast):
    logits, targets = logits_and_targets(soft)
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = LOSSES.bind(name)(half, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(by_hand(half.float(), targets, 0.0), rel=1e-6)


def test_labels_are_one_hot_shares():
    logits, labels = logits_and_targets(soft=False)
    shares = torch.nn.functional.one_hot(labels, 4).float()
    loss = LOSSES.bind({"name": "cross_entropy", "label_smoothing": 0.2})
    assert loss(logits, shares).item() == pytest.approx(loss(logits, labels).item(), rel=1e-6)


PENALTY_OF_ONE_NUMBER = {
    "l1": (abs, lambda w: math.copysign(1, w) if w else 0.0),
    "l2": (lambda w: w * w, lambda w: 2 * w),
}


def test_every_penalty_has_a_closed_form():
    assert set(PENALTY_OF_ONE_NUMBER) == set(PENALTIES)


@pytest.mark.parametrize("name", list(PENALTIES))
def test_penalty_and_gradient_equal_the_closed_form(name):
    value, slope = PENALTY_OF_ONE_NUMBER[name]
    numbers = [[1.5, -2.0, 0.0], [0.25]]
    parameters = [torch.tensor(row, requires_grad=True) for row in numbers]
    penalty = PENALTIES.bind({"name": name, "weight": 0.3})(parameters)
    penalty.backward()
    assert penalty.item() == pytest.approx(0.3 * sum(value(w) for row in numbers for w in row))
    for row, parameter in zip(numbers, parameters, strict=True):
        assert parameter.grad.tolist() == pytest.approx([0.3 * slope(w) for w in row])


def test_l2_is_weight_decay_of_twice_its_weight_under_sgd():
    start = torch.randn(5, generator=torch.Generator().manual_seed(0))
    penalised, decaying = start.clone().requires_grad_(), start.clone().requires_grad_()
    one = torch.optim.SGD([penalised], lr=0.1, momentum=0.9)
    two = torch.optim.SGD([decaying], lr=0.1, momentum=0.9, weight_decay=2 * 0.05)
    for _ in range(10):
        one.zero_grad()
        PENALTIES.bind({"name": "l2", "weight": 0.05})([penalised]).backward()
        one.step()
        decaying.grad = torch.zeros(5)
        two.step()
    assert torch.allclose(penalised, decaying, rtol=1e-5)
    assert not torch.allclose(penalised, start, rtol=1e-2)


@pytest.mark.parametrize("choice", ["l1", "l2", {"name": "l2", "weight": -1}, {"name": "l3", "weight": 1}])
def test_penalty_needs_a_weight_that_can_be(choice):
    with pytest.raises(InputError):
        PENALTIES.bind(choice)

"""The average of the weights against a slow twin, its state, and the network it is lent to."""

import copy

import pytest
import torch
from torch import nn

from residuum.optim import Average


def network(seed=0) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 16, 2))
    return net.to(memory_format=torch.channels_last)


def train_a_bit(net, optimizer, step):
    images = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(step))
    optimizer.zero_grad()
    (net(images) - 1).square().mean().backward()
    optimizer.step()


def states(steps):
    """The network, and its state after each of some updates, before the first included."""
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    seen = [copy.deepcopy(net.state_dict())]
    for step in range(steps):
        train_a_bit(net, optimizer, step)
        seen.append(copy.deepcopy(net.state_dict()))
    return seen


def holding(state) -> nn.Module:
    net = network()
    net.load_state_dict(state)
    return net


def snapshot(average):
    return {name: tensor.clone() for name, tensor in average.state_dict().items()}


def test_equals_the_recursion_in_double_precision():
    seen = states(40)
    average = Average(holding(seen[0]), decay=0.6)
    slow = {name: tensor.double() for name, tensor in seen[0].items()}
    decays = []
    for updates, state in enumerate(seen[1:], start=1):
        average.update(holding(state), average.move(updates))
        decays.append(min(0.6, updates / (9 + updates)))
        for name, tensor in state.items():
            slow[name] = decays[-1] * slow[name] + (1 - decays[-1]) * tensor.double()
    assert decays[0] == 0.1
    assert decays[-1] == 0.6
    for name, tensor in average.state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor.double(), slow[name], rtol=1e-5, atol=1e-6), name
            assert not torch.equal(tensor, seen[-1][name]), name


def test_counts_are_copied_and_running_statistics_averaged():
    seen = states(5)
    average = Average(holding(seen[0]), decay=0.9)
    average.update(holding(seen[5]), average.move(1))
    assert average.state_dict()["1.num_batches_tracked"] == 5
    expected = 0.1 * seen[0]["1.running_mean"] + 0.9 * seen[5]["1.running_mean"]
    assert torch.allclose(average.state_dict()["1.running_mean"], expected)


def test_tensors_resume_to_the_same_bits():
    """Guard 6: a resumed average equals one never stopped; how far it moves follows from the number of the update."""
    seen = states(12)
    whole = Average(holding(seen[0]), decay=0.99)
    stopped = Average(holding(seen[0]), decay=0.99)
    for update, state in enumerate(seen[1:6], start=1):
        whole.update(holding(state), whole.move(update))
        stopped.update(holding(state), stopped.move(update))
    saved = {name: t.clone().contiguous() for name, t in stopped.state_dict().items()}

    resumed = Average(holding(seen[3]), decay=0.99)
    resumed.load_state_dict(saved)
    forgetful = Average(holding(seen[3]), decay=0.99)
    forgetful.load_state_dict(saved)
    for update, state in enumerate(seen[6:], start=6):
        for average, number in ((whole, update), (resumed, update), (forgetful, update - 5)):
            average.update(holding(state), average.move(number))
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in resumed.state_dict().items())
    # What the number is for: an average that counts anew ends elsewhere.
    assert not torch.equal(forgetful.state_dict()["3.weight"], whole.state_dict()["3.weight"])


def test_a_share_that_lies_on_the_device_moves_the_average_to_the_same_bits():
    """As in a captured update; a share of 0, that of an update that is masked, changes nothing."""
    seen = states(2)
    host, device = (Average(holding(seen[0]), decay=0.9) for _ in range(2))
    host.update(holding(seen[2]), host.move(3))
    device.update(holding(seen[2]), torch.tensor(device.move(3)))
    assert all(torch.equal(tensor, host.state_dict()[name]) for name, tensor in device.state_dict().items())
    device.update(holding(seen[1]), torch.tensor(0.0))
    floats = {name: tensor for name, tensor in device.state_dict().items() if tensor.is_floating_point()}
    assert all(torch.equal(tensor, host.state_dict()[name]) for name, tensor in floats.items())


def test_saved_tensors_are_not_those_that_go_on():
    seen = states(1)
    average = Average(holding(seen[0]), decay=0.9)
    saved = snapshot(average)
    average.load_state_dict(saved)
    average.update(holding(seen[1]), 0.5)
    assert torch.equal(saved["3.weight"], seen[0]["3.weight"])


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape"])
def test_state_that_does_not_fit_is_refused_and_changes_nothing(fault):
    average = Average(network(), decay=0.9)
    before = snapshot(average)
    state = {name: torch.full_like(tensor, 7) for name, tensor in average.state_dict().items()}
    if fault == "missing":
        del state["3.bias"]
    elif fault == "unknown":
        state["4.bias"] = torch.zeros(1)
    else:
        state["3.bias"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"'\d\.bias' (is missing|is unknown|has shape \(1,\), not \(2,\))"):
        average.load_state_dict(state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in average.state_dict().items())


@pytest.mark.parametrize("fails", [False, True])
def test_network_gets_exactly_its_own_weights_back(fails):
    seen = states(3)
    net = holding(seen[3])
    average = Average(holding(seen[0]), decay=0.9)
    average.update(net, average.move(1))
    kept, addresses = snapshot(average), [p.data_ptr() for p in net.state_dict().values()]
    try:
        with average.applied_to(net):
            assert all(torch.equal(tensor, kept[name]) for name, tensor in net.state_dict().items())
            net(torch.randn(4, 3, 6, 6))  # in training mode: it moves running statistics, which must not stay
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert all(torch.equal(tensor, seen[3][name]) for name, tensor in net.state_dict().items())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in average.state_dict().items())
    assert [p.data_ptr() for p in net.state_dict().values()] == addresses
    assert all(parameter.requires_grad for parameter in net.parameters())

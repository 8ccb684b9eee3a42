"""The noise of the gradient: estimates against what they estimate, where that can be computed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from residuum.config import RunConfig
from residuum.engine.compute import Compute
from residuum.engine.noise import noise
from residuum.errors import InputError
from residuum.records.event import NoiseSeen
from residuum.training import check, train

ON = Compute(torch.device("cpu"), "fp32", 1)


def data(count, shift=0.0):
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.randint(0, 3, (count,), generator=generator)
    images_NCHW = torch.randn(count, 2, 4, 4, generator=generator) + shift * F.one_hot(labels_N, 3)[:, :2, None, None]
    return images_NCHW, labels_N


def network(norm=False):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 5), nn.BatchNorm1d(5) if norm else nn.Tanh(), nn.Linear(5, 3))


def exact(net, images_NCHW, labels_N):
    """Squared norm of the mean of all images' gradients, and the trace of their covariance."""
    rows = []
    for image_CHW, label in zip(images_NCHW, labels_N, strict=True):
        loss = F.cross_entropy(net(image_CHW[None]), label[None])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))]))
    gradients_NP = torch.stack(rows).double()
    return gradients_NP.mean(0).square().sum().item(), gradients_NP.var(0).sum().item()


def test_both_figures_are_unbiased():
    """Over many draws of 4 batches of 8, their means are the figures of the whole population."""
    images_NCHW, labels_N = data(4000, shift=0.4)
    net = network()
    norm, trace = exact(net, images_NCHW, labels_N)
    generator = torch.Generator().manual_seed(2)
    found = []
    for _ in range(400):
        chosen = torch.randint(0, 4000, (4, 8), generator=generator)
        found.append(noise(net, [(images_NCHW[row], labels_N[row]) for row in chosen], ON, 0))
    norms = torch.tensor([one.squared_norm for one in found])
    traces = torch.tensor([one.trace for one in found])
    for mean, values in ((norm, norms), (trace, traces)):
        assert abs(values.mean().item() - mean) < 4 * values.std().item() / 20  # four standard errors
    assert norms.std() / 20 < norm / 5  # or the test could not tell


def test_equal_images_have_no_noise():
    images_NCHW, labels_N = (values[:1].repeat_interleave(8, 0) for values in data(2))
    seen = noise(network(), [(images_NCHW, labels_N)] * 3, ON, 5)
    assert (seen.epoch, seen.images, seen.batch) == (5, 24, 8)
    assert seen.trace == pytest.approx(0, abs=1e-4 * seen.squared_norm)
    assert seen.squared_norm == pytest.approx(exact(network(), images_NCHW, labels_N)[0], rel=1e-5)


def test_the_network_is_left_as_it_was():
    net = network(norm=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    noise(net, [data(8), data(8)], ON, 0)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize(
    ("norm", "trace", "scale"), [(0.5, 8.0, 16.0), (-0.1, 8.0, None), (0.0, 8.0, None), (1.0, -2.0, None)]
)
def test_the_scale_is_a_ratio_where_there_is_one(norm, trace, scale):
    assert NoiseSeen(0, 64, 32, norm, trace).scale == scale


def test_a_run_records_it(tmp_path):
    config = RunConfig().changed({
        "data.dataset": {"name": "synthetic", "size": 12, "train": 120, "test": 20, "classes": 4}, "data.validation": 12,
        "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]}, "train.epochs": 2, "compute.threads": 1,
        "train.batch_size": 16, "monitor.noise": True,
    })  # fmt: skip
    seen = train(config, tmp_path).noise()
    assert [(one.epoch, one.images, one.batch) for one in seen] == [(epoch, 96, 32) for epoch in range(3)]
    assert all(one.trace > 0 for one in seen)
    (first, *_) = train(config.changed({"data.subset": 52, "train.epochs": 1}), tmp_path).noise()
    assert (first.images, first.batch) == (40, 20)
    with pytest.raises(InputError, match=r"monitor\.noise: 3 training images, where 4 are the fewest"):
        check(config.changed({"data.subset": 7, "data.validation": 4}))

"""Every method against what its paper says: by hand, by closed form, by finite differences, by a loop."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from residuum.attribution import METHODS
from residuum.attribution.integrated_gradients import unshared
from residuum.attribution.network import feature_maps, randomised
from residuum.attribution.occlusion import fitted
from residuum.errors import InputError
from residuum.models import build
from residuum.models.blocks import ORDERINGS
from residuum.registry import Choice

SHAPE = (3, 8, 12)
MODELS = {
    "two stages": {"blocks": [1, 2], "channels": [4, 6]},
    "one stage": {"blocks": [2], "channels": [5]},
    "pooled stem": {"blocks": [1, 1], "channels": [4, 6], "stem": "7x7", "strides": [1, 1]},
    "smooth": {"blocks": [1, 1], "channels": [4, 6], "activation": "gelu"},
    **{ordering: {"blocks": [1, 1], "channels": [4, 6], "ordering": ordering} for ordering in ORDERINGS},
}


def network(settings=MODELS["two stages"], shape=SHAPE, seed=0):
    """A small network whose batch norms do something."""
    made = build(Choice(name="staged_resnet", **settings), shape[0], 5, shape[1:], seed)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.copy_(1 + 0.3 * torch.randn(module.weight.shape, generator=generator))
                module.bias.copy_(0.3 * torch.randn(module.weight.shape, generator=generator))
                module.running_mean.copy_(0.3 * torch.randn(module.weight.shape, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.weight.shape, generator=generator))
    return made.eval()


def images(count=4, shape=SHAPE, seed=2):
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))


TARGETS = torch.tensor([0, 3, 4, 3])
BASELINE = torch.full(SHAPE, 0.25)


def attributed(method, made, pictures, targets=TARGETS, baseline=BASELINE):
    return METHODS.build(method, made, pictures, targets, baseline)


def features_by_hand(made, x):
    """The feature maps of one image, following the network's parts."""
    x = made.maxpool(made.act(made.bn1(made.conv1(x))))
    found = {"stem": x}
    for stage in made.stages:
        x = getattr(made, stage)(x)
        found[stage] = x
    found[made.stages[-1]] = made.last_act(made.bn(x))
    return found


def grad_cam_by_hand(made, image, target):
    """One image, channel by channel: Selvaraju et al. 2017, eq. 1 and 2."""
    maps = features_by_hand(made, image[None])
    logits = made.linear(maps[made.stages[-1]].mean(dim=(2, 3)))
    gradients = torch.autograd.grad(logits[0, target], list(maps.values()))
    found = {}
    for (name, feature), gradient in zip(maps.items(), gradients, strict=True):
        total = torch.zeros(feature.shape[2:])
        for channel in range(feature.shape[1]):
            total += gradient[0, channel].mean() * feature[0, channel].detach()
        found[name] = F.interpolate(total.clamp(min=0)[None, None], image.shape[1:], mode="bilinear")[0, 0]
    return found


@pytest.mark.parametrize("model", list(MODELS))
def test_grad_cam_is_what_the_paper_says_at_every_feature_map(model):
    made, pictures = network(MODELS[model]), images()
    found = attributed("grad-cam", made, pictures)
    assert list(found) == ["stem", *made.stages] == list(feature_maps(made, torch.zeros(1, 3, 16, 16)))
    some = 0
    for n, (picture, target) in enumerate(zip(pictures, TARGETS, strict=True)):
        for name, by_hand in grad_cam_by_hand(made, picture, target).items():
            torch.testing.assert_close(found[name][n], by_hand, rtol=1e-4, atol=1e-6)
            some += bool(by_hand.max() > 0)
    assert some >= 4


@pytest.mark.parametrize("model", ["two stages", "full_preactivation", "relu_only_preactivation", "smooth"])
def test_grad_cam_of_the_last_feature_map_is_cam(model):
    """Pooled and linear: the mean gradient of a channel is its weight over the number of places (Zhou et al. 2016)."""
    made, pictures = network(MODELS[model]), images()
    last = made.stages[-1]
    feature_NCHW = features_by_hand(made, pictures)[last].detach()
    cam_NHW = torch.einsum("nc,nchw->nhw", made.linear.weight[TARGETS].detach(), feature_NCHW)
    places = math.prod(feature_NCHW.shape[2:])
    expected = F.interpolate(cam_NHW.clamp(min=0)[:, None] / places, SHAPE[1:], mode="bilinear")[:, 0]
    found = attributed("grad-cam", made, pictures)[last]
    assert found.max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_saliency_is_the_largest_absolute_finite_difference_of_the_channels():
    made, pictures = network(MODELS["smooth"]).double(), images(2).double()
    targets = TARGETS[:2]
    found = attributed("saliency", made, pictures, targets, BASELINE.double())["input"]
    step = 1e-5
    for n, c, y, x in [(0, 0, 0, 0), (0, 1, 3, 5), (1, 2, 7, 11), (1, 0, 4, 6)]:
        slopes = []
        for channel in range(3):
            moved = pictures.repeat(2, 1, 1, 1)
            moved[n, channel, y, x] += step
            moved[2 + n, channel, y, x] -= step
            with torch.no_grad():
                logits = made(moved)
            slopes.append(abs((logits[n, targets[n]] - logits[2 + n, targets[n]]).item()) / (2 * step))
        assert found[n, y, x].item() == pytest.approx(max(slopes), rel=1e-5), (n, c, y, x)


def integrated_by_hand(made, picture, target, baseline, steps=400):
    """The midpoint rule, point by point."""
    total = torch.zeros_like(picture)
    for k in range(steps):
        point = (baseline + (k + 0.5) / steps * (picture - baseline)).requires_grad_()
        total += torch.autograd.grad(made(point[None])[0, target], point)[0] / steps
    return ((picture - baseline) * total).sum(dim=0)


def test_integrated_gradients_are_the_integral():
    made, pictures = network(MODELS["smooth"]), images()
    found = attributed("integrated-gradients", made, pictures)["input"]
    for n in range(2):
        by_hand = integrated_by_hand(made, pictures[n], TARGETS[n], BASELINE)
        torch.testing.assert_close(found[n], by_hand, rtol=2e-3, atol=2e-4)


def test_integrated_gradients_sum_to_the_difference_of_the_logits():
    made, pictures = network(MODELS["smooth"]), images()
    with torch.no_grad():
        difference = (made(pictures) - made(BASELINE[None]))[torch.arange(4), TARGETS]
    gaps = []
    for steps in (2, 50):
        maps = attributed({"name": "integrated-gradients", "steps": steps}, made, pictures)["input"]
        gap, expected = unshared(made, pictures, TARGETS, BASELINE, maps)
        torch.testing.assert_close(expected, difference)
        torch.testing.assert_close(gap, maps.sum(dim=(1, 2)) - difference)
        gaps.append(gap.abs().max().item())
    assert gaps[1] < 1e-3 * difference.abs().max().item()
    assert gaps[0] > 10 * gaps[1]
    kinked = network()
    maps = attributed("integrated-gradients", kinked, pictures)["input"]
    gap, difference = unshared(kinked, pictures, TARGETS, BASELINE, maps)
    assert (gap.abs() < 0.05 * difference.abs().max()).all()


def occlusion_by_loop(made, picture, target, baseline, window, stride):
    """Every square by itself, cut off at the edge; each pixel has the mean of the falls of those that cover it."""
    _, height, width = picture.shape
    total, covered = np.zeros((height, width)), np.zeros((height, width))
    full = made(picture[None])[0, target].item()
    for top in range(0, height - window + stride, stride):
        for left in range(0, width - window + stride, stride):
            hidden = picture.clone()
            hidden[:, top : top + window, left : left + window] = baseline[:, top : top + window, left : left + window]
            total[top : top + window, left : left + window] += full - made(hidden[None])[0, target].item()
            covered[top : top + window, left : left + window] += 1
    return total / covered


@pytest.mark.parametrize(("settings", "window", "stride"), [
    ({}, 2, 1), ({"window": 3}, 3, 1), ({"window": 4, "stride": 3}, 4, 3), ({"window": 3, "stride": 3}, 3, 3),
])  # fmt: skip
def test_occlusion_is_the_mean_fall_of_the_squares_that_cover_a_pixel(settings, window, stride):
    made, pictures = network(), images()
    found = attributed({"name": "occlusion", **settings}, made, pictures)["input"]
    with torch.no_grad():
        for n in (0, 3):
            expected = occlusion_by_loop(made, pictures[n], TARGETS[n], BASELINE, window, stride)
            np.testing.assert_allclose(found[n].numpy(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("asked", "sides", "expected"), [
    ((0, 0), (32, 32), (8, 4)), ((0, 0), (8, 8), (2, 1)), ((0, 0), (12, 40), (3, 1)), ((0, 0), (3, 3), (1, 1)),
    ((5, 0), (32, 32), (5, 2)), ((0, 8), (32, 32), (8, 8)),
])  # fmt: skip
def test_window_and_stride_fit_the_image_where_they_are_not_given(asked, sides, expected):
    assert fitted(*asked, *sides) == expected


def hooks(made):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in made.modules() for kind in kinds)


def with_gradients(made):
    for parameter in made.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    return made


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("method", list(METHODS))
def test_hooks_are_released_when_something_breaks(method):
    made = with_gradients(network())
    own = made.linear.register_forward_hook(lambda *_: (_ for _ in ()).throw(BrokenError))
    with pytest.raises(BrokenError):
        attributed(method, made, images())
    assert hooks(made) == 1
    own.remove()
    assert all(torch.equal(p.grad, torch.full_like(p, 0.5)) for p in made.parameters())
    found = attributed(method, made, images())
    assert all(torch.isfinite(maps).all() for maps in found.values())


def test_randomised_unlearns_from_the_end_to_the_start_and_touches_nothing_else():
    made = network(MODELS["full_preactivation"])
    before = copy.deepcopy(made.state_dict())
    fresh = build(Choice(name="staged_resnet", **MODELS["full_preactivation"]), 3, 5, SHAPE[1:], -1).state_dict()
    prefixes = {
        "linear": ("linear.",),
        "layer2": ("layer2.", "bn."),
        "layer1": ("layer1.",),
        "stem": ("conv1.", "bn1."),
    }
    expected, seen = before | {}, []
    for part, changed in randomised(made, -1):
        seen.append(part)
        expected |= {name: tensor for name, tensor in fresh.items() if name.startswith(prefixes[part])}
        assert not changed.training
        for name, tensor in changed.state_dict().items():
            assert torch.equal(tensor, expected[name]), (part, name)
    assert seen == list(prefixes)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    assert all(torch.equal(expected[name], tensor) for name, tensor in fresh.items())


@pytest.mark.parametrize(("method", "message"), [
    ({"name": "grad_cam"}, "unknown method 'grad_cam'; did you mean 'grad-cam'?"),
    ({"name": "grad-cam", "steps": 3}, "method.steps: method 'grad-cam' has no settings"),
    ({"name": "integrated-gradients", "steps": 1}, "method.steps: input should be greater than or equal to 2, not 1"),
    ({"name": "occlusion", "windw": 1}, "unknown setting 'method.windw'; did you mean 'method.window'?"),
    ({"name": "occlusion", "window": 9}, "method.window: a window of 9 pixels does not fit into 8×12"),
    ({"name": "occlusion", "window": 2, "stride": 3}, "method.stride: 3 is more than the window of 2: some pixels are"),
])  # fmt: skip
def test_a_mistake_in_a_method_is_one_line(method, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        attributed(method, network(), images())

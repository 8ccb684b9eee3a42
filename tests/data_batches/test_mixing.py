"""Mixing: images and targets take the same shares (guard 23)."""

import math

import numpy as np
import pytest
import torch

from residuum.data.mix import MIXES, mix_batch
from residuum.errors import InputError

CLASSES = 40


def whole_batch(height: int = 9, width: int = 13) -> tuple[torch.Tensor, torch.Tensor]:
    """One-valued images that say which they are, each of a class of its own."""
    labels = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(0))
    return (labels + 1.0)[:, None, None, None].expand(-1, 3, height, width).contiguous(), labels


def mixed(name: str, seed: int, alpha: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = whole_batch()
    return mix_batch(MIXES.build({"name": name, "alpha": alpha}), images, labels, CLASSES, np.random.default_rng(seed))


def test_none_leaves_images_and_labels_as_they_are():
    images, labels = whole_batch()
    out, targets = mix_batch(MIXES.build("none"), images, labels, CLASSES, np.random.default_rng(0))
    assert torch.equal(out, images)
    assert torch.equal(targets, labels)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("seed", range(12))
def test_each_target_is_the_share_of_its_class_in_the_pixels(name, seed):
    """Guard 23: images of one value each are a ruler: their mean is the shares' mean of those values."""
    out, shares = mixed(name, seed)
    values = torch.arange(1, CLASSES + 1).double()
    torch.testing.assert_close(out.double().mean(dim=(1, 2, 3)), shares.double() @ values, rtol=1e-5, atol=0)


def test_mixup_equals_its_twin_image_by_image():
    images, labels = whole_batch()
    out, shares = mixed("mixup", 5, alpha=0.4)
    generator = np.random.default_rng(5)
    weight, partner = generator.beta(0.4, 0.4), generator.permutation(CLASSES)
    for b in range(CLASSES):
        expected = weight * images[b].double() + (1 - weight) * images[partner[b]].double()
        torch.testing.assert_close(out[b].double(), expected, rtol=1e-6, atol=0)
        target = torch.zeros(CLASSES, dtype=torch.float64)
        target[labels[b]] += weight
        target[labels[partner[b]]] += 1 - weight
        torch.testing.assert_close(shares[b].double(), target)


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_equals_its_twin_pixel_by_pixel(seed):
    images, labels = whole_batch()
    images = images + torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
    out, shares = mix_batch(MIXES.build("cutmix"), images, labels, CLASSES, np.random.default_rng(seed))
    generator = np.random.default_rng(seed)
    weight, partner = generator.beta(1, 1), generator.permutation(CLASSES)
    (height, cy), (width, cx) = ((int(s * math.sqrt(1 - weight)), int(generator.integers(s))) for s in (9, 13))
    replaced = 0
    for y in range(9):
        for x in range(13):
            inside = 0 <= y - cy + height // 2 < height and 0 <= x - cx + width // 2 < width
            replaced += inside
            assert torch.equal(out[:, :, y, x], images[partner if inside else slice(None), :, y, x])
    assert shares[0, labels[0]].item() == pytest.approx(1 - replaced / 117 + (partner[0] == 0) * replaced / 117)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_an_image_may_be_its_own_partner(name):
    images, labels = torch.rand(1, 3, 8, 8), torch.tensor([2])
    out, shares = mix_batch(MIXES.build(name), images, labels, 4, np.random.default_rng(0))
    torch.testing.assert_close(out, images)
    torch.testing.assert_close(shares, torch.tensor([[0.0, 0.0, 1.0, 0.0]]))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_weights_follow_the_beta_distribution(alpha):
    """Beta(α, α) has mean 1/2 and variance 1 / (4 (2α + 1))."""
    weights = []
    images, labels = torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])
    images[1] = 1
    for seed in range(2000):
        out, _ = mix_batch(
            MIXES.build({"name": "mixup", "alpha": alpha}), images, labels, 2, np.random.default_rng(seed)
        )
        if not torch.equal(out, images):  # about half of the time the two are partners
            weights.append(out[1].item())
    weights = np.array(weights)
    assert 850 < len(weights) < 1150
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(weights.mean() - 0.5) < 4 * math.sqrt(variance / len(weights))
    assert abs(weights.var() / variance - 1) < 0.2


def test_alpha_must_be_positive():
    with pytest.raises(InputError, match=r"mixing\.alpha: input should be greater than or equal to 0.000001"):
        MIXES.bind({"name": "mixup", "alpha": 0})

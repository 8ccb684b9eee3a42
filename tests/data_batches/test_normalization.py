"""Normalisation: exact statistics of the images in use, plain values, the same bits in any batch."""

import json

import numpy as np
import pytest
import torch

from residuum.data.normalize import NORMALIZERS, Normalization, channel_statistics, mean_per_image
from residuum.errors import InputError

GENERATOR = np.random.default_rng(0)
# Three channels of different mean and spread, more images than one chunk of the statistics holds.
IMAGES = np.clip(GENERATOR.normal([[[90]], [[128]], [[200]]], [[[20]], [[60]], [[5]]], (1203, 3, 6, 5)), 0, 255).astype(
    np.uint8
)


def unit(images) -> torch.Tensor:
    return torch.from_numpy(images).float() / 255


def test_statistics_are_those_of_the_definition():
    mean, std = channel_statistics(IMAGES)
    np.testing.assert_allclose(mean, (IMAGES / 255).mean(axis=(0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std, (IMAGES / 255).std(axis=(0, 2, 3)), rtol=1e-12)


def test_standardized_training_images_have_mean_0_and_std_1_where_the_whole_data_set_differs():
    """Guard 18: the statistics are those of the images in use, and the std is that of pixels, not of image means."""
    in_use = IMAGES[::7] // 2
    normalized = NORMALIZERS.build("standardize", in_use, 0)(unit(in_use)).double()
    assert normalized.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    assert (normalized.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-3


def test_a_sample_is_drawn_from_the_images_by_seed():
    def estimate(seed, sample):
        return NORMALIZERS.build({"name": "standardize", "sample": sample}, IMAGES, seed)

    whole, third = estimate(0, 1.0), estimate(0, 0.3)
    assert estimate(1, 1.0) == whole
    assert estimate(0, 0.3) == third
    assert estimate(1, 0.3) not in (third, whole)
    np.testing.assert_allclose(third.mean, whole.mean, rtol=0.02)
    marked = np.zeros((100, 1, 1, 1), dtype=np.uint8)
    marked[::2] = 255
    means = {NORMALIZERS.build({"name": "standardize", "sample": 0.3}, marked, seed).mean[0] for seed in range(9)}
    assert all(abs(mean * 30 - round(mean * 30)) < 1e-9 for mean in means)  # 30 images, each once
    assert len(means) > 1


def test_given_constants_are_taken_as_they_are():
    choice = {"name": "standardize", "mean": [0.1, 0.2, 0.3], "std": [0.5, 1, 2]}
    assert NORMALIZERS.build(choice, IMAGES, 0) == Normalization("affine", (0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
    x = unit(IMAGES[:2])
    torch.testing.assert_close(NORMALIZERS.build(choice, IMAGES, 0)(x)[:, 2], (x[:, 2] - 0.3) / 2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"mean": [0.5, 0.5, 0.5]}, "data.normalize: mean and std are given together"),
        ({"std": [0.5, 0.5, 0.5]}, "data.normalize: mean and std are given together"),
        ({"mean": [0.5], "std": [0.5]}, "data.normalize.mean: 1 values for images of 3 channels"),
        ({"mean": [0.5] * 3, "std": [0.5]}, "data.normalize.std: 1 values for images of 3 channels"),
        ({"mean": [0.5] * 3, "std": [0.5] * 3, "sample": 0.3}, "data.normalize.sample: nothing is estimated"),
        (
            {"mean": [0.5] * 3, "std": [0.5, 0, 1]},
            "normalisation.std[1]: input should be greater than or equal to 0.000000000001",
        ),
        ({"sample": 0}, "normalisation.sample: input should be greater than 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, says):
    with pytest.raises(InputError) as caught:
        NORMALIZERS.build({"name": "standardize", **settings}, IMAGES, 0)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("name", "low", "middle", "high"), [("minmax", 0, 51 / 255, 1), ("signed", -1, -0.6, 1), ("none", 0, 51, 255)]
)
def test_fixed_ranges(name, low, middle, high):
    images = np.array([0, 51, 255, 7], dtype=np.uint8).reshape(1, 1, 2, 2)
    out = NORMALIZERS.build(name, images, 0)(unit(images)).flatten()
    torch.testing.assert_close(out[:3], torch.tensor([low, middle, high], dtype=torch.float32))


def test_none_gives_the_raw_values_exactly():
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(NORMALIZERS.build("none", images, 0)(unit(images)).flatten(), torch.arange(256.0))


def test_per_image_gives_each_image_mean_0_and_std_1_whatever_its_contrast():
    images = IMAGES[:8].copy()
    images[0] = 255 - images[0]
    images[1] = 77
    images[1, 0, 0, 0] = 78  # the least contrast there is
    out = NORMALIZERS.build("per_image", images, 0)(unit(images)).double()
    assert out.mean(dim=(1, 2, 3)).abs().max() < 2e-3
    torch.testing.assert_close(out.std(dim=(1, 2, 3), correction=0), torch.ones(8).double(), rtol=1e-2, atol=0)
    torch.testing.assert_close(out[2:].std(dim=(1, 2, 3), correction=0), torch.ones(6).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("name", [*NORMALIZERS])
def test_constant_images_stay_finite(name, value):
    images = np.full((4, 3, 5, 5), value, dtype=np.uint8)
    normalization = NORMALIZERS.build(name, images, 0)
    out = normalization(unit(images))
    assert out.isfinite().all()
    assert all(std > 0 for std in normalization.std)
    if name in ("standardize", "per_image"):
        assert out.abs().max() < 1e-6


@pytest.mark.parametrize("name", [*NORMALIZERS])
def test_contract_of_every_normalisation(name):
    """Guards 27 and 28: an image is the same in any batch and with any number of threads. Plain values are JSON."""
    normalization = NORMALIZERS.build(name, IMAGES, 0)
    images = unit(IMAGES[:130])
    before = images.clone()
    whole = normalization(images)
    assert whole.dtype == torch.float32
    assert whole.shape == images.shape
    assert torch.equal(images, before), "the images that were given are not changed"
    for some in (slice(0, 1), slice(5, 6), slice(3, 20), slice(129, 130)):
        assert torch.equal(normalization(images[some]), whole[some])
    try:
        torch.set_num_threads(2)
        assert torch.equal(normalization(images), whole)
    finally:
        torch.set_num_threads(1)
    stored = json.loads(json.dumps(normalization.plain()))
    assert stored == normalization.plain()
    assert Normalization.of(stored) == normalization


def test_the_mean_of_an_image_does_not_depend_on_how_it_is_added_up():
    """Guard 28: the order of a sum's terms changes the bits of floats; here it may not."""
    values = torch.randn(3, 3, 33, 31, generator=torch.Generator().manual_seed(0))
    permuted = values.flatten(1)[:, torch.randperm(3 * 33 * 31, generator=torch.Generator().manual_seed(1))]
    assert torch.equal(mean_per_image(permuted.view_as(values)), mean_per_image(values))
    torch.testing.assert_close(mean_per_image(values).flatten().double(), values.double().mean(dim=(1, 2, 3)))

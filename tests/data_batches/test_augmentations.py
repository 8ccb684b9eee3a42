"""Augmentations: each against a slow twin that works on one image with plain loops (guard 33)."""

import colorsys
import math

import numpy as np
import pytest
import torch

from residuum.data.augment import AUGMENTATIONS, augmentation, check_augmentations
from residuum.data.draw import Draw
from residuum.errors import InputError
from residuum.registry import Choice

SEED, EPOCH = 11, 4
INDICES = torch.tensor([5, 49_999, 0, 17, 3, 128, 77, 1000, 6, 2, 31, 8])


def some_images(channels: int = 3) -> torch.Tensor:
    """Images that are not square, with flat, grey, black and white parts among random ones."""
    images = torch.rand(len(INDICES), channels, 7, 10, generator=torch.Generator().manual_seed(channels))
    images[0] = 0.25
    images[1, :, 2:] = 1
    images[2, :, :, :4] = 0
    images[3] = images[3, :1]  # grey
    return images


# -- twins: one image [C, H, W] as float64, the numbers drawn for it ----------------------------------------------


def at(image, c, y, x):
    inside = 0 <= y < image.shape[1] and 0 <= x < image.shape[2]
    return image[c, y, x] if inside else 0.0


def mapped(image, value):
    """The image whose value at (c, y, x) is value(c, y, x)."""
    out = np.empty_like(image)
    for place in np.ndindex(image.shape):
        out[place] = value(*place)
    return out


def mirrored(i, side):
    return -i if i < 0 else 2 * (side - 1) - i if i >= side else i


def slow_pad_crop(image, draw, padding=4, mode="zeros"):
    top, left = (int(u) - padding for u in draw.integers(2, 2 * padding + 1)[0])
    if mode == "zeros":
        return mapped(image, lambda c, y, x: at(image, c, y + top, x + left))
    _, h, w = image.shape
    return mapped(image, lambda c, y, x: image[c, mirrored(y + top, h), mirrored(x + left, w)])


def slow_horizontal_flip(image, draw, p=0.5):
    width = image.shape[2]
    return mapped(image, lambda c, y, x: image[c, y, width - 1 - x]) if draw.uniform(1).item() < p else image


def slow_vertical_flip(image, draw, p=0.5):
    height = image.shape[1]
    return mapped(image, lambda c, y, x: image[c, height - 1 - y, x]) if draw.uniform(1).item() < p else image


def bilinear(image, c, y, x):
    y0, x0 = math.floor(y), math.floor(x)
    return sum(
        (1 - abs(y - yy)) * (1 - abs(x - xx)) * at(image, c, yy, xx) for yy in (y0, y0 + 1) for xx in (x0, x0 + 1)
    )


def slow_rotation(image, draw, degrees=15.0):
    angle = math.radians((2 * draw.uniform(1).item() - 1) * degrees)
    cy, cx = (image.shape[1] - 1) / 2, (image.shape[2] - 1) / 2

    def value(c, y, x):
        x, y = x - cx, y - cy
        return bilinear(
            image, c, cy + x * math.sin(angle) + y * math.cos(angle), cx + x * math.cos(angle) - y * math.sin(angle)
        )

    return mapped(image, value)


def slow_scaling(image, draw, factors=(0.8, 1.2)):
    factor = factors[0] + (factors[1] - factors[0]) * draw.uniform(1).item()
    cy, cx = (image.shape[1] - 1) / 2, (image.shape[2] - 1) / 2
    return mapped(image, lambda c, y, x: bilinear(image, c, cy + (y - cy) / factor, cx + (x - cx) / factor))


def drawn_factor(draw, strength):
    return 1 - strength + 2 * strength * draw.uniform(1).item()


def clamped(value):
    return min(max(value, 0.0), 1.0)


def grey_at(image, y, x):
    return 0.299 * image[0, y, x] + 0.587 * image[1, y, x] + 0.114 * image[2, y, x]


def slow_brightness(image, draw, strength=0.2):
    return mapped(image, lambda c, y, x: clamped(drawn_factor(draw, strength) * image[c, y, x]))


def slow_contrast(image, draw, strength=0.2):
    _, h, w = image.shape
    greys = [grey_at(image, y, x) if len(image) == 3 else image[0, y, x] for y in range(h) for x in range(w)]
    grey = sum(greys) / (h * w)
    factor = drawn_factor(draw, strength)
    return mapped(image, lambda c, y, x: clamped(grey + factor * (image[c, y, x] - grey)))


def slow_saturation(image, draw, strength=0.2):
    factor = drawn_factor(draw, strength)
    return mapped(image, lambda c, y, x: clamped(factor * image[c, y, x] + (1 - factor) * grey_at(image, y, x)))


def slow_hue(image, draw, strength=0.05):
    turn = (2 * draw.uniform(1).item() - 1) * strength
    out = np.empty_like(image)
    for y, x in np.ndindex(image.shape[1:]):
        h, s, v = colorsys.rgb_to_hsv(*image[:, y, x])
        out[:, y, x] = colorsys.hsv_to_rgb((h + turn) % 1, s, v)
    return out


def slow_gaussian_noise(image, draw, std=0.05):
    noise = draw.normal(*image.shape)[0].tolist()
    return mapped(image, lambda c, y, x: image[c, y, x] + std * noise[c][y][x])


def slow_cutout(image, draw, size=8, fill=0.5):
    _, h, w = image.shape
    cy, cx = draw.child("row").integers(1, h).item(), draw.child("column").integers(1, w).item()
    top, left = cy - size // 2, cx - size // 2
    return mapped(image, lambda c, y, x: fill if top <= y < top + size and left <= x < left + size else image[c, y, x])


CASES = [
    (slow_pad_crop, {}),
    (slow_pad_crop, {"padding": 2}),
    (slow_pad_crop, {"padding": 3, "mode": "reflect"}),
    (slow_horizontal_flip, {}),
    (slow_horizontal_flip, {"p": 0.4}),
    (slow_vertical_flip, {}),
    (slow_vertical_flip, {"p": 0.8}),
    (slow_rotation, {}),
    (slow_rotation, {"degrees": 180.0}),
    (slow_scaling, {}),
    (slow_scaling, {"factors": [0.5, 2.0]}),
    (slow_brightness, {}),
    (slow_brightness, {"strength": 1.0}),
    (slow_contrast, {}),
    (slow_contrast, {"strength": 1.0}),
    (slow_saturation, {}),
    (slow_saturation, {"strength": 1.0}),
    (slow_hue, {}),
    (slow_hue, {"strength": 0.5}),
    (slow_gaussian_noise, {}),
    (slow_gaussian_noise, {"std": 0.7}),
    (slow_cutout, {}),
    (slow_cutout, {"size": 3, "fill": 0.0}),
]


def name_of(twin) -> str:
    return twin.__name__.removeprefix("slow_")


def test_every_augmentation_has_a_twin():
    """Guard 33."""
    assert {name_of(twin) for twin, _ in CASES} == set(AUGMENTATIONS)


@pytest.mark.parametrize(
    ("twin", "settings", "channels"),
    [(*case, 3) for case in CASES] + [(*case, 1) for case in CASES if case[0] not in (slow_saturation, slow_hue)],
)
def test_batched_augmentation_equals_its_twin_image_by_image(twin, settings, channels):
    """Guard 33."""
    name = name_of(twin)
    images = some_images(channels)
    got = AUGMENTATIONS.bind({"name": name, **settings})(images, Draw.of(SEED, EPOCH, INDICES))
    for b, index in enumerate(INDICES.tolist()):
        expected = twin(images[b].double().numpy(), Draw.of(SEED, EPOCH, torch.tensor([index])), **settings)
        np.testing.assert_allclose(got[b].double().numpy(), expected, atol=3e-6, err_msg=f"image {index}")
    assert not torch.equal(got, images), "a test in which nothing is changed shows nothing"


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_colours_stay_in_range_and_no_strength_is_no_change(name):
    images = some_images()
    out = AUGMENTATIONS.bind({"name": name, "strength": 0.5})(images, Draw.of(0, 0, INDICES))
    assert out.min() >= -1e-6
    assert out.max() <= 1 + 1e-6
    unchanged = AUGMENTATIONS.bind({"name": name, "strength": 0.0})(images, Draw.of(0, 0, INDICES))
    torch.testing.assert_close(unchanged, images, atol=1e-6, rtol=0)


class Always:
    """A draw that gives the same number every time: for closed forms."""

    def __init__(self, value: float) -> None:
        self.value = value

    def uniform(self, slots: int) -> torch.Tensor:
        return torch.full((1, slots), self.value)


def test_quarter_and_half_turns_are_exact_rotations():
    square = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    turn = AUGMENTATIONS.bind({"name": "rotation", "degrees": 180.0})
    for value, quarters in ((0.5, 0), (0.75, 1), (0.0, 2), (0.25, 3)):
        expected = torch.rot90(square, quarters, dims=(2, 3))
        torch.testing.assert_close(turn(square, Always(value)), expected, atol=1e-5, rtol=0)


def test_scaling_by_two_repeats_the_centre_and_by_one_half_shrinks_it():
    block = torch.zeros(1, 1, 8, 8)
    block[:, :, 2:6, 2:6] = 1
    twice = AUGMENTATIONS.bind({"name": "scaling", "factors": [2, 2]})(block, Always(0.3))
    assert torch.equal(twice[:, :, 1:7, 1:7], torch.ones(1, 1, 6, 6))
    half = AUGMENTATIONS.bind({"name": "scaling", "factors": [0.5, 0.5]})(torch.ones(1, 1, 8, 8), Always(0.3))
    assert torch.equal(half[:, :, 2:6, 2:6], torch.ones(1, 1, 4, 4))
    assert half[:, :, 0].max() == 0


def test_a_third_of_the_circle_exchanges_the_colours():
    images = some_images()
    turned = AUGMENTATIONS.bind({"name": "hue", "strength": 0.5})(images, Always(5 / 6))
    torch.testing.assert_close(turned, images.roll(1, dims=1), atol=2e-6, rtol=0)


def test_probabilities_at_their_ends():
    images = some_images()
    for name, dim in (("horizontal_flip", 3), ("vertical_flip", 2)):
        never, always = (AUGMENTATIONS.bind({"name": name, "p": p})(images, Draw.of(0, 0, INDICES)) for p in (0.0, 1.0))
        assert torch.equal(never, images)
        assert torch.equal(always, images.flip(dim))


def test_every_crop_is_equally_likely():
    """Guard 33: all 81 places of the crop occur, each about equally often."""
    mark = torch.zeros(1, 1, 9, 9)
    mark[:, :, 4, 4] = 1
    crops = AUGMENTATIONS.bind("pad_crop")(mark.expand(16_200, -1, -1, -1), Draw.of(0, 0, torch.arange(16_200)))
    counts = crops.sum(dim=(0, 1)).flatten()
    assert counts.sum() == 16_200
    assert ((counts - 200).abs() < 4.5 * math.sqrt(200)).all()


def test_noise_keeps_the_mean_also_of_black_images():
    black, draw = torch.zeros(64, 3, 16, 16), Draw.of(0, 0, torch.arange(64))
    out = AUGMENTATIONS.bind({"name": "gaussian_noise", "std": 0.25})(black, draw)
    assert abs(out.mean().item()) < 4 * 0.25 / math.sqrt(out.numel())
    assert abs(out.std().item() / 0.25 - 1) < 4 / math.sqrt(2 * out.numel())


def test_listed_order_is_the_order_of_work():
    images, draw = some_images(), Draw.of(0, 0, INDICES)
    crop, noise = Choice(name="pad_crop"), Choice(name="gaussian_noise")
    noise_last, noise_first = augmentation([crop, noise])(images, draw), augmentation([noise, crop])(images, draw)
    bound = {choice.name: AUGMENTATIONS.bind(choice) for choice in (crop, noise)}
    cropped = bound["pad_crop"](images, draw.child("pad_crop", 0))
    assert torch.equal(noise_last, bound["gaussian_noise"](cropped, draw.child("gaussian_noise", 0)))
    assert not torch.equal(noise_last, noise_first)


def test_an_augmentation_draws_the_same_whatever_stands_beside_it():
    """Two arms of a study that differ in one augmentation crop and flip each image alike."""
    images, draw = some_images(), Draw.of(0, 0, INDICES)
    flip, identity = Choice(name="horizontal_flip"), Choice(name="gaussian_noise", std=0.0)
    assert torch.equal(augmentation([flip])(images, draw), augmentation([identity, flip])(images, draw))


def test_the_same_augmentation_listed_twice_draws_twice():
    images, draw = torch.ones(200, 1, 2, 2), Draw.of(0, 0, torch.arange(200))
    darker = Choice(name="brightness", strength=0.5)
    once, twice = (augmentation([darker] * count)(images * 0.2, draw)[:, 0, 0, 0] / 0.2 for count in (1, 2))
    assert abs(torch.corrcoef(torch.stack([once, twice / once]))[0, 1].item()) < 4 / math.sqrt(200)


@pytest.mark.parametrize(
    ("choice", "shape", "says"),
    [
        ("hue", (1, 28, 28), "data.augment[1]: hue needs 3 colour channels, the images have 1"),
        ("saturation", (1, 28, 28), "data.augment[1]: saturation needs 3 colour channels, the images have 1"),
        ("pad_crop", (1, 4, 8), "data.augment[1].padding: 4 is too much for images of 4×8 pixels"),
        ({"name": "pad_crop", "padding": 8, "mode": "reflect"}, (3, 8, 8), "data.augment[1].padding: 8 is too much"),
        ("cutout", (1, 8, 8), "data.augment[1].size: 8 is too much for images of 8×8 pixels"),
        ({"name": "scaling", "factors": [1.2, 0.8]}, (3, 8, 8), "data.augment[1].factors: the first, 1.2, is larger"),
        (
            {"name": "scaling", "factors": [0, 1]},
            (3, 8, 8),
            "data.augment[1].factors[0]: input should be greater than or equal to 0.01",
        ),
        ("cutuot", (3, 32, 32), "data.augment[1]: unknown augmentation 'cutuot'; did you mean 'cutout'?"),
        ({"name": "rotation", "degres": 3}, (3, 32, 32), "unknown setting 'data.augment[1].degres'; did you mean"),
    ],
)
def test_bad_combinations_are_refused_before_training(choice, shape, says):
    with pytest.raises(InputError) as caught:
        check_augmentations([Choice(name="horizontal_flip"), Choice.of(choice)], *shape)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("choice", [*AUGMENTATIONS, {"name": "pad_crop", "padding": 31, "mode": "reflect"}])
def test_what_the_check_lets_through_runs(choice):
    check_augmentations([Choice.of(choice)], 3, 32, 32)
    out = AUGMENTATIONS.bind(choice)(torch.rand(4, 3, 32, 32), Draw.of(0, 0, torch.arange(4)))
    assert out.isfinite().all()

"""Augmentations of whole batches, on the device of the images; each image's is a function of (seed, epoch, index).

All take float32 images in [0, 1] before normalisation, so what is moved in from outside is black. They are applied in
the order they are listed. The colour changes clamp to [0, 1], as a camera and an 8-bit file would; noise does not,
since clamping would shift the mean of dark and bright areas. Each is its own resampling: rotation followed by scaling
interpolates twice.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from residuum.data.draw import Draw, Purpose
from residuum.data.normalize import mean_per_image
from residuum.errors import InputError
from residuum.own import Fit
from residuum.registry import Choice, Table

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(ge=0.01, le=100)]
Shape = tuple[int, int, int]


def pad_crop(
    images_BCHW: Tensor,
    draw: Draw,
    *,
    padding: Annotated[int, Field(ge=1, le=1024)] = 4,
    mode: Literal["zeros", "reflect"] = "zeros",
) -> Tensor:
    """Images padded on each side and cropped back at a random place (He et al. 2015, section 4.2)."""
    height, width = images_BCHW.shape[2:]
    padded = F.pad(images_BCHW, (padding,) * 4, mode="constant" if mode == "zeros" else mode)
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: [B, C, top, left, H, W]
    top_B, left_B = draw.integers(2, 2 * padding + 1).unbind(1)
    return crops[torch.arange(len(crops), device=crops.device), :, top_B, left_B]


def horizontal_flip(images_BCHW: Tensor, draw: Draw, *, p: Share = 0.5) -> Tensor:
    """Images mirrored left to right with probability p."""
    return torch.where(_per_image(draw) < p, images_BCHW.flip(3), images_BCHW)


def vertical_flip(images_BCHW: Tensor, draw: Draw, *, p: Share = 0.5) -> Tensor:
    """Images mirrored upside down with probability p."""
    return torch.where(_per_image(draw) < p, images_BCHW.flip(2), images_BCHW)


def rotation(images_BCHW: Tensor, draw: Draw, *, degrees: Annotated[float, Field(ge=0, le=180)] = 15.0) -> Tensor:
    """Images turned about their centre by up to `degrees` either way, uniformly; bilinear, black outside."""
    angle_B = draw.uniform(1)[:, 0].mul_(2).sub_(1).mul_(math.radians(degrees))
    cos_B, sin_B = angle_B.cos(), angle_B.sin()
    return _resampled(images_BCHW, torch.stack([cos_B, -sin_B, sin_B, cos_B], dim=1))


def scaling(images_BCHW: Tensor, draw: Draw, *, factors: tuple[Positive, Positive] = (0.8, 1.2)) -> Tensor:
    """Images enlarged about their centre by a factor between the two, uniformly; same size, bilinear, black outside."""
    low, high = factors
    step_B = draw.uniform(1)[:, 0].mul_(high - low).add_(low).reciprocal_()
    zero_B = torch.zeros_like(step_B)
    return _resampled(images_BCHW, torch.stack([step_B, zero_B, zero_B, step_B], dim=1))


def brightness(images_BCHW: Tensor, draw: Draw, *, strength: Share = 0.2) -> Tensor:
    """Images times a factor drawn from 1 ± strength."""
    return (images_BCHW * _factor(draw, strength)).clamp_(0, 1)


def contrast(images_BCHW: Tensor, draw: Draw, *, strength: Share = 0.2) -> Tensor:
    """Images with their differences from the mean grey times a factor drawn from 1 ± strength."""
    grey_B111 = mean_per_image(_luma(images_BCHW) if images_BCHW.shape[1] == 3 else images_BCHW)
    return _away_from(grey_B111, images_BCHW, _factor(draw, strength))


def saturation(images_BCHW: Tensor, draw: Draw, *, strength: Share = 0.2) -> Tensor:
    """Images with the difference of each pixel from its grey times a factor drawn from 1 ± strength; RGB only."""
    return _away_from(_luma(images_BCHW), images_BCHW, _factor(draw, strength))


def hue(images_BCHW: Tensor, draw: Draw, *, strength: Annotated[float, Field(ge=0, le=0.5)] = 0.05) -> Tensor:
    """Images whose hue is turned by up to `strength` (a share of the whole circle) either way, uniformly; RGB only.

    The hue of HSV; largest and smallest of the three values of a pixel are kept, so nothing needs clamping.
    """
    red, green, blue = images_BCHW.chunk(3, dim=1)
    largest, smallest = images_BCHW.amax(dim=1, keepdim=True), images_BCHW.amin(dim=1, keepdim=True)
    chroma = largest - smallest
    divisor = chroma.clamp(min=torch.finfo(chroma.dtype).tiny)  # grey pixels have hue 0, not 0 / 0
    sixths = torch.where(
        largest == red,
        (green - blue) / divisor,
        torch.where(largest == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    sixths += _per_image(draw).mul_(2).sub_(1).mul_(6 * strength)
    # Of the value at each hue, a channel lacks a trapezium that is 0 for a third of the circle around its own colour.
    shift_3 = torch.arange(5, 0, -2, device=sixths.device)
    place_B3HW = (sixths + shift_3[:, None, None]).remainder_(6)
    return largest - chroma * torch.minimum(place_B3HW, 4 - place_B3HW).clamp_(0, 1)


def gaussian_noise(images_BCHW: Tensor, draw: Draw, *, std: Annotated[float, Field(ge=0, le=1000)] = 0.05) -> Tensor:
    """Images with normal noise on every value, its standard deviation in units of pixels in [0, 1]; not clamped.

    Noise of variance 1 on standardised images is noise whose std is that of the pixels: 0.25 for CIFAR-10, where the
    three channels have 0.247, 0.243 and 0.262.
    """
    return images_BCHW + draw.normal(*images_BCHW.shape[1:]).mul_(std)


def cutout(
    images_BCHW: Tensor, draw: Draw, *, size: Annotated[int, Field(ge=1, le=1024)] = 8, fill: Share = 0.5
) -> Tensor:
    """Images with a square of `size` pixels at a random place set to grey (DeVries and Taylor 2017, section 3).

    The square's centre is any pixel, so it may reach over the border. The paper sets it to 0 after normalisation, which
    is the mean pixel; a `fill` of 0.5 is near that for photographs.
    """
    sides = images_BCHW.shape[2:]
    rows, columns = (
        _interval(draw.child(name).integers(1, side) - size // 2, size, side)
        for name, side in zip(("row", "column"), sides, strict=True)
    )
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], fill, images_BCHW)


@dataclass(frozen=True)
class Augmentation:
    """A row of the table of augmentations: the function, and what it needs of the images.

    `problem(settings, shape)` is what keeps it from images of that shape (channels, height, width), as the end of a
    line that begins with its place in the configuration; empty if nothing does. `pixels` names a setting in pixels, and
    the share of a side of 32 pixels that its default is: on other images the gallery takes the same share.
    """

    apply: Callable[..., Tensor]
    problem: Callable[[Mapping[str, Any], Shape], str] = lambda _settings, _shape: ""
    pixels: tuple[str, int] | None = None


def _needs_colour(name: str) -> Callable[[Mapping[str, Any], Shape], str]:
    return lambda _settings, shape: (
        "" if shape[0] == 3 else f": {name} needs 3 colour channels, the images have {shape[0]}"
    )


def _within_the_image(setting: str) -> Callable[[Mapping[str, Any], Shape], str]:
    def problem(settings: Mapping[str, Any], shape: Shape) -> str:
        _, height, width = shape
        if settings[setting] < min(height, width):
            return ""
        return f".{setting}: {settings[setting]} is too much for images of {height}×{width} pixels"

    return problem


def _in_order(settings: Mapping[str, Any], _shape: Shape) -> str:
    low, high = settings["factors"]
    return f".factors: the first, {low}, is larger than the second, {high}" if low > high else ""


ROWS: Mapping[str, Augmentation] = {
    "pad_crop": Augmentation(pad_crop, _within_the_image("padding"), pixels=("padding", 8)),
    "horizontal_flip": Augmentation(horizontal_flip),
    "vertical_flip": Augmentation(vertical_flip),
    "rotation": Augmentation(rotation),
    "scaling": Augmentation(scaling, _in_order),
    "brightness": Augmentation(brightness),
    "contrast": Augmentation(contrast),
    "saturation": Augmentation(saturation, _needs_colour("saturation")),
    "hue": Augmentation(hue, _needs_colour("hue")),
    "gaussian_noise": Augmentation(gaussian_noise),
    "cutout": Augmentation(cutout, _within_the_image("size"), pixels=("size", 4)),
}
"""What is known of each augmentation, by its name."""

AUGMENTATIONS: Table[Tensor] = Table(
    "augmentation", {name: row.apply for name, row in ROWS.items()}, Fit(("images_BCHW", "draw"), object="called")
)
"""Augmentations: `(images_BCHW float32 in [0, 1], draw) -> images_BCHW`."""


def augmentation(choices: Sequence[Choice]) -> Callable[[Tensor, Draw], Tensor]:
    """The chosen augmentations one after the other, as one function of images and draw.

    Each draws under its own name (and a number, where it is listed again), not its position: with and without cutout
    in the list, an image is cropped and flipped alike.
    """
    listed: Counter[str] = Counter()
    steps = []
    for choice in choices:
        steps.append((choice.name, listed[choice.name], AUGMENTATIONS.bind(choice)))
        listed[choice.name] += 1

    def augment(images_BCHW: Tensor, draw: Draw) -> Tensor:
        for name, number, function in steps:
            images_BCHW = function(images_BCHW, draw.child(name, number))
        return images_BCHW

    return augment


def purposes(choices: Sequence[Choice], shape: Shape) -> tuple[Purpose, ...]:
    """What the chosen augmentations draw numbers for, in the order in which they first do.

    Found by asking: images of that shape (channels, height, width) are augmented once. An augmentation whose draws
    depend on the pixels cannot be asked so; none does.
    """
    asked: dict[Purpose, None] = {}

    def note(purpose: Purpose) -> int:
        asked[purpose] = None
        return 0

    augmentation(choices)(torch.zeros(2, *shape), Draw(note, torch.arange(2)))
    return tuple(asked)


def check_augmentations(choices: Sequence[Choice], channels: int, height: int, width: int) -> None:
    """Refuse augmentations that cannot work on images of this shape.

    Raises:
        InputError: unknown name or setting, colour changes of grey images, or something larger than the images.
    """
    for number, choice in enumerate(choices):
        place = f"data.augment[{number}]"
        settings = AUGMENTATIONS.resolve(choice, place).settings
        if choice.name in ROWS and (problem := ROWS[choice.name].problem(settings, (channels, height, width))):
            raise InputError(f"{place}{problem}")
    _check_own(choices, (channels, height, width))


def _check_own(choices: Sequence[Choice], shape: Shape) -> None:
    """Refuse own code that does not keep what the images are."""
    for number, choice in enumerate(choices):
        if not choice.code:
            continue
        images_BCHW = torch.full((2, *shape), 0.5)
        made = augmentation([choice])(images_BCHW.clone(), Draw.of(0, 0, torch.arange(2)))
        if not isinstance(made, Tensor) or made.shape != images_BCHW.shape or made.dtype != images_BCHW.dtype:
            what = f"{made.dtype} {list(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
            raise InputError(
                f"data.augment[{number}]: {choice.name} makes {what} of float32 {list(images_BCHW.shape)}; it has to "
                "keep type and shape"
            )


def _per_image(draw: Draw) -> Tensor:
    """One number in [0, 1) for each image: [B, 1, 1, 1]."""
    return draw.uniform(1)[:, :, None, None]


def _factor(draw: Draw, strength: float) -> Tensor:
    """One factor from 1 - strength to 1 + strength for each image: [B, 1, 1, 1]."""
    return _per_image(draw).mul_(2).sub_(1).mul_(strength).add_(1)


def _luma(images_B3HW: Tensor) -> Tensor:
    """The grey of each RGB pixel by the weights of ITU-R BT.601: [B, 1, H, W]."""
    red, green, blue = images_B3HW.chunk(3, dim=1)
    return red * 0.299 + green * 0.587 + blue * 0.114


def _away_from(grey: Tensor, images_BCHW: Tensor, factor_B111: Tensor) -> Tensor:
    """Images with their differences from a grey times a factor, in [0, 1]."""
    return (images_BCHW - grey).mul_(factor_B111).add_(grey).clamp_(0, 1)


def _interval(start_B1: Tensor, length: int, side: int) -> Tensor:
    """Which of `side` pixels lie in the `length` from each start on: [B, side], bool."""
    distance_BS = torch.arange(side, device=start_B1.device) - start_B1
    return (distance_BS >= 0) & (distance_BS < length)


def _resampled(images_BCHW: Tensor, matrix_B4: Tensor) -> Tensor:
    """Images whose pixel at (x, y) from the centre is read at (a·x + b·y, c·x + d·y): bilinear, black outside."""
    height, width = images_BCHW.shape[2:]
    x_W = torch.arange(width, device=images_BCHW.device) - (width - 1) / 2
    y_H1 = (torch.arange(height, device=images_BCHW.device) - (height - 1) / 2)[:, None]
    # Written out, since a matrix product may round differently in another batch. grid_sample's unit is half a side.
    a, b, c, d = matrix_B4[:, :, None, None].unbind(1)
    grid_BHW2 = torch.stack([(a * x_W + b * y_H1) * (2 / width), (c * x_W + d * y_H1) * (2 / height)], dim=3)
    return F.grid_sample(images_BCHW, grid_BHW2, mode="bilinear", padding_mode="zeros", align_corners=False)

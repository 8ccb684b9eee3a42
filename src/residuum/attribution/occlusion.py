"""Occlusion: how much of a logit is lost when a part of the image is covered."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from residuum.attribution.method import Method
from residuum.errors import InputError

AT_ONCE = 500
"""Images in a forward pass: several places of the window for few images."""


def occlusion(
    network: nn.Module,
    images_NCHW: Tensor,
    targets_N: Tensor,
    baseline_CHW: Tensor,
    *,
    window: Annotated[int, Field(ge=0)] = 0,
    stride: Annotated[int, Field(ge=0)] = 0,
) -> dict[str, Tensor]:
    """The fall of the logit when a square is covered by the baseline, averaged over the squares that cover a pixel.

    `window` and `stride` are pixels; 0 stands for a quarter of the image's shorter side (8 of 32, 2 of 8) and for half
    the window. Squares that reach over the edge are cut off there.
    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2.

    Raises:
        InputError: the window is larger than the image, or the stride, which would leave pixels out, than the window.
    """
    from captum.attr import Occlusion

    images, channels, height, width = images_NCHW.shape
    window, stride = fitted(window, stride, height, width)
    falls_NCHW = Occlusion(network).attribute(
        images_NCHW,
        sliding_window_shapes=(channels, window, window),
        strides=(channels, stride, stride),
        baselines=baseline_CHW[None],
        target=targets_N,
        perturbations_per_eval=max(1, AT_ONCE // images),
    )
    return {"input": falls_NCHW[:, 0].detach()}  # a square covers all channels, so they have the same value


def fitted(window: int, stride: int, height: int, width: int) -> tuple[int, int]:
    """Window and stride in pixels for images of a size, what stands for 0 written out.

    Raises:
        InputError: as `occlusion`.
    """
    window = window or max(1, min(height, width) // 4)
    stride = stride or max(1, window // 2)
    if window > min(height, width):
        raise InputError(f"method.window: a window of {window} pixels does not fit into {height}×{width}")
    if stride > window:
        raise InputError(f"method.stride: {stride} is more than the window of {window}: some pixels are never covered")
    return window, stride


def _fitted(settings: Mapping[str, Any], shape: tuple[int, int, int]) -> dict[str, int]:
    window, stride = fitted(settings["window"], settings["stride"], *shape[1:])
    return {"window": window, "stride": stride}


METHOD = Method("occlusion", occlusion, "Occlusion", signed=True, fitted=_fitted)

"""The 3×3 convolution of few channels as operators of torch, and the choice of where a network uses them.

An operator is one opaque call to `torch.compile`, which fuses batch norm, ReLU and additions among themselves around
it. The kernels are plain convolutions: with batch norm in their loads, which happen once for each of nine taps, they
were measured to be twice as slow.
"""

# The functions around an operator take all of its arguments, by torch's contract.
# ruff: noqa: ARG001

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

from residuum.errors import InputError

CHANNELS = (16, 32, 64)
STRIDES = (1, 2)
INDEXED = 2**31  # elements that a kernel's 32-bit offsets reach

# (C_in, C_out, stride) -> microseconds of Triton's kernel and of cuDNN's: forward, input gradient, weight gradient.
# Measured on one H200 (torch 2.11, CUDA 13.0) in bf16 and channels last, 128 images as ResNet-20 has them, 50 calls in
# a CUDA graph, cuDNN in benchmark mode. A weight gradient's partial sums are added by one more kernel, not in here.
MICROSECONDS = {
    (16, 16, 1): ((8.9, 20.0), (9.9, 19.1), (9.4, 35.0)),
    (16, 32, 2): ((3.9, 6.8), (7.4, 14.4), (5.2, 20.7)),
    (32, 32, 1): ((5.6, 6.7), (7.1, 7.2), (7.7, 20.1)),
    (32, 64, 2): ((2.8, 4.9), (5.0, 10.8), (4.3, 18.3)),
    (64, 64, 1): ((3.8, 7.2), (3.8, 5.9), (5.3, 17.3)),
}


class Chosen(NamedTuple):
    """Which of a convolution's three computations Triton's kernels do; cuDNN does the others."""

    forward: bool
    input_gradient: bool
    weight_gradient: bool


def chosen(
    kernels: str, c_in: int, c_out: int, stride: int, capability: tuple[int, int] | None, precision: str
) -> Chosen:
    """What Triton computes of a 3×3 convolution, by the setting `compute.kernels`.

    `cudnn`: nothing; `auto`: what was measured to be faster so; `triton`: everything that the kernels can. `capability`
    is that of the NVIDIA card, None on another device; `precision` is as in `residuum.engine.compute`.

    Raises:
        InputError: `triton` where it cannot run; `auto` means `cudnn` there.
    """
    if kernels == "cudnn":
        return Chosen(False, False, False)
    lacking = _lacking(capability, precision)
    if lacking and kernels == "triton":
        raise InputError(f"compute.kernels: triton needs {lacking}")
    if lacking:
        return Chosen(False, False, False)
    if kernels == "triton":
        return Chosen(*[c_in in CHANNELS and c_out in CHANNELS and stride in STRIDES] * 3)
    measured = MICROSECONDS.get((c_in, c_out, stride), ((0, 0),) * 3)
    return Chosen(*(triton < cudnn for triton, cudnn in measured))


def _lacking(capability: tuple[int, int] | None, precision: str) -> str | None:
    """What Triton's kernels need and do not have, with what there is instead."""
    if capability is None:
        return "an NVIDIA card (compute.device)"
    if capability < (8, 0):
        return f"a card of compute capability 8.0 or later, not {capability[0]}.{capability[1]}"
    if precision != "bf16":
        return f"compute.precision bf16, not {precision}"
    return None if find_spec("triton") else "the package triton, which is not installed"


def settled(kernels: str, device: torch.device, precision: str) -> str:
    """What `kernels` comes to on a device: `auto` is `cudnn` where Triton cannot run."""
    return "cudnn" if kernels == "auto" and _lacking(_capability(device), precision) else kernels


def _capability(device: torch.device) -> tuple[int, int] | None:
    nvidia = device.type == "cuda" and torch.version.hip is None
    return torch.cuda.get_device_capability(device) if nvidia else None


def with_kernels(network: nn.Module, kernels: str, device: torch.device, precision: str) -> nn.Module:
    """The same network, whose 3×3 convolutions use Triton's kernels where these are chosen.

    Parameters, names and hooks stay, and a convolution stays a `nn.Conv2d`: only its forward pass is another.

    Raises:
        InputError: `kernels` is `triton`, which cannot run on the device or in the precision.
    """
    capability = _capability(device)
    for conv in network.modules():
        if type(conv) is nn.Conv2d and _is_plain_3x3(conv):
            by_triton = chosen(kernels, conv.in_channels, conv.out_channels, conv.stride[0], capability, precision)
            if any(by_triton):
                conv.__class__ = FewChannelsConv2d
                cast(FewChannelsConv2d, conv).by_triton = by_triton
    return network


def _is_plain_3x3(conv: nn.Conv2d) -> bool:
    """Whether the kernels compute this convolution: zero padding of 1, the same stride both ways, and no bias."""
    return (
        conv.kernel_size == (3, 3)
        and conv.padding in (1, (1, 1))
        and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.stride[0] == conv.stride[1]
        and conv.bias is None
    )


class FewChannelsConv2d(nn.Conv2d):
    """A 3×3 convolution that uses Triton's kernels under bf16 autocast on a GPU, and is ordinary everywhere else."""

    by_triton: Chosen

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """The outputs; under bf16 autocast in channels-last memory, and the weight's gradient is fp32 throughout."""
        device = images_NCHW.device.type
        if images_NCHW.is_meta:  # shapes without values, on a device that has no autocast to ask about
            return super().forward(images_NCHW)
        bf16 = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
        largest = images_NCHW.numel() // self.in_channels * max(self.in_channels, self.out_channels)
        if not bf16 or largest >= INDEXED:
            return super().forward(images_NCHW)
        rounded_OIHW = self.weight.detach().to(torch.bfloat16)
        outputs_NCHW: Tensor = convolution(
            images_NCHW.to(torch.bfloat16), self.weight, rounded_OIHW, self.stride[0], *self.by_triton
        )
        return outputs_NCHW


@torch.library.custom_op("residuum::conv3x3", mutates_args=())
def convolution(
    images_NCHW: Tensor,
    weight_OIHW: Tensor,
    rounded_OIHW: Tensor,
    stride: int,
    forward: bool,
    input_gradient: bool,
    weight_gradient: bool,
) -> Tensor:
    """The convolution of bf16 images with padding 1; the last three say what Triton computes.

    `rounded_OIHW` is the weight in bf16. It comes beside the fp32 weight so that one cast, which `torch.compile` sees,
    serves both passes, and so that the gradient is that of the fp32 weight and is never rounded to bf16.
    """
    if forward and _on_card(images_NCHW):
        from residuum.engine.kernels import conv3x3

        return conv3x3.forward(images_NCHW, rounded_OIHW, stride)
    outputs_NCHW = functional.conv2d(images_NCHW, rounded_OIHW, stride=stride, padding=1)
    return outputs_NCHW.contiguous(memory_format=torch.channels_last)


@torch.library.custom_op("residuum::conv3x3_input_gradient", mutates_args=())
def input_gradient(
    gradient_NCHW: Tensor, rounded_OIHW: Tensor, shape: Sequence[int], stride: int, by_triton: bool
) -> Tensor:
    """The gradient by images of a shape, bf16 in channels-last memory."""
    if by_triton and _on_card(gradient_NCHW):
        from residuum.engine.kernels import conv3x3

        return conv3x3.input_gradient(gradient_NCHW, rounded_OIHW, shape, stride)
    images_NCHW: Tensor = conv2d_input(shape, rounded_OIHW, gradient_NCHW, stride, 1)  # type: ignore[no-untyped-call]
    return images_NCHW.contiguous(memory_format=torch.channels_last)


@torch.library.custom_op("residuum::conv3x3_weight_gradient", mutates_args=())
def weight_gradient(
    images_NCHW: Tensor, gradient_NCHW: Tensor, rounded_OIHW: Tensor, stride: int, by_triton: bool
) -> Tensor:
    """The gradient by the weight, fp32 in its memory layout; of the weight only shape and layout count."""
    if by_triton and _on_card(images_NCHW):
        from residuum.engine.kernels import conv3x3

        return conv3x3.weight_gradient(images_NCHW, gradient_NCHW, rounded_OIHW, stride)
    shape = rounded_OIHW.shape
    gradient_OIHW = conv2d_weight(images_NCHW, shape, gradient_NCHW, stride, 1)  # type: ignore[no-untyped-call]
    return torch.empty_like(rounded_OIHW, dtype=torch.float32).copy_(gradient_OIHW)


def _on_card(tensor: Tensor) -> bool:
    """Whether a tensor is where the kernels run: a network that was moved to the CPU is computed by torch there."""
    return tensor.is_cuda


@convolution.register_fake
def _(images_NCHW: Tensor, weight_OIHW: Tensor, rounded_OIHW: Tensor, stride: int, *_: bool) -> Tensor:
    height, width = ((size - 1) // stride + 1 for size in images_NCHW.shape[2:])
    shape = (len(images_NCHW), len(weight_OIHW), height, width)
    return images_NCHW.new_empty(shape).to(memory_format=torch.channels_last)


@input_gradient.register_fake
def _(gradient_NCHW: Tensor, rounded_OIHW: Tensor, shape: Sequence[int], stride: int, by_triton: bool) -> Tensor:
    return gradient_NCHW.new_empty(shape).to(memory_format=torch.channels_last)


@weight_gradient.register_fake
def _(images_NCHW: Tensor, gradient_NCHW: Tensor, rounded_OIHW: Tensor, stride: int, by_triton: bool) -> Tensor:
    return torch.empty_like(rounded_OIHW, dtype=torch.float32)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    images_NCHW, _, rounded_OIHW, ctx.stride, _, ctx.input_by_triton, ctx.weight_by_triton = inputs
    ctx.save_for_backward(images_NCHW, rounded_OIHW)


def _gradients(ctx: Any, gradient_NCHW: Tensor) -> tuple[Tensor | None, ...]:
    images_NCHW, rounded_OIHW = ctx.saved_tensors
    by_images = by_weight = None
    if ctx.needs_input_grad[0]:
        by_images = input_gradient(gradient_NCHW, rounded_OIHW, images_NCHW.shape, ctx.stride, ctx.input_by_triton)
    if ctx.needs_input_grad[1]:
        by_weight = weight_gradient(images_NCHW, gradient_NCHW, rounded_OIHW, ctx.stride, ctx.weight_by_triton)
    return by_images, by_weight, None, None, None, None, None


convolution.register_autograd(_gradients, setup_context=_save)

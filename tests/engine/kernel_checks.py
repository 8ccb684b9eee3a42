"""Checks of the Triton kernels that need a process of their own: `interpret` runs them without a card, `compile` builds
them for one.

Triton reads TRITON_INTERPRET when it is imported, and a driver for a card that is not there would stay active.
"""

import json
import sys

import torch
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from residuum.engine.kernels import few_channels

# C_in, C_out, stride, images, height, width: each shape that `auto` chooses, and others; few divide by any tile.
CASES = [
    (16, 16, 1, 1, 14, 14),
    (16, 32, 2, 5, 7, 7),
    (32, 32, 1, 3, 7, 7),
    (32, 64, 2, 3, 8, 7),
    (64, 64, 1, 1, 8, 8),
    (64, 16, 2, 3, 7, 9),
    (16, 64, 1, 2, 1, 5),
]


def compare(c_in, c_out, stride, images, height, width, device="cpu"):
    """Outputs and both gradients against torch's in fp64 on the same values; on a card the same bits a second time.

    A value in bf16 is off by 2⁻⁸ of itself at most, for it has 8 binary digits. What the sums in fp32 are off is far
    below the 10⁻⁴ of the largest value that is left for them, and it alone is left to the weight's gradient, which
    is never bf16. NaNs lie around what the kernels read.
    """
    torch.manual_seed(0)
    images_NCHW = between_nans(torch.randn(images, height, width, c_in, device=device)).permute(0, 3, 1, 2)
    rounded_OIHW = between_nans(0.1 * torch.randn(c_out, 3, 3, c_in, device=device)).permute(0, 3, 1, 2)
    outputs_shape = (images, (height - 1) // stride + 1, (width - 1) // stride + 1, c_out)
    gradient_NCHW = between_nans(torch.randn(outputs_shape, device=device)).permute(0, 3, 1, 2)

    def by_kernels():
        x, w = images_NCHW.detach().requires_grad_(), rounded_OIHW.float().requires_grad_()
        y = few_channels.convolution(x, w, rounded_OIHW, stride, True, True, True)
        y.backward(gradient_NCHW)
        return y.detach(), x.grad, w.grad

    x, w = images_NCHW.double().requires_grad_(), rounded_OIHW.double().requires_grad_()
    y = functional.conv2d(x, w, stride=stride, padding=1)
    y.backward(gradient_NCHW.double())

    results = by_kernels()
    if device != "cpu":
        for result, again in zip(results, by_kernels(), strict=True):
            assert torch.equal(result, again)
    for result, expected in zip(results, (y.detach(), x.grad, w.grad), strict=True):
        assert result.is_contiguous(memory_format=torch.channels_last)
        rtol, atol = 2**-8 if result.dtype == torch.bfloat16 else 0, 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(result.double(), expected, rtol=rtol, atol=atol)
    assert [result.dtype for result in results] == [torch.bfloat16, torch.bfloat16, torch.float32]


def between_nans(values):
    """The values in bf16, inside a piece of memory that is NaN before and behind them."""
    memory = torch.full((values.numel() + 4096,), torch.nan, dtype=torch.bfloat16, device=values.device)
    inner = memory[2048:-2048].view(values.shape)
    return inner.copy_(values)


def interpret():
    """Every case in Triton's interpreter."""
    from residuum.engine.kernels import conv3x3

    mend_interpreter()
    few_channels._on_card = lambda tensor: True
    for case in CASES:
        compare(*case)
    # Several rounds in each of several programs, which the settings have only with many more pixels.
    conv3x3.WEIGHT_TILES[16, 16, 1] = conv3x3.WeightTile(pixels=16, taps=4, chunks=3, warps=4, stages=3)
    conv3x3.WEIGHT_TILES[16, 16, 2] = conv3x3.WeightTile(pixels=16, taps=1, chunks=3, warps=4, stages=3)
    compare(16, 16, 1, 3, 7, 5)
    compare(16, 16, 2, 3, 14, 9)
    # A weight in another memory layout than the networks': its gradient has the same.
    x, w = torch.randn(1, 16, 4, 4).bfloat16(), torch.randn(16, 16, 3, 3).bfloat16()
    gradient_OIHW = few_channels.weight_gradient(x, x, w, 1, True)
    assert gradient_OIHW.is_contiguous()
    expected = conv2d_weight(x.float(), w.shape, x.float(), padding=1)
    torch.testing.assert_close(gradient_OIHW, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def mend_interpreter():
    """Put right what Triton's interpreter does wrong with bf16 (3.6 to 3.9): products of bit patterns, casts that cut."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    convert = interpreter._convert_float

    def widened(bits):
        return (bits.astype(np.uint32) << 16).view(np.float32)

    def mended_convert(values, source, target, rounding):
        if (source, target) == (tl.bfloat16, tl.float32):
            return widened(values).view(np.uint32)
        if (source, target) == (tl.float32, tl.bfloat16):
            bits = np.ascontiguousarray(values).view(np.uint32)
            return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)  # to the nearest, ties to even
        return convert(values, source, target, rounding)

    def mended_dot(self, a, b, total, *_):
        a, b = (widened(x.data) if x.dtype.scalar == tl.bfloat16 else x.data for x in (a, b))
        return interpreter.TensorHandle(np.matmul(a, b) + total.data, total.dtype.scalar)

    interpreter._convert_float = mended_convert
    interpreter.InterpreterBuilder.create_dot = mended_dot


def compile_for(capability):
    """Build every kernel of the shapes that `auto` chooses for a card; prints the most shared memory that one takes."""
    import triton
    from triton.backends.compiler import GPUTarget

    class NoCard:
        def get_current_target(self):
            return GPUTarget("cuda", capability, 32)

        def get_current_device(self):
            return 0

        def get_current_stream(self, device=None):
            return 0

    triton.runtime.driver.set_active(NoCard())
    run = triton.runtime.jit.JITFunction.run
    shared = []

    def build(self, *args, grid, warmup, **settings):
        shared.append(run(self, *args, grid=grid, warmup=True, **settings).metadata.shared)

    triton.runtime.jit.JITFunction.run = build
    few_channels._on_card = lambda tensor: True
    for c_in, c_out, stride in few_channels.MICROSECONDS:
        size = 512 // c_in
        x = torch.zeros(128, c_in, size, size, dtype=torch.bfloat16, requires_grad=True)
        w = torch.zeros(c_out, c_in, 3, 3, requires_grad=True)
        few_channels.convolution(x, w, w.detach().bfloat16(), stride, True, True, True).sum().backward()
    print(json.dumps({"kernels": len(shared), "shared": max(shared)}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "interpret":
        interpret()
    else:
        compile_for(int(sys.argv[2]))

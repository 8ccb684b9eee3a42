"""3×3 convolutions of few channels and their two gradients in Triton; the only module that imports it.

cuDNN pads 16, 32 or 64 channels to tiles that are made for more. Here a program takes some pixels of one tensor with
all its channels, so nothing is padded. Images and gradients are bf16 in channels-last memory, weights bf16
`[C_out, C_in, 3, 3]` in channels-last memory too; products are added in fp32. Any batch and image size is right: what
lies beyond an edge is masked.

Every sum is made in an order that depends on shapes and settings alone, and no program waits for or adds to another's
result: the same values give the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor


@dataclass(frozen=True)
class Tile:
    """How a convolution or its input gradient is cut: `pixels` written by a program, taps unrolled together."""

    pixels: int
    unroll: int
    warps: int
    stages: int


@dataclass(frozen=True)
class WeightTile:
    """How a weight gradient is cut.

    `pixels` go into one product, `taps` of the filter share it (4: a row of three and an empty one), and the pixels of
    the batch are divided among `chunks` programs, whose sums are added afterwards.
    """

    pixels: int
    taps: int
    chunks: int
    warps: int
    stages: int


# ([kind,] C_in, C_out, stride) of the convolution -> settings. They stand here and are not searched for while training:
# a tile adds in an order of its own, so a search would change the bits from run to run. The forward and weight-gradient
# settings of 16→16, 32→32 and 64→64 are the fastest of 7 to 14 tried on one H200 (torch 2.11, CUDA 13.0, batch 128,
# repeated in a CUDA graph). An input gradient of stride 1 has the shape of a forward convolution, so its settings too.
# The other rows, and the two defaults for what has no row, are among those tried but not known to be the fastest.
TILES = {
    ("forward", 16, 16, 1): Tile(32, 9, 1, 1),
    ("forward", 16, 32, 2): Tile(64, 9, 4, 1),
    ("forward", 32, 32, 1): Tile(64, 9, 4, 1),
    ("forward", 64, 64, 1): Tile(64, 1, 4, 3),
    ("input_gradient", 16, 16, 1): Tile(32, 9, 1, 1),
    ("input_gradient", 32, 32, 1): Tile(64, 9, 4, 1),
}
WEIGHT_TILES = {
    (16, 16, 1): WeightTile(64, 4, 256, 4, 3),
    (16, 32, 2): WeightTile(64, 4, 64, 4, 3),
    (32, 32, 1): WeightTile(64, 4, 64, 8, 3),
    (32, 64, 2): WeightTile(64, 4, 32, 4, 3),
    (64, 64, 1): WeightTile(64, 1, 32, 4, 3),
}
TILE = Tile(64, 1, 4, 3)
WEIGHT_TILE = WeightTile(64, 1, 32, 4, 3)
SUMMED = 4096  # partial sums that one program of `_sum_partials` loads


def forward(images_NCHW: Tensor, weight_OIHW: Tensor, stride: int) -> Tensor:
    """The convolution with padding 1, bf16 in channels-last memory; `stride` is 1 or 2."""
    c_out, c_in = weight_OIHW.shape[:2]
    height, width = ((size - 1) // stride + 1 for size in images_NCHW.shape[2:])
    tile = TILES.get(("forward", c_in, c_out, stride), TILE)
    return _convolve(images_NCHW, weight_OIHW, (len(images_NCHW), c_out, height, width), stride, False, tile)


def input_gradient(gradient_NCHW: Tensor, weight_OIHW: Tensor, shape: Sequence[int], stride: int) -> Tensor:
    """The gradient by images of a shape from that by the outputs, bf16 in channels-last memory."""
    c_out, c_in = weight_OIHW.shape[:2]
    tile = TILES.get(("input_gradient", c_in, c_out, stride), TILE)
    return _convolve(gradient_NCHW, weight_OIHW, shape, stride, True, tile)


def weight_gradient(images_NCHW: Tensor, gradient_NCHW: Tensor, weight_OIHW: Tensor, stride: int) -> Tensor:
    """The gradient by the weight, fp32 in the weight's memory layout; of the weight only shape and layout count."""
    c_out, c_in = weight_OIHW.shape[:2]
    tile = WEIGHT_TILES.get((c_in, c_out, stride), WEIGHT_TILE)
    pixels = gradient_NCHW.numel() // c_out
    chunk = triton.cdiv(triton.cdiv(pixels, tile.chunks), tile.pixels) * tile.pixels
    chunks = triton.cdiv(pixels, chunk)
    size = weight_OIHW.numel()
    partials = torch.empty(chunks, size, dtype=torch.float32, device=images_NCHW.device)
    gradient_OIHW = torch.empty_like(weight_OIHW, dtype=torch.float32)
    rows = triton.next_power_of_2(chunks)
    columns = min(SUMMED // rows, 128)
    with torch.cuda.device_of(images_NCHW):
        _weight_partials[chunks, 9 if tile.taps == 1 else 3](
            _channels_last(images_NCHW), _channels_last(gradient_NCHW), partials, pixels, chunk,
            *images_NCHW.shape[2:], *gradient_NCHW.shape[2:], c_in, c_out, stride, tile.pixels, tile.taps,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
        _sum_partials[(triton.cdiv(size, columns),)](
            partials, gradient_OIHW, chunks, *gradient_OIHW.stride(), c_in, c_out, rows, columns
        )
    return gradient_OIHW


def _convolve(
    read_NCHW: Tensor, weight_OIHW: Tensor, shape: Sequence[int], stride: int, gradient: bool, tile: Tile
) -> Tensor:
    """A new tensor of `shape` that `_convolution` wrote."""
    written_NCHW = torch.empty(shape, dtype=torch.bfloat16, device=read_NCHW.device, memory_format=torch.channels_last)
    images, c_written, height, width = shape
    # By a gradient of stride 2 a program writes pixels of one parity of row and column: the same taps reach them all.
    parities = 4 if gradient and stride == 2 else 1
    pixels = images * height * width if parities == 1 else images * ((height + 1) // 2) * ((width + 1) // 2)
    with torch.cuda.device_of(read_NCHW):
        _convolution[(parities * triton.cdiv(pixels, tile.pixels),)](
            _channels_last(read_NCHW), _channels_last(weight_OIHW), written_NCHW, images,
            *read_NCHW.shape[2:], height, width, read_NCHW.shape[1], c_written, stride, gradient,
            tile.pixels, tile.unroll, num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
    return written_NCHW


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


@triton.jit
def _convolution(
    read, weight, written, images,
    HEIGHT_READ: tl.constexpr, WIDTH_READ: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
    C_READ: tl.constexpr, C_WRITTEN: tl.constexpr, STRIDE: tl.constexpr, GRADIENT: tl.constexpr,
    PIXELS: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Some pixels of the outputs from the images or, with GRADIENT, of the images' gradient from the outputs'."""
    program = tl.program_id(0)
    if GRADIENT and STRIDE == 2:
        # Tap k of the forward pass led from row 2o + k - 1 to row o: an even row is reached by tap 1 alone, an odd one
        # by taps 0 and 2. Odd rows and columns come first, since they are the most work.
        odd_row = 1 - program % 4 // 2
        odd_column = 1 - program % 2
        rows: tl.constexpr = (HEIGHT + 1) // 2
        columns: tl.constexpr = (WIDTH + 1) // 2
        pixel = program // 4 * PIXELS + tl.arange(0, PIXELS)
        row = pixel // columns % rows * 2 + odd_row
        column = pixel % columns * 2 + odd_column
        image = pixel // (rows * columns)
        taps_across = 1 + odd_column
        taps = (1 + odd_row) * taps_across
    else:
        pixel = program * PIXELS + tl.arange(0, PIXELS)
        row = pixel // WIDTH % HEIGHT
        column = pixel % WIDTH
        image = pixel // (HEIGHT * WIDTH)
        taps_across = 3
        taps = 9
    exists = (image < images) & (row < HEIGHT) & (column < WIDTH)
    c_read = tl.arange(0, C_READ)
    c_written = tl.arange(0, C_WRITTEN)
    total = tl.zeros([PIXELS, C_WRITTEN], tl.float32)
    for tap in tl.range(0, taps, loop_unroll_factor=UNROLL):
        down = tap // taps_across
        across = tap % taps_across
        if GRADIENT and STRIDE == 2:
            down = 1 - odd_row + 2 * down
            across = 1 - odd_column + 2 * across
            from_row = (row + 1 - down) // 2
            from_column = (column + 1 - across) // 2
        elif GRADIENT:
            from_row = row + 1 - down
            from_column = column + 1 - across
        else:
            from_row = row * STRIDE + down - 1
            from_column = column * STRIDE + across - 1
        inside = exists & (from_row >= 0) & (from_row < HEIGHT_READ) & (from_column >= 0) & (from_column < WIDTH_READ)
        place = ((image * HEIGHT_READ + from_row) * WIDTH_READ + from_column) * C_READ
        values = tl.load(read + place[:, None] + c_read[None, :], mask=inside[:, None], other=0.0)
        if GRADIENT:
            weight_place = (c_read[:, None] * 9 + down * 3 + across) * C_WRITTEN + c_written[None, :]
        else:
            weight_place = (c_written[None, :] * 9 + down * 3 + across) * C_READ + c_read[:, None]
        total = tl.dot(values, tl.load(weight + weight_place), total)
    place = ((image * HEIGHT + row) * WIDTH + column) * C_WRITTEN
    tl.store(written + place[:, None] + c_written[None, :], total.to(tl.bfloat16), mask=exists[:, None])


@triton.jit
def _weight_partials(
    read, gradient, partials, pixels, chunk,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, OUT_HEIGHT: tl.constexpr, OUT_WIDTH: tl.constexpr,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, STRIDE: tl.constexpr, PIXELS: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """One row of partials [chunks, 9 · C_in · C_out]: the weight's gradient from `chunk` output pixels."""
    number = tl.program_id(0)
    lane = tl.arange(0, TAPS * C_IN)
    c_in = lane % C_IN
    if TAPS == 1:
        down = tl.program_id(1) // 3
        across = tl.program_id(1) % 3 + lane // C_IN
    else:
        down = tl.program_id(1)
        across = lane // C_IN
    real = across < 3
    c_out = tl.arange(0, C_OUT)
    total = tl.zeros([TAPS * C_IN, C_OUT], tl.float32)
    for start in range(0, chunk, PIXELS):
        pixel = number * chunk + start + tl.arange(0, PIXELS)
        exists = pixel < pixels
        from_row = pixel // OUT_WIDTH % OUT_HEIGHT * STRIDE + down - 1
        from_column = (pixel % OUT_WIDTH * STRIDE - 1)[:, None] + across[None, :]
        inside = (exists & (from_row >= 0) & (from_row < HEIGHT))[:, None] & real[None, :]
        inside = inside & (from_column >= 0) & (from_column < WIDTH)
        from_line = pixel // (OUT_HEIGHT * OUT_WIDTH) * HEIGHT + from_row
        place = (from_line[:, None] * WIDTH + from_column) * C_IN + c_in[None, :]
        values = tl.load(read + place, mask=inside, other=0.0)
        slope = tl.load(gradient + pixel[:, None] * C_OUT + c_out[None, :], mask=exists[:, None], other=0.0)
        total = tl.dot(tl.trans(values), slope, total)
    place = ((number * 9 + down * 3 + across) * C_IN + c_in)[:, None] * C_OUT + c_out[None, :]
    tl.store(partials + place, total, mask=real[:, None])


@triton.jit
def _sum_partials(
    partials, summed, chunks, along_out, along_in, along_height, along_width,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The sum of all rows of partials, stored where the strides of the weight say."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    row = tl.arange(0, ROWS)
    exists = column < 9 * C_IN * C_OUT
    place = row[:, None] * (9 * C_IN * C_OUT) + column[None, :]
    values = tl.load(partials + place, mask=(row < chunks)[:, None] & exists[None, :], other=0.0)
    tap = column // (C_IN * C_OUT)
    place = column % C_OUT * along_out + column // C_OUT % C_IN * along_in
    place += tap // 3 * along_height + tap % 3 * along_width
    tl.store(summed + place, tl.sum(values, 0), mask=exists)

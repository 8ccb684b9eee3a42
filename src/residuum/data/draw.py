"""Random numbers for a batch that are a function of (seed, epoch, image, purpose, slot) and of nothing else.

A counter-based generator: each number is a hash of its place, so there is no state to save, and neither the batch that
an image falls in, nor its place there, nor the device, nor the number of threads changes what it gets. The hash is the
finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", fig. 14), applied
first to the image and then to the slot, in integers that wrap around.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor

from residuum.streams import stream_seed

Purpose = tuple[str | int, ...]
Keys = Callable[[Purpose], int | Tensor]
"""The key of every purpose in one epoch: a 63-bit integer, or where it lies on the device (0-d, int64)."""


def key(seed: int, epoch: int, purpose: Purpose) -> int:
    """The key that (seed, epoch, purpose) always gives."""
    return stream_seed(seed, "augment", epoch, *purpose)


@dataclass(frozen=True, eq=False)
class Draw:
    """The random numbers of the images of one batch in one epoch.

    `indices_B` are the images' positions in the data set. The same request gives the same numbers again: what needs
    numbers of its own takes a `child`. Where the keys lie on the device, no value comes from the host, so that a draw
    that was captured in a graph draws anew in each epoch.
    """

    keys: Keys
    indices_B: Tensor
    purpose: Purpose = ()

    @classmethod
    def of(cls, seed: int, epoch: int, indices_B: Tensor) -> "Draw":
        """The numbers of some images in an epoch, for whoever has no table of the epoch."""
        return cls(partial(key, seed, epoch), indices_B)

    def child(self, *purpose: str | int) -> "Draw":
        """The numbers of the same images for another purpose."""
        return replace(self, purpose=(*self.purpose, *purpose))

    def uniform(self, slots: int) -> Tensor:
        """Numbers in [0, 1) in steps of 2⁻²⁴: [B, slots], float32."""
        return _shifted(self._bits(slots), 40).float().mul_(2.0**-24)

    def integers(self, slots: int, below: int) -> Tensor:
        """Integers from 0 to `below` - 1, for `below` far under 2²⁴: [B, slots], int64."""
        return (_shifted(self._bits(slots), 40) * below) >> 24

    def normal(self, *shape: int) -> Tensor:
        """Normally distributed numbers of mean 0 and variance 1: [B, *shape], float32.

        Each is one of 65,536 equally likely quantiles of the normal distribution (at most 4.3 in size), looked up by 16
        bits: unlike formulas with logarithms, a table gives the same bits on every device, and it is faster.
        """
        count = math.prod(shape)
        places = self._bits(-(-count // 4)).view(torch.int16)[:, :count].reshape(-1).to(torch.int32)
        return _normal_quantiles(places.device).index_select(0, places.add_(1 << 15)).view(-1, *shape)

    def _bits(self, slots: int) -> Tensor:
        """64 random bits each: [B, slots], int64."""
        key_B = _mix(self.indices_B * _GAMMA + self.keys(self.purpose))
        steps_S = torch.arange(1, slots + 1, device=key_B.device) * _GAMMA
        return _mix(key_B[:, None] + steps_S)


def _as_int64(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


_GAMMA = _as_int64(0x9E3779B97F4A7C15)
_FIRST = _as_int64(0xBF58476D1CE4E5B9)
_SECOND = _as_int64(0x94D049BB133111EB)


def _shifted(bits: Tensor, count: int) -> Tensor:
    """Bits shifted right with zeros from the left; torch's own shift repeats the sign."""
    return (bits >> count).bitwise_and_((1 << (64 - count)) - 1)


def _mix(bits: Tensor) -> Tensor:
    """A bijection of 64-bit words in which each bit of the input changes half of the output; works in place."""
    bits.bitwise_xor_(_shifted(bits, 30)).mul_(_FIRST)
    bits.bitwise_xor_(_shifted(bits, 27)).mul_(_SECOND)
    return bits.bitwise_xor_(_shifted(bits, 31))


@cache
def _normal_quantiles(device: torch.device) -> Tensor:
    """Normal quantiles of 65,536 equal shares, ascending, symmetric, scaled to variance 1."""
    upper = torch.special.ndtri((torch.arange(1 << 15, dtype=torch.float64) + 0.5) / (1 << 16) + 0.5)
    upper /= upper.square().mean().sqrt()
    return torch.cat([-upper.flip(0), upper]).float().to(device)

"""Streams of randomness as functions: a seed for each (seed, stream, …), never a state that is carried along.

Initialisation, order of images, augmentation and mixing each have their own stream. A run therefore
resumes from (epoch, step) alone, and two runs with the same seed see the same batches whatever else differs.
"""

from hashlib import sha256
from typing import Literal

Stream = Literal["split", "subset", "statistics", "init", "order", "augment", "mix", "synthetic", "surface", "own"]


def stream_seed(seed: int, stream: Stream, *parts: int | str) -> int:
    """The seed, a non-negative 63-bit integer, that (seed, stream, *parts) always gives."""
    text = "/".join(map(str, (seed, stream, *parts)))
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1

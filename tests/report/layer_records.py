"""Fabricated records of layers: networks of some layers whose gradients and responses are known."""

import numpy as np

from residuum.records.layers import BINS, Histograms, Layers


def histograms(names, norms, *, size=100, low=-1.0, high=1.0):
    """Tensors of `size` values in a bell between low and high; mean 0, so that the norm is √size times the deviation."""
    middle_B = np.linspace(-3, 3, BINS)
    counts_B = np.random.default_rng(0).multinomial(size, np.exp(-(middle_B**2) / 2) / np.exp(-(middle_B**2) / 2).sum())
    count = len(names)
    return Histograms(
        tuple(names), np.tile(counts_B, (count, 1)).astype(np.int32), np.full(count, low), np.full(count, high),
        np.zeros(count), np.array(norms, np.float64) / np.sqrt(size),
    )  # fmt: skip


def layers(gradients, responses=None, *, epoch=0, dead=()):
    """What was seen of a plain network of stem, blocks of two convolutions in one stage, and linear layer."""
    depth = len(gradients)
    inner = [f"layer1.{block}.conv{number}" for block in range((depth - 1) // 2) for number in (1, 2)][: depth - 2]
    kernels = ["conv1", *inner, "linear"]
    names = [name for kernel in kernels for name in (f"{kernel}.weight", f"{kernel.replace('conv', 'bn')}.bias")]
    norms = [value for norm in gradients for value in (norm, 1e9)]
    acts = ["act", *(f"layer1.{number}.act" for number in range(len(dead) - 1))] if len(dead) else []
    responses = np.ones(depth) if responses is None else np.array(responses)
    return Layers(
        epoch=epoch, images=128, parameters=histograms(names, np.ones(len(names))),
        gradients=histograms(names, norms), responses=histograms(kernels, responses * 10),
        activations=histograms(acts, np.ones(len(acts))), dead_A=np.array(dead, np.float64),
    )  # fmt: skip

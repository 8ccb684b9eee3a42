"""Random numbers by place: against an independent hash in Python integers, and statistically sound."""

import math
from statistics import NormalDist

import pytest
import torch

from residuum.data.draw import Draw
from residuum.streams import stream_seed

WORD = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def finalise(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def word(seed: int, epoch: int, index: int, slot: int, *purpose: str | int) -> int:
    """The slow twin: 64 bits by Python's own integers."""
    key = finalise((index * GAMMA + stream_seed(seed, "augment", epoch, *purpose)) & WORD)
    return finalise((key + (slot + 1) * GAMMA) & WORD)


def test_the_finaliser_is_that_of_splitmix64():
    """The first outputs for seed 1234567, as published with the reference implementation."""
    assert [finalise((1234567 + (i + 1) * GAMMA) & WORD) for i in range(3)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
    ]  # fmt: skip


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (3, 199), (2**40, 7)])
def test_numbers_equal_the_twin_in_python_integers(seed, epoch):
    indices = [0, 1, 17, 49_999]
    draw = Draw.of(seed, epoch, torch.tensor(indices)).child("flip", 1)
    words = [[word(seed, epoch, index, slot, "flip", 1) for slot in range(5)] for index in indices]
    assert draw.uniform(5).tolist() == [[(w >> 40) / 2**24 for w in row] for row in words]
    assert draw.integers(5, 9).tolist() == [[(w >> 40) * 9 >> 24 for w in row] for row in words]


def test_normal_numbers_are_quantiles_picked_by_sixteen_bits():
    draw = Draw.of(5, 2, torch.tensor([3, 1000]))
    got = draw.normal(2, 3)
    assert got.shape == (2, 2, 3)
    distribution = NormalDist()
    for row, index in zip(got.flatten(1).tolist(), [3, 1000], strict=True):
        for place, value in enumerate(row):
            piece = word(5, 2, index, place // 4) >> 16 * (place % 4) & 0xFFFF
            piece ^= 0x8000  # the table is in the order of signed numbers
            assert value == pytest.approx(distribution.inv_cdf((piece + 0.5) / 65536), rel=2e-4)


def test_nothing_but_the_image_decides():
    """Guard 27: neither the batch, nor the place in it, nor the number of slots asked for."""
    batch = Draw.of(1, 2, torch.arange(500))
    for some in (torch.tensor([499, 7, 7, 0]), torch.tensor([3])):
        alone = Draw.of(1, 2, some)
        assert torch.equal(alone.uniform(3), batch.uniform(3)[some])
        assert torch.equal(alone.normal(3, 5, 7), batch.normal(3, 5, 7)[some])
    assert torch.equal(batch.uniform(9)[:, :4], batch.uniform(4))
    assert torch.equal(batch.indices_B, torch.arange(500)), "the indices are not changed"


def draws() -> dict[str, torch.Tensor]:
    """Long rows of numbers along each direction in which places are neighbours."""
    many = torch.arange(40_000)
    return {
        "indices": Draw.of(0, 0, many).uniform(1)[:, 0],
        "slots": Draw.of(0, 0, many[:1]).uniform(40_000)[0],
        "epochs": torch.stack(
            [Draw.of(0, epoch, many[:200]).uniform(1)[:, 0] for epoch in range(200)], dim=1
        ).flatten(),
        "seeds": torch.stack([Draw.of(seed, 0, many[:200]).uniform(1)[:, 0] for seed in range(200)], dim=1).flatten(),
        "purposes": torch.stack(
            [Draw.of(0, 0, many[:200]).child("flip", n).uniform(1)[:, 0] for n in range(200)], dim=1
        ).flatten(),
    }


@pytest.mark.parametrize("direction", draws())
def test_numbers_are_uniform_and_neighbours_unrelated(direction):
    row = draws()[direction].double()
    count = len(row)
    assert row.min() >= 0
    assert row.max() < 1
    cells = 200
    chi2 = ((torch.histc(row, cells, 0, 1) - count / cells) ** 2).sum().item() / (count / cells)
    assert abs(chi2 - (cells - 1)) < 4 * math.sqrt(2 * (cells - 1))
    for lag in (1, 2, 3, 128):
        correlation = torch.corrcoef(torch.stack([row[:-lag], row[lag:]]))[0, 1].item()
        assert abs(correlation) < 4 / math.sqrt(count)
        # Pairs of neighbours fill the square evenly, which correlation alone does not see.
        pairs = (row[:-lag] * 14).long() * 14 + (row[lag:] * 14).long()
        expected = len(pairs) / 196
        chi2 = ((torch.bincount(pairs, minlength=196) - expected) ** 2).sum().item() / expected
        assert abs(chi2 - 195) < 4.5 * math.sqrt(2 * 195)


def test_every_bit_of_a_word_is_fair_and_low_bits_too():
    bits = Draw.of(0, 0, torch.arange(300)).normal(1 << 8).sign()  # signs are the top bits of all four pieces of a word
    assert abs(bits.mean().item()) < 4 / math.sqrt(bits.numel())
    pieces = Draw.of(0, 0, torch.arange(300))._bits(256)
    for place in range(64):
        share = ((pieces >> place) & 1).double().mean().item()
        assert abs(share - 0.5) < 4.5 * 0.5 / math.sqrt(pieces.numel())


def test_integers_reach_both_ends_equally():
    counts = torch.bincount(Draw.of(0, 0, torch.arange(90_000)).integers(1, 9)[:, 0])
    assert len(counts) == 9
    assert ((counts - 10_000).abs() < 4.5 * math.sqrt(90_000 * 8 / 81)).all()


def test_normal_numbers_have_the_moments_of_the_normal_distribution():
    values = Draw.of(0, 0, torch.arange(300)).normal(3, 16, 16).double().flatten()
    count = len(values)
    assert abs(values.mean().item()) < 4 / math.sqrt(count)
    assert abs(values.square().mean().item() - 1) < 4 * math.sqrt(2 / count)
    assert abs(values.pow(3).mean().item()) < 4 * math.sqrt(15 / count)
    assert abs(values.pow(4).mean().item() - 3) < 4 * math.sqrt(96 / count)
    within = (values.abs() < 1.959964).double().mean().item()
    assert abs(within - 0.95) < 4 * math.sqrt(0.95 * 0.05 / count)

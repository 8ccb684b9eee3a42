"""What `residuum bench` counts, against sums written out by hand."""

import pytest
import torch

from residuum.config import RunConfig
from residuum.run import assemble, bench
from residuum.run.bench import Benchmark, Speed, operations


def test_operations_are_three_passes_of_training_and_one_of_evaluation():
    """ResNet-8 of 4, 8 and 8 channels on 12×12 pixels, layer by layer; two operations a multiply-add."""
    config = RunConfig().changed({
        "data.dataset": {"name": "synthetic", "size": 12, "train": 10, "test": 10, "classes": 5},
        "data.validation": 0,
        "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 8, 8]},
    })  # fmt: skip
    resolved, data = assemble.resolve(config)
    stem = 9 * 3 * 4 * 12 * 12
    stages = 9 * (2 * 4 * 4 * 144 + (4 * 8 + 8 * 8) * 36 + (8 * 8 + 8 * 8) * 9)
    forward = stem + stages + 8 * 5
    # Nobody needs the gradient of the first layer's input.
    expected = 2 * (7 * (3 * forward - stem) + 3 * forward)
    assert operations(resolved, data, 7, 3) == expected


def test_the_ratio_is_against_the_faster_script_and_of_medians():
    made = Benchmark(
        model="m", batch_size=8, threads=1, precision="fp32", load=(0.0, 0.0),
        engine=Speed("engine", 1000, (1.0, 2.0, 9.0)),
        plain=(Speed("slow", 1000, (8.0, 10.0, 12.0)), Speed("fast", 1000, (4.0, 5.0, 50.0))),
        peak=200.0, achieved=50.0,
    )  # fmt: skip
    assert made.engine.images_per_second == 500
    assert made.ratio == pytest.approx(5.0 / 2.0)
    assert made.share_of_peak == 0.25


def test_the_peak_is_that_of_a_product_of_square_matrices(monkeypatch):
    """2 n³ operations; the best of the repeats counts."""
    took = iter([4.0, 2.0, 3.0])
    monkeypatch.setattr(bench, "_timed", lambda work: next(took))
    assert bench.peak(torch.float32, size=1000, repeats=3) == pytest.approx(2 * 1000**3 / 2.0 / 1e9)


def test_the_plain_script_comes_with_the_package_and_waits_for_its_turn():
    took = [*bench._plain(160, 2, 0)]
    assert len(took) == 2
    assert min(took) > 0

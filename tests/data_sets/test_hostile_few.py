"""A few hostile files of each kind in the suite; `python -m tests.data_sets.hostile_files` and its kin try all."""

import importlib
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

FEW = {
    "tests.data_sets.hostile_files": (
        "zip: a path that leads out", "CIFAR: code in a batch", "npz: objects that run code", "a pipe",
        "npy: of 10 to the 10th values",
    ),
    "tests.weights.hostile_weights": (
        "zip: code in it", "zip: a wrong checksum", "zip: .PKL beside .pkl", "zip: two members data.pkl",
        "pickle: a million lists within each other", "safetensors: a header of 10 to the 5th tensors",
        "a tensor of float8_e4m3fn", "a nested tensor", "a pipe",
    ),
    "tests.data_sets.hostile_images": (
        "PNG: cut in the middle", "one pixel", "CMYK", "16 bits a channel", "turned by its EXIF",
        "100,000 × 100,000 are announced", "SVG", "a name of stars and question marks", "a link to a device",
    ),
}  # fmt: skip


@pytest.mark.parametrize("module", FEW)
def test_a_few_hostile_files_are_refused_in_a_line_or_read_right(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcomes = {name: outcome for name, outcome, *_ in importlib.import_module(module).tried(tmp_path, FEW[module])}
    os.chdir(tmp_path)
    assert {name: outcome for name, outcome in outcomes.items() if outcome.startswith("WRONG")} == {}
    assert [*outcomes] == [*FEW[module]]

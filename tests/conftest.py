"""One thread a process: the suite runs two processes side by side, and bits depend on the number of threads."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Every test session process has a cache of its own, never the user's."""
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real CIFAR-10 images; tests that need it skip where it is not."""
    folder = Path(os.environ.get("RESIDUUM_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.exists():
        pytest.skip("no real CIFAR-10 images here (RESIDUUM_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """The folder with small inputs that once failed; tests that need it skip where it is not."""
    beside = (
        Path(os.environ.get("RESIDUUM_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")).parent / "cases"
    )
    folder = Path(os.environ.get("RESIDUUM_SHARED_CASES", beside))
    if not folder.exists():
        pytest.skip("no inputs that failed here (RESIDUUM_SHARED_CASES)")
    return folder

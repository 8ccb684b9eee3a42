"""One thread a process: the suite runs several processes side by side, and bits depend on the number of threads."""

import os
from pathlib import Path

import pytest
import torch

from residuum.cli import main

torch.set_num_threads(1)


LONG = ("test_every_code_block_runs[howto", "test_every_code_block_runs[README", "test_a_run_killed_at_random")
"""Tests of minutes: begun first, so that no process is left with one of them when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long tests in front."""
    items.sort(key=lambda item: not item.name.startswith(LONG))


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
    """The folder with small inputs that failed once; tests that need it skip where it is not."""
    data = Path(os.environ.get("RESIDUUM_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = Path(os.environ.get("RESIDUUM_SHARED_CASES", data.parent / "cases"))
    if not folder.exists():
        pytest.skip("no cases that failed here (RESIDUUM_SHARED_CASES)")
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; gives exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def command(*words):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command

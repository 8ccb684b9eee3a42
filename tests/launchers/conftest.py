"""What the tests of launchers share: runs computed without a stop, and one thread."""

import pytest
from tiny_runs import bits, folder_of

from residuum import training
from residuum.config import RunConfig


@pytest.fixture(autouse=True)
def threads_of_this_process(monkeypatch):
    """Runs in this process have one thread; a worker does not take its number from here."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The bits of a run by configuration, computed in this process without a stop."""
    root, known = tmp_path_factory.mktemp("whole"), {}

    def found(config: RunConfig) -> dict[str, object]:
        path = folder_of(root, config)
        if path not in known:
            training.train(config, root)
            known[path] = bits(path)
        return known[path]

    return found

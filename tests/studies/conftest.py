from dataclasses import replace

import pytest

from residuum.conduct import launchers
from residuum.conduct.launchers import LAUNCHERS


@pytest.fixture
def here(monkeypatch):
    """Runs are computed in this process instead of in workers, which spares each test the start of some."""

    monkeypatch.setitem(
        LAUNCHERS,
        "processes",
        lambda jobs, runs, room: launchers.here.launch(jobs, runs, replace(room, workers=1, lanes=1)),
    )

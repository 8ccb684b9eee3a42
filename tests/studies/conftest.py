import pytest

from residuum.conduct import conducting
from residuum.conduct.launchers.processes import JobEvent
from residuum.training import run


@pytest.fixture
def here(monkeypatch):
    """Runs are computed in this process instead of in workers, which spares each test the start of some."""

    def launch(jobs, root, **_):
        for job in jobs:
            for event in run(job.config, root, recipe=job.recipe):
                yield JobEvent(job.id, event)

    monkeypatch.setattr(conducting.processes, "launch", launch)

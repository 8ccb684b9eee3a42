"""A page over a folder of runs, and how its tests name what lies there."""

from pathlib import Path

from starlette.testclient import TestClient

from residuum.records.record import find_runs
from residuum.serve.guard import Rules
from residuum.serve.page import application


def client_of(runs: Path, **rules) -> TestClient:
    rules = {"host": "127.0.0.1", "port": 8091, **rules}
    return TestClient(application(runs, Rules(**rules)), base_url="http://127.0.0.1:8091", follow_redirects=False)


def name_of(runs, beginning):
    return next(folder.name for folder in find_runs(runs) if folder.name.startswith(beginning))


def label_of(runs):
    return next(path.name for path in (runs / "studies").iterdir())

"""Each test here has a cache of its own: an entry that another test left would hide what is tested."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path_factory.mktemp("cache") / "cache"))

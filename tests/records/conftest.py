"""A complete run and one that was stopped, made once for the tests of records; nothing of them is changed."""

import pytest
from damage import a_run, a_stopped_run


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def stopped(tmp_path_factory):
    return a_stopped_run(tmp_path_factory.mktemp("stopped"))

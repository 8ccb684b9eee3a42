"""Every package that residuum asks for, and that these ask for, is under a licence that lets anybody use it."""

import licences
import pytest
from packaging.requirements import Requirement


def test_every_dependency_has_a_licence_that_is_allowed():
    wrong = {name: said for name, package in licences.needed().items()
             if not licences.ALLOWED.search(said := licences.licence(package)) or licences.BARRED.search(said)}  # fmt: skip
    assert wrong == {}


def test_what_residuum_asks_for_itself_is_among_them():
    found = licences.needed()
    core = {Requirement(one).name for one in licences.PROJECT["dependencies"]}
    assert core <= found.keys()
    assert len(found) > len(core), "and what these ask for"


@pytest.mark.parametrize(
    "text", ["AGPL-3.0", "GPL-3.0-only", "Proprietary", "SSPL-1.0", "Creative Commons non-commercial", ""]
)
def test_other_licences_are_not_allowed(text):
    assert licences.BARRED.search(text) or not licences.ALLOWED.search(text)

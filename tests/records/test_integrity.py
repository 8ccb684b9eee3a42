"""Damage to any file of a run is told, and a run goes on from what is whole; many more of both by `make torture`."""

import damage
import pytest

from residuum.records import integrity, run_folder, storage


def test_damage_to_any_file_of_a_run_is_told_in_a_line_that_names_it():
    assert damage.tried(60) == []


def test_a_damaged_run_goes_on_to_the_same_bits():
    assert damage.resumed(6) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return damage.a_run(tmp_path_factory.mktemp("run"))


def test_a_whole_run_is_neither_damaged_nor_unchecked(folder):
    assert integrity.damage(folder) == []
    assert not integrity.unchecked(folder)


def test_a_folder_of_an_earlier_version_is_read_and_called_unchecked(folder):
    """As it was written before files carried checks: without them."""
    path = folder / run_folder.CONFIG
    content = path.read_bytes()
    storage.write_json(path, storage.read_json(path), checked=False)
    assert integrity.unchecked(folder)
    assert integrity.damage(folder) == []
    path.write_bytes(content)

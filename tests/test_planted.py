"""Every bug that `planted.py` plants can still be planted, and every test that has to notice one is there."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import planted


@pytest.mark.parametrize("bug", planted.BUGS, ids=lambda bug: bug.what)
def test_the_text_of_a_bug_occurs_exactly_once(bug):
    assert (planted.SOURCE / bug.file).read_text(encoding="utf-8").count(bug.text) == 1
    assert bug.becomes != bug.text
    assert (planted.TESTS / bug.tests.split()[0]).is_file()

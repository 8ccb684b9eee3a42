"""The house: one name for one module."""

from collections import defaultdict
from pathlib import Path

import residuum


def test_no_two_modules_have_the_same_name():
    root, places = Path(residuum.__file__).parent, defaultdict(list)
    for path in root.rglob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            places[path.stem].append(str(path.relative_to(root)))
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}

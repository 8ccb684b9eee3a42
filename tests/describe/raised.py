"""Which messages of the package the suite makes, and which none of its tests sees.

    python -m pytest -p tests.describe.raised --raised made.txt    # the suite, which notes where errors are made
    python tests/describe/raised.py made.txt                       # the messages of docs/messages.md that it never made

A process that a test starts with an interpreter of its own is not seen; one that it forks is.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import messages
import pytest

import residuum
from residuum.errors import ResiduumError

SOURCE = Path(residuum.__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """The file to which the places are added."""
    parser.addoption("--raised", required=True, help="where the places are noted at which errors are made")


def pytest_configure(config: pytest.Config) -> None:
    """Have each error note the lines of the package through which it was made."""
    noted, seen = os.open(config.getoption("raised"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), set[str]()

    def making(kind: type[ResiduumError], *given: object, **named: object) -> ResiduumError:
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith(str(SOURCE)):
            place = f"{Path(frame.f_code.co_filename).relative_to(SOURCE)}:{frame.f_lineno}\n"
            if place not in seen:
                seen.add(place)
                os.write(noted, place.encode())
            frame = frame.f_back
        return Exception.__new__(kind, *given)

    ResiduumError.__new__ = making  # type: ignore[method-assign,assignment]


def unseen(made: set[str]) -> list[str]:
    """The messages at whose places no error was made, each with its place."""
    return [
        f"{place}:{first}: {text}"
        for place, first, last, text in messages.places()
        if not any(f"{place}:{line}" in made for line in range(first, last + 1))
    ]


if __name__ == "__main__":
    found = unseen({*Path(sys.argv[1]).read_text().split()})
    print("\n".join(found))
    print(f"{len(found)} of {len([*messages.places()])} messages were made by no test")

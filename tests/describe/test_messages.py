"""Messages: a value in one is quoted in one way, which cuts a long one; Python's own would print all of it."""

import ast
from pathlib import Path

import residuum
from residuum.errors import QUOTED, quoted

SOURCES = sorted(Path(residuum.__file__).parent.rglob("*.py"))
WRITES_CODE = {"notebook.py", "pytorch_source.py", "handin.py", "handing_in.py", "processes.py", "studying.py"}
"""Files that write Python or a command, in which a value stands as it is."""
OF_TABLES = {"errors.py", "__init__.py", "testing.py"}
"""Files that quote names of tables and of members, which somebody who writes a program gave."""


def test_no_message_quotes_a_value_without_a_bound():
    found = [f"{path.name}:{part.lineno}" for path in SOURCES
             if path.name not in WRITES_CODE | OF_TABLES and path.parent.name != "analysis"
             for part in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(part, ast.FormattedValue) and part.conversion == ord("r")]  # fmt: skip
    assert found == []


def test_what_is_quoted_is_short_whatever_it_is():
    endless = []
    endless.append(endless)
    for value in ("x" * 10**6, 10**5000, [[0] * 1000] * 1000, {"a": "é" * 999}, endless, b"\0" * 999):
        assert len(quoted(value)) <= QUOTED

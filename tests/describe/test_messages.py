"""Messages: a value in one is quoted in one way, which cuts a long one; Python's own would print all of it."""

import ast
from pathlib import Path

import messages
import pytest

import residuum
from residuum.errors import QUOTED, quoted

SOURCES = sorted(Path(residuum.__file__).parent.rglob("*.py"))
WRITES_CODE = {
    "definitions.py",
    "instances.py",
    "notebook.py",
    "pytorch_source.py",
    "handin.py",
    "handing_in.py",
    "processes.py",
    "studying.py",
}
"""Files that write Python or a command, in which a value stands as it is."""
OF_TABLES = {"errors.py", "__init__.py", "testing.py"}
"""Files that quote names of tables and of members, which somebody who writes a program gave."""


def test_no_message_quotes_a_value_without_a_bound():
    found = [f"{path.name}:{part.lineno}" for path in SOURCES
             if path.name not in WRITES_CODE | OF_TABLES and path.parent.name != "analysis"
             for part in ast.walk(messages.tree(path))
             if isinstance(part, ast.FormattedValue) and part.conversion == ord("r")]  # fmt: skip
    assert found == []


def test_what_is_quoted_is_short_whatever_it_is():
    endless = []
    endless.append(endless)
    for value in ("x" * 10**6, 10**5000, [[0] * 1000] * 1000, {"a": "é" * 999}, endless, b"\0" * 999):
        assert len(quoted(value)) <= QUOTED


PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
MESSAGES = sorted({text for _, text, _ in messages.messages()})


def test_the_page_of_messages_is_as_the_source_is():
    assert PAGE.read_text(encoding="utf-8") == messages.page(), "python tests/describe/messages.py > docs/messages.md"
    assert len(MESSAGES) > 300


def test_every_message_is_one_line_without_a_full_stop():
    assert [text for text in MESSAGES if "\n" in text] == []
    assert [text for text in MESSAGES if text.endswith((".", "!"))] == []


def test_every_error_of_the_package_is_in_the_table():
    found = {node.name for path in SOURCES for node in ast.walk(messages.tree(path))
             if isinstance(node, ast.ClassDef)
             and any(ast.unparse(base) in {*messages.RAISED, "ResiduumError"} for base in node.bases)}  # fmt: skip
    assert found == {*messages.RAISED}


@pytest.mark.parametrize(
    ("source", "said"),
    [("'a b'", "a b"), ("f'{quoted(x)} is no {y!r}'", "{x} is no {y}"), ("'a ' + f'{b}'", "a {b}"), ("f(x)", "…")],
)
def test_a_message_is_read_off_as_it_stands(source, said):
    assert messages.template(ast.parse(source, mode="eval").body) == said

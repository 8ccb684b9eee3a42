"""How a value shows itself in a notebook: a title and a table, as HTML without styles or scripts of its own."""

from collections.abc import Iterable, Sequence
from html import escape as html_escape

from residuum.errors import visible

CELL = 'style="text-align: left; vertical-align: top; padding: 0.2em 1em 0.2em 0"'
"""How a cell looks wherever a notebook is shown."""


def escape(text: str) -> str:
    """A text as part of a page, letter by letter."""
    return html_escape(visible(text))


def facts(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A title over a table of two columns: what it is, and its value."""
    body = "".join(f'<tr><th scope="row" {CELL}>{escape(name)}</th>'
                   f'<td {CELL}>{escape(value)}</td></tr>' for name, value in rows)  # fmt: skip
    return f"<p><b>{escape(title)}</b></p><table>{body}</table>"


def said(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A title over a table with a row of heads."""
    heads = "".join(f'<th scope="col" {CELL}>{escape(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f'<td {CELL}>{escape(cell)}</td>' for cell in row) + "</tr>"
                   for row in rows)  # fmt: skip
    return f"<p><b>{escape(title)}</b></p><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"

"""Every error message of the package, read off its source, as a page.

python tests/describe/messages.py > docs/messages.md
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import residuum

SOURCE = Path(residuum.__file__).parent
RAISED = {
    "InputError": "2", "StudyError": "2", "MissingError": "2", "StorageError": "74", "BusyError": "75",
    "StudyFailedError": "1", "FailedError": "1", "StoppedError": "128 + n", "NotHereError": "404",
}  # fmt: skip
"""The package's own errors, and the exit code, or the status of the page, that each ends in."""
HEAD = """\
# Messages

Every message of an error of residuum's own, by the file that raises it, as `python tests/describe/messages.py` reads it off the
source: a test keeps this page as the source is. What stands in braces is filled in; `…` is a text that is made elsewhere. A message
is one line of at most 300 letters. The last column is the exit code of a command; 404 is of the page.

Errors for a name that is not known come from `errors.unknown`: `unknown KIND 'NAME'; did you mean 'NEAREST'?`, or
`known: …` where none is near.

| file | message | ends in |
|---|---|---:|
"""


def template(node: ast.expr) -> str:
    """A text of the source with what is filled in between braces."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else f"{{{_short(part.value)}}}"  # type: ignore[attr-defined]
            for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return "…"


def _short(node: ast.expr) -> str:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "quoted":
        node = node.args[0]
    text = ast.unparse(node)
    return text if len(text) <= 40 else "…"


@cache
def tree(path: Path) -> ast.Module:
    """A file of the package as its syntax."""
    return ast.parse(path.read_text(encoding="utf-8"))


def messages() -> Iterator[tuple[str, str, str]]:
    """File, message and exit code of each error that is made, in the order of the source."""
    for path, _, text, code in _made():
        yield path, template(text), code


def places() -> Iterator[tuple[str, int, int, str]]:
    """File, first and last line, and message of each error that is made and has a message of its own."""
    for path, call, text, _ in _made():
        if template(text).strip("…"):
            yield path, call.lineno, call.end_lineno or call.lineno, template(text)


def _made() -> Iterator[tuple[str, ast.Call, ast.expr, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                continue
            if (code := RAISED.get(node.func.id)) is not None:
                text = node.args[1 if node.func.id == "StudyError" and len(node.args) > 1 else 0]
                for one in _meant(text, functions):
                    yield str(path.relative_to(SOURCE)), node, one, code


def _meant(text: ast.expr, functions: list[ast.FunctionDef]) -> list[ast.expr]:
    """A text as it stands, or what the function around it calls by that name."""
    if not isinstance(text, ast.Name):
        return [text]
    around = [one for one in functions if one.lineno <= text.lineno <= (one.end_lineno or 0)]
    return [
        node.value
        for one in around[-1:]
        for node in ast.walk(one)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == text.id
    ] or [text]


def page() -> str:
    """The page, in Markdown."""
    rows = sorted({(file, text, code) for file, text, code in messages() if text.strip("…")})
    cells = (f"| `{file}` | {_cell(text)} | {code} |" for file, text, code in rows)
    return HEAD + "\n".join(cells) + "\n"


def _cell(text: str) -> str:
    for letter in "\\|<>*_`[]":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("\n", " ")


if __name__ == "__main__":
    print(page(), end="")

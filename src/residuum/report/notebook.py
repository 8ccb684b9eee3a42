"""A hand-in as a notebook: the same text and tables, and every figure made by the call that stands above it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from residuum.errors import InputError, lacking
from residuum.records import storage
from residuum.report import tables
from residuum.report.content import Commands, Items, Paragraph, Picture, Tabular
from residuum.report.handin import Document, ToWrite, plain, plain_table

MOST_SECONDS = 600
"""Seconds that one figure may take."""


def check() -> None:
    """Check that a notebook can be made and run, before anything is drawn for it.

    Raises:
        InputError: the extra `notebook` is not installed.
    """
    try:
        import ipykernel  # noqa: F401
        import nbclient  # noqa: F401
    except ImportError as error:
        raise lacking("a notebook", "nbclient", "notebook") from error


def write(made: Document, label: str, runs: Path, path: Path, data: str = "") -> Path:
    """Write a document of the study of that label as a notebook that was run from top to bottom, outputs and all.

    It reads the run folders in `runs`, and images where `data` says they lie; both stand in its first cell.

    Raises:
        InputError: the extra `notebook` is not installed, or a cell fails.
        StorageError: it cannot be written.
    """
    check()
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with storage.storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    place = os.path.relpath(runs, path.parent)
    for number, (kind, text) in enumerate(_cells(made, label, place, data)):
        new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        notebook.cells.append(new(text, id=f"cell-{number}"))
    client = NotebookClient(notebook, timeout=MOST_SECONDS, kernel_name="python3",
                            resources={"metadata": {"path": str(path.parent)}})  # fmt: skip
    # Sockets that are files: what goes to a kernel over TCP can be read by every user of the machine.
    kernel = client.create_kernel_manager()
    with tempfile.TemporaryDirectory() as sockets:
        kernel.transport, kernel.ip = "ipc", str(Path(sockets, "kernel"))
        try:
            client.execute()
        except CellExecutionError as error:
            raise InputError(f"{path.name}: a cell failed: {error.ename}: {error.evalue}") from error
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each was run is nobody's business
    storage.write_file(path, nbformat.writes(notebook).encode())
    return path


def _cells(made: Document, label: str, runs: str, data: str) -> Iterator[tuple[str, str]]:
    """The kind and the text of every cell."""
    md = tables.markdown_text
    head = [f"# {md(plain(made.title))}", md(plain(made.author)), f"Study {md(plain(made.study))}"]
    if made.mark:
        head.append(f"**{md(plain(made.mark))}**")
    yield "markdown", "\n\n".join(head)
    yield "code", "\n".join([
        "import residuum", "from residuum import figures", "",
        f"runs, data = {runs!r}, {data!r}  # where the run folders lie, and the images if they were moved",
        f"results = residuum.load_results({label!r}, runs=runs)", "results",
    ])  # fmt: skip
    for part in made.parts:
        yield "markdown", f"## {md(plain(part.title))}"
        for block in part.blocks:
            yield from _cell(block)


def _cell(block: Any) -> Iterator[tuple[str, str]]:
    md = tables.markdown_text
    match block:
        case Paragraph(text):
            yield "markdown", md(plain(text))
        case ToWrite(text):
            yield "markdown", f"> **To be written by the author:** {md(plain(text))}"
        case Items(texts):
            yield "markdown", "\n".join(f"- {md(plain(text))}" for text in texts)
        case Commands(lines):
            yield "markdown", "\n".join(f"    {plain(line)}" for line in lines)
        case Picture():
            yield "code", block.call
            yield "markdown", md(plain(block.caption))
        case Tabular(table, caption):
            yield "markdown", f"{md(plain(caption))}\n\n{tables.as_markdown(plain_table(table))}"

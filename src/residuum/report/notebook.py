"""A hand-in as a notebook: the same text and tables, and every figure made by the call that stands above it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from residuum.errors import InputError, lacking
from residuum.records import storage
from residuum.report.content import Picture
from residuum.report.handin import Document, block_text, head_text, heading_text

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
    yield "markdown", head_text(made)
    yield "code", "\n".join([
        "import residuum", "from residuum import figures", "",
        f"runs, data = {runs!r}, {data!r}  # where the run folders lie, and the images if they were moved",
        f"results = residuum.load_results({label!r}, runs=runs)", "results",
    ])  # fmt: skip
    for part in made.parts:
        yield "markdown", heading_text(part)
        for block in part.blocks:
            if isinstance(block, Picture):
                yield "code", block.call
            yield "markdown", block_text(block)

"""What a command keeps from its surroundings: readers that leave, and variables that are meant for other programs."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from residuum.errors import Remark, StorageError, visible

GONE = (errno.EPIPE, errno.EIO)
"""What a write to a pipe without a reader, and to a terminal that was closed, ends in."""


class Outlasting:
    """A text stream whose reader may leave: what is written after that goes nowhere, and nothing fails by it.

    Any other failure, as a disk that is full, is told under the stream's `name`; without one it is as if the reader had
    left: there is no other place to tell of standard error.
    """

    def __init__(self, stream: io.TextIOWrapper, name: str = "") -> None:
        self._stream, self._name = stream, name
        self.left = False
        """Whether the reader has left."""

    def write(self, text: str) -> int:
        """Write a text, as the stream does, with what would control or turn a terminal shown as its codes."""
        return self.write_styled(visible(text, "\n\t"))

    def write_styled(self, text: str) -> int:
        """Write a text with the codes of a terminal that are meant as such."""
        with self._outlasted():
            self._stream.write(text)
        return len(text)

    @property
    def styled(self) -> Styled:
        """The same stream for a console, which moves the cursor and colours."""
        return Styled(self)

    def flush(self) -> None:
        """Pass on what was written."""
        with self._outlasted():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _outlasted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What lies in buffers would fail again, at the latest when the interpreter ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if self._name and error.errno not in GONE:
                raise StorageError(f"cannot write {self._name}: {error.strerror}") from error
            self.left = True


class Styled:
    """A stream for a console that looks after what it shows itself."""

    def __init__(self, stream: Outlasting) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text as it stands."""
        return self._stream.write_styled(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


OTHERS = ("MPLBACKEND", "TORCH_LOGS", "TORCH_CPP_LOG_LEVEL", "ONEDNN_VERBOSE", "DNNL_VERBOSE", "MKL_VERBOSE",
          "OMP_DISPLAY_ENV", "KMP_SETTINGS", "KMP_VERSION")  # fmt: skip
"""Variables by which libraries would open windows, or print on the standard streams what nobody asked residuum for."""


def _is_count(text: str) -> bool:
    """Whether a text is what OpenMP takes for a number of threads: one above 0, or one for each level."""
    return all(part.strip().isdigit() and int(part) > 0 for part in text.split(","))


LEFT = "the reader of its output left before the end; the run went on"
"""What the record of a run says where it is so."""


def has_left(*streams: IO[str]) -> bool:
    """Whether the reader of one of some streams has left."""
    return any(isinstance(stream, Outlasting) and stream.left for stream in streams)


@contextmanager
def kept_out() -> Iterator[None]:
    """Standard streams that outlast their readers, and a process in which only residuum speaks.

    Variables by which libraries open windows or speak on the standard streams are kept from them, and a number of
    threads that is none. Warnings are for those who write programs: those of residuum are said once each, as notes; no
    other reaches standard error, or, by `PYTHONWARNINGS`, ends a run. Worker processes inherit both.
    """
    usual = sys.stdout, sys.stderr
    for stream in usual:
        if isinstance(stream, io.TextIOWrapper):  # a terminal that has no letter for a dash is no reason to fail
            stream.reconfigure(errors="replace")
    sys.stdout, sys.stderr = _outlasting(sys.stdout, "standard output"), _outlasting(sys.stderr)
    for name in (*OTHERS, *(["OMP_NUM_THREADS"] if not _is_count(os.environ.get("OMP_NUM_THREADS", "1")) else [])):
        os.environ.pop(name, None)
    os.environ["PYTHONWARNINGS"] = "ignore"
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    said = set[str]()

    def note(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in said:
            said.add(str(message))
            print(f"note: {message}", file=sys.stderr)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", Remark)
            warnings.showwarning = note
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(ValueError):  # closed
                stream.flush()
        sys.stdout, sys.stderr = usual


def _outlasting(stream: Any, name: str = "") -> Any:
    return Outlasting(stream, name) if isinstance(stream, io.TextIOWrapper) else stream

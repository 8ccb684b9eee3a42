"""Aside: one process beside the page for what takes long or reads what strangers send.

Figures, predictions and reports are made there one after the other, so that the page answers meanwhile, and an image
that brings a decoder down brings down nothing else. It ends with the page, however that ends.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from residuum.errors import BusyError, InputError

LIMIT = 180.0
"""Seconds after which a job is given up and its process ended."""
MOST_BYTES = 256 * 2**20
"""Bytes of an answer."""
MOST_WAITING = 12
"""Jobs that wait for their turn; more are refused."""
NICE = 10
"""How far the page steps back where training wants the processor."""


class Aside:
    """The process, started when it is first needed and again after it has died."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._room = threading.BoundedSemaphore(MOST_WAITING)
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Connection | None = None

    def call(self, job: str, *arguments: Any) -> Any:
        """The answer of a job of `residuum.serve.jobs`, by its name.

        Raises:
            InputError: the job's own, in its words.
            BusyError: too many wait already, it took too long, or its process died.
        """
        if not self._room.acquire(blocking=False):
            raise BusyError("too much is being drawn already; try again in a moment")
        try:
            with self._turn:
                return self._ask(job, arguments)
        finally:
            self._room.release()

    def _ask(self, job: str, arguments: tuple[Any, ...]) -> Any:
        channel = self._started()
        try:
            channel.send_bytes(json.dumps([job, arguments]).encode())
            if not channel.poll(LIMIT):
                self._end()
                raise BusyError(f"it took more than {LIMIT:.0f} s and was given up")
            # JSON, not pickle: who has read a stranger's image is not believed more than the stranger.
            good, answer = json.loads(channel.recv_bytes(MOST_BYTES))
        except (EOFError, OSError, ValueError) as error:
            self._end()
            raise BusyError("the process that draws has died; try again") from error
        if good:
            return answer
        raise InputError(str(answer))

    def _started(self) -> Connection:
        if self._channel is not None and self._process is not None and self._process.poll() is None:
            return self._channel
        self._end()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "residuum.serve.jobs", str(theirs.fileno())], pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self._channel = Connection(ours.detach())
        return self._channel

    def _end(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._channel = self._process = None

    def close(self) -> None:
        """End the process."""
        self._end()


def step_back() -> None:
    """Leave the processor to whoever trains."""
    with suppress(OSError):
        os.nice(NICE)

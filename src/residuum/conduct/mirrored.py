"""A run that is mirrored in a store while it is computed, so that it can be gone on with on another machine.

The mirror follows in a thread of its own, so that no network holds up a run. What cannot be brought there is tried
again with the next part of the run; at its end the run says if it lies here alone.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Thread

from residuum.errors import BusyError, ResiduumError, StorageError
from residuum.records import mirror, run_folder, storage
from residuum.records.event import Diverged, EpochDone, Event, Finished, Note, Started, TestRead
from residuum.records.mirror import Lease, Sent, Store

END = 30.0
"""Seconds that the mirror may still take when a run has ended or is stopped."""
REST = 1.0
"""How long the mirror rests after it has brought something to the store, as a share of the time that it took."""
Events = Generator[Event, None, None]


def events_of(begin: Callable[[], Events], folder: Path, url: str, session: str = "") -> Events:
    """The events of the run whose folder is given, mirrored in the store at a URL, if there is one.

    What the store has of the run is brought here before it begins. `session` stands for all nodes to which one command
    hands out runs.

    Raises:
        InputError: the URL is none of a store.
        BusyError: another process computes this run.
    """
    return _mirrored(begin, folder, url, session) if url else begin()


def _mirrored(begin: Callable[[], Events], folder: Path, url: str, session: str) -> Events:
    its = _Mirror(mirror.store_of(url), folder, session)
    its.open()
    events = begin()
    try:
        for event in events:
            if isinstance(event, Finished):
                its.finish()
                if its.problem:
                    yield Note(its.tell(f"{its.problem}; this run lies in {its.folder} alone"))
            else:
                its.follow(event)
            yield event
            if text := its.news():
                yield Note(text)
    finally:
        events.close()  # saves the state, which is the last to be brought there
        its.finish()


@dataclass
class _Mirror:
    """The mirror of one run: what of it lies in the store, and the thread that brings the rest there."""

    store: Store
    folder: Path
    session: str
    lease: Lease = field(init=False)
    sent: Sent | None = None
    begun: bool = False
    over: bool = False
    problem: str = ""
    told: str = ""
    lost: BusyError | None = None
    thread: Thread | None = None
    saved: int = 0
    rests: float = 0.0

    def __post_init__(self) -> None:
        self.lease = Lease(self.store, self.folder.name, self.session)

    def open(self) -> None:
        """Take the lease of the run, and bring here what the store has of it; without the store it begins here."""
        try:
            self.lease.take()
        except StorageError as error:
            self.problem = str(error)
            return
        try:
            there = mirror.swept(self.store, self.folder.name)
            if there:
                with storage.storing(self.folder):
                    self.folder.mkdir(parents=True, exist_ok=True)
                with storage.locked(self.folder):
                    mirror.pull(self.store, self.folder.name, self.folder, there)
            self.sent = mirror.sent_of(self.store, self.folder, there)
        except StorageError as error:
            self.problem = str(error)
        except ResiduumError:
            self.lease.release()
            raise

    def follow(self, event: Event) -> None:
        """Bring to the store what an event stands for, unless that is under way.

        Raises:
            BusyError: another node has taken the run over.
        """
        self.begun = self.begun or isinstance(event, Started)
        if self.lost is not None:
            raise self.lost
        if not self.begun or self._is_busy() or time.monotonic() < self.rests:
            return
        saved = self._saved()
        if isinstance(event, EpochDone | TestRead | Diverged) or saved != self.saved or self.lease.is_old:
            self.saved = saved
            self.thread = start(partial(self._push, last=False))

    def news(self) -> str:
        """A line about a problem that was not told yet."""
        if not self.problem or self.told or self.over:
            return ""
        return self.tell(f"{self.problem}; the run goes on here")

    def tell(self, text: str) -> str:
        """Note a line with the run; returns it."""
        self.told = text
        if self.begun:
            run_folder.remark(self.folder, text)
        return text

    def finish(self) -> None:
        """Bring what is left to the store and give up the lease; not for longer than a while."""
        if self.over:
            return
        self.over = True
        if self.thread is not None:
            self.thread.join(END)
        if self._is_busy():
            self.problem = f"the store {self.store.url} has not taken anything for {END:.0f} s"
            return
        self.thread = start(partial(self._push, last=True))
        self.thread.join(END)
        if self._is_busy():
            self.problem = f"the store {self.store.url} has not taken the end of the run within {END:.0f} s"

    def _is_busy(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def _saved(self) -> int:
        """When a checkpoint was last added or removed."""
        try:
            return (self.folder / mirror.CHECKPOINTS).stat().st_mtime_ns
        except OSError:
            return 0

    def _push(self, *, last: bool) -> None:
        """In the thread: bring what has changed to the store."""
        began = time.monotonic()
        try:
            if self.begun and self._may_push():
                assert self.sent is not None
                self.lease.renew()
                self.sent = mirror.push_changed(self.store, self.folder, self.sent, prune=True)
            self.problem = ""
            if last and self.begun and self.sent is not None:
                mirror.remember(self.store, self.folder, self.sent)
            if last:
                self.lease.release()
        except BusyError as error:
            self.lost = error
            self.problem = str(error)
        except (ResiduumError, OSError) as error:
            self.problem = str(error)
        ended = time.monotonic()
        self.rests = ended + REST * (ended - began)

    def _may_push(self) -> bool:
        """Whether the store is reached; where it was not when the run began, the run has to be further here than there.

        Raises:
            BusyError, StorageError: it is not so.
        """
        if self.sent is not None:
            return True
        self.lease.take()
        there = mirror.swept(self.store, self.folder.name)
        if mirror.is_behind(self.folder, there):
            raise StorageError(f"the store {self.store.url} is ahead of this run")
        self.sent = mirror.sent_of(self.store, self.folder, there)
        return True


def start(work: Callable[[], None]) -> Thread:
    """A thread that does something and holds up no end of the process."""
    thread = Thread(target=work, daemon=True, name="mirror")
    thread.start()
    return thread


def has_arrived(folder: Path, url: str) -> bool:
    """Whether the result of a run is in the store."""
    try:
        return run_folder.RESULT in mirror.store_of(url).files(folder.name)
    except StorageError:
        return False

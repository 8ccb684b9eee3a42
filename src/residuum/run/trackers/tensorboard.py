"""TensorBoard: a folder of events for each run, which `tensorboard --logdir` shows."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from residuum.run.trackers.tracker import Log, Tracked


@contextmanager
def tracker(place: Path, run: Tracked) -> Iterator[Log]:
    """A run in the folder of its name under `place`; events of it that are there are replaced."""
    from torch.utils.tensorboard import SummaryWriter

    folder = place / run.name
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = SummaryWriter(str(folder))
    plain = {path: value if isinstance(value, bool | int | float | str) else str(value)
             for path, value in run.settings.items()}  # fmt: skip

    class _Log:
        def epoch(self, number: int, values: Mapping[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, number)
            writer.flush()

        def end(self, status: str, values: Mapping[str, float]) -> None:
            shown = {**plain, **run.labels, "status": status}
            writer.add_hparams(shown, dict(values), run_name=".")

    with _told_once():
        try:
            yield _Log()
        finally:
            writer.close()


@contextmanager
def _told_once() -> Iterator[None]:
    """Within it, the thread that writes prints no traceback of an error, which it hands over to the caller besides."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if type(args.thread).__name__ != "_AsyncWriterThread":
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before

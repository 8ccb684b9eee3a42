"""TensorBoard: a folder of events for each run, which `tensorboard --logdir` shows."""

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

    try:
        yield _Log()
    finally:
        writer.close()

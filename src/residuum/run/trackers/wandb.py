"""Weights & Biases, offline unless `WANDB_MODE` says otherwise: `wandb sync` uploads what was written."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from residuum.run.trackers.tracker import Log, Tracked

PROJECT = "residuum"


@contextmanager
def tracker(place: Path, run: Tracked) -> Iterator[Log]:
    """A run of the project `residuum` under its own id, grouped by its study; written again, it is the same run."""
    # Nothing is sent to anybody who was not asked for.
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true"), ("WANDB_ERROR_REPORTING", "false")):
        os.environ.setdefault(name, value)
    import wandb

    place.mkdir(parents=True, exist_ok=True)
    study = run.labels.get("study")
    opened = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT), dir=str(place), id=run.id, name=run.name, group=study,
        config={**run.settings, **run.labels}, resume="allow", reinit="create_new",
        settings=wandb.Settings(
            console="off", disable_git=True, disable_code=True, x_disable_stats=True, x_disable_machine_info=True
        ),
    )  # fmt: skip

    class _Log:
        def epoch(self, number: int, values: Mapping[str, float]) -> None:
            opened.log(dict(values), step=number)

        def end(self, status: str, values: Mapping[str, float]) -> None:
            opened.summary.update({**values, "status": status})

    try:
        yield _Log()
    finally:
        opened.finish()

"""MLflow: runs of the experiment `residuum`, in a database of the place, or where `MLFLOW_TRACKING_URI` says."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path

from residuum.run.trackers.tracker import Log, Tracked

EXPERIMENT = "residuum"
LONGEST = 500
"""Characters of a parameter's value, which MLflow bounds."""


@contextmanager
def tracker(place: Path, run: Tracked) -> Iterator[Log]:
    """A run with the tag `residuum.id`; if there is one of that id, it goes on with its last epoch."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    place.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place.resolve() / 'mlflow.db'}")
    known = client.get_experiment_by_name(EXPERIMENT)
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT, f"file://{place.resolve()}")
    found = client.search_runs([experiment], f"tags.`residuum.id` = '{run.id}'", max_results=1)
    if found:
        there = found[0].info.run_id
        client.update_run(there, status="RUNNING")
    else:
        tags = {"residuum.id": run.id, **{f"residuum.{name}": value for name, value in run.labels.items()}}
        there = client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        settings = [Param(path, str(value)[:LONGEST]) for path, value in run.settings.items()]
        for at in range(0, len(settings), 100):
            client.log_batch(there, params=settings[at : at + 100])
    done = max((one.step for one in client.get_metric_history(there, "lr")), default=0)

    class _Log:
        def epoch(self, number: int, values: Mapping[str, float]) -> None:
            if number > done:
                # Time 0: what is written twice is the same, whenever that is.
                client.log_batch(there, [Metric(name, value, 0, number) for name, value in values.items()])

        def end(self, status: str, values: Mapping[str, float]) -> None:
            last = [Metric(name, value, 0, 0) for name, value in values.items() if isfinite(value)]
            client.log_batch(there, last, tags=[RunTag("residuum.status", status)])
            client.set_terminated(there, "FINISHED")

    try:
        yield _Log()
    except BaseException:
        client.set_terminated(there, "KILLED")
        raise

"""A laboratory for deep residual learning on small images.

    import residuum

    run = residuum.train("quick", {"model": "resnet56"})
    residuum.figures.curves(run)

`train`, `load_run`, `explain`, `Study`, `load_study`, `run_study`, `search_study`, `keep_data`, `trust` and the module
`figures` are here; everything else is in the modules. So are `evaluate`, `predict`, `results`, the values `RunConfig` and
`RunRecord`, and the modules `errors` and `events`. Nothing is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from residuum import figures
    from residuum.api import Study, explain, keep_data, load_run, load_study, run_study, search_study, train, trust

__version__ = "0.1.0"
__all__ = ["Study", "__version__", "explain", "figures", "keep_data", "load_run", "load_study", "run_study",
           "search_study", "train", "trust"]  # fmt: skip


if TYPE_CHECKING:
    from residuum import errors
    from residuum.api import RunConfig, RunRecord, evaluate, predict, results
    from residuum.records import event as events

__all__ += ["RunConfig", "RunRecord", "errors", "evaluate", "events", "predict", "results"]
MODULES = {"figures": "residuum.figures", "errors": "residuum.errors", "events": "residuum.records.event"}
"""Modules that are here by a short name."""


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return import_module(MODULES[name])
    if name in __all__:
        return getattr(import_module("residuum.api"), name)
    raise AttributeError(f"module 'residuum' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

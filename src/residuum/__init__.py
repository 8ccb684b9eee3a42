"""A laboratory for deep residual learning on small images.

    import residuum

    run = residuum.train("quick", {"model": "resnet56"})
    residuum.figures.curves(run)

`train`, `load_run`, `explain`, `evaluate`, `predict`, `results`, `Study`, `load_study`, `run_study`, `search_study`,
`load_results`, `keep_data`, `trust`, the values `RunConfig` and `RunRecord` and the modules `figures`, `errors` and
`events` are here; everything else is in the modules. Nothing is imported before it is used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, which takes milliseconds to import
if TYPE_CHECKING:
    from typing import Any

    from residuum import errors, figures
    from residuum.api import (
        RunConfig,
        RunRecord,
        Study,
        evaluate,
        explain,
        keep_data,
        load_results,
        load_run,
        load_study,
        predict,
        results,
        run_study,
        search_study,
        train,
        trust,
    )
    from residuum.records import event as events

__version__ = "0.1.0"
__all__ = ["RunConfig", "RunRecord", "Study", "__version__", "errors", "evaluate", "events", "explain", "figures",
           "keep_data", "load_results", "load_run", "load_study", "predict", "results", "run_study", "search_study",
           "train", "trust"]  # fmt: skip
MODULES = {"figures": "residuum.figures", "errors": "residuum.errors", "events": "residuum.records.event"}
"""Modules that are here by a short name."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in MODULES:
        return import_module(MODULES[name])
    if name in __all__:
        return getattr(import_module("residuum.api"), name)
    raise AttributeError(f"module 'residuum' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

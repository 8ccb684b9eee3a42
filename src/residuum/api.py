"""What `import residuum` gives: to train, to ask a study, to read a run and to explain it, in a few words each."""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from residuum import recipes, training
from residuum.analysis import frames
from residuum.analysis.results import Results, note_reading
from residuum.analysis.results import results as read_results
from residuum.conduct import conducting, following, planning, tuning
from residuum.conduct.launchers.launcher import JobEvent, JobFailed, Room, Said, outlook
from residuum.config import RunConfig
from residuum.data.datasets import objects
from residuum.engine.compute import usual_threads
from residuum.errors import InputError, quoted, remark, tally
from residuum.records.attributions import Attributions
from residuum.records.event import Finished, Scores
from residuum.records.record import RUNS, RunRecord, record_of
from residuum.registry import Choice
from residuum.run import explaining
from residuum.run import predict as predicting
from residuum.run import trust as trusting
from residuum.run.logged import LOG, tell
from residuum.run.predict import Prediction, Which
from residuum.studies import parsing
from residuum.studies import plan as plans
from residuum.studies.plan import Plan
from residuum.studies.study import Study

__all__ = ["RunConfig", "RunRecord", "Study", "evaluate", "explain", "keep_data", "load_results", "load_run",
           "load_study", "predict", "results", "run_study", "search_study", "train", "trust"]  # fmt: skip


P = ParamSpec("P")
R = TypeVar("R")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _are(fits: Callable[[Any], bool], value: Any) -> bool:
    """Whether it is nothing, or a sequence of such."""
    return value is None or (isinstance(value, Iterable) and not isinstance(value, str) and all(map(fits, value)))


def _are_settings(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and all(isinstance(key, str) for key in value))


ARGUMENTS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "settings": (_are_settings, "a mapping by dotted names, as {'model.depth': 20}"),
    "study": (lambda value: isinstance(value, str | Path | Study), "a study, or the name or the file of one"),
    "label": (lambda value: isinstance(value, str), "the label or the name of a study"),
    "scale": (_is_number, "a number"), "workers": (_is_whole, "a whole number"),
    "threads": (_is_whole, "a whole number"), "lanes": (_is_whole, "a whole number"),
    "trials": (lambda value: value is None or _is_whole(value), "a whole number"),
    "seeds": (lambda value: _is_whole(value) or _are(_is_whole, value), "a count of seeds, or a list of them"),
    "arms": (lambda value: _are(lambda one: isinstance(one, str), value), "a list of arms by name, as ['resnet20']"),
    "on": (lambda value: isinstance(value, str), "the name of a place to run, as 'processes'"),
    "files": (lambda value: not isinstance(value, list | tuple) or _are(lambda one: isinstance(one, str | Path), value),
              "a list of image files"),
    "device": (lambda value: isinstance(value, str), "the name of a device, as 'cpu'"),
    "runs": (lambda value: isinstance(value, str | Path), "the folder that holds run folders"),
}  # fmt: skip
"""What the arguments of these functions have to be, whichever of them takes one, and how a message says it."""


def _checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose arguments of a wrong kind are an InputError that names what there may be."""
    signature = inspect.signature(function)

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            fits, what = ARGUMENTS.get(name, (None, ""))
            if fits is not None and not fits(value):
                raise InputError(f"{quoted(value)} is a {type(value).__name__}; give {what}", argument=name)
        return function(*args, **kwargs)

    return called


@_checked
def train(recipe: str | RunConfig = "quick", settings: Mapping[str, Any] | None = None, *,
          runs: Path | str = RUNS, progress: bool = False) -> RunRecord:  # fmt: skip
    """Train one network by a recipe with dotted settings changed, or go on with it, or read it if it is complete.

        residuum.train("quick", {"model": "resnet56", "train.seed": 1})

    Where a name of own code may stand, a class, a function or an object may, and for `data` arrays or a data set (as
    `keep_data` takes). An object, as `Net(1, 10)`, is kept as it is now, weights included; it is not itself trained.
    `runs` is the folder that holds run folders. With `progress` each epoch is a line on standard error.

    Raises:
        InputError: anything that the run would stumble over; BusyError, StorageError as `training.train`.
    """
    if not isinstance(recipe, str | RunConfig):
        what = getattr(recipe, "__name__", type(recipe).__name__)
        text = f"{what} is no recipe; a network is a setting, as train('quick', {{'model': {what}}})"
        raise InputError(text, argument="recipe")
    config = (recipes.recipe(recipe) if isinstance(recipe, str) else recipe).changed(_with_data(settings))
    name = recipe if isinstance(recipe, str) else ""
    if not progress:
        return training.train(config, Path(runs), recipe=name)
    folder = None
    for event in training.run(config, Path(runs), recipe=name):
        _tell(following.of_run(event, config.train.epochs))
        if isinstance(event, Finished):
            folder = event.folder
    assert folder is not None, "a run that raises nothing ends in Finished"
    return load_run(folder)


def _tell(line: str) -> None:
    if line:
        print(line, file=sys.stderr, flush=True)


@_checked
def load_run(name: Path | str, *, runs: Path | str = RUNS) -> RunRecord:
    """The record of a run by its folder, or by the unambiguous beginning of its name or id.

    Raises:
        InputError: none, several, or a damaged one.
    """
    return record_of(name, Path(runs))


@_checked
def explain(run: RunRecord | Path | str, method: str | Mapping[str, Any] = "grad-cam", *,
            files: Sequence[Path | str] | None = None, numbers: Sequence[int] | None = None, target: str = "predicted",
            which: Which = "last", data: str = "", device: str = "auto",
            runs: Path | str = RUNS) -> Attributions:  # fmt: skip
    """What speaks for a class in images, by a run's weights and, to compare, by random ones.

        residuum.explain("resnet20-digits-seed0", numbers=[0, 1])

    `run` is a record, or the folder or the beginning of the name or id of one within `runs`. The images are files, or
    test images by number; without either, of each class the one the network is surest of, right and wrong. `method`,
    `target`, `which`, `device`: as `residuum explain`; `data`: where the data set lies now, if it was moved.

    Raises:
        InputError: as `explaining.explain`.
    """
    record = record_of(run, Path(runs))
    return explaining.explain(record, method, files=files, numbers=numbers, target=target, which=which, data=data,
                              device=device)  # fmt: skip


def keep_data(data: Any, *, classes: Sequence[str] = (), path: Path | str = "") -> Path:
    """Keep a data set that is an object of Python in a `.npz` file, which is what `data` then names.

        residuum.train("quick", {"data": str(residuum.keep_data((images, labels)))})

    `data` is a pair of arrays, a `torch.utils.data.Dataset` or a Hugging Face `Dataset` of unnormalised images; or a
    tuple of such for training and test, or a mapping with such by the names of splits. In one piece, 20 % of each class
    are the test split. Without a `path`, the file lies in the cache, by the hash of its images.

    Raises:
        InputError: something else, or images and labels that do not fit; StorageError: it cannot be written.
    """
    return objects.keep(data, classes, Path(path) if path else None)


def _with_data(settings: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The settings, with the path of a data set that was given as an object of Python."""
    data = (settings or {}).get("data")
    if data is None or isinstance(data, str | Path | Choice | type) or inspect.isfunction(data):
        return settings or {}
    if isinstance(data, Mapping) and not {*data} <= {"train", "validation", "test"}:
        return settings or {}
    return {**(settings or {}), "data": str(keep_data(data))}


@_checked
def trust(run: RunRecord | Path | str, *, runs: Path | str = RUNS) -> list[str]:
    """Let the own code that is kept with a run be run from now on; read it first, it can do anything.

    Returns the paths of what is trusted.

    Raises:
        InputError: no such run, or its code is gone or was changed.
    """
    return trusting.trust(record_of(run, Path(runs)).folder)


def load_study(name: Path | str) -> Study:
    """A study that comes with the package by its name, or that of a file by its path.

    Raises:
        InputError: there is none, or something in it is not right; with line and key.
    """
    if not isinstance(name, str | Path):
        raise InputError(f"a study is a name or a file; this is a {type(name).__name__}", argument="name")
    return parsing.read(str(name))


@_checked
def load_results(label: str, *, runs: Path | str = RUNS) -> Results:
    """What a study that was run came to, by its label or its name; nothing is computed. The reading is recorded.

    Raises:
        InputError: no study of that name was run in `runs`, or its plan is damaged.
    """
    found = read_results(plans.read(plans.find(label, Path(runs))), Path(runs))
    note_reading(found, Path(runs))
    return found


@_checked
def run_study(study: Study | Path | str, settings: Mapping[str, Any] | None = None, *, scale: float = 1.0,
              arms: Sequence[str] | None = None, seeds: int | Sequence[int] | None = None, runs: Path | str = RUNS,
              workers: int = 1, threads: int = 0, lanes: int = 1, on: str = "processes",
              progress: bool = False) -> Results:  # fmt: skip
    """Compute the runs of a study that are not there yet, and judge them all.

    `settings` are changed in every arm, `scale` shortens every run and keeps its schedule's shape, `arms` are those to
    keep, `seeds` a count or the seeds themselves. `workers` processes compute at a time, with `threads` each (0: all
    that there are, shared out) and `lanes` runs side by side in each, which pays on a GPU; `on` is
    `processes`, or `here`: one after the other, in this process, or a cluster, `ray[:ADDRESS]` or
    `slurm[:PARTITION]`, where 0 `workers` are as many as there is room for. Whatever stops it, the same call goes on.
    With `progress` each run that ends is a line on standard error. Runs that fail are named in a warning (`Remark`).

    Raises:
        InputError: something in the study that cannot be, or not one of its runs could be computed.
    """
    found = study if isinstance(study, Study) else load_study(study)
    if arms is not None:
        found = found.restricted(arms)
    if seeds is not None:
        found = found.changed({}, tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds))
    plan = planning.plan(found, _with_data(settings), scale=scale)
    threads = threads or max(1, usual_threads() // max(1, workers))
    said = conducting.run(plan, Path(runs), Room(workers, threads, lanes), on)
    failed: dict[str, JobFailed] = {}
    for line in following.of_study(_logged(said, failed), plan, Path(runs)):
        if progress:
            _tell(line)
    for _ in explaining.explain_arms(plan, Path(runs)):
        pass
    read = read_results(plan, Path(runs))
    _say_failed(read, failed)
    note_reading(read, Path(runs))
    return read


def _logged(said: Iterable[Said | Plan], failed: dict[str, JobFailed]) -> Iterator[Said | Plan]:
    """The same, each event told to Python's logging on its way, and those runs noted that failed."""
    for one in said:
        if isinstance(one, JobEvent):
            tell(one.event, one.id)
        elif isinstance(one, JobFailed):
            failed[one.id] = one
            LOG.error("run %s failed: %s", one.id, one.reason)
        yield one


def _say_failed(found: Results, failed: Mapping[str, JobFailed]) -> None:
    """Warn of runs that failed, each with its reason; an error where there is nothing else."""
    names = {run.id: f"{run.arm}, seed {run.seed}" for run in found.plan.runs}
    reasons = [f"{names[id_]}: {' '.join(reason.split())}" for id_, reason in found.failed.items() if id_ in names]
    if not reasons:
        return
    text = f"{len(reasons)} of {tally(len(found.plan.runs), 'run')} of {found.plan.label} failed"
    if not any(record.result for record in found.records.values()):
        raise InputError(f"{text}: {reasons[0]}")
    then = outlook(failed[id_] for id_ in found.failed if id_ in failed).replace("command", "call")
    remark(f"{text}: {'; '.join(reasons)}; {then}")


@_checked
def search_study(study: Study | Path | str, settings: Mapping[str, Any] | None = None, *, scale: float = 1.0,
                 trials: int | None = None, runs: Path | str = RUNS, workers: int = 1, threads: int = 0,
                 on: str = "processes", progress: bool = False) -> Study:  # fmt: skip
    """Search for settings on validation images, as a study's `search` says; returns the study that judges them.

        residuum.run_study(residuum.search_study("mine.toml"))

    That study has seeds that the search never saw, and says what the search cost. `trials` of each arm stand in place
    of the study's own number; the other arguments are those of `run_study`. With `progress` each trial that ends is a
    line on standard error. Whatever stops it, the same call goes on.

    Raises:
        InputError: the study searches for nothing, something in it cannot be, or no trial was completed.
    """
    found = study if isinstance(study, Study) else load_study(study)
    plan = tuning.planned(planning.plan(found, _with_data(settings), scale=scale), trials)
    threads = threads or max(1, usual_threads() // max(1, workers))
    said = tuning.search(plan, Path(runs), Room(workers, threads), on)
    for line in following.of_search(said, plan.study.search.trials if plan.study.search else 0):
        if progress:
            _tell(line)
    return tuning.tuned(plan, Path(runs))


@_checked
def evaluate(run: RunRecord | Path | str, *, which: Which = "last", data: str = "", device: str = "auto",
             runs: Path | str = RUNS) -> Scores:  # fmt: skip
    """Loss and accuracy of a run's weights on its test set; the reading of it is counted in the record.

    `which`, `data`, `device`: as `residuum evaluate`.

    Raises:
        InputError: no such run, no weights, or the data is missing, or not that of the run.
    """
    return predicting.evaluate(record_of(run, Path(runs)), which, data, device)


@_checked
def predict(run: RunRecord | Path | str, images: Any, *, which: Which = "last", device: str = "auto",
            runs: Path | str = RUNS) -> list[Prediction]:  # fmt: skip
    """Probabilities of the classes for images, prepared as in training; the likeliest class is the first.

        residuum.predict("resnet20-digits-seed0", ["seven.png"])

    `images` are image files, or an array, a tensor or a list of such, of unnormalised images of the run's size:
    [N, C, H, W], [N, H, W, C] or, of one channel, [N, H, W], of whole numbers from 0 to 255 or of these divided by 255;
    Pillow's images of that size as well.

    Raises:
        InputError: no such run, no weights; a file is missing, damaged or not an image; or an array is no such images.
    """
    record = record_of(run, Path(runs))
    images = [images] if isinstance(images, str | Path) or hasattr(images, "convert") else images
    if not (hasattr(images, "shape") or isinstance(images, Iterable)):
        raise InputError(f"images are files or an array of them; this is a {type(images).__name__}", argument="images")
    images = images if hasattr(images, "shape") else list(images)
    if not len(images):
        raise InputError("there are none", argument="images")
    of_files = not hasattr(images, "shape") and all(isinstance(one, str | Path) for one in images)
    pixels_NCHW = None if of_files else objects.images_of(images, "images")
    trained = predicting.load(record, which, device)
    if pixels_NCHW is not None:
        return predicting.predict_pixels(trained, pixels_NCHW)
    return predicting.predict(trained, [Path(path) for path in images])


@_checked
def results(study: str = "", *, of: frames.Of = "runs", library: frames.Library = "auto",
            runs: Path | str = RUNS) -> Any:  # fmt: skip
    """A DataFrame of runs with their measures, of their epochs, or of the arms of studies with mean and interval.

        residuum.results(of="epochs").query("arm == 'resnet20'")

    `study` keeps those of one study, by its name or label. `library` is pandas or polars (extra `frames`), by default
    whichever is installed, or `none` for a list of mappings.

    Raises:
        InputError: as `frames.table`.
    """
    return frames.table(of, Path(runs), str(study), library)

"""Measures: what a run is judged by, one number each, read from its record.

A measure is None where the run has nothing to measure it on: no result yet, no images held out, no rate that fell.
Errors are percentages, losses nats, times seconds unless the unit says otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite, log10
from statistics import fmean, linear_regression, pstdev
from typing import Literal

from residuum import schedules
from residuum.errors import unknown
from residuum.records.outcome import Kept, Outcome
from residuum.records.record import RunRecord

SETTLED = 1.0
"""Percentage points around the last error within which a curve counts as settled."""

CHANCE = 0.001
"""Probability of guesses at least as accurate as a run, from which on the run counts as one that did not train."""

EXACT = 1e-54
"""Gradient norms below it are no measurements: single values of the gradient are then too small for float32."""


@dataclass(frozen=True)
class Measure:
    """One number of a run: its name, what it is, its unit, and which direction is better (None: neither).

    `initial`: it is of the network before training. `slow`: it reads a row for every update, or what layers were like,
    and is taken only where a study asks for it. `untrained` says what it is worth of a run that did not train
    (see `trained`): it counts as the worst there is, says nothing, or is a number like that of any other run. A loss
    is the worst of a run that diverged, and at chance a number: losses do not all pile up at one value there.
    `split` has the images on which a run must have trained. `held_out` is the measure that is the same on validation
    images; only measures of the test images have one. `exact`: it is of the network and no chance is in it.
    """

    name: str
    text: str
    unit: str
    lower_is_better: bool | None
    of: Callable[[RunRecord], float | None]
    initial: bool = False
    slow: bool = False
    untrained: Literal["worst", "nothing", "as any"] = "as any"
    split: Literal["train", "test"] = "test"
    held_out: str = ""
    exact: bool = False

    @property
    def digits(self) -> int:
        """Decimals with which it is shown, everywhere alike."""
        return {"count": 0, "ms": 1, "s": 1, "nats": 4, "share": 3, "ratio": 3}.get(self.unit, 2)

    @property
    def shown(self) -> str:
        """Its name in words, as heads of columns and axes have it."""
        return self.name.replace("_", " ")

    @property
    def is_time(self) -> bool:
        """Whether it is a time, of which ratios count: means are geometric, and differences are in percent."""
        return self.unit in ("s", "ms")

    def possible(self, low: float, high: float, *, of_difference: bool = False) -> tuple[float, float]:
        """An interval cut where no value can be, as no error is below 0 or above 100 %; so of two of them.

        An interval by t knows nothing of such ends, and with two or three runs it often goes beyond them.
        """
        least, most = {"%": (0.0, 100.0), "share": (0.0, 1.0)}.get(self.unit, (0.0, inf))
        if self.unit in ("points", "decades", "count"):
            least = -inf
        if of_difference:
            least, most = least - most, most - least
        return max(least, low), min(most, high)

    def trained(self, record: RunRecord) -> bool:
        """Whether a run counts as one that trained where this measure is taken."""
        at_chance_is_a_number = self.untrained == "as any" or self.unit == "nats"
        return at_chance_is_a_number or has_trained(record, self.split) is not False


def measure(name: str) -> Measure:
    """The measure of that name.

    Raises:
        InputError: there is none; the message gives the nearest one.
    """
    if name not in MEASURES:
        raise unknown("measure", name, MEASURES)
    return MEASURES[name]


def held_out_errors(record: RunRecord) -> list[float]:
    """The error (%) of every epoch on the held-out images: validation, or the observed test curve where there is none.

    Empty unless every epoch has it.
    """
    scores = [row.validation or row.test for row in record.epochs]
    return [100 * (1 - score.accuracy) for score in scores if score is not None] if all(scores) else []


def rate_drops(record: RunRecord) -> list[int]:
    """The epochs, counted from 1, that ended with a lower learning rate than the one before, in a stepwise schedule."""
    row = schedules.ROWS.get(record.config.optim.schedule.name)
    if row is None or not row.stepwise:
        return []
    return [after.epoch for before, after in pairwise(record.epochs) if after.lr < before.lr]


def drop_times(record: RunRecord) -> list[float]:
    """When a stepwise rate dropped, in epochs from the start of the run, in order.

    By the times that the schedule names, which may lie within an epoch; where it names none that the run reached, by
    the rates of the epochs.
    """
    schedule, epochs = record.config.optim.schedule, record.config.train.epochs
    row = schedules.ROWS.get(schedule.name)
    times = row.drops(schedule.settings, epochs) if row else ()
    ended = record.epochs[-1].epoch if record.epochs else 0
    reached = sorted(time for time in times if 0 < time < ended)
    return reached or [epoch - 1.0 for epoch in rate_drops(record)]


def _test(which: Kept, key: str) -> Callable[[RunRecord], float | None]:
    def of(record: RunRecord) -> float | None:
        scored = record.scored(which)
        if scored is None or scored.test is None:
            return None
        return scored.test.loss if key == "loss" else _percent(scored.test.accuracy, key)

    return of


def has_trained(record: RunRecord, split: Literal["train", "test"] = "test") -> bool | None:
    """Whether a run ended more accurate than guesses, which would be so in fewer than one of 1,000 cases.

    Guesses always name the most frequent class of the test images; runs recorded before its share was (`chance`) are
    held against one class of K. A run that left the test set unread is judged by its validation images. False of a run
    that diverged, None where too little is known.
    """
    if record.status == "diverged":
        return False
    last, classes = record.scored("last"), len(record.data.classes) if record.data else 0
    if last is None:
        return None
    guessed = last.held_out_chance if last.test is None else last.chance
    if guessed is None and classes:
        guessed = 1 / classes
    scores = last.test or last.validation
    if split == "train":
        scores = record.epochs[-1].train if record.epochs else None
    if scores is None or guessed is None:
        return None
    from scipy.special import bdtrc  # slow to import, for commands that only describe

    right = round(scores.accuracy * scores.n)
    return right > 0 and bool(bdtrc(right - 1, scores.n, guessed) < CHANCE)


def _trained(record: RunRecord) -> float | None:
    found = has_trained(record)
    return None if found is None else float(found)


def _percent(accuracy: float, key: str) -> float:
    return 100 * accuracy if key == "accuracy" else 100 * (1 - accuracy)


def _last(split: str, key: str) -> Callable[[RunRecord], float | None]:
    def of(record: RunRecord) -> float | None:
        scores = getattr(record.epochs[-1], split) if record.epochs else None
        if scores is None or record.status != "finished":
            return None
        return float(scores.loss) if key == "loss" else _percent(scores.accuracy, key)

    return of


def _curve(of: Callable[[list[float]], float | None]) -> Callable[[RunRecord], float | None]:
    """A measure of the curve of held-out errors of a finished run."""

    def measured(record: RunRecord) -> float | None:
        errors = held_out_errors(record)
        return of(errors) if errors and record.status == "finished" else None

    return measured


def _gap(record: RunRecord) -> float | None:
    """Of the same weights on both sides, and no augmentation; runs recorded before that was measured have none."""
    held_out, last = MEASURES["held_out_error"].of(record), record.scored("last")
    if held_out is None or last is None or last.train_clean is None:
        return None
    return held_out - _percent(last.train_clean.accuracy, "error")


def _gap_growth(record: RunRecord) -> float | None:
    held_out, half = held_out_errors(record), len(record.epochs) // 2
    if not held_out or not half or record.status != "finished":
        return None
    gaps = [error - 100 * (1 - row.train.accuracy) for error, row in zip(held_out, record.epochs, strict=True)]
    return gaps[-1] - gaps[half - 1]


def _roughness(errors: list[float]) -> float | None:
    half = errors[len(errors) // 2 :]
    return fmean(abs(after - before) for before, after in pairwise(half)) if len(half) > 1 else None


def _converged_at(errors: list[float]) -> float:
    unsettled = [number for number, error in enumerate(errors, start=1) if abs(error - errors[-1]) > SETTLED]
    return (max(unsettled, default=0) + 1) / len(errors)


def _drop(number: int) -> Callable[[RunRecord], float | None]:
    def of(record: RunRecord) -> float | None:
        drops, errors = rate_drops(record), held_out_errors(record)
        if len(drops) < number or not errors:
            return None
        at = drops[number - 1]
        return errors[at - 2] - errors[at - 1]

    return of


def _roughness_before_drop(record: RunRecord) -> float | None:
    drops, errors = rate_drops(record), held_out_errors(record)
    return _roughness(errors[: drops[0] - 1]) if drops and errors else None


def _seconds_per_epoch(record: RunRecord) -> float | None:
    return fmean(row.seconds for row in record.epochs) if record.epochs else None


def _milliseconds_per_update(record: RunRecord) -> float | None:
    epochs = record.epochs
    if not epochs:
        return None
    images = sum(row.train.n for row in epochs)
    training = sum(row.train.n / row.images_per_second for row in epochs)
    return 1000 * training * record.config.train.batch_size / images


def _gradient_variation(record: RunRecord) -> float | None:
    if not record.epochs:
        return None
    last = record.epochs[-1].epoch
    seen = (row["gradient_norm"] for row in record.steps() if row["epoch"] == last)
    norms = [norm for norm in seen if norm is not None]  # none of an update that half precision left out
    return pstdev(norms) / fmean(norms) if len(norms) > 1 and fmean(norms) > 0 else None


def _first_gradient(norms: list[float]) -> float | None:
    return log10(norms[0]) if norms[0] >= EXACT and isfinite(norms[0]) else None


def _gradient_per_layer(norms: list[float]) -> float | None:
    """The slope towards the first layer. The linear layer is left out: its gradient has passed no other layer."""
    points = [(-number, log10(norm)) for number, norm in enumerate(norms[:-1], 1) if norm >= EXACT and isfinite(norm)]
    return linear_regression(*zip(*points, strict=True)).slope if len(points) > 2 else None


def _initial_gradients(of: Callable[[list[float]], float | None]) -> Callable[[RunRecord], float | None]:
    """A measure of the gradient norms of all layers at initialisation, which a run that diverged later has as well."""

    def measured(record: RunRecord) -> float | None:
        from residuum.records import layers  # numpy, which no command that only describes waits for

        initial = layers.read_epoch(record.folder, 0)
        return of(initial.kernel_gradients_L.tolist()) if initial else None

    return measured


def _noise_scale(record: RunRecord) -> float | None:
    seen = record.noise()
    return seen[-1].scale if seen and record.epochs and seen[-1].epoch == record.epochs[-1].epoch else None


def _activation_memory(record: RunRecord) -> float | None:
    values = record.result.activations if record.result else None
    return None if values is None else 4e-6 * values * record.config.train.batch_size


def _result(of: Callable[[Outcome], float | None]) -> Callable[[RunRecord], float | None]:
    def measured(record: RunRecord) -> float | None:
        value = of(record.result) if record.result else None
        return None if value is None else float(value)

    return measured


_ALL = (
    Measure("test_error", "test error of the last epoch", "%", True, _test("last", "error"), untrained="worst",
            held_out="validation_error"),
    Measure("selected_test_error", "test error of the selected epoch", "%", True, _test("selected", "error"),
            untrained="worst", held_out="validation_error"),
    Measure("test_accuracy", "test accuracy of the last epoch", "%", False, _test("last", "accuracy"),
            untrained="worst", held_out="validation_accuracy"),
    Measure("test_loss", "test loss of the last epoch", "nats", True, _test("last", "loss"), untrained="worst",
            held_out="validation_loss"),
    Measure("train_loss", "training loss of the last epoch, penalties included", "nats", True, _last("train", "loss"),
            untrained="worst"),
    Measure("train_error", "training error of the last epoch", "%", True, _last("train", "error"), untrained="worst",
            split="train"),
    Measure("validation_error", "validation error of the last epoch", "%", True, _last("validation", "error"),
            untrained="worst"),
    Measure("validation_accuracy", "validation accuracy of the last epoch", "%", False,
            _last("validation", "accuracy"), untrained="worst"),
    Measure("validation_loss", "validation loss of the last epoch", "nats", True, _last("validation", "loss"),
            untrained="worst"),
    Measure("held_out_error", "error of the last epoch on validation images, or the observed test error without them",
            "%", True, _curve(lambda errors: errors[-1]), untrained="worst"),
    Measure("trained", "whether the last epoch's accuracy (test, or validation where that is unread) is beyond chance "
            "(1) or not (0)", "share", False, _trained, untrained="worst"),
    Measure("gap", "held-out error minus error on the training images, unaugmented, both with the final weights: "
            "how much it overfits", "points", True, _gap, untrained="nothing"),
    Measure("gap_growth", "how much held-out minus training error, as measured in training, grew in the second half: "
            "whether it overfits late", "points", True, _gap_growth, untrained="nothing"),
    Measure("mean_held_out_error", "held-out error, mean of all epochs: low where training converges fast", "%", True,
            _curve(fmean), untrained="worst"),
    Measure("roughness", "mean change of the held-out error from epoch to epoch in the second half", "points", True,
            _curve(_roughness), untrained="nothing"),
    Measure("converged_at", "share of the run from which the held-out error stays within 1 point of its last value",
            "share", True, _curve(_converged_at), untrained="nothing"),
    Measure("first_drop", "fall of the held-out error at the first drop of the rate", "points", None, _drop(1),
            untrained="nothing"),
    Measure("second_drop", "fall of the held-out error at the second drop of the rate", "points", None, _drop(2),
            untrained="nothing"),
    Measure("roughness_before_drop", "mean change of the held-out error from epoch to epoch in the second half "
            "of the time before the first drop of the rate", "points", None, _roughness_before_drop,
            untrained="nothing"),
    Measure("seconds", "time of the whole run", "s", True, _result(lambda outcome: outcome.seconds)),
    Measure("seconds_per_epoch", "time of an epoch, evaluation included", "s", True, _seconds_per_epoch),
    Measure("milliseconds_per_update", "time of an update", "ms", True, _milliseconds_per_update),
    Measure("gradient_variation", "standard deviation of the gradient norm over its mean, in the last epoch", "ratio",
            True, _gradient_variation, slow=True),
    Measure("first_gradient", "log10 of the norm of the first layer's gradient at initialisation", "decades", None,
            _initial_gradients(_first_gradient), initial=True, slow=True),
    Measure("gradient_per_layer", "log10 of what a layer multiplies the gradient's norm by, "
            "fitted over the convolutions at initialisation", "decades", None, _initial_gradients(_gradient_per_layer),
            initial=True, slow=True),
    Measure("noise_scale", "gradient noise scale after the last epoch", "images", None, _noise_scale),
    Measure("activation_memory", "memory of what the backward pass needs from the forward pass of a batch, in fp32",
            "MB", True, _activation_memory, initial=True, exact=True),
    Measure("parameters", "parameters of the network", "count", None, _result(lambda outcome: outcome.parameters),
            initial=True, exact=True),
    Measure("macs", "multiply-adds for one image", "count", None, _result(lambda outcome: outcome.macs), initial=True,
            exact=True),
)  # fmt: skip

MEASURES: Mapping[str, Measure] = {one.name: one for one in _ALL}

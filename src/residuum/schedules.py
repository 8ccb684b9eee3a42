"""Learning rate over time: a schedule is a function that returns a function.

A builder takes the span of a run and returns its factor: (step, validation losses) -> what the base rate is multiplied
by. Steps count from 0 over the whole run; validation losses are those of the epochs finished so far, and only plateau
looks at them. There is no state, so a resumed run has the rates of one never stopped.

Times are epochs, or shares of the run where they are below 1; with shares a shortened run keeps the schedule's shape. A
change that falls between two steps takes place at the nearer one. Multistep, step, exponential and plateau are
constant between their changes; cosine, cosine restarts, cyclical and one-cycle change with every step.

Nothing here needs torch, so that records and reports can ask the table when a rate dropped.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

from pydantic import Field

from residuum.errors import InputError, quoted
from residuum.own import Fit
from residuum.registry import Choice, Table

Factor = Callable[[int, Sequence[float]], float]
Time = Annotated[float, Field(ge=1e-9, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]
Drop = Annotated[float, Field(gt=0, le=1)]
EpochDrop = Annotated[float, Field(gt=0, le=1), "for each epoch"]
Epochs = Annotated[int, Field(ge=0, le=1_000_000), "whole epochs"]


@dataclass(frozen=True)
class Span:
    """How long a run is: updates in an epoch, and epochs."""

    steps_per_epoch: int
    epochs: int

    @property
    def total_steps(self) -> int:
        """Updates in the whole run."""
        return self.steps_per_epoch * self.epochs

    def steps(self, time: float) -> float:
        """A time (epochs, or a share of the run where below 1) in steps, not rounded; 0 stays 0, else at least 1."""
        return max(1.0, time * (self.total_steps if time < 1 else self.steps_per_epoch)) if time else 0.0


def constant(_span: Span) -> Factor:
    """The base rate throughout."""
    return lambda _step, _losses: 1.0


def multistep(span: Span, *, milestones: tuple[Time, ...] = (0.5, 0.75), gamma: Drop = 0.1) -> Factor:
    """Multiplied by `gamma` at each milestone (He et al. 2015, section 4.2)."""
    changes = [span.steps(milestone) for milestone in milestones]
    return lambda step, _losses: gamma ** sum(_reached(step, change) for change in changes)


def step(span: Span, *, every: Time = 0.25, gamma: Drop = 0.5) -> Factor:
    """Multiplied by `gamma` each time that `every` has passed."""
    period = span.steps(every)
    return lambda step, _losses: gamma ** int((step + 0.5) / period)


def exponential(span: Span, *, gamma: EpochDrop = 0.9) -> Factor:
    """Multiplied by `gamma` after every epoch."""
    return lambda step, _losses: gamma ** (step // span.steps_per_epoch)


def cosine(span: Span, *, final: Share = 0.0) -> Factor:
    """Half a cosine from 1 to `final`, which is reached when the run ends, so the last update still moves.

    Loshchilov and Hutter 2017, equation 5, with one cycle.
    """
    return lambda step, _losses: _cosine(1.0, final, step / span.total_steps)


def cosine_restarts(
    span: Span, *, period: Time = 0.25, multiplier: Annotated[int, Field(ge=1, le=1000)] = 1, final: Share = 0.0
) -> Factor:
    """Half a cosine from 1 to `final` in each period; every period is `multiplier` times as long as the one before.

    Loshchilov and Hutter 2017, equation 5.
    """
    first = span.steps(period)

    def factor(step: int, _losses: Sequence[float]) -> float:
        if multiplier == 1:  # a period may be one step of a long run
            return _cosine(1.0, final, (step - int((step + 0.5) / first) * first) / first)
        start, length = 0.0, first
        while _reached(step, start + length):
            start, length = start + length, length * multiplier
        return _cosine(1.0, final, (step - start) / length)

    return factor


def cyclical(span: Span, *, base: Share = 0.1, period: Time = 0.2) -> Factor:
    """A triangle wave: from `base` to 1 and back in each period (Smith 2017, section 3.1)."""
    length = span.steps(period)
    return lambda step, _losses: base + (1 - base) * (1 - abs(2 * (step % length) / length - 1))


def one_cycle(
    span: Span, *, rise: Annotated[float, Field(ge=0, lt=1)] = 0.3, start: Share = 0.04, final: Share = 4e-6
) -> Factor:
    """Half a cosine from `start` up to 1 during the share `rise` of the run, then down to `final`, its last factor.

    Smith and Topin 2018, with cosines for lines. The base rate is the peak. The defaults are those of torch's
    OneCycleLR: the rate starts at 1/25 of the peak and ends at 1/10,000 of that.
    """
    peak, last = rise * span.total_steps - 1, span.total_steps - 1

    def factor(step: int, _losses: Sequence[float]) -> float:
        if step < peak:
            return _cosine(start, 1.0, step / peak)
        # A rise of less than a step has no room: the run then starts at its peak.
        top = max(0.0, peak)
        return _cosine(1.0, final, (step - top) / (last - top)) if last > top else final

    return factor


def plateau(
    _span: Span,
    *,
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    patience: Epochs = 3,
    threshold: Share = 1e-4,
) -> Factor:
    """Multiplied by `factor` once the validation loss has not improved for more than `patience` epochs.

    An improvement is a loss below the best so far by more than the share `threshold`; a loss that is not a number is
    none. After a reduction the epochs are counted anew.
    """

    def reduced(_step: int, validation_losses: Sequence[float]) -> float:
        best, bad, reductions = math.inf, 0, 0
        for loss in validation_losses:
            if loss < best * (1 - threshold):
                best, bad = loss, 0
            elif bad == patience:
                bad, reductions = 0, reductions + 1
            else:
                bad += 1
        return factor**reductions

    return reduced


def with_warmup(factor: Factor, span: Span, warmup: float, warmup_start: float) -> Factor:
    """A factor with a linear warm-up: multiplied by a ramp from `warmup_start` to 1, and from there on as it was.

    The schedule is not shifted: its milestones lie where they would without warm-up. `warmup` is a time; 0 is none.
    """
    length = span.steps(warmup)
    if not length:
        return factor

    def warmed(step: int, validation_losses: Sequence[float]) -> float:
        scheduled = factor(step, validation_losses)
        return scheduled if step >= length else scheduled * (warmup_start + (1 - warmup_start) * step / length)

    return warmed


def rates(
    schedule: Choice | str | Mapping[str, Any],
    span: Span,
    *,
    lr: float,
    warmup: float = 0.0,
    warmup_start: float = 0.1,
    validation_losses: Sequence[float] = (),
) -> list[float]:
    """The learning rate of every step of a run whose epochs end with these validation losses.

    Raises:
        InputError: the schedule's name or settings cannot be.
    """
    factor = with_warmup(SCHEDULES.build(schedule, span), span, warmup, warmup_start)
    return [
        lr * factor(number, validation_losses[: number // span.steps_per_epoch]) for number in range(span.total_steps)
    ]


def shortened(schedule: Choice, epochs: int, new_epochs: int) -> Choice:
    """The schedule that has over `new_epochs` the shape which a resolved one has over `epochs`.

    Times in epochs become shares of the run, a factor for each epoch becomes one for as many epochs as now fit into
    one, and whole epochs of patience are rounded, to 1 at least.
    """
    ratio = new_epochs / epochs
    changed: dict[str, Any] = {}
    for name, setting in SCHEDULES.settings(schedule).items():
        value = schedule.settings[name]
        if setting.type == Time:
            changed[name] = shortened_time(value, epochs, new_epochs)
        elif setting.type == tuple[Time, ...]:
            changed[name] = [shortened_time(time, epochs, new_epochs) for time in value]
        elif setting.type == EpochDrop:
            changed[name] = value ** (1 / ratio)
        elif setting.type == Epochs:
            changed[name] = max(min(1, value), round(value * ratio))
    return SCHEDULES.resolve(schedule.merged(Choice(**changed)))


def shortened_time(time: float, epochs: int, new_epochs: int) -> float:
    """A time of a run of `epochs` at the same place of a run of `new_epochs`: a share where it lies within the run."""
    share = time if time < 1 else time / epochs
    return share if share < 1 else share * new_epochs


def unreached(schedule: Choice, epochs: int) -> dict[str, list[float]]:
    """The times in a resolved schedule that a run of so many epochs does not live to see, by the setting they stand in.

    A milestone at the very end changes no update any more; a period that ends with the run is whole.
    """
    times: dict[str, list[float]] = {}
    for name, setting in SCHEDULES.settings(schedule).items():
        value = schedule.settings[name]
        if setting.type == Time:
            times[name] = [value] if value > epochs or (value == epochs and name != "period") else []
        elif setting.type == tuple[Time, ...]:
            times[name] = [time for time in value if time >= epochs]
    return {name: late for name, late in times.items() if late}


def _reached(step: int, change: float) -> bool:
    """Whether a step comes at or after a change, which takes place at the step that is nearest to it."""
    return step + 0.5 >= change


def _cosine(start: float, end: float, share: float) -> float:
    """The point at a share of the way along half a cosine from start to end, both of which it meets exactly."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Schedule:
    """A row of the table of schedules: its builder, and what is told of it without building it.

    A `stepwise` rate is constant and then drops; any other moves all the time. `drops(settings, epochs)` are the times,
    in epochs, at which it drops, where the settings say. `watches_loss`: it needs validation losses.
    """

    build: Callable[..., Factor]
    stepwise: bool = False
    drops: Callable[[Mapping[str, Any], int], Iterable[float]] = lambda _settings, _epochs: ()
    watches_loss: bool = False


def _milestones(settings: Mapping[str, Any], epochs: int) -> list[float]:
    return [_in_epochs(time, epochs) for time in settings.get("milestones", ())]


def _multiples(settings: Mapping[str, Any], epochs: int) -> list[float]:
    every = _in_epochs(settings.get("every", epochs), epochs)
    # A rate that drops more often than that drops with every update.
    return [number * every for number in range(1, min(int(epochs / every), 10_000) + 1)]


def _in_epochs(time: float, epochs: int) -> float:
    return time * epochs if time < 1 else float(time)


ROWS: Mapping[str, Schedule] = {
    "constant": Schedule(constant),
    "multistep": Schedule(multistep, stepwise=True, drops=_milestones),
    "step": Schedule(step, stepwise=True, drops=_multiples),
    "exponential": Schedule(exponential),
    "cosine": Schedule(cosine),
    "cosine_restarts": Schedule(cosine_restarts),
    "cyclical": Schedule(cyclical),
    "one_cycle": Schedule(one_cycle),
    "plateau": Schedule(plateau, stepwise=True, watches_loss=True),
}
"""What is known of each schedule, by its name."""


def row(name: str) -> Schedule:
    """What is known of a schedule by its name; of own code nothing is, but that it may move all the time."""
    return ROWS[name] if name in ROWS else Schedule(constant)


def _checked(found: Any) -> Any:
    """Own code as a builder whose every share of the rate is a number that can be one.

    Raises:
        InputError: it is a scheduler of torch's, which moves the rate of an optimizer itself.
    """
    if any(f"{one.__module__}.{one.__name__}" == "torch.optim.lr_scheduler.LRScheduler" for one in
           getattr(found, "__mro__", ())):  # fmt: skip
        raise InputError(
            f"{found.__name__} moves the rate of an optimizer step by step; a schedule here is a function of the run's "
            f"span that gives the rate of any step, as these do: {', '.join(ROWS)}"
        )

    @wraps(found, updated=())
    def build(*given: Any, **chosen: Any) -> Any:
        made = found(*given, **chosen)
        if not callable(made):
            return made

        def factor(step: int, validation_losses: Sequence[float]) -> float:
            share = made(step, validation_losses)
            try:
                number = float(share)
            except (TypeError, ValueError) as error:
                raise InputError(f"a schedule gives a number, not {quoted(share)}, as at step {step}") from error
            if not 0 <= number < math.inf:
                raise InputError(f"a schedule gives a share of the rate from 0 on, not {number:g}, as at step {step}")
            return number

        return factor

    return build


def _no_schedule(made: object) -> str:
    if callable(made):
        return ""
    return f"makes a {type(made).__name__}; a schedule makes a function of step and validation losses"


SCHEDULES: Table[Factor] = Table(
    "schedule",
    {name: one.build for name, one in ROWS.items()},
    Fit(("span",), adapted=_checked, object="called", wrong=_no_schedule),
)
"""Builders `(span, *, settings) -> factor`."""

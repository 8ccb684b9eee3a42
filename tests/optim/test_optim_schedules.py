"""Learning rate over time: every schedule against torch's scheduler or a closed form, at every step."""

import math

import pytest
import torch

from residuum.errors import InputError
from residuum.optim import SCHEDULES, Span, rates, shortened, unreached, with_warmup
from residuum.recipes import RECIPES, recipe

SPAN = Span(steps_per_epoch=7, epochs=24)
NAN = math.nan
LOSSES = [2.0, 1.5, 1.4999, 1.6, NAN, 1.7, 1.49985, 1.2, 1.3, 1.3, 1.3, 1.3, 1.3, 1.3, 1.3, 1.3, 1.19, NAN, NAN, NAN,
          NAN, math.inf, 1.3, 1.0]  # fmt: skip


def stepped_by_torch(make, per_epoch=False, losses=None):
    """The factor at every step as one of torch's schedulers gives it, stepped as its documentation says."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = make(optimizer)
    factors = []
    for epoch in range(SPAN.epochs):
        for _ in range(SPAN.steps_per_epoch):
            factors.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if not per_epoch and losses is None:
                scheduler.step()
        if losses is not None:
            scheduler.step(losses[epoch])
        elif per_epoch:
            scheduler.step()
    return factors


lrs = torch.optim.lr_scheduler
N, E = SPAN.total_steps, SPAN.steps_per_epoch
TWINS = {
    "constant": [({}, lambda: [1.0] * N)],
    "multistep": [
        (
            {"milestones": [5, 11, 11], "gamma": 0.5},
            lambda: stepped_by_torch(lambda o: lrs.MultiStepLR(o, [5, 11, 11], 0.5), per_epoch=True),
        ),
        (
            {"milestones": [0.25, 0.5], "gamma": 0.1},
            lambda: stepped_by_torch(lambda o: lrs.MultiStepLR(o, [6, 12], 0.1), per_epoch=True),
        ),
        ({"milestones": [1], "gamma": 0.1}, lambda: [1.0 if n < E else 0.1 for n in range(N)]),  # an epoch, no share
        ({"milestones": [0.1], "gamma": 0.1}, lambda: [1.0 if n < 17 else 0.1 for n in range(N)]),  # 16.8 steps
    ],
    "step": [
        (
            {"every": 5, "gamma": 0.3},
            lambda: stepped_by_torch(lambda o: lrs.StepLR(o, 5, 0.3), per_epoch=True),
        ),
        (
            {"every": 0.25, "gamma": 0.5},
            lambda: stepped_by_torch(lambda o: lrs.StepLR(o, 6, 0.5), per_epoch=True),
        ),
    ],
    "exponential": [({"gamma": 0.9}, lambda: stepped_by_torch(lambda o: lrs.ExponentialLR(o, 0.9), per_epoch=True))],
    "cosine": [
        ({"final": 0.1}, lambda: stepped_by_torch(lambda o: lrs.CosineAnnealingLR(o, N, 0.1))),
        ({}, lambda: stepped_by_torch(lambda o: lrs.CosineAnnealingLR(o, N))),
    ],
    "cosine_restarts": [
        ({"period": 5}, lambda: stepped_by_torch(lambda o: lrs.CosineAnnealingWarmRestarts(o, 5 * E))),
        (
            {"period": 0.125, "multiplier": 2, "final": 0.05},
            lambda: stepped_by_torch(lambda o: lrs.CosineAnnealingWarmRestarts(o, 3 * E, 2, 0.05)),
        ),
    ],
    "cyclical": [
        (
            {"base": 0.2, "period": 4},
            lambda: stepped_by_torch(lambda o: lrs.CyclicLR(o, 0.2, 1.0, 2 * E, cycle_momentum=False)),
        ),
        (
            {"base": 0.1, "period": 0.25},
            lambda: stepped_by_torch(lambda o: lrs.CyclicLR(o, 0.1, 1.0, 3 * E, cycle_momentum=False)),
        ),
    ],
    "one_cycle": [
        ({}, lambda: one_cycle()),
        (
            {"rise": 0.45, "start": 0.1, "final": 0.001},
            lambda: one_cycle(pct_start=0.45, div_factor=10, final_div_factor=100),
        ),
    ],
    "plateau": [
        (
            {},
            lambda: stepped_by_torch(lambda o: lrs.ReduceLROnPlateau(o, factor=0.5, patience=3, eps=0), losses=LOSSES),
        ),
        (
            {"factor": 0.1, "patience": 0, "threshold": 0.05},
            lambda: stepped_by_torch(
                lambda o: lrs.ReduceLROnPlateau(o, factor=0.1, patience=0, threshold=0.05, eps=0), losses=LOSSES
            ),
        ),
    ],
}  # fmt: skip


def one_cycle(**settings):
    # torch's scheduler refuses the step after its last one, so the last rate is read and not stepped from.
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = lrs.OneCycleLR(optimizer, 1.0, N, cycle_momentum=False, **settings)
    factors = [optimizer.param_groups[0]["lr"]]
    for _ in range(N - 1):
        optimizer.step()
        scheduler.step()
        factors.append(optimizer.param_groups[0]["lr"])
    return factors


CASES = [(name, settings, twin) for name, cases in TWINS.items() for settings, twin in cases]


def test_every_schedule_has_a_twin():
    assert set(TWINS) == set(SCHEDULES)


@pytest.mark.parametrize(("name", "settings", "twin"), CASES)
def test_factor_of_every_step_equals_the_twin(name, settings, twin):
    ours = rates({"name": name, **settings}, SPAN, lr=1.0, validation_losses=LOSSES)
    assert ours == pytest.approx(twin(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize("warmup", [0.0, 2.5])
def test_three_resumes_change_no_rate(name, warmup):
    """Guard 5: each resumed part is computed by a new factor that knows the step and the history, nothing else."""
    whole = rates(name, SPAN, lr=0.3, warmup=warmup, validation_losses=LOSSES)
    parts = []
    for start, stop in ((0, 10), (10, 11), (11, 70), (70, N)):  # within an epoch, after one step, at a boundary
        factor = with_warmup(SCHEDULES.build(name, SPAN), SPAN, warmup, 0.1)
        parts += [0.3 * factor(n, list(LOSSES[: n // E])) for n in range(start, stop)]
    assert parts == whole


@pytest.mark.parametrize("name", ["multistep", "step", "cosine", "cosine_restarts", "cyclical"])
def test_shortened_run_keeps_the_shape(name):
    long, short = Span(20, 40), Span(20, 10)
    assert rates(name, short, lr=1.0) == pytest.approx(rates(name, long, lr=1.0)[::4], abs=1e-12)


def test_shortened_run_drops_as_often_where_periods_are_no_whole_steps():
    levels = rates({"name": "step", "every": 0.25, "gamma": 0.5}, Span(5, 2), lr=1.0)
    assert levels == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.125]  # changes at 2.5, 5 and 7.5 steps


def test_times_shorter_than_a_step_last_one_step():
    assert rates({"name": "step", "every": 1e-9, "gamma": 0.5}, Span(3, 1), lr=1.0) == [1, 0.5, 0.25]
    assert rates({"name": "multistep", "milestones": [1e-9], "gamma": 0.5}, Span(3, 1), lr=1.0) == [1, 0.5, 0.5]
    assert rates({"name": "cosine_restarts", "period": 1e-9}, Span(3, 1), lr=1.0) == [1, 1, 1]


@pytest.mark.parametrize("total", [1, 2, 3, 10, 391])
def test_last_step_of_one_cycle_is_the_end_value(total):
    """Guard 32: the cycle ends with the run, exactly."""
    factors = rates({"name": "one_cycle", "final": 0.01}, Span(total, 1), lr=1.0)
    assert factors[-1] == 0.01
    assert total < 10 or max(factors) == pytest.approx(1.0, abs=0.03)


def test_one_cycle_starts_at_its_peak_without_a_rise():
    factors = rates({"name": "one_cycle", "rise": 0, "final": 0.0}, Span(5, 1), lr=1.0)
    assert factors[0] == 1.0
    assert sorted(factors, reverse=True) == factors


def test_cosine_is_not_over_before_its_last_update():
    assert rates("cosine", Span(10, 1), lr=1.0)[-1] == pytest.approx((1 + math.cos(0.9 * math.pi)) / 2)


def test_plateau_takes_nothing_that_is_not_finite_for_an_improvement():
    """Guard 25, schedule side: NaN and inf never count as progress."""
    factor = SCHEDULES.build({"name": "plateau", "patience": 1}, SPAN)
    assert [factor(0, [1.0, *[NAN] * bad]) for bad in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert factor(0, [NAN, NAN, 1.0, 0.9, 0.8]) == 0.5


class TestWarmup:
    def test_is_linear_then_exactly_the_schedule(self):
        """Guard 34: the warm-up is switched back."""
        plain = rates("constant", SPAN, lr=0.1)
        warm = rates("constant", SPAN, lr=0.1, warmup=2, warmup_start=0.1)
        assert warm[: 2 * E] == pytest.approx([0.1 * (0.1 + 0.9 * n / (2 * E)) for n in range(2 * E)])
        assert warm[2 * E :] == plain[2 * E :]

    def test_equals_torch(self):
        warm = rates("constant", SPAN, lr=1.0, warmup=3, warmup_start=0.25)
        assert warm == pytest.approx(stepped_by_torch(lambda o: lrs.LinearLR(o, 0.25, total_iters=3 * E)))

    @pytest.mark.parametrize("name", list(SCHEDULES))
    def test_leaves_every_schedule_unshifted(self, name):
        """Guard 34: after the warm-up each schedule has the rates that it has without."""
        plain = rates(name, SPAN, lr=1.0, validation_losses=LOSSES)
        warm = rates(name, SPAN, lr=1.0, warmup=0.1, warmup_start=0.2, validation_losses=LOSSES)
        length = 0.1 * N
        for n in range(N):
            ramp = 0.2 + 0.8 * n / length if n < length else 1.0
            assert warm[n] == pytest.approx(ramp * plain[n])
            assert n < length or warm[n] == plain[n]

    def test_below_one_is_a_share_of_the_run(self):
        assert rates("cosine", SPAN, lr=1.0, warmup=0.25) == rates("cosine", SPAN, lr=1.0, warmup=6)


RECIPE_RATES = {
    "he2015": (391, [(81, 0.1), (41, 0.01), (42, 0.001)]),
    "report_d": (782, [(51, 0.1), (24, 0.01), (89, 0.001)]),
    "report_c": (352, [(1, 0.1 * 0.9**epoch) for epoch in range(50)]),
    "report_e": (352, [(10, 0.05), (10, 0.025), (10, 0.0125), (10, 0.00625)]),
    "quick": (20, None),
    "finetune": (352, None),
}


class TestRecipes:
    """Guard 34: the rate of every step of each recipe."""

    @staticmethod
    def rates_of(name, spe, epochs=None):
        optim, train = recipe(name).optim, recipe(name).train
        span = Span(spe, epochs or train.epochs)
        return rates(optim.schedule, span, lr=optim.lr, warmup=optim.warmup, warmup_start=optim.warmup_start)

    def test_all_are_covered(self):
        assert set(RECIPE_RATES) == set(RECIPES)

    @pytest.mark.parametrize("name", ["he2015", "report_d", "report_c", "report_e"])
    def test_levels(self, name):
        spe, levels = RECIPE_RATES[name]
        expected = [lr for epochs, lr in levels for _ in range(epochs * spe)]
        assert self.rates_of(name, spe) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("name", ["quick", "finetune"])
    def test_two_are_half_a_cosine(self, name):
        config, (spe, _) = recipe(name), RECIPE_RATES[name]
        total = spe * config.train.epochs
        expected = [config.optim.lr * (1 + math.cos(math.pi * n / total)) / 2 for n in range(total)]
        assert self.rates_of(name, spe) == pytest.approx(expected, rel=1e-9)

    def test_he2015_in_twelve_epochs_drops_at_the_same_shares(self):
        got = self.rates_of("he2015", 391, epochs=12)
        changes = [n for n in range(1, len(got)) if got[n] != got[n - 1]]
        assert changes == [round(81 / 164 * 12 * 391), round(122 / 164 * 12 * 391)]


@pytest.mark.parametrize(
    "choice",
    [
        "cosin",
        {"name": "cosine", "final": 2},
        {"name": "step", "every": 0},
        {"name": "step", "every": math.inf},
        {"name": "multistep", "milestones": [-1]},
        {"name": "exponential", "gamma": 0},
        {"name": "plateau", "factor": 1.0},
        {"name": "one_cycle", "rise": 1.0},
        {"name": "cosine_restarts", "multiplier": 0},
    ],
)
def test_impossible_schedules_are_refused(choice):
    with pytest.raises(InputError) as caught:
        rates(choice, SPAN, lr=0.1)
    assert "\n" not in str(caught.value)


LONG, SHORT = Span(41, 40), Span(164, 10)
"""Runs of the same number of updates: a schedule shortened from 40 epochs to 10 must be the same curve on them."""


@pytest.mark.parametrize(
    "choice",
    [
        {"name": "constant"},
        {"name": "multistep", "milestones": [20, 0.75, 60]},
        {"name": "step", "every": 7},
        {"name": "cosine", "final": 0.01},
        {"name": "cosine_restarts", "period": 5, "multiplier": 2},
        {"name": "cyclical", "period": 8},
        {"name": "one_cycle"},
    ],
)
def test_shortened_schedule_is_the_same_curve(choice):
    resolved = SCHEDULES.resolve(choice)
    long, short = SCHEDULES.build(resolved, LONG), SCHEDULES.build(shortened(resolved, 40, 10), SHORT)
    assert [long(step, []) for step in range(1640)] == pytest.approx([short(step, []) for step in range(1640)])


def test_shortened_exponential_meets_the_long_one_at_the_ends_of_its_epochs():
    resolved = SCHEDULES.resolve({"name": "exponential", "gamma": 0.9})
    long, short = SCHEDULES.build(resolved, LONG), SCHEDULES.build(shortened(resolved, 40, 10), SHORT)
    assert [short(164 * epoch, []) for epoch in range(10)] == pytest.approx([0.9 ** (4 * e) for e in range(10)])
    assert short(164 * 3, []) == pytest.approx(long(41 * 12, []))


def test_shortened_plateau_waits_as_long_in_shares_of_the_run():
    assert shortened(SCHEDULES.resolve({"name": "plateau", "patience": 8}), 40, 10).settings["patience"] == 2
    assert shortened(SCHEDULES.resolve({"name": "plateau", "patience": 3}), 40, 4).settings["patience"] == 1
    assert shortened(SCHEDULES.resolve({"name": "plateau", "patience": 0}), 40, 4).settings["patience"] == 0


def test_every_schedule_is_covered_by_the_tests_of_shortening():
    tested = {
        "constant",
        "multistep",
        "step",
        "cosine",
        "cosine_restarts",
        "cyclical",
        "one_cycle",
        "exponential",
        "plateau",
    }
    assert tested == set(SCHEDULES)


@pytest.mark.parametrize(
    ("settings", "late"),
    [
        ({"name": "multistep", "milestones": [5, 9.5, 10, 0.75]}, {"milestones": [10.0]}),
        ({"name": "multistep", "milestones": [81, 122]}, {"milestones": [81.0, 122.0]}),
        ({"name": "multistep", "milestones": [5, 0.9]}, {}),
        ({"name": "step", "every": 10}, {"every": [10.0]}),
        ({"name": "step", "every": 9}, {}),
        ({"name": "cosine_restarts", "period": 10}, {}),
        ({"name": "cosine_restarts", "period": 11}, {"period": [11.0]}),
        ({"name": "cyclical", "period": 11}, {"period": [11.0]}),
        ({"name": "plateau", "patience": 50}, {}),
        ({"name": "constant"}, {}),
    ],
)
def test_times_at_or_beyond_the_end_are_told_from_those_within(settings, late):
    """Where the rate falls in steps: it falls at each time that is within, and at none of the others."""
    schedule = SCHEDULES.resolve(settings)
    assert unreached(schedule, 10) == late
    if settings["name"] in ("multistep", "step"):
        times = settings.get("milestones", [settings.get("every")])
        changes = len(set(rates(schedule, Span(steps_per_epoch=4, epochs=10), lr=1.0))) - 1
        assert changes == len(times) - sum(map(len, late.values()))

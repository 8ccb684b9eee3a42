"""Measures of a run: each against a record whose numbers are known by hand, and None where there is nothing."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from residuum import recipes
from residuum.errors import InputError
from residuum.records import layers
from residuum.records.event import EpochDone, Scores
from residuum.records.facts import DataFacts, Normalized
from residuum.records.layers import BINS, Histograms
from residuum.records.measures import MEASURES, drop_times, has_trained, held_out_errors, measure, rate_drops
from residuum.records.outcome import Outcome, Scored
from residuum.records.record import RunRecord
from residuum.records.storage import write_file

FACTS = DataFacts("letters", "", (1, 8, 8), 900, 100, 1000, Normalized("per_image", (), ()), tuple("abcdefghij"))
TEST, CLEAN = Scores("test", 0.5, 0.9, 1000), Scores("train", 0.1, 0.95, 1000)


def epoch(number, lr, train, validation=None, test=None):
    def scores(split, error):
        return Scores(split, error / 10, 1 - error / 100, 1000) if error is not None else None

    return EpochDone(number, 10 * number, lr, scores("train", train), scores("validation", validation),
                     scores("test", test), False, 2.0 * number, 500.0)  # fmt: skip


def record(epochs, folder=Path("nowhere"), status="finished", **result):
    costs = {"seconds": 60.0, "parameters": 1234, "macs": 99, "activations": 1000}
    outcome = Outcome(status, **{"last": Scored(6, test=TEST, train_clean=CLEAN), **costs, **result})
    return RunRecord("id", folder, "", status, recipes.he2015(), (), None, tuple(epochs), outcome)


CURVE = [
    epoch(1, 0.1, 60, validation=70, test=1), epoch(2, 0.1, 50, validation=40), epoch(3, 0.01, 30, validation=25),
    epoch(4, 0.01, 20, validation=27), epoch(5, 0.001, 15, validation=24.5), epoch(6, 0.001, 12, validation=24),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("test_error", 10), ("test_accuracy", 90), ("test_loss", 0.5), ("train_loss", 1.2), ("train_error", 12),
        ("validation_error", 24), ("validation_accuracy", 76), ("validation_loss", 2.4), ("held_out_error", 24), ("gap", 19), ("gap_growth", 12 - (25 - 30)),
        ("mean_held_out_error", (70 + 40 + 25 + 27 + 24.5 + 24) / 6), ("roughness", (2.5 + 0.5) / 2),
        ("converged_at", 5 / 6), ("first_drop", 15), ("second_drop", 2.5), ("seconds", 60),
        ("activation_memory", 4 * 1000 * 128 / 1e6),
        ("seconds_per_epoch", 7), ("milliseconds_per_update", 256), ("parameters", 1234), ("macs", 99),
    ],
)  # fmt: skip
def test_measure_of_a_known_curve(name, value):
    assert MEASURES[name].of(record(CURVE)) == pytest.approx(value)


def test_measures_that_need_more_than_the_curve(tmp_path):
    assert MEASURES["selected_test_error"].of(record(CURVE)) is None
    assert MEASURES["selected_test_error"].of(
        record(CURVE, selected=Scored(4, test=replace(TEST, accuracy=0.95)))
    ) == pytest.approx(5)
    rows = [b'{"epoch": 5, "gradient_norm": 100}', *(b'{"epoch": 6, "gradient_norm": %d}' % n for n in (1, 2, 3))]
    write_file(tmp_path / "steps.jsonl", b"\n".join(rows) + b"\n")
    assert MEASURES["gradient_variation"].of(record(CURVE, tmp_path)) == pytest.approx((2 / 3) ** 0.5 / 2)


def test_a_run_recorded_without_clean_images_has_no_gap():
    assert MEASURES["gap"].of(record(CURVE, last=Scored(6, test=TEST))) is None


def test_every_measure_is_tested_and_is_none_for_a_run_without_epochs():
    empty = RunRecord("id", Path("nowhere"), "", "stopped", recipes.he2015(), (), None, (), None)
    assert {name for name, one in MEASURES.items() if one.of(empty) is not None} == set()


def test_a_diverged_run_has_no_error_but_keeps_its_cost():
    diverged = record(CURVE[:2], status="diverged", last=None)
    there = {name for name, one in MEASURES.items() if one.of(diverged) is not None}
    assert not there & {"test_error", "train_error", "train_loss", "held_out_error", "gap", "converged_at"}
    assert {"parameters", "macs", "seconds"} <= there


def test_the_unrest_before_a_drop_is_that_of_the_second_half_of_the_time_before_it():
    errors = [70, 40, 30, 36, 33, 20, 5]
    rows = [epoch(number, 0.1 if number < 7 else 0.01, 10, validation=error) for number, error in enumerate(errors, 1)]
    assert MEASURES["roughness_before_drop"].of(record(rows)) == pytest.approx((3 + 13) / 2)
    assert MEASURES["roughness_before_drop"].of(record(rows[:6])) is None, "the rate never fell"
    assert MEASURES["roughness_before_drop"].of(record(CURVE)) is None, "one epoch before the drop has no changes"


def test_curves_drawn_at_random_against_slow_twins():
    """The same numbers by loops over the epochs."""
    chance = np.random.default_rng(5)
    for length in chance.integers(2, 20, 30):
        drop = int(chance.integers(1, length + 1))
        rows = [epoch(n, 0.1 if n < drop else 0.01, *chance.uniform(0, 90, 2)) for n in range(1, length + 1)]
        held_out = [100 - 100 * row.validation.accuracy for row in rows]
        gaps = [error - 100 + 100 * row.train.accuracy for row, error in zip(rows, held_out, strict=True)]
        assert MEASURES["gap_growth"].of(record(rows)) == pytest.approx(gaps[-1] - gaps[length // 2 - 1])
        changes = [abs(held_out[n] - held_out[n - 1]) for n in range((drop - 1) // 2 + 1, drop - 1)]
        expected = sum(changes) / len(changes) if changes else None
        assert MEASURES["roughness_before_drop"].of(record(rows)) == (expected and pytest.approx(expected))


@pytest.mark.parametrize(("accuracy", "n", "chance", "trained"), [
    (0.10, 10_000, 0.1, 0.0), (0.1092, 10_000, 0.1, 0.0), (0.1096, 10_000, 0.1, 1.0), (0.9, 10_000, 0.1, 1.0),
    (0.1135, 10_000, 0.1135, 0.0),  # MNIST: always the most frequent digit
    (0.0, 10, 0.5, 0.0), (0.1, 10_000, None, 0.0), (0.12, 10_000, None, 1.0),
])  # fmt: skip
def test_a_run_trained_if_its_accuracy_is_beyond_chance(accuracy, n, chance, trained):
    last = Scored(6, test=Scores("test", 2.3, accuracy, n), chance=chance)
    made = replace(record(CURVE, last=last), data=FACTS)
    assert MEASURES["trained"].of(made) == trained
    guessed = stats.binomtest(round(accuracy * n), n, chance or 0.1, alternative="greater").pvalue
    assert (guessed < 0.001) == trained
    assert MEASURES["trained"].of(record(CURVE[:1], status="diverged", last=None)) == 0
    assert MEASURES["trained"].of(record(CURVE)) is None  # of how many images and classes is not known


def test_held_out_is_validation_where_there_is_one_and_the_observed_test_curve_otherwise():
    assert held_out_errors(record(CURVE))[0] == pytest.approx(70)
    observed = [epoch(1, 0.1, 50, test=60), epoch(2, 0.1, 40, test=55)]
    assert held_out_errors(record(observed)) == pytest.approx([60, 55])
    assert held_out_errors(record([*observed, epoch(3, 0.1, 40)])) == []


@pytest.mark.parametrize(
    ("schedule", "times"),
    [
        ({"name": "multistep", "milestones": [1.5, 0.5, 4]}, [1.5, 3, 4]),  # epochs, or a share of six
        ({"name": "multistep", "milestones": [8]}, [2, 4]),  # not reached: what the rates of the epochs show
        ({"name": "step", "every": 0.25, "gamma": 0.5}, [1.5, 3, 4.5]),
        ({"name": "step", "every": 2, "gamma": 0.5}, [2, 4]),
        ({"name": "plateau"}, [2, 4]),
        ({"name": "cosine"}, []),
        ({"name": "exponential"}, []),
    ],
)
def test_a_drop_is_where_the_schedule_has_it(schedule, times):
    config = recipes.he2015().changed({"optim.schedule": schedule, "train.epochs": 6})
    # The rates of the curve itself fall as epochs 3 and 5 begin.
    assert drop_times(replace(record(CURVE), config=config)) == times


def test_a_smooth_schedule_has_no_drops():
    assert rate_drops(record(CURVE)) == [3, 5]
    cosine = recipes.he2015().changed({"optim.schedule": "cosine"})
    assert rate_drops(replace(record(CURVE), config=cosine)) == []


def test_unknown_measure_names_the_nearest():
    with pytest.raises(InputError, match="unknown measure 'tets_error'; did you mean 'test_error'"):
        measure("tets_error")


def with_layers(folder, norms, names=("conv1", "layer1.0.conv1", "layer1.0.conv2", "linear")):
    """A run that diverged at once, and had seen its layers before."""
    counts_TB, zeros_T = np.full((len(names), BINS), 2, np.int32), np.zeros(len(names))
    stds_T = np.array(norms) / (2 * BINS) ** 0.5
    gradients = Histograms(tuple(f"{name}.weight" for name in names), counts_TB, zeros_T, zeros_T, zeros_T, stds_T)
    others = Histograms(names, counts_TB, zeros_T, zeros_T, zeros_T, zeros_T)
    layers.write(folder, layers.Layers(0, 1, others, gradients, others, others, np.zeros(0)))
    return record([], folder, status="diverged")


def test_gradients_of_an_initialised_network(tmp_path):
    """Geometric: each layer has 1e-3 of the next; the projection and the linear layer do not count for the slope."""
    names = ("conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.shortcut.0", "linear")
    found = with_layers(tmp_path, [1e-10, 1e-7, 1e-4, 1e-1, 1e30, 1e20], names)
    assert MEASURES["first_gradient"].of(found) == pytest.approx(-10)
    assert MEASURES["gradient_per_layer"].of(found) == pytest.approx(-3)


@pytest.mark.parametrize("first", [0.0, 1e-55, float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_to_rely_on_is_none_and_does_not_bend_the_slope(tmp_path, first):
    names = ("conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "linear")
    found = with_layers(tmp_path, [first, 1e-4, 1e-2, 1.0, 1.0], names)
    assert MEASURES["first_gradient"].of(found) is None
    assert MEASURES["gradient_per_layer"].of(found) == pytest.approx(-2)
    (tmp_path / "few").mkdir()
    few = with_layers(tmp_path / "few", [first, 1e-4, 1e-2, 1.0])
    assert MEASURES["gradient_per_layer"].of(few) is None, "two layers are a line, whatever they have"


@pytest.mark.parametrize(("right", "chance", "trained"), [(40, 0.25, 1), (25, 0.25, 0), (40, 0.4, 0)])
def test_a_run_that_left_the_test_set_unread_is_held_against_its_validation_images(right, chance, trained):
    unread = record(CURVE, last=Scored(6, Scores("validation", 1.0, right / 100, 100), held_out_chance=chance))
    assert MEASURES["trained"].of(unread) == trained
    assert MEASURES["validation_error"].trained(unread) == bool(trained)
    read = replace(unread.result.last, test=Scores("test", 0.5, 0.9, 100), chance=0.1)
    assert MEASURES["trained"].of(record(CURVE, last=read)) == 1
    assert MEASURES["trained"].of(record(CURVE, last=read).blind()) == trained


def test_a_blind_record_says_nothing_of_the_test_images():
    seen = record(CURVE, selected=Scored(6, test=TEST, chance=0.1))
    blind = seen.blind()
    assert blind.epochs[0].test is None
    assert blind.epochs[0].validation == seen.epochs[0].validation
    assert blind.result.selected == Scored(6)
    of_test = [name for name, one in MEASURES.items() if one.held_out]
    assert of_test == ["test_error", "selected_test_error", "test_accuracy", "test_loss"]
    assert [MEASURES[name].of(blind) for name in of_test] == [None] * 4
    assert all(MEASURES[MEASURES[name].held_out].of(blind) is not None for name in of_test)
    assert MEASURES["held_out_error"].of(blind) == 24


def test_what_reads_a_row_for_every_update_or_layer_is_taken_only_where_it_is_asked_for():
    assert {name for name, one in MEASURES.items() if one.slow} == {
        "gradient_variation", "first_gradient", "gradient_per_layer",
    }  # fmt: skip


@pytest.mark.parametrize(("train", "test", "expected"), [(0.9, 0.1, (True, False)), (0.1, 0.9, (False, True))])
def test_whether_a_run_trained_is_judged_on_the_images_that_a_measure_is_of(train, test, expected):
    """A training error says something only of a network that fits its training images, whatever it does on others."""
    curve = [replace(row, train=replace(row.train, accuracy=train, n=1000)) for row in CURVE]
    last = Scored(len(curve), test=Scores("test", 1.0, test, 1000), chance=0.1)
    made = replace(record(curve, last=last), data=FACTS)
    assert (has_trained(made, "train"), has_trained(made, "test")) == expected
    assert measure("train_error").trained(made) is expected[0]
    assert measure("test_error").trained(made) is expected[1]


def test_an_interval_ends_where_no_value_can_be():
    error, loss, gap = (MEASURES[name] for name in ("test_error", "train_loss", "gap"))
    assert error.possible(-25.5, 52.2) == (0, 52.2)
    assert error.possible(-200, 300, of_difference=True) == (-100, 100)
    assert loss.possible(-1.0, 3.0) == (0, 3.0)
    assert loss.possible(-1.0, 3.0, of_difference=True) == (-1.0, 3.0)
    assert gap.possible(-4.0, 3.0) == (-4.0, 3.0)
    draw = random.Random(0)
    for what in MEASURES.values():
        for _ in range(20):
            low = draw.uniform(-300, 300)
            high = low + draw.uniform(0, 300)
            for of_difference in (False, True):
                cut = what.possible(low, high, of_difference=of_difference)
                assert low <= cut[0]
                assert cut[1] <= high

"""The pace of a run and the packing of the cores: which there are, what a measurement is made of, what it leaves."""

import pytest
import torch

from residuum import assemble
from residuum.config import RunConfig
from residuum.errors import InputError
from residuum.launchers import packing
from residuum.launchers.packing import fastest, least_seconds, packings, start_seconds, step_seconds

TINY = {
    "data.dataset": {"name": "synthetic", "size": 8, "train": 40, "test": 20, "classes": 4},
    "data.validation": 8,
    "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]},
    "train.epochs": 1,
    "train.batch_size": 32,
}


@pytest.mark.parametrize(
    ("cores", "threads", "expected"),
    [
        (1, 1, [(1, 1)]),
        (2, 2, [(1, 2), (2, 1)]),
        (3, 3, [(1, 3), (3, 1)]),
        (8, 8, [(1, 8), (2, 4), (4, 2), (8, 1)]),
        (12, 12, [(1, 12), (2, 6), (4, 3), (12, 1)]),
        (2, 1, [(1, 1), (2, 1)]),
        (8, 2, [(1, 2), (2, 2), (4, 2), (8, 1)]),
        (2, 16, [(1, 2), (2, 1)]),
    ],
)
def test_packings_use_the_cores_with_as_many_threads_as_allowed(cores, threads, expected):
    assert packings(cores, threads) == expected


def test_start_of_a_worker_is_measured_until_it_could_begin(monkeypatch):
    assert 0 < start_seconds(1) < 600
    monkeypatch.setattr(packing._ready, "__name__", "nothing")  # its process cannot import this: it dies at once
    with pytest.raises(InputError, match="could not be measured: it died"):
        start_seconds(1)


def test_fastest_is_the_one_with_most_images_a_second(monkeypatch):
    monkeypatch.setattr(packing, "WINDOW", 0.1)
    found = fastest(RunConfig().changed(TINY), 2, 2)
    assert found.images_per_second.keys() == {(1, 2), (2, 1)}
    assert min(found.images_per_second.values()) > 0
    assert found.images_per_second[found.workers, found.threads] == max(found.images_per_second.values())


def test_workers_that_die_have_no_speed_and_a_mistake_is_found_before_any_starts(monkeypatch):
    config = RunConfig().changed(TINY)
    monkeypatch.setattr(packing, "_measure", lambda channel: None)  # its process cannot import this: it dies at once
    monkeypatch.setattr(packing._measure, "__name__", "nothing")
    with pytest.raises(InputError, match="every worker died"):
        fastest(config, 1, 1)
    monkeypatch.setattr(packing, "start", None)
    with pytest.raises(InputError, match="did you mean 'sgd'"):
        fastest(config.changed({"optim.optimizer": "sgdd"}), 1, 1)


@pytest.mark.parametrize("settings", [{}, {"data.validation": 0, "optim.lr": 1e30}], ids=["tame", "would diverge"])
def test_pace_of_a_run_shorter_than_its_measurement(settings, tmp_path, monkeypatch):
    """It has two updates; more are measured. Nothing is left behind but the pace."""
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    pace = step_seconds(RunConfig().changed(TINY | settings), 2, seconds=0.2)
    assert least_seconds(pace) == pytest.approx(pace.setup + 4 * pace.step + 2 * 500 * pace.evaluation)
    assert min(pace.step, pace.evaluation) > 0
    assert min(pace.spread, pace.setup) >= 0
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == before


def test_updates_that_are_measured_change_no_weight():
    resolved, data = assemble.resolve(RunConfig().changed(TINY))
    training, _ = assemble.training(resolved, data)
    before = [parameter.clone() for parameter in training.network.parameters()]
    updates = packing._updates(training)
    for _ in range(5):
        next(updates)
    assert all(map(torch.equal, before, training.network.parameters()))


def test_middle_is_the_median_and_half_the_interquartile_range_over_it():
    assert packing._middle([5, 1, 2, 4, 3]) == (3, pytest.approx((4 - 2) / 2 / 3))
    assert packing._middle([2, 2, 2, 100]) == (2, pytest.approx((26.5 - 2) / 2 / 2))

"""The pace of a run and the packing of the cores: which there are, what a measurement is made of, what it leaves."""

from multiprocessing import Pipe

import pytest
import torch

from residuum.conduct import packing
from residuum.conduct.launchers.lanes import Lane, turn
from residuum.conduct.packing import Packing, fastest, least_seconds, measured, packings, start_seconds, step_seconds
from residuum.config import RunConfig
from residuum.errors import InputError
from residuum.records.event import Diverged, Launched, StepDone
from residuum.run import assemble

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
    assert found.images_per_second.keys() == {(1, 2, 1), (2, 1, 1)}
    assert min(found.images_per_second.values()) > 0
    assert found.images_per_second[found.workers, found.threads, 1] == max(found.images_per_second.values())


@pytest.fixture
def gpus(monkeypatch):
    """A machine with GPUs of which the speeds by lanes, and the share of the memory that one run takes, are known."""

    def set_up(speeds, memory=0.01, count=1):
        asked = []

        def speed(config, workers, threads, lanes, on):
            asked.append((workers, threads, lanes))
            return (workers * speeds.get(lanes, 0.0), memory * lanes)

        monkeypatch.setattr(packing, "cards", lambda device: [str(n) for n in range(count)] if device != "cpu" else [])
        monkeypatch.setattr(packing, "_speed", speed)
        monkeypatch.setattr(packing, "_checked", lambda config: config)  # which settles on the device of this machine
        return asked

    return set_up


@pytest.mark.parametrize(
    ("speeds", "memory", "tried", "best", "gain"),
    [
        ({1: 100, 2: 190, 4: 300, 8: 420, 16: 500}, 0.01, [1, 2, 4, 8, 16], 16, 5.0),
        ({1: 100, 2: 190, 4: 195, 8: 420}, 0.01, [1, 2, 4], 4, 1.95),
        ({1: 100, 2: 190, 4: 120, 8: 420}, 0.01, [1, 2, 4], 2, 1.9),
        ({1: 100, 2: 190}, 0.01, [1, 2, 4], 2, 1.9),
        ({1: 100, 2: 190, 4: 300, 8: 420}, 0.2, [1, 2, 4], 4, 3.0),
        ({1: 100, 2: 190}, 0.6, [1], 1, 1.0),
    ],
    ids=["ever faster", "no longer clearly faster", "slower", "dies", "memory", "no room for two"],
)
def test_lanes_are_tried_while_they_are_faster_and_fit(gpus, speeds, memory, tried, best, gain):
    asked = gpus(speeds, memory)
    found = fastest(RunConfig().changed(TINY), 8, 4)
    assert asked == [(1, 4, lanes) for lanes in tried]
    assert (found.workers, found.threads, found.lanes, found.cards) == (1, 4, best, 1)
    assert found.gain == pytest.approx(gain)


def test_the_memory_of_the_largest_network_bounds_the_lanes(gpus, monkeypatch):
    """The speed is that of a middling one; four lanes of it would fit, four of the largest would not."""
    gpus({1: 100, 2: 190, 4: 300})
    typical, large = RunConfig().changed(TINY), RunConfig().changed({**TINY, "model.depth": 110})
    asked = []

    def speed(config, workers, threads, lanes, on):
        asked.append((config is large, lanes))
        return (float(lanes), 0.3 if config is large else 0.01)

    monkeypatch.setattr(packing, "_speed", speed)
    assert fastest(typical, 8, 4, large).lanes == 2
    assert asked == [(False, 1), (True, 1), (False, 2)]
    assert fastest(typical, 8, 4).lanes == 16


def test_each_gpu_has_a_worker_and_a_run_alone_is_on_one(gpus):
    asked = gpus({1: 100, 2: 150, 4: 150}, count=4)
    found = fastest(RunConfig().changed(TINY), 8, 4)
    assert asked == [(1, 4, 1), (4, 2, 1), (4, 2, 2), (4, 2, 4)]
    assert (found.workers, found.threads, found.lanes, found.gain) == (4, 2, 2, 6.0)
    assert str(found) == "in 2 lanes on each of 4 cards"


def test_a_study_on_the_cpu_of_a_machine_with_gpus_is_packed_on_its_cores(gpus, monkeypatch):
    gpus({})
    monkeypatch.setattr(packing, "_speed", lambda config, *packing: (float(packing[0]), 0.0))
    found = fastest(RunConfig().changed({**TINY, "compute.device": "cpu"}), 2, 2)
    assert (found.workers, found.threads, found.lanes, found.cards) == (2, 1, 1, 0)


def test_nothing_can_be_measured_on_a_gpu_where_one_run_dies(gpus):
    gpus({})
    with pytest.raises(InputError, match="every worker died"):
        fastest(RunConfig().changed(TINY), 2, 2)


def test_a_packing_that_is_asked_for_is_measured_beside_a_run_alone(gpus, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    asked = gpus({1: 100, 3: 250})
    found = measured(RunConfig().changed(TINY), 1, 2, 3)
    assert asked == [(1, 3, 1), (1, 2, 3)]
    assert (str(found), found.gain) == ("in 3 lanes on one card", 2.5)
    with pytest.raises(InputError, match="a worker died"):
        measured(RunConfig().changed(TINY), 1, 2, 4)


def test_lanes_are_measured_side_by_side(monkeypatch):
    """In this process: the worker's part, with both ends of the pipe in hand."""
    ours, theirs = Pipe()
    ours.send((RunConfig().changed({**TINY, "compute.threads": 1}), 3))
    ours.send(0.05)
    turns = []
    monkeypatch.setattr(packing, "turn", lambda lane: turns.append(id(lane)) or turn(lane))
    packing._measure(theirs)
    assert ours.recv() == "warm"
    speed, memory = ours.recv()
    assert (speed > 0, memory) == (True, 0.0)
    measured_turns = turns[3 * packing.WARM_UP :]
    assert len(measured_turns) >= packing.LEAST
    assert measured_turns[:3] == turns[: 3 * packing.WARM_UP : packing.WARM_UP], "one turn each"


def test_updates_of_a_turn_are_those_that_were_told():
    row = StepDone(1, 0, 0.0, 1.0, 1.0, "")
    events = [Launched(2), row, row, Launched(3), row, Diverged(1, 1, 1.0, 1.0), Launched(1), row]
    lane = Lane(event for event in events)
    assert [packing._updates(lane) for _ in range(4)] == [0, 2, 2, 1]


def test_the_rate_of_lanes_is_from_telling_to_telling(monkeypatch):
    """Of two lanes one tells four updates at its second, fourth and sixth turn, the other two at each: 1 s a turn."""
    clock = iter(range(100))
    monkeypatch.setattr(packing.time, "perf_counter", lambda: next(clock))
    told = {"a": iter([0, 4] * 9), "b": iter([2] * 18)}
    monkeypatch.setattr(packing, "_updates", lambda lane: next(told[lane]))
    assert packing._updates_a_second(["a", "b"], 15.0) == pytest.approx(4 / 4 + 2 / 2)


@pytest.mark.parametrize(
    ("visible", "device", "expected"),
    [("", "auto", ["0", "1"]), ("3,GPU-5", "cuda", ["3", "GPU-5"]), ("3, 5, 9", "auto", ["3", "5"]), ("3", "cpu", [])],
)
def test_cards_are_those_that_are_visible(monkeypatch, visible, device, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert packing.cards(device) == expected


def test_there_is_no_card_without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert packing.cards("auto") == []


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (Packing(1, 4), "1 at a time"),
        (Packing(3, 1, cards=1), "3 at a time"),
        (Packing(1, 1, 8, 1), "in 8 lanes on one card"),
        (Packing(2, 1, 8, 1), "in 16 lanes on one card"),
        (Packing(3, 1, 8, 2), "in 8 lanes of each of 3 workers"),
        (Packing(1, 1, 2), "in 2 lanes of one worker"),
    ],
)
def test_a_packing_says_how_many_runs_are_where(packed, said):
    assert str(packed) == said
    assert packed.gain == 1, "it was not measured"


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
    lane = Lane(packing._endless(training))
    assert [packing._updates(lane) for _ in range(5)] == [1] * 5
    assert all(map(torch.equal, before, training.network.parameters()))


def test_middle_is_the_median_and_half_the_interquartile_range_over_it():
    assert packing._middle([5, 1, 2, 4, 3]) == (3, pytest.approx((4 - 2) / 2 / 3))
    assert packing._middle([2, 2, 2, 100]) == (2, pytest.approx((26.5 - 2) / 2 / 2))

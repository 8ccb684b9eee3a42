"""Runs side by side in one thread: whose turn it is, what a lane's end leaves of the others, and bits as if alone."""

import os
import signal
from collections import defaultdict
from multiprocessing import Pipe

import pytest
import torch
from tiny_runs import bits, folder_of, job, saved_to_the_last_update, tiny

from residuum import training
from residuum.conduct.launchers import processes
from residuum.conduct.launchers.lanes import Lane, close_all, own_place, side_by_side, turn
from residuum.records import run_folder, storage
from residuum.records.event import EpochDone, Finished, Launched, Note, Started, StepDone
from residuum.records.record import read_record


def row(number: int) -> StepDone:
    return StepDone(1, number, 0.1, 1.0, 1.0, "")


def on_a_device(name, blocks, log):
    """Blocks of updates of which each is launched, then waited for with its first row."""
    number = 0
    try:
        for steps in blocks:
            log.append(f"{name} launched")
            yield Launched(steps)
            log.append(f"{name} waited")
            for _ in range(steps):
                yield row(number)
                number += 1
            log.append(f"{name} evaluated")
            yield Note(name)
    finally:
        log.append(f"{name} closed")


def test_every_lane_has_launched_before_the_first_is_waited_for():
    log, names = [], "abc"
    going = {name: Lane(on_a_device(name, [3, 2], log)) for name in names}
    said = list(side_by_side(going))
    waited = ["waited", "evaluated"]
    expected = [f"{name} launched" for name in names]
    expected += [f"{name} {what}" for name in names for what in (*waited, "launched")]
    expected += [f"{name} {what}" for name in names for what in (*waited, "closed")]
    assert log == expected
    assert going == {}
    for name in names:
        mine = [one for whose, one in said if whose == name]
        rows = [row(number) for number in range(5)]
        assert mine == [Launched(3), *rows[:3], Note(name), Launched(2), *rows[3:], Note(name), None]


def test_a_lane_that_launches_nothing_has_a_turn_for_each_update():
    def eager(name):
        yield Note(name)
        for number in range(2):
            yield row(number)
        yield Note(name)

    lane = Lane(eager("a"))
    assert [list(turn(lane)) for _ in range(3)] == [[Note("a"), row(0)], [row(1)], [Note("a")]]
    assert lane.over
    said = [name for name, one in side_by_side({name: Lane(eager(name)) for name in "ab"}) if isinstance(one, StepDone)]
    assert said == ["a", "b", "a", "b"]


def test_a_lane_that_goes_over_to_steps_of_its_own_has_turns_of_one_update_again():
    lane = Lane(event for event in [Launched(2), row(0), row(1), row(2), row(3)])
    assert [list(turn(lane)) for _ in range(3)] == [[Launched(2)], [row(0), row(1), row(2)], [row(3)]]


def test_an_error_ends_its_lane_only_and_a_lane_put_there_meanwhile_has_its_turns():
    def failing():
        yield row(0)
        raise ValueError("b")

    log: list[str] = []
    going = {"a": Lane(row(number) for number in range(3)), "b": Lane(failing())}
    said = []
    for name, one in side_by_side(going):
        if isinstance(one, ValueError):
            going["c"] = Lane(on_a_device("c", [1], log))
        said.append((name, one if one is None or isinstance(one, StepDone | Launched | Note) else str(one)))
    assert said == [
        ("a", row(0)), ("b", row(0)), ("a", row(1)), ("b", "b"), ("a", row(2)), ("c", Launched(1)),
        ("a", None), ("c", row(0)), ("c", Note("c")), ("c", None),
    ]  # fmt: skip


def test_lanes_are_closed_where_they_stand_each_in_its_place():
    log: list[str] = []
    entered = []

    class Place:
        def __enter__(self):
            entered.append(True)

        def __exit__(self, *_):
            entered.pop()

    def run(name):
        try:
            yield from on_a_device(name, [2], log)
        finally:
            log.append(f"{name} in its place: {len(entered) == 1}")
            if name == "b":
                raise OSError("full")

    going = {name: Lane(run(name), Place) for name in "abc"}
    for _, said in side_by_side(going):
        assert entered == [], "what is done with events is not done in the place of a run"
        if said == row(0):
            break
    assert {name: str(error or "") for name, error in close_all(going)} == {"a": "", "b": "full", "c": ""}
    assert going == {}
    assert log[:4] == ["a launched", "b launched", "c launched", "a waited"]
    assert sorted(log[4:]) == sorted(f"{name} {what}" for name in "abc" for what in ("closed", "in its place: True"))


def test_a_place_keeps_the_threads_of_its_run():
    one, two = own_place("cpu"), own_place("auto")
    with one():
        torch.set_num_threads(1)
    with two():
        torch.set_num_threads(2)
    with one():
        assert torch.get_num_threads() == 1
    with two():
        assert torch.get_num_threads() == 2
    with one():
        pass


OTHERS = {
    "usual": {},
    "adam, plain": {"optim.optimizer": "adam", "model.shortcut": "none", "train.seed": 1, "train.epochs": 3},
    "wide, averaged": {"model.channels": [6, 6, 12], "optim.ema": 0.9, "train.seed": 2, "train.epochs": 4},
    "mixed, two threads": {"data.mix": "mixup", "compute.threads": 2, "train.seed": 3, "epochs": 2},
    "diverging": {"optim.lr": 1e30, "train.seed": 4},
}


def test_lanes_give_the_bits_of_each_run_alone(tmp_path, whole):
    """Different networks, optimizers and lengths; one diverges, and one is stopped on the way and taken up again."""
    configs = {name: tiny(**{"epochs": 5, **settings}) for name, settings in OTHERS.items()}
    expected = {name: whole(config) for name, config in configs.items()}

    def lane(name):
        return Lane(training.run(configs[name], tmp_path), own_place("cpu"))

    going = {name: lane(name) for name in configs}
    ended, order = [], []
    for name, said in side_by_side(going):
        if isinstance(said, StepDone):
            order.append(name)
        elif isinstance(said, Finished):
            ended.append((name, said.status))
        elif name == "usual" and isinstance(said, EpochDone) and said.epoch == 2:
            going[name].events.close()
            going["usual, again"] = lane(name)
        assert not isinstance(said, Exception)
    assert order[: len(configs)] == [*configs], "every lane has its turn before the first has another"
    assert ended[0] == ("diverging", "diverged")
    assert sorted(ended[1:]) == sorted((name, "finished") for name in ("usual, again", *list(configs)[1:-1]))
    for name, config in configs.items():
        assert bits(folder_of(tmp_path, config)) == expected[name], name


class Served:
    """A worker's side of the pipe in this process: jobs go in beforehand, and what was said comes out."""

    def __init__(self, root, *configs):
        self.ours, self.theirs = Pipe()
        self.orders = [(job(config), root, "") for config in configs]
        for order in self.orders[1:]:
            self.ours.send(order)

    def compute(self) -> bool:
        return processes._compute(self.theirs, self.orders[0], defaultdict(list))

    def said(self, kind):
        found = defaultdict(list)
        while self.ours.poll():
            name, one = self.ours.recv()
            if isinstance(one, kind):
                found[name].append(one)
        return found


def hows(said):
    return {name: [one.how for one in ended] for name, ended in said.items()}


def test_a_run_that_cannot_go_on_ends_its_lane_only(tmp_path, whole):
    well, busy = tiny(0, epochs=2), tiny(1, epochs=2)
    impossible = tiny(2, epochs=2).changed({"optim.optimizer": "sgdd"})
    folder_of(tmp_path, busy).mkdir(parents=True)
    with storage.locked(folder_of(tmp_path, busy)):
        served = Served(tmp_path, well, busy, impossible)
        assert served.compute()
    assert hows(served.said(processes.Ended)) == {"seed 0": ["done"], "seed 1": ["busy"], "seed 2": ["impossible"]}
    assert bits(folder_of(tmp_path, well)) == whole(well)


def test_an_unexpected_error_in_a_lane_saves_the_others(tmp_path, monkeypatch):
    well, broken = tiny(0), tiny(1)
    path, rewind = folder_of(tmp_path, broken), run_folder.rewind
    path.mkdir(parents=True)

    def sometimes(folder, *rest):
        if folder == path:
            raise KeyError("a mistake of ours")
        rewind(folder, *rest)

    monkeypatch.setattr(run_folder, "rewind", sometimes)
    served = Served(tmp_path, well, broken)
    assert not served.compute(), "the process is not used any more"
    said = served.said(processes.Ended)
    assert hows(said) == {"seed 0": ["stopped"], "seed 1": ["crashed"]}
    assert said["seed 1"][0].reason.startswith("KeyError: ")
    assert (path / run_folder.CRASH_LOG).exists()
    assert read_record(folder_of(tmp_path, well)).status == "stopped"
    assert saved_to_the_last_update(folder_of(tmp_path, well))


@pytest.mark.parametrize("why", ["order", "parent is gone", "signal"])
def test_lanes_save_their_states_when_they_are_to_stop(tmp_path, monkeypatch, why):
    configs = [tiny(0), tiny(1)]
    served = Served(tmp_path, *configs)
    real = training.run

    def run(config, root, **named):
        for event in real(config, root, **named):
            if isinstance(event, EpochDone) and event.epoch == 2 and config.train.seed == 0:
                if why == "order":
                    served.ours.send(None)
                elif why == "signal":
                    os.kill(os.getpid(), signal.SIGTERM)
                else:
                    served.ours.close()
            yield event

    monkeypatch.setattr(training, "run", run)
    if why == "signal":
        assert not served.compute()
    else:
        with pytest.raises((EOFError, OSError)):
            served.compute()
    if why != "parent is gone":
        how = "crashed" if why == "signal" else "stopped"
        said = served.said(processes.Ended)
        assert hows(said) == {"seed 0": [how], "seed 1": [how]}
        assert said["seed 0"][0].reason.startswith("stopped by SIGTERM" if why == "signal" else "")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    for config in configs:
        assert read_record(folder_of(tmp_path, config)).status == "stopped"
        assert saved_to_the_last_update(folder_of(tmp_path, config))


def test_the_parent_hears_no_launch_and_updates_thinned(tmp_path, monkeypatch):
    config = tiny(0, epochs=2)
    served = Served(tmp_path, config)
    real = training.run

    def run(*given, **named):
        for event in real(*given, **named):
            if isinstance(event, StepDone):
                yield Launched(1)
            yield event

    monkeypatch.setattr(training, "run", run)
    assert served.compute()
    (said,) = served.said(object).values()
    kinds = [type(one) for one in said]
    assert kinds.count(StepDone) < 6
    assert [kind for kind in kinds if kind is not StepDone] == [
        Started,
        EpochDone,
        EpochDone,
        Finished,
        processes.Ended,
    ]

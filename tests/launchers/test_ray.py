"""Runs on a real Ray cluster of two nodes on this machine: bits, dead nodes, stopped and killed drivers."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from residuum import recipes, training
from residuum.analysis.results import results
from residuum.cli import main
from residuum.conduct import conducting, planning, tuning
from residuum.conduct.launchers import launch_of
from residuum.conduct.launchers.launcher import Job, JobEvent, JobFailed, JobRestarted, Room
from residuum.conduct.launchers.local import SIGNALS
from residuum.conduct.launchers.ray import environment
from residuum.conduct.launchers.tasks import compute
from residuum.conduct.tuning import TrialDone
from residuum.engine import state
from residuum.errors import InputError
from residuum.records import rows, run_folder, storage
from residuum.records.event import EpochDone, Finished, StepDone
from residuum.records.record import find_runs, read_record
from residuum.report.study_page import write
from residuum.run.explaining import explain_arms
from residuum.studies import parsing
from residuum.studies.study import Study

pytestmark = [pytest.mark.ray, pytest.mark.skipif(not find_spec("ray"), reason="the extra cluster is not installed")]
WAIT = 90


def config(seed: int, **settings):
    """A run on the digits that takes a few seconds, saved within its epochs."""
    base = {"model": "resnet8", "train.epochs": 4, "train.seed": seed, "compute.threads": 1, "save.steps": 5}
    return training.check(recipes.recipe("quick").changed(base | settings))


def jobs(*seeds: int, **settings) -> list[Job]:
    return [Job(f"seed {seed}", config(seed, **settings), "quick") for seed in seeds]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of two nodes that listen on this machine alone, each with a disk of its own at $OWN_DISK."""
    os.environ.update(environment(here=True))
    from ray.cluster_utils import Cluster

    usual = {number: signal.getsignal(number) for number in SIGNALS}
    disks = [tmp_path_factory.mktemp(f"disk{number}") for number in range(2)]
    first, second = ({"num_cpus": 1, "env_vars": {"OWN_DISK": str(disk)}} for disk in disks)
    made = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **first})
    made.add_node(**second)
    made.second, made.other_disk = second, disks[1]
    yield made
    made.shutdown()
    for number, handler in usual.items():  # a node has handlers of its own, in this process
        signal.signal(number, handler)


def until(true) -> None:
    """Wait until something is so."""
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end, "it does not become so"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """The weights of each run as it ends without a cluster."""
    folder = tmp_path_factory.mktemp("serial")
    return {f"seed {seed}": weights(training.train(config(seed), folder).folder) for seed in range(6)}


def weights(folder: Path) -> bytes:
    checkpoint, _ = run_folder.latest_checkpoint(folder)
    return checkpoint.files[state.WEIGHTS]


def ended(said) -> dict[str, list[str]]:
    """How each job ended."""
    found: dict[str, list[str]] = {}
    for one in said:
        if isinstance(one, JobFailed):
            found.setdefault(one.id, []).append("failed")
        elif isinstance(one, JobEvent) and isinstance(one.event, Finished):
            found.setdefault(one.id, []).append(one.event.status)
    return found


def test_runs_are_those_without_a_cluster_though_a_node_is_killed(cluster, serial, tmp_path):
    said, killed = [], False
    (other,) = cluster.worker_nodes
    for one in launch_of(f"ray:{cluster.address}")(jobs(*range(6)), tmp_path, Room(workers=0)):
        said.append(one)
        if not killed and isinstance(one, JobEvent) and isinstance(one.event, EpochDone) and one.event.epoch == 2:
            cluster.remove_node(other, allow_graceful=False)
            killed = True
    assert ended(said) == {f"seed {seed}": ["finished"] for seed in range(6)}
    for job in jobs(*range(6)):
        assert weights(run_folder.folder_of(tmp_path, job.config)) == serial[job.id], job.id
    assert sum(isinstance(one, JobRestarted) for one in said) <= 2
    cluster.add_node(**cluster.second)


def test_a_run_that_cannot_work_takes_no_other_with_it(cluster, tmp_path):
    impossible = config(0).changed({"data.dataset": "folder", "data.root": str(tmp_path / "nothing")})
    given = [Job("impossible", impossible, "quick"), *jobs(1)]
    said = list(launch_of(f"ray:{cluster.address}")(given, tmp_path, Room(workers=0)))
    assert ended(said) == {"impossible": ["failed"], "seed 1": ["finished"]}
    (failed,) = (one for one in said if isinstance(one, JobFailed))
    assert "does not exist" in failed.reason


def test_a_search_on_a_cluster_is_the_one_without(cluster, tmp_path):
    """Trial by trial, by a store alone: what is tried next depends on records that other machines have written."""
    asked = {"trials": 3, "space": {"optim.lr": {"low": 0.001, "high": 0.5, "log": True}}}
    settings = {"model": "resnet8", "data.subset": 200, "train.epochs": 1, "compute.threads": 1}
    study = Study(name="tune", question="Which rate?", base="quick", seeds=[0], set=settings, search=asked)
    plan = planning.plan(study, {})
    room = Room(workers=1, store=f"file://{tmp_path}/store", scratch="$OWN_DISK/searched")
    rooms = {"here": Room(), f"ray:{cluster.address}": room}
    here, there = ([one for one in tuning.search(plan, tmp_path / place[:4], room, place) if isinstance(one, TrialDone)]
                   for place, room in rooms.items())  # fmt: skip
    assert len(here) == 3
    assert [(one.settings, one.state, one.error) for one in here] == [
        (one.settings, one.state, one.error) for one in there
    ]
    one, other = (tuning.tuned(plan, tmp_path / place[:4]).tuned.arms[0] for place in rooms)
    assert (one.settings, one.epochs) == (other.settings, other.epochs)


def test_a_variable_that_a_node_does_not_have_is_told(tmp_path):
    orders = [(job.id, job.config.model_dump(mode="json"), "quick") for job in jobs(0)]
    ((name, how),) = compute(orders, "$NOT_THERE/runs", f"file://{tmp_path}/store")
    assert (name, how.how) == ("seed 0", "impossible")
    assert how.reason.startswith("--scratch: $NOT_THERE/runs names a variable that ")
    assert not Path("$NOT_THERE").exists()


@pytest.mark.long
def test_lanes_bundle_runs_in_a_task(cluster, serial, tmp_path):
    said = list(launch_of(f"ray:{cluster.address}")(jobs(0, 1, 2), tmp_path, Room(workers=0, lanes=2)))
    assert ended(said) == {f"seed {seed}": ["finished"] for seed in range(3)}
    for job in jobs(0, 1, 2):
        assert weights(run_folder.folder_of(tmp_path, job.config)) == serial[job.id]


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_ray import jobs
from residuum.conduct.launchers import launch_of
from residuum.conduct.launchers.launcher import JobEvent, Room, StoppedError
from residuum.records.event import StepDone
try:
    for said in launch_of({place!r})(jobs(0, 1, **{{"train.epochs": 60}}), Path({runs!r}), Room(workers=0)):
        if isinstance(said, JobEvent) and isinstance(said.event, StepDone):
            print(said.id, said.event.epoch, flush=True)
except StoppedError as error:
    sys.exit(error.exit_code)
"""


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_stopped_or_killed_leaves_runs_that_go_on(cluster, tmp_path, number):
    code = DRIVER.format(tests=str(Path(__file__).parent), place=f"ray:{cluster.address}", runs=str(tmp_path))
    driver = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert driver.stdout is not None
    going: dict[str, int] = {}
    for line in driver.stdout:
        going[line.rpartition(" ")[0]] = int(line.split()[-1])
        if len(going) == 2 and min(going.values()) >= 3:
            break
    os.kill(driver.pid, number)
    driver.communicate(timeout=WAIT)  # a pipe that is closed would end it in another way
    assert driver.returncode == (130 if number == signal.SIGINT else -number)
    folders = [run_folder.folder_of(tmp_path, job.config) for job in jobs(0, 1, **{"train.epochs": 60})]
    until(lambda: not any(map(storage.is_locked, folders)))
    for folder in folders:
        assert read_record(folder).status == "stopped"
        checkpoint, problems = run_folder.latest_checkpoint(folder)
        assert not problems
        assert checkpoint.position.epoch >= 2
        if number == signal.SIGINT:  # the state was saved where it stood, which rows after it would show
            steps = rows.read_rows(folder / run_folder.STEPS)
            assert len(steps) == checkpoint.position.epoch * 20 + checkpoint.position.step
    said = launch_of(f"ray:{cluster.address}")(jobs(0, 1, **{"train.epochs": 60}), tmp_path, Room(workers=0))
    first = next(one.event for one in said if isinstance(one, JobEvent) and isinstance(one.event, StepDone))
    said.close()
    assert first.epoch >= 3


def test_no_cluster_is_told_in_a_line():
    with pytest.raises(InputError, match=r"no Ray cluster at 127\.0\.0\.1:1: "):
        list(launch_of("ray:127.0.0.1:1")(jobs(0), Path("nowhere"), Room(workers=0)))
    assert not Path("nowhere").exists()


def test_the_token_of_the_cluster_is_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    assert environment(here=True)["RAY_AUTH_MODE"] == "token"
    token = tmp_path / "token"
    assert (token.stat().st_mode & 0o777, len(token.read_text())) == (0o600, 64)
    token.chmod(0o644)
    before = token.read_text()
    environment(here=False)
    assert (token.stat().st_mode & 0o777, token.read_text()) == (0o600, before)


def test_what_no_node_has_is_told(cluster, tmp_path):
    """A task that asks for more than there is waits, which looks like a hang."""
    room = Room(address=cluster.address, threads=99)
    said = launch_of("ray")(jobs(0, 1), tmp_path, room)
    first = next(said)
    said.close()
    assert "asks for 99 CPUs (it has" in first.event.text


def test_a_cluster_of_this_machine_comes_up_and_down(tmp_path, monkeypatch, capsys):
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path))
    assert main(["cluster", "up", "--cpus", "1", "--port", port]) == 0
    try:
        assert capsys.readouterr().out == f"up: residuum study run STUDY --on ray:127.0.0.1:{port}\n"
        assert main(["cluster", "up", "--port", port]) == 2
        assert "already; give another --port" in capsys.readouterr().err
        status = subprocess.run(
            [sys.executable, "-m", "residuum", "cluster", "status", "--port", port, "--json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        (found,) = json.loads(status.stdout)["nodes"]
        assert (found["address"], found["alive"], found["cpus"]) == ("127.0.0.1", True, 1)
    finally:
        assert main(["cluster", "down", "--port", port]) == 0
    assert main(["cluster", "down", "--port", port]) == 2
    assert "no cluster was started here" in capsys.readouterr().err
    assert main(["cluster", "status", "--port", port]) == 2
    assert capsys.readouterr().err.startswith(f"residuum: no Ray cluster at 127.0.0.1:{port}: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cpus", "2"], "--cpus is of a cluster: --on ray"),
        (["--on", "ray", "--gpus", "0"], "--gpus: 0 is not above 0 and up to 64"),
        (["--on", "ray", "--budget", "1h"], "--budget measures this machine, not a cluster"),
        (["--on", "ray:nowhere"], "'nowhere' is no address of a Ray cluster"),
        (["--on", "rya"], "unknown launcher 'rya'; did you mean 'ray'?"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(tmp_path, capsys, words, said):
    assert main(["study", "run", "quickstart", "--scale", "0.05", "--runs", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err


QUICKSTART = {"compute.threads": 1, "save.steps": 5}


def conducted(runs: Path, room: Room, place: str, meanwhile=lambda: None) -> Path:
    """The report of the quickstart study, shortened, computed and looked into as `study run` and `study report` do."""
    study = parsing.read("quickstart").restricted(["plain20", "resnet20"]).changed({}, range(2))
    made = planning.plan(study.model_copy(update={"inside": ("resnet20",)}), QUICKSTART, scale=0.1)
    for _ in conducting.run(made, runs, room, place):
        meanwhile()
    if room.store:
        conducting.fetch_inside(made, runs, room.store)
    list(explain_arms(made, runs))
    write(results(made, runs), runs / "report", runs=runs)
    return runs / "report"


TIMED = ("seconds", "seconds_per_epoch", "milliseconds_per_update")
WHEN = [
    (r"hash [0-9a-f]{12}", "hash"),  # that of the promise, which has its time in it
    (r'<section id="cost">.*?</section>', ""),  # accuracy against time
    (r'<td data-head="(seconds|starts)" class="n">\d+</td>', ""),  # of a run; on a machine
    (r"\| \d+ (?=\| [0-9a-f]{12} |\| 20\d\d-)", ""),  # the same two
]
"""What of a report is a time, or how often runs were begun on a machine."""


def lasting(report: Path) -> dict[str, object]:
    """The files of a report without times, by name."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in (report / "figures").glob("*.svg")
                                if not path.stem.startswith("cost")}  # fmt: skip
    rows = list(csv.DictReader((report / "tables.csv").open()))
    found["tables.csv"] = [{key: value for key, value in row.items() if key not in TIMED} for row in rows]
    for name in ("index.html", "report.md", "tables.tex"):
        text = (report / name).read_text()
        for pattern, instead in WHEN:
            text = re.sub(pattern, instead, text, flags=re.DOTALL)
        found[name] = text
    return found


@pytest.mark.long
def test_the_quickstart_on_a_cluster_with_a_node_killed_reports_what_it_does_without(cluster, tmp_path):
    """Each node computes on its own disk; all that they share is the store, which the driver reads."""
    killed: list[str] = []

    def kill():
        for folder in find_runs(cluster.other_disk / "runs"):
            begun = any((tmp_path / "store" / folder.name).glob("checkpoints/*/manifest.json"))
            if begun and not (folder / run_folder.RESULT).exists() and not killed:
                cluster.remove_node(*cluster.worker_nodes, allow_graceful=False)
                killed.append(folder.name)

    here = conducted(tmp_path / "here", Room(), "here")
    room = Room(workers=0, store=f"file://{tmp_path}/store", scratch="$OWN_DISK/runs")
    there = conducted(tmp_path / "driver", room, f"ray:{cluster.address}", kill)
    cluster.add_node(**cluster.second)
    one, other = lasting(here), lasting(there)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    assert len(one["tables.csv"]) == 4
    moved = read_record(tmp_path / "store" / killed[0]).environment
    assert len(moved) == 2
    assert moved[1].epoch or moved[1].step  # it went on where it stood
    assert len([*(tmp_path / "driver").rglob("optimizer.safetensors")]) <= 3  # those of the run that was looked into

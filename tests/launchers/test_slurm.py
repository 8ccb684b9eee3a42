"""Jobs of Slurm, by submitit's executor for this machine: to the bits of a run alone, killed, stopped, and out of time."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tiny_runs import bits, folder_of, job, saved_to_the_last_update, tiny

from residuum import training
from residuum.cli import main
from residuum.conduct.launchers import launch_of, slurm
from residuum.conduct.launchers.launcher import Job, JobEvent, JobFailed, JobRestarted, Room
from residuum.config import RunConfig
from residuum.errors import InputError
from residuum.records import run_folder
from residuum.records.event import EpochDone, Finished, Pruned, Started

LOCAL = launch_of("slurm:local")


@pytest.fixture(autouse=True)
def looked_at_often(monkeypatch):
    monkeypatch.setattr(slurm, "PERIOD", 0.2)


def long(seed, **settings):
    return tiny(seed, epochs=60, **{"compute.threads": 1, **settings})


def signalled(said, number, after):
    """What is said, with a signal to the process of the first job once it has done so many epochs."""
    sent = False
    for one in said:
        yield one
        if not sent and isinstance(one, JobEvent) and isinstance(one.event, EpochDone) and one.event.epoch >= after:
            sent = True
            os.kill(worker(), number)


def worker():
    """The process of a job of this test: a child of the one that submitit started."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words, status = (entry / "cmdline").read_bytes(), (entry / "stat").read_text()
            parent = int(status.rpartition(")")[2].split()[1])
            mine = (Path("/proc") / str(parent) / "stat").read_text().rpartition(")")[2].split()[1]
            if b"submitit.core._submit" in words and int(mine) == os.getpid():
                return int(entry.name)
    raise AssertionError("no job is being computed")


@pytest.mark.long
def test_jobs_end_with_the_bits_that_each_run_has_alone_also_killed_and_out_of_time(tmp_path):
    """Killed, a run counts as restarted; sent a signal since its time is up, it saves, ends, and another job goes on."""
    for number, restarts in ((signal.SIGKILL, 1), (signal.SIGUSR1, 0)):
        runs, config = tmp_path / number.name, long(0)
        said = list(signalled(LOCAL([job(config)], runs, Room(workers=1)), number, after=5))
        assert sum(isinstance(one, JobRestarted) for one in said) == restarts
        starts = [one.event.epoch for one in said if isinstance(one, JobEvent) and isinstance(one.event, Started)]
        assert len(starts) == 2
        assert starts[0] == 0
        assert starts[1] >= 5, "it goes on"
        told = [one.event.epoch for one in said if isinstance(one, JobEvent) and isinstance(one.event, EpochDone)]
        assert sorted({*told}) == list(range(1, 61))
        assert len(told) <= 60 + restarts, "an epoch that was done but not saved is done again, and told again"
        assert isinstance(said[-1].event, Finished)
        training.train(config, tmp_path / "alone")
        assert bits(folder_of(runs, config)) == bits(folder_of(tmp_path / "alone", config))


def test_runs_share_a_job_fail_alone_and_are_pruned(tmp_path):
    impossible = RunConfig().changed({"data.dataset": "synthetic", "optim.optimizer": "sgdd", "train.seed": 3})
    pruned = tiny(1, epochs=4, **{"compute.threads": 1})
    jobs = [job(tiny(0, epochs=2)), Job("pruned", pruned, "quick", {2: 0.0}), job(impossible)]
    said = list(LOCAL(iter(jobs), tmp_path, Room(workers=1, lanes=3)))
    ends = {one.id: type(one.event) for one in said
            if isinstance(one, JobEvent) and isinstance(one.event, Finished | Pruned)}  # fmt: skip
    assert ends == {"seed 0": Finished, "pruned": Pruned}
    assert [one for one in said if isinstance(one, JobFailed)] == [
        JobFailed("seed 3", "optim.optimizer: unknown optimizer 'sgdd'; did you mean 'sgd'?", certain=True)
    ]
    assert len(list((tmp_path / slurm.FOLDER).glob("*_submission.sh"))) <= 1, "one job for the three"


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from tiny_runs import job, tiny
from residuum.conduct.launchers import launch_of, slurm
from residuum.conduct.launchers.launcher import Room
slurm.PERIOD = 0.2
config = tiny(0, epochs=400, **{{"compute.threads": 1}})
for one in launch_of("slurm:local")([job(config)], Path({runs!r}), Room(workers=1)):
    print(type(one.event).__name__, flush=True)
"""


def test_ctrl_c_saves_the_state_and_ends_all(tmp_path):
    code = DRIVER.format(tests=str(Path(__file__).parent), runs=str(tmp_path))
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    for line in driver.stdout:
        if line.strip() == "EpochDone":
            break
    driver.send_signal(signal.SIGINT)
    _, error = driver.communicate(timeout=120)
    assert "stopped by SIGINT; the state is saved" in error
    config = tiny(0, epochs=400, **{"compute.threads": 1})
    folder = folder_of(tmp_path, config)
    assert not run_folder.is_complete(folder)
    assert saved_to_the_last_update(folder)


def test_what_cannot_be_is_a_line(tmp_path, monkeypatch, capsys):
    runs = ["--runs", str(tmp_path / "runs")]
    assert main(["study", "run", "quickstart", "--on", "slurm", *runs]) == 2
    assert "no Slurm on this machine" in capsys.readouterr().err
    assert main(["study", "run", "quickstart", "--on", "slurm", "--store", f"file://{tmp_path}/store", *runs]) == 2
    assert "--store: jobs of Slurm see the folder of the runs" in capsys.readouterr().err
    assert main(["study", "run", "quickstart", "--on", "here:there", *runs]) == 2
    assert "'here:there': here takes no address" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(slurm, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"needs the package submitit: pip install 'residuum\[slurm\]'"):
        launch_of("slurm:local")

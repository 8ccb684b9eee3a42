"""`benchmarks/gpu.py` from end to end where there is no card, so that it does not fail where there is one for minutes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.mark.long
def test_everything_runs_once_on_the_cpu(tmp_path):
    words = [sys.executable, str(SCRIPT), "--dry", "--out", str(tmp_path / "gpu.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RESIDUUM_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stdout, done.stdout
    assert "left out" not in done.stdout, done.stdout
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["device"].startswith("CPU, dry")
    assert "skipped" in found["correctness"]["tests"]
    assert "ended with the same bits" in found["correctness"]["kills"]
    assert {run["network"] for run in found["runs"]} == {"resnet20", "resnet56", "resnet110", "resnet18", "resnet24c"}
    assert {run["lanes"] for run in found["runs"]} >= {1, 2}
    assert all(run["seconds"] > 0 and run["start"] > 0 and 0 < run["evaluation"] < 1 for run in found["runs"])
    assert found["plain_script"] > 0
    assert found["strong_script"] > 0
    assert found["correctness"]["right"]


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--out", "nowhere/gpu.json"], "there is no folder nowhere"), (["--seconds", "-5"], "-5 is no time")],
)
def test_what_cannot_be_is_said_before_anything_runs(tmp_path, words, says):
    words = [sys.executable, str(SCRIPT), "--dry", *words]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_without_a_card_one_line_says_what_goes(tmp_path):
    words = [sys.executable, str(SCRIPT), "--out", str(tmp_path / "gpu.json")]
    done = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "--dry" in done.stderr
    assert not (tmp_path / "gpu.json").exists()

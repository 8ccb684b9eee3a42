"""Train, kill, report and serve in a loop, in one process: memory, objects, descriptors and threads stay flat.

    python tests/soak.py --minutes 60

A loop trains a run, stops it and goes on with it, here; computes a study by a worker that is killed; writes its report;
and asks a page in this process for all of it, and another in its own. The first
fifth of the loops warms up. Of the others the slope per loop is printed with its 95 % interval: a leak is a slope
whose interval lies above what `LEAK` has for it.
"""

import argparse
import gc
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "serve"))

from besieged import Page
from pages_over import client_of
from starlette.testclient import TestClient

from residuum import training
from residuum.analysis.results import results
from residuum.conduct import conducting, planning
from residuum.conduct.launchers.launcher import JobEvent, Room
from residuum.config import RunConfig
from residuum.records.event import EpochDone
from residuum.report.study_page import write
from residuum.studies.study import Study
from trial import children

SETTINGS = {
    "data.dataset": {"name": "synthetic", "size": 8, "train": 96, "test": 16, "classes": 4}, "data.validation": 16,
    "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 4]}, "train.epochs": 4, "train.batch_size": 16,
    "monitor.histograms": True, "save.steps": 2, "compute.threads": 1,
}  # fmt: skip
LEAK = {"MiB": 0.05, "objects": 20.0, "files": 0.02, "threads": 0.02, "children": 0.02, "MiB of the page": 0.05,
        "files of the page": 0.02}  # fmt: skip
"""What grows by more than this in a loop leaks."""


def loop(number: int, place: Path, page: Page, client: TestClient) -> None:
    """Once round, with folders, names and settings that were not there before."""
    runs = place / "runs"
    config = RunConfig().changed(SETTINGS | {"train.seed": number})
    events = training.run(config, runs)
    next(event for event in events if isinstance(event, EpochDone) and event.epoch == 2)
    events.close()
    record = training.train(config, runs)
    assert record.status == "finished"
    study = Study(name=f"soak{number}", question="Is it flat?", base="quick", seeds=1, set=SETTINGS,
                  axes={"optim.lr": [0.01, 0.02 + number / 1e6]})  # fmt: skip
    plan, killed, there = planning.plan(study, {}), False, {*children(os.getpid())}
    for said in conducting.run(plan, runs, Room(1, 1, 1)):
        if not killed and isinstance(said, JobEvent) and isinstance(said.event, EpochDone):
            killed = True
            (worker,) = {*children(os.getpid())} - there
            os.kill(worker, signal.SIGKILL)
    found = results(plan, runs)
    assert killed
    assert len(found.records) == 2, found
    write(found, place / "report", runs=runs)
    paths = ["/", f"/run/{record.folder.name}", "/part/runs", f"/study/{plan.label}", "/run/none", "/static/page.css"]
    for path in [*paths, f"/run/{record.folder.name}/figure/layers.svg"]:
        assert client.get(path).status_code == (404 if path == "/run/none" else 200), path
    for path in paths:
        assert page.answer(path)[0] == (404 if path == "/run/none" else 200), path


def counted(page: Page) -> dict[str, float]:
    """What there is of each kind now."""
    gc.collect()
    return {
        "MiB": _mib(os.getpid()), "objects": len(gc.get_objects()), "files": len([*Path("/proc/self/fd").iterdir()]),
        "threads": threading.active_count(), "children": len(children(os.getpid())), "MiB of the page": _mib(page.process.pid),
        "files of the page": page.descriptors(),
    }  # fmt: skip


def _mib(process: int) -> float:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope(values: Sequence[float]) -> tuple[float, float]:
    """The slope of values by their place, and half the width of its 95 % interval."""
    n, mean = len(values), sum(values) / len(values)
    places = [number - (n - 1) / 2 for number in range(n)]
    spread = sum(place * place for place in places) or 1.0  # of a single loop
    rises = sum(place * value for place, value in zip(places, values, strict=True)) / spread
    left = sum((value - mean - rises * place) ** 2 for place, value in zip(places, values, strict=True))
    return rises, 1.96 * math.sqrt(left / max(1, n - 2) / spread)


def main(minutes: float) -> int:
    """Go round for so long; the number of kinds that leak."""
    began, rows = time.monotonic(), list[dict[str, float]]()
    place = Path(tempfile.mkdtemp(prefix="residuum-soak-"))
    (place / "runs").mkdir()
    page = Page(place / "runs")
    try:
        with client_of(place / "runs", read_only=True) as client:
            while time.monotonic() < began + 60 * minutes:
                loop(len(rows), place, page, client)
                # The page keeps its folder; what it has shown goes.
                for path in [*(place / "runs").iterdir(), place / "report"]:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                rows.append(counted(page))
                print(
                    len(rows), {kind: round(value, 1) for kind, value in rows[-1].items()}, file=sys.stderr, flush=True
                )
    finally:
        page.end()
        shutil.rmtree(place, ignore_errors=True)
    kept = rows[len(rows) // 5 :]
    print(f"{len(rows)} loops in {(time.monotonic() - began) / 60:.0f} minutes; after the first {len(rows) - len(kept)}:\n\n"
          "| what | at first | at last | slope per loop |\n|---|---:|---:|---:|")  # fmt: skip
    leaks = 0
    for kind, most in LEAK.items():
        values = [row[kind] for row in kept]
        rises, about = slope(values)
        leaks += rises - about > most
        print(
            f"| {kind} | {values[0]:.1f} | {values[-1]:.1f} | {rises:+.3f} ± {about:.3f}{' LEAK' * (rises - about > most)} |"
        )
    return leaks


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    sys.exit(main(parser.parse_args().minutes))

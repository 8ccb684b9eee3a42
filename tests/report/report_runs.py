"""Fabricated studies: run folders as training would have left them, and the results read back from them."""

import json
import random
from dataclasses import asdict
from pathlib import Path

from residuum.analysis.results import Results, results
from residuum.config import identity
from residuum.records import run_folder
from residuum.records.event import EpochDone, Scores
from residuum.studies import plan as plans
from residuum.studies.plan import Plan, PlannedArm, PlannedRun
from residuum.studies.study import Study

ENVIRONMENT = {
    "time": "2026-01-02T03:04:05+00:00", "python": "3.11.7", "packages": {"torch": "2.13.0"}, "platform": "Linux",
    "processor": "Some processor", "cores": 2, "device": "cpu", "precision": "fp32", "threads": 2,
    "determinism": "bitwise",
}  # fmt: skip

DATA = {
    "dataset": "cifar10", "fingerprint": "f" * 16, "shape": [3, 32, 32], "train": 45000, "validation": 5000,
    "test": 10000, "normalization": {"kind": "affine", "mean": [0.5] * 3, "std": [0.25] * 3},
}  # fmt: skip


def planned(study: Study, *, scale: float = 1.0, settings: dict | None = None, epochs: int = 12, gave_up=()) -> Plan:
    """A plan of runs of `epochs` epochs; arms get different sizes."""
    changed = study.changed(settings or {})
    arms, runs = [], []
    for number, arm in enumerate(changed.arms()):
        size = 100_000 * (number + 1)
        arms.append(PlannedArm(arm.name, arm.settings, size, 100 * size, epochs, 391, 0, arm.family, arm.cell))
        for seed in changed.seeds:
            config = arm.config.changed({"train.epochs": epochs, "train.seed": seed, "data.fingerprint": "f" * 16})
            folder = run_folder.folder_of(Path(), config).name
            runs.append(PlannedRun(arm.name, seed, identity(config), folder, config))
    label = study.name if scale == 1 else f"{study.name}@abc123"
    return Plan(changed, label, scale, settings or {}, tuple(gave_up), tuple(arms), tuple(runs))


def leave(
    root: Path, run: PlannedRun, error: float, *, status: str = "finished", upto: int = 0, observed: bool = True,
    seconds: float = 60.0, drops: tuple[int, ...] = (6, 9), extra: dict | None = None,
    facts: dict | None = None,
) -> None:  # fmt: skip
    """Leave the folder of a run that ended at this test error (%), or that diverged or stopped after `upto` epochs."""
    folder = root / run.folder
    folder.mkdir(parents=True)
    total = run.config.train.epochs
    held_out = run.config.data.validation > 0
    noise = random.Random(run.id)
    rows = []
    for epoch in range(1, (upto or total) + 1):
        now = error + ((80 - error) * 0.5**epoch + noise.uniform(0, 0.5) if epoch < total else 0)

        def scores(split, factor, now=now):
            return Scores(split, now * factor / 30, 1 - now * factor / 100, 100)

        lr = 0.1 * 0.1 ** sum(epoch >= drop for drop in drops)
        rows.append(EpochDone(
            epoch, 391 * epoch, lr, scores("train", 0.6), scores("validation", 1.1) if held_out else None,
            scores("test", 1.0) if observed else None, False, 5.0, 1000.0,
        ))  # fmt: skip
    head = {"schema": 2, "id": run.id, "recipe": "he2015"}
    (folder / "config.json").write_text(json.dumps({**head, **run.config.model_dump(mode="json")}))
    (folder / "environment.json").write_text(json.dumps([{**ENVIRONMENT, **(extra or {})}]))
    (folder / "data.json").write_text(json.dumps({**DATA, **(facts or {})}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    result = {"status": status, "last": None, "selected": None, "diverged": None, "seconds": seconds,
              "parameters": 1000, "macs": 2000}  # fmt: skip
    if status == "finished":
        test = {"loss": 0.3, "accuracy": 1 - error / 100, "n": 10000}
        result["last"] = {"epoch": total, "test": test, "validation": None}
    elif status == "diverged":
        result["diverged"] = {"epoch": (upto or 0) + 1, "step": 77, "loss": "nan", "gradient_norm": "inf"}
    if status in ("finished", "diverged"):
        (folder / "result.json").write_text(json.dumps(result))


def read(plan: Plan, root: Path, *, failed: dict | None = None, looks: list | None = None) -> Results:
    """The results of a plan from the folders that were left, with what failed and the looks beside the plan."""
    beside = plans.write(plan, root)
    (beside / plans.FAILED).write_text(json.dumps(failed or {}))
    if looks:
        (beside / plans.LOOKS).write_text(json.dumps(looks))
    return results(plans.read(beside), root)


def finished(plan: Plan, root: Path, errors: dict[str, float]) -> Results:
    """The results of a plan of which every run finished, near the error of its arm: 1, 1.01, 1.04 … times it."""
    for run in plan.runs:
        leave(root, run, errors[run.arm] * (1 + 0.01 * run.seed**2), seconds=60 + 10 * run.seed + errors[run.arm])
    return read(plan, root)


DEPTHS = ("plain20", "plain56", "plain110", "resnet20", "resnet56", "resnet110")
ERRORS = dict(zip(DEPTHS, (9.5, 13.5, 90.0, 8.5, 7.0, 6.5), strict=True))


def depths(**changes) -> Study:
    """Plain and residual networks of three depths."""
    return Study(**{
        "name": "twins", "question": "Do shortcuts cure degradation?", "base": "he2015", "seeds": 3,
        "axes": {"model": list(DEPTHS)}, "compare": {"baseline": "resnet20"},
        "claims": [{"text": "Plain gets worse with depth.", "expect": "plain56 > plain20"}],
        "published": [{"source": "Somebody 2015", "arm": "resnet20", "value": 8.75,
                       "selection": "best-on-test"}],
        **changes,
    })  # fmt: skip

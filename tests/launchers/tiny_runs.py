"""Runs of about a second, and what of them must not depend on how they were computed."""

import json
from pathlib import Path

from residuum import training
from residuum.conduct.launchers.processes import Job
from residuum.config import RunConfig
from residuum.records import rows, run_folder

CLOCK = ("seconds", "images_per_second", "test_reads", "check")


def tiny(seed=0, epochs=25, **settings) -> RunConfig:
    """A run of 3 updates an epoch that takes about a second; its threads are those of its process."""
    base = {
        "data.dataset": {"name": "synthetic", "size": 8, "train": 60, "test": 20, "classes": 4},
        "data.validation": 12,
        "data.augment": ["pad_crop", "horizontal_flip"],
        "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]},
        "train.seed": seed,
        "train.epochs": epochs,
        "train.batch_size": 16,
    }
    return training.check(RunConfig().changed(base | settings))


def job(config: RunConfig) -> Job:
    return Job(f"seed {config.train.seed}", config, "quick")


def folder_of(root: Path, config: RunConfig) -> Path:
    return run_folder.folder_of(root, config)


def bits(folder: Path) -> dict[str, object]:
    """Everything of a complete run that must not depend on where it ran or on how often it was stopped."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()}
    for name in ("metrics.jsonl", "steps.jsonl", "result.json"):
        text = (folder / name).read_text()
        rows = text.splitlines() if name.endswith("l") else [text]
        found[name] = [{key: value for key, value in json.loads(row).items() if key not in CLOCK} for row in rows]
    return found


def saved_to_the_last_update(folder: Path) -> bool:
    """Whether the newest saved state is that of the last row of updates: nothing is to be computed twice."""
    position = run_folder.checkpoints(folder)[-1][0]
    return position.epoch * 3 + position.step == len(rows.read_rows(folder / run_folder.STEPS))

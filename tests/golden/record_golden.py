"""Golden losses: the loss of each step of small runs, and where they were recorded. `make golden` writes them anew."""

import json
import tempfile
from pathlib import Path

import torch

from residuum.config import RunConfig
from residuum.records.environment import environment
from residuum.training import train

FILE = Path(__file__).parent / "golden.json"

BASE = {
    "data.dataset": {"name": "synthetic", "size": 16, "train": 128, "test": 20},
    "data.validation": 0,
    "data.augment": ["pad_crop", "horizontal_flip"],
    "model": {"name": "cifar_resnet", "depth": 8, "channels": [8, 8, 16]},
    "train.epochs": 1,
    "train.batch_size": 16,
    "compute.threads": 1,
    "compute.device": "cpu",
    "compute.precision": "fp32",
}
CASES = {
    "residual": {},
    "plain": {"model.shortcut": "none"},
    "projection": {"model.shortcut": "projection"},
    "bottleneck": {"model.block": "bottleneck", "model.depth": 11},
    "preactivation": {"model.ordering": "full_preactivation"},
    "swish": {"model.activation": "swish"},
    "adam": {"optim.optimizer": "adam", "optim.lr": 0.001},
    "muon": {"optim.optimizer": "muon", "optim.lr": 0.02},
    "mixup": {"data.mix": "mixup"},
    "cutmix": {"data.mix": "cutmix"},
    # Held-out images decide neither the normalisation nor the order of the others, and are scored after each epoch.
    "validation": {"data.validation": 32, "train.epochs": 2},
    "plateau": {
        "data.validation": 0.25,
        "data.normalize": "per_image",
        "train.epochs": 4,
        "optim.schedule": {"name": "plateau", "patience": 0, "threshold": 0.9},
    },
    "average": {"optim.ema": 0.9, "optim.clip_norm": 0.5, "train.micro_batch": 5},
    "colour": {
        "data.augment": ["rotation", "scaling", "brightness", "contrast", "saturation", "hue", "gaussian_noise"]
    },
    "penalties": {"optim.penalties": [{"name": "l1", "weight": 1e-4}, {"name": "l2", "weight": 1e-3}]},
    "bf16": {"compute.precision": "bf16"},
}


def losses(name: str) -> list[float]:
    """The loss of each step of a case."""
    with tempfile.TemporaryDirectory() as root:
        record = train(RunConfig().changed(BASE | CASES[name]), Path(root))
        return [row["loss"] for row in record.steps()]


def here() -> dict[str, object]:
    """What decides the bits of a loss on a CPU."""
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16": torch.cpu._is_avx512_bf16_supported(),
        "processor": environment()["processor"],
        "threads": 1,
    }


if __name__ == "__main__":
    values = {"where": here(), "losses": {name: losses(name) for name in CASES}}
    FILE.write_text(json.dumps(values, indent=1) + "\n")
    print(f"wrote {FILE}")

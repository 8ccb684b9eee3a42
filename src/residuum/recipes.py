"""Named starting points: functions that return a RunConfig, each a difference from another.

Milestones are shares of the run, so a shortened run keeps the shape of the schedule.
"""

from collections.abc import Callable

from residuum.config import RunConfig
from residuum.errors import unknown

STANDARD_AUGMENT = ["pad_crop", "horizontal_flip"]


def he2015() -> RunConfig:
    """ResNet-20 by the protocol of He et al. 2015, section 4.2, as reports A and B use it.

    All 50,000 training images (391 updates an epoch), 164 epochs, the rate divided by 10 at epochs 81 and 122. There
    is no validation split, as in the paper; the test curve is recorded for the figure and selects nothing. To hold
    images out, set `data.validation=5000`.
    """
    return RunConfig().changed({
        "data.validation": 0,
        "data.augment": STANDARD_AUGMENT,
        "model": "resnet20",
        "optim.lr": 0.1,
        "optim.optimizer": {"name": "sgd", "momentum": 0.9},
        "optim.weight_decay": 1e-4,
        "optim.schedule": {"name": "multistep", "milestones": [81 / 164, 122 / 164], "gamma": 0.1},
        "train.epochs": 164,
        "train.batch_size": 128,
        "monitor.test": True,
    })  # fmt: skip


def report_c() -> RunConfig:
    """Report C's common setting: ResNet24 under 5 M parameters, Nesterov, exponential schedule, 10 % held out."""
    return RunConfig().changed({
        "data.validation": 0.1,
        "data.augment": STANDARD_AUGMENT,
        "model": "resnet24c",
        "optim.lr": 0.1,
        "optim.optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
        "optim.weight_decay": 1e-3,
        "optim.schedule": {"name": "exponential", "gamma": 0.9},
        "train.epochs": 50,
        "train.batch_size": 128,
    })  # fmt: skip


def report_d() -> RunConfig:
    """Report D: he2015 with 30/60/90 channels, batch 64 (782 updates an epoch), rate divided at epochs 51 and 75."""
    return he2015().changed({
        "model.channels": [30, 60, 90],
        "optim.schedule.milestones": [51 / 164, 75 / 164],
        "train.batch_size": 64,
    })  # fmt: skip


def report_e() -> RunConfig:
    """Report E's baseline: ResNet-18 with a 3×3 stem, rate 0.05 halved as training goes, 10 % held out."""
    return RunConfig().changed({
        "data.validation": 0.1,
        "data.normalize": {"name": "standardize", "sample": 0.3},
        "data.augment": STANDARD_AUGMENT,
        "model": "resnet18",
        "optim.lr": 0.05,
        "optim.optimizer": {"name": "sgd", "momentum": 0.9},
        "optim.weight_decay": 5e-4,
        "optim.schedule": {"name": "step", "every": 0.25, "gamma": 0.5},
        "train.epochs": 40,
        "train.batch_size": 128,
    })  # fmt: skip


def quick() -> RunConfig:
    """ResNet-20 on the embedded handwritten digits, in seconds; at depth 56 its plain twin no longer learns."""
    return RunConfig().changed(
        {
            "data.dataset": "digits",
            "data.validation": 0.15,
            "data.augment": [{"name": "pad_crop", "padding": 1}],
            "model": "resnet20",
            "optim.lr": 0.02,
            "optim.optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
            "optim.weight_decay": 5e-4,
            "optim.schedule": "cosine",
            "train.epochs": 20,
            "train.batch_size": 64,
        }
    )


def finetune() -> RunConfig:
    """Weights that are there, trained on: a tenth of the usual rate, falling to 0 within 10 epochs, 10 % held out.

    `residuum train finetune --from RUN` takes network and normalisation of the run; data, classes and what is frozen
    (`optim.freeze`) may be others.
    """
    return RunConfig().changed({
        "data.validation": 0.1,
        "data.augment": STANDARD_AUGMENT,
        "model": "resnet20",
        "pretrained.weights": "RUN",
        "optim.lr": 0.01,
        "optim.optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True},
        "optim.weight_decay": 5e-4,
        "optim.schedule": "cosine",
        "train.epochs": 10,
        "train.batch_size": 128,
    })  # fmt: skip


RECIPES: dict[str, Callable[[], RunConfig]] = {
    "he2015": he2015,
    "report_c": report_c,
    "report_d": report_d,
    "report_e": report_e,
    "quick": quick,
    "finetune": finetune,
}


def recipe(name: str) -> RunConfig:
    """The configuration of a recipe by name.

    Raises:
        InputError: no such recipe.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise unknown("recipe", str(name), RECIPES)
    return RECIPES[name]()

"""From a configuration to live objects: the one place where names become networks, batches and optimizers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from residuum import optim
from residuum.config import DataConfig, RunConfig
from residuum.data import datasets
from residuum.data.augment import AUGMENTATIONS, check_augmentations
from residuum.data.batches import EvaluationBatches, TrainingBatches
from residuum.data.dataset import Dataset
from residuum.data.mix import MIXES
from residuum.data.normalize import NORMALIZERS, Normalization
from residuum.data.split import split
from residuum.engine import metrics
from residuum.engine.compute import Compute, compiled, compute
from residuum.engine.evaluate import logits_of
from residuum.engine.loop import Training
from residuum.errors import InputError
from residuum.models import MODELS, build
from residuum.records.event import Scores
from residuum.registry import Choice, Table

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Data:
    """A data set made ready for one configuration: who trains, who validates, how pixels are normalised."""

    dataset: Dataset
    train_N: NDArray[np.int64]
    validation_N: NDArray[np.int64]
    normalization: Normalization

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.dataset.train.images_NCHW.shape[1:]
        return channels, height, width

    def describe(self) -> dict[str, Any]:
        """What a prediction or a report needs to know of the data, for the record."""
        return {
            "dataset": self.dataset.name,
            "fingerprint": self.dataset.fingerprint,
            "classes": list(self.dataset.classes),
            "shape": list(self.shape),
            "train": len(self.train_N),
            "validation": len(self.validation_N),
            "test": len(self.dataset.test.labels_N),
            "normalization": self.normalization.plain(),
        }


def resolve(config: RunConfig) -> tuple[RunConfig, Data]:
    """The configuration with every name and setting checked and every default written out, and its data.

    Raises:
        InputError: an unknown name or setting, an impossible combination, data that is missing or not that of the run.
    """
    dataset_choice = datasets.DATASETS.resolve(config.data.dataset, "data.dataset")
    root = str(Path(config.data.root).expanduser().absolute()) if config.data.root else ""
    dataset = datasets.load(dataset_choice, root)
    if config.data.fingerprint not in ("", dataset.fingerprint):
        raise InputError(
            f"the images in {root or dataset.name} are not those of this run: "
            f"fingerprint {dataset.fingerprint}, not {config.data.fingerprint}"
        )
    channels, height, width = dataset.train.images_NCHW.shape[1:]
    augment = _resolve_all(AUGMENTATIONS, config.data.augment, "data.augment")
    check_augmentations(augment, channels, height, width)
    o = config.optim
    resolved = config.model_copy(
        update={
            "data": config.data.model_copy(
                update={
                    "dataset": dataset_choice,
                    "root": root,
                    "fingerprint": dataset.fingerprint,
                    "normalize": NORMALIZERS.resolve(config.data.normalize, "data.normalize"),
                    "augment": augment,
                    "mix": MIXES.resolve(config.data.mix, "data.mix"),
                }
            ),
            "model": MODELS.resolve(config.model, "model"),
            "optim": o.model_copy(
                update={
                    "optimizer": optim.OPTIMIZERS.resolve(o.optimizer, "optim.optimizer"),
                    "schedule": optim.SCHEDULES.resolve(o.schedule, "optim.schedule"),
                    "loss": optim.LOSSES.resolve(o.loss, "optim.loss"),
                    "penalties": _resolve_all(optim.PENALTIES, o.penalties, "optim.penalties"),
                }
            ),
        }
    )
    return resolved, prepare(resolved.data, dataset, config.train.seed)


def _resolve_all(table: Table[Any], choices: tuple[Choice, ...], path: str) -> tuple[Choice, ...]:
    return tuple(table.resolve(choice, f"{path}[{number}]") for number, choice in enumerate(choices))


def prepare(config: DataConfig, dataset: Dataset, seed: int) -> Data:
    """The split and the normalisation of a data set; the statistics come from the training images in use."""
    labels_N = dataset.train.labels_N
    train_N, validation_N = split(labels_N, subset=config.subset, validation=config.validation, seed=config.split_seed)
    normalization = NORMALIZERS.build(config.normalize, dataset.train.images_NCHW[train_N], seed)
    return Data(dataset, train_N, validation_N, normalization)


def network_of(config: RunConfig, data: Data) -> nn.Module:
    """The network of a configuration, initialised on the CPU."""
    channels, height, width = data.shape
    return build(config.model, channels, len(data.dataset.classes), (height, width), config.train.seed)

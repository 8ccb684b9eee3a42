"""Using trained weights: evaluate on the test set, predict images, take in weights from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from residuum import assemble
from residuum.config import RunConfig, identity, short_name
from residuum.data.normalize import Normalization
from residuum.engine import metrics, state
from residuum.engine.compute import Compute
from residuum.engine.evaluate import logits_of
from residuum.errors import InputError
from residuum.records import folder as run_folder
from residuum.records import storage
from residuum.records.environment import environment
from residuum.records.event import Scores, TestRead
from residuum.records.folder import Position
from residuum.records.record import RunRecord, read_record

Which = Literal["last", "selected"]


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of one image file, in the order of the classes."""

    path: Path
    probabilities: dict[str, float]
    resized: bool

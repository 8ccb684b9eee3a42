"""Metrics from logits: sums over images, never means of batch means."""

import torch
import torch.nn.functional as F
from torch import Tensor

from residuum.records.event import Scores


def correct(logits_NK: Tensor, targets: Tensor, wide: torch.dtype = torch.float64) -> Tensor:
    """How many images are right: a 0-d tensor of the type `wide`.

    Targets are labels_N, or shares_NK of the labels of a mixed image, which then counts with the share of the
    label that was predicted.
    """
    predicted_N = logits_NK.argmax(dim=1)
    if targets.dim() == 1:
        return (predicted_N == targets).sum(dtype=wide)
    return targets.gather(1, predicted_N[:, None]).sum(dtype=wide)


def scores(split: str, logits_NK: Tensor, labels_N: Tensor) -> Scores:
    """Mean cross-entropy (nats, never smoothed) and accuracy over a whole split."""
    if logits_NK.device.type == "mps":  # which has no double precision
        logits_NK, labels_N = logits_NK.cpu(), labels_N.cpu()
    loss = F.cross_entropy(logits_NK.double(), labels_N)
    mean, right = torch.stack([loss, correct(logits_NK, labels_N)]).tolist()
    return Scores(split, mean, right / len(labels_N), len(labels_N))  # type: ignore[arg-type]

"""Curves: loss and error of an arm epoch by epoch, as mean and band over its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from residuum.analysis.estimate import LEVEL
from residuum.records.event import EpochDone
from residuum.records.measures import measure
from residuum.records.record import RunRecord

Split = Literal["train", "validation", "test"]
Quantity = Literal["loss", "error"]


@dataclass(frozen=True)
class Band:
    """One curve of an arm: mean and 95 % t interval (pointwise) of the `n` runs that reached each epoch.

    Losses are nats, errors percentages. Where one run is left, low = high = mean; so they are of an arm of which some
    run diverged or, for errors, did not train: t knows nothing of how often others would, as in `Summary`. Where a
    value is not finite, all three are infinite: the curve leaves its frame there.
    """

    arm: str
    split: Split
    quantity: Quantity
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: tuple[int, ...]


def bands(arm: str, records: Sequence[RunRecord]) -> tuple[Band, ...]:
    """Every curve that some run of an arm recorded: training, validation and observed test, loss and error."""
    splits: tuple[Split, ...] = ("train", "validation", "test")
    quantities: tuple[Quantity, ...] = ("loss", "error")
    found = (_band(arm, split, quantity, records) for split in splits for quantity in quantities)
    return tuple(band for band in found if band.epochs)


def _band(arm: str, split: Split, quantity: Quantity, records: Sequence[RunRecord]) -> Band:
    curves = [{row.epoch: value for row in record.epochs if (value := _value(row, split, quantity)) is not None}
              for record in records]  # fmt: skip
    epochs = sorted({epoch for curve in curves for epoch in curve})
    shape = len(curves), len(epochs)
    there_RE = np.array([[epoch in curve for epoch in epochs] for curve in curves], dtype=bool).reshape(shape)
    values_RE = np.array([[curve.get(epoch, 0.0) for epoch in epochs] for curve in curves]).reshape(shape)
    finite_RE = np.isfinite(values_RE)
    values_RE = np.where(finite_RE, values_RE, 0.0)
    n_E = there_RE.sum(axis=0)
    mean_E = values_RE.sum(axis=0) / n_E
    squares_E = np.where(there_RE, (values_RE - mean_E) ** 2, 0).sum(axis=0)
    df_E = np.maximum(n_E - 1, 1)  # one run: the squares are 0 and so is the half-width
    half_E = stdtrit(df_E, (1 + LEVEL) / 2) * np.sqrt(squares_E / df_E / n_E)
    half_E = half_E * _all_trained(records, split, quantity)
    lost_E = ~finite_RE.all(axis=0)
    mean, low, high = (tuple(np.where(lost_E, np.inf, line_E).tolist())
                       for line_E in (mean_E, mean_E - half_E, mean_E + half_E))  # fmt: skip
    return Band(arm, split, quantity, tuple(epochs), mean, low, high, tuple(n_E.tolist()))


def _all_trained(records: Sequence[RunRecord], split: Split, quantity: Quantity) -> bool:
    """Whether a table would have an interval of what the curve shows: by the measure of its last epoch."""
    what = measure(f"{'train' if split == 'train' else 'test'}_{quantity}")
    return all(record.status != "diverged" and what.trained(record) for record in records)


def _value(row: EpochDone, split: Split, quantity: Quantity) -> float | None:
    scores = {"train": row.train, "validation": row.validation, "test": row.test}[split]
    if scores is None:
        return None
    return scores.loss if quantity == "loss" else 100 * (1 - scores.accuracy)

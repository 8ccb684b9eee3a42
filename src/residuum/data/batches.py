"""Batches of a split: gathered, augmented, normalised and mixed on the training device.

The uint8 images go to the device once. What a batch holds is a function of (seed, epoch, step) alone, so training
goes on from any step with nothing to restore.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from residuum.data.augment import augmentation
from residuum.data.draw import Draw
from residuum.data.mix import MIXES
from residuum.data.normalize import Normalization
from residuum.registry import Choice
from residuum.streams import stream_seed


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one update: float32, normalised, channels last, on the training device.

    `indices_B` are positions in the data set's training images. `targets` are the labels_B, or shares_BK of the classes
    where images were mixed; the labels are then those of the first partner.
    """

    indices_B: Tensor
    images_BCHW: Tensor
    labels_B: Tensor
    targets: Tensor


class TrainingBatches:
    """The training images of a run, batch by batch: every index once per epoch, in an order of its own each epoch.

    The last batch of an epoch holds what is left. A single image left over joins the batch before it, which then has
    `batch_size` + 1: batch norm has no use for a batch of one, and cannot compute it on 1×1 pixels.
    """

    def __init__(
        self,
        images_NCHW: NDArray[np.uint8],
        labels_N: NDArray[np.int64],
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        normalization: Normalization,
        augment: Sequence[Choice],
        mix: Choice,
        classes: int,
        device: torch.device,
    ) -> None:
        self._images_NCHW = _on(device, images_NCHW)
        self._labels_N = _on(device, labels_N)
        self._indices = indices
        self._batch_size = batch_size
        self._seed = seed
        self._normalization = normalization
        self._augment = augmentation(augment)
        self._mix = MIXES.bind(mix)
        self._classes = classes
        full, left = divmod(len(indices), batch_size)
        self.steps_per_epoch = full + (left > 1 or (left == 1 and full == 0))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (from 0) from its `start`-th (from 0) on."""
        # Permuted on the CPU: devices have generators of their own.
        generator = np.random.default_rng(stream_seed(self._seed, "order", epoch))
        order_N = _on(self._images_NCHW.device, generator.permutation(self._indices))
        for step in range(start, self.steps_per_epoch):
            end = len(order_N) if step == self.steps_per_epoch - 1 else (step + 1) * self._batch_size
            yield self._batch(order_N[step * self._batch_size : end], epoch, step)

    def _batch(self, indices_B: Tensor, epoch: int, step: int) -> Batch:
        images_BCHW = self._augment(_unit(self._images_NCHW[indices_B]), Draw(self._seed, epoch, indices_B))
        labels_B = self._labels_N[indices_B]
        generator = np.random.default_rng(stream_seed(self._seed, "mix", epoch, step))
        images_BCHW, targets = self._mix(self._normalization(images_BCHW), labels_B, self._classes, generator)
        return Batch(indices_B, images_BCHW.contiguous(memory_format=torch.channels_last), labels_B, targets)


def evaluation_batches(
    images_NCHW: NDArray[np.uint8],
    indices: NDArray[np.int64],
    *,
    batch_size: int,
    normalization: Normalization,
    device: torch.device,
) -> Iterator[Tensor]:
    """The images of a split at some indices, in that order, never augmented; every one once whatever the batch size.

    They are float32, normalised, channels last, on the device.
    """
    chosen_NCHW = _on(device, images_NCHW[indices])
    for images_BCHW in torch.split(chosen_NCHW, batch_size):
        yield normalise_for_network(images_BCHW, normalization)


def normalise_for_network(images_NCHW: Tensor, normalization: Normalization) -> Tensor:
    """What a network sees of uint8 images: float32, normalised, channels last; evaluation and prediction use this."""
    return normalization(_unit(images_NCHW)).contiguous(memory_format=torch.channels_last)


def _unit(images_NCHW: Tensor) -> Tensor:
    """uint8 pixels as float32 in [0, 1]."""
    return images_NCHW.float().div_(255)


def _on(device: torch.device, array: NDArray[np.uint8] | NDArray[np.int64]) -> Tensor:
    """The array on a device: on the CPU the same memory, unless it is read-only, which torch does not share."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)

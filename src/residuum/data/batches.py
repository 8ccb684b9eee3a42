"""Batches of a split: gathered, augmented, normalised and mixed on the training device.

The uint8 images go to the device once. What a batch holds is a function of (seed, epoch, step) alone, so training
goes on from any step with nothing to restore. What is random about an epoch is made in one go, as tensors; a batch is
then a function of those and its number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from residuum.data.augment import augmentation, purposes
from residuum.data.draw import Draw, key
from residuum.data.mix import MIXES
from residuum.data.normalize import Normalization
from residuum.registry import Choice
from residuum.streams import stream_seed


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one update: float32, normalised, channels last, on the training device.

    `indices_B` are positions in the data set's training images. `targets` are the labels_B, or shares_BK of the classes
    where images were mixed.
    """

    indices_B: Tensor
    images_BCHW: Tensor
    targets: Tensor


@dataclass(frozen=True, eq=False)
class Draws:
    """All that is random about the images of an epoch, as tensors on the training device.

    `order_N` are the images' positions in the data set, batch after batch; `order` is the same on the host. `keys_P`
    are the keys of what the augmentations draw, by purpose. `partner_N` is the place in its batch of each image's
    partner, and `numbers_SM` what else a mixing draws for each batch; both are empty where nothing is mixed.
    """

    order: NDArray[np.int64]
    order_N: Tensor
    keys_P: Tensor
    partner_N: Tensor
    numbers_SM: Tensor


class TrainingBatches:
    """The training images of a run, batch by batch: every index once per epoch, in an order of its own each epoch.

    The last batch of an epoch holds what is left. A single image left over joins the batch before it, which then has
    `batch_size` + 1: batch norm has no use for a batch of one, and cannot compute it on 1×1 pixels. `sizes` are the
    images of every batch.
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
        self._images_NCHW = on_device(device, images_NCHW)
        self._labels_N = on_device(device, labels_N)
        self._indices = indices
        self._seed = seed
        self._normalise = normalization.on(device)
        self._augment = augmentation(augment)
        channels, height, width = images_NCHW.shape[1:]
        self._slots = {purpose: slot for slot, purpose in enumerate(purposes(augment, (channels, height, width)))}
        self._mix = MIXES.build(mix)
        self._classes = classes
        self._batch_size = batch_size
        full, left = divmod(len(indices), batch_size)
        self.sizes = (batch_size,) * full
        if left == 1 and full:
            self.sizes = (*self.sizes[:-1], batch_size + 1)
        elif left:
            self.sizes = (*self.sizes, left)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self.sizes)

    def draws(self, epoch: int) -> Draws:
        """What is random about an epoch (from 0), made on the CPU, since devices have generators of their own."""
        device, (height, width) = self._images_NCHW.device, self._images_NCHW.shape[2:]
        order = np.random.default_rng(stream_seed(self._seed, "order", epoch)).permutation(self._indices)
        generators = (np.random.default_rng(stream_seed(self._seed, "mix", epoch, step)) for step in count())
        mixes = [
            self._mix.draw(generator, size, height, width)
            for size, generator in zip(self.sizes, generators, strict=False)
            if self._mix.size
        ]
        keys = [key(self._seed, epoch, purpose) for purpose in self._slots]
        return Draws(
            order=order,
            order_N=on_device(device, order),
            keys_P=torch.tensor(keys, dtype=torch.int64).to(device),
            partner_N=on_device(device, np.concatenate([np.zeros(0, np.int64), *(partners for partners, _ in mixes)])),
            numbers_SM=torch.tensor([numbers for _, numbers in mixes], dtype=torch.float32).to(device),
        )

    def batch(self, draws: Draws, number: int | Tensor, size: int) -> Batch:
        """The batch of that number in an epoch (from 0) and that size, which is `sizes[number]`.

        Where the number lies on the device (0-d, int64), no value comes from the host: the whole can be captured in a
        graph and replayed for batch after batch.
        """
        places_B = torch.arange(size, device=draws.order_N.device) + number * self._batch_size
        indices_B = draws.order_N[places_B]
        draw = Draw(lambda purpose: draws.keys_P[self._slots[purpose]], indices_B)
        images_BCHW = self._normalise(self._augment(_unit(self._images_NCHW[indices_B]), draw))
        targets = self._labels_N[indices_B]
        if self._mix.size:
            partner_B, numbers_M = draws.partner_N[places_B], row(draws.numbers_SM, number)
            images_BCHW, targets = self._mix.blend(images_BCHW, targets, self._classes, partner_B, numbers_M)
        return Batch(indices_B, images_BCHW.contiguous(memory_format=torch.channels_last), targets)


def row(values: Tensor, number: int | Tensor) -> Tensor:
    """`values[number]`, also where the number lies on the device, whence plain indexing would fetch it."""
    return values[number] if isinstance(number, int) else values.index_select(0, number.view(1)).squeeze(0)


def evaluation_batches(images_NCHW: Tensor, *, batch_size: int, normalization: Normalization) -> Iterator[Tensor]:
    """uint8 images on a device as a network sees them, in their order, never augmented, whatever the batch size.

    They are float32, normalised, channels last.
    """
    for images_BCHW in torch.split(images_NCHW, batch_size):
        yield normalise_for_network(images_BCHW, normalization)


def normalise_for_network(images_NCHW: Tensor, normalization: Normalization) -> Tensor:
    """What a network sees of uint8 images: float32, normalised, channels last; evaluation and prediction use this."""
    return normalization(_unit(images_NCHW)).contiguous(memory_format=torch.channels_last)


def _unit(images_NCHW: Tensor) -> Tensor:
    """uint8 pixels as float32 in [0, 1]."""
    return images_NCHW.float().div_(255)


def on_device(device: torch.device, array: NDArray[np.uint8] | NDArray[np.int64]) -> Tensor:
    """The array on a device: on the CPU the same memory, unless it is read-only, which torch does not share."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)

"""What training does to images, as arrays to look at: by the functions that training uses, on numbers that it draws."""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray

from residuum.data.augment import ROWS, augmentation
from residuum.data.draw import Draw
from residuum.data.mix import MIXES, mix_batch
from residuum.data.normalize import Normalization
from residuum.registry import Choice
from residuum.streams import stream_seed

Images = NDArray[np.uint8]
Pixels = NDArray[np.float32]


def suited(name: str, side: int) -> Choice:
    """An augmentation with its default settings, those in pixels as large for the image as they are for 32 pixels."""
    setting, share = (ROWS[name].pixels if name in ROWS else None) or ("", 1)
    return Choice(name=name, **({setting: max(1, side // share)} if setting else {}))


def augmented(
    choices: Sequence[Choice], image_CHW: Images, index: int, *, seed: int = 0, epochs: Sequence[int]
) -> Pixels:
    """A training image as a run of that seed sees it in some epochs (from 0), before normalisation: [E, C, H, W].

    `index` is the image's position in the data set's training images.
    """
    augment = augmentation(choices)
    draws = (Draw.of(seed, epoch, torch.tensor([index])) for epoch in epochs)
    return np.concatenate([augment(_pixels(image_CHW[None]), draw).numpy() for draw in draws])


def normalised(normalization: Normalization, images_NCHW: Images) -> Pixels:
    """Images as a network receives them: [N, C, H, W]."""
    return normalization(_pixels(images_NCHW)).numpy()


def mixed(
    choice: Choice, images_NCHW: Images, labels_N: NDArray[np.int64], classes: int, *, seed: int = 0
) -> Iterator[tuple[int, int, float, Pixels]]:
    """Pairs of images from the batches of a run's first epoch: positions of both, the first's share λ, the mixture.

    The batch is the given images, one of each class and at least two: the shares of the classes, which are the targets
    in training, then tell which two images were mixed, and λ. One pair of each batch is given, without end; batches in
    which its partner is the image itself are left out.
    """
    images, labels, mix = _pixels(images_NCHW), torch.from_numpy(labels_N), MIXES.build(choice)
    for step in count():
        generator = np.random.default_rng(stream_seed(seed, "mix", 0, step))
        mixed_NCHW, shares_NK = mix_batch(mix, images, labels, classes, generator)
        first = step % len(labels_N)
        shares_N = shares_NK[first].numpy()[labels_N]
        second = int(np.where(np.arange(len(labels_N)) == first, -1, shares_N).argmax())
        if shares_N[second]:
            yield first, second, float(shares_N[first]), mixed_NCHW[first].numpy()


def _pixels(images_NCHW: Images) -> torch.Tensor:
    """uint8 pixels as float32 in [0, 1]."""
    return torch.from_numpy(images_NCHW.astype(np.float32) / 255)

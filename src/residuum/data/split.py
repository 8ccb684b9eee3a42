"""Which training images train, which validate: an exact, stratified split that is a function of its seed."""

import numpy as np
from numpy.typing import NDArray

from residuum.errors import InputError, tally
from residuum.streams import stream_seed


def split(
    labels_N: NDArray[np.int64], *, subset: int | float, validation: int | float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the images that train and of those that validate: sorted, disjoint, int64.

    First `subset` images are kept (0: all), then `validation` of these are held out. Each is a count, or a share
    below 1 that is rounded to a count. Both are stratified: the classes get counts in proportion, rounded by largest
    remainder, so the total is exact and no class is more than one image away from its share.

    Raises:
        InputError: neither a count nor a share, more images than there are, or none left to train on.
    """
    everything_N = np.arange(len(labels_N), dtype=np.int64)
    kept_N = everything_N
    if subset:
        keep = _count("data.subset", subset, len(labels_N))
        kept_N = np.flatnonzero(_stratified(labels_N, keep, stream_seed(seed, "subset")))
    if not validation:
        return kept_N, everything_N[:0]
    hold = _count("data.validation", validation, len(kept_N))
    if hold == len(kept_N):
        raise InputError(
            f"data.validation: {validation} holds out all {tally(hold, 'image')}; nothing is left to train on"
        )
    held_N = _stratified(labels_N[kept_N], hold, stream_seed(seed, "split"))
    return kept_N[~held_N], kept_N[held_N]


def test_share(labels_N: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the training and of the test images of data that come in one piece: a stratified share.

    Raises:
        InputError: one of them would be empty.
    """
    count = round(share * len(labels_N))
    if not 0 < count < len(labels_N):
        raise InputError(f"data.dataset.test: {share} of {tally(len(labels_N), 'image')} leaves a split empty")
    return split(labels_N, subset=0, validation=count, seed=stream_seed(seed, "split", "test"))


def share_said(share: float, seed: int) -> str:
    """How `test_share` draws the test images, in words."""
    return (
        f"{100 * share:g} % of the images of each class (data.dataset.test={share:g}, data.dataset.split_seed={seed})"
    )


def _count(setting: str, wanted: int | float, available: int) -> int:
    """How many of the available images a count or a share means."""
    if isinstance(wanted, float) and not 0 < wanted < 1:
        raise InputError(f"{setting}: {wanted} is neither a count nor a share below 1; a count is written {wanted:.0f}")
    count = round(wanted * available) if isinstance(wanted, float) else wanted
    if not 0 < count <= available:
        raise InputError(f"{setting}: {wanted} means {count:,} of {tally(available, 'image')}")
    return count


def _stratified(labels_N: NDArray[np.int64], count: int, seed: int) -> NDArray[np.bool_]:
    """A mask with exactly `count` True, drawn at random within each class."""
    classes, sizes = np.unique(labels_N, return_counts=True)
    # In integers, because the remainders decide: shares in floating point would make equal ones differ.
    quotas, remainders = np.divmod(sizes * count, len(labels_N))
    quotas[np.argsort(-remainders, kind="stable")[: count - quotas.sum()]] += 1
    generator = np.random.default_rng(seed)
    mask_N = np.zeros(len(labels_N), dtype=np.bool_)
    for label, quota in zip(classes, quotas, strict=True):
        mask_N[generator.permutation(np.flatnonzero(labels_N == label))[:quota]] = True
    return mask_N

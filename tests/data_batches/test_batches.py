"""Batches: every image once, an order that is a function, the same bits after any resume."""

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from residuum.data.augment import AUGMENTATIONS
from residuum.data.batches import Batch, TrainingBatches, evaluation_batches, normalise_for_network
from residuum.data.mix import MIXES
from residuum.data.normalize import NORMALIZERS
from residuum.data.split import split
from residuum.registry import Choice

CPU = torch.device("cpu")
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (330, 3, 12, 12), dtype=np.uint8)
LABELS = GENERATOR.integers(0, 5, 330)
TRAIN, VALID = split(LABELS, subset=0, validation=60, seed=0)
STANDARD = (Choice(name="pad_crop"), Choice(name="horizontal_flip"))
EVERYTHING = tuple(Choice(name=name) for name in AUGMENTATIONS)


def training(indices=TRAIN, **changes) -> TrainingBatches:
    settings = {
        "batch_size": 50,
        "seed": 3,
        "normalization": NORMALIZERS.build("standardize", IMAGES[TRAIN], 0),
        "augment": STANDARD,
        "mix": Choice(name="none"),
        "classes": 5,
        "device": CPU,
    }
    return TrainingBatches(IMAGES, LABELS, indices, **settings | changes)


def batches_of(batches: TrainingBatches, epoch: int, start: int = 0) -> Iterator[Batch]:
    draws = batches.draws(epoch)
    for number in range(start, batches.steps_per_epoch):
        yield batches.batch(draws, number, batches.sizes[number])


def evaluation(batch_size: int) -> list[torch.Tensor]:
    normalization = NORMALIZERS.build("standardize", IMAGES[TRAIN], 0)
    return list(evaluation_batches(torch.from_numpy(IMAGES[VALID]), batch_size=batch_size, normalization=normalization))


def order(batches: Iterator[Batch]) -> list[int]:
    return [index for batch in batches for index in batch.indices_B.tolist()]


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in vars(one))


@pytest.mark.parametrize("batch_size", [1, 7, 50, 128, 269, 270, 1000])
def test_every_image_comes_once_per_epoch(batch_size):
    """Guard 1."""
    batches = training(batch_size=batch_size, augment=())
    for epoch in (0, 1):
        seen = list(batches_of(batches, epoch))
        assert len(seen) == batches.steps_per_epoch
        assert sorted(order(seen)) == TRAIN.tolist()
        assert all(len(batch.indices_B) in (batch_size, batch_size + 1) for batch in seen[:-1])


@pytest.mark.parametrize(
    ("images", "batch_size", "sizes"),
    [
        (100, 50, [50, 50]),
        (101, 50, [50, 51]),
        (102, 50, [50, 50, 2]),
        (51, 50, [51]),
        (50, 50, [50]),
        (30, 50, [30]),
        (3, 1, [1, 1, 1]),
        (3, 2, [3]),
        (1, 50, [1]),
    ],
)
def test_no_image_is_left_alone_in_the_last_batch(images, batch_size, sizes):
    """Guard 20: batch norm cannot use a batch of one; the image joins the batch before it, none is dropped."""
    batches = training(TRAIN[:images], batch_size=batch_size)
    assert [len(batch.images_BCHW) for batch in batches_of(batches, 0)] == sizes
    assert batches.steps_per_epoch == len(sizes)


def test_the_order_is_a_function_of_seed_and_epoch():
    """Guard 4: nothing is carried from one epoch to the next, and no global random state is read or changed."""
    batches = training()
    torch.manual_seed(0)
    np.random.seed(0)
    state = torch.get_rng_state()
    orders = [order(batches_of(batches, epoch)) for epoch in range(4)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert [order(batches_of(batches, epoch)) for epoch in (3, 1, 0, 2)] == [orders[i] for i in (3, 1, 0, 2)]
    assert order(batches_of(training(), 2)) == orders[2]
    assert len({tuple(each) for each in [*orders, order(batches_of(training(seed=4), 0)), TRAIN.tolist()]}) == 6


def test_the_order_does_not_depend_on_what_is_done_to_the_images():
    """Two arms of a study with the same seed see the same batches."""
    other = training(augment=EVERYTHING, mix=Choice(name="mixup"), normalization=NORMALIZERS.build("none", IMAGES, 0))
    assert order(batches_of(other, 1)) == order(batches_of(training(), 1))


@pytest.mark.parametrize("mix", [*MIXES])
@pytest.mark.parametrize("start", range(7))
def test_an_epoch_goes_on_from_any_batch_to_the_same_bits(start, mix):
    """Guards 1 to 3: first, middle and last batch, and the boundary, where nothing of the epoch is left."""
    settings = {"augment": EVERYTHING, "mix": Choice(name=mix)}
    whole = list(batches_of(training(**settings), 5))
    rest = list(batches_of(training(**settings), 5, start=start))
    assert len(whole) == 6
    assert len(rest) == len(whole) - start
    assert all(same(one, other) for one, other in zip(rest, whole[start:], strict=True))


def test_two_stops_in_one_epoch_and_one_at_its_end_lose_and_repeat_nothing():
    """Guards 2 and 3."""
    uninterrupted = order(batches_of(training(), 0)) + order(batches_of(training(), 1))
    resumed = []
    for epoch, start, steps in ((0, 0, 2), (0, 2, 3), (0, 5, 1), (0, 6, 0), (1, 0, 1), (1, 1, 5)):
        seen = [batch for batch, _ in zip(batches_of(training(), epoch, start=start), range(steps), strict=False)]
        assert len(seen) == steps
        resumed += order(seen)
    assert resumed == uninterrupted


@pytest.mark.parametrize("normalization", [*NORMALIZERS])
def test_an_image_of_an_epoch_is_the_same_in_any_batch(normalization):
    """Guards 4, 27 and 28: neither batch size, nor companions, nor threads change a bit of an augmented image."""
    changes = {"augment": EVERYTHING, "normalization": NORMALIZERS.build(normalization, IMAGES[TRAIN], 0)}

    def by_index(batches: TrainingBatches) -> dict[int, torch.Tensor]:
        return {
            index: image
            for batch in batches_of(batches, 2)
            for index, image in zip(batch.indices_B.tolist(), batch.images_BCHW, strict=True)
        }

    reference = by_index(training(**changes))
    others = [training(**changes, batch_size=size) for size in (1, 17, 270)] + [training(TRAIN[100:], **changes)]
    for other in others:
        found = by_index(other)
        assert len(found) == len(other._indices)
        assert all(torch.equal(image, reference[index]) for index, image in found.items())
    try:
        torch.set_num_threads(2)
        found = by_index(training(**changes))
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(image, reference[index]) for index, image in found.items())


def test_an_image_is_augmented_anew_each_epoch():
    one, other = (
        {
            i: image
            for b in batches_of(training(), e)
            for i, image in zip(b.indices_B.tolist(), b.images_BCHW, strict=True)
        }
        for e in (0, 1)
    )
    different = sum(not torch.equal(one[index], other[index]) for index in TRAIN.tolist())
    assert different > 0.95 * len(TRAIN)


def test_images_labels_and_indices_belong_together():
    for batch in batches_of(training(augment=()), 0):
        pixels = torch.from_numpy(IMAGES[batch.indices_B.numpy()])
        normalization = NORMALIZERS.build("standardize", IMAGES[TRAIN], 0)
        torch.testing.assert_close(batch.images_BCHW, normalization(pixels / 255))
        assert batch.targets.tolist() == LABELS[batch.indices_B.numpy()].tolist()


def test_padding_is_black_before_normalisation():
    white = np.full((4, 1, 9, 9), 255, dtype=np.uint8)
    batches = TrainingBatches(
        white, np.zeros(4, dtype=np.int64), np.arange(4), batch_size=4, seed=0,
        normalization=NORMALIZERS.build("signed", white, 0), augment=(Choice(name="pad_crop"),),
        mix=Choice(name="none"), classes=1, device=CPU,
    )  # fmt: skip
    values = (
        torch.cat([batch.images_BCHW for epoch in range(3) for batch in batches_of(batches, epoch)]).unique().tolist()
    )
    assert values == [-1.0, 1.0]


@pytest.mark.parametrize("channels", [1, 3])
def test_training_without_augmentation_sees_what_evaluation_sees(channels):
    """Guard 29: one preparation of images, to the bit; also that of a single image, as prediction uses it."""
    images = np.ascontiguousarray(IMAGES[:, :channels])
    normalization = NORMALIZERS.build("standardize", images[TRAIN], 0)
    batches = TrainingBatches(
        images, LABELS, TRAIN, batch_size=50, seed=0, normalization=normalization, augment=(),
        mix=Choice(name="none"), classes=5, device=CPU,
    )  # fmt: skip
    (evaluated,) = evaluation_batches(torch.from_numpy(images[TRAIN]), batch_size=300, normalization=normalization)
    for batch in batches_of(batches, 0):
        assert batch.images_BCHW.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(batch.images_BCHW, evaluated[np.searchsorted(TRAIN, batch.indices_B.numpy())])
        alone = normalise_for_network(torch.from_numpy(images[batch.indices_B[:1].numpy()]), normalization)
        assert alone.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(alone, batch.images_BCHW[:1])


@pytest.mark.parametrize("batch_size", [1, 7, 128, 10_000])
def test_evaluation_counts_every_image_once_whatever_the_batch_size(batch_size):
    """Guard 19."""
    batches = evaluation(batch_size)
    assert all(len(images) == batch_size for images in batches[:-1])
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images in batches)
    one_by_one = [
        normalise_for_network(torch.from_numpy(IMAGES[[index]]), NORMALIZERS.build("standardize", IMAGES[TRAIN], 0))
        for index in VALID
    ]
    assert torch.equal(torch.cat(batches), torch.cat(one_by_one))


def test_validation_pixels_never_change():
    """Guard 17: training between two evaluations, augmentation and all, leaves the same validation pixels."""
    batches = training(augment=EVERYTHING)
    source = IMAGES.copy()
    passes = []
    for epoch in range(2):
        passes.append(torch.cat(evaluation(16)))
        assert sum(len(batch.indices_B) for batch in batches_of(batches, epoch)) == len(TRAIN)
    assert torch.equal(*passes)
    assert np.array_equal(IMAGES, source)
    pixels = torch.from_numpy(IMAGES[VALID]).float() / 255
    torch.testing.assert_close(passes[0], NORMALIZERS.build("standardize", IMAGES[TRAIN], 0)(pixels))


def test_the_training_images_in_use_are_normalised_to_mean_0_and_std_1():
    """Guard 18, through the batches; the images held out are brighter, so statistics of all would show."""
    images = IMAGES.copy()
    images[VALID] |= 128
    batches = TrainingBatches(
        images, LABELS, TRAIN, batch_size=50, seed=0, augment=(), mix=Choice(name="none"), classes=5, device=CPU,
        normalization=NORMALIZERS.build("standardize", images[TRAIN], 0),
    )  # fmt: skip
    seen = torch.cat([batch.images_BCHW for batch in batches_of(batches, 0)]).double()
    assert seen.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    assert (seen.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixed_batches_keep_their_labels_and_differ_from_step_to_step(name):
    """Guard 23: the targets are shares, the image's own class among them."""
    seen = [batch for epoch in (0, 1) for batch in batches_of(training(mix=Choice(name=name)), epoch)]
    weights = set()
    for batch in seen:
        assert batch.targets.shape == (len(batch.indices_B), 5)
        own = batch.targets.gather(1, torch.from_numpy(LABELS)[batch.indices_B, None])
        weights.add(round(own.min().item(), 5))
    assert len(weights) > len(seen) / 2  # boxes of cutmix may have equal areas


def test_read_only_images_are_taken_without_a_warning():
    """Cached images are mapped read-only."""
    images, labels = IMAGES.copy(), LABELS.copy()
    images.flags.writeable = labels.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = TrainingBatches(
            images, labels, TRAIN, batch_size=50, seed=3, classes=5, device=CPU, augment=STANDARD,
            normalization=NORMALIZERS.build("standardize", images[TRAIN], 0), mix=Choice(name="none"),
        )  # fmt: skip
    assert same(next(batches_of(batches, 0)), next(batches_of(training(), 0)))


@pytest.mark.parametrize("mix", [*MIXES])
@pytest.mark.parametrize("number", [0, 3, 5])
def test_a_batch_whose_number_is_a_tensor_is_the_same_to_the_bit(mix, number):
    """What a captured graph computes: nothing but tensors comes in, and the tables of another epoch can be put in."""
    batches = training(augment=EVERYTHING, mix=Choice(name=mix))
    tables, size = batches.draws(1), batches.sizes[number]
    one = batches.batch(tables, number, size)
    assert same(one, batches.batch(tables, torch.tensor(number), size))
    other = batches.draws(2)
    for name in ("order_N", "keys_P", "partner_N", "numbers_SM"):
        getattr(tables, name).copy_(getattr(other, name))
    assert same(batches.batch(tables, torch.tensor(number), size), batches.batch(other, number, size))
    assert not same(one, batches.batch(other, number, size))

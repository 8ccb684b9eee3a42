"""The loss around trained weights, along random directions whose filters are as long as those of the network."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from residuum.engine import metrics
from residuum.errors import InputError
from residuum.records import surfaces
from residuum.records.record import RunRecord
from residuum.records.surfaces import Grid
from residuum.run import assemble, predict
from residuum.run.predict import Which
from residuum.streams import stream_seed


def evaluate(record: RunRecord, *, dimensions: int, points: int, span: float, images: int, seed: int,
             which: Which = "last", data: str = "", device: str = "auto") -> Iterator[tuple[int, Grid]]:  # fmt: skip
    """Compute a surface point by point; yields how many points are there, first those of an earlier, stopped call.

    The loss is the mean cross-entropy over the first `images` training images of the run, unaugmented, in evaluation
    mode: batch norm keeps the statistics that were saved with the weights (Li et al. 2018, section 4). Every point is
    in the record before it is yielded. `data`: where the data lies now; `device`: as in
    `predict.load`.

    Raises:
        InputError: settings that cannot be, or as `predict.load` and `assemble.dataset_of`.
    """
    if dimensions not in (1, 2):
        raise InputError(f"dimensions: {dimensions}; a surface is along 1 direction or over 2")
    if points < 3 or points % 2 == 0:
        raise InputError(
            f"{points} is not an odd number from 3 on; the trained network is the middle one", argument="points"
        )
    if not (np.isfinite(span) and span > 0):
        raise InputError(f"{span:g} is not above 0", argument="span")
    if images < 1:
        raise InputError(f"{images} is not above 0", argument="images")
    if seed < 0:
        raise InputError(f"{seed} is below 0", argument="seed")
    trained = predict.load(record, which, device)
    dataset = predict.dataset_of(record, data)
    train, (train_N, _) = dataset.train, assemble.positions(record.config.data, dataset)
    chosen_N = train_N[:images]
    grid = Grid(dimensions, points, span, len(chosen_N), seed, which, trained.epoch)
    labels_N = torch.from_numpy(train.labels_N[chosen_N])
    center = {name: value.detach().clone() for name, value in trained.network.named_parameters()}
    along = [direction(center, seed, number) for number in range(dimensions)]
    rows, there = surfaces.begin(record.folder, grid)
    try:
        yield there, grid
        for number in range(there, grid.total):
            move(dict(trained.network.named_parameters()), center, along, grid.place(number))
            logits_NK = assemble.split_logits(trained.network, train, chosen_N, trained.normalization, trained.compute)
            scores = metrics.scores("train", logits_NK, labels_N)
            rows.add(surfaces.row(number, scores.loss, scores.accuracy))
            yield number + 1, grid
    finally:
        rows.close()


def direction(center: dict[str, Tensor], seed: int, number: int) -> dict[str, Tensor]:
    """A random direction, normalised filter by filter (Li et al. 2018, section 3).

    Each filter, a kernel's slice for one output, is Gaussian noise scaled to the norm of the network's filter, so that
    a step means the same in networks of other scale. Biases and the scale and shift of batch norm stay as they are.
    """
    made = {}
    for name, value in center.items():
        if value.dim() < 2:
            made[name] = torch.zeros_like(value)
            continue
        generator = torch.Generator().manual_seed(stream_seed(seed, "surface", number, name))
        noise = torch.randn(value.shape, generator=generator).to(value.device)
        dims = tuple(range(1, value.dim()))
        norms = [torch.linalg.vector_norm(tensor, dim=dims, keepdim=True) for tensor in (value, noise)]
        made[name] = noise * (norms[0] / norms[1])
    return made


@torch.no_grad()
def move(network: dict[str, Tensor], center: dict[str, Tensor], along: list[dict[str, Tensor]],
         steps: tuple[float, ...]) -> None:  # fmt: skip
    """Put the parameters of a network to `center` plus steps along directions."""
    for name, parameter in network.items():
        parameter.copy_(center[name])
        for step, towards in zip(steps, along, strict=True):
            parameter.add_(towards[name], alpha=step)

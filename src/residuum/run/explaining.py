"""Explaining a run: attributions of images, checked against the same network without what it learned."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from residuum.analysis import per_class as analysis
from residuum.attribution import METHODS, ROWS
from residuum.attribution.network import randomised
from residuum.data.batches import normalise_for_network
from residuum.data.images import read_image
from residuum.data.normalize import Normalization
from residuum.engine import state
from residuum.errors import InputError, Remedy, quoted, unknown
from residuum.records import mistakes, run_folder
from residuum.records.attributions import BY_EPOCH, REPORTED, Attributions, Maps, Similarity, path_of, read, write
from residuum.records.record import RunRecord, read_record
from residuum.records.run_folder import Position
from residuum.registry import Choice
from residuum.run import predict
from residuum.run.predict import Trained, Which
from residuum.studies.plan import Plan, is_complete

MOST = 40
"""Images that are explained together: more do not fit into a figure."""

MISTAKES = 18
"""The most confident mistakes whose images a report shows."""

AT_ONCE = 50
"""Images whose gradients are computed together; every activation of them is kept."""

FOLLOWED = 4
"""Images that are followed over the epochs."""

MOST_EPOCHS = 12
"""States of the weights that are explained side by side."""

RANDOM = -1
"""The seed of random weights: no run has it, so they have nothing to do with those that the run began with."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images to explain: what they are called, uint8 NCHW, and their labels, -1 where they are not known."""

    names: tuple[str, ...]
    images_NCHW: NDArray[np.uint8]
    labels_N: NDArray[np.int64]


def explain(
    record: RunRecord,
    method: Choice | str | Mapping[str, Any] = "grad-cam",
    *,
    files: Sequence[Path | str] | None = None,
    numbers: Sequence[int] | None = None,
    target: str = "predicted",
    which: Which = "last",
    data: str = "",
    device: str = "auto",
) -> Attributions:
    """Attributions of images by a run's weights, with those of the same network with random weights.

    The images are `files`, prepared as in training, or test images by their `numbers` (from 0), or where neither is
    given those of `most_confident`; test images are read from `data`, where the data lies now, and the reading is
    counted. `target` is the explained class: `predicted`, `true`, or a name. Maps are made in fp32; what is predicted
    is what the network says in the arithmetic of its run. `device`: as in `predict.load`.

    Raises:
        InputError: no weights, no predictions to choose from, no data, an unknown name, or images that cannot be.
    """
    trained = predict.load(record, which, device)
    choice = resolved(method, trained.shape)
    _check_target(target, trained.classes, known=files is None)
    if files is not None and numbers is not None:
        raise InputError("image files and numbers of test images: give one or the other")
    asked = files if files is not None else numbers
    if isinstance(asked, int | str | Path):
        raise InputError(f"images to explain are a list, as [{quoted(asked)}]")
    if numbers is not None and not all(isinstance(number, int | np.integer) for number in numbers):
        raise InputError("numbers of test images are whole numbers, from 0")
    if asked is not None and not 1 <= len(asked) <= MOST:
        raise InputError(f"{len(asked)} images to explain; 1 to {MOST} fit into a figure")
    if files is not None:
        pictures = from_files([Path(file) for file in files], trained.shape)
    else:
        chosen = most_confident(record, which) if numbers is None else numbers
        pictures = _from_test_set(record, chosen, trained, data)
    return _compared_with_random(trained, attribute(trained, pictures, choice, target, record.id), choice)


def explain_arms(plan: Plan, runs: Path) -> Iterator[str]:
    """Explain the first finished run of each arm that the plan's study looks inside of, unless that was done.

    Its most confident mistakes are kept with it; what is damaged is made again. Yields a line for each that was
    explained or could not be.
    """
    for arm in plan.study.inside:
        folders = [runs / run.folder for run in plan.runs_of.get(arm, ()) if is_complete(run, runs)]
        records = [record for record in map(read_record, folders) if record.status == "finished"]
        if not records:
            continue
        record = records[0]
        try:
            if not _has_mistakes(record):
                _keep_mistakes(record)
            if not _is_explained(record):
                found = explain(record)
                for right, row in _surest(found).items():
                    write(record.folder, BY_EPOCH[right], *over_epochs(record, found, [row]))
                write(record.folder, REPORTED, found)
                yield f"explained {arm}: run {record.id}"
        except InputError as error:
            yield f"{arm} is not explained: {error}"


def _has_mistakes(record: RunRecord) -> bool:
    try:
        mistakes.read(record.folder)
    except InputError:
        return False
    return True


def _is_explained(record: RunRecord) -> bool:
    try:
        for right in _surest(read(path_of(record.folder, REPORTED))):
            read(path_of(record.folder, BY_EPOCH[right]))
    except InputError:
        return False
    return True


def _surest(found: Attributions) -> dict[bool, int]:
    """The rows of the most confident right and of the most confident wrong image, where there are such."""
    right_N, confidence_N = found.predicted_N == found.labels_N, found.probabilities_NK.max(axis=1)
    return {right: int(np.where(right_N == right, confidence_N, -1).argmax())
            for right in (True, False) if (right_N == right).any()}  # fmt: skip


def _keep_mistakes(record: RunRecord) -> None:
    found = analysis.mistakes(analysis.read(record), MISTAKES)
    test = predict.test_images(record, "classes", analysis.epoch_of(record), "", None)
    mistakes.write(record.folder, {one.index: test.images_NCHW[one.index] for one in found})


def resolved(method: Choice | str | Mapping[str, Any], shape: tuple[int, int, int]) -> Choice:
    """A method with every setting checked and every default written out, for images of a shape (C, H, W)."""
    choice = METHODS.resolve(method, "method")
    return Choice(name=choice.name, **ROWS[choice.name].fitted(choice.settings, shape))


def _check_target(target: str, classes: Sequence[str], *, known: bool) -> None:
    if target == "true" and not known:
        raise InputError("the true class of an image file is not known; name the class", argument="target")
    if not isinstance(target, str):
        raise InputError(f"{quoted(target)} is not text; name a class, or predicted or true", argument="target")
    if target not in ("predicted", "true", *classes):
        raise unknown("class", target, ("predicted", "true", *classes), argument="target")


def most_confident(record: RunRecord, which: Which = "last") -> list[int]:
    """Test images by number: of each class the most confident right one, then of each the most confident wrong one.

    By the predictions that the run saved; of many classes the first 20. A class without such an image has none.

    Raises:
        InputError: there are no predictions.
    """
    try:
        predictions = analysis.read(record, which)
    except InputError as error:
        raise InputError(error.text, remedies=[*error.remedies, Remedy("images")]) from error
    chosen = []
    for right in (True, False):
        for label in range(min(len(predictions.classes), MOST // 2)):
            of_class_N = np.flatnonzero((predictions.labels_N == label) & (predictions.right_N == right))
            if len(of_class_N):
                chosen.append(int(of_class_N[predictions.confidence_N[of_class_N].argmax()]))
    return chosen


def from_files(paths: Sequence[Path], shape: tuple[int, int, int]) -> Pictures:
    """Image files, prepared as for a prediction.

    Raises:
        InputError: a file is missing, damaged or not an image.
    """
    read = [read_image(path, shape) for path in paths]
    names = tuple(path.name + (" (resized)" if one.resized else "") for path, one in zip(paths, read, strict=True))
    return Pictures(names, np.stack([one.pixels_CHW for one in read]), np.full(len(paths), -1))


def _from_test_set(record: RunRecord, numbers: Sequence[int], trained: Trained, data: str) -> Pictures:
    test = predict.test_images(record, "explain", trained.epoch, data, trained.compute)
    for number in numbers:
        if not 0 <= number < len(test):
            raise InputError(f"there is no test image {number}; they are numbered from 0 to {len(test) - 1}")
    chosen_N = np.array(numbers)
    return Pictures(tuple(f"no. {n}" for n in numbers), test.images_NCHW[chosen_N], test.labels_N[chosen_N])


def attribute(trained: Trained, pictures: Pictures, method: Choice, target: str, run: str = "") -> Attributions:
    """Attributions of images by a trained network, for a target that is among its classes, `predicted` or `true`."""
    images_NCHW, targets_N = pictures.images_NCHW, pictures.labels_N
    # What the network says is what every other command says: in the arithmetic of the run. The maps are exact.
    logits_NK = predict.logits(trained, torch.from_numpy(images_NCHW))
    if target != "true":
        predicted_N = logits_NK.argmax(dim=1).numpy()
        targets_N = predicted_N if target == "predicted" else predicted_N * 0 + trained.classes.index(target)
    with _exactly(trained) as network:
        maps = _maps(trained, network, images_NCHW, targets_N, method)
        gaps_N2 = None
        if misses := ROWS[method.name].misses:
            to, baseline_CHW = trained.compute.device, _baseline(trained)
            targets, shares_NHW = torch.from_numpy(targets_N).to(to), torch.from_numpy(maps["input"]).to(to)
            pair = misses(network, _inputs(trained, images_NCHW), targets, baseline_CHW, shares_NHW)
            gaps_N2 = torch.stack(pair, dim=1).cpu().numpy()
    return Attributions(
        run=run,
        method=method.name,
        settings=method.settings,
        target=target,
        classes=trained.classes,
        names=pictures.names,
        epochs=(trained.epoch,) * len(targets_N),
        images_NCHW=images_NCHW,
        labels_N=pictures.labels_N,
        targets_N=targets_N,
        probabilities_NK=logits_NK.softmax(dim=1).numpy(),
        maps=maps,
        gaps_N2=gaps_N2,
    )


def over_epochs(
    record: RunRecord, found: Attributions, rows: Sequence[int] | None = None, device: str = "auto"
) -> tuple[Attributions, ...]:
    """Some rows of attributions explained for the same classes by the weights of every epoch, on `device`.

    Without `rows` the first four. The epochs are those whose weights were kept, and 0, the network before training,
    which its seed makes again; of more than 12, 12 from the first to the last at even distances.

    Raises:
        InputError: no weights, or damaged or imported ones, or the attributions are of another run.
    """
    if record.status == "imported":
        raise InputError(f"run {record.id} was imported: it has no epochs to follow")
    if found.run != record.id:
        raise InputError(f"these attributions are of run {found.run}, not of {record.id}")
    trained = predict.load(record, device=device)
    method, known = Choice(name=found.method, **found.settings), sorted({0, *kept_epochs(record)})
    chosen = sorted({known[round(at)] for at in np.linspace(0, len(known) - 1, MOST_EPOCHS)})
    rows = range(min(FOLLOWED, len(found.names))) if rows is None else rows
    images_NCHW, targets_N = found.images_NCHW[list(rows)], found.targets_N[list(rows)]
    logits, maps = [], []
    with _exactly(trained) as network:
        for epoch in chosen:
            _load_epoch(record, trained, epoch)
            logits.append(predict.logits(trained, torch.from_numpy(images_NCHW)))
            maps.append(_maps(trained, network, images_NCHW, targets_N, method))
    return tuple(
        replace(
            found,
            names=(found.names[row],) * len(chosen),
            epochs=tuple(chosen),
            images_NCHW=images_NCHW[[at]].repeat(len(chosen), axis=0),
            labels_N=found.labels_N[[row]].repeat(len(chosen)),
            targets_N=targets_N[[at]].repeat(len(chosen)),
            probabilities_NK=torch.stack([one[at] for one in logits]).softmax(dim=1).numpy(),
            maps={name: np.stack([one[name][at] for one in maps]) for name in maps[0]},
            randomised={},
            similarity={},
            gaps_N2=None,
        )
        for at, row in enumerate(rows)
    )


def _load_epoch(record: RunRecord, trained: Trained, epoch: int) -> None:
    """Put the weights of an epoch into a network; those before training where none were saved then."""
    if epoch in kept_epochs(record):
        checkpoint = run_folder.read_checkpoint(record.folder, Position(epoch, 0))
        state.load_weights(trained.network, state.evaluated(checkpoint.files))
        return
    trained.network.load_state_dict(predict.beginning(record).state_dict())


def kept_epochs(record: RunRecord) -> list[int]:
    """The epochs whose weights were kept, in order."""
    return [position.epoch for position, _ in run_folder.checkpoints(record.folder) if position.step == 0]


def _compared_with_random(trained: Trained, found: Attributions, method: Choice) -> Attributions:
    """The attributions with those of the network without what it learned, and how alike they are on the way there."""
    similarity = {}
    with _exactly(trained) as network:
        for part, copy in randomised(network, RANDOM):
            maps = _maps(trained, copy, found.images_NCHW, found.targets_N, method)
            similarity[part] = {name: rank_correlation(found.maps[name], maps[name]) for name in maps}
    return replace(found, randomised=maps, similarity=similarity)


def rank_correlation(maps_NHW: NDArray[np.float32], others_NHW: NDArray[np.float32]) -> Similarity:
    """Spearman's rank correlation of the absolute values of two maps, the mean over images.

    A map that has the same value everywhere has no ranks, and its image does not count.
    """
    found = []
    for pair in zip(maps_NHW, others_NHW, strict=True):
        one, other = (rankdata(np.abs(map_HW)) for map_HW in pair)
        if np.ptp(one) > 0 and np.ptp(other) > 0:  # false as well where a map is not finite
            found.append(float(np.corrcoef(one, other)[0, 1]))
    return Similarity(float(np.mean(found)) if found else None, len(found))


def neutral(normalization: Normalization, shape: tuple[int, int, int]) -> Tensor:
    """The image that says nothing, normalised, [C, H, W]: what integrated gradients start from and occlusion covers by.

    0 after normalisation, which is the mean image under `standardize` and any even grey under `per_image`. Where 0
    would be black (`minmax`, `none`), dark pixels could never count: there it is middle grey, as under `signed`.
    """
    if normalization.kind == "per_image" or any(normalization.mean):
        return torch.zeros(shape)
    return normalization(torch.full((1, *shape), 0.5))[0]


@contextmanager
def _exactly(trained: Trained) -> Iterator[nn.Module]:
    """The network in evaluation mode, computing in fp32 and on a GPU in the same order every time."""
    trained.network.eval()
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield trained.network


def _baseline(trained: Trained) -> Tensor:
    return neutral(trained.normalization, trained.shape).to(trained.compute.device)


def _inputs(trained: Trained, images_NCHW: NDArray[np.uint8]) -> Tensor:
    return normalise_for_network(torch.from_numpy(images_NCHW).to(trained.compute.device), trained.normalization)


def _maps(
    trained: Trained, network: nn.Module, images_NCHW: NDArray[np.uint8], targets_N: NDArray[np.int64], method: Choice
) -> Maps:
    baseline_CHW = _baseline(trained)
    parts = []
    for start in range(0, len(images_NCHW), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        targets = torch.from_numpy(targets_N[part]).to(trained.compute.device)
        parts.append(METHODS.build(method, network, _inputs(trained, images_NCHW[part]), targets, baseline_CHW))
    return {name: np.concatenate([part[name].cpu().numpy() for part in parts]) for name in parts[0]}

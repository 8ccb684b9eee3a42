"""Weights from elsewhere: a public state dict in a network of ours, compared with its logits, becomes a run."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from residuum import own
from residuum.config import RunConfig, identity
from residuum.data.batches import normalise_for_network
from residuum.data.dataset import Dataset, Split
from residuum.data.datasets import cifar10, cifar100
from residuum.engine import state
from residuum.engine.state import Progress
from residuum.errors import InputError, Remedy, quoted, tally
from residuum.models import MODELS, build
from residuum.models.foreign import Foreign, fitted, read_foreign
from residuum.models.mapping import Fit, containers, fit
from residuum.models.untold import Untold, untold
from residuum.networks import presets
from residuum.networks.names import short_name
from residuum.records import run_folder, storage
from residuum.records.environment import environment
from residuum.records.event import TestRead
from residuum.records.facts import Start
from residuum.records.outcome import Outcome
from residuum.records.record import RunRecord, read_record
from residuum.records.run_folder import Position
from residuum.registry import Choice, name_of
from residuum.run import assemble, constants
from residuum.run.assemble import Data
from residuum.run.reference import TEST, Compared, compare, read_reference
from residuum.run.variants import Change, Same, Variant, changes, nearest, turned_round

FEW = 4
"""Images of a reference on which other settings are tried first."""
Channels = Literal["rgb", "bgr"]
"""The order in which a network was given the channels of its images; ours always have red first."""
SCORED = 64
"""Training images on which other settings for imported weights are tried."""
ORIGIN = "origin.json"
"""The file of a run folder that says where its weights are from, and what was assumed of them."""


@dataclass(frozen=True)
class Imported:
    """Weights from elsewhere in a network of ours, before anything is written: what they came to, and from where.

    `config` is resolved. `untold` are the settings that the tensors do not tell, each with other values that they fit.
    `given` are the paths of settings that stand over a preset.
    """

    file: Path
    config: RunConfig
    data: Data
    network: nn.Module
    fit: Fit
    untold: Untold
    preset: str
    channels: Channels
    given: frozenset[str] = frozenset()

    @property
    def assumed(self) -> dict[str, Any]:
        """What the tensors do not tell, by dotted path, at the values that were taken for true."""
        return {f"model.{path}": _at(self.config.model, path) for path in self.untold}


def _at(choice: Choice, path: str) -> Any:
    """The value of a setting within a choice; a choice by its name."""
    value: Any = choice
    for name in path.split("."):
        value = Choice.of(value).settings[name]
    return name_of(value.model_dump() if isinstance(value, Choice) else value)


KNOWN = {"cifar10": cifar10.LAYOUT.classes, "cifar100": cifar100.layout("fine").classes}
"""Classes of the data sets of 3×32×32 pixels whose weights are imported without any of their images."""


def without_images(name: str) -> Dataset:
    """Shape and classes of a known data set with one black image: all that its weights need until they are scored."""
    black = Split(np.zeros((1, 3, 32, 32), np.uint8), np.zeros(1, np.int64))
    return Dataset(name, KNOWN[name], black, black, fingerprint="")


def cifar10_without_images() -> Dataset:
    """CIFAR-10 without its images."""
    return without_images("cifar10")


def import_weights(file: Path, config: RunConfig, runs: Path, dataset: Dataset | None = None) -> RunRecord:
    """Put a public state dict into a run folder that `evaluate` and `predict` accept; its status is `imported`.

    `config` names the network, the data set that it was trained on, and the normalisation of its images. A `dataset`
    that is given tells shape and classes, and nothing is read.

    Raises:
        InputError: as `read_weights`.
    """
    return keep(read_weights(file, config, dataset), runs)


def read_weights(
    file: Path,
    config: RunConfig,
    dataset: Dataset | None = None,
    *,
    preset: str = "",
    key: str = "",
    settings: Mapping[str, Any] | None = None,
    estimates: bool = True,
    channels: Channels = "rgb",
) -> Imported:
    """A public state dict in the network that `config` names, changed by a preset and then by `settings`.

    The images are normalised as `config` says; where it gives no constants, by those of the preset, those that lie in
    the file, or, with `estimates`, those of the training images. A `dataset` that is given tells shape and classes, and
    nothing is read. `key` says where in the file the weights lie, if it holds several. In fp32 unless told otherwise.
    Pre-activated networks of public code have tensors of their own, by which its preset is found where none is named.
    `channels` is the order that the network was trained with; constants are given in that order, and the first
    convolution is turned round for ours.

    Raises:
        InputError: the file is not a state dict of that network, settings do not go together, or nothing says how
            images are normalised.
    """
    chosen = presets.preset(preset) if preset else None
    foreign, settings = read_foreign(file), settings or {}
    if config.compute.precision == "auto":
        config = config.changed({"compute.precision": "fp32"})
    config = config.changed(settings)
    if chosen:
        _check_shortcuts(chosen, preset, config.model, settings)
        config = config.changed(presets.settings_of(chosen, config.model, _first_side(foreign))).changed(settings)
    _check_constants(config.data.normalize)
    dataset = dataset or assemble.dataset_of(config.data)
    in_channels, height, width = dataset.train.images_NCHW.shape[1:]
    model = MODELS.resolve(config.model, "model")
    network = build(model, in_channels, len(dataset.classes), (height, width), config.train.seed)
    try:
        found = fitted(foreign, network, key)
    except InputError:
        like = _like(foreign, config, in_channels, len(dataset.classes), key) if not chosen else ""
        if not like:
            raise
        return read_weights(file, config, dataset, preset=like, key=key, settings=settings, estimates=estimates,
                            channels=channels)  # fmt: skip
    if found.on_logits and key.strip(".") != found.place:
        raise InputError(
            f"{file}: {quoted(found.on_logits[0])} beside the weights may change "
            "their logits, as a learned temperature "
            "does, and has no place here; fold it into the linear layer",
            remedies=[Remedy("key", found.place)],
        )
    if config.data.normalize.name == "standardize" and config.data.normalize.settings.get("mean") is None:
        known = presets.pixels_of(chosen, config.data.dataset.name) if chosen else None
        mean, std = known or (found.pixels.get("mean"), found.pixels.get("std"))
        if mean and std:
            pixels = {"name": "standardize", "mean": list(mean), "std": list(std)}
            config = config.changed({"data.normalize": pixels})
            if not known:
                _check_constants(config.data.normalize, f"{file} has a ")
        elif not estimates or not dataset.fingerprint:  # one black image tells nothing
            has = " and ".join(name for name in chosen.pixels if name) if chosen else ""
            lacks = f"preset {quoted(preset)} has no constants for {dataset.name}, but for {has}; " if preset else ""
            text = "say how images were normalised, as 0.4914,0.4822,0.4465 0.2470,0.2435,0.2616"
            raise InputError(f"{lacks}{text}{'' if preset else ', or name a preset'}", argument="normalize")
    if channels == "bgr":
        found = replace(found, state=turned_round(found.state))
        normalize = config.data.normalize
        config = config.changed({f"data.normalize.{name}": list(reversed(normalize.settings[name]))
                                 for name in ("mean", "std") if normalize.settings.get(name)})  # fmt: skip
    network.load_state_dict(found.state)
    resolved, data = assemble.resolve(config, dataset)
    others = untold(model, in_channels, len(dataset.classes), (height, width))
    return Imported(file, resolved, data, network.eval(), found, others, preset, channels, frozenset(settings))


def _like(foreign: Foreign, config: RunConfig, in_channels: int, classes: int, key: str) -> str:
    """The one preset whose pre-activated networks have the tensors of a file, as one without a norm after its stem."""
    side, fitting = _first_side(foreign), []
    for name, one in presets.PRESETS.items():
        settings = presets.settings_of(one, config.model, side)
        if not any(f"model.{path}" in settings for path in one.preact):
            continue
        with torch.device("meta"):
            expected = MODELS.build(config.changed(settings).model, in_channels, classes).state_dict()
        found = fit(foreign.content, expected, ordered=foreign.ordered, key=key)
        if isinstance(found, Fit) or found.keys:
            fitting.append(name)
    return fitting[0] if len(fitting) == 1 else ""


def _check_shortcuts(chosen: presets.Preset, preset: str, model: Choice, settings: Mapping[str, Any]) -> None:
    """Refuse a plain network for the weights of public code that has residual ones alone, unless it was asked for.

    Raises:
        InputError: option A has no tensors, so that its weights would load into the plain network without a word.
    """
    plain = name_of(model.settings.get("shortcut")) == "none"
    if plain and "model.shortcut" not in settings:
        own = name_of(chosen.model["shortcut"])
        text = f"the networks of {chosen.code} have shortcuts ({own}), and {short_name(model)} has none; name another"
        raise InputError(f"preset {quoted(preset)}: {text} network, or say model.shortcut=none if yours has none")


def _first_side(foreign: Foreign) -> int:
    """The side of the first convolution in a file, 0 if there is none."""
    largest: Mapping[str, Tensor] = max((one.tensors for one in containers(foreign.content)), key=len, default={})
    return next((tensor.shape[-1] for tensor in largest.values() if tensor.ndim == 4 and tensor.shape[-1] > 1), 0)


def _check_constants(normalize: Choice, found: str = "") -> None:
    """Refuse constants that are not those of pixels in [0, 1]; `found` says where, if they were not given.

    Raises:
        InputError: a mean or a deviation lies outside.
    """
    for name in ("mean", "std"):
        values = normalize.settings.get(name) or ()
        beyond = [value for value in values if not 0 <= value <= 1 or (name == "std" and value == 0)]
        if beyond:
            less = ",".join(f"{value / 255:.4g}" for value in values)
            hint = f"; ÷ 255? That would be {less}" if max(values) > 1 and min(values) >= 0 else ""
            text = f"{found}{name} {beyond[0]:g}{', which' if found else ''} is not one of pixels in [0, 1]{hint}"
            raise InputError(text, argument="" if found else "normalize")


def check_reference(
    imported: Imported, logits: Path, images: Path | None = None, test: Split | None = None
) -> Compared:
    """The logits of imported weights against those that their own program gave.

    The `images` may lie in the file with the logits, or beside it; without any, they are the first `test` images.

    Raises:
        InputError: they do not agree; the message says with what they would, where that is found.
    """
    data = imported.data
    reference = read_reference(logits, images, data.shape, len(data.dataset.classes), test)
    found = compare(imported.network, data.normalization, reference)
    if found.agrees:
        return found
    few = replace(reference, logits_NK=reference.logits_NK[:FEW], images_NCHW=reference.images_NCHW[:FEW])

    def distance(one: Variant) -> float:
        near = compare(one.network, one.normalization, few)
        agrees = near.agrees and compare(one.network, one.normalization, reference).agrees
        return -1.0 if agrees else near.unlikeness

    same = _same(imported)
    singles = _changes(imported, same, pixels=reference.pixels)
    nearness, words = nearest(same, singles, len(few.images_NCHW), distance, enough=-1.0)
    if nearness >= 0 and reference.pixels and same.normalization.kind == "affine":
        others = [one for one in singles if one.normalization is None]
        words = constants.found(same, others, reference, imported.channels)
        nearness = -1.0 if words else nearness
    text = (
        f"the {found.of} differ from those in {logits} by up to {found.difference:.3g}, and the class is the same for "
    )
    text += f"{found.agreeing} of {tally(found.images, 'image')}; nothing was written"
    why = "; that may be TF32 or half precision: fp32 logits tell" if found.rough else ""
    raise InputError(f"{text}; with {words} they agree" if nearness < 0 else f"{text}{why}", argument="reference")


def _same(imported: Imported) -> Same:
    """What all networks that the imported tensors would be have in common."""
    data = imported.data
    return Same(
        imported.config.model, imported.fit.state, data.normalization, data.shape, len(data.dataset.classes)
    )  # fmt: skip


def _changes(imported: Imported, same: Same, *, pixels: bool = True) -> list[Change]:
    """What else imported tensors would be, by one change each."""
    return changes(same, imported.untold, imported.data.dataset.name, imported.channels, pixels=pixels)


def better_than_chance(imported: Imported) -> str:
    """What would make imported weights better than guessing on training images, in words of options.

    Empty if nothing is found.
    """
    train = imported.data.dataset.train
    numbers_N = np.linspace(0, len(train) - 1, min(len(train), SCORED)).astype(np.int64)
    images_NCHW = torch.from_numpy(np.ascontiguousarray(train.images_NCHW[numbers_N]))
    labels_N = torch.from_numpy(train.labels_N[numbers_N])

    def error(one: Variant) -> float:
        with torch.no_grad():
            logits_NK = one.network(normalise_for_network(images_NCHW, one.normalization))
        return float((logits_NK.argmax(1) != labels_N).float().mean())

    same = _same(imported)
    least, words = nearest(same, _changes(imported, same), len(labels_N), error, enough=0.0)
    best = 1 - min(least, 1.0)
    chance = int(torch.bincount(labels_N).max()) / len(labels_N)
    found = f"{words} gives {best:.2f} on {tally(len(labels_N), 'training image')}"
    return "" if near_chance(best, chance, len(labels_N)) else found


def near_chance(accuracy: float, chance: float, images: int) -> bool:
    """Whether an accuracy is about that of always naming the most frequent class.

    It is where it lies less than a tenth of the way from there to 1 above, or within three standard errors.
    """
    return accuracy <= chance + max(0.1 * (1 - chance), 3 * math.sqrt(chance * (1 - chance) / images))


def keep(imported: Imported, runs: Path, reference: Compared | None = None) -> RunRecord:
    """Put imported weights into a run folder, with where they are from and what was assumed."""
    resolved, data = imported.config, imported.data
    weights = state.to_bytes(imported.network.state_dict())
    id_ = sha256(identity(resolved).encode() + weights).hexdigest()[:12]
    folder = runs / f"{short_name(resolved.model)}-{own.short(resolved.data.dataset.name)}-imported-{id_}"
    with storage.storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with storage.locked(folder):
        run_folder.begin(folder, resolved, f"imported from {imported.file.name}", id_)
        storage.write_json(folder / run_folder.DATA, data.facts.plain())
        storage.write_json(folder / ORIGIN, origin(imported, reference))
        if not run_folder.checkpoints(folder):
            run_folder.add_start(folder, Start(**environment()))
            with run_folder.writing(folder) as writer:
                writer.save(Position(0, 0), {state.WEIGHTS: weights}, {"progress": Progress().plain()})
        if reference and reference.source == TEST:
            with run_folder.writing(folder) as writer:
                writer.write(TestRead("evaluate", 0))
        storage.write_json(folder / run_folder.RESULT, Outcome("imported").plain())
    return read_record(folder)


def origin(imported: Imported, reference: Compared | None = None) -> dict[str, Any]:
    """Where imported weights are from and what was assumed of them, as `origin.json` holds it."""
    found = imported.fit
    return {
        "file": imported.file.name,
        "place": found.place,
        "matched_by_order_from": found.matched,
        "head": found.head,
        "passed_over": list(found.passed_over),
        "fit_too": list(found.others),
        "preset": imported.preset,
        "channels": imported.channels,
        "assumed": imported.assumed,
        "reference": reference and asdict(reference),
    }

"""From a configuration to live objects: the one place where names become networks, batches and optimizers."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from residuum import optim, own, schedules
from residuum.config import FOUND, ComputeConfig, DataConfig, PretrainedConfig, RunConfig
from residuum.data import datasets
from residuum.data.augment import AUGMENTATIONS, check_augmentations
from residuum.data.batches import TrainingBatches, evaluation_batches, on_device
from residuum.data.dataset import Dataset, Split
from residuum.data.mix import MIXES
from residuum.data.normalize import NORMALIZERS, Normalization
from residuum.data.split import split
from residuum.engine import looking, metrics, noise
from residuum.engine.compute import Compute, available_devices, chosen, compiled, compute
from residuum.engine.evaluate import logits_of
from residuum.engine.kernels import settled, with_kernels
from residuum.engine.live import Training
from residuum.engine.loop import fit
from residuum.engine.scaling import Scale
from residuum.engine.state import Progress
from residuum.engine.step import has_captured_form
from residuum.errors import InputError, quoted, tally, unknown
from residuum.models import MODELS, Network, build
from residuum.models.families.resnet import unheeded
from residuum.records.event import Diverged, Event, LayersSeen, Scores, StepDone
from residuum.records.facts import DataFacts, Normalized
from residuum.records.storage import expanded
from residuum.registry import Choice, Table
from residuum.run import pretrained, trust

LOOKED_AT = 128
"""Training images, unaugmented, on which the layers are looked at."""
NOISE_IMAGES, NOISE_BATCH = 1024, 32
"""Training images, unaugmented, on which the noise of the gradient is measured, and how many make one gradient."""

CLEAN_PART = 5_000
"""Training images that are scored at a time after the last epoch."""


@dataclass(frozen=True)
class Data:
    """A data set made ready for one configuration: who trains, who validates, how pixels are normalised.

    `validation_N` are the positions of the training images that are held out; none where the data set brings a
    validation split of its own. `validation` are the images that validate, wherever they come from.
    """

    dataset: Dataset
    train_N: NDArray[np.int64]
    validation_N: NDArray[np.int64]
    normalization: Normalization

    @property
    def held_out(self) -> int:
        """How many images validate."""
        return len(self.validation_N) if self.dataset.validation is None else len(self.dataset.validation)

    @property
    def validation(self) -> Split | None:
        """The images that validate; None if none do."""
        if self.dataset.validation is not None or not len(self.validation_N):
            return self.dataset.validation
        train = self.dataset.train
        return Split(train.images_NCHW[self.validation_N], train.labels_N[self.validation_N])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.dataset.train.images_NCHW.shape[1:]
        return channels, height, width

    @property
    def facts(self) -> DataFacts:
        """What a prediction or a report needs to know of the data, for the record."""
        constants = self.normalization
        return DataFacts(
            dataset=self.dataset.name,
            fingerprint=self.dataset.fingerprint,
            classes=tuple(self.dataset.classes),
            shape=self.shape,
            train=len(self.train_N),
            validation=self.held_out,
            test=len(self.dataset.test.labels_N),
            encodings=self.dataset.encodings,
            normalization=Normalized(constants.kind, constants.mean, constants.std),
        )


def resolve(config: RunConfig, dataset: Dataset | None = None) -> tuple[RunConfig, Data]:
    """The configuration with every name and setting checked and every default written out, and its data.

    Device, precision and kernels are those that `auto` means on this machine: they decide the numbers.

    A `dataset` that is given stands for the one that the configuration names, which is then not read.

    Raises:
        InputError: an unknown name or setting, an impossible combination, data that is missing or not that of the run.
    """
    trust.admit(config)
    root = str(expanded(config.data.root).absolute()) if config.data.root else ""
    named = config.data.dataset
    if named.name == FOUND:
        named = Choice(name=datasets.find(Path(root)), **named.settings)
    dataset_choice = datasets.DATASETS.resolve(named, "data.dataset")
    dataset = dataset or dataset_of(config.data.model_copy(update={"dataset": dataset_choice, "root": root}))
    brought = {} if dataset.validation is None else {"validation": len(dataset.validation)}
    channels, height, width = dataset.train.images_NCHW.shape[1:]
    augment = _resolve_all(AUGMENTATIONS, config.data.augment, "data.augment")
    check_augmentations(augment, channels, height, width)
    o, c = config.optim, config.compute
    device, precision = chosen(c.device, c.precision)
    settled_ = {
        "device": device,
        "precision": precision,
        "kernels": settled(c.kernels, torch.device(device), precision),
        "deterministic": c.deterministic or device == "cpu",  # which has no other kernels
    }
    resolved = config.model_copy(
        update={
            "compute": c.model_copy(update=settled_),
            "data": config.data.model_copy(
                update={
                    "dataset": dataset_choice,
                    "root": root,
                    "fingerprint": dataset.fingerprint,
                    "normalize": NORMALIZERS.resolve(config.data.normalize, "data.normalize"),
                    "augment": augment,
                    "mix": MIXES.resolve(config.data.mix, "data.mix"),
                    **brought,  # one that is drawn would be another run
                }
            ),
            "model": MODELS.resolve(config.model, "model"),
            "optim": o.model_copy(
                update={
                    "optimizer": optim.OPTIMIZERS.resolve(o.optimizer, "optim.optimizer"),
                    "schedule": optim.SCHEDULES.resolve(o.schedule, "optim.schedule"),
                    "loss": optim.LOSSES.resolve(o.loss, "optim.loss"),
                    "penalties": _resolve_all(optim.PENALTIES, o.penalties, "optim.penalties"),
                }
            ),
        }
    )
    data = prepare(resolved.data, dataset, config.train.seed)
    trust.keep(resolved)
    return _with_fingerprint(resolved, data), data


def rehearsed(config: RunConfig) -> tuple[RunConfig, Data]:
    """As `resolve`, to see what a run costs: for published images that are not here, others stand in.

    Then the configuration has no fingerprint of data, and its run is not one that anybody asked for.

    Raises:
        InputError: as `resolve`.
    """
    try:
        return resolve(config)
    except datasets.MissingError:
        return resolve(config, datasets.stand_in(config.data.dataset))


def _with_fingerprint(config: RunConfig, data: Data) -> RunConfig:
    """The configuration with the hash of the weights that it begins with.

    Raises:
        InputError: they are not there, or another's than the configuration was resolved with.
    """
    weights, known = config.pretrained.weights, config.pretrained.fingerprint
    if not weights:
        for name in ("preset", "key"):
            if getattr(config.pretrained, name):
                text = f"pretrained.{name}: it is for a file of weights, which pretrained.weights names"
                raise InputError(text)
        return config.model_copy(update={"pretrained": PretrainedConfig()})
    path = expanded(weights).absolute()
    if not path.exists():
        if known:  # a run that was begun has all it needs
            return config
        raise InputError(f"pretrained.weights: {weights} does not exist; name a run's folder or a file of weights")
    found = pretrained.read(path, network_of(config, data), config.pretrained.key).fingerprint
    if known and known != found:
        raise InputError(f"pretrained.weights: {weights} holds others than this run began with: {found}, not {known}")
    update = {"weights": str(path), "fingerprint": found}
    return config.model_copy(update={"pretrained": config.pretrained.model_copy(update=update)})


def _resolve_all(table: Table[Any], choices: tuple[Choice, ...], path: str) -> tuple[Choice, ...]:
    return tuple(table.resolve(choice, f"{path}[{number}]") for number, choice in enumerate(choices))


def prepare(config: DataConfig, dataset: Dataset, seed: int) -> Data:
    """The split and the normalisation of a data set; the statistics come from the training images in use."""
    train_N, validation_N = positions(config, dataset)
    normalization = NORMALIZERS.build(config.normalize, dataset.train.images_NCHW[train_N], seed)
    return Data(dataset, train_N, validation_N, normalization)


def positions(config: DataConfig, dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the training images that train and of those held out; none where the data set brings others."""
    draw = config.validation if dataset.validation is None else 0
    return split(dataset.train.labels_N, subset=config.subset, validation=draw, seed=config.split_seed)


def network_of(config: RunConfig, data: Data) -> nn.Module:
    """The network of a configuration, initialised on the CPU."""
    channels, height, width = data.shape
    return build(config.model, channels, len(data.dataset.classes), (height, width), config.train.seed)


def dataset_of(config: DataConfig) -> Dataset:
    """The data set of a resolved configuration.

    Raises:
        InputError: it is missing, damaged, or not the one that the configuration was resolved with.
    """
    dataset = datasets.load(config.dataset, config.root)
    if config.fingerprint not in ("", dataset.fingerprint):
        raise InputError(
            f"the images in {config.root or dataset.name} are not those of this run: "
            f"fingerprint {dataset.fingerprint}, not {config.fingerprint}"
        )
    return dataset


def place(network: nn.Module, on: Compute) -> nn.Module:
    """The network on its device, its weights in the memory layout of the images (channels last).

    Raises:
        InputError: convolutions that the device or its precision does not have.
    """
    network = network.to(on.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return with_kernels(network, on.kernels, on.device, on.precision)


def compute_of(config: ComputeConfig) -> Compute:
    """The compute that settings mean on this machine.

    Raises:
        InputError: a device that is not there, or an arithmetic that it does not have.
    """
    return compute(config.device, config.precision, config.threads, config.deterministic, config.kernels)


def elsewhere(config: ComputeConfig, device: str) -> ComputeConfig:
    """The settings for computing on another device than a run's own, in the arithmetic nearest to its own.

    Raises:
        InputError: there is no such device.
    """
    known = get_args(ComputeConfig.model_fields["device"].annotation)
    if device not in known:
        raise unknown("device", device, known, argument="device")
    precision = "bf16" if config.precision == "bf16" else "fp32"
    settings = {"device": device, "precision": precision, "kernels": "cudnn"}
    return ComputeConfig.model_validate(config.model_dump() | settings)


def compute_here(config: ComputeConfig, device: str = "auto") -> Compute:
    """The compute for reading a run, on a device that is named or on its own; where that is not here, on what is here.

    A run that was trained on a card can be looked at on a laptop.

    Raises:
        InputError: the named device is none, or not here.
    """
    if device == "auto" and config.device in ("auto", *available_devices()):
        return compute_of(config)
    return compute_of(config if device == config.device else elsewhere(config, device))


def begun(config: RunConfig, data: Data) -> tuple[nn.Module, list[str]]:
    """The network of a run before its first update, on the CPU: by its seed, or with the weights that it begins with.

    Raises:
        InputError: these are not there, or of another network.
    """
    network, weights = network_of(config, data), config.pretrained.weights
    if not weights:
        return network, []
    if not Path(weights).exists():
        raise InputError(f"pretrained.weights: {weights} does not exist")
    found = pretrained.read(Path(weights), network, config.pretrained.key)
    return network, [pretrained.put(found, network, tuple(data.dataset.classes), config.model)]


def training(config: RunConfig, data: Data, *, resumed: bool = False) -> tuple[Training, list[str]]:
    """The live objects of a run, and lines about what is not as asked; `resumed`: a saved state is put into them.

    Of a run with own code that begins, the first update is tried on others.

    Raises:
        InputError: settings that do not go together, a device that is not there, or own code that fails.
    """
    made = _training(config, data, resumed=resumed)
    if own.codes(config.model_dump(mode="json")) and not resumed:
        _rehearse(config, data)
    return made


def _rehearse(config: RunConfig, data: Data) -> None:
    """Make the first update of a run on objects of its own, so that own code that fails in it does before it begins.

    Raises:
        InputError: it fails.
    """
    try:
        made, _ = _training(config, data, resumed=False)
        for event in fit(made, Progress(micro_batch=config.train.micro_batch)):
            if isinstance(event, StepDone | Diverged):
                return
    except (Exception, SystemExit) as error:
        if said := own.charge(error, config.model_dump(mode="json")):
            raise InputError(said) from error
        raise


def _training(config: RunConfig, data: Data, *, resumed: bool) -> tuple[Training, list[str]]:
    o, t = config.optim, config.train
    has_own = bool(said := trust.admit(config))
    on = compute_of(config.compute)
    batches = TrainingBatches(
        data.dataset.train.images_NCHW,
        data.dataset.train.labels_N,
        data.train_N,
        batch_size=t.batch_size,
        seed=t.seed,
        normalization=data.normalization,
        augment=config.data.augment,
        mix=config.data.mix,
        classes=len(data.dataset.classes),
        device=on.device,
    )
    if schedules.row(o.schedule.name).watches_loss and not data.held_out:
        raise InputError(
            f"optim.schedule: {quoted(o.schedule.name)} watches the validation "
            "loss; hold images out with data.validation"
        )
    if o.warmup > t.epochs:
        raise InputError(f"optim.warmup: {o.warmup:g} epochs of warm-up do not fit into a run of {t.epochs}")
    span = optim.Span(batches.steps_per_epoch, t.epochs)
    factor = optim.with_warmup(optim.SCHEDULES.build(o.schedule, span), span, o.warmup, o.warmup_start)
    network, notes = (network_of(config, data), []) if resumed else begun(config, data)
    block = Choice.of(config.model.settings.get("block") or {})
    if block.code and not resumed and isinstance(network, Network):
        notes += [f"the block {block.name} does not heed {one}" for one in unheeded(network, data.shape)]
    optim.freeze(network, o.freeze)
    network = place(network, on)
    groups = optim.parameter_groups(network, weight_decay=o.weight_decay, decay_norm=o.decay_norm)
    optimizer = optim.OPTIMIZERS.build(o.optimizer, groups)
    average = optim.Average(network, o.ema) if o.ema else None
    size = t.micro_batch or t.batch_size
    forward, note = compiled(network, on, size) if config.compute.compile else (network, "")

    def scorer(split: Literal["validation", "test"]) -> Callable[[], Scores]:
        @cache  # brought to the device once, at the first evaluation
        def kept() -> list[Tensor]:
            part = data.dataset.test if split == "test" else data.validation
            assert part is not None, "what is not there is not wanted"
            return [on_device(on.device, values) for values in (part.images_NCHW, part.labels_N)]

        def score() -> Scores:
            images_NCHW, labels_N = kept()
            with average.applied_to(network) if average else nullcontext():
                return metrics.scores(split, logits(network, images_NCHW, data.normalization, on), labels_N)

        return score

    wanted: list[Literal["validation", "test"]] = ["validation"] if data.held_out else []
    if config.monitor.test:
        wanted.append("test")
    made = Training(
        network=network,
        forward=forward,
        optimizer=optimizer,
        average=average,
        scale=Scale(on.device) if on.precision == "fp16" else None,
        batches=batches,
        loss=optim.LOSSES.bind(o.loss),
        penalties=[optim.PENALTIES.bind(penalty) for penalty in o.penalties],
        rate=lambda step, validation_losses: o.lr * factor(step, validation_losses),
        decayed=optim.decayed(network, decay_norm=o.decay_norm),
        clip_norm=o.clip_norm,
        compute=on,
        epochs=t.epochs,
        whole_every=config.save.steps,
        evaluate={split: scorer(split) for split in wanted},
        observe=_observers(config, network, data, on),
        seed=t.seed if has_own else None,
    )
    notes += [*said, *data.dataset.reading.notes, *_unreached(config), *([note] if note else [])]
    if on.device.type == "cuda" and has_own:
        notes.append("updates are made one at a time, which is slow: own code is not captured in a graph")
    elif on.device.type == "cuda" and not has_captured_form(optimizer):
        notes.append(f"updates are made one at a time, which is slow: this torch captures no {o.optimizer.name}")
    return made, notes


def _observers(config: RunConfig, network: nn.Module, data: Data, on: Compute) -> list[Callable[[int], Event]]:
    """What a run records of its network before the first epoch and after each.

    Raises:
        InputError: there are too few training images to measure noise on: it takes two batches.
    """
    train, made = data.dataset.train, list[Callable[[int], Event]]()

    def batches(images: int, size: int) -> list[tuple[Tensor, Tensor]]:
        indices_N = data.train_N[:images]
        images_NCHW, labels_N = (on_device(on.device, of[indices_N]) for of in (train.images_NCHW, train.labels_N))
        parts = evaluation_batches(images_NCHW, batch_size=size, normalization=data.normalization)
        return list(zip(parts, torch.split(labels_N, size), strict=True))

    if config.monitor.histograms:
        ((images_NCHW, labels_N),) = batches(LOOKED_AT, LOOKED_AT)

        def layers(epoch: int, images: int) -> Event:
            return LayersSeen(looking.look(network, images_NCHW[:images], labels_N[:images], on, epoch))

        made.append(lambda epoch: looking.on_fewer(partial(layers, epoch), len(labels_N)))
    if config.monitor.noise:
        known = min(NOISE_IMAGES, len(data.train_N))
        size = min(NOISE_BATCH, known // 2)
        if size < 2:
            raise InputError(f"monitor.noise: {tally(known, 'training image')}, where 4 are the fewest that it takes")
        parts = batches(known // size * size, size)

        def noises(epoch: int, images: int) -> Event:
            return noise.noise(network, [(of[:images], labels[:images]) for of, labels in parts], on, epoch)

        made.append(lambda epoch: looking.on_fewer(partial(noises, epoch), size))
    return made


def _unreached(config: RunConfig) -> list[str]:
    """A line for each setting of the schedule whose times lie beyond the run: that is allowed, and seldom meant."""
    lines = []
    for name, times in optim.unreached(config.optim.schedule, config.train.epochs).items():
        which = " and ".join(", ".join(f"{time:g}" for time in times).rsplit(", ", 1))
        lines.append(
            f"optim.schedule.{name}: {which} {'lies' if len(times) == 1 else 'lie'} at or beyond the end of this run "
            f"(train.epochs={config.train.epochs}), so the rate does not change there; shares of the run, as 0.5, "
            "go with its length"
        )
    return lines


def logits(network: nn.Module, images_NCHW: Tensor, normalization: Normalization, on: Compute) -> Tensor:
    """logits_NK, on the device, of uint8 images that lie there."""
    parts = evaluation_batches(images_NCHW, batch_size=on.evaluation_batch, normalization=normalization)
    return logits_of(network, parts, on)


def split_logits(
    network: nn.Module, split: Split, indices_N: NDArray[np.int64], normalization: Normalization, on: Compute
) -> Tensor:
    """logits_NK, on the CPU, of some images of a split, in the order of the indices."""
    return logits(network, on_device(on.device, split.images_NCHW[indices_N]), normalization, on).cpu()


def test_logits(network: nn.Module, dataset: Dataset, normalization: Normalization, on: Compute) -> Tensor:
    """logits_NK, on the CPU, of every test image."""
    return split_logits(network, dataset.test, np.arange(len(dataset.test)), normalization, on)


def train_logits(network: nn.Module, data: Data, on: Compute) -> Tensor:
    """logits_NK, on the CPU, of the training images in use, unaugmented; part by part, to take little memory."""
    parts = (data.train_N[first : first + CLEAN_PART] for first in range(0, len(data.train_N), CLEAN_PART))
    return torch.cat([split_logits(network, data.dataset.train, part, data.normalization, on) for part in parts])


def is_finite(network: nn.Module) -> bool:
    """Whether every weight and buffer is finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())

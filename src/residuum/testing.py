"""Contracts: what a part has to hold to, as functions to run your own through.

Each takes a part as its table takes it, tries it on small inputs, and raises an AssertionError of one line that says
what does not hold. The parts that come with the product are tested by the same functions. No test runner is needed.

    from residuum.testing import check_activation
    check_activation(lambda: torch.nn.Softplus())
"""

import atexit
import copy
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, wraps
from itertools import pairwise
from math import inf, isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from torch import Tensor, nn

from residuum import own, training
from residuum.conduct.launchers.launcher import Job, JobEvent, JobFailed, Launch, Room, Said
from residuum.config import RunConfig
from residuum.data.augment import AUGMENTATIONS
from residuum.data.dataset import Dataset, Split
from residuum.data.datasets import DATASETS
from residuum.data.draw import Draw
from residuum.data.mix import Mix, mix_batch
from residuum.data.normalize import Normalization
from residuum.errors import InputError, remark
from residuum.models import MODELS, Network, build
from residuum.models.activations import ACTIVATIONS
from residuum.models.families.resnet import unheeded
from residuum.models.stem import After, Stem
from residuum.optim import LOSSES, OPTIMIZERS, SCHEDULES, Factor, Span, parameter_groups, with_warmup
from residuum.records import run_folder
from residuum.records.event import Finished
from residuum.records.measures import MEASURES, Measure
from residuum.records.record import RunRecord, legend
from residuum.registry import Choice, Table
from residuum.report import style
from residuum.run import assemble

Check = TypeVar("Check", bound=Callable[..., None])

__all__ = [
    "check_activation",
    "check_augmentation",
    "check_dataset",
    "check_figure",
    "check_initialization",
    "check_launcher",
    "check_loss",
    "check_measure",
    "check_method",
    "check_mixing",
    "check_network",
    "check_normalization",
    "check_optimizer",
    "check_own",
    "check_penalty",
    "check_pooling",
    "check_recipe",
    "check_schedule",
    "check_shortcut",
    "check_stem",
]


def _contract(check: Check) -> Check:
    """A check of which everything that goes wrong in somebody's part is an AssertionError of one line."""

    @wraps(check)
    def told(*arguments: Any, **settings: Any) -> None:
        try:
            check(*arguments, **settings)
        except AssertionError:
            raise
        except Exception as error:
            line = (str(error).strip().splitlines() or ["no message"])[0]
            raise AssertionError(f"it fails with {type(error).__name__}: {line}") from error

    return cast(Check, told)


@_contract
def check_activation(build: Callable[[], nn.Module]) -> None:
    """The contract of an activation: elementwise, without parameters or memory, never in place, its gradient finite.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    module = build()
    _hold(
        not list(module.parameters()), "an activation has no parameters, whatever penalties and decay would do to them"
    )
    x_NCHW = _normal(1, 4, 6, 5, 5, dtype=torch.float64).mul(3).requires_grad_()
    kept_NCHW = x_NCHW.detach().clone()
    y_NCHW = module(x_NCHW)
    _hold(y_NCHW.shape == x_NCHW.shape, f"{_sizes(x_NCHW)} values became {_sizes(y_NCHW)}")
    _hold(y_NCHW.dtype == x_NCHW.dtype, f"{x_NCHW.dtype} became {y_NCHW.dtype}")
    _hold(torch.equal(x_NCHW, kept_NCHW), "the input was changed in place, and with it what a hook has caught")
    _hold(bool(y_NCHW.isfinite().all()), "a finite value became one that is not")
    _hold(y_NCHW.requires_grad, "the output has no gradient")
    (gradient_NCHW,) = torch.autograd.grad(y_NCHW.sum(), x_NCHW)
    _hold(bool(gradient_NCHW.isfinite().all()), "the gradient is not finite everywhere")
    _hold(bool(gradient_NCHW.any()), "the gradient is 0 everywhere, so nothing below would learn")
    _hold(torch.equal(y_NCHW, module(kept_NCHW)), "the output for the same values is different later")
    kept = torch.arange(kept_NCHW.numel()).view_as(kept_NCHW) % 2 == 0
    among_others_NCHW = module(torch.where(kept, kept_NCHW, -kept_NCHW))
    _hold(_close(y_NCHW[kept], among_others_NCHW[kept]), "the output for a value depends on the values around it")
    _hold(
        all(torch.equal(one, other) for one, other in zip(module.buffers(), build().buffers(), strict=True)),
        "it keeps something of what it has seen in a buffer",
    )


@_contract
def check_network(
    build: Callable[[int, int], Network],
    *,
    in_channels: int = 3,
    classes: int = 10,
    image_size: tuple[int, int] = (32, 32),
) -> None:
    """The contract of a network family: what the engine, the figures and the attribution need of a network.

    `build(in_channels, classes)` makes it as the table of families does, settings given. It is made without values and
    then initialised, so `initialize` has to set every parameter and every buffer.

    Raises:
        AssertionError: the first thing that does not hold.
    """
    network, twin = _initialised(build, in_channels, classes), _initialised(build, in_channels, classes)
    for (name, value), other in zip(network.state_dict().items(), twin.state_dict().values(), strict=True):
        _hold(bool(value.isfinite().all()), f"initialize leaves {name} without a value")
        _hold(torch.equal(value, other), f"initialize gives {name} different values for the same seed")
    for stage in network.stages:
        _hold(isinstance(getattr(network, stage, None), nn.Module), f"stages names {stage!r}, no part of it")
    images_NCHW = _normal(2, 4, in_channels, *image_size)
    logits_NK = network(images_NCHW)
    _hold(
        logits_NK.shape == (4, classes),
        f"logits of 4 images and {classes} classes are {_sizes(logits_NK)}, not 4×{classes}",
    )
    F.cross_entropy(logits_NK, torch.arange(4) % classes).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        _hold(parameter.grad is not None, f"{name} takes no part in the logits")
        _hold(
            bool(parameter.grad is not None and parameter.grad.isfinite().all()),
            f"the gradient of {name} is not finite",
        )

    _hold_in_evaluation(network, images_NCHW)
    smallest = network.reduction // 2 + 1
    with torch.no_grad():
        small_NK = network(images_NCHW[:, :, :1, :1].expand(-1, -1, smallest, smallest))
    _hold(
        small_NK.shape == (4, classes), f"images of {smallest}×{smallest}, which its reduction allows, give no logits"
    )


def _hold_in_evaluation(network: nn.Module, images_NCHW: Tensor) -> None:
    """Evaluation changes nothing, and an image's logits are its own."""
    network.eval()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with torch.no_grad():
        expected_NK, alone_NK = network(images_NCHW), network(images_NCHW[1:2])
        layout = torch.channels_last
        laid_out_NK = network.to(memory_format=layout)(images_NCHW.to(memory_format=layout))  # type: ignore[call-overload]
    for name, buffer in network.named_buffers():
        _hold(torch.equal(buffer, before[name]), f"evaluation changes {name}")
    _hold(_close(alone_NK, expected_NK[1:2], 1e-4), "in evaluation the logits of an image depend on its batch")
    _hold(_close(laid_out_NK, expected_NK, 1e-4), "the logits depend on the memory format of the images")


@_contract
def check_own(kind: str, name: Any, **settings: Any) -> None:
    """The contract of own code, `file.py:Name` or an object: what a built-in part of its kind holds to.

        check_own("activation", "mine.py:Mish2", beta=1.5)

    `kind` is model, block, activation, augmentation, loss, optimizer, schedule or data set. A network of the user's own
    makes its first values itself, and is checked on the first images and classes that it takes; of others that it does
    not take a remark tells. A block is checked in a small network.

    Raises:
        AssertionError: the first thing that does not hold; also that it cannot be loaded, or has not these settings.
    """
    if kind == "block":
        _check_block(Choice.of(own.named({"name": name, **settings})))
        return
    _hold(kind in OWN, f"there is no kind {kind!r}; known: block, {', '.join(OWN)}")
    table, check = OWN[kind]
    check(table, table.resolve(Choice.of(own.named({"name": name, **settings}))))


def _check_block(block: Choice) -> None:
    choice = Choice.of({"name": "cifar_resnet", "depth": 8, "block": block})
    network = build(choice, 3, 10, (16, 16), seed=0)
    takes = inspect.signature(own.load(block.name, block.code)).parameters
    for one in unheeded(network, (3, 16, 16)):
        given = "stride" if one.startswith("its stride") else "channels"
        _hold(not set(own.ALIASES[given]) & set(takes), f"it does not heed {one}")
    _check_built(choice)


SIZES = (((3, 16, 16), 10), ((1, 8, 8), 10), ((1, 28, 28), 10), ((3, 32, 32), 10), ((3, 32, 32), 100),
         ((3, 64, 64), 200), ((3, 96, 96), 10), ((3, 224, 224), 1000))  # fmt: skip
"""Images and classes on which a network is tried: of data sets that there are, after small ones."""
OTHERS = ((1, 16, 16), (3, 20, 20))
"""Other images on which it is tried then."""


def _check_network(choice: Choice) -> None:
    """The contract of a network of its own, on what it takes; what else it does not take is told."""

    def takes(shape: tuple[int, int, int], classes: int) -> str:
        try:
            build(choice, shape[0], classes, shape[1:], seed=0)
        except InputError as error:
            return error.text
        return ""

    problem = takes(*SIZES[0])
    fitting = SIZES[0] if not problem else next((one for one in SIZES[1:] if not takes(*one)), None)
    if fitting is None:
        raise AssertionError(problem)
    shape, classes = fitting
    said = [f"images of {'×'.join(map(str, other))}" for other in OTHERS if other != shape and takes(other, classes)]
    if takes(shape, classes - 3):
        given = set(own.ALIASES["classes"]) & set(inspect.signature(own.load(choice.name, choice.code)).parameters)
        _hold(not given, f"it is given {classes - 3} classes, and does not make {classes - 3} logits for it")
        said.append(f"{classes - 3} classes")
    if said:
        text = (f"{choice.name} was checked with images of {'×'.join(map(str, shape))} and {classes} classes; it does "
                f"not take {', '.join(said)}")  # fmt: skip
        remark(text)
    _check_built(choice, shape, classes)


def _check_built(choice: Choice, shape: tuple[int, int, int] = (3, 16, 16), classes: int = 10) -> None:
    """The contract of a network that own code has made, or has a part in."""
    network, twin = (build(choice, shape[0], classes, shape[1:], seed=0) for _ in range(2))
    for (name, value), other in zip(network.state_dict().items(), twin.state_dict().values(), strict=True):
        _hold(bool(value.isfinite().all()), f"{name} begins with a value that is not finite")
        _hold(torch.equal(value, other), f"{name} begins with different values for the same seed")
    images_NCHW = _normal(2, 4, *shape)
    F.cross_entropy(network(images_NCHW), torch.arange(4) % classes).backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        _hold(parameter.grad is not None or not parameter.requires_grad, f"{name} takes no part in the logits")
        finite = parameter.grad is None or bool(parameter.grad.isfinite().all())
        _hold(finite, f"the gradient of {name} is not finite")
    _hold_in_evaluation(network, images_NCHW)


@_contract
def check_shortcut(build: Callable[[int, int, int, bool], nn.Module | None]) -> None:
    """The contract of a shortcut: it fits what a branch gives, at every shape and stride, and each image is its own.

    `build(in_channels, channels, stride, norm)` makes it as the table of shortcuts does; None, wherever it stands, is a
    plain network. `norm` says whether it may have a batch norm of its own.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    shapes = [(6, 6, 1), (6, 6, 2), (4, 8, 1), (4, 8, 2)]
    made = [build(*shape, True) for shape in shapes]
    _hold(len({one is None for one in made}) == 1, "it is None at some places and a module at others")
    for channels_in, channels, stride in shapes:
        for norm in (False, True):
            module = build(channels_in, channels, stride, norm)
            if module is None:
                continue
            what = f"from {channels_in} to {channels} channels at stride {stride}"
            own = any(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in module.modules())
            _hold(norm or not own, f"{what} it has a batch norm where its branch has one before")
            _hold(
                isinstance(getattr(module, "activated", False), bool),
                "its attribute `activated` is neither true nor false",
            )
            for side in (7, 8):
                size = -(-side // stride)
                y_NCHW = _passed(module, _normal(1, 4, channels_in, side, side))
                expected = (4, channels, size, size)
                _hold(y_NCHW.shape == expected, f"{what} images of {side}×{side} become {_sizes(y_NCHW)}")


@_contract
def check_stem(build: Callable[[int, int], Stem]) -> None:
    """The contract of a stem: a convolution of the channels asked for, and a stride that is what both parts do.

    `build(in_channels, channels)` makes it as the table of stems does.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    for channels_in, channels in ((1, 4), (3, 16)):
        stem = build(channels_in, channels)
        found = (stem.conv.in_channels, stem.conv.out_channels)
        _hold(found == (channels_in, channels), f"asked for {channels_in} to {channels} channels it has {found}")
        _hold(stem.after in get_args(After), f"after is {stem.after!r}, none of {', '.join(get_args(After))}")
        _hold(not list(stem.pool.parameters()), "its pooling has parameters, which no initialisation knows")
        for side in (32, 33):
            y_NCHW = _passed(nn.Sequential(stem.conv, stem.pool), _normal(1, 4, channels_in, side, side))
            expected = -(-side // stem.stride)
            _hold(y_NCHW.shape == (4, channels, expected, expected),
                  f"at a stride of {stem.stride} images of {side}×{side} become {_sizes(y_NCHW)}")  # fmt: skip


@_contract
def check_pooling(build: Callable[[], nn.Module]) -> None:
    """The contract of a pooling: one value of each channel of a feature map of any size, by that channel alone.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    module = build()
    _hold(not list(module.parameters()), "a pooling has no parameters, which no initialisation knows")
    for side in (4, 7, 8):
        x_NCHW = _normal(1, 4, 6, side, side)
        y_NCHW = _passed(module, x_NCHW)
        _hold(y_NCHW.flatten(1).shape == (4, 6), f"maps of 6 channels, {side}×{side}, become {_sizes(y_NCHW)}")
        alone_NCHW = torch.cat([x_NCHW[:, :1], torch.zeros(4, 5, side, side)], dim=1)
        same = _close(module(alone_NCHW).flatten(1)[:, 0], y_NCHW.flatten(1)[:, 0], 1e-6)
        _hold(same, "the value of a channel depends on the channels around it")
        flat = module(torch.full((1, 6, side, side), 2.5)).flatten()
        _hold(_close(flat, torch.full((6,), 2.5), 1e-6), "a channel that is 2.5 everywhere has another value")


@_contract
def check_initialization(initialize: Callable[[nn.Module, int], None]) -> None:
    """The contract of an initialisation: every parameter a finite function of (seed, its name) and of nothing else.

    `initialize(network, seed)` sets a residual network in place, whose parameters and buffers have no values before.

    Raises:
        AssertionError: the first of these that does not hold.
    """

    def made(seed: int, blocks: Sequence[int] = (1, 1, 1), *, disturbed: bool = False) -> dict[str, Tensor]:
        choice = {"name": "staged_resnet", "blocks": list(blocks), "channels": [4, 4, 6], "shortcut": "projection"}
        network = _without_values(lambda: MODELS.build(choice, 3, 5))
        if disturbed:
            torch.rand(7)
        initialize(network, seed)
        return dict(network.state_dict())

    before = torch.get_rng_state()
    first, again, deeper = made(0), made(0, disturbed=True), made(0, (1, 2, 1))
    for name, value in first.items():
        _hold(bool(value.isfinite().all()), f"{name} is left without a value")
        _hold(torch.equal(value, again[name]), f"{name} has different values for the same seed")
        same = name not in deeper or deeper[name].shape != value.shape or torch.equal(value, deeper[name])
        _hold(same, f"{name} depends on how many layers the network has")
    other = made(1)
    drawn = [name for name, value in first.items() if value.dim() > 1]
    _hold(any(not torch.equal(first[name], other[name]) for name in drawn), "another seed has the same weights")
    torch.set_rng_state(before)
    made(0)
    _hold(torch.equal(torch.get_rng_state(), before), "it draws from torch's own state, on which nothing may depend")


@_contract
def check_recipe(build: Callable[[], RunConfig]) -> None:
    """The contract of a recipe: one configuration, each name and setting known, that says nothing of a machine.

    It is built into a network with its optimizer and batches on generated images of CIFAR's shape, where its own data
    are not embedded. The weights with which it begins may be a name for any.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    config, again = build(), build()
    _hold(isinstance(config, RunConfig), f"it gives a {type(config).__name__}, no RunConfig")
    _hold(config == again, "built twice, it has different settings")
    _hold(RunConfig.of(json.loads(config.model_dump_json())) == config, "stored as JSON and read back, it is different")
    own = {"data.root": config.data.root, "data.fingerprint": config.data.fingerprint,
           "pretrained.fingerprint": config.pretrained.fingerprint}  # fmt: skip
    for path, value in own.items():
        _hold(not value, f"it sets {path}, which is of one machine or of one run")
    _hold(config.train.seed == RunConfig().train.seed, "it sets train.seed, which is the run's own")
    resolved, data = assemble.resolve(config.changed({"pretrained.weights": ""}), _stand_in(config))
    assemble.training(resolved, data)


@_contract
def check_measure(measure: Measure) -> None:
    """The contract of a measure: a finite number or None, whatever became of a run, which says if it is of test images.

    It is taken of two small runs, of their records without test images, and of such as were stopped or diverged.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    _hold(bool(measure.name.isidentifier() and measure.text and measure.unit), "it has no name, text or unit")
    _hold(measure.held_out == "" or measure.held_out in MEASURES, f"held_out is {measure.held_out!r}, no measure")
    first, second = _runs()
    lost = replace(first.result, status="diverged", last=None, selected=None) if first.result else None
    states = {
        "a run": first, "another run": second, "a run without test images": first.blind(),
        "a run that was stopped": replace(first, status="stopped", result=None, epochs=first.epochs[:1]),
        "a run that has just begun": replace(first, status="running", result=None, epochs=()),
        "a run without a record of its data": replace(first, data=None),
        "a run that diverged": replace(first, status="diverged", result=lost, epochs=first.epochs[:2]),
        "a run that diverged at once": replace(first, status="diverged", result=lost, epochs=()),
    }  # fmt: skip
    found = {}
    for what, record in states.items():
        value = found[what] = measure.of(record)
        number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
        _hold(value is None or number, f"of {what} it is {value!r}, neither None nor a finite number")
        _hold(measure.of(record) == value, f"of {what} it has two values")
        _hold(value is None or not measure.is_time or value > 0, f"of {what} it is {value}, no time")
        _hold(isinstance(measure.trained(record), bool), f"whether {what} trained is not true or false")
    whole, blind = found["a run"], found["a run without test images"]
    reads_test = whole != blind
    _hold(not reads_test or bool(measure.held_out), "it is of the test images and names no measure of held-out ones")
    _hold(not measure.held_out or blind is None, "it has a held_out, and a value without the test images")
    _hold(not measure.exact or whole == found["another run"], "it is called exact, and differs from seed to seed")


@_contract
def check_figure(draw: Callable[[Sequence[RunRecord], Sequence[str]], Figure]) -> None:
    """The contract of a figure of runs: the same picture each time, within its frame, and no window of its own.

    It is drawn of one small run and of two, and of one that has not ended an epoch, which it may refuse by InputError.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    first, second = _runs()
    begun = replace(first, status="running", result=None, epochs=())
    for what, records in (("one run", [first]), ("two runs", [first, second])):
        figure = draw(records, legend(records))
        _hold(isinstance(figure, Figure), f"of {what} it gives a {type(figure).__name__}, no Figure")
        _hold(not hasattr(figure, "number"), "it is kept open as a window: make a Figure, without pyplot")
        _hold(bool(figure.axes), f"of {what} it shows nothing")
        picture = style.png(figure)
        _hold(picture == style.png(draw(records, legend(records))), f"of {what} it is another picture the second time")
        figure.draw_without_rendering()  # at its own resolution: places are those of the last drawing
        outer, sides = figure.bbox.padded(1), [one for axes in figure.axes for one in (axes.xaxis, axes.yaxis)]
        ticks = {id(text) for axis in sides for text in axis.findobj(Text) if text is not axis.label}
        for text in (text for text in figure.findobj(Text) if id(text) not in ticks):
            box = text.get_window_extent()
            inside = outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1
            shown = text.get_visible() and text.get_text().strip() and text.get_in_layout()
            _hold(not shown or inside, f"of {what} the text {text.get_text()!r} goes beyond the picture")
    try:
        draw([begun], legend([begun]))
    except InputError:
        return


@_contract
def check_dataset(load: Callable[[Path | None], Dataset], root: Path | None = None) -> None:
    """The contract of a data set: whole, the same each time, made by `Dataset.of`, its classes told apart by name.

    Neither split is empty.

    `root` is where it lies; without one, what is embedded, generated or downloaded is loaded.

    Raises:
        AssertionError: the first thing that does not hold.
    """
    first, second = load(root), load(root)
    _hold(first.fingerprint == second.fingerprint, "loaded twice, it has two fingerprints")
    made = Dataset.of(first.name, first.classes, first.train, first.test)
    _hold(first.fingerprint == made.fingerprint, "its fingerprint is not that of its images; make it by Dataset.of")
    _hold(len(set(first.classes)) == len(first.classes), "two of its classes have the same name")
    for which, split in (("training", first.train), ("test", first.test)):
        _hold(len(split) > 0, f"there is no {which} image")
        _hold(split.images_NCHW.flags.c_contiguous, f"the {which} images do not lie in one piece of memory")


@_contract
def check_augmentation(apply: Callable[[Tensor, Draw], Tensor], *, channels: int = 3, size: int = 16) -> None:
    """The contract of an augmentation: an image's is a function of (seed, epoch, index) and of nothing else.

    Neither the batch that an image is in nor the number of threads may show; what was given is not changed; other
    seeds, epochs and images have other numbers.

    Raises:
        AssertionError: the first of these that does not hold.
    """
    images_BCHW = torch.rand(140, channels, size, size, generator=torch.Generator().manual_seed(0))
    before_BCHW, indices_B = images_BCHW.clone(), torch.arange(1000, 1140)
    whole_BCHW = apply(images_BCHW, Draw.of(0, 1, indices_B))
    _hold(isinstance(whole_BCHW, Tensor), f"it gives a {type(whole_BCHW).__name__}, not images as a tensor")
    _hold(whole_BCHW.shape == images_BCHW.shape, f"{_sizes(images_BCHW)} became {_sizes(whole_BCHW)}")
    _hold(whole_BCHW.dtype == torch.float32, f"float32 images became {whole_BCHW.dtype}")
    _hold(bool(whole_BCHW.isfinite().all()), "a pixel is no longer finite")
    _hold(torch.equal(images_BCHW, before_BCHW), "the images given to it were changed")
    for some in (slice(0, 1), slice(7, 9), slice(100, 140), torch.randperm(140)[:33]):
        alike = torch.equal(apply(images_BCHW[some], Draw.of(0, 1, indices_B[some])), whole_BCHW[some])
        _hold(alike, "an image is augmented differently in another batch")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        alike = torch.equal(apply(images_BCHW, Draw.of(0, 1, indices_B)), whole_BCHW)
    finally:
        torch.set_num_threads(threads)
    _hold(alike, "an image is augmented differently on another number of threads")
    others = {"seed": (1, 1, 0), "epoch": (0, 2, 0), "image": (0, 1, 140)}
    for what, (seed, epoch, shift) in others.items():
        other_BCHW = apply(images_BCHW, Draw.of(seed, epoch, indices_B + shift))
        _hold(not torch.equal(other_BCHW, whole_BCHW), f"another {what} has the same numbers")
    same_BCHW = apply(images_BCHW[:1].expand(140, -1, -1, -1), Draw.of(0, 1, indices_B))
    _hold(len(torch.unique(same_BCHW, dim=0)) > 1, "all images of a batch have the same numbers")


@_contract
def check_mixing(mix: Mix) -> None:
    """The contract of a mixing: a function of the batch and the generator's seed, whose shares are shares.

    Raises:
        AssertionError: the first thing that does not hold.
    """
    count = 40
    labels_B = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    images_BCHW = (labels_B + 1.0)[:, None, None, None].expand(-1, 3, 9, 13).contiguous()
    before = images_BCHW.clone(), labels_B.clone()
    (out_BCHW, targets), (again_BCHW, targets_again) = (
        mix_batch(mix, images_BCHW, labels_B, count, np.random.default_rng(3)) for _ in range(2)
    )
    _hold(out_BCHW.shape == images_BCHW.shape, f"{_sizes(images_BCHW)} became {_sizes(out_BCHW)}")
    _hold(out_BCHW.dtype == torch.float32, f"float32 images became {out_BCHW.dtype}")
    same = torch.equal(out_BCHW, again_BCHW) and torch.equal(targets, targets_again)
    _hold(same, "the same generator mixes differently the second time")
    _hold(torch.equal(images_BCHW, before[0]), "the images given to it were changed")
    _hold(torch.equal(labels_B, before[1]), "the labels that it was given were changed")
    if targets.dim() == 2:
        _hold(targets.dtype == torch.float32, f"the shares of the classes are {targets.dtype}, not float32")
        _hold(
            _close(targets.sum(dim=1), torch.ones(count), 1e-5), "the shares of an image's classes do not add up to 1"
        )
        _hold(targets.min().item() >= 0, "a share of a class is below 0")


@_contract
def check_normalization(estimate: Callable[[NDArray[np.uint8], int], Normalization]) -> None:
    """The contract of a normalisation: plain values from training images and a seed, the same bits in any batch.

    Raises:
        AssertionError: the first thing that does not hold.
    """
    images_NCHW = np.random.default_rng(0).integers(0, 256, (60, 3, 6, 5), np.uint8)
    found = estimate(images_NCHW, 0)
    _hold(estimate(images_NCHW, 0) == found, "estimated twice from the same images and seed, it differs")
    stored = Normalization.of(json.loads(json.dumps(found.plain())))
    _hold(stored == found, "stored as JSON and read back, it is different")
    pixels_NCHW = torch.from_numpy(images_NCHW).float() / 255
    kept_NCHW, whole_NCHW = pixels_NCHW.clone(), found(pixels_NCHW)
    _hold(whole_NCHW.shape == pixels_NCHW.shape, f"{_sizes(pixels_NCHW)} became {_sizes(whole_NCHW)}")
    _hold(whole_NCHW.dtype == torch.float32, f"float32 images became {whole_NCHW.dtype}")
    _hold(bool(whole_NCHW.isfinite().all()), "a normalised pixel is not finite")
    _hold(torch.equal(pixels_NCHW, kept_NCHW), "the images given to it were changed")
    _hold(torch.equal(found(pixels_NCHW[7:9]), whole_NCHW[7:9]), "an image is normalised differently in another batch")


@_contract
def check_schedule(build: Callable[[Span], Factor]) -> None:
    """The contract of a schedule: a share of the base rate at every step, which a resumed run finds again.

    Raises:
        AssertionError: the first thing that does not hold.
    """
    losses = [1.0, 0.5, 0.5, 0.5, 0.5, 0.5, float("nan"), 0.4, inf, 0.6, 0.6, 0.6]
    for span in (Span(1, 1), Span(1, 2), Span(3, 1), Span(2, 3), Span(13, 12)):
        known = [losses[: number // span.steps_per_epoch] for number in range(span.total_steps)]
        for warmup in (0.0, 0.3):
            whole = with_warmup(build(span), span, warmup, 0.1)
            factors = [whole(number, seen) for number, seen in enumerate(known)]
            for number, factor in enumerate(factors):
                of = f"step {number} of {span.epochs} epochs of {span.steps_per_epoch} steps"
                _hold(isfinite(factor) and 0 <= factor <= 1, f"the factor is {factor} at {of}, not within 0 and 1")
            stops = sorted({0, span.total_steps // 3, span.total_steps // 2, span.total_steps})
            for start, stop in pairwise(stops):
                resumed = with_warmup(build(span), span, warmup, 0.1)
                again = [resumed(number, list(known[number])) for number in range(start, stop)]
                _hold(again == factors[start:stop], f"a run that is resumed at step {start} has different rates")


@_contract
def check_optimizer(build: Callable[[Sequence[dict[str, Any]]], torch.optim.Optimizer], *, lr: float) -> None:
    """The contract of an optimizer: it learns at the rate `lr`, obeys it, and is resumed to the same bits.

    `build(groups)` makes it over groups of parameters; the rate of each is set before every step, as in a run.

    Raises:
        AssertionError: the first of these that does not hold.
    """

    def rate(step: int) -> float:
        return lr * 0.9**step

    network = _small_convolutions()
    first = _loss(network).item()
    _steps(network, _optimizer(build, network), range(30), lambda _step: lr)
    last = _loss(network).item()
    _hold(last < 0.7 * first, f"after 30 steps at a rate of {lr:g} the loss is {last:.3g}, at first {first:.3g}")

    idle = copy.deepcopy(network)
    _steps(idle, _optimizer(build, idle), range(2), lambda _step: 0.0)
    _hold(_same(idle, network), "at a rate of 0 it moves parameters")

    for stops in ((3, 4, 7), (1, 2, 9)):
        whole = _small_convolutions()
        _steps(whole, _optimizer(build, whole), range(10), rate)
        network = _small_convolutions()
        optimizer = _optimizer(build, network)
        for start, stop in pairwise((0, *stops, 10)):
            _steps(network, optimizer, range(start, stop), rate)
            weights, state = copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer.state_dict())
            state["param_groups"] = json.loads(json.dumps(state["param_groups"]))  # a checkpoint turns tuples to lists
            network = _small_convolutions()
            network.load_state_dict(weights)
            optimizer = _optimizer(build, network)
            optimizer.load_state_dict(state)
        _hold(
            _same(network, whole),
            f"stopped and resumed at steps {', '.join(map(str, stops))}, the bits differ",
        )


@_contract
def check_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The contract of a loss: one number from labels or from shares, in fp32 or better whatever the logits are.

    Raises:
        AssertionError: the first thing that does not hold.
    """
    logits_NK, labels_N = 5 * _normal(1, 6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    shares_NK = F.one_hot(labels_N, 4).float()
    whole = loss(logits_NK, labels_N)
    _hold(loss(logits_NK.clone().requires_grad_(), labels_N).requires_grad, "the loss has no gradient of the logits")
    _hold(whole.shape == (), f"the loss of a batch is {_sizes(whole)} numbers, not one")
    _hold(_close(loss(logits_NK, shares_NK), whole, 1e-6), "labels and the same as shares have different losses")
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            dtype = loss(logits_NK.bfloat16(), labels_N).dtype
        _hold(dtype == torch.float32, f"of logits in bfloat16 the loss is {dtype}, not float32")
    double_NK = logits_NK.double().requires_grad_()
    exact = torch.autograd.gradcheck(lambda z_NK: loss(z_NK, labels_N), double_NK, raise_exception=False)
    _hold(exact, "in double precision the gradient is not that of the loss")


@_contract
def check_penalty(penalty: Callable[[Sequence[Tensor]], Tensor]) -> None:
    """The contract of a penalty: one finite number that can be differentiated, and 0 of no parameters.

    Raises:
        AssertionError: the first thing that does not hold.
    """
    parameters = [_normal(1, 4, 3).requires_grad_(), _normal(2, 5).requires_grad_()]
    found = penalty(parameters)
    _hold(found.shape == (), f"the penalty is {_sizes(found)} numbers, not one")
    _hold(bool(found.isfinite()), "the penalty is not finite")
    for gradient in torch.autograd.grad(found, parameters, allow_unused=True):
        _hold(gradient is not None and bool(gradient.isfinite().all()), "a gradient is missing or not finite")
    nothing = penalty([])
    whole = isinstance(nothing, Tensor) and nothing.item() == 0 and nothing.requires_grad
    _hold(whole, "without parameters it is not a 0 that can be differentiated")


@_contract
def check_method(
    maps: Callable[[Network, Tensor, Tensor, Tensor], Mapping[str, Tensor]],
    network: Network,
    shape: tuple[int, int, int],
) -> None:
    """The contract of an attribution method: finite maps as large as the images, and a network left as it was.

    `network` is in evaluation mode and has at least two classes; `shape` is that of its images (C, H, W).

    Raises:
        AssertionError: the first thing that does not hold.
    """
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    before, images_NCHW = copy.deepcopy(network.state_dict()), _normal(2, 4, *shape)
    kept_NCHW, targets_N, baseline_CHW = images_NCHW.clone(), torch.tensor([0, 1, 1, 0]), torch.zeros(shape)
    hooks = _hooks(network)
    found, again = (maps(network, images_NCHW, targets_N, baseline_CHW) for _ in range(2))
    alone = maps(network, images_NCHW[1:2], targets_N[1:2], baseline_CHW)
    for name, map_NHW in found.items():
        _hold(map_NHW.shape == (4, *shape[1:]), f"the map of {name} is {_sizes(map_NHW)} for images of {shape}")
        _hold(map_NHW.dtype == torch.float32, f"the map of {name} is {map_NHW.dtype}, not float32")
        _hold(not map_NHW.requires_grad, f"the map of {name} still has a gradient")
        _hold(bool(map_NHW.isfinite().all()), f"the map of {name} is not finite")
        _hold(torch.equal(map_NHW, again[name]), f"the map of {name} is different the second time")
        _hold(_close(map_NHW[1:2], alone[name], 1e-3), f"the map of {name} of an image depends on its batch")
    _hold(_hooks(network) == hooks, "a hook was left on the network")
    _hold(not network.training, "the network is in training mode afterwards")
    for name, tensor in network.state_dict().items():
        _hold(torch.equal(tensor, before[name]), f"{name} of the network was changed")
    for name, parameter in network.named_parameters():
        left = parameter.grad is not None and bool((parameter.grad == 0.5).all()) and parameter.requires_grad
        _hold(left, f"the gradient of {name} is changed")
    _hold(
        torch.equal(images_NCHW, kept_NCHW) and not images_NCHW.requires_grad,
        "the images given to it were changed",
    )


@_contract
def check_launcher(launch: Launch) -> None:
    """The contract of a launcher: every run ends with the bits that it has alone, stopped or not.

    It is told two runs of a few updates and one that cannot work, which must not take the others with it; then it is
    closed early and called again. Its room is that for one run at a time.

    Raises:
        AssertionError: the first thing that does not hold.
    """
    with TemporaryDirectory() as folder:
        root = Path(folder)
        configs = {f"seed {seed}": _tiny(seed) for seed in (0, 1)}
        for config in configs.values():
            training.train(config, root / "alone")
        jobs = [Job(name, config, "") for name, config in configs.items()]
        impossible = Job(
            "impossible", RunConfig().changed({"data.dataset": "synthetic", "optim.optimizer": "none"}), ""
        )

        ended = _ends(launch([jobs[0], impossible, jobs[1]], root / "whole", Room()))
        _hold(ended.pop("impossible", None) is False, "a run that cannot work does not end in JobFailed")
        _hold(ended == dict.fromkeys(configs, True), f"of {', '.join(configs)} ended: {ended}")
        told = iter(launch(jobs, root / "stopped", Room()))
        next(told, None)
        if isinstance(told, Iterator) and hasattr(told, "close"):
            told.close()
        again = _ends(launch(jobs, root / "stopped", Room()))
        _hold(again == dict.fromkeys(configs, True), f"closed early and called again, it ended: {again}")
        for name, config in configs.items():
            alone = _bits(run_folder.folder_of(root / "alone", config))
            for place in ("whole", "stopped"):
                same = _bits(run_folder.folder_of(root / place, config)) == alone
                _hold(same, f"the run {name!r}, {place}, has different bits than alone")


OWN: Mapping[str, tuple[Table[Any], Callable[[Table[Any], Choice], None]]] = {
    "model": (MODELS, lambda _table, choice: _check_network(choice)),
    "activation": (ACTIVATIONS, lambda table, choice: check_activation(lambda: table.build(choice))),
    "augmentation": (AUGMENTATIONS, lambda table, choice: check_augmentation(table.bind(choice))),
    "loss": (LOSSES, lambda table, choice: check_loss(table.bind(choice))),
    "optimizer": (OPTIMIZERS, lambda table, choice: check_optimizer(table.bind(choice), lr=0.01)),
    "schedule": (SCHEDULES, lambda table, choice: check_schedule(table.bind(choice))),
    "data set": (DATASETS, lambda table, choice: check_dataset(table.bind(choice))),
}
"""How own code of each kind is checked."""


def _passed(module: nn.Module, x_NCHW: Tensor) -> Tensor:
    """What a part makes of images in evaluation mode, held against what every part of a network has to hold to."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    module.eval()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    x_NCHW = x_NCHW.requires_grad_()
    kept_NCHW = x_NCHW.detach().clone()
    y_NCHW: Tensor = module(x_NCHW)
    _hold(torch.equal(x_NCHW, kept_NCHW), "the input was changed in place, and with it what a hook has caught")
    _hold(bool(y_NCHW.isfinite().all()), "a finite value became one that is not")
    _hold(y_NCHW.requires_grad, "the output has no gradient")
    (gradient_NCHW,) = torch.autograd.grad(y_NCHW.sum(), x_NCHW)
    _hold(bool(gradient_NCHW.isfinite().all()), "the gradient is not finite everywhere")
    _hold(_close(module(kept_NCHW[1:2]), y_NCHW[1:2], 1e-4), "what an image becomes depends on its batch")
    _hold(torch.equal(module(kept_NCHW), y_NCHW), "the output for the same values is different later")
    for name, buffer in module.named_buffers():
        _hold(torch.equal(buffer, before[name]), f"evaluation changes {name}")
    return y_NCHW.detach()


def _stand_in(config: RunConfig) -> Dataset | None:
    """Generated images of CIFAR's shape for a recipe whose data are not embedded; None where they are."""
    try:
        assemble.dataset_of(config.data)
    except InputError:
        held_out = config.data.validation
        count = 200 + (2 * int(held_out) if held_out >= 1 else 0) + int(config.data.subset)
        random = np.random.default_rng(0)
        splits = [Split(random.integers(0, 256, (number, 3, 32, 32), np.uint8), np.arange(number) % 10)
                  for number in (count, 20)]  # fmt: skip
        return Dataset.of("stand-in", [f"class {number}" for number in range(10)], *splits)
    return None


@cache
def _runs() -> tuple[RunRecord, RunRecord]:
    """Two small runs on record, of two seeds, with all that a run can have on record; computed once."""
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)  # records read more of themselves when they are asked
    watched = {"monitor.histograms": True, "monitor.noise": True}
    first, second = (training.train(_tiny(seed).changed(watched), Path(folder.name)) for seed in (0, 1))
    return first, second


def _hold(holds: bool, otherwise: str) -> None:
    """Raise what does not hold; unlike an assert, Python's -O leaves it in."""
    if not holds:
        raise AssertionError(otherwise)


def _sizes(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"


def _close(one: Tensor, other: Tensor, tolerance: float = 1e-9) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=tolerance, atol=tolerance / 10)


def _normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _initialised(build: Callable[[int, int], Network], in_channels: int, classes: int) -> Network:
    """A network as a run has it, with NaN wherever its initialisation sets nothing."""
    network = _without_values(lambda: build(in_channels, classes))
    network.initialize(0)
    return network


def _without_values(build: Callable[[], Network]) -> Network:
    """A network whose parameters and buffers are NaN."""
    with torch.device("meta"):
        network = build()
    network.to_empty(device="cpu")
    with torch.no_grad():
        for value in network.state_dict().values():
            value.fill_(float("nan") if value.is_floating_point() else 0)
    return network


def _small_convolutions() -> nn.Module:
    """A network with parameters of every kind, in the memory format of a run."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network:
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, generator=generator)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _loss(network: nn.Module) -> Tensor:
    images_NCHW = _normal(5, 32, 3, 8, 8)
    labels_N = torch.randint(4, (32,), generator=torch.Generator().manual_seed(6))
    images_NCHW[:, 0] += labels_N[:, None, None] / 2
    return F.cross_entropy(network(images_NCHW.to(memory_format=torch.channels_last)), labels_N)


def _optimizer(
    build: Callable[[Sequence[dict[str, Any]]], torch.optim.Optimizer], network: nn.Module
) -> torch.optim.Optimizer:
    return build(parameter_groups(network, weight_decay=1e-2, decay_norm=False))


def _steps(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range, rate: Callable[[int], float]) -> None:
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = rate(step) * group.get("lr_share", 1.0)
        optimizer.zero_grad()
        _loss(network).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


def _hooks(network: nn.Module) -> int:
    """How many hooks the modules of a network have."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in network.modules() for kind in kinds)


def _tiny(seed: int) -> RunConfig:
    """A run of a few updates on generated images."""
    return training.check(RunConfig().changed({
        "data.dataset": {"name": "synthetic", "size": 8, "train": 60, "test": 20, "classes": 4},
        "data.validation": 12, "data.augment": ["pad_crop", "horizontal_flip"],
        "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]},
        "train.seed": seed, "train.epochs": 4, "train.batch_size": 16, "compute.device": "cpu",
    }))  # fmt: skip


def _ends(said: Iterable[Said]) -> dict[str, bool]:
    """How each job ended: whether in `Finished`, or in `JobFailed`."""
    ended: dict[str, bool] = {}
    for one in said:
        if isinstance(one, JobFailed) or (isinstance(one, JobEvent) and isinstance(one.event, Finished)):
            _hold(one.id not in ended, f"the run {one.id!r} ended twice")
            ended[one.id] = isinstance(one, JobEvent)
    return ended


def _bits(folder: Path) -> dict[str, object]:
    """All of a run that must not depend on where it was computed, nor on how often it was stopped."""
    clock = ("seconds", "images_per_second", "test_reads", "check")
    found: dict[str, object] = {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()}
    for name in ("metrics.jsonl", "steps.jsonl", "result.json"):
        text = (folder / name).read_text()
        rows = [json.loads(row) for row in (text.splitlines() if name.endswith("l") else [text])]
        found[name] = [{key: value for key, value in row.items() if key not in clock} for row in rows]
    return found

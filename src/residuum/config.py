"""RunConfig: everything that defines one training run, its dotted settings and its identity.

A RunConfig is frozen and plain, and needs no torch. Parts that come from a table (the model, the
optimizer …) are choices: a name with settings, checked by the table that builds them. `residuum.training.check`
gives the resolved configuration, in which every default stands written out.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, time
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from residuum import own
from residuum.errors import QUOTED, InputError, Remedy, quoted, shortened, unknown
from residuum.networks import presets
from residuum.networks.names import NETWORK_FORMS, network
from residuum.registry import DEEPEST, Choice, as_plain, bounded, describe, name_of

SCHEMA = 2
"""Version of the configuration's schema: part of a run's identity, raised when a setting changes its meaning."""
READABLE = (1, 2)
"""Versions of run folders that can be read and gone on with."""

YOUNGER = (("monitor", "histograms"), ("monitor", "noise"), ("monitor", "final_test"), ("compute", "deterministic"),
           ("compute", "kernels"))  # fmt: skip
"""Settings that came after version 1 of the schema, in which what is saved and watched still counted."""

_OF_NETWORKS = {"bn_eps": 1e-5, "bn_momentum": 0.1, "conv_bias": False, "pooling": {"name": "average", "window": 0}}
YOUNG: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("model", "cifar_resnet"): _OF_NETWORKS,
    ("model", "imagenet_resnet"): {**_OF_NETWORKS, "stride_at": "1x1"},
    ("model", "staged_resnet"): _OF_NETWORKS,
    ("model.activation", "gelu"): {"approximate": "none"},
    ("model.block", "basic"): {"stride_at": "first"},
    ("model.ordering", "original"): {"act_after": True},
    ("model.ordering", "relu_only_preactivation"): {"repeats": False, "ended": True},
    ("model.ordering", "full_preactivation"): {"repeats": False, "ended": True},
    ("model.shortcut", "identity"): {"zeros": "around", "subsample": "slice", "reads": "input"},
    ("model.shortcut", "projection"): {"subsample": "stride", "reads": "activated"},
    ("model.shortcut", "all_projection"): {"subsample": "stride", "reads": "activated"},
    ("model.stem", "3x3"): {"stride": 1, "after": "bn_act", "pool": "none"},
    ("model.stem", "7x7"): {"stride": 2, "after": "bn_act", "pool": "max"},
}
"""Settings of choices that came after version 2 of the schema, at what every run before had: so they do not count."""

UNCOUNTED = ("monitor", "save")
"""Sections of what is watched and saved, which changes no number of a run."""


def _named(choice: Choice) -> Choice:
    if not choice.name:
        raise ValueError("a choice needs a name")
    return choice


Named = Annotated[Choice, AfterValidator(_named)]


def _place(text: str) -> str:
    # No letter has more than four bytes.
    if "\0" in text or (len(text) > 63 and (
        len(text.encode(errors="replace")) > 4095
        or any(len(part.encode(errors="replace")) > 255 for part in text.split("/"))
    )):  # fmt: skip
        raise ValueError("no file can be called so: a name has at most 255 bytes, a path 4,095, and no NUL")
    return text


Place = Annotated[str, AfterValidator(_place)]
"""A path as a setting."""


MOST = 1_000_000
"""Epochs of a run, and images of a batch: what is more than these was never meant."""
FOUND = "found"
"""What a data set is called until it is read: that which lies at `data.root`, told by its content."""


class Part(BaseModel):
    """A frozen part of the configuration that refuses unknown settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class DataConfig(Part):
    """Which images, how they are split, and what is done to them before the network sees them."""

    dataset: Named = Field(default=Choice(name="cifar10"), description="data set: a name from `residuum list datasets`")
    root: Place = Field(default="", description="file or folder that holds it; empty: the cache, or embedded data")
    fingerprint: str = Field(
        default="", description="hash of the decoded images and labels; filled in when the run is checked"
    )
    subset: int | float = Field(
        default=0, ge=0, le=10**9, description="training images to keep: a count, or a share below 1; 0 keeps all"
    )
    validation: int | float = Field(
        default=0.1,
        ge=0,
        le=10**9,
        description="training images held out: a count, or a share below 1; the data's own split goes before",
    )
    split_seed: int = Field(
        default=0, ge=0, description="seed of the subset and of the held-out images, apart from the run's"
    )
    normalize: Named = Field(default=Choice(name="standardize"), description="input normalisation")
    augment: tuple[Named, ...] = Field(default=(), description="augmentations of the training images, in order")
    mix: Named = Field(default=Choice(name="none"), description="mixing of training images: none, mixup, cutmix")


class PretrainedConfig(Part):
    """Weights that the run begins with, in place of random ones."""

    weights: Place = Field(default="", description="run folder or file of weights to begin with; empty: random ones")
    fingerprint: str = Field(default="", description="hash of these weights; filled in when the run is checked")
    preset: str = Field(
        default="",
        description="public code that a file is from, whose settings it takes: a name from `residuum list presets`",
    )
    key: str = Field(
        default="", description="where in a file its weights lie, if it holds several sets; a dot: its top"
    )


class OptimConfig(Part):
    """How the parameters are moved: optimizer, learning rate over time, loss, penalties."""

    lr: float = Field(default=0.1, gt=0, le=1e30, description="base learning rate")
    optimizer: Named = Field(default=Choice(name="sgd"), description="optimizer")
    weight_decay: float = Field(default=1e-4, ge=0, le=1e6, description="weight decay, as the optimizer applies it")
    decay_norm: bool = Field(default=True, description="whether batch-norm parameters and biases decay too")
    schedule: Named = Field(default=Choice(name="constant"), description="learning rate over time")
    warmup: float = Field(
        default=0.0, ge=0, le=MOST, description="epochs of linear warm-up; below 1 a share of all epochs"
    )
    warmup_start: float = Field(default=0.1, ge=0, le=1, description="share of the rate at which the warm-up starts")
    loss: Named = Field(default=Choice(name="cross_entropy"), description="training loss")
    penalties: tuple[Named, ...] = Field(default=(), description="explicit penalties added to the loss: l1, l2")
    clip_norm: float = Field(
        default=0.0, ge=0, le=1e12, description="largest norm of the whole gradient; 0: no clipping"
    )
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the averaged weights that are evaluated; 0: none")
    freeze: tuple[str, ...] = Field(
        default=(), description="parts of the network that keep their weights and batch statistics, as conv1, layer1"
    )


class TrainConfig(Part):
    """How long, in which batches, from which seed."""

    epochs: int = Field(default=10, ge=1, le=MOST, description="passes over the training images")
    batch_size: int = Field(default=128, ge=1, le=MOST, description="images per update")
    micro_batch: int = Field(
        default=0, ge=0, le=MOST, description="images per forward pass; 0: the whole batch, split if memory runs out"
    )
    seed: int = Field(default=0, ge=0, description="seed of initialisation, order, augmentation and mixing")


class ComputeConfig(Part):
    """Where and in which arithmetic the run is computed."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="device: cpu, cuda or mps; auto: the fastest that is here"
    )
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        default="auto",
        description="arithmetic of the passes: fp32, tf32, bf16 or fp16; auto: what the device is fast at",
    )
    deterministic: bool = Field(
        default=True, description="on a GPU, only kernels that give the same bits each time; false is faster"
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="CPU threads; 0: what OMP_NUM_THREADS says, else one for each core that this process may use",
    )
    kernels: Literal["cudnn", "triton", "auto"] = Field(
        default="cudnn",
        description="3×3 convolutions of few channels on a GPU in bf16: cudnn, triton, or auto: Triton's where faster",
    )
    compile: bool = Field(default=False, description="compile the network where a compiler exists")


class MonitorConfig(Part):
    """What is recorded besides the result."""

    test: bool = Field(
        default=False, description="also record the test curve; it is marked as observed and selects nothing"
    )
    final_test: bool = Field(
        default=True, description="score the test set after the last epoch; false leaves it unread until this is true"
    )
    histograms: bool = Field(
        default=False, description="also record histograms of every layer before training and after each epoch"
    )
    noise: bool = Field(
        default=False, description="also measure the noise of the gradient before training and after each epoch"
    )


class SaveConfig(Part):
    """When the run is saved, and what is kept."""

    every: int = Field(default=1, ge=1, le=MOST, description="epochs between checkpoints")
    steps: int = Field(default=0, ge=0, le=10**9, description="also save every so many steps within an epoch; 0: not")
    keep: int = Field(
        default=2, ge=0, le=MOST, description="latest checkpoints to keep besides the best and the final; 0: all"
    )


class RunConfig(Part):
    """Everything that defines one training run."""

    data: DataConfig = DataConfig()
    model: Named = Field(
        default=Choice(name="cifar_resnet"), description="network: a family, or a short name such as resnet20"
    )
    pretrained: PretrainedConfig = PretrainedConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    compute: ComputeConfig = ComputeConfig()
    monitor: MonitorConfig = MonitorConfig()
    save: SaveConfig = SaveConfig()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that a nested mapping describes.

        Values are checked as JSON in strict mode: 1 may stand for 1.0, but never "1" or true for 1.

        Raises:
            InputError: unknown section or setting, wrong type, or out of bounds; one problem, one line.
        """
        bounded(values)
        return cls._read(values)

    @classmethod
    def _read(cls, values: Mapping[str, Any]) -> Self:
        try:
            return cls.model_validate_json(json.dumps(values, default=as_plain), strict=True)
        except ValidationError as error:
            raise _one_line(error, cls) from error

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """This configuration with dotted settings changed, as in `{"model.depth": 56, "optim.lr": 0.05}`.

        A choice may be set whole (`"optim.optimizer": "adam"`, `{"name": "adam", "eps": 1e-7}`) or one of its
        settings (`"optim.optimizer.eps"`). `"data"` is a data set's name, or a path whose kind is found by its content
        when the configuration is checked. A new name starts from its builder's defaults. `"model"` also takes
        the short names of `network`. A preset in `"pretrained.preset"` stands over the network's name, and below every
        other of the settings.

        Raises:
            InputError: as `of`; or a preset that does not say how pixels are normalised.
        """
        bounded(settings)
        preset = settings.get("pretrained.preset", self.pretrained.preset if "model" in settings else "")
        if preset:
            return self._with_preset(str(preset), settings)
        if "data" in settings:
            settings = {
                **_data(settings["data"]),
                **{path: value for path, value in settings.items() if path != "data"},
            }
        # The name of a choice is the choice: `model.name=mine.py:Net` is `model=mine.py:Net`.
        whole = {path: path.removesuffix(".name") for path in settings if path.endswith(".name")}
        whole = {path: choice for path, choice in whole.items() if choice not in settings}
        settings = {whole.get(path, path): {"name": value} if path in whole else value
                    for path, value in settings.items()}  # fmt: skip
        values = self.model_dump(mode="json")
        # Shorter paths first, so that choosing an optimizer and setting its momentum works in either order.
        for path in sorted(settings, key=lambda path: path.count(".")):
            try:
                value = settings[path] if path in own.PATHS else own.named(settings[path])
            except InputError as error:
                raise error if isinstance(settings[path], str | Mapping) else InputError(f"{path}: {error}") from error
            if path == "model" and isinstance(value, str):
                value = network(value)
            elif path == "model" and isinstance(value, Mapping) and isinstance(name := value.get("name"), str):
                with suppress(InputError):  # its table knows families that have no short name
                    value = {**value, **network(name), **{key: value[key] for key in value if key != "name"}}
            elif path == "model" and not isinstance(value, Choice | Mapping):
                text = f"model: {quoted(value)} is not a network; {NETWORK_FORMS}"
                raise InputError(text, remedies=[Remedy("list models")])
            _assign(values, path, value)
        return self._read(values)  # what was changed is within bounds, and so was all else

    def _with_preset(self, name: str, settings: Mapping[str, Any]) -> Self:
        """This configuration with settings changed, and those of a preset below them."""
        chosen = presets.preset(name, argument="")
        rest = {path: value for path, value in settings.items() if path != "pretrained.preset"}
        config = self.model_copy(update={"pretrained": PretrainedConfig()}).changed(rest)
        given = presets.settings_of(chosen, config.model)
        dataset = config.data.dataset.name
        if "pretrained.preset" in settings and not any(path.startswith("data.normalize") for path in rest):
            constants = presets.pixels_of(chosen, dataset)
            if constants is None:
                has = " and ".join(chosen.pixels)
                text = f"{quoted(name)} has no constants of pixels for {dataset}, but for {has}; say data.normalize"
                raise InputError(f"pretrained.preset: {text}")
            given |= {"data.normalize": {"name": "standardize", "mean": constants[0], "std": constants[1]}}
        over = {path: value for path, value in rest.items() if path != "model"}
        made = config.changed({**given, **over})
        own = {**self.pretrained.model_dump(), **made.pretrained.model_dump(exclude_defaults=True), "preset": name}
        return made.model_copy(update={"pretrained": PretrainedConfig(**own)})

    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted path (`model.depth`); lists and their members stay whole."""
        return dict(_flat(self.model_dump(mode="json")))


def _data(value: Any) -> dict[str, Any]:
    """The settings that one word for the data stands for, as `--data` does."""
    value = str(value) if isinstance(value, Path) else value
    if isinstance(value, str) and os.path.exists(os.path.expanduser(value)):  # noqa: PTH110, PTH111  (any text, ~nobody)
        return {"data.dataset": FOUND, "data.root": value}
    if isinstance(value, str) and not own.is_own(value) and (Path(value).name != value or "." in value):
        raise InputError(f"data: {quoted(value)} does not exist")
    if isinstance(value, Mapping):
        return {f"data.{name}": inner for name, inner in value.items()}
    if not (isinstance(value, str | Choice) or callable(value)):
        raise InputError(
            f"data: {type(value).__name__} is no name or path; residuum.keep_data(…) makes a path of images"
        )
    return {"data.dataset": value, "data.root": ""}


def described_settings(part: type[Part], prefix: str = "") -> list[tuple[str, Any, str]]:
    """Every setting as its dotted path, its default as a JSON value, and what it is."""
    rows: list[tuple[str, Any, str]] = []
    for name, field in part.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Part):
            rows += described_settings(field.annotation, f"{prefix}{name}.")
        else:
            default = field.default.model_dump(mode="json") if isinstance(field.default, BaseModel) else field.default
            rows.append((f"{prefix}{name}", default, field.description or ""))
    return rows


def parse_setting(text: str) -> tuple[str, Any]:
    """Path and value of `path=value`; the value is read as TOML, and as plain text where it is not TOML.

    Raises:
        InputError: there is no `=`, no path before it, or a table, list or quoted text that is not whole.
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise InputError(f"{quoted(text)} is not of the form path=value, as in model.depth=56")
    try:
        values = read_toml(f"value = {value}")
        if len(values) > 1:  # more lines follow
            raise tomllib.TOMLDecodeError("one value is wanted")
        found = values["value"]
    except tomllib.TOMLDecodeError as error:
        found = value.strip()
        if found.startswith(("{", "[", '"', "'")) or "\n" in found:
            raise InputError(
                f"{quoted(text)}: the value is neither a name nor TOML, as 56, [1, 2] or "
                "{name = 'sgd', momentum = 0.9}"
            ) from error
    except InputError as error:
        raise InputError(f"{quoted(path.strip())}: {error.text}") from error
    bounded(found, path.strip())
    # No setting is a date: a folder may be called like one.
    return path.strip(), value.strip() if isinstance(found, date | time) else found


ENDLESS_KEY = re.compile(r"""(?<![\w.-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){41}""")
"""A key of more dots than `bounded` lets through, which takes a reader of TOML the square of their number."""


def read_toml(text: str) -> dict[str, Any]:
    """The values of a text in TOML.

    Raises:
        TOMLDecodeError: it is not TOML.
        InputError: it is, but nested so deeply, or with numbers of so many digits, that nobody can read it.
    """
    if found := ENDLESS_KEY.search(text):
        raise InputError(f"{shortened(found[0], QUOTED)}: a key has more than {2 * DEEPEST} dots")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise InputError("tables and lists are nested too deeply") from error
    except ValueError as error:  # of int()
        raise InputError("a number has more digits than can be read") from error


def identity(config: RunConfig, schema: int = SCHEMA) -> str:
    """The id of a run: 12 hexadecimal digits of the hash of what decides its numbers, and of the schema's version.

    That is the resolved configuration, device and precision included, and the fingerprints of the data and of the
    weights that it begins with, but not where these lie, nor the name of a preset, nor what is saved or watched, nor a
    young setting where it is what it always was. `schema` is the version that a run folder was written with; in version
    1 what is saved and watched counted, and a setting younger than it where it was not the default.
    """
    values = config.model_dump(mode="json")
    del values["data"]["root"]
    for told_by_its_hash in ("weights", "preset", "key"):
        del values["pretrained"][told_by_its_hash]
    if not config.pretrained.fingerprint:  # as before there were such runs
        del values["pretrained"]
    if not config.optim.freeze:
        del values["optim"]["freeze"]
    for (path, name), before in YOUNG.items():
        place: Any = values
        for part in path.split("."):
            place = place.get(part) if isinstance(place, dict) else None
        if name_of(place) == name and isinstance(place, dict):
            for setting in [key for key, value in before.items() if place.get(key) == value]:
                del place[setting]
    if schema == 1:
        for section, name in YOUNGER:
            if values[section][name] == type(getattr(config, section)).model_fields[name].default:
                del values[section][name]
    else:
        for section in UNCOUNTED:
            del values[section]
    text = json.dumps([schema, values], sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:12]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            rows += _flat(value, f"{path}.")
        else:
            rows.append((path, value))
    return rows


def _assign(values: dict[str, Any], path: str, value: Any) -> None:
    """Set one dotted path in the nested values; a choice is merged, anything else replaced."""
    *sections, last = path.split(".")
    place = values
    for depth, section in enumerate(sections):
        inner = place.get(section)
        if inner is None and depth >= 1:
            inner = place[section] = {}  # a choice within a choice whose name is still the default
        elif isinstance(inner, str) and depth >= 1:
            inner = place[section] = {"name": inner}
        if not isinstance(inner, dict):
            raise unknown("setting", path, [key for key, _ in _flat(values)])
        place = inner
    old = place.get(last)
    if isinstance(old, dict) and "name" not in old and not sections:
        raise InputError(f"{path} is a section, not a setting; it has {', '.join(f'{path}.{key}' for key in old)}")
    if value == "" and isinstance(old, dict | list):
        raise InputError(f"{path}: a choice needs a name")
    if isinstance(old, dict) and isinstance(value, str | Mapping):
        place[last] = Choice.of(old).merged(Choice.of(value)).model_dump(mode="json")
    elif isinstance(old, list) and isinstance(value, str | Mapping):
        place[last] = [value]  # one augmentation or penalty is a list of one
    else:
        place[last] = value


def _one_line(error: ValidationError, model: type[BaseModel]) -> InputError:
    """The first problem of a validation error in the words of dotted settings."""
    problem = error.errors()[0]
    where = [str(part) for part in problem["loc"] if not re.match(r"(str|int|float)$|function-", str(part))]
    path = ".".join(where)
    if problem["type"] == "extra_forbidden":
        part: Any = model
        for name in where[:-1]:
            part = part.model_fields[name].annotation
        prefix = "".join(f"{name}." for name in where[:-1])
        called = [known for known, _, _ in described_settings(RunConfig) if known.endswith(f".{where[-1]}")]
        if not prefix and called:
            return InputError(f"unknown setting {quoted(path)}; did you mean {' or '.join(map(repr, called))}?")
        return unknown("setting", path, [prefix + name for name in part.model_fields])
    return InputError(f"{path}: {describe(problem)}")

"""How the command line says an error: options where Python has arguments, commands where it has functions."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from residuum.errors import InputError, Remedy, RemedyKind, ResiduumError, line, quoted

COMMANDS: Mapping[RemedyKind, str] = {
    "last": "--which last takes the last one",
    "anew": "`residuum train` with --fresh computes it anew",
    "anew with": "train it with --set {} --fresh",
    "list runs": "`residuum list runs` shows the runs that there are",
    "other runs": "name another folder with --runs",
    "list models": "`residuum list models` shows them",
    "explain": "`residuum explain` makes it",
    "run study": "`residuum study run` makes it for arms that a study looks into",
    "first run study": "run it first (`residuum study run`)",
    "moved data": "--data says where the data lies now",
    "another device": "--device cpu goes on with it here, no longer bit for bit",
    "images": "give image files, or test images by --images",
    "limits": "give --max-params, --max-macs or --max-memory",
    "seeds": "--seeds gives them",
    "until decided": "go on with --until-decided, or ask anew in a study of another name",
    "data here": "--data says where it lies",
    "fetch": "`residuum data fetch {}` downloads it",
    "key": "--key {} takes the weights without it",
    "trust": "--trust lets it run from then on",
    "trust by evaluate": "`residuum evaluate RUN --trust` lets it run from then on",
    "which key": "say which, as --key {}",
    "score on": "`residuum evaluate RUN --on` scores a run on it",
    "another out": "name another --out",
    "show model": "`residuum show model` lists its layers",
    "search": "`residuum study search` does, and writes the study that judges them",
}


FIRST = """\
Three commands to begin with; nothing is downloaded:

  residuum train quick                                   train a network on images of digits that come along
  residuum study run quickstart --scale 0.1 --seeds 2    ask whether shortcuts help, with error bars
  residuum list                                          what there are names for: recipes, models, studies, runs …

`residuum --help` shows all commands, and `residuum train --help` the options of one.
"""
"""What `residuum` alone says."""


def said(error: ResiduumError) -> str:
    """The line that the command line prints for an error, never a long one."""
    if not isinstance(error, InputError):
        return line(str(error))
    option = f"--{error.argument.replace('_', '-')}: " if error.argument else ""
    return line(helped(f"{option}{error.text}", error.remedies))


def able(error: InputError, options: Sequence[str]) -> None:
    """Let an error name another command where what helps is an option that this one, with these options, has not."""
    if "--trust" not in options:
        other = {"trust": Remedy("trust by evaluate")}
        error.remedies = tuple(other.get(one.kind, one) for one in error.remedies)


def helped(text: str, remedies: Sequence[Remedy]) -> str:
    """A text, and what would help, in commands and options."""
    return "; ".join([text, *(COMMANDS[one.kind].format(one.about) for one in remedies)])


def settings_called(name: str) -> list[str]:
    """The dotted settings that a word means: it is their last part, or all of it; dashes stand for underscores."""
    from residuum.config import RunConfig, described_settings

    word = name.replace("-", "_")
    own = [path for path, _, _ in described_settings(RunConfig) if word in (path, path.rpartition(".")[2])]
    return own or sorted({path for path in _of_choices() if word in (path, path.rpartition(".")[2])})


def _tables() -> dict[str, Any]:
    """The tables that settings choose from, by the dotted setting."""
    from residuum import optim
    from residuum.data.augment import AUGMENTATIONS
    from residuum.data.datasets import DATASETS
    from residuum.data.mix import MIXES
    from residuum.data.normalize import NORMALIZERS
    from residuum.models import MODELS

    return {
        "model": MODELS, "optim.optimizer": optim.OPTIMIZERS, "optim.schedule": optim.SCHEDULES,
        "optim.loss": optim.LOSSES, "data.dataset": DATASETS, "data.normalize": NORMALIZERS, "data.mix": MIXES,
        "data.augment": AUGMENTATIONS,
    }  # fmt: skip


def _of_choices() -> Iterator[str]:
    """The dotted settings that members of tables take, as `optim.optimizer.momentum`."""
    for path, table in _tables().items():
        yield from _within(path, table)


def _switches() -> set[str]:
    """The dotted settings that are true or false."""
    from residuum.config import RunConfig, described_settings

    own = {path for path, default, _ in described_settings(RunConfig) if isinstance(default, bool)}
    return own | {f"{path}.{name}" for path, table in _tables().items() for member in table
                  for name, setting in table.settings(member).items() if setting.type is bool}  # fmt: skip


def _nearest(path: str, given: str) -> str:
    """The value of a setting as it was meant: of a name that is in no table, the nearest in the setting's own."""
    known = [*_tables().get(path, ())]
    near = get_close_matches(given, known, n=1, cutoff=0.5) or [one for one in known if len(given) > 2 and given in one]
    if not near and len(known) == 1 and re.fullmatch(r"[a-z_]+", given):
        near = known
    return near[0] if near else given


def _within(path: str, table: Any) -> Iterator[str]:
    for member in table:
        for name, setting in table.settings(member).items():
            yield f"{path}.{name}"
            if setting.table is not None:
                yield from _within(f"{path}.{name}", setting.table)


ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "--epochs": ("num-epochs", "n-epochs", "max-epochs", "e"),
    "--batch-size": ("batch", "batchsize", "bs", "b", "bsz", "train-batch-size"),
    "--lr": ("learning-rate", "rate", "base-lr"),
    "--model": ("arch", "architecture", "net", "network", "backbone", "a"),
    "--data": ("data-dir", "data-path", "dataset-path", "datadir", "data-root", "d"),
    "--from": ("pretrained", "checkpoint", "ckpt", "init-from", "finetune"),
    "--runs": ("out", "output", "output-dir", "outdir", "save-dir", "log-dir", "logdir", "workdir"),
    "--to tensorboard": ("tensorboard", "tb"),
    "--to wandb": ("wandb",),
    "--to mlflow": ("mlflow",),
    "--device cuda": ("gpu", "gpus", "cuda", "gpu-id", "gpu-ids", "ngpus"),
    "--device cpu": ("cpu", "no-cuda"),
    "--device mps": ("mps",),
    "--set optim.optimizer=": ("optim", "opt", "solver"),
    "--set optim.schedule=": ("scheduler", "lr-scheduler", "lr-schedule", "lr-policy", "sched"),
    "--set optim.weight_decay=": ("wd", "decay", "l2"),
    "--set optim.clip_norm=": ("clip", "grad-clip", "clip-grad", "max-norm", "max-grad-norm", "gradient-clip"),
    "--set optim.loss=": ("criterion", "loss-fn"),
    "--set optim.warmup=": ("warmup-epochs",),
    "--set optim.loss.label_smoothing=": ("smoothing",),
    "--set data.augment=": ("aug", "augmentation", "augmentations", "transform", "transforms"),
    "--set data.augment=horizontal_flip": ("flip", "hflip", "horizontal-flip", "random-flip"),
    "--set data.augment=pad_crop": ("crop", "random-crop"),
    "--set data.augment=[]": ("no-augment", "no-aug", "no-augmentation"),
    "--set data.mix=mixup": ("mixup",),
    "--set data.mix=cutmix": ("cutmix",),
    "--set data.validation=": ("val", "val-split", "valid", "validation-split", "val-size", "holdout"),
    "--set data.dataset.size=": ("image-size", "img-size", "input-size", "imgsz", "resolution"),
    "--set model.wide=": ("width", "width-mult", "widen", "widen-factor"),
    "--set compute.threads=": ("workers", "num-workers", "n-workers", "j", "n-jobs", "nproc"),
    "--set compute.precision=bf16": ("amp", "bf16", "bfloat16", "mixed-precision", "half"),
    "--set compute.precision=fp16": ("fp16", "float16"),
    "--set compute.precision=fp32": ("fp32",),
    "--set compute.deterministic=true": ("reproducible",),
}
"""What other programs call what these options and settings do; an ending `=` takes the value that was given."""
BESIDE: Mapping[str, tuple[str, ...]] = {
    "no built-in network has dropout; one of your own may have: --model mine.py:Net": ("dropout", "drop", "drop-rate"),
    "several seeds are a study: `residuum study run NAME --seeds 3`": ("seeds", "num-seeds", "n-runs"),
    "`residuum resume RUN` goes on with a stopped run, and so does the command that began it": ("resume", "continue"),
    "no run is stopped early; `residuum evaluate RUN --which selected` takes the epoch that validation selected":
        ("early-stopping", "early-stop", "earlystopping"),
}  # fmt: skip
"""What is said of words that mean no option and no setting here."""


def _elsewhere(name: str, given: str, options: Sequence[str]) -> str:
    """What a word of other programs is here, as the end of a message; empty where that is not known."""
    for text, words in BESIDE.items():
        if name in words:
            return text
    for meant, words in ELSEWHERE.items():
        option = meant.partition(" ")[0]
        if name not in words or option not in options:
            continue
        if meant.endswith("="):
            return f"use {meant}{_nearest(meant.removeprefix('--set ')[:-1], given)}"
        return f"use {meant if ' ' in meant else f'{meant} {given}'}"
    return ""


def needed(message: str) -> str:
    """What the parser says of an option's value, as people say it; anything else as it is."""
    if lacking := re.fullmatch(r"argument (\S+): expected (?:one|at least one) argument", message):
        example = EXAMPLES.get(lacking[1].partition("/")[0], "VALUE")
        return f"{lacking[1]} needs a value, as {lacking[1].partition('/')[0]} {example}"
    if wrong := re.fullmatch(r"argument (\S+): invalid (int|float) value: (.+)", message, re.DOTALL):
        return f"argument {wrong[1]}: {wrong[3]} is no {'whole ' * (wrong[2] == 'int')}number"
    return message


EXAMPLES: Mapping[str, str] = {
    "--epochs": "10", "--batch-size": "128", "--lr": "0.1", "--seed": "0", "--device": "cpu", "--model": "resnet20",
    "--data": "digits", "--set": "model.depth=20", "--runs": "runs", "--seeds": "3", "--scale": "0.1",
    "--workers": "2", "--threads": "1", "--which": "last", "--budget": "3h",
}  # fmt: skip
"""A value of an option that takes one."""


def unexpected(word: str, after: str | None, options: Sequence[str]) -> str:
    """What is said of a word that a command does not take; `after` is the next one, `options` are what it takes."""
    option, equals, value = word.partition("=")
    name = option.lstrip("-")
    takes_settings = "--set" in options
    given = value if equals else after if after is not None and not after.startswith("-") else "VALUE"
    if (
        takes_settings
        and word.startswith("-")
        and (meant := _elsewhere(name.replace("_", "-").lower(), given, options))
    ):
        return f"unknown option {quoted(option)}; {meant}"
    if takes_settings and name and (option != word or word.startswith("--")):
        found = settings_called(name)
        if found:
            what = f"unknown option {quoted(option)}" if word.startswith("-") else f"unexpected {quoted(word)}"
            if given == "VALUE":
                given = "true" if found[0] in _switches() else given
            return f"{what}; use " + " or ".join(f"--set {path}={_nearest(path, given)}" for path in found)
    if not word.startswith("-"):
        return f"unexpected {quoted(word)}"
    known = {one: one for one in options}
    if takes_settings and not get_close_matches(option, options, n=1, cutoff=0.75):
        from residuum.config import RunConfig, described_settings

        paths = [path for path, _, _ in described_settings(RunConfig)]
        settings = {f"--{path.rpartition('.')[2].replace('_', '-')}": f"--set {path}=" for path in paths}
        if get_close_matches(option, settings, n=1, cutoff=0.75):
            known = settings
    near = get_close_matches(option, known, n=1, cutoff=0.4)
    return f"unknown option {quoted(word)}" + (f"; did you mean {quoted(known[near[0]])}?" if near else "")

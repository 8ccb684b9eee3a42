"""Weights to begin a run from: those of another run, or of a file, whose classes may be others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from residuum.config import RunConfig
from residuum.engine import state
from residuum.errors import InputError, quoted
from residuum.models.foreign import fitted, read_foreign, several
from residuum.models.mapping import Fit, Misfit, containers, fit
from residuum.records import run_folder
from residuum.records.record import RunRecord, read_record
from residuum.registry import Choice, name_of
from residuum.run import trust


@dataclass(frozen=True)
class Pretrained:
    """Weights by the network's names, their hash, and the classes of their head where these are known.

    `said` is what one should know of how they were found in a file, `model` the settings of the network that they were
    trained in, as far as they are known.
    """

    name: str
    tensors: Mapping[str, Tensor]
    classes: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The hash of names, types, shapes and values: part of the id of a run that begins with these weights."""
        found = sha256()
        for name, tensor in sorted(self.tensors.items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()[:16]


def read(path: Path, network: nn.Module, key: str = "") -> Pretrained:
    """The weights of a run in its folder (the averaged ones where there are any), or of a file that fits a network.

    `key` says where in a file they lie, if it holds several.

    Raises:
        InputError: there are none, or they are damaged, or a file is not of this network.
    """
    if not path.is_dir():
        return _of_file(path, network, key)
    record = read_record(path)
    checkpoint, problems = run_folder.latest_checkpoint(path)
    if problems or checkpoint is None:
        raise InputError(f"pretrained.weights: {problems[0] if problems else f'{path} holds no weights yet'}")
    if lost := record.lost_weights(checkpoint.position.epoch):
        raise InputError(f"pretrained.weights: {path} {lost}")
    tensors = state.from_bytes(state.evaluated(checkpoint.files))
    return Pretrained(
        f"run {record.id}", tensors, record.facts.classes, (), record.config.model.model_dump(mode="json")
    )


def _of_file(path: Path, network: nn.Module, key: str) -> Pretrained:
    """The weights of a file, whose head may have another number of classes than the network's."""
    foreign, expected = read_foreign(path), network.state_dict()
    found = fit(foreign.content, expected, ordered=foreign.ordered, key=key)
    for name in _head(network) if isinstance(found, Misfit) and found.another else ():
        weight = expected[f"{name}.weight"]
        given = (tensor.shape for one in containers(foreign.content) for tensor in one.tensors.values())
        for count in sorted({shape[0] for shape in given if len(shape) == 2 and shape[1] == weight.shape[1]}):
            other = {
                f"{name}.weight": weight.new_empty(count, weight.shape[1]),
                f"{name}.bias": weight.new_empty(count),
            }
            if isinstance(found, Misfit):
                found = fit(foreign.content, expected | other, ordered=foreign.ordered, key=key)
    if isinstance(found, Misfit) and found.keys:
        raise several(path, found)
    if isinstance(found, Misfit):
        found = fitted(foreign, network, key)  # which says what does not fit
    ours = _exported(path) if not foreign.ordered else {}
    classes = tuple(map(str, ours.get("classes", ())))
    return Pretrained(path.name, found.state, classes, () if classes else _said(found), ours.get("model", {}))


def _said(found: Fit) -> tuple[str, ...]:
    """What one should know of weights from a file of somebody else's."""
    said = [f"its layers were matched by order and shape, from {found.matched} on"] if found.matched else []
    said += [f"passed over: {', '.join(found.passed_over)}"] if found.passed_over else []
    said += [f"{quoted(name)}, which may change its logits, is not used" for name in found.on_logits[:1]]
    said += ["it has a mean and a deviation of pixels, which are not used (data.normalize)"] if found.pixels else []
    said.append("what tensors do not tell is as model.* says, or a preset (pretrained.preset); "
                "`residuum import-weights` checks it")  # fmt: skip
    return tuple(said)


def _exported(path: Path) -> Mapping[str, Any]:
    """The classes and the network that `residuum export` wrote into a file; nothing of another's."""
    with safe_open(path, "pt") as file:
        described = (file.metadata() or {}).get("residuum", "{}")
    try:
        found = json.loads(described)
        return {"classes": tuple(found["classes"]), "model": dict(found.get("model", {}))}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def settings(record: RunRecord) -> dict[str, Any]:
    """The settings of a run that begins with the weights of another: its network, and its normalisation of pixels.

    Raises:
        InputError: its network is own code that is not known here.
    """
    constants, found = record.facts.normalization, {"model": record.config.model.model_dump(mode="json")}
    if constants.kind == "affine":
        found["data.normalize"] = {"name": "standardize", "mean": list(constants.mean), "std": list(constants.std)}
    else:
        found["data.normalize"] = record.config.data.normalize.model_dump(mode="json")
    trust.admit(RunConfig().changed({"model": found["model"]}), record.folder)
    return {"pretrained.weights": str(record.folder.absolute()), **found}


def put(found: Pretrained, network: nn.Module, classes: tuple[str, ...], model: Choice | None = None) -> str:
    """Put weights into a network, all of them, or all but the head where its classes are others; what was done.

    `model` are the network's settings: what tensors fit may compute something else, as a plain twin does.

    Raises:
        InputError: they are of another network.
    """
    head = [f"{name}.{part}" for name in _head(network) for part in ("weight", "bias")]
    own = network.state_dict()
    other = found.classes != classes if found.classes else any(
        found.tensors[name].shape != own[name].shape for name in head if name in found.tensors and name in own
    )  # fmt: skip
    wanted = {name: tensor for name, tensor in own.items() if not (other and name in head)}
    given = {name: tensor for name, tensor in found.tensors.items() if not (other and name in head)}
    for name in sorted(wanted.keys() ^ given.keys()):
        lacking = "it has no" if name in wanted else "it has"
        raise InputError(f"pretrained.weights: {found.name} is of another network: {lacking} {quoted(name)}")
    for name, tensor in wanted.items():  # in the network's order: a file of weights keeps none
        if tensor.shape != given[name].shape:
            raise InputError(f"pretrained.weights: {found.name} is of another network: {quoted(name)} has shape "
                             f"{tuple(given[name].shape)}, not {tuple(tensor.shape)}")  # fmt: skip
    network.load_state_dict({**own, **given})
    rest = f" but the head ({', '.join(_head(network))}), whose classes are others" if other else ""
    others = _otherwise(found.model, model.model_dump(mode="json")) if model is not None else []
    return "; ".join([f"begins with the weights of {found.name}: all{rest}", *others, *found.said])


def _otherwise(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """In what a network computes otherwise than the one that weights were trained in, since no tensor tells."""
    told = []
    for key in (key for key in ours if key in theirs and key != "init" and theirs[key] != ours[key]):
        one, two = name_of(theirs[key]), name_of(ours[key])
        if one == two:  # choices of one name, with other settings
            one, two = theirs[key], ours[key]
        told.append(f"model.{key} was {one} and is {two}")
    return [f"they were trained in a network that computes otherwise: {', '.join(told)}"] if told else []


def _head(network: nn.Module) -> list[str]:
    """The name of the last linear layer, which tells classes."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]

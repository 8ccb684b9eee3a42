"""State of a run: what must be saved so that a resumed run equals one never stopped, bit for bit.

Randomness is not in it: order, augmentation and mixing are functions of (seed, epoch, index).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from residuum.engine.live import Training
from residuum.errors import InputError, quoted
from residuum.records.event import Scores

WEIGHTS, OPTIMIZER, AVERAGE = "weights.safetensors", "optimizer.safetensors", "average.safetensors"


@dataclass
class Progress:
    """How far a run is, and the sums that an interrupted epoch has gathered.

    `step` counts updates within the epoch. `validation` holds the scores of every finished epoch, `best` is the epoch
    (from 1) with the highest validation accuracy so far. `untold` are updates among `step` whose events are still to
    come, since a device made many in one go; it is 0 wherever a run is saved.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    images: int = 0
    seconds: float = 0.0
    micro_batch: int = 0
    best: int = 0
    validation: list[Scores] = field(default_factory=list)
    untold: int = 0

    def next_epoch(self) -> None:
        """Close the epoch: one more is done, its sums are empty."""
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum, self.correct, self.images, self.seconds = 0.0, 0.0, 0, 0.0

    def plain(self) -> dict[str, Any]:
        """The progress as a JSON object."""
        values = asdict(self) | {"validation": [scores.row() for scores in self.validation]}
        return {name: value for name, value in values.items() if name != "untold"}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Progress":
        """The progress that a JSON object describes."""
        validation = [Scores(**{**scores, "loss": float(scores["loss"])}) for scores in values["validation"]]
        return cls(**{**values, "validation": validation})


def pack(tree: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """A nested state dict as JSON values; each tensor goes into `tensors` under its path and leaves its path behind."""
    if isinstance(tree, Tensor):
        tensors[path] = tree.detach().cpu().contiguous()
        return {"tensor": path}
    if isinstance(tree, Mapping):
        # JSON has only strings for keys, torch numbers its parameters, so pairs keep the type.
        return {"pairs": [[key, pack(value, tensors, f"{path}/{key}")] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return [pack(value, tensors, f"{path}/{number}") for number, value in enumerate(tree)]
    return tree


def unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The nested state dict that `pack` took apart; tuples come back as lists."""
    if isinstance(tree, list):
        return [unpack(value, tensors) for value in tree]
    if isinstance(tree, Mapping):
        if "tensor" in tree:
            return tensors[tree["tensor"]]
        return {key: unpack(value, tensors) for key, value in tree["pairs"]}
    return tree


def capture(training: Training, progress: Progress) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Files and values of a checkpoint: weights, optimizer, progress, and average and scale where there are any."""
    tensors: dict[str, Tensor] = {}
    values = {"optimizer": pack(training.optimizer.state_dict(), tensors), "progress": progress.plain()}
    files = {WEIGHTS: to_bytes(training.network.state_dict()), OPTIMIZER: safetensors.torch.save(tensors)}
    if training.average is not None:
        files[AVERAGE] = to_bytes(training.average.state_dict())
    if training.scale is not None:
        values["scale"] = training.scale.plain()
    return files, values


def progress(values: Mapping[str, Any]) -> Progress:
    """How far the run was whose state has these values.

    Raises:
        InputError: they do not say it.
    """
    try:
        return Progress.of(values["progress"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"the saved state does not say how far it is: {error}") from error


def restore(files: Mapping[str, bytes], values: Mapping[str, Any], training: Training) -> Progress:
    """Put a checkpoint back into the live objects; returns the progress.

    Raises:
        InputError: anything is missing, too much or of another shape. Nothing is skipped.
    """
    try:
        load_weights(training.network, files[WEIGHTS])
        _load_optimizer(training.optimizer, unpack(values["optimizer"], from_bytes(files[OPTIMIZER])))
        if training.average is not None:
            training.average.load_state_dict(from_bytes(files[AVERAGE]))
        if training.scale is not None:
            training.scale.restore(values["scale"])
    except torch.OutOfMemoryError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise InputError(f"the saved state does not fit the run: {error}") from error
    return progress(values)


FORMS = ("foreach", "fused", "capturable")
"""Settings of torch's optimizers that say how an update is computed: they belong to the device, not to the state."""


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: Any) -> None:
    """Put a saved state dict into an optimizer, every tensor in the memory layout of its parameter."""
    expected = [len(group["params"]) for group in optimizer.param_groups]
    if [len(group["params"]) for group in saved["param_groups"]] != expected:
        raise InputError("the saved state does not fit the run: the optimizer has other groups of parameters")
    for group, live in zip(saved["param_groups"], optimizer.param_groups, strict=True):
        # The rate is set before every update, and lies where the device wants it.
        group.update({name: live[name] for name in FORMS if name in live}, lr=0.0)
    optimizer.load_state_dict(saved)
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # As it was before saving: whether an update works on dense memory decides how it is computed.
                entries[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def evaluated(files: Mapping[str, bytes]) -> bytes:
    """The weights of a checkpoint that evaluation uses: the averaged ones where there are any."""
    return files.get(AVERAGE, files[WEIGHTS])


def to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """A state dict as the bytes of a safetensors file."""
    return safetensors.torch.save(apart(state))


def apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state dict on the CPU, each in memory of its own, which weights that are tied do not have."""
    found, taken = dict[str, Tensor](), set[int]()
    for name, tensor in state.items():
        one = tensor.detach().cpu().contiguous()
        place = one.untyped_storage().data_ptr()
        found[name] = one.clone() if place in taken else one
        taken.add(place)
    return found


def from_bytes(content: bytes) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file.

    Raises:
        InputError: the bytes are not of that format.
    """
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise InputError(f"not a safetensors file: {error}") from error


def load_weights(network: nn.Module, content: bytes) -> None:
    """Put saved weights into a network.

    Raises:
        InputError: a tensor is missing, too much or of another shape.
    """
    state, expected = from_bytes(content), network.state_dict()
    for name in sorted(state.keys() ^ expected.keys()):
        raise InputError(
            f"saved weights do not fit the network: {quoted(name)} is {'missing' if name in expected else 'unknown'}"
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"saved weights do not fit the network: {quoted(name)} has shape {tuple(tensor.shape)}, "
                f"not {tuple(expected[name].shape)}"
            )
    network.load_state_dict(state)

"""Weights for elsewhere: a trained network becomes one file. Weights from elsewhere are `importing`'s."""

import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from residuum import own
from residuum.data.batches import normalise_for_network
from residuum.data.normalize import Normalization
from residuum.engine import state
from residuum.errors import InputError, Remedy, lacking
from residuum.networks.names import short_name
from residuum.records import storage
from residuum.records.record import RunRecord
from residuum.run import predict, pytorch_source
from residuum.run.importing import cifar10_without_images, import_weights
from residuum.run.model_card import card
from residuum.run.predict import Trained, Which

__all__ = ["Deployed", "Exported", "cifar10_without_images", "describe", "export", "import_weights"]

Format = Literal["safetensors", "onnx", "huggingface", "python"]
TOLERANCE = 1e-4
"""Largest difference of a logit that an exported graph may show."""
CHECKED = 256
"""Training images on which an exported graph is compared; the test images stay unread."""


@dataclass(frozen=True)
class Exported:
    """The file that was written, and how far its logits are from the network's on how many images.

    `difference` is the largest one in absolute value; None where the file holds the weights themselves.
    """

    path: Path
    format: Format
    difference: float | None
    images: int


class Deployed(nn.Module):
    """A network that takes pixels: logits_NK of uint8 images_NCHW, normalised within."""

    def __init__(self, network: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.network = network
        self.normalization = normalization

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """logits_NK of uint8 images_NCHW."""
        logits_NK: Tensor = self.network(self.normalization(images_NCHW.float() / 255))
        return logits_NK


def export(record: RunRecord, form: Format, path: Path, *, which: Which = "last", data: str = "") -> Exported:
    """Write the network of a run into one file, or for the Hugging Face hub into a folder.

    `safetensors` holds the weights by the names that most public networks for CIFAR use; its metadata has a JSON object
    `residuum` with all that a program needs to build and feed the network. `onnx` is a graph from uint8 `images`
    [N, C, H, W] to `logits` [N, K], the same JSON in its metadata; before it is written, its logits are compared with
    the network's on training images, for which the data set must be at hand (`data`: where it lies now). `huggingface`
    is a folder with `model.safetensors`, `config.json` with the same JSON, a model card of what the record says, and
    the files of own code by their names.
    `python` is a file of plain PyTorch (`.py`) that builds the network, with its weights beside it, and where the
    network, or a part of it, is own code, that as it is.

    Raises:
        InputError: as `predict.load`; a package for ONNX is missing; or the graph gives other logits than the network.
        StorageError: the file cannot be written.
    """
    trained = predict.load(record, which)
    trained.network.to("cpu", torch.float32).eval()
    description = json.dumps(describe(record, trained), sort_keys=True)
    difference = None
    texts = dict[str, str]()
    if form == "python":
        path = pytorch_source.python_file(path)
    if form != "huggingface":
        _check_ours_alone(path, form)
    if form == "python":
        texts = _as_python(record, trained, path)
    if form in ("safetensors", "huggingface", "python"):
        tensors = state.apart(trained.network.state_dict())
        asked = {"format": "pt"} if form == "huggingface" else {}  # what the hub looks for
        content = safetensors.torch.save(tensors, {**asked, "residuum": description})
    else:
        images_NCHW = _images(record, data)
        content = _onnx(trained, images_NCHW[:2], description)
        difference = _difference(content, trained, images_NCHW)
        if not difference <= TOLERANCE:
            raise InputError(f"the exported graph is off by {difference:.2g} in a logit, more than {TOLERANCE:g}; "
                             "it was not written")  # fmt: skip
    if form == "huggingface":
        _check_ours(path)
        parts = (record.config.model, record.config.data.dataset)
        texts = own.files([one.model_dump(mode="json") for one in parts])
        _check_theirs(path, texts)
        with storage.storing(path):
            path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(describe(record, trained), indent=2, allow_nan=False) + "\n"
        storage.write_file(path / "config.json", text.encode())
        storage.write_file(path / "README.md", card(record, which, describe(record, trained)).encode())
        storage.write_file(path / "model.safetensors", content)
        for name, text in texts.items():
            storage.write_file(path / name, text.encode())
        return Exported(path, form, None, 0)
    with storage.storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_file(path.with_suffix(".safetensors") if form == "python" else path, content)
    for name, text in texts.items():
        storage.write_file(path.parent / name, text.encode())
    return Exported(path, form, difference, 0 if difference is None else len(images_NCHW))


PRECISION = """\
The run computed in {}, and this file computes in fp32, which changes logits in the third digit or so; within
torch.autocast("cpu", torch.{}) they are the run's to the bit."""
AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


def _as_python(record: RunRecord, trained: Trained, path: Path) -> dict[str, str]:
    """The texts of the files by name, the one at the path among them, that are the network of a run as Python."""
    module, model = path.stem, record.config.model
    title, of = f"{short_name(model)}, run {record.id}", (trained.normalization, trained.classes, trained.shape)
    if model.code:
        text, texts = pytorch_source.of_own(trained.network, model, *of, title, module)
    else:
        parts = pytorch_source.parts_of(model, module)
        text, texts = pytorch_source.source(trained.network, *of, title, module, parts), dict(parts.texts)
    if (precision := trained.compute.precision) in AUTOCAST:
        said = PRECISION.format(precision, AUTOCAST[precision])
        text = text.replace("beside this file.\n", f"beside this file.\n{said}\n", 1)
    for name in texts:
        if name.partition("/")[0].removesuffix(".py").casefold() == module.casefold():
            raise InputError(
                f"{path.name} is what a file of the network's own code is called; name it {module}_loaded.py"
            )
    _check_theirs(path.parent, {name: one for name, one in texts.items() if not name.startswith(f"{module}_")})
    return {path.name: text, **texts}


def _check_theirs(folder: Path, texts: Mapping[str, str]) -> None:
    """Refuse to write own code by the names of its files over other files.

    Raises:
        InputError: one is there.
    """
    for name, text in texts.items():
        place = folder / name
        if place.exists() and not (place.is_file() and place.read_bytes() == text.encode()):
            raise _not_ours(place)


def _check_ours(folder: Path) -> None:
    """Refuse to write over files that another export for the hub did not write.

    Raises:
        InputError: one is there.
    """
    there = [name for name in ("README.md", "config.json", "model.safetensors") if (folder / name).exists()]
    try:
        ours = {"model", "classes", "run"} <= json.loads((folder / "config.json").read_bytes()).keys()
    except (OSError, ValueError, AttributeError):
        ours = False
    if there and not ours:
        raise _not_ours(folder / there[0])


def _check_ours_alone(path: Path, form: str) -> None:
    """Refuse to write over a file that no export wrote, as the one in which a network of one's own stands.

    Raises:
        InputError: it is one.
    """
    mark = pytorch_source.MARK if form == "python" else "residuum"  # else in the description that goes along
    if path.is_file() and mark.encode() not in path.read_bytes():
        raise _not_ours(path)


def _not_ours(path: Path) -> InputError:
    text = f"{path} is not of an export from here, and is not written over"
    return InputError(text, remedies=[Remedy("another out")])


def describe(record: RunRecord, trained: Trained) -> dict[str, Any]:
    """What goes with the weights: network, classes, image shape, normalisation of pixels in [0, 1], and origin."""
    return {
        "model": record.config.model.model_dump(mode="json"),
        "classes": list(trained.classes),
        "shape": list(trained.shape),
        "normalization": trained.normalization.plain(),
        "dataset": record.facts.dataset,
        "run": record.id,
        "epoch": trained.epoch,
    }


def _images(record: RunRecord, data: str) -> Tensor:
    """Some training images of the run, uint8."""
    try:
        dataset = predict.dataset_of(record, data)
    except InputError as error:
        raise InputError(
            f"the graph is checked on real images, but {error.text}", remedies=[*error.remedies, Remedy("moved data")]
        ) from error
    return torch.from_numpy(np.ascontiguousarray(dataset.train.images_NCHW[:CHECKED]))


def _onnx(trained: Trained, images_NCHW: Tensor, description: str) -> bytes:
    """The network as the bytes of an ONNX file, for any number of images at once."""
    try:
        import onnx
        import onnxruntime  # noqa: F401  (asked for before the work, not after it)
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise lacking("ONNX", str(error.name), "export") from error
    tempfile.gettempdir()  # without one the exporter fails in words of its own
    with _quiet():
        program = torch.onnx.export(
            Deployed(trained.network, trained.normalization),
            (images_NCHW,),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
        )
    assert program is not None, "with dynamo a program comes back"
    model = program.model_proto
    onnx.helper.set_model_props(model, {"residuum": description})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks, which are about its own code and packages that nobody needs here."""
    logger, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _difference(content: bytes, trained: Trained, images_NCHW: Tensor) -> float:
    """The largest difference between the logits of an ONNX graph and those of the network."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (logits_NK,) = session.run(["logits"], {"images": images_NCHW.numpy()})
    with torch.no_grad():
        expected_NK = trained.network(normalise_for_network(images_NCHW, trained.normalization))
    return float(np.abs(logits_NK - expected_NK.numpy()).max())

"""The model card of a run: what its network is, how it was trained and how good it is, all of it from the record."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from residuum import own
from residuum.config import RunConfig
from residuum.errors import tally
from residuum.networks.names import short_name
from residuum.records.outcome import Kept
from residuum.records.record import RunRecord

WITHOUT_IMAGES = ("cifar10", "cifar100")
"""Data sets whose classes and shape `import-weights` knows without any of their images."""
DATASETS = {"cifar10": "cifar10", "cifar100": "cifar100", "mnist": "mnist", "fashion_mnist": "fashion_mnist"}
"""Names that the Hugging Face hub has for data sets of ours."""


def card(record: RunRecord, which: Kept, description: Mapping[str, Any]) -> str:
    """The text of `README.md`: YAML for the hub's search, then Markdown for people.

    Said is what the record has and nothing else: without a reading of the test set there is no accuracy, and a curve
    that was observed on it is named. `description` is what is exported beside the weights.
    """
    name = f"{short_name(record.config.model)} on {record.facts.dataset}"
    scored = record.result.of(which) if record.result else None
    test = scored.test if scored else None
    head: dict[str, Any] = {
        "library_name": "residuum",
        "pipeline_tag": "image-classification",
        "tags": ["residuum", "image-classification", "resnet"],
    }
    if record.facts.dataset in DATASETS:
        head["datasets"] = [DATASETS[record.facts.dataset]]
    if test:
        metric = {"type": "accuracy", "value": round(test.accuracy, 6), "name": "test accuracy"}
        task = {"type": "image-classification"}
        data = {"name": record.facts.dataset, "type": DATASETS.get(record.facts.dataset, "image")}
        head["model-index"] = [{"name": name, "results": [{"task": task, "dataset": data, "metrics": [metric]}]}]
    # JSON is YAML, and needs no package to be written without a mistake.
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    return f"---\n{front}\n---\n\n# {name}\n\n" + "\n\n".join(_paragraphs(record, which, description)) + "\n"


def _paragraphs(record: RunRecord, which: Kept, description: Mapping[str, Any]) -> list[str]:
    result, facts = record.result, record.facts
    scored = result.of(which) if result else None
    shape = "×".join(map(str, facts.shape))
    said = [f"A network for images of {shape}, {len(facts.classes)} classes: {', '.join(facts.classes)}."]
    if result and result.parameters:
        said.append(f"{result.parameters:,} parameters, {result.macs:,} multiply-adds for an image.")
    imported = result is not None and result.status == "imported"
    how = record.recipe if imported else f"trained by the recipe `{record.recipe}`" if record.recipe else "trained"
    said.append(f"Run `{record.id}` of residuum, {how}, {facts.train:,} training, {facts.validation:,} held-out and "
                f"{tally(facts.test, 'test image')}; weights of epoch {description['epoch']}.")  # fmt: skip
    if scored and scored.test:
        said.append(f"Test error {100 * (1 - scored.test.accuracy):.2f} % ({tally(scored.test.n, 'image')}), loss "
                    f"{scored.test.loss:.4f}. One seed: another seed gives another figure. The test set was read "
                    f"{tally(record.test_reads, 'time')} in this run and selected nothing.")  # fmt: skip
    else:
        said.append("Its test error is not known: the test set was not read for these weights.")
    settings = "\n".join(f"| `{path}` | `{json.dumps(value)}` |" for path, value in record.config.settings().items()
                         if path.split(".")[0] in ("data", "optim", "train", "compute")
                         and path not in ("data.root", "data.fingerprint"))  # fmt: skip
    said.append("## How it was trained\n\n| setting | value |\n|---|---|\n" + settings)
    whose, code = "common ResNets for CIFAR", ""
    if record.config.model.code:
        whose = f"`{record.config.model.name}`"
    if names := own.codes(record.config.model.model_dump(mode="json")).values():
        code = f" Code of its own goes along, `{'`, `'.join(names)}`: read it before you run it, it can do anything."
    said.append(f"## How to use it\n\n`model.safetensors` has the weights by the names of {whose}, "
                "`config.json` the network, its classes and the normalisation of pixels in [0, 1]."
                f"{code} In residuum, within this folder:\n\n"
                f"```\n{shlex.join(_command(record))}\n```")  # fmt: skip
    return said


def _command(record: RunRecord) -> list[str]:
    """The command that brings the exported weights back, with every setting that its network's name does not say."""
    chosen, facts = record.config.model, record.facts
    name = chosen.name if chosen.code else short_name(chosen)
    said = {"name": name} if chosen.code else RunConfig().changed({"model": name}).model.model_dump(mode="json")
    model = own.without_hashes(chosen.model_dump(mode="json"))
    words = ["residuum", "import-weights", "model.safetensors", "--model", name]
    constants = facts.normalization
    dataset = record.config.data.dataset
    if dataset.name != "cifar10":
        words += ["--set", f"data.dataset={_toml(own.without_hashes(dataset.model_dump(mode='json')))}"]
    if record.config.data.root and dataset.name not in WITHOUT_IMAGES:
        words += ["--set", "data.root=IMAGES"]  # where they lie there
    if constants.kind == "affine":
        words += ["--normalize", *(",".join(map(repr, values)) for values in (constants.mean, constants.std))]
    else:
        words += ["--set", f"data.normalize={record.config.data.normalize.name}"]
    for setting, value in model.items():
        if value != said.get(setting):
            words += ["--set", f"model.{setting}={_toml(value)}"]
    return words


def _toml(value: object) -> str:
    """A setting's value as `--set` reads it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)

"""Facts: what a record says of the data of its run (`data.json`) and of each of its starts (`environment.json`)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Normalized:
    """The normalisation in use: constants per channel for pixels in [0, 1], or none where each image has its own."""

    kind: Literal["affine", "per_image"]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class DataFacts:
    """What a prediction or a report needs to know of the data of a run.

    `shape` is channels, height and width; `train`, `validation` and `test` count the images in use. `classes` are empty
    where the record does not name them. `encodings` are the formats in which the images were stored, none where they
    were plain numbers; None where the record does not say.
    """

    dataset: str
    fingerprint: str
    shape: tuple[int, int, int]
    train: int
    validation: int
    test: int
    normalization: Normalized
    classes: tuple[str, ...] = ()
    encodings: tuple[str, ...] | None = None

    def plain(self) -> dict[str, object]:
        """The facts as a JSON object."""
        found = asdict(self)
        keys = (
            "dataset",
            "fingerprint",
            "classes",
            "shape",
            "train",
            "validation",
            "test",
            "encodings",
            "normalization",
        )
        return {key: found[key] for key in keys if found[key] is not None}


@dataclass(frozen=True)
class Start:
    """One time that a run was started or resumed: when and where, with which versions, and at which place of the run.

    None is what the record does not say, as `cuda` of a run on a CPU.
    """

    time: str | None = None
    python: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    platform: str | None = None
    processor: str | None = None
    cores: int | None = None
    device: str | None = None
    precision: str | None = None
    threads: int | None = None
    capability: str | None = None
    determinism: str | None = None
    cuda: str | None = None
    cudnn: int | None = None
    kernels: str | None = None
    triton: str | None = None
    compiled: bool | None = None
    epoch: int | None = None
    step: int | None = None

    def plain(self) -> dict[str, object]:
        """What is known, as a JSON object."""
        return {key: value for key, value in vars(self).items() if value is not None}


FACTS: TypeAdapter[DataFacts] = TypeAdapter(DataFacts)
STARTS: TypeAdapter[tuple[Start, ...]] = TypeAdapter(tuple[Start, ...])

"""What the parts of a study file have in common: how they are checked, and how their settings are written."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from residuum import own


class Part(BaseModel):
    """A frozen part of a study that refuses unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_by_alias=True, validate_by_name=True,
        serialize_by_alias=True,
    )  # fmt: skip


def flat(values: Mapping[str, Any], whole: str = "name", prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted settings; a table with the key `whole` stays one, as a choice by its `name` does."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value and whole not in value:
            found |= flat(value, whole, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _flat(values: Any) -> Any:
    return flat(own.named(values)) if isinstance(values, Mapping) else values


Settings = Annotated[dict[str, Any], BeforeValidator(_flat)]
Name = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(strict=True)]
"""A number that is written as one: never "3" or true."""
Count = Annotated[int, Field(strict=True, ge=1)]

"""What the parts of a study file have in common: how they are checked, and how their settings are written."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from residuum import own
from residuum.errors import quoted


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


WORD = re.compile(r"\w(?:[\w .,@+()=~&-]*[\w)+])?")
MOST_BYTES = 180
"""Of a name of which files and folders are called: with a hash and an ending it still is one."""


def word(text: str, most: int = MOST_BYTES) -> str:
    """A name of at most so many bytes of which files and folders are called, as it is.

    Raises:
        ValueError: it could lead out of the folder of runs, or is no name there; the message has the nearest one.
    """
    if WORD.fullmatch(text) and _bytes(text) <= most:
        return text
    near = re.sub(r"[^\w .,@+()=~&-]+", "-", text[:most])
    while near and not (WORD.fullmatch(near) and _bytes(near) <= most):
        near = near[1:] if not re.match(r"\w", near) else near[:-1]
    hint = f"; as {quoted(near, 2 * MOST_BYTES)}" if near else ""
    raise ValueError(
        f"{quoted(text)} is no name for a folder: begin it with a letter or a digit, without / or \\{hint}"
    )


def _bytes(text: str) -> int:
    return len(text.encode(errors="replace"))


Word = Annotated[str, AfterValidator(lambda text: word(text) if text else text)]
"""A name of which files and folders are called, or none."""
Settings = Annotated[dict[str, Any], BeforeValidator(_flat)]
Name = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(strict=True)]
"""A number that is written as one: never "3" or true."""
Count = Annotated[int, Field(strict=True, ge=1)]

"""Tables of named builders, and choices from them.

A table maps names to builders. A builder takes live objects as positional arguments and its settings as
keyword-only arguments, so its signature is the schema of its settings: names, types, bounds and defaults
stand in one place. A setting that is itself a choice from another table is annotated
`Annotated[Choice, THE_TABLE]`.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from residuum.errors import InputError, unknown

T = TypeVar("T")


def name_of(value: Any) -> Any:
    """The name of a choice that is written as a mapping, and anything else as it is."""
    return value.get("name", value) if isinstance(value, Mapping) else value


class Choice(BaseModel):
    """A name from a table, with the settings that differ from the builder's defaults.

    Written as a string (`"relu"`) or as a mapping (`{"name": "leaky_relu", "negative_slope": 0.1}`);
    always serialised as a flat mapping. The name may be left out where the place has a default choice.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without the name."""
        return dict(self.__pydantic_extra__ or {})

    def merged(self, other: "Choice") -> "Choice":
        """This choice changed by another: same or no name keeps the settings, a new name starts from its defaults."""
        if other.name in ("", self.name):
            return Choice(name=self.name, **{**self.settings, **other.settings})
        return other

    @classmethod
    def of(cls, value: "str | Mapping[str, Any] | Choice") -> Self:
        """The choice that a string, a mapping or a choice stands for."""
        if isinstance(value, cls):
            return value
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise InputError(f"{value!r} is not a name or a table of settings") from error


def describe(error: ErrorDetails) -> str:
    """One problem that pydantic found, as a phrase without its input's type."""
    if error["type"] == "missing":
        return "a value is missing"
    if error["type"] == "model_type":
        return f"needs a name, or a table with a name and settings, not {error['input']!r}"
    if error["type"] == "value_error":  # ours, which says what is wrong
        return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{message}, not {error['input']!r}"


@dataclass(frozen=True)
class Setting:
    """One setting of a builder: its name, type and default, and the table it chooses from, if any."""

    name: str
    type: Any
    default: Any
    table: "Table[Any] | None"

    def check(self, value: Any, path: str) -> Any:
        """The value with its type checked and, for a choice, every default written out.

        Values come from TOML or JSON, so they are checked as JSON in strict mode: a list may stand for a
        tuple and 1 for 1.0, but never "1" or true for 1.
        """
        if self.table is not None:
            choice = Choice.of(value)
            if not choice.name:
                choice = Choice.of(self.default).merged(choice)
            return self.table.resolve(choice, path)
        try:
            text = json.dumps(value, default=as_plain, allow_nan=False)
        except ValueError as error:
            raise InputError(f"{path}: needs a finite number, not {value!r}") from error
        try:
            return TypeAdapter(self.type).validate_json(text, strict=True)
        except ValidationError as error:
            problem = error.errors()[0]
            place = "".join(f"[{part}]" for part in problem["loc"] if isinstance(part, int))
            raise InputError(f"{path}{place}: {describe(problem)}") from error


def as_plain(value: Any) -> Any:
    """What JSON shall write for a value that it does not know: a choice's mapping; nothing else is a setting."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise InputError(f"{value!r} cannot be a setting")


@dataclass(frozen=True)
class Table(Generic[T]):
    """Named builders of one kind of thing (`kind` is what messages call it)."""

    kind: str
    builders: Mapping[str, Callable[..., T]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.builders)

    def builder(self, name: str, path: str = "") -> Callable[..., T]:
        """The builder of that name.

        Raises:
            InputError: no such name; the message gives the nearest one.
        """
        if name not in self.builders:
            raise unknown(self.kind, name, self.builders, place="" if path == self.kind else path)
        return self.builders[name]

    def settings(self, name: str, path: str = "") -> dict[str, Setting]:
        """The settings of a builder by name, read from its keyword-only arguments."""
        signature = inspect.signature(self.builder(name, path), eval_str=True)
        return {
            p.name: Setting(p.name, p.annotation, p.default, _table_of(p.annotation))
            for p in signature.parameters.values()
            if p.kind is p.KEYWORD_ONLY
        }

    def resolve(self, choice: Choice | str | Mapping[str, Any], path: str = "") -> Choice:
        """The choice with every setting checked and every default written out.

        `path` is the dotted place of the choice, for messages (`optim.schedule`).

        Raises:
            InputError: unknown name or setting, or a value of the wrong type or out of bounds.
        """
        choice = Choice.of(choice)
        path = path or self.kind
        known = self.settings(choice.name, path)
        for name in choice.settings:
            if name not in known:
                if not known:
                    raise InputError(f"{path}.{name}: {self.kind} {choice.name!r} has no settings")
                raise unknown("setting", f"{path}.{name}", [f"{path}.{other}" for other in known])
        values = {}
        for name, setting in known.items():
            value = choice.settings.get(name, setting.default)
            if value is inspect.Parameter.empty:
                raise InputError(f"{path}.{name}: {self.kind} {choice.name!r} needs this setting")
            values[name] = setting.check(value, f"{path}.{name}")
        return Choice(name=choice.name, **values)

    def bind(self, choice: Choice | str | Mapping[str, Any]) -> Callable[..., T]:
        """The chosen builder with its settings given; what is left are its positional arguments."""
        resolved = self.resolve(choice)
        return partial(self.builder(resolved.name), **resolved.settings)

    def build(self, choice: Choice | str | Mapping[str, Any], *args: Any) -> T:
        """What the chosen builder makes of the positional arguments."""
        return self.bind(choice)(*args)


def _table_of(annotation: Any) -> "Table[Any] | None":
    """The table in `Annotated[Choice, TABLE]`, None for any other annotation."""
    if get_origin(annotation) is None:
        return None
    return next((item for item in get_args(annotation)[1:] if isinstance(item, Table)), None)

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
from math import inf
from typing import Any, Generic, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from residuum import own
from residuum.errors import QUOTED, InputError, quoted, shortened, unknown

T = TypeVar("T")


def name_of(value: Any) -> Any:
    """The name of a choice that is written as a mapping, and anything else as it is."""
    return value.get("name", value) if isinstance(value, Mapping) else value


class Choice(BaseModel):
    """A name from a table, with the settings that differ from the builder's defaults.

    Written as a string (`"relu"`) or as a mapping (`{"name": "leaky_relu", "negative_slope": 0.1}`);
    always serialised as a flat mapping. The name may be left out where the place has a default choice. Own code
    (`"mine.py:Net"`) has its hash beside its name, as `code`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            name = value.get("name")
            if "code" in value or not (own.is_own(name) or callable(name)):
                return value
            return {**value, **own.named({"name": name})}
        found = own.named(value)
        return {"name": found} if isinstance(found, str) else found

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without the name, and without the hash of own code."""
        return {name: value for name, value in self._beside.items() if name != "code" or not own.is_own(self.name)}

    @property
    def code(self) -> str:
        """The SHA-256 of own code; empty for a name from a table."""
        return str(self._beside.get("code", "")) if own.is_own(self.name) else ""

    @property
    def _beside(self) -> dict[str, Any]:
        return self.__pydantic_extra__ or {}

    def with_settings(self, settings: Mapping[str, Any]) -> "Choice":
        """The same choice with these settings and no others."""
        return Choice(name=self.name, **({"code": self.code} if self.code else {}), **settings)

    def merged(self, other: "Choice") -> "Choice":
        """This choice changed by another: same or no name keeps the settings, a new name starts from its defaults."""
        if other.name in ("", self.name):
            return Choice(name=self.name, **{**self._beside, **other._beside})
        return other

    @classmethod
    def of(cls, value: "str | Mapping[str, Any] | Choice") -> Self:
        """The choice that a string, a mapping or a choice stands for."""
        if isinstance(value, cls):
            return value
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise InputError(f"{quoted(value)} is not a name or a table of settings") from error


def describe(error: ErrorDetails) -> str:
    """One problem that pydantic found, as a phrase without its input's type."""
    if error["type"] == "missing":
        return "a value is missing"
    if error["type"] == "model_type":
        return f"needs a name, or a table with a name and settings, not {quoted(error['input'])}"
    if error["type"] == "value_error":  # ours, which says what is wrong
        return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{message}, not {quoted(error['input'])}"


DEEPEST, LONGEST, LARGEST, TINIEST = 20, 100_000, 1e30, 1e-300
"""How deep settings may nest, how many values they may have, and between what the size of a number may lie.

Whole numbers fit into 64 bits, as everywhere that they are handed on to.
"""


def is_utf8(text: str) -> bool:
    """Whether a text can be written in UTF-8: half of a pair of surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def bounded(values: Any, path: str = "") -> None:
    """Refuse settings that no part could mean, before anything is made of them: endless nesting, numbers beyond use.

    Raises:
        InputError: there is such a value; the message names its place, below `path`.
    """
    waiting, count = [(path, values, 0)], 0
    while waiting:
        place, value, depth = waiting.pop()
        count += 1
        said = f"{shortened(place, QUOTED)}: " if place else ""
        if depth > DEEPEST or place.count(".") > 2 * DEEPEST:
            raise InputError(f"{said}more than {DEEPEST} tables and lists stand within each other")
        if count > LONGEST:
            raise InputError(f"{said}more than {LONGEST:,} values")
        if isinstance(value, str) and not is_utf8(value):
            raise InputError(f"{said}{quoted(value)} holds half a letter, which no file can hold")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise InputError(f"{said}a whole number has at most 64 bits, not {value.bit_length():,}")
        if isinstance(value, float) and value and abs(value) < TINIEST:
            raise InputError(f"{said}{value:g} is too close to 0; the smallest number is {TINIEST:g}")
        if isinstance(value, float) and LARGEST < abs(value) < inf:
            raise InputError(f"{said}{value:g} is too large; the largest number is {LARGEST:g}")
        if isinstance(value, Mapping):
            waiting += [(f"{place}.{key}" if place else str(key), inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{place}[{at}]", inner, depth + 1) for at, inner in enumerate(value)]


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
            raise InputError(f"{path}: needs a finite number, not {quoted(value)}") from error
        try:
            return TypeAdapter(self.type).validate_json(text, strict=True)
        except ValidationError as error:
            problem = error.errors()[0]
            place = "".join(f"[{part}]" for part in problem["loc"] if isinstance(part, int))
            raise InputError(f"{path}{place}: {describe(problem)}") from error


def as_plain(value: Any) -> Any:
    """What JSON shall write for a value that it does not know: a choice's mapping or that of own code, or nothing."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if (found := own.named(value)) is not value:
        return found
    raise InputError(f"{quoted(value)} cannot be a setting")


@dataclass(frozen=True)
class Table(Generic[T]):
    """Named builders of one kind of thing (`kind` is what messages call it); `fit`: what own code of it has to be."""

    kind: str
    builders: Mapping[str, Callable[..., T]]
    fit: own.Fit | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(self.builders)

    def builder(self, name: str | Choice, path: str = "") -> Callable[..., T]:
        """The builder of that name; of own code, which is run for it.

        Raises:
            InputError: no such name; the message gives the nearest one; or own code that cannot be one.
        """
        choice = Choice.of(name)
        if own.is_own(choice.name):
            if self.fit is None:
                raise InputError(f"{path or self.kind}: own code cannot be one: known: {', '.join(sorted(self))}")
            return own.builder(choice.name, choice.code, self.fit)
        if choice.name not in self.builders:
            if self.fit and (meant := own.misnamed(choice.name)):
                place = "" if path == self.kind else path
                raise InputError(f"{place}{': ' * bool(place)}unknown {self.kind} {quoted(choice.name)}; {meant}")
            raise unknown(self.kind, choice.name, self.builders, place="" if path == self.kind else path)
        return self.builders[choice.name]

    def settings(self, name: str | Choice, path: str = "") -> dict[str, Setting]:
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
        known = self.settings(choice, path)
        for name in choice.settings:
            if name not in known:
                if not known:
                    raise InputError(f"{path}.{name}: {self.kind} {quoted(choice.name)} has no settings")
                raise unknown("setting", f"{path}.{name}", [f"{path}.{other}" for other in known])
        values = {}
        for name, setting in known.items():
            value = choice.settings.get(name, setting.default)
            if value is inspect.Parameter.empty:
                raise InputError(f"{path}.{name}: {self.kind} {quoted(choice.name)} needs this setting")
            values[name] = setting.check(value, f"{path}.{name}")
        return choice.with_settings(values)

    def bind(self, choice: Choice | str | Mapping[str, Any]) -> Callable[..., T]:
        """The chosen builder with its settings given; what is left are its positional arguments."""
        resolved = self.resolve(choice)
        return partial(self.builder(resolved), **resolved.settings)

    def build(self, choice: Choice | str | Mapping[str, Any], *args: Any) -> T:
        """What the chosen builder makes of the positional arguments."""
        return self.bind(choice)(*args)


def _table_of(annotation: Any) -> "Table[Any] | None":
    """The table in `Annotated[Choice, TABLE]`, None for any other annotation."""
    if get_origin(annotation) is None:
        return None
    return next((item for item in get_args(annotation)[1:] if isinstance(item, Table)), None)

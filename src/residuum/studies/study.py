"""Study: one question as a value, with the arms that answer it, and what is claimed and published about it.

A Study is written in Python as below or in TOML (`residuum.studies.parsing`); both are checked the same way.

    Study(question="Do shortcuts help?", base="he2015", seeds=3, axes={"model": ["plain20", "resnet20"]},
          claims=[{"text": "Shortcuts help.", "expect": "resnet20 < plain20"}])
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite, log, prod
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from residuum import own, recipes
from residuum.config import Named, RunConfig, identity
from residuum.errors import InputError, Remedy, quoted, tally, unknown
from residuum.records import shown
from residuum.records.measures import measure
from residuum.registry import bounded, describe, name_of
from residuum.studies.part import Count, Name, Number, Part, Settings, Word, word
from residuum.studies.space import Search, Tuned, outermost

OPERATORS = (" > ", " < ", " = ")
SEED = "train.seed"
READS_TEST = ("monitor.test", "monitor.final_test")
"""Settings by which a run reads the test set."""
MEANT = {"metric": "measure"}
"""Keys that people write for another one."""


class StudyError(InputError):
    """A study that cannot be run, with the place in it that is wrong, as `("claims", 1, "expect")`."""

    def __init__(self, place: Sequence[str | int], message: str, remedies: Sequence[Remedy] = ()) -> None:
        super().__init__(f"{dotted(place)}: {message}" if place else message, remedies=remedies)
        self.place = tuple(place)
        self.message = message


def dotted(place: Sequence[str | int]) -> str:
    """A place in a study as people write it: `claims[1].expect`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


class NamedArm(Part):
    """An arm by name: dotted settings in which it differs from the base and from `set`."""

    name: Name
    settings: Settings = Field(default={}, alias="set")


class Compare(Part):
    """What every arm is compared with, on which measure, and how runs are paired.

    `baseline` is an arm's name, or axis settings: then an arm is compared with the one that has those values on those
    axes and its own on the others. Empty: there is none, and only what claims name and twins are compared.
    """

    baseline: str | Settings = ""
    measure: str = "test_error"
    pair_by: Literal["train.seed", "none"] = "train.seed"


class Claim(Part):
    """A sentence, and what it expects: `A > B`, `A < B` or `A = B` of an arm and another arm or a number.

    `A > B` means that the mean difference A - B of the measure is greater than the margin, `A < B` the same of B - A,
    `A = B` that it lies within the margin, which must then be positive. Of a time, `factor` may stand in place of the
    margin: `A > B` then means that A is more than so many times B, `A = B` that neither is so many times the other.
    """

    text: Name
    expect: str
    measure: str = "test_error"
    margin: Number = 0.0
    factor: Annotated[Number, Field(gt=0)] | None = None

    @property
    def reach(self) -> float:
        """The margin as it is judged: a factor by its logarithm, as times are."""
        return self.margin if self.factor is None else log(self.factor)

    @property
    def left(self) -> str:
        """The arm on the left."""
        return self._parts()[0]

    @property
    def operator(self) -> str:
        """`>`, `<` or `=`."""
        return self._parts()[1]

    @property
    def right(self) -> str | float:
        """The arm on the right, or a number."""
        text = self._parts()[2]
        with suppress(ValueError):
            if isfinite(number := float(text)):
                return number
        return text

    @property
    def statement(self) -> tuple[Any, ...]:
        """What is claimed, equal for claims that say the same: `A > B` and `B < A` do."""
        sides: list[str | float] = [self.left, self.right]
        if self.operator == "<" or (self.operator == "=" and str(sides[1]) < str(sides[0])):
            sides.reverse()
        beyond = self.margin if self.factor is None else ("times", self.factor)
        return (*sides, self.operator == "=", self.measure, beyond)

    @property
    def formula(self) -> str:
        """What is expected as people read it, as `resnet56 − resnet20 < 2 points`: the margin is on the number's side.

        Of the difference left - right, which is also what tables print; a number has the unit of the measure.
        """
        left, right, sign = self.left, self.right, -1 if self.operator == "<" else 1
        unit = {"%": " points" if isinstance(right, str) else " %", "share": "", "ratio": "", "count": ""}.get(
            measure(self.measure).unit, f" {measure(self.measure).unit}"
        )
        if self.factor is not None:
            what = f"{right:,g}{unit}" if isinstance(right, float) else right
            if self.operator == "=":
                return f"{left} = {what}, within a factor of {self.factor:,g}"
            return f"{left} > {self.factor:,g} × {what}" if sign > 0 else f"{self.factor:,g} × {left} < {what}"
        if self.operator == "=":
            what, middle = (f"{left} − {right}", "0") if isinstance(right, str) else (left, f"{right:,g}")
            return _minus(f"{what} = {middle} ± {self.margin:,g}{unit}")
        if isinstance(right, float):
            return _minus(f"{left} {self.operator} {right + sign * self.margin + 0.0:,g}{unit}")
        if not self.margin:
            return f"{left} {self.operator} {right}"
        return f"{left} − {right} {self.operator} {_minus(f'{sign * self.margin:,g}')}{unit}"

    def _parts(self) -> tuple[str, str, str]:
        found = [operator for operator in OPERATORS if operator in self.expect]
        if len(found) != 1 or self.expect.count(found[0]) != 1:
            raise InputError(f"{quoted(self.expect)} is not of the form 'arm > arm', with >, < or = between spaces")
        left, right = self.expect.split(found[0])
        return left.strip(), found[0].strip(), right.strip()


def _minus(text: str) -> str:
    """A text with a true minus sign before its numbers."""
    return re.sub(r"(?<!\S)-(?=\d)", "−", text)


def _count_or_share(value: float) -> float:
    if value > 1 and value % 1:
        raise ValueError("a count of images is a whole number, and a share is below 1")
    return value


Selection = Literal["last", "best-on-test", "best-on-validation", "best-of-runs", "median-of-runs"]
"""Which epoch a number is of, or which of several runs; a mean of runs at their last epoch is `last`."""


class Protocol(Part):
    """How a number was made, as far as it is known: None is unknown, and an empty `augment` is none at all.

    `images` are the training images, those held out of them included, and `test_images` those of the test set: where
    neither is said, all of a data set that is published with a count. `validation` is a count of training images held
    out, or a share below 1. Choices (`schedule` …) are named as in the
    configuration and hold the settings that are known; what has no such name is named in the words of the source.
    `protocol` is what no key can say: it is printed and never read.
    """

    images: Count | None = None
    test_images: Count | None = None
    validation: Annotated[Number, Field(ge=0), AfterValidator(_count_or_share)] | None = None
    selection: Selection | None = None
    epochs: Count | None = None
    batch: Count | None = None
    lr: Annotated[Number, Field(gt=0)] | None = None
    weight_decay: Annotated[Number, Field(ge=0)] | None = None
    schedule: Named | None = None
    optimizer: Named | None = None
    augment: tuple[Named, ...] | None = None
    normalize: Named | None = None
    protocol: str = ""

    @property
    def known(self) -> dict[str, Any]:
        """The keys that are known, less the text."""
        return {key: value for key in PROTOCOL if (value := getattr(self, key)) is not None}


PROTOCOL = tuple(key for key in Protocol.model_fields if key != "protocol")
"""The keys of a protocol that are compared with ours, in the order in which people read them."""


class Published(Protocol):
    """A published number beside which ours is printed, and what is particular in how it was made.

    `bound`: the value is the least ("above") or the most ("below") that the source says.
    """

    source: Name
    arm: str
    measure: str = "test_error"
    value: Number
    bound: Literal["above", "below"] | None = None
    spread: Number | None = None


def _judged(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a study with the measure that is meant where none is said: that of the images which judge its arms.

    With `select = "validation"` the test set is unread, and the validation error takes the place of the test error.
    """
    if values.get("select") != "validation":
        return dict(values)
    held_out = measure("test_error").held_out

    def filled(part: Any) -> Any:
        if isinstance(part, Compare | Claim) and "measure" not in part.model_fields_set:
            return part.model_copy(update={"measure": held_out})
        return {"measure": held_out, **part} if isinstance(part, Mapping) and "metric" not in part else part

    claims = values.get("claims", ())
    claims = [filled(one) for one in claims] if isinstance(claims, list | tuple) else claims
    return {**values, "compare": filled(values.get("compare", {})), "claims": claims}


MOST_ARMS, MOST_RUNS = 10_000, 100_000
"""Of a study."""


def _seeds(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        _check_runs(1, value)
        return tuple(range(value))
    return value


def _check_runs(arms: int, seeds: int) -> None:
    if arms > MOST_ARMS:
        raise ValueError(f"{tally(arms, 'arm')}: a study has at most {MOST_ARMS:,}")
    if arms * seeds > MOST_RUNS:
        each = f"{tally(arms, 'arm')} with " if arms > 1 else ""
        raise ValueError(f"{each}{tally(seeds, 'seed')}: a plan has at most {MOST_RUNS:,} runs")


@dataclass(frozen=True)
class Arm:
    """One arm, made concrete: `settings` set it apart from the other arms, `cell` is its value on each axis.

    `family` is the named arm whose cell it is, in a study that has both named arms and axes; else it is empty.
    """

    name: str
    settings: Mapping[str, Any]
    cell: Mapping[str, Any]
    config: RunConfig
    family: str = ""


class Study(Part):
    """A question, and everything that is done to answer it.

    The arms are the cells of the grid of `axes`, or the named `arms`, or with both each arm in each cell; of these,
    `only` keeps those that it names, unless it is empty. `inside` names the arms whose networks the report looks into.
    `select` says whether an arm is chosen: with `validation` runs leave the test set unread, arms are judged by images
    held out (`validation_error` is then the measure where none is said), and the test set is read once, for the arm
    with the lowest mean validation error and its baseline.
    `search` says which settings of its arms are to be searched for before; where they come from such a search, `tuned`
    says how it went. `sources` says once how all numbers of a source were made; a published number says what is
    particular in its own.

    Raises:
        StudyError: when it is made: an unknown key, setting, measure or arm, or arms that cannot be told apart. Names
            of things that only the computing half knows (an optimizer, an augmentation) are checked by planning it.
    """

    name: Word = ""
    question: Name
    base: str
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], BeforeValidator(_seeds), Field(min_length=1)]
    settings: Settings = Field(default={}, alias="set")
    axes: Settings = Field(default={})
    named: tuple[NamedArm, ...] = Field(default=(), alias="arms")
    only: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    select: Literal["none", "validation"] = "none"
    compare: Compare = Compare()
    claims: tuple[Claim, ...] = ()
    search: Search | None = None
    tuned: Tuned | None = None
    sources: dict[Name, Protocol] = Field(default={})
    published: tuple[Published, ...] = ()

    def __init__(self, /, **values: Any) -> None:
        bounded(values)
        try:
            super().__init__(**_judged(values))
        except ValidationError as error:
            raise _first(error, type(self)) from error

    @model_validator(mode="after")
    def _checked(self) -> Self:
        _check(self)
        return self

    @property
    def is_initial(self) -> bool:
        """Whether all that is asked is known before training: then nobody asks what the short training came to."""
        asked = {self.compare.measure, *(one.measure for one in self.claims), *(one.measure for one in self.published)}
        return all(measure(name).initial for name in asked)

    def protocol_of(self, published: Published) -> Protocol:
        """How a published number was made: its own keys over those of its source."""
        source = self.sources.get(published.source, Protocol())
        texts = [text for text in (source.protocol, published.protocol) if text]
        return Protocol(**{**source.known, **published.known, "protocol": "; ".join(texts)})

    def arms(self) -> tuple[Arm, ...]:
        """The arms in the order of the file: named arms first to last, axes turning from the last."""
        return tuple(arm for arm in self._all_arms() if not self.only or arm.name in self.only)

    @property
    def _unread(self) -> dict[str, bool]:
        """The settings that leave the test set unread, where an arm is to be chosen."""
        return dict.fromkeys(READS_TEST, False) if self.select == "validation" else {}

    def _all_arms(self) -> tuple[Arm, ...]:
        cells = [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]
        base, made = recipes.recipe(self.base), []
        for number, named in enumerate(self.named or (None,)):
            own = named.settings if named else {}
            for cell in cells:
                family = named.name if named and cell else ""
                name = " / ".join(part for part in (named.name if named else "", label_of(cell)) if part)
                places: dict[str, tuple[str | int, ...]] = dict.fromkeys(self.settings, ("set",))
                places |= dict.fromkeys(own, ("arms", number, "set")) | dict.fromkeys(cell, ("axes",))
                # All at once, so that a network on an axis does not undo what an arm sets of it.
                config = _changed(base, {**self._unread, **self.settings, **own, **cell}, places)
                made.append(Arm(name or "base", {**own, **cell}, cell, config, family))
        return tuple(made)

    def _repr_html_(self) -> str:
        """The study in a notebook: its arms, and what is claimed of them."""
        seeds = ", ".join(map(str, self.seeds))
        arms = [(arm.name, "; ".join(f"{path} = {json.dumps(value)}" for path, value in arm.settings.items()) or "–")
                for arm in self.arms()]  # fmt: skip
        made = shown.table(f"{self.question} Recipe {self.base}, seeds {seeds}.", ("arm", "settings"), arms)
        if self.claims:
            rows = [(claim.text, claim.formula, claim.measure) for claim in self.claims]
            made += shown.table("Claims", ("claim", "expected", "measure"), rows)
        return made

    def baseline_of(self, arm: Arm, arms: Sequence[Arm]) -> Arm | None:
        """The arm with which another is compared; None for a baseline itself, or where nothing is compared."""
        wanted = self.compare.baseline
        if isinstance(wanted, str):
            found = next((other for other in arms if other.name == wanted), None)
        else:
            place = (arm.family, {**arm.cell, **wanted})
            found = next((other for other in arms if (other.family, other.cell) == place), None)
        return None if found is None or found.name == arm.name else found

    def compared(self) -> tuple[tuple[str, str], ...]:
        """The pairs of arms that are compared, each once: with the baseline, those that claims name, and twins.

        Twins are a network with shortcuts and the one that differs from it in having none. First the arm, then what it
        is held against; a pair that stands there already is not turned round.
        """
        arms = self.arms()
        pairs = [(arm.name, base.name) for arm in arms if (base := self.baseline_of(arm, arms)) is not None]
        pairs += [(claim.left, claim.right) for claim in self.claims if isinstance(claim.right, str)]
        bare = {_without_shortcut(arm): arm.name for arm in arms if _shortcut(arm) == "none"}
        pairs += [(arm.name, bare[key]) for arm in arms
                  if _shortcut(arm) not in (None, "none") and (key := _without_shortcut(arm)) in bare]  # fmt: skip
        found: dict[frozenset[str], tuple[str, str]] = {}
        for pair in pairs:
            found.setdefault(frozenset(pair), pair)
        return tuple(found.values())

    def changed(self, settings: Mapping[str, Any], seeds: Sequence[int] | None = None) -> Self:
        """This study with settings of every arm changed, over what the study says, and with other seeds if given."""
        if SEED in settings:
            raise InputError(f"{SEED}: all arms of a study have the same seeds", remedies=[Remedy("seeds")])
        values = self.model_dump(mode="json")
        if seeds is not None:
            try:
                _check_runs(1, seeds.stop - seeds.start if isinstance(seeds, range) else len(seeds))
            except ValueError as error:
                raise InputError(str(error), argument="seeds") from error
        values["set"] = {**values["set"], **settings}
        for path in settings:
            if self.search and path in self.search.space:
                raise InputError(f"{path}: study {quoted(self.name)} searches for this setting")
            for place in (values["axes"], *(arm["set"] for arm in values["arms"])):
                if path in place:
                    raise InputError(f"{path}: study {quoted(self.name)} varies this setting among its arms")
        if seeds is not None:
            values["seeds"] = list(seeds)
        changed = type(self)(**values)
        if settings:
            _check_still_apart(self.arms(), changed.arms(), settings)
        return changed

    def topics(self) -> dict[str, tuple[str, ...]]:
        """Arms that belong together, by what they are about: the named arm they come from, or a setting that they vary.

        A setting is called by its last name (`augment`); the baseline is among its arms.
        """
        arms, found = self.arms(), dict[str, list[str]]()
        for arm in arms:
            words = [arm.family] if arm.family else [path.rpartition(".")[2] for path in arm.settings]
            for one in dict.fromkeys(words):
                found.setdefault(one, []).append(arm.name)
        baseline = "" if any(arm.family for arm in arms) else self.compare.baseline
        return {
            topic: tuple(arm.name for arm in arms if arm.name in (*names, baseline)) for topic, names in found.items()
        }

    def restricted(self, arms: Sequence[str]) -> Self:
        """This study with only some of its arms, and without the claims and published numbers that need the others."""
        known = [arm.name for arm in self.arms()]
        for name in arms:
            if name not in known:
                raise unknown("arm", name, known)
        values = self.model_dump(mode="json")
        values["only"] = [name for name in known if name in arms]
        values["inside"] = [name for name in self.inside if name in arms]
        kept = [{claim.left, claim.right} & {*known} <= {*arms} for claim in self.claims]
        values["claims"] = [claim for claim, keep in zip(values["claims"], kept, strict=True) if keep]
        values["published"] = [one for one in values["published"] if one["arm"] in arms]
        if isinstance(self.compare.baseline, str) and self.compare.baseline not in arms:
            values["compare"]["baseline"] = ""
        return type(self)(**values)


def _shortcut(arm: Arm) -> str | None:
    """The shortcut of an arm's network by its name; None of a kind of network that has no choice of it."""
    name: str | None = name_of(arm.config.model.model_dump(mode="json").get("shortcut"))
    return name


def _without_shortcut(arm: Arm) -> str:
    values = arm.config.model_dump(mode="json")
    return json.dumps({**values, "model": {**values["model"], "shortcut": None}}, sort_keys=True)


def label_of(cell: Mapping[str, Any]) -> str:
    """What a cell of the grid is called: its value on each axis."""
    return ", ".join(_label(path, value) for path, value in cell.items())


def _label(path: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        hidden = ("name", "code") if own.is_own(value.get("name")) else ("name",)
        rest = [f"{key}={_plain(inner)}" for key, inner in value.items() if key not in hidden]
        return " ".join([own.short(str(value.get("name", path))), *rest])
    if isinstance(value, list | tuple) and not value:
        return f"no {path.rpartition('.')[2]}"
    return f"{path.rpartition('.')[2]}={_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(_plain(item) for item in value)
    if isinstance(value, Mapping):
        return _label("", value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _changed(config: RunConfig, settings: Mapping[str, Any], places: Mapping[str, tuple[str | int, ...]]) -> RunConfig:
    """The configuration with settings changed; `places` says where in the study each of them stands."""
    try:
        return config.changed(settings)
    except InputError as error:
        path = _guilty(config, settings, str(error))
        raise StudyError((*places[path], path), error.text, error.remedies) from error


def _guilty(config: RunConfig, settings: Mapping[str, Any], message: str) -> str:
    """Which of several settings a message is about: one that fails alone, first among those it names."""
    for path in sorted(settings, key=lambda path: path not in message):  # what it names first
        try:
            config.changed({path: settings[path]})
        except InputError:
            return path
    return next((path for path in settings if path in message), next(iter(settings)))


def _check_still_apart(before: Sequence[Arm], after: Sequence[Arm], settings: Mapping[str, Any]) -> None:
    """Refuse settings that make two arms the same which were not: `model.depth=20` where arms are depths."""
    first: dict[str, Arm] = {}
    for arm, changed in zip(before, after, strict=True):
        other = first.setdefault(changed.config.model_dump_json(), arm)
        if other.config != arm.config:
            raise InputError(
                f"{', '.join(settings)}: arms {quoted(other.name)} and {quoted(arm.name)} would be the same"
            )


def _check(study: Study) -> None:
    """Everything in a study that can be wrong without the computing half.

    Raises:
        StudyError: the first thing that is.
    """
    if len({*study.seeds}) < len(study.seeds):
        raise StudyError(("seeds",), "a seed appears twice")
    _check_how_many(study)
    _checked_name(("base",), study.base, recipes.RECIPES, "recipe")
    _check_no_seed(("set",), study.settings)
    _check_no_seed(("axes",), study.axes)
    for path, values in study.axes.items():
        if not isinstance(values, list) or not values:
            raise StudyError(("axes", path), f"an axis is a list of values, not {quoted(values)}")
    names = [one.name for one in study.named]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise StudyError(("arms", number, "name"), f"there are two arms {quoted(name)}")
        if any(mark.strip() in name.split() for mark in (*OPERATORS, "/")):
            raise StudyError(("arms", number, "name"), f"{quoted(name)}: a name has no >, <, = or / between spaces")
    for number, one in enumerate(study.named):
        _check_no_seed(("arms", number, "set"), one.settings)
        for path in one.settings:
            if path in study.axes:
                raise StudyError(("arms", number, "set", path), f"{path} is an axis of the grid as well")
    every = study._all_arms()
    known = [arm.name for arm in every]
    same = next((name for name, count in Counter(known).items() if count > 1), None)
    if same is not None:
        raise StudyError(("axes",), f"two arms would both be called {quoted(same)}; name them with [[arms]]")
    for name in study.only:
        _checked_name(("only",), name, known, "arm")
    known = [name for name in known if not study.only or name in study.only]
    for name in study.inside:
        _checked_name(("inside",), name, known, "arm")
    said: dict[tuple[Any, ...], int] = {}
    for number, claim in enumerate(study.claims):
        place = ("claims", number)
        _checked_measure((*place, "measure"), claim.measure)
        try:
            sides = [claim.left, claim.right]
        except InputError as error:
            raise StudyError((*place, "expect"), str(error)) from error
        for side in sides:
            if isinstance(side, str):
                _checked_name((*place, "expect"), side, known, "arm")
        if sides[0] == sides[1]:
            raise StudyError((*place, "expect"), f"{quoted(sides[0])} is compared with itself")
        if claim.factor is not None:
            _check_factor((*place, "factor"), claim)
        elif claim.operator == "=" and claim.margin <= 0:
            raise StudyError((*place, "margin"), "with '=' the margin says what counts as equal: a number above 0")
        first = said.setdefault(claim.statement, number)
        if first < number:
            raise StudyError((*place, "expect"), f"claims[{first}] says the same; a claim may appear only once")
        if claim.text in (one.text for one in study.claims[:number]):
            raise StudyError((*place, "text"), "another claim has the same text, by which its verdict is told")
    check_claims(study, {arm.name: arm.config for arm in every if arm.name in known})
    for number, published in enumerate(study.published):
        if study.sources:
            _checked_name(("published", number, "source"), published.source, study.sources, "source")
        _checked_name(("published", number, "arm"), published.arm, known, "arm")
        _checked_measure(("published", number, "measure"), published.measure)
    _checked_measure(("compare", "measure"), study.compare.measure)
    baseline = study.compare.baseline
    if isinstance(baseline, str) and baseline:
        _checked_name(("compare", "baseline"), baseline, known, "arm")
    elif isinstance(baseline, Mapping):
        for path, value in baseline.items():
            _checked_name(("compare", "baseline", path), path, study.axes, "axis")
            if value not in study.axes[path]:
                values = ", ".join(json.dumps(other) for other in study.axes[path])
                raise StudyError(
                    ("compare", "baseline", path), f"{quoted(value)} is not on this axis, which has {values}"
                )
    if study.select == "validation":
        _check_unread(study)
    if study.search:
        _check_search(study, study.search)
    if study.tuned and (both := sorted({*study.seeds} & {*study.tuned.seeds})):
        text = f"with seed {both[0]} the settings were searched for: a verdict needs seeds that the search never saw"
        raise StudyError(("seeds",), text)


def _check_how_many(study: Study) -> None:
    """Refuse a grid that has no end, before its arms are made."""
    arms = max(1, len(study.named)) * prod(len(values) for values in study.axes.values() if isinstance(values, list))
    try:
        _check_runs(arms, 1)
        _check_runs(min(arms, len(study.only) or arms), len(study.seeds))
        if search := study.search:
            each = len(search.seeds) * search.trials
            _check_runs(1, each * (arms if search.tune_each_arm else 1))
    except ValueError as error:
        raise StudyError(("axes",) if study.axes else ("arms",) if study.named else ("seeds",), str(error)) from error


FIXED = ("data.dataset", "data.root", "data.subset", "data.validation", "monitor.", "save.", "compute.", SEED)
"""Settings that no search tries: with other ones its trials would not be judged alike, or nothing would change."""


def _check_search(study: Study, search: Search) -> None:
    """Check that a study can be searched, at the ends of every range and with every value.

    Raises:
        StudyError: it cannot.
    """
    if study.select == "validation":
        raise StudyError(("select",), "a search chooses by validation itself: leave select out")
    if study.tuned:
        raise StudyError(("tuned",), "the settings were searched for already")
    if study.name:
        try:
            word(f"{study.name}-tuned")
        except ValueError as error:
            raise StudyError(("name",), f"what the search finds is called after it, and {error}") from error
    if both := sorted({*study.seeds} & {*search.seeds}):
        raise StudyError(("search", "seeds"), f"seed {both[0]} is the study's as well, which needs fresh ones")
    if len({*search.seeds}) < len(search.seeds):
        raise StudyError(("search", "seeds"), "a seed appears twice")
    arms = study.arms()
    if not search.tune_each_arm and len(arms) > 1:
        text = f"the study has {len(arms)} arms: with tune_each_arm = true each is searched for"
        raise StudyError(("search", "tune_each_arm"), text)
    if any(arm.family for arm in arms):
        raise StudyError(("search", "tune_each_arm"), "arms are named, or cells of axes, and not both")
    if search.tune_each_arm and not isinstance(study.compare.baseline, str):
        raise StudyError(("compare", "baseline"), "of arms that are searched for it is the name of one")
    if study.named and not study.axes and len(arms) == 1 and study.claims:
        raise StudyError(("claims", 0), "the study has one arm; what the search finds is claimed against it")
    for path, values in search.space.items():
        place = ("search", "space", path)
        if path.startswith(FIXED):
            raise StudyError(place, f"{path} decides how trials are judged, and stays as it is")
        if path == "train.epochs" and search.prune:
            raise StudyError(place, "runs of other lengths are not pruned by their epochs: leave prune out")
        for arm in arms:
            if path in arm.settings:
                raise StudyError(place, f"{path} sets arm {quoted(arm.name)} apart")
            for value in outermost(values):
                _changed(arm.config, {path: value}, {path: place[:-1]})
    for arm in arms:
        if not arm.config.data.validation:
            raise StudyError(
                ("search",), f"arm {quoted(arm.name)} holds no images out to be judged by: set data.validation"
            )


def _check_factor(place: tuple[str | int, ...], claim: Claim) -> None:
    """Refuse a factor of what is not compared by ratio, beside a margin, or one that says nothing."""
    if not measure(claim.measure).is_time:
        raise StudyError(place, f"{claim.measure} is no time, of which a factor is; give a margin")
    if claim.margin:
        raise StudyError(place, "a claim has a margin or a factor, not both")
    if claim.operator == "=" and claim.factor is not None and claim.factor <= 1:
        raise StudyError(place, "with '=' the factor says what counts as equal: a number above 1")


def _check_unread(study: Study) -> None:
    """Check that a study which chooses an arm by validation can do so, and asks nothing of the test set before.

    Raises:
        StudyError: it cannot, or does.
    """
    why = "which select = 'validation' leaves unread until an arm is chosen"
    places: dict[tuple[str | int, ...], Settings] = {("set",): study.settings, ("axes",): study.axes}
    places |= {("arms", number, "set"): one.settings for number, one in enumerate(study.named)}
    for place, settings in places.items():
        for path in READS_TEST:
            if path in settings:
                raise StudyError((*place, path), f"{path} is about the test set, {why}")
    if study.inside:
        raise StudyError(("inside",), f"what a network knows is shown on the test set, {why}")
    for arm in study.arms():
        if not arm.config.data.validation:
            raise StudyError(
                ("select",), f"arm {quoted(arm.name)} holds no images out to be judged by: set data.validation"
            )
    asked: list[tuple[tuple[str | int, ...], str]] = [(("compare", "measure"), study.compare.measure)]
    asked += [(("claims", number, "measure"), claim.measure) for number, claim in enumerate(study.claims)]
    for place, name in asked:
        if other := measure(name).held_out:
            raise StudyError(place, f"{quoted(name)} is of the test set, {why}; did you mean {quoted(other)}?")
    if not study.compare.baseline and not study.only:
        raise StudyError(("compare", "baseline"), "the chosen arm is held against a baseline: name an arm")


def check_claims(study: Study, configs: Mapping[str, RunConfig]) -> None:
    """Check that no claim is between two arms that are the same run; `configs` has every arm's configuration.

    Raises:
        StudyError: one is.
    """
    for number, claim in enumerate(study.claims):
        if isinstance(claim.right, str) and identity(configs[claim.left]) == identity(configs[claim.right]):
            text = f"{quoted(claim.left)} and {quoted(claim.right)}: the two arms are the same run"
            raise StudyError(("claims", number, "expect"), text)


def _check_no_seed(place: tuple[str | int, ...], settings: Mapping[str, Any]) -> None:
    if SEED in settings:
        raise StudyError((*place, SEED), "all arms have the same seeds: give them as the 'seeds' of the study")


def _checked_name(place: tuple[str | int, ...], name: str, known: Any, kind: str) -> None:
    if name not in known:
        raise StudyError(place, str(unknown(kind, name, known)))


def _checked_measure(place: tuple[str | int, ...], name: str) -> None:
    try:
        measure(name)
    except InputError as error:
        raise StudyError(place, str(error)) from error


def _first(error: ValidationError, model: type[BaseModel]) -> InputError:
    """The first problem that pydantic found, with its place in the words of the file."""
    # A misspelt key is also a missing one: the former says more.
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    place: list[str | int] = [
        part for part in problem["loc"] if not re.match(r"(str|int|float)$|dict\[|function-", str(part))
    ]
    if problem["type"] == "extra_forbidden":
        part: Any = model
        for name in place[:-1]:
            # A number in a list and a name in a table of tables (`sources`) are no fields.
            field = next((f for key, f in part.model_fields.items() if name in (key, f.alias)), None)
            part = next(kind for kind in _models(field.annotation)) if field else part
        known = [field.alias or key for key, field in part.model_fields.items()]
        key, meant = str(place[-1]), MEANT.get(str(place[-1]))
        text = (
            f"unknown key {quoted(key)}; did you mean {quoted(meant)}?"
            if meant in known
            else str(unknown("key", key, known))
        )
        return StudyError(place, text)
    if place == ["seeds"] and problem["type"] != "value_error":
        return StudyError(place, "a count of at least 1, or a list of whole numbers from 0 on")
    if problem["type"] == "tuple_type" and isinstance(problem["input"], dict):
        return StudyError(place, f"there may be several, so each is written under [[{place[-1]}]]")
    return StudyError(place, describe(problem))


def _models(annotation: Any) -> list[Any]:
    """The models within an annotation such as `tuple[Claim, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models(inner)]

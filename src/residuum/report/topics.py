"""Topics of a study: arms that differ in the same thing, what that is, and what these runs say about it.

Everything here is a plain value or a sentence made of numbers; no sentence says more than its verdict.
"""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from residuum import own
from residuum.analysis.claims import Verdict
from residuum.analysis.compare import Comparison
from residuum.analysis.estimate import LEVEL, p_is
from residuum.analysis.results import Results
from residuum.config import RunConfig, described_settings
from residuum.data.augment import AUGMENTATIONS
from residuum.data.mix import MIXES
from residuum.data.normalize import NORMALIZERS
from residuum.errors import tally
from residuum.models import MODELS
from residuum.models.families.resnet import SETTINGS
from residuum.optim import LOSSES, OPTIMIZERS, PENALTIES, SCHEDULES
from residuum.records.measures import measure
from residuum.registry import Choice, Table
from residuum.report import own_code, tables

SHAPE = re.compile(r"(?<=[a-z])_[A-Z]+\b")
"""What names in a docstring say of shapes: `labels_B` are labels to whom reads a report."""
MOST = 5
"""Arms in one frame of curves."""

TABLES: Mapping[str, Table[Any]] = {
    "data.normalize": NORMALIZERS, "data.augment": AUGMENTATIONS, "data.mix": MIXES, "optim.optimizer": OPTIMIZERS,
    "optim.schedule": SCHEDULES, "optim.loss": LOSSES, "optim.penalties": PENALTIES, "model": MODELS,
}  # fmt: skip
"""The tables that settings of a run choose from."""
TITLES = {
    "data.normalize": "Normalisation of the input", "data.augment": "Augmentation", "data.mix": "Mixing of images",
    "data.subset": "Number of training images", "optim.lr": "Learning rate", "optim.schedule": "Learning rate",
    "optim.warmup": "Learning rate", "optim.warmup_start": "Learning rate", "optim.optimizer": "Optimizer",
    "optim.loss": "Loss", "optim.weight_decay": "Regularisation", "optim.penalties": "Regularisation",
    "optim.clip_norm": "Clipping of gradients", "optim.ema": "Averaged weights", "train.batch_size": "Batch size",
    "train.epochs": "Length of training",
}  # fmt: skip
"""What a topic is called by the setting in which its arms differ; of a network the setting's own name."""
WHERE = ("data.root", "data.fingerprint", "train.seed", "train.micro_batch")
"""Settings that set no arm apart: where data lies, and what is the same within every arm."""


@dataclass(frozen=True)
class Topic:
    """Arms that differ in the same settings: `paths` are these, dotted, `baseline` is what each is held against.

    The baseline stands first among the `arms`, where there is one. `configs` are those of the arms, resolved. Of a grid
    `groups` are the arms that differ in nothing but the topic, each held against the others of its group, and `apart`
    are the settings that set one group apart from another.
    """

    title: str
    paths: tuple[str, ...]
    arms: tuple[str, ...]
    baseline: str
    configs: Mapping[str, RunConfig]
    groups: tuple[tuple[str, ...], ...] = ()
    apart: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """The arms in frames of at most five, with the baseline in each; of a grid, a group with its first in each."""
        if self.groups:
            return tuple((group[0], *group[at : at + MOST - 1])
                         for group in self.groups for at in range(1, len(group), MOST - 1))  # fmt: skip
        others = [arm for arm in self.arms if arm != self.baseline]
        room = MOST - bool(self.baseline)
        kept = (self.baseline,) if self.baseline else ()
        return tuple((*kept, *others[at : at + room]) for at in range(0, len(others), room)) or (self.arms,)


def topics(results: Results) -> tuple[Topic, ...]:
    """The topics of a study in the order of its arms; every arm but the baseline is in one of them.

    A topic is the arms of one family, where a study has named arms and axes; else those that differ from the baseline
    in the same kind of setting, or in a grid of several kinds, as depth and shortcut, those that differ in one of them
    alone. Without a baseline all arms are one topic.
    """
    plan = results.plan
    configs = {arm: runs[0].config for arm, runs in plan.runs_of.items() if runs}
    asked = plan.study.compare.baseline
    baseline = asked if isinstance(asked, str) and asked in configs else ""
    if baseline and not any(arm.family for arm in plan.arms) and (grid := _grid(configs, baseline)):
        return grid
    members: dict[str, list[str]] = {}
    for arm in plan.arms:
        if arm.name != baseline and arm.name in configs:
            differing = _differing(configs[baseline], configs[arm.name]) if baseline else ()
            members.setdefault(arm.family or _title(differing), []).append(arm.name)
    if not members:  # the baseline alone
        members = {"": [arm for arm in configs if arm != baseline]}
    made = []
    for title, names in members.items():
        held = baseline if baseline not in names else ""
        arms = ((held,) if held else ()) + tuple(names)
        paths = dict.fromkeys(path for one in arms for path in _differing(configs[arms[0]], configs[one]))
        found = {arm: configs[arm] for arm in arms}
        made.append(Topic(title or _title(tuple(paths)) or "The network", tuple(paths), arms, held, found))
    return tuple(made)


def _grid(configs: Mapping[str, RunConfig], baseline: str) -> tuple[Topic, ...]:
    """The topics of arms that differ from the baseline in several kinds of setting; none unless each has a group."""
    fields = {arm: _fields(config) for arm, config in configs.items()}
    paths = [path for path in dict.fromkeys(path for one in fields.values() for path in one)
             if any(one.get(path) != fields[baseline].get(path) for one in fields.values())]  # fmt: skip
    kind = {path: _title((path,)) for path in paths}
    mixed = [arm for arm, one in configs.items() if len({kind[at] for at in _differing(configs[baseline], one)}) > 1]
    if "model" in paths:  # whole families differ in everything
        return ()
    made = []
    for title in dict.fromkeys(kind.values()):
        groups: dict[str, list[str]] = {}
        for arm, values in fields.items():
            groups.setdefault(repr([values.get(path) for path in paths if kind[path] != title]), []).append(arm)
        kept = tuple(tuple(group) for group in groups.values() if len(group) > 1)
        arms = tuple(arm for group in kept for arm in group)
        own = tuple(path for path in paths if kind[path] == title)
        apart = tuple(path for path in paths if path not in own) if len(kept) > 1 else ()
        made.append(Topic(title, own, arms, "", {arm: configs[arm] for arm in arms}, kept, apart))
    made = [topic for topic in made if topic.groups]
    placed = [arm for arm in mixed if sum(arm in topic.arms for topic in made) > 1]
    every = {arm for topic in made for arm in topic.arms} == {*configs}
    return tuple(made) if every and mixed and 2 * len(placed) >= len(mixed) else ()


def _differing(one: RunConfig, other: RunConfig) -> tuple[str, ...]:
    """The settings in which two resolved configurations differ: of a network each by itself, others whole."""
    first, second = (_fields(config) for config in (one, other))
    return tuple(path for path in dict.fromkeys((*first, *second)) if first.get(path) != second.get(path))


def _fields(config: RunConfig) -> dict[str, Any]:
    values = config.model_dump(mode="json")
    found = {f"{section}.{name}": value for section in ("data", "optim", "train")
             for name, value in values[section].items() if f"{section}.{name}" not in WHERE}  # fmt: skip
    network = {"model" if name == "name" else f"model.{name}": value for name, value in values["model"].items()}
    return {**network, **found}


def _title(paths: Sequence[str]) -> str:
    if any(path == "model" for path in paths):
        paths = ["model", *(path for path in paths if not path.startswith("model."))]
    words = dict.fromkeys(
        TITLES.get(path) or ("Network" if path == "model" else path.rpartition(".")[2].replace("_", " ").capitalize())
        for path in paths
    )
    first, *rest = words or [""]
    return " and ".join([first, *(word[:1].lower() + word[1:] for word in rest)])


def value_of(config: RunConfig, path: str) -> Any:
    """The value of a setting as `_differing` names it; a dash where the network has no such setting."""
    return _fields(config).get(path, tables.NOTHING)


def changed(topic: Topic) -> list[str]:
    """What each arm of a topic has in place of the others: its settings on what the topic is about."""
    found = []
    for arm, config in topic.configs.items():
        values = ((path, value_of(config, path)) for path in (*topic.apart, *telling(topic)))
        # An arm of another network lacks what only the others have.
        there = [f"{path} = {_shown(path, value)}" for path, value in values if value != tables.NOTHING]
        found.append(f"{arm}: {'; '.join(there) or 'the baseline alone'}")
    return found


def telling(topic: Topic) -> tuple[str, ...]:
    """The settings of a topic less those of networks that are as usual in every arm that has them.

    Where whole networks differ, one lacks what another has: what all of these leave as it is says nothing of it.
    """
    return tuple(path for path in topic.paths if not path.startswith("model.") or _tells(topic, path))


def _tells(topic: Topic, path: str) -> bool:
    there = [(config, value) for config in topic.configs.values()
             if (value := value_of(config, path)) != tables.NOTHING]  # fmt: skip
    return len({repr(value) for _, value in there}) > 1 or any(_usual(config, path) != value for config, value in there)


def _usual(config: RunConfig, path: str) -> Any:
    """The default of a setting of a network, as a configuration has it; a dash of own code, which is not run here."""
    if own.is_own(config.model.name):
        return tables.NOTHING
    setting = MODELS.settings(config.model.name)[path.removeprefix("model.")]
    return _plain(setting.table.resolve(setting.default) if setting.table else setting.default)


def _shown(path: str, value: Any) -> str:
    """A value as a table shows it, a choice with those of its settings alone that are not the usual ones."""
    value = own.readable(value)
    if isinstance(value, str) and own.HASH.fullmatch(value):
        return value[:12]
    if isinstance(value, list):
        return "[" + ", ".join(_shown(path, one) for one in value) + "]"
    table = _table(path, None)
    if isinstance(value, dict) and table is not None and value.get("name") in table.builders:
        usual = {name: setting.default for name, setting in table.settings(value["name"]).items()}
        value = {key: one for key, one in value.items() if key == "name" or _plain(usual.get(key)) != _plain(one)}
    return tables.shown(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Choice):
        value = value.model_dump(mode="json")
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _table(path: str, config: RunConfig | None) -> Table[Any] | None:
    if path in TABLES or config is None or not path.startswith("model."):
        return TABLES.get(path)
    setting = MODELS.settings(config.model.name).get(path.removeprefix("model."))
    return setting.table if setting else None


def meaning(topic: Topic, code: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """A sentence on every setting of a topic and on every choice that an arm makes there, from where it is defined.

    `code` has the texts of own code by their hash, of which the docstring is told.
    """
    texts = {path: text for path, _, text in described_settings(RunConfig)}
    built_in = any(config.model.name in MODELS for config in topic.configs.values())
    texts |= {f"model.{name}": text for name, text in SETTINGS.items() if built_in}
    found: dict[str, None] = {}
    for path in telling(topic):
        if path in texts:
            found[f"{path} sets {'' if texts[path].startswith(CLAUSES) else 'the '}{texts[path].replace('`', '')}."] = (
                None
            )
        for config in topic.configs.values():
            value, table = value_of(config, path), _table(path, config)
            for one in value if isinstance(value, list) else [value]:
                name = one.get("name") if isinstance(one, dict) else one
                if table is None or not isinstance(name, str):
                    continue
                if name in table.builders:
                    found[_sentence(table, name)] = None
                elif own.is_own(name):
                    digest = one["code"] if isinstance(one, dict) else value_of(config, "model.code")
                    found[own_code.described(table.kind, name, code.get(digest, ""))] = None
    return list(found)


CLAUSES = ("whether ", "where ", "how ", "what ")
"""How a description of a setting begins that needs no article."""
SAYS = {
    "normalisation": "With the normalisation “{}” the network sees",
    "augmentation": "With the augmentation “{}” training sees",
    "mixing": "With the mixing “{}” training sees", "schedule": "Under the schedule “{}” the learning rate is",
    "block": "The block “{}” has",
}  # fmt: skip
"""How a sentence begins on a member of these tables, whose docstring, a phrase, ends it; else it says what that is."""
NAMES = ("Adadelta", "Adagrad", "Adam", "He", "Muon", "Swish")
"""Words that begin a docstring and are written with a capital within a sentence as well."""


def _sentence(table: Table[Any], name: str) -> str:
    """What a member of a table is or does, in a sentence made of its docstring's first paragraph."""
    paragraph = (inspect.getdoc(table.builder(name)) or "").partition("\n\n")[0]
    words = " ".join(SHAPE.sub("", paragraph.replace("`", "")).split()).rstrip(".")
    if not words:
        return f"The {table.kind} “{name}” has no description."
    first, rest = words[:1], words[1:]
    word = re.split(r"\W", words, maxsplit=1)[0]
    if word not in NAMES and word[1:] == word[1:].lower():
        first = first.lower()
    begins = SAYS.get(table.kind, f"The {table.kind} “{{}}” is").format(name)
    if word == "Applies":  # torch's, which say what they do
        begins = begins.removesuffix(" is")
    return f"{begins} {first}{rest}."


def numbers(results: Results, topic: Topic) -> tables.Table:
    """Test loss and test accuracy of the arms of a topic, mean over seeds ± half the 95 % interval; and n.

    On validation images where the test set is unread, and what the study compares where that is neither.
    """
    held = "test" if results.selection is None else "validation"
    names = [f"{held}_loss", f"{held}_accuracy"]
    compared = results.plan.study.compare.measure
    if compared not in (*names, f"{held}_error"):
        names.append(compared)
    names = [name for name in names if name in results.summaries] or [compared]
    rows = []
    for arm in topic.arms:
        stands = [tables.status(results, run) for run in results.plan.runs_of[arm]]
        lost = [f"{stands.count(word)} {word}" for word in tables.STATUSES[1:] if word in stands]
        first = tables.of_arm(results, names[0], arm)
        rows.append((arm, *(tables.spread(tables.of_arm(results, name, arm), tables.digits(name)) for name in names),
                     str(first.n if first else 0), ", ".join(lost) or tables.NOTHING))  # fmt: skip
    heads = tuple(tables.heading(name) for name in names)
    return tables.filled(tables.Table(("arm", *heads, "n", "without result"), tuple(rows), (*heads, "n")))


def sentences(results: Results, topic: Topic) -> list[str]:
    """What the comparisons of a topic's arms say, each in a sentence that claims no more than its p-value allows."""
    return [compared(one) for one in results.comparisons
            if one.arm != topic.baseline and _together(topic, {one.arm, one.baseline})]  # fmt: skip


def _together(topic: Topic, arms: set[str]) -> bool:
    """Whether arms stand in a topic, and beside each other where it has groups."""
    return any(arms <= {*group} for group in topic.groups or (topic.arms,))


def compared(one: Comparison) -> str:
    """A comparison in a sentence; a difference is only said to be there where its corrected p-value is below 5 %."""
    what, places = measure(one.measure).shown, tables.digits(one.measure)
    if one.mean is None:
        return f"{one.arm} against {one.baseline}: no difference in {what} can be given{_because(one.note)}."
    unit = "%" if one.in_percent else unit_of(one.measure)
    size, signed = tables.number(abs(one.mean), places), tables.number(one.mean, places, "+")
    rest = f"{tally(one.n, 'pair')} of the same seed" if one.paired else f"n = {one.n}"
    if one.low is not None and one.high is not None:
        low, high = one.low, one.high
        if not one.in_percent:
            low, high = measure(one.measure).possible(low, high, of_difference=True)
        rest = f"95 % interval {tables.interval(low, high, places, '+')}; {rest}"
    if one.p_holm is not None:
        rest += f"; {p_is(one.p_holm)} after correction"
    if one.family == "exploratory":
        rest += "; exploratory: no claim was made of it"
    if one.p_holm is not None and one.p_holm < 1 - LEVEL:
        way = "above" if one.mean > 0 else "below"
        return f"The {what} of {one.arm} is {f'{size} {unit}'.strip()} {way} that of {one.baseline} ({rest})."
    if one.p_holm is None:
        rest += _because(one.note)
    return (f"These runs do not tell the {what} of {one.arm} from that of {one.baseline}: the difference is "
            f"{f'{signed} {unit}'.strip()} ({rest}).")  # fmt: skip


def unit_of(name: str) -> str:
    """The unit of a difference of a measure: points of a percentage, none of counts, shares and ratios."""
    unit = measure(name).unit
    return {"%": "points", "share": "", "ratio": "", "count": ""}.get(unit, unit)


def _because(note: str) -> str:
    return f"; {note}" if note else ""


def about(results: Results, topic: Topic) -> list[Verdict]:
    """The verdicts on claims whose arms, the study's baseline aside, are all in a topic; two of them in a grid."""
    least = 2 if topic.groups else 1
    return [one for one in results.verdicts
            if len(own := _arms_of(one, topic.baseline)) >= least and _together(topic, own)]  # fmt: skip


def elsewhere(results: Results, every: Sequence[Topic]) -> list[Verdict]:
    """The verdicts on claims that belong to no single topic."""
    told = [one for topic in every for one in about(results, topic)]
    return [one for one in results.verdicts if one not in told]


def _arms_of(one: Verdict, baseline: str) -> set[str]:
    return {side for side in (one.claim.left, one.claim.right) if isinstance(side, str)} - {baseline}


def verdict_text(results: Results, one: Verdict) -> str:
    """A claim with its verdict, in the verdict's own words."""
    said = {
        "supported": "These runs support it",
        "contradicted": "These runs contradict it",
        "undecided": "These runs do not decide it, which is no evidence against it",
    }[one.verdict]
    on = results.rests_on(one)
    reason = re.sub(r"(?<![\w-])-(?=\d)", "−", one.reason.rstrip("."))
    return (f"“{one.claim.text}” (expected: {one.claim.formula}, {measure(one.claim.measure).shown}). {said}: "
            f"{reason}. What this stands on: {on}.")  # fmt: skip


def troubles(results: Results, topic: Topic) -> Iterator[str]:
    """Which runs of a topic's arms came to no number, and how."""
    for arm in topic.arms:
        stands = [tables.status(results, run) for run in results.plan.runs_of[arm]]
        for word, text in (("diverged", "diverged: the loss or the gradient was no longer finite"),
                           ("failed", "failed"), ("missing", "was not computed")):  # fmt: skip
            if count := stands.count(word):
                plural = text.replace("was ", "were ") if count > 1 and word == "missing" else text
                yield f"{count} of {tally(len(stands), 'run')} of {arm} {plural}."

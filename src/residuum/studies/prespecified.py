"""Prespecified: what a study promised before its first run, and when its results were read. Both lie beside its plan.

    prespecified.json   written once, before the first run, with its hash
    readings.jsonl      one row for each reading of the verdicts at another number of seeds, only ever added to

What is claimed later, or in another way, is exploratory; seeds that are added after a reading are an unplanned look.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from residuum.config import RunConfig
from residuum.errors import InputError, StorageError, quoted, tally
from residuum.records import rows, storage
from residuum.records.environment import environment
from residuum.studies.plan import PLAN, Plan, folder_of, is_complete, made_folder
from residuum.studies.study import Claim, Study

PRESPECIFIED, READINGS = "prespecified.json", "readings.jsonl"
FAMILY = "Holm, all claims, 5 %"
"""The family of tests that share one correction, in words, as the record has it."""
APART = ("data.root", "data.fingerprint", "train.seed", "compute.", "monitor.", "save.")
"""Settings that make an arm no other one: where it is computed, what is watched, and the seed, which all share."""


@dataclass(frozen=True)
class Prespecified:
    """What a study promised before its first run.

    `select` says by what an arm is chosen, `comparisons` are pairs of arm and baseline on `measure`, `arms` the
    settings of each arm that are not the default, `looks` the numbers of seeds of planned looks (empty: one test at the
    end), `version` that of the code, `complete` how many of the runs were there already, computed for something else,
    `known` the arms of which all were, and `had` the seeds of each arm of which the run was.
    """

    time: str
    version: str
    claims: tuple[Claim, ...]
    family: str
    select: str
    comparisons: tuple[tuple[str, str], ...]
    measure: str
    pair_by: str
    arms: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    looks: tuple[int, ...]
    complete: int
    known: tuple[str, ...] = ()
    had: Mapping[str, Sequence[int]] = field(default_factory=dict)
    hash: str = ""


@dataclass(frozen=True)
class Reading:
    """One reading of a study's verdicts, at so many seeds; `planned` at a look of `--until-decided`."""

    time: str
    seeds: tuple[int, ...]
    planned: bool


def prespecify(plan: Plan, runs: Path, looks: Sequence[int] = ()) -> None:
    """Record what a plan promises, unless its study was begun already: then it is too late, or stands there."""
    folder, study = folder_of(runs, plan.label), plan.study
    if any(path.exists() for path in (folder / PRESPECIFIED, folder / PLAN)):
        return
    arms = study.arms()
    pairs = ((arm.name, baseline.name) for arm in arms if (baseline := study.baseline_of(arm, arms)))
    here = environment()
    had = {arm: [run.seed for run in of if is_complete(run, runs)] for arm, of in plan.runs_of.items()}
    values: dict[str, Any] = {
        "time": here["time"],
        "version": here["packages"]["residuum"],
        "claims": [claim.model_dump(mode="json") for claim in study.claims],
        "family": FAMILY,
        "select": study.select,
        "comparisons": list(pairs),
        "measure": study.compare.measure,
        "pair_by": study.compare.pair_by,
        "arms": _arms(study),
        "seeds": list(study.seeds),
        "looks": list(looks),
        "complete": sum(map(len, had.values())),
        "known": [arm for arm, seeds in had.items() if len(seeds) == len(plan.runs_of[arm])],
        "had": {arm: seeds for arm, seeds in had.items() if seeds},
    }
    storage.write_json(made_folder(runs, plan.label) / PRESPECIFIED, {**values, "hash": digest(values)})


def digest(values: Mapping[str, Any]) -> str:
    """The first 12 digits of the SHA-256 of values as canonical JSON: keys in order, no spaces."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:12]


def read(folder: Path) -> Prespecified | None:
    """What was recorded in the folder of a study; None where it was begun before there were such records.

    Raises:
        InputError: the record is damaged, or was changed since.
    """
    path = folder / PRESPECIFIED
    if not path.exists():
        return None
    values = storage.read_json(path)
    try:
        found = values.pop("hash")
        if digest(values) != found:
            raise InputError(f"{path.name} was changed since it was written: its hash is {digest(values)}, not {found}")
        return Prespecified(
            **{
                **values,
                "claims": tuple(Claim(**claim) for claim in values["claims"]),
                "comparisons": tuple((arm, baseline) for arm, baseline in values["comparisons"]),
                "seeds": tuple(values["seeds"]),
                "looks": tuple(values["looks"]),
                "known": tuple(values.get("known", ())),
            },
            hash=found,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path.name} is damaged: {error}") from error


def _arms(study: Study) -> dict[str, dict[str, Any]]:
    """The settings of every arm that decide its numbers and are not the default."""
    usual = RunConfig().settings()
    return {
        arm.name: {
            path: value
            for path, value in arm.config.settings().items()
            if not path.startswith(APART) and (path not in usual or usual[path] != value)
        }
        for arm in study.arms()
    }


def exploratory(study: Study, said: Prespecified | None, read: Sequence[int] = ()) -> tuple[str, ...]:
    """For each claim of a study, why it is exploratory; empty for one that was promised just so.

    `read` are the seeds at which verdicts were read: whoever leaves one out afterwards may have chosen it by what it
    showed. Nothing is exploratory where nothing was recorded (`said` is None): there the report says that once for all.
    """
    if said is None:
        return ("",) * len(study.claims)
    if gone := sorted({*read} - {*study.seeds}):
        which = f"seed{'s' * (len(gone) > 1)} {', '.join(map(str, gone))}"
        return (f"{which} left out after the verdicts were read",) * len(study.claims)
    arms = json.loads(json.dumps(_arms(study)))  # as a file has them
    return tuple(_why(claim, study, said, arms) for claim in study.claims)


def _why(claim: Claim, study: Study, said: Prespecified, arms: Mapping[str, Any]) -> str:
    if any(one.statement == claim.statement for one in said.claims):
        other = [name for name in _sides(claim) if said.arms.get(name) != arms.get(name)]
        if other:
            return f"promised of another arm {quoted(other[0])}: its settings have changed since"
        if said.pair_by != study.compare.pair_by:
            return f"promised with pair_by = {quoted(said.pair_by)}"
        if _sides(claim) <= {*said.known}:
            return "claimed when all its runs were there already"
        there = set.intersection(*({*said.had.get(name, ())} for name in _sides(claim)))
        return f"claimed when its runs of {tally(len(there), 'seed')} were there already" if there else ""
    before = _counterpart(claim, study, said)
    if before is not None:
        return f"promised otherwise: {stated(before)}"
    compared = claim.measure == said.measure and any({*pair} == _sides(claim) for pair in said.comparisons)
    return "claimed after the first run" + (", until then a comparison" if compared else "")


def _counterpart(claim: Claim, study: Study, said: Prespecified) -> Claim | None:
    """The promised claim that a claim which was not promised stands for: of its text, or of its arms and measure."""
    kept = {one.statement for one in study.claims}
    gone = [one for one in said.claims if one.statement not in kept]
    alike = ([one for one in gone if one.text == claim.text],
             [one for one in gone if (_sides(one), one.measure) == (_sides(claim), claim.measure)])  # fmt: skip
    return next((one for found in alike for one in found), None)


def _sides(claim: Claim) -> set[str]:
    return {claim.left} | ({claim.right} if isinstance(claim.right, str) else set())


def stated(claim: Claim) -> str:
    """What a claim expects, in one line."""
    margin = f", margin {claim.margin:g}" if claim.margin else ""
    margin += f", factor {claim.factor:g}" if claim.factor is not None else ""
    return f"{claim.expect}{margin} ({claim.measure.replace('_', ' ')})"


def dropped(study: Study, said: Prespecified | None) -> tuple[Claim, ...]:
    """The promised claims that a study no longer makes, whether others stand in their place or none."""
    kept = {one.statement for one in study.claims}
    return tuple(one for one in said.claims if one.statement not in kept) if said else ()


def note_reading(plan: Plan, runs: Path, *, planned: bool) -> None:
    """Record that the verdicts of a plan are read now, unless the last reading was of the same seeds.

    A folder that cannot be written is left as it is: reading must not fail for that.
    """
    path, seeds = folder_of(runs, plan.label) / READINGS, plan.study.seeds
    with suppress(OSError, StorageError):
        last = readings(path.parent)[-1:]
        if last and (last[0].seeds, last[0].planned) == (seeds, planned):
            return
        time = datetime.now(UTC).isoformat(timespec="seconds")
        rows.append(path, {"time": time, "seeds": list(seeds), "planned": planned})


def readings(folder: Path) -> tuple[Reading, ...]:
    """The readings of a study, the first one first; a damaged row is one that was not planned, of no known seeds."""
    found, path = [], folder / READINGS
    try:
        there = [*rows.each(path)]
        if rows.is_torn(path):
            there.append(InputError(f"{path} is damaged: its last row was cut"))
    except InputError as error:  # as one row, which nobody can read
        there = [error]
    for row in there:
        try:
            values = {} if isinstance(row, InputError) else row
            found.append(Reading(str(values["time"]), tuple(values["seeds"]), bool(values["planned"])))
        except (KeyError, TypeError):
            found.append(Reading("unknown", (), planned=False))
    return tuple(found)


def unplanned(found: Sequence[Reading], seeds: Sequence[int], *, looked: bool) -> tuple[Reading, ...]:
    """The readings that were no planned looks and were of other seeds than there are now, each set of seeds once.

    `looked`: the study is judged by its looks. Where it is not, or no more, looks were readings like all others.
    """
    others: dict[frozenset[int], Reading] = {}
    for one in found:
        if not (one.planned and looked) and {*one.seeds} != {*seeds}:
            others.setdefault(frozenset(one.seeds), one)
    return tuple(others.values())

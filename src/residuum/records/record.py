"""RunRecord: everything that a run left behind, read back as plain values."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from residuum import own
from residuum.config import READABLE, UNCOUNTED, RunConfig
from residuum.errors import LINE, InputError, Remedy, quoted
from residuum.networks.names import short_name
from residuum.records import mirror, outcome, rows, run_folder, shown, storage
from residuum.records.event import EpochDone, NoiseSeen
from residuum.records.facts import FACTS, DataFacts, Start
from residuum.records.outcome import Kept, Outcome, Scored

if TYPE_CHECKING:
    from residuum.records.layers import Layers

RUNS = Path("runs")
"""Where run folders lie unless another place is named."""
EPOCH, NOISE = TypeAdapter(EpochDone), TypeAdapter(NoiseSeen)


@dataclass(frozen=True)
class RunRecord:
    """One run: what was asked (`config`), where it ran, what happened epoch by epoch, what came out.

    `status` is `finished` or `diverged` once the result is there, `imported` for weights from elsewhere,
    `running` while a process works on it, `failed` where it ended in an error, which `failure` says, `pruned` where a
    search stopped it, and `stopped` otherwise. `result` is None until the run is complete, `data` until it has begun,
    and `environment` has one entry for each time that it was started or resumed.
    `damaged` has one line for each epoch that is not in `epochs` because its row cannot be read any more.
    """

    id: str
    folder: Path
    recipe: str
    status: str
    config: RunConfig
    environment: tuple[Start, ...]
    data: DataFacts | None
    epochs: tuple[EpochDone, ...]
    result: Outcome | None
    damaged: tuple[str, ...] = ()
    failure: str = ""

    @property
    def test_reads(self) -> int:
        """How often the images of the test set were read, evaluations after the run included."""
        return max(run_folder.count_test_reads(self.folder), self.result.test_reads if self.result else 0)

    def steps(self) -> list[dict[str, Any]]:
        """One row an update: step, learning rate, loss, gradient norm, hash of the image order.

        Raises:
            InputError: a row is damaged or lost.
        """
        path = self.folder / run_folder.STEPS
        found = rows.read_rows(path)
        if self.result and len(found) < self.result.steps:
            raise InputError(f"{path} has {len(found)} rows of {self.result.steps}: the others are lost")
        return found

    def lost_weights(self, saved: int) -> str:
        """That the newest saved state, of epoch `saved`, is not that of a finished run's last epoch; empty if it is."""
        lost = self.result is not None and self.status == "finished" and saved != self.result.epochs
        return f"has lost the weights of its last epoch, {self.result.epochs}" if lost and self.result else ""

    def blind(self) -> RunRecord:
        """This record without anything that it says of the test images, for those who must not know yet."""
        epochs = tuple(replace(row, test=None) for row in self.epochs)
        return replace(self, epochs=epochs, result=self.result.blind() if self.result else None)

    @property
    def facts(self) -> DataFacts:
        """What is known of the data.

        Raises:
            InputError: the run has not begun, or its record of the data is gone.
        """
        if self.data is None:
            raise InputError(f"{self.folder / run_folder.DATA} is missing")
        return self.data

    def scored(self, which: Kept) -> Scored | None:
        """What the weights of the last or of the selected epoch came to; None where nothing was scored."""
        return self.result.of(which) if self.result else None

    def _repr_html_(self) -> str:
        """The run in a notebook."""
        config, rows = self.config, [("status", self.status)]
        rows.append(("network", short_name(config.model)))
        rows.append(("data", config.data.dataset.name))
        rows.append(("recipe, seed", f"{self.recipe or '–'}, {config.train.seed}"))
        rows.append(("epochs", f"{len(self.epochs)} of {config.train.epochs}"))
        for which, scored in (("last", self.scored("last")), ("selected", self.scored("selected"))):
            if scored and (test := scored.test):
                text = f"loss {test.loss:.3f}, accuracy {test.accuracy:.2%} (epoch {scored.epoch})"
                rows.append((f"test, {which} epoch", text))
        if self.result and self.result.parameters is not None:
            rows.append(("parameters", f"{self.result.parameters:,}"))
        if self.result and self.result.seconds is not None:
            rows.append(("time", f"{self.result.seconds:.1f} s"))
        rows += [("failure", self.failure)] if self.failure else []
        rows += [("damaged", line) for line in self.damaged]
        return shown.facts(f"Run {self.id}", [*rows, ("folder", str(self.folder))])

    def layers(self) -> tuple[Layers, ...]:
        """What the run recorded of its layers before training and after each epoch.

        Raises:
            InputError: it recorded none, they are gone, or a file is damaged.
        """
        from residuum.records import layers  # numpy, which no command that only describes waits for

        found = layers.read(self.folder)
        if not found and self.config.monitor.histograms:
            raise InputError(f"{self.folder / 'layers'} holds nothing: the run has not begun, or its records are gone")
        if not found:
            raise InputError(
                f"run {self.id} recorded no layers", remedies=[Remedy("anew with", "monitor.histograms=true")]
            )
        return found

    def noise(self) -> list[NoiseSeen]:
        """The noise of the gradient before training and after each epoch; empty where it was not measured.

        Raises:
            InputError: a row is damaged.
        """
        path = self.folder / run_folder.NOISE
        try:
            return [NOISE.validate_python(row) for row in rows.read_rows(path)]
        except ValidationError as error:
            raise InputError(f"{path} is damaged: {error.errors()[0]['msg']}") from error


@dataclass(frozen=True)
class Head:
    """What stands beside the configuration of a run: the version of its schema, the run's id, and its recipe.

    `checked`: its files carry checks of themselves, as those of an earlier version do not.
    """

    schema: int
    id: str
    recipe: str
    checked: bool


def read_config(folder: Path) -> tuple[RunConfig, Head]:
    """The configuration of a run folder, and what is written beside it.

    Raises:
        InputError: not a run folder, or one of another version.
    """
    path = folder / run_folder.CONFIG
    if not path.exists():
        raise InputError(f"{folder} is not a run folder: it has no {run_folder.CONFIG}")
    values, checked = storage.read_sealed(path)
    if not isinstance(values, dict) or values.get("schema") not in READABLE:
        found = values.get("schema") if isinstance(values, dict) else None
        known = " and ".join(map(str, READABLE))
        raise InputError(f"{path} has schema version {found}; this residuum reads versions {known}")
    head = Head(values.pop("schema"), str(values.pop("id", "")), str(values.pop("recipe", "")), checked)
    if lacking := own.without_hash(values):  # no run writes that: naming a file is for the user alone
        raise InputError(f"{path} names own code without its hash: {lacking[0]}")
    return RunConfig.of(values), head


def is_going(folder: Path) -> bool:
    """Whether a process works on a run: here, or as far as is known of a copy, on another machine."""
    return storage.is_locked(folder) or mirror.is_going(folder)


def unfinished(folder: Path) -> tuple[str, str]:
    """How a run without a result stands: running, failed, pruned by a search, or stopped; and why it failed."""
    if is_going(folder):
        return "running", ""
    why = run_folder.failure(folder)
    if why is not None:
        return "failed", why
    return "pruned" if (folder / run_folder.PRUNED).exists() else "stopped", ""


def read_record(folder: Path) -> RunRecord:
    """The record in a run folder; rows of epochs that are damaged are left out and named in it.

    Raises:
        InputError: not a run folder, of another version, or another file of it is damaged.
    """
    config, head = read_config(folder)
    result_path, data_path = folder / run_folder.RESULT, folder / run_folder.DATA
    result = outcome.read(result_path, checked=head.checked) if result_path.exists() else None
    epochs, damaged = _epochs(folder / run_folder.METRICS)
    if result and result.status != "imported":
        damaged += _missing(folder, result, len(epochs) + len(damaged))
    status, failure = (result.status, "") if result else unfinished(folder)
    return RunRecord(
        id=head.id,
        folder=folder,
        recipe=head.recipe,
        status=status,
        config=config,
        environment=run_folder.read_starts(folder),
        data=_facts(data_path, checked=head.checked) if data_path.exists() else None,
        epochs=tuple(epochs),
        result=result,
        damaged=tuple(damaged),
        failure=failure,
    )


def _facts(path: Path, *, checked: bool) -> DataFacts:
    return storage.typed(FACTS, storage.read_json(path, checked=checked), path)


def _missing(folder: Path, result: Outcome, epochs: int) -> list[str]:
    """A line for each file of a complete run from which rows were lost."""
    counted = (
        (run_folder.METRICS, epochs, result.epochs),
        (run_folder.TEST_READS, run_folder.count_test_reads(folder), result.test_reads),
    )
    return [f"{name} has {there} rows of {wanted}: the others are lost"
            for name, there, wanted in counted if there < wanted]  # fmt: skip


def _epochs(path: Path) -> tuple[list[EpochDone], list[str]]:
    """The epochs in a file of rows, and one line for each row that is damaged."""
    epochs, damaged = [], []
    for number, body in enumerate(rows.bodies(path), start=1):
        try:
            if isinstance(body, InputError):
                raise body
            epochs.append(EPOCH.validate_json(body, strict=True))
        except (InputError, ValidationError):
            damaged.append(f"{path.name}, line {number} is damaged and left out")
    return epochs, damaged


def labels(records: Sequence[RunRecord]) -> list[str]:
    """What each of some runs is called: network, data, seed, and of those alike in these the settings that differ.

    Raises:
        InputError: a run is among them twice; no two have the same name.
    """
    ids = [record.id for record in records]
    twice = [id_ for id_, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputError(f"run {twice[0]} is named twice; name each run once")
    names = [
        f"{short_name(record.config.model)} on {record.config.data.dataset.name}, seed {record.config.train.seed}"
        for record in records
    ]
    return _told_apart(names, records)


def legend(records: Sequence[RunRecord]) -> list[str]:
    """What each of some runs is called in a legend: its network, and beside it only what sets these runs apart.

    Raises:
        InputError: a run is among them twice; no two have the same name.
    """
    labels(records)  # refuses a run that is named twice
    networks = [short_name(record.config.model) for record in records]
    data = [f"{record.config.data.dataset.name}" for record in records]
    seeds = [f"seed {record.config.train.seed}" for record in records]
    differing = [names for names in (data, seeds) if len({*names}) > 1]
    # Of networks that all differ, nothing else needs to be said.
    if len({*networks}) < len(networks):
        networks = [", ".join([name, *(one[at] for one in differing)]) for at, name in enumerate(networks)]
    return _told_apart(networks, records)


BESIDE = ("data.root", "train.seed", "compute.", "save.", "monitor.")
"""Settings, and groups of them, by which runs are told apart only where nothing else tells them apart."""


def _told_apart(names: Sequence[str], records: Sequence[RunRecord]) -> list[str]:
    """Names, those that are alike with the settings in which their runs differ, as `resnet20, lr 0.05`."""
    found = list(names)
    for name in dict.fromkeys(names):
        settings = {at: records[at].config.settings() for at, one in enumerate(names) if one == name}
        apart = _apart([*settings.values()])
        paths = [path for path in apart if not path.startswith(BESIDE)] or apart
        words = {path: [_in_words(path, one[path]) for one in settings.values() if path in one] for path in paths}
        whole = {path for path, said in words.items() if len(said) == len(settings) and len({*said}) == 1}
        for at, mine in settings.items():
            found[at] = ", ".join([name, *(_in_words(path, mine[path], whole=path in whole)
                                           for path in paths if path in mine)])  # fmt: skip
    # What is left are runs of other own code, or of data that has changed since.
    seen, numbers = Counter[str](), Counter(found)
    for at, name in enumerate(found):
        seen[name] += 1
        found[at] = f"{name}, run {seen[name]}" if numbers[name] > 1 else name
    return found


def _in_words(path: str, value: Any, *, whole: bool = False) -> str:
    """A setting in few words: `lr 0.05`, `optimizer adam`; `whole`: its names alone do not tell the runs apart."""
    section, _, key = path.rpartition(".")
    key = section.rpartition(".")[2] if key == "name" else key
    if whole or (isinstance(value, str) and own.HASH.fullmatch(value)):
        return f"{key.replace('_', ' ')} {_told(value)}"
    parts = value if isinstance(value, list) else [value]
    shown = [str(one["name"]) if isinstance(one, dict) and "name" in one else str(one) for one in parts]
    return f"{key.replace('_', ' ')} {' + '.join(map(own.short, shown)) or 'none'}"


def find_runs(runs: Path) -> Iterator[Path]:
    """The run folders under `runs`, in order of name."""
    if runs.is_dir():
        names = sorted(entry.name for entry in os.scandir(runs))
        yield from (runs / name for name in names if os.path.exists(f"{runs}/{name}/{run_folder.CONFIG}"))  # noqa: PTH110


def find_run(name: str, runs: Path) -> Path:
    """The run folder that a path, an id, or the unambiguous beginning of either means.

    Raises:
        InputError: none, or several.
    """
    if not name.strip():
        raise InputError("an empty name names no run", remedies=[Remedy("list runs")])
    if (Path(name) / run_folder.CONFIG).exists():
        return Path(name)
    there = [run.name for run in find_runs(runs)]
    return runs / match(name, there, str(runs), lambda few: [runs / one for one in few])


def matching(name: str, there: Sequence[str]) -> list[str]:
    """The names of run folders that a name, an id, or the beginning of either may mean."""
    return [run for run in there if run == name] or [
        run for run in there if run.startswith(name) or run.rpartition("-")[2].startswith(name)
    ]


def match(name: str, there: Sequence[str], place: str, folders: Callable[[Sequence[str]], Sequence[Path]]) -> str:
    """Which of the names of run folders that are in a place a name, an id, or the beginning of either means.

    `folders` gives those of some names, for what sets apart the runs that it may mean.

    Raises:
        InputError: none, or several.
    """
    found = matching(name, there)
    if len(found) == 1:
        return found[0]
    if found:
        raise _ambiguous(name, found, place, folders(found[:4]))
    if Path(name).exists():
        raise InputError(f"{name} is not a run folder: it has no {run_folder.CONFIG}")
    if not there:
        raise InputError(f"no run {quoted(name)}: {place} holds no runs; train one", remedies=[Remedy("other runs")])
    near = get_close_matches(name, there, n=1, cutoff=0.4)
    if near:
        raise InputError(f"no run {quoted(name)} in {place}; the nearest is {quoted(near[0])}")
    raise InputError(f"no run {quoted(name)} in {place}", remedies=[Remedy("list runs")])


def _ambiguous(name: str, found: Sequence[str], place: str, folders: Sequence[Path]) -> InputError:
    """The error for a name that several runs have; of the first of them, in `folders`, it says what sets each apart."""
    apart = [told(one) for one in differing(folders)]
    if len({*apart}) < len(apart):  # alike in what is usually told
        apart = [told(one) for one in differing(folders, untold=())]
    few = [f"{run} ({text})" if text else run for run, text in zip_longest(found[:4], apart, fillvalue="")]
    said, left = f"run {quoted(name)} is ambiguous in {place}: ", len(found)
    for number, one in enumerate(few):  # whole ones, as many as a line has room for
        if number > 1 and len(said) + len(one) > LINE - ROOM:
            break
        said, left = f"{said}{', ' if number else ''}{one}", left - 1
    return InputError(f"{said}{f' and {left} more' if left else ''}", remedies=[Remedy("list runs")])


ROOM = 80
"""Letters of a line that are left for what would help."""
UNTOLD = ("data.root", "data.fingerprint", "pretrained.weights", "train.seed", "model.name")
"""Settings that say nothing to a person, or that the name of a run's folder says."""


def differing(folders: Sequence[Path], untold: Sequence[str] = UNTOLD) -> list[dict[str, Any]]:
    """Of each run folder those settings, by dotted path, in which not all agree; none of one that cannot be read."""
    every = [_settings(folder, untold) for folder in folders]
    apart = _apart([one for one in every if one])
    return [{path.removesuffix(".name"): one[path] for path in apart if path in one} for one in every]


def _apart(known: Sequence[Mapping[str, Any]]) -> list[str]:
    """The dotted paths in which settings do not agree."""
    paths = dict.fromkeys(path for one in known for path in one)
    apart = [path for path in paths if _disagree(path, known)]
    for choice in [path.removesuffix("name") for path in apart if path.endswith(".name")]:
        # What one choice has and another has not goes without saying.
        alike: dict[Any, list[Mapping[str, Any]]] = {}
        for one in known:
            alike.setdefault(one.get(f"{choice}name"), []).append(one)
        apart = [path for path in apart if not path.startswith(choice) or path == f"{choice}name"
                 or any(_disagree(path, some) for some in alike.values())]  # fmt: skip
    return apart


def _disagree(path: str, every: Sequence[Mapping[str, Any]]) -> bool:
    return any(one.get(path) != every[0].get(path) for one in every)


def _settings(folder: Path, untold: Sequence[str]) -> dict[str, Any]:
    try:
        settings = read_config(folder)[0].settings()
    except InputError:
        return {}
    return {path: value for path, value in settings.items()
            if path not in untold and path.partition(".")[0] not in UNCOUNTED}  # fmt: skip


def told(settings: Mapping[str, Any]) -> str:
    """Settings as people write them, one after the other: `optim.lr=0.05, data.augment=flip+pad_crop padding=4`."""
    return ", ".join(f"{path}={_told(value)}" for path, value in settings.items())


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and own.HASH.fullmatch(value):
        return value[:12]  # of own code, as elsewhere
    if isinstance(value, Mapping):
        rest = [f"{key}={_told(inner)}" for key, inner in value.items() if key != "name"]
        return " ".join([str(value.get("name", "")), *rest]).strip()
    if isinstance(value, list | tuple):
        return "+".join(map(_told, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def record_of(run: RunRecord | Path | str, runs: Path) -> RunRecord:
    """The record of a run: itself, or by its folder, or by the unambiguous beginning of its name or id within `runs`.

    Raises:
        InputError: none, several, a damaged one, or something that names no run.
    """
    if isinstance(run, RunRecord):
        return run
    if isinstance(run, Path | str):
        return read_record(find_run(str(run), runs))
    raise InputError(f"a run is a record, a folder or a name; this is a {type(run).__name__}")

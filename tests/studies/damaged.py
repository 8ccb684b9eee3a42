"""Damage every file that lies beside a study's plan: flipped bits, cut ends, zeroed pages, files that are gone.

    python tests/studies/damaged.py --count 1000 --again 20

Each is to be told by the check of the folder, in a line that names the file, or to change nothing of what is read. Then
the commands are called: the report says what it said, or that the file is damaged, and the study goes on to the same
runs; no command ends in a traceback.
"""

import argparse
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from residuum.errors import InputError
from residuum.records import storage
from residuum.studies import chosen, plan, prespecified, whole
from trial import damages, ended, forked, results, told, warm

STUDY = """
question = "Which rate is best?"
base = "quick"
seeds = 2
select = "validation"

[settings]
"data.dataset" = { name = "synthetic", size = 8, train = 240, test = 16, classes = 4 }
"data.validation" = 40
"model" = { name = "cifar_resnet", depth = 8, channels = [4, 4, 4] }
"train.epochs" = 6
"train.batch_size" = 20
"compute.threads" = 1

[axes]
"optim.lr" = [0.02, 0.1]

[compare]
baseline = "lr=0.1"
measure = "validation_error"

[[claims]]
text = "A small rate is worse."
expect = "lr=0.02 > lr=0.1"
measure = "validation_error"
"""
DERIVED = "report/"
"""What a report consists of: it is made anew whenever it is asked for."""
LATER = re.compile(r"[\d:-]{8,}[T ][\d:]{5,}\S*|\d+(\.\d+)? s\b")
"""What a report says of the time."""


def tried(count: int, seed: int = 0, again: int = 0) -> list[str]:
    """Damage a study's files so many times, and call the commands on every so manyth; what went wrong."""
    return warm(__file__, count, seed, "--again", str(again))


def a_study(place: Path) -> Path:
    """The folder of a study that has grown, chosen an arm and been reported, so that it has left every kind of file."""
    (place / "rates.toml").write_text(STUDY)
    for words in (["run", str(place / "rates.toml"), "--until-decided", "--on", "here"], ["report", "rates"]):
        code = ended(forked(["study", *words, "--runs", str(place / "runs")], place / "said"))
        assert code == 0, (place / "said").read_text()
    (folder,) = place.glob("runs/studies/rates*")
    storage.write_json(folder / plan.FAILED, {"some-run": "it always crashes"})
    assert not whole.damage(folder)
    assert chosen.read(folder)
    assert "note: " not in (place / "said").read_text()
    return folder


def read(folder: Path) -> dict[str, Any]:
    """What is read of a study, beside its runs."""
    return {"plan": plan.read(folder), "looks": plan.read_looks(folder), "chosen": chosen.read(folder),
            "promised": prespecified.read(folder), "readings": prespecified.readings(folder),
            "failed": storage.read_json(folder / plan.FAILED)}  # fmt: skip


def silent(folder: Path, name: Path, before: dict[str, Any]) -> str:
    """What is wrong with how a damaged file is told; empty where nothing is."""
    if str(name).startswith(DERIVED):
        return ""  # the report's: `_again` has it made anew
    try:
        said = whole.damage(folder)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if said:
        return "" if any(name.name in line for line in said) else f"told without its name: {said}"
    if str(name) == plan.FAILED and not (folder / name).exists():
        return ""  # what has failed is tried again in any case
    try:
        after = read(folder)
    except InputError as error:
        return f"read as damaged, but not told: {error}"
    return "" if after == before else "not told, though what is read is another"


def _again(place: Path, name: Path, before: dict[str, object], report: str) -> Iterator[str]:
    """Report a damaged study and run it again; what is wrong with how that ends."""
    for words in (["report", "rates"], ["run", str(place / "rates.toml"), "--until-decided", "--on", "here"]):
        said = place / "said"
        said.write_text("")
        code = ended(forked(["study", *words, "--runs", str(place / "runs")], said))
        lines = said.read_text().splitlines()
        mistakes = [line for line in lines if line.startswith("residuum: ")]
        is_named = any(name.name in line for line in lines)
        if code not in (0, 2) or "Traceback" in said.read_text():
            yield f"study {words[0]}: exit code {code}: {lines[-1:]}"
        elif code == 2 and not (len(mistakes) == 1 and (is_named or "was not run" in mistakes[0])):
            yield f"study {words[0]}: {mistakes}"
        elif code == 0 and words[0] == "report" and not is_named and _text(place) != report:
            yield "the report says something else, and nothing of the damage"
    if results(place / "runs") != before:
        yield "the runs are others"


def _text(place: Path) -> str:
    """What a report says, but for the time."""
    (page,) = place.glob("runs/studies/rates*/report/index.html")
    return LATER.sub("", page.read_text())


def _tried(count: int, seed: int, again: int) -> Iterator[str]:
    import residuum.api
    import residuum.report.study_page
    import residuum.training  # noqa: F401

    rng, place = random.Random(seed), Path(tempfile.mkdtemp(prefix="residuum-damaged-"))
    try:
        folder = a_study(place / "made") if (place / "made").mkdir() is None else place
        before, runs, report = read(folder), results(place / "made/runs"), _text(place / "made")
        names = [
            path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size
        ]
        gone = [number for number, name in enumerate(names) if not str(name).startswith(DERIVED)]
        picked = {*gone[:again], *rng.sample(range(count + len(names)), max(0, again - len(gone)))}
        for number, (name, what) in enumerate(damages(folder, names, count, rng)):
            if problem := silent(folder, name, before):
                yield f"{name}, {what}: {problem}"
            if number in picked:
                here = Path(shutil.copytree(place / "made", place / "again"))
                yield from (f"{name}, {what}: {one}" for one in _again(here, name, runs, report))
                shutil.rmtree(here)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--again", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    told(options.count, _tried(options.count, options.seed, options.again))

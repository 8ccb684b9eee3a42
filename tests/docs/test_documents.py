"""Every code block of the README and the documentation runs, in order, in a folder with a small CIFAR-10 archive."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests import warm

from residuum.config import RunConfig, described_settings

sys.path.insert(0, str(Path(__file__).parents[1] / "data_sets"))
from cifar_files import batches, python_files, write_tar

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# The same commands with less work: these measure or train for minutes.
SHORTER = {
    "residuum bench": "residuum bench --images 640 --repeats 1",
    "python benchmarks/layers.py": "python benchmarks/layers.py --rounds 1",
    "residuum study run runs/studies/rates/rates-tuned.toml": "residuum study run runs/studies/rates/rates-tuned.toml "
    "--seeds 1",
    "residuum study plan quickstart --scale 0.1": "residuum study plan quickstart --scale 0.1 --arms plain20,resnet20",
    "residuum study plan depth.toml --scale 0.1": "residuum study plan depth.toml --scale 0.1 --arms plain20,resnet20",
    "residuum study run quickstart --scale 0.1 --seeds 2": "residuum study run quickstart --scale 0.1 --seeds 2 "
    "--arms plain20,resnet20",
    "residuum study run quickstart --scale 0.1": "residuum study run quickstart --scale 0.1 --arms plain20,resnet20 "
    "--seeds 2",
    "residuum study run quickstart --scale 0.1 --seeds 2 --workers 2": "residuum study run quickstart --scale 0.1 "
    "--seeds 2 --workers 2 --arms plain20,resnet20",
    "residuum study run gradient-flow": "residuum study run gradient-flow --seeds 1 --arms 'ReLU with BN / plain20'",
    "python benchmarks/steps.py": "python benchmarks/steps.py 'bf16, channels last'",
    "python tests/trust.py": "python tests/trust.py --share 0.01 --only flipped",
}


@pytest.fixture(scope="session")
def commands(tmp_path_factory) -> Iterator[Path]:
    """A folder with a `residuum` that a process which has torch imported already runs in a fork of itself."""
    folder = tmp_path_factory.mktemp("commands")
    with warm.serving(folder / "socket", [*warm.LIBRARIES, *warm.OURS]) as asking:
        for name, what in (("residuum", "residuum"), ("run-block", "code")):
            (folder / name).write_text(f'#!/bin/sh\nexec {" ".join(asking(what))} "$@"\n')
            (folder / name).chmod(0o755)
        yield folder


def blocks(document: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


def test_every_extra_is_told_where_it_is_installed_and_at_the_command_that_needs_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {*project["optional-dependencies"]}
    table = (ROOT / "docs" / "install.md").read_text().partition("| extra |")[2].partition("\n\n")[0]
    told = [name for row in table.splitlines()[2:] for name in re.findall(r"`([\w-]+)`", row.split("|")[1])]
    assert sorted(told) == sorted(extras)
    sources = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    asked = {*re.findall(r'raise lacking\(.*"(\w+)"\)', sources)} | {"tensorboard", "wandb", "mlflow"}
    assert asked == extras - {"dev"}
    reference = (ROOT / "docs" / "reference.md").read_text()
    assert [name for name in asked if f"`{name}`" not in reference] == []


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A CIFAR-10 archive in the original layout with 20 images a batch."""
    path = tmp_path_factory.mktemp("cifar") / "cifar-10-python.tar.gz"
    return write_tar(path, "cifar-10-batches-py", python_files(batches(rows=20)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
@pytest.mark.timeout(900)
def test_every_code_block_runs(document, archive, commands, tmp_path, monkeypatch):
    shutil.copy(archive, tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    Image.new("L", (8, 8), 128).save(tmp_path / "digit.png")
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "pictures" / "digit.png", tmp_path / "docs" / "pictures")
    monkeypatch.setenv("PATH", f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for language, text in blocks(document):
        if language == "python":
            command = ["run-block", text]
        elif language == "bash":
            lines = [_runnable(line) for line in text.replace("\\\n", " ").splitlines()]
            command = ["bash", "-c", "set -e\n" + "\n".join(lines)]
        else:
            assert language == "text", f"{document.name} has a block of {language!r}, which nothing runs"
            continue
        finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, f"{text}\n{finished.stdout[-2000:]}\n{finished.stderr[-2000:]}"


def test_examples_are_shown_as_they_are():
    shown = [text for language, text in blocks(ROOT / "docs" / "extending.md") if language == "python"]
    assert shown[:2] == [(ROOT / "examples" / name).read_text() for name in ("net.py", "se.py")]


def _runnable(line: str) -> str:
    """A line of a block as it is run here: `make` only looked up, long commands shortened, one epoch of each run."""
    command, _, _ = line.partition("  #")
    command = SHORTER.get(command.strip(), command).strip()
    command = command.replace("--scale 0.1", "--scale 0.05")
    if command.startswith("residuum train"):
        command = re.sub(r" --epochs \d+|$", " --epochs 1", command, count=1)
    if command.startswith("make "):
        return f"make -n -C {ROOT} {command.removeprefix('make ')} > /dev/null"
    return command.replace("python tests/", f"python {ROOT}/tests/").replace(
        "python benchmarks/", f"python {ROOT}/benchmarks/"
    )


def test_quickstart_is_what_the_make_target_says(tmp_path):
    """The residuum commands of `make quickstart` are real ones; the README's first command runs nothing else."""
    printed = subprocess.run(["make", "-n", "-C", str(ROOT), "quickstart"], capture_output=True, text=True, check=True)
    commands = [line.split("residuum ", 1)[1] for line in printed.stdout.splitlines() if "/residuum " in line]
    assert commands == ["study run quickstart --workers auto", "study report quickstart"]


def test_every_setting_and_command_is_in_the_reference():
    from residuum.cli import build_parser

    text = (ROOT / "docs" / "reference.md").read_text()
    for path, _, what in described_settings(RunConfig):
        assert f"| `{path}` |" in text
        assert what in text
    _, commands = build_parser()
    for name in commands:
        assert re.search(rf"`residuum (\w+ )?{name}\b", text), name


def test_links_and_pictures_exist():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_file_that_a_command_of_the_readme_reads_is_there_or_fetched():
    """A fresh clone has it, or the README says which command brings it."""
    text = (ROOT / "README.md").read_text()
    commands = [line.partition("#")[0] for language, block in blocks(ROOT / "README.md") if language == "bash"
                for line in block.splitlines()]  # fmt: skip
    named = {word for line in commands for word in line.split() if re.search(r"\.(png|gz|toml|npz|py|pt|zip)$", word)}
    assert "docs/pictures/digit.png" in named
    for name in named - {"cifar-10-python.tar.gz"}:
        assert (ROOT / name).is_file(), name
    assert "`residuum data fetch cifar10`" in text


def test_the_repository_names_no_place_of_the_machine_it_was_made_on():
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True
    ).stdout.split()
    for name in listed:
        path = ROOT / name
        if (
            path.suffix in {".md", ".py", ".toml", ".txt", ".cff", ".json", ""}
            and path.is_file()
            and name != "tests/docs/test_documents.py"
        ):
            assert not re.search(r"/(work|root|opt|home)/\w", path.read_text(errors="replace")), name

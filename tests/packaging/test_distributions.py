"""What is published is whole: the wheel has every file of the package, the source distribution all that tests it."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

BUILD = "import setuptools.build_meta as b; print(b.build_sdist('dist')); print(b.build_wheel('dist'))"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The names of files in the source distribution and in the wheel, both built from a copy of what is kept by git."""
    copy = tmp_path_factory.mktemp("copy")
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True,
                            text=True, check=False)  # fmt: skip
    if listed.returncode:
        pytest.skip("no checkout, in which git says what belongs to it")
    names = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (sdist,), (wheel,) = (copy / "dist").glob("*.tar.gz"), (copy / "dist").glob("*.whl")
    with tarfile.open(sdist) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        return names, source, {*archive.namelist()}


def test_the_source_distribution_has_every_file_of_the_repository(built):
    names, source, _ = built
    assert {*names} <= source
    assert {"constraints.txt", "tests/conftest.py", "docs/howto.md", "benchmarks/gpu.py", "Makefile"} <= source
    extra = {name for name in source - {*names} if Path(name).suffix and "egg-info" not in name}
    assert extra == {"setup.cfg"}


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(built):
    names, _, wheel = built
    package = {name.removeprefix("src/") for name in names if name.startswith("src/residuum/")}
    assert {name for name in wheel if ".dist-info/" not in name} == package
    assert "residuum/run/plain_script.py" in package


def test_what_is_said_of_the_project_is_so():
    pythons = [
        one.rpartition(" ")[2]
        for one in PROJECT["classifiers"]
        if one.startswith("Programming Language :: Python :: 3.")
    ]
    assert pythons[0] == PROJECT["requires-python"].removeprefix(">=")
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in pythons
    assert {"Operating System :: MacOS", "Operating System :: POSIX :: Linux"} <= {*PROJECT["classifiers"]}
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    asked = [one for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()) for one in group]
    names = {one.partition("[")[0].partition(">")[0].partition(";")[0].strip().lower() for one in asked}
    assert names - {"residuum"} <= pinned

"""Commands in surroundings that break others: hostile variables, no home, readers that leave, scripts without a font."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import duckdb
import pytest
from matplotlib.figure import Figure

from residuum.cli import build_parser, main
from residuum.data import cache
from residuum.data.formats import parquet
from residuum.engine.compute import cpu_quota, usual_threads
from residuum.errors import InputError, Remark
from residuum.records.run_folder import read_remarks
from residuum.report import style

HOSTILE = {
    "MPLBACKEND": "module://nobody.has.this",
    "TERM": "nonsense",
    "LC_ALL": "xx_YY.nonsense",
    "COLUMNS": "7",
    "PYTHONWARNINGS": "error",
    "HOME": "/proc/nowhere",
    "OMP_NUM_THREADS": "many",
    "TORCH_LOGS": "nonsense",
    "ONEDNN_VERBOSE": "2",
    "OMP_DISPLAY_ENV": "true",
}
RUN, OTHER = "resnet20-digits-seed0", "plain20-digits-seed0"
STUDY = ["--scale", "0.03", "--seeds", "1", "--arms", "resnet20,plain20"]
COMMANDS: dict[str, list[str]] = {
    "train": ["train", "quick", "--epochs", "1", "--set", "monitor.histograms=true", "--set", "monitor.noise=true"],
    "train another": ["train", "quick", "--epochs", "1", "--model", "plain20"],
    "resume": ["resume", RUN],
    "evaluate": ["evaluate", RUN],
    "predict": ["predict", RUN, "digit.png", "--explain"],
    "draw": ["draw", RUN, OTHER],
    "draw noise": ["draw", RUN, "--of", "noise"],
    "classes": ["classes", RUN, OTHER],
    "explain": ["explain", RUN, "--images", "1"],
    "layers": ["layers", RUN],
    "surface": ["surface", RUN, "--points", "3", "--images", "50"],
    "export": ["export", RUN, "--format", "safetensors"],
    "import-weights": ["import-weights", "weights.safetensors", "--model", "resnet20", "--normalize", "0.3", "0.4",
                       "--data", "digits"],
    "export-to": ["export-to", "tensorboard", RUN],
    "list": ["list", "models"],
    "show model": ["show", "model", "resnet20", "--draw"],
    "show recipe": ["show", "recipe", "quick"],
    "show run": ["show", "run", RUN],
    "show activations": ["show", "activations"],
    "show schedules": ["show", "schedules"],
    "show augmentations": ["show", "augmentations"],
    "models search": ["models", "search", "--max-params", "1e5", "--top", "2"],
    "data check": ["data", "check", "digits"],
    "data stats": ["data", "stats", "digits"],
    "study list": ["study", "list"],
    "study show": ["study", "show", "quickstart"],
    "study plan": ["study", "plan", "quickstart", *STUDY],
    "study run": ["study", "run", "quickstart", *STUDY],
    "study report": ["study", "report", "quickstart"],
    "study handin": ["study", "handin", "quickstart", "--title", "T", "--author", "A", "--out", "h.md"],
    "study watch": ["study", "watch", "quickstart", "--once"],
    "study power": ["study", "power", "quickstart", "--difference", "2", "--sd", "1"],
}  # fmt: skip
LEFT_OUT = {"completion": "it prints a script: tests/cli/test_completion.py",
            "data fetch": "it needs the network", "bench": "it measures for minutes",
            "serve": "it answers until it is stopped: tests/serve", "study search": "tests/studies/test_searching.py",
            **dict.fromkeys(["cluster up", "cluster status", "cluster down"], "tests/launchers/test_ray.py")}  # fmt: skip

EACH = """
import json, os, sys
from residuum.cli import main
said = {}
for name, words in json.loads(sys.argv[1]).items():
    files = [open(f"{name}.{ending}", "w+b") for ending in ("out", "err")]
    kept = [os.dup(1), os.dup(2)]
    for number, file in enumerate(files, start=1):
        os.dup2(file.fileno(), number)
    try:
        code = main(words)
    finally:
        for number, one in enumerate(kept, start=1):
            os.dup2(one, number)
    for file in files:
        file.seek(0)
    said[name] = (code, *(file.read().decode() for file in files))
    for file in (*kept, *files):
        os.close(file) if isinstance(file, int) else file.close()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """What every command says with `--json` in hostile surroundings, one after the other with a cold cache."""
    here = tmp_path_factory.mktemp("hostile")
    write_digit(here / "digit.png")
    environment = {name: value for name, value in os.environ.items() if name != "RESIDUUM_CACHE"}
    environment |= HOSTILE | {"TMPDIR": str(here / "tmp")}
    (here / "tmp").mkdir()
    commands = {name: [*words, "--json"] for name, words in COMMANDS.items()}
    first = {name: words for name, words in commands.items() if name != "import-weights"}
    said = spoken(first, here, environment)
    (exported,) = here.glob("runs/**/export/*.safetensors")
    exported.rename(here / "weights.safetensors")
    return said | spoken({"import-weights": commands["import-weights"]}, here, environment)


def spoken(commands, here: Path, environment):
    done = subprocess.run(
        [sys.executable, "-c", EACH, json.dumps(commands)], cwd=here, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr
    return json.loads(done.stdout)


def write_digit(path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 8), 100).save(path)


def test_every_command_is_tried():
    _, made = build_parser()
    groups = {name.partition(" ")[0] for name in made if " " in name}
    tried = {" ".join(words[:2]) if words[0] in groups else words[0] for words in COMMANDS.values()}
    assert tried | set(LEFT_OUT) == set(made) - groups


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_in_hostile_surroundings_gives_its_result_and_nothing_else(hostile, name):
    code, out, err = hostile[name]
    assert (code, "Traceback" in err) == (0, False), err
    for line in out.splitlines():
        json.loads(line)
    assert out.strip()
    assert "Warning" not in err
    assert "matplotlib" not in err


def test_where_there_is_no_home_one_line_says_where_decoded_images_are(hostile):
    assert [err.count("RESIDUUM_CACHE names another place") for _, _, err in (hostile["train"],)] == [1]


def piped(words: list[str], here: Path) -> tuple[int, bytes]:
    """The exit code of a command whose reader leaves after the first line, and what it says on standard error."""
    command = [sys.executable, "-m", "residuum", *words]
    going = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert going.stdout is not None
    assert going.stderr is not None
    assert going.stdout.readline()
    going.stdout.close()
    err = going.stderr.read()
    going.stderr.close()
    return going.wait(), err


def test_a_training_goes_on_when_its_reader_leaves_and_its_record_says_so(tmp_path, capsys):
    assert piped(["train", "quick", "--epochs", "2"], tmp_path) == (0, b"")
    assert main(["show", "run", RUN, "--runs", str(tmp_path / "runs"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"] == "finished"
    (remark,) = shown["remarks"]
    assert "left before the end" in remark


def test_a_study_goes_on_when_its_reader_leaves_and_the_records_of_its_runs_say_so(run, monkeypatch, tmp_path):
    """The reader leaves before the first run ends: each run that ends after that has the remark, once."""
    study = """question = "?"
base = "quick"
seeds = [0, 1]
[settings]
"data.dataset" = {name = "synthetic", size = 8, train = 40, test = 10, classes = 2}
"model" = {name = "cifar_resnet", depth = 8, channels = [2, 2, 2]}
"train.epochs" = 1
[axes]
"optim.lr" = [0.01]
"""
    (tmp_path / "left.toml").write_text(study)
    left = iter([False, True, True])
    monkeypatch.setattr("residuum.cli.studying.has_left", lambda *_: next(left, True))
    code, _, err = run("study", "run", "left.toml", "--on", "here")
    assert code == 0, err
    remarks = [len(read_remarks(one)) for one in sorted(tmp_path.glob("runs/*seed*"))]
    assert remarks == [0, 1]


@pytest.mark.parametrize("words", [["list", "models"], ["show", "model", "resnet110"], ["study", "show", "optimizers"]])
def test_a_command_whose_reader_leaves_ends_quietly(tmp_path, words):
    assert piped(words, tmp_path) == (0, b"")


def test_windows_is_told_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    assert main(["list", "models"]) == 2
    assert capsys.readouterr().err == "residuum: it needs Linux or macOS; on Windows it runs within WSL\n"


def test_a_cache_without_a_home_is_this_users_own(tmp_path, monkeypatch):
    monkeypatch.delenv("RESIDUUM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)  # as where nobody knows the user
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    cache._without_home.cache_clear()
    with pytest.warns(Remark, match="RESIDUUM_CACHE names another place"):
        found = cache.folder()
    assert (found.parent, found.stat().st_mode & 0o777) == (tmp_path, 0o700)
    cache._without_home.cache_clear()
    found.chmod(0o777)
    with pytest.raises(InputError, match="is not this user's own folder; let RESIDUUM_CACHE name one"):
        cache.folder()
    found.rmdir()
    (tmp_path / "theirs").mkdir()
    found.symlink_to(tmp_path / "theirs")
    with pytest.raises(InputError, match="is not this user's own folder"):
        cache.folder()
    cache._without_home.cache_clear()


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "400000 100000\n",
          "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 4.0),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000\n",
          "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n"}, 1.0),
        ({"proc/self/cgroup": "9:memory:/x\n4:cpu,cpuacct:/docker/1\n",
          "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "200000\n",
          "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"proc/self/cgroup": "4:cpu,cpuacct:/docker/1\n",  # as a container sees it: its own group is the root
          "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
          "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.cfs_quota_us": "-1\n",
          "sys/fs/cgroup/cpu.cfs_period_us": "100000\n"}, float("inf")),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "something else\n"}, float("inf")),
        ({}, float("inf")),
    ],
)  # fmt: skip
def test_the_quota_of_a_control_group(tmp_path, files, cpus):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1.9, 1), (3.0, 3), (64.0, 8), (float("inf"), 8)])
def test_threads_are_those_that_the_quota_gives_time_to(monkeypatch, quota, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("residuum.engine.compute.cpu_quota", lambda: quota)
    assert usual_threads() == threads


def test_letters_that_no_font_has_are_told_once(tmp_path, monkeypatch):
    own_fonts_alone(monkeypatch)
    with style.styled():
        figure = Figure()
        figure.subplots().set_title("飞机 and 汽车, twice 飞机")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        style.save(figure, tmp_path / "figure")
    told = {str(one.message) for one in caught}
    assert {one.category for one in caught} == {Remark}
    assert told == {"no font here has '飞机汽车': boxes stand in place of such letters; a font as Noto Sans CJK "
                    "brings them"}  # fmt: skip


def own_fonts_alone(monkeypatch):
    """As where no fonts are installed but matplotlib's own."""
    monkeypatch.setattr(style, "_families", lambda: ["DejaVu Sans", "sans-serif"])
    fonts = style.font_manager.fontManager
    monkeypatch.setattr(
        fonts, "ttflist", [one for one in fonts.ttflist if one.name.startswith(("DejaVu Sans", "Last Resort"))]
    )


def write_font(path: Path, name: str, letters: str) -> None:
    """A font with a square for each of some letters."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names, square = [".notdef", *(f"u{ord(letter):X}" for letter in letters)], pen.glyph()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(letter): f"u{ord(letter):X}" for letter in letters})
    font.setupGlyf(dict.fromkeys(names, square))
    font.setupHorizontalMetrics(dict.fromkeys(names, (750, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": name, "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    font.setupPost()
    font.save(path)


def test_letters_are_drawn_by_whatever_font_has_them(tmp_path, monkeypatch):
    own_fonts_alone(monkeypatch)
    for name, letters in (
        ("A Color Emoji", "猫犬鳥ก"),
        ("Nobody Listed Han", "猫犬"),
        ("Nobody Listed Thai", "ก"),
    ):
        write_font(tmp_path / f"{name}.ttf", name, letters)
        style.font_manager.fontManager.addfont(tmp_path / f"{name}.ttf")
    assert style.fonts_for("cat é → 10⁻³ ≤") == style._families()
    assert style.fonts_for("猫ก") == ["DejaVu Sans", "Nobody Listed Han", "Nobody Listed Thai", "sans-serif"]
    with style.styled():
        figure = Figure()
        axes = figure.subplots()
        axes.set_title("猫 犬")
        axes.set_xticks([0, 1], ["ก", "b"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert style.png(figure)
        assert b"Nobody Listed Han" in style.svg(figure)
        axes.set_title("鳥")
        with pytest.raises(Remark, match="no font here has '鳥'"):
            style.png(figure)


@pytest.mark.parametrize(
    ("text", "length", "cut"),
    [
        ("automobile", 10, "automobile"),
        ("automobile", 7, "aut…ile"),
        ("猫と犬と鳥と魚", 14, "猫と犬と鳥と魚"),
        ("猫と犬と鳥と魚", 9, "猫と…と魚"),
        ("猫と犬と鳥と魚", 3, "猫…"),
        ("猫", 2, "猫"),
        ("cat", 2, "c…"),
        ("猫cat", 5, "猫cat"),
    ],
)
def test_names_are_cut_by_their_width(text, length, cut):
    assert style.short(text, length) == cut
    assert style.width(cut) <= max(length, 3)


def test_letters_of_the_world_are_drawn_where_a_font_has_them(monkeypatch):
    """A font of the list is used only if it is installed: matplotlib complains about each that is not."""
    monkeypatch.setattr(style.font_manager.fontManager, "ttflist",
                        [*style.font_manager.fontManager.ttflist,
                         style.font_manager.FontEntry(name="WenQuanYi Zen Hei")])  # fmt: skip
    style._families.cache_clear()
    assert style._families() == ["DejaVu Sans", "WenQuanYi Zen Hei", "sans-serif"]
    style._families.cache_clear()


def test_the_database_draws_no_bar(tmp_path):
    duckdb.sql(f"COPY (SELECT 1 AS label) TO '{tmp_path / 'x.parquet'}'")
    with parquet._connected(tmp_path / "x.parquet") as connection:
        assert connection.execute("SELECT current_setting('enable_progress_bar')").fetchone() == (False,)


def test_a_root_with_the_home_of_nobody_is_told_in_a_line(capsys):
    assert main(["data", "check", "~nobody9/images"]) == 2
    assert capsys.readouterr().err == "residuum: ~nobody9/images does not exist\n"

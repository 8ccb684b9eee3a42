"""The table of wishes in CONTRIBUTING.md, granted row by row: one file of a copy of the package, and the wish works.

Each wish is granted in a copy of its own, in which nothing but the file that the row names is touched; a program then
uses it from the command line and takes it through its contract.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests import warm

ROOT = Path(__file__).parents[2]


class Wish(NamedTuple):
    """The file, what is put into it before which text (a new file: no text), and what has to work then."""

    file: str
    put: str
    before: str
    works: str


HELPERS = """
import contextlib, io, json
from pathlib import Path
from residuum import testing
from residuum.cli import main

def said(*words, code=0):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        returned = main([str(word) for word in words])
    assert returned == code, (words, returned, err.getvalue())
    return out.getvalue() + err.getvalue()

def listed(kind, name):
    assert name in {row["name"] for row in json.loads(said("list", kind, "--json"))}, name

def trained(*settings, depth=("model.depth=8",)):
    short = ["data.subset=60", "data.validation=20", "train.epochs=1", "train.batch_size=20", *depth, *settings]
    told = said("train", "quick", "--json", *(word for one in short for word in ("--set", one))).splitlines()
    return json.loads(next(line for line in told if line.startswith("{")))

def made(**settings):
    from residuum.models import MODELS
    return MODELS.bind({"name": "cifar_resnet", "depth": 8, **settings})
"""

WISHES = {
    "activation": Wish("models/activations.py", '"softplus": nn.Softplus,\n        ', '"relu6": nn.ReLU6,', """
        from residuum.models.activations import ACTIVATIONS
        testing.check_activation(ACTIVATIONS.bind("softplus"))
        listed("activations", "softplus")
        trained("model.activation=softplus")
        said("show", "activations")
    """),
    "shortcut": Wish("models/shortcuts.py", '"always": Projection, ', '"all_projection": Projection', """
        from residuum.models.shortcuts import SHORTCUTS
        testing.check_shortcut(SHORTCUTS.bind("always"))
        testing.check_network(made(shortcut="always"), in_channels=1, image_size=(8, 8))
        listed("shortcuts", "always")
        trained("model.shortcut=always")
    """),
    "stem": Wish("models/stem.py", '"1x1": lambda i, c: Stem(nn.Conv2d(i, c, 1, bias=False), nn.Identity(), stride=1), ',
                 '"7x7": conv7x7', """
        from residuum.models.stem import STEMS
        testing.check_stem(STEMS.bind("1x1"))
        testing.check_network(made(stem="1x1"), in_channels=1, image_size=(8, 8))
        listed("stems", "1x1")
        trained("model.stem=1x1")
    """),
    "pooling": Wish("models/pooling.py", '"corner": lambda: average(window=2), ', '"max": maximum', """
        from residuum.models.pooling import POOLINGS
        testing.check_pooling(lambda: POOLINGS.build("max"))
        testing.check_network(made(pooling="max"), in_channels=1, image_size=(8, 8))
        listed("poolings", "corner")
        trained("model.pooling=corner")
    """),
    "initialisation": Wish("models/init.py", '"again": he, ', '"zero_gamma": zero_gamma', """
        from residuum.models.init import INITS
        testing.check_initialization(INITS.bind("again"))
        testing.check_network(made(init="again"), in_channels=1, image_size=(8, 8))
        listed("initialisations", "again")
        trained("model.init=again")
    """),
    "network family": Wish("models/families/tiny.py", """
        from typing import Annotated
        from pydantic import Field
        from residuum.models.families.resnet import Network, staged_resnet

        def tiny_net(in_channels: int, classes: int, *, width: Annotated[int, Field(ge=1)] = 4) -> Network:
            \'\'\'A network of two stages.\'\'\'
            return staged_resnet(in_channels, classes, blocks=(1, 1), channels=(width, 2 * width))

        FAMILIES = {"tiny_net": tiny_net}
    """, "", """
        from residuum.models import MODELS
        testing.check_network(MODELS.bind("tiny_net"), classes=3)
        listed("families", "tiny_net")
        said("show", "model", "tiny_net")
        trained("model=tiny_net", "model.width=6", depth=())
        assert "did you mean 'tiny_net'" in said("show", "model", "tiny_nett", code=2)
    """),
    "short name of a network": Wish("networks/names.py", '"resnet12c": ((1, 1, 1, 2), (8, 8, 8, 8)),\n    ', '"resnet16c": (', """
        from residuum.networks.names import short_name
        from residuum.models import MODELS
        listed("models", "resnet12c")
        trained("model=resnet12c", depth=())
        assert short_name(MODELS.resolve({"name": "staged_resnet", "blocks": [1, 1, 1, 2], "channels": [8] * 4})) == "resnet12c"
    """),
    "preset of public code": Wish("networks/presets.py", '"me": Preset("me/my-networks", {"shortcut": "projection"}, '
                                  '{"": CIFAR}),\n    ', '"akamaster": Preset(', """
        listed("presets", "me")
        import torch
        from residuum.models import build
        from residuum.networks.names import network
        from residuum.registry import Choice
        net = build(Choice.of({**network("resnet8"), "shortcut": "projection"}), 3, 10, (32, 32), 0)
        torch.save(net.state_dict(), "w.pt")
        assert "so assumed as in me/my-networks" in said("import-weights", "w.pt", "--model", "resnet8", "--preset", "me")
    """),
    "optimizer": Wish("optim/optimizers.py", '"plain": lambda groups: sgd(groups, momentum=0.0),\n        ', '"adagrad": adagrad,', """
        from residuum.optim import OPTIMIZERS
        testing.check_optimizer(OPTIMIZERS.bind("plain"), lr=0.2)
        listed("optimizers", "plain")
        trained("optim.optimizer=plain")
    """),
    "loss": Wish("optim/losses.py", '"twice": lambda logits_NK, targets: 2 * cross_entropy(logits_NK, targets), ',
                 '"cross_entropy": cross_entropy', """
        from residuum.optim import LOSSES
        testing.check_loss(LOSSES.bind("twice"))
        listed("losses", "twice")
        trained("optim.loss=twice")
    """),
    "penalty": Wish("optim/penalties.py", '"cubes": lambda parameters: _total(parameters, lambda one: one.abs() ** 3), ', '"l2": l2', """
        from residuum.optim import PENALTIES
        testing.check_penalty(PENALTIES.bind("cubes"))
        listed("penalties", "cubes")
        trained("optim.penalties=cubes")
    """),
    "schedule": Wish("schedules.py", '"late": Schedule(lambda span: lambda step, _: 1.0 if step < span.total_steps - 2 else 0.1, '
                     'stepwise=True),\n    ', '"plateau": Schedule', """
        from residuum.records.measures import rate_drops
        from residuum.records.record import find_run, read_record
        from residuum.optim import SCHEDULES
        testing.check_schedule(SCHEDULES.bind("late"))
        listed("schedules", "late")
        run = trained("optim.schedule=late", "train.epochs=3")
        assert rate_drops(read_record(Path(run["folder"]))) == [3], "the measures know that the rate drops in steps"
        said("show", "schedules")
    """),
    "augmentation": Wish("data/augment.py", '"invert": Augmentation(lambda images_BCHW, draw: torch.where(_per_image(draw) < 0.5, '
                         '1 - images_BCHW, images_BCHW), _needs_colour("invert")),\n    ', '"cutout": Augmentation', """
        from residuum.data.augment import AUGMENTATIONS
        testing.check_augmentation(AUGMENTATIONS.bind("invert"))
        listed("augmentations", "invert")
        quick = ("train", "quick", "--set", "data.augment=invert")
        assert "data.augment[0]: invert needs 3 colour channels" in said(*quick, code=2)
        trained("data.dataset={name='synthetic', size=8, train=80, test=10}", "data.augment=invert")
        said("show", "augmentations")
    """),
    "mixing": Wish("data/mix.py", '"pairs": mixup, ', '"cutmix": cutmix', """
        from residuum.data.mix import MIXES
        testing.check_mixing(MIXES.build("pairs"))
        listed("mixes", "pairs")
        trained("data.mix=pairs")
    """),
    "normalisation": Wish("data/normalize.py", '"centred": lambda images, _seed: _affine(images, 0.5, 1.0), ', '"none": none', """
        from residuum.data.normalize import NORMALIZERS
        testing.check_normalization(NORMALIZERS.bind("centred"))
        listed("normalizations", "centred")
        trained("data.normalize=centred")
    """),
    "data set": Wish("data/datasets/stripes.py", """
        import numpy as np
        from residuum.data.dataset import Dataset, Split
        from residuum.data.datasets.source import Entry, Spread

        def stripes(root):
            \'\'\'Stripes in either direction.\'\'\'
            def split(count):
                labels = np.arange(count) % 2
                images = np.zeros((count, 1, 8, 8), np.uint8)
                for number, label in enumerate(labels):
                    images[number, 0][(slice(None, None, 2), slice(None))[:: 1 - 2 * label]] = 100 + number % 100
                return Split(images, labels)
            return Dataset.of("stripes", ("lying", "standing"), split(90), split(20))

        ENTRY = Entry("stripes", stripes, no_download="they are drawn", published=(90, 30), spread={"test_error": Spread(0.3, 1)},
                      lies_at=lambda path: (path / "stripes").exists())
    """, "", """
        from residuum.data.datasets import DATASETS
        testing.check_dataset(DATASETS.bind("stripes"))
        listed("datasets", "stripes")
        from residuum.data.datasets import ENTRIES
        assert ENTRIES["stripes"].spread["test_error"].sd == 0.3
        assert "20 test images, not the published 30" in said("data", "check", "stripes")
        assert "nothing to download for the images of 'stripes': they are drawn" in said("data", "fetch", "stripes", code=2)
        Path("here/stripes").mkdir(parents=True)
        assert said("data", "check", "here").startswith("stripes: ")
        trained("data.dataset=stripes", "data.augment=[]")
    """),
    "recipe": Wish("recipes.py", '"mine": lambda: quick().changed({"train.epochs": 1, "model.depth": 8}),\n    ', '"quick": quick', """
        listed("recipes", "mine")
        said("show", "recipe", "mine")
        from residuum.recipes import RECIPES
        testing.check_recipe(RECIPES["mine"])
        said("train", "mine", "--set", "data.subset=60")
    """),
    "study": Wish("studies/mine.toml", """
        question = "Are wider networks better?"
        base = "quick"
        seeds = 2
        [set]
        "model.depth" = 8
        [axes]
        "model.wide" = [1, 2]
    """, "", """
        assert "mine" in said("study", "list")
        assert "Are wider networks better?" in said("study", "show", "mine")
    """),
    "measure of a run": Wish("records/measures.py", 'Measure("updates", "updates of the run", "count", None, lambda record: '
                             'float(sum(1 for _ in record.epochs)), slow=True),\n    ', 'Measure("parameters"', """
        from residuum.records.measures import measure
        testing.check_measure(measure("updates"))
        from residuum.records.record import read_record
        listed("measures", "updates")
        assert measure("updates").of(read_record(Path(trained()["folder"]))) == 1
    """),
    "statistic, called from Python": Wish("analysis/midrange.py", """
        def midrange(values):
            \'\'\'The middle between the smallest and the largest value.\'\'\'
            return (min(values) + max(values)) / 2
    """, "", """
        from residuum.analysis.midrange import midrange
        assert midrange([3, 1, 2.5]) == 2
    """),
    "figure of runs": Wish("report/figures/rates.py", """
        from matplotlib.figure import Figure
        from residuum.report.figures.of_runs import OfRuns

        def draw(records, labels):
            figure = Figure()
            for record in records:
                figure.subplots().plot([one.lr for one in record.epochs])
            return figure

        OF_RUNS = OfRuns("rates", "the learning rate", draw)
    """, "", """
        from residuum.report.figures import of_runs
        testing.check_figure(of_runs.table()["rates"].draw)
        listed("figures", "rates")
        run = trained()
        said("draw", run["folder"], "--of", "rates")
        assert Path("rates.png").stat().st_size and Path("rates.svg").stat().st_size
        assert "did you mean 'rates'" in said("draw", run["folder"], "--of", "rate", code=2)
    """),
    "attribution method": Wish("attribution/middle.py", """
        import torch
        from residuum.attribution.method import Method

        def middle(network, images_NCHW, targets_N, baseline_CHW, *, level: float = 1.0):
            \'\'\'The same for every image: the middle.\'\'\'
            maps_NHW = torch.zeros(len(images_NCHW), *images_NCHW.shape[2:])
            maps_NHW[:, 2:-2, 2:-2] = level
            return {"input": maps_NHW}

        METHOD = Method("middle", middle, "The middle", coarse=True)
    """, "", """
        from residuum.attribution import METHODS
        from residuum.models import MODELS, build
        network = build(MODELS.resolve({"name": "cifar_resnet", "depth": 8}), 1, 3, (8, 8), 0).eval()
        testing.check_method(METHODS.bind("middle"), network, (1, 8, 8))
        listed("methods", "middle")
        said("explain", trained()["folder"], "--method", "middle", "--set", "level=2", "--images", "0", "1")
        assert [*Path("runs").glob("*/figures/middle*.png")]
    """),
    "command": Wish("cli/greeting.py", """
        def add(command):
            p = command("greet", lambda options: print("hello", options.name), "Say hello.")
            p.add_argument("name")
    """, "", """
        assert said("greet", "you") == "hello you\\n"
        from residuum.cli import build_parser
        assert "greet" in build_parser()[0].format_help()
    """),
    "launcher": Wish("conduct/launchers/simple.py", """
        from residuum.conduct.launchers.launcher import JobEvent, JobFailed
        from residuum.conduct.launchers.running import events
        from residuum.errors import InputError

        def launch(jobs, runs, room):
            for job in jobs:
                try:
                    for event in events(job, runs):
                        yield JobEvent(job.id, event)
                except InputError as error:
                    yield JobFailed(job.id, str(error))
    """, "", """
        listed("launchers", "simple")
        from residuum.conduct.launchers import LAUNCHERS
        testing.check_launcher(LAUNCHERS["simple"])
    """),
    "tracker": Wish("run/trackers/json.py", """
        import json
        from contextlib import contextmanager

        @contextmanager
        def tracker(place, run):
            \"\"\"A line of JSON for each epoch.\"\"\"
            place.mkdir(parents=True, exist_ok=True)
            with (place / f"{run.name}.jsonl").open("w") as file:
                class Log:
                    def epoch(self, number, values):
                        file.write(json.dumps({"epoch": number, **values}) + "\\n")

                    def end(self, status, values):
                        file.write(json.dumps({"status": status, **values}) + "\\n")
                yield Log()
    """, "", """
        listed("trackers", "json")
        run = trained()
        said("export-to", "json:told", run["run"])
        rows = [json.loads(line) for path in Path("told").iterdir() for line in path.read_text().splitlines()]
        assert [row.get("epoch", row.get("status")) for row in rows] == [1, "finished"], rows
    """),
    "choice among convolution kernels": Wish("engine/kernels/few_channels.py", "(16, 64, 1): ((1.0, 9.0), (1.0, 9.0), (9.0, 1.0)),\n    ",
                                             "(32, 32, 1): (", """
        from residuum.engine.kernels import few_channels
        few_channels.find_spec = lambda name: True  # as where Triton is installed
        assert few_channels.chosen("auto", 16, 64, 1, (9, 0), "bf16") == (True, True, False)
    """),
}  # fmt: skip


def rows() -> dict[str, str]:
    """What each wish of the table may touch, by the words of the wish."""
    table = re.findall(r"^\| (.+?) \| (.+?) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    whole = {wishes: where for wishes, where in table if wishes not in ("wish", "---")}
    return {wish: where for wishes, where in whole.items()
            for wish in ([wishes] if "called" in wishes else wishes.split(", "))}  # fmt: skip


def allows(where: str, file: str, new: bool) -> bool:
    """Whether a cell of the table names a file: by itself, by its folder, or as a file of a folder that it names."""
    named = re.findall(r"`([^`]+)`", where)
    folder = next((one for one in named if one.endswith("/")), "")
    files = [one for one in named if not one.endswith("/")]
    if where.startswith("a file in"):
        return new and str(Path(file).parent) + "/" == folder
    return not new and file in [folder + one for one in files]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts}  # fmt: skip


def lines(text: str) -> str:
    """A block of lines without the indentation of the first."""
    first = next((line for line in text.splitlines() if line.startswith("    ")), "")
    indent = first[: len(first) - len(first.lstrip())]
    return "\n".join(line.removeprefix(indent) for line in text.splitlines()) + "\n"


def test_every_wish_of_the_table_is_granted_here():
    assert set(rows()) == set(WISHES)


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Iterator[list[str]]:
    """The words that have a program run in a process that has imported everything but the package."""
    with warm.serving(tmp_path_factory.mktemp("asked") / "socket", warm.LIBRARIES) as asking:
        yield asking("code")


@pytest.mark.parametrize("name", list(WISHES))
def test_a_wish_touches_the_one_file_that_its_row_names(name, asked, tmp_path):
    wish, source = WISHES[name], ROOT / "src"
    copy = tmp_path / "src"
    shutil.copytree(source / "residuum", copy / "residuum")  # with what is compiled: it is as old as its source
    path = copy / "residuum" / wish.file
    if wish.before:
        text = path.read_text()
        assert text.count(wish.before) == 1, wish.before
        path.write_text(text.replace(wish.before, wish.put + wish.before))
    else:
        assert not path.exists()
        path.write_text(lines(wish.put))

    here, there = contents(source / "residuum"), contents(copy / "residuum")
    touched = [file for file in {*here, *there} if here.get(file) != there.get(file)]
    assert touched == [wish.file]
    assert allows(rows()[name], f"src/residuum/{wish.file}", new=wish.file not in here), rows()[name]

    # The cache of digits is this user's or this test's alone, but the same for all wishes.
    env = os.environ | {
        "PYTHONPATH": str(copy),
        "OMP_NUM_THREADS": "1",
        "RESIDUUM_CACHE": str(tmp_path.parent / "cache"),
    }
    program = f"import sys\nsys.path.insert(0, {str(copy)!r})\n" + HELPERS + lines(wish.works)
    done = subprocess.run([*asked, program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

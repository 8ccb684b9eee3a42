"""Own code in every place that takes it: blocks and all other parts, in study files and in Python, and data as objects."""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import residuum
from residuum import own
from residuum.attribution.network import feature_maps, randomised
from residuum.cli.options import data_settings
from residuum.conduct import planning
from residuum.conduct.launchers.launcher import Job
from residuum.conduct.launchers.tasks import compute, order_of
from residuum.config import RunConfig
from residuum.data.datasets import objects
from residuum.errors import InputError, Remark
from residuum.models import build
from residuum.models.blocks import ORDERINGS, Block
from residuum.models.outlining import outline
from residuum.registry import Choice
from residuum.run.assemble import resolve, training
from residuum.studies import parsing
from residuum.testing import check_own

EXAMPLES = Path(__file__).parents[2] / "examples"
SE = f"{EXAMPLES}/se.py:se"


def parts(name):
    return f"{EXAMPLES}/parts.py:{name}"


def small(**settings):
    return RunConfig().changed({"data.dataset": "digits", "data.subset": 100, "train.epochs": 1, "model.depth": 8,
                                "train.batch_size": 50, **settings})  # fmt: skip


def network(**settings):
    return build(resolve(small(**settings))[0].model, 1, 10, (8, 8), seed=3)


def test_every_part_can_be_own_code(tmp_path):
    settings = {"model.activation": {"name": parts("Mish2"), "beta": 1.5}, "data.augment": [parts("darker")],
                "optim.loss": parts("focal"), "optim.optimizer": parts("SignDescent"), "optim.lr": 0.001,
                "optim.schedule": {"name": parts("root"), "power": 1.0}, "model.block": SE,
                "data.dataset": parts("stripes"), "data.subset": 0}  # fmt: skip
    record = residuum.train(small(**settings), runs=tmp_path)
    assert record.status == "finished"
    assert len(list((record.folder / "code").iterdir())) == 2
    assert record.config.optim.optimizer.settings == {"momentum": 0.9}
    rates = [row["lr"] for row in record.steps()]
    np.testing.assert_allclose(rates, [0.001 * (1 - step / len(rates)) for step in range(len(rates))])
    values = record.config.model_dump(mode="json")
    (digest,) = (one for one, name in own.codes(values).items() if name.startswith("parts.py:"))
    named = own.called(values, digest)  # all of them, in the order of the settings
    assert named == "parts.py:stripes, darker, Mish2, SignDescent, root, focal"
    assert record.facts.train == 144  # of 200, a fifth is for the test and a tenth of the rest held out
    assert record.folder.name.startswith("resnet8-stripes-seed0-")


@pytest.mark.parametrize(("kind", "name", "settings"), [
    ("model", f"{EXAMPLES}/net.py:Net", {"width": 4}), ("block", SE, {"reduction": 2}),
    ("activation", parts("Mish2"), {"beta": 1.5}), ("augmentation", parts("darker"), {}), ("loss", parts("focal"), {}),
    ("schedule", parts("root"), {}), ("data set", parts("stripes"), {}), ("optimizer", parts("SignDescent"), {}),
])  # fmt: skip
def test_the_examples_hold_to_the_contracts(kind, name, settings):
    check_own(kind, name, **settings)


def test_a_contract_tells_what_is_wrong_with_own_code(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("import torch\nclass Bad(torch.nn.Module):\n    def forward(self, x):\n        return x.relu_()\n")
    with pytest.raises(AssertionError, match="in-place"):
        check_own("activation", f"{path}:Bad")
    with pytest.raises(AssertionError, match="no kind 'sound'"):
        check_own("sound", f"{path}:Bad")


UNHEEDING = """
from torch import nn

def no_stride(in_channels: int, channels: int, stride: int):
    return nn.Conv2d(in_channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)

def no_width(in_channels: int, channels: int, stride: int):
    return (nn.Conv2d(in_channels, in_channels, 3, stride=stride, padding=1),)

def neither(in_channels: int):
    return (nn.Conv2d(in_channels, in_channels, 3, padding=1),)
"""


@pytest.mark.parametrize(("name", "said"), [
    ("no_stride", "its stride, as in layer2.0, where maps of {0}×{0} stay as large at a stride of 2"),
    ("no_width", "its width: 16 channels leave it wherever it stands, and 16, 32, 64 were asked for"),
])  # fmt: skip
def test_a_block_that_does_not_heed_its_stride_or_width_is_told(tmp_path, name, said):
    path = tmp_path / "unheeding.py"
    path.write_text(UNHEEDING)
    with pytest.raises(AssertionError, match="it does not heed " + said.format(16)):
        check_own("block", f"{path}:{name}")
    config, data = resolve(small(**{"model": {"name": "cifar_resnet", "depth": 8, "block": f"{path}:{name}"}}))
    _, notes = training(config, data)
    assert f"the block unheeding.py:{name} does not heed {said.format(8)}" in notes
    check_own("block", f"{path}:neither")  # which does not say that it would
    _, notes = training(*resolve(small(**{"model": {"name": "cifar_resnet", "depth": 8, "block": SE}})))
    assert not any("heed" in note for note in notes)


FITTING = """
from torch import nn

class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x):
        return self.f(x)

class Ten(nn.Module):
    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

    def forward(self, x):
        return self.f(x)
"""


def test_a_network_is_checked_on_what_it_takes_and_what_it_does_not_take_is_told(tmp_path):
    path = tmp_path / "fitting.py"
    path.write_text(FITTING)
    with pytest.warns(Remark, match=r"checked with images of 1×8×8 and 10 classes; it does not take images of 1×16×16, "
                                    r"images of 3×20×20, 7 classes"):  # fmt: skip
        check_own("model", f"{path}:Digits")
    with pytest.raises(AssertionError, match="given 7 classes, and does not make 7 logits"):
        check_own("model", f"{path}:Ten")


@pytest.mark.parametrize(("kind", "text", "said"), [
    ("activation", "import torch\nclass f(torch.nn.Module):\n    def forward(self, x): return x[..., ::2]",
     r"makes \[2, 4, 6, 3\] of \[2, 4, 6, 6\]; an activation keeps the shape"),
    ("loss", "from torch.nn.functional import cross_entropy\n"
             "def f(logits, targets): return cross_entropy(logits, targets).detach()", "no gradient of the logits"),
    ("augmentation", "def f(images, draw): images.mul(0.5)", "gives a NoneType, not images as a tensor"),
    ("schedule", "def f(span): return lambda step, losses: -1.0", "from 0 on, not -1, as at step 0"),
    ("schedule", "def f(span): return lambda step, losses: 'fast'", "gives a number, not 'fast'"),
    ("schedule", "def f(span): return 0.5", "makes a float; a schedule makes a function"),
])  # fmt: skip
def test_a_contract_says_what_a_part_may_not_do(tmp_path, kind, text, said):
    (tmp_path / "part.py").write_text(text)
    with pytest.raises(AssertionError, match=said):
        check_own(kind, f"{tmp_path}/part.py:f")


@pytest.mark.parametrize(("text", "setting", "said"), [
    ("def f():\n    return 3", "model.activation", "makes a int, not a module"),
    ("def f(in_channels):\n    return 3", "model.block", "makes a int; a block is a sequence of modules"),
    ("import torch\ndef f(channels):\n    return (torch.nn.ReLU(),)", "model.block", "without a convolution"),
    ("def f(groups):\n    return 3", "optim.optimizer", "an optimizer is a torch.optim.Optimizer"),
    ("def f(images, draw):\n    return images[:1]", "data.augment", "keep type and shape"),
    ("def f(images):\n    return images", "optim.penalties", "own code cannot be one"),
    ("def f():\n    return 3", "data.dataset", "is a int; give arrays"),
])  # fmt: skip
def test_what_a_part_may_not_be(tmp_path, text, setting, said):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError) as caught:
        residuum.train(small(**{setting: f"{tmp_path}/mine.py:f"}), runs=tmp_path / "runs")
    assert said in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_loss_that_is_a_module_is_made_once(tmp_path):
    """And once before, for the update that is tried."""
    (tmp_path / "mine.py").write_text(
        "import torch\nclass Loss(torch.nn.Module):\n    made = 0\n    def __init__(self, by: float = 2.0):\n"
        "        super().__init__()\n        Loss.made += 1\n        self.by = by\n"
        "    def forward(self, logits, targets):\n        assert Loss.made <= 2\n"
        "        return self.by * torch.nn.functional.cross_entropy(logits, targets)\n"
    )
    plain = residuum.train(small(), runs=tmp_path / "runs")
    twice = residuum.train(small(**{"optim.loss": f"{tmp_path}/mine.py:Loss"}), runs=tmp_path / "runs")
    assert twice.steps()[0]["loss"] == pytest.approx(2 * plain.steps()[0]["loss"], rel=1e-5)


class Extra(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize("ordering", list(ORDERINGS))
@pytest.mark.parametrize("seed", range(4))
def test_what_is_no_convolution_follows_its_own_in_every_ordering(ordering, seed):
    draw = random.Random(f"{ordering} {seed}")
    convs = [nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(draw.randint(1, 3))]
    listed = []
    for number, conv in enumerate(convs, start=1):
        listed += [(number, conv), *((number, Extra()) for _ in range(draw.randint(0, 2)))]
    order = ORDERINGS.build(ordering)

    def made(modules):
        return Block(modules, lambda *_: nn.Identity(), nn.ReLU, order, activated=False)

    block, bare = made([module for _, module in listed]), made(convs)
    assert tuple(name for name in block.branch if not name.startswith("extra")) == bare.branch
    assert (block.before, block.after) == (bare.before, bare.after)
    owners = [number for number, module in listed if isinstance(module, Extra)]
    for extra, number in enumerate(owners, start=1):
        at = block.branch.index(f"extra{extra}")
        assert block.branch[at - 1] in (f"conv{number}", f"bn{number}", f"extra{extra - 1}")
    x_NCHW = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(seed))
    bare.load_state_dict(block.state_dict())
    assert torch.equal(block(x_NCHW), bare(x_NCHW))


def test_a_network_with_and_without_own_blocks_is_a_pair():
    plain, with_se = network().state_dict(), network(**{"model.block": SE}).state_dict()
    assert len(with_se) == len(plain) + 3 * 4
    assert all(torch.equal(value, with_se[name]) for name, value in plain.items())


def test_its_outline_has_one_box_for_it():
    block = outline(network(**{"model.block": SE, "model.activation": parts("Mish2")}), (1, 8, 8)).stages[2][0]
    assert [layer.kind for layer in block.branch] == [
        "conv 3x3 /2", "batch norm", "mish2", "conv 3x3", "batch norm", "SqueezeExcite",
    ]  # fmt: skip
    assert block.shortcut is not None
    assert block.output_shape == (64, 2, 2)


WHOLE = """
from torch import nn

class Whole(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int, growth: int = 4):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, growth * channels, 3, stride=stride, padding=1)

    def forward(self, x):
        return self.conv(x).relu()
"""


def test_a_module_is_a_whole_block(tmp_path):
    (tmp_path / "mine.py").write_text(WHOLE)
    made = network(**{"model.block": {"name": f"{tmp_path}/mine.py:Whole", "growth": 2}, "model.depth": 8})
    assert [len(getattr(made, stage)) for stage in made.stages] == [2, 2, 2]  # one convolution each
    assert made.linear.in_features == 2 * 64
    assert outline(made, (1, 8, 8)).stages[1][0].shortcut is None


def test_grad_cam_and_unlearning_find_their_way_by_hooks():
    made = build(Choice.of(f"{EXAMPLES}/net.py:Net"), 1, 10, (8, 8), seed=0).eval()
    before = made.state_dict()["head.weight"].clone()
    assert list(feature_maps(made, torch.zeros(1, 1, 8, 8))) == ["features.1", "features"]
    assert not any(module._forward_hooks for module in made.modules())
    unlearned = [(part, copy.state_dict()["features.0.weight"].clone()) for part, copy in randomised(made, 1)]
    assert [part for part, _ in unlearned] == ["head", "features"]
    assert torch.equal(unlearned[0][1], made.state_dict()["features.0.weight"])
    assert not torch.equal(unlearned[1][1], unlearned[0][1])
    assert torch.equal(made.state_dict()["head.weight"], before)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(InputError, match="no feature maps"):
        feature_maps(flat, torch.zeros(1, 1, 8, 8))


STUDY = """
question = "Does it help?"
base = "quick"
seeds = 2
[set]
"model.depth" = 8
"train.epochs" = 1
"data.subset" = 100
[axes]
"model.block" = ["basic", "code/se.py:se", {name = "code/se.py:se", reduction = 2}]
[[claims]]
text = "It helps."
expect = "se < basic"
"""


def test_a_study_file_names_files_beside_it_and_workers_have_their_text(run, monkeypatch):
    Path("there/code").mkdir(parents=True)
    Path("there/code/se.py").write_text((EXAMPLES / "se.py").read_text())
    Path("there/blocks.toml").write_text(STUDY)
    study = parsing.read("there/blocks.toml")
    assert [arm.name for arm in study.arms()] == ["basic", "se", "se reduction=2"]
    code, _, err = run("study", "run", "there/blocks.toml", "--seeds", "1", "--workers", "2")
    assert code == 0, err
    assert len(list(Path("runs").glob("*/code/se-*.py"))) == 2
    assert run("study", "report", "blocks")[0] == 0
    page = next(Path("runs/studies").glob("*/report/index.html")).read_text()
    assert "se reduction=2" in page
    assert str(Path.cwd()) not in page

    # Elsewhere neither the file nor the cache is there: the text comes with the job.
    config = resolve(study.arms()[1].config)[0]
    order = order_of(Job("one", config, "quick"))
    monkeypatch.setattr(own, "_SOURCES", {})
    monkeypatch.setattr(own, "_MODULES", {})
    monkeypatch.setenv("RESIDUUM_CACHE", str(Path("elsewhere").absolute()))
    assert run("study", "report", "blocks")[0] == 0  # which reads, and runs nothing
    assert not own._MODULES
    *_, (name, ended) = compute([order], "runs-elsewhere")
    assert (name, ended.how) == ("one", "done")


def test_a_study_in_python_takes_objects():
    study = residuum.Study(question="?", base="quick", seeds=1, axes={"model": ["resnet20", Extra]})
    assert [arm.name for arm in study.arms()] == ["resnet20", "Extra"]
    assert study.arms()[1].config.model.code


def test_one_word_for_the_data_in_a_study_and_in_python(tmp_path, monkeypatch):
    source = np.random.default_rng(0)
    labels_N = np.arange(40) % 4
    path = residuum.keep_data((source.integers(0, 256, (40, 8, 8), np.uint8), labels_N), path=tmp_path / "own.npz")
    (tmp_path / "s.toml").write_text('question = "?"\nbase = "quick"\nseeds = 1\n[set]\ndata = "own.npz"\n')
    monkeypatch.chdir(tmp_path.parent)
    (arm,) = parsing.read(str(tmp_path / "s.toml")).arms()
    in_python = RunConfig().changed({"data": str(path)})
    for config in (arm.config, in_python):
        resolved, _ = resolve(config.changed({"data.validation": 0}))
        assert resolved.data.dataset.name == "arrays"
        assert resolved.data.root == str(path)
    assert RunConfig().changed({"data": "digits"}).data.dataset.name == "digits"
    with pytest.raises(InputError, match="data: 'nowhere/x' does not exist"):
        RunConfig().changed({"data": "nowhere/x"})


@pytest.mark.parametrize("settings", [
    "[set]\ndata.dataset.channels = 1\ndata.subset = 9", '[set]\n"data.dataset.channels" = 1\n"data.subset" = 9',
    "[set.data]\nsubset = 9\n[set.data.dataset]\nchannels = 1",
])  # fmt: skip
@pytest.mark.parametrize("top", ['data = "pics"\n', ""])
def test_settings_of_the_data_stand_below_it_in_every_form_and_beside_the_commands(tmp_path, settings, top):
    for split in ("train", "test"):
        for number in range(10):
            (tmp_path / "pics" / split / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(np.full((8, 8, 3), number, np.uint8))
            image.save(tmp_path / "pics" / split / "ab"[number % 2] / f"{number}.png")
    (tmp_path / "s.toml").write_text(f'question = "?"\nbase = "quick"\nseeds = 1\n{top}{settings}\n')
    study = parsing.read(str(tmp_path / "s.toml"))
    for changed in [{}] * bool(top) + [data_settings(str(tmp_path / "pics"))]:
        (run,) = planning.plan(study, {"data.validation": 0, **changed}).runs
        assert (run.config.data.dataset.settings["channels"], run.config.data.subset) == (1, 9)


def test_a_setting_below_a_name_in_toml_is_told_to_stand_in_quotes(tmp_path):
    (tmp_path / "q.toml").write_text(
        'question = "?"\nbase = "quick"\nseeds = 1\n[set]\nmodel = "resnet20"\nmodel.depth = 8\n'
    )
    with pytest.raises(InputError, match=r'line 6: not TOML .* in quotes it may stand there: "model.depth"'):
        parsing.read(str(tmp_path / "q.toml"))


class Pairs(torch.utils.data.Dataset):
    """A data set as torch has it."""

    classes = ("a", "b", "c")

    def __init__(self, images, labels, form):
        self.images, self.labels, self.form = images, labels, form

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, number):
        return self.form(self.images[number]), int(self.labels[number])


class Columns:
    """A data set as Hugging Face has it."""

    column_names = ("img", "label")

    def __init__(self, images, labels):
        self.features = {"label": SimpleNamespace(names=["a", "b", "c"])}
        self.columns = {"img": [Image.fromarray(image) for image in images], "label": [*map(int, labels)]}

    def __getitem__(self, name):
        return self.columns[name]


@pytest.mark.parametrize("seed", range(6))
def test_the_same_images_are_the_same_data_in_every_form(tmp_path, seed):
    source = np.random.default_rng(seed)
    shape = (int(source.integers(4, 9)), int(source.integers(4, 9)), *[(), (3,)][seed % 2])
    pairs = {
        which: (source.integers(0, 256, (number, *shape), np.uint8), np.arange(number) % 3)
        for which, number in (("train", 12), ("validation", 6), ("test", 9))
    }
    as_tensor = (lambda image: torch.from_numpy(image / 255).float()) if seed % 2 == 0 else (
        lambda image: torch.from_numpy(image / 255).permute(2, 0, 1).float()
    )  # fmt: skip
    forms = [
        pairs,
        {{"validation": "valid"}.get(which, which): part for which, part in pairs.items()},
        tuple(pairs.values()),
        {which: Pairs(*part, as_tensor) for which, part in pairs.items()},
        {which: Pairs(*part, Image.fromarray) for which, part in pairs.items()},
        {which: Columns(*part) for which, part in pairs.items()},
        {which: ([*images], [*labels]) for which, (images, labels) in pairs.items()},
    ]
    made = [objects.dataset_of(form, "d", ("a", "b", "c")) for form in forms]
    assert len({one.fingerprint for one in made}) == 1
    assert made[0].validation is not None
    again, _ = resolve(RunConfig().changed({"data": str(residuum.keep_data(forms[seed], classes=("a", "b", "c")))}))
    assert again.data.fingerprint == made[0].fingerprint


@pytest.mark.parametrize(("value", "said"), [
    ({"train": ([], []), "other": ([], [])}, "the parts train, other"),
    ((np.zeros((4, 8, 8)), np.zeros(3)), "4 images and 3 labels"),
    ((np.random.default_rng(0).normal(size=(4, 8, 8)), np.arange(4)), "pixels are 0 to 255, or 0 to 1"),
    (([np.zeros((8, 8)), np.zeros((8, 9))], [0, 1]), "several sizes"),
    (7, "is a int; give arrays"),
    ([1, 2, 3], "a list of 3"),
    (Pairs(np.zeros((0, 8, 8)), np.zeros(0), lambda image: image), "no data set of pairs"),
])  # fmt: skip
def test_what_is_no_data_is_a_line(value, said):
    with pytest.raises(InputError) as caught:
        residuum.keep_data(value)
    assert said in str(caught.value)

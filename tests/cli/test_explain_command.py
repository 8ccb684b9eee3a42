"""`residuum explain` and `residuum predict --explain`: what is printed, what is drawn, and what lies where."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residuum.cli import main
from residuum.records import rows
from residuum.records.attributions import read
from residuum.records.record import find_runs, read_record
from residuum.records.run_folder import checkpoints
from residuum.run import explaining

TINY = [
    "--set", 'data.dataset={name = "synthetic", size = 16, train = 96, test = 40}', "--set", "data.validation=24",
    "--set", "model.channels=[4, 4, 8]", "--set", "model.depth=8", "--set", "compute.threads=1", "--batch-size", "24",
    "--epochs", "5",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    assert main(["train", "quick", *TINY, "--runs", str(root), "--json"]) == 0
    return root, *find_runs(root)


@pytest.fixture
def run(trained, capsys):
    """Run a command on that run; gives exit code, standard output and standard error."""

    def command(name, *words):
        code = main([name, str(trained[1]), *map(str, words), "--runs", str(trained[0])])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a picture.v2.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(path)
    return path


def test_the_chosen_images_with_epochs(run, trained, tmp_path):
    _, folder = trained
    reads = read_record(folder).test_reads
    code, out, err = run("explain", "--epochs")
    assert (code, err) == (0, "")
    assert read_record(folder).test_reads == reads + 1
    assert main(["classes", str(folder), "--mistakes", "1", "--json", "--out", str(tmp_path)]) == 0
    assert rows.read_rows(folder / "test_reads.jsonl")[-2:] == [
        {"why": "explain", "epoch": 5, "device": "cpu", "precision": "bf16"},
        {"why": "classes", "epoch": 5},
    ]
    chosen = explaining.most_confident(read_record(folder))[:4]
    names = ["grad-cam", *(f"grad-cam-by-epoch-{number}-no-{image}" for number, image in enumerate(chosen, start=1))]
    assert sorted(p.name for p in (folder / "figures").iterdir()) == sorted(
        f"{name}.{form}" for name in names for form in ("png", "svg")
    )
    found, *by_epoch = (read(folder / "attributions" / f"{name}.safetensors") for name in names)
    assert list(found.maps) == ["stem", "layer1", "layer2", "layer3"]
    kept = tuple(position.epoch for position, _ in checkpoints(folder))
    assert [(one.epochs, one.names[0]) for one in by_epoch] == [((0, *kept), name) for name in found.names[:4]]
    assert len(kept) < 5
    epochs = ", ".join(map(str, (0, *kept)))
    assert f"by the weights of epochs {epochs} (0: before training); --images chooses others than the first 4; " in out
    assert f"{len(kept)} of 5 were kept (--set save.keep=0 keeps all)" in out
    for row, name in enumerate(found.names):
        words = [*name.split(), *found.true(row).split(), *found.classes[found.predicted_N[row]].split()]
        assert sum(line.split()[: len(words)] == words for line in out.splitlines()) == 1
    assert "Near 1, a map would not depend on what that part learned." in out
    (line,) = [line for line in out.splitlines() if line.split()[:1] == ["linear"]]
    assert f"{found.similarity['linear']['layer3'].mean:.2f}" in line


def test_json_names_everything(run, trained, tmp_path):
    _, folder = trained
    out_folder = tmp_path / "new" / "figures"
    asked = ["--images", "3", "1", "--method", "integrated-gradients", "--steps", "4", "--target", "true"]
    code, out, err = run("explain", *asked, "--out", out_folder, "--json")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert (values["run"], values["epoch"]) == (read_record(folder).id, 5)
    assert (values["method"], values["settings"], values["target"]) == ("integrated-gradients", {"steps": 4}, "true")
    name = "integrated-gradients-steps4-3-1-for-true"
    assert values["arrays"] == [str(folder / "attributions" / f"{name}.safetensors")]
    assert values["figures"] == [str(out_folder / f"{name}.{form}") for form in ("png", "svg")]
    assert sorted(path.name for path in out_folder.iterdir()) == [f"{name}.png", f"{name}.svg"]
    found = read(folder / "attributions" / f"{name}.safetensors")
    assert [one["image"] for one in values["images"]] == ["no. 3", "no. 1"]
    for row, one in enumerate(values["images"]):
        assert one["true"] == one["explained"] == found.true(row)
        assert (one["gap"], one["difference"]) == tuple(found.gaps_N2[row].tolist())
        assert one["probability"] == found.probabilities_NK[row].max()
    assert list(values["similarity"]) == ["linear", "layer3", "layer2", "layer1", "stem"]
    assert "epochs" not in values
    code, out, _ = run("explain", *asked, "--out", out_folder)
    gaps, differences = np.abs(found.gaps_N2).T
    assert (
        f"misses the difference of the logits by {gaps.mean():.3g} on average, {gaps.sum() / differences.sum():.1%}"
        in out
    )


def test_the_same_command_gives_the_same_bytes(run, trained, image, tmp_path):
    _, folder = trained
    before = read_record(folder).test_reads
    contents = []
    for place in ("one", "two"):
        code, out, _ = run("explain", image, "--method", "occlusion", "--out", tmp_path / place, "--json")
        assert code == 0
        values = json.loads(out)
        paths = [*values["arrays"], *values["figures"]]
        contents.append([open(path, "rb").read() for path in paths])  # noqa: PTH123, SIM115
    assert contents[0] == contents[1]
    assert values["settings"] == {"window": 4, "stride": 2}
    assert values["images"][0]["true"] == ""
    assert read_record(folder).test_reads == before


def test_predict_draws_each_file(run, trained, image, tmp_path):
    _, folder = trained
    other = tmp_path / "elsewhere" / image.name
    other.parent.mkdir()
    Image.new("RGB", (20, 30), "red").save(other)
    code, plain, _ = run("predict", image, other, "--json")
    assert code == 0
    code, out, err = run("predict", image, other, "--explain", "--out", tmp_path / "out", "--json")
    assert (code, err) == (0, "")
    drawn = []
    for line, before in zip(out.splitlines(), plain.splitlines(), strict=True):
        values = json.loads(line)
        drawn += values.pop("figures")
        assert values == json.loads(before)
    names = [f"predict-a-picture-v2{end}" for end in (".png", ".svg", "-2.png", "-2.svg")]
    assert drawn == [str(tmp_path / "out" / name) for name in names]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    code, out, _ = run("predict", image, "--explain")
    first, *paths = out.splitlines()
    assert first.startswith(str(image))
    assert [path.strip() for path in paths] == [str(folder / "figures" / name) for name in names[:2]]


def test_a_folder_that_cannot_be_is_one_line_before_anything_is_computed(run, trained):
    before = read_record(trained[1]).test_reads
    code, _, err = run("explain", "--out", f"{'x' * 300}/y")
    assert (code, err.count("\n")) == (2, 1)
    assert read_record(trained[1]).test_reads == before


def test_another_question_does_not_overwrite_an_answer(run, trained, image, tmp_path):
    other = tmp_path / "elsewhere" / image.name
    other.parent.mkdir()
    Image.new("RGB", (16, 16), "red").save(other)
    asked = [
        ["--images", "1"], ["--images", "2"], ["--images", "1", "2"], ["--images", *map(str, range(5))],
        ["--images", *map(str, range(1, 6))], [image], [other], ["--images", "1", "--method", "occlusion"],
        ["--images", "1", "--method", "occlusion", "--window", "2"],
        ["--images", "1", "--method", "occlusion", "--window", "2", "--stride", "1"],
        ["--images", "1", "--which", "selected"], ["--images", "1", "--target", "true"],
    ]  # fmt: skip
    names = []
    for words in asked:
        code, out, _ = run("explain", *words, "--out", tmp_path / "out", "--json")
        assert code == 0
        names += json.loads(out)["arrays"]
    assert len(set(names)) == len(asked)


def test_two_runs_are_explained_on_the_same_images(run, trained, tmp_path, capsys):
    root, folder = trained
    assert main(["train", "quick", *TINY, "--seed", "1", "--runs", str(root), "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    code, out, err = run("explain", "--beside", other["run"], "--json", "--out", tmp_path / "pair")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert [one["image"] for one in values["images"]] == [one["image"] for one in values["beside"]["images"]]
    assert values["beside"]["run"] == other["run"]
    one, two = map(read, map(Path, values["arrays"]))
    np.testing.assert_array_equal(one.images_NCHW, two.images_NCHW)
    assert Path(values["arrays"][1]).is_relative_to(other["folder"])
    assert [Path(path).name for path in values["figures"]] == [
        f"grad-cam-and-{other['run']}.{e}" for e in ("png", "svg")
    ]
    assert not (Path(other["folder"]) / "attributions" / "grad-cam.safetensors").exists()
    code, out, _ = run("explain", "--beside", other["run"], "--images", "1", "2", "--epochs", "--json")
    arrays = [Path(path) for path in json.loads(out)["arrays"]]
    assert [path.stem for path in arrays if path.is_relative_to(other["folder"])] == [
        f"grad-cam-1-2-beside-{read_record(folder).id}{end}" for end in ("", "-by-epoch-1-no-1", "-by-epoch-2-no-2")
    ]
    own, its = (
        [
            Path(path).stem
            for path in json.loads(out)["figures"]
            if path.endswith(".png") and (f"-and-{other['run']}" in path) == of
        ]
        for of in (False, True)
    )
    assert own == ["grad-cam-1-2-by-epoch-1-no-1", "grad-cam-1-2-by-epoch-2-no-2"]
    assert its == [f"grad-cam-1-2-and-{other['run']}{end}" for end in ("", "-by-epoch-1-no-1", "-by-epoch-2-no-2")]
    code, _, err = run("explain", "--beside", folder)
    assert (code, "is named twice; name each run once" in err) == (2, True)
    assert main(["train", "quick", *TINY, "--set", "data.dataset.train=97", "--runs", str(root), "--json"]) == 0
    third = json.loads(capsys.readouterr().out)
    code, _, err = run("explain", "--beside", third["run"])
    assert (code, "was trained on other data" in err) == (2, True)
    for one in (other, third):
        shutil.rmtree(one["folder"])


@pytest.mark.parametrize(("words", "message"), [
    (["explain", "--out", __file__], "is a file; name a folder"),
    (["explain", "--out", f"{__file__}/deeper"], "is a file; name a folder"),
    (["explain", "--method", "occlusion", "--window", "0"], "--window: 0 pixels; at least 1"),
    (["explain", "--method", "occlusion", "--stride", "-1"], "--stride: -1 pixels; at least 1"),
    (["explain", "--method", "gradcam"], "unknown method 'gradcam'; did you mean 'grad-cam'?"),
    (["explain", "--target", "class 33"], "--target: unknown class 'class 33'; did you mean 'class 3'?"),
    (["explain", "--window", "3"], "method.window: method 'grad-cam' has no settings"),
    (["explain", "--method", "occlusion", "--window", "17"], "a window of 17 pixels does not fit into 16×16"),
    (["explain", "nowhere.png"], "nowhere.png is missing"),
    (["explain", "--images", "40"], "there is no test image 40; they are numbered from 0 to 39"),
    (["explain", "--images", "-1"], "there is no test image -1; they are numbered from 0 to 39"),
    (["explain", "--images", "one"], "argument --images: 'one' is no whole number"),
    (["explain", "--data", "nowhere"], "data.root: synthetic images are generated; leave it empty"),
    (["predict", "nowhere.png", "--explain"], "nowhere.png is missing"),
    (["predict", "nowhere.png", "--out", "x"], "--out is the folder for the figures of --explain"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(run, trained, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    _, folder = trained
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("residuum: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
    assert not list(tmp_path.iterdir())

"""`residuum classes`: what is printed, what is drawn, and which readings of the test set are counted."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from residuum.cli import main
from residuum.config import RunConfig
from residuum.errors import InputError
from residuum.records.record import find_runs, read_record

DATA = 'data.dataset={name = "synthetic", size = 16, train = 96, test = 40}'
TINY = [
    "--set", DATA, "--set", "data.validation=24", "--set", "model.channels=[4, 4, 8]", "--set", "model.depth=8",
    "--set", "compute.threads=1", "--batch-size", "24", "--epochs", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with two runs, of seeds 0 and 1, and with one that was not finished."""
    root = tmp_path_factory.mktemp("runs")
    for seed in ("0", "1"):
        assert main(["train", "quick", *TINY, "--seed", seed, "--runs", str(root), "--json"]) == 0
    return root, *find_runs(root)


@pytest.fixture
def run(trained, capsys):
    """Run `residuum classes` on runs of that folder; gives exit code, standard output and standard error."""

    def command(*words):
        code = main(["classes", *map(str, words), "--runs", str(trained[0])])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def counted(folder):
    """The confusion matrix of saved predictions, image by image."""
    tensors = load_file(folder / "predictions" / "last.safetensors")
    counts_KK = np.zeros((10, 10), np.int64)
    np.add.at(counts_KK, (tensors["labels_N"], tensors["logits_NK"].argmax(axis=1)), 1)
    return counts_KK.tolist()


def test_json_has_the_numbers_of_the_saved_predictions(run, trained, tmp_path):
    _, first, _ = trained
    code, out, err = run(first, "--json", "--mistakes", "3", "--out", tmp_path / "new" / "figures")
    assert code == 0, err
    values = json.loads(out)
    record = read_record(first)
    (found,) = values["runs"]
    assert (found["run"], found["which"], found["images"], values["pair"]) == (record.id, "last", 40, None)
    assert found["confusion"] == counted(first)
    assert found["accuracy"] == record.result.last.test.accuracy
    assert [one["name"] for one in found["classes"]] == [*record.data.classes]
    assert sum(one["images"] for one in found["calibration"]["bins"]) == 40
    assert len(found["mistakes"]) == 3
    names = [f"{name}.{form}" for name in ("confusion", "reliability", "mistakes") for form in ("png", "svg")]
    assert values["figures"] == [str(tmp_path / "new" / "figures" / name) for name in names]
    assert sorted(path.name for path in (tmp_path / "new" / "figures").iterdir()) == sorted(names)


def test_the_figures_lie_in_the_run_and_the_reading_of_the_images_is_counted(run, trained):
    _, first, _ = trained
    before = read_record(first).test_reads
    code, out, err = run(first, "--mistakes", "0")
    assert (code, err) == (0, "")
    assert read_record(first).test_reads == before
    assert not list(first.glob("figures/mistakes*"))
    assert "precision" in out
    assert "resnet8 on synthetic, seed 0" in out
    assert f"acc {read_record(first).result.last.test.accuracy:.4f} (40 images)" in out
    code, _, err = run(first, "--which", "selected")
    assert (code, err) == (0, "")
    assert read_record(first).test_reads == before + 1
    assert {path.name for path in first.glob("figures/*.png")} == {
        "confusion.png", "reliability.png",
        "confusion-selected.png", "reliability-selected.png", "mistakes-selected.png",
    }  # fmt: skip


def test_two_runs_side_by_side(run, trained, tmp_path):
    _, first, second = trained
    reads = [read_record(folder).test_reads for folder in (first, second)]
    code, out, err = run(first, second, "--json", "--out", tmp_path)
    assert code == 0, err
    values = json.loads(out)
    ids = [read_record(folder).id for folder in (first, second)]
    assert [one["run"] for one in values["runs"]] == ids
    assert [one["label"] for one in values["runs"]] == [f"resnet8 on synthetic, seed {seed}" for seed in (0, 1)]
    accuracies = [one["accuracy"] for one in values["runs"]]
    assert values["pair"]["difference"] == pytest.approx(100 * (accuracies[0] - accuracies[1]))
    assert (tmp_path / f"confusion-and-{ids[1]}.svg").exists()
    assert [read_record(folder).test_reads for folder in (first, second)] == [count + 1 for count in reads]
    code, out, _ = run(first, second, "--out", tmp_path, "--mistakes", "0")
    assert code == 0
    assert "recall 1" in out
    assert "recall 2" in out
    assert "McNemar" in out


def test_without_the_images_the_rest_is_still_drawn(run, trained, tmp_path, monkeypatch):
    from residuum.run import assemble

    def missing(_config):
        raise InputError("the images are elsewhere")

    _, first, _ = trained
    before = read_record(first).test_reads
    monkeypatch.setattr(assemble, "dataset_of", missing)
    code, _, err = run(first, "--out", tmp_path)
    assert code == 0
    assert err == "note: the mistakes are not drawn: the images are elsewhere; --data says where the data lies now\n"
    assert {path.stem for path in tmp_path.iterdir()} == {"confusion", "reliability"}
    assert read_record(first).test_reads == before
    code, _, err = run(first, "--out", tmp_path, "--data", "nowhere")
    assert (code, err) == (2, "residuum: the images are elsewhere\n")


def test_data_says_where_the_images_lie(run, trained, tmp_path, monkeypatch):
    from residuum.run import assemble

    _, first, _ = trained
    asked, found = [], assemble.dataset_of(read_record(first).config.data)

    def dataset_of(config):
        asked.append(config.root)
        return found

    monkeypatch.setattr(assemble, "dataset_of", dataset_of)
    assert run(first, "--out", tmp_path, "--data", "moved")[0] == 0
    assert asked == ["moved"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{0}", "{0}"], "is named twice; name each run once"),
        (["{0}", "{1}", "{2}"], "3 runs: a confusion matrix shows one run, or compares two"),
        (["{0}", "--mistakes", "-1"], "--mistakes: -1 images; 0 to 200 fit into a figure"),
        (["{3}"], "has no predictions: a run leaves them when it finishes; it is stopped"),
        (["{0}", "--out", "{4}"], "is a file; name a folder"),
    ],
)
def test_a_mistake_is_one_line(run, trained, tmp_path, words, message):
    _, first, second = trained
    third, stopped = tmp_path / "third", tmp_path / "stopped"
    config = read_record(first).config
    for folder, seed in ((third, 2), (stopped, 3)):
        write_config(folder, config.changed({"train.seed": seed}))
    (third / "data.json").write_bytes((first / "data.json").read_bytes())
    (third / "predictions").symlink_to(first / "predictions")
    (tmp_path / "file").touch()
    places = (first, second, third, stopped, tmp_path / "file" / "folder")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    code, _, err = run(*(word.format(*places) for word in words))
    assert code == 2
    assert err.startswith("residuum: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def write_config(folder: Path, config: RunConfig):
    from residuum.records import run_folder

    folder.mkdir()
    run_folder.begin(folder, config, "quick")
    (folder / "predictions").rmdir()

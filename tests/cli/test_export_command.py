"""`residuum export`: another program gets the network's logits from the file alone, or there is no file."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from residuum.cli import main
from residuum.config import RunConfig
from residuum.data.normalize import Normalization
from residuum.errors import tally
from residuum.models import build
from residuum.records.record import read_record
from residuum.registry import Choice
from residuum.run import predict, weights
from residuum.training import train

ort = pytest.importorskip("onnxruntime")


def small(**settings):
    base = {
        "data.dataset": {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 4},
        "data.validation": 12,
        "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]},
        "optim.lr": 0.02,
        "train.epochs": 1,
        "train.batch_size": 16,
        "compute.precision": "fp32",
        "compute.threads": 1,
    }
    return RunConfig().changed(base | settings)


@pytest.fixture(scope="module", params=["standardize", "per_image", "none"])
def record(request, tmp_path_factory):
    return train(small(**{"data.normalize": request.param}), tmp_path_factory.mktemp("runs"))


@pytest.fixture
def images_NCHW():
    return torch.randint(0, 256, (7, 3, 12, 12), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)


def test_a_graph_gives_the_networks_logits_of_any_number_of_pixels(record, images_NCHW, tmp_path, capsys):
    out = tmp_path / "net.onnx"
    reads = record.test_reads
    assert main(["export", str(record.folder), "--format", "onnx", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["file"] == str(out)
    assert said["images"] == 60
    session = ort.InferenceSession(out)
    expected_NK = predict.logits(predict.load(record), images_NCHW).numpy()
    for count in (1, 7):
        (logits_NK,) = session.run(None, {"images": images_NCHW[:count].numpy()})
        assert np.abs(logits_NK - expected_NK[:count]).max() < 1e-4
    described = json.loads(session.get_modelmeta().custom_metadata_map["residuum"])
    assert described["classes"] == list(record.data.classes)
    assert described["normalization"] == json.loads((record.folder / "data.json").read_text())["normalization"]
    assert record.test_reads == reads


def test_weights_rebuild_the_network_from_the_file_alone(record, images_NCHW, capsys):
    assert main(["export", str(record.folder), "--format", "safetensors"]) == 0
    path = record.folder / "export" / "last.safetensors"
    assert capsys.readouterr().out.strip() == str(path)
    with safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()["residuum"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    channels, *size = described["shape"]
    network = build(Choice.of(described["model"]), channels, len(described["classes"]), tuple(size), 1).eval()
    network.load_state_dict(weights)
    rebuilt = predict.Trained(network, predict.load(record).compute, Normalization.of(described["normalization"]),
                              tuple(described["classes"]), (channels, *size), 1)  # fmt: skip
    assert torch.equal(predict.logits(rebuilt, images_NCHW), predict.logits(predict.load(record), images_NCHW))
    first = path.read_bytes()
    assert main(["export", str(record.folder), "--format", "safetensors"]) == 0
    assert path.read_bytes() == first


def test_a_graph_that_differs_is_not_written(record, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(weights.Deployed, "forward", lambda self, images: self.network(images.float() / 255) + 1)
    assert main(["export", str(record.folder), "--format", "onnx", "--out", str(tmp_path / "net.onnx")]) == 2
    assert "off by" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_one_line(record, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnxscript", None)
        assert main(["export", str(record.folder), "--format", "onnx", "--out", str(tmp_path / "net.onnx")]) == 2
    assert "pip install 'residuum[export]'" in capsys.readouterr().err
    words = ["export", str(record.folder), "--format", "onnx", "--data", "cifar10", "--out", str(tmp_path / "net.onnx")]
    assert main(words) == 2
    assert "--data" in capsys.readouterr().err
    assert main(["export", str(record.folder), "--format", "onx"]) == 2
    assert "did you mean 'onnx'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert read_record(record.folder).status == "finished"


def test_a_folder_for_the_hub_says_what_the_record_does(tmp_path, capsys, monkeypatch):
    record = train(small(), tmp_path / "runs")
    out = tmp_path / "hub"
    assert main(["export", str(record.folder), "--format", "huggingface", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (out / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    head = {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in front.splitlines()}
    assert head["pipeline_tag"] == "image-classification"
    accuracy = record.result.last.test.accuracy
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == round(accuracy, 6)
    assert f"Test error {100 * (1 - accuracy):.2f} % (20 images)" in text
    assert f"was read {tally(record.test_reads, 'time')} in this run" in text
    assert "data.root" not in card
    (command,) = re.findall(r"^residuum (import-weights .*)$", card, re.MULTILINE)
    monkeypatch.chdir(out)
    assert main([*shlex.split(command), "--runs", str(tmp_path / "back"), "--json"]) == 0
    back = read_record(Path(json.loads(capsys.readouterr().out)["folder"]))
    assert back.config.model == record.config.model
    assert back.facts.normalization == record.facts.normalization
    images = torch.zeros(2, 3, 12, 12, dtype=torch.uint8)
    loaded = [predict.logits(predict.load(one), images) for one in (record, back)]
    torch.testing.assert_close(loaded[0], loaded[1], rtol=0, atol=1e-5)
    described = json.loads((out / "config.json").read_text())
    with safe_open(out / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["residuum"]) == described
        assert file.metadata()["format"] == "pt"
        network = build(Choice.of(described["model"]), 3, 4, (12, 12), 0)
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def test_a_card_of_a_run_that_left_the_test_set_unread_names_no_accuracy(tmp_path):
    record = train(small(**{"monitor.final_test": False}), tmp_path)
    weights.export(record, "huggingface", tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "model-index" not in card
    assert "the test set was not read for these weights" in card


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors"])
def test_a_folder_of_somebody_else_is_left_as_it_is(name, record, tmp_path, capsys):
    (tmp_path / name).write_text('{"theirs": 1}')
    words = ["export", str(record.folder), "--format", "huggingface", "--out", str(tmp_path)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), f"{name} is not of an export from here" in said) == (1, True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ['{"theirs": 1}']
    (tmp_path / name).unlink()
    assert [main(words), main(words)] == [0, 0], "one of ours is written anew"


def test_a_file_is_no_place_for_a_folder(record, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["export", str(record.folder), "--format", "huggingface", "--out", str(tmp_path / "file")]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err

"""The command line as a user meets it: results on standard output, one line for a mistake, exit codes."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residuum.cli.terminal import result_lines
from residuum.records import storage
from residuum.records.record import find_runs, read_record

TINY = [
    "--set", 'data.dataset={name = "synthetic", size = 16, train = 96, test = 40}', "--set", "data.validation=24",
    "--set", "model.channels=[4, 4, 8]", "--set", "model.depth=8", "--set", "compute.threads=1",
    "--batch-size", "24", "--epochs", "2",
]  # fmt: skip


def train(run, *more):
    code, out, err = run("train", "quick", *TINY, "--json", *more)
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


def test_train_shows_every_epoch_and_the_result_and_draws_the_curves(run):
    code, out, _ = run("train", "quick", *TINY)
    assert code == 0
    epochs = [line for line in out.splitlines() if line.startswith("Epoch:")]
    number = r"\d+\.\d{3}"
    form = rf"Epoch: (\d+) +lr \S+ \| train loss {number} acc {number} \| val loss {number} acc {number} \| .* images/s"
    assert [re.fullmatch(form, line)[1] for line in epochs] == ["1", "2"]
    ends = re.findall(rf"^test loss {number} acc 0\.\d{{4}} \((.*)\)$", out, re.MULTILINE)
    assert ends in (
        ["last epoch, 2", "selected on validation, epoch 1"],
        ["last epoch, 2, which validation selected too"],
    )
    *_, run_ = map(read_record, find_runs(Path("runs")))
    same = replace(run_, result=replace(run_.result, selected=run_.result.last))
    assert [line.endswith("(last epoch, 2, which validation selected too)") for line in result_lines(same)] == [True]
    (folder,) = find_runs(Path("runs"))
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / "curves.svg").read_bytes()


def test_train_json_ends_in_one_line(run):
    said = train(run)
    assert said["status"] == "finished"
    record = read_record(Path(said["folder"]))
    assert (record.id, record.result.plain()) == (said["run"], said["result"])
    assert said["result"]["last"]["test"]["n"] == 40
    assert said["result"]["test_reads"] == record.test_reads == 2


def test_the_same_command_again_computes_nothing_and_fresh_computes_anew(run):
    first = train(run)
    code, out, err = run("train", "quick", *TINY, "--json")
    assert code == 0
    assert json.loads(out) == first
    assert "nothing was computed" in err
    again = train(run, "--fresh")
    assert {key: again["result"][key] for key in ("last", "selected")} == {
        key: first["result"][key] for key in ("last", "selected")
    }
    assert len(list(Path("runs/old").iterdir())) == 1


def test_short_options_are_settings(run):
    said = train(run, "--model", "plain8", "--lr", "0.05", "--seed", "5", "--device", "cpu", "--runs", "elsewhere")
    config = read_record(Path(said["folder"])).config
    assert Path(said["folder"]).parent == Path("elsewhere")
    assert (config.model.settings["shortcut"]["name"], config.optim.lr, config.train.seed) == ("none", 0.05, 5)


def test_the_record_has_every_default(run):
    values = storage.read_json(Path(train(run)["folder"]) / "config.json")
    assert values["model"]["activation"] == {"name": "relu"}
    assert values["optim"]["optimizer"]["momentum"] == 0.9
    assert values["data"]["augment"] == [{"name": "pad_crop", "padding": 1, "mode": "zeros"}]
    assert re.fullmatch("[0-9a-f]{16}", values["data"]["fingerprint"])


def test_evaluate_gives_the_figures_of_the_record_and_counts_the_reading(run):
    said = train(run)
    for which in ("last", "selected"):
        code, out, _ = run("evaluate", said["folder"], "--json", "--which", which)
        assert code == 0
        assert json.loads(out) == {"test": said["result"][which]["test"]}
    assert read_record(Path(said["folder"])).test_reads == said["result"]["test_reads"] + 2
    code, out, _ = run("evaluate", said["run"][:6])
    assert code == 0
    assert re.fullmatch(r"test loss \d\.\d{3} acc [01]\.\d{4} \(40 images\)\n", out)


def test_predict_sees_a_saved_test_image_as_evaluation_does(run):
    """Guard 29: an image saved as PNG gives the logits that the evaluation of that image gave."""
    import torch
    from safetensors.numpy import load_file

    from residuum.data.datasets import load
    from residuum.run.predict import load as load_trained
    from residuum.run.predict import logits

    said = train(run, "--set", "compute.precision=fp32")
    record = read_record(Path(said["folder"]))
    dataset = load(record.config.data.dataset)
    paths = []
    for number, image in enumerate(dataset.test.images_NCHW):
        paths.append(Path(f"{number}.png"))
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(paths[-1])
    code, out, _ = run("predict", said["folder"], *paths, "--json")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    stored = load_file(record.folder / "predictions" / "last.safetensors")["logits_NK"]
    expected = torch.from_numpy(stored).softmax(1)
    for row, shares in zip(rows, expected, strict=True):
        assert not row["resized"]
        assert list(row["probabilities"].values()) == sorted(shares.tolist(), reverse=True)
        assert row["probabilities"] == dict(zip(dataset.classes, shares.tolist(), strict=True))
    trained = load_trained(record)
    assert torch.equal(logits(trained, torch.from_numpy(dataset.test.images_NCHW)), torch.from_numpy(stored))


def test_predict_prints_the_best_classes_and_says_that_it_resized(run):
    said = train(run)
    Image.new("RGB", (50, 20)).save("wide.png")
    code, out, _ = run("predict", said["folder"], "wide.png", "--top", "2")
    assert code == 0
    assert re.fullmatch(r"wide.png \(resized\): class \d 0\.\d{3}, class \d 0\.\d{3}\n", out)


def test_show_model(run):
    code, out, _ = run("show", "model", "resnet20", "--json")
    values = json.loads(out)
    assert (code, values["parameters"], values["macs"]) == (0, 269_722, 40_551_040)
    assert sum(layer["parameters"] for layer in values["layers"]) == values["parameters"]
    assert sum(layer["macs"] for layer in values["layers"]) == values["macs"]
    code, out, _ = run("show", "model", "resnet20", "--set", "model.shortcut=projection")
    assert "272,474 parameters" in out
    code, out, _ = run("show", "model", "resnet18", "--input", "3x224x224", "--classes", "1000", "--json")
    assert json.loads(out)["layers"][-1]["output_shape"] == [1000]


def test_every_kind_lists_something_with_the_names_that_settings_take(run):
    code, out, _ = run("list", "--json")
    kinds = [row["kind"] for row in json.loads(out)]
    assert code == 0
    assert {"recipes", "models", "datasets", "runs", "settings", "optimizers", "augmentations"} <= set(kinds)
    for kind in kinds:
        code, out, _ = run("list", kind, "--json")
        assert code == 0
        assert kind == "runs" or len(json.loads(out)) > 0
        code, out, _ = run("list", kind)
        assert code == 0
        assert out.strip()


def test_list_runs_and_show_run(run):
    said = train(run)
    code, out, _ = run("list", "runs", "--json")
    (row,) = json.loads(out)
    assert code == 0
    assert (row["run"], row["status"], row["recipe"]) == (said["run"], "finished", "quick")
    assert (row["epochs"], row["epochs_asked"]) == (2, 2)
    code, out, _ = run("list", "runs")
    assert re.search(r" epochs +test acc", out)
    assert " 2/2 " in out
    code, out, _ = run("show", "run", said["run"])
    assert code == 0
    assert out.count("Epoch:") == 2
    assert "readings of the test set: 2" in out
    code, out, _ = run("show", "run", said["run"], "--json")
    assert json.loads(out)["environment"][0]["threads"] == 1


def test_the_noise_of_a_run_is_shown_and_drawn_and_damage_is_named(run):
    said = train(run, "--set", "monitor.noise=true")
    folder = Path(said["folder"])
    seen = read_record(folder).noise()
    code, out, _ = run("show", "run", folder)
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("gradient noise scale")]
    assert [part.split(":")[0] for part in line.split("): ")[1].split(", ")] == ["0", "1", "2"]
    _, out, _ = run("show", "run", folder, "--json")
    assert [row["scale"] for row in json.loads(out)["noise"]] == [one.scale for one in seen]
    code, out, _ = run("draw", folder, "--of", "noise")
    assert (code, out.split()) == (0, ["noise.png", "noise.svg"])
    rows = (folder / "noise.jsonl").read_text().splitlines()
    (folder / "noise.jsonl").write_text("\n".join(['{"epoch": 0}', *rows[1:]]) + "\n")
    code, out, _ = run("show", "run", folder)
    assert (code, "noise.jsonl is damaged" in out, "gradient noise scale" in out) == (0, True, False)
    code, _, err = run("draw", folder, "--of", "noise")
    assert (code, err.count("\n"), "noise.jsonl is damaged" in err) == (2, 1, True)
    other = train(run, "--seed", "1")
    code, _, err = run("draw", other["folder"], "--of", "noise")
    assert (code, "did not measure the noise; train it with --set monitor.noise=true" in err) == (2, True)
    code, out, _ = run("draw", folder, other["folder"], "--of", "both", "--labels", "seen, unseen")
    assert (code, out.split()) == (0, ["both.png", "both.svg"])
    assert all(f">{name}</text>" in Path("both.svg").read_text() for name in ("seen", "unseen", "accuracy (%)"))
    for words in (
        (folder, other["folder"], "--labels", "un seen", "se,en"),
        ("--labels", "un seen,se-en", folder, other["folder"]),
    ):
        assert run("draw", *words, "--out", "again.png")[0] == 0
        assert ">un seen</text>" in Path("again.svg").read_text()
    assert "draw: name one run or more" in run("draw", "--labels", "a,b")[2]
    for labels in ("one", "a,a", "a,"):
        code, _, err = run("draw", folder, other["folder"], "--labels", labels)
        assert (code, err) == (
            2, f"residuum: --labels: 2 runs take as many names, all different, not {labels!r}\n")  # fmt: skip
    code, _, err = run("draw", folder, "--of", "nois")
    assert (code, err.split("residuum: ")[1]) == (2, "unknown value for --of 'nois'; did you mean 'noise'?\n")


def test_import_weights_gives_a_run_that_evaluates_as_the_original(run):
    import torch

    from residuum.engine.state import from_bytes

    said = train(run, "--model", "resnet8")
    folder = Path(said["folder"])
    weights = from_bytes((folder / "checkpoints" / "epoch-0002-step-000000" / "weights.safetensors").read_bytes())
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, "public.th")
    mean, std = (
        storage.read_json(folder / "data.json")["normalization"]["mean"],
        storage.read_json(folder / "data.json")["normalization"]["std"],
    )
    code, out, err = run(
        "import-weights", "public.th", "--model", "resnet8", "--data", "synthetic", "--json",
        "--normalize", ",".join(map(str, mean)), ",".join(map(str, std)),
        "--set", "model.channels=[4, 4, 8]", "--set", "data.dataset.size=16", "--set", "data.dataset.train=96",
        "--set", "data.dataset.test=40", "--set", "compute.threads=1", "--set", "compute.precision=auto",
    )  # fmt: skip
    assert code == 0, err
    imported = json.loads(out)
    assert imported["status"] == "imported"
    code, out, _ = run("evaluate", imported["folder"], "--json")
    assert json.loads(out) == {"test": said["result"]["last"]["test"]}
    (row,) = [row for row in json.loads(run("list", "runs", "--json")[1]) if row["status"] == "imported"]
    assert (row["epochs"], row["epochs_asked"]) == (None, None)
    assert re.search(rf"{imported['run']} .* 0 +– +–", run("list", "runs")[1])
    code, _, err = run("draw", imported["folder"])
    assert (code, err) == (2, f"residuum: run {imported['run']} has no epochs to draw\n")
    code, _, err = run("resume", imported["folder"])
    assert code == 2
    assert "weights from elsewhere" in err


def test_weights_for_cifar10_are_imported_without_its_images(run):
    import torch

    from residuum.models import build
    from residuum.networks.names import network
    from residuum.registry import Choice

    torch.save(build(Choice.of(network("resnet20")), 3, 10, (32, 32), seed=0).state_dict(), "public.pt")
    code, out, err = run(
        "import-weights", "public.pt", "--model", "resnet20", "--json", "--normalize", "0.5,0.5,0.5", "0.25,0.25,0.25"
    )
    assert code == 0, err
    Image.new("RGB", (32, 32)).save("black.png")
    code, out, err = run("predict", json.loads(out)["folder"], "black.png", "--json")
    assert code == 0, err
    assert "airplane" in json.loads(out)["probabilities"]
    code, _, err = run(
        "import-weights", "public.pt", "--model", "resnet32", "--normalize", "0.5,0.5,0.5", "0.25,0.25,0.25"
    )
    assert code == 2
    assert "resnet20" in err
    assert err.count("\n") == 1


MISTAKES = [
    (["trian", "quick"], "did you mean 'train'?"),
    (["train", "quik"], "unknown recipe 'quik'; did you mean 'quick'?"),
    (["train", "quick", "--epoch", "3"], "unknown option '--epoch'; did you mean '--epochs'?"),
    (["train", "quick", "--epochs", "three"], "argument --epochs: 'three' is no whole number"),
    (["train", "quick", "--epochs", "0"], "train.epochs: input should be greater than or equal to 1, not 0"),
    (["train", "quick", "--set", "model.dpeth=56"], "did you mean 'model.depth'?"),
    (["train", "quick", "--set", "model.activation=rleu"], "did you mean 'relu'?"),
    (["train", "quick", "--set", "optim.optimizer.momentm=0.9"], "did you mean 'optim.optimizer.momentum'?"),
    (["train", "quick", "--set", "optim"], "is not of the form path=value"),
    (["train", "quick", "--model", "resnet21"], "the nearest is 'resnet20'"),
    (["train", "quick", "--data", "nowhere.tar.gz"], "nowhere.tar.gz"),
    (["train", "quick", "--set", 'data.augment=["hue"]'], "hue"),
    (["train", "quick", "--set", "data.validation=5000"], "data.validation: 5000 means 5,000 of 1,437 images"),
    (["train", "quick", "--device", "cuda:9"], "compute.device"),
    (["train", "quick", "--model", "preactresnet20"], "did you mean 'preact20'?"),
    (["show", "model", "resnet20x2"], "did you mean 'resnet20' with model.wide=2?"),
    (["train", "quick", "--set", "model=7"], "model: 7 is not a network; write a name, as model=resnet20"),
    (["train", "quick", "--set", "model={"], "'model={': the value is neither a name nor TOML"),
    (["evaluate", ""], "an empty name names no run"),
    (["resume", ""], "an empty name names no run"),
    (["predict", "", "x.png"], "an empty name names no run"),
    (["show", "run", ""], "an empty name names no run"),
    (["draw", ""], "an empty name names no run"),
    (["data", "fetch", "digits"], "nothing to download for the images of 'digits'"),
    (["evaluate", "nothing"], "holds no runs"),
    (["predict", "nothing", "x.png"], "holds no runs"),
    (["resume", "."], "is not a run folder"),
    (["show", "model", "resnet20", "--classes", "0"], "at least 1"),
    (["train", "quick", "--set", "compute.threads=100000"], "compute.threads"),
    (["list", "recipe"], "did you mean 'recipes'?"),
    (["show", "modle", "resnet20"], "did you mean 'model'?"),
    (["show", "model", "resnet20", "--input", "32x32"], "is not channels x height x width"),
    (["show", "model", "resnet18-imagenet", "--input", "3x8x8"], "too small"),
    (
        ["import-weights", "no.pt", "--model", "resnet20", "--normalize", "0.5", "x", "--data", "digits"],
        "'x' is not a number",
    ),
]


@pytest.mark.parametrize(
    ("words", "says"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_is_one_line_and_exit_code_2_and_writes_nothing(run, tmp_path, words, says):
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert err.startswith("residuum: ")
    assert err.count("\n") == 1
    assert says in err
    assert list(tmp_path.iterdir()) == []


def test_debug_gives_the_traceback(run):
    from residuum.errors import InputError

    with pytest.raises(InputError):
        run("train", "quik", "--debug")


@pytest.mark.parametrize("damage", ["cut result", "other version", "no weights", "flipped bit"])
def test_a_damaged_run_folder_is_one_line(run, damage):
    folder = Path(train(run)["folder"])
    checkpoint = folder / "checkpoints" / "epoch-0002-step-000000" / "weights.safetensors"
    if damage == "cut result":
        (folder / "result.json").write_text("{")
    elif damage == "other version":
        path = folder / "config.json"
        path.write_text(path.read_text().replace('"schema": 2', '"schema": 7'))
    elif damage == "no weights":
        storage.write_json(folder / "result.json", {"status": "finished"})
        for path in (folder / "checkpoints").iterdir():
            path.rename(folder.parent / path.name)
    else:
        for path in (folder / "checkpoints").glob("*/weights.safetensors"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
    code, _, err = run("evaluate", folder)
    assert code == 2
    assert err.count("\n") == 1
    assert checkpoint.parent.parent.parent.name in err


def test_a_damaged_epoch_is_named_once_and_the_rest_is_shown(run):
    said = train(run)
    path = Path(said["folder"]) / "metrics.jsonl"
    path.write_text(path.read_text().replace("{", "", 1))
    note = "metrics.jsonl, line 1 is damaged and left out"
    for words in (["show", "run", said["run"]], ["list", "runs"], ["train", "quick", *TINY]):
        code, out, err = run(*words)
        assert (code, out.count(note), err) == (0, 1, "")
    (row,) = json.loads(run("list", "runs", "--json")[1])
    assert (row["epochs"], row["test_accuracy"], row["text"]) == (2, said["result"]["last"]["test"]["accuracy"], note)
    shown = json.loads(run("show", "run", said["run"], "--json")[1])
    assert (shown["damaged"], len(shown["epochs"]), shown["result"]) == ([note], 1, said["result"])
    code, _, err = run("draw", said["run"])
    assert (code, err) == (0, f"note: run {said['run']}: {note}\n")
    assert run("evaluate", said["run"])[0] == 0


def test_a_run_without_epochs_has_nothing_to_draw_yet(run):
    said = train(run)
    folder = Path(said["folder"])
    for name in ("result.json", "metrics.jsonl"):
        (folder / name).unlink()
    code, out, err = run("draw", folder)
    assert (code, out, err) == (2, "", f"residuum: run {said['run']} has no epochs to draw yet\n")
    assert not Path("curves.png").exists()


def test_every_text_of_a_list_is_a_whole_phrase(run):
    """No reference is cut in two at the dot of an abbreviation, and no text runs on."""
    texts = {}
    for kind in json.loads(run("list", "--json")[1]):
        rows = json.loads(run("list", kind["kind"], "--json")[1])
        texts |= {f"{kind['kind']} {row['name']}": row["text"] for row in rows if "text" in row and "name" in row}
    assert len(texts) > 60
    for name, text in texts.items():
        assert 10 < len(text) <= 120, name
        assert not text.endswith("."), name
        assert text.count("(") == text.count(")"), name
        assert text.count("`") % 2 == 0, name
    assert texts["mixes mixup"].endswith("(Zhang et al. 2018, sec. 2)")


def test_diverged_is_a_result_and_leaves_no_weights_to_go_on_with(run):
    words = ("train", "quick", *TINY, "--json", "--set", "optim.lr=1e30", "--set", "compute.precision=fp32")
    code, out, err = run(*words)
    said = json.loads(out.splitlines()[-1])
    assert code == 1  # nothing behind `&&` has weights to go on with
    assert f"run {said['run']} diverged" in err.splitlines()[-1]
    assert run(*words)[0] == 1  # found complete
    assert said["status"] == "diverged"
    assert said["result"]["diverged"]["epoch"] == 1
    assert said["result"]["last"] is None
    code, out, _ = run("show", "run", said["folder"])
    assert code == 0
    assert "diverged in epoch 1" in out


def test_help_does_not_import_torch_nor_pydantic():
    code = (
        "import sys; from residuum.cli import build_parser; build_parser();"
        "sys.exit(bool({'torch', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

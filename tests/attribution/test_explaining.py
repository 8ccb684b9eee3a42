"""Explaining a run: which images, which class, which weights; what is saved, and that it is compared with chance."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from scipy.stats import spearmanr

from residuum.data.datasets import digits
from residuum.data.normalize import Normalization
from residuum.engine import state
from residuum.errors import InputError
from residuum.models import build
from residuum.recipes import quick
from residuum.records import attributions, rows, run_folder
from residuum.records.attributions import Similarity
from residuum.records.record import read_record
from residuum.records.run_folder import Position
from residuum.run import explaining, predict, weights
from residuum.training import train

TINY = {
    "data.subset": 300, "data.validation": 60, "model.channels": [4, 4, 8], "model.depth": 8, "train.epochs": 3,
    "train.batch_size": 30, "save.keep": 0, "compute.threads": 1, "compute.device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return train(quick().changed(TINY), tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def test_split():
    return digits.digits(None).test


@pytest.fixture(scope="module")
def found(record):
    return explaining.explain(record, numbers=[5, 0, 7])


def test_the_chosen_images_are_the_most_confident_right_and_wrong_of_each_class(record, test_split):
    stored = load_file(record.folder / "predictions" / "last.safetensors")
    shares_NK = torch.from_numpy(stored["logits_NK"]).double().softmax(dim=1).numpy()
    best = {}
    for number, (share_K, label) in enumerate(zip(shares_NK, stored["labels_N"], strict=True)):
        key = (share_K.argmax() != label, label)
        if key not in best or share_K.max() > shares_NK[best[key]].max():
            best[key] = number
    expected = [best[key] for key in sorted(best)]
    assert explaining.most_confident(record) == expected
    assert 10 < len(expected) <= 20
    chosen = explaining.explain(record, "saliency")
    assert chosen.names == tuple(f"no. {number}" for number in expected)
    np.testing.assert_array_equal(chosen.labels_N, test_split.labels_N[expected])


def test_what_is_predicted_is_what_every_other_command_says(tmp_path):
    """Also where the run computes in bfloat16, in which a close call may go the other way than in fp32."""
    run = train(quick().changed(TINY | {"compute.precision": "bf16"}), tmp_path)
    stored = load_file(run.folder / "predictions" / "last.safetensors")["logits_NK"]
    top_N2 = np.sort(stored, axis=1)[:, -2:]
    close_N = np.argsort(top_N2[:, 1] - top_N2[:, 0])[:12]
    found = explaining.explain(run, "saliency", numbers=close_N.tolist())
    np.testing.assert_array_equal(found.predicted_N, stored[close_N].argmax(axis=1))
    shares_NK = torch.from_numpy(stored[close_N]).softmax(dim=1).numpy()
    np.testing.assert_allclose(found.probabilities_NK, shares_NK, atol=1e-6)


def test_numbers_and_files_give_the_same_maps_and_the_probabilities_of_a_prediction(
    record, found, tmp_path, test_split
):
    """A test image, whose bytes are those that training would see, saved as a file."""
    paths = []
    for number in (5, 0, 7):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(test_split.images_NCHW[number, 0]).save(paths[-1])
    reads = record.test_reads
    by_file = explaining.explain(record, files=paths)
    assert record.test_reads == reads
    assert by_file.names == ("5.png", "0.png", "7.png")
    assert by_file.labels_N.tolist() == [-1] * 3
    np.testing.assert_array_equal(by_file.images_NCHW, found.images_NCHW)
    for name, maps in found.maps.items():
        np.testing.assert_array_equal(by_file.maps[name], maps)
    trained = predict.load(record)
    for row, prediction in enumerate(predict.predict(trained, paths)):
        shares = [prediction.probabilities[name] for name in found.classes]
        np.testing.assert_allclose(found.probabilities_NK[row], shares, atol=0.02)  # these are bf16 on some machines


def test_a_training_image_saved_as_a_file_gives_the_logits_of_the_training_data(record, tmp_path):
    from residuum.run import assemble

    data = assemble.resolve(record.config)[1]
    trained, numbers = predict.load(record), data.train_N[:4]
    images = data.dataset.train.images_NCHW[numbers]
    paths = [tmp_path / f"{n}.png" for n in numbers]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[0]).save(path)
    expected = assemble.split_logits(trained.network, data.dataset.train, numbers, data.normalization, trained.compute)
    read = explaining.from_files(paths, trained.shape)
    assert torch.equal(predict.logits(trained, torch.from_numpy(read.images_NCHW)), expected)


def test_the_reading_of_test_images_is_counted_with_its_reason(record):
    before = record.test_reads
    explaining.explain(record, "saliency", numbers=[1], which="selected")
    assert record.test_reads == before + 1
    row = rows.read_rows(record.folder / run_folder.TEST_READS)[-1]
    expected = {"why": "explain", "epoch": record.result.selected.epoch, "device": "cpu", "precision": "bf16"}
    assert row == expected


def test_the_target_is_the_predicted_class_the_true_one_or_a_name(record, found):
    assert found.target == "predicted"
    np.testing.assert_array_equal(found.targets_N, found.probabilities_NK.argmax(axis=1))
    true = explaining.explain(record, "saliency", numbers=[5, 0, 7], target="true")
    np.testing.assert_array_equal(true.targets_N, true.labels_N)
    named = explaining.explain(record, "saliency", numbers=[5, 0, 7], target="3")
    assert named.targets_N.tolist() == [3, 3, 3]
    # The map is that class's: its gradient, by hand.
    trained = predict.load(record)
    inputs = torch.from_numpy(named.images_NCHW).float().div(255)
    inputs = trained.normalization(inputs).requires_grad_()
    trained.network.eval()(inputs)[:, 3].sum().backward()
    np.testing.assert_allclose(named.maps["input"], inputs.grad.abs().amax(dim=1), rtol=1e-3, atol=1e-5)


def test_every_image_has_the_map_that_it_has_alone_however_many_there_are(record, test_split, monkeypatch):
    trained, method = predict.load(record), explaining.resolved("grad-cam", (1, 8, 8))
    pictures = explaining.Pictures(tuple("abcde"), test_split.images_NCHW[:5], test_split.labels_N[:5])
    whole = explaining.attribute(trained, pictures, method, "predicted")
    monkeypatch.setattr(explaining, "AT_ONCE", 2)
    parts = explaining.attribute(trained, pictures, method, "predicted")
    for name, maps in whole.maps.items():
        np.testing.assert_allclose(parts.maps[name], maps, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(parts.probabilities_NK, whole.probabilities_NK, rtol=1e-3, atol=1e-6)


def test_maps_are_fp32_and_the_same_every_time(record, found):
    again = explaining.explain(read_record(record.folder), numbers=[5, 0, 7])
    for one, other in ((found.maps, again.maps), (found.randomised, again.randomised)):
        assert list(one) == ["stem", "layer1", "layer2", "layer3"]
        for name, maps in one.items():
            assert (maps.dtype, maps.shape) == (np.float32, (3, 8, 8))
            np.testing.assert_array_equal(maps, other[name])
    assert found.similarity == again.similarity


def test_the_sanity_check_compares_with_a_network_that_unlearns(record, found):
    assert list(found.similarity) == ["linear", "layer3", "layer2", "layer1", "stem"]
    for name, maps in found.maps.items():
        expected = []
        for one, other in zip(maps, found.randomised[name], strict=True):
            if one.std() and other.std():
                expected.append(spearmanr(abs(one).ravel(), abs(other).ravel()).statistic)
        said = found.similarity["stem"][name]
        assert said.images == len(expected)
        assert said.mean == (pytest.approx(np.mean(expected)) if expected else None)
    assert any(not np.array_equal(found.maps[name], found.randomised[name]) for name in found.maps)
    # Random weights are none that a run of this configuration begins with, since no run has the seed -1.
    trained = predict.load(record)
    pictures = explaining.Pictures(found.names[:1], found.images_NCHW[:1], found.labels_N[:1])
    target, method = found.classes[found.targets_N[0]], explaining.resolved("grad-cam", (1, 8, 8))
    for seed, same in ((-1, True), (record.config.train.seed, False)):
        trained.network.initialize(seed)
        begun = explaining.attribute(trained, pictures, method, target)
        close = [np.allclose(begun.maps[name][0], found.randomised[name][0], atol=1e-6) for name in begun.maps]
        assert all(close) == same


def test_rank_correlation_in_cases_that_are_known():
    rising = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    same = explaining.rank_correlation
    assert same(rising, 7 * rising**3) == Similarity(1.0, 1)
    assert same(rising, -rising).mean == pytest.approx(1)  # of absolute values
    assert same(rising, rising.max() - rising).mean == pytest.approx(-1)
    assert same(rising, np.zeros_like(rising)) == Similarity(None, 0)
    broken = np.full_like(rising, np.nan)
    two = np.concatenate([rising, rising])
    assert same(two, np.concatenate([rising, broken])) == Similarity(pytest.approx(1), 1)


def test_over_epochs_uses_the_weights_of_each_epoch_and_keeps_the_class(record, found):
    followed = explaining.over_epochs(record, found)
    assert len(followed) == 3
    for row, by_epoch in enumerate(followed):
        assert by_epoch.epochs == (0, 1, 2, 3)
        assert by_epoch.names == found.names[row : row + 1] * 4
        assert set(by_epoch.targets_N) == {found.targets_N[row]}
        assert set(by_epoch.labels_N) == {found.labels_N[row]}
        assert (by_epoch.randomised, by_epoch.similarity) == ({}, {})
        np.testing.assert_array_equal(by_epoch.images_NCHW, found.images_NCHW[[row] * 4])
        for name, maps in found.maps.items():
            np.testing.assert_allclose(by_epoch.maps[name][3], maps[row], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(by_epoch.probabilities_NK[3], found.probabilities_NK[row], rtol=1e-5, atol=1e-6)
    trained = predict.load(record)
    pictures = explaining.Pictures(found.names[:1], found.images_NCHW[:1], found.labels_N[:1])
    target = found.classes[found.targets_N[0]]
    checkpoint = run_folder.read_checkpoint(record.folder, Position(1, 0))
    before = build(record.config.model, 1, 10, (8, 8), record.config.train.seed)  # a network of its own, as it begins
    for epoch in (1, 0):
        if epoch:
            state.load_weights(trained.network, state.evaluated(checkpoint.files))
        else:
            trained.network.load_state_dict(before.state_dict())
        alone = explaining.attribute(trained, pictures, explaining.resolved("grad-cam", (1, 8, 8)), target)
        for name, maps in alone.maps.items():
            np.testing.assert_allclose(followed[0].maps[name][epoch], maps[0], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(followed[0].probabilities_NK[epoch], alone.probabilities_NK[0], rtol=1e-5)


def test_of_many_epochs_and_images_some_are_taken(record, found, monkeypatch):
    monkeypatch.setattr(explaining, "MOST_EPOCHS", 2)
    monkeypatch.setattr(explaining, "FOLLOWED", 2)
    followed = explaining.over_epochs(record, found)
    assert [one.epochs for one in followed] == [(0, 3)] * 2


def test_the_neutral_image_is_the_mean_one_or_grey_and_never_black():
    standardize = Normalization("affine", (0.5, 0.4), (0.2, 0.3))
    assert not explaining.neutral(standardize, (2, 3, 3)).any()
    assert not explaining.neutral(Normalization("per_image"), (1, 3, 3)).any()
    signed = Normalization("affine", (0.5,), (0.5,))
    assert not explaining.neutral(signed, (1, 3, 3)).any()
    raw, minmax = Normalization("affine", (0.0,), (1 / 255,)), Normalization("affine", (0.0,), (1.0,))
    torch.testing.assert_close(explaining.neutral(raw, (1, 2, 2)), torch.full((1, 2, 2), 127.5))
    torch.testing.assert_close(explaining.neutral(minmax, (1, 2, 2)), torch.full((1, 2, 2), 0.5))


def test_what_is_saved_comes_back_without_torch(record, tmp_path):
    made = explaining.explain(record, {"name": "integrated-gradients", "steps": 3}, numbers=[2, 3], target="true")
    path = attributions.write(tmp_path, "them", made)
    assert path == tmp_path / "attributions" / "them.safetensors"
    read = attributions.read(path)
    for field in fields(made):
        one, other = getattr(made, field.name), getattr(read, field.name)
        if field.name in ("maps", "randomised"):
            assert list(one) == list(other)
            assert all(np.array_equal(one[name], other[name]) for name in one)
        elif isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other, field.name
    assert made.settings == {"steps": 3}
    with torch.no_grad():
        trained = predict.load(record)
        logits_NK = trained.network.eval()(trained.normalization(torch.from_numpy(made.images_NCHW) / 255))
        zero_K = trained.network(torch.zeros(1, 1, 8, 8))[0]
    expected = [float(logits_NK[row, k] - zero_K[k]) for row, k in enumerate(made.targets_N)]
    np.testing.assert_allclose(made.gaps_N2[:, 1], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(made.maps["input"].sum(axis=(1, 2)) - expected, made.gaps_N2[:, 0], atol=1e-3)
    code = (
        "import sys\nfrom pathlib import Path\nfrom residuum.records.attributions import read\n"
        f"assert read(Path({str(path)!r})).names == ('no. 2', 'no. 3')\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("content", [None, b"", b"junk" * 20, "weights"])
def test_what_is_no_saved_attribution_is_one_line(record, tmp_path, content):
    path = tmp_path / "x.safetensors"
    if content == "weights":
        content = (record.folder / "predictions" / "last.safetensors").read_bytes()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        InputError, match="is missing; explaining the run makes it" if content is None else "is damaged"
    ):
        attributions.read(path)


@pytest.mark.parametrize(("asked", "message"), [
    ({"method": "grad_cam"}, "unknown method 'grad_cam'; did you mean 'grad-cam'"),
    ({"target": "33"}, "^target: unknown class '33'; did you mean '3'"),
    ({"target": "true", "files": [Path("x.png")]}, "^target: the true class of an image file is not known"),
    ({"numbers": [1], "files": [Path("x.png")]}, "give one or the other"),
    ({"numbers": range(41)}, "41 images to explain; 1 to 40 fit into a figure"),
    ({"numbers": []}, "0 images to explain; 1 to 40 fit"),
    ({"files": []}, "0 images to explain; 1 to 40 fit"),
    ({"files": [Path("nowhere.png")]}, "nowhere.png is missing"),
    ({"method": {"name": "occlusion", "window": 9}}, "does not fit into 8×8"),
])  # fmt: skip
def test_a_mistake_is_found_before_the_test_set_is_read(record, asked, message):
    before = record.test_reads
    with pytest.raises(InputError, match=message):
        explaining.explain(record, **asked)
    assert record.test_reads == before


def test_a_number_beyond_the_test_set_is_refused(record):
    for number in (-1, 360):
        with pytest.raises(InputError, match=f"no test image {number}; they are numbered from 0 to 359"):
            explaining.explain(record, numbers=[0, number])


def test_weights_from_elsewhere_explain_what_they_are_given(record, tmp_path):
    trained = predict.load(record)
    torch.save(trained.network.state_dict(), tmp_path / "w.th")
    imported = weights.import_weights(tmp_path / "w.th", record.config, tmp_path / "runs")
    with pytest.raises(InputError, match=r"has no predictions: .* it is imported; give image files, or test images by"):
        explaining.explain(imported)
    found = explaining.explain(imported, "saliency", numbers=[5, 0, 7])
    assert (found.epochs, found.run) == ((0, 0, 0), imported.id)
    with pytest.raises(InputError, match="was imported: it has no epochs to follow"):
        explaining.over_epochs(imported, found)
    with pytest.raises(InputError, match=f"are of run {imported.id}, not of {record.id}"):
        explaining.over_epochs(record, found)
    expected = explaining.explain(record, "saliency", numbers=[5, 0, 7])
    np.testing.assert_array_equal(found.maps["input"], expected.maps["input"])


def test_a_run_without_weights_or_data_is_one_line(record, tmp_path, monkeypatch):
    from residuum.run import assemble

    empty = tmp_path / "empty"
    run_folder.begin(empty, record.config, "quick")
    with pytest.raises(InputError, match="empty holds no weights yet"):
        explaining.explain(read_record(empty))

    def missing(_config):
        raise InputError("the images are elsewhere")

    monkeypatch.setattr(assemble, "dataset_of", missing)
    with pytest.raises(InputError, match="the images are elsewhere"):
        explaining.explain(record)
    Image.new("L", (8, 8), 99).save(tmp_path / "grey.png")
    assert explaining.explain(record, "saliency", files=[tmp_path / "grey.png"]).names == ("grey.png",)


@pytest.mark.parametrize("method", ["grad-cam", "saliency", "integrated-gradients", "occlusion"])
def test_images_in_colour_and_pre_activated_networks(tmp_path_factory, method):
    root = tmp_path_factory.getbasetemp() / "colour"
    data = {"name": "synthetic", "size": 32, "train": 48, "test": 12}
    config = quick().changed({
        **TINY, "data.dataset": data, "data.subset": 0, "data.validation": 0, "train.epochs": 1,
        "train.batch_size": 24, "model.ordering": "full_preactivation", "data.normalize": "none",
    })  # fmt: skip
    record = train(config, root)
    asked = {"name": method, "steps": 4} if method == "integrated-gradients" else method
    found = explaining.explain(record, asked, numbers=[0, 1])
    assert all(maps.shape == (2, 32, 32) for maps in found.maps.values())
    assert found.images_NCHW.shape == (2, 3, 32, 32)
    if method == "occlusion":
        assert found.settings == {"window": 8, "stride": 4}

"""`residuum import-weights` as a user meets it: what is said, what is refused with nothing written, what is scored."""

import json
import re
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from PIL import Image

from residuum.records import storage
from residuum.records.record import read_record
from residuum.run import predict
from residuum.run.importing import near_chance

NORMALIZE = ("--normalize", "0.5,0.5,0.5", "0.25,0.25,0.25")
PIXELS = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
NARROW = ("--model", "resnet20", "--set", "model.channels=[8, 16, 32]")
IMAGES = torch.randint(0, 256, (9, 3, 32, 32), generator=torch.Generator().manual_seed(7), dtype=torch.uint8)


@pytest.fixture
def few(monkeypatch):
    """A search that ends after presets and single settings."""
    monkeypatch.setattr("residuum.run.variants.MOST", 45)


@pytest.fixture
def akamaster(run):
    """A network with option A in `w.pth`, and its logits of IMAGES."""
    network = published.scattered(published.Akamaster(3, 10, 8), 1)
    torch.save({"state_dict": network.state_dict(), "best_prec1": 91.0}, "w.pth")
    return network


def refused(run, *words):
    code, out, err = run("import-weights", "w.pth", *words)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert not Path("runs").exists(), "nothing is written"
    return err


def test_it_says_what_the_tensors_do_not_tell_and_what_was_passed_over(run, akamaster):
    state = {f"model.{name}": tensor for name, tensor in akamaster.state_dict().items()}
    torch.save({"state_dict": state | {"criterion.weight": torch.ones(10)}}, "w.pth")
    code, out, err = run("import-weights", "w.pth", *NARROW, *NORMALIZE)
    assert code == 0
    assert re.fullmatch(r"imported into \S+\n", out)
    assert err.count("\n") == 2
    assert "note: passed over in w.pth: state_dict.criterion.weight\n" in err
    for said in ("not told by the tensors, so assumed: ", "model.shortcut.zeros=around", "model.activation=relu",
                 "model.ordering=original", "model.stem.pool=none", "model.bn_eps=1e-05", "model.pooling=average",
                 "RGB pixels in [0, 1] less 0.5,0.5,0.5, over 0.25,0.25,0.25", "--reference LOGITS or --data"):  # fmt: skip
        assert said in err, said
    code, out, err = run("import-weights", "w.pth", *NARROW, *NORMALIZE, "--json")
    said = json.loads(out)
    assert (said["status"], said["place"], said["passed_over"]) == (
        "imported",
        "state_dict.model",
        ["state_dict.criterion.weight"],
    )
    assert said["assumed"]["model.shortcut.zeros"] == "around"
    kept = storage.read_json(Path(said["folder"]) / "origin.json")
    assert kept == {key: said[key] for key in kept}


def test_a_learned_temperature_is_refused_until_the_key_passes_it_over(run, akamaster):
    state = {f"model.{name}": tensor for name, tensor in akamaster.state_dict().items()}
    torch.save({"state_dict": state | {"logit_scale": torch.tensor(4.6)}}, "w.pth")
    err = refused(run, *NARROW, *NORMALIZE)
    assert "'logit_scale' beside the weights may change their logits" in err
    code, _, err = run("import-weights", "w.pth", *NARROW, *NORMALIZE, *re.findall(r"--key \S+", err)[0].split())
    assert (code, "passed over in w.pth: state_dict.logit_scale" in err) == (0, True)


def test_a_linear_layer_from_elsewhere_and_layers_by_their_order_are_told(run, akamaster):
    state = akamaster.state_dict()
    torch.save(
        {f"encoder.{n}" if n[:6] != "linear" else n.replace("linear", "head"): t for n, t in state.items()}, "w.pth"
    )
    code, _, err = run("import-weights", "w.pth", *NARROW, *NORMALIZE)
    assert (code, "the linear layer lay elsewhere in the file: 'head.weight' is the only one that fits" in err) == (
        0,
        True,
    )
    torch.save(
        {n.replace("conv", "c").replace("layer", "stage").replace("bn", "norm"): t for n, t in state.items()}, "w.pth"
    )
    code, _, err = run("import-weights", "w.pth", *NARROW, *NORMALIZE)
    assert (code, "(it begins with 'c1'): its layers were matched by order and shape" in err) == (0, True), err


def test_a_preset_names_its_code_and_needs_no_normalisation(run, akamaster):
    code, out, err = run("import-weights", "w.pth", *NARROW, "--preset", "akamaster", "--json")
    assert code == 0, err
    assert "so assumed as in akamaster/pytorch_resnet_cifar10: " in err
    record = read_record(Path(json.loads(out)["folder"]))
    found_NK = predict.logits(predict.load(record), IMAGES)
    torch.testing.assert_close(found_NK, published.logits(akamaster, IMAGES, published.IMAGENET), rtol=0, atol=1e-4)
    code, out, _ = run("list", "presets", "--json")
    assert {row["name"] for row in json.loads(out)} == {"akamaster", "bearpaw", "chenyaofo", "huyvnphan", "kuangliu",
                                                       "timm", "torchvision", "weiaicunzai"}  # fmt: skip
    assert "did you mean 'akamaster'?" in run("import-weights", "w.pth", *NARROW, "--preset", "akamster")[2]


def test_a_plain_network_is_no_network_of_public_code_that_has_shortcuts(run, akamaster):
    """Option A has no tensors: its weights would load into the plain network, and the preset would be said to say so."""
    plain = ("--model", "plain20", "--set", "model.channels=[8, 16, 32]", "--preset", "akamaster")
    err = refused(run, *plain)
    assert "networks of akamaster/pytorch_resnet_cifar10 have shortcuts (identity), and plain20 has none" in err
    code, _, err = run("import-weights", "w.pth", *plain, "--set", "model.shortcut=none")
    assert code == 0, err
    assumed, yours = re.search(r"assumed as in akamaster/\S+: (.*); and, as you say, (.*); --reference", err).groups()
    assert ("model.shortcut" in assumed, yours) == (False, "model.shortcut=none")


def test_two_sets_of_weights_are_asked_for_by_key(run, akamaster):
    state = akamaster.state_dict()
    torch.save(
        {"model": state, "model_ema": {n: t + 1 if t.is_floating_point() else t for n, t in state.items()}}, "w.pth"
    )
    assert "in model and in model_ema, which differ; say which, as --key model\n" in refused(run, *NARROW, *NORMALIZE)
    assert run("import-weights", "w.pth", *NARROW, *NORMALIZE, "--key", "model_ema")[0] == 0


def test_they_compute_in_fp32_unless_told_otherwise(run, akamaster, monkeypatch):
    monkeypatch.setattr("residuum.engine.compute.has_fast_bf16", lambda device: True)
    for words, precision in (
        ((), "fp32"),
        (("--set", "compute.precision=bf16"), "bf16"),
        (("--set", "compute.precision=auto"), "bf16"),
    ):
        code, out, err = run("import-weights", "w.pth", *NARROW, *NORMALIZE, "--json", *words)
        assert code == 0, err
        assert read_record(Path(json.loads(out)["folder"])).config.compute.precision == precision


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("125.3,123.0,113.9", "63.0,62.1,66.7"),
            "mean 125.3 is not one of pixels in [0, 1]; ÷ 255? That would be 0.4914,0.4824,0.4467",
        ),
        (
            ("0.49,0.48,0.45", "51.6,51.0,51.3"),
            "std 51.6 is not one of pixels in [0, 1]; ÷ 255? That would be 0.2024,0.2,0.2012",
        ),
        (("0.5,-0.5,0.5", "0.5,0.5,0.5"), "mean -0.5 is not one of pixels in [0, 1]"),
        (("0.5,0.5,0.5", "0,0.5,0.5"), "std 0"),
        (("0.5,0.5", "0.5,0.5"), "2 values for images of 3 channels"),
        (("0.5,x,0.5", "0.5,0.5,0.5"), "'x' is not a number"),
    ],
)
def test_constants_that_are_not_those_of_pixels_are_refused(run, akamaster, words, says):
    assert says in refused(run, *NARROW, "--normalize", *words)


def test_without_constants_it_asks_and_those_in_the_file_are_taken(run, akamaster):
    assert "--normalize: say how images were normalised" in refused(run, *NARROW)
    assert "--normalize: say how images were normalised" in refused(run, *NARROW, "--set", "data.normalize=standardize")
    mean, std = torch.tensor([0.4, 0.5, 0.6]).reshape(1, 3, 1, 1), torch.tensor([0.2, 0.3, 0.25])
    torch.save({"mean": mean, "std": std, **{f"net.{n}": t for n, t in akamaster.state_dict().items()}}, "w.pth")
    code, out, err = run("import-weights", "w.pth", *NARROW, "--json")
    assert code == 0, err
    constants = read_record(Path(json.loads(out)["folder"])).data.normalization
    assert (constants.mean, constants.std) == (pytest.approx((0.4, 0.5, 0.6)), pytest.approx((0.2, 0.3, 0.25)))
    code, _, err = run("import-weights", "w.pth", *NARROW, *NORMALIZE)
    assert (code, "the file has another mean and deviation of its own, 0.4,0.5,0.6 and 0.2,0.3,0.25, which" in err) == (
        0,
        True,
    )
    torch.save({"mean": 255 * mean, "std": 255 * std, **akamaster.state_dict()}, "w.pth")
    code, _, err = run("import-weights", "w.pth", *NARROW)
    assert (code, "÷ 255?" in err) == (2, True)


def saved(write, *arrays, **named):
    """Written by numpy under a name that numpy would not choose."""
    with Path("logits.pt").open("wb") as file:
        write(file, *arrays, **named)


FORMS = {
    "a dictionary of torch": lambda images, logits: torch.save({"images": images, "logits": logits}, "logits.pt"),
    "two files of torch": lambda images, logits: (torch.save(images, "images.pt"), torch.save(logits, "logits.pt")),
    "npz": lambda images, logits: saved(np.savez, images=images.numpy(), logits=logits.numpy()),
    "npz, packed": lambda images, logits: saved(np.savez_compressed, x=images.numpy(), logits=logits.numpy()),
    "npy": lambda images, logits: (np.save("images.npy", images.numpy()), saved(np.save, logits.double().numpy())),
    "channels last": lambda images, logits: torch.save({"images": images.permute(0, 2, 3, 1), "logits": logits}, "logits.pt"),
    "pixels in [0, 1]": lambda images, logits: torch.save({"images": images.float() / 255, "logits": logits}, "logits.pt"),
    "whole numbers": lambda images, logits: torch.save({"images": images.float(), "logits": logits}, "logits.pt"),
    "normalised": lambda images, logits: torch.save({"x": (images.float() / 255 - 0.5) / 0.25, "logits": logits}, "logits.pt"),
    "Fortran's order": lambda images, logits: (np.save("images.npy", np.asfortranarray(images.numpy())), torch.save(logits, "logits.pt")),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_compared_in_whatever_form_they_come(run, akamaster, form):
    FORMS[form](IMAGES, published.logits(akamaster, IMAGES, PIXELS))
    code, out, err = run("import-weights", "w.pth", *NARROW, *NORMALIZE, "--reference", "logits.pt", "--json")
    assert code == 0, err
    said = json.loads(out)["reference"]
    assert (said["agrees"], said["images"], said["agreeing"], said["rough"]) == (True, 9, 9, False)
    assert "the logits of 9 images" in err
    assert ("pixels are still assumed: RGB" in err) == (form == "normalised")
    wrong = ("--set", "model.shortcut.zeros=after")
    code, out, err = run(
        "import-weights", "w.pth", *NARROW, *NORMALIZE, "--reference", "logits.pt", "--runs", "other", *wrong
    )
    assert (code, out, err.count("\n")) == (2, "", 1)
    named = "--preset akamaster" if form == "normalised" else "--set model.shortcut.zeros=around"
    assert f"with {named} they agree" in err
    assert not Path("other").exists()


def test_images_are_named_or_found_and_wrong_ones_are_one_line(run, akamaster):
    logits_NK = published.logits(akamaster, IMAGES, PIXELS)
    torch.save(logits_NK, "logits.pt")
    reference = (*NARROW, *NORMALIZE, "--reference", "logits.pt")
    assert "name them by --images" in refused(run, *reference)
    assert "--images are those of --reference" in refused(run, *NARROW, *NORMALIZE, "--images", "logits.pt")
    Path("elsewhere").mkdir()
    torch.save(IMAGES[:5], "elsewhere/a.pt")
    assert "5 images for 9 rows of logits" in refused(run, *reference, "--images", "elsewhere/a.pt")
    torch.save(IMAGES[:, :, :28, :28], "elsewhere/a.pt")
    assert "images of 3×28×28, and the network's are of 3×32×32" in refused(
        run, *reference, "--images", "elsewhere/a.pt"
    )
    torch.save(logits_NK[:, :7], "logits.pt")
    assert "holds no logits of 10 classes; it has arrays of 9×7" in refused(run, *reference)
    assert "none.pt: no such file" in refused(run, *NARROW, *NORMALIZE, "--reference", "none.pt")
    Path("logits.pt").write_text("hello")
    assert "logits.pt: neither" in refused(run, *reference)
    saved(np.save, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "holds Python objects" in refused(run, *reference)
    with Path("logits.pt").open("wb") as file:  # says that it holds 40 GiB
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (1 << 30, 10)})
    assert "would take 40 GiB" in refused(run, *reference)


def test_channels_in_another_order_are_told_or_found(run, akamaster):
    pixels = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    torch.save({"images": IMAGES, "logits": published.logits(akamaster, IMAGES.flip(1), pixels)}, "logits.pt")
    words = (*NARROW, "--normalize", "0.4,0.5,0.6", "0.2,0.25,0.3", "--reference", "logits.pt", "--json")
    assert "with --channels bgr they agree" in refused(run, *words)
    code, out, err = run("import-weights", "w.pth", *words, "--channels", "bgr")
    assert code == 0, err
    record = read_record(Path(json.loads(out)["folder"]))
    expected_NK = published.logits(akamaster, IMAGES.flip(1), pixels)
    torch.testing.assert_close(predict.logits(predict.load(record), IMAGES), expected_NK, rtol=0, atol=1e-4)
    assert record.data.normalization.mean == pytest.approx((0.6, 0.5, 0.4))
    code, _, err = run("import-weights", "w.pth", *words[:-3], "--channels", "bgr")
    assert "BGR pixels in [0, 1] less 0.4,0.5,0.6, over 0.2,0.25,0.3" in err


def test_a_small_difference_may_be_half_precision(run, akamaster, few):
    logits_NK = published.logits(akamaster, IMAGES, PIXELS)
    torch.save({"images": IMAGES, "logits": logits_NK.bfloat16()}, "logits.pt")
    assert "that may be TF32 or half precision" in refused(run, *NARROW, *NORMALIZE, "--reference", "logits.pt")


@pytest.fixture
def folder(run, akamaster):
    """A folder of images whose classes are what the network says of them, five at least of each of some classes."""
    images_NCHW = torch.randint(0, 256, (400, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    images_NCHW = images_NCHW.repeat_interleave(4, 2).repeat_interleave(4, 3)  # coarse, so that they differ
    logits_NK = published.logits(akamaster, images_NCHW, PIXELS)
    centred_NK = logits_NK - logits_NK.mean(0)
    with torch.no_grad():
        akamaster.linear.bias -= logits_NK.mean(0)
    torch.save(akamaster.state_dict(), "w.pth")
    counts_K = torch.bincount(centred_NK.argmax(1), minlength=10)
    assert counts_K.min() >= 4, counts_K
    for number, (image, label) in enumerate(zip(images_NCHW, centred_NK.argmax(1).tolist(), strict=True)):
        first = (centred_NK.argmax(1)[:number] == label).sum() < counts_K[label] // 2
        place = Path("images") / ("train" if first else "test") / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{number}.png")
    return Path("images")


def test_weights_are_scored_and_the_reading_is_counted_and_near_chance_warns(run, folder, few):
    code, out, err = run("import-weights", "w.pth", *NARROW, *NORMALIZE, "--data", folder)
    assert code == 0, err
    assert re.search(r"^imported into (\S+)\ntest loss \d+\.\d+ acc 1\.0000 \(\d+ images\)\n$", out)
    assert "most frequent" not in err
    assert read_record(Path(re.search(r"into (\S+)", out)[1])).test_reads == 1
    wrong = ("--set", "model.shortcut.zeros=after")
    code, out, err = run("import-weights", "w.pth", *NARROW, *NORMALIZE, "--data", folder, *wrong, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["test"]["accuracy"] < 0.5
    if near_chance(said["test"]["accuracy"], 0.2, said["test"]["n"]):
        assert "warning: an accuracy of " in err
        assert "is about what naming the most frequent class gives" in err
        assert "--set model.shortcut.zeros=around gives 1.00 on 64 training images" in err
    assert said["result"]["test_reads"] == read_record(Path(said["folder"])).test_reads == 1


@pytest.mark.parametrize(
    "wrong", ["model.ordering=relu_only_preactivation", "model.activation=tanh", "model.stem.stride=2"]
)
def test_another_network_scores_near_chance_and_what_it_should_be_is_named(run, folder, few, wrong):
    code, _, err = run("import-weights", "w.pth", *NARROW, *NORMALIZE, "--data", folder, "--set", wrong)
    assert code == 0
    assert re.search(r"^warning: an accuracy of 0\.\d+ is about what naming the most frequent class gives \(0\.\d+\): --\S+ \S+ gives 1\.00 on 64 training images$",
                     err, re.MULTILINE), err  # fmt: skip


def test_logits_of_test_images_are_a_reading_that_is_counted(run, folder, akamaster):
    from residuum.data import datasets

    test = datasets.load(datasets.find(folder), str(folder)).test
    torch.save(published.logits(akamaster, torch.from_numpy(test.images_NCHW[:6]), PIXELS), "logits.pt")
    code, out, err = run(
        "import-weights", "w.pth", *NARROW, *NORMALIZE, "--data", folder, "--reference", "logits.pt", "--json"
    )
    assert code == 0, err
    assert "the first test images" in err
    assert read_record(Path(json.loads(out)["folder"])).test_reads == 2


def test_near_chance_is_what_it_says():
    assert near_chance(0.1, 0.1, 10_000)
    assert near_chance(0.18, 0.1, 10_000)
    assert not near_chance(0.25, 0.1, 10_000)
    assert near_chance(0.5, 0.5, 100)
    assert not near_chance(0.7, 0.5, 1000)
    assert near_chance(0.3, 0.1, 10)
    assert not near_chance(0.2, 0.01, 10_000)


def test_the_cases_that_failed(run, shared_cases):
    weights = shared_cases / "weights"
    common = ("--model", "resnet20", *NORMALIZE, "--json")
    zeros, control = weights / "zeros_at_the_end", weights / "control_resnet20"
    code, out, err = run(
        "import-weights", zeros.with_suffix(".pth"), *common, "--reference", zeros.with_suffix(".logits")
    )
    assert (code, out) == (2, "")
    assert (
        "the class is the same for 0 of 16 images; nothing was written; with --set model.shortcut.zeros=after they agree"
        in err
    )
    assert not Path("runs").exists()
    for case, settings in ((zeros, ("--set", "model.shortcut.zeros=after")), (control, ())):
        words = ("--reference", case.with_suffix(".logits"), "--images", weights / "images.pt", *settings)
        code, out, err = run("import-weights", case.with_suffix(".pth"), *common, *words)
        assert code == 0, err
        record = read_record(Path(json.loads(out)["folder"]))
        found_NK = predict.logits(predict.load(record), torch.load(weights / "images.pt", weights_only=True))
        expected_NK = torch.load(case.with_suffix(".logits"), weights_only=True)
        torch.testing.assert_close(found_NK, expected_NK, rtol=0, atol=1e-4)
    code, out, err = run("import-weights", weights / "lightning_resnet20.pth", *common)
    assert code == 0, err
    assert json.loads(out)["place"] == "state_dict.model"

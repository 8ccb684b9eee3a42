"""Networks of public code: imported by their preset, they give that code's logits; by another, they do not, or say so."""

import published
import pytest
import torch

from residuum.config import RunConfig
from residuum.errors import InputError
from residuum.networks.presets import PRESETS
from residuum.registry import Choice
from residuum.run import importing, predict

IMAGES = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def config(model, dataset="cifar10", **settings):
    stages = 3 if model.startswith(("resnet20", "resnet32", "preact20", "bottleneck")) else 4
    widths = {"model.channels": [8 << stage for stage in range(stages)]}
    return RunConfig().changed({"model": model, "data.dataset": dataset, "data.validation": 0, **widths, **settings})


def read(path, model, dataset, preset, **settings):
    images = importing.without_images(dataset)
    return importing.read_weights(path, config(model, dataset, **settings), images, preset=preset, estimates=False)


def logits(imported, runs):
    record = importing.keep(imported, runs)
    return predict.logits(predict.load(record), IMAGES)


def test_every_preset_has_its_networks_here():
    assert {preset for preset, *_ in published.PUBLISHED.values()} == set(PRESETS)


@pytest.mark.parametrize("name", published.PUBLISHED)
def test_a_published_network_gives_its_own_logits(name, tmp_path):
    network, preset, model, dataset, pixels = published.made(name)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    imported = read(tmp_path / "w.pth", model, dataset, preset)
    expected_NK = published.logits(network, IMAGES, pixels)
    found_NK = logits(imported, tmp_path / "runs")
    assert expected_NK.std() > 0.1, "logits that are all alike would show nothing"
    torch.testing.assert_close(found_NK, expected_NK, rtol=0, atol=1e-5 * float(expected_NK.abs().max()))


@pytest.mark.parametrize(
    ("name", "loads"),
    [
        ("kuangliu preact18", False),
        ("akamaster resnet20", False),
        ("chenyaofo resnet20", True),
        ("huyvnphan resnet18", True),
    ],
)
def test_another_preset_is_refused_or_caught_by_the_logits_and_the_right_one_is_named(name, loads, tmp_path):
    """Every other preset: its network has other tensors, or it `loads` and has other logits."""
    network, preset, model, dataset, pixels = published.made(name)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    torch.save({"images": IMAGES, "logits": published.logits(network, IMAGES, pixels)}, tmp_path / "logits.pt")
    right = read(tmp_path / "w.pth", model, dataset, preset)
    assert importing.check_reference(right, tmp_path / "logits.pt").agrees
    same = {other for other in PRESETS if _as_is(other, right, model, dataset)}
    assert preset in same
    caught = 0
    for other in sorted({*PRESETS} - same):
        try:
            wrong = read(tmp_path / "w.pth", model, dataset, other)
        except InputError as error:
            assert "not the weights of this network" in str(error) or "no constants" in str(error)
            continue
        caught += 1
        with pytest.raises(InputError, match="nothing was written; with --") as refused:
            importing.check_reference(wrong, tmp_path / "logits.pt")
        assert "\n" not in str(refused.value)
        assert any(f"--preset {one} " in str(refused.value) for one in same) or "--set" in str(refused.value)
    assert bool(caught) == loads


@pytest.mark.parametrize("name", [name for name, row in published.PUBLISHED.items() if row[1].startswith("preact")])
def test_pre_activated_networks_of_public_code_are_known_by_their_tensors(name, tmp_path):
    network, preset, model, dataset, pixels = published.made(name)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    imported = read(tmp_path / "w.pth", model, dataset, "")
    assert imported.preset == preset
    expected_NK = published.logits(network, IMAGES, pixels)
    found_NK = logits(imported, tmp_path / "runs")
    torch.testing.assert_close(found_NK, expected_NK, rtol=0, atol=1e-5 * float(expected_NK.abs().max()))


def _as_is(preset, right, model, dataset):
    """Whether a preset means the very network and pixels that another one did."""
    from residuum.models import MODELS
    from residuum.networks.presets import pixels_of, settings_of

    plain, side = config(model, dataset), right.fit.state["conv1.weight"].shape[-1]
    settings = settings_of(PRESETS[preset], plain.model, side)
    same = MODELS.resolve(plain.changed(settings).model) == Choice.of(right.config.model)
    pixels, found = pixels_of(PRESETS[preset], dataset), right.data.normalization
    return same and pixels is not None and pixels == (found.mean, found.std)


def test_a_preset_leaves_a_plain_network_plain_and_settings_stand_over_it(tmp_path):
    network = published.scattered(published.Akamaster(3, 10, 8))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    images = importing.without_images("cifar10")
    widths = {"model.channels": [8, 16, 32]}
    plain = RunConfig().changed({"model": "plain20", "data.validation": 0, **widths})
    with pytest.raises(InputError, match=r"plain20 has none; .* say model\.shortcut=none"):
        importing.read_weights(tmp_path / "w.pth", plain, images, preset="kuangliu")
    said = {"model.shortcut": "none"}
    kept = importing.read_weights(tmp_path / "w.pth", plain, images, preset="kuangliu", settings=said).config.model
    assert Choice.of(kept.shortcut).name == "none"
    own = {"model.shortcut.zeros": "after", "model.bn_eps": 1e-3, "compute.precision": "auto"}
    imported = importing.read_weights(tmp_path / "w.pth", config("resnet20"), images, preset="akamaster", settings=own)
    assert (Choice.of(imported.config.model.shortcut).zeros, imported.config.model.bn_eps) == ("after", 1e-3)


def test_a_preset_without_constants_for_the_data_says_so(tmp_path):
    network = published.scattered(published.Weiaicunzai([2, 2, 2, 2], 10, 8, False, False))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        InputError, match="preset 'weiaicunzai' has no constants for cifar10, but for cifar100; say how"
    ):
        read(tmp_path / "w.pth", "resnet18", "cifar10", "weiaicunzai")

"""The configuration: dotted settings, identity, short names of networks, one-line errors."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residuum import recipes
from residuum.config import YOUNG, RunConfig, identity, parse_setting
from residuum.errors import InputError
from residuum.models import MODELS
from residuum.networks.names import folder_name, network, network_names, short_name
from residuum.records.run_folder import folder_of
from residuum.registry import Choice


def test_a_configuration_survives_json():
    for name in recipes.RECIPES:
        config = recipes.recipe(name)
        assert RunConfig.of(json.loads(config.model_dump_json())) == config


def test_changed_sets_nested_settings_and_leaves_the_rest():
    before = recipes.he2015()
    after = before.changed({"model.depth": 56, "optim.optimizer.nesterov": True})
    expected = before.settings() | {"model.depth": 56, "optim.optimizer.nesterov": True}
    assert after.settings() == expected


def test_a_new_name_starts_from_its_defaults_and_the_same_name_keeps_settings():
    config = recipes.he2015().changed({"optim.optimizer": "adam"})
    assert config.optim.optimizer == Choice(name="adam")
    config = recipes.he2015().changed({"optim.optimizer": {"name": "sgd", "nesterov": True}})
    assert config.optim.optimizer == Choice(name="sgd", momentum=0.9, nesterov=True)


def test_a_short_model_name_keeps_the_width_of_the_recipe():
    assert recipes.report_d().changed({"model": "plain56"}).model.settings["channels"] == [30, 60, 90]
    assert "channels" not in recipes.report_d().changed({"model": "resnet18"}).model.settings


def test_one_augmentation_is_a_list_of_one():
    assert recipes.quick().changed({"data.augment": "hue"}).data.augment == (Choice(name="hue"),)


def test_setting_order_does_not_matter():
    one = recipes.quick().changed({"optim.schedule.gamma": 0.5, "optim.schedule": "exponential"})
    two = recipes.quick().changed({"optim.schedule": "exponential", "optim.schedule.gamma": 0.5})
    assert one == two
    assert one.optim.schedule == Choice(name="exponential", gamma=0.5)


def test_a_choice_inside_the_model_can_be_set_by_its_own_settings():
    model = recipes.he2015().changed({"model.activation.alpha": 2.0, "model.activation": "elu"}).model
    assert model.settings["activation"] == {"name": "elu", "alpha": 2.0}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"optim.lrr": 1}, "did you mean 'optim.lr'?"),
        ({"trian.epochs": 1}, "did you mean 'train.epochs'?"),
        ({"optim.lr": "fast"}, "optim.lr: input should be a valid number, not 'fast'"),
        ({"optim.lr": -1.0}, "optim.lr: input should be greater than 0"),
        ({"train.epochs": True}, "train.epochs: input should be a valid integer, not True"),
        ({"train.epochs": "12"}, "train.epochs"),
        ({"train.epochs": 1.5}, "train.epochs"),
        ({"compute.precision": "fp8"}, "compute.precision"),
        ({"model": "resnet21"}, "the nearest is 'resnet20'"),
        ({"model": "plain19"}, "the nearest is 'plain20'"),
        ({"model": "bottleneck50"}, "the nearest is 'bottleneck47'"),
        ({"model": "rsnet20"}, "did you mean 'resnet20'?"),
        ({"model": "plain18-imagenet"}, "only resnet and preact have an ImageNet form"),
        ({"model": "resnet20-imagenet"}, "18, 34, 50, 101, 152"),
        ({"optim.lr.x": 1}, "unknown setting 'optim.lr.x'"),
        ({"train": 3}, "train is a section, not a setting; it has train.epochs, train.batch_size"),
        ({"optim.optimizer": ""}, "optim.optimizer: a choice needs a name"),
        ({"optim.optimizer": 3}, "optim.optimizer"),
        ({"data.augment": 3}, "data.augment"),
    ],
)
def test_a_bad_setting_is_one_line_with_the_nearest_valid_one(settings, says):
    with pytest.raises(InputError) as error:
        recipes.he2015().changed(settings)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_recipe():
    with pytest.raises(InputError, match="did you mean 'he2015'"):
        recipes.recipe("he2016")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr=1e-3", ("optim.lr", 0.001)),  # guard 30: a number, not text
        ("model.depth=56", ("model.depth", 56)),
        ("data.root=/data/cifar 10", ("data.root", "/data/cifar 10")),
        ('data.augment=["pad_crop", {name = "cutout", size = 8}]', ("data.augment", ["pad_crop", {"name": "cutout", "size": 8}])),
        ("monitor.test=true", ("monitor.test", True)),
        ("model.shortcut=none", ("model.shortcut", "none")),
        ("data.root=2020-01-01", ("data.root", "2020-01-01")),
    ],
)  # fmt: skip
def test_values_are_read_as_toml_and_else_as_text(text, expected):
    assert parse_setting(text) == expected


@pytest.mark.parametrize("text", ["model={", "data.augment=['pad_crop'", 'data.root="x', "model={depth: 20}"])
def test_a_value_that_begins_as_toml_has_to_be_toml(text):
    with pytest.raises(InputError, match="the value is neither a name nor TOML, as 56") as error:
        parse_setting(text)
    assert str(error.value).startswith(repr(text))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("preactresnet20", "did you mean 'preact20'?"),
        ("PreAct-ResNet-18", "did you mean 'preact18'?"),
        ("ResNet-56", "did you mean 'resnet56'?"),
        ("resnet-18-imagenet", "did you mean 'resnet18-imagenet'?"),
        ("resnet20x2", "did you mean 'resnet20' with model.wide=2?"),
        ("ResNet-110x10", "did you mean 'resnet110' with model.wide=10?"),
        ("resnt20", "did you mean 'resnet20'?"),
        ("wrn", "as model=resnet20, or a setting, as model.depth=56; network_names gives them"),
        ("", "as model=resnet20, or a setting, as model.depth=56; network_names gives them"),
    ],
)
def test_a_name_of_no_network_leads_to_the_one_that_is_meant(name, hint):
    with pytest.raises(InputError) as error:
        network(name)
    assert str(error.value).startswith(f"unknown model {name!r}; ")
    assert str(error.value).endswith(hint)


@pytest.mark.parametrize("value", [7, True, 0.5, ["resnet20"], None])
def test_a_value_that_is_no_network_is_told_the_forms(value):
    with pytest.raises(
        InputError, match=r"is not a network; write a name, as model=resnet20, .*, as model.depth=56; network_names"
    ):
        recipes.quick().changed({"model": value})


def test_another_choice_without_a_name_says_what_it_needs():
    with pytest.raises(
        InputError, match=r"^optim.optimizer: needs a name, or a table with a name and settings, not 7$"
    ):
        recipes.quick().changed({"optim.optimizer": 7})


@pytest.mark.parametrize("text", ["model.depth", "=3", ""])
def test_a_setting_needs_a_path_and_a_value(text):
    with pytest.raises(InputError, match="path=value"):
        parse_setting(text)


def test_identity_ignores_where_the_data_lies_and_what_is_watched_or_saved_and_nothing_else():
    config = recipes.he2015()
    assert identity(config) == identity(config.changed({"data.root": "/elsewhere"}))
    seen = {"monitor.test": False, "monitor.final_test": False, "monitor.histograms": True, "monitor.noise": True}
    saved = {"save.every": 5, "save.steps": 7, "save.keep": 0}
    assert identity(config) == identity(config.changed(seen | saved))
    assert {path for path in config.settings() if path.startswith(("monitor.", "save."))} == {*seen, *saved}
    others = {
        "compute.device": "cpu",
        "compute.precision": "fp32",
        "compute.kernels": "auto",
        "data.fingerprint": "f",
        "pretrained.fingerprint": "f",
        "optim.freeze": ["conv1"],
        "data.augment": [],
        "optim.penalties": ["l1"],
    }
    for path, value in config.settings().items():
        # The name of a preset is none of it, what it sets is: tests/training/test_pretrained.py.
        if path in ("data.root", "pretrained.weights", "pretrained.preset", "pretrained.key") or path.startswith(
            ("monitor.", "save.")
        ):
            continue
        if path in others:
            other = others[path]
        elif isinstance(value, bool):
            other = not value
        elif isinstance(value, int):
            other = value + 1
        elif isinstance(value, float):
            other = value / 2 if value else 0.5
        elif path == "optim.schedule.milestones":
            other = [0.1]
        else:
            other = "other"
        assert identity(config.changed({path: other})) != identity(config), path


def test_run_folders_of_the_first_version_keep_their_ids():
    """The id that the configuration had before there were histograms of layers; what was watched still counted then."""
    assert identity(recipes.he2015(), schema=1) == "e45c97e2e35f"
    assert identity(recipes.he2015().changed({"save.every": 2}), schema=1) != "e45c97e2e35f"
    assert identity(recipes.he2015()) != "e45c97e2e35f"


def test_settings_that_came_later_leave_the_id_of_a_network_that_has_them_as_it_always_had():
    """The ids that these networks had before those settings; each of the settings counts where it is another."""
    ids = {"resnet20": "c16d30360ac5", "preact18": "6902530762c4", "resnet50-imagenet": "71ae697ea365"}
    for name, expected in ids.items():
        assert identity(resolved(network(name))) == expected, name
        values = resolved(network(name)).model_dump(mode="json")
        for (path, choice), young in YOUNG.items():  # as a folder of before has them
            place = values["model"] if path == "model" else values["model"].get(path.removeprefix("model."), {})
            if place.get("name") == choice:
                for setting in young:
                    del place[setting]
        assert identity(RunConfig.of(values)) == expected, name
    counted = 0
    for (path, name), young in YOUNG.items():
        model = network("resnet20") if "." in path else {"name": name, **NEEDED.get(name, {})}
        plain = RunConfig().changed({"model": model, **({path: name} if "." in path else {})})
        for setting, default in young.items():
            other = AS_WELL.get(setting, not default if isinstance(default, bool) else None)
            if other is None or other == default:
                other = {"1x1": "3x3", "first": "second", "input": "activated", "activated": "input", "max": "none"}[
                    default
                ]
            changed = plain.changed({f"{path}.{setting}": other})
            assert identity(resolved(changed.model)) != identity(resolved(plain.model)), (path, name, setting)
            counted += 1
    assert counted == sum(map(len, YOUNG.values())) > 20


NEEDED = {"staged_resnet": {"blocks": [1], "channels": [4]}}
AS_WELL = {"pooling": "max", "bn_eps": 1e-3, "bn_momentum": 0.01, "approximate": "tanh", "zeros": "after",
           "subsample": "average", "stride": 3, "after": "bn", "pool": "max"}  # fmt: skip


def resolved(model):
    from residuum.models import MODELS

    return RunConfig().changed({"model": MODELS.resolve(Choice.of(model), "model")})


@pytest.mark.parametrize(
    ("model", "settings", "name", "before"),
    [
        ("preact20", {"model.shortcut": "projection"}, "preact20", "resnet20"),
        ("preact26", {}, "preact26", "resnet26"),
        ("resnet18", {"model.ordering": "bn_after_addition"}, "resnet18", "imagenet_resnet"),
        ("preact50-imagenet", {"model.ordering": "relu_only_preactivation"}, "resnet50-imagenet", "imagenet_resnet"),
        ("bottleneck29", {"model.shortcut": "projection"}, "bottleneck29", "resnet29"),
        ("resnet20", {"model.shortcut": "projection"}, "resnet20", "resnet20"),
        ("plain26", {}, "plain26", "plain26"),
    ],
)
def test_a_run_is_listed_as_its_network_and_its_folder_keeps_the_name_that_it_had(
    model, settings, name, before, tmp_path
):
    config = RunConfig().changed({"model": model, **settings})
    config = config.model_copy(update={"model": MODELS.resolve(config.model)})
    assert (short_name(config.model), folder_name(config.model)) == (name, before)
    assert folder_of(tmp_path, config).name == f"{before}-cifar10-seed0-{identity(config)}"


def test_every_short_name_comes_back():
    for name in network_names():
        assert short_name(Choice.of(network(name))) == name


@given(st.integers(1, 400))
def test_resnet_and_plain_exist_for_every_6n_plus_2(n):
    depth = 6 * n + 2
    plain = network(f"plain{depth}")
    assert (plain["depth"], plain["shortcut"]) == (depth, "none")
    # 50 and 152 are 6n+2 too, but everybody means the networks of He et al., table 1, by these names.
    family = "imagenet_resnet" if depth in (50, 152) else "cifar_resnet"
    assert network(f"resnet{depth}")["name"] == family


def test_the_describing_half_does_not_import_torch():
    code = (
        "import sys, residuum.config, residuum.recipes, residuum.registry, residuum.streams, residuum.records.record,"
        "residuum.records.environment, residuum.cli.terminal, residuum.report.figures.learning_curves;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_table_of_families_refuses_a_name_that_only_has_the_form_of_one():
    from residuum.models import MODELS

    assert all(network(name) == {"name": name} for name in MODELS)
    with pytest.raises(InputError, match=r"unknown model 'cifar_resnt'; did you mean 'cifar_resnet'\?"):
        MODELS.resolve(RunConfig().changed({"model": "cifar_resnt"}).model)

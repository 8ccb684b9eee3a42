"""Runs that begin with weights: which are taken, what stays frozen, what the id says, and that they resume exactly."""

import shutil

import pytest
import torch

from residuum import optim, recipes
from residuum.cli import main
from residuum.config import RunConfig, identity
from residuum.engine import state
from residuum.errors import InputError
from residuum.models import build
from residuum.networks.presets import PRESETS, pixels_of, settings_of
from residuum.records import run_folder
from residuum.records.event import EpochDone, Note, Started
from residuum.records.record import read_record
from residuum.registry import Choice, name_of
from residuum.run import assemble, predict, pretrained, weights
from residuum.training import check, resume, run, train


def tiny(**settings) -> RunConfig:
    """A run of 2 epochs of 3 updates."""
    base = {
        "data.dataset": {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 4},
        "data.validation": 12,
        "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]},
        "train.epochs": 2,
        "train.batch_size": 16,
        "compute.threads": 1,
        "compute.precision": "fp32",
    }
    return RunConfig().changed(base | {name.replace("__", "."): value for name, value in settings.items()})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A trained run of four classes."""
    return train(tiny(), tmp_path_factory.mktemp("teacher"))


def weights_of(record, epoch: int | None = None) -> dict[str, torch.Tensor]:
    checkpoint, _ = run_folder.latest_checkpoint(record.folder)
    return state.from_bytes(state.evaluated(checkpoint.files))


def begun(config: RunConfig):
    """The network of a run before its first update, and what is said of it."""
    resolved, data = assemble.resolve(config)
    return assemble.begun(resolved, data)


def test_all_weights_are_taken_where_the_classes_are_the_same(teacher):
    network, notes = begun(tiny(pretrained__weights=str(teacher.folder), train__seed=7))
    assert all(torch.equal(tensor, weights_of(teacher)[name]) for name, tensor in network.state_dict().items())
    assert notes == [f"begins with the weights of run {teacher.id}: all"]


@pytest.mark.parametrize("exported", [False, True])
def test_a_network_that_computes_otherwise_with_the_same_tensors_is_told(teacher, tmp_path, exported):
    source = weights.export(teacher, "safetensors", tmp_path / "ours.safetensors").path if exported else teacher.folder
    plain = {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8], "shortcut": "none", "activation": "gelu"}
    (note,) = begun(tiny(pretrained__weights=str(source), model=plain))[1]
    assert note.endswith(
        ": all; they were trained in a network that computes otherwise: model.shortcut was identity and is none, "
        "model.activation was relu and is gelu"
    )
    alike = {**plain, "shortcut": "identity", "activation": "relu", "init": "zero_gamma"}
    (note,) = begun(tiny(pretrained__weights=str(source), model=alike))[1]
    assert note.endswith(": all")


def test_the_head_is_new_where_the_classes_are_others(teacher):
    settings = {"pretrained__weights": str(teacher.folder), "train__seed": 7}
    data = {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 5}
    network, notes = begun(tiny(data__dataset=data, **settings))
    random, _ = begun(tiny(data__dataset=data, train__seed=7))
    own, old, new = network.state_dict(), weights_of(teacher), random.state_dict()
    for name, tensor in own.items():
        assert torch.equal(tensor, (new if name.startswith("linear.") else old)[name]), name
    assert notes == [
        f"begins with the weights of run {teacher.id}: all but the head (linear), whose classes are others"
    ]


def test_classes_of_the_same_count_and_other_names_are_others(teacher):
    network = build(teacher.config.model, 1, 4, (12, 12), 0)
    found = pretrained.Pretrained("run x", network.state_dict(), ("a", "b", "c", "d"))
    assert pretrained.put(found, network, ("a", "b", "c", "d")).endswith(": all")
    assert "all but the head" in pretrained.put(found, network, ("d", "c", "b", "a"))


def test_averaged_weights_are_taken_where_a_run_has_them(tmp_path):
    averaged = train(tiny(optim__ema=0.5), tmp_path)
    network, _ = begun(tiny(pretrained__weights=str(averaged.folder)))
    loaded = predict.load(averaged).network.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in network.state_dict().items())


def test_weights_of_a_file_are_taken(teacher, tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(state.to_bytes(weights_of(teacher)))
    network, (note,) = begun(tiny(pretrained__weights=str(file)))
    assert all(torch.equal(tensor, weights_of(teacher)[name]) for name, tensor in network.state_dict().items())
    assert note.startswith(
        "begins with the weights of weights.safetensors: all; what tensors do not tell is as model.*"
    )
    by_run, by_file = check(tiny(pretrained__weights=str(teacher.folder))), check(tiny(pretrained__weights=str(file)))
    assert identity(by_run) == identity(by_file), "the same weights, wherever they lie"


def test_the_head_of_a_file_may_have_other_classes(teacher, tmp_path):
    """As a file of somebody else's, of 4 classes behind a prefix; and as one of ours, whose classes have names."""
    theirs, ours = tmp_path / "theirs.pth", tmp_path / "ours.safetensors"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in weights_of(teacher).items()}}, theirs)
    weights.export(teacher, "safetensors", ours)
    data = {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 7}
    for file in (theirs, ours):
        network, (note,) = begun(tiny(data__dataset=data, pretrained__weights=str(file)))
        said = f"begins with the weights of {file.name}: all but the head (linear), whose classes are others"
        assert note.startswith(said)
        assert ("residuum import-weights" in note) == (file == theirs)  # what is in ours is known
        assert torch.equal(network.state_dict()["conv1.weight"], weights_of(teacher)["conv1.weight"])
    assert pretrained.read(ours, build(teacher.config.model, 3, 7, (12, 12), 0)).classes == teacher.facts.classes


def test_of_two_sets_in_a_file_the_key_takes_one_and_is_no_part_of_the_id(teacher, tmp_path):
    average = {
        name: tensor + 0.5 if tensor.is_floating_point() else tensor for name, tensor in weights_of(teacher).items()
    }
    file = tmp_path / "two.pth"
    torch.save({"model": weights_of(teacher), "model_ema": average}, file)
    five = {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 5}
    for data in ({}, {"data__dataset": five}):  # its own head, and one of other classes
        with pytest.raises(
            InputError, match="in model and in model_ema, which differ; say which by key, as key='model'"
        ):
            check(tiny(pretrained__weights=str(file), **data))
    network, _ = begun(tiny(pretrained__weights=str(file), pretrained__key="model_ema"))
    assert torch.equal(network.state_dict()["conv1.weight"], average["conv1.weight"])
    one = check(tiny(pretrained__weights=str(file), pretrained__key="model"))
    assert identity(one) == identity(check(tiny(pretrained__weights=str(teacher.folder)))), "the same weights"
    with pytest.raises(InputError, match=r"pretrained\.key: it is for a file"):
        check(tiny(pretrained__key="model"))


def test_a_file_of_another_network_is_refused_in_a_line(teacher, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(weights_of(teacher), file)
    with pytest.raises(InputError, match="not the weights of this network"):
        check(tiny(pretrained__weights=str(file), model={"name": "cifar_resnet", "depth": 14, "channels": [4, 4, 8]}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model.depth": 14}, "is of another network: it has no 'layer1.1.bn1.bias'"),
        ({"model.channels": [4, 8, 8]}, r"is of another network: 'layer2.0.\S+' has shape \(4,"),
    ],
)
def test_weights_of_another_network_are_refused_in_a_line(teacher, tmp_path, settings, said):
    with pytest.raises(InputError, match=f"pretrained.weights: run {teacher.id} {said}"):
        train(tiny(pretrained__weights=str(teacher.folder)).changed(settings), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_id_has_the_weights_and_not_where_they_lie(teacher, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(teacher.folder, moved)
    one, two = (check(tiny(pretrained__weights=str(path))) for path in (teacher.folder, moved))
    assert identity(one) == identity(two) != identity(check(tiny()))
    assert one.pretrained.fingerprint == pretrained.read(moved, torch.nn.Identity()).fingerprint
    other = train(tiny(train__seed=1), tmp_path)
    assert identity(check(tiny(pretrained__weights=str(other.folder)))) != identity(one)


def test_ids_of_runs_that_begin_with_random_weights_are_as_before():
    """The id that a run of these settings had before there were others."""
    values = RunConfig().changed({"model": "resnet20"})
    assert identity(values) == identity(values.changed({"optim.freeze": []}))
    assert identity(values) != identity(values.changed({"optim.freeze": ["conv1"]}))
    dumped = values.model_dump(mode="json")
    del dumped["pretrained"], dumped["optim"]["freeze"]
    assert identity(RunConfig.of(dumped)) == identity(values)


def test_what_is_frozen_keeps_weights_and_statistics_and_the_rest_moves(teacher, tmp_path):
    frozen = ("conv1", "bn1", "layer1", "layer2.0.conv1.weight")
    record = train(tiny(pretrained__weights=str(teacher.folder), optim__freeze=frozen, optim__lr=0.01), tmp_path)
    before, after = weights_of(teacher), weights_of(record)
    for name in before:
        kept = any(name == one or name.startswith(f"{one}.") for one in frozen)
        moved = not torch.equal(before[name], after[name])
        assert moved != kept, name


def test_frozen_parts_are_in_no_group_and_cannot_be_all():
    network = build(Choice(name="cifar_resnet", depth=8, channels=[4, 4, 8]), 3, 4, (12, 12), 0)
    with pytest.raises(InputError, match=r"optim\.freeze: unknown part of the network 'layer9'; did you mean 'layer"):
        optim.freeze(network, ["layer9"])
    with pytest.raises(InputError, match=r"known: bn1, conv1, layer1, layer2, layer3, linear$"):
        optim.freeze(network, ["nonsense"])
    optim.freeze(network, ["layer1"])
    named = [name for group in optim.parameter_groups(network, weight_decay=1.0, decay_norm=False)
             for name in group["names"]]  # fmt: skip
    assert named
    assert not [name for name in named if name.startswith("layer1.")]
    assert sum(not parameter.requires_grad for parameter in network.parameters()) == 9 - 3
    network.train()
    assert not network.layer1[0].bn1.training
    assert network.layer2[0].bn1.training
    with pytest.raises(InputError, match="nothing is left to train"):
        optim.freeze(network, [name for name, _ in network.named_children()])


def test_layers_and_noise_of_a_partly_frozen_run_are_seen(teacher, tmp_path):
    settings = {"monitor__histograms": True, "monitor__noise": True, "optim__freeze": ["layer1"]}
    record = train(tiny(pretrained__weights=str(teacher.folder), **settings), tmp_path)
    seen = record.layers()
    assert [one.epoch for one in seen] == [0, 1, 2]
    assert seen[0].kernel_gradients_L.min() > 0
    assert len(record.noise()) == 3
    assert weights_of(record)["layer1.0.conv1.weight"].equal(weights_of(teacher)["layer1.0.conv1.weight"])


@pytest.mark.parametrize("settings", [{}, {"optim__ema": 0.9}, {"optim__freeze": ["layer1"]}])
def test_a_stopped_run_goes_on_to_the_same_bits_without_the_weights_that_it_began_with(teacher, tmp_path, settings):
    source = tmp_path / "source"
    shutil.copytree(teacher.folder, source)
    config = tiny(pretrained__weights=str(source), **settings)
    whole = train(config, tmp_path / "whole")
    events = run(config, tmp_path / "runs")
    folder = next(event.folder for event in events if isinstance(event, Started))
    next(event for event in events if isinstance(event, EpochDone))
    events.close()
    shutil.rmtree(source)
    list(resume(folder))
    record = read_record(folder)
    assert record.id == whole.id
    for name, tensor in weights_of(record).items():
        assert torch.equal(tensor, weights_of(whole)[name]), name
    with pytest.raises(InputError, match=r"pretrained\.weights: .*source does not exist"):
        train(config, tmp_path / "anew")


def test_other_weights_in_the_same_place_are_noticed(teacher, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(teacher.folder, source)
    events = run(tiny(pretrained__weights=str(source)), tmp_path / "runs")
    folder = next(event.folder for event in events if isinstance(event, Started))
    events.close()
    other = train(tiny(train__seed=3), tmp_path)
    shutil.rmtree(source)
    shutil.copytree(other.folder, source)
    with pytest.raises(InputError, match="holds others than this run began with"):
        list(resume(folder))


def test_the_network_before_training_is_the_one_that_it_began_with(teacher, tmp_path):
    record = train(tiny(pretrained__weights=str(teacher.folder)), tmp_path)
    began = predict.beginning(record).state_dict()
    assert all(torch.equal(tensor, weights_of(teacher)[name]) for name, tensor in began.items())
    assert not torch.equal(predict.untrained(record).state_dict()["conv1.weight"], began["conv1.weight"])


def test_begun_with_its_own_weights_a_run_starts_where_the_other_ended(teacher, tmp_path):
    frozen = ("conv1", "bn1", "layer1", "layer2", "layer3")  # else the statistics of batch norms move
    settings = {"optim__lr": 1e-9, "train__epochs": 1, "optim__freeze": frozen}
    record = train(tiny(pretrained__weights=str(teacher.folder), **settings), tmp_path)
    assert record.result.last.validation.loss == pytest.approx(teacher.result.last.validation.loss, rel=1e-4)


def test_finetune_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "quick", "--epochs", "1", "--model", "plain20"]) == 0
    assert main(["train", "finetune", "--from", "plain20-digits", "--data", "digits", "--epochs", "1",
                 "--set", 'optim.freeze=["conv1", "layer1"]', "--set", "data.augment=[]"]) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "note: begins with the weights of run" in said
    one, two = sorted(map(read_record, tmp_path.glob("runs/plain20-*")), key=lambda one: one.recipe, reverse=True)
    assert (one.recipe, two.recipe) == ("quick", "finetune")
    assert two.config.model == one.config.model
    assert two.facts.normalization == one.facts.normalization
    assert two.config.optim.freeze == ("conv1", "layer1")


@pytest.mark.parametrize("name", ["akamaster", "bearpaw", "huyvnphan", "kuangliu", "torchvision", "weiaicunzai"])
@pytest.mark.parametrize("model", ["resnet20", "preact20", "resnet50", "plain20"])
def test_a_preset_sets_what_import_weights_takes_and_lies_below_other_settings(name, model):
    asked = {"model": model, "pretrained.weights": "w.pt", "data.dataset": "cifar100", "pretrained.preset": name}
    if name == "huyvnphan":
        asked["data.dataset"] = "cifar10"
    base = RunConfig().changed({"model": model})
    expected = base.changed(settings_of(PRESETS[name], base.model)).model
    made = recipes.recipe("quick").changed(asked)
    assert made.model == expected
    assert made.changed({"model": model}).model == expected, "the name again, as an arm of a study has it"
    mean, std = pixels_of(PRESETS[name], asked["data.dataset"])
    assert made.data.normalize == Choice.of({"name": "standardize", "mean": list(mean), "std": list(std)})
    without = made.changed({"pretrained.preset": ""})
    assert (without.model, identity(without)) == (made.model, identity(made)), "its name is no part of the id"
    over = made.changed({**asked, "model.activation": "gelu", "model.stem.pool": "none", "data.normalize": "none"})
    assert [name_of(over.model.settings["activation"]), over.data.normalize.name] == ["gelu", "none"]
    assert over.model.settings["stem"]["pool"] == "none"


def test_a_file_is_begun_with_as_its_public_code_computes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"model.depth": 8, "model.channels": [4, 4, 8], "model.shortcut": "projection"}
    config = tiny().changed(settings)
    torch.save(build(config.model, 3, 4, (12, 12), seed=3).state_dict(), "w.pt")
    data = "data.dataset={name='synthetic',size=12,train=60,test=20,classes=4}"
    words = ["train", "quick", "--set", data, "--epochs", "1", "--set", "model.depth=8", "--set",
             "model.channels=[4,4,8]", "--set", "model.shortcut.subsample=average"]  # fmt: skip
    assert main([*words, "--from", "w.pt", "--preset", "kuangliu"]) == 0
    (folder,) = [path for path in (tmp_path / "runs").iterdir() if path.name[0] != "."]
    record = read_record(folder)
    assert record.config.pretrained.preset == "kuangliu"
    assert record.config.model.settings["shortcut"]["name"] == "projection"
    assert record.config.model.settings["shortcut"]["subsample"] == "average"
    assert record.facts.normalization.mean == (0.4914, 0.4822, 0.4465)
    capsys.readouterr()
    for more, said in (
        (["--from", "w.pt", "--preset", "kuang"], "unknown preset 'kuang'; did you mean 'kuangliu'?"),
        (
            ["--from", "w.pt", "--preset", "chenyaofo"],
            "no constants of pixels for synthetic, but for cifar10 and cifar100",
        ),
        (["--preset", "kuangliu"], "--preset: it is for a file of weights, which --from names"),
        (["--from", folder.name, "--preset", "kuangliu"], "--preset: it is for a file of weights"),
        (["--set", "pretrained.preset=kuangliu"], "pretrained.preset: it is for a file of weights"),
    ):
        assert main([*words, *more]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "residuum: pretrained.weights: RUN does not exist; name a run's folder or a file of weights"),
        (["--from", "nothing"], "residuum: no run 'nothing'"),
        (["--set", "optim.freeze=layer1"], "residuum: pretrained.weights: RUN does not exist"),
    ],
)
def test_finetune_without_weights_is_refused_in_a_line(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "finetune", "--data", "digits", *words]) == 2
    assert capsys.readouterr().err.startswith(said)
    assert not list(tmp_path.iterdir())


def test_the_recipe_says_that_it_begins_with_weights():
    assert recipes.recipe("finetune").pretrained.weights
    assert all(not recipes.recipe(name).pretrained.weights for name in recipes.RECIPES if name != "finetune")


def test_what_was_taken_is_said_once(teacher, tmp_path):
    notes = [event.text for event in run(tiny(pretrained__weights=str(teacher.folder)), tmp_path)
             if isinstance(event, Note)]  # fmt: skip
    assert [note for note in notes if note.startswith("begins with")] == [
        f"begins with the weights of run {teacher.id}: all"
    ]

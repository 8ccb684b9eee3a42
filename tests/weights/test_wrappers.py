"""Weights are found wherever a training script puts them, and what lies beside them is named, never taken."""

import argparse
import gzip
import pickle
import random
import re
import types
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune

from residuum.config import RunConfig, parse_setting
from residuum.errors import InputError
from residuum.models import build
from residuum.models.foreign import fitted, load_foreign, read_foreign
from residuum.models.mapping import joined
from residuum.models.saved import Unread
from residuum.networks.names import network
from residuum.networks.presets import PRESETS, settings_of
from residuum.registry import Choice


def made(name="resnet20", seed=0, **settings):
    values = {"channels": [4, 6, 8], "shortcut": "projection"} if name.endswith("20") else {}
    return published.scattered(build(Choice(**network(name) | values | settings), 3, 10, (32, 32), 0), seed)


def found(path, net, key=""):
    return fitted(read_foreign(path), net, key)


def holds(fit, net):
    expected = net.state_dict()
    return list(fit.state) == list(expected) and all(torch.equal(t, fit.state[n]) for n, t in expected.items())


def prefixed(state, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


WORDS = [
    "model",
    "net",
    "module",
    "_orig_mod",
    "_forward_module",
    "backbone",
    "encoder",
    "student",
    "classifier2",
    "m",
    "0",
]
KEYS = ["state_dict", "model_state_dict", "model", "net", "weights", "params", "checkpoint", "best", "generator", "x.y"]


def beside(source):
    """Something that lies beside weights, and what of it is named; none of it belongs to the network."""
    return source.choice([
        ({"criterion.weight": torch.ones(10)}, "criterion.weight"),
        ({"n_averaged": torch.tensor(7)}, "n_averaged"),
        ({"mean": torch.rand(1, 3, 1, 1), "std": torch.rand(3)}, "mean"),
        ({"normalize.mean": torch.rand(3), "normalize.std": torch.rand(3)}, "normalize (2 tensors)"),
        ({"projector.0.weight": torch.rand(5, 8), "projector.0.bias": torch.rand(5)}, "projector (2 tensors)"),
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_weights_are_found_behind_random_prefixes_and_keys(seed, tmp_path):
    """Nobody listed these: a random prefix in a random nest of keys, with random things beside it and around it."""
    source = random.Random(seed)
    net = made(seed=seed)
    prefix = "".join(f"{source.choice(WORDS)}." for _ in range(source.randint(1, 3)))
    state = prefixed(net.state_dict(), prefix)
    if source.random() < 0.3:
        state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    more, said = beside(source)
    names = [*more.items(), *state.items()] if source.random() < 0.5 else [*state.items(), *more.items()]
    content = dict(names)
    for _ in range(source.randint(0, 3)):
        content = {
            "epoch": 3,
            source.choice(KEYS): content,
            "lr": 0.1,
            "optimizer": {"state": {0: {"buffer": torch.rand(3)}}},
        }
    torch.save(content, tmp_path / "w.pt")
    fit = found(tmp_path / "w.pt", net)
    counted = {n: t for n, t in net.state_dict().items() if n in fit.state and not n.endswith("num_batches_tracked")}
    assert all(torch.equal(fit.state[name], tensor) for name, tensor in counted.items())
    assert fit.place.endswith(prefix.rstrip("."))
    assert any(said.split()[0] in one for one in fit.passed_over), fit.passed_over
    assert not fit.matched
    assert not fit.others


@pytest.mark.parametrize("seed", range(6))
def test_safetensors_with_a_random_prefix(seed, tmp_path):
    source = random.Random(seed)
    net = made(seed=seed)
    prefix = "".join(f"{source.choice(WORDS)}." for _ in range(source.randint(0, 3)))
    save_file(prefixed(net.state_dict(), prefix) | {"n_averaged": torch.tensor(3)}, tmp_path / "w.safetensors")
    assert holds(found(tmp_path / "w.safetensors", net), net)


REAL = {
    "Lightning": lambda state: {"epoch": 9, "state_dict": prefixed(state, "model."), "callbacks": {}, "loops": {}},
    "Lightning with a metric": lambda state: {"state_dict": prefixed(state, "net.") | {"val_acc.total": torch.tensor(5)}},
    "DataParallel of compiled": lambda state: prefixed(state, "module._orig_mod."),
    "DeepSpeed": lambda state: {"module": prefixed(state, "_forward_module.")},
    "parts compiled one by one": lambda state: {name.replace("conv1.", "conv1._orig_mod."): t for name, t in state.items()},
    "stages in parallel": lambda state: {name.replace("layer2.", "layer2.module."): t for name, t in state.items()},
    "sharded": lambda state: {name.replace("layer", "_fsdp_wrapped_module.layer"): t for name, t in state.items()},
    "averaged": lambda state: {"n_averaged": torch.tensor(4)} | prefixed(state, "module."),
    "normalises itself": lambda state: {"mean": torch.zeros(3), "std": torch.ones(3)} | state,
    "in a list": lambda state: [state, {"lr": 0.1}],
    "under several keys": lambda state: {"a": {"b": {"c": {"model": state}}}},
    "torchvision names": lambda state: {
        f"encoder.{name}".replace("linear", "fc").replace("shortcut", "downsample"): t for name, t in state.items()
    },
    "head beside its encoder": lambda state: {
        name.replace("linear", "head") if name.startswith("linear") else f"backbone.{name}": t for name, t in state.items()
    },
    "numpy and options": lambda state: {
        "state_dict": state, "acc": np.float64(93.2), "best": np.float32(1), "args": argparse.Namespace(lr=0.1, at=np.int64(3)),
        "history": np.arange(5.0), "where": Path("x"), "more": types.SimpleNamespace(a=1), "name": np.str_("r"),
    },
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapping", REAL)
def test_what_training_frameworks_write_loads(wrapping, zipped, tmp_path):
    net = made()
    torch.save(REAL[wrapping](net.state_dict()), tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    fit = found(tmp_path / "w.pt", net)
    assert holds(fit, net)
    assert fit.head == ("head.weight" if wrapping == "head beside its encoder" else "")


class Heavy:
    """Unpickled by numpy, it fills two gigabytes."""

    def __reduce__(self):
        return np._core.multiarray.scalar, (np.dtype(f"V{(1 << 31) - 1}"),)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_allowed_besides_tensors_is_not_made(zipped, tmp_path):
    """Neither numpy nor a class of the standard library is called: their names stand for what keeps nothing."""
    net = made()
    content = {"net": net.state_dict(), "acc": np.float64(1), "heavy": Heavy(), "args": argparse.Namespace(a=Heavy())}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    read = read_foreign(tmp_path / "w.pt").content
    assert [type(read[name]) for name in ("acc", "heavy", "args")] == [Unread] * 3
    assert vars(read["args"]) == {}
    assert holds(found(tmp_path / "w.pt", net), net)
    torch.save(
        {"net": net.state_dict(), "when": datetime.now(UTC)}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(InputError, match=r"holds 'datetime\.datetime', and only plain tensors are read"):
        load_foreign(tmp_path / "w.pt", net)


SEVERAL = ["state_dict_ema", "model_ema", "teacher", "ema_model", "swa", "momentum_encoder", "best", "model", "net",
           "state_dict", "discriminator", "previous"]  # fmt: skip
"""Names of which none says that it is what was published: an average may be, and may not."""
NEVER_MEANT = ["init", "initial_state_dict", "model_init", "untrained", "grads", "momentum_buffer", "exp_avg_sq"]


@pytest.mark.parametrize("seed", range(12))
def test_of_several_sets_that_differ_none_is_taken_unasked(seed, tmp_path):
    """Nobody listed these pairs: under keys or behind prefixes, both are named, and each key takes its own."""
    source = random.Random(seed)
    one, other = made(seed=1), made(seed=2)
    names = source.sample(SEVERAL, 2)
    if source.random() < 0.5:
        content = {key: net.state_dict() for key, net in zip(names, (one, other), strict=True)}
    else:
        both = prefixed(one.state_dict(), f"{names[0]}.") | prefixed(other.state_dict(), f"{names[1]}.module.")
        content = {"epoch": 3, "state_dict": both}
    torch.save({**content, "lr": 0.1}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"network in .* and in .*, which differ; say which") as asked:
        load_foreign(tmp_path / "w.pt", one)
    assert all(re.search(rf"\b{name}\b", str(asked.value)) for name in names)
    places = re.search("network in (.*) and in (.*), which", str(asked.value)).groups()
    for key, net in zip(places, (one, other), strict=True):
        assert holds(found(tmp_path / "w.pt", net, key=key), net)
    with pytest.raises(InputError, match=f"nothing under 'third' .*; they lie in {places[0]} and in {places[1]}$"):
        found(tmp_path / "w.pt", one, key="third")
    wrong = build(Choice(**network("resnet26")), 3, 10, (32, 32), 0)
    with pytest.raises(InputError, match="these look like the weights of resnet20"):
        load_foreign(tmp_path / "w.pt", wrong)


@pytest.mark.parametrize("name", NEVER_MEANT)
def test_weights_before_training_and_what_an_optimizer_keeps_are_passed_over_and_named(name, tmp_path):
    net, before = made(seed=1), made(seed=2)
    torch.save({name: before.state_dict(), "model": net.state_dict()}, tmp_path / "w.pt")
    fit = found(tmp_path / "w.pt", net)
    assert (holds(fit, net), fit.place, fit.others) == (True, "model", (name,))
    assert holds(found(tmp_path / "w.pt", before, key=name), before)
    torch.save({name: net.state_dict()}, tmp_path / "w.pt")
    assert holds(found(tmp_path / "w.pt", net), net), "where there are no others"


def test_a_copy_within_is_told_from_the_weights_around_it(tmp_path):
    net, average = made(seed=1), made(seed=2)
    torch.save(net.state_dict() | prefixed(average.state_dict(), "ema."), tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"in the top level and in ema, which differ; say which by key, as key='\.'"):
        load_foreign(tmp_path / "w.pt", net)
    assert holds(found(tmp_path / "w.pt", net, key="."), net)
    assert holds(found(tmp_path / "w.pt", average, key="ema"), average)
    torch.save({"net": net.state_dict() | prefixed(average.state_dict(), "ema.")}, tmp_path / "w.pt")
    assert holds(found(tmp_path / "w.pt", net, key="net"), net), "the key itself, not what lies within"


def test_sets_that_are_equal_are_one_and_a_broken_one_is_no_reason_to_take_the_other(tmp_path):
    net = made(seed=1)
    torch.save({"first": net.state_dict(), "second": net.state_dict()}, tmp_path / "w.pt")
    assert holds(found(tmp_path / "w.pt", net), net)
    broken = made(seed=2).state_dict() | {"bn1.bias": torch.full((4,), torch.nan)}
    torch.save({"state_dict_ema": net.state_dict(), "state_dict": broken}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="which differ"):
        load_foreign(tmp_path / "w.pt", net)
    with pytest.raises(InputError, match=r"'bn1\.bias' holds values that are not finite"):
        found(tmp_path / "w.pt", net, key="state_dict")


def test_what_belongs_to_the_network_is_never_passed_over(tmp_path):
    """Another layer behind the prefix is another network, whatever it is called; a factor of the logits is no count."""
    net = made()
    for name, tensor in {"layer3.3.conv1.weight": torch.rand(8, 8, 3, 3), "scale": torch.tensor(2.0),
                         "linear2.weight": torch.rand(10, 10), "layer1.0.se.fc.weight": torch.rand(2, 2)}.items():  # fmt: skip
        for prefix in ("", "model."):
            torch.save(prefixed(net.state_dict() | {name: tensor}, prefix), tmp_path / "w.pt")
            with pytest.raises(InputError, match="is unexpected"):
                load_foreign(tmp_path / "w.pt", net)
    torch.save({n: t.to(torch.int8) if t.ndim > 1 else t for n, t in net.state_dict().items()}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"'conv1\.weight' holds int8, not what a network computes with"):
        load_foreign(tmp_path / "w.pt", net)


@pytest.mark.parametrize("seed", range(12))
def test_what_may_act_on_the_logits_is_told_apart_from_what_lies_beside_them(seed, tmp_path):
    source, net = random.Random(seed), made()
    classes = len(net.linear.bias)
    word = source.choice(["", "head.", "calibration.", "a.b."])
    acting = source.choice([
        {"logit_scale": torch.tensor(4.6)}, {"temperature": torch.tensor([1.5])}, {"T": torch.ones(1, 1)},
        {"bias": torch.rand(classes)}, {"weight": torch.rand(4, classes), "bias": torch.rand(4)},
        {name: torch.rand(classes) for name in ("weight", "bias", "running_mean", "running_var")},
    ])  # fmt: skip
    idle = {
        f"probe{source.randrange(9)}.weight": torch.rand(classes, 7), "loss.scale": torch.tensor(3.0),
        "criterion.weight": torch.rand(classes), "mean": torch.rand(3), "stem.0.weight": torch.rand(4, 3, 3, 3),
    }  # fmt: skip
    state = prefixed(net.state_dict(), "net.")
    torch.save({"state_dict": state | idle}, tmp_path / "w.pt")
    assert not found(tmp_path / "w.pt", net).on_logits
    torch.save({"state_dict": idle | prefixed(acting, word) | state}, tmp_path / "w.pt")
    assert {*found(tmp_path / "w.pt", net).on_logits} <= {*prefixed(acting, word)}
    assert found(tmp_path / "w.pt", net).on_logits


def test_counts_in_floating_point_and_halved_weights_are_taken(tmp_path):
    net = made()
    torch.save({name: tensor.half() for name, tensor in net.state_dict().items()}, tmp_path / "w.pt")
    fit = found(tmp_path / "w.pt", net)
    assert fit.state["bn1.num_batches_tracked"].dtype == torch.int64
    assert torch.equal(fit.state["conv1.weight"], net.conv1.weight.half().float())


def _pruned(net):
    prune.l1_unstructured(net.conv1, "weight", 0.5)


def _normed(net):
    parametrizations.weight_norm(net.linear)


@pytest.mark.parametrize(
    ("change", "said"), [(_pruned, r"conv1\.weight_orig"), (_normed, r"linear\.parametrizations\.\S+")]
)
def test_weights_that_are_made_of_others_are_named(change, said, tmp_path):
    net = made()
    change(net)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=rf"is missing, but there is '{said}': save what pruning or parametrisation"):
        load_foreign(tmp_path / "w.pt", made())


def test_other_files_of_weights_are_called_by_their_kind(tmp_path):
    state = {name: tensor.numpy() for name, tensor in made().state_dict().items()}
    np.savez(tmp_path / "w.npz", **state)
    files = {
        "w.npz": ((tmp_path / "w.npz").read_bytes(), "a zip archive, as .npz is"),
        "w.pkl": (pickle.dumps(state), "a pickle that torch.save did not write, which is never run"),
        "w.h5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5, as Keras writes it"),
        "w.pt.gz": (gzip.compress(b"x"), "gzipped; unpack it"),
    }
    for name, (content, said) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=re.escape(said)):
            load_foreign(tmp_path / name, made())


WRITERS = {
    "torch": lambda state, path: torch.save(state, path),
    "torch before 1.6": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "safetensors": lambda state, path: save_file(dict(state), path),
    "npz": lambda state, path: np.savez(path.open("wb"), **{name: tensor.numpy() for name, tensor in state.items()}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_broke_off_anywhere_is_called_so(kind, tmp_path):
    """Cut where nobody said, it is neither a zip nor a pickle to its reader, but what it was and that it ends early."""
    state, path = made().state_dict(), tmp_path / "w.bin"
    WRITERS[kind](state, path)
    whole = path.read_bytes()
    source = random.Random(kind)
    said = {"npz": "a zip archive", "safetensors": "safetensors"}.get(kind, "a file of torch.save")
    for cut in [len(whole) - 1, *(source.randrange(200, len(whole)) for _ in range(12))]:
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=rf"w\.bin: {said}\b.* ends too early") as refused:
            load_foreign(path, made())
        assert "\n" not in str(refused.value)


class Other(nn.Module):
    """The layers of a network of ours, under names and in an order of somebody else."""

    def __init__(self, net, source):
        super().__init__()
        words = [f"{source.choice('abcdefgh')}{number}" for number in range(40)]
        source.shuffle(words)
        modules = dict(net.named_modules())
        blocks = [name for name, module in modules.items() if hasattr(module, "shortcut")]
        first = source.random() < 0.5
        norms_last = source.random() < 0.5

        def layers(names):
            return [
                modules[name] for name in names if isinstance(modules[name], nn.Conv2d | nn.BatchNorm2d | nn.Linear)
            ]

        def put(into, name, kinds):
            for number, layer in enumerate(kinds):
                into.add_module(f"{name}{number}", layer)

        put(self, words[0], layers(["conv1", "bn1"]))
        for number, block in enumerate(blocks):
            inner = [name for name in modules if name.startswith(f"{block}.")]
            branch = layers([name for name in inner if ".shortcut." not in name])
            if norms_last:
                branch.sort(key=lambda layer: isinstance(layer, nn.BatchNorm2d))
            shortcut = layers([name for name in inner if ".shortcut." in name])
            home = nn.Module()
            for name, part in (
                ((words[1], shortcut), (words[2], branch)) if first else ((words[2], branch), (words[1], shortcut))
            ):
                put(home, name, part)
            self.add_module(f"{words[3]}{number}", home)
        put(self, words[4], layers(["bn", "linear"]))


@pytest.mark.parametrize("seed", range(24))
def test_layers_with_other_names_are_matched_by_their_order(seed, tmp_path):
    """Random names, shortcuts before or after the branch, batch norms after each convolution or after all."""
    source = random.Random(seed)
    settings = {
        "shortcut": source.choice(["projection", "identity"]),
        "ordering": source.choice(["original", "full_preactivation"]),
    }
    net = made(seed=seed, **settings)
    state = Other(net, source).state_dict()
    assert set(state) & {name for name in net.state_dict() if name.endswith("weight")} == set()
    content = {"epoch": 1, "weights": prefixed(state, "model.") | {"mean": torch.rand(3), "std": torch.rand(3)}}
    torch.save(content, tmp_path / "w.pt")
    fit = found(tmp_path / "w.pt", net)
    assert holds(fit, net)
    assert fit.matched
    save_file(prefixed(state, ""), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="names are unknown here, and safetensors does not keep the order of layers"):
        load_foreign(tmp_path / "w.safetensors", net)


def test_blocks_that_do_not_come_out_as_blocks_are_not_matched(tmp_path):
    """A pre-activated network with option A has the kinds and shapes of an original one, each a place further on."""
    source = random.Random(1)
    pre = made(shortcut="identity", ordering={"name": "full_preactivation"}, stem={"name": "3x3", "after": "none"})
    torch.save(Other(pre, source).state_dict(), tmp_path / "w.pt")
    original = made(shortcut="identity")
    shapes = [[tuple(t.shape) for n, t in net.state_dict().items() if t.ndim == 4] for net in (pre, original)]
    assert shapes[0] == shapes[1], "their convolutions are the same"
    with pytest.raises(InputError, match="not the weights of this network"):
        load_foreign(tmp_path / "w.pt", original)
    assert holds(found(tmp_path / "w.pt", pre), pre)


@pytest.mark.parametrize("name", published.PUBLISHED)
def test_a_hint_names_a_network_that_loads(name, tmp_path):
    """The wrong network is refused with a line from which the right one can be written; written so, it loads."""
    theirs, *_ = published.made(name)
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    wrong = build(Choice(**network("resnet26")), 3, 10, (32, 32), 0)
    with pytest.raises(InputError) as refused:
        load_foreign(tmp_path / "w.pt", wrong)
    said = str(refused.value)
    assert "\n" not in said
    assert "these look like the weights of " in said
    short, facts = re.search(r"these look like the weights of (\S+) \((.*)\)$", said).groups()
    settings = dict(parse_setting("=".join(one)) for one in re.findall(r"(model\.\w+)=(\[.*?\]|[\w.]+)", facts))
    config = RunConfig().changed({"model": short, **settings})
    for preset in re.findall(r"preset (\w+)", facts):
        config = config.changed(settings_of(PRESETS[preset], config.model)).changed(settings)
    net = build(config.model, 3, int(re.search(r"(\d+) classes", facts)[1]), (32, 32), 0)
    load_foreign(tmp_path / "w.pt", net)


def test_the_cases_that_failed_load(shared_cases):
    net = build(Choice(**network("resnet20")), 3, 10, (32, 32), 0)
    weights = shared_cases / "weights"
    fit = found(weights / "lightning_resnet20.pth", net)
    assert fit.place == "state_dict.model"
    assert found(weights / "control_resnet20.pth", net).place == "net"


def foreign_names(depth: int):
    """A network of ours whose tensors have names of somebody else's, in the order of its layers."""
    net = made(f"resnet{depth}", channels=[4, 6, 8])
    state, at = {}, ""
    for name, tensor in net.state_dict().items():
        parts = name.split(".")
        if parts[0].startswith("layer"):
            at = f"s{parts[0][-1]}.{parts[1]}."
            inner = {"conv1": "first", "bn1": "norm_a", "conv2": "second", "bn2": "norm_b"}.get(parts[2], "short")
            state[f"{at}{inner}.{'.'.join(parts[3:])}"] = tensor
        else:
            state[{"conv1": "stem", "bn1": "stem_norm", "linear": "out"}[parts[0]] + "." + parts[1]] = tensor
    return net, state


def by_module(state):
    """The tensors of a state dict in a mapping for each module."""
    found = {}
    for name, tensor in state.items():
        *modules, last = name.split(".")
        place = found
        for module in modules:
            place = place.setdefault(module, {})
        place[last] = tensor
    return found


@pytest.mark.parametrize("name", ["resnet20", "preact20", "resnet18"])
def test_parts_that_were_saved_by_themselves_are_put_together(tmp_path, name):
    net = made(name)
    state = net.state_dict()
    head = {key.rpartition(".")[2]: tensor for key, tensor in state.items() if key.startswith("linear.")}
    body = {key: tensor for key, tensor in state.items() if not key.startswith("linear.")}
    contents = [
        ({"epoch": 3, "encoder": body, "classifier": head}, "encoder"),
        ({"state": {"backbone": prefixed(body, "module."), "fc": head, "opt": {"lr": 0.1}}}, "state.backbone.module"),
        (by_module(prefixed(state, "net.")), "net"),
    ]
    for content, place in contents:
        torch.save(content, tmp_path / "parts.pth")
        fit = found(tmp_path / "parts.pth", net)
        assert holds(fit, net)
        assert (fit.place, fit.passed_over) == (place, ())
    torch.save({"a": {"encoder": body, "head": head}, "b": {"encoder": body, "head": head}}, tmp_path / "two.pth")
    with pytest.raises(InputError, match="not the weights of this network"):
        found(tmp_path / "two.pth", net)


def test_a_mapping_that_holds_itself_is_put_together_with_nothing():
    content = {"encoder": {"conv1.weight": torch.zeros(1)}}
    content |= {f"again{number}": content for number in range(50)}
    assert joined(content) is None
    assert joined({"conv1.weight": torch.zeros(1)}) is None
    assert joined([content]) is None


def test_layers_whose_names_were_sorted_as_text_are_not_matched_by_order(tmp_path):
    """Block 10 before block 2: all shapes fit, and the network would be another."""
    net, state = foreign_names(74)
    torch.save(state, tmp_path / "as-it-was.pth")
    assert holds(found(tmp_path / "as-it-was.pth", net), net)

    def as_text(name):
        stage, _, rest = name.partition(".")
        inner = ["first", "norm_a", "second", "norm_b", "short", ""]
        block, _, part = rest.partition(".")
        place = {"stem": 0, "stem_norm": 1, "out": 9}.get(stage, 5)
        return place, stage, block, next(at for at, one in enumerate(inner) if part.startswith(one))

    torch.save({name: state[name] for name in sorted(state, key=as_text)}, tmp_path / "sorted.pth")
    with pytest.raises(InputError, match="not the weights of this network"):
        found(tmp_path / "sorted.pth", net)


def test_values_of_python_beside_weights_are_passed_over(tmp_path):
    net = made()
    beside_them = {"seen": {1, 2}, "kept": frozenset("ab"), "root": complex(0, 1), "of": slice(1, 2)}
    torch.save({"state_dict": net.state_dict(), **beside_them}, tmp_path / "w.pth")
    assert holds(found(tmp_path / "w.pth", net), net)


def widened(state, source):
    """One layer with another shape, its name, and what its shape is now."""
    name = source.choice([name for name, tensor in state.items() if tensor.ndim == 4])
    shape = (*state[name].shape[:2], 5, 5)
    return {**state, name: torch.zeros(shape)}, [f"'{name.removesuffix('.weight')}'", "×".join(map(str, shape))]


def biased(state, source):
    name = source.choice([name for name, tensor in state.items() if tensor.ndim == 4])
    layer = name.removesuffix("weight")
    at = list(state).index(name) + 1
    rows = list(state.items())
    return dict([*rows[:at], (f"{layer}bias", torch.zeros(len(state[name]))), *rows[at:]]), [
        f"'{layer.rstrip('.')}'",
        "is with a bias where",
        "is without a bias",
    ]


def shortened(state, source):
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("s3.2.")}
    lost = sum(tensor.ndim == 4 for tensor in state.values()) - sum(tensor.ndim == 4 for tensor in kept.values())
    convs = sum(tensor.ndim == 4 for tensor in state.values())
    return kept, [f"by order {convs - lost} of the kind convolution stand for {convs}"]


def strange(state, source):
    return {**state, "gate.alpha": torch.rand(3, 3)}, ["'gate' is no convolution, batch norm or linear layer"]


@pytest.mark.parametrize("change", [widened, biased, shortened, strange])
def test_why_layers_do_not_match_by_their_order_is_said(change, tmp_path):
    net, state = foreign_names(20)
    changed, said = change(state, random.Random(3))
    torch.save({"epoch": 1, "weights": changed}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="not the weights of this network: names are unknown here, and") as refused:
        found(tmp_path / "w.pth", net)
    line = str(refused.value)
    assert "\n" not in line
    for words in said:
        assert words in line, line

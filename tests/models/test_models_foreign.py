"""Weights from elsewhere: read whatever their wrapping, refused in one line whatever is wrong, never executed."""

import os
import pickle
import re
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from residuum.errors import InputError
from residuum.models import build
from residuum.models.foreign import MAX_BYTES, load_foreign
from residuum.networks.names import network
from residuum.registry import Choice


def made(name="resnet20", classes=10, **settings):
    return build(Choice(**network(name) | {"channels": [4, 6, 8]} | settings), 3, classes, (32, 32), 0)


@pytest.fixture(scope="module")
def net():
    return made(shortcut="projection")


def same(found, net):
    expected = net.state_dict()
    return list(found) == list(expected) and all(torch.equal(t, found[n]) for n, t in expected.items())


def renamed(state, **names):
    for ours, theirs in names.items():
        state = {name.replace(ours, theirs): tensor for name, tensor in state.items()}
    return state


WRAPPED = {
    "bare": lambda state: state,
    "checkpoint": lambda state: {"state_dict": state, "best_prec1": 91.7, "epoch": 200},
    "kuangliu": lambda state: {"net": {f"module.{n}": t for n, t in state.items()}, "acc": 95.0},
    "compiled": lambda state: {"model": {f"_orig_mod.module.{n}": t for n, t in state.items()}},
    "torchvision names": lambda state: renamed(state, linear="fc", shortcut="downsample"),
    "before 0.4.1": lambda state: {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
    "parameters": lambda state: {n: torch.nn.Parameter(t) if t.ndim else t for n, t in state.items()},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapping", WRAPPED)
def test_state_dicts_load_whatever_their_wrapping(net, tmp_path, wrapping, zipped):
    path = tmp_path / "weights.th"
    torch.save(WRAPPED[wrapping](net.state_dict()), path, _use_new_zipfile_serialization=zipped)
    found = load_foreign(path, net)
    assert same(found, net)
    torch.manual_seed(0)
    other = made(shortcut="projection", init="torch_default").eval()
    other.load_state_dict(found)
    images_NCHW = torch.randn(2, 3, 32, 32)
    assert torch.equal(other(images_NCHW), net.eval()(images_NCHW))


def test_safetensors_load_and_the_file_may_be_overwritten_afterwards(net, tmp_path):
    """Guard 10: what was loaded does not hang on the file."""
    path = tmp_path / "weights.safetensors"
    save_file({f"module.{n}": t for n, t in net.state_dict().items()}, path)
    found = load_foreign(path, net)
    path.write_bytes(bytes(path.stat().st_size))
    assert same(found, net)


def test_half_precision_becomes_that_of_the_network(net, tmp_path):
    torch.save({n: t.half() if t.is_floating_point() else t for n, t in net.state_dict().items()}, tmp_path / "w.pt")
    found = load_foreign(tmp_path / "w.pt", net)
    assert all(t.dtype == like.dtype for t, like in zip(found.values(), net.state_dict().values(), strict=True))
    torch.testing.assert_close(found["conv1.weight"], net.conv1.weight.detach(), rtol=1e-3, atol=1e-3)


def refused(path, net, text):
    with pytest.raises(InputError, match=text) as caught:
        load_foreign(path, net)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


B = {"shortcut": "projection"}
OTHERS = {
    "deeper": (made("resnet32", **B), "tensor 'layer1.3.conv1.weight' is unexpected", "resnet32 ("),
    "shallower": (made("resnet14", **B), "tensor 'layer1.2.conv1.weight' is missing", "resnet14 ("),
    "option A": (made("resnet20"), "tensor 'layer2.0.shortcut.0.weight' is missing", "(model.channels=[4, 6, 8], 3 in"),
    "wider": (made(channels=[5, 6, 8], **B), "'conv1.weight' has shape 5×3×3×3 instead of 4×3×3×3", "=[5, 6, 8]"),
    "fewer classes": (made(classes=7, **B), "'linear.weight' has shape 7×8 instead of 10×8", "7 classes"),
    "bottlenecks": (made("bottleneck29", **B), "'layer1.0.conv3.weight' is unexpected", "bottleneck29 ("),
    "pre-activated": (made("preact20", **B), "'layer1.0.bn1.weight' is missing", "preact20 ("),
    "four stages": (made("resnet18", channels=[64, 128, 256, 512]), "is missing", "resnet18 ("),
    "report C": (made("resnet24c", channels=[64, 128, 128, 256]), "is missing", "resnet24c ("),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_networks_weights_are_refused_by_the_first_tensor_and_their_likely_name(net, tmp_path, other):
    theirs, problem, name = OTHERS[other]
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    problem = f"not the weights of this network: .*{re.escape(problem)}"
    refused(tmp_path / "w.pt", net, f"{problem}; these look like the weights of .*{re.escape(name)}")


def test_tensors_that_are_not_plain_finite_values_are_refused(net, tmp_path):
    path = tmp_path / "w.pt"
    for value in (float("nan"), float("inf")):
        bias = net.bn1.bias.detach().clone()
        bias[1] = value
        torch.save(net.state_dict() | {"bn1.bias": bias}, path)
        refused(path, net, r"'bn1\.bias' holds values that are not finite")
    torch.save(net.state_dict() | {"conv1.weight": torch.zeros(1).expand(1 << 40)}, path)
    refused(path, net, r"'conv1\.weight' has shape 1099511627776")
    torch.save(net.state_dict() | {"conv1.weight": net.conv1.weight.detach().to_sparse()}, path)
    refused(path, net, r"'conv1\.weight' is sparse")
    torch.save(net.state_dict() | {"conv1.weight": torch.empty(4, 3, 3, 3, device="meta")}, path)
    refused(path, net, r"'conv1\.weight' is .*without values")
    itself = {}
    itself["model"] = itself
    for other in ([1, 2], {}, {"epoch": 3}, {"conv1.weight": "text"}, {(1,): 2}, 7, itself):
        torch.save(other, path)
        refused(path, net, "state dict")
    for name in (f"layer{'9' * 5000}.0.conv1.weight", "layer1.0.conv1.weight\n", "\x1b[2J"):
        torch.save({name: torch.zeros(2, 2)} | net.state_dict(), path)
        refused(path, net, "is unexpected")


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class Bomb:
    """Unpickled, it fills 40 GiB; torch's `weights_only` would let it."""

    def __reduce__(self):
        return bytearray, (40 << 30,)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"state_dict": x}, lambda x: {"conv1.weight": x}])
@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_files_are_refused_and_nothing_in_them_is_executed(net, tmp_path, zipped, wrap):
    folder, path = tmp_path / "owned", tmp_path / "w.pt"
    torch.save(wrap(Hostile(folder)), path, _use_new_zipfile_serialization=zipped)
    refused(path, net, r"holds 'posix\.mkdir'|holds 'nt\.mkdir'")
    assert not folder.exists()
    torch.save(wrap(Bomb()), path, _use_new_zipfile_serialization=zipped)
    refused(path, net, r"holds '__builtin__\.bytearray'")


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("zipped", [True, False])
def test_later_pickle_protocols_are_no_way_around(net, tmp_path, zipped, protocol, recwarn):
    """From protocol 4 on, a file names what it calls by another instruction."""
    content = {"conv1.weight": Hostile(tmp_path / "owned")}
    torch.save(content, tmp_path / "w.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "w.pt", net, "holds|neither|another pickle protocol")
    assert not (tmp_path / "owned").exists()
    assert not recwarn, "one line is all that a user sees"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_bare_pickles_are_refused_and_nothing_in_them_is_executed(net, tmp_path, protocol, recwarn):
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Hostile(tmp_path / "owned"), protocol))
    refused(tmp_path / "w.pt", net, "holds|neither")
    assert not (tmp_path / "owned").exists()
    assert not recwarn, "one line is all that a user sees"


def test_a_zip_hidden_behind_a_pickle_is_read_as_torch_reads_it(net, tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"conv1.weight": Bomb()}, path, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
    refused(path, net, r"holds '__builtin__\.bytearray'")


def test_whole_models_and_numpy_values_are_refused_with_what_to_do(net, tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", net, r"holds 'torch\.nn\.modules\.container\.Sequential'.*save the state_dict\(\) alone")


@pytest.mark.parametrize("kind", ["pt", "th", "safetensors"])
def test_damaged_files_are_refused(net, tmp_path, kind):
    path = tmp_path / f"w.{kind}"
    if kind == "safetensors":
        save_file(net.state_dict(), path)
    else:
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=kind == "pt")
    whole = path.read_bytes()
    for length in (0, 1, 8, 9, 30, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, net, "neither a state dict|ends too early" if length else "is empty")
    path.write_text("hello, this is no state dict")
    refused(path, net, "neither a state dict")


def test_missing_and_oversized_files_are_refused(net, tmp_path):
    refused(tmp_path / "none.pt", net, "no such file")
    refused(tmp_path, net, "no such file")
    with (tmp_path / "w.pt").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    refused(tmp_path / "w.pt", net, "too large")


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(net, tmp_path, monkeypatch):
    monkeypatch.setattr("residuum.models.saved.MAX_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2 << 20))
    refused(tmp_path / "w.pt", net, "when unpacked are too large")


def test_two_tensors_of_one_name_in_safetensors_are_said(net, tmp_path):
    one = b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
    header = b"{" + one + b"," + one + b"}"
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"x")
    with pytest.raises(InputError, match="two tensors have one name"):
        load_foreign(tmp_path / "w.safetensors", net)

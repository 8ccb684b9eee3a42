"""Own kernels: right against torch in Triton's interpreter and on a card, chosen where they win, unseen elsewhere."""

import copy
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernel_checks import CASES, compare
from torch import nn

from residuum.engine.kernels import chosen, few_channels, with_kernels
from residuum.engine.kernels.few_channels import FewChannelsConv2d
from residuum.errors import InputError
from residuum.models.families.resnet import cifar_resnet

ALL, NONE = (True,) * 3, (False,) * 3
CUDA = torch.device("cuda")
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton here")


@pytest.fixture
def hopper(monkeypatch):
    """A machine that says it has a card and Triton; what is computed is computed by torch on the CPU all the same."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(few_channels, "find_spec", lambda name: True)


def check(tmp_path, *arguments, **environment):
    """Run `kernel_checks.py`; what it printed."""
    script = Path(__file__).with_name("kernel_checks.py")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), **environment}
    done = subprocess.run([sys.executable, script, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_triton
def test_in_the_interpreter_outputs_and_gradients_are_those_of_torch(tmp_path):
    check(tmp_path, "interpret", TRITON_INTERPRET="1")


@needs_triton
def test_the_kernels_compile_and_fit_the_cards(tmp_path):
    built = json.loads(check(tmp_path, "compile", "90"))  # 80 takes as long and less memory
    assert built["kernels"] == 4 * len(few_channels.MICROSECONDS)
    assert built["shared"] <= 99 * 1024  # of consumer cards from Ampere on, which have the least


TRAINING = [
    (c_in, c_out, stride, images, 512 // c_in, 512 // c_in)
    for c_in, c_out, stride in few_channels.MICROSECONDS
    for images in (128, 80)
]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA card here")
@needs_triton
@pytest.mark.parametrize("case", [*CASES, *TRAINING])
def test_on_a_card_outputs_and_gradients_are_those_of_torch(case):
    compare(*case, device="cuda")


@pytest.mark.parametrize("shape", [(2, 16, 8, 8, 16, 1), (3, 16, 7, 9, 32, 2)])
def test_the_operators_keep_the_contract_of_torch(shape):
    images, c_in, height, width, c_out, stride = shape
    x = torch.randn(images, c_in, height, width).bfloat16().requires_grad_()
    w = torch.randn(c_out, c_in, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    rounded = w.detach().bfloat16()
    torch.library.opcheck(few_channels.convolution, (x, w, rounded, stride, *ALL))
    y = few_channels.convolution(x, w, rounded, stride, *ALL).detach()
    torch.library.opcheck(few_channels.input_gradient, (y, rounded, x.shape, stride, True))
    torch.library.opcheck(few_channels.weight_gradient, (x.detach(), y, rounded, stride, True))


@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (12, 0)])
def test_auto_chooses_the_shapes_measured_to_win_and_triton_all_that_the_kernels_can(hopper, capability):
    for c_in, c_out, stride in few_channels.MICROSECONDS:
        assert chosen("auto", c_in, c_out, stride, capability, "bf16") == ALL
        assert chosen("triton", c_in, c_out, stride, capability, "bf16") == ALL
    assert chosen("auto", 64, 64, 2, capability, "bf16") == NONE
    assert chosen("triton", 64, 64, 2, capability, "bf16") == ALL
    for shape in ((3, 16, 1), (16, 160, 1), (128, 128, 1), (16, 16, 3)):
        assert chosen("triton", *shape, capability, "bf16") == NONE
    assert chosen("cudnn", 16, 16, 1, capability, "bf16") == NONE


def test_a_gradient_that_was_not_measured_to_win_stays_with_cudnn(hopper, monkeypatch):
    monkeypatch.setitem(few_channels.MICROSECONDS, (16, 16, 1), ((1.0, 2.0), (2.0, 1.0), (1.0, 2.0)))
    assert chosen("auto", 16, 16, 1, (9, 0), "bf16") == (True, False, True)


@pytest.mark.parametrize(
    ("capability", "precision", "there", "message"),
    [
        (None, "bf16", True, r"compute\.kernels: triton needs an NVIDIA card"),
        ((7, 5), "bf16", True, r"compute\.kernels: triton needs a card of compute capability 8\.0 or later, not 7\.5"),
        ((9, 0), "fp32", True, r"compute\.kernels: triton needs compute\.precision bf16, not fp32"),
        ((9, 0), "bf16", False, r"compute\.kernels: triton needs the package triton, which is not installed"),
    ],
)
def test_where_the_kernels_cannot_run_triton_is_refused_and_auto_is_cudnn(
    monkeypatch, capability, precision, there, message
):
    monkeypatch.setattr(few_channels, "find_spec", lambda name: there or None)
    with pytest.raises(InputError, match=message):
        chosen("triton", 16, 16, 1, capability, precision)
    assert chosen("auto", 16, 16, 1, capability, precision) == NONE
    assert chosen("cudnn", 16, 16, 1, capability, precision) == NONE


def network():
    torch.manual_seed(0)
    resnet = cifar_resnet(3, 10, depth=8)
    resnet.initialize(0)
    return resnet.to(memory_format=torch.channels_last)


def images():
    return torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)


def test_on_the_cpu_nothing_is_changed():
    resnet = with_kernels(network(), "auto", torch.device("cpu"), "bf16")
    assert not any(isinstance(module, FewChannelsConv2d) for module in resnet.modules())
    with pytest.raises(InputError, match="NVIDIA card"):
        with_kernels(resnet, "triton", torch.device("cpu"), "bf16")


def test_the_convolutions_of_the_blocks_change_their_forward_pass_and_nothing_else(hopper):
    resnet = network()
    before, weights = dict(resnet.named_parameters()), copy.deepcopy(resnet.state_dict())
    assert with_kernels(resnet, "auto", CUDA, "bf16") is resnet
    changed = [name for name, module in resnet.named_modules() if isinstance(module, FewChannelsConv2d)]
    assert changed == [f"layer{stage}.0.conv{conv}" for stage in (1, 2, 3) for conv in (1, 2)]
    assert all(parameter is before[name] for name, parameter in resnet.named_parameters())
    assert list(resnet.state_dict()) == list(weights)
    resnet.load_state_dict(weights)
    assert isinstance(copy.deepcopy(resnet).layer1[0].conv1, nn.Conv2d)


def test_only_plain_3x3_convolutions_are_changed(hopper):
    others = nn.ModuleList(
        [
            nn.Conv2d(16, 16, 1, bias=False),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.Conv2d(16, 16, 3, bias=False),
            nn.Conv2d(16, 16, 3, padding="same", bias=False),
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
            nn.Conv2d(16, 16, 3, padding=2, dilation=2, bias=False),
            nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect", bias=False),
            nn.Conv2d(16, 16, 3, padding=1, stride=(1, 2), bias=False),
        ]
    )
    assert {type(module) for module in with_kernels(others, "triton", CUDA, "bf16")} == {nn.Conv2d}


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the weights that the operator was called with."""
    weights = []
    ordinary = few_channels.convolution

    def counted(images_NCHW, weight_OIHW, *others):
        weights.append(tuple(weight_OIHW.shape))
        return ordinary(images_NCHW, weight_OIHW, *others)

    monkeypatch.setattr(few_channels, "convolution", counted)
    return weights


def test_under_autocast_both_modes_use_the_operator_and_without_it_neither(hopper, calls):
    resnet, x, hooked = with_kernels(network(), "auto", CUDA, "bf16"), images(), []
    resnet.layer1[0].conv1.register_forward_hook(lambda *_: hooked.append(1))
    for mode in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            resnet.train(mode)(x)
        assert len(calls) == 6
        calls.clear()
        assert torch.equal(resnet(x), network().train(mode)(x)) == mode  # batch norm's statistics have moved
        assert not calls
    assert len(hooked) == 4


def test_tensors_beyond_the_kernels_offsets_are_left_to_torch(hopper, calls, monkeypatch):
    monkeypatch.setattr(few_channels, "INDEXED", 2 * 16 * 16 * 16)
    with torch.autocast("cpu", torch.bfloat16):
        with_kernels(network(), "auto", CUDA, "bf16")(images())
    assert calls == [(32, 32, 3, 3), (64, 64, 3, 3)]


def gradients(resnet, forward, x):
    with torch.autocast("cpu", torch.bfloat16):
        loss = forward(x).float().square().mean()
    return torch.autograd.grad(loss, list(resnet.parameters()))


def test_gradients_have_the_memory_of_the_weights_and_differ_from_autocast_by_its_rounding(hopper):
    resnet, x = network(), images()
    expected = gradients(resnet, resnet, x)
    with_kernels(resnet, "auto", CUDA, "bf16")
    for parameter, gradient, plain in zip(resnet.parameters(), gradients(resnet, resnet, x), expected, strict=True):
        assert gradient.dtype == torch.float32
        assert gradient.stride() == parameter.stride()
        assert (gradient - plain).norm() < 0.02 * plain.norm()


def test_the_whole_network_compiles_in_one_graph(hopper):
    resnet, x = with_kernels(network(), "auto", CUDA, "bf16"), images()
    expected = gradients(resnet, resnet, x)
    forward = torch.compile(resnet, backend="aot_eager", fullgraph=True)
    for gradient, eager in zip(gradients(resnet, forward, x), expected, strict=True):
        torch.testing.assert_close(gradient, eager, rtol=0, atol=0.02 * eager.abs().max().item())


def test_triton_is_not_imported_with_the_package():
    program = "import sys, residuum.engine.kernels; sys.exit('triton' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)

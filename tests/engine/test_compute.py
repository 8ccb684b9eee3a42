"""Device, precision, threads and compiler as the settings and the machine say."""

import os
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from residuum.engine import compute as module
from residuum.engine.compute import Compute, compiled, compute, has_fast_bf16, out_of_memory
from residuum.errors import InputError

CPU = Compute(torch.device("cpu"), "fp32", 1)


@pytest.fixture(autouse=True)
def as_before():
    forget = module._no_compiler.cache_clear
    forget()
    yield
    forget()
    torch.set_num_threads(1)


def test_auto_precision_is_bf16_where_the_processor_has_it(monkeypatch):
    for supported, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda supported=supported: supported)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert compute("cpu", "auto", 1).precision == expected
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert has_fast_bf16("cpu")
    assert not has_fast_bf16("mps")


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((6, 1), "fp32"), ((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")],
)
def test_auto_precision_of_a_gpu_follows_its_generation(monkeypatch, capability, expected):
    """Turing, as Colab's T4, has tensor cores for half precision only; from Ampere on there is bf16."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert compute("auto", "auto", 1).precision == compute("cuda", "auto", 1).precision == expected
    assert has_fast_bf16("cuda") == (expected == "bf16")
    if expected == "bf16":
        assert compute("cuda", "tf32", 1).precision == "tf32"
    else:
        with pytest.raises(InputError, match=r"compute\.precision: 'tf32' needs an NVIDIA card of the Ampere"):
            compute("cuda", "tf32", 1)


def test_tf32_is_refused_where_there_is_none():
    with pytest.raises(InputError, match=r"compute\.precision: 'tf32' needs an NVIDIA card"):
        compute("cpu", "tf32", 1)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_pass_on_a_gpu_uses_the_kernels_that_were_asked_for(monkeypatch, request, precision, deterministic):
    """TF32 is off unless asked for, and a deterministic run does not try kernels out, whatever a run before it had."""
    flags = {"deterministic": not deterministic, "benchmark": deterministic, "allow_tf32": precision != "tf32"}
    for name, value in flags.items():
        monkeypatch.setattr(torch.backends.cudnn, name, value)
    matmul = torch.backends.cuda.matmul  # its attributes are no Python ones, which monkeypatch could put back
    before, matmul.allow_tf32 = matmul.allow_tf32, precision != "tf32"
    request.addfinalizer(lambda: setattr(matmul, "allow_tf32", before))
    on = Compute(torch.device("cuda"), precision, 1, deterministic)
    monkeypatch.setattr(torch, "autocast", lambda device, kind: nullcontext())
    with on.arithmetic():
        assert {name: getattr(torch.backends.cudnn, name) for name in flags} == {
            "deterministic": deterministic, "benchmark": not deterministic, "allow_tf32": precision == "tf32"
        }  # fmt: skip
        assert matmul.allow_tf32 == (precision == "tf32")


def test_the_record_says_at_which_level_a_run_repeats_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    for device, deterministic, level in (("cpu", False, "bitwise"), ("cuda", True, "bitwise"), ("cuda", False, "seeded"),
                                         ("mps", True, "seeded")):  # fmt: skip
        said = Compute(torch.device(device), "fp32", 1, deterministic).describe()
        assert said["determinism"] == level
        assert ("cudnn" in said) == (device == "cuda")


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"compute\.device: no cuda device here; there is cpu"):
        compute("cuda", "auto", 1)
    assert compute("auto", "fp32", 1).device.type in ("cpu", "mps")


def test_threads_are_those_asked_for_or_of_the_environment_or_the_cores_of_this_process(monkeypatch):
    assert compute("cpu", "fp32", 1).threads == torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert compute("cpu", "fp32", 0).threads == compute("cpu", "fp32", 0).describe()["threads"] == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert compute("cpu", "fp32", 0).threads == len(os.sched_getaffinity(0))


def test_the_forward_pass_runs_in_the_precision():
    a = torch.ones(4, 4)
    for precision, expected in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with compute("cpu", precision, 1).arithmetic():
            assert (a @ a).dtype == expected


def test_without_a_compiler_the_network_runs_eagerly_and_one_line_says_so(monkeypatch):
    def broken(function):
        def call(*_):
            raise RuntimeError("No working C++ compiler found\nwith a long explanation")

        return call

    monkeypatch.setattr(module.torch, "compile", broken)
    network = torch.nn.Linear(2, 2)
    forward, note = compiled(network, CPU, 2)
    assert forward is network
    assert note == "not compiled, the network runs eagerly: No working C++ compiler found"


def test_with_a_compiler_the_compiled_network_is_used(monkeypatch):
    def counting(function, **settings):
        def call(*x):
            calls.append(len(x[0]))
            return function(*x)

        return call

    calls = []
    monkeypatch.setattr(module.torch, "compile", counting)
    network = torch.nn.Linear(2, 2)
    forward, note = compiled(network, CPU, 2)
    calls.clear()  # the compiler was tried out
    for size in (2, 1, 2):
        torch.testing.assert_close(forward(torch.ones(size, 2)), network(torch.ones(size, 2)))
    assert calls == [2, 2], "a batch of another size runs eagerly"
    assert note.startswith("the first step of the first such network compiles it")


def test_networks_that_differ_only_in_their_weights_are_compiled_once(monkeypatch):
    """What a study does in one process: every seed of an arm is a network of its own."""
    import torch._dynamo as dynamo

    from residuum.models import MODELS, build

    monkeypatch.setattr(module, "_no_compiler", lambda device: "")
    monkeypatch.setattr(module.torch, "compile", partial(torch.compile, backend="eager"))
    dynamo.reset()
    choice = MODELS.resolve({"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]})
    images, graphs = torch.rand(2, 3, 8, 8), []
    for seed in range(3):
        network = build(choice, 3, 4, (8, 8), seed)
        forward, _ = compiled(network, CPU, 2)
        torch.testing.assert_close(forward(images), network(images))
        graphs.append(dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] == graphs[2] > 0


def test_running_out_of_memory_is_told_from_other_errors():
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50)
    assert out_of_memory(error.value)
    assert not out_of_memory(RuntimeError("shapes do not fit"))

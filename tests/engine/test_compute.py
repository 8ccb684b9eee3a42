"""Device, precision, threads and compiler as the settings and the machine say."""

import os

import pytest
import torch

from residuum.engine import compute as module
from residuum.engine.compute import compiled, compute, has_fast_bf16, out_of_memory
from residuum.errors import InputError


@pytest.fixture(autouse=True)
def one_thread():
    yield
    torch.set_num_threads(1)


def test_auto_precision_is_bf16_where_the_processor_has_it(monkeypatch):
    for supported, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda supported=supported: supported)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert compute("cpu", "auto", 1).precision == expected
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert has_fast_bf16("cpu")
    assert not has_fast_bf16("mps")


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_from_ampere_on_have_bf16(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert has_fast_bf16("cuda") == expected


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"compute\.device: no cuda device here; there is cpu"):
        compute("cuda", "auto", 1)
    assert compute("auto", "fp32", 1).device.type in ("cpu", "mps")


def test_threads_are_those_asked_for_or_of_the_environment_or_the_cores_of_this_process(monkeypatch):
    assert compute("cpu", "fp32", 1).threads == torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert compute("cpu", "fp32", 0).threads == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert compute("cpu", "fp32", 0).threads == len(os.sched_getaffinity(0))


def test_the_forward_pass_runs_in_the_precision():
    a = torch.ones(4, 4)
    for precision, expected in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with compute("cpu", precision, 1).arithmetic():
            assert (a @ a).dtype == expected


def test_without_a_compiler_the_network_runs_eagerly_and_one_line_says_so(monkeypatch):
    def broken(function):
        def call(*_):
            raise RuntimeError("No working C++ compiler found\nwith a long explanation")

        return call

    monkeypatch.setattr(module.torch, "compile", broken)
    network = torch.nn.Linear(2, 2)
    forward, note = compiled(network, torch.device("cpu"))
    assert forward is network
    assert note == "not compiled, the network runs eagerly: No working C++ compiler found"


def test_with_a_compiler_the_compiled_network_is_used(monkeypatch):
    monkeypatch.setattr(module.torch, "compile", lambda function: lambda *x: function(*x))
    network = torch.nn.Linear(2, 2)
    forward, note = compiled(network, torch.device("cpu"))
    assert forward is not network
    assert note == "the first step compiles the network, which takes about half a minute"


def test_running_out_of_memory_is_told_from_other_errors():
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50)
    assert out_of_memory(error.value)
    assert not out_of_memory(RuntimeError("shapes do not fit"))

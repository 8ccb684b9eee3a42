"""Where and in which arithmetic to compute: device, precision, threads, allocator, compiler."""

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from residuum.errors import InputError


@dataclass(frozen=True)
class Compute:
    """A device with the arithmetic that runs on it. `precision` is `fp32` or `bf16`, never `auto`."""

    device: torch.device
    precision: str
    threads: int

    def arithmetic(self) -> AbstractContextManager[Any]:
        """The context of a forward pass: autocast to bfloat16, or nothing."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def describe(self) -> dict[str, Any]:
        """What decides the bits of a result besides the configuration, for the record.

        `determinism` is `bitwise` where the same machine, versions and thread count give the same bits (the CPU),
        and `seeded` where only the random numbers are the same (a GPU, whose kernels may add in another order).
        """
        cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if cuda else self.device.type,
            "precision": self.precision,
            "threads": self.threads,
            "capability": torch.backends.cpu.get_cpu_capability(),
            "determinism": "bitwise" if self.device.type == "cpu" else "seeded",
        }


def compute(device: str, precision: str, threads: int) -> Compute:
    """The compute that the settings mean on this machine; sets the number of CPU threads of this process.

    Raises:
        InputError: the device is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        raise InputError(
            f"compute.device: no {device} device here; there is {', '.join(n for n in available if available[n])}"
        )
    if precision == "auto":
        precision = "bf16" if has_fast_bf16(device) else "fp32"
    threads = threads or usual_threads()
    torch.set_num_threads(threads)
    if device == "cpu":
        keep_freed_memory()
    return Compute(torch.device(device), precision, threads)


def has_fast_bf16(device: str) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than fp32 ones: AVX-512 BF16, AMX, Ampere or later."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def usual_threads() -> int:
    """What `OMP_NUM_THREADS` says, as for every program of its kind, else one for each core of this process."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said) > 0:
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of handing it back to the kernel.

    Activations of a few MB are allocated and freed some hundred times a step; by default each is mapped anew and its
    pages are cleared by the kernel on first touch. `benchmarks/steps.py` measures what that costs.
    """
    if sys.platform != "linux":
        return
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
    except (OSError, AttributeError):
        return  # musl has neither: only speed is lost


def compiled(network: torch.nn.Module, device: torch.device) -> tuple[Callable[[torch.Tensor], torch.Tensor], str]:
    """The network compiled, or the network itself where there is no compiler; and one line that says so."""
    probe = torch.compile(lambda x: x * 2 + 1)
    try:
        probe(torch.ones(4, device=device))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return network, f"not compiled, the network runs eagerly: {reason}"
    compiled_network: Callable[[torch.Tensor], torch.Tensor] = torch.compile(network)
    return compiled_network, "the first step compiles the network, which takes about half a minute"


def out_of_memory(error: Exception) -> bool:
    """Whether an error of torch means that the device's memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

"""Where and in which arithmetic to compute: device, precision, threads, allocator, compiler."""

import ctypes
import math
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch

from residuum.errors import InputError

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class _Everywhere(TypedDict):
    device: str
    precision: str
    threads: int
    capability: str
    determinism: str


class Arithmetic(_Everywhere, total=False):
    """What decides the bits of a result besides the configuration; some of it is there on a GPU alone."""

    cuda: str | None
    cudnn: int | None
    kernels: str
    triton: str


@dataclass(frozen=True)
class Compute:
    """A device with the arithmetic that runs on it.

    `precision` is `fp32`, `tf32`, `bf16` or `fp16`, never `auto`. `deterministic` says whether a GPU may only use
    kernels that give the same bits each time, chosen without trying which is fastest. `kernels` are those of
    convolutions with few channels: `cudnn`, `triton` or `auto` (`residuum.engine.kernels`).
    """

    device: torch.device
    precision: str
    threads: int
    deterministic: bool = True
    kernels: str = "cudnn"

    def arithmetic(self) -> AbstractContextManager[Any]:
        """The context of a forward pass: autocast, or nothing; it also sets which kernels the device may use.

        These are settings of the process, and several runs may share one: each sets them before its pass, and the
        backward pass that follows uses the same.
        """
        self.set_backends(tf32=self.precision == "tf32")
        if self.precision in AUTOCAST:
            return torch.autocast(self.device.type, AUTOCAST[self.precision])
        return nullcontext()

    def set_backends(self, *, tf32: bool = False) -> None:
        """Set which kernels a GPU may use, for what is computed outside `arithmetic` too."""
        if self.device.type == "cuda":
            torch.backends.cudnn.deterministic = self.deterministic
            torch.backends.cudnn.benchmark = not self.deterministic
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32

    @property
    def wide(self) -> torch.dtype:
        """The type in which losses and counts are summed: double precision where the device has it."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    @property
    def evaluation_batch(self) -> int:
        """Images of one pass of evaluation: as many as the caches of a CPU like, or enough to fill a GPU."""
        return 2000 if self.device.type == "cuda" else 500

    def describe(self) -> Arithmetic:
        """What decides the bits of a result besides the configuration, for the record.

        `determinism` is `bitwise` where the same machine, versions and thread count give the same bits (the CPU, and a
        GPU that is held to deterministic kernels), and `seeded` where only the random numbers are the same (other
        GPUs, whose kernels may add in another order or be chosen anew in each process).
        """
        cuda = self.device.type == "cuda"
        bitwise = self.device.type == "cpu" or (cuda and self.deterministic)
        here: Arithmetic = {
            "device": torch.cuda.get_device_name(self.device) if cuda else self.device.type,
            "precision": self.precision,
            "threads": self.threads,
            "capability": torch.backends.cpu.get_cpu_capability(),
            "determinism": "bitwise" if bitwise else "seeded",
        }
        if cuda:
            here |= {"cuda": torch.version.cuda, "cudnn": _cudnn(), "kernels": self.kernels}
        if self.kernels != "cudnn":
            here["triton"] = version("triton")
        return here


Device = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]


def available_devices() -> list[Device]:
    """The kinds of device that are here, the fastest first."""
    cuda: list[Device] = ["cuda"] if torch.cuda.is_available() else []
    mps: list[Device] = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def chosen(device: Device | Literal["auto"], precision: Precision | Literal["auto"]) -> tuple[Device, Precision]:
    """The device and precision that settings mean on this machine.

    Raises:
        InputError: the device is not there, or has no such arithmetic.
    """
    available = available_devices()
    if device == "auto":
        device = available[0]
    if device not in available:
        raise InputError(f"compute.device: no {device} device here; there is {', '.join(reversed(available))}")
    if precision == "auto":
        precision = fast_precision(device)
    if precision == "tf32" and not (device == "cuda" and has_fast_bf16(device)):
        raise InputError("compute.precision: 'tf32' needs an NVIDIA card of the Ampere generation or later; use 'fp32'")
    return device, precision


def compute(
    device: Device | Literal["auto"],
    precision: Precision | Literal["auto"],
    threads: int,
    deterministic: bool = True,
    kernels: str = "cudnn",
) -> Compute:
    """The compute that settings mean on this machine; sets the number of CPU threads of this process.

    Raises:
        InputError: as `chosen`.
    """
    device, precision = chosen(device, precision)
    threads = threads or usual_threads()
    torch.set_num_threads(threads)
    if device == "cpu":
        keep_freed_memory()
    if device == "cuda":
        # Read when cuBLAS is first used: with several streams it gives equal bits only in workspaces of a fixed size.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return Compute(torch.device(device), precision, threads, deterministic, kernels)


def fast_precision(device: Device) -> Precision:
    """The arithmetic that pays on a device: bf16 where it is fast, else fp16 where a card has tensor cores for it."""
    if has_fast_bf16(device):
        return "bf16"
    return "fp16" if device == "cuda" and torch.cuda.get_device_capability() >= (7, 0) else "fp32"


def has_fast_bf16(device: str) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than fp32 ones: AVX-512 BF16, AMX, Ampere or later."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _cudnn() -> int | None:
    number: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return number


def usual_threads() -> int:
    """What `OMP_NUM_THREADS` says, as for every program of its kind, else one for each core that this process may use.

    A container may see all cores of its machine and have the time of a few: its quota counts, too.
    """
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said) > 0:
        return int(said)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(cores, cpu_quota())))


def cpu_quota(root: Path = Path("/")) -> float:
    """CPUs whose time the control groups of this process allow it, infinite where they set no limit.

    Read are `cpu.max` (version 2) and `cpu.cfs_quota_us` (version 1) of its group and of every group around it, below
    `root`.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        place = mount / group.lstrip("/")
        for one in (place, *place.parents[: len(place.parts) - len(mount.parts)]):
            quotas += _quota(one)
    return min(quotas)


def _quota(group: Path) -> list[float]:
    """The CPUs that one control group allows, if it sets a limit."""
    try:
        if (limit := group / "cpu.max").exists():
            quota, period = limit.read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return [int(quota) / int(period)] if quota not in ("max", "-1") else []
    except (OSError, ValueError, ZeroDivisionError):
        return []


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


def compiled(network: torch.nn.Module, on: Compute, size: int) -> tuple[Callable[[torch.Tensor], torch.Tensor], str]:
    """The network compiled for batches of one size, or the network itself where there is no compiler; and one line.

    Batches of another size, as the last of an epoch, run eagerly: compiling takes longer than they do in a whole run,
    and code for any size is slower. Networks that differ in nothing but their weights share what was compiled in their
    process.
    """
    if problem := _no_compiler(on.device):
        return network, f"not compiled, the network runs eagerly: {problem}"
    # Else several forms of a kernel are tried and the fastest is taken, which may add in another order. What is
    # compiled is shared by all runs of the process, so those that do not ask for that have it too.
    if compiles_deterministically():
        torch._inductor.config.deterministic = True
    fast: Callable[[torch.Tensor], torch.Tensor] = torch.compile(network, dynamic=False)

    def forward(images_NCHW: torch.Tensor) -> torch.Tensor:
        logits_NK: torch.Tensor = (fast if len(images_NCHW) == size else network)(images_NCHW)
        return logits_NK

    return forward, (
        "the first step of the first such network compiles it, which takes from half a minute to minutes and pays in "
        "long runs only; batches of another size run as without it"
    )


def compiles_deterministically() -> bool:
    """Whether the compiler can be held to one form of each kernel; before torch 2.13 it may not."""
    import torch._inductor.config as inductor

    return hasattr(inductor, "deterministic")


@cache
def _no_compiler(device: torch.device) -> str:
    """Why nothing can be compiled for a device, empty where it can."""
    probe = torch.compile(lambda x: x * 2 + 1)
    try:
        probe(torch.ones(4, device=device))
    except Exception as error:
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ""


ONE_IMAGE = "out of memory with one image at a time; choose a shallower or narrower network"
"""What is said where nothing is left to be split."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error of torch or Python means that memory ran out, the device's or the machine's.

    oneDNN says of the workspace of a convolution that it has no room for that a primitive could not be created.
    """
    words = ("can't allocate memory", "Cannot allocate memory", "not enough memory", "std::bad_alloc",
             "could not create a primitive", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")  # fmt: skip
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)

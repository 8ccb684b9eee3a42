"""What each of the engine's choices gains: milliseconds of a training step of ResNet-20 at batch 128, median of many.

python benchmarks/steps.py
"""

import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

import torch
import torch.nn.functional as F

from residuum.engine.compute import keep_freed_memory
from residuum.models import build
from residuum.networks.names import network
from residuum.registry import Choice


def step_milliseconds(bf16: bool, channels_last: bool, compiled: bool = False, repeats: int = 12) -> float:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = build(Choice.of(network("resnet20")), 3, 10, (32, 32), seed=0).to(memory_format=layout)
    forward = torch.compile(net) if compiled else net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, foreach=True)
    images = torch.randn(128, 3, 32, 32).contiguous(memory_format=layout)
    labels = torch.randint(0, 10, (128,))
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            logits = forward(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[3:])


VARIANTS = {
    "fp32, contiguous": (False, False, False, False),
    "fp32, channels last": (False, True, False, False),
    "bf16, contiguous": (True, False, False, False),
    "bf16, channels last": (True, True, False, False),
    "bf16, channels last, freed memory kept": (True, True, False, True),
    "… and compiled": (True, True, True, True),
}


def main() -> None:
    if len(sys.argv) > 1:
        bf16, channels_last, compiled, keep = VARIANTS[sys.argv[1]]
        if keep:
            keep_freed_memory()
        print(f"{sys.argv[1]}: {step_milliseconds(bf16, channels_last, compiled):.0f} ms")
        return
    for name in VARIANTS:  # a process each: the allocator learns from what ran before
        subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    main()

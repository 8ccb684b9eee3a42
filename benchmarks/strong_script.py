"""A training script as a good engineer writes it, as the second yardstick of `benchmarks/gpu.py`.

The network, optimizer and batch of `residuum.run.plain_script`, with everything that is known to help within a plain
loop: the images lie on the device as bytes and are cropped and flipped there, channels last, bf16 autocast,
`torch.compile`, the fused optimizer, and figures that are read once an epoch.

    python benchmarks/strong_script.py --images 50000 --epochs 3 --device cuda
"""

import argparse
import sys
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from residuum.run.plain_script import MEAN, STD, resnet20


def augmented(images_BCHW: Tensor, mean_C11: Tensor, std_C11: Tensor) -> Tensor:
    """uint8 images cropped at random out of a border of 4, flipped half of the time, and normalised."""
    count, device = len(images_BCHW), images_BCHW.device
    crops = F.pad(images_BCHW, (4, 4, 4, 4)).unfold(2, 32, 1).unfold(3, 32, 1)
    top, left = torch.randint(0, 9, (2, count), device=device)
    images_BCHW = crops[torch.arange(count, device=device), :, top, left]
    flips = torch.rand(count, 1, 1, 1, device=device) < 0.5
    return normalised(torch.where(flips, images_BCHW.flip(3), images_BCHW), mean_C11, std_C11)


def normalised(images_BCHW: Tensor, mean_C11: Tensor, std_C11: Tensor) -> Tensor:
    pixels = (images_BCHW.float() / 255 - mean_C11) / std_C11
    return pixels.contiguous(memory_format=torch.channels_last)


def training(images: int, device: str, batch_size: int = 128) -> Iterator[float]:
    """Train for ever on random images; yields the seconds of each epoch, evaluation included."""
    generator = torch.Generator().manual_seed(0)
    sizes = (images, images // 5)
    train, test = (torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator) for n in sizes)
    y_train, y_test = (torch.randint(0, 10, (n,), generator=generator).to(device) for n in sizes)
    train, test = train.to(device), test.to(device)
    mean, std = (torch.from_numpy(values).to(device)[:, None, None] for values in (MEAN, STD))
    network = resnet20().to(device, memory_format=torch.channels_last)
    forward = torch.compile(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True)
    while True:
        start = time.perf_counter()
        network.train()
        loss_sum = torch.zeros((), device=device)
        for chosen in torch.randperm(images, device=device).split(batch_size):
            with torch.autocast(device, torch.bfloat16):
                loss = F.cross_entropy(forward(augmented(train[chosen], mean, std)).float(), y_train[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(chosen)
        network.eval()
        with torch.no_grad(), torch.autocast(device, torch.bfloat16):
            parts = zip(test.split(2000), y_test.split(2000), strict=True)
            right = sum((network(normalised(x, mean, std)).argmax(1) == y).sum() for x, y in parts)
        torch.stack([loss_sum / images, right / len(y_test)]).tolist()  # the figures of the epoch
        yield time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    for epoch, seconds in zip(range(options.epochs), training(options.images, options.device), strict=False):
        print(f"epoch {epoch + 1}: {seconds:.3f} s, {options.images / seconds:,.0f} images/s", flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()

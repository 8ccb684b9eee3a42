"""The training script that people write today, as the yardstick of `residuum bench`.

ResNet-20 on CIFAR-shaped images: a `Dataset` that opens each image with PIL, pads, crops and flips it there, turns it
into a tensor and normalises it; a `DataLoader` with two workers; fp32; eager; the same network, optimizer and batch as
the recipe `he2015`. It is written for clarity, the way tutorials do it, and is not slowed down on purpose.

    python -m residuum.run.plain_script --images 4096 --epochs 3
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
STD = np.array([0.2470, 0.2435, 0.2616], np.float32)


class Images(Dataset[tuple[Tensor, int]]):
    """Images as PIL pictures, transformed one by one."""

    def __init__(self, images_NHWC: NDArray[np.uint8], labels_N: NDArray[np.int64], augment: bool) -> None:
        self.images_NHWC, self.labels_N, self.augment = images_NHWC, labels_N, augment

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images_NHWC[index])
        if self.augment:
            padded = ImageOps.expand(image, border=4, fill=0)
            left, top = random.randint(0, 8), random.randint(0, 8)
            image = padded.crop((left, top, left + 32, top + 32))
            if random.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = (np.asarray(image, np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), int(self.labels_N[index])


class Block(nn.Module):
    """Two 3×3 convolutions and a parameter-free shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.more = stride, channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        """The activated sum of the convolutions and the shortcut."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.more or self.stride != 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(y + x)


def resnet20() -> nn.Module:
    """ResNet-20 of He et al. 2015, section 4.2."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels_in = 16
    for channels in (16, 32, 64):
        for number in range(3):
            layers.append(Block(channels_in, channels, 2 if number == 0 and channels > 16 else 1))
            channels_in = channels
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*layers)


def training(
    train: tuple[NDArray[np.uint8], NDArray[np.int64]],
    test: tuple[NDArray[np.uint8], NDArray[np.int64]],
    workers: int = 2,
    batch_size: int = 128,
    device: str = "cpu",
) -> Iterator[float]:
    """Train for ever; yields the seconds of each epoch, data and evaluation included. Images are uint8 NHWC."""
    network = resnet20().to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    pin = device == "cuda"
    train_loader = DataLoader(
        Images(*train, augment=True), batch_size, shuffle=True, num_workers=workers, pin_memory=pin
    )
    test_loader = DataLoader(Images(*test, augment=False), batch_size, num_workers=workers, pin_memory=pin)
    while True:
        start = time.perf_counter()
        network.train()
        for images, labels in ((x.to(device), y.to(device)) for x, y in train_loader):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        network.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in ((x.to(device), y.to(device)) for x, y in test_loader):
                correct += int((network(images).argmax(1) == labels).sum())
        yield time.perf_counter() - start


def main() -> None:
    """Measure on random images of the size of CIFAR's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--wait", action="store_true", help="wait for a line on standard input before each epoch")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    sizes = (options.images, options.images // 5)
    train, test = ((rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n)) for n in sizes)
    epochs = training(train, test, options.workers, device=options.device)
    for epoch in range(options.epochs):
        if options.wait:
            sys.stdin.readline()
        seconds = next(epochs)
        print(f"epoch {epoch + 1}: {seconds:.3f} s, {options.images / seconds:,.0f} images/s", flush=True)


if __name__ == "__main__":
    main()

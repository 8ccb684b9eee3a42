"""Networks as public code computes them, written in plain torch from what that code does, without ours.

`width` is the number of channels of the first stage, which the published ones have at 64 or 16. Each is in evaluation
mode and has random weights with statistics and shifts that hide nothing.
"""

import torch
import torch.nn.functional as F
from torch import nn


def conv(i, o, k, stride=1, bias=False):
    return nn.Conv2d(i, o, k, stride=stride, padding=k // 2, bias=bias)


class KuangliuBasic(nn.Module):
    expansion = 1

    def __init__(self, i, planes, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(i, planes, 3, stride), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3), nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or i != planes:
            self.shortcut = nn.Sequential(conv(i, planes, 1, stride), nn.BatchNorm2d(planes))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class KuangliuBottleneck(nn.Module):
    expansion = 4

    def __init__(self, i, planes, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(i, planes, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3, stride), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = conv(planes, 4 * planes, 1), nn.BatchNorm2d(4 * planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or i != 4 * planes:
            self.shortcut = nn.Sequential(conv(i, 4 * planes, 1, stride), nn.BatchNorm2d(4 * planes))

    def forward(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class KuangliuPreBasic(nn.Module):
    expansion = 1

    def __init__(self, i, planes, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), conv(i, planes, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(planes), conv(planes, planes, 3)
        if stride != 1 or i != planes:
            self.shortcut = nn.Sequential(conv(i, planes, 1, stride))

    def forward(self, x):
        y = F.relu(self.bn1(x))
        other = self.shortcut(y) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(y)))) + other


class KuangliuPreBottleneck(nn.Module):
    expansion = 4

    def __init__(self, i, planes, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), conv(i, planes, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(planes), conv(planes, planes, 3, stride)
        self.bn3, self.conv3 = nn.BatchNorm2d(planes), conv(planes, 4 * planes, 1)
        if stride != 1 or i != 4 * planes:
            self.shortcut = nn.Sequential(conv(i, 4 * planes, 1, stride))

    def forward(self, x):
        y = F.relu(self.bn1(x))
        other = self.shortcut(y) if hasattr(self, "shortcut") else x
        y = self.conv2(F.relu(self.bn2(self.conv1(y))))
        return self.conv3(F.relu(self.bn3(y))) + other


class Kuangliu(nn.Module):
    """Four stages, average pooling over 4×4; its pre-activated form has no batch norm after stem and last stage."""

    def __init__(self, block, blocks, classes, width, pre):
        super().__init__()
        self.conv1, self.pre, i = conv(3, width, 3), pre, width
        if not pre:
            self.bn1 = nn.BatchNorm2d(width)
        for stage, count in enumerate(blocks):
            layers = []
            for index in range(count):
                layers.append(block(i, width << stage, 2 if stage and not index else 1))
                i = block.expansion * (width << stage)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(i, classes)

    def forward(self, x):
        x = self.conv1(x)
        x = x if self.pre else F.relu(self.bn1(x))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(F.avg_pool2d(x, 4).flatten(1))


class AkamasterBasic(nn.Module):
    def __init__(self, i, planes, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(i, planes, 3, stride), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3), nn.BatchNorm2d(planes)
        self.more = planes // 4 if stride != 1 or i != planes else 0

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more)) if self.more else x))


class Akamaster(nn.Module):
    """Three stages, option A with zeros on both sides."""

    def __init__(self, count, classes, width):
        super().__init__()
        self.conv1, self.bn1, i = conv(3, width, 3), nn.BatchNorm2d(width), width
        for stage in range(3):
            layers = []
            for index in range(count):
                layers.append(AkamasterBasic(i, width << stage, 2 if stage and not index else 1))
                i = width << stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(i, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(F.avg_pool2d(x, x.size(3)).flatten(1))


class VisionBasic(nn.Module):
    """A basic block as torchvision has it, `downsample` made by its stage."""

    expansion = 1

    def __init__(self, i, planes, stride, downsample):
        super().__init__()
        self.conv1, self.bn1, self.relu = conv(i, planes, 3, stride), nn.BatchNorm2d(planes), nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv(planes, planes, 3), nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.downsample(x) if self.downsample is not None else x
        return self.relu(y)


class VisionBottleneck(nn.Module):
    """A bottleneck as torchvision has it since version 1.5 of ResNet: the stride is at the 3×3 convolution."""

    expansion = 4

    def __init__(self, i, planes, stride, downsample):
        super().__init__()
        self.conv1, self.bn1 = conv(i, planes, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3, stride), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = conv(planes, 4 * planes, 1), nn.BatchNorm2d(4 * planes)
        self.relu, self.downsample = nn.ReLU(inplace=True), downsample

    def forward(self, x):
        y = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(y))
        y += self.downsample(x) if self.downsample is not None else x
        return self.relu(y)


class BearpawPreBasic(nn.Module):
    """A pre-activated block whose projection reads the input itself."""

    expansion = 1

    def __init__(self, i, planes, stride, downsample):
        super().__init__()
        self.bn1, self.relu, self.conv1 = nn.BatchNorm2d(i), nn.ReLU(inplace=True), conv(i, planes, 3, stride)
        self.bn2, self.conv2, self.downsample = nn.BatchNorm2d(planes), conv(planes, planes, 3), downsample

    def forward(self, x):
        y = self.conv2(self.relu(self.bn2(self.conv1(self.relu(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class BearpawPreBottleneck(nn.Module):
    expansion = 4

    def __init__(self, i, planes, stride, downsample):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), conv(i, planes, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(planes), conv(planes, planes, 3, stride)
        self.bn3, self.conv3 = nn.BatchNorm2d(planes), conv(planes, 4 * planes, 1)
        self.relu, self.downsample = nn.ReLU(inplace=True), downsample

    def forward(self, x):
        y = self.conv2(self.relu(self.bn2(self.conv1(self.relu(self.bn1(x))))))
        y = self.conv3(self.relu(self.bn3(y)))
        return y + (x if self.downsample is None else self.downsample(x))


class Vision(nn.Module):
    """torchvision's form, which chenyaofo, huyvnphan, timm and bearpaw follow with another stem, depth or end."""

    def __init__(self, block, blocks, classes, width, stem, pre=False):
        super().__init__()
        kernel, stride, pooled = stem
        self.conv1, self.pre, i = conv(3, width, kernel, stride), pre, width
        if not pre:
            self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pooled else nn.Identity()
        for stage, count in enumerate(blocks):
            layers, planes = [], width << stage
            for index in range(count):
                stride, downsample = 2 if stage and not index else 1, None
                if stride != 1 or i != block.expansion * planes:
                    down = [conv(i, block.expansion * planes, 1, stride)]
                    down += [] if pre else [nn.BatchNorm2d(block.expansion * planes)]
                    downsample = nn.Sequential(*down)
                layers.append(block(i, planes, stride, downsample))
                i = block.expansion * planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        if pre:
            self.bn = nn.BatchNorm2d(i)
        self.avgpool, self.fc, self.stages = nn.AdaptiveAvgPool2d(1), nn.Linear(i, classes), len(blocks)

    def forward(self, x):
        x = self.conv1(x)
        if not self.pre:
            x = self.maxpool(self.relu(self.bn1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        x = self.relu(self.bn(x)) if self.pre else x
        return self.fc(self.avgpool(x).flatten(1))


def relu():
    return nn.ReLU(inplace=True)


class WeiaicunzaiBlock(nn.Module):
    """A block with a sequence for its branch and one for its shortcut."""

    def __init__(self, i, planes, stride, bottleneck):
        super().__init__()
        o = planes * (4 if bottleneck else 1)
        if bottleneck:
            layers = [conv(i, planes, 1), nn.BatchNorm2d(planes), relu(), conv(planes, planes, 3, stride),
                      nn.BatchNorm2d(planes), relu(), conv(planes, o, 1), nn.BatchNorm2d(o)]  # fmt: skip
        else:
            layers = [conv(i, planes, 3, stride), nn.BatchNorm2d(planes), relu(), conv(planes, o, 3), nn.BatchNorm2d(o)]
        self.residual_function, self.shortcut = nn.Sequential(*layers), nn.Sequential()
        if stride != 1 or i != o:
            self.shortcut = nn.Sequential(conv(i, o, 1, stride), nn.BatchNorm2d(o))

    def forward(self, x):
        return F.relu(self.residual_function(x) + self.shortcut(x))


class WeiaicunzaiPreBlock(nn.Module):
    """A pre-activated block of convolutions with biases; its shortcut reads the input, its stride is at the first."""

    def __init__(self, i, planes, stride, bottleneck):
        super().__init__()
        o, b = planes * (4 if bottleneck else 1), True
        if bottleneck:
            layers = [nn.BatchNorm2d(i), relu(), conv(i, planes, 1, stride, b), nn.BatchNorm2d(planes), relu(),
                      conv(planes, planes, 3, 1, b), nn.BatchNorm2d(planes), relu(), conv(planes, o, 1, 1, b)]  # fmt: skip
        else:
            layers = [nn.BatchNorm2d(i), relu(), conv(i, planes, 3, stride, b),
                      nn.BatchNorm2d(planes), relu(), conv(planes, o, 3, 1, b)]  # fmt: skip
        self.residual = nn.Sequential(*layers)
        self.shortcut = conv(i, o, 1, stride, b) if stride != 1 or i != o else nn.Sequential()

    def forward(self, x):
        y = self.residual(x)
        return y + self.shortcut(x)


class Weiaicunzai(nn.Module):
    def __init__(self, blocks, classes, width, bottleneck, pre):
        super().__init__()
        first = nn.Sequential(conv(3, width, 3, bias=pre), nn.BatchNorm2d(width), relu())
        self.add_module("pre" if pre else "conv1", first)
        self.stages, i, block = [], width, WeiaicunzaiPreBlock if pre else WeiaicunzaiBlock
        for stage, count in enumerate(blocks):
            layers = []
            for index in range(count):
                layers.append(block(i, width << stage, 2 if stage and not index else 1, bottleneck))
                i = (width << stage) * (4 if bottleneck else 1)
            self.stages.append(f"stage{stage + 1}" if pre else f"conv{stage + 2}_x")
            self.add_module(self.stages[-1], nn.Sequential(*layers))
        self.end = "linear" if pre else "fc"
        self.add_module(self.end, nn.Linear(i, classes))

    def forward(self, x):
        x = self.get_submodule("pre" if self.end == "linear" else "conv1")(x)
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return self.get_submodule(self.end)(F.adaptive_avg_pool2d(x, 1).flatten(1))


def scattered(network, seed=0):
    """The network in evaluation mode with random weights, statistics and shifts of the size of a trained one's."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim >= 2:
                tensor.copy_(torch.randn(tensor.shape, generator=source) * (2 / tensor[0].numel()) ** 0.5)
            elif tensor.ndim == 1:
                noise = torch.rand(tensor.shape, generator=source)
                positive = name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1)
                tensor.copy_(noise + 0.5 if positive else noise - 0.5)
    return network.eval()


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
CIFAR100 = (0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)
OWN100 = ((0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
          (0.2673342858792401, 0.2564384629170883, 0.27615047132568404))  # fmt: skip
FOUR = [2, 2, 2, 2], [3, 4, 6, 3]
CIFAR_STEM, POOLED, SEVEN = (3, 1, False), (3, 1, True), (7, 2, True)

PUBLISHED = {
    # preset, network of ours, data set, width, normalisation, network of theirs
    "kuangliu resnet18": ("kuangliu", "resnet18", "cifar10", CIFAR, lambda: Kuangliu(KuangliuBasic, FOUR[0], 10, 8, False)),
    "kuangliu resnet50": ("kuangliu", "resnet50", "cifar10", CIFAR, lambda: Kuangliu(KuangliuBottleneck, FOUR[1], 10, 8, False)),
    "kuangliu preact18": ("kuangliu", "preact18", "cifar10", CIFAR, lambda: Kuangliu(KuangliuPreBasic, FOUR[0], 10, 8, True)),
    "kuangliu preact50": ("kuangliu", "preact50", "cifar10", CIFAR, lambda: Kuangliu(KuangliuPreBottleneck, FOUR[1], 10, 8, True)),
    "akamaster resnet20": ("akamaster", "resnet20", "cifar10", IMAGENET, lambda: Akamaster(3, 10, 8)),
    "chenyaofo resnet20": ("chenyaofo", "resnet20", "cifar10", CIFAR, lambda: Vision(VisionBasic, [3] * 3, 10, 8, CIFAR_STEM)),
    "chenyaofo resnet32 of 100": ("chenyaofo", "resnet32", "cifar100", CIFAR100, lambda: Vision(VisionBasic, [5] * 3, 100, 8, CIFAR_STEM)),
    "weiaicunzai resnet18": ("weiaicunzai", "resnet18", "cifar100", OWN100, lambda: Weiaicunzai(FOUR[0], 100, 8, False, False)),
    "weiaicunzai resnet50": ("weiaicunzai", "resnet50", "cifar100", OWN100, lambda: Weiaicunzai(FOUR[1], 100, 8, True, False)),
    "weiaicunzai preact18": ("weiaicunzai", "preact18", "cifar100", OWN100, lambda: Weiaicunzai(FOUR[0], 100, 8, False, True)),
    "weiaicunzai preact50": ("weiaicunzai", "preact50", "cifar100", OWN100, lambda: Weiaicunzai(FOUR[1], 100, 8, True, True)),
    "huyvnphan resnet18": ("huyvnphan", "resnet18", "cifar10", CIFAR10, lambda: Vision(VisionBasic, FOUR[0], 10, 8, POOLED)),
    "huyvnphan resnet50": ("huyvnphan", "resnet50", "cifar10", CIFAR10, lambda: Vision(VisionBottleneck, FOUR[1], 10, 8, POOLED)),
    "torchvision resnet18": ("torchvision", "resnet18", "cifar10", IMAGENET, lambda: Vision(VisionBasic, FOUR[0], 10, 8, SEVEN)),
    "torchvision resnet50": ("torchvision", "resnet50-imagenet", "cifar10", IMAGENET, lambda: Vision(VisionBottleneck, FOUR[1], 10, 8, SEVEN)),
    "timm resnet34": ("timm", "resnet34", "cifar10", IMAGENET, lambda: Vision(VisionBasic, FOUR[1], 10, 8, SEVEN)),
    "timm resnet50 for CIFAR": ("timm", "resnet50", "cifar10", IMAGENET, lambda: Vision(VisionBottleneck, FOUR[1], 10, 8, CIFAR_STEM)),
    "bearpaw resnet20": ("bearpaw", "resnet20", "cifar10", CIFAR, lambda: Vision(VisionBasic, [3] * 3, 10, 8, CIFAR_STEM)),
    "bearpaw bottlenecks": ("bearpaw", "bottleneck29", "cifar100", CIFAR, lambda: Vision(VisionBottleneck, [3] * 3, 100, 8, CIFAR_STEM)),
    "bearpaw preresnet20": ("bearpaw", "preact20", "cifar10", CIFAR, lambda: Vision(BearpawPreBasic, [3] * 3, 10, 8, CIFAR_STEM, pre=True)),
}  # fmt: skip


def made(name):
    """A published network, and preset, our network, data set and normalisation that go with it."""
    preset, model, dataset, pixels, build = PUBLISHED[name]
    return scattered(build(), seed=len(name)), preset, model, dataset, pixels


def logits(network, images_NCHW, pixels):
    """What it gives for uint8 images."""
    mean_C11, std_C11 = (torch.tensor(values)[:, None, None] for values in pixels)
    with torch.no_grad():
        return network((images_NCHW.float() / 255 - mean_C11) / std_C11)

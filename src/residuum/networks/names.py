"""Short names of networks, as the reports write them: what each stands for, and what a network is called."""

import re
from difflib import get_close_matches
from functools import cache
from typing import Any

from residuum.errors import InputError, Remedy, quoted
from residuum.own import is_own, misnamed, short
from residuum.registry import Choice, name_of

REPORT_C_NETWORKS = {
    "resnet10c": ((1, 1, 1, 1), (64, 128, 256, 512)),
    "resnet16c": ((2, 1, 2, 2), (64, 128, 256, 256)),
    "resnet24c": ((3, 3, 2, 3), (64, 128, 128, 256)),
    "resnet48c": ((8, 5, 5, 5), (64, 128, 128, 128)),
}
IMAGENET_DEPTHS = (18, 34, 50, 101, 152)
FAMILY = r"[a-z0-9]+(_[a-z0-9]+)+"
"""How the name of a family is written, unlike a short name: which ones there are says `residuum list families`."""
NETWORK_FORMS = "write a name, as model=resnet20, or a setting, as model.depth=56"


def network_names() -> list[str]:
    """Short names of networks that the reports use; `resnetN` and `plainN` take every N = 6n+2 besides."""
    cifar = [f"{kind}{depth}" for kind in ("resnet", "plain", "preact") for depth in (20, 32, 44, 56, 110)]
    deep = [f"{kind}{depth}{form}" for kind in ("resnet", "preact") for depth in IMAGENET_DEPTHS
            for form in ("", "-imagenet")]  # fmt: skip
    return [*cifar, "resnet1202", "bottleneck56", "bottleneck110", *REPORT_C_NETWORKS, *deep]


def network(name: str) -> dict[str, Any]:
    """The model choice that a short name such as `resnet20`, `plain56`, `resnet24c` or `resnet18-imagenet` stands for.

    `resnetN`, `plainN` and `preactN` are the CIFAR networks of depth N = 6n+2 (He et al. 2015, section 4.2; the
    pre-activation form of He et al. 2016), `bottleneckN` those of N = 9n+2. The depths 18, 34, 50, 101 and 152 are
    the networks of He et al. 2015, table 1, with a 3×3 stem, or with the 7×7 stem where `-imagenet` follows. A trailing
    `c` means report C's networks. Own code passes through, and a name of the form that families have, for their table
    to check.

    Raises:
        InputError: no network has that name; the message gives the nearest one, or the depths that exist.
    """
    if is_own(name):
        return {"name": name}
    if name in REPORT_C_NETWORKS:
        blocks, channels = REPORT_C_NETWORKS[name]
        return {"name": "staged_resnet", "blocks": list(blocks), "channels": list(channels)}
    match = re.fullmatch(r"(resnet|plain|preact|bottleneck)(\d{1,5})(-imagenet)?", name)
    if match is None:
        if re.fullmatch(FAMILY, name) and _usual(name) not in network_names():
            return {"name": name}
        raise _no_network(name)
    kind, depth, form = match[1], int(match[2]), match[3]
    if kind in ("resnet", "preact") and (form or depth in IMAGENET_DEPTHS):
        if depth not in IMAGENET_DEPTHS:
            raise InputError(
                f"model {quoted(name)}: the ImageNet form exists for depths {', '.join(map(str, IMAGENET_DEPTHS))}"
            )
        values: dict[str, Any] = {"name": "imagenet_resnet", "depth": depth, "stem": "7x7" if form else "3x3"}
    else:
        step = 9 if kind == "bottleneck" else 6
        if form:
            raise InputError(
                f"model {quoted(name)}: only resnet and preact have an ImageNet form, as in 'resnet18-imagenet'"
            )
        if depth < step + 2 or (depth - 2) % step:
            near = step * max(1, round((depth - 2) / step)) + 2
            raise InputError(
                f"model {quoted(name)}: {kind} networks have depth {step}n+2; the nearest is '{kind}{near}'"
            )
        values = {"name": "cifar_resnet", "depth": depth, "block": "bottleneck" if kind == "bottleneck" else "basic",
                  "shortcut": "none" if kind == "plain" else "identity"}  # fmt: skip
    return values | {"ordering": "full_preactivation" if kind == "preact" else "original"}


def _no_network(name: str) -> InputError:
    """The error for a name of no network, with the network that is called so elsewhere (`ResNet-20`, `resnet20x2`)."""
    if meant := misnamed(name):
        return InputError(f"unknown model {quoted(name)}; {meant}")
    usual = _usual(name)
    narrow, _, times = usual.rpartition("x")
    if narrow in network_names() and times.isdecimal():
        return InputError(f"unknown model {quoted(name)}; did you mean {quoted(narrow)} with model.wide={times}?")
    if usual in network_names():
        return InputError(f"unknown model {quoted(name)}; did you mean {quoted(usual)}?")
    near = get_close_matches(name, network_names(), n=1, cutoff=0.5)
    if near:
        return InputError(f"unknown model {quoted(name)}; did you mean {quoted(near[0])}?")
    return InputError(f"unknown model {quoted(name)}; {NETWORK_FORMS}", remedies=[Remedy("list models")])


def _usual(name: str) -> str:
    """A name without what is written otherwise elsewhere: `ResNet-20` and `resnet_20` are `resnet20`."""
    return re.sub(r"[-_ ]+(?=\d)", "", re.sub(r"pre-?act[-_]?resnet", "preact", name.lower()))


@cache
def _known() -> dict[str, dict[str, Any]]:
    """What each short name fixes, in the order in which they are looked for."""
    return {name: network(name) for name in (*REPORT_C_NETWORKS, *network_names())}


def short_name(model: Choice) -> str:
    """The short name of a model choice (`plain56`, `resnet24c`), without the settings that the name does not fix."""
    values = model.model_dump(mode="json")
    before = folder_name(model)
    preactivated = name_of(values.get("ordering")) == "full_preactivation"
    if model.name == "cifar_resnet" and before == f"resnet{values.get('depth')}":
        bottleneck = name_of(values.get("block")) == "bottleneck"
        return f"{'bottleneck' if bottleneck else 'preact' if preactivated else 'resnet'}{values.get('depth')}"
    if before == "imagenet_resnet":
        return f"resnet{values['depth']}{'-imagenet' if name_of(values.get('stem')) == '7x7' else ''}"
    return before


def folder_name(model: Choice) -> str:
    """What the folder of a run calls its network: as the first version did, which told fewer of them apart."""
    values = model.model_dump(mode="json")
    names = {key: name_of(value) for key, value in values.items()}
    for name, fixed in _known().items():
        if all(names.get(key) == value for key, value in fixed.items()):
            return name
    if model.name == "cifar_resnet":
        kind = "bottleneck" if values.get("block") == "bottleneck" else "resnet"
        return f"{'plain' if names.get('shortcut') == 'none' else kind}{values.get('depth', '')}"
    return "-".join([short(model.name), *map(str, values.get("blocks", ()))])

"""A residual network by functions of torch alone, from tensors under our names and settings under ours.

It knows nothing of our modules: what each setting means stands here a second time.
"""

import re
from functools import partial

import torch
import torch.nn.functional as F

ACTIVATIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.01),
    "elu": F.elu,
    "swish": F.silu,
    "gelu": F.gelu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
DEFAULTS = {
    "stem.stride": 1, "stem.pool": "none", "stem.after": "bn_act",
    "stride_at": "first",
    "shortcut": "identity", "shortcut.zeros": "around", "shortcut.subsample": "slice", "shortcut.reads": "input",
    "ordering": "original", "ordering.act_after": True, "ordering.repeats": False,
    "activation": "relu", "pooling": "average", "bn_eps": 1e-5,
}  # fmt: skip


def logits(state, x, **settings):
    """logits_NK of what enters the network, in evaluation mode."""
    s = DEFAULTS | settings
    order = s["ordering"]
    if isinstance(s["activation"], dict):  # leaky ReLU with a slope
        act = partial(F.leaky_relu, negative_slope=s["activation"]["negative_slope"])
    else:
        act = ACTIVATIONS[s["activation"]]

    def conv(name, x, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state.get(f"{name}.bias"), stride=stride, padding=weight.shape[-1] // 2)

    def bn(name, x):
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, training=False, eps=s["bn_eps"])

    def rest(x, missing, stride):
        if stride > 1:
            if s["shortcut.subsample"] == "slice":
                x = x[:, :, ::stride, ::stride]
            elif s["shortcut.subsample"] == "average":
                x = torch.stack([x[:, :, i::stride, j::stride] for i in range(stride) for j in range(stride)]).mean(0)
            else:
                x = torch.stack([x[:, :, i::stride, j::stride] for i in range(stride) for j in range(stride)]).amax(0)
        zeros = [torch.zeros(len(x), count, *x.shape[2:]) for count in (missing // 2, missing - missing // 2, missing)]
        wide = {"around": [zeros[0], x, zeros[1]], "before": [zeros[2], x], "after": [x, zeros[2]]}
        return torch.cat(wide[s["shortcut.zeros"]], dim=1)

    def block(name, x, stride, activated):
        last = 3 if f"{name}.conv3.weight" in state else 2
        strides = dict.fromkeys(range(1, last + 1), 1)
        strides[{"first": 1, "1x1": 1, "second": 2, "3x3": 2}[s["stride_at"]]] = stride
        channels = state[f"{name}.conv{last}.weight"].shape[0]
        begun, y = x, x
        for number in range(1, last + 1):
            if order == "full_preactivation" and not (number == 1 and activated):
                y = act(bn(f"{name}.bn{number}", y))
            elif order == "relu_only_preactivation" and not (number == 1 and activated):
                y = act(y)
            if number == 1:
                begun = y
            y = conv(f"{name}.conv{number}", y, strides[number])
            if order == "relu_only_preactivation":
                y = bn(f"{name}.bn{number}", y)
            elif order == "bn_after_addition":
                y = act(bn(f"{name}.bn{number}", y)) if number < last else y
            elif order in ("original", "relu_before_addition"):
                y = bn(f"{name}.bn{number}", y)
                y = act(y) if number < last or order == "relu_before_addition" else y
        read = begun if s["shortcut.reads"] == "activated" else x
        if f"{name}.shortcut.0.weight" in state:
            if s["shortcut.subsample"] == "average" and stride > 1:
                z = conv(f"{name}.shortcut.0", F.avg_pool2d(read, stride))
            else:
                z = conv(f"{name}.shortcut.0", read, stride)
            y = y + (bn(f"{name}.shortcut.1", z) if f"{name}.shortcut.1.weight" in state else z)
        elif s["shortcut"] != "none":
            same = stride == 1 and channels == x.shape[1]
            y = y + (x if same else rest(read, channels - x.shape[1], stride))
        if order == "bn_after_addition":
            return act(bn(f"{name}.bn{last}", y))
        return act(y) if order == "original" and s["ordering.act_after"] else y

    x = conv("conv1", x, s["stem.stride"])
    x = bn("bn1", x) if "bn1.weight" in state else x
    x = act(x) if s["stem.after"] in ("bn_act", "act") else x
    x = F.max_pool2d(x, 3, 2, 1) if s["stem.pool"] == "max" else x
    blocks = sorted({tuple(map(int, found.groups())) for found in
                     (re.match(r"layer(\d+)\.(\d+)\.", name) for name in state) if found})  # fmt: skip
    activated = s["stem.after"] == "bn_act" and not s["ordering.repeats"]
    for stage, index in blocks:
        x = block(f"layer{stage}.{index}", x, 2 if stage > 1 and index == 0 else 1, activated)
        activated = False
    if order == "full_preactivation" and "bn.weight" in state:
        x = act(bn("bn", x))
    if order == "relu_only_preactivation":
        x = act(x)
    x = x.mean((2, 3)) if s["pooling"] == "average" else x.amax((2, 3))
    return x @ state["linear.weight"].T + state["linear.bias"]

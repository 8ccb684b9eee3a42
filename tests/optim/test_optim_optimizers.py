"""One contract over all optimizers: they descend, follow the rates of their groups, and resume to the same bits."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from residuum.errors import InputError
from residuum.optim import OPTIMIZERS, parameter_groups

LR = {"sgd": 0.05, "nesterov": 0.05, "adagrad": 0.1, "adadelta": 1.0, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.005,
      "muon": 0.05}  # fmt: skip
# Settings that are not the defaults, so that a setting that is not passed on shows.
SETTINGS = {
    "sgd": {"momentum": 0.7, "dampening": 0.2},
    "nesterov": {"momentum": 0.8},
    "adagrad": {"eps": 1e-3},
    "adadelta": {"rho": 0.8, "eps": 1e-2},
    "adam": {"betas": [0.8, 0.9], "eps": 1e-3},
    "adamw": {"betas": [0.8, 0.9], "eps": 1e-3},
    "rmsprop": {"alpha": 0.9, "eps": 1e-3, "momentum": 0.5},
    "muon": {"momentum": 0.8, "nesterov": False, "adam_share": 0.5, "adam_betas": [0.8, 0.9], "adam_eps": 1e-3},
}


class Convex(nn.Module):
    """Parameters of every shape that networks have; the loss is their squared distance from a target."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator))
        self.narrow = nn.Parameter(torch.randn(2, 5, 1, 1, generator=generator))
        self.matrix = nn.Parameter(torch.randn(5, 7, generator=generator))
        self.vector = nn.Parameter(torch.randn(6, generator=generator))
        self.scalar = nn.Parameter(torch.randn((), generator=generator))

    def loss(self):
        return sum(((parameter - 0.3) ** 2).sum() for parameter in self.parameters())


class ConvNet(nn.Sequential):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)

    def loss(self):
        generator = torch.Generator().manual_seed(5)
        images = torch.randn(32, 3, 8, 8, generator=generator).to(memory_format=torch.channels_last)
        labels = torch.randint(4, (32,), generator=generator)
        images[:, 0] += labels[:, None, None] / 2
        return F.cross_entropy(self(images), labels)


def optimizer_of(name, network, *, lr=None, weight_decay=1e-2, decay_norm=False, **settings):
    groups = parameter_groups(network, weight_decay=weight_decay, decay_norm=decay_norm)
    optimizer = OPTIMIZERS.build({"name": name, **settings}, groups)
    set_lr(optimizer, lr or LR[name])
    return optimizer


def set_lr(optimizer, lr):
    """As the engine does."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_share"]


def train(network, optimizer, steps, lr=lambda step: None):
    for step in steps:
        if (rate := lr(step)) is not None:
            set_lr(optimizer, rate)
        optimizer.zero_grad(set_to_none=True)
        network.loss().backward()
        optimizer.step()


def test_all_optimizers_are_under_contract():
    assert set(LR) == set(SETTINGS) == set(OPTIMIZERS)
    for name, settings in SETTINGS.items():
        assert set(settings) | {"nesterov"} >= set(OPTIMIZERS.settings(name))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_lowers_a_convex_loss(name):
    network = Convex()
    settings = {"adam_share": 0.5} if name == "muon" else {"eps": 1e-2} if name == "adadelta" else {}
    optimizer = optimizer_of(name, network, weight_decay=0.0, **settings)
    first = network.loss().item()
    # Updates of a fixed size must be large enough to get there, and have to become smaller to arrive.
    top = {"adagrad": 1.0, "adam": 0.1, "adamw": 0.1, "rmsprop": 0.05}.get(name, LR[name])
    train(network, optimizer, range(200), lambda step: top * (1 + math.cos(math.pi * step / 200)) / 2)
    assert network.loss().item() < 0.02 * first


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_state_in_another_memory_format_is_read_rightly(name):
    """A file gives contiguous tensors for channels_last kernels. torch's fused updates go wrong on them in silence."""
    whole = ConvNet()
    train(whole, optimizer_of(name, whole), range(8))
    network = ConvNet()
    optimizer = optimizer_of(name, network)
    train(network, optimizer, range(4))
    state = optimizer.state_dict()
    state["state"] = {
        number: {key: torch.as_tensor(value).contiguous() for key, value in entries.items()}
        for number, entries in state["state"].items()
    }
    optimizer.load_state_dict(state)
    train(network, optimizer, range(4))
    for got, expected in zip(network.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)


# Slow twins: one parameter, double precision, straight from the papers. `s` is what the twin remembers.


def sgd_twin(w, g, s, lr, wd, momentum=0.9, dampening=0.0, nesterov=False):
    g = g + wd * w
    s["v"] = momentum * s["v"] + (1 - dampening) * g if "v" in s else g
    return w - lr * (g + momentum * s["v"] if nesterov else s["v"])


def nesterov_twin(w, g, s, lr, wd, momentum):
    return sgd_twin(w, g, s, lr, wd, momentum, nesterov=True)


def adagrad_twin(w, g, s, lr, wd, eps):
    g = g + wd * w
    s["sum"] = s.get("sum", 0) + g**2
    return w - lr * g / (s["sum"].sqrt() + eps)


def adadelta_twin(w, g, s, lr, wd, rho, eps):
    g = g + wd * w
    s["g2"] = rho * s.get("g2", 0) + (1 - rho) * g**2
    delta = ((s.get("d2", torch.zeros_like(w)) + eps) / (s["g2"] + eps)).sqrt() * g
    s["d2"] = rho * s.get("d2", 0) + (1 - rho) * delta**2
    return w - lr * delta


def adam_twin(w, g, s, lr, wd, betas, eps):
    g = g + wd * w
    s["t"] = s.get("t", 0) + 1
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    m, v = s["m"] / (1 - betas[0] ** s["t"]), s["v"] / (1 - betas[1] ** s["t"])
    return w - lr * m / (v.sqrt() + eps)


def adamw_twin(w, g, s, lr, wd, betas, eps):
    return adam_twin(w, g, s, lr, 0.0, betas, eps) - lr * wd * w


def rmsprop_twin(w, g, s, lr, wd, alpha, eps, momentum):
    g = g + wd * w
    s["g2"] = alpha * s.get("g2", 0) + (1 - alpha) * g**2
    s["v"] = momentum * s.get("v", 0) + g / (s["g2"].sqrt() + eps)
    return w - lr * s["v"]


def muon_twin(w, g, s, lr, wd, momentum, nesterov, adam_share, adam_betas, adam_eps):
    if w.ndim != 4:
        return adamw_twin(w, g, s, adam_share * lr, wd, adam_betas, adam_eps)
    matrix, g = w.reshape(len(w), -1), g.reshape(len(w), -1)
    s["v"] = momentum * s.get("v", 0) + (1 - momentum) * g
    x = momentum * s["v"] + (1 - momentum) * g if nesterov else s["v"]
    x = x / x.norm()
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    scale = max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
    return ((1 - lr * wd) * matrix - lr * scale * x).reshape(w.shape)


TWINS = {"sgd": sgd_twin, "nesterov": nesterov_twin, "adagrad": adagrad_twin, "adadelta": adadelta_twin,
         "adam": adam_twin, "adamw": adamw_twin, "rmsprop": rmsprop_twin, "muon": muon_twin}  # fmt: skip


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_equals_a_slow_twin_with_a_rate_that_changes_every_step(name):
    """Learning rate and weight decay are those of the groups at each step, and every setting is passed on."""
    network = Convex().to(memory_format=torch.channels_last)
    optimizer = optimizer_of(name, network, weight_decay=0.1, **SETTINGS[name])
    slow = {key: parameter.detach().double() for key, parameter in network.named_parameters()}
    memory = {key: {} for key in slow}
    generator = torch.Generator().manual_seed(11)
    for step in range(6):
        lr = LR[name] / (1 + step)
        set_lr(optimizer, lr)
        for key, parameter in network.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            wd = 0.1 if parameter.ndim > 1 else 0.0
            slow[key] = TWINS[name](slow[key], parameter.grad.double(), memory[key], lr, wd, **SETTINGS[name])
        optimizer.step()
    for key, parameter in network.named_parameters():
        # Muon's iteration runs in bfloat16, in torch as in Jordan's own code.
        tolerance = 0.1 if name == "muon" and parameter.ndim == 4 else 1e-4
        assert (parameter.double() - slow[key]).abs().max() < tolerance * LR[name], key


DECOUPLED = {"adamw": 1.0, "muon": 1.0, "sgd": 1.0}


@pytest.mark.parametrize("name", list(DECOUPLED))
def test_weight_decay_shrinks_what_decays_by_the_closed_form(name):
    """w(t) = w(0)·Π(1 - lr·λ) without a gradient, for momentum-free SGD and the decoupled forms; vectors stay."""
    network = Convex()
    start = {key: parameter.detach().clone() for key, parameter in network.named_parameters()}
    settings = {"sgd": {"momentum": 0.0}, "muon": {"adam_share": 1.0}}.get(name, {})
    optimizer = optimizer_of(name, network, lr=0.1, weight_decay=0.5, **settings)
    factor = 1.0
    for step in range(5):
        set_lr(optimizer, 0.1 * 0.8**step)
        factor *= 1 - 0.1 * 0.8**step * 0.5
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for key, parameter in network.named_parameters():
        expected = start[key] * factor if parameter.ndim > 1 else start[key]
        assert torch.allclose(parameter, expected, rtol=1e-5), key


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_parameters_without_a_gradient_are_left_alone(name):
    network = Convex()
    start = copy.deepcopy(network.state_dict())
    optimizer = optimizer_of(name, network, decay_norm=True)
    network.matrix.square().sum().backward()
    optimizer.step()
    changed = {key for key, parameter in network.named_parameters() if not torch.equal(parameter, start[key])}
    assert changed == {"matrix"}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_step_takes_a_closure(name):
    network = Convex()

    def closure():
        loss = network.loss()
        loss.backward()
        return loss

    first = network.loss().item()
    assert optimizer_of(name, network).step(closure).item() == first
    assert network.loss().item() != first


def test_nesterov_is_sgd_in_its_nesterov_form():
    one, two = ConvNet(), ConvNet()
    train(one, optimizer_of("nesterov", one), range(5))
    train(two, optimizer_of("sgd", two, lr=LR["nesterov"], nesterov=True), range(5))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("settings", [{"momentum": 0.0}, {"dampening": 0.1}])
def test_nesterov_that_cannot_be_is_refused(settings):
    with pytest.raises(InputError, match="nesterov"):
        optimizer_of("sgd", ConvNet(), nesterov=True, **settings)
    with pytest.raises(InputError, match="momentum"):
        optimizer_of("nesterov", ConvNet(), momentum=0.0)


class TestMuon:
    @staticmethod
    def gradients(parameter, steps):
        generator = torch.Generator().manual_seed(2)
        return [torch.randn(parameter.shape, generator=generator) for _ in range(steps)]

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    @pytest.mark.parametrize("shape", [(8, 3, 3, 3), (32, 2, 3, 3), (6, 4, 1, 1)])
    @pytest.mark.parametrize("nesterov", [False, True])
    def test_kernels_move_as_torchs_own_muon_moves_their_matrices(self, layout, shape, nesterov):
        """Bit for bit, whatever the memory format of kernel and gradient."""
        kernel = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(memory_format=layout))
        matrix = nn.Parameter(kernel.detach().contiguous().flatten(1).clone())
        groups = [{"name": "decay", "params": [kernel], "names": ["kernel"], "lr": 0.1, "lr_share": 1.0,
                   "weight_decay": 0.2}]  # fmt: skip
        ours = OPTIMIZERS.build({"name": "muon", "momentum": 0.9, "nesterov": nesterov}, groups)
        torchs = torch.optim.Muon([matrix], lr=0.1, weight_decay=0.2, momentum=0.9, nesterov=nesterov)
        for gradient in self.gradients(kernel, 4):
            kernel.grad, matrix.grad = gradient.to(memory_format=layout), gradient.flatten(1).clone()
            ours.step()
            torchs.step()
        assert torch.equal(kernel.detach().contiguous().flatten(1), matrix)
        assert kernel.is_contiguous(memory_format=layout)

    def test_others_move_as_torchs_own_adamw_moves_them(self):
        ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
        theirs.load_state_dict(ours.state_dict())
        muon = optimizer_of("muon", ours, lr=0.1, weight_decay=0.2, decay_norm=True)
        adamw = torch.optim.AdamW(theirs.parameters(), lr=0.1 * 0.015, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.2)
        for gradient in self.gradients(ours.weight, 4):
            for network, optimizer in ((ours, muon), (theirs, adamw)):
                network.weight.grad, network.bias.grad = gradient.clone(), gradient[:, 0].clone()
                optimizer.step()
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)

    def test_update_of_a_kernel_is_nearly_orthogonal(self):
        """All singular values near 1, where those of the gradient span a factor of a thousand (Jordan 2024)."""
        generator = torch.Generator().manual_seed(4)
        left, right = (torch.linalg.qr(torch.randn(n, 8, generator=generator))[0] for n in (8, 36))
        network = nn.Conv2d(4, 8, 3, bias=False)
        before = network.weight.detach().clone()
        optimizer = optimizer_of("muon", network, lr=1.0, weight_decay=0.0)
        network.weight.grad = (left @ torch.logspace(0, -2, 8).diag() @ right.T).reshape(8, 4, 3, 3)
        optimizer.step()
        values = torch.linalg.svdvals((before - network.weight.detach()).flatten(1))
        assert values.max() < 1.3
        assert values.min() > 0.3

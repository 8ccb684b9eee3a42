"""Activation functions, as modules without parameters.

None works in place: measured on ResNet-20 at batch 128 it gains nothing, and it would change what a hook has caught.
"""

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from residuum.own import Fit
from residuum.registry import Table


class Swish(nn.Module):
    """x · sigmoid(β x), elementwise (Ramachandran et al. 2017); `nn.SiLU` is the case β = 1."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        """The function of a tensor of any shape."""
        return x * (self.beta * x).sigmoid()

    def extra_repr(self) -> str:
        """The setting, for the printed form."""
        return f"beta={self.beta}"


class Applied(nn.Module):
    """A function of a tensor as a module, with its other arguments."""

    def __init__(self, function: Callable[..., Tensor], settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.function, self.settings = function, dict(settings)

    def forward(self, x: Tensor) -> Tensor:
        """The function of a tensor of any shape."""
        return self.function(x, **self.settings)

    def extra_repr(self) -> str:
        """Function and settings, for the printed form."""
        return ", ".join([self.function.__name__, *(f"{key}={value}" for key, value in self.settings.items())])


def is_of_tensor(found: Any) -> bool:
    """Whether own code is a function of a tensor itself, as `F.gelu` is, and not what makes a module of settings."""
    if isinstance(found, type) or not inspect.isroutine(found):
        return False
    try:
        first = next(iter(inspect.signature(found, eval_str=True).parameters.values()), None)
    except Exception:  # built in, or a hint that means nothing, which is told elsewhere
        return inspect.isbuiltin(found)
    return (
        first is not None and first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD)
        and first.default is first.empty and first.annotation in (first.empty, Tensor)
    )  # fmt: skip


def _as_module(found: Any) -> Any:
    """What makes modules, of a function of a tensor; its other arguments are its settings. Any other as it is."""
    if not is_of_tensor(found):
        return found

    def made(**settings: Any) -> nn.Module:
        return Applied(found, settings)

    parameters = [] if inspect.isbuiltin(found) else [*inspect.signature(found, eval_str=True).parameters.values()][1:]
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    chosen = [one.replace(kind=one.KEYWORD_ONLY) for one in parameters if one.kind not in kinds]
    made.__signature__ = inspect.Signature(chosen)  # type: ignore[attr-defined]
    return made


def _no_activation(made: object) -> str:
    if not isinstance(made, nn.Module):
        return f"makes a {type(made).__name__}, not a module"
    x_NCHW = torch.zeros(2, 4, 6, 6)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            shape = list(deepcopy(made).eval()(x_NCHW).shape)
        except Exception:  # as of one for other channels, which is told where it stands
            return ""
    return (
        "" if shape == list(x_NCHW.shape) else f"makes {shape} of {list(x_NCHW.shape)}; an activation keeps the shape"
    )


def leaky_relu(*, negative_slope: Annotated[float, Field(ge=0, le=1000)] = 0.01) -> nn.Module:
    """Leaky ReLU: x where it is positive, `negative_slope` · x elsewhere (Maas et al. 2013)."""
    return nn.LeakyReLU(negative_slope)


def elu(*, alpha: Annotated[float, Field(gt=0, le=1000)] = 1.0) -> nn.Module:
    """ELU: x where it is positive, `alpha` · (eˣ − 1) elsewhere (Clevert et al. 2016)."""
    return nn.ELU(alpha)


def swish(*, beta: Annotated[float, Field(ge=0, le=1000)] = 1.0) -> nn.Module:
    """Swish, x · sigmoid(`beta` x); with `beta` = 1 it is also called SiLU."""
    return nn.SiLU() if beta == 1 else Swish(beta)


def gelu(*, approximate: Literal["none", "tanh"] = "none") -> nn.Module:
    """GELU: x · Φ(x), with the normal distribution's Φ exactly or by a tangent (Hendrycks and Gimpel 2016)."""
    return nn.GELU(approximate)


ACTIVATIONS: Table[nn.Module] = Table(
    "activation",
    {
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "leaky_relu": leaky_relu,
        "elu": elu,
        "swish": swish,
        "gelu": gelu,
        "mish": nn.Mish,
        "hardswish": nn.Hardswish,
        "selu": nn.SELU,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
    },
    Fit(
        adapted=_as_module,
        object="made",
        wrong=_no_activation,
    ),
)


def curve(activation: nn.Module, x_N: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values and derivatives of an activation at some points, the derivatives by automatic differentiation."""
    x = torch.tensor(x_N, requires_grad=True)
    y = activation(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach().numpy(), slope.numpy()

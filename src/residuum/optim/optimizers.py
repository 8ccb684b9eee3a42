"""Optimizers by name: torch's own, over the groups of `residuum.optim.groups`.

Weight decay comes with the groups; the engine sets `group["lr"]` before every step to the rate of the run times the
group's `lr_share`.

On a GPU all use a form that a graph can capture: `fused` where there is one, since it is one kernel and can be masked,
else `capturable`. Elsewhere all use `foreach`: the `fused` form of SGD is only 0.1 ms a step faster on ResNet-20 (which
takes 100 ms). It walks through memory without looking at strides, so a state that is read from a file has to be put
into the memory format of its kernel (`engine.state` does).
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.optim._muon import muon as muon_update
from torch.optim.adamw import adamw as adamw_update

from residuum.errors import InputError
from residuum.own import Fit
from residuum.registry import Table

Groups = Sequence[dict[str, Any]]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e12)]
TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])


def _form(groups: Groups, *, fused: bool = True, capturable: bool = False) -> dict[str, Any]:
    """How torch is to compute an update of these parameters; `fused`, `capturable`: whether its optimizer has that."""
    if not _on_gpu(groups):
        return {"foreach": True}
    if not fused:
        return {"foreach": True, "capturable": True}
    return {"fused": True} | ({"capturable": True} if capturable else {})


def _on_gpu(groups: Groups) -> bool:
    return any(parameter.is_cuda for group in groups for parameter in group["params"])


def sgd(
    groups: Groups,
    *,
    momentum: Share = 0.9,
    nesterov: bool = False,
    dampening: Annotated[float, Field(ge=0, le=1)] = 0.0,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum; weight decay is part of the gradient.

    Raises:
        InputError: Nesterov's form without momentum or with dampening.
    """
    if nesterov and (momentum == 0 or dampening != 0):
        raise InputError("optimizer 'sgd': nesterov=true needs a momentum above 0 and dampening=0")
    return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, dampening=dampening, **_form(groups))


def nesterov(groups: Groups, *, momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9) -> torch.optim.Optimizer:
    """`sgd` with `nesterov=true`, under a name of its own (Sutskever et al. 2013, section 2)."""
    return sgd(groups, momentum=momentum, nesterov=True)


def adagrad(groups: Groups, *, eps: Positive = 1e-10) -> torch.optim.Optimizer:
    """Adagrad (Duchi et al. 2011); customary learning rate 0.01. Weight decay is part of the gradient."""
    # Before torch 2.13 it has no fused form on a GPU, and it never had a capturable one.
    form = _form(groups) if TORCH >= (2, 13) else {"foreach": True}
    return torch.optim.Adagrad(groups, eps=eps, **form)


def adadelta(groups: Groups, *, rho: Share = 0.9, eps: Positive = 1e-6) -> torch.optim.Optimizer:
    """Adadelta (Zeiler 2012); the paper has no learning rate: `optim.lr=1.0` gives it. Decay is in the gradient."""
    return torch.optim.Adadelta(groups, rho=rho, eps=eps, **_form(groups, fused=False))


def adam(groups: Groups, *, betas: tuple[Share, Share] = (0.9, 0.999), eps: Positive = 1e-8) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015); customary learning rate 0.001. Weight decay is part of the gradient."""
    return torch.optim.Adam(groups, betas=betas, eps=eps, **_form(groups, capturable=True))


def adamw(groups: Groups, *, betas: tuple[Share, Share] = (0.9, 0.999), eps: Positive = 1e-8) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019): Adam that shrinks weights by lr × weight decay, apart from the gradient."""
    return torch.optim.AdamW(groups, betas=betas, eps=eps, **_form(groups, capturable=True))


def rmsprop(
    groups: Groups, *, alpha: Share = 0.99, eps: Positive = 1e-8, momentum: Share = 0.0
) -> torch.optim.Optimizer:
    """RMSprop (Tieleman and Hinton 2012); customary learning rate 0.001. Weight decay is part of the gradient."""
    return torch.optim.RMSprop(groups, alpha=alpha, eps=eps, momentum=momentum, **_form(groups, fused=False))


def muon(
    groups: Groups,
    *,
    momentum: Share = 0.95,
    nesterov: bool = True,
    adam_share: Positive = 0.015,
    adam_betas: tuple[Share, Share] = (0.9, 0.95),
    adam_eps: Positive = 1e-10,
) -> torch.optim.Optimizer:
    """Muon for convolution kernels, AdamW for all else: batch norm, biases and the linear head (Jordan 2024).

    A kernel is seen as a matrix [out, in × height × width], its update is made orthogonal; customary learning rate
    0.02. AdamW's learning rate is `adam_share` times that (0.0003 by default). Weight decay shrinks weights by lr ×
    weight decay, apart from the gradient.
    """
    split = []
    for group in groups:
        for kind, share in (("kernels", 1.0), ("others", adam_share)):
            chosen = [(n, p) for n, p in zip(group["names"], group["params"], strict=True) if _is_kernel(p, kind)]
            if chosen:
                names, parameters = map(list, zip(*chosen, strict=True))
                changes = {"name": f"{group['name']}_{kind}", "kind": kind, "names": names, "params": parameters}
                split.append(group | changes | {"lr_share": group["lr_share"] * share})
    return MuonWithAdamW(split, momentum=momentum, nesterov=nesterov, betas=adam_betas, eps=adam_eps)


def _is_kernel(parameter: Tensor, kind: str) -> bool:
    return (parameter.ndim == 4) == (kind == "kernels")


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the groups of kind `kernels`, AdamW for those of kind `others`, as one optimizer.

    torch's Muon takes matrices only and leaves the other parameters to a second optimizer. Here both updates, torch's
    own, share one state dict. The momentum of a kernel is kept as its matrix, whose order of elements is that of
    contiguous memory, so the update is the same for every memory format of the kernel.
    """

    def __init__(
        self, groups: Groups, *, momentum: float, nesterov: bool, betas: tuple[float, float], eps: float
    ) -> None:
        settings = {"momentum": momentum, "nesterov": nesterov, "betas": betas, "eps": eps}
        super().__init__(groups, settings | {"capturable": _on_gpu(groups)})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient; returns the loss of the closure, if one is given."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            (self._muon if group["kind"] == "kernels" else self._adamw)(group, parameters)
        return loss

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        # Flattened, a contiguous kernel is a view of itself; a channels_last one is a copy, which has to go back.
        matrices = [parameter.flatten(1) for parameter in parameters]
        for parameter, matrix in zip(parameters, matrices, strict=True):
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(matrix)
        # torch's update fetches a rate that lies on the device, which no graph can capture. A rate of 1 on matrices of
        # zeros leaves there what is to be multiplied by it.
        lr, decay = group["lr"], group["weight_decay"]
        on_device = isinstance(lr, Tensor)
        muon_update(
            steps := [torch.zeros_like(matrix) for matrix in matrices] if on_device else matrices,
            [_gradient(parameter).flatten(1) for parameter in parameters],
            [self.state[parameter]["momentum_buffer"] for parameter in parameters],
            lr=1.0 if on_device else lr,
            weight_decay=0.0 if on_device else decay,
            momentum=group["momentum"],
            nesterov=group["nesterov"],
            ns_coefficients=(3.4445, -4.7750, 2.0315),
            ns_steps=5,
            eps=1e-7,
            adjust_lr_fn="original",
            has_complex=False,
        )
        if on_device:
            for matrix, step in zip(matrices, steps, strict=True):
                matrix.mul_(1 - lr * decay).add_(step * lr)
        for parameter, matrix in zip(parameters, matrices, strict=True):
            if matrix.data_ptr() != parameter.data_ptr():
                parameter.copy_(matrix.view_as(parameter))

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        capturable = group["capturable"]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw_update(
            parameters,
            [_gradient(parameter) for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            foreach=True,
            capturable=capturable,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"] if capturable else float(group["lr"]),
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "parameters without a gradient were left out"
    return parameter.grad


def _no_optimizer(made: object) -> str:
    if isinstance(made, torch.optim.Optimizer):
        return ""
    return f"makes a {type(made).__name__}; an optimizer is a torch.optim.Optimizer"


OPTIMIZERS: Table[torch.optim.Optimizer] = Table(
    "optimizer",
    {
        "sgd": sgd,
        "nesterov": nesterov,
        "adagrad": adagrad,
        "adadelta": adadelta,
        "adam": adam,
        "adamw": adamw,
        "rmsprop": rmsprop,
        "muon": muon,
    },
    # The engine sets the rate before every update, and decay comes with the groups.
    Fit(("groups",), withheld={"lr": 1e-3, "weight_decay": 0.0}, wrong=_no_optimizer),
)
"""Builders `(groups, *, settings) -> optimizer`."""

"""Training losses by name. Evaluation has its own loss, which is never smoothed."""

import inspect
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from residuum.own import Fit
from residuum.registry import Table


def cross_entropy(
    logits_NK: Tensor, targets: Tensor, *, label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
) -> Tensor:
    """Mean cross-entropy in nats, in fp32 or better whatever the logits are.

    Targets are labels_N, or shares_NK of the labels of mixed images. With smoothing, that share of every target is
    spread evenly over all K classes (Szegedy et al. 2016, section 7).
    """
    logits_NK = logits_NK.to(torch.promote_types(logits_NK.dtype, torch.float32))
    return F.cross_entropy(logits_NK, targets, label_smoothing=label_smoothing)


def _of_module(found: Any) -> Any:
    """A loss that is a class of modules, as a function; its arguments are its settings. Any other as it is."""
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        return found
    made: dict[str, nn.Module] = {}  # once for each choice of settings, not for each update

    def loss(logits_NK: Tensor, targets: Tensor, **settings: Any) -> Any:
        if repr(settings) not in made:
            made[repr(settings)] = found(**settings)
        return made[repr(settings)].to(logits_NK.device)(logits_NK, targets)

    own = inspect.signature(found, eval_str=True).parameters.values()
    given = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in ("logits_NK", "targets")]
    chosen = [one.replace(kind=one.KEYWORD_ONLY) for one in own if one.kind is one.POSITIONAL_OR_KEYWORD]
    loss.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*given, *chosen, *(one for one in own if one.kind is one.KEYWORD_ONLY)]
    )
    return loss


def _no_loss(made: object) -> str:
    if isinstance(made, Tensor) and made.ndim == 0:
        return ""
    return (
        f"gives {f'a tensor {list(made.shape)}' if isinstance(made, Tensor) else type(made).__name__}, not one number"
    )


LOSSES: Table[Tensor] = Table(
    "loss",
    {"cross_entropy": cross_entropy},
    Fit(("logits_NK", "targets"), adapted=_of_module, object="called", wrong=_no_loss),
)
"""Builders `(logits_NK, targets, *, settings) -> loss`; `LOSSES.bind(choice)` is the loss as a function."""

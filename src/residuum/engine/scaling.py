"""Dynamic scaling of the loss for half precision, with scale and counters on the device."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

FIRST, LEAST = 2.0**16, 1.0
GROWTH, BACKOFF, INTERVAL = 2.0, 0.5, 2000
"""Those of torch's GradScaler."""


class Scale:
    """The factor that keeps gradients within what float16 can hold (Micikevicius et al. 2018, section 3.2).

    The loss is multiplied by it before the backward pass, the gradients are divided by it before anything reads them.
    Where one of them is not finite, the update is left out and the factor halved; after 2,000 updates without that it
    is doubled. At a factor of 1 nothing is left to halve: a gradient that is not finite then is the network's own.
    Nothing is read back, so that a captured step scales itself.
    """

    def __init__(self, device: torch.device) -> None:
        self.factor = torch.full((), FIRST, device=device)
        self.growth = torch.zeros((), dtype=torch.int32, device=device)
        self._found = torch.zeros((), device=device)

    def unscale(self, gradients: Sequence[Tensor]) -> Tensor:
        """Divide gradients in place; 1 where one of them is not finite, else 0 (0-d, float32)."""
        self._found.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_(list(gradients), self._found, self.factor.reciprocal())
        return self._found

    def hopeless(self, found: Tensor) -> Tensor:
        """Whether gradients are not finite though nothing was scaled (0-d, bool)."""
        return (found > 0) & (self.factor <= LEAST)

    def adapt(self, found: Tensor) -> None:
        """Halve, keep or double the factor after an update that was or was not made."""
        torch._amp_update_scale_(self.factor, self.growth, found, GROWTH, BACKOFF, INTERVAL)
        self.factor.clamp_(min=LEAST)

    def plain(self) -> dict[str, float | int]:
        """Factor and counter for a checkpoint."""
        return {"factor": self.factor.item(), "growth": int(self.growth.item())}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Put the values of a checkpoint back."""
        self.factor.fill_(values["factor"])
        self.growth.fill_(values["growth"])

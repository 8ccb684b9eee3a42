"""Attribution: which pixels, or which places of a feature map, speak for a class.

A method is a file beside this one, whose `METHOD` says all that is known of it.
"""

import warnings
from collections.abc import Mapping

from torch import Tensor

from residuum.attribution.method import Method
from residuum.members import gathered
from residuum.registry import Table

__all__ = ["METHODS", "ROWS", "Method"]

# captum imports a progress bar, which warns in every notebook that it cannot be drawn there; nothing here draws it.
warnings.filterwarnings("ignore", "IProgress not found")

ROWS: Mapping[str, Method] = {row.name: row for row in gathered(__name__, "METHOD").values()}
"""What is known of each method, by its name."""

METHODS: Table[Mapping[str, Tensor]] = Table("method", {name: row.maps for name, row in ROWS.items()})
"""Methods: `(network, images_NCHW, targets_N, baseline_CHW) -> maps_NHW by the name of what they look at`.

The network is in evaluation mode; images and baseline are normalised, on its device; `targets_N` are the classes whose
logit is explained. Maps are fp32 on that device, as large as the images, one for each image and each feature map of
`feature_maps`, or one of the `input` alone. No weight, no gradient and no hook of the network is left changed.
"""

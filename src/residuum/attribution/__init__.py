"""Attribution: which pixels, or which places of a feature map, speak for a class. One file a method, one table."""

import warnings
from collections.abc import Mapping

from torch import Tensor

from residuum.attribution.grad_cam import grad_cam
from residuum.attribution.integrated_gradients import integrated_gradients
from residuum.attribution.occlusion import occlusion
from residuum.attribution.saliency import saliency
from residuum.registry import Table

__all__ = ["METHODS"]

# captum imports a progress bar, which warns in every notebook that it cannot be drawn there; nothing here draws it.
warnings.filterwarnings("ignore", "IProgress not found")

METHODS: Table[Mapping[str, Tensor]] = Table(
    "method",
    {
        "grad-cam": grad_cam,
        "saliency": saliency,
        "integrated-gradients": integrated_gradients,
        "occlusion": occlusion,
    },
)
"""Methods: `(network, images_NCHW, targets_N, baseline_CHW) -> maps_NHW by the name of what they look at`.

The network is in evaluation mode; images and baseline are normalised, on its device; `targets_N` are the classes whose
logit is explained. Maps are fp32 on that device, as large as the images, one for each image and each feature map of
`feature_maps`, or one of the `input` alone. No weight, no gradient and no hook of the network is left changed.
"""

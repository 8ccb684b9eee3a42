"""Grad-CAM: where in a feature map the evidence for a class lies."""

from torch import Tensor, nn

from residuum.attribution.method import Method
from residuum.attribution.network import feature_maps


def grad_cam(network: nn.Module, images_NCHW: Tensor, targets_N: Tensor, _baseline_CHW: Tensor) -> dict[str, Tensor]:
    """Grad-CAM of each feature map: ReLU of the sum of its channels, each weighted by the mean gradient of the logit.

    Upsampled bilinearly to the size of the images. At the last stage, which is pooled and goes into a linear layer, it
    is the positive part of CAM (Zhou et al. 2016) over the number of places.
    Source: Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    maps = {}
    for name, module in feature_maps(network, images_NCHW).items():
        coarse_N1HW = LayerGradCam(network, module).attribute(images_NCHW, targets_N, relu_attributions=True)
        maps[name] = LayerAttribution.interpolate(coarse_N1HW, images_NCHW.shape[2:], "bilinear")[:, 0].detach()
    return maps


METHOD = Method("grad-cam", grad_cam, "Grad-CAM", coarse=True)

"""Saliency: how strongly each pixel moves a class's logit."""

from torch import Tensor, nn

from residuum.attribution.method import Method


def saliency(network: nn.Module, images_NCHW: Tensor, targets_N: Tensor, _baseline_CHW: Tensor) -> dict[str, Tensor]:
    """The absolute gradient of the logit by each pixel, the largest of its channels.

    In units of the logit for one unit of the normalised pixel.
    Source: Simonyan et al., "Deep inside convolutional networks", 2014, section 3.1.
    """
    from captum.attr import Saliency

    inputs_NCHW = images_NCHW.detach().clone().requires_grad_()
    return {"input": Saliency(network).attribute(inputs_NCHW, targets_N, abs=True).amax(dim=1).detach()}


METHOD = Method("saliency", saliency, "Saliency")

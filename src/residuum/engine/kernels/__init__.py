"""Convolutions of few channels in kernels of our own, where they beat cuDNN's. Needs no Triton to be imported."""

from residuum.engine.kernels.few_channels import Chosen, chosen, settled, with_kernels

__all__ = ["Chosen", "chosen", "settled", "with_kernels"]

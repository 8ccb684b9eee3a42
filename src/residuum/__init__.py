"""A laboratory for deep residual learning on small images."""

__version__ = "0.1.0"

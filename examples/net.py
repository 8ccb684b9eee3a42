"""A network as anybody would write it: images in, logits out; its arguments with type hints are its settings."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn


class Net(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(
        self, in_channels: int, num_classes: int, width: Annotated[int, Field(ge=1)] = 16, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits of normalised images."""
        return self.head(self.dropout(self.features(images_NCHW).mean((2, 3))))

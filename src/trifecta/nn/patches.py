"""Images to vectors: one for each patch, with absolute positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trifecta.nn.dropout import Dropout


class Patches(nn.Module):
    """A linear map of each square patch, [CLS] before them, plus a learned table of positions; then dropout.

    The map is the convolution of Dosovitskiy et al. (2020), whose stride is its width, as one matrix (D, C * P * P).

    Args:
        image_size, patch_size: sides in pixels; the second divides the first. channels: C.
        first: put a vector of its own, [CLS], before the patches.
    """

    def __init__(self, image_size: int, patch_size: int, channels: int, d_model: int, *, first: bool, dropout: float):
        super().__init__()
        self.patch_size, self.shape = patch_size, (channels, image_size, image_size)
        self.patch = nn.Linear(channels * patch_size**2, d_model)
        self.first = nn.Embedding(1, d_model) if first else None
        self.position = nn.Embedding((image_size // patch_size) ** 2 + first, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, pixels_BCXY: Tensor) -> Tensor:
        """(B, C, X, Y) -> (B, T, D); T counts [CLS], then the patches row by row."""
        assert pixels_BCXY.shape[1:] == self.shape, (pixels_BCXY.shape, self.shape)
        side = self.patch_size
        tiles = pixels_BCXY.unfold(2, side, side).unfold(3, side, side)
        rows_BTP = tiles.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        x_BTD = self.patch(rows_BTP)
        if self.first is not None:
            x_BTD = torch.cat((self.first.weight.expand(len(x_BTD), 1, -1).to(x_BTD.dtype), x_BTD), 1)
        embedded: Tensor = self.dropout(x_BTD + self.position.weight)
        return embedded

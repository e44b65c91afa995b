"""Normalisation over the last dimension."""

from __future__ import annotations

from torch import Tensor, nn


class RmsNorm(nn.RMSNorm):
    """RMSNorm in the precision of its gain: under autocast torch would else leave its fused kernel for a slow path."""

    def forward(self, x: Tensor) -> Tensor:
        """x / sqrt(mean(x^2) + epsilon) * gain."""
        return super().forward(x.to(self.weight.dtype))


NORMS = {"layernorm": nn.LayerNorm, "rmsnorm": RmsNorm}
"""LayerNorm (Ba et al., 2016) with gain and shift; RMSNorm (Zhang and Sennrich, 2019) with gain."""


def make_norm(norm: str, width: int, epsilon: float) -> nn.LayerNorm | RmsNorm:
    """The named norm over `width` features; epsilon is added to the variance (or mean square)."""
    made: nn.LayerNorm | RmsNorm = NORMS[norm](width, eps=epsilon)
    return made

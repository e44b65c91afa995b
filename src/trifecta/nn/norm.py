"""Normalisation over the last dimension."""

from __future__ import annotations

from torch import nn

NORMS = {"layernorm": nn.LayerNorm, "rmsnorm": nn.RMSNorm}
"""LayerNorm (Ba et al., 2016) with gain and shift; RMSNorm (Zhang and Sennrich, 2019) with gain."""


def make_norm(norm: str, width: int, epsilon: float) -> nn.LayerNorm | nn.RMSNorm:
    """The named norm over `width` features; epsilon is added to the variance (or mean square)."""
    made: nn.LayerNorm | nn.RMSNorm = NORMS[norm](width, eps=epsilon)
    return made

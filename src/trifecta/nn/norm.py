"""Normalisation over the last dimension."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class RmsNorm(nn.RMSNorm):
    """RMSNorm in the precision of its gain: under autocast torch would else leave its fused kernel for a slow path.

    On a CPU torch has no fused kernel at all; its chain of elementwise steps takes twice the time of this one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x / sqrt(mean(x^2) + epsilon) * gain."""
        x = x.to(self.weight.dtype)
        if x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return cast(Tensor, _RmsNorm.apply(x, self.weight, self.eps))  # type: ignore[no-untyped-call]
        normed: Tensor = super().forward(x)
        return normed


class _RmsNorm(torch.autograd.Function):
    """y = n g, where n = x r and r = 1 / sqrt(mean(x^2) + epsilon); dx = r (g dy - n mean(n g dy)), dg = sum(n dy)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, epsilon: float) -> Tensor:
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        scale = mean_square.add_(epsilon).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(normed, scale, gain)
        return cast(Tensor, normed * gain)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, scale, gain = ctx.saved_tensors
        (gradient,) = gradients
        product = gradient * normed
        mean = (product @ gain).unsqueeze(-1).div_(normed.shape[-1])
        return (
            torch.addcmul(gradient * gain, normed, mean, value=-1).mul_(scale),
            product.flatten(0, -2).sum(0) if product.dim() > 1 else product,
            None,
        )


NORMS = {"layernorm": nn.LayerNorm, "rmsnorm": RmsNorm}
"""LayerNorm (Ba et al., 2016) with gain and shift; RMSNorm (Zhang and Sennrich, 2019) with gain."""


def make_norm(norm: str, width: int, epsilon: float) -> nn.LayerNorm | RmsNorm:
    """The named norm over `width` features; epsilon is added to the variance (or mean square)."""
    made: nn.LayerNorm | RmsNorm = NORMS[norm](width, eps=epsilon)
    return made

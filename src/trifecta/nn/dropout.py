"""Dropout (Srivastava et al., 2014) that is cheap on a CPU."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 65536


class Dropout(nn.Module):
    """Zeroes elements with probability `rate` while training and scales the others by 1 / (1 - rate)."""

    def __init__(self, rate: float):
        super().__init__()
        assert 0 <= rate < 1, rate
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate) if self.training and self.rate else x

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def dropout(x: Tensor, rate: float) -> Tensor:
    """x with elements zeroed at this rate, drawn from the device's default generator.

    On a CPU 16 random bits decide each element, half the time of torch's own, in which drawing the mask costs more
    than a layer norm. The rate is then a multiple of 1/65536, and the scale fits that rate exactly.
    """
    threshold = round(rate * _LEVELS)
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not 0 < threshold < _LEVELS:
        return F.dropout(x, rate)
    return cast(Tensor, _Dropout16.apply(x, threshold))  # type: ignore[no-untyped-call]


def drop_path(x: Tensor, rate: float) -> Tensor:
    """x with whole rows (first index) zeroed at this rate, the others times 1 / (1 - rate) (Huang et al., 2016).

    Drawn from the device's default generator.
    """
    kept = torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device) >= rate
    return x * (kept / (1 - rate)).to(x.dtype)


class _Dropout16(torch.autograd.Function):
    """Keeps an element whose 16 random bits reach the threshold; saves one byte an element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int) -> Tensor:
        bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        keep = bits.view(torch.int16)[: x.numel()].view(x.shape) >= threshold - _LEVELS // 2
        ctx.save_for_backward(keep)
        ctx.scale = _LEVELS / (_LEVELS - threshold)
        return x * keep.to(x.dtype).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * keep.to(gradient.dtype).mul_(ctx.scale), None

"""In which number format the forward pass computes, and how fp16 gradients are kept from vanishing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from trifecta.errors import NumericsError, ResourceError
from trifecta.hardware import has_fast_bf16

SMALLEST_SCALE = 2.0**-14


def resolve_precision(name: str, device: torch.device) -> str:
    """What `auto` means on a device: bf16 where the processor has instructions for it, else fp32.

    Raises:
        ResourceError: fp16 on a CPU, which would emulate it slowly.
    """
    if name == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise ResourceError(
            "execution.precision is fp16, which CPUs only emulate", fix="use precision bf16 or fp32, or a GPU"
        )
    return name


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which forward passes run: weights and losses stay fp32, products are bf16 or fp16 if so asked."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)


@dataclass
class LossScaler:
    """Multiplies the loss so that fp16 gradients don't vanish (Micikevicius et al., Mixed precision training, 2018).

    After growth_interval good steps in a row the scale grows; a step with a gradient that isn't finite is skipped and
    shrinks it. good_steps: in a row, at this scale.
    """

    scale: float
    growth_factor: float
    backoff_factor: float
    growth_interval: int
    good_steps: int = 0

    def update(self, finite: bool) -> None:
        """Counts one step.

        Raises:
            NumericsError: the scale has shrunk to nothing, so no scale can help.
        """
        if not finite:
            self.scale *= self.backoff_factor
            self.good_steps = 0
            if self.scale < SMALLEST_SCALE:
                raise NumericsError(
                    f"fp16 gradients overflow even at a loss scale of {self.scale:g}",
                    fix="use precision bf16 or fp32, or a lower training.learning_rate",
                )
            return
        self.good_steps += 1
        if self.good_steps == self.growth_interval:
            self.scale *= self.growth_factor
            self.good_steps = 0

"""In which number format the forward pass computes, and how fp16 gradients are kept from vanishing."""

from __future__ import annotations

import functools
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from trifecta.errors import NumericsError, ResourceError
from trifecta.hardware import has_fast_bf16

SMALLEST_SCALE = 2.0**-14
WORTH_ROUNDING = 1.1
_TOO_SMALL, _LARGEST = 1 << 24, 1 << 26
"""Multiplications of a product below which the calls are measured, not the arithmetic, and of the largest one that is
timed: where bf16 is emulated it takes 0.15 s, a hundred times as long as fp32."""
_SECONDS = 0.3


def resolve_precision(name: str, device: torch.device) -> str:
    """What `auto` means on a device: bf16 where it has instructions for it, else fp16 on a CUDA device, else fp32.

    Raises:
        ResourceError: fp16 on a CPU, which would emulate it slowly.
    """
    if name == "auto":
        return "bf16" if has_fast_bf16(device) else "fp16" if device.type == "cuda" else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise ResourceError(
            "execution.precision is fp16, which CPUs only emulate", fix="use precision bf16 or fp32, or a GPU"
        )
    return name


@dataclass(frozen=True)
class Timing:
    """Median seconds of a model's products, rows x width x inner width, in both formats."""

    rows: int
    width: int
    inner: int
    fp32: float
    bf16: float

    @property
    def faster(self) -> str:
        """The format to compute in: bf16 must be worth its rounding."""
        return "bf16" if self.fp32 >= WORTH_ROUNDING * self.bf16 else "fp32"

    def __str__(self) -> str:
        figures = f"fp32 {1000 * self.fp32:.2f} ms, bf16 {1000 * self.bf16:.2f} ms"
        return f"precision auto: {self.faster}; products of {self.rows} x {self.width} x {self.inner}: {figures}"


@functools.cache
def time_products(rows: int, width: int, inner: int, threads: int) -> Timing | None:
    """Times products of a model's own sizes on the CPU in turns, in about 0.3 s; None for those too small to tell.

    Args:
        rows: positions of a micro-batch; fewer are computed. threads: in force, since another number is another result.
    """
    del threads
    if rows * width * inner < _TOO_SMALL:
        return None
    rows = max(16, min(rows, _LARGEST // (width * inner)))
    with torch.random.fork_rng(devices=[]):
        pairs = [(torch.rand(rows, a), torch.rand(a, b)) for a, b in ((width, inner), (inner, width))]
    works = [pairs, [(a.bfloat16(), b.bfloat16()) for a, b in pairs]]
    taken: list[list[float]] = [[], []]
    began = time.perf_counter()
    while len(taken[0]) < 2 or (len(taken[0]) < 30 and time.perf_counter() - began < _SECONDS):
        for work, seconds in zip(works, taken, strict=True):
            start = time.perf_counter()
            for a, b in work:
                a @ b
            seconds.append(time.perf_counter() - start)
    fp32, bf16 = (statistics.median(seconds[1:]) for seconds in taken)  # the first one also warms up
    return Timing(rows, width, inner, fp32, bf16)


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

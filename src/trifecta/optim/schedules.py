"""Learning-rate schedules: pure functions of the update's number, counted from 1.

Update n uses `learning_rate * factor(n)`. Every schedule starts with a straight line from 0 (n / warmup_steps), has its
shape after that, and stays where it ended after the last update: none rises after its end.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Span:
    """How long a run is: warm-up updates, all updates (None when there is no end), and updates in an epoch."""

    warmup_steps: int
    total_steps: int
    steps_per_epoch: int

    def progress(self, n: int) -> float:
        """0 at the end of warm-up, 1 at the last update."""
        length = self.total_steps - self.warmup_steps
        return (n - self.warmup_steps) / length if length > 0 else 1.0


def _with_warmup(span: Span, shape: Schedule) -> Schedule:
    def factor(n: int) -> float:
        assert n >= 1, n
        if n < span.warmup_steps:
            return n / span.warmup_steps
        return shape(min(n, span.total_steps))

    return factor


def constant(span: Span) -> Schedule:
    """1."""
    return _with_warmup(span, lambda _: 1.0)


def linear(span: Span, *, min_lr_ratio: float) -> Schedule:
    """1 - (1 - min) * progress."""
    return _with_warmup(span, lambda n: 1.0 - (1.0 - min_lr_ratio) * span.progress(n))


def cosine(span: Span, *, min_lr_ratio: float) -> Schedule:
    """min + (1 - min) * (1 + cos(pi * progress)) / 2 (Loshchilov and Hutter, SGDR, 2016)."""
    return _with_warmup(
        span, lambda n: min_lr_ratio + (1.0 - min_lr_ratio) * 0.5 * (1.0 + math.cos(math.pi * span.progress(n)))
    )


def step(span: Span, *, step_size: int, gamma: float) -> Schedule:
    """gamma ** floor(finished epochs / step_size)."""
    return _with_warmup(span, lambda n: gamma ** ((n - 1) // (step_size * span.steps_per_epoch)))


def exponential(span: Span, *, decay_steps: int, decay_rate: float, staircase: bool) -> Schedule:
    """decay_rate ** ((n - warmup) / decay_steps), the exponent rounded down with staircase."""

    def shape(n: int) -> float:
        exponent = (n - span.warmup_steps) / decay_steps
        return float(decay_rate ** (math.floor(exponent) if staircase else exponent))

    return _with_warmup(span, shape)


def piecewise(span: Span, *, boundaries: Sequence[int], factors: Sequence[float]) -> Schedule:
    """factors[i] where i boundaries lie before update n."""
    assert len(factors) == len(boundaries) + 1, (boundaries, factors)
    return _with_warmup(span, lambda n: factors[bisect_left(boundaries, n)])


def inverse_sqrt(span: Span) -> Schedule:
    """sqrt(max(warmup, 1) / n) (Vaswani et al., 2017)."""
    return _with_warmup(span, lambda n: math.sqrt(max(span.warmup_steps, 1) / n))


def one_cycle(span: Span, *, rise_ratio: float, start_ratio: float, end_ratio: float) -> Schedule:
    """Half a cosine from start_ratio to 1 in rise_ratio of the updates, then one to end_ratio (Smith, 2018)."""
    rise = max(1.0, rise_ratio * span.total_steps)

    def shape(n: int) -> float:
        if n <= rise:
            low, progress = start_ratio, 1.0 - (n - 1) / max(rise - 1, 1)
        else:
            low, progress = end_ratio, (n - rise) / max(span.total_steps - rise, 1)
        return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))

    return _with_warmup(span, shape)


def wsd(span: Span, *, min_lr_ratio: float, decay_ratio: float) -> Schedule:
    """1, then a straight line to min in the last decay_ratio of all updates (Hu et al., MiniCPM, 2024)."""
    decay_steps = max(1.0, decay_ratio * span.total_steps)

    def shape(n: int) -> float:
        into = min(1.0, max(0.0, (n - (span.total_steps - decay_steps)) / decay_steps))
        return 1.0 - (1.0 - min_lr_ratio) * into

    return _with_warmup(span, shape)

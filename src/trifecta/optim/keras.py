"""Keras' learning-rate schedules: update n has the value that Keras' object has at step s = n - 1.

Nothing but their own numbers moves them: they don't know how long the run is, and have no warm-up unless one is asked
for. With `training.warmup_steps` w the decays begin at the peak, at update w: s = n - max(w, 1).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from trifecta.optim.schedules import Schedule, Span


def _after_warmup(span: Span, shape: Schedule) -> Schedule:
    def factor(n: int) -> float:
        assert n >= 1, n
        return n / span.warmup_steps if n < span.warmup_steps else shape(n - max(span.warmup_steps, 1))

    return factor


def exponential_decay(span: Span, *, decay_steps: int, decay_rate: float, staircase: bool) -> Schedule:
    """decay_rate ** (s / decay_steps), the exponent rounded down with staircase."""

    def shape(s: int) -> float:
        return float(decay_rate ** (s // decay_steps if staircase else s / decay_steps))

    return _after_warmup(span, shape)


def cosine_decay(span: Span, *, decay_steps: int, alpha: float, warmup_steps: int, start_ratio: float) -> Schedule:
    """A line from start_ratio to 1 in warmup_steps, then alpha + (1 - alpha) * (1 + cos(pi * d / decay_steps)) / 2.

    d: steps since the line's end, at most decay_steps.
    """
    del span

    def factor(n: int) -> float:
        assert n >= 1, n
        s = n - 1
        if s < warmup_steps:
            return start_ratio + (1.0 - start_ratio) * s / warmup_steps
        done = min(s - warmup_steps, decay_steps) / decay_steps
        return alpha + (1.0 - alpha) * 0.5 * (1.0 + math.cos(math.pi * done))

    return factor


def piecewise_constant_decay(span: Span, *, boundaries: Sequence[int], factors: Sequence[float]) -> Schedule:
    """factors[i] where i boundaries are less than s."""
    assert len(factors) == len(boundaries) + 1, (boundaries, factors)
    return _after_warmup(span, lambda s: factors[bisect_left(boundaries, s)])

"""The effect of a change, from runs in pairs: its mean, and an interval that holds the true one 95 times in 100."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Effect:
    """Mean of the paired differences and their interval. pairs: how many of them there were."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def seen(self) -> bool:
        """Whether 0 lies outside the interval."""
        return not self.low <= 0 <= self.high


def paired(changed: Sequence[float], baseline: Sequence[float], confidence: float = 0.95) -> Effect:
    """The mean of changed[i] - baseline[i], plus or minus t * standard deviation / sqrt(pairs) (Student, 1908).

    Both of a pair have the same seed, so what the seed does to both of them falls out.
    """
    assert len(changed) == len(baseline) >= 2, "an interval needs two pairs"
    differences = [one - other for one, other in zip(changed, baseline, strict=True)]
    mean = fmean(differences)
    margin = student_t(confidence, len(differences) - 1) * stdev(differences) / math.sqrt(len(differences))
    return Effect(mean, mean - margin, mean + margin, len(differences))


def student_t(confidence: float, freedom: int) -> float:
    """How many standard errors lie on each side of the mean, by halving: the share within t grows with t."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """P(|T| < t) of Student's distribution, the finite sums of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for step in range(freedom // 2):
        total += term
        term *= cosine**2 * (2 * step + 1 + odd) / (2 * step + 2 + odd)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total

"""Figures made of sums and counts."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from trifecta.types import LossSum


def perplexity(loss: float) -> float:
    """exp(loss) for a loss in nats per token; infinite where that overflows."""
    return math.exp(loss) if loss < 709 else math.inf


def bits_per_byte(total_nats: float, text_bytes: int) -> float:
    """total / (ln 2 * bytes): the same for every tokenizer."""
    return total_nats / (math.log(2) * text_bytes) if text_bytes else math.nan


def _plain(number: Any) -> Any:
    """Without its gradient, which a metric of the user's own may have, and which would keep a whole graph."""
    return number.detach() if hasattr(number, "detach") else number


class Means:
    """What objectives counted (guesses that were right, say), added up over batches and divided once."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = defaultdict(float)
        self._counts: dict[str, Any] = defaultdict(float)

    def add(self, result: LossSum) -> None:
        """One batch's sums and counts. Tensors stay tensors until `means`, so that no step waits for a GPU."""
        for name, (total, count) in result.metrics.items():
            self._sums[name] = self._sums[name] + _plain(total)
            self._counts[name] = self._counts[name] + _plain(count)

    def means(self) -> dict[str, float]:
        """sum / count by name; what was never counted is left out."""
        counts = {name: float(count) for name, count in self._counts.items()}
        return {name: float(self._sums[name]) / count for name, count in counts.items() if count}

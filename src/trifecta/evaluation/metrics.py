"""Figures made of sums and counts."""

from __future__ import annotations

import math


def perplexity(loss: float) -> float:
    """exp(loss) for a loss in nats per token; infinite where that overflows."""
    return math.exp(loss) if loss < 709 else math.inf


def bits_per_byte(total_nats: float, text_bytes: int) -> float:
    """total / (ln 2 * bytes): the same for every tokenizer."""
    return total_nats / (math.log(2) * text_bytes) if text_bytes else math.nan

"""What the rows of a run's batches look like where samples differ in length."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trifecta.types import IGNORE, Batch

_BATCHES, _SAMPLES = 8, 1024


def enough(batch_size: int) -> int:
    """How many micro-batches to look at: with 1,024 samples a mean length is known to a few per cent."""
    return max(_BATCHES, -(-_SAMPLES // batch_size))


@dataclass(frozen=True)
class Rows:
    """The largest of some micro-batches, and how the others compare with it.

    rows, length, decoder_length: of the largest; decoder_length is None where nothing is written. scored: how many of
    its positions have a token to predict; 0 where a task has a head of its own. positions: of a micro-batch on average.
    tokens: of a sample on average, without padding. padding: share of all positions. batches: how many were looked at.
    """

    rows: int
    length: int
    decoder_length: int | None
    scored: int
    positions: float
    tokens: float
    padding: float
    batches: int

    @property
    def typical(self) -> float:
        """Positions of a micro-batch on average over those of the largest."""
        return self.positions / (self.rows * (self.length + (self.decoder_length or 0)))


def measure_rows(batches: Iterable[Batch]) -> Rows:
    """Looks at micro-batches, one at least."""
    seen = list(batches)
    largest = max(seen, key=lambda batch: batch.positions)
    rows, length = largest.inputs["tokens_BT"].shape
    written = largest.inputs.get("decoder_tokens_BU")
    positions, tokens = sum(batch.positions for batch in seen), sum(batch.tokens for batch in seen)
    return Rows(
        rows=rows,
        length=length,
        decoder_length=None if written is None else written.shape[1],
        scored=sum(int((found != IGNORE).sum()) for name, found in largest.targets.items() if name in _SCORED),
        positions=positions / len(seen),
        tokens=tokens / sum(batch.samples for batch in seen),
        padding=1 - tokens / positions,
        batches=len(seen),
    )


_SCORED = ("targets_BT", "targets_BU")
"""Targets that are tokens; others are classes, places and the like."""

"""Next-token prediction without a tokenizer or a recipe: for sequences of ids that the user has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from trifecta.objectives.causal import TERM, next_token_loss
from trifecta.objectives.loss import NO_PENALTIES, Penalties
from trifecta.types import IGNORE, Batch, LossSum


def collate_next_token(sequences: Sequence[Any]) -> Batch:
    """tokens_BT: all ids but the last; targets_BT: all but the first; short sequences are filled up at the right.

    Args:
        sequences: ids of one sample each, int64 of any length of 2 or more.
    """
    rows = [torch.as_tensor(sequence, dtype=torch.int64) for sequence in sequences]
    length = max(len(row) for row in rows) - 1
    tokens_BT = torch.zeros((len(rows), length), dtype=torch.int64)
    targets_BT = torch.full((len(rows), length), IGNORE)
    for number, row in enumerate(rows):
        tokens_BT[number, : len(row) - 1] = row[:-1]
        targets_BT[number, : len(row) - 1] = row[1:]
    supervised = sum(len(row) - 1 for row in rows)
    return Batch(
        {"tokens_BT": tokens_BT}, {"targets_BT": targets_BT}, {TERM: float(supervised)},
        samples=len(rows), tokens=supervised,
    )  # fmt: skip


class NextToken(nn.Module):
    """A GPT of `trifecta.build` with the loss of its next tokens, as `Loop` wants it."""

    def __init__(self, model: Any, penalties: Penalties = NO_PENALTIES):
        super().__init__()
        self.model, self.penalties = model, penalties

    def forward(self, batch: Batch) -> LossSum:
        """Sum of next-token cross-entropies in nats, and their count."""
        return next_token_loss(self.model, batch, self.penalties if self.training else NO_PENALTIES)

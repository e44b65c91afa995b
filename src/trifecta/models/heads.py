"""A model that says something about a text instead of predicting tokens: a body and one linear head."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from trifecta.nn.dropout import Dropout
from trifecta.types import Output


class Headed(nn.Module):
    """A body without its token head, and scores for classes, tags or places.

    Args:
        body: a Bert, a Gpt or a Vit; its own head is taken away.
        outputs: scores at a position. dropout: before the head. std: of the head's first weights.
    """

    def __init__(self, body: Any, outputs: int, *, dropout: float = 0.1, std: float = 0.02):
        super().__init__()
        body.drop_head()
        self.body = body
        self.vocab_size, self.d_model = body.vocab_size, body.d_model
        self.head_dropout = Dropout(dropout)
        self.head = nn.Linear(body.d_model, outputs)
        nn.init.normal_(self.head.weight, 0.0, std)
        nn.init.zeros_(self.head.bias)

    @property
    def blocks(self) -> Any:
        """The body's blocks."""
        return self.body.blocks

    @property
    def head_weight(self) -> nn.Parameter:
        """The head's matrix, (C, D)."""
        return cast(nn.Parameter, self.head.weight)

    def hidden(self, *inputs: Tensor, **named: Tensor) -> Output:
        """The body's last hidden state."""
        output: Output = self.body.hidden(*inputs, **named)
        return output

    def pooled(self, first_ND: Tensor) -> Tensor:
        """The body's pooler over first positions, where it has one; a ViT's takes its hidden states, (B, T, D)."""
        pooler = getattr(self.body, "pooled", None)
        return first_ND if pooler is None else pooler(first_ND)

    def scores(self, hidden_ND: Tensor) -> Tensor:
        """Scores (..., C) of hidden states, in fp32 (fp64 for a model in fp64)."""
        scores: Tensor = self.head(self.head_dropout(hidden_ND))
        return scores.to(torch.promote_types(scores.dtype, torch.float32))


class Paired(nn.Module):
    """A Bert with its token head, and two scores for whether a second text belongs to the first."""

    def __init__(self, body: Any, *, std: float = 0.02):
        super().__init__()
        self.body = body
        self.vocab_size, self.d_model, self.segment_types = body.vocab_size, body.d_model, body.segment_types
        self.pair_head = nn.Linear(body.d_model, 2)
        nn.init.normal_(self.pair_head.weight, 0.0, std)
        nn.init.zeros_(self.pair_head.bias)

    @property
    def blocks(self) -> Any:
        """The body's blocks."""
        return self.body.blocks

    @property
    def head_weight(self) -> nn.Parameter:
        """The token head's matrix, (V, D)."""
        return cast(nn.Parameter, self.body.head_weight)

    def head_parameters(self) -> list[nn.Parameter]:
        """Every parameter that `logits` uses."""
        return cast(list[nn.Parameter], self.body.head_parameters())

    def hidden(self, tokens_BT: Tensor, **inputs: Tensor) -> Output:
        """The body's last hidden state."""
        output: Output = self.body.hidden(tokens_BT, **inputs)
        return output

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of each token of the vocabulary."""
        return cast(Tensor, self.body.logits(hidden))

    def pair_scores(self, first_ND: Tensor) -> Tensor:
        """Scores of apart and together, (N, 2), from hidden states of first positions."""
        scores: Tensor = self.pair_head(self.body.pooled(first_ND))
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

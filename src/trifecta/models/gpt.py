"""GPT: a decoder that predicts the next token (Radford et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from trifecta.models.stack import Shape, Stack, rate
from trifecta.nn.attention import LayerCache
from trifecta.nn.dropout import Dropout
from trifecta.nn.embedding import Embedding
from trifecta.nn.init import initialise
from trifecta.types import Output


class Gpt(Stack):
    """Embedding, blocks, norm, head. Every argument is a key of `recipe.components.Gpt`.

    Raises:
        RecipeError: sizes that don't fit each other.
    """

    embedding: Embedding

    def __init__(
        self,
        vocab_size: int,
        *,
        d_model: int = 512,
        num_heads: int = 8,
        num_kv_heads: int | None = None,
        num_layers: int = 6,
        d_ff: int = 2048,
        dropout: float = 0.1,
        attention_dropout: float | None = None,
        feedforward_dropout: float | None = None,
        embedding_dropout: float | None = None,
        drop_path: float = 0.0,
        output_dropout: float = 0.0,
        position: str = "rope",
        rope_theta: float = 10000.0,
        max_sequence_length: int | None = None,
        norm: str = "layernorm",
        norm_position: str = "pre",
        norm_epsilon: float = 1e-5,
        activation: str = "gelu",
        qk_norm: bool = False,
        tie_embeddings: bool = True,
        bias: bool = True,
        logit_soft_cap: float | None = None,
        attention: str = "fused",
        init: str = "normal",
        init_std: float = 0.02,
    ):
        shape = Shape(
            d_model, num_heads, num_kv_heads or num_heads, num_layers, d_ff, rate(dropout, attention_dropout),
            rate(dropout, feedforward_dropout), position, rope_theta, norm, norm_position, norm_epsilon, activation,
            qk_norm, bias, explicit=attention == "explicit", drop_path=drop_path,
        )  # fmt: skip
        embedding = Embedding(
            vocab_size, d_model, position=position, max_sequence_length=max_sequence_length,
            dropout=rate(dropout, embedding_dropout),
        )  # fmt: skip
        super().__init__(shape, embedding=embedding, causal=True)
        self.vocab_size, self.d_model = vocab_size, d_model
        self.max_sequence_length, self.logit_soft_cap = max_sequence_length, logit_soft_cap
        self.output_dropout = Dropout(output_dropout)
        self.head = None if tie_embeddings else nn.Linear(d_model, vocab_size, bias=False)
        initialise(self, init, std=init_std, num_layers=num_layers)

    def hidden(
        self,
        tokens_BT: Tensor,
        cache: Sequence[LayerCache] | None = None,
        segments_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
    ) -> Output:
        """The last hidden state.

        Args:
            cache: one entry a layer; the tokens continue what it holds, and are added to it.
            segments_BT, positions_BT: the document of each position in its row (0 is padding), and its place there.
        """
        x_BTD = self.embedding(tokens_BT, cache[0].length if cache is not None else 0, positions_BT)
        return Output(self.output_dropout(self.run(x_BTD, segments_BT=segments_BT, cache=cache)))

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of each token of the vocabulary, (..., V), in fp32 (fp64 for a model in fp64)."""
        scores = nn.functional.linear(hidden, self.head_weight)
        return soft_capped(scores.to(torch.promote_types(scores.dtype, torch.float32)), self.logit_soft_cap)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits of every position, (B, T, V)."""
        return self.logits(self.hidden(tokens_BT).hidden_BTD)

    def drop_head(self) -> None:
        """Takes an untied head away."""
        self.head = None

    @property
    def head_weight(self) -> nn.Parameter:
        """The head's matrix, (V, D): the token embedding itself when tied."""
        return cast(nn.Parameter, self.embedding.token.weight if self.head is None else self.head.weight)

    def head_parameters(self) -> list[nn.Parameter]:
        """Every parameter that `logits` uses; a loss computed in chunks collects their gradients itself."""
        return [self.head_weight]


def soft_capped(scores: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(scores / cap), which stays between -cap and cap (Gemma 2, 2024); None: the scores."""
    return scores if cap is None else cap * torch.tanh(scores / cap)

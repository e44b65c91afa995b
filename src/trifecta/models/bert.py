"""BERT: an encoder that sees both sides (Devlin et al., 2018), classic or with today's parts (Warner et al., 2024)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from trifecta.models.stack import Shape, Stack, rate
from trifecta.nn.embedding import Embedding
from trifecta.nn.feedforward import ACTIVATIONS
from trifecta.nn.init import initialise
from trifecta.types import Output


class Bert(Stack):
    """Embedding with a norm, blocks without a causal mask, and a head for masked tokens. Arguments: `components.Bert`.

    The head is act(dense(x)), norm, then the token embedding and a bias for each token. In pre-norm models the first
    block has no attention norm of its own: the embedding's norm stands there (as in ModernBERT).

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
        d_ff: int = 1376,
        dropout: float = 0.1,
        attention_dropout: float | None = None,
        feedforward_dropout: float | None = None,
        embedding_dropout: float | None = None,
        drop_path: float = 0.0,
        position: str = "rope",
        rope_theta: float = 10000.0,
        max_sequence_length: int | None = None,
        segment_types: int = 0,
        pooler: bool = False,
        norm: str = "layernorm",
        norm_position: str = "pre",
        norm_epsilon: float = 1e-5,
        activation: str = "geglu",
        head_activation: str = "gelu",
        qk_norm: bool = False,
        tie_embeddings: bool = True,
        bias: bool = False,
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
            dropout=rate(dropout, embedding_dropout), segment_types=segment_types, norm=shape.make_norm(d_model),
        )  # fmt: skip
        super().__init__(shape, embedding=embedding, causal=False)
        if norm_position == "pre":
            self.blocks[0].attention_norm = nn.Identity()
        self.vocab_size, self.d_model, self.max_sequence_length = vocab_size, d_model, max_sequence_length
        self.segment_types = segment_types
        self.pooler = nn.Linear(d_model, d_model) if pooler else None
        self.head_dense = nn.Linear(d_model, d_model, bias=bias)
        self.head_activation, _ = ACTIVATIONS[head_activation]
        self.head_norm = shape.make_norm(d_model)
        self.head = None if tie_embeddings else nn.Linear(d_model, vocab_size, bias=False)
        self.head_bias = nn.Parameter(torch.zeros(vocab_size))
        initialise(self, init, std=init_std, num_layers=num_layers)

    def hidden(
        self,
        tokens_BT: Tensor,
        segments_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        types_BT: Tensor | None = None,
    ) -> Output:
        """The last hidden state.

        Args:
            segments_BT, positions_BT: the document of each position in its row (0 is padding), and its place there.
            types_BT: first or second text of a pair, for models with segment_types.
        """
        x_BTD = self.embedding(tokens_BT, 0, positions_BT, types_BT)
        return Output(self.run(x_BTD, segments_BT=segments_BT))

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of each token of the vocabulary, (..., V), in fp32 (fp64 for a model in fp64)."""
        inner = self.head_norm(self.head_activation(self.head_dense(hidden)))
        scores = nn.functional.linear(inner, self.head_weight, self.head_bias)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def drop_head(self) -> None:
        """Takes the head for masked tokens away."""
        del self.head_dense, self.head_norm, self.head_bias
        self.head = None

    def pooled(self, first_ND: Tensor) -> Tensor:
        """tanh(dense(x)) of first positions, where the model has a pooler; else x."""
        return first_ND if self.pooler is None else torch.tanh(self.pooler(first_ND))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits of every position, (B, T, V)."""
        return self.logits(self.hidden(tokens_BT).hidden_BTD)

    @property
    def head_weight(self) -> nn.Parameter:
        """The head's matrix, (V, D): the token embedding itself when tied."""
        return cast(nn.Parameter, self.embedding.token.weight if self.head is None else self.head.weight)

    def head_parameters(self) -> list[nn.Parameter]:
        """Every parameter that `logits` uses; a loss computed in chunks collects their gradients itself."""
        return [self.head_weight, self.head_bias, *self.head_dense.parameters(), *self.head_norm.parameters()]

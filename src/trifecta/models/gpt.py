"""GPT: a decoder that predicts the next token (Radford et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from trifecta.errors import RecipeError
from trifecta.nn.attention import Attention, LayerCache
from trifecta.nn.block import Block
from trifecta.nn.dropout import Dropout
from trifecta.nn.embedding import Embedding
from trifecta.nn.feedforward import FeedForward
from trifecta.nn.init import initialise
from trifecta.nn.norm import make_norm
from trifecta.nn.position import alibi_bias, rotary_table
from trifecta.types import Output


class Gpt(nn.Module):
    """Embedding, blocks, norm, head. Every argument is a key of `recipe.components.Gpt`.

    Raises:
        RecipeError: sizes that don't fit each other.
    """

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
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        _check_heads(d_model, num_heads, num_kv_heads, position)
        self.vocab_size, self.d_model, self.num_heads = vocab_size, d_model, num_heads
        self.max_sequence_length, self.logit_soft_cap = max_sequence_length, logit_soft_cap
        norm_of = partial(make_norm, norm, epsilon=norm_epsilon)

        def rate(own: float | None) -> float:
            return dropout if own is None else own

        def block() -> Block:
            return Block(
                Attention(
                    d_model,
                    num_heads=num_heads,
                    num_kv_heads=num_kv_heads,
                    bias=bias,
                    dropout=rate(attention_dropout),
                    make_head_norm=norm_of if qk_norm else None,
                    explicit=attention == "explicit",
                ),
                FeedForward(d_model, d_ff, activation=activation, bias=bias, dropout=rate(feedforward_dropout)),
                partial(norm_of, d_model),
                pre=norm_position == "pre",
            )

        self.embedding = Embedding(
            vocab_size,
            d_model,
            position=position,
            max_sequence_length=max_sequence_length,
            dropout=rate(embedding_dropout),
        )
        self.rotary = rotary_table(d_model // num_heads, rope_theta) if position == "rope" else None
        self.alibi = position == "alibi"
        self.blocks = nn.ModuleList(block() for _ in range(num_layers))
        self.norm = norm_of(d_model) if norm_position == "pre" else nn.Identity()  # post-norm blocks end in a norm
        self.output_dropout = Dropout(output_dropout)
        self.head = None if tie_embeddings else nn.Linear(d_model, vocab_size, bias=False)
        initialise(self, init, std=init_std, num_layers=num_layers)

    def hidden(self, tokens_BT: Tensor, cache: Sequence[LayerCache] | None = None) -> Output:
        """The last hidden state. cache: one entry a layer; the tokens continue what it holds, and are added to it."""
        T = tokens_BT.shape[1]
        start = cache[0].length if cache is not None else 0
        x_BTD = self.embedding(tokens_BT, start)
        rotation = self.rotary(start, start + T) if self.rotary is not None else None
        bias = alibi_bias(self.num_heads, T, start + T, x_BTD) if self.alibi else None
        for layer, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, rotation=rotation, bias=bias, cache=cache[layer] if cache is not None else None)
        return Output(self.output_dropout(self.norm(x_BTD)))

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of each token of the vocabulary, (..., V), in fp32 (fp64 for a model in fp64)."""
        scores = nn.functional.linear(hidden, self.head_weight)
        return soft_capped(scores.to(torch.promote_types(scores.dtype, torch.float32)), self.logit_soft_cap)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits of every position, (B, T, V)."""
        return self.logits(self.hidden(tokens_BT).hidden_BTD)

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


def _check_heads(d_model: int, num_heads: int, num_kv_heads: int, position: str) -> None:
    if d_model % num_heads:
        raise RecipeError(
            f"model.num_heads {num_heads} doesn't divide model.d_model {d_model}",
            fix=f"make model.d_model a multiple of {num_heads}, or choose another model.num_heads",
        )
    if num_heads % num_kv_heads:
        raise RecipeError(
            f"model.num_kv_heads {num_kv_heads} doesn't divide model.num_heads {num_heads}",
            fix=f"choose a model.num_kv_heads that divides {num_heads}",
        )
    if position == "rope" and d_model // num_heads % 2:
        raise RecipeError(
            f"rotary positions turn pairs, but the head width {d_model // num_heads} "
            f"(model.d_model {d_model} / model.num_heads {num_heads}) is odd",
            fix="make the head width even, or choose another model.position",
        )

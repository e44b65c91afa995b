"""T5: an encoder, and a decoder that reads it (Raffel et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from trifecta.models.stack import Shape, Stack, rate
from trifecta.nn.attention import KeysValues
from trifecta.nn.cache import LayerCache, new_cache
from trifecta.nn.dropout import Dropout
from trifecta.nn.embedding import Embedding
from trifecta.nn.init import initialise
from trifecta.nn.position import packed_bias
from trifecta.types import Output


@dataclass
class T5State:
    """What writing needs of the text so far, for R rows: each layer's own keys and values, and the encoder's.

    own: one growing cache a layer. read: the encoder's keys and values a layer, computed once. read_bias: (R, 1, 1, S).
    text_R: which text each row reads.
    """

    own: list[LayerCache]
    read: list[KeysValues]
    read_bias: Tensor | None
    text_R: Tensor

    def reorder(self, rows: Tensor) -> None:
        """Keeps these rows, in this order; a row may come several times."""
        for cache in self.own:
            cache.reorder(rows)
        before, self.text_R = self.text_R, self.text_R[rows]
        if torch.equal(before, self.text_R):
            return  # beams of one text changed places: what they read is the same
        self.read = [(keys[rows], values[rows]) for keys, values in self.read]
        if self.read_bias is not None:
            self.read_bias = self.read_bias[rows]


class T5(nn.Module):
    """Shared embedding, encoder, decoder, head. Every argument is a key of `recipe.components.T5`.

    Scores aren't divided by sqrt(head width); the first weights make up for it. With a tied head (v1.0) the hidden
    state is multiplied by 1 / sqrt(d_model) before it.

    Raises:
        RecipeError: sizes that don't fit each other.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        d_model: int = 512,
        num_heads: int = 8,
        head_width: int | None = None,
        num_layers: int = 6,
        num_decoder_layers: int | None = None,
        d_ff: int = 1024,
        dropout: float = 0.1,
        attention_dropout: float | None = None,
        feedforward_dropout: float | None = None,
        embedding_dropout: float | None = None,
        output_dropout: float | None = None,
        relative_buckets: int = 32,
        relative_max_distance: int = 128,
        norm_epsilon: float = 1e-6,
        activation: str = "geglu_tanh",
        tie_embeddings: bool = True,
        attention: str = "fused",
        init: str = "t5",
        init_std: float = 1.0,
    ):
        super().__init__()
        decoder_layers = num_layers if num_decoder_layers is None else num_decoder_layers

        def shape(layers: int) -> Shape:
            return Shape(
                d_model, num_heads, num_heads, layers, d_ff, rate(dropout, attention_dropout),
                rate(dropout, feedforward_dropout), "relative", 10000.0, "rmsnorm", "pre", norm_epsilon, activation,
                qk_norm=False, bias=False, explicit=attention == "explicit", head_width=head_width,
                attention_scale=1.0, relative_buckets=relative_buckets, relative_max_distance=relative_max_distance,
            )  # fmt: skip

        self.vocab_size, self.d_model, self.max_sequence_length = vocab_size, d_model, None
        self.embedding = Embedding(
            vocab_size, d_model, position="relative", max_sequence_length=None,
            dropout=rate(dropout, embedding_dropout),
        )  # fmt: skip
        self.encoder = Stack(shape(num_layers), embedding=None, causal=False)
        self.decoder = Stack(shape(decoder_layers), embedding=None, causal=True, cross=True)
        self.output_dropout = Dropout(rate(dropout, output_dropout))
        self.head = None if tie_embeddings else nn.Linear(d_model, vocab_size, bias=False)
        initialise(self, init, std=init_std, num_layers=num_layers + decoder_layers)

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks of both stacks."""
        return [*self.encoder.blocks, *self.decoder.blocks]

    def encode(self, tokens_BT: Tensor, segments_BT: Tensor | None = None) -> Tensor:
        """The encoder's last hidden state, (B, T, D). segments_BT: as in `hidden`."""
        encoded: Tensor = self.output_dropout(self.encoder.run(self.embedding(tokens_BT), segments_BT=segments_BT))
        return encoded

    def hidden(
        self,
        tokens_BT: Tensor,
        decoder_tokens_BU: Tensor,
        segments_BT: Tensor | None = None,
        decoder_segments_BU: Tensor | None = None,
    ) -> Output:
        """The decoder's last hidden state, (B, U, D).

        Args:
            tokens_BT: what the encoder reads. decoder_tokens_BU: what was written, the start token first.
            segments_BT, decoder_segments_BU: the document of each position in its row; 0 is padding. A written
                document reads the document of the same number.
        """
        memory_BTD = self.encode(tokens_BT, segments_BT)
        bias = None
        if segments_BT is not None:
            assert decoder_segments_BU is not None
            bias = packed_bias(decoder_segments_BU, segments_BT, memory_BTD, causal=False)
        x_BUD = self.decoder.run(
            self.embedding(decoder_tokens_BU), segments_BT=decoder_segments_BU, read=self._read(memory_BTD),
            read_bias=bias,
        )  # fmt: skip
        return Output(self.output_dropout(x_BUD))

    def _read(self, memory_BTD: Tensor) -> list[KeysValues]:
        return [block.cross.read_from(memory_BTD) for block in self.decoder.blocks]  # type: ignore[union-attr, operator]

    def start(self, memory_BTD: Tensor, memory_segments_BT: Tensor | None = None) -> T5State:
        """The state before the first token is written. memory_segments_BT: 1 for text, 0 for padding."""
        bias = None
        if memory_segments_BT is not None:
            own = memory_segments_BT.new_ones(len(memory_segments_BT), 1)
            bias = packed_bias(own, memory_segments_BT, memory_BTD, causal=False)
        return T5State(
            new_cache(len(self.decoder.blocks)),
            self._read(memory_BTD),
            bias,
            torch.arange(len(memory_BTD), device=memory_BTD.device),
        )

    def next_logits(self, state: T5State, ids_R: Tensor) -> Tensor:
        """Scores (R, V) after one more token a row, which is added to the state."""
        x_R1D = self.decoder.run(
            self.embedding(ids_R[:, None]), cache=state.own, read=state.read, read_bias=state.read_bias
        )
        return self.logits(self.output_dropout(x_R1D)[:, 0])

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of each token of the vocabulary, (..., V), in fp32 (fp64 for a model in fp64)."""
        if self.head is None:
            hidden = hidden * self.d_model**-0.5
        scores = nn.functional.linear(hidden, self.head_weight)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def forward(self, tokens_BT: Tensor, decoder_tokens_BU: Tensor) -> Tensor:
        """Logits of every written position, (B, U, V)."""
        return self.logits(self.hidden(tokens_BT, decoder_tokens_BU).hidden_BTD)

    @property
    def head_weight(self) -> nn.Parameter:
        """The head's matrix, (V, D): the token embedding itself when tied."""
        return cast(nn.Parameter, self.embedding.token.weight if self.head is None else self.head.weight)

    def head_parameters(self) -> list[nn.Parameter]:
        """Every parameter that `logits` uses; a loss computed in chunks collects their gradients itself."""
        return [self.head_weight]

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
from trifecta.nn.position import MASKED, RelativeBias, packed_bias
from trifecta.types import Output

_PRUNE_EVERY = 16
"""Tokens after which the past that no beam continues any more is dropped."""


@dataclass
class T5State:
    """What writing needs of the texts so far: G beams for each of B inputs, in R = B * G rows.

    Nothing is copied when beams change places: what an input's beams have written is a tree in one cache, and each beam
    sees those positions that are its own past.

    own: one cache a layer, (B, H, S, K). read: the encoder's keys and values a layer, computed once, (B, H, T, K).
    read_bias: (B, 1, 1, T). past_BGS: added to scores: 0 for a beam's own past, MASKED for the rest. times_BS: which
    token of its text each position is. tokens: read so far.
    """

    own: list[LayerCache]
    read: list[KeysValues]
    read_bias: Tensor | None
    past_BGS: Tensor
    times_BS: Tensor
    tokens: int = 0

    @property
    def num_beams(self) -> int:
        """G."""
        return self.past_BGS.shape[1]

    def follow(self, parents_R: Tensor) -> None:
        """Each row continues what that row of the same input has written."""
        self.past_BGS = self.past_BGS.flatten(0, 1)[parents_R].view_as(self.past_BGS)
        if self.num_beams > 1 and self.tokens % _PRUNE_EVERY == 0:
            self._prune()

    def keep(self, inputs: Tensor) -> None:
        """Keeps these inputs with their beams, in this order."""
        for cache in self.own:
            cache.reorder(inputs)
        self.read = [(keys[inputs], values[inputs]) for keys, values in self.read]
        self.read_bias = None if self.read_bias is None else self.read_bias[inputs]
        self.past_BGS, self.times_BS = self.past_BGS[inputs], self.times_BS[inputs]

    def grow(self, relative: RelativeBias) -> Tensor:
        """Room for one more token a row, which its own row alone sees.

        Returns:
            what is then added to the scores of the self-attention, (B, H, G, S).
        """
        B, G, _ = self.past_BGS.shape
        newest_GG = torch.full((G, G), MASKED).fill_diagonal_(0).to(self.past_BGS)
        self.past_BGS = torch.cat((self.past_BGS, newest_GG.expand(B, G, G)), -1)
        self.times_BS = torch.cat((self.times_BS, self.times_BS.new_full((B, G), self.tokens)), -1)
        self.tokens += 1
        distances_HU: Tensor = relative(1, self.tokens)[:, 0].to(self.past_BGS.dtype)
        return distances_HU[:, self.times_BS].transpose(0, 1)[:, :, None] + self.past_BGS[:, None]

    def _prune(self) -> None:
        """Drops positions that are no beam's past; an input with more of them keeps some, still unseen."""
        used_BS = (self.past_BGS == 0).any(1)
        count = int(used_BS.sum(1).max())
        kept_BS = used_BS.int().argsort(dim=1, descending=True, stable=True)[:, :count]
        for cache in self.own:
            cache.select(kept_BS)
        self.past_BGS = self.past_BGS.gather(2, kept_BS[:, None].expand(-1, self.num_beams, -1))
        self.times_BS = self.times_BS.gather(1, kept_BS)


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
        drop_path: float = 0.0,
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
                drop_path=drop_path,
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

    def start(self, memory_BTD: Tensor, memory_segments_BT: Tensor | None = None, num_beams: int = 1) -> T5State:
        """The state before the first token is written. memory_segments_BT: 1 for text, 0 for padding."""
        bias = None
        if memory_segments_BT is not None:
            own = memory_segments_BT.new_ones(len(memory_segments_BT), 1)
            bias = packed_bias(own, memory_segments_BT, memory_BTD, causal=False)
        past_BGS = memory_BTD.new_zeros(len(memory_BTD), num_beams, 0)
        times_BS = past_BGS[:, 0].long()
        return T5State(new_cache(len(self.decoder.blocks)), self._read(memory_BTD), bias, past_BGS, times_BS)

    def next_logits(self, state: T5State, ids_R: Tensor) -> Tensor:
        """Scores (R, V) after one more token a row, which is added to the state."""
        assert self.decoder.relative is not None
        bias = state.grow(self.decoder.relative)
        x_BGD = self.decoder.run(
            self.embedding(ids_R.view(-1, state.num_beams)), cache=state.own, read=state.read,
            read_bias=state.read_bias, bias=bias,
        )  # fmt: skip
        return self.logits(self.output_dropout(x_BGD).flatten(0, 1))

    @property
    def logit_scale(self) -> float:
        """What the last hidden state is multiplied by before a tied head."""
        return self.d_model**-0.5 if self.head is None else 1.0

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of each token of the vocabulary, (..., V), in fp32 (fp64 for a model in fp64)."""
        if self.head is None:
            hidden = hidden * self.logit_scale
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

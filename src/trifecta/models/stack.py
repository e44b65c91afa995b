"""The stack of blocks that every architecture is made of: encoder and decoder are the same, less a causal mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from trifecta.errors import RecipeError
from trifecta.nn.attention import Attention, KeysValues, LayerCache
from trifecta.nn.block import Block
from trifecta.nn.feedforward import FeedForward
from trifecta.nn.norm import make_norm
from trifecta.nn.position import RelativeBias, alibi_bias, causal_bias, packed_bias, rotary_table


@dataclass(frozen=True)
class Shape:
    """What the blocks of a stack are like; the names are those of the recipe's keys.

    head_width: None for d_model / num_heads. attention_scale: of the scores, None for 1 / sqrt(head width).
    relative_buckets, relative_max_distance: of position `relative`. drop_path: of the last block; block i of L has
    i / L of it.
    """

    d_model: int
    num_heads: int
    num_kv_heads: int
    num_layers: int
    d_ff: int
    attention_dropout: float
    feedforward_dropout: float
    position: str
    rope_theta: float
    norm: str
    norm_position: str
    norm_epsilon: float
    activation: str
    qk_norm: bool
    bias: bool
    explicit: bool
    head_width: int | None = None
    attention_scale: float | None = None
    relative_buckets: int = 32
    relative_max_distance: int = 128
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        _check_heads(self)

    def make_norm(self, width: int) -> nn.Module:
        """The norm of these blocks."""
        return make_norm(self.norm, width, self.norm_epsilon)

    def make_attention(self, *, causal: bool) -> Attention:
        """Attention over the own sequence (causal or not) or, never causal, over another."""
        return Attention(
            self.d_model, num_heads=self.num_heads, num_kv_heads=self.num_kv_heads, bias=self.bias,
            dropout=self.attention_dropout, make_head_norm=self.make_norm if self.qk_norm else None,
            explicit=self.explicit, causal=causal, head_width=self.head_width, scale=self.attention_scale,
        )  # fmt: skip

    def make_block(self, number: int, *, causal: bool, cross: bool) -> Block:
        """The layer of this number, from 1."""
        return Block(
            self.make_attention(causal=causal),
            FeedForward(
                self.d_model, self.d_ff, activation=self.activation, bias=self.bias, dropout=self.feedforward_dropout
            ),
            partial(self.make_norm, self.d_model),
            pre=self.norm_position == "pre",
            cross=self.make_attention(causal=False) if cross else None,
            drop_path=self.drop_path * number / self.num_layers,
        )


class Stack(nn.Module):
    """Blocks and the norm after them (post-norm blocks end in one already).

    Args:
        embedding: kept as the first part, where the stack has its own.
        causal: a position sees itself and what is before it. cross: attends to another sequence too.
    """

    def __init__(self, shape: Shape, *, embedding: nn.Module | None, causal: bool, cross: bool = False):
        super().__init__()
        if embedding is not None:
            self.embedding = embedding
        self.num_heads, self.causal = shape.num_heads, causal
        width = shape.head_width or shape.d_model // shape.num_heads
        self.rotary = rotary_table(width, shape.rope_theta) if shape.position == "rope" else None
        self.alibi = shape.position == "alibi"
        self.relative = None
        if shape.position == "relative":
            self.relative = RelativeBias(
                shape.num_heads, num_buckets=shape.relative_buckets, max_distance=shape.relative_max_distance,
                both_ways=not causal,
            )  # fmt: skip
        self.blocks = nn.ModuleList(
            shape.make_block(number, causal=causal, cross=cross) for number in range(1, shape.num_layers + 1)
        )
        self.norm = shape.make_norm(shape.d_model) if shape.norm_position == "pre" else nn.Identity()

    def run(
        self,
        x_BTD: Tensor,
        *,
        segments_BT: Tensor | None = None,
        cache: Sequence[LayerCache] | None = None,
        read: Sequence[KeysValues] | None = None,
        read_bias: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """The last hidden state, normed, (B, T, D).

        Args:
            segments_BT: the document of each position, numbered in its row; 0 is padding. None: each row is one.
            cache: one entry a layer; the positions continue what it holds, and are added to it.
            read, read_bias: keys and values of each layer's cross-attention, and what is added to its scores.
            bias: added to the scores of the self-attention, instead of what positions and segments give.
        """
        T = x_BTD.shape[1]
        start = cache[0].length if cache is not None else 0
        rotation = self.rotary(start, start + T) if self.rotary is not None else None
        if bias is None:
            bias = self._bias(x_BTD, start, segments_BT)
        for layer, block in enumerate(self.blocks):
            x_BTD = block(
                x_BTD, rotation=rotation, bias=bias, cache=cache[layer] if cache is not None else None,
                read=read[layer] if read is not None else None, read_bias=read_bias,
            )  # fmt: skip
        normed: Tensor = self.norm(x_BTD)
        return normed

    def _bias(self, x_BTD: Tensor, start: int, segments_BT: Tensor | None) -> Tensor | None:
        """What is added to the scores; None where the plain mask serves."""
        T = x_BTD.shape[1]
        masked = None
        if segments_BT is not None:
            assert start == 0, "a cache continues one document a row"
            masked = packed_bias(segments_BT, segments_BT, x_BTD, causal=self.causal)
        if self.alibi:
            slopes = alibi_bias(self.num_heads, T, start + T, x_BTD)
            return slopes if masked is None else slopes + masked
        if self.relative is not None:
            bias: Tensor = self.relative(T, start + T).to(x_BTD.dtype)
            if masked is None and self.causal and T > 1:
                masked = causal_bias(T, start + T, x_BTD)
            return bias if masked is None else bias + masked
        return masked


def rate(dropout: float, own: float | None) -> float:
    """A dropout rate of its own, or the common one."""
    return dropout if own is None else own


def _check_heads(shape: Shape) -> None:
    width = shape.head_width or shape.d_model // shape.num_heads
    if shape.head_width is None and shape.d_model % shape.num_heads:
        raise RecipeError(
            f"model.num_heads {shape.num_heads} doesn't divide model.d_model {shape.d_model}",
            fix=f"make model.d_model a multiple of {shape.num_heads}, or choose another model.num_heads",
        )
    if shape.num_heads % shape.num_kv_heads:
        raise RecipeError(
            f"model.num_kv_heads {shape.num_kv_heads} doesn't divide model.num_heads {shape.num_heads}",
            fix=f"choose a model.num_kv_heads that divides {shape.num_heads}",
        )
    if shape.position == "rope" and width % 2:
        raise RecipeError(
            f"rotary positions turn pairs, but the head width {width} "
            f"(model.d_model {shape.d_model} / model.num_heads {shape.num_heads}) is odd",
            fix="make the head width even, or choose another model.position",
        )
